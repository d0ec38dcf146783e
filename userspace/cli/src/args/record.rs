//! `seccast record`.

use super::{
    generate::{EnteredArg, PolicyArgs},
    target::TargetArgs,
};
use clap::{ArgGroup, Args, ValueEnum};
use std::path::PathBuf;

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
  seccast record --pod 'shop/web-*' -c app --wait -o web.json
      on a node: wait for the next Pod of that Deployment, record its container `app` from the first instruction on
  seccast record --pod shop/web-5d4f-x2v -o profiles --for 10m
      record every container of a running Pod, each into files of its own in the folder `profiles`
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
    /// What is recorded, and how long
    #[command(flatten)]
    pub target: TargetArgs,
    /// Record every container that starts on this machine, until stopped; each gets its own files in DIR
    #[arg(long, group = "target", value_name = "DIR", conflicts_with_all = ["output", "observation", "pod_container"])]
    pub all: Option<PathBuf>,
    /// With a CMD that starts a container: leave the engine's filter on; what it denies is listed and not allowed
    #[arg(long, requires = "command", conflicts_with_all = ["container", "pod", "cgroup", "pid", "all"])]
    pub keep_filter: bool,
    /// What watches the calls; without it eBPF does, and for CMD ptrace where eBPF is refused
    #[arg(long, value_enum, value_name = "BACKEND")]
    pub backend: Option<BackendArg>,
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

/// What watches the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendArg {
    /// Programs in the kernel
    Ebpf,
    /// Two stops at each call of CMD: no privileges, and slow
    Ptrace,
}
