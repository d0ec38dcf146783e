//! cgroup2 directories: their ids, their processes, and where they are mounted.
//!
//! A cgroup's id is the inode of its directory and what `bpf_get_current_cgroup_id` returns (4.18+).
//!
//! A path may be longer than one `open` takes: every file here is opened by way of `reach`.

mod reach;
mod tree;

pub use tree::Tree;

use reach::reach;
use seccast_model::near;
use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs, io,
    os::unix::fs::{DirEntryExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

/// Why a cgroup could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// There is no cgroup2 hierarchy.
    #[error(
        "no cgroup2 hierarchy is mounted: containers cannot be told apart on a pure cgroup v1 host; mount one (`mount -t cgroup2 none /sys/fs/cgroup/unified`) or boot with systemd.unified_cgroup_hierarchy=1"
    )]
    NotMounted,
    /// A file could not be read or written.
    #[error("cannot {action} {path}")]
    Io {
        /// `read`, `create`…
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no such cgroup.
    #[error("no cgroup {path} below {mount}{}", near::suggestion(.near))]
    Missing {
        /// As it was given.
        path: String,
        /// The mount.
        mount: PathBuf,
        /// Similar ones.
        near: Vec<String>,
    },
    /// The process is gone or not visible.
    #[error("no process {pid}")]
    NoProcess {
        /// Its id.
        pid: u32,
    },
    /// The process is in no cgroup2 directory that can be seen from here.
    #[error(
        "process {pid} is in cgroup {path}, outside of the cgroup2 mount {mount} as it is seen here"
    )]
    Outside {
        /// Its id.
        pid: u32,
        /// Its cgroup.
        path: String,
        /// The mount.
        mount: PathBuf,
    },
}

/// The cgroup2 mount of this mount namespace.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    mount: PathBuf,
    /// The root of the own cgroup namespace, below the mount: what /proc says of a process begins there.
    namespace: PathBuf,
}

/// The inode of a hierarchy's root.
const ROOT: u64 = 1;
/// The link of /proc/self/ns/cgroup in the machine's first cgroup namespace (4.6+, include/linux/proc_ns.h).
const FIRST_NAMESPACE: &str = "cgroup:[4026531835]";

/// A cgroup2 directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Path below the mount, beginning with a slash.
    pub path: String,
    /// The directory.
    pub dir: PathBuf,
    /// Its inode.
    pub id: u64,
}

fn is_whole(mount: &Path) -> bool {
    fs::metadata(mount).is_ok_and(|root| root.ino() == ROOT)
}

impl Hierarchy {
    /// Finds the mount in /proc/self/mountinfo: one of the whole hierarchy before one of a part of it, which is what a
    /// container has of its own; then the last one, as it covers earlier ones.
    ///
    /// # Errors
    /// When there is none.
    pub fn find() -> Result<Self, CgroupError> {
        let path = Path::new("/proc/self/mountinfo");
        let text = fs::read_to_string(path).map_err(|source| CgroupError::Io {
            action: "read",
            path: path.into(),
            source,
        })?;
        let mounts = mounts(&text);
        // Other containers' root file systems may be mounted here with all that is in them: theirs are longer.
        let whole = mounts.iter().rev().filter(|mount| is_whole(mount));
        let mount = whole
            .min_by_key(|mount| mount.components().count())
            .or(mounts.last())
            .ok_or(CgroupError::NotMounted)?;
        let mut hierarchy = Self {
            mount: mount.clone(),
            namespace: PathBuf::new(),
        };
        hierarchy.namespace = hierarchy.own_namespace().unwrap_or_default();
        Ok(hierarchy)
    }

    /// The root of a cgroup namespace of its own is the own cgroup in the hierarchy without what /proc says of it.
    fn own_namespace(&self) -> Option<PathBuf> {
        let namespace = fs::read_link("/proc/self/ns/cgroup").ok()?;
        if namespace == Path::new(FIRST_NAMESPACE) {
            return None;
        }
        let text = fs::read_to_string("/proc/self/cgroup").ok()?;
        let told = text.lines().find_map(|line| line.strip_prefix("0::"))?;
        let own = std::process::id();
        let mut folders = vec![self.mount.clone()];
        while let Some(folder) = folders.pop() {
            if pids(&folder.join("cgroup.procs")).contains(&own) {
                let path = folder.strip_prefix(&self.mount).ok()?;
                let mut root = path.ancestors();
                return root
                    .find(|root| below(root, told).as_deref() == Some(path))
                    .map(Path::to_owned);
            }
            folders.extend(children(&folder).into_iter().map(|child| child.dir));
        }
        None
    }

