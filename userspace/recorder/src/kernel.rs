//! The eBPF object in the kernel: load, attach, and the maps, typed. Nothing else of the recorder touches aya.

use crate::btf::{BtfError, KernelBtf, VMLINUX};
use aya::{
    Btf, Ebpf, EbpfError, EbpfLoader, Endianness, Pod, include_bytes_aligned,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, Queue, RingBuf},
    programs::{
        BtfTracePoint, Iter, ProgramError, RawTracePoint, raw_trace_point::RawTracePointLinkId,
    },
};
use seccast_common::{
    self as common, ArgumentCall, ArgumentKey, ArgumentRule, BLOCK, Blocked, Counted, DeniedKey,
    Ended, Entered, Made, PHASES, Process, Sighting, Slot, Stat, Text, UnknownKey, event,
};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/seccast.o"));

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
        "not allowed to load eBPF programs: CAP_BPF and CAP_PERFMON are missing (CAP_SYS_ADMIN before Linux 5.8); run as root, for example with sudo"
    )]
    NoPrivilege(Box<EbpfError>),
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

/// Which form of `sys_enter` is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// tp_btf with direct loads and a per-CPU cache (5.11+ with BTF).
    Fast,
    /// raw_tp with probe_read, no cache.
    Raw,
}

/// A `#[repr(C)]` value of the contract.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Value<T>(T);

// SAFETY: only used for the types of `seccast_common`, which are `#[repr(C)]`, of integers, and without padding.
unsafe impl<T: Copy + 'static> Pod for Value<T> {}

/// One message of the ring buffer.
#[derive(Clone, Debug)]
pub enum Event {
    /// A number's first call.
    Sighting(Sighting),
    /// A program was executed.
    Exec(Text),
    /// A cgroup was made.
    Mkdir(Box<Made>),
}

/// Index of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub u32);

/// The loaded object.
pub struct Kernel {
    ebpf: Ebpf,
    btf: Option<Btf>,
    form: Form,
    keys: HashMap<MapData, u64, Value<common::Cgroup>>,
    tasks: HashMap<MapData, u32, Value<Process>>,
    entered: HashMap<MapData, u64, Value<Entered>>,
    ended: HashMap<MapData, u64, Value<Ended>>,
    slots: Array<MapData, Value<Slot>>,
    free: Queue<MapData, u32>,
    blocks: Array<MapData, Value<[u8; BLOCK]>>,
    unknown: HashMap<MapData, Value<UnknownKey>, Value<Counted>>,
    denied: HashMap<MapData, Value<DeniedKey>, Value<Counted>>,
    made: HashMap<MapData, u64, u32>,
    args: HashMap<MapData, Value<ArgumentKey>, u32>,
    arg_counts: HashMap<MapData, Value<ArgumentCall>, u32>,
    record_new: Array<MapData, u32>,
    stats: PerCpuArray<MapData, u64>,
    events: RingBuf<MapData>,
    generation: Word,
    mkdir_link: Option<RawTracePointLinkId>,
    denials: Option<[RawTracePointLinkId; 2]>,
    #[cfg(feature = "log")]
    logger: Option<aya_log::EbpfLogger<&'static dyn log::Log>>,
}

/// BPF_NOEXIST of linux/bpf.h.
const BPF_NOEXIST: u64 = 1;

/// BTF types that programs are attached by: kind (typedef, function) and name.
const HOOKS: &[(u32, &str)] = &[(8, "btf_trace_sys_enter"), (12, "bpf_iter_task")];

