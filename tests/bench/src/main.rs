//! What seccast costs, measured on the running kernel. `cargo xtask bench overhead` builds and runs it;
//! docs/performance.md explains the method.

mod armed;
mod attach;
mod child;
mod load;
mod loaded;
mod machine;
mod measured;
mod overhead;
mod stats;
mod table;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "seccast-bench", about = "What seccast costs")]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The cost of a system call, and the time from start to armed.
    Overhead(Overhead),
    /// The measured process: makes calls when its standard input says so.
    #[command(hide = true)]
    Measured {
        /// The CPU that it is pinned to.
        #[arg(long)]
        cpu: usize,
        /// Under a filter that denies them.
        #[arg(long)]
        denied: bool,
    },
    /// The load: forks and executes until its standard input is closed.
    #[command(hide = true)]
    Load {
        /// The CPU that it is pinned to.
        #[arg(long)]
        cpu: usize,
    },
}

#[derive(clap::Args)]
struct Overhead {
    /// How often each configuration is measured.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// The seccast whose time to armed is measured.
    #[arg(long, value_name = "FILE")]
    seccast: Option<PathBuf>,
    /// Another build of the eBPF object, measured beside the one inside; for who changes it. May be repeated.
    #[arg(long, value_name = "OBJECT")]
    beside: Vec<PathBuf>,
    /// Leave out bpftrace and strace.
    #[arg(long)]
    no_peers: bool,
}

fn main() -> ExitCode {
    let done = match Args::parse().what {
        What::Overhead(args) => overhead::run(&args),
        What::Measured { cpu, denied } => measured::run(cpu, denied),
        What::Load { cpu } => load::run(cpu),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
