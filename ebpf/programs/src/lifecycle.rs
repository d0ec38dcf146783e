//! Phases: what forks, executes and ends in a recorded cgroup.

use crate::{
    denied, globals,
    maps::{BLOCKS, ENDED, ENTERED, INSIDE, KEYS, SLOT, TASKS, add, count, increment},
    members, provenance,
    task::{Probe, Reader, filters, follow},
};
use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{
        bpf_get_current_pid_tgid, bpf_probe_read_kernel_str_bytes,
        generated::{bpf_get_current_cgroup_id, bpf_get_current_task, bpf_ktime_get_ns},
    },
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use core::ptr::{read_volatile, write_volatile};
use seccast_common::{
    BLOCK, Ended, Entered, PHASES, Start, Stat, event, inside, line, phase, slot_flag,
};

/// What a recorded process forks has its phase.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
fn process_fork(ctx: RawTracePointContext) -> i32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    let parent = (pid_tgid >> 32) as u32;
    let Some(process) = members::member(parent) else {
        return 0;
    };
    let child: u64 = ctx.arg(1);
    let child = child as *const u8;
    // SAFETY: the tracepoint's child; offsets come from BTF.
    let (pid, tgid): (u32, u32) = unsafe {
        (
            Probe::field(child, globals::TASK_PID.get()),
            Probe::field(child, globals::TASK_TGID.get()),
        )
    };
    if denied::watching() {
        // The child leaves a call that it never entered.
        denied::set_inside(pid, inside::YES);
    }
    if tgid != parent {
        // SAFETY: an entry of the map; its process is the one that forks.
        let process = unsafe { *process };
        if let Some(line) = ENTERED.get_ptr_mut(process.entry) {
            // SAFETY: an entry of the map.
            unsafe { increment(&raw mut (*line).processes) };
            set_state(line, line::SEVERAL);
        }
        if TASKS.insert(tgid, process, BPF_ANY as u64).is_err() {
            count(Stat::NoPhase);
        }
    }
    0
}

/// The execve that starts the application.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn process_exec(ctx: RawTracePointContext) -> i32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let Some(process) = members::member(tgid) else {
        return 0;
    };
    let task: u64 = ctx.arg(0);
    let task = task as *const u8;
    let binprm: u64 = ctx.arg(2);
    // SAFETY: the tracepoint's binprm; the offset comes from BTF.
    let filename: u64 =
        unsafe { Probe::field(binprm as *const u8, globals::BINPRM_FILENAME.get()) };
    let filename = filename as *const u8;
    in_execve(ctx.arg(1));
    // SAFETY: an entry of the map; its process is the current one.
    let process = unsafe { &mut *process };
    if process.phase <= phase::ENTER
        && has_runtime(process.slot)
        && again(task as u64, filename as u64) != 0
    {
        return 0;
    }
    // SAFETY: the helper has no precondition.
    let now = unsafe { bpf_ktime_get_ns() };
    if process.phase <= phase::ENTER {
        start(process, task);
    }
    process.image = now;
    // SAFETY: the helper has no precondition.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    provenance::text(
        event::EXEC,
        process.slot,
        process.phase,
        now,
        cgroup,
        filename,
    );
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(
        &ctx,
        "exec: process {} slot {} phase {}",
        tgid,
        process.slot,
        process.phase
    );
    0
}

/// A thread that executes takes its leader's id, inside a call that it entered under its own.
#[inline(always)]
fn in_execve(old: u64) {
    let tid = bpf_get_current_pid_tgid() as u32;
    if old as u32 != tid && INSIDE.remove(old as u32).is_ok() {
        let _ = INSIDE.insert(tid, inside::YES, BPF_ANY as u64);
    }
}

/// Does a runtime start what this slot records? Not where a command is started, or everything is the application.
#[inline(always)]
fn has_runtime(slot: u32) -> bool {
    let none = slot_flag::ALL_APP | slot_flag::NO_EXEC;
    // SAFETY: entries of an array are never freed.
    SLOT.get_ptr(slot)
        .is_some_and(|slot| unsafe { (*slot).flags } & none == 0)
}

