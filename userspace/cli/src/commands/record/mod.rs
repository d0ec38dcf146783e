//! `seccast record`: recordings to observations and profiles.

mod compose;
mod engine;
mod outputs;
mod run;
mod target;

use crate::{
    args::record::{RecordArgs, Until},
    exit::{Exit, Failed},
    output::{self, progress::Progress},
};
use anyhow::{Context as _, anyhow};
use engine::Engine;
use outputs::Outputs;
use run::Run;
use seccast_recorder::{Recorder, engine::command::Start};
use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGUSR1},
    iterator::{SignalsInfo, exfiltrator::WithOrigin},
};
use std::{
    io::{IsTerminal as _, stderr},
    thread,
    time::Instant,
};
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
    let waits = args.wait.is_some() || args.all.is_some() || start.is_some();
    // An engine takes as long to answer as the kernel to verify: both at once.
    let (recorder, engine) = thread::scope(|scope| {
        let engine = start.map(|start| scope.spawn(|| Engine::prepare(start, &args)));
        let recorder = Recorder::start(if waits { SLOTS_WAITING } else { SLOTS });
        let failed = |_| Err(anyhow!("asking the engine failed by a defect of seccast"));
        let engine = engine.map(|engine| engine.join().unwrap_or_else(failed));
        (recorder, engine)
    });
    let (engine, mut recorder) = (engine.transpose()?, recorder?);
    let mut watched = Watched::arm(&args, engine, &mut recorder)?;
    let armed = began.elapsed();
    output::note(&format!(
        "armed after {} ms: {}",
        armed.as_millis(),
        watched.describe(&args)
    ));
    watched.start(&args)?;

    let live = !args.quiet && args.command.is_empty() && stderr().is_terminal();
    let until = args.until.iter().copied();
    let until = until.chain(args.for_.map(Until::After)).collect();
    let with_command = !args.command.is_empty();
    let mut run = Run::new(args, outputs, until, Progress::new(live), signals, watched);
    run.go(&mut recorder).map_err(|error| {
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
