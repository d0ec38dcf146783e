//! `cargo xtask profiles`: records servers under load, and writes their profiles. `tests/closed-loop` records, `codegen`
//! makes the profiles of it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::process::{self, Run};
use crate::{cargo, codegen, dist, places, setup};

/// Ten recordings or more of each server, some minutes each.
const LIMIT: Duration = Duration::from_secs(3600);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these: redis, nginx, memcached, postgresql, haproxy, mariadb.
    #[arg(value_name = "APP")]
    apps: Vec<String>,
    /// The day that the provenance names, such as 2026-11-24.
    #[arg(long)]
    date: String,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    process::want_root("running containers and loading eBPF programs")?;
    setup::tools()?;
    let seccast = dist::build()?;
    let profiles = cargo::program("seccast-closed-loop", "seccast-profiles")?;
    let recorded = cargo::target()?.join("profiles");
    Run::new(profiles)
        .args(&args.apps)
        .args(["--date", &args.date])
        .arg("--seccast")
        .arg(seccast)
        .arg("--folder")
        .arg(&recorded)
        .env("SECCAST_CACHE", places::cache()?)
        .limit(LIMIT)
        .rooted()
        .run()?;
    // By the user, whose checkout it is.
    let apps = codegen::apps_dir();
    let folders = fs::read_dir(&recorded)
        .with_context(|| format!("failed to read {}", recorded.display()))?;
    for folder in folders {
        let folder = folder?;
        replace(&folder.path(), &apps.join(folder.file_name()))?;
    }
    codegen::run(false)
}

/// Puts a copy of a folder of files where another one may be.
fn replace(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("failed to remove {}", to.display()))?;
    }
    fs::create_dir_all(to)
        .with_context(|| format!("failed to make the folder {}", to.display()))?;
    for file in fs::read_dir(from)? {
        let file = file?;
        fs::copy(file.path(), to.join(file.file_name()))
            .with_context(|| format!("failed to copy {}", file.path().display()))?;
    }
    Ok(())
}
