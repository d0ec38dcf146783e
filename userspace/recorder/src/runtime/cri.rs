//! Where the runtimes behind a kubelet keep their containers' bundles: they tell which Pod a container belongs to, without
//! the API server and without a runtime's socket.

use super::{
    bundle::Bundle,
    line::{base, shim_addresses},
};
use crate::{cgroup::is_id, proc};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// containerd's namespace for a kubelet's containers.
pub(crate) const NAMESPACE: &str = "k8s.io";
/// The task folder (containerd 1.4+) below its state folder.
const TASKS: &str = "io.containerd.runtime.v2.task";
/// State folders of containerd: its own, and those of k3s and RKE2, k0s, and MicroK8s. Others are found by the shims that run.
pub(crate) const STATES: [&str; 4] = [
    "/run/containerd",
    "/run/k3s/containerd",
    "/run/k0s/containerd",
    "/var/snap/microk8s/common/run/containerd",
];
/// CRI-O's, by the library that it shares with podman.
pub(crate) const CRIO: &str = "/run/containers/storage/overlay-containers";
/// A file with a program's path in it.
const LIMIT: u64 = 4096;

/// A container's bundle.
#[derive(Clone, Debug)]
pub struct Contained {
    /// The container's id.
    pub id: String,
    /// Its bundle.
    pub bundle: Bundle,
    /// The low-level runtime's program, where containerd noted it.
    pub runtime: Option<String>,
    /// containerd keeps it.
    pub containerd: bool,
}

/// The folders that exist here, each with a folder for every container.
#[must_use]
pub fn folders() -> Vec<PathBuf> {
    let mut states: BTreeSet<PathBuf> = STATES.map(PathBuf::from).into();
    // A containerd whose socket is elsewhere has its state beside it, if nobody configured something else.
    states.extend(shim_addresses(NAMESPACE).iter().filter_map(|socket| {
        let folder = socket.parent()?;
        Some(folder.to_owned())
    }));
    let tasks = states.iter().map(|state| state.join(TASKS).join(NAMESPACE));
    tasks
        .chain([PathBuf::from(CRIO)])
        .filter(|folder| is_trusted(folder))
        .collect()
}

/// Who may put a bundle into a folder says what a container is called: nobody else than root and this process's user. `/tmp` is
/// root's as well, and everybody's.
fn is_trusted(folder: &Path) -> bool {
    let own = fs::metadata("/proc/self").map_or(0, |own| own.uid());
    fs::metadata(folder).is_ok_and(|found| {
        found.is_dir() && [0, own].contains(&found.uid()) && found.mode() & 0o022 == 0
    })
}

/// The folders in which [`folders`] looks first, for messages.
#[must_use]
pub fn usual() -> String {
    let states = STATES.map(|state| format!("{state}/{TASKS}/{NAMESPACE}"));
    format!("{}, {CRIO}", states.join(", "))
}

/// The container with an id of 64 digits.
#[must_use]
pub fn container(folders: &[PathBuf], id: &str) -> Option<Contained> {
    if !is_id(id) {
        return None;
    }
    folders.iter().find_map(|folder| read(folder, id))
}

/// Every container of a Pod, the sandboxes too.
#[must_use]
pub fn containers(folders: &[PathBuf]) -> Vec<Contained> {
    let names = |folder: &PathBuf| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.collect::<Vec<_>>()
    };
    let all = folders
        .iter()
        .flat_map(|folder| names(folder).into_iter().map(move |name| (folder, name)));
    // podman's containers share CRI-O's folder.
    all.filter_map(|(folder, name)| read(folder, &name))
        .filter(|found| found.bundle.pod().is_some())
        .collect()
}

fn read(folder: &Path, id: &str) -> Option<Contained> {
    let folder = folder.join(id);
    let containerd = Bundle::read(&folder);
    let runtime = proc::read_file(&folder.join("runtime"), LIMIT).and_then(|text| {
        let text = String::from_utf8(text).ok()?;
        let program = base(text.trim());
        // Older ones have the shim's name there.
        (!program.is_empty() && !program.starts_with("io.containerd.")).then(|| program.to_owned())
    });
    Some(Contained {
        id: id.to_owned(),
        runtime,
        containerd: containerd.is_some(),
        bundle: containerd.or_else(|| Bundle::read(&folder.join("userdata")))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_folder_that_others_can_write_to_is_not_believed() {
        let folder = std::env::temp_dir().join(format!("seccast-bundles-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let trusted = [0o711, 0o755, 0o775, 0o777, 0o1777].map(|mode| {
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
            is_trusted(&folder)
        });
        fs::remove_dir(&folder).unwrap();
        assert_eq!(trusted, [true, true, false, false, false]);
        assert!(!is_trusted(&folder));
    }
}
