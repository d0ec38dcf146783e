//! The loop from armed to the end, over one recording or many.

pub(super) mod traced;

use super::{Ended, Plan, Sink, engine::Engine, target::Watched};
use crate::{
    args::{generate::EnteredArg, target::Until},
    exit::{Exit, Failed},
    output::{self, progress::Progress},
};
use anyhow::{Context as _, anyhow, bail};
use seccast_model::{
    Given, Observation,
    evidence::End,
    observation::{EnteredAs, Phase},
};
use seccast_recorder::{
    News, Recorder, Recording,
    cgroup::Cgroup,
    command::{self, Running},
    container::{self, Waiting},
    engine::Details,
    proc,
};
use signal_hook::{
    consts::{SIGINT, SIGKILL, SIGTERM, SIGUSR1},
    iterator::{SignalsInfo, exfiltrator::WithOrigin},
    low_level::siginfo::{Cause, Origin},
};
use std::{
    io::{IsTerminal as _, stderr},
    process::ExitStatus,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// How long events are waited for at most; new ones wake at once.
const TICK: Duration = Duration::from_millis(20);
/// Between two looks at what was denied.
const DENIALS: Duration = Duration::from_millis(200);
/// Between the stop signal and KILL, as engines do it.
const GRACE: Duration = Duration::from_secs(10);
/// How long an engine's answer about a container is waited for at its end.
const DETAILS: Duration = Duration::from_secs(5);

/// A recording under way.
struct Active {
    recording: Recording,
    /// It is known whether the application started under a filter.
    judged: bool,
    /// A process was in it.
    populated: bool,
    /// What its engine says of it, asked beside.
    details: Option<mpsc::Receiver<Details>>,
    /// It has said it.
    told: bool,
    /// When it ended, where its engine has not said it by then.
    ended: Option<Instant>,
}

/// Recordings under way, with what ends them.
pub(super) struct Follow<'a> {
    plan: Plan,
    sink: &'a mut dyn Sink,
    until: Vec<Until>,
    progress: Progress,
    armed: Instant,
    signals: SignalsInfo<WithOrigin>,
    interrupts: u32,
    /// When KILL follows.
    stopping: Option<Instant>,
    active: Vec<Active>,
    waiting: Option<Waiting>,
    /// What was new and has not been looked at for starts.
    unread: Vec<News>,
    command: Option<Running>,
    engine: Option<Engine>,
    process: Option<u32>,
    /// Cgroups of the Pods whose containers were begun, where more than one container is recorded.
    pods: Vec<Cgroup>,
    /// Containers that were begun.
    begun: usize,
    /// The worst exit of those that were written.
    worst: Exit,
    /// The next look at what was denied.
    look: Instant,
}

/// What a pass of the loop found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Go,
    End,
}

impl<'a> Follow<'a> {
    pub(super) fn new(
        plan: Plan,
        sink: &'a mut dyn Sink,
        signals: SignalsInfo<WithOrigin>,
        watched: Watched,
    ) -> Self {
        let target = &plan.target;
        let live = !plan.quiet && target.command.is_empty() && stderr().is_terminal();
        let until = target.until.iter().copied();
        let until = until.chain(target.for_.map(Until::After)).collect();
        let mut following = Self {
            plan,
            sink,
            until,
            progress: Progress::new(live),
            armed: Instant::now(),
            signals,
            interrupts: 0,
            stopping: None,
            active: Vec::new(),
            waiting: watched.waiting,
            unread: Vec::new(),
            command: watched.command,
            engine: watched.engine,
            process: watched.process,
            pods: Vec::new(),
            begun: 0,
            worst: Exit::Done,
            look: Instant::now(),
        };
        for recording in watched.recordings {
            following.begin(recording, None);
        }
        following
    }

    /// From the first event to the exit code. A failure leaves nothing running that was started here.
    pub(super) fn go(&mut self, recorder: &mut Recorder) -> anyhow::Result<Exit> {
        let ended = self
            .record(recorder)
            .and_then(|status| self.finish(recorder, status));
        if ended.is_err() {
            let ids = self.container_ids();
            if let Some(engine) = &mut self.engine {
                engine.abandon(ids.iter().map(String::as_str));
            }
        }
        ended
    }

