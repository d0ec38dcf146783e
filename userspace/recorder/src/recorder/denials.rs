//! Calls that a filter denied, with who made them, while the target runs or at its end.

use super::{Recorder, RecorderError, Recording, named, split, text};
use seccast_common::{DENIED_SAMPLES, DeniedKey, Stat};
use seccast_model::denial::{Denial, Denier, MAX_SAMPLES};
use std::collections::{BTreeMap, BTreeSet};

// Fewer samples than this are all that there are.
const _: () = assert!(DENIED_SAMPLES as usize == MAX_SAMPLES);

impl Recorder {
    /// From now on counts the calls that filters deny. Called before the target starts it misses none; of one that runs see
    /// [`Recorder::unjudged`].
    ///
    /// A thread that KILL_THREAD ends beside others is counted from Linux 5.15 on, a process that KILL_PROCESS ends from 5.16 on:
    /// before, a killed call has no end that a program could see.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn watch_denials(&mut self) -> Result<(), RecorderError> {
        self.every_denial = self.kernel.recorded().is_empty();
        Ok(self.kernel.watch_denials(true)?)
    }

    /// The denied calls of a recording so far, by ABI, phase, number and result. What is denied while this reads may be among
    /// [`Denial::others`] until the next time.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn denials(&self, recording: &Recording) -> Result<Vec<Denial>, RecorderError> {
        let mut all: BTreeMap<_, Tally> = BTreeMap::new();
        for slot in &recording.slots {
            let undecided =
                !(self.kernel.entered(*slot).is_empty() && self.kernel.ended(*slot).is_empty());
            let key = |denied: &DeniedKey| {
                let (row, nr) = split(denied.abi_phase >> 16, denied.nr.cast_signed());
                let phase = self.phase(recording, *slot, denied.abi_phase & 0xffff, undecided);
                let is_signal = denied.result == denied.nr.cast_signed();
                let result = if is_signal { nr } else { denied.result };
                Some((self.abi(row)?, phase, nr, result))
            };
            // The kernel adds to the whole first, and it is read last: so no process has more than there is.
            for (of, time) in self.kernel.denied_arguments(*slot) {
                let Some(key) = key(&of.denied) else { continue };
                all.entry(key).or_default().samples.insert((time, of.args));
            }
            for (of, counted) in self.kernel.deniers(*slot) {
                let Some(key) = key(&of.denied) else { continue };
                let process = all
                    .entry(key)
                    .or_default()
                    .processes
                    .entry((of.pid, of.image));
                process.or_insert_with(|| (text(&counted.comm), 0)).1 += counted.count;
            }
            for (denied, counted) in self.kernel.denied(*slot) {
                let Some(key) = key(&denied) else { continue };
                all.entry(key).or_default().count += counted.count;
            }
        }
        let denial = |((arch, phase, nr, result), tally): (_, Tally)| {
            let processes = tally.processes.into_iter();
            let mut processes: Vec<_> = processes
                .filter(|(_, (_, count))| *count > 0)
                .map(|((pid, image), (comm, count))| Denier {
                    pid,
                    comm,
                    exe: self.exe(pid, image),
                    count,
                })
                .collect();
            processes.sort_by_key(|process| (std::cmp::Reverse(process.count), process.pid));
            let listed: u64 = processes.iter().map(|process| process.count).sum();
            let mut seen = BTreeSet::new();
            let samples = tally.samples.into_iter().map(|(_, args)| args);
            Denial {
                arch,
                phase,
                nr,
                name: named(arch, nr).map(str::to_owned),
                result,
                count: tally.count,
                processes,
                others: tally.count.saturating_sub(listed),
                samples: samples
                    .filter(|args| seen.insert(*args))
                    .take(DENIED_SAMPLES as usize)
                    .collect(),
            }
        };
        let denials = all.into_iter().filter(|(_, tally)| tally.count > 0);
        Ok(denials.map(denial).collect())
    }

    /// Calls that threads under a filter left, of which it is not known whether they had entered them: at most one for each thread
    /// that ran when denied calls began to be looked for, or that was moved into the target. Over all recordings.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn unjudged(&self) -> Result<u64, RecorderError> {
        Ok(self.kernel.stat(Stat::DeniedUnjudged)?)
    }
}

/// What is added up of one number and result.
#[derive(Default)]
struct Tally {
    count: u64,
    processes: BTreeMap<(u32, u64), (String, u64)>,
    samples: BTreeSet<(u64, [u64; 6])>,
}
