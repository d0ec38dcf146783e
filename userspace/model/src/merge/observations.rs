//! Recordings joined, whatever machine or run they are of. A recording counts once, however often and in whatever order it is joined:
//! the join is commutative, associative and idempotent.

use crate::arch::Arch;
use crate::evidence::{Doubt, Statement, doubts};
use crate::observation::{
    Arguments, EnteredAs, Extra, Life, Observation, Phase, Sighting, Target, UnknownNr,
};
use crate::report::Incomplete;
use serde_json::Value;
use std::cmp::Ordering;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// What a set of recordings saw. Of each call it keeps in which recordings it was seen, and its first sighting in all of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Merged {
    /// What belongs to one recording: all but its calls. Of these it has only those of phase `entered`, since they count for one
    /// recording and not for another ([`Observation::entered_as`]).
    pub recordings: BTreeMap<RecordingId, Observation>,
    /// Calls by ABI, phase (but `entered`) and name.
    pub calls: BTreeMap<(Arch, Phase), BTreeMap<String, Seen>>,
    /// Calls that an existing filter denied.
    pub denied: BTreeMap<(Arch, Phase), BTreeMap<String, Seen>>,
    /// Calls in which tasks were blocked when a recording attached.
    pub blocked_at_attach: BTreeMap<Arch, BTreeMap<String, Seen>>,
    /// Numbers that the tables do not name, by ABI, phase and number.
    pub unknown: BTreeMap<(Arch, Phase, i64), UnknownSeen>,
    /// Fields of newer versions.
    pub extra: Extra,
}

/// [`Observation::recording_id`] as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordingId(u128);

impl fmt::Display for RecordingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for RecordingId {
    type Err = MergeError;

    fn from_str(text: &str) -> Result<Self, MergeError> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(id) if digits => Ok(Self(id)),
            _ => Err(MergeError::Id {
                found: crate::json::shown(text),
            }),
        }
    }
}

/// A call of several recordings.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The recording of the first sighting.
    pub recording: RecordingId,
    /// When that was, nanoseconds since the Unix epoch.
    pub at_ns: Option<u64>,
    /// The first sighting, explained ones before others. Its arguments are those of all sightings.
    pub first: Sighting,
    /// In which recordings it was seen.
    pub recordings: BTreeSet<RecordingId>,
    /// Fields of newer versions.
    pub extra: Extra,
}

/// A number without a name in several recordings.
#[derive(Clone, Debug, PartialEq)]
pub struct UnknownSeen {
    /// Where and by whom.
    pub seen: Seen,
    /// Calls counted in each recording; those are absent where only "at least one" is known.
    pub counts: BTreeMap<RecordingId, u64>,
}

/// In how many lives a name was seen, of those on a machine with an ABI that it was seen by. Two recordings of one life of a container count
/// as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Presence {
    /// Lives in which it was seen.
    pub seen: usize,
    /// Lives in which it could have been seen.
    pub of: usize,
}

impl fmt::Display for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.seen, self.of)
    }
}

/// Why observations cannot be joined.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MergeError {
    /// Not a recording's id.
    #[error("`{found}` is no recording's id (32 hexadecimal digits)")]
    Id {
        /// What it is.
        found: String,
    },
    /// Two files with the same id are not states of one recording.
    #[error(
        "recording {id} comes twice, with `{field}` {one} and {other}: no two recordings have the same id, so one of the files was \
         edited; leave it out"
    )]
    Identity {
        /// The recording.
        id: RecordingId,
        /// What differs.
        field: &'static str,
        /// One of its values.
        one: String,
        /// The other.
        other: String,
    },
    /// The user said one thing in one file and another in the other.
    #[error(
        "recording {id} comes twice, with `entered_as` app and runtime: leave out the file that is wrong"
    )]
    Entered {
        /// The recording.
        id: RecordingId,
    },
}

impl Merged {
    /// The join of all. Neither order nor repetition matters.
    ///
    /// # Errors
    /// When two observations have the same id and are not of one recording.
    pub fn new(observations: &[Observation]) -> Result<Self, MergeError> {
        let mut merged = Self::default();
        for observation in observations {
            merged.absorb(Self::of(observation.clone())?)?;
        }
        Ok(merged)
    }

