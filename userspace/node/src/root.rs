//! The folder `seccast` below a seccomp root: read, put, removed.

use crate::{
    content::read_regular,
    name::{Hash, Name, version_of},
};
use rustix::{
    fd::{AsFd as _, OwnedFd},
    fs::{
        AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, RawMode, ResolveFlags, Stat,
        Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, fchmod, flock, fstat, fsync, mkdirat, openat,
        openat2, readlinkat, renameat, statat, symlinkat, unlinkat, utimensat,
    },
    io::Errno,
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

/// The folder below the root that is ours alone; the first element of what Pods name.
pub const FOLDER: &str = "seccast";

/// What is being written, under the lock; it is nobody's profile, since no name begins with a dot.
const NEW: &str = ".new";

/// How long an installer waits for the others.
const WAIT: Duration = Duration::from_secs(60);

/// How long a version stays after the alias has left it: a reader that has just followed the link has not opened the file yet.
pub const GRACE: Duration = Duration::from_secs(60);

/// Why a file on a node cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// There is no such root, and no folder to make it in.
    #[error(
        "there is no folder {} to make the seccomp root in: give the one below the kubelet's own folder with --root", path.display()
    )]
    NoRoot {
        /// The folder that would hold the root.
        path: PathBuf,
    },
    /// Somebody else may change what is there.
    #[error(
        "everybody can write to {} (mode {mode:o}), and so choose what runtimes read: take that away with `chmod o-w`", path.display()
    )]
    Writable {
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: RawMode,
    },
    /// A symbolic link where none is followed.
    #[error(
        "{} is or has a symbolic link, and below the root none is followed: put the folder itself there", path.display()
    )]
    Link {
        /// The path.
        path: PathBuf,
    },
    /// No openat2.
    #[error(
        "openat2 is refused here ({source}); it needs Linux 5.6 and a seccomp profile that allows it"
    )]
    NoOpenat2 {
        /// ENOSYS, or what a filter answers.
        source: io::Error,
    },
    /// Others hold the lock for long.
    #[error(
        "somebody has held the lock of {} for {} seconds: `flock` or another seccast; see who with `lslocks`", path.display(), WAIT.as_secs()
    )]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Of what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

type Result<T> = std::result::Result<T, NodeError>;

/// A seccomp root, opened once.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

impl Root {
    /// Opens a root. Links that lead to it are followed, since whoever names it chooses them; `/var/lib/kubelet` itself often is one.
    ///
    /// # Errors
    /// When it is not there, is no folder, or others can write to it.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, path, flags, Mode::empty()).map_err(io_error("open", path))?;
        guard(&fd, path)?;
        Ok(Self {
            fd,
            path: path.to_owned(),
        })
    }

    /// Opens a root, and makes it where only its last element is missing, as the kubelet leaves it to others to make.
    ///
    /// # Errors
    /// As [`Root::open`], or when it cannot be made.
    pub fn make(path: &Path) -> Result<Self> {
        match Self::open(path) {
            Err(NodeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let made = match mkdirat(CWD, path, Mode::from_raw_mode(0o755)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(Errno::NOENT) => {
                return Err(NodeError::NoRoot {
                    path: path.parent().unwrap_or(path).to_owned(),
                });
            }
            Err(errno) => return Err(io_error("make", path)(errno)),
        };
        let root = Self::open(path)?;
        if made {
            open_to_all(&root.fd, path)?;
        }
        let parent = openat(
            &root.fd,
            "..",
            OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        parent
            .and_then(fsync)
            .map_err(io_error("sync the folder of", path))?;
        Ok(root)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Our folder, if there is one.
    ///
    /// # Errors
    /// When it is no folder, a symbolic link, or others can write to it.
    pub fn folder(&self) -> Result<Option<Folder>> {
        let path = self.path.join(FOLDER);
        let Some(fd) = beneath(&self.fd, FOLDER, OFlags::DIRECTORY, &path)? else {
            return Ok(None);
        };
        guard(&fd, &path)?;
        Ok(Some(Folder { fd, path }))
    }

    /// Our folder, made where it is missing, for one installer at a time. What a killed one left half written is removed.
    ///
    /// # Errors
    /// As [`Root::folder`]; and when it cannot be made, or others hold it for a minute.
    pub fn lock(&self) -> Result<Locked> {
        let begin = Instant::now();
        loop {
            let folder = match self.folder()? {
                Some(folder) => folder,
                None => {
                    self.make_folder()?;
                    continue;
                }
            };
            match flock(&folder.fd, FlockOperation::NonBlockingLockExclusive) {
                // Somebody may have removed or replaced it meanwhile: then the lock is of another folder.
                Ok(()) if self.is(&folder)? => {
                    folder.unlink(NEW)?;
                    return Ok(Locked { folder });
                }
                Ok(()) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if begin.elapsed() < WAIT => sleep(Duration::from_millis(5)),
                Err(Errno::AGAIN) => return Err(NodeError::Busy { path: folder.path }),
                Err(errno) => return Err(io_error("lock", &folder.path)(errno)),
            }
        }
    }

    fn make_folder(&self) -> Result<()> {
        let path = self.path.join(FOLDER);
        match mkdirat(&self.fd, FOLDER, Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                if let Some(fd) = beneath(&self.fd, FOLDER, OFlags::DIRECTORY, &path)? {
                    open_to_all(&fd, &path)?;
                }
                fsync(&self.fd).map_err(io_error("sync", &self.path))
            }
            Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(io_error("make", &path)(errno)),
        }
    }

    fn is(&self, folder: &Folder) -> Result<bool> {
        let stat = |folder: &Folder| fstat(&folder.fd).map_err(io_error("look at", &folder.path));
        Ok(match self.folder()? {
            Some(now) => stat(&now)?.st_ino == stat(folder)?.st_ino,
            None => false,
        })
    }
}

/// Our folder, to be read.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

/// What lies in our folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// By name.
    pub profiles: BTreeMap<Name, Installed>,
    /// What nobody of us put there, by name.
    pub strangers: Vec<String>,
}

/// One name with all that is kept of it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Installed {
    /// What Pods name.
    pub alias: Alias,
    /// The contents.
    pub versions: BTreeMap<Hash, Version>,
}

