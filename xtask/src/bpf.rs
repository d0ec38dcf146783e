//! What builds the eBPF program. `userspace/recorder/build.rs` looks in the same places, in the same order;
//! here they are looked at to install what is missing and to lint the program.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::places;
use crate::process::Run;

pub(crate) const TARGET: &str = "bpfel-unknown-none";
pub(crate) const LINKER_VERSION: &str = "0.10.3";
/// Where Debian's `rustc-web` puts its compiler.
pub(crate) const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// A compiler that can build for the BPF target.
pub(crate) enum Compiler {
    /// Has a prebuilt `core` for the target.
    Prebuilt(PathBuf),
    /// rustup's nightly with `rust-src`: builds `core` itself.
    Nightly,
}

impl Compiler {
    /// The compiler that `build.rs` will use, if there is one.
    pub(crate) fn find() -> Option<Self> {
        let named = std::env::var_os("SECCAST_BPF_RUSTC").map(PathBuf::from);
        if let Some(named) = named {
            return Some(Self::Prebuilt(named));
        }
        if has_core(Path::new(DEBIAN_RUSTC)) {
            return Some(Self::Prebuilt(DEBIAN_RUSTC.into()));
        }
        nightly_has_source().then_some(Self::Nightly)
    }
}

/// Whether `rustc` comes with a prebuilt `core` for the BPF target.
pub(crate) fn has_core(rustc: &Path) -> bool {
    let libdir = Run::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .stdout();
    let Ok(entries) = libdir.map(|dir| std::fs::read_dir(dir.trim())) else {
        return false;
    };
    entries.is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libcore-") && name.ends_with(".rlib")
        })
    })
}

/// Whether rustup has a nightly with the source of `core`.
pub(crate) fn nightly_has_source() -> bool {
    let components = Run::new("rustup")
        .args(["component", "list", "--installed", "--toolchain", "nightly"])
        .stdout();
    components.is_ok_and(|list| list.lines().any(|line| line == "rust-src"))
}

/// The linker that `setup` installs.
pub(crate) fn own_linker() -> Result<PathBuf> {
    Ok(places::cache()?.join("tools/bin/bpf-linker"))
}

/// The linker that `build.rs` will use, if it has the version that this project is tested with.
pub(crate) fn linker() -> Result<Option<PathBuf>> {
    if let Some(named) = std::env::var_os("SECCAST_BPF_LINKER") {
        return Ok(Some(named.into()));
    }
    Ok([Some(own_linker()?), places::command("bpf-linker")]
        .into_iter()
        .flatten()
        .find(|file| is_tested_version(file)))
}

fn is_tested_version(linker: &Path) -> bool {
    let version = Run::new(linker).arg("--version").stdout();
    version.is_ok_and(|text| text.split_whitespace().any(|word| word == LINKER_VERSION))
}
