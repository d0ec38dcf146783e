//! `sys_enter`: one byte for each number that a recorded cgroup calls. The hot path of the product.
//!
//! Two programs with one body: `sys_enter` (tp_btf, 5.11+, a per-CPU cache in front of the maps) and `sys_enter_raw`
//! (any kernel, no cache).

use crate::{
    arguments, cgroups, globals,
    maps::{
        BLOCKS, EEXIST, ENTERED, ENTERING, GENERATION, IGNORED, KEYS, SLOT, TASKS, UNKNOWN, count,
    },
    members, provenance,
    task::{Direct, Probe, Reader, filters},
};
use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid,
        generated::{bpf_get_current_cgroup_id, bpf_get_smp_processor_id, bpf_ktime_get_ns},
    },
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use core::ptr::{read_volatile, write_volatile};
use seccast_common::{
    BLOCK, Counted, NO_SLOT, NUMBERS, PHASES, Process, SEEN, SEEN_ARGUMENTS, Stat, UNSEEN,
    UnknownKey, abi, phase, position, slot_flag,
};

/// CPUs with a cache entry; others take the slow path.
const CPUS: usize = 256;
/// No block: the caller is not recorded.
const NO_BLOCK: u32 = u32::MAX;
/// The block of the caller's line in `ENTERED`.
const LINE: u32 = u32::MAX - 1;
/// TS_COMPAT of arch/x86/include/asm/thread_info.h.
const TS_COMPAT: u32 = 2;
/// __X32_SYSCALL_BIT of arch/x86/include/uapi/asm/unistd.h.
const X32_BIT: u64 = 0x4000_0000;

/// Whose block the last call on this CPU went to. A reused task pointer, an exec, a cgroup move and a change of what is
/// watched all miss: a move changes `task->cgroups`, and a css_set freed and made again at the same address cannot hit
/// since `cgroup_attach` bumps the generation.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Cached {
    start_time: u64,
    block: u32,
    self_exec_id: u32,
    cgroups: u64,
    generation: u64,
    task: u64,
}

const EMPTY: Cached = Cached {
    start_time: 0,
    block: NO_BLOCK,
    self_exec_id: 0,
    cgroups: 0,
    generation: 0,
    task: 0,
};

#[unsafe(no_mangle)]
static mut CACHE: [Cached; CPUS + 1] = [EMPTY; CPUS + 1];

/// Every call of the machine.
#[btf_tracepoint(function = "sys_enter")]
fn sys_enter(ctx: BtfTracePointContext) -> i32 {
    let task = Direct::current();
    let generation = generation();
    // SAFETY: offsets come from this kernel's BTF.
    let (start_time, self_exec_id, cgroups) = unsafe {
        (
            Direct::field::<u64>(task, globals::TASK_START_TIME.get()),
            Direct::field::<u32>(task, globals::TASK_SELF_EXEC_ID.get()),
            Direct::field::<u64>(task, globals::TASK_CGROUPS.get()),
        )
    };
    // SAFETY: the helper has no precondition.
    let cpu = unsafe { bpf_get_smp_processor_id() } as usize;
    let at = if cpu < CPUS { cpu } else { CPUS };
    // SAFETY: one entry a CPU, and programs on one CPU do not run inside each other. Even if one ran between two stores of
    // another, the entry could not hit wrongly: `start_time` is written first and `task` last, and both are compared. The
    // last entry is that of all further CPUs and never hits.
    let block = unsafe {
        let cached = (&raw mut CACHE).cast::<Cached>().add(at);
        if cpu < CPUS
            && read_volatile(&raw const (*cached).task) == task as u64
            && read_volatile(&raw const (*cached).start_time) == start_time
            && read_volatile(&raw const (*cached).self_exec_id) == self_exec_id
            && read_volatile(&raw const (*cached).cgroups) == cgroups
            && read_volatile(&raw const (*cached).generation) == generation
        {
            read_volatile(&raw const (*cached).block)
        } else {
            let block = resolve(generation);
            write_volatile(&raw mut (*cached).start_time, start_time);
            write_volatile(&raw mut (*cached).block, block);
            write_volatile(&raw mut (*cached).self_exec_id, self_exec_id);
            write_volatile(&raw mut (*cached).cgroups, cgroups);
            write_volatile(&raw mut (*cached).generation, generation);
            write_volatile(&raw mut (*cached).task, task as u64);
            block
        }
    };
    mark::<Direct>(block, task, ctx.arg(0), ctx.arg(1))
}