/// A process of the runtime becomes the application, a hook, or an `exec`.
#[inline(always)]
fn start(process: &mut seccast_common::Process, task: *const u8) {
    process.filters = filters(task);
    let seen = seen(process, task);
    let block = process.slot * PHASES + process.phase;
    if let Some(slot) = SLOT.get_ptr_mut(process.slot) {
        // SAFETY: an entry of an array. Two execs at once in one slot may share a block: both are starts.
        unsafe {
            if process.phase == phase::ENTER {
                process.phase = phase::EXEC;
                (*slot).execs += 1;
                if seen.own() != 1 {
                    (*slot).execs_unlike += 1;
                }
            } else {
                let starts = (*slot).starts;
                let at = if starts < phase::STARTS {
                    starts
                } else {
                    phase::STARTS - 1
                };
                process.phase = phase::START + at;
                if let Some(known) = (*slot).at.get_mut(at as usize)
                    && (starts < phase::STARTS || seen.own() < known.own())
                {
                    *known = seen;
                }
                (*slot).starts = starts + 1;
                (*slot).mounts = mounts(task);
            }
            if process.filters != 0 {
                (*slot).flags |= slot_flag::FILTERED;
            }
        }
    }
    if process.entry != 0 {
        leave_line(process.entry, block, task);
        process.entry = 0;
    }
    // SAFETY: the helper has no precondition.
    if let Some(cgroup) = KEYS.get_ptr_mut(unsafe { bpf_get_current_cgroup_id() }) {
        // SAFETY: entries of KEYS are never removed while their slot is recorded.
        unsafe { (*cgroup).started = 1 };
    }
}

/// The filters of a process that executes a program, and those that it inherited.
#[inline(always)]
fn seen(process: &seccast_common::Process, task: *const u8) -> Start {
    // SAFETY: offsets come from BTF.
    let (parent, tgid): (u64, u32) = unsafe {
        (
            Probe::field(task, globals::TASK_REAL_PARENT.get()),
            follow(
                task,
                [globals::TASK_REAL_PARENT.get(), globals::TASK_TGID.get()],
            ),
        )
    };
    // SAFETY: an entry of the map.
    let of_runtime = members::member(tgid).is_some_and(|parent| unsafe {
        (*parent).slot == process.slot && (*parent).phase <= phase::ENTER
    });
    Start {
        filters: process.filters,
        inherited: filters(parent as *const u8),
        of_runtime: u32::from(of_runtime),
    }
}

/// One of a line executes a program. If it was the last, what the line called was the runtime's, and joins `block`: it came
/// alone, or lives in other mounts than its parent, as what a runtime starts does. If others live, that is not known yet: a
/// hook's parent becomes the application, and who was moved here and started a helper goes on.
#[inline(always)]
fn leave_line(entry: u64, block: u32, task: *const u8) {
    let Some(line) = ENTERED.get_ptr_mut(entry) else {
        return;
    };
    if !last_of(line) {
        set_state(line, line::EXECUTED);
        return;
    }
    // SAFETY: an entry of the map.
    let alone = unsafe { read_volatile(&raw const (*line).state) } & line::SEVERAL == 0;
    close_line(line, entry, block, alone || !in_parents_mounts(task));
}

/// A process of a line ends without having executed anything. If it was the last, it is decided what they were: who joined the
/// container's mounts, which are not its parent's, is a runtime that failed before it could execute the program, such as
/// `runc exec` of one that is not there.
#[inline(always)]
fn end_of_line(entry: u64, block: u32, task: *const u8) {
    let Some(line) = ENTERED.get_ptr_mut(entry) else {
        return;
    };
    // SAFETY: an entry of the map.
    if unsafe { read_volatile(&raw const (*line).state) } & line::EXECUTED != 0 {
        set_state(line, line::STAYED);
    }
    if last_of(line) {
        let in_containers = SLOT.get_ptr(block / PHASES).is_some_and(|slot| {
            // SAFETY: entries of an array are never freed; a pointer that is only compared.
            unsafe { (*slot).mounts != 0 && (*slot).mounts == mounts(task) }
        });
        close_line(
            line,
            entry,
            block,
            in_containers && !in_parents_mounts(task),
        );
    }
}

/// One leaves its line; was it the last?
#[inline(always)]
fn last_of(line: *mut Entered) -> bool {
    // SAFETY: an entry of the map. Of two that leave at once both may see zero: what follows can be done twice.
    unsafe {
        add(&raw mut (*line).processes, u64::MAX);
        read_volatile(&raw const (*line).processes) == 0
    }
}

#[inline(always)]
fn set_state(line: *mut Entered, state: u64) {
    // SAFETY: an entry of the map. Bits are only added; one that is lost between two CPUs is of processes that fork, execute
    // and end in the same instant.
    unsafe {
        let known = read_volatile(&raw const (*line).state);
        write_volatile(&raw mut (*line).state, known | state);
    }
}

/// The last of a line is gone: its calls join the runtime's in `block`, or those that nobody can judge.
#[inline(always)]
fn close_line(line: *mut Entered, entry: u64, block: u32, runtime: bool) {
    // SAFETY: an entry of the map.
    let (state, ended) = unsafe {
        (
            read_volatile(&raw const (*line).state),
            Ended {
                slot: (*line).slot,
                pid: (*line).pid,
                comm: (*line).comm,
            },
        )
    };
    if runtime && state & line::STAYED == 0 {
        join_line(entry, block);
    } else {
        join_line(entry, ended.slot * PHASES + phase::UNDECIDED);
        if ENDED.insert(entry, ended, BPF_ANY as u64).is_err() {
            count(Stat::EnteredFull);
        }
    }
    let _ = ENTERED.remove(entry);
}

