//! `cargo xtask image`: the static binary as a container image, FROM scratch, in an archive that needs no registry.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use seccast_rig::cluster::SECCAST;
use seccast_rig::oci::Image;

use crate::{cargo, dist, setup};

pub(crate) fn run() -> Result<()> {
    setup::tools()?;
    let archive = build(&dist::build()?)?;
    let bytes = fs::metadata(&archive)
        .with_context(|| format!("failed to look at {}", archive.display()))?
        .len();
    println!(
        "{}: {SECCAST}, {:.1} MiB; load it with `ctr --namespace k8s.io images import FILE`",
        archive.display(),
        bytes as f64 / f64::from(1 << 20)
    );
    Ok(())
}

/// Where the archive is once it is made.
pub(crate) fn path() -> Result<PathBuf> {
    Ok(cargo::target()?.join("seccast-image.tar"))
}

/// Packs the binary as `/seccast` and nothing else.
pub(crate) fn build(binary: &Path) -> Result<PathBuf> {
    let tree = tempfile::tempdir().context("failed to make a temporary folder")?;
    let seccast = tree.path().join("seccast");
    fs::copy(binary, &seccast).with_context(|| format!("failed to copy {}", binary.display()))?;
    // Any user may run it: a temporary folder is its owner's only.
    for path in [tree.path(), &seccast] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("failed to change the mode of {}", path.display()))?;
    }
    let archive = path()?;
    Image::new(SECCAST, tree.path())
        .entrypoint(&["/seccast"])
        .write(&archive)?;
    Ok(archive)
}
