//! `xtask guest`: what runs inside the machine of `cargo xtask vm`.
//!
//! Each step prints a line `seccast-vm: PASS name` or `seccast-vm: FAIL name` that the host looks for.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use seccast_model::arch::Arch;
use seccast_rig::cgroup::{Mounts, Scope};

use crate::process::Run;
use crate::recorder::read_observation;
use crate::redis::Loop;

/// What begins each line for the host.
pub(crate) const MARK: &str = "seccast-vm: ";

/// The programs of `tests/workloads` that are recorded; they lie in [`PROGRAMS`].
pub(crate) const WORKLOADS: &[&str] = &["x86_64", "int80", "fork", "threads"];
pub(crate) const PROGRAMS: &str = "/workloads";
pub(crate) const SECCAST: &str = "/usr/bin/seccast";

/// How many requests each test of redis-benchmark makes: emulation is slow.
const REQUESTS: u32 = 50;

pub(crate) fn run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")
        .context("failed to read the kernel's release")?;
    println!("{MARK}kernel {}", release.trim());
    step("cgroup2", cgroup2);
    step("doctor", || seccast().arg("doctor").quiet());
    for name in WORKLOADS {
        step(name, || exact(name, folder.path()));
    }
    let scope = Scope::new("vm")?;
    let redis = Loop {
        seccast: Path::new(SECCAST),
        folder: folder.path(),
        scope: &scope,
        requests: REQUESTS,
    };
    step("record-redis", || redis.record().map(drop));
    step("generate", || redis.generate().map(drop));
    step("enforce-redis", || enforced(&redis));
    Ok(())
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

/// The names of the steps, for the host to count.
pub(crate) fn steps() -> Vec<&'static str> {
    [
        &["cgroup2", "doctor"],
        WORKLOADS,
        &["record-redis", "generate", "enforce-redis"],
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

fn seccast() -> Run {
    Run::new(SECCAST)
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
    let file = folder.join(format!("{name}.json"));
    let record = seccast()
        .args(["record", "-o"])
        .arg(folder.join(format!("{name}.profile.json")))
        .arg("--observation")
        .arg(&file);
    record
        .arg("--")
        .arg(Path::new(PROGRAMS).join(name))
        .limit(Duration::from_secs(60))
        .quiet()?;
    let observation = read_observation(&file)?;
    ensure!(
        observation.losses.is_empty(),
        "losses: {:?}",
        observation.losses
    );

    let recorded: BTreeSet<(Arch, String)> = observation
        .calls
        .iter()
        .flat_map(|((arch, _), calls)| calls.keys().map(|call| (*arch, call.clone())))
        .collect();
    // The execve that starts the program is the one call that it does not make itself.
    let started = (Arch::X86_64, "execve".to_owned());
    let truth: BTreeSet<(Arch, String)> = seccast_workloads::program(name)
        .calls
        .iter()
        .map(|call| (call.arch, call.name.to_owned()))
        .chain([started])
        .collect();
    let (missing, extra): (Vec<_>, Vec<_>) = (
        truth.difference(&recorded).collect(),
        recorded.difference(&truth).collect(),
    );
    if !missing.is_empty() || !extra.is_empty() {
        bail!("called but not recorded: {missing:?}; recorded but not called: {extra:?}");
    }
    Ok(())
}
