//! What `cargo xtask profiles` runs as root: records the servers of the rig as Debian ships them, under their load, until
//! recordings add nothing any more. `codegen` makes the profiles of what becomes of this in `profiles/apps`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use seccast_closed_loop::interrupt;
use seccast_closed_loop::recorder::{Recorder, read_observation};
use seccast_model::observation::Phase;
use seccast_model::{Arch, Observation, audit_profile};
use seccast_rig::cgroup::Scope;
use seccast_rig::load::{APPS, App};
use seccast_rig::{BusyLoops, Container, Runtime, process, rootfs};
use serde_json::json;

/// At least so many recordings of each.
const RUNS: usize = 10;

/// The last so many recordings have to have added nothing.
const QUIET: usize = 5;

/// When nothing settles until then, something is wrong with the load.
const MOST_RUNS: usize = 60;

/// Requests of each benchmark of a load.
const REQUESTS: u32 = 200;

/// How long runc may take to tell its version.
const ANSWER: Duration = Duration::from_secs(60);

/// Records servers under load, and leaves the recordings and where they come from.
#[derive(Parser)]
struct Args {
    /// Only these; all without one.
    #[arg(value_name = "APP")]
    apps: Vec<String>,
    /// The day that the provenance names, such as 2026-11-24.
    #[arg(long)]
    date: String,
    /// The binary.
    #[arg(long)]
    seccast: PathBuf,
    /// Where a folder of each is made; what lies in there is removed.
    #[arg(long)]
    folder: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    seccast_closed_loop::main(|| {
        let apps = chosen(&args.apps)?;
        record_all(&apps, &args.date, &args.seccast, &args.folder)
    })
}

fn chosen(names: &[String]) -> Result<Vec<App>> {
    if let Some(name) = names
        .iter()
        .find(|name| APPS.iter().all(|app| app.name != name.as_str()))
    {
        bail!(
            "nothing is called `{name}`; there are {}",
            APPS.map(|app| app.name).join(", ")
        );
    }
    let wanted = |app: &App| names.is_empty() || names.iter().any(|name| name == app.name);
    Ok(APPS.into_iter().filter(wanted).collect())
}

fn record_all(apps: &[App], date: &str, seccast: &Path, folder: &Path) -> Result<()> {
    let _lock = seccast_rig::lock::alone()?;
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("failed to remove {}", folder.display()))?;
    }
    for app in apps {
        let folder = folder.join(app.name);
        fs::create_dir_all(&folder)
            .with_context(|| format!("failed to make the folder {}", folder.display()))?;
        record(app, date, seccast, &folder)
            .with_context(|| format!("{} could not be recorded", app.name))?;
    }
    Ok(())
}

/// What makes its way into a profile.
fn names(observation: &Observation) -> BTreeSet<(Arch, String)> {
    let of_app = observation
        .calls
        .iter()
        .filter(|((_, phase), _)| *phase == Phase::App);
    of_app
        .flat_map(|((arch, _), calls)| calls.keys().map(|name| (*arch, name.clone())))
        .collect()
}

