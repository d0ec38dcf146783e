//! The client of an engine: asked as the user would ask it.

use super::{ANSWER, EngineError, Kind, check_runtime};
use crate::{command::User, recorder::kernel_release, runtime::line};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::Read as _,
    os::unix::{fs::FileTypeExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A client with the options that lead to one engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    kind: Kind,
    words: Vec<String>,
    /// Where the program stands in them: `sudo` and its options may be in front.
    program: usize,
    user: Option<User>,
}

/// What an engine knows of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Its id.
    pub id: String,
    /// Its name, where that is not the id.
    pub name: Option<String>,
    /// The image's reference.
    pub image: Option<String>,
    /// The image's digest; where it has none (built here), its id.
    pub image_digest: Option<String>,
    /// The low-level runtime.
    pub runtime: Option<String>,
    /// Its init process, while it runs.
    pub pid: Option<u32>,
    /// The labels of the Pod that it belongs to.
    pub pod_labels: BTreeMap<String, String>,
}

/// `docker inspect`, `podman inspect`, `nerdctl inspect`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    image: String,
    image_name: Option<String>,
    image_digest: Option<String>,
    #[serde(default, rename = "OCIRuntime")]
    oci_runtime: Option<String>,
    #[serde(default)]
    config: Config,
    #[serde(default)]
    host_config: HostConfig,
    #[serde(default)]
    state: State,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    image: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    runtime: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct State {
    pid: u32,
}

/// `docker info`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Info {
    kernel_version: String,
    operating_system: String,
    default_runtime: String,
    server_errors: Vec<String>,
}

/// `podman info`.
#[derive(Deserialize)]
struct PodmanInfo {
    host: PodmanHost,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodmanHost {
    kernel: String,
    #[serde(default)]
    hostname: String,
    oci_runtime: PodmanRuntime,
}

#[derive(Deserialize)]
struct PodmanRuntime {
    name: String,
}

/// `ctr containers info`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerdInfo {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    image: String,
}

impl Client {
    /// `words`: the program and its own options.
    #[must_use]
    pub fn new(kind: Kind, words: Vec<String>) -> Self {
        Self {
            kind,
            words,
            program: 0,
            user: None,
        }
    }

    /// The program without options: environment and configuration lead to the engine.
    #[must_use]
    pub fn named(kind: Kind) -> Self {
        Self::new(kind, vec![kind.program().to_owned()])
    }

    /// The engines that are in use here. Asking docker where there is none is futile, and asking podman would make its folders.
    #[must_use]
    pub fn in_use() -> Vec<Self> {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let path = std::env::var_os("PATH").unwrap_or_default();
        let installed = |kind: Kind| {
            std::env::split_paths(&path).any(|folder| folder.join(kind.program()).is_file())
        };
        let docker =
            set("DOCKER_HOST") || set("DOCKER_CONTEXT") || Path::new("/run/docker.sock").exists();
        let podman = set("CONTAINER_HOST")
            || set("CONTAINERS_STORAGE_CONF")
            || Path::new("/var/lib/containers/storage/libpod").exists();
        [(Kind::Docker, docker), (Kind::Podman, podman)]
            .into_iter()
            .filter(|(kind, used)| *used && installed(*kind))
            .map(|(kind, _)| Self::named(kind))
            .collect()
    }

    /// The engine behind a local socket.
    ///
    /// # Errors
    /// When that is no socket.
    pub fn at_socket(kind: Kind, socket: &Path) -> Result<Self, EngineError> {
        let is_socket =
            std::fs::metadata(socket).is_ok_and(|metadata| metadata.file_type().is_socket());
        if !is_socket {
            return Err(EngineError::NoSocket {
                path: socket.to_owned(),
            });
        }
        let path = socket.display().to_string();
        let options = match kind {
            Kind::Docker => vec!["-H".to_owned(), format!("unix://{path}")],
            Kind::Podman => vec!["--url".to_owned(), format!("unix://{path}")],
            _ => vec!["--address".to_owned(), path],
        };
        let program = kind.program().to_owned();
        Ok(Self::new(kind, [vec![program], options].concat()))
    }