    /// One observation.
    ///
    /// # Errors
    /// When its id is not one.
    pub fn of(mut observation: Observation) -> Result<Self, MergeError> {
        let id: RecordingId = observation.recording_id.parse()?;
        let mut merged = Self::default();
        if observation.life == Life::default() {
            observation.life = Life::of(&observation);
        }
        observation.life.trim();
        let seen = |sighting: Sighting| Seen::new(id, observation.started_ns, sighting);
        merged.calls = split(&mut observation.calls, seen);
        merged.denied = split(&mut observation.denied, seen);
        for (arch, names) in std::mem::take(&mut observation.blocked_at_attach) {
            if !names.is_empty() {
                let names = names.into_iter().map(|(name, first)| (name, seen(first)));
                merged.blocked_at_attach.insert(arch, names.collect());
            }
        }
        let (entered, unknown): (Vec<_>, Vec<_>) = std::mem::take(&mut observation.unknown)
            .into_iter()
            .partition(|unknown| unknown.phase == Phase::Entered);
        for unknown in unknown {
            merged.number(
                (unknown.arch, unknown.phase, unknown.nr),
                UnknownSeen {
                    counts: unknown.count.map(|count| (id, count)).into_iter().collect(),
                    seen: seen(unknown.first),
                },
            );
        }
        observation.unknown = join_unknown(id, observation.started_ns, entered);
        observation.recording_id = id.to_string();
        observation.losses.retain(|_, count| *count > 0);
        merged.recordings.insert(id, observation);
        Ok(merged)
    }

    /// The join of two.
    ///
    /// # Errors
    /// As [`Merged::new`].
    pub fn join(&self, other: &Self) -> Result<Self, MergeError> {
        let mut joined = self.clone();
        joined.absorb(other.clone())?;
        Ok(joined)
    }

    /// Joins another one into this.
    ///
    /// # Errors
    /// As [`Merged::new`]; then nothing has changed.
    pub fn absorb(&mut self, other: Self) -> Result<(), MergeError> {
        let mut recordings = Vec::new();
        for (id, theirs) in other.recordings {
            recordings.push((
                id,
                match self.recordings.get(&id) {
                    Some(mine) => join_states(id, mine, theirs)?,
                    None => theirs,
                },
            ));
        }
        self.recordings.extend(recordings);
        join_tables(&mut self.calls, other.calls);
        join_tables(&mut self.denied, other.denied);
        join_tables(&mut self.blocked_at_attach, other.blocked_at_attach);
        for (key, unknown) in other.unknown {
            self.number(key, unknown);
        }
        join_extra(&mut self.extra, other.extra);
        Ok(())
    }