    /// Does it reach to the root of the hierarchy? In a container without the machine's mount it does not.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        is_whole(&self.mount)
    }

    /// The id of what is mounted.
    pub(crate) fn root(&self) -> u64 {
        metadata(&self.mount).map_or(ROOT, |root| root.ino())
    }

    /// Where it is mounted.
    #[must_use]
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// True where v1 hierarchies hold controllers, and the mount is not in their usual place.
    #[must_use]
    pub fn hybrid(&self) -> bool {
        // Name, number of its hierarchy: 0 is cgroup2.
        let is_v1 = |line: &str| {
            let number = line.split_ascii_whitespace().nth(1);
            number.is_some_and(|number| number != "0") && !line.starts_with('#')
        };
        self.mount != Path::new("/sys/fs/cgroup")
            && fs::read_to_string("/proc/cgroups").is_ok_and(|text| text.lines().any(is_v1))
    }

    /// An existing cgroup by its path below the mount; a path that begins with the mount is understood as well.
    ///
    /// # Errors
    /// When there is none, with similar names of the same folder.
    pub fn open(&self, path: &str) -> Result<Cgroup, CgroupError> {
        let below = Path::new(path)
            .strip_prefix(&self.mount)
            .unwrap_or(Path::new(path.trim_start_matches('/')));
        let dir = self.mount.join(below);
        let outside = below
            .components()
            .any(|part| !matches!(part, std::path::Component::Normal(_)));
        match metadata(&dir) {
            Ok(metadata) if metadata.is_dir() && !outside => Ok(Cgroup {
                path: format!("/{}", below.display()),
                dir,
                id: metadata.ino(),
            }),
            _ => Err(CgroupError::Missing {
                path: path.to_owned(),
                mount: self.mount.clone(),
                near: self.near(&dir),
            }),
        }
    }

    fn near(&self, dir: &Path) -> Vec<String> {
        let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
            return Vec::new();
        };
        let names = children(parent)
            .into_iter()
            .map(|child| child.name.to_string_lossy().into_owned());
        let folder = parent.strip_prefix(&self.mount).unwrap_or(parent);
        let path = |name| format!("/{}", folder.join(name).display());
        let near = near::names(&name.to_string_lossy(), names);
        near.into_iter().map(path).collect()
    }

    /// The cgroup of a process.
    ///
    /// # Errors
    /// When the process is gone or its cgroup is not below the mount.
    pub fn of_process(&self, pid: u32) -> Result<Cgroup, CgroupError> {
        let text = match fs::read_to_string(format!("/proc/{pid}/cgroup")) {
            Ok(text) => text,
            Err(error) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => {
                return self.holding(pid).ok_or(CgroupError::NoProcess { pid });
            }
            Err(_) => return Err(CgroupError::NoProcess { pid }),
        };
        let path = text
            .lines()
            .find_map(|line| line.strip_prefix("0::"))
            .ok_or(CgroupError::NotMounted)?;
        // The kernel cuts a path to what its buffer holds, or refuses as above.
        if path.len() >= reach::LONGEST {
            return self.holding(pid).ok_or(CgroupError::NoProcess { pid });
        }
        let path = path.trim_end_matches(" (deleted)");
        let outside = || CgroupError::Outside {
            pid,
            path: path.to_owned(),
            mount: self.mount.clone(),
        };
        let below = below(&self.namespace, path).ok_or_else(outside)?;
        self.open(&below.to_string_lossy())
    }

    /// The cgroup that lists a process.
    fn holding(&self, pid: u32) -> Option<Cgroup> {
        self.all()
            .map(|found| found.cgroup)
            .find(|cgroup| pids(&cgroup.dir.join("cgroup.procs")).contains(&pid))
    }

    /// Every cgroup but the root, each after the one that it lies in.
    fn all(&self) -> impl Iterator<Item = Found> {
        let root = Cgroup {
            path: String::new(),
            id: self.root(),
            dir: self.mount.clone(),
        };
        let below = |parent: &Cgroup| {
            let found = |child: Child| Found {
                parent: parent.id,
                cgroup: Cgroup {
                    path: format!("{}/{}", parent.path, child.name.to_string_lossy()),
                    dir: child.dir,
                    id: child.id,
                },
            };
            children(&parent.dir)
                .into_iter()
                .map(found)
                .collect::<Vec<_>>()
        };
        let mut next = below(&root);
        std::iter::from_fn(move || {
            let found = next.pop()?;
            next.extend(below(&found.cgroup));
            Some(found)
        })
    }

    /// The level of a cgroup in the machine's hierarchy, where the root has 0; `None` if a part of it is mounted here, since
    /// then it is not known how deep that part lies.
    #[must_use]
    pub fn level(&self, cgroup: &Cgroup) -> Option<u32> {
        let level = cgroup
            .path
            .split('/')
            .filter(|part| !part.is_empty())
            .count();
        self.is_whole()
            .then(|| u32::try_from(level).unwrap_or(u32::MAX))
    }

    /// Every cgroup whose last path element contains `id`, conmon's excepted (semantics 4).
    #[must_use]
    pub fn containing(&self, id: &str) -> Vec<Cgroup> {
        let carries = |cgroup: &Cgroup| {
            let name = cgroup.path.rsplit('/').next().unwrap_or_default();
            name.contains(id) && !name.contains("conmon")
        };
        let mut found: Vec<Cgroup> = Vec::new();
        for cgroup in self.all().map(|found| found.cgroup) {
            // What lies below one that carries it is the container's own doing.
            if carries(&cgroup) && !found.iter().any(|above| cgroup.lies_below(above)) {
                found.push(cgroup);
            }
        }
        found.sort_by(|left, right| left.path.cmp(&right.path));
        found
    }

    /// Every cgroup without a process in it or below it.
    #[must_use]
    pub fn empty(&self) -> Vec<Cgroup> {
        let is_empty = |cgroup: &Cgroup| {
            read(&cgroup.dir.join("cgroup.events"))
                .is_ok_and(|events| events.lines().any(|line| line == "populated 0"))
        };
        self.all()
            .map(|found| found.cgroup)
            .filter(is_empty)
            .collect()
    }

    /// Makes a cgroup.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn create(&self, path: &str) -> Result<Cgroup, CgroupError> {
        let dir = self.mount.join(path.trim_start_matches('/'));
        reach(&dir)
            .and_then(fs::create_dir)
            .map_err(|source| CgroupError::Io {
                action: "create cgroup",
                path: dir.clone(),
                source,
            })?;
        self.open(path)
    }
}