/// Records until nothing is added any more, keeps the fewest recordings that together have everything, says what was done.
fn record(app: &App, date: &str, seccast: &Path, folder: &Path) -> Result<()> {
    let scope = Scope::new("profiles")?;
    let runs = tempfile::tempdir().context("failed to make a temporary folder")?;
    let (mut seen, mut quiet) = (BTreeMap::<(Arch, String), usize>::new(), 0);
    let mut recordings = Vec::new();
    while recordings.len() < RUNS || quiet < QUIET {
        let n = recordings.len() + 1;
        ensure!(
            n <= MOST_RUNS,
            "recordings still add calls after {MOST_RUNS} runs"
        );
        interrupt::check()?;
        let file = runs.path().join(n.to_string());
        // Every other one on a busy machine: chance decides about some calls.
        let busy = BusyLoops::start(if n % 2 == 0 { 2 } else { 0 });
        let observation = record_once(app, seccast, &scope, &file)?;
        drop(busy);
        let names = names(&observation);
        let new: Vec<_> = names
            .iter()
            .filter(|name| !seen.contains_key(name))
            .map(|(_, name)| name.clone())
            .collect();
        quiet = if new.is_empty() { quiet + 1 } else { 0 };
        eprintln!(
            "profiles: {}, run {n}: {} calls{}{}",
            app.name,
            names.len(),
            if n == 1 || new.is_empty() {
                ""
            } else {
                ", new: "
            },
            if n == 1 { String::new() } else { new.join(" ") }
        );
        for name in &names {
            *seen.entry(name.clone()).or_default() += 1;
        }
        recordings.push((file, names, observation));
    }

    let kept = fewest(
        &recordings
            .iter()
            .map(|(_, names, _)| names)
            .collect::<Vec<_>>(),
    );
    let mut files = Vec::new();
    for (n, &index) in kept.iter().enumerate() {
        let name = match n {
            0 => "observation.json".to_owned(),
            n => format!("observation-{}.json", n + 1),
        };
        fs::copy(&recordings[index].0, folder.join(&name))
            .with_context(|| format!("failed to write {name}"))?;
        files.push(name);
    }
    let all = recordings.len();
    let by_chance: BTreeMap<&str, usize> = seen
        .iter()
        .filter(|&(_, &runs)| runs < all)
        .map(|((_, name), &runs)| (name.as_str(), runs))
        .collect();
    let mut packages = rootfs::versions(&(app.rootfs)()?)?;
    let version = packages
        .remove(app.package)
        .with_context(|| format!("its files have no package {}", app.package))?;
    let machine = &recordings[0].2.machine;
    let provenance = json!({
        "package": app.package,
        "version": version,
        "libraries": packages,
        "command": (app.bundle)()?.command(),
        "date": date,
        "machine": { "kernel": machine.kernel, "arch": machine.arch.name() },
        "runtime": runtime_version()?,
        "seccast": recordings[0].2.tool_version,
        "load": { "does": app.does, "requests": REQUESTS },
        "runs": { "recorded": all, "beside_busy_loops": all / 2, "last_that_added": all - quiet },
        "not_in_every_run": by_chance,
        "observations": files,
    });
    let mut text = serde_json::to_string_pretty(&provenance)?;
    text.push('\n');
    fs::write(folder.join("provenance.json"), text).context("failed to write provenance.json")
}

/// One start, load and end, from the first instruction on, under a filter that denies nothing.
fn record_once(app: &App, seccast: &Path, scope: &Scope, file: &Path) -> Result<Observation> {
    let audit = serde_json::from_str(&audit_profile().to_oci_json())?;
    let bundle = (app.bundle)()?
        .seccomp(audit)
        .cgroups_path(scope.child(app.name));
    let mut container = Container::new(app.name, &bundle, &Runtime::runc()?)?;
    let mut command = Command::new(seccast);
    command
        .args([
            "record",
            "--container",
            app.name,
            "--wait=60s",
            "--observation",
        ])
        .arg(file);
    let recorder = Recorder::start(&mut command)?;
    container.spawn()?;
    (app.load)(&mut container, REQUESTS).context("the load failed")?;
    recorder.finish()?;
    let observation = read_observation(file)?;
    ensure!(
        observation.losses.is_empty()
            && observation.denied.is_empty()
            && observation.entered_count == 0
            && observation.unknown.is_empty(),
        "the recording is not clean: {}",
        file.display()
    );
    Ok(observation)
}

/// Indices of sets that together have every element; each is the one that adds most to those before it.
fn fewest<T: Ord>(sets: &[&BTreeSet<T>]) -> Vec<usize> {
    let (mut covered, mut chosen) = (BTreeSet::new(), Vec::new());
    loop {
        let adds = |set: &BTreeSet<T>| set.iter().filter(|one| !covered.contains(one)).count();
        // Of equals the first.
        let best = (0..sets.len()).rev().max_by_key(|&index| adds(sets[index]));
        match best {
            Some(index) if adds(sets[index]) > 0 => {
                covered.extend(sets[index]);
                chosen.push(index);
            }
            _ => return chosen,
        }
    }
}

fn runtime_version() -> Result<String> {
    let said = process::check(Command::new("runc").arg("--version"), ANSWER)?.stdout;
    let line = said.lines().next().context("runc tells no version")?;
    Ok(line.replace(" version ", " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_recordings_that_have_everything_are_kept() {
        let sets = [&[1, 2][..], &[1, 2, 3, 4], &[1, 5], &[2, 5], &[1, 2, 3]]
            .map(|set| set.iter().copied().collect::<BTreeSet<_>>());
        assert_eq!(fewest(&sets.iter().collect::<Vec<_>>()), [1, 2]);
        assert_eq!(fewest::<i32>(&[]), [] as [usize; 0]);
    }
}
