//! `cargo xtask setup`: installs what building and testing need and this machine lacks.
//!
//! The tables below are all there is: what is wanted, how one sees that it is there, and why. A thing that is
//! there already, from whatever source, is left alone.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::process::{self, Run};
use crate::{bpf, places};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also what `cargo xtask vm` needs: an emulator, file system tools.
    #[arg(long)]
    vm: bool,
}

/// How one sees that a need is met, whoever met it.
enum Sign {
    Command(&'static str),
    File(&'static str),
    Package,
}

struct Need {
    package: &'static str,
    sign: Sign,
    reason: &'static str,
}

const fn need(package: &'static str, sign: Sign, reason: &'static str) -> Need {
    Need {
        package,
        sign,
        reason,
    }
}

use Sign::{Command, File, Package};

/// A compiler for the eBPF program without a nightly: Debian's, from the security suite.
const COMPILER: &[Need] = &[
    need("rustc-web", Package, "compiles the eBPF program"),
    need(
        "libstd-rust-web-dev-bpf",
        Package,
        "Rust's core library for the BPF target",
    ),
    need(
        "rust-web-clippy",
        Package,
        "lints the eBPF program with the compiler that builds it",
    ),
];

const TOOLS: &[Need] = &[
    need("gcc", Command("cc"), "links every program; builds libbpf"),
    need(
        "libc6-dev",
        File("/usr/include/stdlib.h"),
        "C headers; the static libc of the distributed binary",
    ),
    need("make", Command("make"), "builds libbpf"),
    need(
        "pkg-config",
        Command("pkg-config"),
        "finds libelf and zlib for libbpf",
    ),
    need(
        "libelf-dev",
        File("/usr/include/libelf.h"),
        "libbpf, the reference loader in the tests",
    ),
    need(
        "zlib1g-dev",
        File("/usr/include/zlib.h"),
        "libbpf, the reference loader in the tests",
    ),
    need(
        "runc",
        Command("runc"),
        "the containers of the demo and the tests",
    ),
    need(
        "crun",
        Command("crun"),
        "the other container runtime that profiles must start under",
    ),
    need(
        "bpftrace",
        Command("bpftrace"),
        "the witness of denials that is not seccast; a peer in the benchmark",
    ),
    need(
        "strace",
        Command("strace"),
        "ground truth for recorded system calls",
    ),
    need("wrk", Command("wrk"), "load for nginx"),
    need("iproute2", Command("ip"), "looks at container networks"),
];

const VM: &[Need] = &[
    need(
        "qemu-system-x86",
        Command("qemu-system-x86_64"),
        "emulates the machine",
    ),
    need(
        "cpio",
        Command("cpio"),
        "packs the first file system of the machine",
    ),
    need(
        "e2fsprogs",
        Command("mkfs.ext4"),
        "makes the disk of the machine",
    ),
];

pub(crate) fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    let mut done = tools()?;
    if args.vm {
        done |= vm()?;
    }
    if done {
        eprintln!("setup: done in {:.1} s", start.elapsed().as_secs_f64());
    } else {
        eprintln!("setup: nothing to do");
    }
    Ok(())
}

/// What building and testing need. True when something had to be installed.
pub(crate) fn tools() -> Result<bool> {
    let packages = packages(TOOLS)?;
    let compiler = compiler()?;
    let linker = linker()?;
    Ok(packages || compiler || linker)
}

/// What `cargo xtask vm` needs beyond that.
pub(crate) fn vm() -> Result<bool> {
    packages(VM)
}

fn is_debian() -> bool {
    ["apt-get", "apt-cache", "dpkg-query"]
        .into_iter()
        .all(|name| places::command(name).is_some())
}

/// Installs the packages of `needs` whose signs are missing.
fn packages(needs: &[Need]) -> Result<bool> {
    let missing = missing(needs)?;
    if missing.is_empty() {
        return Ok(false);
    }
    if !is_debian() {
        let lines: Vec<_> = missing
            .iter()
            .map(|need| format!("  {:<18} {}", need.package, need.reason))
            .collect();
        bail!(
            "this machine has no apt-get, so these must be installed with its own package manager (Debian's names):\n{}\n\
             then run `cargo xtask setup` again",
            lines.join("\n")
        );
    }
    apt_update()?;
    apt_install(&missing)?;
    if let Some(need) = self::missing(needs)?.first() {
        bail!(
            "package {} is installed, but what it should bring is not there ({})",
            need.package,
            need.reason
        );
    }
    Ok(true)
}

fn missing(needs: &[Need]) -> Result<Vec<&Need>> {
    let installed = installed()?;
    let met = |need: &Need| match need.sign {
        Sign::Command(name) => places::command(name).is_some(),
        Sign::File(path) => Path::new(path).exists(),
        Sign::Package => installed.contains(need.package),
    };
    Ok(needs.iter().filter(|need| !met(need)).collect())
}

fn installed() -> Result<HashSet<String>> {
    if !is_debian() {
        return Ok(HashSet::new());
    }
    let list = Run::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Abbrev} ${Package}\n"])
        .stdout()?;
    Ok(list
        .lines()
        .filter_map(|line| line.strip_prefix("ii "))
        .map(|name| name.trim().to_owned())
        .collect())
}

