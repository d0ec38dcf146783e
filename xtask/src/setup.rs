//! `cargo xtask setup`: installs what building and testing need and this machine lacks.
//!
//! The tables below are all there is: what is wanted, how one sees that it is there, and why. A thing that is
//! there already, from whatever source, is left alone.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::process::{self, Run};
use crate::{bpf, go, places};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also what `cargo xtask vm` needs: an emulator, file system tools.
    #[arg(long)]
    vm: bool,
    /// Also what `cargo xtask cluster` needs: a Go compiler, openssl, tools for networks.
    #[arg(long)]
    cluster: bool,
    /// Both: all that `cargo xtask ci` needs, in one go.
    #[arg(long, conflicts_with_all = ["vm", "cluster"])]
    all: bool,
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

/// Never at the price of something that the user has: docker's own packages conflict with Debian's runc, for example.
const INSTALL: [&str; 4] = ["install", "-y", "--no-install-recommends", "--no-remove"];

/// A compiler for the eBPF program without a nightly: Debian's, from the security suite.
#[rustfmt::skip]
const COMPILER: &[Need] = &[
    need("rustc-web", Package, "compiles the eBPF program"),
    need("libstd-rust-web-dev-bpf", Package, "Rust's core library for the BPF target"),
    need("rust-web-clippy", Package, "lints the eBPF program with the compiler that builds it"),
];

#[rustfmt::skip]
const TOOLS: &[Need] = &[
    need("gcc", Command("cc"), "links every program; builds libbpf and the programs with known calls"),
    need("g++", Command("c++"), "builds libFuzzer"),
    need("libc6-dev", File("/usr/include/stdlib.h"), "C headers; the static libc of the distributed binary"),
    need("make", Command("make"), "builds libbpf"),
    need("pkg-config", Command("pkg-config"), "finds libelf and zlib for libbpf"),
    need("libelf-dev", File("/usr/include/libelf.h"), "libbpf, the reference loader in the tests"),
    need("zlib1g-dev", File("/usr/include/zlib.h"), "libbpf, the reference loader in the tests"),
    need("libseccomp-dev", File("/usr/include/seccomp.h"), "libseccomp, the oracle for filters in the tests"),
    need("protobuf-compiler", Command("protoc"), "the container runtime interface (CRI), whose types are made from its definition"),
    need("runc", Command("runc"), "the containers of the demo and the tests"),
    need("crun", Command("crun"), "the other container runtime that profiles must start under"),
    need("podman", Command("podman"), "an engine that containers are recorded in; docker and containerd are not installed but unpacked, as their packages start daemons"),
    need("catatonit", File("/usr/bin/catatonit"), "what podman's pods are held together by"),
    need("docker-compose", Command("docker-compose"), "projects of several containers"),
    need("bpftrace", Command("bpftrace"), "the witness of denials that is not seccast; a peer in the benchmark"),
    need("strace", Command("strace"), "ground truth for recorded system calls; a peer in the benchmark"),
    need("jq", Command("jq"), "what the pages of docs/commands show"),
    need("apache2-utils", Command("ab"), "load for nginx"),
];

#[rustfmt::skip]
const VM: &[Need] = &[
    need("qemu-system-x86", Command("qemu-system-x86_64"), "emulates the machine"),
    need("e2fsprogs", Command("mkfs.ext4"), "makes the disk of the machine"),
];

#[rustfmt::skip]
const CLUSTER: &[Need] = &[
    need("openssl", Command("openssl"), "makes the keys of the cluster"),
    need("iproute2", Command("ip"), "makes the networks of the nodes"),
];

/// Of any age: an older one downloads the release that Kubernetes wants.
const GO: &[Need] = &[need("golang-go", Command("go"), "builds Kubernetes")];

pub(crate) fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    let (vm, cluster) = (args.vm || args.all, args.cluster || args.all);
    let done = install_all(vm, cluster, cluster)?;
    if done {
        eprintln!("setup: done in {:.1} s", start.elapsed().as_secs_f64());
    } else {
        eprintln!("setup: nothing to do");
    }
    Ok(())
}

/// What building and testing need. True when something had to be installed.
pub(crate) fn tools() -> Result<bool> {
    install_all(false, false, false)
}

/// What `cargo xtask vm` needs beyond that.
pub(crate) fn vm() -> Result<bool> {
    install_all(true, false, false)
}

/// What `cargo xtask cluster` needs beyond that; the compiler only where there is something to build.
pub(crate) fn cluster(compiler: bool) -> Result<bool> {
    install_all(false, true, compiler)
}

