//! `seccast record`.

use super::generate::{EnteredArg, PolicyArgs};
use clap::{ArgGroup, Args, ValueEnum};
use seccast_recorder::command::User;
use std::{path::PathBuf, str::FromStr, time::Duration};

/// Record what a command, a process or a container calls.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("target").required(true).multiple(false),
    long_about = "\
Record what a command, a process or a container calls, and make a profile of it.

Needs root, or CAP_BPF and CAP_PERFMON with write access to a cgroup. Other processes of the machine hardly notice: a call
costs little more than under an empty tracepoint program. Without these, a command (-- CMD) is recorded by ptrace: each of its
calls then takes tens of microseconds longer.",
    after_long_help = "\
Examples:
  seccast record -o redis.json -- docker run --rm redis
      record the container that the command starts, in audit mode, from its first instruction to its end
  seccast record --container web --wait -o web.json
      wait for the container `web`, record it from its first instruction to its end, write web.json and web.report.json
  seccast record --user 1000:1000 -o sort.json -- sort /etc/passwd
      record a command
  seccast record --backend ptrace -o sort.json -- sort /etc/passwd
      record a command without privileges
  seccast record --container web --for 10m --observation web.observation.json
      record a running container for ten minutes; its start is missing, and the observation says so
  seccast record --cgroup /system.slice/nginx.service --until quiet=60s -o nginx.json
      record a service until it has called nothing new for a minute
  seccast record --all profiles
      record every container that starts on this machine until Ctrl-C, each into files of its own

The first Ctrl-C goes to CMD, and recording goes on until it has ended; a second one ends the recording at once. SIGUSR1 writes
the state so far.

Exit codes: 0 done; 1 incomplete; 2 usage; 3 could not, or --wait ran out; with CMD its own if it is not 0, and 125, 126, 127
when it could not be started, executed, found."
)]
pub struct RecordArgs {
    /// Run CMD in a cgroup of its own and record it from its execve on
    #[arg(last = true, group = "target", value_name = "CMD")]
    pub command: Vec<String>,
    /// Record a container of docker, podman, containerd, runc or crun by its name or id
    #[arg(long, group = "target", value_name = "NAME|ID")]
    pub container: Option<String>,
    /// Record every container that starts on this machine, until stopped; each gets its own files in DIR
    #[arg(long, group = "target", value_name = "DIR", conflicts_with_all = ["output", "observation"])]
    pub all: Option<PathBuf>,
    /// Record a cgroup and everything below it; PATH is below the cgroup2 mount
    #[arg(long, group = "target", value_name = "PATH")]
    pub cgroup: Option<String>,
    /// Record the cgroup of a running process
    #[arg(long, group = "target", value_name = "PID")]
    pub pid: Option<u32>,
    /// With --pid: record its cgroup although other processes live there
    #[arg(long, requires = "pid")]
    pub whole_cgroup: bool,
    /// With --container: wait for its next start, and record it from the first instruction
    #[arg(long, requires = "container", value_name = "D", num_args = 0..=1, require_equals = true, value_parser = duration)]
    #[expect(clippy::option_option, reason = "absent, without limit, with limit")]
    pub wait: Option<Option<Duration>>,
    /// With --container or --all: the engine that runs it, where its name is known to several or its socket is unusual
    #[arg(long, value_enum, conflicts_with_all = ["command", "cgroup", "pid"])]
    pub engine: Option<EngineArg>,
    /// With --engine: its local socket, if not the one that its client finds by itself
    #[arg(long, requires = "engine", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// With --container or --all: where runc or crun keeps its state, if not in a usual place
    #[arg(long, value_name = "DIR", conflicts_with_all = ["command", "cgroup", "pid"])]
    pub runtime_root: Option<PathBuf>,
    /// With a CMD that starts a container: leave the engine's filter on; what it denies is listed and not allowed
    #[arg(long, requires = "command")]
    pub keep_filter: bool,
    /// What watches the calls; without it eBPF does, and for CMD ptrace where eBPF is refused
    #[arg(long, value_enum, value_name = "BACKEND")]
    pub backend: Option<BackendArg>,
    /// Run CMD as this user
    #[arg(long, requires = "command", value_name = "UID[:GID]")]
    pub user: Option<User>,

    /// When to stop: `exit` (the target's end), a duration, `quiet=D` (nothing new for so long); may be repeated
    #[arg(long, value_name = "exit|D|quiet=D")]
    pub until: Vec<Until>,
    /// Stop after this long; the same as --until D
    #[arg(long = "for", value_name = "D", value_parser = duration)]
    pub for_: Option<Duration>,

    /// Write the profile here; `-` is stdout. Without -o and --observation it goes to NAME.seccomp.json
    #[arg(short, long, value_name = "PROFILE")]
    pub output: Option<PathBuf>,
    /// Write the observation here; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub observation: Option<PathBuf>,
    /// What processes count as that entered the target and executed nothing
    #[arg(long, value_enum, value_name = "PHASE")]
    pub entered: Option<EnteredArg>,
    /// Exit 0 although the recording is incomplete
    #[arg(long)]
    pub allow_incomplete: bool,
    /// No progress and no final line; `armed`, warnings and errors only
    #[arg(short, long)]
    pub quiet: bool,
    /// How the profile is made
    #[command(flatten)]
    pub policy: PolicyArgs,
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

/// What watches the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendArg {
    /// Programs in the kernel
    Ebpf,
    /// Two stops at each call of CMD: no privileges, and slow
    Ptrace,
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

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write for example 30s, 10m, 1h30m"))
}
