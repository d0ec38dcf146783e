//! The `seccast` command: arguments, printing, wiring.
#![forbid(unsafe_code)]
#![allow(
    unreachable_pub,
    reason = "a binary has no public API; `pub` is what other modules may use"
)]

mod args;
mod commands;
mod exit;
mod input;
mod output;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "log")]
    env_logger::init();
    let args = args::Args::parse();
    output::color::choose(args.color);
    match commands::run(args) {
        Ok(exit) => exit.into(),
        Err(error) => {
            output::error(&error);
            exit::Exit::of(&error).into()
        }
    }
}
