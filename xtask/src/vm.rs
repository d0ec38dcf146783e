//! `cargo xtask vm`: Debian 12's own kernel with nothing but cgroup2, in an emulated machine.
//!
//! One boot: the static binary records programs whose calls are known, then redis in runc, and starts it again
//! under its profile. `tests/guest` is what runs in there: it names its steps and packs what they need, and how each
//! ended is read from the machine's serial console.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use seccast_rig::rootfs;

use crate::process::Run;
use crate::{dist, setup};

/// What begins each line that is for us on the machine's console; `tests/guest` writes it, and `loader.sh`.
const MARK: &str = "seccast-vm: ";

/// How long the machine may take.
const LIMIT: Duration = Duration::from_secs(900);

/// What the loader needs to see its disk, where it is not built in.
const MODULES: &[&str] = &[
    "virtio",
    "virtio_ring",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_blk",
];

/// What runs in the machine beside seccast: runtimes, and podman with the libraries that it, conmon and crun load.
const PACKAGES: &[&str] = &[
    "busybox-static",
    "runc",
    "libseccomp2",
    "libc6",
    "crun",
    "libyajl2",
    "libcap2",
    "libsystemd0",
    "libgcrypt20",
    "libgpg-error0",
    "liblz4-1",
    "liblzma5",
    "libzstd1",
    "conmon",
    "libglib2.0-0",
    "libpcre2-8-0",
    "podman",
    "libassuan0",
    "libgpgme11",
    "libdevmapper1.02.1",
    "libudev1",
    "libselinux1",
    "uidmap",
    "libsubid4",
    "libaudit1",
    "libcap-ng0",
    "libcrypt1",
    "libpam0g",
    "libbz2-1.0",
    "libsemanage2",
    "libsepol2",
];

/// A user who may start containers.
const FILES: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n",
    ),
    ("etc/group", "root:x:0:\nuser:x:1000:\n"),
    ("etc/subuid", "user:100000:65536\n"),
    ("etc/subgid", "user:100000:65536\n"),
    (
        "etc/containers/policy.json",
        r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
    ),
];

#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Keep the console and the images in this folder.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(
        std::env::consts::ARCH == "x86_64",
        "the emulated machine is an x86_64 and runs what is built here: use an x86_64"
    );
    setup::vm()?;
    let built = dist::build_static(&["seccast", "seccast-guest"])?;
    let guest = built.join("seccast-guest");
    let steps = Run::new(&guest).arg("steps").stdout()?;
    let steps: Vec<_> = steps.lines().collect();
    ensure!(!steps.is_empty(), "{} names no step", guest.display());

    let temp = tempfile::tempdir().context("failed to make a temporary folder")?;
    let work = args.keep.as_deref().unwrap_or(temp.path());
    make_dir(work)?;
    let machine = Machine {
        work,
        kernel: Kernel::fetch()?,
    };
    eprintln!("vm: packing the disk of {}", machine.kernel.name);
    machine.pack_loader()?;
    machine.pack_disk(&built.join("seccast"), &guest)?;
    let console = machine.boot()?;

    let lines = || {
        console
            .lines()
            .filter_map(|line| line.trim_end().strip_prefix(MARK))
    };
    lines().for_each(|line| println!("{line}"));
    let passed = |step: &str| lines().any(|line| line.starts_with(&format!("PASS {step} ")));
    let missing: Vec<_> = steps.iter().copied().filter(|step| !passed(step)).collect();
    if !missing.is_empty() {
        eprintln!("{}", tail(&console));
        bail!(
            "did not pass in the machine: {}; its console is above",
            missing.join(", ")
        );
    }
    println!(
        "vm: all {} steps passed on {}",
        steps.len(),
        machine.kernel.name
    );
    Ok(())
}

/// Debian 12's kernel for virtual machines, as its package has it.
struct Kernel {
    name: String,
    tree: PathBuf,
}

impl Kernel {
    fn fetch() -> Result<Self> {
        // The metapackage names the current build.
        let depends = Run::new("apt-cache")
            .env("LC_ALL", "C")
            .args(["depends", "linux-image-cloud-amd64"])
            .stdout()?;
        let package = depends
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with("linux-image-6.1."));
        let package = package.context(
            "apt knows no kernel 6.1 for virtual machines (linux-image-cloud-amd64): this boots Debian 12's own kernel; \
             run it on Debian 12, after `apt-get update`",
        )?;
        let name = package.trim_start_matches("linux-image-").to_owned();
        let tree = rootfs::from_packages("kernel", &[package], &[])
            .with_context(|| format!("failed to fetch {package}"))?;
        Ok(Self { name, tree })
    }

    fn image(&self) -> PathBuf {
        self.tree
            .join("boot")
            .join(format!("vmlinuz-{}", self.name))
    }

    /// The file of a module; `None` when it is built in.
    fn module(&self, name: &str) -> Option<PathBuf> {
        let kernel = self
            .tree
            .join("lib/modules")
            .join(&self.name)
            .join("kernel");
        ["drivers/virtio", "drivers/block", "fs/overlayfs"]
            .into_iter()
            .map(|folder| kernel.join(folder).join(format!("{name}.ko")))
            .find(|file| file.exists())
    }
}

