//! Containers: those that run, by name or id, and those that somebody waits for.

mod identity;
mod pods;
mod waiting;

pub use identity::{Identity, Wanted};
pub use pods::{Pods, PodsError, ask};
pub use waiting::Waiting;

use crate::{
    cgroup::{Cgroup, CgroupError, Hierarchy, is_id},
    engine::{Client, Details, EngineError, Events, Kind},
    kernel::KernelError,
    proc,
    recorder::{Recorder, RecorderError, Recording},
    runtime::{line, state},
};
use seccast_model::near;
use std::{collections::BTreeMap, path::PathBuf};

/// Why a container was not found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContainerError {
    /// Nobody knows it.
    #[error("no container {name}: {looked}{}; with --wait it is recorded when it starts", near::suggestion(.near))]
    Unknown {
        /// As it was given.
        name: String,
        /// Where was looked, and what did not answer.
        looked: String,
        /// Similar names.
        near: Vec<String>,
    },
    /// It is known and has ended.
    #[error(
        "container {name} has ended: its init process {pid} is gone; start it again with --wait"
    )]
    Ended {
        /// As it was given.
        name: String,
        /// Its init process.
        pid: u32,
    },
    /// It is known and does not run.
    #[error("container {name} of {engine} does not run; with --wait it is recorded when it starts")]
    Stopped {
        /// As it was given.
        name: String,
        /// The engine.
        engine: &'static str,
    },
    /// More than one cgroup carries the id.
    #[error("id {id} is in more than one cgroup: {}; give one of them to --cgroup", .paths.join(", "))]
    Ambiguous {
        /// As it was given.
        id: String,
        /// The cgroups.
        paths: Vec<String>,
    },
    /// More than one container has the name.
    #[error("more than one container is called {name}: {}; give its id, or --engine or --runtime-root", .found.join(", "))]
    SameName {
        /// As it was given.
        name: String,
        /// Each with its engine and id.
        found: Vec<String>,
    },
    /// Nothing here tells which Pod a container belongs to.
    #[error(
        "no containerd and no CRI-O keeps containers of Pods here (looked in {looked}); run on a node, in a Pod with that folder of the node mounted at the same path"
    )]
    NoPods {
        /// The folders.
        looked: String,
    },
    /// No such Pod has a container here.
    #[error("no Pod {pods} runs here, {others}{}; with --wait it is recorded when it starts", near::suggestion(.near))]
    UnknownPod {
        /// As it was given.
        pods: String,
        /// How many Pods there are, in words.
        others: String,
        /// Similar ones.
        near: Vec<String>,
    },
    /// Cgroups of other containers are out of sight.
    #[error(
        "{} is a part of the cgroup2 hierarchy, in which other containers are not seen; mount the machine's (in a Pod by hostPath, read-only), at any path",
        mount.display()
    )]
    Part {
        /// Where cgroup2 is mounted.
        mount: PathBuf,
    },
    /// The Pod has no such container that runs.
    #[error("Pod {pods} runs {wanted} {there}; with --wait it is recorded when it starts")]
    NotInPod {
        /// As it was given.
        pods: String,
        /// The containers that were named, in words.
        wanted: String,
        /// Those that there are, ended ones too.
        there: String,
    },
    /// An engine that was named.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The recording could not begin.
    #[error(transparent)]
    Recorder(#[from] RecorderError),
}

impl From<CgroupError> for ContainerError {
    fn from(error: CgroupError) -> Self {
        Self::Recorder(error.into())
    }
}

impl From<KernelError> for ContainerError {
    fn from(error: KernelError) -> Self {
        Self::Recorder(error.into())
    }
}

/// A container as the user named it.
#[derive(Clone, Debug)]
pub struct Name {
    name: String,
    root: Option<PathBuf>,
    engine: Option<Client>,
}

/// An engine that did not answer.
type Silent = (Kind, EngineError);

/// A container that was found under the name.
struct Found {
    identity: Identity,
    pid: Option<u32>,
    created: bool,
    details: Details,
}

impl Name {
    /// `name` is a container's name or id; `root` is the runtime's `--root`, where it is not a usual one; `engine` the only
    /// one to be asked.
    #[must_use]
    pub fn new(name: &str, root: Option<PathBuf>, engine: Option<Client>) -> Self {
        Self {
            name: name.to_owned(),
            root,
            engine,
        }
    }

    fn roots(&self) -> Vec<PathBuf> {
        self.root
            .clone()
            .map_or_else(state::roots, |root| vec![root])
    }

