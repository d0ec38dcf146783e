//! What the observations say of the recordings.

use crate::observation::Observation;
use crate::report::{Incomplete, Recording};
use std::collections::BTreeMap;

/// The observations by recording: copies and earlier states of one recording are one.
pub(super) struct Inputs<'a> {
    by_id: BTreeMap<&'a str, Vec<&'a Observation>>,
}

impl<'a> Inputs<'a> {
    pub(super) fn new(observations: &'a [Observation]) -> Self {
        let mut by_id: BTreeMap<&str, Vec<&Observation>> = BTreeMap::new();
        for observation in observations {
            by_id
                .entry(&observation.recording_id)
                .or_default()
                .push(observation);
        }
        for states in by_id.values_mut() {
            // The last state speaks for the recording; the text decides between files that differ and end together.
            if states.len() > 1 {
                states.sort_by_cached_key(|state| (state.ended_ns, state.to_json()));
                states.dedup();
            }
        }
        Self { by_id }
    }

    /// Every state, with its id.
    pub(super) fn states(&self) -> impl Iterator<Item = &'a Observation> + '_ {
        self.by_id.values().flatten().copied()
    }

    /// The last state of each recording.
    pub(super) fn last(&self) -> impl Iterator<Item = &'a Observation> + '_ {
        self.by_id
            .values()
            .filter_map(|states| states.last())
            .copied()
    }

    pub(super) fn recordings(&self) -> Vec<Recording> {
        let recording = |last: &Observation| Recording {
            id: last.recording_id.clone(),
            tool_version: last.tool_version.clone(),
            backend: last.backend,
            target: last.target.clone(),
            machine: last.machine.clone(),
            started_ns: last.started_ns,
            ended_ns: last.ended_ns,
        };
        self.last().map(recording).collect()
    }

    pub(super) fn incomplete(&self) -> Vec<Incomplete> {
        let mut reasons = Vec::new();

        let mut losses: BTreeMap<String, u64> = BTreeMap::new();
        let mut lossy = Vec::new();
        for (id, states) in &self.by_id {
            // A later state counts what an earlier one counted.
            let mut of_recording: BTreeMap<&str, u64> = BTreeMap::new();
            for (reason, count) in states.iter().flat_map(|state| &state.losses) {
                let most = of_recording.entry(reason).or_default();
                *most = (*most).max(*count);
            }
            of_recording.retain(|_, count| *count > 0);
            if !of_recording.is_empty() {
                lossy.push((*id).to_owned());
            }
            for (reason, count) in of_recording {
                let sum = losses.entry(reason.to_owned()).or_default();
                *sum = sum.saturating_add(count);
            }
        }
        if !losses.is_empty() {
            reasons.push(Incomplete::Losses {
                recordings: lossy,
                losses,
            });
        }

        // One recording that has the start is enough: the calls of all are joined.
        let late: Option<Vec<u64>> = self.last().map(|last| last.started_late_ns).collect();
        if let Some(nanoseconds) = late.and_then(|late| late.into_iter().min()) {
            reasons.push(Incomplete::StartedLate { nanoseconds });
        }

        let undecided: Vec<&Observation> = self
            .last()
            .filter(|last| {
                last.entered_as.is_none() && (last.entered_count > 0 || !last.entered.is_empty())
            })
            .collect();
        if !undecided.is_empty() {
            let number = |last: &Observation| last.entered_count.max(last.entered.len() as u64);
            reasons.push(Incomplete::UndecidedEntered {
                recordings: undecided
                    .iter()
                    .map(|last| last.recording_id.clone())
                    .collect(),
                count: undecided
                    .iter()
                    .fold(0, |sum, last| sum.saturating_add(number(last))),
                processes: undecided
                    .iter()
                    .flat_map(|last| &last.entered)
                    .map(|process| (process.comm.clone(), process.pid))
                    .collect(),
            });
        }
        reasons
    }
}
