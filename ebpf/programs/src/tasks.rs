//! What each task is blocked in, read once when a recording attaches to a running target.

use crate::{
    globals,
    task::{Probe, Reader, follow},
};
use aya_ebpf::helpers::generated::{bpf_seq_write, bpf_task_pt_regs};
use core::ffi::c_void;
use seccast_common::{Blocked, abi};

/// `struct bpf_iter__task`.
#[repr(C)]
struct Context {
    meta: *const Meta,
    task: *const u8,
}

/// `struct bpf_iter_meta`.
#[repr(C)]
struct Meta {
    seq: *mut aya_ebpf::bindings::seq_file,
}

/// TASK_INTERRUPTIBLE and TASK_UNINTERRUPTIBLE of linux/sched.h.
const SLEEPING: u32 = 3;
/// __TASK_STOPPED and __TASK_TRACED: stopped on the way in or out.
const STOPPED: u32 = 12;
/// JOBCTL_TRAP_FREEZE of linux/sched/jobctl.h: a task of a frozen cgroup sleeps on its way out.
const FROZEN: u64 = 1 << 23;

/// Iterates over tasks (5.8+; the registers need 5.15). aya-ebpf 0.2.1 has no macro for iterators: the section says it.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
fn tasks(ctx: *mut c_void) -> i32 {
    // SAFETY: the kernel passes a `bpf_iter__task`; offsets come from BTF; probe_read fails instead of faulting.
    unsafe {
        let ctx = ctx.cast::<Context>();
        let task = core::ptr::read_volatile(&raw const (*ctx).task);
        let seq = core::ptr::read_volatile(&raw const (*(*ctx).meta).seq);
        if task.is_null() {
            return 0;
        }
        let regs = bpf_task_pt_regs(task.cast_mut().cast()) as *const u8;
        let nr: u64 = Probe::field(regs, globals::REGS_NR.get());
        let arm = globals::ARCH.get() == 1;
        let compat = if arm {
            let pstate: u64 = Probe::field(regs, 264);
            (pstate >> 4) & 1 != 0
        } else {
            let status: u32 = Probe::field(task, globals::TASK_STATUS.get());
            status & 2 != 0
        };
        let state: u32 = Probe::field(task, globals::TASK_STATE.get());
        let jobctl: u64 = Probe::field(task, globals::TASK_JOBCTL.get());
        let record = Blocked {
            cgroup: follow(
                task,
                [
                    globals::TASK_CGROUPS.get(),
                    globals::CSS_SET_DFL_CGRP.get(),
                    globals::CGROUP_KN.get(),
                    globals::KERNFS_NODE_ID.get(),
                ],
            ),
            nr: if arm { i64::from(nr as i32) } else { nr as i64 },
            pid: Probe::field(task, globals::TASK_TGID.get()),
            tid: Probe::field(task, globals::TASK_PID.get()),
            abi: if compat { abi::COMPAT } else { abi::NATIVE },
            asleep: u32::from(
                state & SLEEPING != 0 && state & STOPPED == 0 && jobctl & FROZEN == 0,
            ),
            comm: Probe::field(task, globals::TASK_COMM.get()),
        };
        bpf_seq_write(seq, (&raw const record).cast(), size_of::<Blocked>() as u32);
    }
    0
}