    fn number(&mut self, key: (Arch, Phase, i64), unknown: UnknownSeen) {
        match self.unknown.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(unknown);
            }
            Entry::Occupied(mut entry) => {
                let mine = entry.get_mut();
                mine.seen.join(unknown.seen);
                join_most(&mut mine.counts, unknown.counts);
            }
        }
    }

    /// Says what processes were that entered and executed nothing, in all recordings that do not say it.
    pub fn decide_entered(&mut self, entered_as: EnteredAs) {
        for recording in self.recordings.values_mut() {
            if is_undecided(recording) {
                recording.entered_as = Some(entered_as);
            }
        }
    }

    /// Sums over the recordings, by reason.
    #[must_use]
    pub fn losses(&self) -> BTreeMap<&str, u64> {
        let mut losses: BTreeMap<&str, u64> = BTreeMap::new();
        for (reason, count) in self.recordings.values().flat_map(|one| &one.losses) {
            let sum = losses.entry(reason).or_default();
            *sum = sum.saturating_add(*count);
        }
        losses
    }

    /// Why a profile of these recordings may lack calls.
    #[must_use]
    pub fn incomplete(&self) -> Vec<Incomplete> {
        let ids = |test: fn(&Observation) -> bool| {
            let found = self.recordings.iter().filter(|(_, one)| test(one));
            found.map(|(id, _)| id.to_string()).collect::<Vec<_>>()
        };
        let mut reasons = Vec::new();
        let losses = self.losses();
        if !losses.is_empty() {
            reasons.push(Incomplete::Losses {
                recordings: ids(|one| !one.losses.is_empty()),
                losses: losses
                    .into_iter()
                    .map(|(reason, count)| (reason.to_owned(), count))
                    .collect(),
            });
        }
        // One recording of a target that has the start is enough: the calls of all are joined.
        let late = self.without_start();
        let late = late.values().filter_map(|one| one.started_late_ns);
        if let Some(nanoseconds) = late.min() {
            reasons.push(Incomplete::StartedLate { nanoseconds });
        }
        let recordings = ids(is_undecided);
        if !recordings.is_empty() {
            let undecided = || self.recordings.values().filter(|one| is_undecided(one));
            let number = |one: &Observation| one.entered_count.max(one.entered.len() as u64);
            reasons.push(Incomplete::UndecidedEntered {
                recordings,
                count: undecided().fold(0, |sum, one| sum.saturating_add(number(one))),
                processes: undecided()
                    .flat_map(|one| &one.entered)
                    .map(|process| (process.comm.clone(), process.pid))
                    .collect(),
            });
        }
        let mut unproven: BTreeMap<Doubt, Vec<String>> = BTreeMap::new();
        for (id, recording) in &self.recordings {
            for doubt in doubts(recording, Statement::Complete) {
                // Those three are of all recordings together, above.
                if !matches!(
                    doubt,
                    Doubt::Losses(_) | Doubt::Late { .. } | Doubt::Undecided(_)
                ) {
                    unproven.entry(doubt).or_default().push(id.to_string());
                }
            }
        }
        let unproven = unproven.into_iter();
        reasons
            .extend(unproven.map(|(doubt, recordings)| Incomplete::Unproven { recordings, doubt }));
        reasons
    }

    /// In how many lives each name was seen that the application, a process that entered later, or a task that was blocked
    /// called.
    #[must_use]
    pub fn presence(&self) -> BTreeMap<&str, Presence> {
        let mut seen: BTreeMap<&str, (BTreeSet<RecordingId>, BTreeSet<Arch>)> = BTreeMap::new();
        let mut note = |arch: Arch, name: _, ids: &mut dyn Iterator<Item = RecordingId>| {
            let (recordings, machines) = seen.entry(name).or_default();
            recordings.extend(ids);
            machines.insert(arch.native());
        };
        let calls = self.calls.iter().filter_map(|((arch, phase), names)| {
            matches!(phase, Phase::App | Phase::Exec).then_some((arch, names))
        });
        for (arch, names) in calls.chain(&self.blocked_at_attach) {
            for (name, seen) in names {
                note(*arch, &**name, &mut seen.recordings.iter().copied());
            }
        }
        for (id, recording) in &self.recordings {
            for ((arch, _), names) in &recording.calls {
                if recording.entered_as == Some(EnteredAs::App) {
                    for name in names.keys() {
                        note(*arch, name, &mut std::iter::once(*id));
                    }
                }
            }
        }
        let lives = self.lives();
        let mut by_machine: BTreeMap<Arch, BTreeSet<RecordingId>> = BTreeMap::new();
        for (id, recording) in &self.recordings {
            let native = recording.machine.arch.native();
            by_machine.entry(native).or_default().insert(*id);
        }
        let of = |machines: BTreeSet<Arch>| {
            let recordings = machines
                .iter()
                .filter_map(|machine| by_machine.get(machine));
            recordings.map(|ids| Self::count_lives(&lives, ids)).sum()
        };
        seen.into_iter()
            .map(|(name, (recordings, machines))| {
                let seen = Self::count_lives(&lives, &recordings);
                // A file may say that a call was seen by an ABI that its machine does not have.
                let of = seen.max(of(machines));
                (name, Presence { seen, of })
            })
            .collect()
    }
}