    fn record(&mut self, recorder: &mut Recorder) -> anyhow::Result<Option<ExitStatus>> {
        loop {
            let mut news = std::mem::take(&mut self.unread);
            for item in recorder.poll(TICK)? {
                self.show(&item);
                news.push(item);
            }
            self.look_for_starts(recorder, &news)?;
            let alone = !self.sink.is_folder() && !self.plan.denials;
            for active in &mut self.active {
                active.judge(recorder, alone)?;
            }
            if self.take_signals(recorder)? == Pass::End {
                return self.status();
            }
            if self.command.is_some() {
                let status = self.status()?;
                if status.is_some() {
                    return Ok(status);
                }
                self.stop_in_time();
            } else if self.containers_ended(recorder)? == Pass::End {
                return self.status();
            }
            if self.plan.denials && Instant::now() >= self.look {
                self.look = Instant::now() + DENIALS;
                self.show_denials(recorder)?;
            }
            if self.progress.due() {
                self.progress.draw(recorder.losses()?);
            }
        }
    }

    fn show_denials(&mut self, recorder: &mut Recorder) -> anyhow::Result<()> {
        for active in &self.active {
            for line in self.sink.denied(&recorder.denials(&active.recording)?) {
                self.progress.above(&line);
            }
        }
        Ok(())
    }

    /// CMD's status, once it has ended.
    fn status(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        match (&mut self.command, &mut self.engine) {
            (Some(command), _) => command.ended().context("cannot wait for CMD"),
            (None, Some(engine)) => engine.status(),
            (None, None) => Ok(None),
        }
    }

    fn begin(&mut self, mut recording: Recording, waiting: Option<&Waiting>) {
        recording.entered_as = self.plan.entered.map(EnteredAs::from);
        if let Some(engine) = &self.engine {
            engine.claim(&mut recording, waiting);
        }
        let target = &recording.target;
        let of_pod = target.pod.is_some();
        let engine = target
            .engine
            .is_some()
            .then(|| recording.client.clone())
            .flatten();
        let id = target.container_id.clone();
        // Beside: an answer takes a tenth of a second, in which a thousand calls may come.
        let details = id.filter(|_| of_pod || engine.is_some()).map(|id| {
            let (sender, receiver) = mpsc::channel();
            thread::spawn(move || {
                let mut told = engine.and_then(|client| client.inspect(&id).ok().flatten());
                // No engine's client knows a Pod's labels.
                if let Some(asked) = of_pod.then(|| container::ask(&id)).flatten() {
                    match &mut told {
                        Some(told) => told.pod_labels = asked.pod_labels,
                        None => told = Some(asked),
                    }
                }
                if let Some(details) = told {
                    let _ = sender.send(details);
                }
            });
            receiver
        });
        self.begun += 1;
        // With --all nothing but the user ends it.
        if of_pod
            && self.plan.all.is_none()
            && self.sink.is_folder()
            && let Some(pod) = recording.cgroup.parent()
            && !self.pods.contains(&pod)
        {
            self.pods.retain(Cgroup::populated);
            self.pods.push(pod);
        }
        self.active.push(Active {
            judged: false,
            // What was there at the beginning may be gone by now.
            populated: recording.started_late_ns.is_some(),
            recording,
            details,
            told: false,
            ended: None,
        });
    }

    /// Containers that have shown themselves since.
    fn look_for_starts(&mut self, recorder: &mut Recorder, news: &[News]) -> anyhow::Result<()> {
        if self.begun > 0 && !self.sink.is_folder() {
            // Nothing is waited for any more but its description.
            if self.is_described(0) {
                self.waiting = None;
            }
            return Ok(());
        }
        let Some(mut waiting) = self.waiting.take() else {
            return Ok(());
        };
        if let Some(engine) = &self.engine {
            engine.learn(&mut waiting);
        }
        let found = waiting.check(recorder, news)?;
        let first = self.begun == 0 && !found.is_empty();
        if first {
            self.progress.restart();
        }
        for recording in found {
            if !self.plan.quiet {
                let given = self.plan.target.container.as_ref();
                let name = given.map_or_else(
                    || output::container(&recording.target),
                    |name| format!("container {}", name.escape_debug()),
                );
                self.progress.above(&format!(
                    "seccast: {name} is starting in cgroup {}",
                    recording.cgroup.path.escape_debug()
                ));
            }
            self.begin(recording, Some(&waiting));
        }
        self.waiting = Some(waiting);
        if let (0, Some(limit)) = (self.begun, self.plan.target.patience())
            && self.armed.elapsed() >= limit
        {
            self.progress.clear();
            bail!(
                "{} did not start within {}; nothing was written",
                self.plan.target.named(),
                humantime::format_duration(limit)
            );
        }
        Ok(())
    }

