//! Keeps our folder on the node equal to a folder of profiles.

use crate::{
    name::{Hash, Name},
    root::{Alias, Folder, Listing, NodeError, Put, Root},
    source::Source,
};
use rustix::{
    fd::OwnedFd,
    fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    io::Errno,
};
use std::{
    fs, io,
    mem::MaybeUninit,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Old versions of one name that stay when nobody can say which containers use them: a Pod may name a version, and is started again
/// with it. The oldest go first.
pub const KEEP: usize = 10;

/// One thing that was done, or could not be.
#[derive(Debug)]
pub enum Change {
    /// A content was put.
    Put(Name, Hash, Put),
    /// A content could not be put; readers get what they got before.
    Failed(Name, NodeError),
    /// An alias was removed, since its file left the folder.
    Removed(Name),
    /// Its file left the folder, and a container uses it, or may, or nobody can be asked: it stays.
    InUse(Name),
    /// An old version was removed.
    Dropped(Name, Hash),
    /// The folder is empty, and something is installed: it stays, since an optional ConfigMap that is missing looks the same.
    Empty,
}

/// Whether a container uses a file, or may, by its name in our folder; `None` where there is nobody to ask. Then what Pods name stays, and
/// of old versions the last [`KEEP`].
pub type InUse<'a> = dyn Fn(&str) -> Option<bool> + 'a;

/// What is not on the node as it is in the folder: missing, changed, or there without being in the folder.
///
/// # Errors
/// When our folder cannot be read.
pub fn differences(
    source: &Source,
    folder: Option<&Folder>,
    listing: &Listing,
) -> Result<Vec<Name>, NodeError> {
    let mut different = Vec::new();
    for (name, content) in &source.profiles {
        let holds = folder.map_or(Ok(false), |folder| folder.holds(name, content))?;
        if !holds {
            different.push(name.clone());
        }
    }
    different.extend(left(source, listing));
    Ok(different)
}

/// Aliases whose file has left the folder; of an empty folder none has.
fn left(source: &Source, listing: &Listing) -> Vec<Name> {
    if source.empty {
        return Vec::new();
    }
    beside(source, listing)
}

/// Aliases that the folder has no file for. A bad file is one: what was installed of it stays.
fn beside(source: &Source, listing: &Listing) -> Vec<Name> {
    let gone = |name: &&Name| {
        !source.profiles.contains_key(*name) && !source.bad.contains_key(&name.file())
    };
    let aliases = listing
        .profiles
        .iter()
        .filter(|(_, found)| found.alias != Alias::Missing);
    aliases
        .map(|(name, _)| name)
        .filter(gone)
        .cloned()
        .collect()
}

/// Makes our folder equal to the source, and says what was done. Nothing is locked or written where nothing differs.
///
/// # Errors
/// When our folder cannot be read or locked. What fails for one file is a [`Change::Failed`], and does not stop the others.
pub fn mirror(source: &Source, root: &Path, in_use: &InUse<'_>) -> Result<Vec<Change>, NodeError> {
    let root = Root::make(root)?;
    let folder = root.folder()?;
    let listing = folder
        .as_ref()
        .map_or_else(|| Ok(Listing::default()), Folder::list)?;
    let mut changes = Vec::new();
    if source.empty && !beside(source, &listing).is_empty() {
        changes.push(Change::Empty);
    }
    let different = differences(source, folder.as_ref(), &listing)?;
    // Asked before the lock: an answer may take longer than others wait for it.
    let (stay, go): (Vec<_>, Vec<_>) = left(source, &listing)
        .into_iter()
        .partition(|name| in_use(&name.file()) != Some(false));
    let mut old = superfluous(&listing);
    old.retain(|(name, hash)| in_use(&name.version(*hash)) != Some(true));
    let all_stay = stay.len() == different.len();
    changes.extend(stay.into_iter().map(Change::InUse));
    if all_stay && old.is_empty() {
        return Ok(changes);
    }
    let locked = root.lock()?;
    for (name, content) in &source.profiles {
        match locked.put(name, content) {
            Ok(Put::Unchanged) => {}
            Ok(put) => changes.push(Change::Put(name.clone(), Hash::of(content), put)),
            Err(error) => changes.push(Change::Failed(name.clone(), error)),
        }
    }
    for name in go {
        changes.push(match locked.remove_alias(&name) {
            Ok(_) => Change::Removed(name),
            Err(error) => Change::Failed(name, error),
        });
    }
    for (name, hash) in old {
        match locked.remove_version(&name, hash) {
            Ok(true) => changes.push(Change::Dropped(name, hash)),
            Ok(false) => {}
            Err(error) => changes.push(Change::Failed(name, error)),
        }
    }
    Ok(changes)
}

/// Versions beyond the last [`KEEP`] of each name.
fn superfluous(listing: &Listing) -> Vec<(Name, Hash)> {
    let mut superfluous = Vec::new();
    for (name, found) in &listing.profiles {
        let old = found
            .versions
            .iter()
            .filter(|(hash, _)| found.alias != Alias::To(**hash));
        let mut old: Vec<_> = old.map(|(hash, version)| (version.since, *hash)).collect();
        old.sort_unstable_by(|a, b| b.cmp(a));
        superfluous.extend(
            old.into_iter()
                .skip(KEEP)
                .map(|(_, hash)| (name.clone(), hash)),
        );
    }
    superfluous
}

/// What is seen of two folders without reading files: equal twice, nothing has changed in between. An edit changes a file's ctime, which
/// nobody can set.
#[must_use]
pub fn fingerprint(folders: &[&Path]) -> Vec<(PathBuf, [i64; 4], u64)> {
    let mut seen = Vec::new();
    for folder in folders {
        let data = folder.join("..data");
        let files = [fs::read_dir(folder), fs::read_dir(&data)];
        for entry in files.into_iter().flatten().flatten().flatten() {
            // What a link leads to as well: of a plain folder that holds links.
            let path = entry.path();
            for found in [fs::symlink_metadata(&path), fs::metadata(&path)]
                .into_iter()
                .flatten()
            {
                let times = [
                    found.ctime(),
                    found.ctime_nsec(),
                    found.mtime(),
                    found.mtime_nsec(),
                ];
                seen.push((path.clone(), times, found.ino()));
            }
        }
    }
    seen.sort();
    seen
}

/// Tells that something has changed in folders, as far as the file system says: a FUSE or overlay one may be silent.
#[derive(Debug)]
pub struct Watcher {
    fd: OwnedFd,
}

impl Watcher {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// When the user has no inotify instance left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            fd: inotify::init(CreateFlags::CLOEXEC)?,
        })
    }

    /// Watches a folder, also one that was watched already; does nothing for one that is not there.
    pub fn add(&self, folder: &Path) {
        let what = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::ATTRIB
            | WatchFlags::ONLYDIR;
        let _ = inotify::add_watch(&self.fd, folder, what);
    }

    /// Waits for the next change.
    ///
    /// # Errors
    /// When inotify ends.
    pub fn wait(&self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::IGNORED) => {}
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// Where a root is to be, an empty folder, and a profile.
    fn root_and_folder() -> (TempDir, [PathBuf; 2], Vec<u8>) {
        let at = tempfile::tempdir().unwrap();
        let paths = ["root", "profiles"].map(|name| at.path().join(name));
        fs::create_dir(&paths[1]).unwrap();
        let content = seccast_model::audit_profile().to_oci_json().into_bytes();
        (at, paths, content)
    }

    #[test]
    fn an_empty_folder_removes_nothing_whatever_is_wanted_besides() {
        let (_at, [root, folder], content) = root_and_folder();
        let [web, audit]: [Name; 2] = ["web.json", "audit.json"].map(|name| name.parse().unwrap());
        let root_of = Root::make(&root).unwrap();
        root_of.lock().unwrap().put(&web, &content).unwrap();

        let mut source = Source::read(&folder).unwrap();
        assert!(source.empty);
        source.profiles.insert(audit.clone(), content.clone());
        let listing = || root_of.folder().unwrap().unwrap().list().unwrap();
        assert_eq!(left(&source, &listing()), []);
        let changes = mirror(&source, &root, &|_| Some(false)).unwrap();
        assert!(
            matches!(&changes[..], [Change::Empty, Change::Put(put, ..)] if *put == audit),
            "{changes:?}"
        );
        // A bad file is a file.
        fs::write(folder.join("bad.json"), "{").unwrap();
        let mut source = Source::read(&folder).unwrap();
        assert!(!source.empty);
        source.profiles.insert(audit, content);
        assert_eq!(left(&source, &listing()), [web]);
    }

    #[test]
    fn what_may_be_in_use_stays_and_is_asked_for_without_the_lock() {
        let (_at, [root, folder], content) = root_and_folder();
        fs::write(folder.join("db.json"), &content).unwrap();
        let web: Name = "web.json".parse().unwrap();
        let root_of = Root::make(&root).unwrap();
        root_of.lock().unwrap().put(&web, &content).unwrap();
        let source = Source::read(&folder).unwrap();
        let in_use = |file: &str| {
            assert_eq!(file, "web.json");
            drop(root_of.lock().unwrap());
            Some(true)
        };
        let changes = mirror(&source, &root, &in_use).unwrap();
        assert!(
            matches!(&changes[..], [Change::InUse(stays), Change::Put(..)] if *stays == web),
            "{changes:?}"
        );
        for unknown in [Some(true), None] {
            let changes = mirror(&source, &root, &|_| unknown).unwrap();
            assert!(matches!(&changes[..], [Change::InUse(_)]), "{changes:?}");
        }
        let changes = mirror(&source, &root, &|_| Some(false)).unwrap();
        assert!(matches!(&changes[..], [Change::Removed(_)]), "{changes:?}");
    }
}