/// Every offset that the programs follow: global, structure, members. The first member that exists is taken.
const OFFSETS: &[(&str, &str, &[&str])] = &[
    ("TASK_START_TIME", "task_struct", &["start_time"]),
    ("TASK_SELF_EXEC_ID", "task_struct", &["self_exec_id"]),
    ("TASK_CGROUPS", "task_struct", &["cgroups"]),
    ("TASK_NSPROXY", "task_struct", &["nsproxy"]),
    ("TASK_REAL_PARENT", "task_struct", &["real_parent"]),
    ("TASK_PID", "task_struct", &["pid"]),
    ("TASK_TGID", "task_struct", &["tgid"]),
    ("TASK_COMM", "task_struct", &["comm"]),
    ("TASK_SIGNAL", "task_struct", &["signal"]),
    ("TASK_MM", "task_struct", &["mm"]),
    ("MM_ARG_START", "mm_struct", &["arg_start"]),
    ("MM_ARG_END", "mm_struct", &["arg_end"]),
    (
        "TASK_FILTERS",
        "task_struct",
        &["seccomp.filter_count", "seccomp.mode"],
    ),
    ("SIGNAL_LIVE", "signal_struct", &["live"]),
    ("NSPROXY_MNT_NS", "nsproxy", &["mnt_ns"]),
    ("BINPRM_FILENAME", "linux_binprm", &["filename"]),
    ("CGROUP_KN", "cgroup", &["kn"]),
    ("CGROUP_ROOT", "cgroup", &["root"]),
    ("CGROUP_ROOT_HIERARCHY_ID", "cgroup_root", &["hierarchy_id"]),
    ("CSS_SET_DFL_CGRP", "css_set", &["dfl_cgrp"]),
    ("KERNFS_NODE_ID", "kernfs_node", &["id"]),
    #[cfg(target_arch = "x86_64")]
    ("TASK_STATUS", "task_struct", &["thread_info.status"]),
    #[cfg(target_arch = "x86_64")]
    ("REGS_NR", "pt_regs", &["orig_ax"]),
    #[cfg(target_arch = "aarch64")]
    ("REGS_NR", "pt_regs", &["syscallno"]),
];

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

    /// Attaches what every recording needs.
    ///
    /// # Errors
    /// When a program does not load or attach.
    pub fn attach(&mut self) -> Result<(), KernelError> {
        for (program, tracepoint) in LIFECYCLE {
            self.attach_raw(program, tracepoint)?;
        }
        self.attach_sys_enter()
    }

    /// Loads the object with room for `slots` recordings; nothing is attached.
    ///
    /// # Errors
    /// When BPF is refused or the kernel has no BTF.
    pub fn open(slots: u32) -> Result<Self, KernelError> {
        if OBJECT.is_empty() {
            return Err(KernelError::NoObject);
        }
        // Kernels before 5.11 charge maps to this limit; where it cannot be raised, newer ones do not need it.
        let unlimited = libc::rlimit {
            rlim_cur: libc::RLIM_INFINITY,
            rlim_max: libc::RLIM_INFINITY,
        };
        // SAFETY: a valid pointer to a local.
        let _ = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) };

        // aya's loader reads the kernel's BTF when it is made, wanted or not: that takes longest.
        let (mut loader, (btf, offsets)) = std::thread::scope(|scope| {
            let own = scope.spawn(|| -> Result<_, BtfError> {
                let bytes = vmlinux()?;
                let btf = KernelBtf::parse(&bytes)?;
                let hooks = btf.only(HOOKS);
                Ok((
                    Btf::parse(&hooks, Endianness::default()).ok(),
                    offsets(&btf)?,
                ))
            });
            let mut loader = EbpfLoader::new();
            // The object has no relocations against it.
            loader.btf(None);
            let own = own.join().unwrap_or(Err(BtfError::Malformed { at: 0 }))?;
            Ok::<_, BtfError>((loader, own))
        })?;
        loader.override_global("ARCH", &ARCH, true);
        loader
            .map_max_entries("SLOT", slots)
            .map_max_entries("FREE", slots)
            .map_max_entries("BLOCKS", slots * PHASES);
        for (global, offset) in &offsets {
            loader.override_global(global, offset, true);
        }
        let mut ebpf = loader.load(OBJECT).map_err(refused)?;
        drop(loader);
        let mut kernel = Self {
            form: Form::Raw,
            keys: take(&mut ebpf, "KEYS")?,
            tasks: take(&mut ebpf, "TASKS")?,
            entered: take(&mut ebpf, "ENTERED")?,
            ended: take(&mut ebpf, "ENDED")?,
            slots: take(&mut ebpf, "SLOT")?,
            free: take(&mut ebpf, "FREE")?,
            blocks: take(&mut ebpf, "BLOCKS")?,
            unknown: take(&mut ebpf, "UNKNOWN")?,
            denied: take(&mut ebpf, "DENIED")?,
            made: take(&mut ebpf, "MADE")?,
            args: take(&mut ebpf, "ARGS")?,
            arg_counts: take(&mut ebpf, "ARG_COUNTS")?,
            record_new: take(&mut ebpf, "RECORD_NEW")?,
            stats: take(&mut ebpf, "STATS")?,
            events: take(&mut ebpf, "EVENTS")?,
            generation: Word::map(&mut ebpf, "GENERATION")?,
            mkdir_link: None,
            denials: None,
            #[cfg(feature = "log")]
            logger: aya_log::EbpfLogger::init(&mut ebpf).ok(),
            ebpf,
            btf,
        };
        for slot in 0..slots {
            kernel
                .free
                .push(slot, 0)
                .map_err(|source| map_error("FREE", source))?;
        }
        Ok(kernel)
    }

    fn attach_sys_enter(&mut self) -> Result<(), KernelError> {
        if let Some(btf) = &self.btf {
            let program: &mut BtfTracePoint = program(&mut self.ebpf, "sys_enter")?;
            if program.load("sys_enter", btf).is_ok() {
                program
                    .attach()
                    .map_err(|source| program_error("attach", "sys_enter", source))?;
                self.form = Form::Fast;
                return Ok(());
            }
        }
        self.attach_raw("sys_enter_raw", "sys_enter")?;
        Ok(())
    }

    fn attach_raw(
        &mut self,
        name: &'static str,
        tracepoint: &str,
    ) -> Result<RawTracePointLinkId, KernelError> {
        let program: &mut RawTracePoint = program(&mut self.ebpf, name)?;
        if program.fd().is_err() {
            program
                .load()
                .map_err(|source| program_error("load", name, source))?;
        }
        program
            .attach(tracepoint)
            .map_err(|source| program_error("attach", name, source))
    }

    fn detach_raw(
        &mut self,
        name: &'static str,
        link: RawTracePointLinkId,
    ) -> Result<(), KernelError> {
        let program: &mut RawTracePoint = program(&mut self.ebpf, name)?;
        program
            .detach(link)
            .map_err(|source| program_error("detach", name, source))
    }

    /// Sets which calls have their arguments recorded: rules, and for each its positions in a block.
    ///
    /// # Errors
    /// When a map refuses or there are too many rules.
    pub fn record_arguments(
        &mut self,
        rules: &[(ArgumentRule, Vec<usize>)],
    ) -> Result<(), KernelError> {
        let mut calls = [0; BLOCK];
        let mut map: Array<_, Value<ArgumentRule>> = borrow(&mut self.ebpf, "ARG_RULES")?;
        for ((rule, positions), index) in rules.iter().zip(0u8..) {
            map.set(u32::from(index), Value(*rule), 0)
                .map_err(|source| map_error("ARG_RULES", source))?;
            for position in positions {
                calls[*position] = index + 1;
            }
        }
        let mut map: Array<_, Value<[u8; BLOCK]>> = borrow(&mut self.ebpf, "ARG_CALLS")?;
        map.set(0, Value(calls), 0)
            .map_err(|source| map_error("ARG_CALLS", source))
    }

    /// Values of recorded arguments, with how many each call has (more than the cap: some are missing).
    #[must_use]
    pub fn arguments(&self, slot: SlotId) -> Vec<(ArgumentCall, Vec<u64>, u32)> {
        let mut calls: BTreeMap<_, (Vec<u64>, u32)> = BTreeMap::new();
        let key = |call: &ArgumentCall| (call.abi_phase, call.nr);
        for (call, count) in self
            .arg_counts
            .iter()
            .flatten()
            .filter(|(call, _)| call.0.slot == slot.0)
        {
            calls.entry(key(&call.0)).or_default().1 = count;
        }
        for argument in self
            .args
            .keys()
            .flatten()
            .filter(|argument| argument.0.call.slot == slot.0)
        {
            calls
                .entry(key(&argument.0.call))
                .or_default()
                .0
                .push(argument.0.value);
        }
        let call = |(abi_phase, nr)| ArgumentCall {
            slot: slot.0,
            abi_phase,
            nr,
            pad: 0,
        };
        calls
            .into_iter()
            .map(|(key, (values, count))| (call(key), values, count))
            .collect()
    }

    /// Which form of `sys_enter` this kernel took.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// Takes a free slot; nothing is recorded into it yet.
    ///
    /// # Errors
    /// When no slot is free.
    pub fn reserve(&mut self, flags: u32) -> Result<SlotId, KernelError> {
        let slot = self.free.pop(0).map_err(|_| KernelError::NoSlot)?;
        self.slots
            .set(slot, Value(Slot { flags, starts: 0 }), 0)
            .map_err(|source| map_error("SLOT", source))?;
        Ok(SlotId(slot))
    }

    /// Records a cgroup and everything below it into a slot, from this instant.
    ///
    /// # Errors
    /// When the map is full.
    pub fn watch(&mut self, slot: SlotId, cgroup: u64, started: bool) -> Result<(), KernelError> {
        let entry = common::Cgroup {
            slot: slot.0,
            started: u32::from(started),
        };
        self.keys
            .insert(cgroup, Value(entry), 0)
            .map_err(|source| map_error("KEYS", source))?;
        self.generation.bump();
        Ok(())
    }

    /// The same, unless the cgroup is recorded already: then its slot stays.
    ///
    /// # Errors
    /// When the map is full.
    pub fn watch_unless_recorded(&mut self, slot: SlotId, cgroup: u64) -> Result<(), KernelError> {
        let entry = common::Cgroup {
            slot: slot.0,
            started: 0,
        };
        match self.keys.insert(cgroup, Value(entry), BPF_NOEXIST) {
            Ok(()) => {
                self.generation.bump();
                Ok(())
            }
            Err(MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::EEXIST) =>
            {
                Ok(())
            }
            Err(source) => Err(map_error("KEYS", source)),
        }
    }

    /// Stops recording the given cgroups, empties the slot and gives it back.
    ///
    /// # Errors
    /// When a map refuses.
    pub fn release(&mut self, slot: SlotId) -> Result<(), KernelError> {
        for (id, _) in self.cgroups(slot) {
            let ignored = common::Cgroup {
                slot: common::NO_SLOT,
                started: 0,
            };
            self.keys
                .insert(id, Value(ignored), 0)
                .map_err(|source| map_error("KEYS", source))?;
        }
        self.generation.bump();
        self.settle();
        self.clear(slot)?;
        self.slots
            .set(slot.0, Value(Slot::default()), 0)
            .map_err(|source| map_error("SLOT", source))?;
        self.free
            .push(slot.0, 0)
            .map_err(|source| map_error("FREE", source))
    }

    /// Forgets the calls of a slot; what it watches stays.
    ///
    /// # Errors
    /// When a map refuses.
    pub fn clear(&mut self, slot: SlotId) -> Result<(), KernelError> {
        for phase in 0..PHASES {
            self.blocks
                .set(slot.0 * PHASES + phase, Value([0; BLOCK]), 0)
                .map_err(|source| map_error("BLOCKS", source))?;
        }
        purge(&mut self.unknown, |key, _| key.0.slot == slot.0);
        purge(&mut self.denied, |key, _| key.0.slot == slot.0);
        purge(&mut self.args, |key, _| key.0.call.slot == slot.0);
        purge(&mut self.arg_counts, |key, _| key.0.slot == slot.0);
        purge(&mut self.entered, |_, value| value.0.slot == slot.0);
        purge(&mut self.ended, |_, value| value.0.slot == slot.0);
        Ok(())
    }

    /// Waits until no program runs that began before.
    fn settle(&self) {
        // SAFETY: no memory is passed. MEMBARRIER_CMD_GLOBAL waits for an RCU grace period (4.3+).
        let _ = unsafe { libc::syscall(libc::SYS_membarrier, 1, 0, 0) };
    }

    /// Counts an existing cgroup as new: for one that was made before anything ran in it.
    ///
    /// # Errors
    /// When the map refuses.
    pub fn count_as_new(&mut self, cgroup: u64) -> Result<(), KernelError> {
        self.made
            .insert(cgroup, 1, 0)
            .map_err(|source| map_error("MADE", source))?;
        self.generation.bump();
        Ok(())
    }

    /// A cgroup that is gone, or that nobody waits for, is new no more.
    pub fn count_as_old(&mut self, cgroup: u64) {
        let _ = self.made.remove(&cgroup);
    }

    /// From now on every new cgroup gets a slot of its own at its first call.
    ///
    /// # Errors
    /// When the program does not attach.
    pub fn record_new(&mut self, on: bool) -> Result<(), KernelError> {
        match (on, self.mkdir_link.take()) {
            (true, None) => {
                self.mkdir_link = Some(self.attach_raw("cgroup_mkdir", "cgroup_mkdir")?)
            }
            (true, link) => self.mkdir_link = link,
            (false, Some(link)) => self.detach_raw("cgroup_mkdir", link)?,
            (false, None) => {}
        }
        self.record_new
            .set(0, u32::from(on), 0)
            .map_err(|source| map_error("RECORD_NEW", source))?;
        self.generation.bump();
        self.settle();
        Ok(())
    }

    /// Attaches or detaches what finds denied calls: exits without an enter. A call that a thread is in already is not
    /// judged.
    ///
    /// # Errors
    /// When a program does not attach.
    pub fn watch_denials(&mut self, on: bool) -> Result<(), KernelError> {
        match (on, self.denials.take()) {
            (true, None) => {
                let enter = self.attach_raw("inside", "sys_enter")?;
                let exit = self.attach_raw("sys_exit", "sys_exit")?;
                self.denials = Some([enter, exit]);
            }
            (true, links) => self.denials = links,
            (false, Some([enter, exit])) => {
                self.detach_raw("sys_exit", exit)?;
                self.detach_raw("inside", enter)?;
            }
            (false, None) => {}
        }
        Ok(())
    }

    /// Gives a process a phase, as if it had been seen.
    ///
    /// # Errors
    /// When the map is full.
    pub fn set_process(&mut self, tgid: u32, process: Process) -> Result<(), KernelError> {
        self.tasks
            .insert(tgid, Value(process), 0)
            .map_err(|source| map_error("TASKS", source))
    }

    /// What every task is blocked in, by the `tasks` iterator.
    ///
    /// # Errors
    /// When the kernel has no such iterator (5.8, 5.15 for registers).
    pub fn blocked(&mut self) -> Result<Vec<Blocked>, KernelError> {
        let btf = self
            .btf
            .as_ref()
            .ok_or(KernelError::Foreign { name: "BTF" })?;
        let program: &mut Iter = program(&mut self.ebpf, "tasks")?;
        if program.fd().is_err() {
            program
                .load("task", btf)
                .map_err(|source| program_error("load", "tasks", source))?;
        }
        let link = program
            .attach()
            .map_err(|source| program_error("attach", "tasks", source))?;
        let link = program
            .take_link(link)
            .map_err(|source| program_error("attach", "tasks", source))?;
        let io = |source| KernelError::Io {
            action: "reading the tasks iterator",
            source,
        };
        let mut file = link
            .into_file()
            .map_err(|error| io(io::Error::other(error)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        Ok(bytes
            .chunks_exact(size_of::<Blocked>())
            .map(value)
            .collect())
    }

    /// The cgroups of a slot, with whether something started there.
    #[must_use]
    pub fn cgroups(&self, slot: SlotId) -> Vec<(u64, bool)> {
        self.keys
            .iter()
            .flatten()
            .filter(|(_, value)| value.0.slot == slot.0)
            .map(|(id, value)| (id, value.0.started != 0))
            .collect()
    }

    /// Every recorded cgroup with its slot.
    #[must_use]
    pub fn recorded(&self) -> Vec<(u64, SlotId)> {
        self.keys
            .iter()
            .flatten()
            .filter(|(_, value)| value.0.slot != common::NO_SLOT)
            .map(|(id, value)| (id, SlotId(value.0.slot)))
            .collect()
    }

    /// A slot's flags and starts.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn slot(&self, slot: SlotId) -> Result<Slot, KernelError> {
        self.slots
            .get(&slot.0, 0)
            .map(|value| value.0)
            .map_err(|source| map_error("SLOT", source))
    }

    /// The bytes of one phase.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn block(&self, slot: SlotId, phase: u32) -> Result<[u8; BLOCK], KernelError> {
        self.blocks
            .get(&(slot.0 * PHASES + phase), 0)
            .map(|value| value.0)
            .map_err(|source| map_error("BLOCKS", source))
    }

    /// Numbers out of range.
    #[must_use]
    pub fn unknown(&self, slot: SlotId) -> Vec<(UnknownKey, Counted)> {
        self.unknown
            .iter()
            .flatten()
            .map(|(key, value)| (key.0, value.0))
            .filter(|(key, _)| key.slot == slot.0)
            .collect()
    }

    /// Denied calls.
    #[must_use]
    pub fn denied(&self, slot: SlotId) -> Vec<(DeniedKey, Counted)> {
        self.denied
            .iter()
            .flatten()
            .map(|(key, value)| (key.0, value.0))
            .filter(|(key, _)| key.slot == slot.0)
            .collect()
    }

    /// Processes that entered and of whose line nobody has executed anything.
    #[must_use]
    pub fn entered(&self, slot: SlotId) -> Vec<Entered> {
        self.entered
            .iter()
            .flatten()
            .map(|(_, value)| value.0)
            .filter(|entered| entered.slot == slot.0)
            .collect()
    }

    /// Lines that ended without executing anything; their calls are in the block of [`common::phase::UNDECIDED`].
    #[must_use]
    pub fn ended(&self, slot: SlotId) -> Vec<Ended> {
        self.ended
            .iter()
            .flatten()
            .map(|(_, value)| value.0)
            .filter(|ended| ended.slot == slot.0)
            .collect()
    }

    /// A counter, summed over CPUs.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn stat(&self, stat: Stat) -> Result<u64, KernelError> {
        let values = self
            .stats
            .get(&(stat as u32), 0)
            .map_err(|source| map_error("STATS", source))?;
        Ok(values.iter().sum())
    }

    /// Runs that the kernel skipped because the program was running on that CPU already (5.12+), over all programs.
    /// aya 0.14 does not expose the figure; fdinfo does.
    #[must_use]
    pub fn recursion_misses(&self) -> u64 {
        let fds = self
            .ebpf
            .programs()
            .filter_map(|(_, program)| program.fd().ok());
        let misses = |fd: &aya::programs::ProgramFd| {
            let info =
                fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd())).ok()?;
            info.lines()
                .find_map(|line| line.strip_prefix("recursion_misses:"))?
                .trim()
                .parse::<u64>()
                .ok()
        };
        fds.filter_map(misses).sum()
    }

    /// Instructions that the verifier saw in each loaded program (5.16+).
    #[must_use]
    pub fn verified_instructions(&self) -> Vec<(String, u32)> {
        let count = |(name, program): (&str, &aya::programs::Program)| {
            Some((
                name.to_owned(),
                program.info().ok()?.verified_instruction_count()?,
            ))
        };
        self.ebpf.programs().filter_map(count).collect()
    }

    /// Readable when there are events.
    #[must_use]
    pub fn events_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring buffer lives as long as `self`.
        unsafe { BorrowedFd::borrow_raw(self.events.as_raw_fd()) }
    }

    /// The next event.
    pub fn next_event(&mut self) -> Option<Event> {
        #[cfg(feature = "log")]
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        loop {
            let item = self.events.next()?;
            let bytes: &[u8] = &item;
            let kind = bytes
                .get(..4)
                .and_then(|four| four.try_into().ok())
                .map_or(0, u32::from_ne_bytes);
            let fits = |size| bytes.len() >= size;
            match kind {
                event::SIGHTING if fits(size_of::<Sighting>()) => {
                    return Some(Event::Sighting(value(bytes)));
                }
                event::EXEC if fits(size_of::<Text>()) => return Some(Event::Exec(value(bytes))),
                event::MKDIR if fits(size_of::<Made>()) => {
                    return Some(Event::Mkdir(Box::new(value(bytes))));
                }
                _ => {}
            }
        }
    }
}

