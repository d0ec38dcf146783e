//! The end of a cluster: what runs, what is mounted, what lies around; also what a crash has left.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use seccast_rig::cgroup::{Mounts, remove_tree};
use seccast_rig::cluster::{Cluster, GROUP};
use seccast_rig::process::poll;

/// Where daemons write whatever they are told: each node has its own there, mounted over these.
pub(super) const FOLDERS: [&str; 7] = [
    "/var/lib/kubelet",
    "/var/lib/containerd",
    "/var/lib/cni",
    "/run/containerd",
    "/run/nri",
    "/var/log/pods",
    "/var/log/containers",
];

/// Below the cluster's folder: which of them had to be made.
const MADE: &str = "made-folders";

/// Below the cluster's folder: what stays after the end.
pub(super) const LOGS: &str = "logs";

/// Makes the empty folders that nodes mount theirs over.
pub(super) fn make_folders(dir: &Path) -> Result<()> {
    let missing: Vec<_> = FOLDERS
        .iter()
        .filter(|folder| !Path::new(folder).exists())
        .copied()
        .collect();
    // First, so that a crash leaves none that is not known.
    fs::write(dir.join(MADE), missing.join("\n"))
        .context("failed to note which folders are made")?;
    for folder in missing {
        fs::create_dir_all(folder).with_context(|| format!("failed to make {folder}"))?;
    }
    Ok(())
}

/// Kills every process of the cluster and waits until they are gone; with them go namespaces, mounts and links.
pub(super) fn end() -> Result<()> {
    let group = Mounts::read()?.dir(GROUP);
    if !group.exists() {
        return Ok(());
    }
    let kill = group.join("cgroup.kill");
    fs::write(&kill, "1").with_context(|| {
        format!(
            "failed to write to {}; it needs root and Linux 5.14",
            kill.display()
        )
    })?;
    let events = group.join("cgroup.events");
    poll(
        "the processes of the cluster to end",
        Duration::from_secs(30),
        || {
            let events = fs::read_to_string(&events).unwrap_or_default();
            Ok(!events.contains("populated 1"))
        },
    )
}

/// Removes all that lies around: groups, the nodes' disks, the folders made for them. Logs stay.
pub(super) fn remove() -> Result<()> {
    end()?;
    let mounts = Mounts::read()?;
    for mount in std::iter::once(&mounts.unified).chain(&mounts.legacy) {
        let group = mount.join(GROUP.trim_start_matches('/'));
        poll(
            &format!("{} to become removable", group.display()),
            Duration::from_secs(10),
            || Ok(remove_tree(&group)),
        )?;
    }
    let dir = Cluster::folder();
    let made = fs::read_to_string(dir.join(MADE)).unwrap_or_default();
    for folder in made.lines() {
        // Somebody may have put something in it meanwhile; then it is theirs.
        let _ = fs::remove_dir(folder);
    }
    let Ok(entries) = fs::read_dir(&dir) else {
        return Ok(());
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.ends_with(LOGS) {
            continue;
        }
        remove_path(&path).with_context(|| format!("failed to remove {}", path.display()))?;
    }
    Ok(())
}

fn remove_path(path: &PathBuf) -> std::io::Result<()> {
    if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}
