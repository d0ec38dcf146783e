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