impl Seen {
    /// One sighting.
    pub(crate) fn new(recording: RecordingId, started_ns: u64, first: Sighting) -> Self {
        Self {
            recording,
            at_ns: first.first_ns.map(|after| started_ns.saturating_add(after)),
            first,
            recordings: [recording].into(),
            extra: Extra::new(),
        }
    }

    pub(crate) fn join(&mut self, mut other: Self) {
        let arguments = join_arguments(self.first.arguments.take(), other.first.arguments.take());
        if other.rank(self) == Ordering::Less {
            self.recording = other.recording;
            self.at_ns = other.at_ns;
            self.first = other.first;
        }
        self.first.arguments = arguments;
        // One by one: `append` builds the set anew, which is slow where thousands are joined with one.
        self.recordings.extend(other.recordings);
        join_extra(&mut self.extra, other.extra);
    }

    /// Explained sightings first, then by time; the rest makes the choice independent of the order of the input.
    fn rank(&self, other: &Self) -> Ordering {
        let key = |seen: &Self| {
            let first = &seen.first;
            let unexplained = first.caller.is_none();
            (
                unexplained,
                seen.at_ns.is_none(),
                seen.at_ns,
                seen.recording,
                first.first_ns,
            )
        };
        let caller = |seen: &Self| {
            let caller = seen.first.caller.as_ref()?;
            Some((
                caller.comm.clone(),
                caller.exe.clone(),
                caller.pid,
                text(&caller.extra),
            ))
        };
        key(self)
            .cmp(&key(other))
            .then_with(|| caller(self).cmp(&caller(other)))
            .then_with(|| text(&self.first.extra).cmp(&text(&other.first.extra)))
    }
}

pub(crate) fn is_undecided(recording: &Observation) -> bool {
    recording.entered_as.is_none() && (recording.entered_count > 0 || !recording.entered.is_empty())
}

/// Takes all out of `calls` but what entered processes called.
fn split(
    calls: &mut BTreeMap<(Arch, Phase), BTreeMap<String, Sighting>>,
    seen: impl Fn(Sighting) -> Seen,
) -> BTreeMap<(Arch, Phase), BTreeMap<String, Seen>> {
    let mut tables = BTreeMap::new();
    for ((arch, phase), names) in std::mem::take(calls) {
        if names.is_empty() {
            continue;
        }
        if phase == Phase::Entered {
            calls.insert((arch, phase), names);
        } else {
            let names = names.into_iter().map(|(name, first)| (name, seen(first)));
            tables.insert((arch, phase), names.collect());
        }
    }
    tables
}

fn join_tables<K: Ord>(
    mine: &mut BTreeMap<K, BTreeMap<String, Seen>>,
    theirs: BTreeMap<K, BTreeMap<String, Seen>>,
) {
    for (key, names) in theirs {
        let into = mine.entry(key).or_default();
        for (name, seen) in names {
            match into.entry(name) {
                Entry::Vacant(entry) => {
                    entry.insert(seen);
                }
                Entry::Occupied(mut entry) => entry.get_mut().join(seen),
            }
        }
    }
}

