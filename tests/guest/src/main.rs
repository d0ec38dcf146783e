//! What runs inside the machine of `cargo xtask vm`, linked statically.
//!
//! xtask knows none of the steps: it asks for their names, lets this program put what they need into the tree of the
//! machine's disk, and then looks on its console for a line `seccast-vm: PASS name` of each.

mod rootless;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use seccast_closed_loop::recorder::{Recorder, read_observation};
use seccast_closed_loop::redis::{Host, Loop};
use seccast_model::Observation;
use seccast_model::arch::Arch;
use seccast_model::observation::Phase;
use seccast_rig::cgroup::{Mounts, Scope};
use seccast_rig::{Bundle, Container, Runtime, process, rootfs};
use serde_json::json;

/// What begins each line for the host; `xtask/src/vm.rs` looks for it.
const MARK: &str = "seccast-vm: ";

/// The programs of `tests/workloads` that are recorded; they lie in [`PROGRAMS`].
const WORKLOADS: &[&str] = &["x86_64", "int80", "fork", "threads"];
/// The one that runs until it is told to end, beside them.
const SLEEPER: &str = "sleeper";
/// In the machine.
const PROGRAMS: &str = "/workloads";
/// In the machine's `$PATH`.
const SECCAST: &str = "seccast";

/// How long one command may take that no container waits for: emulation is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many requests each test of redis-benchmark makes: emulation is slow.
const REQUESTS: u32 = 50;

#[derive(Parser)]
#[command(about = "Tests that run inside the machine of `cargo xtask vm`")]
enum Verb {
    /// Print the names of the steps, one a line.
    Steps,
    /// Put the programs that are recorded into the tree of the machine's disk.
    Pack { tree: PathBuf },
    /// Do every step; in the machine.
    Run,
}

fn main() -> ExitCode {
    let verb = Verb::parse();
    seccast_closed_loop::main(|| match verb {
        Verb::Steps => {
            steps().iter().for_each(|step| println!("{step}"));
            Ok(())
        }
        Verb::Pack { tree } => pack(&tree),
        Verb::Run => run(),
    })
}

fn pack(tree: &Path) -> Result<()> {
    let folder = tree.join(PROGRAMS.trim_start_matches('/'));
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    for name in WORKLOADS.iter().chain([&SLEEPER]) {
        fs::copy(seccast_workloads::path(name), folder.join(name))
            .with_context(|| format!("failed to copy {name}"))?;
    }
    Ok(())
}

fn run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")
        .context("failed to read the kernel's release")?;
    println!("{MARK}kernel {}", release.trim());
    step("cgroup2", cgroup2);
    step("doctor", || check(seccast().arg("doctor")));
    for name in WORKLOADS {
        step(name, || exact(name, folder.path()));
    }
    let scope = Scope::new("vm")?;
    step("crun-command", || crun_command(&scope, folder.path()));
    step("crun-name", || crun_by_name(&scope, folder.path()));
    step("crun-denied", || denied(&scope, folder.path()));
    let host = Host::Runc(&scope);
    redis(
        folder.path(),
        host,
        ["record-redis", "generate", "enforce-redis"],
    );
    rootless::run(folder.path());
    Ok(())
}

/// The closed loop, three steps.
fn redis(folder: &Path, host: Host<'_>, [record, generate, enforce]: [&str; 3]) {
    let redis = Loop {
        seccast: Path::new(SECCAST),
        folder,
        host,
        requests: REQUESTS,
    };
    step(record, || redis.record().map(drop));
    step(generate, || redis.generate().map(drop));
    step(enforce, || enforced(&redis));
}

/// The profile is in force, and it denies redis nothing.
fn enforced(redis: &Loop<'_>) -> Result<()> {
    let observation = redis.enforce_recorded()?;
    ensure!(
        observation.filtered,
        "the recorder did not see that redis runs under a filter"
    );
    ensure!(
        observation.losses.is_empty(),
        "losses: {:?}",
        observation.losses
    );
    ensure!(
        observation.denied.is_empty(),
        "denied: {:?}",
        observation.denied
    );
    Ok(())
}

