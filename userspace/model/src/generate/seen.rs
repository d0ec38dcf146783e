//! Which of the recorded calls belong into the profile, and who made each first.

use super::inputs::Inputs;
use crate::arch::Arch;
use crate::observation::{EnteredAs, Phase, Sighting};
use crate::policy::Policy;
use crate::report::{Part, Sighted, Unknown};
use std::collections::{BTreeMap, BTreeSet};

/// What belongs into the profile.
pub(super) struct Seen {
    /// By name, ABI and part: the first sighting.
    pub(super) calls: BTreeMap<String, BTreeMap<(Arch, Part), Sighted>>,
    pub(super) unknown: Vec<Unknown>,
    /// What the policy leaves out of the denied calls.
    pub(super) denied: BTreeMap<String, Vec<Sighted>>,
}

/// First sightings, collected without copying what is not first.
type Firsts<'a> = BTreeMap<&'a str, BTreeMap<(Arch, Part), First<'a>>>;

struct First<'a> {
    recording: &'a str,
    sighting: &'a Sighting,
    recordings: BTreeSet<&'a str>,
}

impl Seen {
    pub(super) fn new(inputs: &Inputs<'_>, policy: &Policy) -> Self {
        let mut calls = Firsts::new();
        let mut denied = Firsts::new();
        let mut unknown: BTreeMap<(Arch, i64), Unknown> = BTreeMap::new();
        for state in inputs.states() {
            let id = &*state.recording_id;
            for ((arch, phase), names) in &state.calls {
                if let Some(part) = part(*phase, state.entered_as, policy) {
                    note(&mut calls, id, *arch, part, names);
                }
            }
            for (arch, names) in &state.blocked_at_attach {
                note(&mut calls, id, *arch, Part::BlockedAtAttach, names);
            }
            for ((arch, phase), names) in &state.denied {
                if part(*phase, state.entered_as, policy).is_some() {
                    let into = if policy.include_denied {
                        &mut calls
                    } else {
                        &mut denied
                    };
                    note(into, id, *arch, Part::Denied, names);
                }
            }
            for number in &state.unknown {
                if part(number.phase, state.entered_as, policy).is_some() {
                    let new = Unknown {
                        arch: number.arch,
                        phase: number.phase,
                        nr: number.nr,
                        caller: number.first.caller.clone(),
                    };
                    let key = |unknown: &Unknown| {
                        let caller = unknown.caller.as_ref();
                        (
                            unknown.phase,
                            caller.is_none(),
                            caller.map(|c| (c.comm.clone(), c.exe.clone(), c.pid)),
                        )
                    };
                    match unknown.get_mut(&(number.arch, number.nr)) {
                        Some(old) if key(old) <= key(&new) => {}
                        Some(old) => *old = new,
                        None => {
                            unknown.insert((number.arch, number.nr), new);
                        }
                    }
                }
            }
        }
        let owned = |firsts: Firsts<'_>| -> BTreeMap<String, BTreeMap<(Arch, Part), Sighted>> {
            firsts
                .into_iter()
                .map(|(name, firsts)| {
                    let sighted = firsts
                        .into_iter()
                        .map(|((arch, part), first)| ((arch, part), first.sighted(arch, part)));
                    (name.to_owned(), sighted.collect())
                })
                .collect()
        };
        Self {
            calls: owned(calls),
            unknown: unknown.into_values().collect(),
            denied: owned(denied)
                .into_iter()
                .map(|(name, seen)| (name, seen.into_values().collect()))
                .collect(),
        }
    }
}

impl First<'_> {
    fn sighted(self, arch: Arch, part: Part) -> Sighted {
        Sighted {
            arch,
            part,
            recording: self.recording.to_owned(),
            recordings: self.recordings.len(),
            first_ns: self.sighting.first_ns,
            caller: self.sighting.caller.clone(),
        }
    }
}

/// The part of the profile that a phase belongs to; `None` for what never or not now belongs into one.
fn part(phase: Phase, entered_as: Option<EnteredAs>, policy: &Policy) -> Option<Part> {
    match phase {
        Phase::Runtime | Phase::Hook => None,
        Phase::App => Some(Part::Application),
        Phase::Exec => policy.include_exec.then_some(Part::Exec),
        Phase::Entered => (entered_as == Some(EnteredAs::App)).then_some(Part::Entered),
    }
}

fn note<'a>(
    into: &mut Firsts<'a>,
    recording: &'a str,
    arch: Arch,
    part: Part,
    names: &'a BTreeMap<String, Sighting>,
) {
    for (name, sighting) in names {
        let first = into
            .entry(name)
            .or_default()
            .entry((arch, part))
            .or_insert_with(|| First {
                recording,
                sighting,
                recordings: BTreeSet::new(),
            });
        first.recordings.insert(recording);
        if rank(recording, sighting) < rank(first.recording, first.sighting) {
            first.recording = recording;
            first.sighting = sighting;
        }
    }
}

/// Explained sightings first, then by time; the rest makes the choice independent of the order of the input.
fn rank<'a>(recording: &'a str, sighting: &'a Sighting) -> impl Ord + use<'a> {
    let caller = sighting.caller.as_ref();
    (
        caller.is_none(),
        sighting.first_ns.is_none(),
        sighting.first_ns,
        recording,
        caller.map(|caller| (&caller.comm, &caller.exe, caller.pid)),
    )
}
