//! Waiting for containers: every new cgroup is recorded from its first call, and evidence tells which is which.

use super::{
    ContainerError,
    identity::{Identity, Wanted},
};
use crate::{
    cgroup::{Cgroup, id_in},
    clock,
    engine::{Client, Events, Kind},
    kernel::SlotId,
    proc,
    recorder::{Made, News, Recorder, Recording},
    runtime::{cri, line, state},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::{Duration, Instant},
};

/// A new cgroup that is no awaited container's gives its slot back after this long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Paths of strangers that are remembered.
const STRANGERS: usize = 1000;

/// A cgroup that may be an awaited container's.
#[derive(Clone, Debug)]
struct Candidate {
    path: String,
    since: Instant,
    identity: Option<Identity>,
}

impl Candidate {
    fn new(path: String, folders: &[PathBuf]) -> Self {
        Self {
            identity: Identity::of_path(&path, folders),
            path,
            since: Instant::now(),
        }
    }

    /// The id, where nothing but the path tells it.
    fn id_of_path(&self) -> Option<&str> {
        let identity = self.identity.as_ref()?;
        identity.by_path.then_some(identity.id.as_str())
    }

    fn is_better_known(&mut self, identity: Identity) {
        match &mut self.identity {
            Some(known) => known.join(identity),
            None => self.identity = Some(identity),
        }
    }
}

/// Waits for one container or for many.
#[derive(Debug)]
pub struct Waiting {
    wanted: Wanted,
    /// Names are learnt from these.
    events: Vec<Events>,
    /// Since when events count.
    since: Duration,
    /// It goes on after the first.
    many: bool,
    candidates: BTreeMap<u64, Candidate>,
    /// Processes whose line was looked at.
    asked: BTreeSet<(SlotId, u32)>,
    /// Slots of containers that were found.
    claimed: BTreeSet<SlotId>,
    /// Cgroups without evidence.
    strangers: BTreeSet<String>,
    /// Those that exist already and have not started.
    created: Vec<Recording>,
    /// Where the runtimes behind a kubelet keep bundles.
    folders: Vec<PathBuf>,
}

