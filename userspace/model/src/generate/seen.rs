//! Which of the recorded calls belong into the profile.

use crate::arch::Arch;
use crate::merge::{Merged, RecordingId, Seen as Joined};
use crate::observation::{EnteredAs, Observation, Phase};
use crate::policy::Policy;
use crate::report::{Part, Sighted, Unknown};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// What belongs into the profile.
pub(super) struct Seen {
    /// By name, ABI and part: the first sighting.
    pub(super) calls: BTreeMap<String, BTreeMap<(Arch, Part), Sighted>>,
    pub(super) unknown: Vec<Unknown>,
    /// What the policy leaves out of the denied calls.
    pub(super) denied: BTreeMap<String, Vec<Sighted>>,
    /// Those of them that each recording was denied.
    pub(super) always_denied: BTreeSet<String>,
    /// Recorded calls that pass every filter, so that no profile needs them.
    pub(super) unfiltered: BTreeSet<String>,
}

/// By name, ABI and part.
type Parts = BTreeMap<String, BTreeMap<(Arch, Part), Joined>>;

impl Seen {
    pub(super) fn new(merged: &Merged, policy: &Policy) -> Self {
        let mut calls = Parts::new();
        let mut denied = Parts::new();
        let mut unknown: BTreeMap<(Arch, i64), (Phase, Joined)> = BTreeMap::new();
        for ((arch, phase), names) in &merged.calls {
            if let Some(part) = part(*phase, policy) {
                note(&mut calls, *arch, part, names.clone());
            }
        }
        for (arch, names) in &merged.blocked_at_attach {
            note(&mut calls, *arch, Part::BlockedAtAttach, names.clone());
        }
        for ((arch, phase), names) in &merged.denied {
            if part(*phase, policy).is_some() {
                note(&mut denied, *arch, Part::Denied, names.clone());
            }
        }
        for ((arch, phase, nr), number) in &merged.unknown {
            if part(*phase, policy).is_some() {
                note_number(&mut unknown, *arch, *nr, *phase, number.seen.clone());
            }
        }
        // What entered counts for the recordings of which it was said.
        let entered =
            |(_, one): &(&RecordingId, &Observation)| one.entered_as == Some(EnteredAs::App);
        for (id, recording) in merged.recordings.iter().filter(entered) {
            let seen = |first| Joined::new(*id, recording.started_ns, first);
            for ((arch, _), names) in &recording.calls {
                let names = names
                    .iter()
                    .map(|(name, first)| (name.clone(), seen(first.clone())));
                note(&mut calls, *arch, Part::Entered, names);
            }
            for ((arch, _), names) in &recording.denied {
                let names = names
                    .iter()
                    .map(|(name, first)| (name.clone(), seen(first.clone())));
                note(&mut denied, *arch, Part::Denied, names);
            }
            for number in &recording.unknown {
                let first = seen(number.first.clone());
                note_number(&mut unknown, number.arch, number.nr, number.phase, first);
            }
        }
        if policy.include_denied {
            for (name, parts) in std::mem::take(&mut denied) {
                calls.entry(name).or_default().extend(parts);
            }
        }
        let unfiltered = take_unfiltered(&mut calls, merged);
        let always = |parts: &BTreeMap<(Arch, Part), Joined>| {
            let recordings = parts.values().flat_map(|seen| &seen.recordings);
            recordings.collect::<BTreeSet<_>>().len() == merged.recordings.len()
        };
        let always_denied = denied
            .iter()
            .filter(|(_, parts)| always(parts))
            .map(|(name, _)| name.clone())
            .collect();
        let lives = merged.lives();
        let sighted = |((arch, part), joined): ((Arch, Part), Joined)| Sighted {
            arch,
            part,
            recording: joined.recording.to_string(),
            recordings: Merged::count_lives(&lives, &joined.recordings),
            first_ns: joined.first.first_ns,
            caller: joined.first.caller,
        };
        Self {
            calls: calls
                .into_iter()
                .map(|(name, parts)| {
                    let parts = parts.into_iter().map(|part| (part.0, sighted(part)));
                    (name, parts.collect())
                })
                .collect(),
            unknown: unknown
                .into_iter()
                .map(|((arch, nr), (phase, joined))| Unknown {
                    arch,
                    phase,
                    nr,
                    caller: joined.first.caller,
                })
                .collect(),
            denied: denied
                .into_iter()
                .map(|(name, parts)| (name, parts.into_iter().map(sighted).collect()))
                .collect(),
            always_denied,
            unfiltered,
        }
    }
}

/// Takes out the calls that passed every filter of each machine that recorded them.
fn take_unfiltered(calls: &mut Parts, merged: &Merged) -> BTreeSet<String> {
    let mut unfiltered = BTreeSet::new();
    for (name, parts) in &mut *calls {
        let is_unfiltered = |arch: Arch, seen: &Joined| {
            let mut recordings = seen.recordings.iter().map(|id| merged.recordings.get(id));
            recordings.all(|one| one.is_some_and(|one| one.machine.is_unfiltered(arch, name)))
        };
        let before = parts.len();
        parts.retain(|(arch, _), seen| !is_unfiltered(*arch, seen));
        if parts.len() < before {
            unfiltered.insert(name.clone());
        }
    }
    calls.retain(|_, parts| !parts.is_empty());
    unfiltered
}

/// The part of the profile that a phase belongs to; `None` for what never or not now belongs into one.
fn part(phase: Phase, policy: &Policy) -> Option<Part> {
    match phase {
        Phase::Runtime | Phase::Hook | Phase::Entered => None,
        Phase::App => Some(Part::Application),
        Phase::Exec => policy.include_exec.then_some(Part::Exec),
    }
}

fn note(
    into: &mut Parts,
    arch: Arch,
    part: Part,
    names: impl IntoIterator<Item = (String, Joined)>,
) {
    for (name, seen) in names {
        match into.entry(name).or_default().entry((arch, part)) {
            Entry::Vacant(entry) => {
                entry.insert(seen);
            }
            Entry::Occupied(mut entry) => entry.get_mut().join(seen),
        }
    }
}

/// The first phase of a container's life that it was seen in speaks for a number.
fn note_number(
    into: &mut BTreeMap<(Arch, i64), (Phase, Joined)>,
    arch: Arch,
    nr: i64,
    phase: Phase,
    seen: Joined,
) {
    match into.entry((arch, nr)) {
        Entry::Vacant(entry) => {
            entry.insert((phase, seen));
        }
        Entry::Occupied(mut entry) if entry.get().0 == phase => entry.get_mut().1.join(seen),
        Entry::Occupied(mut entry) if entry.get().0 > phase => {
            entry.insert((phase, seen));
        }
        Entry::Occupied(_) => {}
    }
}