/// The names of the steps.
fn steps() -> Vec<&'static str> {
    let runc = ["record-redis", "generate", "enforce-redis"];
    [
        &["cgroup2", "doctor"],
        WORKLOADS,
        &["crun-command", "crun-name", "crun-denied"],
        &runc,
        rootless::STEPS,
    ]
    .concat()
}

fn step(name: &str, work: impl FnOnce() -> Result<()>) {
    let start = Instant::now();
    let result = work();
    let took = start.elapsed().as_secs_f64();
    match result {
        Ok(()) => println!("{MARK}PASS {name} ({took:.1} s)"),
        Err(error) => println!("{error:#}\n{MARK}FAIL {name} ({took:.1} s)"),
    }
}

fn seccast() -> Command {
    Command::new(SECCAST)
}

/// Runs a command that has to succeed.
fn check(command: &mut Command) -> Result<()> {
    process::check(command, PATIENCE).map(drop)
}

/// The hierarchy is whole: nothing of v1, and every controller can be given to groups.
fn cgroup2() -> Result<()> {
    let mounts = Mounts::read()?;
    ensure!(
        mounts.legacy.is_empty(),
        "v1 hierarchies are mounted: {:?}",
        mounts.legacy
    );
    let control = mounts.dir("/cgroup.subtree_control");
    for controller in ["cpu", "memory", "pids", "io"] {
        fs::write(&control, format!("+{controller}"))
            .with_context(|| format!("failed to enable the controller {controller}"))?;
    }
    Ok(())
}

/// A program whose calls are known is recorded as exactly these.
fn exact(name: &str, folder: &Path) -> Result<()> {
    let program = Path::new(PROGRAMS).join(name);
    let observation = record_command(name, program, &[], folder)?;
    only(&observation, name)?;
    // The execve that starts the program is the one call that it does not make itself.
    let execve = [(Arch::X86_64, "execve")].into();
    same_calls(&observation, Phase::Runtime, &execve)
}

/// The container that `crun run` starts is recorded, not crun.
fn crun_command(scope: &Scope, folder: &Path) -> Result<()> {
    let (name, bundle) = ("crun-command", tempfile::tempdir()?);
    contained("x86_64", folder)?
        .cgroups_path(scope.child(name))
        .write(name, bundle.path())?;
    let bundle = bundle.path().as_os_str();
    let args = ["run".as_ref(), "-b".as_ref(), bundle, name.as_ref()];
    let observation = record_command(name, "crun", &args, folder)?;
    of_crun(&observation, &scope.child(name))
}

/// A container of crun is waited for by its name.
fn crun_by_name(scope: &Scope, folder: &Path) -> Result<()> {
    let name = "crun-name";
    let bundle = contained("x86_64", folder)?.cgroups_path(scope.child(name));
    let observation = record(&["--wait=60s", "--container", name], folder, || {
        let mut container = Container::new(name, &bundle, &Runtime::at("/usr/bin/crun"))?;
        let status = container.run(Duration::from_secs(60))?;
        ensure!(status.success(), "{status}\n{}", container.log());
        Ok(())
    })?;
    of_crun(&observation, &scope.child(name))
}

/// What a filter denies is seen, also where it kills one thread of several: a call without an exit.
fn denied(scope: &Scope, folder: &Path) -> Result<()> {
    let name = "crun-denied";
    let rule = |name, action| json!({ "names": [name], "action": action });
    let filter = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        rule("getgid", "SCMP_ACT_KILL_THREAD"),
        rule("geteuid", "SCMP_ACT_ERRNO"),
    ] });
    let bundle = contained("threads", folder)?.seccomp(filter);
    let bundle = bundle.cgroups_path(scope.child(name));
    let observation = record(&["--wait=60s", "--container", name], folder, || {
        let mut container = Container::new(name, &bundle, &Runtime::at("/usr/bin/crun"))?;
        let status = container.run(Duration::from_secs(60))?;
        ensure!(status.success(), "{status}\n{}", container.log());
        Ok(())
    })?;
    let denied = observation.denied.iter();
    let names = denied.map(|(of, calls)| (*of, calls.keys().map(String::as_str).collect()));
    let expected: (_, BTreeSet<_>) = ((Arch::X86_64, Phase::App), ["geteuid", "getgid"].into());
    let names: Vec<(_, BTreeSet<_>)> = names.collect();
    ensure!(names == [expected], "denied: {names:?}");
    Ok(())
}