/// The same for kernels before 5.11, whose verifier knows no type of the current task: no cache.
#[raw_tracepoint(tracepoint = "sys_enter")]
fn sys_enter_raw(ctx: RawTracePointContext) -> i32 {
    mark::<Probe>(
        resolve(generation()),
        Probe::current(),
        ctx.arg(0),
        ctx.arg(1),
    )
}

/// The floor of every measurement: what an attached program costs that does nothing.
#[raw_tracepoint(tracepoint = "sys_enter")]
fn empty(_: RawTracePointContext) -> i32 {
    0
}

/// Read before any map: what is found under it holds for it.
#[inline(always)]
pub(crate) fn generation() -> u64 {
    // SAFETY: a word of a map; volatile since user space writes it.
    GENERATION
        .get_ptr(0)
        .map_or(0, |word| unsafe { read_volatile(word) })
}

/// The block of the current process, or [`NO_BLOCK`].
#[inline(always)]
fn resolve(generation: u64) -> u32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let process = members::member(tgid);
    let Some(cgroup) = recorded(generation) else {
        return match process {
            // SAFETY: an entry of the map, removed only when the process or its slot is gone.
            Some(process) if members::holds(process, None) => unsafe {
                (*process).slot * PHASES + (*process).phase
            },
            _ => NO_BLOCK,
        };
    };
    // SAFETY: entries of KEYS are never removed while their slot is recorded.
    let (slot, started) = unsafe { ((*cgroup).slot, (*cgroup).started) };
    let (phase, entry) = match process {
        // SAFETY: an entry of the map, removed only when the process is gone.
        Some(process) if members::holds(process, Some(slot)) => unsafe {
            ((*process).phase, (*process).entry)
        },
        Some(process) => {
            leave(process);
            enter(slot, started != 0, tgid, BPF_ANY)
        }
        // One of a slot that was given back is written over.
        None if TASKS.get_ptr(tgid).is_some() => enter(slot, started != 0, tgid, BPF_ANY),
        None => enter(slot, started != 0, tgid, BPF_NOEXIST),
    };
    if phase <= phase::ENTER && ENTERED.get_ptr(entry).is_some() {
        return LINE;
    }
    if started == 0 && phase >= phase::EXEC {
        // Moved here with its phase: whoever enters now comes after the start.
        // SAFETY: as above.
        unsafe { (*cgroup).started = 1 };
    }
    slot * PHASES + phase
}

/// The entry of the current cgroup, if it has a slot: its own, or there and then that of what is watched above it.
#[inline(always)]
fn recorded(generation: u64) -> Option<*mut seccast_common::Cgroup> {
    // SAFETY: the helper has no precondition.
    let id = unsafe { bpf_get_current_cgroup_id() };
    let cgroup = match KEYS.get_ptr_mut(id) {
        Some(cgroup) => cgroup,
        None => {
            if let Some(since) = IGNORED.get_ptr(id) {
                // SAFETY: an entry of the map; a torn or reused one can only differ.
                if unsafe { *since } == generation {
                    return None;
                }
            }
            if cgroups::first_sight(id) == 0 {
                // A failure costs the next call another walk, nothing else.
                let _ = IGNORED.insert(id, generation, BPF_ANY as u64);
                return None;
            }
            KEYS.get_ptr_mut(id)?
        }
    };
    // SAFETY: entries of KEYS are never removed while their slot is recorded.
    (unsafe { (*cgroup).slot } != NO_SLOT).then_some(cgroup)
}

/// A process goes on in another recording's cgroup, which is nearer. An application's later calls are missing in the first.
#[inline(always)]
fn leave(process: *const Process) {
    // SAFETY: an entry of the map, of the current process; entries of an array are never freed.
    unsafe {
        if (*process).phase >= phase::EXEC
            && let Some(slot) = SLOT.get_ptr_mut((*process).slot)
        {
            (*slot).left += 1;
        }
    }
}

