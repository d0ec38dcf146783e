//! `seccast record`: one recording to an observation and a profile.

use super::generate::{say, write_profile};
use crate::{
    args::{
        generate::EnteredArg,
        record::{RecordArgs, Until},
    },
    exit::{Exit, Failed},
    output::{
        self,
        file::{Destination, report_beside},
        progress::Progress,
    },
};
use anyhow::{Context as _, bail};
use seccast_model::{
    Observation,
    observation::{EnteredAs, EnteredProcess, Phase, Target},
};
use seccast_recorder::{
    News, Recorder, RecorderError, Recording,
    cgroup::Cgroup,
    command::{self, CommandError, Running},
    container::{Name, Waiting},
    proc,
    runtime::bundle::Bundle,
};
use signal_hook::{
    consts::{SIGINT, SIGKILL, SIGTERM, SIGUSR1},
    iterator::{SignalsInfo, exfiltrator::WithOrigin},
    low_level::siginfo::Cause,
};
use std::{
    io::{IsTerminal as _, stderr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long events are waited for at most; new ones wake at once.
const TICK: Duration = Duration::from_millis(20);
/// Between the stop signal and KILL, as engines do it.
const GRACE: Duration = Duration::from_secs(10);
/// Slots while new cgroups are recorded: one for each that appears within the patience of `Waiting`.
const SLOTS_WAITING: u32 = 512;
/// Slots for a known target.
const SLOTS: u32 = 2;

/// Does it.
pub fn run(args: RecordArgs) -> anyhow::Result<Exit> {
    let with_command = !args.command.is_empty();
    record(args).map_err(|error| {
        // With CMD every failure of ours before it ran has a code of its own.
        if with_command && error.downcast_ref::<Failed>().is_none() {
            error.context(Failed {
                exit: Exit::BeforeCommand,
                what: "CMD was not run".to_owned(),
            })
        } else {
            error
        }
    })
}

fn record(args: RecordArgs) -> anyhow::Result<Exit> {
    let began = Instant::now();
    let outputs = Outputs::check(&args)?;
    // From here on signals are ours.
    let signals = SignalsInfo::<WithOrigin>::new([SIGINT, SIGTERM, SIGUSR1])
        .context("cannot watch signals")?;
    let mut recorder = Recorder::start(if args.wait.is_some() {
        SLOTS_WAITING
    } else {
        SLOTS
    })?;
    let mut what = Watched::arm(&args, &mut recorder)?;
    let armed = began.elapsed();
    output::note(&format!(
        "armed after {} ms: {}",
        armed.as_millis(),
        what.describe(&args)
    ));
    what.start(&args)?;

    let mut run = Run {
        progress: Progress::new(!args.quiet && args.command.is_empty() && stderr().is_terminal()),
        until: args
            .until
            .iter()
            .copied()
            .chain(args.for_.map(Until::After))
            .collect(),
        armed: Instant::now(),
        signals,
        interrupts: 0,
        stopping: None,
        outputs,
        args,
    };
    let with_command = !run.args.command.is_empty();
    run.go(&mut recorder, what).map_err(|error| {
        // CMD did run: the codes for a command that did not are taken.
        if with_command && error.downcast_ref::<Failed>().is_none() {
            error.context(Failed {
                exit: Exit::CouldNot,
                what: "the recording failed".to_owned(),
            })
        } else {
            error
        }
    })
}

/// What is recorded, or waited for.
struct Watched {
    recording: Option<Recording>,
    waiting: Option<Waiting>,
    command: Option<Running>,
    command_cgroup: Option<Cgroup>,
    /// A process whose end is the target's.
    process: Option<u32>,
}

impl Watched {
    fn arm(args: &RecordArgs, recorder: &mut Recorder) -> anyhow::Result<Self> {
        let mut watched = Self {
            recording: None,
            waiting: None,
            command: None,
            command_cgroup: None,
            process: None,
        };
        if !args.command.is_empty() {
            let cgroup = command::cgroup(recorder.hierarchy())?;
            let armed = recorder.watch_command(&cgroup, args.command.clone());
            if armed.is_err() {
                let _ = cgroup.remove();
            }
            watched.recording = Some(armed?);
            watched.command_cgroup = Some(cgroup);
        } else if let Some(name) = &args.container {
            let name = Name::new(name, args.runtime_root.clone());
            if args.wait.is_some() {
                watched.waiting = Some(name.wait(recorder)?);
            } else {
                watched.recording = Some(name.record_running(recorder)?);
            }
        } else if let Some(path) = &args.cgroup {
            let cgroup = recorder.hierarchy().open(path)?;
            if cgroup.path == "/" {
                bail!("the root cgroup holds the whole machine; name a cgroup below it");
            }
            watched.recording = Some(recorder.watch_present(&cgroup, false, Target::default())?);
        } else if let Some(pid) = args.pid {
            let cgroup = recorder.hierarchy().of_process(pid)?;
            if cgroup.path == "/" {
                bail!(
                    "process {pid} is in the root cgroup, which holds the whole machine; move it to one of its own"
                );
            }
            if !args.whole_cgroup {
                alone(pid, &cgroup)?;
            }
            watched.recording = Some(recorder.watch_present(&cgroup, true, Target::default())?);
            watched.process = Some(pid);
        }
        if let Some(recording) = &mut watched.recording {
            recording.entered_as = entered_as(args);
        }
        Ok(watched)
    }

    fn describe(&self, args: &RecordArgs) -> String {
        match (&self.recording, &args.container) {
            (None, Some(name)) => format!("waiting for container {name}"),
            (Some(recording), _) if !args.command.is_empty() => format!(
                "recording {} in cgroup {}",
                one_line(&args.command),
                recording.cgroup.path
            ),
            (Some(recording), _) => format!("recording cgroup {}", recording.cgroup.path),
            (None, None) => "recording".to_owned(),
        }
    }

    fn start(&mut self, args: &RecordArgs) -> anyhow::Result<()> {
        let Some(cgroup) = self.command_cgroup.take() else {
            return Ok(());
        };
        if args.user.is_none() && std::env::var_os("SUDO_UID").is_some_and(|uid| uid != "0") {
            let id = |name| std::env::var(name).unwrap_or_default();
            output::warning(
                "CMD runs as root, since seccast was started by sudo",
                Some(&format!("--user {}:{}", id("SUDO_UID"), id("SUDO_GID"))),
            );
        }
        match Running::start(&args.command, cgroup.clone(), args.user) {
            Ok(running) => {
                self.command = Some(running);
                Ok(())
            }
            Err(error) => {
                let _ = cgroup.remove();
                let exit = match &error {
                    CommandError::NotFound { .. } => Exit::NotFound,
                    CommandError::NotExecutable { .. } => Exit::NotExecutable,
                    _ => Exit::BeforeCommand,
                };
                Err(anyhow::Error::new(error).context(Failed {
                    exit,
                    what: "CMD was not run".to_owned(),
                }))
            }
        }
    }
}

/// A command on one line, cut where it is long.
fn one_line(command: &[String]) -> String {
    let line = command.join(" ").escape_debug().to_string();
    match line.char_indices().nth(72) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Refuses a cgroup that is not the process's own.
fn alone(pid: u32, cgroup: &Cgroup) -> Result<(), RecorderError> {
    let refuse = |why| {
        Err(RecorderError::NotAlone {
            pid,
            path: cgroup.path.clone(),
            why,
        })
    };
    let strangers: Vec<_> = cgroup
        .processes()
        .into_iter()
        .filter(|other| !proc::line(*other, 64).contains(&pid))
        .collect();
    match strangers.first() {
        None => Ok(()),
        Some(first) => {
            let name = proc::comm(*first).unwrap_or_default();
            let name = name.escape_debug();
            refuse(format!(
                "holds {} processes that are not its children, such as {name} ({first})",
                strangers.len()
            ))
        }
    }
}

fn entered_as(args: &RecordArgs) -> Option<EnteredAs> {
    args.entered.map(EnteredAs::from)
}

/// Where things go.
struct Outputs {
    profile: Option<Destination>,
    observation: Option<Destination>,
}

impl Outputs {
    fn check(args: &RecordArgs) -> anyhow::Result<Self> {
        let default = || PathBuf::from(format!("{}.seccomp.json", default_name(args)));
        let profile = args
            .output
            .clone()
            .or_else(|| args.observation.is_none().then(default));
        let check = |path: PathBuf| Destination::check(&path);
        let profile = profile.map(check).transpose()?;
        let observation = args.observation.clone().map(check).transpose()?;
        let path =
            |destination: &Option<Destination>| destination.as_ref()?.path().map(Path::to_owned);
        let report = path(&profile).map(|profile| report_beside(&profile));
        if let Some(report) = &report {
            Destination::check(report)?;
        }
        let to = path(&observation);
        if to.is_some() && (to == path(&profile) || to == report) {
            bail!(
                "the observation and the profile or its report would both go to {}; give each a file of its own",
                to.unwrap_or_default().display()
            );
        }
        Ok(Self {
            profile,
            observation,
        })
    }
}

/// The name of a profile whose file was not named.
fn default_name(args: &RecordArgs) -> String {
    let last = |path: &str| {
        path.trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let name = if let Some(program) = args.command.first() {
        last(program)
    } else if let Some(name) = &args.container {
        name.chars().take(64).collect()
    } else if let Some(path) = &args.cgroup {
        last(path)
    } else {
        args.pid.and_then(proc::comm).unwrap_or_default()
    };
    let safe: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    if safe.is_empty() {
        "recording".to_owned()
    } else {
        safe
    }
}

/// The loop from armed to the end.
struct Run {
    args: RecordArgs,
    outputs: Outputs,
    until: Vec<Until>,
    progress: Progress,
    armed: Instant,
    signals: SignalsInfo<WithOrigin>,
    interrupts: u32,
    /// When KILL follows.
    stopping: Option<Instant>,
}

/// What a pass of the loop found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Go,
    End,
}

impl Run {
    fn go(&mut self, recorder: &mut Recorder, mut watched: Watched) -> anyhow::Result<Exit> {
        let mut status = None;
        // What was there at the beginning may be gone by now.
        let mut populated = watched
            .recording
            .as_ref()
            .is_some_and(|recording| recording.started_late_ns.is_some());
        let mut judged = false;
        loop {
            let news = recorder.poll(TICK)?;
            for item in &news {
                self.show(watched.recording.as_ref(), item);
            }
            if let Some(waiting) = &mut watched.waiting {
                if let Some(mut recording) = waiting.check(recorder, &news)? {
                    recording.entered_as = entered_as(&self.args);
                    self.progress.restart();
                    if !self.args.quiet {
                        self.progress.above(&format!(
                            "seccast: container {} is starting in cgroup {}",
                            self.args.container.as_deref().unwrap_or_default(),
                            recording.cgroup.path
                        ));
                    }
                    watched.recording = Some(recording);
                    watched.waiting = None;
                } else if self
                    .args
                    .wait
                    .flatten()
                    .is_some_and(|limit| self.armed.elapsed() >= limit)
                {
                    self.progress.clear();
                    let name = self.args.container.as_deref().unwrap_or_default();
                    bail!(
                        "container {name} did not start within {}; nothing was written",
                        humantime::format_duration(self.args.wait.flatten().unwrap_or_default())
                    );
                }
            } else if let Some(recording) = &mut watched.recording
                && !judged
                && !recording.filtered_at_attach
                && let Some(filtered) = recorder.started_filtered(recording)?
            {
                judged = true;
                let harmless = recording
                    .bundle
                    .as_ref()
                    .is_some_and(Bundle::allows_everything);
                // Exits cost as much as enters: they are watched only where something can be denied.
                recorder.kernel_mut().watch_denials(filtered && !harmless)?;
                recording.libc = recording
                    .cgroup
                    .processes()
                    .into_iter()
                    .find_map(proc::libc);
            }
            if self.take_signals(recorder, &watched)? == Pass::End {
                break;
            }
            if let Some(command) = &mut watched.command {
                status = command.ended().context("cannot wait for CMD")?;
                if status.is_some() {
                    break;
                }
                self.stop_in_time(command);
            } else if let Some(recording) = &watched.recording {
                let now = recording.cgroup.populated();
                populated |= now;
                if self.target_ended(recorder, recording, populated, now, watched.process)?
                    || self.time_is_over()
                {
                    break;
                }
            }
            if self.progress.due() {
                self.progress.draw(recorder.losses()?);
            }
        }
        self.progress.clear();
        // What the ring still holds.
        for item in recorder.poll(Duration::ZERO)? {
            self.show(watched.recording.as_ref(), &item);
        }
        self.finish(recorder, watched, status)
    }

    fn show(&mut self, recording: Option<&Recording>, item: &News) {
        if let (
            News::Call {
                slot,
                name,
                phase,
                pid,
                comm,
            },
            Some(recording),
        ) = (item, recording)
            && recording.slots.contains(slot)
            && (!matches!(phase, Phase::Runtime | Phase::Entered)
                || self.args.entered == Some(EnteredArg::App))
        {
            self.progress.new_call(name, comm, *pid);
        }
    }

    /// The target's own end: its process's, or that of everything in its cgroup.
    fn target_ended(
        &self,
        recorder: &Recorder,
        recording: &Recording,
        was_populated: bool,
        populated: bool,
        process: Option<u32>,
    ) -> anyhow::Result<bool> {
        if let Some(pid) = process {
            return Ok(proc::comm(pid).is_none() || !recording.cgroup.exists());
        }
        if !recording.cgroup.exists() {
            return Ok(true);
        }
        // A cgroup that was named may be filled and emptied many times; it ends when it is removed, or when `exit` is asked for.
        if self.args.cgroup.is_some() && !self.until.contains(&Until::Exit) {
            return Ok(false);
        }
        let started = recorder.started_filtered(recording)?.is_some();
        Ok((was_populated || started) && !populated)
    }

    fn time_is_over(&self) -> bool {
        self.until.iter().any(|until| match until {
            Until::Exit => false,
            Until::After(limit) => self.progress.elapsed() >= *limit,
            Until::Quiet(limit) => self.progress.quiet() >= *limit,
        })
    }

    /// CMD was started by us, so we stop it as an engine would, still recording.
    fn stop_in_time(&mut self, command: &Running) {
        match self.stopping {
            None if self.time_is_over() => {
                command.signal(SIGTERM);
                self.stopping = Some(Instant::now() + GRACE);
            }
            Some(deadline) if Instant::now() >= deadline => command.kill(),
            _ => {}
        }
    }

    fn take_signals(&mut self, recorder: &mut Recorder, watched: &Watched) -> anyhow::Result<Pass> {
        let pending: Vec<_> = self.signals.pending().collect();
        for origin in pending {
            if origin.signal == SIGUSR1 {
                if let Some(recording) = &watched.recording {
                    let observation = recorder.observe(recording)?;
                    self.write_so_far(&observation);
                } else {
                    self.progress.above("seccast: nothing is recorded yet");
                }
                continue;
            }
            self.interrupts += 1;
            let Some(command) = &watched.command else {
                return Ok(Pass::End);
            };
            if self.interrupts > 1 {
                return Ok(Pass::End);
            }
            // The terminal has delivered its Ctrl-C to the whole foreground group, CMD with it.
            let by_terminal = origin.signal == SIGINT && matches!(origin.cause, Cause::Kernel);
            if !by_terminal {
                command.signal(origin.signal);
            }
        }
        Ok(Pass::Go)
    }

    /// SIGUSR1: the files as if it ended now. A failure is told, and recording goes on.
    fn write_so_far(&self, observation: &Observation) {
        let written = self
            .outputs
            .observation
            .as_ref()
            .map_or(Ok(()), |destination| {
                destination.write(&observation.to_json())
            });
        let written = written.and_then(|()| match &self.outputs.profile {
            Some(destination) => write_profile(
                std::slice::from_ref(observation),
                &self.args.policy,
                destination,
                true,
            )
            .map(|_| ()),
            None => Ok(()),
        });
        match written {
            Ok(()) => self.progress.above("seccast: wrote the state so far"),
            Err(error) => self.progress.above(&format!(
                "warning: cannot write the state so far: {error:#}"
            )),
        }
    }

    fn finish(
        &self,
        recorder: &mut Recorder,
        watched: Watched,
        status: Option<std::process::ExitStatus>,
    ) -> anyhow::Result<Exit> {
        let Some(recording) = watched.recording else {
            bail!(
                "stopped before container {} started; nothing was written",
                self.args.container.as_deref().unwrap_or_default()
            );
        };
        let observation = recorder.observe(&recording)?;
        let written = self.write(&observation);
        if let Some(command) = watched.command {
            if status.is_none() {
                output::warning("the recording was ended before CMD: CMD is killed", None);
                command.kill();
            }
            let left = command.leave(recorder.hierarchy());
            if !left.is_empty() && status.is_some() {
                output::warning(
                    &format!(
                        "CMD has ended and left {} running, which are recorded no more: {}",
                        left.len(),
                        left.join(", ").escape_debug()
                    ),
                    Some("start it in the foreground, or record its cgroup or container"),
                );
            }
        }
        let ours = written?;
        // A death by the signal that ended our own time limit is no failure of CMD's.
        let stopped = |code: &u8| {
            self.stopping.is_some() && [128 + SIGTERM, 128 + SIGKILL].contains(&i32::from(*code))
        };
        let theirs = status
            .map(command::exit_code)
            .filter(|code| *code != 0 && !stopped(code));
        if let Some(code) = theirs {
            output::note(&format!("seccast: exit code {code} is CMD's own"));
            return Ok(Exit::Command(code));
        }
        if ours == Exit::Findings && !self.args.command.is_empty() {
            output::note("seccast: exit code 1 is seccast's: the recording is incomplete");
        }
        Ok(ours)
    }

    fn write(&self, observation: &Observation) -> anyhow::Result<Exit> {
        // Nothing is written of a recording of which no profile can be made; what it holds is said.
        let generated = seccast_model::generate(
            std::slice::from_ref(observation),
            &(&self.args.policy).into(),
        );
        let complete = match generated {
            Ok(generated) => {
                if self.outputs.profile.is_none() {
                    say(&generated.diagnostics, self.args.quiet);
                }
                generated.report.is_complete()
            }
            Err(error) => {
                if observation.entered_count > 0 {
                    let name = |process: &EnteredProcess| {
                        format!("{} ({})", process.comm.escape_debug(), process.pid)
                    };
                    let names: Vec<_> = observation.entered.iter().map(name).collect();
                    output::warning(
                        &format!(
                            "{} entered and never executed a program: {}",
                            observation.entered_count,
                            names.join(", ")
                        ),
                        Some(
                            "say what they are: --entered app or --entered runtime, with record or with generate",
                        ),
                    );
                }
                let path = observation
                    .target
                    .cgroup_path
                    .as_deref()
                    .unwrap_or_default();
                // What entered can be decided later, from the observation.
                let mut what = format!("nothing was written of cgroup {path}");
                if let (Some(destination), true) =
                    (&self.outputs.observation, observation.entered_count > 0)
                {
                    destination.write(&observation.to_json())?;
                    what = format!("of cgroup {path} only the observation was written");
                }
                return Err(anyhow::Error::new(error).context(what));
            }
        };
        if let Some(destination) = &self.outputs.observation {
            if let Err(error) = destination.write(&observation.to_json()) {
                return Err(rescue(observation, error));
            }
            if let (Some(path), false) = (destination.path(), self.args.quiet) {
                output::note(&format!("seccast: wrote {}", path.display()));
            }
        }
        if let Some(destination) = &self.outputs.profile {
            let written = write_profile(
                std::slice::from_ref(observation),
                &self.args.policy,
                destination,
                self.args.quiet,
            );
            if let Err(error) = written {
                return Err(if self.outputs.observation.is_some() {
                    error
                } else {
                    rescue(observation, error)
                });
            }
        }
        if complete || self.args.allow_incomplete {
            Ok(Exit::Done)
        } else {
            Ok(Exit::Findings)
        }
    }
}

/// A recording cannot be repeated: what cannot go where it should goes to the temporary folder.
fn rescue(observation: &Observation, error: anyhow::Error) -> anyhow::Error {
    if observation.calls.is_empty() {
        return error;
    }
    let path = std::env::temp_dir().join(format!(
        "seccast-{}.observation.json",
        observation.recording_id
    ));
    match Destination::check(&path)
        .and_then(|destination| destination.write(&observation.to_json()))
    {
        Ok(()) => error.context(format!(
            "the observation was saved as {} instead",
            path.display()
        )),
        Err(_) => error,
    }
}