impl Cgroup {
    /// Processes of this cgroup and of those below it.
    #[must_use]
    pub fn processes(&self) -> BTreeSet<u32> {
        self.subtree()
            .iter()
            .flat_map(|dir| pids(&dir.join("cgroup.procs")))
            .collect()
    }

    /// Ids of this cgroup and of those below it.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<u64> {
        self.subtree()
            .iter()
            .filter_map(|dir| Some(metadata(dir).ok()?.ino()))
            .collect()
    }

    /// The one above it, if that is not the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (path, _) = self.path.rsplit_once('/')?;
        let dir = self.dir.parent()?.to_owned();
        let id = metadata(&dir).ok()?.ino();
        (!path.is_empty()).then(|| Self {
            path: path.to_owned(),
            dir,
            id,
        })
    }

    fn lies_below(&self, above: &Self) -> bool {
        let rest = self.path.strip_prefix(&above.path);
        rest.is_some_and(|rest| rest.starts_with('/'))
    }

    fn subtree(&self) -> Vec<PathBuf> {
        let mut all = vec![self.dir.clone()];
        let mut next = 0;
        while next < all.len() {
            all.extend(children(&all[next]).into_iter().map(|child| child.dir));
            next += 1;
        }
        all
    }

    /// Does it still exist, as the same directory?
    #[must_use]
    pub fn exists(&self) -> bool {
        metadata(&self.dir).is_ok_and(|metadata| metadata.ino() == self.id)
    }

    /// Is a process in it or below it? False when it is gone.
    #[must_use]
    pub fn populated(&self) -> bool {
        match read(&self.dir.join("cgroup.events")) {
            Ok(events) => self.exists() && events.lines().any(|line| line == "populated 1"),
            // The root has no such file.
            Err(_) => self.exists() && !self.processes().is_empty(),
        }
    }

    /// The file that moves a process here when its id, or 0 for the writer, is written to it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn open_procs(&self) -> Result<fs::File, CgroupError> {
        let path = self.dir.join("cgroup.procs");
        let opened = reach(&path).and_then(|path| fs::File::options().write(true).open(path));
        opened.map_err(|source| CgroupError::Io {
            action: "write",
            path,
            source,
        })
    }

    /// Moves a process here.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add(&self, pid: u32) -> Result<(), CgroupError> {
        let path = self.dir.join("cgroup.procs");
        let written = reach(&path).and_then(|path| fs::write(path, pid.to_string()));
        written.map_err(|source| CgroupError::Io {
            action: "write",
            path,
            source,
        })
    }

    /// Removes the directory; it must hold no process.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(&self) -> Result<(), CgroupError> {
        reach(&self.dir)
            .and_then(fs::remove_dir)
            .map_err(|source| CgroupError::Io {
                action: "remove",
                path: self.dir.clone(),
                source,
            })
    }
}