/// A line's calls join a block. A function of its own with plain numbers: the loop is verified once, not on every path.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn join_line(entry: u64, block: u32) -> u32 {
    let (Some(line), Some(bytes)) = (ENTERED.get_ptr(entry), BLOCKS.get_ptr_mut(block)) else {
        return 0;
    };
    // SAFETY: both have BLOCK bytes. Byte by byte: another CPU that sets a neighbour loses nothing.
    unsafe {
        let from = (&raw const (*line).calls).cast::<u8>();
        let to = bytes.cast::<u8>();
        let mut at = 0;
        while at < BLOCK {
            let seen = read_volatile(to.add(at)) | read_volatile(from.add(at));
            write_volatile(to.add(at), seen);
            at += 1;
        }
    }
    1
}

/// Is this the runtime executing itself: by a name that needs no path, in its parent's mount namespace? 1 if so.
///
/// Held in every re-exec of runc and for no application's exec (design 4). A function of its own with plain numbers: the
/// comparisons are verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn again(task: u64, filename: u64) -> u32 {
    let (task, filename) = (task as *const u8, filename as *const u8);
    let mut name = [0u8; 16];
    // SAFETY: probe_read fails instead of faulting.
    let _ = unsafe { bpf_probe_read_kernel_str_bytes(filename, &mut name) };
    if !(starts_with(name, b"/proc/self/exe\0")
        || starts_with(name, b"/proc/self/fd/")
        || starts_with(name, b"/dev/fd/"))
    {
        return 0;
    }
    u32::from(in_parents_mounts(task))
}

/// Does a task live in its parent's mount namespace?
#[inline(always)]
fn in_parents_mounts(task: *const u8) -> bool {
    // SAFETY: the offset comes from BTF.
    let parent: u64 = unsafe { Probe::field(task, globals::TASK_REAL_PARENT.get()) };
    mounts(task) == mounts(parent as *const u8)
}

/// A task's mount namespace.
#[inline(always)]
fn mounts(task: *const u8) -> u64 {
    // SAFETY: offsets come from BTF.
    unsafe {
        follow(
            task,
            [globals::TASK_NSPROXY.get(), globals::NSPROXY_MNT_NS.get()],
        )
    }
}

/// By two words: byte by byte the verifier follows every way out of every comparison.
#[inline(always)]
fn starts_with<const N: usize>(name: [u8; 16], prefix: &[u8; N]) -> bool {
    let (mut text, mut mask) = ([0; 16], [0; 16]);
    let mut index = 0;
    while index < N {
        text[index] = prefix[index];
        mask[index] = 0xff;
        index += 1;
    }
    (u128::from_ne_bytes(name) ^ u128::from_ne_bytes(text)) & u128::from_ne_bytes(mask) == 0
}

/// The end of a thread: its process is forgotten with the last one.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn process_exit(ctx: RawTracePointContext) -> i32 {
    exit(ctx, true)
}

/// The same for kernels before 5.15, which give no registers: a thread that a filter killed alone is not counted.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn plain_exit(ctx: RawTracePointContext) -> i32 {
    exit(ctx, false)
}

#[inline(always)]
fn exit(_ctx: RawTracePointContext, registers: bool) -> i32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    let tgid = (pid_tgid >> 32) as u32;
    // Of two threads that end at once both may be the last: the process may be forgotten already.
    let _ = INSIDE.remove(pid_tgid as u32);
    // SAFETY: the helper has no precondition.
    let task = unsafe { bpf_get_current_task() } as *const u8;
    // SAFETY: offsets come from BTF. `live` was decremented before the tracepoint (kernel/exit.c, do_exit).
    let live: u32 = unsafe {
        follow(
            task,
            [globals::TASK_SIGNAL.get(), globals::SIGNAL_LIVE.get()],
        )
    };
    let Some(process) = members::member(tgid) else {
        // One of a slot that was given back is forgotten here at the latest.
        if live == 0 {
            let _ = TASKS.remove(tgid);
        }
        return 0;
    };
    // SAFETY: an entry of the map, of the current process; offsets come from BTF.
    unsafe {
        if filters(task) > (*process).filters
            && (*process).phase >= phase::EXEC
            && let Some(slot) = SLOT.get_ptr_mut((*process).slot)
        {
            (*slot).flags |= slot_flag::OWN_FILTER;
        }
    }
    if registers {
        denied::end_of_thread(process, task);
    }
    if live == 0 {
        // SAFETY: an entry of the map, of the current process.
        let (entry, block) = unsafe {
            (
                (*process).entry,
                (*process).slot * PHASES + (*process).phase,
            )
        };
        end_of_line(entry, block, task);
        let _ = TASKS.remove(tgid);
        #[cfg(feature = "log")]
        aya_log_ebpf::debug!(&_ctx, "exit: process {}", tgid);
    }
    0
}
