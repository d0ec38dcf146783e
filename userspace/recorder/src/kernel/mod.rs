//! The eBPF object in the kernel. Nothing else of the recorder touches aya.
//!
//! `load` fits the object to the running kernel and loads it, `attach` puts its programs on their hooks, `maps` reads and
//! writes its maps by type (`slots` are those whose entries belong to slots, `word` is the one that is mapped), `events` reads
//! its ring buffer.

mod attach;
mod events;
mod load;
mod maps;
mod slots;
mod word;

pub use attach::LIFECYCLE;
pub use events::Event;
pub use load::{globals, object};

use crate::{btf::BtfError, proc};
use aya::{
    Btf, Ebpf, EbpfError,
    maps::{Array, HashMap, MapData, MapError, PerCpuArray, Queue, RingBuf},
    programs::{ProgramError, raw_trace_point::RawTracePointLinkId},
};
use maps::Value;
use seccast_common::{self as common, BLOCK, Slot};
use slots::SlotMaps;
use std::{error::Error, io};
use word::Word;

/// Why the kernel could not be made to record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// Built with `SECCAST_SKIP_EBPF=1`.
    #[error(
        "this seccast was built without its eBPF object (SECCAST_SKIP_EBPF=1); run `cargo xtask setup` and build again"
    )]
    NoObject,
    /// BPF is refused.
    #[error(
        "not allowed to load eBPF programs: {why}; run as root, for example with sudo, or see `seccast doctor`"
    )]
    NoPrivilege {
        /// What is missing.
        why: String,
        /// What the kernel refused: it says no more than EPERM.
        refused: Box<dyn Error + Send + Sync>,
    },
    /// No BTF, or not what is needed of it.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The object does not load.
    #[error("cannot load the eBPF object")]
    Load(#[source] Box<EbpfError>),
    /// A program does not load or attach.
    #[error("cannot {action} the eBPF program {program}")]
    Program {
        /// `load` or `attach`.
        action: &'static str,
        /// Its name.
        program: &'static str,
        /// Why; holds the verifier's log.
        #[source]
        source: Box<ProgramError>,
    },
    /// A map could not be read or written.
    #[error("cannot use the eBPF map {map}")]
    Map {
        /// Its name.
        map: &'static str,
        /// Why.
        #[source]
        source: Box<MapError>,
    },
    /// The object lacks something that this code expects.
    #[error("the eBPF object has no {name}")]
    Foreign {
        /// What is missing.
        name: &'static str,
    },
    /// Every slot is taken.
    #[error("no free slot for another recording")]
    NoSlot,
    /// A system call failed.
    #[error("{action} failed")]
    Io {
        /// What.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl KernelError {
    /// The error and its causes on one line; of a verifier's log what it ends with, which is what it refused.
    #[must_use]
    pub fn brief(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(inner) = source {
            source = inner.source();
            let part = match inner.downcast_ref::<Box<ProgramError>>().map(AsRef::as_ref) {
                Some(ProgramError::LoadError {
                    io_error,
                    verifier_log,
                }) => {
                    source = None;
                    let log = verifier_log.to_string();
                    match refusal(&log) {
                        Some(line) => format!("{io_error}: {line}"),
                        None => io_error.to_string(),
                    }
                }
                _ => inner.to_string(),
            };
            text = format!("{text}: {}", part.lines().next().unwrap_or_default());
        }
        text
    }
}

/// The last line of a verifier's log that is not statistics.
fn refusal(log: &str) -> Option<&str> {
    let statistics = ["processed ", "verification time ", "stack depth "];
    log.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !statistics.iter().any(|word| line.starts_with(word)))
}

/// Which form of `sys_enter` is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// tp_btf with direct loads and a per-CPU cache (5.11+ with BTF).
    Fast,
    /// raw_tp with probe_read, no cache.
    Raw,
}

/// Index of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub u32);

