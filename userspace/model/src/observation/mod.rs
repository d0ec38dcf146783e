//! What a recording saw, before any decision: the durable artefact from which profiles are generated.

pub mod wire;

use crate::arch::Arch;
use crate::evidence::Evidence;
use crate::syscall::{self, Release};
use std::collections::{BTreeMap, BTreeSet};

pub use wire::ReadError;

/// Keys of a file that this version does not know; kept so that they survive a round trip.
pub type Extra = BTreeMap<String, serde_json::Value>;

/// The result of one recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// 128 random bits in hexadecimal: the same recording is the same id, however often its file is copied.
    pub recording_id: String,
    /// The version of seccast that recorded.
    pub tool_version: String,
    /// What watched the calls.
    pub backend: Backend,
    /// What was recorded.
    pub target: Target,
    /// What tells its life and its program from others; empty until recordings are joined, which takes their calls apart.
    pub life: Life,
    /// Where it ran.
    pub machine: Machine,
    /// Start of the recording, nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// End of the recording, nanoseconds since the Unix epoch.
    pub ended_ns: u64,
    /// Calls by ABI, phase and name.
    pub calls: BTreeMap<(Arch, Phase), BTreeMap<String, Sighting>>,
    /// Calls that an existing filter denied: an exit without an enter. Same form as `calls`.
    pub denied: BTreeMap<(Arch, Phase), BTreeMap<String, Sighting>>,
    /// Calls in which tasks were blocked when the recording attached: each is a call of the application.
    pub blocked_at_attach: BTreeMap<Arch, BTreeMap<String, Sighting>>,
    /// Numbers that the tables do not name.
    pub unknown: Vec<UnknownNr>,
    /// Calls or tasks that may have been missed, by reason (`seccast_common::Stat` names). Only reasons above zero.
    pub losses: BTreeMap<String, u64>,
    /// Explanations that were lost, of first sights and of arguments; costs no call.
    pub explanations_lost: u64,
    /// The recording began this many nanoseconds after the target's oldest process started; its start is missing.
    pub started_late_ns: Option<u64>,
    /// The target ran under a filter that it did not install itself; what the filter denied is in `denied`.
    pub filtered: bool,
    /// The application installed a filter of its own: what that denied was not seen.
    pub own_filter: bool,
    /// Processes that entered the target and never executed a program: moved in, restored.
    pub entered: Vec<EnteredProcess>,
    /// How many entered without an exec; `entered` names at most some of them.
    pub entered_count: u64,
    /// What the user said of `entered`: while `None` and `entered_count > 0`, the observation is incomplete.
    pub entered_as: Option<EnteredAs>,
    /// The target's bundle has startContainer hooks: the runtime forks them under the filter.
    pub start_container_hooks: bool,
    /// Programs that were executed without the privileges that their set-id bits or file capabilities give: who traces
    /// them has none to give away (`backend` ptrace). What they call with their privileges was not seen.
    pub unprivileged_exec: BTreeSet<String>,
    /// What is known of the run; `None` in files of seccast 0.1.0.
    pub evidence: Option<Evidence>,
    /// Fields of newer versions.
    pub extra: Extra,
}

impl Observation {
    /// A recording that has seen nothing, by this version.
    #[must_use]
    pub fn new(recording_id: String, backend: Backend, machine: Machine) -> Self {
        Self {
            recording_id,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            backend,
            target: Target::default(),
            life: Life::default(),
            machine,
            started_ns: 0,
            ended_ns: 0,
            calls: BTreeMap::new(),
            denied: BTreeMap::new(),
            blocked_at_attach: BTreeMap::new(),
            unknown: Vec::new(),
            losses: BTreeMap::new(),
            explanations_lost: 0,
            started_late_ns: None,
            filtered: false,
            own_filter: false,
            entered: Vec::new(),
            entered_count: 0,
            entered_as: None,
            start_container_hooks: false,
            unprivileged_exec: BTreeSet::new(),
            evidence: Some(Evidence::default()),
            extra: Extra::new(),
        }
    }
}

/// What watched the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// eBPF programs on the raw system call tracepoints.
    Ebpf,
    /// ptrace(2).
    Ptrace,
}

/// What was recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// The engine that runs the container: `docker`, `podman`, `containerd`; `None` where a runtime runs it alone.
    pub engine: Option<String>,
    /// The low-level runtime: `runc`, `crun`…, or `None` for a command, a process or a cgroup.
    pub runtime: Option<String>,
    /// The container's id.
    pub container_id: Option<String>,
    /// The container's name, where it has one beside its id.
    pub container_name: Option<String>,
    /// The image's reference.
    pub image: Option<String>,
    /// The image's digest.
    pub image_digest: Option<String>,
    /// The Pod that the container belongs to.
    pub pod: Option<Pod>,
    /// Path below the cgroup2 mount.
    pub cgroup_path: Option<String>,
    /// The command line, where seccast started it.
    pub command: Vec<String>,
    /// Fields of newer versions.
    pub extra: Extra,
}