    fn show(&mut self, item: &News) {
        if let News::Call {
            slot,
            name,
            phase,
            pid,
            comm,
        } = item
            && self
                .active
                .iter()
                .any(|active| active.recording.slots.contains(slot))
            && (!matches!(phase, Phase::Runtime | Phase::Entered)
                || self.plan.entered == Some(EnteredArg::App))
        {
            self.progress.new_call(name, comm, *pid);
        }
    }

    /// Ends what has ended. The whole run ends with its last container, or when the time is over.
    fn containers_ended(&mut self, recorder: &mut Recorder) -> anyhow::Result<Pass> {
        let status = self.status()?;
        let mut at = 0;
        let mut all = true;
        while at < self.active.len() {
            if !self.target_ended(recorder, at)? {
                all = false;
            } else if self.sink.is_folder() {
                let since = *self.active[at].ended.get_or_insert_with(Instant::now);
                if !self.is_described(at) && since.elapsed() < DETAILS {
                    at += 1;
                    continue;
                }
                // Its last events; among them may be the first of another.
                for item in recorder.poll(Duration::ZERO)? {
                    self.show(&item);
                    self.unread.push(item);
                }
                let active = self.active.remove(at);
                self.write_one(recorder, active, status)?;
                continue;
            }
            at += 1;
        }
        // A client that was told to end and left its container running: that is what is left of CMD.
        let left = !all && self.interrupts > 0 && self.stopping.is_none();
        if left && self.engine.as_ref().is_some_and(Engine::is_over) {
            self.stop_containers(false);
        }
        let over = match &mut self.engine {
            Some(engine) => {
                if self.begun == 0 {
                    engine.is_over()
                } else {
                    all && status.is_some() && (!self.sink.is_folder() || engine.is_over())
                }
            }
            None => all && self.begun > 0 && self.plan.all.is_none() && !self.pods_live(),
        };
        if over {
            return Ok(Pass::End);
        }
        if !self.time_is_over() || self.begun == 0 && self.plan.all.is_none() {
            return Ok(Pass::Go);
        }
        if self.engine.is_none() {
            return Ok(Pass::End);
        }
        match self.stopping {
            None => self.stop_containers(false),
            Some(deadline) if Instant::now() >= deadline => self.stop_containers(true),
            Some(_) => {}
        }
        Ok(Pass::Go)
    }

    /// The containers that seccast started are stopped as their engine would, still recorded.
    fn stop_containers(&mut self, kill: bool) {
        // The engine's own KILL comes first where it has one.
        self.stopping = Some(Instant::now() + GRACE + Duration::from_secs(2));
        let ids = self.container_ids();
        if let Some(engine) = &mut self.engine {
            engine.stop(ids.iter().map(String::as_str), kill);
        }
    }

    fn container_ids(&self) -> Vec<String> {
        let ids = self
            .active
            .iter()
            .filter_map(|active| active.recording.target.container_id.clone());
        let mut ids: Vec<_> = ids.collect();
        if ids.is_empty() {
            ids.extend(self.engine.iter().flat_map(Engine::written_ids));
        }
        ids
    }

    /// More containers may start in the Pods whose containers were recorded: their sandboxes are there.
    fn pods_live(&self) -> bool {
        self.waiting.is_some() && self.pods.iter().any(Cgroup::populated)
    }

    /// The target's own end: its process's, or that of everything in its cgroup.
    fn target_ended(&mut self, recorder: &Recorder, at: usize) -> anyhow::Result<bool> {
        let active = &mut self.active[at];
        let recording = &active.recording;
        let populated = recording.cgroup.populated();
        active.populated |= populated;
        if let Some(pid) = self.process {
            return Ok(proc::comm(pid).is_none() || !recording.cgroup.exists());
        }
        if !recording.cgroup.exists() {
            return Ok(true);
        }
        // A cgroup that was named may be filled and emptied many times; it ends when it is removed, or when `exit` is asked for.
        if self.plan.target.cgroup.is_some() && !self.until.contains(&Until::Exit) {
            return Ok(false);
        }
        let started = recorder.started_filtered(recording)?.is_some();
        Ok((active.populated || started) && !populated)
    }

