//! The cost of a system call under each configuration, interleaved, and the time to armed.

use std::{
    path::PathBuf,
    process::Command,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use seccast_recorder::{
    cgroup::{Cgroup, Hierarchy},
    command,
};

use crate::{
    Overhead,
    armed::{self, Armed},
    attach::{Means, Setting},
    child::Conversation,
    loaded, machine,
    stats::{Spread, quantile},
    table,
};

/// Samples of a configuration in a round, and calls in a sample: some milliseconds.
const SAMPLES: u32 = 30;
const CALLS: u32 = 10_000;
/// The same under strace, where a call takes a hundred times as long.
const STRACE_SAMPLES: u32 = 5;
const STRACE_CALLS: u32 = 300;
/// For an answer of the measured process.
const LIMIT: Duration = Duration::from_secs(60);
/// How long others may keep programs attached, or come and go, before this gives up.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two tries, where another's program came or went meanwhile.
const PAUSE: Duration = Duration::from_millis(200);
/// What counts as a quiet machine: the load before, CPUs busy with others, distance of the quartiles.
const QUIET: (f64, f64, f64) = (1.5, 0.3, 0.1);

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// An error once the user has asked to stop.
pub(crate) fn check_interrupted() -> Result<()> {
    if INTERRUPTED
        .get()
        .is_some_and(|flag| flag.load(Ordering::Relaxed))
    {
        bail!("interrupted");
    }
    Ok(())
}

/// A line of the table.
struct Row {
    name: String,
    setting: Setting,
    /// Beside the fork-heavy load.
    load: bool,
    /// Every sample, in nanoseconds per call.
    samples: Vec<f64>,
    /// The median of each round.
    rounds: Vec<f64>,
    /// Microseconds for a fork, execve and exit of the load, of each round.
    forks: Vec<f64>,
}

fn rows(beside: &[PathBuf], peers: bool) -> Vec<Row> {
    let installed = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    };
    let recorded = |recorded| {
        if recorded { "recorded" } else { "unrecorded" }
    };
    let mut settings = vec![
        ("nothing attached".to_owned(), Setting::Nothing),
        ("empty program".to_owned(), Setting::Empty),
    ];
    for r in [true, false] {
        settings.push((
            format!("seccast, {}", recorded(r)),
            Setting::Seccast { recorded: r },
        ));
    }
    let plain = settings.len();
    settings.extend([
        ("seccast, looking for denials".to_owned(), Setting::Watched),
        (
            "denied, nothing attached".to_owned(),
            Setting::Denied { counted: false },
        ),
        (
            "denied, counted by seccast".to_owned(),
            Setting::Denied { counted: true },
        ),
    ]);
    let with_load: Vec<_> = settings[..plain]
        .iter()
        .map(|(name, setting)| (format!("{name}, beside forks"), *setting, true))
        .collect();
    for (object, path) in beside.iter().enumerate() {
        for r in [true, false] {
            settings.push((
                format!("{}, {}", path.display(), recorded(r)),
                Setting::Beside {
                    object,
                    recorded: r,
                },
            ));
        }
    }
    if peers && installed("bpftrace") {
        settings.push(("bpftrace, counting".to_owned(), Setting::Bpftrace));
    }
    if peers && installed("strace") {
        settings.push(("strace -f -c".to_owned(), Setting::Strace));
    }
    settings
        .into_iter()
        .map(|(name, setting)| (name, setting, false))
        .chain(with_load)
        .map(|(name, setting, load)| Row {
            name,
            setting,
            load,
            samples: Vec::new(),
            rounds: Vec::new(),
            forks: Vec::new(),
        })
        .collect()
}

/// The measured process in a cgroup of its own, which ends with it.
struct Measured {
    conversation: Option<Conversation>,
    cgroup: Cgroup,
    cpu: usize,
}

impl Measured {
    fn start(cpu: usize) -> Result<Self> {
        let hierarchy = Hierarchy::find()?;
        let cgroup = command::cgroup(&hierarchy).context("cannot make a cgroup")?;
        Self::start_in(cgroup, cpu, &[])
    }

    /// One whose calls are denied, beside it.
    fn denied(&self) -> Result<Self> {
        let hierarchy = Hierarchy::find()?;
        let cgroup = hierarchy.create(&format!("{}-denied", self.cgroup.path))?;
        Self::start_in(cgroup, self.cpu, &["--denied"])
    }

    fn start_in(cgroup: Cgroup, cpu: usize, arguments: &[&str]) -> Result<Self> {
        let mut measured = Self {
            conversation: None,
            cgroup,
            cpu,
        };
        let mut command = own("measured", cpu)?;
        command.args(arguments);
        let conversation = Conversation::start("the measured process", command, false)?;
        let pid = conversation.pid();
        measured.conversation = Some(conversation);
        measured.cgroup.add(pid)?;
        Ok(measured)
    }

