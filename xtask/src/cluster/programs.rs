//! The programs of a cluster, all built from Go modules: nothing is fetched that checksums do not cover, and no registry
//! of images is asked.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use seccast_rig::oci::hex;
use sha2::{Digest as _, Sha256};

use crate::go::Go;
use crate::places;
use crate::process::Run;

pub(super) const KUBERNETES: &str = "1.37.2";
const CONTAINERD: &str = "2.4.2";
const ETCD: &str = "3.7.3";
const RUNC: &str = "1.5.2";
const CNI: &str = "1.9.1";
const COREDNS: &str = "1.15.0";

/// How long all of them take: measured were 15 minutes alone and 23 beside other work.
pub(super) const BUILD: &str = "15 to 25 minutes on two processors";

/// Linked, all that debuggers read is left out (`-s -w`): the compiler need not write it. A fifth of its time.
const COMPILER: &str = "-gcflags=all=-dwarf=false";

/// The compiler lets four times as much garbage lie as is in use, not as much again: it needs that memory for seconds. Another fifth.
const GARBAGE: (&str, &str) = ("GOGC", "400");

/// What is built.
const PROGRAMS: [&str; 15] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
    "etcd",
    "coredns",
    "containerd",
    "containerd-shim-runc-v2",
    "ctr",
    "bridge",
    "loopback",
    "host-local",
    "runc",
];

/// Changes whenever something else than a version changes in how they are built.
const LAYOUT: &str = "1";

/// Two that do not build as a dependency of nothing: each has a main of its own here.
const ETCD_MAIN: &str = include_str!("etcd.go");
const COREDNS_MAIN: &str = include_str!("coredns.go");

/// The folder of the programs in the cache, by their versions.
pub(super) fn folder() -> Result<PathBuf> {
    let mut hash = Sha256::new();
    for part in [
        LAYOUT,
        KUBERNETES,
        CONTAINERD,
        ETCD,
        RUNC,
        CNI,
        COREDNS,
        ETCD_MAIN,
        COREDNS_MAIN,
    ] {
        hash.update(part);
        hash.update("\0");
    }
    Ok(home()?.join(format!("{KUBERNETES}-{:.12}", hex(&hash.finalize()))))
}

fn home() -> Result<PathBuf> {
    Ok(places::cache()?.join("kubernetes"))
}

/// Whether [`ready`] has something to build.
pub(super) fn missing() -> Result<bool> {
    Ok(!folder()?.is_dir())
}

/// The folder of the programs, which are built where that has not been done: see [`BUILD`].
pub(super) fn ready() -> Result<PathBuf> {
    let folder = folder()?;
    if folder.is_dir() {
        return Ok(folder);
    }
    let home = home()?;
    // Kept until all is there: an interrupted build goes on where it was.
    let work = home.join("work");
    fs::create_dir_all(&work).with_context(|| format!("failed to make {}", work.display()))?;
    let lock = File::create(home.join("lock")).context("failed to make the lock of the build")?;
    lock.lock().context("failed to lock the build")?;
    if folder.is_dir() {
        return Ok(folder);
    }
    eprintln!(
        "cluster: building Kubernetes {KUBERNETES} and what it needs, once: {BUILD}, 8 GB on the way, 0.7 GB after"
    );
    let bin = work.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("failed to make {}", bin.display()))?;
    let build = Build {
        go: Go::new(&work)?,
        work: &work,
        bin: &bin,
    };
    let start = Instant::now();
    build.all()?;
    for program in PROGRAMS {
        ensure!(bin.join(program).is_file(), "{program} was not built");
    }
    fs::rename(&bin, &folder)
        .with_context(|| format!("failed to move the programs to {}", folder.display()))?;
    fs::remove_dir_all(&work).with_context(|| format!("failed to remove {}", work.display()))?;
    eprintln!("cluster: built in {} s", start.elapsed().as_secs());
    Ok(folder)
}

struct Build<'a> {
    go: Go,
    work: &'a Path,
    bin: &'a Path,
}

