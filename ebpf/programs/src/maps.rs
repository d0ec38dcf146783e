//! Every map, and the counters.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, Queue, RingBuf},
    macros::btf_map,
};
use core::arch::asm;
use seccast_common::{
    ARGUMENT_RULES, ArgumentCall, ArgumentKey, ArgumentRule, BLOCK, Cgroup, Counted, DeniedArgs,
    DeniedKey, DenierKey, Ended, Entered, PHASES, Process, SLOTS, Slot, Stat, UnknownKey,
};

/// Recorded cgroups, by cgroup id.
#[btf_map]
pub(crate) static KEYS: HashMap<u64, Cgroup, 16384> = HashMap::new();

/// Cgroups that are not recorded, each with the generation for which that holds. LRU: it can displace only its own.
#[btf_map]
pub(crate) static IGNORED: LruHashMap<u64, u64, 4096> = LruHashMap::new();

/// Processes of recorded cgroups, by thread group id.
#[btf_map]
pub(crate) static TASKS: HashMap<u32, Process, 32768> = HashMap::new();

/// Processes that entered from outside, until somebody of their line executes something.
#[btf_map]
pub(crate) static ENTERED: HashMap<u64, Entered, 512> = HashMap::new();

/// Lines that ended without that.
#[btf_map]
pub(crate) static ENDED: HashMap<u64, Ended, 4096> = HashMap::new();

/// A new value of `ENTERED`, too large for the stack: its calls are always zero.
#[btf_map]
pub(crate) static ENTERING: PerCpuArray<Entered, 1> = PerCpuArray::new();

/// One a recording.
#[btf_map]
pub(crate) static SLOT: Array<Slot, SLOTS> = Array::new();

/// Slots that no cgroup has.
#[btf_map]
pub(crate) static FREE: Queue<u32, SLOTS> = Queue::new();

/// The calls: a block a slot and phase, a byte a number and ABI.
#[btf_map]
pub(crate) static BLOCKS: Array<[u8; BLOCK], { SLOTS * PHASES as usize }> = Array::new();

/// Numbers out of range.
#[btf_map]
pub(crate) static UNKNOWN: HashMap<UnknownKey, Counted, 4096> = HashMap::new();

/// Which calls have their arguments recorded: by ABI and number, 0 or a rule's index plus one.
#[btf_map]
pub(crate) static ARG_CALLS: Array<[u8; BLOCK], 1> = Array::new();

/// How.
#[btf_map]
pub(crate) static ARG_RULES: Array<ArgumentRule, ARGUMENT_RULES> = Array::new();

/// Values seen.
#[btf_map]
pub(crate) static ARGS: HashMap<ArgumentKey, u32, 16384> = HashMap::new();

/// How many values a call has; one more than the cap is an overflow.
#[btf_map]
pub(crate) static ARG_COUNTS: HashMap<ArgumentCall, u32, 4096> = HashMap::new();

/// Calls with an exit and no enter.
#[btf_map]
pub(crate) static DENIED: HashMap<DeniedKey, Counted, 4096> = HashMap::new();

/// Who made them. A call that finds no room here is counted above all the same.
#[btf_map]
pub(crate) static DENIERS: HashMap<DenierKey, Counted, 4096> = HashMap::new();

/// Some of their arguments, with the `ktime` of the first call with them.
#[btf_map]
pub(crate) static DENIED_ARGS: HashMap<DeniedArgs, u64, 4096> = HashMap::new();

/// 1 while denied calls are looked for: one word, so that no thread has its enter seen and its exit not.
#[btf_map]
pub(crate) static DENIALS: Array<u32, 1> = Array::new();

/// Threads by id: [`seccast_common::inside`], absent where it is not known. Empty while denied calls are not looked for.
#[btf_map]
pub(crate) static INSIDE: HashMap<u32, u32, 32768> = HashMap::new();

/// Cgroups made since user space asked to record new ones, by cgroup id. Not LRU: a refused entry is counted.
#[btf_map]
pub(crate) static MADE: HashMap<u64, u32, 8192> = HashMap::new();

/// Explanations: who called first, what was executed. Losing one loses no call.
#[btf_map]
pub(crate) static EVENTS: RingBuf<(), { 1 << 20 }> = RingBuf::new();

/// Ways to miss something, by [`Stat`].
#[btf_map]
pub(crate) static STATS: PerCpuArray<u64, { Stat::ALL.len() }> = PerCpuArray::new();

/// Bumped by user space when what is watched changes and by `cgroup_attach`: whatever was cached before is stale.
/// Mapped into user space, so that both sides add to one word.
#[btf_map]
pub(crate) static GENERATION: Array<u64, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// 1 while new cgroups get a slot of their own.
#[btf_map]
pub(crate) static RECORD_NEW: Array<u32, 1> = Array::new();

/// 1 once something is watched by itself at a level that the walk of a first sight does not reach.
#[btf_map]
pub(crate) static DEEP: Array<u32, 1> = Array::new();

/// What an insert with `BPF_NOEXIST` returns when another CPU was first.
pub(crate) const EEXIST: i32 = -17;

/// Counts a way to miss something.
#[inline(always)]
pub(crate) fn count(stat: Stat) {
    if let Some(counter) = STATS.get_ptr_mut(stat as u32) {
        // SAFETY: this CPU's own counter.
        unsafe { *counter += 1 };
    }
}

/// Adds one to a word that others add to as well. `AtomicU64` has no `fetch_add` for this target, and kernels before 5.12
/// know no other atomic than this one.
///
/// # Safety
/// `word` points into a map.
#[inline(always)]
pub(crate) unsafe fn increment(word: *mut u64) {
    // SAFETY: promised by the caller.
    unsafe { add(word, 1) };
}

/// The same with any number, which wraps.
///
/// # Safety
/// `word` points into a map.
#[inline(always)]
pub(crate) unsafe fn add(word: *mut u64, number: u64) {
    // SAFETY: promised by the caller.
    unsafe {
        asm!("lock *(u64 *)({word} + 0) += {number}", word = in(reg) word, number = in(reg) number)
    };
}