    fn time_is_over(&self) -> bool {
        self.until.iter().any(|until| match until {
            Until::Exit => false,
            Until::After(limit) => self.progress.elapsed() >= *limit,
            Until::Quiet(limit) => self.progress.quiet() >= *limit,
        })
    }

    /// CMD was started by us, so we stop it as an engine would, still recording.
    fn stop_in_time(&mut self) {
        let over = self.time_is_over();
        if let Some(command) = &self.command {
            stop_in_time(&mut self.stopping, over, command);
        }
    }

    fn take_signals(&mut self, recorder: &mut Recorder) -> anyhow::Result<Pass> {
        let pending: Vec<_> = self.signals.pending().collect();
        for origin in pending {
            if origin.signal == SIGUSR1 {
                self.write_so_far(recorder)?;
                continue;
            }
            self.interrupts += 1;
            if self.interrupts > 1 || (self.command.is_none() && self.engine.is_none()) {
                return Ok(Pass::End);
            }
            let by_terminal = by_terminal(&origin);
            if let Some(command) = &self.command {
                if !by_terminal {
                    command.signal(origin.signal);
                }
                continue;
            }
            let attached = self.engine.as_ref().is_some_and(|engine| {
                // A signal that it got already is not sent: 0 only asks whether it lives.
                engine.signal(if by_terminal { 0 } else { origin.signal })
            });
            if !attached {
                // The client is gone, its container is what is left of CMD.
                self.stop_containers(false);
            }
        }
        Ok(Pass::Go)
    }

    /// SIGUSR1: the files as if it ended now. A failure is told, and recording goes on.
    fn write_so_far(&mut self, recorder: &mut Recorder) -> anyhow::Result<()> {
        if self.active.is_empty() {
            self.progress.above("seccast: nothing is recorded yet");
            return Ok(());
        }
        for at in 0..self.active.len() {
            let observation = recorder.observe(&self.active[at].recording)?;
            self.so_far(&observation);
        }
        Ok(())
    }

    fn so_far(&mut self, observation: &Observation) {
        let line = match self.sink.so_far(observation) {
            Ok(true) => "seccast: wrote the state so far".to_owned(),
            Ok(false) => "seccast: each container's files are written at its end".to_owned(),
            Err(error) => format!("warning: cannot write the state so far: {error:#}"),
        };
        self.progress.above(&line);
    }

    /// Takes what its engine has told by now; true when nothing more is to come.
    fn is_described(&mut self, at: usize) -> bool {
        let Some(active) = self.active.get_mut(at) else {
            return true;
        };
        match active.details.as_ref().map(mpsc::Receiver::try_recv) {
            Some(Ok(details)) => {
                active.recording.describe(&details);
                active.details = None;
                active.told = true;
            }
            Some(Err(mpsc::TryRecvError::Disconnected)) => active.details = None,
            Some(Err(mpsc::TryRecvError::Empty)) | None => {}
        }
        let mut may_tell = false;
        if let Some(waiting) = &self.waiting {
            active.told |= waiting.describe(&mut active.recording);
            may_tell = !waiting.events().is_empty() && active.recording.is_of_engine();
        }
        active.details.is_none() && (active.told || !may_tell)
    }

    /// Was the profile that is judged in force, as far as the runtime's configuration tells?
    fn given(&self, recording: &Recording, started: Option<bool>) -> Option<Given> {
        let wanted = self.plan.judged.as_ref()?;
        Some(if self.command.is_some() {
            // It was installed before the execve, which else fails.
            Given::of(wanted, Ok(Some(wanted)), started)
        } else {
            recording.given(wanted, started)
        })
    }

