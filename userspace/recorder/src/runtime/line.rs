//! Command lines of runtimes, and of what engines put between them and a container.

use super::bundle::Bundle;
use crate::proc;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// A process that starts a container: `runc … run|create|restore … ID`, whatever the program is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Starts {
    /// The program's name without its folder.
    pub program: String,
    /// Its `--root`.
    pub root: Option<PathBuf>,
    /// The container.
    pub id: String,
    /// The bundle's folder: an absolute path, or one below the process's own folder in /proc.
    pub bundle: PathBuf,
}

/// conmon, which podman and CRI-O put in front of the runtime and which stays as long as the container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conmon {
    /// The container's id.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
    /// podman's own command line up to its verb, as conmon calls it in the end (`--exit-command`).
    pub client: Vec<String>,
    /// Whoever runs it is the recorder's user, who may tell the recorder what to run.
    pub ours: bool,
}

/// Clients and servers of engines: what they are told is nothing that a runtime was told.
const ENGINES: [&str; 9] = [
    "docker",
    "dockerd",
    "podman",
    "nerdctl",
    "ctr",
    "conmon",
    "containerd",
    "crictl",
    "seccast",
];

/// The file name of a program.
pub(crate) fn base(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or_default()
}

/// Reads a command line that the kernel or /proc has told. `pid` may be gone: its bundle is then found only where the line
/// names its whole path.
#[must_use]
pub fn starts(pid: u32, arguments: &[String]) -> Option<Starts> {
    let (id, front) = arguments.split_last()?;
    let program = base(arguments.first()?);
    if ENGINES.contains(&program) || id.starts_with('-') {
        return None;
    }
    let verb = front
        .iter()
        .skip(1)
        .position(|argument| matches!(argument.as_str(), "run" | "create" | "restore"))?
        + 1;
    let here = || PathBuf::from(format!("/proc/{pid}/cwd"));
    let bundle = option(&front[verb + 1..], &["--bundle", "-b", "-bundle"]);
    Some(Starts {
        program: program.to_owned(),
        root: option(&front[1..verb], &["--root", "-root"]).map(PathBuf::from),
        id: id.clone(),
        bundle: bundle.map_or_else(here, |bundle| here().join(bundle)),
    })
}

/// A living process of this pid namespace that starts a container. What a container's process calls itself is no evidence.
#[must_use]
pub fn started_by(pid: u32) -> Option<Starts> {
    let arguments = proc::command_line(pid)?;
    proc::in_own_pid_namespace(pid)
        .then(|| starts(pid, &arguments))
        .flatten()
}

/// The conmon that a process of this pid namespace is.
#[must_use]
pub fn conmon(pid: u32) -> Option<Conmon> {
    let arguments = proc::command_line(pid)?;
    let conmon = proc::in_own_pid_namespace(pid)
        .then(|| read_conmon(&arguments))
        .flatten()?;
    Some(Conmon {
        ours: proc::is_our(pid, "conmon"),
        ..conmon
    })
}

/// The socket of the containerd whose shim for the container `id` a process of this pid namespace is.
#[must_use]
pub fn shim_address(pid: u32, id: &str) -> Option<PathBuf> {
    let arguments = proc::command_line(pid)?;
    let shim =
        base(arguments.first()?).starts_with("containerd-shim") && proc::in_own_pid_namespace(pid);
    let value = |name: &str| option(&arguments, &[name]).filter(|_| shim);
    (value("-id")? == id)
        .then(|| value("-address").map(PathBuf::from))
        .flatten()
}

/// The sockets of the containerds whose shims run containers of a namespace.
#[must_use]
pub(super) fn shim_addresses(namespace: &str) -> BTreeSet<PathBuf> {
    let address = |pid: u32| {
        let arguments = proc::command_line(pid)?;
        let shim = base(arguments.first()?).starts_with("containerd-shim")
            && option(&arguments, &["-namespace"]) == Some(namespace)
            && proc::in_own_pid_namespace(pid)
            // Anybody may call a program so; its socket's folder is believed.
            && proc::is_trusted(pid);
        let address = option(&arguments, &["-address"]).filter(|_| shim);
        address.map(PathBuf::from)
    };
    proc::all().into_iter().filter_map(address).collect()
}

