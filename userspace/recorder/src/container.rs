//! Containers by name or id: those that run, and those that somebody waits for.

use crate::{
    cgroup::{Cgroup, Hierarchy},
    kernel::SlotId,
    near, proc,
    recorder::{Made, News, Recorder, RecorderError, Recording},
    runtime::{
        bundle::Bundle,
        runc::{self, State},
    },
};
use seccast_model::observation::Target;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::{Duration, Instant},
};

/// A new cgroup that is not the awaited one gives its slot back after this long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a container was not found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContainerError {
    /// Nobody knows it.
    #[error("no container {name}: not in {}, and no cgroup carries it as an id{}; with --wait it is recorded when it starts", .roots.join(", "), suggestion(.near))]
    Unknown {
        /// As it was given.
        name: String,
        /// Where was looked.
        roots: Vec<String>,
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
    /// More than one cgroup carries the id.
    #[error("id {id} is in more than one cgroup: {}; give one of them to --cgroup", .paths.join(", "))]
    Ambiguous {
        /// As it was given.
        id: String,
        /// The cgroups.
        paths: Vec<String>,
    },
    /// The recording could not begin.
    #[error(transparent)]
    Recorder(#[from] RecorderError),
}

impl From<crate::cgroup::CgroupError> for ContainerError {
    fn from(error: crate::cgroup::CgroupError) -> Self {
        Self::Recorder(error.into())
    }
}

impl From<crate::kernel::KernelError> for ContainerError {
    fn from(error: crate::kernel::KernelError) -> Self {
        Self::Recorder(error.into())
    }
}

fn suggestion(names: &[String]) -> String {
    if names.is_empty() {
        String::new()
    } else {
        format!(" (did you mean {}?)", names.join(", "))
    }
}

/// A container as the user named it.
#[derive(Clone, Debug)]
pub struct Name {
    name: String,
    roots: Vec<PathBuf>,
}

impl Name {
    /// `name` is a runc name or any engine's 64-digit id; `root` is runc's `--root`, where it is not a usual one.
    #[must_use]
    pub fn new(name: &str, root: Option<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            roots: root.map_or_else(runc::roots, |root| vec![root]),
        }
    }

    /// 64 hexadecimal digits: an id that cgroup paths carry.
    fn is_id(&self) -> bool {
        self.name.len() == 64 && self.name.bytes().all(|byte| byte.is_ascii_hexdigit())
    }

    fn state(&self) -> Option<State> {
        self.roots
            .iter()
            .find_map(|root| runc::state(root, &self.name))
    }

    fn target(&self) -> Target {
        let runtime = self.state().map(|_| "runc".to_owned());
        Target {
            runtime,
            container_id: Some(self.name.clone()),
            ..Target::default()
        }
    }

    /// Records a container that exists.
    ///
    /// # Errors
    /// When it is unknown, has ended, or is in the root cgroup.
    pub fn record_running(&self, recorder: &mut Recorder) -> Result<Recording, ContainerError> {
        let state = self.state();
        let cgroup = self.running_cgroup(recorder.hierarchy(), state.as_ref())?;
        if cgroup.path == "/" {
            return Err(RecorderError::RootCgroup {
                name: self.name.clone(),
            }
            .into());
        }
        let mut recording = match &state {
            Some(state) if state.created => recorder.watch_created(&cgroup, self.target())?,
            _ => recorder.watch_present(&cgroup, false, self.target())?,
        };
        recording.bundle = state.and_then(|state| Bundle::read(&state.bundle?));
        Ok(recording)
    }

    fn running_cgroup(
        &self,
        hierarchy: &Hierarchy,
        state: Option<&State>,
    ) -> Result<Cgroup, ContainerError> {
        if let Some(state) = state {
            if proc::is_dead(state.pid) {
                let (name, pid) = (self.name.clone(), state.pid);
                return Err(ContainerError::Ended { name, pid });
            }
            return match hierarchy.of_process(state.pid) {
                Err(crate::cgroup::CgroupError::NoProcess { pid }) => Err(ContainerError::Ended {
                    name: self.name.clone(),
                    pid,
                }),
                found => Ok(found?),
            };
        }
        let mut found = if self.is_id() {
            hierarchy.containing(&self.name)
        } else {
            Vec::new()
        };
        match (found.pop(), found.is_empty()) {
            (Some(cgroup), true) => Ok(cgroup),
            (Some(cgroup), false) => {
                found.push(cgroup);
                let paths = found.into_iter().map(|cgroup| cgroup.path).collect();
                Err(ContainerError::Ambiguous {
                    id: self.name.clone(),
                    paths,
                })
            }
            (None, _) => {
                let known = self.roots.iter().flat_map(|root| runc::names(root));
                let roots = self
                    .roots
                    .iter()
                    .map(|root| root.display().to_string())
                    .collect();
                Err(ContainerError::Unknown {
                    name: self.name.clone(),
                    roots,
                    near: near::names(&self.name, known),
                })
            }
        }
    }

    /// Arms for the next start of the container: from now on no new cgroup escapes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn wait(self, recorder: &mut Recorder) -> Result<Waiting, ContainerError> {
        let mut waiting = Waiting {
            name: self,
            candidates: BTreeMap::new(),
            asked: BTreeSet::new(),
            created: None,
        };
        // Made and not started: its start is what is waited for, and its cgroup is known.
        if waiting.name.state().is_some_and(|state| state.created) {
            waiting.created = Some(waiting.name.record_running(recorder)?);
            return Ok(waiting);
        }
        recorder.kernel_mut().watch_denials(true)?;
        recorder.kernel_mut().record_new(true)?;
        // Made by an engine or by hand, with nothing in it yet: whatever enters it enters from now on.
        for cgroup in recorder.hierarchy().empty() {
            recorder.kernel_mut().count_as_new(cgroup.id)?;
            waiting
                .candidates
                .insert(cgroup.id, Candidate::new(cgroup.path));
        }
        Ok(waiting)
    }
}