    /// Writes a recording that is over and, in a folder, gives its slots back.
    fn write_one(
        &mut self,
        recorder: &mut Recorder,
        active: Active,
        status: Option<ExitStatus>,
    ) -> anyhow::Result<()> {
        let denials = if self.plan.denials {
            recorder.denials(&active.recording)?
        } else {
            Vec::new()
        };
        // What lived shorter than the time between two looks has not been told of yet.
        for line in self.sink.denied(&denials) {
            self.progress.above(&line);
        }
        let started = recorder.started_filtered(&active.recording)?;
        let mut observation = recorder.observe(&active.recording)?;
        if let Some(evidence) = &mut observation.evidence {
            evidence.end = self.end_of(&active.recording, status);
            evidence.given = self.given(&active.recording, started);
        }
        let ended = Ended {
            observation,
            denials,
            unjudged: if self.plan.denials {
                recorder.unjudged()?
            } else {
                0
            },
            // What ran before had started.
            started: active.recording.started_late_ns.is_some() || started.is_some(),
            failed: self.own_code(status).is_some(),
        };
        let folder = self.sink.is_folder();
        let exit = match self.sink.end(&ended) {
            // One of many does not end the others.
            Err(error) if folder => {
                output::warning(&format!("{error:#}"), None);
                Exit::CouldNot
            }
            written => written?,
        };
        if exit.code() > self.worst.code() {
            self.worst = exit;
        }
        if let (Some(waiting), true) = (&mut self.waiting, folder) {
            waiting.release(recorder, &active.recording)?;
        }
        Ok(())
    }

    /// Has the target ended by itself, or the watching by the user?
    fn end_of(&self, recording: &Recording, status: Option<ExitStatus>) -> End {
        let over = match (&self.command, self.process) {
            (Some(_), _) => status.is_some(),
            (None, Some(pid)) => proc::is_dead(pid),
            (None, None) => !recording.cgroup.populated(),
        };
        if over { End::Target } else { End::User }
    }

    fn finish(
        &mut self,
        recorder: &mut Recorder,
        status: Option<ExitStatus>,
    ) -> anyhow::Result<Exit> {
        self.progress.clear();
        // What the ring still holds.
        for item in recorder.poll(Duration::ZERO)? {
            self.show(&item);
        }
        if self.begun == 0 || !self.plan.denials && self.failed_to_start(recorder, status)? {
            return self.nothing_started(status);
        }
        // Who ended in the last moment may not be told of yet.
        let deadline = Instant::now() + DETAILS;
        for at in 0..self.active.len() {
            while !self.is_described(at) && Instant::now() < deadline {
                thread::sleep(TICK);
            }
        }
        let left_running = status.is_none() || self.interrupts > 1;
        let ids = self.container_ids();
        let mut written = Ok(());
        for active in std::mem::take(&mut self.active) {
            written = written.and(self.write_one(recorder, active, status));
        }
        if let Some(command) = self.command.take() {
            if status.is_none() {
                output::warning("the recording was ended before CMD: CMD is killed", None);
                command.kill();
            }
            let left = command.leave(recorder.hierarchy());
            if status.is_some() {
                warn_of_left(&left);
            }
        } else if let (Some(engine), true) = (&mut self.engine, left_running)
            && !ids.is_empty()
        {
            output::warning(
                "the recording was ended before the container: it is killed",
                None,
            );
            engine.abandon(ids.iter().map(String::as_str));
        }
        if let (Some(engine), true) = (&self.engine, self.plan.remove) {
            engine.remove(ids.iter().map(String::as_str));
        }
        if let (Some(waiting), Some(_)) = (&self.waiting, &self.plan.all) {
            self.tell_strangers(waiting);
        }
        written?;
        Ok(self.exit(status))
    }

    /// CMD's code, if it is not 0, else ours.
    fn exit(&self, status: Option<ExitStatus>) -> Exit {
        if self.plan.denials && self.worst == Exit::Findings {
            return self.worst;
        }
        if let Some(code) = self.own_code(status) {
            output::note(&format!("seccast: exit code {code} is CMD's own"));
            return Exit::Command(code);
        }
        if self.worst == Exit::Findings && !self.plan.target.command.is_empty() {
            output::note("seccast: exit code 1 is seccast's: the recording is incomplete");
        }
        self.worst
    }

    /// CMD's code, if it failed.
    fn own_code(&self, status: Option<ExitStatus>) -> Option<u8> {
        // A death by the signal that ended our own time limit is no failure of CMD's.
        let stopped = |code: &u8| {
            self.stopping.is_some() && [128 + SIGTERM, 128 + SIGKILL].contains(&i32::from(*code))
        };
        status
            .map(command::exit_code)
            .filter(|code| *code != 0 && !stopped(code))
    }

