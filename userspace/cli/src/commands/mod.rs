//! One file a verb.

mod attach;
mod check;
mod completions;
mod convert;
mod diff;
mod doctor;
mod generate;
mod install;
mod man;
mod merge;
mod precreate;
mod record;
mod recording;
mod run;
mod subject;
mod verify;

use crate::{
    args::{Args, Verb},
    exit::Exit,
};

/// Does what was typed.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    match args.verb {
        Verb::Record(args) => record::run(*args),
        Verb::Generate(args) => generate::run(&args),
        Verb::Merge(args) => merge::run(&args),
        Verb::Verify(args) => verify::run(&args),
        Verb::Run(args) => run::run(&args),
        Verb::Diff(args) => diff::run(&args),
        Verb::Convert(args) => convert::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Attach(args) => attach::run(&args),
        Verb::Install(args) => install::run(&args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Completions(args) => completions::run(&args),
        Verb::Man(args) => man::run(&args),
        Verb::Precreate(args) => precreate::run(&args),
    }
}
