//! `seccast record`: recordings to observations and profiles.

mod outputs;

pub use outputs::default_name;

use super::recording::{self, Ended, Mode, Plan, Sink, before_start};
use crate::{args::record::RecordArgs, exit::Exit};
use outputs::Outputs;
use seccast_model::Observation;
use seccast_recorder::engine::command::Start;

/// Does it.
pub fn run(args: RecordArgs) -> anyhow::Result<Exit> {
    before_start(!args.target.command.is_empty(), record(args))
}

fn record(args: RecordArgs) -> anyhow::Result<Exit> {
    let start = Start::parse(&args.target.command);
    let many = start.as_ref().is_some_and(Start::starts_many) || many_of_pods(&args);
    let mut files = Written {
        outputs: Outputs::check(&args, start.as_ref(), many)?,
        args: &args,
    };
    let plan = Plan {
        target: args.target.clone(),
        all: args.all.clone(),
        mode: if args.keep_filter {
            Mode::AsIs
        } else {
            Mode::Audit
        },
        backend: args.backend,
        entered: args.entered,
        quiet: args.quiet,
        denials: false,
        remove: false,
        judged: None,
    };
    recording::record(plan, start, &mut files)
}

/// Containers of Pods go into a folder, but for the one that -c names of one Pod, and where a file is asked for: then one
/// starts first, or one is all there is.
fn many_of_pods(args: &RecordArgs) -> bool {
    let Some(pods) = args.target.pods() else {
        return false;
    };
    let folder = args.output.as_ref().is_some_and(|path| path.is_dir());
    let no_file = args.output.is_none() && args.observation.is_none();
    let waits_for_any = args.target.wait.is_some() && args.target.pod_container.len() != 1;
    folder || waits_for_any || no_file && pods.may_be_many()
}

/// Each recording's files.
struct Written<'a> {
    outputs: Outputs,
    args: &'a RecordArgs,
}

impl Sink for Written<'_> {
    fn is_folder(&self) -> bool {
        self.outputs.is_folder()
    }

    fn so_far(&mut self, observation: &Observation) -> anyhow::Result<bool> {
        // Names in a folder are given out at the end.
        let Outputs::Files(files) = &self.outputs else {
            return Ok(false);
        };
        files.write_so_far(observation, self.args)?;
        Ok(true)
    }

    fn end(&mut self, ended: &Ended) -> anyhow::Result<Exit> {
        let observation = &ended.observation;
        self.outputs
            .files(observation)?
            .write(observation, self.args)
    }
}
