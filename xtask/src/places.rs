//! Where things are: the checkout, the cache outside the tree, programs.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The root of the checkout that this xtask belongs to.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest
        .parent()
        .map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// What is worth keeping between runs and checkouts: tools, root file systems, kernels.
/// `userspace/recorder/build.rs` and `tests/rig` follow the same rule.
pub(crate) fn cache() -> Result<PathBuf> {
    if let Some(dir) = non_empty("SECCAST_CACHE") {
        return Ok(dir);
    }
    let base = non_empty("XDG_CACHE_HOME")
        .or_else(|| non_empty("HOME").map(|home| home.join(".cache")))
        .context("no place for the cache: neither SECCAST_CACHE, XDG_CACHE_HOME nor HOME is set; set SECCAST_CACHE to a folder")?;
    Ok(base.join("seccast"))
}

/// The file that a shell would run for `name`, system folders included.
pub(crate) fn command(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

fn non_empty(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}