/// A process from outside: its phase and its line.
#[inline(always)]
fn enter(slot: u32, started: bool, tgid: u32, flags_of_insert: u32) -> (u32, u64) {
    let Some(of) = SLOT.get_ptr_mut(slot) else {
        return (phase::START, 0);
    };
    // SAFETY: entries of an array are never freed.
    let (flags, epoch) = unsafe { ((*of).flags, read_volatile(&raw const (*of).epoch)) };
    let mut process = Process {
        slot,
        epoch,
        filters: filters(Probe::current()),
        ..Process::default()
    };
    process.phase =
        if flags & slot_flag::ALL_APP != 0 || (started && flags & slot_flag::NO_EXEC != 0) {
            // SAFETY: as above.
            unsafe { (*of).joined += 1 };
            phase::START
        } else if started {
            phase::ENTER
        } else {
            phase::RUNTIME
        };
    if process.phase <= phase::ENTER {
        // SAFETY: the helper has no precondition.
        process.entry = (unsafe { bpf_ktime_get_ns() } << 16) ^ u64::from(tgid);
        if !add_line(process.entry, slot, tgid) {
            count(Stat::EnteredFull);
        }
    }
    match TASKS.insert(tgid, process, flags_of_insert as u64) {
        Ok(()) => {}
        // Another thread of the process was first: its entry is the one.
        Err(EEXIST) => {
            let _ = ENTERED.remove(process.entry);
            process.entry = 0;
            if let Some(first) = TASKS.get_ptr(tgid) {
                // SAFETY: an entry of the map, of the current process.
                process.entry = unsafe { (*first).entry };
            }
        }
        Err(_) => {
            count(Stat::NoPhase);
            return (phase::START, 0);
        }
    }
    (process.phase, process.entry)
}

#[inline(always)]
#[allow(
    clippy::needless_borrows_for_generic_args,
    reason = "by value it would be copied to the stack, which it does not fit"
)]
fn add_line(entry: u64, slot: u32, tgid: u32) -> bool {
    let Some(entering) = ENTERING.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's own value; the map copies it.
    unsafe {
        (*entering).slot = slot;
        (*entering).pid = tgid;
        (*entering).comm = bpf_get_current_comm().unwrap_or_default();
        (*entering).processes = 1;
        (*entering).state = 0;
        ENTERED
            .insert(entry, &*entering, BPF_NOEXIST as u64)
            .is_ok()
    }
}

/// Sets the byte of a number.
#[inline(always)]
fn mark<R: Reader>(block: u32, task: *const u8, regs: u64, nr: u64) -> i32 {
    if block == NO_BLOCK {
        return 0;
    }
    let abi = abi::<R>(task, regs);
    let (abi, nr) =
        if abi == abi::NATIVE && nr & !(X32_BIT | (NUMBERS as u64 - 1)) == 0 && nr & X32_BIT != 0 {
            (abi::X32, nr & !X32_BIT)
        } else {
            (abi, nr)
        };
    if block == LINE {
        return mark_line(abi, nr, regs);
    }
    if nr >= NUMBERS as u64 {
        return unknown(block, abi, nr);
    }
    let Some(bytes) = BLOCKS.get_ptr_mut(block) else {
        return 0;
    };
    see(bytes.cast(), block, block % PHASES, abi, nr as u32, regs)
}

/// The same for a process that entered and of whose line nobody has executed anything: off the hot path, since it is the
/// runtime for some milliseconds, or undecided.
#[inline(never)]
fn mark_line(abi: u32, nr: u64, regs: u64) -> i32 {
    let Some(process) = TASKS.get_ptr((bpf_get_current_pid_tgid() >> 32) as u32) else {
        return 0;
    };
    // SAFETY: an entry of the map, of the current process.
    let (block, entry) = unsafe {
        (
            (*process).slot * PHASES + (*process).phase,
            (*process).entry,
        )
    };
    if nr >= NUMBERS as u64 {
        return unknown(block, abi, nr);
    }
    if let Some(line) = ENTERED.get_ptr_mut(entry) {
        // SAFETY: an entry of the map; if its line executes something at this instant, the byte may come too late for the
        // runtime's block, which no profile holds.
        let bytes = unsafe { (&raw mut (*line).calls).cast() };
        return see(bytes, block, phase::UNDECIDED, abi, nr as u32, regs);
    }
    // Decided since this was cached: the runtime's.
    let Some(bytes) = BLOCKS.get_ptr_mut(block) else {
        return 0;
    };
    see(bytes.cast(), block, block % PHASES, abi, nr as u32, regs)
}

