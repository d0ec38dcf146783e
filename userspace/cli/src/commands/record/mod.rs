//! `seccast record`: recordings to observations and profiles.

mod compose;
mod engine;
mod outputs;
mod run;
mod target;

use crate::{
    args::record::{BackendArg, RecordArgs},
    exit::{Exit, Failed},
    output,
};
use anyhow::Context as _;
use engine::Engine;
use outputs::Outputs;
use run::Run;
use seccast_recorder::{Recorder, engine::command::Start};
use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGUSR1},
    iterator::{SignalsInfo, exfiltrator::WithOrigin},
};
use std::time::Instant;
use target::Watched;

/// Slots while new cgroups are recorded: one for each that appears within the patience of `Waiting`.
const SLOTS_WAITING: u32 = 512;
/// Slots for a known target.
const SLOTS: u32 = 2;

/// Does it.
pub fn run(args: RecordArgs) -> anyhow::Result<Exit> {
    let with_command = !args.command.is_empty();
    record(args).map_err(|error| {
        // With CMD every failure of ours before it ran has a code of its own.
        if with_command && error.downcast_ref::<Failed>().is_none() {
            error.context(Failed {
                exit: Exit::BeforeCommand,
                what: "CMD was not run".to_owned(),
            })
        } else {
            error
        }
    })
}

fn record(args: RecordArgs) -> anyhow::Result<Exit> {
    let began = Instant::now();
    let start = Start::parse(&args.command);
    let many = start.as_ref().is_some_and(Start::starts_many);
    let outputs = Outputs::check(&args, start.as_ref(), many)?;
    // From here on signals are ours.
    let signals = SignalsInfo::<WithOrigin>::new([SIGINT, SIGTERM, SIGUSR1])
        .context("cannot watch signals")?;
    if args.backend == Some(BackendArg::Ptrace) {
        return run::traced::record(args, outputs, signals, began, None);
    }
    let by_ptrace_else = args.backend.is_none() && !args.command.is_empty();
    let waits = args.wait.is_some() || args.all.is_some() || start.is_some();
    let mut recorder = match Recorder::start(if waits { SLOTS_WAITING } else { SLOTS }) {
        Err(error) if by_ptrace_else => {
            return run::traced::record(args, outputs, signals, began, Some(error.into()));
        }
        recorder => recorder?,
    };
    // Only now: where nothing can be recorded no client of an engine is run.
    let engine = start
        .map(|start| Engine::prepare(start, &args))
        .transpose()?;
    let by_ptrace_else = by_ptrace_else && engine.is_none();
    let mut watched = match Watched::arm(&args, engine, &mut recorder) {
        Err(error) if by_ptrace_else => {
            drop(recorder);
            return run::traced::record(args, outputs, signals, began, Some(error));
        }
        watched => watched?,
    };
    let armed = began.elapsed();
    output::note(&format!(
        "armed after {} ms: {}",
        armed.as_millis(),
        watched.describe(&args)
    ));
    watched.start(&args)?;

    let mut run = Run::new(args, outputs, signals, watched);
    after_start(!run.args.command.is_empty(), run.go(&mut recorder))
}

/// The code of a failure after CMD was started.
fn after_start(with_command: bool, result: anyhow::Result<Exit>) -> anyhow::Result<Exit> {
    result.map_err(|error| {
        // CMD did run: the codes for a command that did not are taken.
        if with_command && error.downcast_ref::<Failed>().is_none() {
            error.context(Failed {
                exit: Exit::CouldNot,
                what: "the recording failed".to_owned(),
            })
        } else {
            error
        }
    })
}
