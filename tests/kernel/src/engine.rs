//! Containers of engines, recorded.

use crate::root_with;
use seccast_rig::Engine;
use seccast_rig::{Bundle, process};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// An engine that threads share.
pub type Shared<'a> = &'a (dyn Engine + Sync);

/// A root file system of workloads that has the name of an image.
#[derive(Debug)]
pub struct Workloads {
    _parent: TempDir,
    root: PathBuf,
}

impl Workloads {
    /// `localhost/workloads:1` with these programs.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new(programs: &[&str]) -> Self {
        Self::tagged("1", programs)
    }

    /// `localhost/workloads:TAG` with these programs.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn tagged(tag: &str, programs: &[&str]) -> Self {
        Self::made(tag, root_with(programs))
    }

    /// `localhost/workloads:TAG` with the files of a folder.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn of(tag: &str, folder: &Path) -> Self {
        let made = root_with(&[]);
        for file in std::fs::read_dir(folder).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), made.path().join(file.file_name())).unwrap();
        }
        Self::made(tag, made)
    }

    fn made(tag: &str, made: TempDir) -> Self {
        let parent = root_with(&[]);
        let root = parent.path().join(format!("workloads-{tag}"));
        std::fs::rename(made.keep(), &root).unwrap();
        Self {
            _parent: parent,
            root,
        }
    }

    /// A container that runs these words.
    #[must_use]
    pub fn bundle(&self, words: &[&str]) -> Bundle {
        Bundle::new(&self.root, words.iter().copied())
    }
}

/// The command that runs a bundle, with options of the engine's `run` before all others. It leaves the container behind, to
/// be asked for.
///
/// # Panics
/// When the image cannot be imported.
#[must_use]
pub fn run_kept(engine: &dyn Engine, name: &str, bundle: &Bundle, options: &[&str]) -> Command {
    let mut command = engine.client();
    let words = engine.run_words(name, bundle).unwrap();
    let (verb, words) = words.split_first().unwrap();
    command.arg(verb).args(options);
    command.args(words.iter().filter(|word| *word != "--rm"));
    command
}

/// Ids of all containers by their name, as docker or podman tell them.
///
/// # Panics
/// When the engine does not answer.
#[must_use]
pub fn ids(engine: &dyn Engine) -> BTreeMap<String, String> {
    let words = ["ps", "-a", "--no-trunc", "--format", "{{.Names}} {{.ID}}"];
    let output = process::check(engine.client().args(words), PATIENCE).unwrap();
    let lines = output.stdout.lines();
    lines
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, id)| (name.to_owned(), id.trim().to_owned()))
        .collect()
}

/// A `PATH` in which this engine's client is the first.
///
/// # Panics
/// When the client has no folder.
#[must_use]
pub fn path_with(engine: &dyn Engine) -> OsString {
    path_with_all(&[engine])
}

/// The same for several: one may be the machine's own, another unpacked.
///
/// # Panics
/// When a client has no folder.
#[must_use]
pub fn path_with_all(engines: &[&dyn Engine]) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folder = |engine: &&dyn Engine| {
        let client = PathBuf::from(engine.client().get_program());
        client.parent().unwrap().to_owned()
    };
    let folders = engines.iter().map(folder);
    std::env::join_paths(folders.chain(std::env::split_paths(&path))).unwrap()
}
