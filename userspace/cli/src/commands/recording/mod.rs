//! A recording from armed to its end, whichever verb asks for it.

mod compose;
mod engine;
mod follow;
mod target;

use crate::{
    args::{generate::EnteredArg, record::BackendArg, target::TargetArgs},
    exit::{Exit, Failed},
    output,
};
use anyhow::Context as _;
use engine::Engine;
use follow::Follow;
use seccast_model::{Observation, Profile, audit_profile, denial::Denial};
use seccast_recorder::{Recorder, engine::command::Start, proc};
use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGUSR1},
    iterator::{SignalsInfo, exfiltrator::WithOrigin},
};
use std::{path::PathBuf, time::Instant};
use target::Watched;

/// Slots while new cgroups are recorded: one for each that appears within the patience of `Waiting`.
const SLOTS_WAITING: u32 = 512;
/// Slots for a known target.
const SLOTS: u32 = 2;

/// What is recorded, and how.
pub struct Plan {
    /// What, and how long.
    pub target: TargetArgs,
    /// Every container that starts; files go there.
    pub all: Option<PathBuf>,
    /// The filter of a container that the command starts.
    pub mode: Mode,
    /// What watches the calls; `None` leaves the choice.
    pub backend: Option<BackendArg>,
    /// What processes count as that entered and executed nothing.
    pub entered: Option<EnteredArg>,
    /// No progress.
    pub quiet: bool,
    /// What a filter denies is what is asked for: it is watched from the first instruction on, and a container that does
    /// not start is a result.
    pub denials: bool,
    /// The container that the command starts is removed at its end: its name is wanted again.
    pub remove: bool,
    /// What the filter of each target is held against.
    pub judged: Option<Profile>,
}

/// The filter of containers that the command starts.
#[derive(Clone, Debug)]
pub enum Mode {
    /// The audit profile: it denies nothing, so that everything is seen.
    Audit,
    /// Whatever they have.
    AsIs,
    /// A profile to be proven.
    Under {
        /// Boxed, since the other modes have nothing.
        profile: Box<Profile>,
        /// What it is called in messages.
        name: String,
    },
}

impl Mode {
    /// The profile that they are given, in place of the engine's.
    fn profile(&self) -> Option<Profile> {
        match self {
            Self::Audit => Some(audit_profile()),
            Self::AsIs => None,
            Self::Under { profile, .. } => Some(Profile::clone(profile)),
        }
    }
}

/// What becomes of recordings.
pub trait Sink {
    /// Does each of several containers have its own files?
    fn is_folder(&self) -> bool;
    /// SIGUSR1: the state so far. False where nothing is written before the end.
    fn so_far(&mut self, observation: &Observation) -> anyhow::Result<bool>;
    /// With [`Plan::denials`]: what was denied until now, of one recording. The lines to print about what is new.
    fn denied(&mut self, _: &[Denial]) -> Vec<String> {
        Vec::new()
    }
    /// One that is over.
    fn end(&mut self, ended: &Ended) -> anyhow::Result<Exit>;
}

/// A recording that is over.
pub struct Ended {
    /// What was seen.
    pub observation: Observation,
    /// With [`Plan::denials`]: what was denied.
    pub denials: Vec<Denial>,
    /// Calls that were under way when the watching began, and of which it cannot be said whether they were denied.
    pub unjudged: u64,
    /// The application executed something.
    pub started: bool,
    /// CMD ended by itself with something else than 0.
    pub failed: bool,
}

/// Records into `sink`.
pub fn record(plan: Plan, start: Option<Start>, sink: &mut dyn Sink) -> anyhow::Result<Exit> {
    let began = Instant::now();
    // From here on signals are ours.
    let signals = SignalsInfo::<WithOrigin>::new([SIGINT, SIGTERM, SIGUSR1])
        .context("cannot watch signals")?;
    let with_command = !plan.target.command.is_empty();
    if plan.backend == Some(BackendArg::Ptrace) {
        return follow::traced::record(plan, sink, signals, began, None);
    }
    let by_ptrace_else = plan.backend.is_none() && with_command;
    let waits = plan.target.wait.is_some() || plan.all.is_some() || start.is_some();
    let many = waits || plan.target.pod.is_some();
    let mut recorder = match Recorder::start(if many { SLOTS_WAITING } else { SLOTS }) {
        Err(error) if by_ptrace_else => {
            return follow::traced::record(plan, sink, signals, began, Some(error.into()));
        }
        recorder => recorder?,
    };
    // What it starts inherits a filter that it runs under itself, and that may deny the first call.
    if proc::filters(std::process::id()).is_some_and(|filters| filters > 0) {
        recorder.watch_denials()?;
    }
    // Only now: where nothing can be recorded no client of an engine is run.
    let engine = start
        .map(|start| Engine::prepare(start, &plan))
        .transpose()?;
    let by_ptrace_else = by_ptrace_else && engine.is_none();
    let many = sink.is_folder();
    let mut watched = match Watched::arm(&plan, engine, many, &mut recorder) {
        Err(error) if by_ptrace_else => {
            drop(recorder);
            return follow::traced::record(plan, sink, signals, began, Some(error));
        }
        watched => watched?,
    };
    let armed = began.elapsed();
    output::note(&format!(
        "armed after {} ms: {}",
        armed.as_millis(),
        watched.describe(&plan)
    ));
    watched.start(&plan)?;

    let mut following = Follow::new(plan, sink, signals, watched);
    after_start(with_command, following.go(&mut recorder))
}

/// The code of a failure before CMD was started: with CMD every such failure of ours has a code of its own.
pub fn before_start(with_command: bool, result: anyhow::Result<Exit>) -> anyhow::Result<Exit> {
    with_code(with_command, result, Exit::BeforeCommand, "CMD was not run")
}

/// The code of a failure after CMD was started: the codes for a command that did not run are taken.
fn after_start(with_command: bool, result: anyhow::Result<Exit>) -> anyhow::Result<Exit> {
    with_code(with_command, result, Exit::CouldNot, "the recording failed")
}

fn with_code(
    with_command: bool,
    result: anyhow::Result<Exit>,
    exit: Exit,
    what: &str,
) -> anyhow::Result<Exit> {
    result.map_err(|error| {
        if with_command && error.downcast_ref::<Failed>().is_none() {
            error.context(Failed {
                exit,
                what: what.to_owned(),
            })
        } else {
            error
        }
    })
}
