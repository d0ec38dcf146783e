//! What is watched, from when to when: shared by the verbs that watch something.

use clap::{Args, ValueEnum};
use seccast_recorder::{command::User, container::Pods};
use std::{path::PathBuf, str::FromStr, time::Duration};

/// What is watched, and how long.
#[derive(Clone, Debug, Default, Args)]
pub struct TargetArgs {
    /// Run CMD in a cgroup of its own, watched from its execve on
    #[arg(last = true, group = "target", value_name = "CMD")]
    pub command: Vec<String>,
    /// Watch a container of docker, podman, containerd, runc or crun, by its name or id
    #[arg(long, groups = ["target", "named"], value_name = "NAME|ID")]
    pub container: Option<String>,
    /// Watch the containers of a Pod of this node; a `*` at the end stands for any end. Without NS it is `default`
    #[arg(long, groups = ["target", "named"], value_name = "[NS/]NAME[*]")]
    pub pod: Option<Pods>,
    /// With --pod: only its containers of this name; may be repeated. Without it all but the sandbox
    #[arg(short = 'c', long, requires = "pod", conflicts_with_all = ["command", "container", "cgroup", "pid"], value_name = "NAME")]
    pub pod_container: Vec<String>,
    /// Watch a cgroup and everything below it; PATH is below the cgroup2 mount
    #[arg(long, group = "target", value_name = "PATH")]
    pub cgroup: Option<String>,
    /// Watch the cgroup of a running process
    #[arg(long, group = "target", value_name = "PID")]
    pub pid: Option<u32>,
    /// With --pid: watch its cgroup although other processes live there
    #[arg(long, requires = "pid")]
    pub whole_cgroup: bool,
    /// With --container or --pod: wait for the next start, and watch it from the first instruction; for a Pod ten minutes if
    /// not told otherwise
    #[arg(long, requires = "named", value_name = "D", num_args = 0..=1, require_equals = true, value_parser = duration)]
    #[expect(clippy::option_option, reason = "absent, without limit, with limit")]
    pub wait: Option<Option<Duration>>,
    /// The engine that runs the container, where its name is known to several or the socket is unusual
    #[arg(long, value_enum, conflicts_with_all = ["command", "cgroup", "pid", "pod"])]
    pub engine: Option<EngineArg>,
    /// With --engine: its local socket, if not the one that its client finds by itself
    #[arg(long, requires = "engine", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Where runc or crun keeps its state, if not in a usual place
    #[arg(long, value_name = "DIR", conflicts_with_all = ["command", "cgroup", "pid", "pod"])]
    pub runtime_root: Option<PathBuf>,
    /// Run CMD as this user
    #[arg(long, requires = "command", conflicts_with_all = ["container", "pod", "cgroup", "pid"], value_name = "UID[:GID]")]
    pub user: Option<User>,

    /// When to stop: `exit` (the target's end), a duration, `quiet=D` (nothing new for so long); may be repeated
    #[arg(long, value_name = "exit|D|quiet=D")]
    pub until: Vec<Until>,
    /// Stop after this long; the same as --until D
    #[arg(long = "for", value_name = "D", value_parser = duration)]
    pub for_: Option<Duration>,
}

impl TargetArgs {
    /// The Pods that are meant, with the containers of them.
    pub fn pods(&self) -> Option<Pods> {
        let pods = self.pod.clone()?;
        Some(pods.only(self.pod_container.clone()))
    }

    /// How long the first start is waited for. Nobody may be there any more who wants a Pod: what `kubectl exec` starts outlives it.
    pub fn patience(&self) -> Option<Duration> {
        let pod = || self.pod.as_ref().map(|_| Duration::from_secs(600));
        self.wait.and_then(|limit| limit.or_else(pod))
    }

    /// What is waited for, in messages.
    pub fn named(&self) -> String {
        let container = self
            .container
            .as_ref()
            .map(|name| format!("container {name}"));
        let pod = || {
            let pod = self.pod.as_ref()?;
            Some(match self.pod_container.as_slice() {
                [] => format!("Pod {pod}"),
                [one] => format!("container {one} of Pod {pod}"),
                many => format!("containers {} of Pod {pod}", many.join(", ")),
            })
        };
        container.or_else(pod).unwrap_or_default()
    }
}

/// An engine, or a runtime alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineArg {
    /// dockerd
    Docker,
    /// podman
    Podman,
    /// containerd, without docker
    Containerd,
    /// runc alone
    Runc,
    /// crun alone
    Crun,
}

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// At the target's end.
    Exit,
    /// After so long.
    After(Duration),
    /// When nothing new was seen for so long.
    Quiet(Duration),
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("quiet=") {
            Some(rest) => duration(rest).map(Self::Quiet),
            None if text == "exit" => Ok(Self::Exit),
            None => duration(text)
                .map(Self::After)
                .map_err(|error| format!("{error}; or `exit`, or `quiet=30s`")),
        }
    }
}

/// Such as `10m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write for example 30s, 10m, 1h30m"))
}
