//! Workloads of a cluster.

use crate::{args::attach::AttachArgs, exit::Exit};
use anyhow::bail;

/// Attaches to each of `names`, all `KIND/NAME`.
pub(super) fn run(_args: &AttachArgs, names: &[String]) -> anyhow::Result<Exit> {
    bail!(
        "cannot attach to {}: give the manifest's file",
        names.join(", ")
    )
}