/// The eBPF object, for another loader; empty if it was left out of the build.
#[must_use]
pub fn object() -> &'static [u8] {
    OBJECT
}

/// The globals that a loader sets in the object's .rodata on this kernel, each four bytes.
///
/// # Errors
/// When the kernel has no BTF or lacks a member.
pub fn globals() -> Result<Vec<(&'static str, u32)>, BtfError> {
    let bytes = vmlinux()?;
    let mut globals = offsets(&KernelBtf::parse(&bytes)?)?;
    globals.push(("ARCH", ARCH));
    Ok(globals)
}

fn vmlinux() -> Result<Vec<u8>, BtfError> {
    fs::read(VMLINUX).map_err(|source| BtfError::Read {
        path: VMLINUX.to_owned(),
        source,
    })
}

/// The global of the same name: 0 on x86, 1 on arm64.
const ARCH: u32 = if cfg!(target_arch = "aarch64") { 1 } else { 0 };

/// Program and tracepoint of what every recording needs.
pub const LIFECYCLE: [(&str, &str); 4] = [
    ("cgroup_attach", "cgroup_attach_task"),
    ("process_fork", "sched_process_fork"),
    ("process_exec", "sched_process_exec"),
    ("process_exit", "sched_process_exit"),
];

fn offsets(btf: &KernelBtf) -> Result<Vec<(&'static str, u32)>, BtfError> {
    let first = |structure: &str, members: &[&str]| {
        let mut found = Err(BtfError::Missing {
            structure: structure.to_owned(),
            member: members.join(" or "),
        });
        for member in members.iter().rev() {
            found = btf.offset(structure, member).or(found);
        }
        found
    };
    OFFSETS
        .iter()
        .map(|(global, structure, members)| Ok((*global, first(structure, members)?)))
        .collect()
}

