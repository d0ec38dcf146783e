//! `cargo xtask fmt`: rustfmt for the workspace and for the two that lie beside it. Nothing is compiled.

use anyhow::{Result, bail};

use crate::cargo;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail where a file is not formatted.
    #[arg(long)]
    check: bool,
}

impl Args {
    pub(crate) fn run(&self) -> Result<()> {
        run(self.check)
    }
}

/// Formats all of them, or says of all what is not formatted.
pub(crate) fn run(check: bool) -> Result<()> {
    let manifests = [
        "Cargo.toml",
        "ebpf/programs/Cargo.toml",
        "tests/fuzz/Cargo.toml",
    ];
    let mut failed = Vec::new();
    for manifest in manifests {
        let mut fmt = cargo::cargo().args(["fmt", "--all", "--manifest-path", manifest]);
        if check {
            fmt = fmt.arg("--check");
        }
        if let Err(error) = fmt.run() {
            failed.push(format!("{error:#}"));
        }
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("; "));
    }
    Ok(())
}
