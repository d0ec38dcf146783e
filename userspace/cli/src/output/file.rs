//! Files of the user: whole or not at all.

use anyhow::{Context as _, bail};
use std::{
    fs::{self, File, OpenOptions},
    io::{Write as _, stdout},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

/// A place to write to, checked before there is anything to write.
#[derive(Clone, Debug)]
pub enum Destination {
    /// `-`.
    Stdout,
    /// A regular file, existing or not: replaced by a rename.
    File(PathBuf),
    /// A device, a pipe, a socket: written in place, never renamed over.
    Special(PathBuf),
}

impl Destination {
    /// Checks that `path` can be written to.
    ///
    /// # Errors
    /// For a folder, a missing folder, a read-only place.
    pub fn check(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        let destination = match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                bail!("{} is a folder; give the name of a file", path.display())
            }
            Ok(metadata) if metadata.is_file() => Self::File(resolve(path)),
            Ok(metadata) => {
                let kind = metadata.file_type();
                if kind.is_socket() {
                    bail!("{} is a socket; give the name of a file", path.display());
                }
                Self::Special(path.to_owned())
            }
            Err(_) => Self::File(resolve(path)),
        };
        if let Self::File(path) = &destination {
            let folder = folder(path);
            // What will be done later, done once now: a temporary file in the same folder.
            tempfile::Builder::new()
                .prefix(".seccast-")
                .tempfile_in(folder)
                .with_context(|| {
                    format!(
                        "cannot write to folder {} for {}",
                        folder.display(),
                        path.display()
                    )
                })?;
        }
        Ok(destination)
    }

    /// Writes `text`: a temporary file, synced, renamed; or in place.
    ///
    /// # Errors
    /// Then the file that was there before is untouched.
    pub fn write(&self, text: &str) -> anyhow::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = stdout().lock();
                out.write_all(text.as_bytes())
                    .and_then(|()| out.flush())
                    .context("cannot write to stdout")
            }
            Self::Special(path) => {
                let mut file = OpenOptions::new()
                    .write(true)
                    .open(path)
                    .with_context(|| format!("cannot open {}", path.display()))?;
                file.write_all(text.as_bytes())
                    .and_then(|()| file.flush())
                    .with_context(|| format!("cannot write to {}", path.display()))
            }
            Self::File(path) => replace(path, text).with_context(|| {
                format!(
                    "cannot write {}; what was there before is unchanged",
                    path.display()
                )
            }),
        }
    }

    /// Writes text for people, which may have colours: they are left where stdout shows them.
    ///
    /// # Errors
    /// As of [`Destination::write`].
    pub fn show(&self, text: &str) -> anyhow::Result<()> {
        if let Self::Stdout = self {
            let mut out = anstream::stdout().lock();
            return out
                .write_all(text.as_bytes())
                .and_then(|()| out.flush())
                .context("cannot write to stdout");
        }
        self.write(&anstream::adapter::strip_str(text).to_string())
    }

    /// The file, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            _ => None,
        }
    }
}

fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = folder(path);
    let mut temporary = tempfile::Builder::new()
        .prefix(".seccast-")
        .tempfile_in(folder)?;
    temporary.write_all(text.as_bytes())?;
    // As an ordinary file: what was there keeps its owner, as far as we may give files away, and its mode; else what the umask leaves of
    // 0666 would need a race to find out, and a profile is no secret.
    let before = fs::metadata(path);
    if let Ok(before) = &before {
        let _ = fchown(temporary.as_file(), Some(before.uid()), Some(before.gid()));
    }
    let mode = before.map_or(0o644, |metadata| metadata.permissions().mode() & 0o7777);
    temporary
        .as_file()
        .set_permissions(fs::Permissions::from_mode(mode))?;
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// A symbolic link's target is replaced, not the link.
fn resolve(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// `P.report.json` beside `P.json`.
pub fn report_beside(profile: &Path) -> PathBuf {
    profile.with_file_name(format!("{}.report.json", stem(profile, ".json")))
}

/// `N.observation.json` beside `N.seccomp.json`.
pub fn observation_beside(profile: &Path) -> PathBuf {
    let stem = stem(profile, ".json");
    let stem = stem.strip_suffix(".seccomp").unwrap_or(&stem);
    profile.with_file_name(format!("{stem}.observation.json"))
}

fn stem(path: &Path, suffix: &str) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(suffix).unwrap_or(&name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.json");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        Destination::check(&path).unwrap().write("new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "a temporary file was left"
        );
    }

    #[test]
    fn a_file_of_somebody_else_stays_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.json");
        fs::write(&path, "old").unwrap();
        if fchown(File::open(&path).unwrap(), Some(1234), Some(1235)).is_err() {
            println!("SKIPPED: only root gives files away");
            return;
        }
        Destination::check(&path).unwrap().write("new").unwrap();
        let after = fs::metadata(&path).unwrap();
        assert_eq!((after.uid(), after.gid()), (1234, 1235));
    }

    #[test]
    fn a_folder_is_refused_and_a_device_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            Destination::check(folder.path())
                .unwrap_err()
                .to_string()
                .contains("is a folder")
        );
        assert!(
            Destination::check(Path::new("/dev/full"))
                .unwrap()
                .write("x")
                .is_err()
        );
        assert!(
            fs::metadata("/dev/full")
                .unwrap()
                .file_type()
                .is_char_device()
        );
        Destination::check(Path::new("/dev/null"))
            .unwrap()
            .write("x")
            .unwrap();
    }

    #[test]
    fn the_report_lies_beside_the_profile() {
        assert_eq!(
            report_beside(Path::new("a/web.json")),
            Path::new("a/web.report.json")
        );
        assert_eq!(
            report_beside(Path::new("web")),
            Path::new("web.report.json")
        );
        assert_eq!(
            observation_beside(Path::new("a/web.seccomp.json")),
            Path::new("a/web.observation.json")
        );
        assert_eq!(
            observation_beside(Path::new("web.json")),
            Path::new("web.observation.json")
        );
    }
}