/// Two states of one recording, or copies of one.
fn join_states(
    id: RecordingId,
    one: &Observation,
    mut other: Observation,
) -> Result<Observation, MergeError> {
    let mut joined = one.clone();
    let same = |field, one: &dyn fmt::Debug, other: &dyn fmt::Debug| {
        let (one, other) = (format!("{one:?}"), format!("{other:?}"));
        if one == other {
            return Ok(());
        }
        Err(MergeError::Identity {
            id,
            field,
            one,
            other,
        })
    };
    same("started_ns", &one.started_ns, &other.started_ns)?;
    same("tool_version", &one.tool_version, &other.tool_version)?;
    same("backend", &one.backend, &other.backend)?;
    same("machine.kernel", &one.machine.kernel, &other.machine.kernel)?;
    same("machine.arch", &one.machine.arch, &other.machine.arch)?;
    // What a target is becomes known bit by bit.
    let known = |field, mine: &mut Option<String>, theirs: Option<String>| match (&*mine, theirs) {
        (Some(one), Some(other)) => same(field, one, &other),
        (None, theirs) => {
            *mine = theirs;
            Ok(())
        }
        (Some(_), None) => Ok(()),
    };
    let Target {
        engine,
        runtime,
        container_id,
        container_name,
        image,
        image_digest,
        pod,
        cgroup_path,
        command,
        extra,
    } = std::mem::take(&mut other.target);
    let target = &mut joined.target;
    known(
        "machine.libc",
        &mut joined.machine.libc,
        other.machine.libc.take(),
    )?;
    known("target.engine", &mut target.engine, engine)?;
    known("target.runtime", &mut target.runtime, runtime)?;
    known(
        "target.container_id",
        &mut target.container_id,
        container_id,
    )?;
    known(
        "target.container_name",
        &mut target.container_name,
        container_name,
    )?;
    known("target.image", &mut target.image, image)?;
    known(
        "target.image_digest",
        &mut target.image_digest,
        image_digest,
    )?;
    match (&mut target.pod, pod) {
        (Some(mine), Some(theirs)) => {
            same("target.pod.namespace", &mine.namespace, &theirs.namespace)?;
            same("target.pod.name", &mine.name, &theirs.name)?;
            known("target.pod.uid", &mut mine.uid, theirs.uid)?;
            if mine.labels.is_empty() {
                mine.labels = theirs.labels;
            } else if !theirs.labels.is_empty() {
                same("target.pod.labels", &mine.labels, &theirs.labels)?;
            }
            join_extra(&mut mine.extra, theirs.extra);
        }
        (None, theirs @ Some(_)) => target.pod = theirs,
        (_, None) => {}
    }
    known("target.cgroup_path", &mut target.cgroup_path, cgroup_path)?;
    if target.command.is_empty() {
        target.command = command;
    } else if !command.is_empty() {
        same("target.command", &target.command, &command)?;
    }
    join_extra(&mut target.extra, extra);
    join_extra(
        &mut joined.machine.extra,
        std::mem::take(&mut other.machine.extra),
    );
    joined.entered_as = match (one.entered_as, other.entered_as) {
        (Some(one), Some(other)) if one != other => return Err(MergeError::Entered { id }),
        (one, other) => one.or(other),
    };

    // The last state speaks for the recording where a state can say less than an earlier one.
    let last = |state: &Observation| {
        let entered = state.entered.iter();
        (
            state.ended_ns,
            state.started_late_ns,
            state.filtered,
            state.entered_count,
            entered
                .map(|process| (process.pid, process.comm.clone(), text(&process.extra)))
                .collect::<Vec<_>>(),
            state.evidence.clone(),
            state.life.program.clone(),
        )
    };
    if last(&other) > last(one) {
        joined.ended_ns = other.ended_ns;
        joined.started_late_ns = other.started_late_ns;
        joined.filtered = other.filtered;
        joined.entered_count = other.entered_count;
        joined.entered = other.entered;
        joined.evidence = other.evidence;
        joined.life.program = other.life.program;
    }
    joined.life.pids.extend(other.life.pids);
    joined.life.programs.extend(other.life.programs);
    joined.life.trim();
    let first = joined.life.first_ns.into_iter().chain(other.life.first_ns);
    joined.life.first_ns = first.min();
    join_extra(&mut joined.life.extra, other.life.extra);
    // A later state counts what an earlier one counted.
    join_most(&mut joined.losses, other.losses);
    joined.explanations_lost = one.explanations_lost.max(other.explanations_lost);
    joined.own_filter |= other.own_filter;
    joined.start_container_hooks |= other.start_container_hooks;
    joined.unprivileged_exec.extend(other.unprivileged_exec);
    for (mine, theirs) in [
        (&mut joined.calls, other.calls),
        (&mut joined.denied, other.denied),
    ] {
        for (key, names) in theirs {
            let into = mine.entry(key).or_default();
            for (name, theirs) in names {
                let first = match into.remove(&name) {
                    Some(mine) => join_sightings(id, one.started_ns, mine, theirs),
                    None => theirs,
                };
                into.insert(name, first);
            }
        }
    }
    let unknown = std::mem::take(&mut joined.unknown).into_iter();
    joined.unknown = join_unknown(id, one.started_ns, unknown.chain(other.unknown));
    join_extra(&mut joined.extra, other.extra);
    Ok(joined)
}