/// The loaded object.
pub struct Kernel {
    ebpf: Ebpf,
    btf: Option<Btf>,
    form: Form,
    /// Why it is not [`Form::Fast`].
    slow: Option<String>,
    keys: HashMap<MapData, u64, Value<common::Cgroup>>,
    of_slots: SlotMaps,
    slots: Array<MapData, Value<Slot>>,
    free: Queue<MapData, u32>,
    blocks: Array<MapData, Value<[u8; BLOCK]>>,
    watching: Array<MapData, u32>,
    inside: HashMap<MapData, u32, u32>,
    made: HashMap<MapData, u64, u32>,
    record_new: Array<MapData, u32>,
    deep: Array<MapData, u32>,
    stats: PerCpuArray<MapData, u64>,
    events: RingBuf<MapData>,
    generation: Word,
    mkdir_link: Option<RawTracePointLinkId>,
    denials: Option<[RawTracePointLinkId; 2]>,
    #[cfg(feature = "log")]
    logger: Option<aya_log::EbpfLogger<&'static dyn log::Log>>,
}

impl Kernel {
    /// Loads the object with room for `slots` recordings and attaches what every recording needs.
    ///
    /// # Errors
    /// When BPF is refused, the kernel has no BTF, or a program does not load.
    pub fn load(slots: u32) -> Result<Self, KernelError> {
        let mut kernel = Self::open(slots)?;
        kernel.attach()?;
        Ok(kernel)
    }

    /// Which form of `sys_enter` this kernel took.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// Why this kernel did not take [`Form::Fast`], on one line.
    #[must_use]
    pub fn slow(&self) -> Option<&str> {
        self.slow.as_deref()
    }
}

fn map_error(map: &'static str, source: MapError) -> KernelError {
    KernelError::Map {
        map,
        source: Box::new(source),
    }
}

fn program_error(action: &'static str, program: &'static str, source: ProgramError) -> KernelError {
    // Maps need CAP_BPF alone: without CAP_PERFMON it is a program that is refused.
    if is_eperm(&source) && !missing_capabilities().is_empty() {
        return no_privilege(source);
    }
    KernelError::Program {
        action,
        program,
        source: Box::new(source),
    }
}

fn is_eperm(error: &(dyn Error + 'static)) -> bool {
    is(error, libc::EPERM)
}

/// A tracepoint that this kernel does not have.
fn is_missing(error: &(dyn Error + 'static)) -> bool {
    is(error, libc::ENOENT)
}

fn is(error: &(dyn Error + 'static), code: i32) -> bool {
    let own = error.downcast_ref::<io::Error>();
    own.is_some_and(|io| io.raw_os_error() == Some(code))
        || error.source().is_some_and(|source| is(source, code))
}

fn no_privilege(refused: impl Error + Send + Sync + 'static) -> KernelError {
    let why = match missing_capabilities().as_slice() {
        [] => "the capabilities are there, but a user namespace, a lockdown or a security module refuses".to_owned(),
        [one] => format!("CAP_{one} is missing"),
        all => format!("CAP_{} are missing (CAP_SYS_ADMIN before Linux 5.8)", all.join(" and CAP_")),
    };
    KernelError::NoPrivilege {
        why,
        refused: Box::new(refused),
    }
}

/// Which capabilities this process lacks for loading and attaching the programs: `BPF`, `PERFMON`, both or none.
#[must_use]
pub fn missing_capabilities() -> Vec<&'static str> {
    // linux/capability.h; CAP_SYS_ADMIN has what the two were taken from.
    const SYS_ADMIN: u32 = 21;
    const NEEDED: [(u32, &str); 2] = [(39, "BPF"), (38, "PERFMON")];
    if proc::has_capability(SYS_ADMIN) {
        return Vec::new();
    }
    let missing = NEEDED
        .iter()
        .filter(|(number, _)| !proc::has_capability(*number));
    missing.map(|(_, name)| *name).collect()
}