    /// The runtime made the container and could not execute its program: what is recorded is the runtime's alone, and the
    /// client has said why.
    fn failed_to_start(
        &self,
        recorder: &Recorder,
        status: Option<ExitStatus>,
    ) -> anyhow::Result<bool> {
        if self.engine.is_none() || status.is_none_or(|status| status.success()) {
            return Ok(false);
        }
        for active in &self.active {
            if recorder.started_filtered(&active.recording)?.is_some() {
                return Ok(false);
            }
        }
        // In a folder those that ended before have their files.
        Ok(!self.sink.is_folder())
    }

    /// Nothing was recorded: says why, as far as it is known.
    fn nothing_started(&mut self, status: Option<ExitStatus>) -> anyhow::Result<Exit> {
        if self.plan.all.is_some() {
            if let Some(waiting) = &self.waiting {
                self.tell_strangers(waiting);
            }
            bail!("no container started; nothing was written");
        }
        let Some(engine) = &self.engine else {
            bail!(
                "stopped before {} started; nothing was written",
                self.plan.target.named()
            );
        };
        let name = engine.name();
        match status.map(command::exit_code) {
            Some(0) => {
                bail!("{name} started no container that makes a call here; nothing was written")
            }
            Some(code) => Err(
                anyhow!("exit code {code} is {name}'s own; nothing was written").context(Failed {
                    exit: Exit::Command(code),
                    what: "the command ended before a container executed anything".to_owned(),
                }),
            ),
            None => bail!("stopped before {name} started a container; nothing was written"),
        }
    }

    /// New cgroups that were no containers.
    fn tell_strangers(&self, waiting: &Waiting) {
        let strangers = waiting.strangers();
        if strangers.is_empty() || self.plan.quiet {
            return;
        }
        let some: Vec<_> = strangers
            .iter()
            .take(20)
            .map(|path| path.escape_debug().to_string())
            .collect();
        let more = strangers.len().saturating_sub(some.len());
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        output::note(&format!(
            "seccast: ignored, since no engine and no runtime names them as containers: {}{more}",
            some.join(", ")
        ));
    }
}

/// CMD, as what ends a recording needs it.
trait Commanded {
    /// Sends it a signal.
    fn signal(&self, signal: i32);
    /// Kills it with all that it made.
    fn kill(&self);
}

impl Commanded for Running {
    fn signal(&self, signal: i32) {
        Running::signal(self, signal);
    }

    fn kill(&self) {
        Running::kill(self);
    }
}

fn stop_in_time(stopping: &mut Option<Instant>, over: bool, command: &impl Commanded) {
    match *stopping {
        None if over => {
            command.signal(SIGTERM);
            *stopping = Some(Instant::now() + GRACE);
        }
        Some(deadline) if Instant::now() >= deadline => command.kill(),
        _ => {}
    }
}

/// The terminal delivers its Ctrl-C to the whole foreground group, CMD with it.
fn by_terminal(origin: &Origin) -> bool {
    origin.signal == SIGINT && matches!(origin.cause, Cause::Kernel)
}

fn warn_of_left(left: &[String]) {
    if !left.is_empty() {
        output::warning(
            &format!(
                "CMD has ended and left {} running, which are recorded no more: {}",
                left.len(),
                left.join(", ").escape_debug()
            ),
            Some("start it in the foreground, or record its cgroup or container"),
        );
    }
}

impl Active {
    /// Once the application has started it is known whether a filter can deny it something. `alone`: no other recording
    /// needs the exits.
    fn judge(&mut self, recorder: &mut Recorder, alone: bool) -> anyhow::Result<()> {
        if self.judged || self.recording.filtered_at_attach {
            return Ok(());
        }
        let Some(filtered) = recorder.started_filtered(&self.recording)? else {
            return Ok(());
        };
        self.judged = true;
        let harmless =
            self.recording.denies_nothing() && !recorder.inherits_filters(&self.recording)?;
        // Exits cost as much as enters: they are watched only where something can be denied.
        if alone {
            recorder.kernel_mut().watch_denials(filtered && !harmless)?;
        }
        let processes = self.recording.cgroup.processes();
        self.recording.libc = processes.into_iter().find_map(proc::libc);
        Ok(())
    }
}
