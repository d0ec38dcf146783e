//! What is recorded, and how it is armed.

use super::{Mode, Plan, engine::Engine};
use crate::{
    args::target::{EngineArg, TargetArgs},
    exit::{Exit, Failed},
    output,
};
use anyhow::{Context as _, bail};
use libc::sock_filter;
use seccast_model::{Filter, observation::Target};
use seccast_recorder::{
    Recorder, RecorderError, Recording,
    cgroup::Cgroup,
    command::{self, CommandError, Running},
    container::{Name, Waiting, Wanted},
    engine::{Client, EngineError, Events, Kind},
    native, proc,
};
use std::path::Path;

/// What is recorded, or waited for.
#[derive(Default)]
pub(super) struct Watched {
    pub(super) recordings: Vec<Recording>,
    pub(super) waiting: Option<Waiting>,
    pub(super) command: Option<Running>,
    pub(super) engine: Option<Engine>,
    command_cgroup: Option<Cgroup>,
    /// What a command runs under.
    filter: Option<Vec<sock_filter>>,
    /// A process whose end is the target's.
    pub(super) process: Option<u32>,
}

impl Watched {
    /// `many`: each of several containers has its own files.
    pub(super) fn arm(
        plan: &Plan,
        engine: Option<Engine>,
        many: bool,
        recorder: &mut Recorder,
    ) -> anyhow::Result<Self> {
        let args = &plan.target;
        let mut watched = Self::default();
        if plan.denials {
            // Before anything is watched: the first call may be denied.
            recorder.watch_denials()?;
        }
        if let Some(engine) = engine {
            watched.waiting = Some(engine.arm(recorder)?);
            watched.engine = Some(engine);
        } else if !args.command.is_empty() {
            if let Mode::Under { profile, .. } = &plan.mode {
                let native = native().context("no table of this machine's calls")?;
                watched.filter = Some(command::instructions(&Filter::compile(profile, native)?));
            }
            let cgroup = command::cgroup(recorder.hierarchy())?;
            let armed = recorder.watch_command(&cgroup, args.command.clone());
            if armed.is_err() {
                let _ = cgroup.remove();
            }
            watched.recordings.push(armed?);
            watched.command_cgroup = Some(cgroup);
        } else if let Some(name) = &args.container {
            let name = Name::new(name, args.runtime_root.clone(), client(args)?);
            if args.wait.is_some() {
                watched.waiting = Some(name.wait(recorder)?);
            } else {
                watched.recordings.push(name.record_running(recorder)?);
            }
        } else if let Some(pods) = args.pods() {
            if args.wait.is_some() {
                watched.waiting = Some(pods.wait(recorder, many)?);
            } else {
                watched.recordings = pods.record_running(recorder)?;
                if !many && watched.recordings.len() > 1 {
                    bail!(
                        "{} containers are meant, and there is one file for them: {}; name one with its Pod and -c, or give a folder with -o",
                        watched.recordings.len(),
                        names(&watched.recordings)
                    );
                }
            }
        } else if plan.all.is_some() {
            let named = client(args)?;
            let wanted = Wanted {
                all: true,
                engine: None,
                root: args.runtime_root.clone(),
                ..Wanted::default()
            };
            watched.waiting = Some(Waiting::arm(recorder, wanted, every_engine(named)?, true)?);
        } else if let Some(path) = &args.cgroup {
            let cgroup = recorder.hierarchy().open(path)?;
            if cgroup.path == "/" {
                bail!("the root cgroup holds the whole machine; name a cgroup below it");
            }
            watched
                .recordings
                .push(recorder.watch_present(&cgroup, false, Target::default())?);
        } else if let Some(pid) = args.pid {
            let cgroup = recorder.hierarchy().of_process(pid)?;
            if cgroup.path == "/" {
                bail!(
                    "process {pid} is in the root cgroup, which holds the whole machine; move it to one of its own"
                );
            }
            if !args.whole_cgroup {
                alone(pid, &cgroup)?;
            }
            watched
                .recordings
                .push(recorder.watch_present(&cgroup, true, Target::default())?);
            watched.process = Some(pid);
        }
        Ok(watched)
    }

    pub(super) fn describe(&self, plan: &Plan) -> String {
        let args = &plan.target;
        match (self.recordings.as_slice(), self.waiting.is_some()) {
            _ if self.engine.is_some() => {
                let engine = self.engine.as_ref().map_or("", Engine::name);
                format!(
                    "recording the container that {engine} starts, not {engine} itself: {}",
                    one_line(&args.command)
                )
            }
            ([], true) if plan.all.is_none() => format!("waiting for {}", args.named()),
            ([recording], _) if !args.command.is_empty() => format!(
                "recording {} in cgroup {}",
                one_line(&args.command),
                recording.cgroup.path
            ),
            (recordings @ [_, ..], _) if args.pod.is_some() => {
                format!("recording {}", names(recordings))
            }
            ([recording, ..], _) => format!("recording cgroup {}", recording.cgroup.path),
            ([], _) => match &plan.all {
                Some(folder) => format!(
                    "recording every container that starts, into {}",
                    folder.display()
                ),
                None => "recording".to_owned(),
            },
        }
    }

