//! Which tests may run beside each other. Every test on the machine says it first: most share nothing and run [`beside`]
//! others, who looks at the whole machine or needs all of it runs [`alone`].
//!
//! The locks are the machine's, not a cache's or a checkout's: there is one kernel.

use crate::cgroup::Mounts;
use anyhow::{Context as _, Result};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where the locks are.
const DIR: &str = "/run";

/// Shared by those beside each other, exclusive of who is alone.
const LOCK: &str = "seccast-test.lock";

/// Passed on the way to [`LOCK`], and held by who waits to be alone: else others, one after the other, could keep it
/// waiting for ever.
const GATE: &str = "seccast-test.gate";

/// There is one cluster on a machine, and each test in it has it for itself.
const CLUSTER: &str = "seccast-test.cluster";

/// Held while a test runs.
#[derive(Debug)]
pub struct Lock {
    lock: File,
    cluster: Option<File>,
}

/// Waits while somebody is alone. What the test makes has names of its own, see [`unique`].
pub fn beside() -> Result<Lock> {
    Ok(Lock::taken(shared(DIR.as_ref())?))
}

/// Waits for every other holder; who comes meanwhile waits behind.
pub fn alone() -> Result<Lock> {
    Ok(Lock::taken(exclusive(DIR.as_ref())?))
}

/// As [`beside`], but one at a time among the tests in the cluster.
pub fn in_cluster() -> Result<Lock> {
    // First: who waits for the cluster must keep nobody from being alone.
    let cluster = open(DIR.as_ref(), CLUSTER)?;
    cluster.lock().context(CLUSTER)?;
    let mut lock = beside()?;
    lock.cluster = Some(cluster);
    Ok(lock)
}

fn shared(dir: &Path) -> Result<File> {
    let (gate, lock) = (open(dir, GATE)?, open(dir, LOCK)?);
    gate.lock_shared().context(GATE)?;
    lock.lock_shared().context(LOCK)?;
    Ok(lock)
}

fn exclusive(dir: &Path) -> Result<File> {
    let (gate, lock) = (open(dir, GATE)?, open(dir, LOCK)?);
    gate.lock().context(GATE)?;
    lock.lock().context(LOCK)?;
    Ok(lock)
}

fn open(dir: &Path, name: &str) -> Result<File> {
    let path = dir.join(name);
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(false).open(&path);
    file.with_context(|| format!("cannot open {}, which root can", path.display()))
}

impl Lock {
    fn taken(lock: File) -> Self {
        if let Ok(mounts) = Mounts::read() {
            mounts.remove_orphans();
        }
        Self {
            lock,
            cluster: None,
        }
    }
}

impl Drop for Lock {
    /// The group in which every other one lies goes with the last holder: beside others, it would be taken away from under
    /// a container that starts. Whoever can have the lock alone is the last; that the shared one is lost by asking is no harm now.
    fn drop(&mut self) {
        if self.lock.try_lock().is_ok()
            && let Ok(mounts) = Mounts::read()
        {
            mounts.remove_parent();
        }
    }
}

static COUNT: AtomicU32 = AtomicU32::new(1);

/// A name that nobody else on the machine uses, for a container, a group, a namespace.
#[must_use]
pub fn unique(name: &str) -> String {
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{}-{count}", std::process::id())
}

/// Whether a name is one of [`unique`]'s and its process has ended.
pub(crate) fn is_orphaned(name: &str) -> bool {
    let mut parts = name.rsplit('-');
    let (count, pid) = (parts.next(), parts.next());
    let number = |part: Option<&str>| part?.parse::<u32>().ok();
    let (Some(_), Some(pid), Some(_)) = (number(count), number(pid), parts.next()) else {
        return false;
    };
    !Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process;
    use std::sync::Mutex;
    use std::time::Duration;

    #[test]
    fn who_waits_to_be_alone_is_not_overtaken() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let order = Mutex::new(Vec::new());
        let (threads, waits) = std::sync::mpsc::channel();
        let taking = |name: &'static str, take: fn(&Path) -> Result<File>| {
            // SAFETY: the call has no arguments.
            let thread = unsafe { libc::gettid() };
            threads.clone().send(thread).unwrap();
            let lock = take(dir).unwrap();
            order.lock().unwrap().push(name);
            drop(lock);
        };
        // Returns when the thread can go no further.
        let waits = |what: &str| {
            let thread = waits.recv().unwrap();
            let waits = || Ok(process::sleeps_in(thread) == Some(libc::SYS_flock));
            process::poll(what, Duration::from_secs(60), waits).unwrap();
        };
        let first = [shared(dir).unwrap(), shared(dir).unwrap()];
        std::thread::scope(|scope| {
            scope.spawn(|| taking("alone", exclusive));
            waits("who wants to be alone");
            scope.spawn(|| taking("beside", shared));
            waits("who comes after");
            assert!(order.lock().unwrap().is_empty());
            drop(first);
        });
        assert_eq!(order.into_inner().unwrap(), ["alone", "beside"]);
    }

    #[test]
    fn a_name_of_ones_own_is_no_orphan_while_its_process_lives() {
        let [one, two] = [unique("web"), unique("web")];
        assert_ne!(one, two);
        assert!(!is_orphaned(&one) && !is_orphaned("web") && !is_orphaned("web-1"));
        // No pid is that large.
        assert!(is_orphaned(&format!("a-web-{}-1", i32::MAX)));
        assert!(!is_orphaned(&format!("{}-1", i32::MAX)));
    }
}
