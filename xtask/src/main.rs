//! Everything of seccast that is not plain cargo: one file a verb, this one is the table.

mod bpf;
mod ci;
mod dist;
mod places;
mod process;
mod setup;
mod steps;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Everything of seccast that is not plain cargo"
)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what building and testing need and this machine lacks.
    Setup(setup::Args),
    /// Build one static binary with the eBPF object inside.
    Dist,
    /// Set up, build and run every test.
    Test(test::Args),
    /// All that a change must pass, cheapest first.
    Ci(ci::Args),
}

fn main() -> ExitCode {
    let verb = Args::parse().verb;
    let done = process::catch_signals().and_then(|()| match verb {
        Verb::Setup(args) => setup::run(&args),
        Verb::Dist => dist::run(),
        Verb::Test(args) => test::run(&args),
        Verb::Ci(args) => ci::run(&args),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
