//! A word of a map that user space and the programs share.

use super::KernelError;
use aya::{Ebpf, maps::Map};
use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

/// A word of a map, mapped: both sides add to it atomically.
pub(super) struct Word {
    at: NonNull<AtomicU64>,
    length: usize,
    /// Keeps the map.
    _fd: OwnedFd,
}

// SAFETY: the mapping belongs to the value and is only used atomically.
unsafe impl Send for Word {}

impl Word {
    pub(super) fn map(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, KernelError> {
        let Some(Map::Array(map)) = ebpf.map(name) else {
            return Err(KernelError::Foreign { name });
        };
        let io = || KernelError::Io {
            action: "mapping the generation word",
            source: io::Error::last_os_error(),
        };
        // SAFETY: duplicates a valid descriptor.
        let fd = unsafe { libc::fcntl(map.fd().as_fd().as_raw_fd(), libc::F_DUPFD_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: no argument is a pointer.
        let length = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
        // SAFETY: a new mapping of the array's first page, where its one value lies (BPF_F_MMAPABLE, 5.5+).
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        let at = NonNull::new(at)
            .filter(|at| at.as_ptr() != libc::MAP_FAILED)
            .ok_or_else(io)?;
        Ok(Self {
            at: at.cast(),
            length,
            _fd: fd,
        })
    }

    pub(super) fn bump(&self) {
        // SAFETY: mapped for as long as `self` lives.
        unsafe { self.at.as_ref() }.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Word {
    fn drop(&mut self) {
        // SAFETY: what `map` mapped, once.
        let _ = unsafe { libc::munmap(self.at.as_ptr().cast(), self.length) };
    }
}
