//! Manifests, compose files and Helm values.

use crate::{args::attach::AttachArgs, exit::Exit};
use anyhow::bail;

/// Attaches to each of `files`.
pub(super) fn run(_args: &AttachArgs, files: &[String]) -> anyhow::Result<Exit> {
    bail!("cannot attach to {}", files.join(", "))
}
