//! Which cgroups are recorded: first sight, new ones, and moves.

use crate::{
    globals,
    maps::{DEEP, EEXIST, EVENTS, FREE, GENERATION, KEYS, MADE, RECORD_NEW, count, increment},
    task::{Probe, Reader, follow},
};
use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::{
        bpf_get_current_pid_tgid, bpf_probe_read_kernel_str_bytes,
        generated::{
            bpf_get_current_ancestor_cgroup_id, bpf_get_current_task, bpf_probe_read_user,
        },
    },
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use core::{
    ffi::c_void,
    ptr::{read_volatile, write_volatile},
};
use seccast_common::{ARGUMENTS, Cgroup, LEVELS, Made, NAME, NO_SLOT, Stat, event};

/// A cgroup without an entry: gives it one there and then if it belongs to what is watched. 1 if it has one now, else 0.
///
/// A function of its own: its loop is verified once.
#[inline(never)]
pub(crate) fn first_sight(id: u64) -> u32 {
    let mut slot = NO_SLOT;
    let mut made = false;
    let mut level = 1;
    let mut last = 1;
    while level < LEVELS {
        // SAFETY: the helper returns 0 for a level that the cgroup does not have.
        let ancestor = unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) };
        last = ancestor;
        if ancestor == 0 {
            break;
        }
        if let Some(cgroup) = KEYS.get_ptr(ancestor) {
            // SAFETY: entries of KEYS are never removed while their slot is recorded. The nearest ancestor wins.
            slot = unsafe { (*cgroup).slot };
        }
        made |= MADE.get_ptr(ancestor).is_some();
        level += 1;
    }
    // SAFETY: as above.
    let deep = last != 0 && unsafe { bpf_get_current_ancestor_cgroup_id(LEVELS as i32) } != 0;
    if deep {
        // The walk has seen every ancestor that can have an entry, unless something is watched below the walk's last level.
        if is_watched_deep() {
            count(Stat::TooDeep);
        }
        // Whatever was made since is here under its own id.
        made |= MADE.get_ptr(id).is_some();
    }
    if slot != NO_SLOT {
        return u32::from(adopt(id, slot));
    }
    // SAFETY: an entry of an array.
    let record_new = RECORD_NEW
        .get_ptr(0)
        .is_some_and(|flag| unsafe { *flag } != 0);
    if !made || !record_new {
        return 0;
    }
    let Ok(Some(fresh)) = FREE.pop() else {
        count(Stat::SlotsFull);
        return 0;
    };
    if !adopt(id, fresh)
        || KEYS
            .get_ptr(id)
            .is_none_or(|cgroup| unsafe { (*cgroup).slot } != fresh)
    {
        // Another CPU was first: give it back.
        let _ = FREE.push(fresh, 0);
    } else if deep && let Some(flag) = DEEP.get_ptr_mut(0) {
        // SAFETY: an entry of an array.
        unsafe { write_volatile(flag, 1) };
    }
    u32::from(KEYS.get_ptr(id).is_some())
}

/// Is something watched by itself at a level that [`first_sight`] does not see?
#[inline(always)]
fn is_watched_deep() -> bool {
    // SAFETY: an entry of an array; volatile since user space writes it.
    DEEP.get_ptr(0)
        .is_some_and(|flag| unsafe { read_volatile(flag) } != 0)
}

#[inline(always)]
fn adopt(id: u64, slot: u32) -> bool {
    match KEYS.insert(id, Cgroup { slot, started: 0 }, BPF_NOEXIST as u64) {
        Ok(()) => true,
        // Another CPU was first.
        Err(EEXIST) => true,
        Err(_) => {
            count(Stat::CgroupsFull);
            false
        }
    }
}

/// A task changes its cgroup: nothing cached before may hit, not even by a css_set at the same address.
#[raw_tracepoint(tracepoint = "cgroup_attach_task")]
fn cgroup_attach(_: RawTracePointContext) -> i32 {
    if let Some(word) = GENERATION.get_ptr_mut(0) {
        // SAFETY: a word of a map.
        unsafe { increment(word) };
    }
    0
}

/// A cgroup is made: it and what is below it is new. Attached only while somebody waits for a container.
#[raw_tracepoint(tracepoint = "cgroup_mkdir")]
fn cgroup_mkdir(ctx: RawTracePointContext) -> i32 {
    let cgroup: u64 = ctx.arg(0);
    let cgroup = cgroup as *const u8;
    // The tracepoint's path is cut where the kernel's buffer for it ends: the parent's id and the own name are not.
    // SAFETY: the tracepoint's cgroup; offsets come from BTF.
    let (hierarchy, id, parent, name) = unsafe {
        (
            follow::<u32, 2>(
                cgroup,
                [
                    globals::CGROUP_ROOT.get(),
                    globals::CGROUP_ROOT_HIERARCHY_ID.get(),
                ],
            ),
            follow::<u64, 2>(
                cgroup,
                [globals::CGROUP_KN.get(), globals::KERNFS_NODE_ID.get()],
            ),
            follow::<u64, 3>(
                cgroup,
                [
                    globals::CGROUP_KN.get(),
                    globals::KERNFS_NODE_PARENT.get(),
                    globals::KERNFS_NODE_ID.get(),
                ],
            ),
            follow::<u64, 2>(
                cgroup,
                [globals::CGROUP_KN.get(), globals::KERNFS_NODE_NAME.get()],
            ),
        )
    };
    // It fires for every hierarchy; ids of others could equal one of cgroup2.
    if hierarchy != 0 {
        return 0;
    }
    if MADE.insert(id, 1, BPF_ANY as u64).is_err() {
        count(Stat::CgroupsFull);
    }
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(&ctx, "new cgroup {}", id);
    announce(id, parent, name as *const u8);
    0
}

/// Tells user space of a new cgroup, with the command line of who makes it.
#[inline(always)]
fn announce(id: u64, parent: u64, name: *const u8) {
    let Some(mut entry) = EVENTS.reserve_untyped::<Made>(0) else {
        count(Stat::RingFull);
        return;
    };
    // SAFETY: the helper has no precondition.
    let task = unsafe { bpf_get_current_task() } as *const u8;
    let at = entry.as_mut_ptr();
    // SAFETY: `at` is a Made reserved in the ring; every field is written before it is submitted. Offsets come from BTF, and
    // reads fail instead of faulting.
    unsafe {
        let mm: u64 = Probe::field(task, globals::TASK_MM.get());
        let (start, end): (u64, u64) = if mm == 0 {
            (0, 0)
        } else {
            (
                Probe::field(mm as *const u8, globals::MM_ARG_START.get()),
                Probe::field(mm as *const u8, globals::MM_ARG_END.get()),
            )
        };
        (*at).kind = event::MKDIR;
        (*at).pid = (bpf_get_current_pid_tgid() >> 32) as u32;
        (*at).cgroup = id;
        (*at).parent = parent;
        (*at).length = end.saturating_sub(start);
        (*at).name = [0; NAME];
        let _ = bpf_probe_read_kernel_str_bytes(name, &mut (*at).name);
        (*at).arguments = [0; ARGUMENTS];
        let size = (end.saturating_sub(start)).min(ARGUMENTS as u64) as u32;
        let to = (&raw mut (*at).arguments).cast();
        if bpf_probe_read_user(to, size, start as *const c_void) != 0 {
            (*at).length = 0;
        }
    }
    entry.submit(0);
}
