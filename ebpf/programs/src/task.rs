//! The two ways to read a `task_struct`.

use crate::globals;
use aya_ebpf::helpers::{
    bpf_probe_read_kernel,
    generated::{bpf_get_current_task, bpf_get_current_task_btf},
};

/// How a program reads the current task.
pub(crate) trait Reader {
    /// The current task.
    fn current() -> *const u8;
    /// A field of a task.
    ///
    /// # Safety
    /// `task` is a `task_struct` and `offset` that of a `T` in it.
    unsafe fn field<T: Copy + Default>(task: *const u8, offset: usize) -> T;
}

/// Direct loads: the verifier knows the type of the task (5.11+, tp_btf programs).
pub(crate) struct Direct;

/// probe_read: any kernel, any program.
pub(crate) struct Probe;

impl Reader for Direct {
    #[inline(always)]
    fn current() -> *const u8 {
        // SAFETY: the helper has no precondition.
        unsafe { bpf_get_current_task_btf() as *const u8 }
    }

    #[inline(always)]
    unsafe fn field<T: Copy + Default>(task: *const u8, offset: usize) -> T {
        // SAFETY: promised by the caller; the verifier checks it against the kernel's BTF.
        unsafe { core::ptr::read_volatile(task.add(offset).cast()) }
    }
}

impl Reader for Probe {
    #[inline(always)]
    fn current() -> *const u8 {
        // SAFETY: the helper has no precondition.
        unsafe { bpf_get_current_task() as *const u8 }
    }

    #[inline(always)]
    unsafe fn field<T: Copy + Default>(task: *const u8, offset: usize) -> T {
        // SAFETY: probe_read fails instead of faulting.
        unsafe { bpf_probe_read_kernel(task.add(offset).cast()) }.unwrap_or_default()
    }
}

/// Filters on a task: `seccomp.filter_count`.
#[inline(always)]
pub(crate) fn filters(task: *const u8) -> u32 {
    // SAFETY: the offset comes from BTF; probe_read fails instead of faulting.
    unsafe { Probe::field(task, globals::TASK_FILTERS.get()) }
}

/// Follows a chain of pointers from `start`: each offset but the last holds a pointer, the last a `T`.
///
/// # Safety
/// Each offset belongs to the structure that the chain has reached.
#[inline(always)]
pub(crate) unsafe fn follow<T: Copy + Default, const N: usize>(
    start: *const u8,
    offsets: [usize; N],
) -> T {
    let mut at = start;
    let mut index = 0;
    while index + 1 < N {
        // SAFETY: probe_read fails instead of faulting.
        let next: u64 = unsafe { Probe::field(at, offsets[index]) };
        if next == 0 {
            return T::default();
        }
        at = next as *const u8;
        index += 1;
    }
    // SAFETY: as above.
    unsafe { Probe::field(at, offsets[N - 1]) }
}
