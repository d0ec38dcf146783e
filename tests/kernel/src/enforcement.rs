//! From a recording of a container to the same container under its profile.

use crate::{Record, Recorded, named, seccast};
use seccast_model::arch::Arch;
use seccast_model::observation::{Observation, Phase};
use seccast_model::syscall;
use seccast_rig::{Bundle, Container, Runtime, Testimony, process, unique};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;
use tempfile::TempDir;

/// Longest wait for an end that is near, on a busy machine too.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What is done to a container from its start to its end.
pub type Load<'a> = &'a dyn Fn(&mut Container) -> anyhow::Result<()>;

/// Records a container from its first instruction to its end under a load.
///
/// # Panics
/// When the load fails, seccast does, or the recording is incomplete.
#[must_use]
pub fn record_container(name: &str, bundle: &Bundle, load: Load<'_>) -> Recorded {
    let own = unique(name);
    let recording = Record::new(["--container", &own, "--wait=60s"]).start();
    let mut container = Container::new(&own, bundle, &Runtime::runc().unwrap()).unwrap();
    container.spawn().unwrap();
    if let Err(error) = load(&mut container) {
        panic!(
            "{name}, recorded: {error:#}\n{}\n{}",
            container.log(),
            recording.stderr()
        );
    }
    let recorded = recording.end(PATIENCE);
    let _: &Observation = recorded.complete();
    recorded
}

/// Why a container under a profile did not pass its load.
#[derive(Debug)]
pub struct Failed {
    /// What the load found, and the container's log.
    pub error: anyhow::Error,
    /// How the container ended by itself; `None` where it still ran and was killed.
    pub status: Option<ExitStatus>,
}

/// Runs a container under a profile with a load.
///
/// # Errors
/// When the load fails.
///
/// # Panics
/// When there is no runc.
pub fn enforce(
    name: &str,
    bundle: &Bundle,
    profile: &Value,
    cgroup: &str,
    load: Load<'_>,
) -> Result<(), Failed> {
    let bundle = bundle.clone().seccomp(profile.clone()).cgroups_path(cgroup);
    let mut container = Container::new(&unique(name), &bundle, &Runtime::runc().unwrap()).unwrap();
    container.spawn().unwrap();
    load(&mut container).map_err(|error| {
        let status = container.wait(Duration::from_secs(2)).ok().flatten();
        Failed {
            error: error.context(container.log()),
            status,
        }
    })
}

/// A profile that `seccast generate` made.
#[derive(Debug)]
pub struct Generated {
    /// The profile.
    pub profile: Value,
    /// Its report.
    pub report: Value,
    _files: TempDir,
}

/// `seccast generate` for runc from these observations.
///
/// # Panics
/// When it does not end with 0.
#[must_use]
pub fn generate(recordings: &[Recorded]) -> Generated {
    let observations: Vec<_> = recordings.iter().map(Recorded::observation_path).collect();
    generate_for("runc", &observations)
}

/// `seccast generate` for a runtime from these files.
///
/// # Panics
/// When it does not end with 0.
#[must_use]
pub fn generate_for(runtime: &str, observations: &[PathBuf]) -> Generated {
    let files = tempfile::Builder::new()
        .prefix("seccast-test-")
        .tempdir()
        .unwrap();
    let out = files.path().join("p.json");
    let mut command = Command::new(seccast());
    command
        .arg("generate")
        .args(observations)
        .args(["--runtime", runtime, "-o"])
        .arg(&out);
    let output = process::output(&mut command, PATIENCE).unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        output.stdout,
        output.stderr
    );
    let read = |path: PathBuf| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    Generated {
        profile: read(out),
        report: read(files.path().join("p.report.json")),
        _files: files,
    }
}

/// What `profiles/apps` has of an application.
#[derive(Debug)]
pub struct Committed {
    /// The profile.
    pub profile: Value,
    /// How it came about.
    pub provenance: Value,
    /// What it was made from.
    pub observations: Vec<PathBuf>,
}

impl Committed {
    /// Whether every recording had this call.
    #[must_use]
    pub fn always(&self, name: &str) -> bool {
        self.provenance["not_in_every_run"].get(name).is_none()
    }

    /// The observations, where they have calls that some recordings did not have; else none.
    #[must_use]
    pub fn by_chance(&self) -> Vec<PathBuf> {
        match self.provenance["not_in_every_run"].as_object() {
            Some(names) if !names.is_empty() => self.observations.clone(),
            _ => Vec::new(),
        }
    }

    /// The application's calls by name.
    ///
    /// # Panics
    /// When an observation cannot be read.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        let read = |path| Observation::from_json(&std::fs::read(path).unwrap()).unwrap();
        let calls = |path| named(&read(path), Phase::App);
        let all = self.observations.iter().flat_map(calls);
        all.map(|(_, name)| name).collect()
    }
}

/// Reads it.
///
/// # Panics
/// When a file is missing or broken.
#[must_use]
pub fn committed(name: &str) -> Committed {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../profiles/apps")
        .join(name);
    let bytes = |file: &str| std::fs::read(folder.join(file)).unwrap();
    let provenance: Value = serde_json::from_slice(&bytes("provenance.json")).unwrap();
    let files = provenance["observations"].as_array().unwrap();
    Committed {
        profile: serde_json::from_slice(&bytes("profile.json")).unwrap(),
        observations: files
            .iter()
            .map(|file| folder.join(file.as_str().unwrap()))
            .collect(),
        provenance,
    }
}

/// The names that a profile allows.
#[must_use]
pub fn allowed(profile: &Value) -> Vec<String> {
    let rules = profile["syscalls"].as_array().into_iter().flatten();
    let allow = rules.filter(|rule| rule["action"] == "SCMP_ACT_ALLOW");
    let mut names: Vec<String> = allow
        .flat_map(|rule| rule["names"].as_array().into_iter().flatten())
        .filter_map(|name| name.as_str().map(Into::into))
        .collect();
    names.sort();
    names
}

/// The same profile with another action for one name.
///
/// # Panics
/// When the profile does not allow that name.
#[must_use]
pub fn with_action(profile: &Value, name: &str, action: &str) -> Value {
    assert!(
        allowed(profile).iter().any(|allowed| allowed == name),
        "{name} is not in the profile"
    );
    let mut profile = profile.clone();
    let rules = profile["syscalls"].as_array_mut().unwrap();
    for rule in rules.iter_mut() {
        rule["names"]
            .as_array_mut()
            .unwrap()
            .retain(|other| other != name);
    }
    // An empty rule is not the same to every runtime.
    rules.retain(|rule| {
        rule["names"]
            .as_array()
            .is_some_and(|names| !names.is_empty())
    });
    rules.push(json!({ "names": [name], "action": action }));
    profile
}

/// A witness's denials by call and task name, for a reader.
#[must_use]
pub fn denials(testimony: &Testimony) -> String {
    let mut by_call: BTreeMap<(String, &str, i64), u64> = BTreeMap::new();
    for denial in &testimony.denials {
        *by_call
            .entry((call_name(denial.nr), &denial.comm, denial.result))
            .or_default() += denial.count;
    }
    let mut text = String::new();
    for ((name, comm, result), count) in by_call {
        writeln!(
            text,
            "  {name:<20} {count:>6} times  by {comm}, result {result}"
        )
        .unwrap();
    }
    text
}

/// The x86_64 name of a number, or the number.
#[must_use]
pub fn call_name(nr: i64) -> String {
    let name = u32::try_from(nr)
        .ok()
        .and_then(|nr| syscall::name(Arch::X86_64, nr));
    name.map_or_else(|| nr.to_string(), Into::into)
}