/// A cgroup that may be the awaited container's.
#[derive(Clone, Debug)]
struct Candidate {
    path: String,
    since: Instant,
    evidence: Option<Evidence>,
}

/// Why a cgroup is the awaited container's.
#[derive(Clone, Debug)]
enum Evidence {
    /// Its path carries the id.
    Id,
    /// The runtime's command line or state folder names the container.
    Runtime(Option<Bundle>),
}

impl Candidate {
    fn new(path: String) -> Self {
        Self {
            path,
            since: Instant::now(),
            evidence: None,
        }
    }
}

/// Waits for a container: every new cgroup is recorded, and evidence tells which is the one.
#[derive(Clone, Debug)]
pub struct Waiting {
    name: Name,
    candidates: BTreeMap<u64, Candidate>,
    /// Processes whose line was looked at.
    asked: BTreeSet<(SlotId, u32)>,
    /// It exists already and has not started.
    created: Option<Recording>,
}

impl Waiting {
    /// Takes in what was new; the recording, once the container has shown itself by a process.
    ///
    /// Evidence is the id in the cgroup's path, the command line of the runtime that made the cgroup or forked what
    /// entered it, or the runtime's state folder: never "the next new cgroup".
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn check(
        &mut self,
        recorder: &mut Recorder,
        news: &[News],
    ) -> Result<Option<Recording>, ContainerError> {
        if let Some(recording) = self.created.take() {
            return Ok(Some(recording));
        }
        for item in news {
            match item {
                News::Made(made) => {
                    let mut candidate = Candidate::new(made.path.clone());
                    candidate.evidence = self.made_by_its_runtime(made);
                    self.candidates.insert(made.id, candidate);
                }
                News::Call { slot, pid, .. } | News::Executed { slot, pid, .. } => {
                    self.entered(recorder, *slot, *pid);
                }
            }
        }
        let recorded: BTreeSet<u64> = recorder
            .kernel()
            .recorded()
            .into_iter()
            .map(|(id, _)| id)
            .collect();
        self.add_unannounced(recorder, &recorded);
        self.look_at_names(recorder);
        let Some(id) = self.found(&recorded) else {
            self.release_strangers(recorder)?;
            return Ok(None);
        };
        self.finish(recorder, id).map(Some)
    }

    /// The command line is the kernel's; the process may be gone. Where it lives, it must not be a container's.
    fn made_by_its_runtime(&self, made: &Made) -> Option<Evidence> {
        let name = &self.name.name;
        if proc::command_line(made.creator).is_some() && !proc::in_own_pid_namespace(made.creator) {
            return None;
        }
        runc::starts_by(made.creator, &made.command_line, name)
            .or_else(|| runc::starts(made.creator, name))
            .map(Evidence::Runtime)
    }

    /// A cgroup whose announcement was lost with a full ring is found by its inode; if it is gone, it has no path.
    fn add_unannounced(&mut self, recorder: &Recorder, recorded: &BTreeSet<u64>) {
        for id in recorded {
            if !self.candidates.contains_key(id) {
                let path = recorder.hierarchy().path_of(*id).unwrap_or_default();
                self.candidates.insert(*id, Candidate::new(path));
            }
        }
    }

    /// The id in a path, and the runtime's state.
    fn look_at_names(&mut self, recorder: &Recorder) {
        if self.name.is_id() {
            for candidate in self.candidates.values_mut() {
                let last = candidate.path.rsplit('/').next().unwrap_or_default();
                if last.contains(&self.name.name) && !last.contains("conmon") {
                    candidate.evidence.get_or_insert(Evidence::Id);
                }
            }
        }
        if let Some(state) = self.name.state()
            && let Ok(cgroup) = recorder.hierarchy().of_process(state.pid)
            && let Some(candidate) = self.candidates.get_mut(&cgroup.id)
        {
            let bundle = || state.bundle.as_deref().and_then(Bundle::read);
            candidate
                .evidence
                .get_or_insert_with(|| Evidence::Runtime(bundle()));
        }
    }