    pub(super) fn start(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let args = &plan.target;
        if self.engine.is_none() && self.command_cgroup.is_none() {
            return Ok(());
        }
        if self.engine.is_none() {
            warn_of_root(args);
        }
        let started = match (&mut self.engine, self.command_cgroup.take()) {
            (Some(engine), _) => engine.start(),
            (None, cgroup) => {
                match Running::start(
                    &args.command,
                    cgroup.clone(),
                    args.user,
                    self.filter.as_deref(),
                ) {
                    Ok(running) => {
                        self.command = Some(running);
                        Ok(())
                    }
                    Err(error) => {
                        let _ = cgroup.map(|cgroup| cgroup.remove());
                        Err(error)
                    }
                }
            }
        };
        started.map_err(not_run)
    }
}

pub(super) fn warn_of_root(args: &TargetArgs) {
    if args.user.is_none() && std::env::var_os("SUDO_UID").is_some_and(|uid| uid != "0") {
        let id = |name| std::env::var(name).unwrap_or_default();
        output::warning(
            "CMD runs as root, since seccast was started by sudo",
            Some(&format!("--user {}:{}", id("SUDO_UID"), id("SUDO_GID"))),
        );
    }
}

pub(super) fn not_run(error: CommandError) -> anyhow::Error {
    let exit = match &error {
        CommandError::NotFound { .. } => Exit::NotFound,
        CommandError::NotExecutable { .. } => Exit::NotExecutable,
        _ => Exit::BeforeCommand,
    };
    anyhow::Error::new(error).context(Failed {
        exit,
        what: "CMD was not run".to_owned(),
    })
}

/// The engine that was named by --engine and --socket.
fn client(args: &TargetArgs) -> Result<Option<Client>, EngineError> {
    let Some(engine) = args.engine else {
        return Ok(None);
    };
    let kind = match engine {
        EngineArg::Docker => Kind::Docker,
        EngineArg::Podman => Kind::Podman,
        EngineArg::Containerd => Kind::Containerd,
        EngineArg::Runc => Kind::Runc,
        EngineArg::Crun => Kind::Crun,
    };
    let client = match &args.socket {
        Some(socket) => Client::at_socket(kind, socket)?,
        None => Client::named(kind),
    };
    if !kind.is_runtime() {
        client.check_local()?;
    }
    Ok(Some(client))
}

/// The engines whose events tell names and images: the one that was named, and those in use.
fn every_engine(named: Option<Client>) -> Result<Vec<Events>, EngineError> {
    let mut events = Vec::new();
    if let Some(client) = named.as_ref().filter(|client| !client.kind().is_runtime()) {
        events.push(Events::subscribe(client)?);
    }
    let kind = named.as_ref().map(Client::kind);
    let mut others = Client::in_use();
    if Path::new("/run/containerd/containerd.sock").exists() {
        others.push(Client::named(Kind::Containerd));
    }
    for client in others.iter().filter(|client| Some(client.kind()) != kind) {
        // An engine that does not answer starts nothing.
        events.extend(Events::subscribe(client));
    }
    Ok(events)
}

/// Containers of Pods.
fn names(recordings: &[Recording]) -> String {
    let names: Vec<_> = recordings
        .iter()
        .map(|one| output::container(&one.target))
        .collect();
    names.join(", ")
}

/// A command on one line, cut where it is long.
pub(super) fn one_line(command: &[String]) -> String {
    let line = command.join(" ").escape_debug().to_string();
    match line.char_indices().nth(72) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Refuses a cgroup that is not the process's own.
fn alone(pid: u32, cgroup: &Cgroup) -> Result<(), RecorderError> {
    let refuse = |why| {
        Err(RecorderError::NotAlone {
            pid,
            path: cgroup.path.clone(),
            why,
        })
    };
    let strangers: Vec<_> = cgroup
        .processes()
        .into_iter()
        .filter(|other| !proc::line(*other, 64).contains(&pid))
        .collect();
    match strangers.first() {
        None => Ok(()),
        Some(first) => {
            let name = proc::comm(*first).unwrap_or_default();
            let name = name.escape_debug();
            refuse(format!(
                "holds {} processes that are not its children, such as {name} ({first})",
                strangers.len()
            ))
        }
    }
}
