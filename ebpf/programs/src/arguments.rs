//! The arguments of the few calls whose values a profile may one day hold to: distinct, masked, capped.

use crate::{
    maps::{ARG_CALLS, ARG_COUNTS, ARG_RULES, ARGS, EEXIST, count},
    provenance::argument,
};
use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use seccast_common::{
    ARGUMENT_VALUES, ArgumentCall, ArgumentKey, BLOCK, PHASES, SEEN, SEEN_ARGUMENTS, Stat,
};

/// What the byte of a number becomes at its first call.
#[inline(always)]
pub(crate) fn seen(at: usize) -> u8 {
    if rule(at) == 0 { SEEN } else { SEEN_ARGUMENTS }
}

#[inline(always)]
fn rule(at: usize) -> u8 {
    // SAFETY: masked to the block; user space writes it before anything is attached.
    ARG_CALLS.get_ptr(0).map_or(0, |rules| unsafe {
        *rules.cast::<u8>().add(at & (BLOCK - 1))
    })
}

/// Takes the arguments of a call into its set.
#[inline(always)]
pub(crate) fn take(block: u32, abi: u32, nr: u32, at: usize, regs: *const u8) {
    let Some(rule) = u32::from(rule(at))
        .checked_sub(1)
        .and_then(|index| ARG_RULES.get(index))
    else {
        return;
    };
    let low = argument(regs, abi, rule.low) as u32 & rule.low_mask;
    let high = if rule.high_mask == 0 {
        0
    } else {
        argument(regs, abi, rule.high) as u32 & rule.high_mask
    };
    let call = ArgumentCall {
        slot: block / PHASES,
        abi_phase: (abi << 16) | (block % PHASES),
        nr,
        pad: 0,
    };
    let key = ArgumentKey {
        call,
        value: (u64::from(high) << 32) | u64::from(low),
    };
    if ARGS.get_ptr(key).is_some() {
        return;
    }
    // Two CPUs may count one value twice: a set that is cut a little early, and says so.
    // SAFETY: an entry of the map, removed by user space only.
    let before = ARG_COUNTS
        .get_ptr(call)
        .map_or(0, |count| unsafe { *count });
    if before > ARGUMENT_VALUES {
        return;
    }
    if ARG_COUNTS.insert(call, before + 1, BPF_ANY as u64).is_err() {
        count(Stat::ArgumentsFull);
        return;
    }
    if before < ARGUMENT_VALUES
        && ARGS
            .insert(key, 1, BPF_NOEXIST as u64)
            .is_err_and(|error| error != EEXIST)
    {
        count(Stat::ArgumentsFull);
    }
}
