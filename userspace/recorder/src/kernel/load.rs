//! The object, fitted to the running kernel: offsets from its BTF, and room for the recordings.

use super::{
    Form, Kernel, KernelError, is_eperm, map_error, no_privilege, slots::SlotMaps, word::Word,
};
use crate::btf::{BtfError, KernelBtf, VMLINUX};
use aya::{
    Btf, Ebpf, EbpfError, EbpfLoader, Endianness, include_bytes_aligned,
    maps::{Map, MapError},
};
use seccast_common::PHASES;
use std::fs;

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/seccast.o"));

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
    ("TASK_EXIT_CODE", "task_struct", &["exit_code"]),
    ("TASK_STATE", "task_struct", &["__state", "state"]),
    ("TASK_JOBCTL", "task_struct", &["jobctl"]),
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
    ("SIGNAL_FLAGS", "signal_struct", &["flags"]),
    (
        "SIGNAL_GROUP_EXIT_CODE",
        "signal_struct",
        &["group_exit_code"],
    ),
    ("NSPROXY_MNT_NS", "nsproxy", &["mnt_ns"]),
    ("BINPRM_FILENAME", "linux_binprm", &["filename"]),
    ("CGROUP_KN", "cgroup", &["kn"]),
    ("CGROUP_ROOT", "cgroup", &["root"]),
    ("CGROUP_ROOT_HIERARCHY_ID", "cgroup_root", &["hierarchy_id"]),
    ("CSS_SET_DFL_CGRP", "css_set", &["dfl_cgrp"]),
    ("KERNFS_NODE_ID", "kernfs_node", &["id"]),
    ("KERNFS_NODE_PARENT", "kernfs_node", &["__parent", "parent"]),
    ("KERNFS_NODE_NAME", "kernfs_node", &["name"]),
    #[cfg(target_arch = "x86_64")]
    ("TASK_STATUS", "task_struct", &["thread_info.status"]),
    #[cfg(target_arch = "x86_64")]
    ("REGS_NR", "pt_regs", &["orig_ax"]),
    #[cfg(target_arch = "aarch64")]
    ("REGS_NR", "pt_regs", &["syscallno"]),
    #[cfg(target_arch = "aarch64")]
    ("REGS_ORIG_X0", "pt_regs", &["orig_x0"]),
];

/// The global of the same name: 0 on x86, 1 on arm64.
const ARCH: u32 = if cfg!(target_arch = "aarch64") { 1 } else { 0 };

impl Kernel {
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
            slow: None,
            keys: take(&mut ebpf, "KEYS")?,
            of_slots: SlotMaps::take(&mut ebpf)?,
            slots: take(&mut ebpf, "SLOT")?,
            free: take(&mut ebpf, "FREE")?,
            blocks: take(&mut ebpf, "BLOCKS")?,
            watching: take(&mut ebpf, "DENIALS")?,
            inside: take(&mut ebpf, "INSIDE")?,
            made: take(&mut ebpf, "MADE")?,
            record_new: take(&mut ebpf, "RECORD_NEW")?,
            deep: take(&mut ebpf, "DEEP")?,
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

pub(super) fn take<T: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, KernelError> {
    let map = ebpf.take_map(name).ok_or(KernelError::Foreign { name })?;
    T::try_from(map).map_err(|source| map_error(name, source))
}

/// EPERM of the first map means that BPF is refused as a whole.
fn refused(error: EbpfError) -> KernelError {
    if is_eperm(&error) {
        no_privilege(error)
    } else {
        KernelError::Load(Box::new(error))
    }
}
