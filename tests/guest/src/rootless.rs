//! Containers of a user who is not root, recorded by root.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use seccast_closed_loop::recorder::read_json;
use seccast_closed_loop::redis::Host;
use seccast_model::Observation;
use seccast_model::arch::Arch;
use seccast_model::observation::Phase;
use seccast_rig::engine::Rootless;
use seccast_rig::{Bundle, Contained, Engine as _, Server as _, process};

use super::{SLEEPER, check, contained, only, record, redis, same_calls, seccast, step};

pub(super) const STEPS: &[&str] = &[
    "rootless-session",
    "rootless-filtered",
    "rootless-exact",
    "rootless-running",
    "rootless-record-redis",
    "rootless-generate",
    "rootless-enforce-redis",
];

pub(super) fn run(folder: &Path) {
    let podman = OnceCell::new();
    step(STEPS[0], || {
        let made = Rootless::new()?;
        made.image(&contained("x86_64", folder)?)?;
        podman.set(made).ok().context("made twice")
    });
    let Some(podman) = podman.get() else { return };
    step(STEPS[1], || filtered(podman, folder));
    step(STEPS[2], || from_its_start(podman, folder));
    step(STEPS[3], || running(podman, folder));
    let loop_folder = folder.join("rootless");
    if let Err(error) = std::fs::create_dir(&loop_folder) {
        println!("{}: {error}", loop_folder.display());
    }
    redis(
        &loop_folder,
        Host::Engine(podman),
        [STEPS[4], STEPS[5], STEPS[6]],
    );
}

/// Under podman's own filter the observation says so.
fn filtered(podman: &Rootless, folder: &Path) -> Result<()> {
    let bundle = contained("x86_64", folder)?;
    let observation = waited_for(podman, "filtered", &bundle, folder)?;
    ensure!(observation.filtered, "podman's own filter was not noticed");
    Ok(())
}

/// Under the audit profile it is exact and not filtered.
fn from_its_start(podman: &Rootless, folder: &Path) -> Result<()> {
    let audit = folder.join("audit-rootless.json");
    let mut generate = seccast();
    check(generate.args(["generate", "--audit", "-o"]).arg(&audit))?;
    let bundle = contained("x86_64", folder)?.seccomp(read_json(&audit)?);
    let observation = waited_for(podman, "exact", &bundle, folder)?;
    ensure!(!observation.filtered, "the audit profile denies nothing");
    Ok(())
}

/// Records by its name a container that starts after the recorder is armed.
fn waited_for(
    podman: &Rootless,
    name: &str,
    bundle: &Bundle,
    folder: &Path,
) -> Result<Observation> {
    let observation = record(&["--wait=60s", "--container", name], folder, || {
        let mut container = Contained::run(podman, name, bundle)?;
        let status = container.wait(Duration::from_secs(60))?;
        ensure!(
            status.is_some_and(|status| status.success()),
            "{status:?}\n{}",
            container.log()
        );
        Ok(())
    })?;
    ensure!(
        observation.started_late_ns.is_none(),
        "not recorded from its start"
    );
    is_podmans(&observation, name, None)?;
    only(&observation, "x86_64")?;
    Ok(observation)
}

/// One that runs is recorded by its id alone: root's podman does not know it.
fn running(podman: &Rootless, folder: &Path) -> Result<()> {
    let mut container = Contained::run(podman, SLEEPER, &contained(SLEEPER, folder)?)?;
    let pid = container.pid()?;
    // The runtime's name is gone when it has executed the program.
    let program = format!("/proc/{pid}/comm");
    process::poll("the sleeper to start", Duration::from_secs(60), || {
        Ok(std::fs::read_to_string(&program)?.trim_end() == SLEEPER)
    })?;
    let id = podman.id(SLEEPER)?;
    let observation = record(&["--allow-incomplete", "--container", &id], folder, || {
        container.kill(15)?;
        container.wait(Duration::from_secs(60)).map(drop)
    })?;
    ensure!(observation.started_late_ns.is_some(), "it ran before");
    ensure!(observation.filtered, "podman's own filter was not noticed");
    is_podmans(&observation, SLEEPER, Some(&id))?;
    // What it was blocked in, and what its handler of SIGTERM calls.
    let blocked = observation.blocked_at_attach.iter();
    let blocked: BTreeSet<_> = blocked
        .flat_map(|(arch, calls)| calls.keys().map(|call| (*arch, call.as_str())))
        .collect();
    let nanosleep = (Arch::X86_64, "nanosleep");
    ensure!(blocked == [nanosleep].into(), "blocked in {blocked:?}");
    let ended = [(Arch::X86_64, "exit_group")].into();
    same_calls(&observation, Phase::App, &ended)
}

/// The target is the user's container, in the user's group.
fn is_podmans(observation: &Observation, name: &str, id: Option<&str>) -> Result<()> {
    let target = &observation.target;
    let known = target.container_id.as_deref().unwrap_or_default();
    let cgroup = target.cgroup_path.as_deref().unwrap_or_default();
    ensure!(
        id.is_none_or(|id| id == known)
            && known.len() == 64
            && cgroup.starts_with("/user.slice/user-1000.slice/user@1000.service/")
            && cgroup.ends_with(&format!("/libpod-{known}"))
            && target.container_name.as_deref() == Some(name)
            && target.engine.as_deref() == Some("podman")
            && target.runtime.as_deref() == Some("crun"),
        "not the user's container {name} {id:?}: {target:?}"
    );
    Ok(())
}
