//! `record -- CMD` by ptrace: where eBPF is refused, or by choice.

use super::super::{
    Ended, Plan, Sink, after_start,
    target::{not_run, one_line, warn_of_root},
};
use super::{Commanded, Follow, Pass, TICK, Watched, by_terminal, stop_in_time, warn_of_left};
use crate::{
    exit::{Exit, Failed},
    output,
};
use anyhow::{anyhow, bail};
use seccast_model::evidence::End;
use seccast_recorder::{
    engine::command::Start,
    ptrace::{News, TraceError, Tracer},
};
use signal_hook::consts::SIGUSR1;
use signal_hook::iterator::{SignalsInfo, exfiltrator::WithOrigin};
use std::{collections::BTreeSet, time::Instant};

impl Commanded for Tracer {
    fn signal(&self, signal: i32) {
        Tracer::signal(self, signal);
    }

    fn kill(&self) {
        Tracer::kill(self);
    }
}

/// Does it. `why`: the reason why it is not done by eBPF, if that was tried.
pub(in super::super) fn record(
    plan: Plan,
    sink: &mut dyn Sink,
    signals: SignalsInfo<WithOrigin>,
    began: Instant,
    why: Option<anyhow::Error>,
) -> anyhow::Result<Exit> {
    let args = &plan.target;
    if args.command.is_empty() {
        bail!(
            "ptrace records a command that it starts (-- CMD), not what runs already or is started by somebody else; leave --backend ptrace out, and run as root"
        );
    }
    if let Some(start) = Start::parse(&args.command) {
        return Err(refused(start.kind().name(), why.as_ref()));
    }
    let mut tracer = match (Tracer::arm(&args.command, args.user), &why) {
        (Ok(tracer), _) => tracer,
        (Err(error), None) => return Err(error.into()),
        (Err(error), Some(why)) => {
            return Err(anyhow::Error::new(error).context(format!("{why:#}; by ptrace")));
        }
    };
    if let Some(why) = why {
        output::warning(
            &format!(
                "recording by ptrace, since eBPF cannot: {why:#}; every call of CMD takes tens of microseconds longer, and set-id programs run without their privileges"
            ),
            None,
        );
    }
    output::note(&format!(
        "armed after {} ms: recording {} by ptrace",
        began.elapsed().as_millis(),
        one_line(&args.command),
    ));
    warn_of_root(args);
    tracer.start().map_err(|error| match error {
        TraceError::Command(error) => not_run(error),
        error => error.into(),
    })?;
    let mut following = Follow::new(plan, sink, signals, Watched::default());
    after_start(true, following.go_traced(tracer))
}

/// The calls of a client are not the container's.
fn refused(engine: &str, why: Option<&anyhow::Error>) -> anyhow::Error {
    let why = why.map_or_else(String::new, |why| {
        format!("eBPF cannot record here ({why:#}), and ")
    });
    let line = std::env::args().collect::<Vec<_>>().join(" ");
    let mut text = format!(
        "{why}ptrace would record {engine}, not the container that it starts; run this as root: sudo {}",
        line.replace(" --backend ptrace", "").escape_debug()
    );
    if engine.starts_with("podman") {
        text.push_str(
            "; for a container of your own user (rootless podman) start it without seccast, and record it from a privileged terminal by its id: sudo seccast record --container $(podman inspect --format {{.Id}} NAME)",
        );
    }
    anyhow!(text).context(Failed {
        exit: Exit::CouldNot,
        what: "nothing was started".to_owned(),
    })
}

impl Follow<'_> {
    fn go_traced(&mut self, mut tracer: Tracer) -> anyhow::Result<Exit> {
        let mut unwatched = BTreeSet::new();
        loop {
            for item in tracer.poll(TICK)? {
                if let News::Containers { command } = &item {
                    unwatched.insert(format!("{command}, whose client CMD started"));
                }
                self.show_traced(&item);
            }
            if self.pass_signals_on(&tracer)? == Pass::End || tracer.ended().is_some() {
                break;
            }
            let over = self.time_is_over();
            stop_in_time(&mut self.stopping, over, &tracer);
            if self.progress.due() {
                self.progress.draw(tracer.losses());
            }
        }
        self.progress.clear();
        let status = tracer.ended();
        let mut observation = tracer.observe();
        if let Some(evidence) = &mut observation.evidence {
            evidence.end = status.map_or(End::User, |_| End::Target);
            evidence.unwatched = unwatched;
        }
        let written = self.sink.end(&Ended {
            observation,
            denials: Vec::new(),
            unjudged: 0,
            started: true,
            failed: self.own_code(status).is_some(),
        });
        if status.is_none() {
            output::warning("the recording was ended before CMD: CMD is killed", None);
            tracer.end();
        } else {
            warn_of_left(&tracer.leave());
        }
        self.worst = written?;
        Ok(self.exit(status))
    }

    /// The first signal goes to CMD, the second ends the recording, SIGUSR1 writes the state so far.
    fn pass_signals_on(&mut self, tracer: &Tracer) -> anyhow::Result<Pass> {
        let pending: Vec<_> = self.signals.pending().collect();
        for origin in pending {
            if origin.signal == SIGUSR1 {
                self.so_far(&tracer.observe());
                continue;
            }
            self.interrupts += 1;
            if self.interrupts > 1 {
                return Ok(Pass::End);
            }
            if !by_terminal(&origin) {
                tracer.signal(origin.signal);
            }
        }
        Ok(Pass::Go)
    }

    fn show_traced(&mut self, item: &News) {
        match item {
            News::Call { name, pid, comm } => self.progress.new_call(name, comm, *pid),
            News::Unprivileged { file } => self.progress.above(&format!(
                "warning: {file} was executed without the privileges that its file gives: seccast, which traces it, has none\n   hint: record as root"
            )),
            News::Containers { command } => self.progress.above(&format!(
                "warning: CMD started a client of {command}: the container's calls are not recorded, those of the client are\n   hint: record the container, as root"
            )),
        }
    }
}