fn of_crun(observation: &Observation, cgroup: &str) -> Result<()> {
    let target = &observation.target;
    ensure!(
        target.runtime.as_deref() == Some("crun")
            && target.cgroup_path.as_deref() == Some(cgroup)
            && observation.started_late_ns.is_none(),
        "not the container of crun in {cgroup} from its start: {target:?}"
    );
    only(observation, "x86_64")
}

/// A container of one of the workloads, with the sleeper beside it.
fn contained(program: &str, folder: &Path) -> Result<Bundle> {
    // The folder's name is the image's.
    let root = folder.join("workloads-1");
    if !root.exists() {
        let programs = Path::new(PROGRAMS);
        fs::create_dir(&root).with_context(|| format!("failed to make {}", root.display()))?;
        rootfs::with_program(&root, &programs.join("x86_64"))?;
        for name in WORKLOADS.iter().chain([&SLEEPER]) {
            fs::copy(programs.join(name), root.join(name))
                .with_context(|| format!("failed to copy {name}"))?;
        }
    }
    Ok(Bundle::new(root, [format!("/{program}")]))
}

/// `seccast record -- COMMAND`.
fn record_command(
    name: &str,
    program: impl AsRef<OsStr>,
    args: &[&OsStr],
    folder: &Path,
) -> Result<Observation> {
    let file = folder.join(format!("{name}.json"));
    let mut record = seccast();
    record.args(["record", "-o"]);
    record.arg(folder.join(format!("{name}.profile.json")));
    record.arg("--observation").arg(&file);
    record.arg("--").arg(program).args(args);
    check(&mut record)?;
    complete(&file)
}

/// Records with these options what `run` does once the recorder is armed.
fn record(
    options: &[&str],
    folder: &Path,
    run: impl FnOnce() -> Result<()>,
) -> Result<Observation> {
    let file = folder.join("recorded.json");
    let mut command = seccast();
    command
        .arg("record")
        .args(options)
        .arg("--observation")
        .arg(&file);
    let recorder = Recorder::start(&mut command)?;
    run()?;
    recorder.finish()?;
    complete(&file)
}

/// An observation that has lost nothing.
fn complete(file: &Path) -> Result<Observation> {
    let observation = read_observation(file)?;
    let losses = &observation.losses;
    ensure!(losses.is_empty(), "losses: {losses:?}");
    Ok(observation)
}

/// The application made the calls of this program, and no others.
fn only(observation: &Observation, program: &str) -> Result<()> {
    let calls = seccast_workloads::program(program).calls.iter();
    let truth = calls.map(|call| (call.arch, call.name)).collect();
    for phase in [Phase::Hook, Phase::Exec, Phase::Entered] {
        same_calls(observation, phase, &BTreeSet::new())?;
    }
    same_calls(observation, Phase::App, &truth)
}

fn same_calls(
    observation: &Observation,
    phase: Phase,
    truth: &BTreeSet<(Arch, &str)>,
) -> Result<()> {
    let of_phase = observation.calls.iter().filter(|((_, of), _)| *of == phase);
    let recorded: BTreeSet<_> = of_phase
        .flat_map(|((arch, _), calls)| calls.keys().map(|call| (*arch, call.as_str())))
        .collect();
    let (missing, extra): (Vec<_>, Vec<_>) = (
        truth.difference(&recorded).collect(),
        recorded.difference(truth).collect(),
    );
    if !missing.is_empty() || !extra.is_empty() {
        bail!(
            "{}: called but not recorded: {missing:?}; recorded but not called: {extra:?}",
            phase.name()
        );
    }
    Ok(())
}