fn apt() -> Run {
    let run = Run::new("apt-get")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-q", "-o", "DPkg::Lock::Timeout=300"]);
    run.limit(Duration::from_secs(900))
}

fn apt_update() -> Result<()> {
    process::want_root("installing packages")?;
    eprintln!("setup: updating the package lists");
    apt()
        .arg("update")
        .rooted()
        .quiet()
        .context("failed to update the package lists")
}

fn apt_install(needs: &[&Need]) -> Result<()> {
    for need in needs {
        eprintln!("setup: installing {:<24} {}", need.package, need.reason);
    }
    // Never at the price of something that the user has: docker's own packages conflict with Debian's runc, for example.
    let install = apt().args(["install", "-y", "--no-install-recommends", "--no-remove"]);
    let install = install.args(needs.iter().map(|need| need.package)).rooted();
    install.quiet().context("failed to install packages; resolve what apt says below, then run `cargo xtask setup` again")
}

/// A compiler for the BPF target: one that is there, Debian's, or rustup's nightly.
fn compiler() -> Result<bool> {
    let debian = is_debian() && std::env::var_os("SECCAST_BPF_RUSTC").is_none();
    if debian && missing(COMPILER)?.is_empty() && bpf::has_core(Path::new(bpf::DEBIAN_RUSTC)) {
        return Ok(false);
    }
    if !debian && bpf::Compiler::find().is_some() {
        return Ok(false);
    }
    if debian {
        apt_update()?;
        if has_candidate("libstd-rust-web-dev-bpf")? {
            apt_install(&missing(COMPILER)?)?;
            if bpf::has_core(Path::new(bpf::DEBIAN_RUSTC)) {
                return Ok(true);
            }
            bail!(
                "{} has no core library for {} although its packages are installed; `dpkg -S {0}` says whose it is",
                bpf::DEBIAN_RUSTC,
                bpf::TARGET
            );
        }
        if bpf::Compiler::find().is_some() {
            return Ok(false);
        }
    }
    nightly()
}

fn has_candidate(package: &str) -> Result<bool> {
    let policy = Run::new("apt-cache")
        .env("LC_ALL", "C")
        .args(["policy", package])
        .stdout()?;
    Ok(policy.lines().any(|line| {
        line.trim()
            .strip_prefix("Candidate:")
            .is_some_and(|version| version.trim() != "(none)")
    }))
}

fn nightly() -> Result<bool> {
    let by_hand = "the eBPF program needs a compiler for bpfel-unknown-none: install rustup and run \
                   `rustup toolchain install nightly --profile minimal --component rust-src`, or name a compiler that has \
                   that target in SECCAST_BPF_RUSTC; without one, SECCAST_SKIP_EBPF=1 builds everything else";
    if places::command("rustup").is_none() {
        bail!("{by_hand}");
    }
    eprintln!("setup: installing a nightly toolchain with rust-src   compiles the eBPF program");
    let install = Run::new("rustup").args([
        "toolchain",
        "install",
        "nightly",
        "--profile",
        "minimal",
        "--component",
        "rust-src",
    ]);
    install
        .limit(Duration::from_secs(900))
        .quiet()
        .context(by_hand)?;
    Ok(true)
}

fn linker() -> Result<bool> {
    if bpf::linker()?.is_some() {
        return Ok(false);
    }
    let tools = places::cache()?.join("tools");
    std::fs::create_dir_all(&tools)
        .with_context(|| format!("failed to make the folder {}", tools.display()))?;
    eprintln!(
        "setup: installing bpf-linker {} into {}   links the eBPF program (one to three minutes)",
        bpf::LINKER_VERSION,
        tools.display()
    );
    let install = Run::new("cargo").args([
        "install",
        "bpf-linker",
        "--locked",
        "--quiet",
        "--version",
        bpf::LINKER_VERSION,
        "--root",
    ]);
    let install = install
        .arg(&tools)
        .arg("--force")
        .dir(&tools)
        .limit(Duration::from_secs(1800));
    install.quiet().context("failed to install bpf-linker")?;
    if bpf::linker()?.is_none() {
        bail!(
            "bpf-linker {} was installed into {} but does not run from there",
            bpf::LINKER_VERSION,
            tools.display()
        );
    }
    Ok(true)
}