/// What the calls of one recording tell of its target's life.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Life {
    /// The file name of the program that was the first to make most of the application's calls.
    pub program: Option<String>,
    /// The file names of all that were the first to make one, the first 64 by name.
    pub programs: BTreeSet<String>,
    /// Processes that were the first to make one of the application's calls, the 64 smallest ids in the recorder's pid namespace.
    pub pids: BTreeSet<u32>,
    /// The first call, nanoseconds since the start of the recording.
    pub first_ns: Option<u64>,
    /// Fields of newer versions.
    pub extra: Extra,
}

/// A Pod of Kubernetes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid; of a static Pod the hash of its file.
    pub uid: Option<String>,
    /// Its labels; empty where they are not known.
    pub labels: BTreeMap<String, String>,
    /// Fields of newer versions.
    pub extra: Extra,
}

/// Where a recording ran.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// `uname -r`.
    pub kernel: String,
    /// The machine's native ABI.
    pub arch: Arch,
    /// The target's C library with its version, where it could be told.
    pub libc: Option<String>,
    /// Fields of newer versions.
    pub extra: Extra,
}

impl Machine {
    /// Whether this call passes every filter on this machine ([`syscall::unfiltered_since`]); not, where its kernel cannot be told.
    #[must_use]
    pub fn is_unfiltered(&self, arch: Arch, name: &str) -> bool {
        let since = syscall::unfiltered_since(arch, name);
        since.is_some_and(|since| {
            Release::of_kernel(&self.kernel).is_some_and(|kernel| kernel >= since)
        })
    }
}

/// The part of a container's life that a call belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The container runtime's own calls, before the exec that starts the application: never in a profile.
    Runtime,
    /// A createContainer hook of the bundle: runs before the filter, never in a profile.
    Hook,
    /// The application.
    App,
    /// Processes that entered after the application started: `exec`, probes.
    Exec,
    /// Processes that entered and executed nothing (see [`Observation::entered`]).
    Entered,
}

impl Phase {
    /// Every phase, in the order of a container's life.
    pub const ALL: [Self; 5] = [
        Self::Runtime,
        Self::Hook,
        Self::App,
        Self::Exec,
        Self::Entered,
    ];

    /// The name used in observation files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Runtime => "runtime",
            Self::Hook => "hook",
            Self::App => "app",
            Self::Exec => "exec",
            Self::Entered => "entered",
        }
    }

    /// The inverse of [`Phase::name`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name)
    }
}

/// When and by whom a call was first seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sighting {
    /// Nanoseconds since the start of the recording; `None` when the explanation was lost.
    pub first_ns: Option<u64>,
    /// Who made it.
    pub caller: Option<Caller>,
    /// The values of its arguments, for the few calls that have them recorded.
    pub arguments: Option<Arguments>,
    /// Fields of newer versions.
    pub extra: Extra,
}

/// Distinct values of scalar arguments, masked to what the kernel reads of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arguments {
    /// Which arguments, 0 to 5.
    pub indices: Vec<u32>,
    /// Each as long as `indices`.
    pub values: BTreeSet<Vec<u32>>,
    /// There were more than are kept: nothing can be concluded from their absence.
    pub overflow: bool,
    /// Fields of newer versions.
    pub extra: Extra,
}

/// The process that first made a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Caller {
    /// Process id in the recorder's pid namespace.
    pub pid: u32,
    /// The task's name, at most 15 bytes.
    pub comm: String,
    /// The file name given to the execve that started the program, or its executable.
    pub exe: Option<String>,
    /// Fields of newer versions.
    pub extra: Extra,
}

/// A number without a name.
#[derive(Clone, Debug, PartialEq)]
pub struct UnknownNr {
    /// The ABI that it was called by.
    pub arch: Arch,
    /// The phase of the first such call.
    pub phase: Phase,
    /// The number as a signed 64-bit value: -1 is -1.
    pub nr: i64,
    /// Calls counted; `None` where only "at least one" is known.
    pub count: Option<u64>,
    /// When and by whom.
    pub first: Sighting,
}

/// A process that entered the target and never executed a program.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EnteredProcess {
    /// Process id in the recorder's pid namespace.
    pub pid: u32,
    /// The task's name.
    pub comm: String,
    /// Fields of newer versions.
    pub extra: Extra,
}

/// What processes that entered without an exec are to count as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnteredAs {
    /// The application: their calls are in the profile.
    App,
    /// The runtime: their calls are not.
    Runtime,
}
