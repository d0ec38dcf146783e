//! Tests on the real kernel and real container runtimes: what they share.
//!
//! Each test lies in a `mod root`, takes [`kernel`] first, panics when it fails and prints what it measured. One that needs
//! the machine for itself lies in a `mod alone` and takes [`kernel_alone`].
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests, and a test fails by panicking"
)]

pub mod enforcement;
pub mod engine;
pub mod harmless;
mod recording;

pub use recording::{
    Call, Record, Recorded, Running, assert_calls, call, calls, long_enough, named, seccast, truth,
};

use seccast_rig::load::App;
use seccast_rig::{Lock, lock};
use seccast_workloads::puppet::Puppet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Waits while a test is alone on the kernel; `None`, said aloud, where this machine cannot run such tests.
///
/// With `SECCAST_REQUIRE_KERNEL=1` a machine that cannot is a failure.
///
/// # Panics
/// When the lock cannot be had.
#[must_use]
pub fn kernel() -> Option<Lock> {
    can_run().then(|| lock::beside().unwrap())
}

/// As [`kernel`], but waits until no other test uses the kernel.
///
/// # Panics
/// When the lock cannot be had.
#[must_use]
pub fn kernel_alone() -> Option<Lock> {
    can_run().then(|| lock::alone().unwrap())
}

fn can_run() -> bool {
    // SAFETY: geteuid has no precondition.
    let reason = if unsafe { libc::geteuid() } != 0 {
        "needs root"
    } else if !cfg!(target_arch = "x86_64") {
        "the workloads are programs for x86_64"
    } else if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        "needs a kernel with BTF"
    } else {
        return true;
    };
    assert!(
        std::env::var_os("SECCAST_REQUIRE_KERNEL").is_none_or(|value| value != "1"),
        "SECCAST_REQUIRE_KERNEL=1: {reason}"
    );
    println!("SKIPPED: {reason}");
    false
}

/// A server of the rig.
///
/// # Panics
/// When there is none of that name.
#[must_use]
pub fn app(name: &str) -> App {
    let mut apps = seccast_rig::load::APPS.into_iter();
    apps.find(|app| app.name == name).unwrap()
}

/// A root file system with nothing but mount points and these workloads.
#[must_use]
pub fn root_with(programs: &[&str]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    // The temporary folder is its owner's alone; a container may run as somebody else.
    fs::set_permissions(root.path(), PermissionsExt::from_mode(0o755)).unwrap();
    for dir in ["dev", "proc", "sys"] {
        fs::create_dir(root.path().join(dir)).unwrap();
    }
    for name in programs {
        fs::copy(seccast_workloads::path(name), root.path().join(name)).unwrap();
    }
    root
}

/// A puppet, which makes no call without an order.
#[must_use]
pub fn puppet() -> Puppet {
    // Both sides have its page open when it has started.
    let work = tempfile::tempdir().unwrap();
    Puppet::start(&work.path().join("page")).unwrap()
}

/// A copy of seccast that every user may run: the build's folder is its owner's alone.
#[must_use]
pub fn seccast_for_everyone() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let binary = folder.path().join("seccast");
    fs::copy(seccast(), &binary).unwrap();
    (folder, binary)
}

/// A shell script in a mount namespace of its own; what is added are its arguments from `$1` on.
#[must_use]
pub fn with_own_mounts(script: &str) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private"]);
    unshare.args(["sh", "-c", script, "sh"]);
    unshare
}

/// How often something is repeated: `$SECCAST_REPEATS`, else `default`.
///
/// # Panics
/// When that is no number.
#[must_use]
pub fn repeats(default: usize) -> usize {
    std::env::var("SECCAST_REPEATS").map_or(default, |text| text.parse().unwrap())
}