    fn sample(&mut self, samples: u32, calls: u32) -> Result<(u32, Vec<f64>)> {
        let conversation = self.conversation.as_mut();
        ask(conversation.context("nothing to measure")?, samples, calls)
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.conversation = None;
        for _ in 0..100 {
            if self.cgroup.remove().is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// This program once more, as one of its hidden parts.
fn own(part: &str, cpu: usize) -> Result<Command> {
    let mut command =
        Command::new(std::env::current_exe().context("cannot find this program's file")?);
    command.args([part, "--cpu", &cpu.to_string()]);
    Ok(command)
}

/// Samples of a measured process, with how many of them were disturbed.
fn ask(conversation: &mut Conversation, samples: u32, calls: u32) -> Result<(u32, Vec<f64>)> {
    let answer = conversation.ask(&format!("{samples} {calls}"), LIMIT)?;
    let (disturbed, times) = answer
        .split_once(' ')
        .context("an answer without samples")?;
    let times = times.split(' ').map(str::parse).collect::<Result<_, _>>();
    Ok((disturbed.parse()?, times.context("a sample is no number")?))
}

/// Everything that is counted beside the samples.
#[derive(Default)]
struct Noise {
    /// Samples in which another task ran, to the last try.
    disturbed: u32,
    samples: u32,
    /// Configurations that were measured again because others' programs came or went.
    again: u32,
}

pub(crate) fn run(args: &Overhead) -> Result<()> {
    let flag = INTERRUPTED.get_or_init(Default::default);
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag)).context("cannot watch signals")?;
    }
    let load = machine::load();
    let others = machine::Others::start();
    let cpus = machine::cpus();
    // Interrupts tend to be served by the first one.
    let cpu = *cpus.last().context("no CPU to run on")?;
    let other = *cpus.first().context("no CPU to run on")?;
    let means = Means::new(&args.beside)?;
    let mut rows = rows(&args.beside, !args.no_peers);
    let mut noise = Noise::default();
    let mut armed = Armed::default();
    {
        let mut measured = Measured::start(cpu)?;
        let mut denied = measured.denied()?;
        for round in 0..args.rounds {
            eprint!("\rround {} of {}", round + 1, args.rounds);
            // Each begins a round in turn, so that none always follows the same one.
            let count = rows.len();
            for step in 0..count {
                let index = (step + round as usize) % count;
                let measured = if rows[index].setting.is_denied() {
                    &mut denied
                } else {
                    &mut measured
                };
                measure(&mut rows[index], &means, measured, other, &mut noise)
                    .with_context(|| format!("cannot measure `{}`", rows[index].name))?;
            }
            if let Some(seccast) = &args.seccast {
                armed::run(seccast, &mut armed).context("cannot measure the time to armed")?;
            }
        }
        eprintln!();
    }
    let facts = machine::facts();
    println!("{}", facts.join("; "));
    println!(
        "load {load:.2} before; while it measured, others kept {:.2} CPUs busy",
        others.cpus()
    );
    println!(
        "{} rounds; a sample is {CALLS} calls of getppid, {SAMPLES} samples a round; medians, quartiles in brackets\n",
        args.rounds
    );
    print(&rows);
    print_armed(&armed);
    for warning in warnings(&rows, &noise, load, others.cpus(), cpu == other) {
        println!("warning: {warning}");
    }
    Ok(())
}

/// One round of one configuration, again if others' programs interfered.
fn measure(
    row: &mut Row,
    means: &Means,
    measured: &mut Measured,
    other: usize,
    noise: &mut Noise,
) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        check_interrupted()?;
        if !loaded::wait_for_none(PATIENCE)? {
            bail!(
                "another program is attached to every system call for more than {} s; `bpftool prog show` names it",
                PATIENCE.as_secs()
            );
        }
        if once(row, means, measured, other, noise)? {
            return Ok(());
        }
        noise.again += 1;
        thread::sleep(PAUSE);
    }
    bail!(
        "others have attached programs to every system call again and again for {} s",
        PATIENCE.as_secs()
    );
}

/// False if others' programs interfered.
fn once(
    row: &mut Row,
    means: &Means,
    measured: &mut Measured,
    other: usize,
    noise: &mut Noise,
) -> Result<bool> {
    let attached = means.attach(row.setting, &measured.cgroup)?;
    let programs = loaded::at_system_calls();
    if row
        .setting
        .programs()
        .is_some_and(|count| count != programs.len())
    {
        return Ok(false);
    }
    let forks = row.load.then(|| fork_load(row.setting, measured, other));
    let forks = forks.transpose()?;
    let (disturbed, samples) = if row.setting == Setting::Strace {
        let mut command = Command::new("strace");
        let traced = own("measured", measured.cpu)?;
        command.args(["-f", "-c", "-o", "/dev/null"]);
        command.arg(traced.get_program()).args(traced.get_args());
        let mut traced = Conversation::start("strace", command, false)?;
        ask(&mut traced, 1, STRACE_CALLS)?;
        ask(&mut traced, STRACE_SAMPLES, STRACE_CALLS)?
    } else {
        // First sights, caches and branch predictors.
        measured.sample(1, CALLS)?;
        measured.sample(SAMPLES, CALLS)?
    };
    let cost = forks.map(finish_load).transpose()?;
    if loaded::at_system_calls() != programs {
        return Ok(false);
    }
    let calls = u64::from(SAMPLES + 1) * u64::from(CALLS);
    attached.detach(row.setting.is_denied(), calls)?;
    noise.disturbed += disturbed;
    noise.samples += samples.len() as u32;
    row.rounds.extend(quantile(&samples, 0.5));
    row.samples.extend(samples);
    row.forks.extend(cost);
    Ok(true)
}