/// A contract value at the front of `bytes`, which must be long enough.
fn value<T: Copy>(bytes: &[u8]) -> T {
    assert!(
        bytes.len() >= size_of::<T>(),
        "a message of the ring is shorter than its kind"
    );
    // SAFETY: long enough, and any bits are a value of the contract's types (integers and arrays of them).
    unsafe { bytes.as_ptr().cast::<T>().read_unaligned() }
}

fn take<T: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, KernelError> {
    let map = ebpf.take_map(name).ok_or(KernelError::Foreign { name })?;
    T::try_from(map).map_err(|source| map_error(name, source))
}

/// Removes entries. One that is gone already, or comes while it runs, is nobody's loss: the slot records nothing.
fn purge<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>, of: impl Fn(&K, &V) -> bool) {
    let keys: Vec<_> = map
        .iter()
        .flatten()
        .filter(|(key, value)| of(key, value))
        .map(|(key, _)| key)
        .collect();
    for key in keys {
        let _ = map.remove(&key);
    }
}

/// A map that stays with the object: programs that are loaded later refer to it.
fn borrow<'a, T: TryFrom<&'a mut Map, Error = MapError>>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<T, KernelError> {
    let map = ebpf.map_mut(name).ok_or(KernelError::Foreign { name })?;
    T::try_from(map).map_err(|source| map_error(name, source))
}