/// What `NAME.json` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Alias {
    /// Not there: only old versions are.
    #[default]
    Missing,
    /// The link to this version, which may be missing.
    To(Hash),
    /// Something else: a file, a folder, a link to elsewhere.
    Foreign,
}

/// One file with a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its size.
    pub bytes: u64,
    /// When it was written, or when the alias left it.
    pub since: SystemTime,
}

impl Version {
    /// Whether the alias may have left it within the last [`GRACE`].
    #[must_use]
    pub fn is_young(&self) -> bool {
        is_young(self.since)
    }
}

impl Folder {
    /// What lies in it. No content is read.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        for file in self.files()? {
            if let Some((name, hash)) = version_of(&file) {
                // Else another installer has removed it just now.
                let Some(stat) = self.stat(&file)? else {
                    continue;
                };
                if is_regular(&stat) {
                    let version = Version {
                        bytes: u64::try_from(stat.st_size).unwrap_or(0),
                        since: since(&stat),
                    };
                    let installed = listing.profiles.entry(name).or_default();
                    installed.versions.insert(hash, version);
                    continue;
                }
            } else if let Ok(name) = file.parse::<Name>() {
                let alias = self.alias(&name)?;
                listing.profiles.entry(name).or_default().alias = alias;
                continue;
            }
            if file != NEW {
                listing.strangers.push(file);
            }
        }
        Ok(listing)
    }

    fn files(&self) -> Result<Vec<String>> {
        let read = |errno| io_error("read", &self.path)(errno);
        // Another open folder: reading moves its position.
        let fd = openat(
            &self.fd,
            ".",
            OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let mut files = Vec::new();
        for entry in Dir::new(fd.map_err(read)?).map_err(read)? {
            let file = entry
                .map_err(read)?
                .file_name()
                .to_string_lossy()
                .into_owned();
            if file != "." && file != ".." {
                files.push(file);
            }
        }
        files.sort();
        Ok(files)
    }

    /// Whether a version is what its name says: else somebody changed it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_whole(&self, name: &Name, hash: Hash) -> Result<bool> {
        let content = self.read(&name.version(hash))?;
        Ok(content.is_some_and(|content| Hash::of(&content) == hash))
    }

    /// What the alias of a profile is.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn alias(&self, name: &Name) -> Result<Alias> {
        match readlinkat(&self.fd, name.file(), Vec::new()) {
            Ok(target) => {
                let version = target.to_str().ok().and_then(version_of);
                Ok(match version {
                    Some((of, hash)) if of == *name => Alias::To(hash),
                    _ => Alias::Foreign,
                })
            }
            Err(Errno::NOENT) => Ok(Alias::Missing),
            Err(Errno::INVAL) => Ok(Alias::Foreign),
            Err(errno) => Err(self.error("read the link", &name.file())(errno)),
        }
    }

    /// Whether a reader of the alias reads this content, from a file that only root can change.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn holds(&self, name: &Name, content: &[u8]) -> Result<bool> {
        let hash = Hash::of(content);
        Ok(self.alias(name)? == Alias::To(hash) && self.has(&name.version(hash), content)?)
    }

    fn has(&self, file: &str, content: &[u8]) -> Result<bool> {
        let plain = |stat: Stat| stat.st_mode & 0o7777 == 0o644;
        Ok(self.stat(file)?.is_some_and(plain)
            && self.read(file)?.is_some_and(|found| found == content))
    }

    /// The content of a regular file, cut off where no profile is longer; `None` for everything else.
    fn read(&self, file: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path.join(file);
        // Not to wait for a pipe's writer.
        let fd = match beneath(&self.fd, file, OFlags::RDONLY | OFlags::NONBLOCK, &path) {
            Ok(Some(fd)) => fd,
            Ok(None) | Err(NodeError::Link { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        read_regular(File::from(fd)).map_err(|source| NodeError::Io {
            doing: "read",
            path,
            source,
        })
    }

    fn stat(&self, file: &str) -> Result<Option<Stat>> {
        match statat(&self.fd, file, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("look at", file)(errno)),
        }
    }

    fn unlink(&self, file: &str) -> Result<bool> {
        match unlinkat(&self.fd, file, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.error("remove", file)(errno)),
        }
    }

    fn sync(&self) -> Result<()> {
        fsync(&self.fd).map_err(io_error("sync", &self.path))
    }

    fn error(&self, doing: &'static str, file: &str) -> impl FnOnce(Errno) -> NodeError + use<> {
        io_error(doing, &self.path.join(file))
    }
}

