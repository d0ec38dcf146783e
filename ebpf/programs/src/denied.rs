//! Calls that a filter denied: an exit without an enter (semantics 3.2). Attached only where a filter may deny something.
//!
//! `inside` must be attached after `sys_enter`, which gives the process its phase at its first call.

use crate::{
    cgroups, globals,
    maps::{DENIALS, DENIED, DENIED_ARGS, DENIERS, EEXIST, IGNORED, INSIDE, KEYS, count},
    members, provenance,
    sys_enter::{abi, generation},
    task::{Probe, Reader, filters, follow},
};
use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{
            bpf_get_current_cgroup_id, bpf_get_current_task_btf, bpf_ktime_get_ns, bpf_task_pt_regs,
        },
    },
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use core::ptr::read_volatile;
use seccast_common::{
    Counted, DENIED_SAMPLES, DeniedArgs, DeniedKey, DenierKey, NO_SLOT, Process, Stat, abi::COMPAT,
    inside,
};

/// SIGSYS of asm/signal.h on x86 and arm64.
const SIGSYS: u32 = 31;
/// SIGNAL_GROUP_EXIT of linux/sched/signal.h.
const GROUP_EXIT: u32 = 4;
/// MAX_ERRNO of linux/err.h: the kernel caps a filter's errno to it.
const MAX_ERRNO: i64 = 4095;
/// ERESTARTSYS to ERESTART_RESTARTBLOCK of linux/errno.h: a signal came while a listener was asked, and the call is made again.
const RESTARTS: (i64, i64) = (-516, -512);

/// Are denied calls looked for?
#[inline(always)]
pub(crate) fn watching() -> bool {
    // SAFETY: a word of a map; volatile since user space writes it.
    DENIALS
        .get_ptr(0)
        .is_some_and(|word| unsafe { read_volatile(word) } != 0)
}

/// The slot of the current cgroup, if it has one. Like `sys_enter` for one that has no entry yet: a call that is denied may be
/// the first that is made in it.
#[inline(always)]
fn slot() -> Option<u32> {
    // SAFETY: the helper has no precondition.
    let id = unsafe { bpf_get_current_cgroup_id() };
    let cgroup = KEYS.get_ptr(id).or_else(|| {
        let now = generation();
        // SAFETY: an entry of the map; a torn or reused one can only differ.
        let ignored = IGNORED
            .get_ptr(id)
            .is_some_and(|since| unsafe { *since } == now);
        if ignored || cgroups::first_sight(id) == 0 {
            return None;
        }
        KEYS.get_ptr(id)
    });
    // SAFETY: entries of KEYS are never removed while their slot is recorded.
    let slot = unsafe { (*cgroup?).slot };
    (slot != NO_SLOT).then_some(slot)
}

/// The current process, if it is recorded here. Of one that has left it is forgotten what it was in.
#[inline(always)]
fn recorded(pid_tgid: u64) -> Option<*const Process> {
    let process = members::member((pid_tgid >> 32) as u32)?;
    if members::holds(process, slot()) {
        return Some(process);
    }
    let _ = INSIDE.remove(pid_tgid as u32);
    None
}

/// Is the current task under a filter?
#[inline(always)]
fn filtered() -> bool {
    filters(Probe::current()) != 0
}

/// Notes whether a thread is inside a call.
#[inline(always)]
pub(crate) fn set_inside(tid: u32, state: u32) {
    if let Some(known) = INSIDE.get_ptr_mut(tid) {
        // SAFETY: an entry of the map; nobody else writes it but before the thread runs.
        unsafe { *known = state };
    } else if INSIDE.insert(tid, state, BPF_ANY as u64).is_err() {
        count(Stat::DeniedFull);
    }
}

/// A recorded thread is inside a call.
#[raw_tracepoint(tracepoint = "sys_enter")]
fn inside(_: RawTracePointContext) -> i32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    if watching() && recorded(pid_tgid).is_some() {
        set_inside(pid_tgid as u32, inside::YES);
    }
    0
}

/// It leaves one: denied if it was outside, and is under a filter.
#[raw_tracepoint(tracepoint = "sys_exit")]
fn sys_exit(ctx: RawTracePointContext) -> i32 {
    if !watching() {
        return 0;
    }
    let pid_tgid = bpf_get_current_pid_tgid();
    let tid = pid_tgid as u32;
    let result: i64 = ctx.arg(1);
    let Some(process) = recorded(pid_tgid) else {
        // What comes in from outside leaves the call in which it was moved; or its first one here was denied.
        if (-MAX_ERRNO..0).contains(&result)
            && members::member((pid_tgid >> 32) as u32).is_none()
            && filtered()
            && slot().is_some()
        {
            count(Stat::DeniedUnjudged);
        }
        return 0;
    };
    let state = INSIDE.get_ptr_mut(tid);
    if let Some(state) = state
        // SAFETY: an entry of the map, of the current thread.
        && unsafe { *state } == inside::YES
    {
        unsafe { *state = inside::NO };
        return 0;
    }
    let known = state.is_some();
    if !known {
        set_inside(tid, inside::NO);
    }
    if !filtered() {
        return 0;
    }
    let regs: u64 = ctx.arg(0);
    let call = Call::new(regs, result);
    if (RESTARTS.0..=RESTARTS.1).contains(&call.result) {
        return 0;
    }
    if known {
        deny(process, &call);
    } else if (-MAX_ERRNO..=0).contains(&call.result) || call.result == call.nr {
        // It entered this call before it was looked at, or that call was denied.
        count(Stat::DeniedUnjudged);
    }
    0
}

