//! Paths that are longer than one `open` takes.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{
        fd::AsRawFd as _,
        unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

/// The longest path that the kernel takes, without its zero: PATH_MAX of linux/limits.h.
pub(super) const LONGEST: usize = 4095;

/// A path in reach of one `open`, as long as this value lives.
pub(super) struct Reach {
    path: PathBuf,
    /// The folder that `path` begins at, if it begins at an open one.
    _folder: Option<File>,
}

impl AsRef<Path> for Reach {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// A path of any length: one that is too long is walked, piece by piece, from folder to folder that is held open.
///
/// # Errors
/// When a folder on the way cannot be opened, or when a name alone is too long.
pub(super) fn reach(path: &Path) -> io::Result<Reach> {
    let mut reached = Reach {
        path: path.to_owned(),
        _folder: None,
    };
    loop {
        let bytes = reached.path.as_os_str().as_bytes();
        if bytes.len() <= LONGEST {
            return Ok(reached);
        }
        let Some(slash) = bytes[..=LONGEST].iter().rposition(|byte| *byte == b'/') else {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        };
        let (front, rest) = (&bytes[..slash], &bytes[slash + 1..]);
        let folder = File::options()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
            .open(OsStr::from_bytes(front))?;
        // The link of an open folder leads into it, whatever the length of its path (proc(5)).
        let link = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        let path = link.join(OsStr::from_bytes(rest));
        if path.as_os_str().len() >= bytes.len() {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        reached = Reach {
            path,
            _folder: Some(folder),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_path_of_any_length_is_reached() {
        let root = std::env::temp_dir().join(format!("seccast-reach-{}", std::process::id()));
        fs::create_dir(&root).unwrap();
        let mut path = root.clone();
        // Both sides of the limit, by short and by long names.
        for name in
            std::iter::repeat_n("n".repeat(255), 40).chain(std::iter::repeat_n("s".to_owned(), 200))
        {
            path.push(name);
            reach(&path).and_then(fs::create_dir).unwrap();
        }
        let file = path.join("file");
        reach(&file)
            .and_then(|file| fs::write(file, "text"))
            .unwrap();
        let text = reach(&file).and_then(fs::read_to_string).unwrap();
        let direct = fs::read_to_string(&file);
        fs::remove_dir_all(&root).unwrap();
        assert!(file.as_os_str().len() > 2 * LONGEST);
        assert_eq!(text, "text");
        assert_eq!(direct.unwrap_err().raw_os_error(), Some(libc::ENAMETOOLONG));
    }

    #[test]
    fn a_name_that_no_folder_can_have_is_an_error() {
        let path = Path::new("/tmp").join("n".repeat(5000));
        let error = reach(&path).map(drop).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
    }
}
