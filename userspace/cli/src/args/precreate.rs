//! `seccast precreate`: called by podman, not by people.

use clap::Args;
use std::path::PathBuf;

/// What podman calls as a hook of the stage `precreate`: the OCI config comes on stdin and goes, changed, to stdout.
#[derive(Debug, Args)]
pub struct PrecreateArgs {
    /// Where the container's id is noted
    #[arg(long, value_name = "FILE")]
    pub ids: PathBuf,
    /// The profile that the container is given in place of its own
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
}
