//! Everything of seccast that is not plain cargo: one file a verb, this one is the table.

mod bench;
mod bpf;
mod cargo;
mod changed;
mod ci;
mod cluster;
mod codegen;
mod demo;
mod dist;
mod e2e;
mod format;
mod fuzz;
mod go;
mod image;
mod places;
mod process;
mod profiles;
mod setup;
mod steps;
mod suite;
mod test;
mod vm;

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
    /// Record redis in a container under load, and run it again under the profile that comes of it.
    Demo,
    /// Build one static binary with the eBPF object inside.
    Dist,
    /// Pack that binary as a container image: an archive that any node can load, no registry.
    Image,
    /// Set up, build and run every test.
    Test(test::Args),
    /// Boot Debian 12's kernel with nothing but cgroup2: record exactly, enforce redis.
    Vm(vm::Args),
    /// A real Kubernetes on this machine, without a registry.
    Cluster(cluster::Args),
    /// Run the tests that need a cluster, in one that is made for them.
    E2e(e2e::Args),
    /// Measure what seccast costs on this machine.
    Bench(bench::Args),
    /// Record the servers of `profiles/apps` under load, and write their profiles.
    Profiles(profiles::Args),
    /// Give every parser hostile input.
    Fuzz(fuzz::Args),
    /// Format every Rust file; nothing is compiled.
    Fmt(format::Args),
    /// Write the files that are made from other files.
    Codegen(codegen::Args),
    /// All that a change must pass, cheapest first.
    Ci(ci::Args),
}

fn main() -> ExitCode {
    let verb = Args::parse().verb;
    let done = process::catch_signals().and_then(|()| match verb {
        Verb::Setup(args) => setup::run(&args),
        Verb::Demo => demo::run(),
        Verb::Dist => dist::run(),
        Verb::Image => image::run(),
        Verb::Test(args) => test::run(&args),
        Verb::Vm(args) => vm::run(&args),
        Verb::Cluster(args) => cluster::run(&args),
        Verb::E2e(args) => e2e::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Profiles(args) => profiles::run(&args),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::Fmt(args) => args.run(),
        Verb::Codegen(args) => args.run(),
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
