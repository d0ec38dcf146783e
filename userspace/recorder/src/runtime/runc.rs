//! runc's state folders (`--root`) and command lines.

use super::bundle::Bundle;
use crate::proc;
use serde::Deserialize;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What runc keeps of a container in `ROOT/NAME/state.json` (runc 1.0+).
#[derive(Clone, Debug)]
pub struct State {
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
struct File {
    id: String,
    init_process_pid: u32,
    config: Config,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    labels: Vec<String>,
}

/// The folders in which runc keeps its state by default, and where engines tell it to.
#[must_use]
pub fn roots() -> Vec<PathBuf> {
    let mut roots = vec![
        PathBuf::from("/run/runc"),
        PathBuf::from("/run/docker/runtime-runc/moby"),
    ];
    if let Ok(namespaces) = fs::read_dir("/run/containerd/runc") {
        roots.extend(namespaces.flatten().map(|entry| entry.path()));
    }
    roots
}

/// Reads a container's state, if `root` has it.
#[must_use]
pub fn state(root: &Path, name: &str) -> Option<State> {
    let folder = root.join(name);
    let file: File = serde_json::from_slice(&fs::read(folder.join("state.json")).ok()?).ok()?;
    let bundle = file
        .config
        .labels
        .iter()
        .find_map(|label| label.strip_prefix("bundle="))
        .map(PathBuf::from);
    Some(State {
        name: file.id,
        pid: file.init_process_pid,
        created: folder.join("exec.fifo").exists(),
        bundle,
    })
}

/// Names of the containers that `root` knows.
#[must_use]
pub fn names(root: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root) else {
        return Vec::new();
    };
    let known = entries
        .flatten()
        .filter(|entry| entry.path().join("state.json").exists());
    known
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// The bundle of a process that is `runc … run|create|restore … NAME`, whatever the program is called.
///
/// `None` when the process is something else, or lives in a pid namespace of its own: what a container's process calls
/// itself is no evidence.
#[must_use]
pub fn starts(pid: u32, name: &str) -> Option<Option<Bundle>> {
    let arguments = proc::command_line(pid)?;
    proc::in_own_pid_namespace(pid)
        .then(|| starts_by(pid, &arguments, name))
        .flatten()
}

/// The same of a command line that the kernel has told. The process may be gone: then a bundle is found only where the
/// line names its whole path.
#[must_use]
pub fn starts_by(pid: u32, arguments: &[String], name: &str) -> Option<Option<Bundle>> {
    let folder = match bundle_of(arguments, name)? {
        Some(folder) if folder.is_absolute() => folder,
        folder => PathBuf::from(format!("/proc/{pid}/cwd")).join(folder.unwrap_or_default()),
    };
    Some(Bundle::read(&folder))
}

/// The bundle folder in a command line that starts the container `name`; `Some(None)` is the current folder.
fn bundle_of(arguments: &[String], name: &str) -> Option<Option<PathBuf>> {
    let (last, front) = arguments.split_last()?;
    let verb = front
        .iter()
        .skip(1)
        .position(|argument| matches!(argument.as_str(), "run" | "create" | "restore"))?
        + 1;
    if last != name {
        return None;
    }
    let options = &front[verb + 1..];
    let joined = options.iter().find_map(|option| {
        option
            .strip_prefix("--bundle=")
            .or_else(|| option.strip_prefix("-b="))
    });
    let apart = || {
        options
            .iter()
            .position(|option| matches!(option.as_str(), "--bundle" | "-b" | "-bundle"))
            .and_then(|at| options.get(at + 1))
    };
    Some(
        joined
            .map(PathBuf::from)
            .or_else(|| apart().map(PathBuf::from)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_name_the_container_and_its_bundle() {
        let check = |line: &str, name: &str, expected: Option<Option<&str>>| {
            let arguments: Vec<_> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(
                bundle_of(&arguments, name),
                expected.map(|folder| folder.map(PathBuf::from)),
                "{line}"
            );
        };
        check("runc run web", "web", Some(None));
        check(
            "/opt/other --root /x create --bundle /b web",
            "web",
            Some(Some("/b")),
        );
        check(
            "runc --log l --log-format json create -b b --pid-file p web",
            "web",
            Some(Some("b")),
        );
        check("runc run --bundle=/b web", "web", Some(Some("/b")));
        check("runc exec web", "web", None);
        check("runc run web", "we", None);
        check("run web", "web", None);
    }
}
