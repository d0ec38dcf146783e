//! Images without a registry: an OCI layout in a tar archive, which containerd, podman and skopeo load.

use crate::process;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Longest time that packing one tree may take on a busy machine.
const TAR: Duration = Duration::from_secs(120);

/// An image of one layer: a folder as it is, all of it owned by root, without times.
///
/// The same folder gives the same bytes.
#[derive(Clone, Debug)]
pub struct Image {
    name: String,
    tree: PathBuf,
    config: Value,
}

impl Image {
    /// An image called `name`, registry and tag included, of all that lies in the folder `tree`.
    pub fn new(name: impl Into<String>, tree: impl Into<PathBuf>) -> Self {
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        Self {
            name: name.into(),
            tree: tree.into(),
            config: json!({ "Env": [path] }),
        }
    }

    /// What every container of the image runs; the words of a Pod's `args` come after it.
    #[must_use]
    pub fn entrypoint(mut self, words: &[&str]) -> Self {
        self.config["Entrypoint"] = json!(words);
        self
    }

    /// What a container runs when nothing else is said.
    #[must_use]
    pub fn command(mut self, words: &[&str]) -> Self {
        self.config["Cmd"] = json!(words);
        self
    }

    /// Writes the archive to `file`, which is replaced only when all is there.
    pub fn write(&self, file: &Path) -> Result<()> {
        let (_, tag) = self.name.rsplit_once(':').unwrap_or(("", "latest"));
        let folder = file.parent().context("an archive needs a folder")?;
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let work = tempfile::tempdir_in(folder).context("temporary folder")?;
        let layout = work.path().join("layout");
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;

        let layer = work.path().join("layer");
        pack(&self.tree, &layer, &["."])?;
        let layer = blob(&layer, &blobs)?;
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
        });
        let config = text_blob(&config, work.path(), &blobs)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
            "layers": [layer.descriptor("application/vnd.oci.image.layer.v1.tar")],
        });
        let manifest = text_blob(&manifest, work.path(), &blobs)?;
        let mut entry = manifest.descriptor("application/vnd.oci.image.manifest.v1+json");
        entry["annotations"] = json!({
            "io.containerd.image.name": self.name,
            "org.opencontainers.image.ref.name": tag,
        });
        let index = json!({ "schemaVersion": 2, "manifests": [entry] });
        fs::write(layout.join("index.json"), index.to_string())?;
        fs::write(
            layout.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;

        let whole = work.path().join("archive");
        pack(&layout, &whole, &["oci-layout", "index.json", "blobs"])?;
        fs::rename(&whole, file).with_context(|| format!("cannot write {}", file.display()))
    }
}

/// This machine's architecture by Go's name, which images use.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A digest as it is written.
#[must_use]
pub fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file below `blobs/sha256`, named by its content.
struct Blob {
    digest: String,
    size: u64,
}

impl Blob {
    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.size })
    }
}

/// Moves a file to where its content belongs.
fn blob(file: &Path, blobs: &Path) -> Result<Blob> {
    let mut hash = Sha256::new();
    let size = std::io::copy(&mut File::open(file)?, &mut hash).context("cannot read a blob")?;
    let hash = hex(&hash.finalize());
    fs::rename(file, blobs.join(&hash))?;
    let digest = format!("sha256:{hash}");
    Ok(Blob { digest, size })
}

fn text_blob(value: &Value, work: &Path, blobs: &Path) -> Result<Blob> {
    let file = work.join("blob");
    fs::write(&file, value.to_string())?;
    // Not as the caller's umask has it: a mode is part of the archive.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    blob(&file, blobs)
}

/// A tar archive in which only names, modes and contents count.
fn pack(folder: &Path, archive: &Path, members: &[&str]) -> Result<()> {
    ensure!(folder.is_dir(), "{} is no folder", folder.display());
    let mut tar = Command::new("tar");
    tar.args(["--format=gnu", "--sort=name", "--mtime=@0", "--owner=0"])
        .args(["--group=0", "--numeric-owner", "--hard-dereference", "-cf"])
        .arg(archive)
        .arg("-C")
        .arg(folder)
        .args(members);
    process::check(&mut tar, TAR)
        .with_context(|| format!("cannot pack {}", folder.display()))
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_tree_gives_the_same_archive_whenever_it_is_packed() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, other) = (dir.path().join("tree"), dir.path().join("other"));
        for (tree, order) in [(&tree, ["a", "b"]), (&other, ["b", "a"])] {
            fs::create_dir(tree).unwrap();
            for name in order {
                fs::write(tree.join(name), name).unwrap();
            }
        }
        let past = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
        let old = File::options().write(true).open(other.join("a")).unwrap();
        old.set_modified(past).unwrap();
        let archive = |tree: &Path, name: &str| {
            let file = dir.path().join(name);
            let image = Image::new("localhost/x:1", tree).entrypoint(&["/a"]);
            image.write(&file).unwrap();
            fs::read(file).unwrap()
        };
        assert_eq!(archive(&tree, "1.tar"), archive(&other, "2.tar"));
        fs::set_permissions(tree.join("a"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(archive(&tree, "3.tar"), archive(&other, "2.tar"));
    }

    #[test]
    fn every_blob_of_the_archive_is_what_its_descriptor_says() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("program"), "x").unwrap();
        let file = dir.path().join("image.tar");
        Image::new("localhost/x:dev", &tree).write(&file).unwrap();
        let mut tar = Command::new("tar");
        tar.arg("-xf").arg(&file).arg("-C").arg(dir.path());
        process::check(&mut tar, TAR).unwrap();
        let read = |path: &str| -> Value {
            serde_json::from_slice(&fs::read(dir.path().join(path)).unwrap()).unwrap()
        };
        let bytes = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            let path = format!("blobs/{}", digest.replace(':', "/"));
            let bytes = fs::read(dir.path().join(&path)).unwrap();
            let hash = hex(&Sha256::digest(&bytes));
            assert_eq!(digest, format!("sha256:{hash}"));
            assert_eq!(descriptor["size"], bytes.len());
            path
        };
        let index = read("index.json");
        let name = &index["manifests"][0]["annotations"]["io.containerd.image.name"];
        assert_eq!(name, "localhost/x:dev");
        let manifest = read(&bytes(&index["manifests"][0]));
        let config = read(&bytes(&manifest["config"]));
        bytes(&manifest["layers"][0]);
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            manifest["layers"][0]["digest"]
        );
    }
}
