//! `cargo xtask demo`: the whole story with a real server. `tests/closed-loop` tells it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::process::{self, Run};
use crate::{cargo, dist, places, setup};

/// For other tests on this machine to end, and then for a minute of work.
const LIMIT: Duration = Duration::from_secs(1800);

pub(crate) fn run() -> Result<()> {
    process::want_root("running containers and loading eBPF programs")?;
    setup::tools()?;
    eprintln!("demo: building seccast");
    let seccast = dist::build()?;
    let demo = cargo::program("seccast-closed-loop", "seccast-demo")?;
    let folder = cargo::target()?.join("demo");
    fs::create_dir_all(&folder)
        .with_context(|| format!("failed to make the folder {}", folder.display()))?;
    Run::new(demo)
        .arg("--seccast")
        .arg(seccast)
        .arg("--folder")
        .arg(folder)
        .env("SECCAST_CACHE", places::cache()?)
        .limit(LIMIT)
        .rooted()
        .run()
}
