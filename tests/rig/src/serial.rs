//! One test at a time: tests that measure the machine, or load programs into its kernel, wait for each other.

use anyhow::{Context as _, Result};
use std::fs::File;

/// Held while a test runs.
#[derive(Debug)]
pub struct Serial {
    _lock: File,
}

/// Waits for every other holder, in this process and in others of the same cache.
pub fn serial() -> Result<Serial> {
    let dir = crate::cache_dir();
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let lock = File::create(dir.join("rig.lock")).context("cannot create the lock of the rig")?;
    lock.lock().context("cannot lock the rig")?;
    Ok(Serial { _lock: lock })
}

impl Drop for Serial {
    /// Whoever holds the lock is alone: only now may the group go in which every other one lies. A container that ended
    /// beside another that was starting took it away from under it.
    fn drop(&mut self) {
        if let Ok(mounts) = crate::cgroup::Mounts::read() {
            mounts.remove_parent();
        }
    }
}