/// The packages by one call of apt, each of which takes its time.
fn install_all(vm: bool, cluster: bool, compiler: bool) -> Result<bool> {
    // Made by the user: what runs as root later adds to it, and must not own it.
    make_folder(&places::cache()?.join("rootfs"))?;
    let mut wanted = missing(TOOLS)?;
    wanted.extend(compiler_wanted()?);
    if vm {
        wanted.extend(missing(VM)?);
    }
    if cluster {
        wanted.extend(missing(CLUSTER)?);
    }
    if compiler && go::find().is_none() {
        wanted.extend(GO);
    }
    let packages = install(wanted)?;
    // Debian's compiler may not be on offer, or not beside Debian's rustc; then rustup's nightly does it.
    let nightly = bpf::Compiler::find().is_none() && nightly()?;
    let linker = linker()?;
    Ok(packages || nightly || linker)
}

fn is_debian() -> bool {
    ["apt-get", "apt-cache", "dpkg-query"]
        .into_iter()
        .all(|name| places::command(name).is_some())
}

/// Debian's compiler, unless another one is there already.
fn compiler_wanted() -> Result<Vec<&'static Need>> {
    let other = match bpf::Compiler::find() {
        Some(bpf::Compiler::Prebuilt(rustc)) => rustc != Path::new(bpf::DEBIAN_RUSTC),
        // Debian's is the tested one, where it can be had.
        Some(bpf::Compiler::Nightly) => !can_install(COMPILER),
        None => false,
    };
    if other || !is_debian() {
        Ok(Vec::new())
    } else {
        missing(COMPILER)
    }
}

/// Installs packages; true when there was something to do.
fn install(mut wanted: Vec<&Need>) -> Result<bool> {
    if wanted.is_empty() {
        return Ok(false);
    }
    if !is_debian() {
        let lines: Vec<_> = wanted
            .iter()
            .map(|need| format!("  {:<18} {}", need.package, need.reason))
            .collect();
        bail!(
            "this machine has no apt-get, so these must be installed with its own package manager (Debian's names):\n{}\n\
             then run `cargo xtask setup` again",
            lines.join("\n")
        );
    }
    process::want_root("installing packages")?;
    eprintln!("setup: updating the package lists");
    apt()
        .arg("update")
        .rooted()
        .quiet()
        .context("failed to update the package lists")?;
    if !can_install(COMPILER) {
        wanted.retain(|need| !COMPILER.iter().any(|of| of.package == need.package));
    }
    for need in &wanted {
        eprintln!("setup: installing {:<24} {}", need.package, need.reason);
    }
    let install = apt()
        .args(INSTALL)
        .args(wanted.iter().map(|need| need.package))
        .rooted();
    install.quiet().context(
        "failed to install packages; resolve what apt says, then run `cargo xtask setup` again",
    )?;
    if let Some(need) = absent(&wanted)?.first() {
        bail!(
            "package {} is installed, but what it should bring is not there ({})",
            need.package,
            need.reason
        );
    }
    Ok(!wanted.is_empty())
}

fn missing(needs: &'static [Need]) -> Result<Vec<&'static Need>> {
    absent(&needs.iter().collect::<Vec<_>>())
}

/// Those whose sign is not there.
fn absent<'a>(needs: &[&'a Need]) -> Result<Vec<&'a Need>> {
    let installed = installed()?;
    let met = |need: &Need| match need.sign {
        Sign::Command(name) => places::command(name).is_some(),
        Sign::File(path) => Path::new(path).exists(),
        Sign::Package => installed.contains(need.package),
    };
    Ok(needs.iter().copied().filter(|need| !met(need)).collect())
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

/// Whether apt has all of them, at the price of nothing that is there: Debian's own `rustc` conflicts with its `rustc-web`.
fn can_install(needs: &[Need]) -> bool {
    let simulation = apt().arg("--simulate").args(INSTALL);
    let simulation = simulation.args(needs.iter().map(|need| need.package));
    simulation.quiet().is_ok()
}

fn nightly() -> Result<bool> {
    let by_hand = "the eBPF program needs a compiler for bpfel-unknown-none, and Debian's libstd-rust-web-dev-bpf is not \
                   on offer here or conflicts with an installed package: install rustup and run `rustup toolchain \
                   install nightly --profile minimal --component rust-src`, or name a compiler that has that target in \
                   SECCAST_BPF_RUSTC; without one, SECCAST_SKIP_EBPF=1 builds everything else";
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
    make_folder(&tools)?;
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

fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("failed to make the folder {}", folder.display()))
}
