//! Images from root file systems: one layer, in the format of `docker save`, which all engines load.

use crate::bundle::Bundle;
use crate::{oci, process};
use anyhow::{Context as _, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::NamedTempFile;

const TAR: Duration = Duration::from_secs(120);

/// `localhost/NAME:TAG` for a folder `NAME-TAG`, as those of the cache are; the user is part of the tag, as of the image.
pub(super) fn name(bundle: &Bundle) -> Result<String> {
    let folder = bundle.rootfs.file_name().and_then(|name| name.to_str());
    let folder = folder.with_context(|| format!("{} names no image", bundle.rootfs.display()))?;
    let (name, tag) = folder.rsplit_once('-').unwrap_or((folder, "1"));
    Ok(match bundle.user {
        (0, 0) => format!("localhost/{name}:{tag}"),
        (uid, gid) => format!("localhost/{name}:{tag}-{uid}-{gid}"),
    })
}

/// An archive of the image, made in `dir` and removed with the value.
pub(super) fn archive(bundle: &Bundle, name: &str, dir: &Path) -> Result<NamedTempFile> {
    let work = tempfile::tempdir_in(dir).context("temporary folder")?;
    let layer = work.path().join("layer.tar");
    let mut tar = Command::new("tar");
    tar.args(["--numeric-owner", "-cf"]).arg(&layer).arg("-C");
    process::check(tar.arg(&bundle.rootfs).arg("."), TAR)?;
    let mut digest = Sha256::new();
    std::io::copy(&mut File::open(&layer)?, &mut digest).context("cannot read the layer")?;
    let digest = oci::hex(&digest.finalize());
    let (uid, gid) = bundle.user;
    let config = json!({
        "architecture": oci::architecture(),
        "os": "linux",
        "config": { "User": format!("{uid}:{gid}") },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"] }]);
    fs::write(work.path().join("config.json"), config.to_string())?;
    fs::write(work.path().join("manifest.json"), manifest.to_string())?;
    let archive = NamedTempFile::new_in(dir).context("temporary file")?;
    // For an engine without root, too.
    let readable = fs::Permissions::from_mode(0o644);
    archive.as_file().set_permissions(readable)?;
    let mut tar = Command::new("tar");
    tar.arg("-cf")
        .arg(archive.path())
        .arg("-C")
        .arg(work.path());
    process::check(tar.args(["manifest.json", "config.json", "layer.tar"]), TAR)?;
    Ok(archive)
}
