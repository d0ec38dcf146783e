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
    /// Its file left the folder, and a container uses it: it stays.
    InUse(Name),
    /// An old version was removed.
    Dropped(Name, Hash),
    /// The folder is empty: nothing is removed, since an optional ConfigMap that is missing looks the same.
    Empty,
}

/// Whether a container uses a file, by its name in our folder; `None` when nobody can say.
pub type InUse<'a> = dyn Fn(&str) -> Option<bool> + 'a;

/// What is not on the node as it is in the folder: missing, changed, or there without being in the folder.
///
/// # Errors
/// When our folder cannot be read.
pub fn differences(source: &Source, folder: Option<&Folder>) -> Result<Vec<Name>, NodeError> {
    let mut different = Vec::new();
    for (name, content) in &source.profiles {
        let holds = folder.map_or(Ok(false), |folder| folder.holds(name, content))?;
        if !holds {
            different.push(name.clone());
        }
    }
    if let Some(folder) = folder {
        different.extend(left(source, &folder.list()?));
    }
    Ok(different)
}

/// Aliases whose file has left the folder. A bad file has not: what was installed of it stays. Of an empty folder none has.
fn left(source: &Source, listing: &Listing) -> Vec<Name> {
    if source.profiles.is_empty() && source.bad.is_empty() {
        return Vec::new();
    }
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
    if source.profiles.is_empty() && source.bad.is_empty() && !listing.profiles.is_empty() {
        changes.push(Change::Empty);
    }
    let old = superfluous(&listing);
    if differences(source, folder.as_ref())?.is_empty() && old.is_empty() {
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
    for name in left(source, &listing) {
        if in_use(&name.file()) == Some(true) {
            changes.push(Change::InUse(name));
            continue;
        }
        match locked.remove_alias(&name) {
            Ok(_) => changes.push(Change::Removed(name)),
            Err(error) => changes.push(Change::Failed(name, error)),
        }
    }
    for (name, hash) in old {
        if in_use(&name.version(hash)) != Some(true) && locked.remove_version(&name, hash)? {
            changes.push(Change::Dropped(name, hash));
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
