//! Which recording a process belongs to. It begins in a cgroup and goes with the process, as a filter does.

use crate::maps::{SLOT, TASKS};
use core::ptr::read_volatile;
use seccast_common::{Process, phase};

/// The entry of a process, if its recording is under way: a slot that was given back has another epoch.
#[inline(always)]
pub(crate) fn member(tgid: u32) -> Option<*mut Process> {
    let process = TASKS.get_ptr_mut(tgid)?;
    // SAFETY: an entry of the map, removed only when its process or its slot is gone; entries of an array are never freed.
    unsafe {
        let slot = SLOT.get_ptr((*process).slot)?;
        (read_volatile(&raw const (*slot).epoch) == (*process).epoch).then_some(process)
    }
}

/// Does its recording hold where it is now? `here` is the slot of its cgroup. Who executed something takes its recording along
/// to a cgroup that has none; who only came in, and the runtime, do not.
#[inline(always)]
pub(crate) fn holds(process: *const Process, here: Option<u32>) -> bool {
    // SAFETY: an entry of the map, of the current process.
    unsafe {
        match here {
            Some(slot) => (*process).slot == slot,
            None => (*process).phase >= phase::EXEC && (*process).phase != phase::UNDECIDED,
        }
    }
}