/// A call and its end.
struct Call {
    regs: u64,
    abi: u32,
    nr: i64,
    result: i64,
}

impl Call {
    #[inline(always)]
    fn new(regs: u64, result: i64) -> Self {
        let abi = abi::<Probe>(Probe::current(), regs);
        // SAFETY: registers of the current task; the offset comes from BTF.
        let nr: i64 = unsafe { Probe::field(regs as *const u8, globals::REGS_NR.get()) };
        let short = globals::ARCH.get() == 1 || abi == COMPAT;
        Self {
            regs,
            abi,
            nr: if short { i64::from(nr as i32) } else { nr },
            result: if abi == COMPAT {
                i64::from(result as i32)
            } else {
                result
            },
        }
    }
}

/// Counts a denied call, exactly; its process and its arguments as far as there is room.
#[inline(always)]
fn deny(process: *const Process, call: &Call) {
    // SAFETY: an entry of the map, of the current process.
    let (slot, phase, image) = unsafe { ((*process).slot, (*process).phase, (*process).image) };
    let denied = DeniedKey {
        slot,
        abi_phase: (call.abi << 16) | phase,
        nr: call.nr as u64,
        result: call.result,
    };
    let Some(counted) = provenance::one_more(&DENIED, denied) else {
        count(Stat::DeniedFull);
        return;
    };
    let by = DenierKey {
        denied,
        image,
        pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        pad: 0,
    };
    // Without room it is one of the others: the call is counted.
    let _ = provenance::one_more(&DENIERS, by);
    sample(counted, denied, call);
}

/// Takes the arguments of a denied call into its set.
#[inline(always)]
fn sample(counted: *mut Counted, denied: DeniedKey, call: &Call) {
    // SAFETY: an entry of the map. Two CPUs may add to the number at once: then a few more are kept.
    if unsafe { read_volatile(&raw const (*counted).samples) } >= DENIED_SAMPLES {
        return;
    }
    let mut key = DeniedArgs {
        denied,
        args: [0; 6],
    };
    let mut index = 0;
    while index < 6 {
        let mut value = provenance::argument(call.regs as *const u8, call.abi, index);
        if globals::ARCH.get() == 1 && index == 0 {
            // SAFETY: registers of the current task; the offset comes from BTF.
            value = unsafe { Probe::field(call.regs as *const u8, globals::REGS_ORIG_X0.get()) };
        }
        key.args[index as usize] = if call.abi == COMPAT {
            u64::from(value as u32)
        } else {
            value
        };
        index += 1;
    }
    if DENIED_ARGS.get_ptr(key).is_some() {
        return;
    }
    // SAFETY: the helper has no precondition.
    let now = unsafe { bpf_ktime_get_ns() };
    match DENIED_ARGS.insert(key, now, BPF_NOEXIST as u64) {
        // SAFETY: as above.
        Ok(()) => unsafe { (*counted).samples += 1 },
        Err(EEXIST) => {}
        Err(_) => count(Stat::ArgumentsFull),
    }
}

/// The current thread ends. KILL_THREAD ends one of several threads where it stands, without an exit from the call
/// (kernel/seccomp.c): with SIGSYS as its exit code, while its process goes on.
#[inline(always)]
pub(crate) fn end_of_thread(process: *const Process, task: *const u8) {
    // SAFETY: offsets come from BTF.
    let (code, flags, group_code): (u32, u32, u32) = unsafe {
        let signal = globals::TASK_SIGNAL.get();
        (
            Probe::field(task, globals::TASK_EXIT_CODE.get()),
            follow(task, [signal, globals::SIGNAL_FLAGS.get()]),
            follow(task, [signal, globals::SIGNAL_GROUP_EXIT_CODE.get()]),
        )
    };
    let whole = flags & GROUP_EXIT != 0 && group_code & 127 == SIGSYS;
    if !watching() || code != SIGSYS || whole || !members::holds(process, slot()) {
        return;
    }
    // SAFETY: the helpers have no precondition.
    let regs = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as u64;
    let mut call = Call::new(regs, 0);
    call.result = call.nr;
    deny(process, &call);
}