impl Waiting {
    /// From now on no new cgroup escapes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn arm(
        recorder: &mut Recorder,
        wanted: Wanted,
        events: Vec<Events>,
        many: bool,
    ) -> Result<Self, ContainerError> {
        let mut waiting = Self {
            wanted,
            events,
            since: Duration::from_nanos(clock::unix_ns()),
            many,
            candidates: BTreeMap::new(),
            asked: BTreeSet::new(),
            claimed: BTreeSet::new(),
            strangers: BTreeSet::new(),
            created: Vec::new(),
            folders: cri::folders(),
        };
        recorder.kernel_mut().watch_denials(true)?;
        recorder.record_new(true)?;
        // Made by an engine or by hand, with nothing in it yet: whatever enters it enters from now on.
        for cgroup in recorder.hierarchy().empty() {
            recorder.kernel_mut().count_as_new(cgroup.id)?;
            waiting
                .candidates
                .insert(cgroup.id, Candidate::new(cgroup.path, &waiting.folders));
        }
        Ok(waiting)
    }

    /// For a container that was made and has not started.
    pub(super) fn of_created(recording: Recording) -> Self {
        Self {
            wanted: Wanted::default(),
            events: Vec::new(),
            since: Duration::ZERO,
            many: false,
            candidates: BTreeMap::new(),
            asked: BTreeSet::new(),
            claimed: recording.slots.clone(),
            strangers: BTreeSet::new(),
            created: vec![recording],
            folders: Vec::new(),
        }
    }

    /// One that was made and has not started is among those that are waited for.
    pub(super) fn add_created(&mut self, recording: Recording) {
        self.claimed.extend(&recording.slots);
        self.created.push(recording);
    }

    /// One more container is wanted: its name or id.
    pub fn expect(&mut self, name: &str) {
        if !self.wanted.names.iter().any(|known| known == name) {
            self.wanted.names.push(name.to_owned());
        }
    }

    /// What the engines tell.
    #[must_use]
    pub fn events(&self) -> &[Events] {
        &self.events
    }

    /// New cgroups that showed no evidence of a container.
    #[must_use]
    pub fn strangers(&self) -> &BTreeSet<String> {
        &self.strangers
    }

    /// Takes in what was new; recordings of containers that have shown themselves by a process since.
    ///
    /// Evidence is the id in the cgroup's path, the command line of the runtime that made the cgroup or forked what
    /// entered it, the runtime's state folder, or conmon; an engine's event for a name's id. Never "the next new cgroup".
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn check(
        &mut self,
        recorder: &mut Recorder,
        news: &[News],
    ) -> Result<Vec<Recording>, ContainerError> {
        let mut found = std::mem::take(&mut self.created);
        if !self.many && !found.is_empty() {
            recorder.record_new(false)?;
            self.release_others(recorder)?;
            return Ok(found);
        }
        for item in news {
            match item {
                News::Made(made) => {
                    let mut candidate = Candidate::new(made.path.clone(), &self.folders);
                    if let Some(identity) = maker(made) {
                        candidate.is_better_known(identity);
                    }
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
            .filter(|(_, slot)| !self.claimed.contains(slot))
            .map(|(id, _)| id)
            .collect();
        self.add_unannounced(recorder, &recorded);
        self.look_at_bundles();
        self.look_at_states(recorder);
        self.learn_ids();
        self.ask_events();
        while let Some(id) = self.found(recorder, &recorded) {
            found.push(self.claim(recorder, id)?);
            if !self.many {
                return Ok(found);
            }
        }
        self.release_strangers(recorder)?;
        Ok(found)
    }

    /// Forgets a container whose recording is over.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn release(
        &mut self,
        recorder: &mut Recorder,
        recording: &Recording,
    ) -> Result<(), ContainerError> {
        for slot in &recording.slots {
            recorder.release(*slot)?;
            self.claimed.remove(slot);
        }
        Ok(())
    }

    /// A cgroup whose announcement was lost with a full ring is found by its inode; if it is gone, it has no path.
    fn add_unannounced(&mut self, recorder: &mut Recorder, recorded: &BTreeSet<u64>) {
        for id in recorded {
            if !self.candidates.contains_key(id) {
                let path = recorder.path_of(*id).unwrap_or_default();
                let candidate = Candidate::new(path, &self.folders);
                self.candidates.insert(*id, candidate);
            }
        }
    }

    /// A bundle may be there later than its cgroup was seen.
    fn look_at_bundles(&mut self) {
        for candidate in self.candidates.values_mut() {
            if candidate.id_of_path().is_some()
                && let Some(identity) = Identity::of_path(&candidate.path, &self.folders)
            {
                candidate.identity = Some(identity);
            }
        }
    }

    /// The runtimes' states of what is waited for by name, and of every id that only a path tells.
    fn look_at_states(&mut self, recorder: &Recorder) {
        let mut names: BTreeSet<String> = self.wanted.names.iter().cloned().collect();
        let unsure = self.candidates.values().filter_map(Candidate::id_of_path);
        names.extend(unsure.map(str::to_owned));
        let lacking = |candidate: &Candidate| {
            candidate.identity.is_none() || candidate.id_of_path().is_some()
        };
        if !self.candidates.values().any(lacking) {
            return;
        }
        let roots = self
            .wanted
            .root
            .clone()
            .map_or_else(state::roots, |root| vec![root]);
        for root in roots.iter().filter(|root| root.exists()) {
            for state in names.iter().filter_map(|name| state::state(root, name)) {
                if let Ok(cgroup) = recorder.hierarchy().of_process(state.pid)
                    && let Some(candidate) = self.candidates.get_mut(&cgroup.id)
                    && lacking(candidate)
                {
                    candidate.is_better_known(Identity::of_state(&state));
                }
            }
        }
    }

    /// An engine's event gives a name's id.
    fn learn_ids(&mut self) {
        let names = self.wanted.names.clone();
        for events in &self.events {
            let ids = events.ids(|told| {
                let name = told.details.name.as_ref();
                name.is_some_and(|name| names.contains(name))
            });
            for id in ids {
                if !self.wanted.names.contains(&id) {
                    self.wanted.names.push(id);
                }
            }
        }
    }

    /// An id that only a path tells is a container's when an engine tells of it: the runtime and its announcement may be gone.
    fn ask_events(&mut self) {
        let by_path = self.candidates.values_mut().filter_map(|candidate| {
            let identity = candidate.identity.as_mut()?;
            identity.by_path.then_some(identity)
        });
        for identity in by_path {
            for events in &self.events {
                if let Some(told) = events.of(&identity.id) {
                    identity.by_path = false;
                    identity.engine = Some(events.client().kind());
                    identity.name.clone_from(&told.details.name);
                }
            }
        }
    }

    /// The wanted cgroup in which something was called. The uppermost of a container's: what lies below it is the
    /// container's own doing. One that carries the id may have its processes further down; the runtime makes missing
    /// parents as well, such as a pod's.
    fn found(&self, recorder: &Recorder, recorded: &BTreeSet<u64>) -> Option<u64> {
        let tree = recorder.tree();
        let lives_below = |above: u64| recorded.iter().any(|id| tree.is_below(*id, above));
        self.candidates
            .iter()
            .filter(|(id, candidate)| {
                candidate.identity.as_ref().is_some_and(|identity| {
                    self.wanted.is(identity)
                        && (recorded.contains(id)
                            || (id_in(&candidate.path) == Some(identity.id.as_str())
                                && lives_below(**id)))
                })
            })
            // One that is not known is no uppermost.
            .min_by_key(|(id, _)| tree.depth(**id).unwrap_or(usize::MAX))
            .map(|(id, _)| *id)
    }

    /// A process in a candidate's slot: who forked it?
    fn entered(&mut self, recorder: &Recorder, slot: SlotId, pid: u32) {
        if self.claimed.contains(&slot) || !self.asked.insert((slot, pid)) {
            return;
        }
        for (id, _) in recorder.kernel().cgroups(slot) {
            let Some(candidate) = self.candidates.get_mut(&id) else {
                continue;
            };
            if candidate.identity.as_ref().is_none_or(Identity::is_unsure) {
                let ancestors = proc::line(pid, 8);
                let starts = ancestors
                    .iter()
                    .take(6)
                    .find_map(|pid| line::started_by(*pid));
                if let Some(starts) = starts {
                    candidate.is_better_known(Identity::of_runtime(starts, &ancestors));
                }
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
            if old.contains(&id) && !self.claimed.contains(&slot) {
                recorder.release(slot)?;
                if let Some(candidate) = self.candidates.remove(&id)
                    && self.strangers.len() < STRANGERS
                {
                    self.strangers.insert(candidate.path);
                }
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
            let there = recorder.hierarchy().open(&candidate.path);
            if !there.is_ok_and(|there| there.id == id) {
                self.candidates.remove(&id);
                recorder.kernel_mut().forget(id);
            }
        }
        Ok(())
    }

    /// Gives back every slot that no container has.
    fn release_others(&self, recorder: &mut Recorder) -> Result<(), ContainerError> {
        for (_, slot) in recorder.kernel().recorded() {
            if !self.claimed.contains(&slot) {
                recorder.release(slot)?;
            }
        }
        Ok(())
    }

    /// Makes a recording of a cgroup and what lies below it. Of one container all others are given back.
    fn claim(&mut self, recorder: &mut Recorder, id: u64) -> Result<Recording, ContainerError> {
        let Candidate { path, identity, .. } = self
            .candidates
            .remove(&id)
            .unwrap_or_else(|| Candidate::new(String::new(), &[]));
        let dir = recorder
            .hierarchy()
            .mount()
            .join(path.trim_start_matches('/'));
        let cgroup = Cgroup { path, dir, id };
        let level = recorder.hierarchy().level(&cgroup);
        // What is made below it from now on folds into its slot, also where its processes live further down.
        if let Some(slot) = recorded_at(recorder, id).first() {
            let kernel = recorder.kernel_mut();
            kernel.watch_unless_recorded(*slot, id, level)?;
        }
        // What was made below it before and has a slot of its own is announced by now.
        recorder.catch_up();
        let slots: BTreeSet<SlotId> = recorded_at(recorder, id).into_iter().collect();
        self.candidates
            .retain(|candidate, _| !recorder.tree().is_below(*candidate, id));
        if !self.many {
            recorder.record_new(false)?;
        }
        self.claimed.extend(&slots);
        if !self.many {
            self.release_others(recorder)?;
        }
        let mut identity = identity.unwrap_or_default();
        // The id in a path is no engine's mark; who was told to start it is known.
        let engine = self.wanted.engine.filter(|kind| !kind.is_runtime());
        identity.engine = identity.engine.or(engine);
        let target = identity.target();
        let mut recording = recorder.recording(slots, cgroup, target);
        recording.client = self.client_of(&identity);
        recording.bundle = identity.bundle;
        self.describe(&mut recording);
        Ok(recording)
    }

    /// The engine's client: conmon calls its own; else the one whose events are read.
    fn client_of(&mut self, identity: &Identity) -> Option<Client> {
        if let Some(client) = &identity.client {
            if !self.events.iter().any(|events| events.client() == client)
                && self.many
                && let Ok(events) = Events::subscribe_since(client, self.since)
            {
                self.events.push(events);
            }
            return Some(client.clone());
        }
        let same = |events: &&Events| Some(events.client().kind()) == identity.engine;
        let client = self.events.iter().find(same)?.client().clone();
        Some(match &identity.namespace {
            Some(namespace) if client.kind() == Kind::Containerd => client.in_namespace(namespace),
            _ => client,
        })
    }

    /// Adds what the engines have told of a container by now, if they have.
    pub fn describe(&self, recording: &mut Recording) -> bool {
        let Some(id) = recording.target.container_id.clone() else {
            return false;
        };
        let mut any = false;
        for events in &self.events {
            if let Some(told) = events.of(&id) {
                let engine = &mut recording.target.engine;
                engine.get_or_insert_with(|| events.client().kind().name().to_owned());
                recording.describe(&told.details);
                any = true;
            }
        }
        any
    }
}

/// The slots of a cgroup and of those below it.
fn recorded_at(recorder: &Recorder, id: u64) -> Vec<SlotId> {
    let own = |cgroup: u64| cgroup == id || recorder.tree().is_below(cgroup, id);
    let recorded = recorder.kernel().recorded().into_iter();
    recorded
        .filter(|(cgroup, _)| own(*cgroup))
        .map(|(_, slot)| slot)
        .collect()
}

/// Who made a cgroup. The command line is the kernel's; the process may be gone. Where it lives, it must not be a
/// container's.
fn maker(made: &Made) -> Option<Identity> {
    let lives = || proc::command_line(made.creator).is_some();
    // It may go between two looks.
    if lives() && !proc::in_own_pid_namespace(made.creator) && lives() {
        return None;
    }
    let starts = line::starts(made.creator, &made.command_line)
        .or_else(|| line::started_by(made.creator))?;
    Some(Identity::of_runtime(starts, &proc::line(made.creator, 3)))
}