fn program<'a, T>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut T, KernelError>
where
    &'a mut T: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let program = ebpf
        .program_mut(name)
        .ok_or(KernelError::Foreign { name })?;
    program
        .try_into()
        .map_err(|source| program_error("load", name, source))
}

fn map_error(map: &'static str, source: MapError) -> KernelError {
    KernelError::Map {
        map,
        source: Box::new(source),
    }
}

fn program_error(action: &'static str, program: &'static str, source: ProgramError) -> KernelError {
    KernelError::Program {
        action,
        program,
        source: Box::new(source),
    }
}

/// EPERM of the first map means that BPF is refused as a whole.
fn refused(error: EbpfError) -> KernelError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = cause {
        if inner
            .downcast_ref::<io::Error>()
            .is_some_and(|io| io.raw_os_error() == Some(libc::EPERM))
        {
            return KernelError::NoPrivilege(Box::new(error));
        }
        cause = inner.source();
    }
    KernelError::Load(Box::new(error))
}

/// A word of a map, mapped: both sides add to it atomically.
struct Word {
    at: NonNull<AtomicU64>,
    length: usize,
    /// Keeps the map.
    _fd: OwnedFd,
}

// SAFETY: the mapping belongs to the value and is only used atomically.
unsafe impl Send for Word {}

impl Word {
    fn map(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, KernelError> {
        let Some(Map::Array(map)) = ebpf.map(name) else {
            return Err(KernelError::Foreign { name });
        };
        let io = || KernelError::Io {
            action: "mapping the generation word",
            source: io::Error::last_os_error(),
        };
        // SAFETY: duplicates a valid descriptor.
        let fd = unsafe { libc::fcntl(map.fd().as_fd().as_raw_fd(), libc::F_DUPFD_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: no argument is a pointer.
        let length = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
        // SAFETY: a new mapping of the array's first page, where its one value lies (BPF_F_MMAPABLE, 5.5+).
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        let at = NonNull::new(at)
            .filter(|at| at.as_ptr() != libc::MAP_FAILED)
            .ok_or_else(io)?;
        Ok(Self {
            at: at.cast(),
            length,
            _fd: fd,
        })
    }

    fn bump(&self) {
        // SAFETY: mapped for as long as `self` lives.
        unsafe { self.at.as_ref() }.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Word {
    fn drop(&mut self) {
        // SAFETY: what `map` mapped, once.
        let _ = unsafe { libc::munmap(self.at.as_ptr().cast(), self.length) };
    }
}
