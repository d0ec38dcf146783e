//! Control groups of test containers in every hierarchy: v2, v1 and both beside each other.

use crate::lock::{is_orphaned, unique};
use crate::process;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The group below which everything of the rig lives.
pub const PARENT: &str = "/seccast-test";

/// Where the hierarchies are mounted.
#[derive(Clone, Debug)]
pub struct Mounts {
    /// The cgroup2 mount.
    pub unified: PathBuf,
    /// The mounts of v1 hierarchies; empty on a pure v2 machine.
    pub legacy: Vec<PathBuf>,
}

impl Mounts {
    /// Reads `/proc/self/mountinfo`.
    pub fn read() -> Result<Self> {
        let text = fs::read_to_string("/proc/self/mountinfo")
            .context("cannot read /proc/self/mountinfo")?;
        Self::parse(&text)
    }

    fn parse(mountinfo: &str) -> Result<Self> {
        let (mut unified, mut legacy) = (None, Vec::new());
        for line in mountinfo.lines() {
            let Some((before, after)) = line.split_once(" - ") else {
                continue;
            };
            let Some(point) = before.split(' ').nth(4) else {
                continue;
            };
            match after.split(' ').next() {
                Some("cgroup2") if unified.is_none() => unified = Some(PathBuf::from(point)),
                Some("cgroup") => legacy.push(PathBuf::from(point)),
                _ => {}
            }
        }
        Ok(Self {
            unified: unified.context("no cgroup2 is mounted")?,
            legacy,
        })
    }

    /// The cgroup2 folder of a group such as `/seccast-test/x`.
    #[must_use]
    pub fn dir(&self, path: &str) -> PathBuf {
        self.unified.join(path.trim_start_matches('/'))
    }

    /// Removes a group below [`PARENT`] with everything below it in every hierarchy.
    ///
    /// What lies between stays: a [`Scope`] is known by its inode, so no one else may remove it.
    /// Processes in the group must be gone or about to go; waits a little for them.
    pub fn remove(&self, path: &str) -> Result<()> {
        let relative = path.trim_start_matches('/');
        ensure!(
            path.starts_with(PARENT) && !path.split('/').any(|part| part == ".."),
            "{path} is not below {PARENT}"
        );
        for mount in std::iter::once(&self.unified).chain(&self.legacy) {
            let dir = mount.join(relative);
            process::poll(
                &format!("{} to become removable", dir.display()),
                Duration::from_secs(60),
                || Ok(remove_tree(&dir)),
            )?;
        }
        Ok(())
    }
}

impl Mounts {
    /// Removes [`PARENT`] in every hierarchy, unless something is left in it.
    pub fn remove_parent(&self) {
        for mount in std::iter::once(&self.unified).chain(&self.legacy) {
            let removed = fs::remove_dir(mount.join(PARENT.trim_start_matches('/')));
            // Somebody without a lock has a group in the first: a container of his may be about to have one in the others.
            if removed.is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
                break;
            }
        }
    }

    /// Ends and removes what killed tests left below [`PARENT`], and what runc remembers of it.
    pub(crate) fn remove_orphans(&self) {
        for mount in std::iter::once(&self.unified).chain(&self.legacy) {
            let groups = fs::read_dir(mount.join(PARENT.trim_start_matches('/')));
            for group in groups.into_iter().flatten().flatten() {
                if group.file_name().to_str().is_some_and(is_orphaned) {
                    // v1 has no such file; whoever is there is in the first hierarchy as well.
                    let _ = fs::write(group.path().join("cgroup.kill"), "1");
                    let gone = || Ok(remove_tree(&group.path()));
                    let _ = process::poll("orphans to end", Duration::from_secs(5), gone);
                }
            }
        }
        let states = fs::read_dir("/run/runc").into_iter().flatten().flatten();
        for state in states.filter(|state| state.file_name().to_str().is_some_and(is_orphaned)) {
            let text = fs::read_to_string(state.path().join("state.json"));
            if text.is_ok_and(|text| text.contains(PARENT)) {
                let _ = fs::remove_dir_all(state.path());
            }
        }
    }
}

/// A cgroup2 group in which a witness looks; one of the rig's own is removed on drop with all that is in it.
///
/// Its id is known before anything runs in it; groups that containers make below it come and go.
#[derive(Debug)]
pub struct Scope {
    mounts: Mounts,
    path: String,
    id: u64,
    made: bool,
}

impl Scope {
    /// Makes a group of one's own in the cgroup2 hierarchy, `/seccast-test/NAME-…`.
    pub fn new(name: &str) -> Result<Self> {
        Self::at(format!("{PARENT}/{}", unique(name)))
    }

    /// Any group, such as the one where an engine puts its containers; made where it is missing, and only then removed.
    pub fn at(path: impl Into<String>) -> Result<Self> {
        let (mounts, path) = (Mounts::read()?, path.into());
        let dir = mounts.dir(&path);
        let made = !dir.exists();
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let id = id(&dir)?;
        Ok(Self {
            mounts,
            path,
            id,
            made,
        })
    }

    /// The path below the mount.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The folder of the group.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.mounts.dir(&self.path)
    }

    /// Moves a process into the group.
    pub fn add(&self, pid: u32) -> Result<()> {
        let procs = self.dir().join("cgroup.procs");
        fs::write(&procs, pid.to_string())
            .with_context(|| format!("cannot write {pid} to {}", procs.display()))
    }

    /// What `bpf_get_current_cgroup_id()` returns in it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The path of a group below this one.
    #[must_use]
    pub fn child(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        // Nothing to report to: what still runs in it belongs to a test that has failed already.
        if self.made && self.path.starts_with(PARENT) {
            let _ = self.mounts.remove(&self.path);
        } else if self.made {
            let _ = fs::remove_dir(self.dir());
        }
    }
}

/// The id of a cgroup2 folder: its inode.
pub fn id(dir: &Path) -> Result<u64> {
    Ok(fs::metadata(dir)
        .with_context(|| format!("cannot read {}", dir.display()))?
        .ino())
}

/// Removes a cgroup and all below it, as far as they are empty; true when it is gone.
pub fn remove_tree(dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(dir) else {
        return true;
    };
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    {
        remove_tree(&entry.path());
    }
    fs::remove_dir(dir).is_ok() || !dir.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_and_pure_machines_are_told_apart() {
        let hybrid = Mounts::parse(
            "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
             32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n",
        )
        .unwrap();
        assert_eq!(hybrid.dir("/a/b"), Path::new("/sys/fs/cgroup/unified/a/b"));
        assert_eq!(hybrid.legacy, [Path::new("/sys/fs/cgroup/cpu")]);
        let pure = Mounts::parse("31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n").unwrap();
        assert_eq!(
            (pure.dir("/a"), pure.legacy.len()),
            (PathBuf::from("/sys/fs/cgroup/a"), 0)
        );
        assert!(Mounts::parse("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n").is_err());
    }

    #[test]
    fn nothing_outside_the_rigs_own_group_is_removed() {
        let mounts = Mounts {
            unified: "/nonexistent".into(),
            legacy: Vec::new(),
        };
        assert!(mounts.remove("/docker").is_err());
        assert!(mounts.remove("/seccast-test/../docker").is_err());
        assert!(mounts.remove("/seccast-test/x").is_ok());
    }
}
