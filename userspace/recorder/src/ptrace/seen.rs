//! What was called so far, in the form of an observation.

use super::request::Entry;
use crate::arguments;
use seccast_common::{ARGUMENT_VALUES, ArgumentRule, NUMBERS};
use seccast_model::{
    arch::Arch,
    observation::{Arguments, Observation, Phase, Sighting, UnknownNr},
    syscall,
};
use std::collections::{BTreeSet, HashMap};

/// Numbers without a name that are kept; as many as the eBPF side keeps.
const UNKNOWN: usize = 4096;

/// A number by its ABI, in a phase.
type Key = (Arch, Phase, i64);

#[derive(Default)]
pub(super) struct Seen {
    calls: HashMap<Key, Call>,
    unknown: HashMap<Key, Counted>,
    denied: HashMap<Key, Counted>,
    /// Calls by numbers beyond those that are kept.
    beyond: u64,
}

/// A number below [`NUMBERS`].
struct Call {
    name: Option<&'static str>,
    first: Sighting,
    rule: Option<ArgumentRule>,
    values: BTreeSet<u64>,
    overflow: bool,
}

struct Counted {
    count: u64,
    first: Sighting,
}

/// A call's name, if it was made for the first time.
pub(super) enum News {
    Nothing,
    First(String),
}

impl Seen {
    /// A call that was made; `first` tells by whom, if it was never made before.
    pub(super) fn called(
        &mut self,
        phase: Phase,
        arch: Arch,
        nr: i64,
        entry: &Entry,
        first: impl FnOnce() -> Sighting,
    ) -> News {
        let key = (arch, phase, nr);
        let Some(known) = u32::try_from(nr).ok().filter(|nr| *nr < NUMBERS as u32) else {
            return self.unknown(key, first);
        };
        if let Some(call) = self.calls.get_mut(&key) {
            call.take(entry);
            return News::Nothing;
        }
        let name = syscall::name(arch, known);
        let mut call = Call {
            name,
            first: first(),
            rule: name.and_then(rule),
            values: BTreeSet::new(),
            overflow: false,
        };
        call.take(entry);
        self.calls.insert(key, call);
        News::First(name.map_or_else(|| format!("number {nr}"), str::to_owned))
    }

    fn unknown(&mut self, key: Key, first: impl FnOnce() -> Sighting) -> News {
        if let Some(counted) = self.unknown.get_mut(&key) {
            counted.count += 1;
        } else if self.unknown.len() < UNKNOWN {
            let first = first();
            self.unknown.insert(key, Counted { count: 1, first });
            return News::First(format!("number {}", key.2));
        } else {
            self.beyond += 1;
        }
        News::Nothing
    }

    /// A call that a filter kept from being made.
    pub(super) fn denied(
        &mut self,
        phase: Phase,
        arch: Arch,
        nr: i64,
        first: impl FnOnce() -> Sighting,
    ) {
        let key = (arch, phase, nr);
        if let Some(counted) = self.denied.get_mut(&key) {
            counted.count += 1;
        } else if self.denied.len() < UNKNOWN {
            let first = first();
            self.denied.insert(key, Counted { count: 1, first });
        }
    }

    /// Fills in what was seen.
    pub(super) fn observe(&self, observation: &mut Observation) {
        for ((arch, phase, nr), call) in &self.calls {
            match call.name {
                Some(name) => {
                    let sighting = Sighting {
                        arguments: call.arguments(name),
                        ..call.first.clone()
                    };
                    let calls = observation.calls.entry((*arch, *phase)).or_default();
                    calls.insert(name.to_owned(), sighting);
                }
                None => observation.unknown.push(UnknownNr {
                    arch: *arch,
                    phase: *phase,
                    nr: *nr,
                    count: None,
                    first: call.first.clone(),
                }),
            }
        }
        let unknown = |(arch, phase, nr): &Key, counted: &Counted| UnknownNr {
            arch: *arch,
            phase: *phase,
            nr: *nr,
            count: Some(counted.count),
            first: counted.first.clone(),
        };
        for (key, counted) in &self.unknown {
            observation.unknown.push(unknown(key, counted));
        }
        for (key, counted) in &self.denied {
            let (arch, phase, nr) = *key;
            let name = u32::try_from(nr)
                .ok()
                .and_then(|nr| syscall::name(arch, nr));
            match name {
                Some(name) => {
                    let calls = observation.denied.entry((arch, phase)).or_default();
                    calls.insert(name.to_owned(), counted.first.clone());
                }
                None => observation.unknown.push(unknown(key, counted)),
            }
        }
        observation.unknown.sort_by_key(|unknown| {
            (
                unknown.arch,
                unknown.phase,
                unknown.nr,
                unknown.count.is_some(),
            )
        });
        observation.explanations_lost += self.beyond;
    }
}

fn rule(name: &str) -> Option<ArgumentRule> {
    arguments::rules()
        .find(|(call, _)| *call == name)
        .map(|(_, rule)| rule)
}

impl Call {
    fn take(&mut self, entry: &Entry) {
        let Some(rule) = self.rule.filter(|_| !self.overflow) else {
            return;
        };
        let argument = |index: u32, mask: u32| {
            let value = entry.args.get(index as usize).copied().unwrap_or_default();
            value & u64::from(mask)
        };
        let value = argument(rule.high, rule.high_mask) << 32 | argument(rule.low, rule.low_mask);
        if self.values.contains(&value) {
            return;
        }
        self.overflow = self.values.len() == ARGUMENT_VALUES as usize;
        if !self.overflow {
            self.values.insert(value);
        }
    }

    fn arguments(&self, name: &str) -> Option<Arguments> {
        self.rule.map(|_| Arguments {
            indices: arguments::indices(name),
            values: self
                .values
                .iter()
                .map(|value| arguments::split(name, *value))
                .collect(),
            overflow: self.overflow,
            ..Arguments::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(first: u64) -> Entry {
        Entry {
            args: [first, 0, 0, 0, 0, 0],
            ..Entry::default()
        }
    }

    #[test]
    fn values_are_masked_distinct_and_capped() {
        let mut seen = Seen::default();
        let mut call = |value| {
            seen.called(
                Phase::App,
                Arch::X86_64,
                157,
                &entry(value),
                Sighting::default,
            )
        };
        assert!(matches!(call(1 << 32 | 7), News::First(name) if name == "prctl"));
        for value in 7..7 + 32 {
            assert!(matches!(call(value), News::Nothing));
        }
        let prctl = |seen: &Seen| seen.calls[&(Arch::X86_64, Phase::App, 157)].arguments("prctl");
        let arguments = prctl(&seen).unwrap();
        assert_eq!((arguments.values.len(), arguments.overflow), (32, false));
        assert_eq!(arguments.values.first(), Some(&vec![7]));
        seen.called(Phase::App, Arch::X86_64, 157, &entry(99), Sighting::default);
        let arguments = prctl(&seen).unwrap();
        assert_eq!((arguments.values.len(), arguments.overflow), (32, true));
    }
}
