//! A folder of profiles to be installed: a plain one, or a mounted ConfigMap.

use crate::{
    content::{ContentError, check, read_regular},
    name::{Name, NameError},
};
use rustix::fs::OFlags;
use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Where the kubelet has the files of a mounted ConfigMap: a link to a folder, replaced by a rename when the ConfigMap changes.
const DATA: &str = "..data";

/// How often a ConfigMap may change while it is read.
const TRIES: usize = 10;

/// What a folder holds at one moment.
#[derive(Debug, Default)]
pub struct Source {
    /// The profiles.
    pub profiles: BTreeMap<Name, Vec<u8>>,
    /// Files that are to be profiles and are none, by file name.
    pub bad: BTreeMap<String, BadFile>,
    /// What does not end with `.json`, and folders.
    pub others: Vec<String>,
    /// The folder had neither a profile nor a file that is to be one, whatever was added to [`Source::profiles`] since.
    pub empty: bool,
}

/// Why a file is not installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadFile {
    /// Its name.
    #[error("its name cannot be one in `localhostProfile`: {0}")]
    Name(#[from] NameError),
    /// Its content.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A pipe, a device.
    #[error("it is no regular file")]
    NoFile,
}

/// Why a folder cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The system refused.
    #[error("cannot read the folder {}: {source}; what is installed stays", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Somebody replaces the ConfigMap all the time.
    #[error("{} changed {TRIES} times while it was read", path.display())]
    Restless {
        /// The folder.
        path: PathBuf,
    },
}

impl Source {
    /// Reads a folder. Of a ConfigMap all files are of one and the same version of it.
    ///
    /// # Errors
    /// When the folder cannot be read; a file that is no profile is in [`Source::bad`].
    pub fn read(path: &Path) -> Result<Self, SourceError> {
        let failed = |source| SourceError::Io {
            path: path.to_owned(),
            source,
        };
        for _ in 0..TRIES {
            let version = fs::read_link(path.join(DATA)).ok();
            // The folder itself and not the link, so that it cannot become another one in between.
            let folder = version
                .as_ref()
                .map_or_else(|| path.to_owned(), |version| path.join(version));
            let read = Self::read_files(&folder);
            // The kubelet removes the old folder after the link has moved.
            if fs::read_link(path.join(DATA)).ok() != version {
                continue;
            }
            return read.map_err(failed);
        }
        Err(SourceError::Restless {
            path: path.to_owned(),
        })
    }

    fn read_files(folder: &Path) -> io::Result<Self> {
        let mut source = Self::default();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let file = entry.file_name().to_string_lossy().into_owned();
            if file.starts_with('.') {
                continue;
            }
            if !file.ends_with(".json") || entry.path().is_dir() {
                source.others.push(file);
                continue;
            }
            match profile(&entry.path(), &file) {
                Ok((name, content)) => drop(source.profiles.insert(name, content)),
                Err(bad) => drop(source.bad.insert(file, bad)),
            }
        }
        source.others.sort();
        source.empty = source.profiles.is_empty() && source.bad.is_empty();
        Ok(source)
    }
}

fn profile(path: &Path, file: &str) -> Result<(Name, Vec<u8>), BadFile> {
    let name: Name = file.parse()?;
    // Not to wait for the writer of a pipe.
    let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(nonblock)
        .open(path)?;
    let content = read_regular(opened)?.ok_or(BadFile::NoFile)?;
    check(&content)?;
    Ok((name, content))
}
