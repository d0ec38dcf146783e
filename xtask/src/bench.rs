//! `cargo xtask bench`: what seccast costs on this machine. `tests/bench` measures; docs/performance.md explains.

use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;

use crate::{cargo, process, setup};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The cost of a system call beside an empty program's, and the time from start to armed.
    Overhead {
        /// How often each configuration is measured.
        #[arg(long, default_value_t = 15)]
        rounds: u32,
        /// Another build of the eBPF object, measured beside the current one. May be repeated.
        #[arg(long, value_name = "OBJECT")]
        beside: Vec<std::path::PathBuf>,
        /// Leave out bpftrace and strace.
        #[arg(long)]
        no_peers: bool,
    },
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let What::Overhead {
        rounds,
        beside,
        no_peers,
    } = &args.what;
    process::want_root("measuring")?;
    setup::tools()?;
    let build = cargo::cargo().args(["build", "--release", "--locked"]);
    build
        .args(["--package=seccast", "--package=seccast-bench"])
        .run()?;
    let folder = cargo::target()?.join("release");
    let mut run = process::Run::new(folder.join("seccast-bench")).args([
        "overhead",
        "--rounds",
        &rounds.to_string(),
    ]);
    run = run.arg("--seccast").arg(folder.join("seccast"));
    for object in beside {
        run = run.arg("--beside").arg(object);
    }
    if *no_peers {
        run = run.arg("--no-peers");
    }
    // A round takes seconds; others' programs at the same hooks are waited for.
    run.limit(Duration::from_secs(600) + Duration::from_secs(30) * *rounds)
        .rooted()
        .run()
}
