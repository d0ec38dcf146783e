//! Facts of the running kernel, set by user space before the load: frozen .rodata, constants to the verifier.
//!
//! Offsets are bytes in the structure that the name begins with, read from the kernel's BTF. `ebpf/README.md` lists
//! each with its use and its fallback.

use core::ptr::read_volatile;

/// A number that the loader sets.
#[repr(transparent)]
pub(crate) struct Global(u32);

impl Global {
    /// The value that user space set.
    #[inline(always)]
    pub(crate) fn get(&'static self) -> usize {
        // SAFETY: a reference is valid; volatile because the loader changes the value after compilation.
        unsafe { read_volatile(&raw const self.0) as usize }
    }
}

macro_rules! globals {
    ($($(#[$doc:meta])* $name:ident = $default:expr;)*) => {
        $($(#[$doc])* #[unsafe(no_mangle)] pub(crate) static $name: Global = Global($default);)*
    };
}

globals! {
    /// 0 on x86, 1 on arm64.
    ARCH = 0;
    /// task_struct.thread_info.status: TS_COMPAT on x86.
    TASK_STATUS = 16;
    /// task_struct.start_time.
    TASK_START_TIME = 0;
    /// task_struct.self_exec_id.
    TASK_SELF_EXEC_ID = 0;
    /// task_struct.cgroups.
    TASK_CGROUPS = 0;
    /// task_struct.nsproxy.
    TASK_NSPROXY = 0;
    /// task_struct.real_parent.
    TASK_REAL_PARENT = 0;
    /// task_struct.pid.
    TASK_PID = 0;
    /// task_struct.tgid.
    TASK_TGID = 0;
    /// task_struct.comm.
    TASK_COMM = 0;
    /// task_struct.mm.
    TASK_MM = 0;
    /// mm_struct.arg_start.
    MM_ARG_START = 0;
    /// mm_struct.arg_end.
    MM_ARG_END = 0;
    /// task_struct.exit_code.
    TASK_EXIT_CODE = 0;
    /// task_struct.__state (5.14+), else .state.
    TASK_STATE = 0;
    /// task_struct.jobctl.
    TASK_JOBCTL = 0;
    /// task_struct.signal.
    TASK_SIGNAL = 0;
    /// task_struct.seccomp, at the number of filters where the kernel counts them (5.9+), else at the mode.
    TASK_FILTERS = 0;
    /// signal_struct.live.
    SIGNAL_LIVE = 0;
    /// signal_struct.flags.
    SIGNAL_FLAGS = 0;
    /// signal_struct.group_exit_code.
    SIGNAL_GROUP_EXIT_CODE = 0;
    /// nsproxy.mnt_ns.
    NSPROXY_MNT_NS = 0;
    /// linux_binprm.filename.
    BINPRM_FILENAME = 0;
    /// cgroup.kn.
    CGROUP_KN = 0;
    /// cgroup.root.
    CGROUP_ROOT = 0;
    /// cgroup_root.hierarchy_id: 0 is cgroup2.
    CGROUP_ROOT_HIERARCHY_ID = 0;
    /// css_set.dfl_cgrp.
    CSS_SET_DFL_CGRP = 0;
    /// kernfs_node.id: a cgroup's id.
    KERNFS_NODE_ID = 0;
    /// kernfs_node.__parent (6.15+), else .parent: the node of the cgroup above.
    KERNFS_NODE_PARENT = 0;
    /// kernfs_node.name, a pointer: a cgroup's own name.
    KERNFS_NODE_NAME = 0;
    /// pt_regs.orig_ax, or pt_regs.syscallno on arm64.
    REGS_NR = 120;
    /// pt_regs.orig_x0 on arm64, where the result has overwritten the first argument when a call ends.
    REGS_ORIG_X0 = 0;
}