/// Starts the load on the other CPU; where the measured process is recorded, the load is as well.
fn fork_load(setting: Setting, measured: &Measured, cpu: usize) -> Result<Conversation> {
    let load = Conversation::start("the load", own("load", cpu)?, false)?;
    load.answer(LIMIT)?;
    if setting == (Setting::Seccast { recorded: true }) {
        measured.cgroup.add(load.pid())?;
    }
    thread::sleep(Duration::from_millis(20));
    Ok(load)
}

/// Ends the load: microseconds of each of its rounds.
fn finish_load(load: Conversation) -> Result<f64> {
    let answer = load.finish(LIMIT)?;
    let (rounds, time) = answer
        .split_once(' ')
        .context("the load did not say how much it did")?;
    Ok(time.parse::<f64>()? / 1e3 / rounds.parse::<f64>()?)
}

/// The rounds' added cost of a row as multiples of the empty program's beside the same load.
fn ratios(rows: &[Row], row: &Row) -> Vec<f64> {
    let of = |setting| {
        rows.iter()
            .find(|other| other.setting == setting && other.load == row.load)
    };
    let base = of(row.setting.base());
    let (Some(base), Some(nothing), Some(empty)) = (base, of(Setting::Nothing), of(Setting::Empty))
    else {
        return Vec::new();
    };
    let added = row
        .rounds
        .iter()
        .zip(&base.rounds)
        .map(|(own, base)| own - base);
    let floor = nothing.rounds.iter().zip(&empty.rounds);
    added
        .zip(floor.map(|(nothing, empty)| empty - nothing))
        .map(|(added, floor)| added / floor)
        .collect()
}

fn print(rows: &[Row]) {
    let mut lines = Vec::new();
    let mut before = false;
    for row in rows {
        let Some(cost) = Spread::of(&row.samples) else {
            continue;
        };
        if row.load && !before {
            lines.push(Vec::new());
        }
        before = row.load;
        let nothing = rows
            .iter()
            .find(|other| other.setting == row.setting.base() && other.load == row.load)
            .and_then(|nothing| quantile(&nothing.samples, 0.5));
        let added = nothing.filter(|_| row.setting != row.setting.base());
        let ratio = Spread::of(&ratios(rows, row)).filter(|_| added.is_some());
        lines.push(vec![
            row.name.clone(),
            format!("{:.1}", cost.median),
            format!("[{:.1} {:.1}]", cost.low, cost.high),
            added.map_or_else(String::new, |nothing| {
                format!("{:.1}", cost.median - nothing)
            }),
            ratio.map_or_else(String::new, |ratio| format!("{:.2}", ratio.median)),
            ratio
                .filter(|_| row.setting != Setting::Empty)
                .map_or_else(String::new, |ratio| {
                    format!("[{:.2} {:.2}]", ratio.low, ratio.high)
                }),
            quantile(&row.forks, 0.5).map_or_else(String::new, |cost| format!("{cost:.0}")),
        ]);
    }
    let header = [
        "",
        "ns per call",
        "",
        "added",
        "times empty's",
        "",
        "us per fork+exec",
    ];
    table::print(&header, &lines);
    println!();
}

fn print_armed(armed: &Armed) {
    let line = |what: &str, times: &[f64]| {
        if let Some(time) = Spread::of(times) {
            println!(
                "{what}: {:.0} ms [{:.0} {:.0}], {} runs",
                time.median,
                time.low,
                time.high,
                times.len()
            );
        }
    };
    line("armed, as seccast says", &armed.said);
    line("armed, from before its start", &armed.seen);
}

fn warnings(rows: &[Row], noise: &Noise, load: f64, others: f64, alone: bool) -> Vec<String> {
    let mut warnings = machine::warnings();
    let (quiet_load, quiet_others, quiet_spread) = QUIET;
    if load > quiet_load {
        warnings.push(format!("the machine was busy before: load {load:.2}"));
    }
    if others > quiet_others {
        warnings.push(format!("others kept {others:.2} CPUs busy meanwhile"));
    }
    if alone {
        warnings.push("there is one CPU: the load ran on the measured one".to_owned());
    }
    if noise.disturbed > 0 {
        warnings.push(format!(
            "{} of {} samples were interrupted by another task",
            noise.disturbed, noise.samples
        ));
    }
    if noise.again > 0 {
        warnings.push(format!(
            "{} measurements were made again: others' programs were attached meanwhile",
            noise.again
        ));
    }
    for row in rows {
        if let Some(spread) = Spread::of(&row.rounds).map(|spread| spread.relative())
            && spread > quiet_spread
        {
            warnings.push(format!(
                "`{}` differs by {:.0} % between rounds",
                row.name,
                spread * 100.0
            ));
        }
    }
    warnings
}