/// Our folder, to be changed by one installer: the lock ends with this.
#[derive(Debug)]
pub struct Locked {
    folder: Folder,
}

/// What [`Locked::put`] had to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// Nothing.
    Unchanged,
    /// The name was not there.
    New,
    /// The alias was this version's.
    Replaced(Hash),
    /// The content was to be the same, and somebody had changed or removed it; or the alias was something else.
    Repaired,
}

impl Locked {
    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Makes a content the one that readers of the alias get, and does nothing where it is. When it returns, that is on the disk. Until
    /// then, and when it fails, readers get what they got before.
    ///
    /// # Errors
    /// When the system refuses: no space, a folder in the way, a read-only mount.
    pub fn put(&self, name: &Name, content: &[u8]) -> Result<Put> {
        let hash = Hash::of(content);
        let (alias, file) = (name.file(), name.version(hash));
        let before = self.folder.alias(name)?;
        let has = self.folder.has(&file, content)?;
        if has && before == Alias::To(hash) {
            return Ok(Put::Unchanged);
        }
        if !has {
            self.write(content)
                .inspect_err(|_| drop(self.folder.unlink(NEW)))?;
            self.rename(&file)?;
            // The version before the alias that leads to it.
            self.folder.sync()?;
        }
        if before != Alias::To(hash) {
            if let Alias::To(old) = before {
                // Before the alias leaves it: whoever is killed in between must not leave one that looks old to the next.
                self.retire(&name.version(old))?;
            }
            symlinkat(&file, &self.folder.fd, NEW)
                .map_err(self.folder.error("make the link", NEW))?;
            self.rename(&alias)?;
            self.folder.sync()?;
        }
        Ok(match before {
            Alias::Missing => Put::New,
            Alias::To(old) if old != hash => Put::Replaced(old),
            Alias::To(_) | Alias::Foreign => Put::Repaired,
        })
    }