    /// The cgroup with evidence in which something was called. The uppermost: what lies below it is the container's own
    /// doing. One that only carries the id may have its processes further down.
    fn found(&self, recorded: &BTreeSet<u64>) -> Option<u64> {
        let lives_below = |path: &str| {
            let below = format!("{path}/");
            recorded.iter().any(|id| {
                self.candidates
                    .get(id)
                    .is_some_and(|other| other.path.starts_with(&below))
            })
        };
        self.candidates
            .iter()
            .filter(|(id, candidate)| match candidate.evidence {
                None => false,
                Some(Evidence::Id) => recorded.contains(id) || lives_below(&candidate.path),
                Some(Evidence::Runtime(_)) => recorded.contains(id),
            })
            .min_by_key(|(_, candidate)| candidate.path.len())
            .map(|(id, _)| *id)
    }

    /// A process in a candidate's slot: who forked it?
    fn entered(&mut self, recorder: &Recorder, slot: SlotId, pid: u32) {
        if !self.asked.insert((slot, pid)) {
            return;
        }
        for (id, _) in recorder.kernel().cgroups(slot) {
            let Some(candidate) = self.candidates.get_mut(&id) else {
                continue;
            };
            if candidate.evidence.is_none() {
                candidate.evidence = proc::line(pid, 6)
                    .into_iter()
                    .find_map(|pid| runc::starts(pid, &self.name.name))
                    .map(Evidence::Runtime);
            }
        }
    }

    /// Gives back the slots of cgroups that have shown no evidence for long, and forgets those that are gone.
    fn release_strangers(&mut self, recorder: &mut Recorder) -> Result<(), ContainerError> {
        let old: BTreeSet<u64> = self
            .candidates
            .iter()
            .filter(|(_, candidate)| candidate.since.elapsed() > PATIENCE)
            .map(|(id, _)| *id)
            .collect();
        if old.is_empty() {
            return Ok(());
        }
        // Process ids and slots come again.
        self.asked.clear();
        for (id, slot) in recorder.kernel().recorded() {
            if old.contains(&id) {
                recorder.release(slot)?;
                self.candidates.remove(&id);
                recorder.kernel_mut().count_as_old(id);
            }
        }
        // Those without a call keep waiting: nothing was recorded for them.
        let now = Instant::now();
        for id in old {
            let Some(candidate) = self.candidates.get_mut(&id) else {
                continue;
            };
            candidate.since = now;
            if recorder.hierarchy().open(&candidate.path).is_err() {
                self.candidates.remove(&id);
                recorder.kernel_mut().count_as_old(id);
            }
        }
        Ok(())
    }

    fn finish(&mut self, recorder: &mut Recorder, id: u64) -> Result<Recording, ContainerError> {
        let Candidate { path, evidence, .. } = self
            .candidates
            .remove(&id)
            .unwrap_or_else(|| Candidate::new(String::new()));
        let below = format!("{path}/");
        let is_below = |waiting: &Self, cgroup: u64| {
            let candidate = waiting.candidates.get(&cgroup);
            candidate.is_some_and(|candidate| candidate.path.starts_with(&below))
        };
        // What is made below it from now on folds into its slot, also where its processes live further down.
        let kernel = recorder.kernel_mut();
        let recorded = kernel.recorded();
        if let Some((_, slot)) = recorded
            .iter()
            .find(|(cgroup, _)| *cgroup == id || is_below(self, *cgroup))
        {
            kernel.watch_unless_recorded(*slot, id)?;
        }
        kernel.record_new(false)?;
        let (mut slots, mut strangers) = (BTreeSet::new(), BTreeSet::new());
        for (cgroup, slot) in kernel.recorded() {
            if cgroup == id || is_below(self, cgroup) {
                slots.insert(slot);
            } else {
                strangers.insert(slot);
            }
        }
        for slot in strangers.difference(&slots) {
            recorder.release(*slot)?;
        }
        let dir = recorder
            .hierarchy()
            .mount()
            .join(path.trim_start_matches('/'));
        let mut target = self.name.target();
        let bundle = match evidence {
            Some(Evidence::Runtime(bundle)) => {
                target.runtime.get_or_insert_with(|| "runc".to_owned());
                bundle
            }
            _ => None,
        };
        let mut recording = recorder.recording(slots, Cgroup { path, dir, id }, target);
        recording.bundle = bundle;
        Ok(recording)
    }
}