/// A call by the vsyscall page: it asks the filter, and passes neither the entry nor the exit of other calls
/// (arch/x86/entry/vsyscall/vsyscall_64.c, emulate_vsyscall). The tracepoint comes first, with the place in the page.
#[raw_tracepoint(tracepoint = "emulate_vsyscall")]
fn vsyscall(ctx: RawTracePointContext) -> i32 {
    // gettimeofday, time and getcpu of asm/unistd_64.h.
    let nr = match ctx.arg::<u64>(0) as u32 {
        0 => 96,
        1 => 201,
        2 => 309,
        _ => return 0,
    };
    mark::<Probe>(resolve(generation()), Probe::current(), 0, nr)
}

/// A call with a number in range.
#[inline(always)]
fn see(bytes: *mut u8, block: u32, phase: u32, abi: u32, nr: u32, regs: u64) -> i32 {
    let at = bounded(position(abi, nr));
    // SAFETY: `at` is masked to the block. A plain store: no other number shares the byte.
    unsafe {
        let byte = bytes.add(at);
        let seen = read_volatile(byte);
        if seen == SEEN {
            return 0;
        }
        if seen == UNSEEN {
            write_volatile(byte, arguments::seen(at));
            return first(block, phase, abi, nr, regs);
        }
        if seen == SEEN_ARGUMENTS {
            arguments::take(block, abi, nr, at, regs as *const u8);
        }
    }
    0
}

/// A place in a block. The compiler may know that it is one and leave the mask out; the verifier of 6.1 does not know.
#[inline(always)]
fn bounded(at: usize) -> usize {
    let mut at = at;
    // SAFETY: masks a register.
    unsafe {
        core::arch::asm!("{at} &= {mask}", at = inout(reg) at, mask = const BLOCK - 1, options(pure, nomem, nostack));
    }
    at
}

/// A number's first call in a block: a function of its own, since it happens once.
#[inline(never)]
fn first(block: u32, phase: u32, abi: u32, nr: u32, regs: u64) -> i32 {
    provenance::sighting(block / PHASES, phase, abi, nr, regs as *const u8);
    arguments::take(
        block,
        abi,
        nr,
        bounded(position(abi, nr)),
        regs as *const u8,
    );
    0
}

/// The ABI row of the current call, without x32.
#[inline(always)]
pub(crate) fn abi<R: Reader>(task: *const u8, regs: u64) -> u32 {
    if globals::ARCH.get() == 1 {
        // PSTATE at 264 of user_pt_regs (uapi), PSR_MODE32_BIT.
        // SAFETY: the tracepoint's registers.
        let pstate: u64 = unsafe { Probe::field(regs as *const u8, 264) };
        return ((pstate >> 4) & 1) as u32;
    }
    // SAFETY: the offset comes from BTF, or is fixed by THREAD_INFO_IN_TASK (semantics 3.6).
    let status: u32 = unsafe { R::field(task, globals::TASK_STATUS.get()) };
    (status & TS_COMPAT) >> 1
}

/// A number out of range: counted, with its first caller.
#[inline(never)]
fn unknown(block: u32, abi: u32, nr: u64) -> i32 {
    let key = UnknownKey {
        nr,
        slot: block / PHASES,
        abi_phase: (abi << 16) | (block % PHASES),
    };
    if let Some(counted) = UNKNOWN.get_ptr_mut(key) {
        provenance::add(counted);
        return 0;
    }
    let first = provenance::first();
    match UNKNOWN.insert(key, first, BPF_NOEXIST as u64) {
        Ok(()) => {}
        // Another CPU was first.
        Err(EEXIST) => {
            if let Some(counted) = UNKNOWN.get_ptr_mut(key) {
                provenance::add(counted);
            }
        }
        Err(_) => count(Stat::UnknownFull),
    }
    0
}

const _: () = assert!(size_of::<Cached>() == 64 && size_of::<Counted>() == 40);