/// 64 hexadecimal digits: the id of an engine's container.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The id in the last element of a cgroup's path, but for conmon's, which has a cgroup of that kind, too.
#[must_use]
pub fn id_in(path: &str) -> Option<&str> {
    let last = path.rsplit('/').next()?;
    if last.contains("conmon") {
        return None;
    }
    let mut parts = last.split(|c: char| !c.is_ascii_hexdigit());
    parts.find(|part| is_id(part))
}

/// The cgroup2 mounts of a mountinfo.
fn mounts(text: &str) -> Vec<PathBuf> {
    let mounts = text.lines().filter_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        (back.split(' ').next()? == "cgroup2")
            .then(|| front.split(' ').nth(4))
            .flatten()
    });
    mounts.map(|mount| unescape(mount).into()).collect()
}

/// A path of /proc/PID/cgroup, which begins at the root of the reader's cgroup namespace and may climb (`/../../pod1/2`).
/// `None` where it climbs out of what is mounted here.
fn below(namespace: &Path, told: &str) -> Option<PathBuf> {
    let mut path = namespace.to_owned();
    for part in told.split('/').filter(|part| !part.is_empty()) {
        if part != ".." {
            path.push(part);
        } else if !path.pop() {
            return None;
        }
    }
    Some(path)
}

/// A cgroup with the id of the one that it lies in.
struct Found {
    parent: u64,
    cgroup: Cgroup,
}

/// A directory in a directory.
struct Child {
    name: OsString,
    dir: PathBuf,
    id: u64,
}

fn metadata(path: &Path) -> io::Result<fs::Metadata> {
    reach(path).and_then(fs::metadata)
}

fn read(path: &Path) -> io::Result<String> {
    reach(path).and_then(fs::read_to_string)
}

fn pids(path: &Path) -> Vec<u32> {
    read(path)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect()
}

fn children(folder: &Path) -> Vec<Child> {
    let Ok(entries) = reach(folder).and_then(fs::read_dir) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| Child {
            dir: folder.join(entry.file_name()),
            name: entry.file_name(),
            id: entry.ino(),
        })
        .collect()
}

/// mountinfo writes space, tab, newline and backslash as octal.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_in_the_last_element() {
        let id = "a".repeat(64);
        for path in [
            "/docker/{}",
            "/machine.slice/libpod-{}.scope",
            "/x/cri-containerd-{}.scope",
            "/libpod_parent/libpod-{}",
        ] {
            assert_eq!(id_in(&path.replace("{}", &id)), Some(id.as_str()), "{path}");
        }
        for path in [
            "/libpod_parent/conmon-{}",
            "/docker/{}/below",
            "/docker/{}a",
        ] {
            assert_eq!(id_in(&path.replace("{}", &id)), None, "{path}");
        }
    }

    #[test]
    fn a_cgroup_namespace_is_climbed_out_of() {
        let check = |namespace: &str, told: &str, expected: Option<&str>| {
            let found = below(Path::new(namespace), told);
            assert_eq!(found.as_deref(), expected.map(Path::new), "{told}");
        };
        check("", "/", Some(""));
        check("", "/docker/1", Some("docker/1"));
        check("", "/../1", None);
        let own = "kubepods/pod1/a";
        check(own, "/", Some(own));
        check(own, "/init", Some("kubepods/pod1/a/init"));
        check(own, "/../b", Some("kubepods/pod1/b"));
        check(own, "/../../../init.scope", Some("init.scope"));
        check(own, "/../../../..", None);
    }
}
