//! The state folders (`--root`) in which runc and crun keep their containers.

use crate::proc;
use serde::Deserialize;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Larger files are not read: a state is some ten kilobytes.
const LIMIT: u64 = 16 << 20;

/// What a runtime keeps of a container in `ROOT/NAME`: runc (1.0+) as `state.json`, crun as `status`.
#[derive(Clone, Debug)]
pub struct State {
    /// `runc` or `crun`.
    pub runtime: &'static str,
    /// The folder of the runtime that has it.
    pub root: PathBuf,
    /// The container's name.
    pub name: String,
    /// The init process; it may be gone.
    pub pid: u32,
    /// Created and not started: its init waits before the application's execve.
    pub created: bool,
    /// The bundle's folder.
    pub bundle: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Runc {
    init_process_pid: u32,
    config: RuncConfig,
}

#[derive(Deserialize)]
struct RuncConfig {
    #[serde(default)]
    labels: Vec<String>,
}

#[derive(Deserialize)]
struct Crun {
    pid: u32,
    bundle: Option<PathBuf>,
}

/// The folders in which runc and crun keep their state by default, as root and for users, and where engines tell them to.
#[must_use]
pub fn roots() -> Vec<PathBuf> {
    let below = |folder: &str| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut roots: Vec<_> = ["/run/runc", "/run/crun"].map(PathBuf::from).into();
    roots.extend(below("/run/docker/runtime-runc"));
    roots.extend(below("/run/containerd/runc"));
    for user in below("/run/user") {
        roots.extend(["runc", "crun"].map(|name| user.join(name)));
    }
    roots
}

/// Reads a container's state, if `root` has it.
#[must_use]
pub fn state(root: &Path, name: &str) -> Option<State> {
    // A name is one element of a path.
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return None;
    }
    let folder = root.join(name);
    let read = |file: &str| proc::read_file(&folder.join(file), LIMIT);
    let (runtime, pid, bundle) = if let Some(text) = read("state.json") {
        let file: Runc = serde_json::from_slice(&text).ok()?;
        let mut labels = file.config.labels.iter();
        let bundle = labels.find_map(|label| label.strip_prefix("bundle="));
        ("runc", file.init_process_pid, bundle.map(PathBuf::from))
    } else {
        let file: Crun = serde_json::from_slice(&read("status")?).ok()?;
        ("crun", file.pid, file.bundle)
    };
    Some(State {
        runtime,
        root: root.to_owned(),
        name: name.to_owned(),
        pid,
        created: folder.join("exec.fifo").exists(),
        bundle,
    })
}

/// Names of the containers that `root` knows.
#[must_use]
pub fn names(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            ["state.json", "status"]
                .iter()
                .any(|file| entry.path().join(file).exists())
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