impl Build<'_> {
    fn all(&self) -> Result<()> {
        self.kubernetes()?;
        self.own_main("etcd", "go.etcd.io/etcd/server/v3", ETCD, ETCD_MAIN)?;
        self.own_main(
            "coredns",
            "github.com/coredns/coredns",
            COREDNS,
            COREDNS_MAIN,
        )?;
        let containerd = "github.com/containerd/containerd/v2";
        let flags = format!("-s -w -X {containerd}/version.Version=v{CONTAINERD}");
        let packages =
            ["containerd", "ctr", "containerd-shim-runc-v2"].map(|name| format!("cmd/{name}"));
        self.install(
            self.go().arg("install"),
            containerd,
            &packages,
            CONTAINERD,
            &flags,
        )?;
        let plugins = "github.com/containernetworking/plugins/plugins";
        let packages = ["main/bridge", "main/loopback", "ipam/host-local"].map(str::to_owned);
        self.install(self.go().arg("install"), plugins, &packages, CNI, "-s -w")?;
        // The only one with C: it hands profiles to libseccomp.
        let cgo = self.go().env("CGO_ENABLED", "1");
        let cgo = cgo.args(["install", "-tags", "seccomp"]);
        let runc = "github.com/opencontainers/runc";
        self.install(cgo, runc, &[String::new()], RUNC, "-s -w")
    }

    fn go(&self) -> Run {
        self.go.run().env(GARBAGE.0, GARBAGE.1)
    }

    /// Kubernetes replaces its own modules by folders of its tree, which does not count for others: they are named here
    /// by the versions under which they are published.
    fn kubernetes(&self) -> Result<()> {
        let module = "k8s.io/kubernetes";
        let minor = KUBERNETES.trim_start_matches("1.");
        let tree = self.go.module(module, &format!("v{KUBERNETES}"))?;
        let own = fs::read_to_string(tree.join("go.mod"))
            .context("failed to read the go.mod of Kubernetes")?;
        let mut text = go_mod("kubernetes", module, KUBERNETES);
        text.push_str(&replacements(&own, &format!("v0.{minor}")));
        let dir = self.module_folder("kubernetes", &text)?;
        let mut flags = "-s -w".to_owned();
        let short = minor.split('.').next().unwrap_or(minor);
        for package in [
            "k8s.io/component-base/version",
            "k8s.io/client-go/pkg/version",
        ] {
            for (name, value) in [
                ("gitVersion", format!("v{KUBERNETES}")),
                ("gitMajor", "1".to_owned()),
                ("gitMinor", short.to_owned()),
                ("gitTreeState", "clean".to_owned()),
            ] {
                write!(flags, " -X {package}.{name}={value}")?;
            }
        }
        for program in PROGRAMS.iter().filter(|name| name.starts_with("kube")) {
            let package = format!("{module}/cmd/{program}");
            self.build(program, &package, &dir, &flags)?;
        }
        Ok(())
    }

    /// A program of our own that does nothing but start what a module has.
    fn own_main(&self, name: &str, module: &str, version: &str, main: &str) -> Result<()> {
        let dir = self.module_folder(name, &go_mod(name, module, version))?;
        let file = dir.join("main.go");
        fs::write(&file, main).with_context(|| format!("failed to write {}", file.display()))?;
        self.build(name, ".", &dir, "-s -w")
    }

    fn module_folder(&self, name: &str, go_mod: &str) -> Result<PathBuf> {
        let dir = self.work.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
        let file = dir.join("go.mod");
        fs::write(&file, go_mod).with_context(|| format!("failed to write {}", file.display()))?;
        Ok(dir)
    }

    fn build(&self, name: &str, package: &str, dir: &Path, flags: &str) -> Result<()> {
        let build = self.go().args(["build", COMPILER, "-ldflags", flags, "-o"]);
        timed(name, &build.arg(self.bin.join(name)).arg(package).dir(dir))
    }

    fn install(
        &self,
        go: Run,
        module: &str,
        packages: &[String],
        version: &str,
        flags: &str,
    ) -> Result<()> {
        let names = packages.iter().map(|package| {
            let path = if package.is_empty() { "" } else { "/" };
            format!("{module}{path}{package}@v{version}")
        });
        let install = go.env("GOBIN", self.bin);
        let install = install.args([COMPILER, "-ldflags", flags]);
        timed(module, &install.args(names).dir(self.work))
    }
}

fn go_mod(name: &str, module: &str, version: &str) -> String {
    format!("module seccast/{name}\n\ngo 1.26.0\n\nrequire {module} v{version}\n")
}

/// Names each module that Kubernetes has in its own tree by the version under which it is published.
fn replacements(kubernetes_go_mod: &str, version: &str) -> String {
    let own = kubernetes_go_mod
        .lines()
        .filter_map(|line| line.trim().strip_suffix(" v0.0.0"))
        .filter(|name| name.starts_with("k8s.io/"));
    let lines: String = own
        .map(|name| format!("\t{name} => {name} {version}\n"))
        .collect();
    format!("\nreplace (\n{lines})\n")
}

fn timed(name: &str, run: &Run) -> Result<()> {
    let start = Instant::now();
    run.quiet()
        .with_context(|| format!("failed to build {name}"))?;
    eprintln!("cluster: built {name} in {} s", start.elapsed().as_secs());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_of_kubernetes_own_tree_are_replaced_and_no_others() {
        let own = "require (\n\tk8s.io/api v0.0.0\n\tk8s.io/klog/v2 v2.130.1\n\tk8s.io/cri-api v0.0.0\n)\n\
                   replace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n)\n";
        assert_eq!(
            replacements(own, "v0.37.2"),
            "\nreplace (\n\tk8s.io/api => k8s.io/api v0.37.2\n\tk8s.io/cri-api => k8s.io/cri-api v0.37.2\n)\n"
        );
    }
}