    /// Removes an alias; its versions stay.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn remove_alias(&self, name: &Name) -> Result<bool> {
        if let Alias::To(hash) = self.folder.alias(name)? {
            self.retire(&name.version(hash))?;
        }
        let removed = self.folder.unlink(&name.file())?;
        self.folder.sync()?;
        Ok(removed)
    }

    /// Removes a profile with all its versions, young ones too.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn remove(&self, name: &Name) -> Result<bool> {
        let mut removed = self.folder.unlink(&name.file())?;
        let found = self.folder.list()?.profiles.remove(name);
        for hash in found.unwrap_or_default().versions.keys() {
            removed |= self.folder.unlink(&name.version(*hash))?;
        }
        self.folder.sync()?;
        Ok(removed)
    }

    /// Removes a version, but not the one that the alias leads to, nor the one that it led to within the last [`GRACE`].
    ///
    /// # Errors
    /// When the system refuses.
    pub fn remove_version(&self, name: &Name, hash: Hash) -> Result<bool> {
        let file = name.version(hash);
        let young = |stat: Stat| is_young(since(&stat));
        if self.folder.alias(name)? == Alias::To(hash)
            || self.folder.stat(&file)?.is_some_and(young)
        {
            return Ok(false);
        }
        let removed = self.folder.unlink(&file)?;
        self.folder.sync()?;
        Ok(removed)
    }

    fn write(&self, content: &[u8]) -> Result<()> {
        let path = self.folder.path.join(NEW);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        let fd = openat2(&self.folder.fd, NEW, flags, mode, BENEATH);
        let fd = fd.map_err(|errno| open_error(errno, &path))?;
        // Whatever the umask is.
        fchmod(&fd, mode).map_err(io_error("set the mode of", &path))?;
        let mut file = File::from(fd);
        let written = file.write_all(content).and_then(|()| file.sync_all());
        written.map_err(|source| NodeError::Io {
            doing: "write",
            path,
            source,
        })
    }

    fn rename(&self, file: &str) -> Result<()> {
        let fd = self.folder.fd.as_fd();
        renameat(fd, NEW, fd, file).map_err(|errno| {
            drop(self.folder.unlink(NEW));
            self.folder.error("put a file in place of", file)(errno)
        })
    }

    /// Notes that the alias leaves a version now: the oldest are removed first.
    fn retire(&self, file: &str) -> Result<()> {
        let [last_access, last_modification] =
            [UTIME_OMIT, UTIME_NOW].map(|tv_nsec| Timespec { tv_sec: 0, tv_nsec });
        let now = Timestamps {
            last_access,
            last_modification,
        };
        match utimensat(&self.folder.fd, file, &now, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.folder.error("set the time of", file)(errno)),
        }
    }
}

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// Opens what lies beneath a folder, through no link; `None` where nothing is.
fn beneath(folder: &OwnedFd, name: &str, flags: OFlags, path: &Path) -> Result<Option<OwnedFd>> {
    match openat2(
        folder,
        name,
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        BENEATH,
    ) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(open_error(errno, path)),
    }
}

fn open_error(errno: Errno, path: &Path) -> NodeError {
    match errno {
        Errno::LOOP => NodeError::Link {
            path: path.to_owned(),
        },
        // A filter that does not know it answers EPERM, which opening a folder or a file for reading else never does.
        Errno::NOSYS | Errno::PERM => NodeError::NoOpenat2 {
            source: errno.into(),
        },
        _ => io_error("open", path)(errno),
    }
}

/// Refuses a folder that everybody may write to.
fn guard(fd: &OwnedFd, path: &Path) -> Result<()> {
    let stat = fstat(fd).map_err(io_error("look at", path))?;
    let mode = stat.st_mode & 0o7777;
    if mode & 0o002 == 0 {
        return Ok(());
    }
    Err(NodeError::Writable {
        path: path.to_owned(),
        mode,
    })
}

/// When a file was written, or set by [`Locked::retire`].
fn since(stat: &Stat) -> SystemTime {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::new(seconds, u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

/// A time to come is young as well: a clock that was set back makes none old.
fn is_young(since: SystemTime) -> bool {
    !since.elapsed().is_ok_and(|age| age >= GRACE)
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// What a umask took from a folder of ours: whoever looks at a node need not be root.
fn open_to_all(folder: &OwnedFd, path: &Path) -> Result<()> {
    fchmod(folder, Mode::from_raw_mode(0o755)).map_err(io_error("change the mode of", path))
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(Errno) -> NodeError + use<> {
    let path = path.to_owned();
    move |errno| NodeError::Io {
        doing,
        path,
        source: errno.into(),
    }
}