struct Machine<'a> {
    work: &'a Path,
    kernel: Kernel,
}

impl Machine<'_> {
    /// The initramfs: enough to mount the disk.
    fn pack_loader(&self) -> Result<()> {
        let tree = self.tree("loader")?;
        for folder in ["bin", "dev", "proc", "disk", "modules"] {
            make_dir(&tree.join(folder))?;
        }
        let busybox = rootfs::busybox()?.join("bin/busybox");
        copy(&busybox, &tree.join("bin/busybox"))?;
        for module in MODULES {
            if let Some(file) = self.kernel.module(module) {
                copy(&file, &tree.join("modules").join(format!("{module}.ko")))?;
            }
        }
        script(&tree.join("init"), include_str!("../guest/loader.sh"))?;
        let pack = Run::new("sh")
            .arg("-c")
            .arg(r#"find . | "$0" cpio -o -H newc >"$1""#)
            .arg(&busybox)
            .arg(self.loader());
        pack.dir(&tree)
            .quiet()
            .context("failed to pack the initramfs")
    }

    /// The disk: busybox, runtimes, podman for a user, seccast, the programs to record, and the cache with the root file
    /// system of redis.
    fn pack_disk(&self, seccast: &Path, guest: &Path) -> Result<()> {
        let tree = self.tree("root")?;
        let base = rootfs::from_packages("guest", PACKAGES, FILES)?;
        copy_tree(&base, &tree)?;
        let redis = rootfs::redis()?;
        let cached = Path::new("cache/rootfs").join(
            redis
                .file_name()
                .context("a root file system without a name")?,
        );
        for folder in ["cache/rootfs", "usr/bin"] {
            make_dir(&tree.join(folder))?;
        }
        copy_tree(&redis, &tree.join(cached))?;
        copy(seccast, &tree.join("usr/bin/seccast"))?;
        copy(guest, &tree.join("usr/bin/seccast-guest"))?;
        if let Some(overlay) = self.kernel.module("overlay") {
            copy(&overlay, &tree.join("overlay.ko"))?;
        }
        Run::new(guest).arg("pack").arg(&tree).quiet()?;
        script(&tree.join("init"), include_str!("../guest/init.sh"))?;
        let make =
            Run::new("mkfs.ext4").args(["-q", "-O", "^has_journal", "-E", "root_owner=0:0", "-d"]);
        make.arg(&tree)
            .arg(self.disk())
            .arg("450M")
            .quiet()
            .context("failed to make the disk")
    }

    /// Runs the machine to its end and returns what its console showed.
    fn boot(&self) -> Result<String> {
        let start = Instant::now();
        eprintln!("vm: booting; emulated, this takes a minute or two");
        let machine = Run::new("qemu-system-x86_64")
            .args([
                "-accel",
                "tcg",
                "-m",
                "1024",
                "-smp",
                "1",
                "-nodefaults",
                "-nographic",
                "-no-reboot",
            ])
            .arg("-kernel")
            .arg(self.kernel.image())
            .arg("-initrd")
            .arg(self.loader())
            .args(["-append", "console=ttyS0 panic=-1 quiet"])
            .arg("-drive")
            .arg(format!(
                "file={},format=raw,if=virtio,snapshot=on",
                self.disk().display()
            ))
            .arg("-serial")
            .arg(format!("file:{}", self.console().display()));
        let ended = machine.limit(LIMIT).quiet();
        let console = fs::read(self.console())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default();
        if let Err(error) = ended {
            eprintln!("{}", tail(&console));
            return Err(error.context("the machine did not come to its end; its console is above"));
        }
        eprintln!("vm: off after {:.1} s", start.elapsed().as_secs_f64());
        Ok(console)
    }

    /// A folder for the files of one image; what an earlier run kept there is removed.
    fn tree(&self, name: &str) -> Result<PathBuf> {
        let tree = self.work.join(name);
        if tree.exists() {
            fs::remove_dir_all(&tree)
                .with_context(|| format!("failed to remove {}", tree.display()))?;
        }
        Ok(tree)
    }

    fn loader(&self) -> PathBuf {
        self.work.join("loader.cpio")
    }

    fn disk(&self) -> PathBuf {
        self.work.join("disk.img")
    }

    fn console(&self) -> PathBuf {
        self.work.join("console.log")
    }
}

/// The last lines of a console, without what would move about in the terminal that shows them.
fn tail(console: &str) -> String {
    let plain: String = console
        .chars()
        .filter(|c| *c == '\n' || !c.is_control())
        .collect();
    let lines: Vec<&str> = plain.lines().collect();
    lines
        .get(lines.len().saturating_sub(80)..)
        .unwrap_or_default()
        .join("\n")
}

fn make_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("failed to make the folder {}", dir.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("failed to copy {} to {}", from.display(), to.display()))
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    Run::new("cp").arg("-a").arg(from).arg(to).quiet()
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("failed to write {}", file.display()))
}

fn script(file: &Path, text: &str) -> Result<()> {
    write(file, text)?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("failed to make {} executable", file.display()))
}