    /// What stands in front of it, such as `sudo`.
    #[must_use]
    pub(super) fn through(mut self, front: Vec<String>) -> Self {
        self.program += front.len();
        self.words.splice(0..0, front);
        self
    }

    /// What stands in front of it.
    #[must_use]
    pub(super) fn front(&self) -> &[String] {
        &self.words[..self.program]
    }

    /// Asks as this user.
    #[must_use]
    pub fn as_user(mut self, user: Option<User>) -> Self {
        self.user = user;
        self
    }

    /// In this namespace of containerd.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.words
            .extend(["--namespace".to_owned(), namespace.to_owned()]);
        self
    }

    /// The engine.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The program and its options.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The value of one of its own options.
    #[must_use]
    pub fn option(&self, names: &[&str]) -> Option<&str> {
        line::option(self.own_options(), names)
    }

    /// The program's own options, without what stands in front of it.
    fn own_options(&self) -> &[String] {
        &self.words[self.words.len().min(self.program + 1)..]
    }

    /// The namespace of containerd that it speaks to.
    #[must_use]
    pub fn namespace(&self) -> String {
        let option = self.option(&["--namespace", "-n"]).map(str::to_owned);
        option
            .or_else(|| std::env::var("CONTAINERD_NAMESPACE").ok())
            .filter(|namespace| !namespace.is_empty())
            .unwrap_or_else(|| "default".to_owned())
    }

    /// The socket of containerd that it speaks to.
    #[must_use]
    pub fn address(&self) -> PathBuf {
        let option = self.option(&["--address", "-a"]).map(str::to_owned);
        option
            .or_else(|| std::env::var("CONTAINERD_ADDRESS").ok())
            .filter(|address| !address.is_empty())
            .map_or_else(
                || PathBuf::from("/run/containerd/containerd.sock"),
                PathBuf::from,
            )
    }

    /// A command line of the client, to be completed.
    #[must_use]
    pub fn command<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new(self.words.first().map_or("", String::as_str));
        command
            .args(&self.words[1.min(self.words.len())..])
            .args(arguments);
        if let Some(User { uid, gid }) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Asks, and returns what it prints.
    ///
    /// # Errors
    /// When it cannot be run, says no, or does not answer in time.
    pub fn ask(&self, arguments: &[&str]) -> Result<String, EngineError> {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| self.no_client(source))?;
        let out = read_all(child.stdout.take());
        let err = read_all(child.stderr.take());
        let down = |answer: &str| EngineError::Down {
            engine: self.kind.name(),
            command: format!("{} {}", self.words.join(" "), arguments.join(" ")),
            answer: answer.to_owned(),
        };
        let Some(status) = wait(&mut child, ANSWER) else {
            return Err(down(&format!("no answer in {} s", ANSWER.as_secs())));
        };
        if status.success() {
            return Ok(out.join().unwrap_or_default());
        }
        let err = err.join().unwrap_or_default();
        let last = err.lines().map(str::trim).rfind(|line| !line.is_empty());
        Err(down(last.unwrap_or("it failed without a word")))
    }

    fn no_client(&self, source: std::io::Error) -> EngineError {
        EngineError::NoClient {
            engine: self.kind.name(),
            program: self.words.first().cloned().unwrap_or_default(),
            source,
        }
    }

    fn read<'a, T: Deserialize<'a>>(&self, asked: &str, text: &'a str) -> Result<T, EngineError> {
        serde_json::from_str(text).map_err(|source| EngineError::Answer {
            engine: self.kind.name(),
            command: format!("{} {asked}", self.words.join(" ")),
            source,
        })
    }

    /// A container by its name or id; `None` where the engine answers and has none of that name.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub fn inspect(&self, name: &str) -> Result<Option<Details>, EngineError> {
        // An option is no name.
        if name.starts_with('-') {
            return Ok(None);
        }
        if self.kind == Kind::Containerd {
            return self.inspect_containerd(name);
        }
        let text = match self.ask(&["container", "inspect", name]) {
            Ok(text) => text,
            Err(EngineError::Down { answer, .. })
                if answer.to_ascii_lowercase().contains("no such container") =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let found: Vec<Inspected> = self.read("container inspect", &text)?;
        let Some(found) = found.into_iter().next() else {
            return Ok(None);
        };
        let image = found
            .image_name
            .or(found.config.image)
            .filter(|image| !image.is_empty());
        let digest = found
            .image_digest
            .filter(|digest| !digest.is_empty())
            .or_else(|| self.digest(&found.image));
        Ok(Some(Details {
            name: Some(found.name.trim_start_matches('/').to_owned())
                .filter(|name| !name.is_empty()),
            id: found.id,
            image,
            image_digest: digest,
            runtime: found
                .oci_runtime
                .or(found.host_config.runtime)
                .filter(|name| !name.is_empty()),
            pid: Some(found.state.pid).filter(|pid| *pid != 0),
            ..Details::default()
        }))
    }

    /// docker's image by its id: the digest that a registry gave it, else the id.
    fn digest(&self, image: &str) -> Option<String> {
        if image.is_empty() {
            return None;
        }
        let format = "{{range .RepoDigests}}{{println .}}{{end}}";
        let digests = self
            .ask(&["image", "inspect", "--format", format, image])
            .unwrap_or_default();
        let first = digests.lines().find_map(|line| line.split_once('@'));
        Some(first.map_or_else(|| image.to_owned(), |(_, digest)| digest.trim().to_owned()))
    }

    fn inspect_containerd(&self, name: &str) -> Result<Option<Details>, EngineError> {
        let text = match self.ask(&["containers", "info", name]) {
            Ok(text) => text,
            Err(EngineError::Down { answer, .. }) if answer.contains("not found") => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let found: ContainerdInfo = self.read("containers info", &text)?;
        let tasks = self.ask(&["tasks", "list"])?;
        let pid = tasks.lines().find_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            (fields.next() == Some(name))
                .then(|| fields.next()?.parse().ok())
                .flatten()
        });
        let image = Some(found.image).filter(|image| !image.is_empty());
        let images = image
            .as_ref()
            .and_then(|_| self.ask(&["images", "list"]).ok())
            .unwrap_or_default();
        // REF TYPE DIGEST …
        let digest = images.lines().find_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            (fields.next() == image.as_deref())
                .then(|| fields.nth(1).map(str::to_owned))
                .flatten()
        });
        Ok(Some(Details {
            id: found.id,
            image,
            image_digest: digest,
            pid,
            ..Details::default()
        }))
    }

    /// Refuses an engine that is on another machine or has another kernel, and one whose containers would have.
    ///
    /// # Errors
    /// For those, and when it does not answer.
    pub fn check_local(&self) -> Result<(), EngineError> {
        if let Some(host) = self.host() {
            let remote = ["tcp://", "ssh://", "http://", "https://", "npipe://"];
            if remote.iter().any(|scheme| host.starts_with(scheme)) {
                let engine = self.kind.name();
                return Err(EngineError::Remote { engine, host });
            }
        }
        let (kernel, name, runtime) = match self.kind {
            Kind::Docker => {
                let text = self.ask(&["info", "--format", "{{json .}}"])?;
                let info: Info = self.read("info", &text)?;
                if let Some(error) = info.server_errors.first() {
                    return Err(EngineError::Down {
                        engine: self.kind.name(),
                        command: format!("{} info", self.words.join(" ")),
                        answer: error.clone(),
                    });
                }
                (
                    info.kernel_version,
                    info.operating_system,
                    info.default_runtime,
                )
            }
            Kind::Podman => {
                let text = self.ask(&["info", "--format", "json"])?;
                let info: PodmanInfo = self.read("info", &text)?;
                (
                    info.host.kernel,
                    info.host.hostname,
                    info.host.oci_runtime.name,
                )
            }
            // Their sockets are files of this machine; that somebody answers is all there is to know.
            Kind::Containerd | Kind::Nerdctl => return self.ask(&["version"]).map(|_| ()),
            Kind::Runc | Kind::Crun => return self.ask(&["--version"]).map(|_| ()),
        };
        let ours = kernel_release();
        if kernel != ours {
            return Err(EngineError::OtherKernel {
                engine: self.kind.name(),
                name,
                theirs: kernel,
                ours,
            });
        }
        check_runtime(&runtime)
    }

    /// Does podman's client speak to a service, which takes some options from its own configuration only?
    #[must_use]
    pub fn is_remote(&self) -> bool {
        let remote = ["--remote", "-r", "--url", "--connection", "-c"];
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        self.own_options()
            .iter()
            .any(|word| remote.contains(&word.split('=').next().unwrap_or_default()))
            || self
                .words
                .get(self.program)
                .is_some_and(|program| program.ends_with("podman-remote"))
            || set("CONTAINER_HOST")
            || set("CONTAINER_CONNECTION")
    }

    /// The engine's address as the client's options, environment and contexts give it.
    fn host(&self) -> Option<String> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        match self.kind {
            Kind::Docker => {
                let option = self.option(&["--host", "-H"]).map(str::to_owned);
                let context = || {
                    let named = self.option(&["--context", "-c"]);
                    let mut asked = vec!["context", "inspect"];
                    asked.extend(named);
                    asked.extend(["--format", "{{.Endpoints.docker.Host}}"]);
                    self.ask(&asked).ok().map(|host| host.trim().to_owned())
                };
                let environment = || match self.option(&["--context", "-c"]) {
                    None => variable("DOCKER_HOST"),
                    Some(_) => None,
                };
                option.or_else(environment).or_else(context)
            }
            Kind::Podman => {
                let option = self.option(&["--url"]).map(str::to_owned);
                option.or_else(|| variable("CONTAINER_HOST"))
            }
            _ => None,
        }
    }

    /// Stops containers as the engine does: its stop signal, 10 s, KILL. Returns at once.
    ///
    /// # Errors
    /// When the client cannot be run.
    pub fn stop(&self, id: &str, kill: bool) -> Result<Child, EngineError> {
        let words: &[&str] = match (self.kind, kill) {
            (Kind::Containerd, false) => &["tasks", "kill", "--signal", "SIGTERM", id],
            (Kind::Containerd, true) => &["tasks", "kill", "--signal", "SIGKILL", id],
            (Kind::Runc | Kind::Crun, false) => &["kill", id, "TERM"],
            (Kind::Runc | Kind::Crun, true) => &["kill", id, "KILL"],
            (_, false) => &["stop", "--time", "10", id],
            (_, true) => &["kill", id],
        };
        self.beside(words)
    }

    /// Removes a container that has ended, if it is still there. Returns at once.
    ///
    /// # Errors
    /// When the client cannot be run.
    pub fn remove(&self, id: &str) -> Result<Child, EngineError> {
        let words: &[&str] = match self.kind {
            Kind::Containerd => &["containers", "rm", id],
            Kind::Runc | Kind::Crun => &["delete", "--force", id],
            _ => &["rm", "--force", id],
        };
        self.beside(words)
    }

    /// Runs the client without anybody listening.
    fn beside(&self, words: &[&str]) -> Result<Child, EngineError> {
        let child = self
            .command(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        child.map_err(|source| self.no_client(source))
    }
}

/// Reads a pipe to its end, beside.
fn read_all(pipe: Option<impl std::io::Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            // Answers are some kilobytes.
            let _ = pipe.take(64 << 20).read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits so long at most; then it is killed.
fn wait(child: &mut Child, limit: Duration) -> Option<std::process::ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}