fn join_sightings(id: RecordingId, started_ns: u64, one: Sighting, other: Sighting) -> Sighting {
    let mut seen = Seen::new(id, started_ns, one);
    seen.join(Seen::new(id, started_ns, other));
    seen.first
}

/// Each number once, sorted.
fn join_unknown(
    id: RecordingId,
    started_ns: u64,
    all: impl IntoIterator<Item = UnknownNr>,
) -> Vec<UnknownNr> {
    let mut joined: BTreeMap<(Arch, Phase, i64), UnknownNr> = BTreeMap::new();
    for unknown in all {
        let key = (unknown.arch, unknown.phase, unknown.nr);
        let unknown = match joined.remove(&key) {
            None => unknown,
            Some(mine) => UnknownNr {
                count: mine.count.max(unknown.count),
                first: join_sightings(id, started_ns, mine.first, unknown.first),
                ..unknown
            },
        };
        joined.insert(key, unknown);
    }
    joined.into_values().collect()
}

/// The larger count of each key.
fn join_most<K: Ord>(mine: &mut BTreeMap<K, u64>, theirs: BTreeMap<K, u64>) {
    for (key, count) in theirs {
        let most = mine.entry(key).or_default();
        *most = (*most).max(count);
    }
}

/// The values of both. Where one has none, or those of other arguments, values are missing, as if there had been too many.
fn join_arguments(one: Option<Arguments>, other: Option<Arguments>) -> Option<Arguments> {
    let (mut one, other) = match (one, other) {
        (None, None) => return None,
        (Some(one), None) | (None, Some(one)) => {
            return Some(Arguments {
                overflow: true,
                ..one
            });
        }
        (Some(one), Some(other)) if one.indices < other.indices => (other, one),
        (Some(one), Some(other)) => (one, other),
    };
    if one.indices == other.indices {
        one.values.extend(other.values);
        one.overflow |= other.overflow;
        join_extra(&mut one.extra, other.extra);
    } else {
        one.overflow = true;
    }
    Some(one)
}

/// Of two values of one key the one whose text is larger: nothing is known of what they mean.
fn join_extra(mine: &mut Extra, theirs: Extra) {
    for (key, value) in theirs {
        match mine.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(value);
            }
            Entry::Occupied(mut entry) => {
                let [mine, theirs] = [entry.get(), &value].map(Value::to_string);
                if theirs > mine {
                    entry.insert(value);
                }
            }
        }
    }
}