fn read_conmon(arguments: &[String]) -> Option<Conmon> {
    let (program, options) = arguments.split_first()?;
    if base(program) != "conmon" {
        return None;
    }
    let value = |name: &str| option(options, &[name]).map(str::to_owned);
    let mut client: Vec<_> = value("--exit-command").into_iter().collect();
    let exit = options
        .windows(2)
        .filter(|pair| pair[0] == "--exit-command-arg");
    let words = exit.map(|pair| pair[1].clone());
    client.extend(words.take_while(|word| word != "container"));
    Some(Conmon {
        id: value("-c")?,
        name: value("-n").filter(|name| !name.is_empty()),
        client,
        ours: false,
    })
}

/// The value of an option, written apart or joined by `=`.
pub(crate) fn option<'a>(arguments: &'a [String], names: &[&str]) -> Option<&'a str> {
    arguments.iter().enumerate().find_map(|(at, argument)| {
        names.iter().find_map(|name| {
            let rest = argument.strip_prefix(name)?;
            match rest.strip_prefix('=') {
                Some(value) => Some(value),
                None if rest.is_empty() => arguments.get(at + 1).map(String::as_str),
                None => None,
            }
        })
    })
}

impl Starts {
    /// The bundle, if it can be read.
    #[must_use]
    pub fn read_bundle(&self) -> Option<Bundle> {
        Bundle::read(&self.bundle)
    }

    /// The namespace in containerd, where it was containerd that told the runtime to start it: it keeps bundles in
    /// `…/io.containerd.runtime.v2.task/NAMESPACE/ID`.
    #[must_use]
    pub fn containerd_namespace(&self) -> Option<String> {
        containerd_namespace(&self.bundle)
    }
}

/// See [`Starts::containerd_namespace`].
#[must_use]
pub fn containerd_namespace(bundle: &Path) -> Option<String> {
    let mut parts = bundle
        .components()
        .map(|part| part.as_os_str().to_string_lossy());
    parts.find(|part| part.starts_with("io.containerd.runtime.v"))?;
    parts.next().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn runtimes_name_the_container_its_bundle_and_their_root() {
        let check = |line: &str, expected: Option<(&str, Option<&str>, &str)>| {
            let found = starts(7, &words(line));
            let found = found.as_ref().map(|found| {
                let root = found.root.as_deref().and_then(Path::to_str);
                (
                    found.id.as_str(),
                    root,
                    found.bundle.to_str().unwrap_or_default(),
                )
            });
            assert_eq!(found, expected, "{line}");
        };
        check("runc run web", Some(("web", None, "/proc/7/cwd")));
        check(
            "/opt/other --root /x create --bundle /b web",
            Some(("web", Some("/x"), "/b")),
        );
        check(
            "runc --log l --root=/x --log-format json create -b b --pid-file p web",
            Some(("web", Some("/x"), "/proc/7/cwd/b")),
        );
        check("runc run --bundle=/b web", Some(("web", None, "/b")));
        check("runc exec web", None);
        check("run web", None);
        check("docker run image web", None);
    }

    #[test]
    fn containerd_has_its_namespace_in_the_bundle() {
        let line = "runc --root /run/containerd/runc/k8s.io create --bundle \
                    /run/containerd/io.containerd.runtime.v2.task/k8s.io/c1 --pid-file p c1";
        let found = starts(7, &words(line)).and_then(|found| found.containerd_namespace());
        assert_eq!(found.as_deref(), Some("k8s.io"));
    }

    #[test]
    fn conmon_knows_the_name_and_its_podman() {
        let line = "/usr/bin/conmon --api-version 1 -c 90d9 -u 90d9 -r /usr/bin/runc -b /b -n web --exit-command \
                    /usr/bin/podman --exit-command-arg --root --exit-command-arg /st --exit-command-arg container \
                    --exit-command-arg cleanup --exit-command-arg 90d9";
        let expected = Conmon {
            id: "90d9".to_owned(),
            name: Some("web".to_owned()),
            client: words("/usr/bin/podman --root /st"),
            ours: false,
        };
        assert_eq!(read_conmon(&words(line)), Some(expected));
    }
}
