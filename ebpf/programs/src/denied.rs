//! Calls that a filter denied: an exit without an enter (semantics 3.2). Attached only for a target under a filter.
//!
//! `inside` must be attached after `sys_enter`, which gives the process its phase at its first call.

use crate::{
    globals,
    maps::{DENIED, EEXIST, INSIDE, KEYS, TASKS, count},
    provenance,
    sys_enter::abi,
    task::{Probe, Reader},
};
use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::{bpf_get_current_pid_tgid, generated::bpf_get_current_cgroup_id},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use seccast_common::{DeniedKey, Process, Stat};

/// The current process, if its cgroup is recorded.
#[inline(always)]
fn recorded(pid_tgid: u64) -> Option<*const Process> {
    let process = TASKS.get_ptr((pid_tgid >> 32) as u32)?;
    // SAFETY: the helper has no precondition.
    let cgroup = KEYS.get_ptr(unsafe { bpf_get_current_cgroup_id() })?;
    // SAFETY: entries of maps, removed only with the process or the slot.
    (unsafe { (*process).slot == (*cgroup).slot }).then_some(process)
}

/// A recorded thread is inside a call.
#[raw_tracepoint(tracepoint = "sys_enter")]
fn inside(_: RawTracePointContext) -> i32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    if recorded(pid_tgid).is_some() && INSIDE.insert(pid_tgid as u32, 1, BPF_ANY as u64).is_err() {
        count(Stat::DeniedFull);
    }
    0
}

/// It leaves one: denied if it was outside.
#[raw_tracepoint(tracepoint = "sys_exit")]
fn sys_exit(ctx: RawTracePointContext) -> i32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    let Some(process) = recorded(pid_tgid) else {
        return 0;
    };
    match INSIDE.get_ptr_mut(pid_tgid as u32) {
        // SAFETY: an entry of the map, of the current thread.
        Some(state) if unsafe { *state } == 1 => {
            unsafe { *state = 0 };
            return 0;
        }
        Some(_) => {}
        // It entered this call before it was seen here: nothing can be said of it.
        None => {
            if INSIDE.insert(pid_tgid as u32, 0, BPF_ANY as u64).is_err() {
                count(Stat::DeniedFull);
            }
            return 0;
        }
    }
    let regs: u64 = ctx.arg(0);
    // SAFETY: the tracepoint's registers.
    let nr: u64 = unsafe { Probe::field(regs as *const u8, globals::REGS_NR.get()) };
    let nr = if globals::ARCH.get() == 1 {
        i64::from(nr as i32) as u64
    } else {
        nr
    };
    let abi = abi::<Probe>(Probe::current(), regs);
    // SAFETY: an entry of the map, of the current process.
    let (slot, phase) = unsafe { ((*process).slot, (*process).phase) };
    let key = DeniedKey {
        slot,
        abi_phase: (abi << 16) | phase,
        nr,
    };
    if let Some(counted) = DENIED.get_ptr_mut(key) {
        provenance::add(counted);
    } else if let Err(error) = DENIED.insert(key, provenance::first(), BPF_NOEXIST as u64) {
        match DENIED.get_ptr_mut(key) {
            Some(counted) if error == EEXIST => provenance::add(counted),
            _ => count(Stat::DeniedFull),
        }
    }
    0
}
