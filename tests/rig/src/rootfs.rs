//! Root file systems from Debian packages, without a registry: downloaded once, unpacked, shared read-only.

use crate::process;
use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Changes whenever what is done to the unpacked packages changes: old trees are then not used again.
const LAYOUT: &str = "2";

/// One static program with all applets; 2 MB.
const BUSYBOX: &[&str] = &["busybox-static"];

/// redis-server with its tools and the libraries that it loads; 33 MB.
const REDIS: &[&str] = &[
    "redis-server",
    "redis-tools",
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "libatomic1",
    "libjemalloc2",
    "liblzf1",
    "libssl3",
    "libsystemd0",
    "libcap2",
    "libgcrypt20",
    "libgpg-error0",
    "liblz4-1",
    "liblzma5",
    "libzstd1",
];

/// nginx with the libraries that it loads; 23 MB.
const NGINX: &[&str] = &[
    "nginx",
    "nginx-light",
    "nginx-common",
    "libc6",
    "libcrypt1",
    "libpcre2-8-0",
    "libssl3",
    "zlib1g",
];

/// What nginx serves as `/`; long enough to be compressed.
pub(crate) const NGINX_INDEX: &str = include_str!("load/index.html");

/// The size of `/large.bin`: more than one sendfile call and than the socket's buffers take.
pub(crate) const NGINX_LARGE: usize = 8 << 20;

/// busybox and a link for each of its applets.
pub fn busybox() -> Result<PathBuf> {
    from_packages("busybox", BUSYBOX, &[])
}

/// redis-server, redis-cli and redis-benchmark in `/usr/bin`.
pub fn redis() -> Result<PathBuf> {
    from_packages("redis", REDIS, &[])
}

/// nginx in `/usr/sbin`, with a configuration and files to serve.
pub fn nginx() -> Result<PathBuf> {
    let large = "seccast\n".repeat(NGINX_LARGE / 8);
    let files = [
        ("conf/nginx.conf", include_str!("load/nginx.conf")),
        ("srv/www/index.html", NGINX_INDEX),
        ("srv/www/large.bin", &large),
        ("srv/www/forbidden/file", ""),
    ];
    from_packages("nginx", NGINX, &files)
}

/// An empty tree with the mount points that a container needs, and `program` as `/program`.
///
/// For static programs; made anew at every call, in a folder that the caller owns.
pub fn with_program(dir: &Path, program: &Path) -> Result<()> {
    mount_points(dir)?;
    let target = dir.join("program");
    fs::copy(program, &target).with_context(|| format!("cannot copy {}", program.display()))?;
    fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Downloads and unpacks `packages` as `<cache>/rootfs/NAME-HASH` with `files` of our own added, or finds what an earlier
/// call left there.
///
/// Callers in other threads and processes wait for the first; a tree is complete or absent.
pub fn from_packages(name: &str, packages: &[&str], files: &[(&str, &str)]) -> Result<PathBuf> {
    let mut hash = Sha256::new();
    hash.update(LAYOUT);
    for package in packages {
        hash.update(" ");
        hash.update(package);
    }
    for (path, content) in files {
        hash.update(format!("\0{path}\0{}\0", content.len()));
        hash.update(content);
    }
    let hash: String = hash
        .finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let parent = crate::cache_dir().join("rootfs");
    let rootfs = parent.join(format!("{name}-{hash}"));
    if rootfs.is_dir() {
        return Ok(rootfs);
    }
    fs::create_dir_all(&parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let lock = File::create(parent.join(format!("{name}.lock")))?;
    lock.lock()
        .context("cannot lock the cache of root file systems")?;
    if rootfs.is_dir() {
        return Ok(rootfs);
    }
    let work = tempfile::Builder::new()
        .prefix(".new-")
        .tempdir_in(&parent)?;
    let (debs, tree) = (work.path().join("debs"), work.path().join("tree"));
    fs::create_dir(&debs)?;
    fs::create_dir(&tree)?;
    fs::set_permissions(&tree, fs::Permissions::from_mode(0o755))?;
    download(packages, &debs)?;
    unpack(&debs, &tree)?;
    finish(&tree)?;
    for (path, content) in files {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&tree))?;
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    fs::rename(&tree, &rootfs)
        .with_context(|| format!("cannot move the tree to {}", rootfs.display()))?;
    Ok(rootfs)
}

fn download(packages: &[&str], debs: &Path) -> Result<()> {
    let mut apt = Command::new(process::need("apt-get", "apt")?);
    // _apt cannot write into this folder, and the drop of privileges is only about its own downloads.
    apt.args(["download", "-qq", "-o", "APT::Sandbox::User=root"])
        .args(packages)
        .current_dir(debs);
    process::check(&mut apt, Duration::from_secs(300))
        .context("cannot download packages; `apt-get update` may be needed first")?;
    Ok(())
}

fn unpack(debs: &Path, tree: &Path) -> Result<()> {
    let mut debs: Vec<PathBuf> = fs::read_dir(debs)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    debs.sort();
    ensure!(!debs.is_empty(), "apt-get downloaded nothing");
    for deb in debs {
        process::check(
            Command::new("dpkg").arg("-x").args([&deb, tree]),
            Duration::from_secs(120),
        )?;
    }
    Ok(())
}

/// What maintainer scripts would have done, as far as these programs need it.
fn finish(tree: &Path) -> Result<()> {
    for unused in ["usr/share", "etc/init.d", "etc/systemd", "lib/systemd"] {
        match fs::remove_dir_all(tree.join(unused)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context(unused);
            }
            _ => {}
        }
    }
    mount_points(tree)?;
    fs::write(
        tree.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )?;
    fs::write(
        tree.join("etc/group"),
        "root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n",
    )?;
    let busybox = tree.join("bin/busybox");
    if busybox.exists() {
        let applets = process::check(
            Command::new(&busybox).arg("--list"),
            Duration::from_secs(10),
        )?
        .stdout;
        for applet in applets.lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", tree.join("bin").join(applet))
                .with_context(|| format!("link {applet}"))?;
        }
    }
    Ok(())
}

/// Where containers mount something; the tree is shared and read-only by then.
fn mount_points(tree: &Path) -> Result<()> {
    for dir in ["dev", "proc", "sys", "etc", "conf", "root"] {
        fs::create_dir_all(tree.join(dir)).with_context(|| format!("cannot create /{dir}"))?;
    }
    // runc gives a tmpfs the mode of the folder below it, whatever the mount's own options say.
    for dir in ["data", "run", "tmp"] {
        fs::create_dir_all(tree.join(dir)).with_context(|| format!("cannot create /{dir}"))?;
        fs::set_permissions(tree.join(dir), fs::Permissions::from_mode(0o1777))?;
    }
    Ok(())
}
