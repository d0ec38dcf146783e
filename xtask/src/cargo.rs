//! cargo: the command, and where it puts what it builds.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::places;
use crate::process::Run;

/// cargo in the checkout, to be completed; the whole workspace from nothing takes minutes.
pub(crate) fn cargo() -> Run {
    Run::new("cargo")
        .dir(places::root())
        .limit(Duration::from_secs(2700))
}

/// Cargo's target folder, wherever the user has put it.
pub(crate) fn target() -> Result<PathBuf> {
    let text = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .stdout()?;
    let metadata: serde_json::Value =
        serde_json::from_str(&text).context("failed to read the output of `cargo metadata`")?;
    let dir = metadata
        .get("target_directory")
        .and_then(|dir| dir.as_str())
        .context("`cargo metadata` names no target_directory")?;
    Ok(PathBuf::from(dir))
}

/// Builds a program of one of the workspace's packages and returns where it is.
pub(crate) fn program(package: &str, name: &str) -> Result<PathBuf> {
    let build = cargo().args(["build", "--locked", "--package", package, "--bin", name]);
    let told = build
        .arg("--message-format=json-render-diagnostics")
        .stdout()?;
    let executable = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message.get("executable")?.as_str()?))
    };
    let built = told.lines().filter_map(executable).next_back();
    built.with_context(|| format!("cargo built no program {name} of {package}"))
}
