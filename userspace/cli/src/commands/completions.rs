//! `seccast completions`: what a shell needs to complete the command line.

use crate::{
    args::{Args, completions::CompletionsArgs},
    exit::Exit,
    output::file::Destination,
};
use clap::CommandFactory as _;

/// Does it.
pub fn run(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "seccast", &mut script);
    Destination::Stdout.write(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
