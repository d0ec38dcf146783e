//! `cargo xtask dist`: one static binary with the eBPF object inside, and beside it its man pages and completions.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::cargo;
use crate::process::Run;

pub(crate) fn run() -> Result<()> {
    crate::setup::tools()?;
    let binary = build()?;
    let bytes = std::fs::metadata(&binary)
        .with_context(|| format!("failed to look at {}", binary.display()))?
        .len();
    println!(
        "{}: {} bytes ({:.1} MiB), static",
        binary.display(),
        bytes,
        bytes as f64 / f64::from(1 << 20)
    );
    documents(&binary)
}

/// Man pages and completions, as the binary itself writes them, under the names that `man` and the shells look for.
fn documents(binary: &Path) -> Result<()> {
    let folder = binary.with_file_name("");
    let (man, completions) = (folder.join("man/man1"), folder.join("completions"));
    for old in [&man, &completions] {
        if old.exists() {
            std::fs::remove_dir_all(old)
                .with_context(|| format!("failed to remove {}", old.display()))?;
        }
        std::fs::create_dir_all(old)
            .with_context(|| format!("failed to make the folder {}", old.display()))?;
    }
    Run::new(binary).arg("man").arg(&man).quiet()?;
    for (shell, name) in [
        ("bash", "seccast.bash"),
        ("zsh", "_seccast"),
        ("fish", "seccast.fish"),
    ] {
        let script = Run::new(binary).args(["completions", shell]).stdout()?;
        let path = completions.join(name);
        std::fs::write(&path, script)
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    println!(
        "{}: man pages\n{}: completions of bash, zsh and fish",
        man.display(),
        completions.display()
    );
    Ok(())
}

/// Where the binary is once it is built.
pub(crate) fn path() -> Result<PathBuf> {
    Ok(cargo::target()?.join("dist/seccast"))
}

/// Builds the binary and returns its path.
pub(crate) fn build() -> Result<PathBuf> {
    let built = build_static(&["seccast"])?.join("seccast");
    let binary = path()?;
    let fresh = binary.with_extension("new");
    if let Some(folder) = binary.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("failed to make the folder {}", folder.display()))?;
    }
    // Copied beside and renamed, so that a copy which is running is not disturbed.
    std::fs::copy(&built, &fresh)
        .with_context(|| format!("failed to copy {} to {}", built.display(), fresh.display()))?;
    std::fs::rename(&fresh, &binary).with_context(|| {
        format!(
            "failed to rename {} to {}",
            fresh.display(),
            binary.display()
        )
    })?;
    Ok(binary)
}

/// Builds packages of the workspace as static programs, at once, so that what they share is compiled once. Returns the folder
/// where each lies under its package's name.
pub(crate) fn build_static(packages: &[&str]) -> Result<PathBuf> {
    if std::env::var_os("SECCAST_SKIP_EBPF").is_some_and(|value| value == "1") {
        bail!(
            "SECCAST_SKIP_EBPF=1 leaves the eBPF object out, and the distributed binary needs it; unset it"
        );
    }
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    // Through --config and an explicit target, not RUSTFLAGS: build scripts and macros stay dynamic, and nothing else is rebuilt.
    let flags = format!("target.{triple}.rustflags=['-C', 'target-feature=+crt-static']");
    let build = cargo::cargo().args(["build", "--locked", "--release", "--target", &triple]);
    build
        .args(["--config", &flags])
        .args(
            packages
                .iter()
                .map(|package| format!("--package={package}")),
        )
        .run()?;
    Ok(cargo::target()?.join(&triple).join("release"))
}