    fn kind(&self) -> Option<Kind> {
        self.engine.as_ref().map(Client::kind)
    }

    /// What a waiting for it looks for.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        let namespaced = |client: &&Client| client.option(&["--namespace", "-n"]).is_some();
        Wanted {
            names: vec![self.name.clone()],
            engine: self.kind(),
            namespace: self
                .engine
                .as_ref()
                .filter(namespaced)
                .map(Client::namespace),
            address: None,
            root: self.root.clone(),
            all: false,
            pods: None,
        }
    }

    /// The same container is known to its runtime, its conmon and its engine: the first that knows it counts, by its init
    /// process. Two containers of one name are two processes.
    fn find(&self) -> Result<(Vec<Found>, Vec<Silent>), ContainerError> {
        let mut found: Vec<Found> = Vec::new();
        let wanted = self.wanted();
        for state in self
            .roots()
            .iter()
            .filter_map(|root| state::state(root, &self.name))
        {
            let identity = Identity::of_state(&state);
            if wanted.is(&identity) {
                found.push(Found {
                    identity,
                    pid: Some(state.pid),
                    created: state.created,
                    details: Details::default(),
                });
            }
        }
        let mut silent = Vec::new();
        if self.root.is_none() && !self.kind().is_some_and(Kind::is_runtime) && !is_id(&self.name) {
            for pid in proc::all() {
                if let Some(conmon) = line::conmon(pid)
                    && conmon.name.as_deref() == Some(&self.name)
                    && self.kind().is_none_or(|kind| kind == Kind::Podman)
                {
                    found.extend(self.of_conmon(conmon));
                }
            }
            for client in self.clients() {
                match client.inspect(&self.name) {
                    Ok(Some(details)) => found.push(Found {
                        pid: details.pid,
                        created: false,
                        identity: Identity {
                            id: details.id.clone(),
                            name: details.name.clone(),
                            engine: Some(client.kind()),
                            ..self.of_id(&details.id)
                        },
                        details,
                    }),
                    Ok(None) => {}
                    Err(error) => silent.push((client.kind(), error)),
                }
            }
        }
        let mut seen: BTreeMap<_, Found> = BTreeMap::new();
        for found in found {
            let key = (
                found.pid,
                found.pid.is_none().then(|| found.identity.id.clone()),
            );
            let details = found.details.clone();
            seen.entry(key).or_insert(found).details = details;
        }
        Ok((seen.into_values().collect(), silent))
    }

    /// A runtime's state of a container whose id an engine told.
    fn of_id(&self, id: &str) -> Identity {
        let states = self
            .roots()
            .into_iter()
            .filter_map(|root| state::state(&root, id));
        states
            .map(|state| Identity::of_state(&state))
            .next()
            .unwrap_or_default()
    }

    fn of_conmon(&self, conmon: line::Conmon) -> Option<Found> {
        let root = self
            .roots()
            .into_iter()
            .find(|root| state::state(root, &conmon.id).is_some())?;
        let state = state::state(&root, &conmon.id)?;
        Some(Found {
            identity: Identity::of_state(&state),
            pid: Some(state.pid),
            created: state.created,
            details: Details::default(),
        })
    }

    /// The engines to ask: the one that was named, else those in use here. containerd's containers are known by their
    /// runtime.
    fn clients(&self) -> Vec<Client> {
        match &self.engine {
            Some(engine) if engine.kind().is_runtime() => Vec::new(),
            Some(engine) => vec![engine.clone()],
            None => Client::in_use(),
        }
    }

    fn refuse_two(&self, found: &[Found]) -> Result<(), ContainerError> {
        if found.len() < 2 {
            return Ok(());
        }
        let one = |found: &Found| {
            let kind = found.identity.kind().map_or("unknown", Kind::name);
            match &found.identity.root {
                Some(root) if found.identity.engine.is_none() => {
                    format!("{kind} {} in {}", found.identity.id, root.display())
                }
                _ => format!("{kind} {}", found.identity.id),
            }
        };
        Err(ContainerError::SameName {
            name: self.name.clone(),
            found: found.iter().map(one).collect(),
        })
    }

    /// Records a container that exists.
    ///
    /// # Errors
    /// When it is unknown, has ended, is known twice, or is in the root cgroup.
    pub fn record_running(&self, recorder: &mut Recorder) -> Result<Recording, ContainerError> {
        let (mut found, mut silent) = self.find()?;
        if found.len() > 1 {
            // Those that have ended are not meant.
            let alive = |found: &Found| found.pid.is_some_and(|pid| !proc::is_dead(pid));
            if found.iter().any(alive) {
                found.retain(alive);
            }
        }
        self.refuse_two(&found)?;
        let found = found.pop();
        if found.is_none() && self.engine.is_some() && !silent.is_empty() {
            return Err(silent.swap_remove(0).1.into());
        }
        let cgroup = self.running_cgroup(recorder.hierarchy(), found.as_ref(), &silent)?;
        if cgroup.path == "/" {
            return Err(RecorderError::RootCgroup {
                name: self.name.clone(),
            }
            .into());
        }
        let found = found.unwrap_or_else(|| Found {
            identity: Identity {
                id: self.name.clone(),
                ..Identity::default()
            },
            pid: None,
            created: false,
            details: Details::default(),
        });
        let target = found.identity.target();
        let mut recording = if found.created {
            recorder.watch_created(&cgroup, target)?
        } else {
            recorder.watch_present(&cgroup, false, target)?
        };
        recording.describe(&found.details);
        recording.client = found.identity.client.or_else(|| self.engine.clone());
        recording.bundle = found.identity.bundle;
        Ok(recording)
    }

    fn running_cgroup(
        &self,
        hierarchy: &Hierarchy,
        found: Option<&Found>,
        silent: &[Silent],
    ) -> Result<Cgroup, ContainerError> {
        if let Some(found) = found {
            let Some(pid) = found.pid else {
                return Err(ContainerError::Stopped {
                    name: self.name.clone(),
                    engine: found.identity.kind().map_or("its engine", Kind::name),
                });
            };
            let ended = || ContainerError::Ended {
                name: self.name.clone(),
                pid,
            };
            if proc::is_dead(pid) {
                return Err(ended());
            }
            return match hierarchy.of_process(pid) {
                Err(CgroupError::NoProcess { .. }) => Err(ended()),
                found => Ok(found?),
            };
        }
        let mut cgroups = if is_id(&self.name) {
            hierarchy.containing(&self.name)
        } else {
            Vec::new()
        };
        match (cgroups.pop(), cgroups.is_empty()) {
            (Some(cgroup), true) => Ok(cgroup),
            (Some(cgroup), false) => {
                cgroups.push(cgroup);
                Err(ContainerError::Ambiguous {
                    id: self.name.clone(),
                    paths: cgroups.into_iter().map(|cgroup| cgroup.path).collect(),
                })
            }
            (None, _) => {
                let roots = self.roots();
                let mut known: Vec<_> = roots.iter().flat_map(|root| state::names(root)).collect();
                if self.root.is_none() {
                    known.extend(
                        proc::all()
                            .into_iter()
                            .filter_map(|pid| line::conmon(pid)?.name),
                    );
                }
                let folders: Vec<_> = roots
                    .iter()
                    .map(|root| root.display().to_string())
                    .collect();
                let mut looked = format!("not in {}", folders.join(", "));
                for kind in self.clients().iter().map(Client::kind) {
                    if !silent.iter().any(|(silent, _)| *silent == kind) {
                        looked.push_str(&format!(", not known to {}", kind.name()));
                    }
                }
                looked.push_str(", and no cgroup carries it as an id");
                for (_, error) in silent {
                    looked.push_str(&format!("; {error}"));
                }
                Err(ContainerError::Unknown {
                    name: self.name.clone(),
                    looked,
                    near: near::names(&self.name, known),
                })
            }
        }
    }

    /// The engines whose events tell of a container of that name.
    ///
    /// # Errors
    /// When the engine that was named has no client here.
    fn events(&self) -> Result<Vec<Events>, EngineError> {
        if self.root.is_some() || is_id(&self.name) {
            return Ok(Vec::new());
        }
        let named = self.engine.is_some();
        self.clients()
            .iter()
            .map(Events::subscribe)
            .filter(|events| named || events.is_ok())
            .collect()
    }

    /// Arms for the next start of the container: from now on no new cgroup escapes.
    ///
    /// # Errors
    /// When the kernel refuses, or the engine that was named.
    pub fn wait(&self, recorder: &mut Recorder) -> Result<Waiting, ContainerError> {
        let (found, _) = self.find()?;
        self.refuse_two(&found)?;
        // Made and not started: its start is what is waited for, and its cgroup is known.
        if found.iter().any(|found| found.created) {
            return Ok(Waiting::of_created(self.record_running(recorder)?));
        }
        let events = self.events()?;
        Waiting::arm(recorder, self.wanted(), events, false)
    }
}