fn text(extra: &Extra) -> String {
    // Keys are strings, so this cannot fail.
    serde_json::to_string(extra).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::tests::unseen;
    use crate::observation::{Caller, EnteredProcess};

    fn state(id: u8) -> Observation {
        Observation {
            started_ns: 1_000 * u64::from(id),
            ended_ns: 1_000 * u64::from(id) + 500,
            ..unseen(id)
        }
    }

    /// With calls of the application, each with when and by whom.
    fn app(id: u8, calls: &[(&str, Option<u64>, Option<&str>)]) -> Observation {
        let sighting = |(name, first_ns, comm): &(&str, Option<u64>, Option<&str>)| {
            let caller = comm.map(|comm| Caller {
                comm: comm.to_owned(),
                ..Caller::default()
            });
            let first = Sighting {
                first_ns: *first_ns,
                caller,
                ..Sighting::default()
            };
            ((*name).to_owned(), first)
        };
        let names = calls.iter().map(sighting).collect();
        Observation {
            calls: [((Arch::X86_64, Phase::App), names)].into(),
            ..state(id)
        }
    }

    fn read(merged: &Merged) -> &Seen {
        &merged.calls[&(Arch::X86_64, Phase::App)]["read"]
    }

    #[test]
    fn the_first_caller_is_the_smallest_time_and_id() {
        let first = |observations: &[Observation]| {
            let merged = Merged::new(observations).unwrap();
            let seen = read(&merged).clone();
            (
                seen.recording.to_string(),
                seen.at_ns,
                seen.recordings.len(),
            )
        };
        let of = |id: u8, at: Option<u64>, seen: usize| (format!("{id:032x}"), at, seen);
        let one = app(1, &[("read", Some(400), Some("a"))]);
        // Sooner after its own start, and later all the same.
        let two = app(2, &[("read", Some(1), Some("b"))]);
        assert_eq!(first(&[two.clone(), one.clone()]), of(1, Some(1_400), 2));
        // Sooner, but nobody knows by whom.
        let silent = app(0, &[("read", Some(0), None)]);
        assert_eq!(first(&[silent, two, one.clone()]), of(1, Some(1_400), 3));
        let tied = Observation {
            started_ns: 1_000,
            ..app(3, &[("read", Some(400), Some("a"))])
        };
        assert_eq!(first(&[tied, one]), of(1, Some(1_400), 2));
    }

    #[test]
    fn arguments_are_those_of_all() {
        let with = |id, indices: &[u32], values: &[u32], overflow| {
            let mut one = app(id, &[("read", Some(1), Some("a"))]);
            let names = one.calls.get_mut(&(Arch::X86_64, Phase::App)).unwrap();
            names.get_mut("read").unwrap().arguments = (!indices.is_empty()).then(|| Arguments {
                indices: indices.to_vec(),
                values: values.iter().map(|value| vec![*value]).collect(),
                overflow,
                extra: Extra::new(),
            });
            one
        };
        let joined = |observations: &[Observation]| {
            let merged = Merged::new(observations).unwrap();
            let arguments = read(&merged).first.arguments.clone()?;
            let values: Vec<u32> = arguments.values.into_iter().flatten().collect();
            Some((values, arguments.overflow))
        };
        let one = with(1, &[0], &[2, 10], false);
        assert_eq!(joined(&[with(1, &[], &[], false)]), None);
        assert_eq!(
            joined(&[one.clone(), with(2, &[0], &[1, 2], false)]),
            Some((vec![1, 2, 10], false))
        );
        assert_eq!(
            joined(&[one.clone(), with(2, &[0], &[1], true)]),
            Some((vec![1, 2, 10], true))
        );
        // Without arguments, or with those at another place: some are missing.
        assert_eq!(
            joined(&[one.clone(), with(2, &[], &[], false)]),
            Some((vec![2, 10], true))
        );
        assert_eq!(
            joined(&[one, with(2, &[1], &[1], false)]),
            Some((vec![1], true))
        );
    }

    #[test]
    fn the_last_state_speaks_where_it_may_say_less() {
        let early = Observation {
            entered_count: 1,
            entered: vec![EnteredProcess {
                pid: 7,
                comm: "runc".to_owned(),
                extra: Extra::new(),
            }],
            filtered: true,
            losses: [("too_deep".to_owned(), 2)].into(),
            ..app(1, &[("read", Some(1), Some("a"))])
        };
        let late = Observation {
            ended_ns: early.ended_ns + 1,
            target: Target {
                image: Some("redis".to_owned()),
                ..Target::default()
            },
            ..app(1, &[("write", Some(2), Some("a"))])
        };
        let undecided = Merged::new(std::slice::from_ref(&early)).unwrap();
        assert_eq!(undecided.incomplete().len(), 2);
        let merged = Merged::new(&[late, early]).unwrap();
        let [Incomplete::Losses { losses, .. }] = &merged.incomplete()[..] else {
            panic!("{:?}", merged.incomplete())
        };
        assert_eq!(losses["too_deep"], 2);
        let one = merged.recordings.values().next().unwrap();
        assert_eq!(
            (one.filtered, one.target.image.as_deref()),
            (false, Some("redis"))
        );
        assert_eq!(merged.calls[&(Arch::X86_64, Phase::App)].len(), 2);
    }

    /// What entered counts for the recording of which it was said, and for no other.
    #[test]
    fn what_entered_is_decided_for_each_recording() {
        let entered = |id, name: &str, entered_as| {
            let mut one = app(id, &[(name, Some(1), Some("a"))]);
            let names = one.calls.remove(&(Arch::X86_64, Phase::App)).unwrap();
            one.calls.insert((Arch::X86_64, Phase::Entered), names);
            Observation {
                entered_count: 1,
                entered_as,
                ..one
            }
        };
        let all = [
            entered(1, "read", Some(EnteredAs::App)),
            entered(2, "mount", Some(EnteredAs::Runtime)),
            entered(3, "write", None),
        ];
        let mut merged = Merged::new(&all).unwrap();
        let seen = |merged: &Merged| -> Vec<String> {
            merged
                .presence()
                .iter()
                .map(|(name, it)| format!("{name} {it}"))
                .collect()
        };
        assert_eq!(seen(&merged), ["read 1 of 3"]);
        assert_eq!(merged.incomplete()[0].reason(), "undecided_entered");
        merged.decide_entered(EnteredAs::App);
        assert_eq!(seen(&merged), ["read 1 of 3", "write 1 of 3"]);
        assert_eq!(merged.incomplete(), []);
    }

    #[test]
    fn presence_is_of_those_whose_machine_has_the_abi() {
        let arm = |id, name: &str| {
            let mut one = app(id, &[]);
            one.machine.arch = Arch::Aarch64;
            let names = app(id, &[(name, Some(1), None)]).calls.into_values();
            one.calls = names
                .map(|names| ((Arch::Arm, Phase::App), names))
                .collect();
            one
        };
        let x86 = |id, name| app(id, &[(name, Some(1), None)]);
        let all = [
            x86(1, "epoll_wait"),
            x86(2, "epoll_wait"),
            x86(3, "read"),
            arm(4, "read"),
            arm(5, "read"),
        ];
        let merged = Merged::new(&all).unwrap();
        let text = |(name, it): (&str, Presence)| format!("{name} {it}");
        let seen: Vec<String> = merged.presence().into_iter().map(text).collect();
        assert_eq!(seen, ["epoll_wait 2 of 3", "read 3 of 5"]);
    }

    #[test]
    fn what_cannot_be_one_recording_is_an_error_that_changes_nothing() {
        let one = app(1, &[("read", Some(1), Some("a"))]);
        let with = |change: fn(&mut Observation)| {
            let mut other = app(1, &[("write", Some(1), Some("a"))]);
            change(&mut other);
            other
        };
        let named = Observation {
            entered_as: Some(EnteredAs::App),
            target: Target {
                image: Some("redis".to_owned()),
                command: vec!["a".to_owned()],
                ..Target::default()
            },
            ..one
        };
        let cases: [(Observation, &str); 7] = [
            (with(|it| it.started_ns = 7), "`started_ns` 1000 and 7"),
            (
                with(|it| it.machine.kernel = "5.10".to_owned()),
                "`machine.kernel` \"6.12.0\" and \"5.10\"",
            ),
            (with(|it| it.machine.arch = Arch::Aarch64), "`machine.arch`"),
            (
                with(|it| it.target.image = Some("nginx".to_owned())),
                "`target.image` \"redis\" and \"nginx\"",
            ),
            (
                with(|it| it.target.command = vec!["b".to_owned()]),
                "`target.command`",
            ),
            (
                with(|it| it.entered_as = Some(EnteredAs::Runtime)),
                "`entered_as` app and runtime",
            ),
            (
                with(|it| it.recording_id = "../x".to_owned()),
                "`../x` is no recording's id",
            ),
        ];
        for (other, expect) in cases {
            let mut merged = Merged::of(named.clone()).unwrap();
            let before = merged.clone();
            let error = Merged::of(other).and_then(|other| merged.absorb(other));
            let error = error.unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
            assert_eq!(merged, before);
        }
    }
}
