//! Who called first: explanations, never the record itself.

use crate::{
    maps::{EVENTS, TASKS, count, increment},
    task::Probe,
    task::Reader,
};
use aya_ebpf::{
    bindings::BPF_NOEXIST,
    btf_maps::HashMap,
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_probe_read_kernel_str_bytes,
        generated::bpf_ktime_get_ns,
    },
};
use seccast_common::{Counted, Sighting, Stat, TEXT, Text, abi, event};

/// x86: offsets in pt_regs of the six arguments of a 64-bit call (di si dx r10 r8 r9).
const ARGS_64: [usize; 6] = [112, 104, 96, 56, 72, 64];
/// x86: the same for a 32-bit call (bx cx dx si di bp).
const ARGS_32: [usize; 6] = [40, 88, 96, 104, 112, 32];
/// arm64: x0 to x5.
const ARGS_ARM: [usize; 6] = [0, 8, 16, 24, 32, 40];

/// An argument of the current call, by the ABI of the call.
#[inline(always)]
pub(crate) fn argument(regs: *const u8, abi: u32, index: u32) -> u64 {
    let offsets = if crate::globals::ARCH.get() == 1 {
        &ARGS_ARM
    } else if abi == abi::COMPAT {
        &ARGS_32
    } else {
        &ARGS_64
    };
    let Some(offset) = offsets.get(index as usize) else {
        return 0;
    };
    // Bounded, since the verifier takes no other offset from the registers.
    // SAFETY: the tracepoint's registers; probe_read fails instead of faulting.
    unsafe { Probe::field(regs, core::hint::black_box(*offset) & 127) }
}

/// A number's first call in a block.
#[inline(always)]
pub(crate) fn sighting(slot: u32, phase: u32, abi: u32, nr: u32, regs: *const u8) {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let Some(mut entry) = EVENTS.reserve_untyped::<Sighting>(0) else {
        count(Stat::RingFull);
        return;
    };
    let at = entry.as_mut_ptr();
    // SAFETY: `at` is a Sighting reserved in the ring; every field is written before it is submitted. Field by field, since
    // the whole would be built on the stack first.
    unsafe {
        (*at).kind = event::SIGHTING;
        (*at).slot = slot;
        (*at).phase = phase;
        (*at).abi = abi;
        (*at).nr = nr;
        (*at).pid = tgid;
        (*at).time = bpf_ktime_get_ns();
        (*at).image = TASKS.get_ptr(tgid).map_or(0, |process| (*process).image);
        (*at).comm = bpf_get_current_comm().unwrap_or_default();
        let mut index = 0;
        while index < 6 {
            (*at).args[index as usize] = argument(regs, abi, index);
            index += 1;
        }
    }
    entry.submit(0);
}

/// An event with a text, read from the kernel address `text`.
#[inline(always)]
pub(crate) fn text(kind: u32, slot: u32, phase: u32, time: u64, cgroup: u64, text: *const u8) {
    let Some(mut entry) = EVENTS.reserve_untyped::<Text>(0) else {
        count(Stat::RingFull);
        return;
    };
    let at = entry.as_mut_ptr();
    // SAFETY: `at` is a Text reserved in the ring; every field is written before it is submitted.
    unsafe {
        (*at).kind = kind;
        (*at).slot = slot;
        (*at).phase = phase;
        (*at).pid = (bpf_get_current_pid_tgid() >> 32) as u32;
        (*at).time = time;
        (*at).cgroup = cgroup;
        (*at).comm = bpf_get_current_comm().unwrap_or_default();
        (*at).text = [0; TEXT];
        let _ = bpf_probe_read_kernel_str_bytes(text, &mut (*at).text);
    }
    entry.submit(0);
}

/// The first of a kind, by the current process.
#[inline(always)]
pub(crate) fn first() -> Counted {
    Counted {
        count: 1,
        // SAFETY: the helper has no precondition.
        time: unsafe { bpf_ktime_get_ns() },
        pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        samples: 0,
        comm: bpf_get_current_comm().unwrap_or_default(),
    }
}

/// One more of a kind, by the current process; `None` where the map has no room.
#[inline(always)]
pub(crate) fn one_more<K, const N: usize>(
    map: &HashMap<K, Counted, N>,
    key: K,
) -> Option<*mut Counted> {
    let counted = map.get_ptr_mut(&key).or_else(|| {
        let mut counted = first();
        counted.count = 0;
        // Another CPU may be first: then there is an entry all the same.
        let _ = map.insert(&key, counted, BPF_NOEXIST as u64);
        map.get_ptr_mut(&key)
    })?;
    add(counted);
    Some(counted)
}

/// One more of it.
#[inline(always)]
pub(crate) fn add(counted: *mut Counted) {
    // SAFETY: an entry of a map whose entries are removed only by user space.
    unsafe { increment(&raw mut (*counted).count) };
}
