//! The maps, typed: what is watched, and what was seen.

use super::slots::of_slot;
use super::{Kernel, KernelError, SlotId, map_error};
use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, Map, MapData, MapError},
};
use seccast_common::{
    self as common, ArgumentCall, ArgumentRule, BLOCK, Blocked, Counted, DeniedArgs, DeniedKey,
    DenierKey, Ended, Entered, LEVELS, PHASES, Process, Slot, Stat, UnknownKey,
};
use std::collections::{BTreeMap, BTreeSet};
use zerocopy::{FromBytes, IntoBytes};

/// A `#[repr(C)]` value of the contract.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Value<T>(pub(super) T);

// SAFETY: any bits are a `T` (`FromBytes`), and a `T` has no padding (`IntoBytes`).
unsafe impl<T: FromBytes + IntoBytes + Copy + 'static> Pod for Value<T> {}

/// BPF_NOEXIST of linux/bpf.h.
const BPF_NOEXIST: u64 = 1;

impl Kernel {
    /// Sets which calls have their arguments recorded: rules, and for each its positions in a block.
    ///
    /// # Errors
    /// When a map refuses or there are too many rules.
    pub fn record_arguments(
        &mut self,
        rules: &[(ArgumentRule, Vec<usize>)],
    ) -> Result<(), KernelError> {
        let mut calls = [0; BLOCK];
        let mut map: Array<_, Value<ArgumentRule>> = borrow(&mut self.ebpf, "ARG_RULES")?;
        for ((rule, positions), index) in rules.iter().zip(0u8..) {
            map.set(u32::from(index), Value(*rule), 0)
                .map_err(|source| map_error("ARG_RULES", source))?;
            for position in positions {
                calls[*position] = index + 1;
            }
        }
        let mut map: Array<_, Value<[u8; BLOCK]>> = borrow(&mut self.ebpf, "ARG_CALLS")?;
        map.set(0, Value(calls), 0)
            .map_err(|source| map_error("ARG_CALLS", source))
    }

    /// Values of recorded arguments, with how many each call has (more than the cap: some are missing).
    #[must_use]
    pub fn arguments(&self, slot: SlotId) -> Vec<(ArgumentCall, Vec<u64>, u32)> {
        let mut calls: BTreeMap<_, (Vec<u64>, u32)> = BTreeMap::new();
        let key = |call: &ArgumentCall| (call.abi_phase, call.nr);
        for (call, count) in self.of_slots.arg_counts(slot) {
            calls.entry(key(&call.0)).or_default().1 = count;
        }
        for (argument, _) in self.of_slots.args(slot) {
            calls
                .entry(key(&argument.0.call))
                .or_default()
                .0
                .push(argument.0.value);
        }
        let call = |(abi_phase, nr)| ArgumentCall {
            slot: slot.0,
            abi_phase,
            nr,
            pad: 0,
        };
        calls
            .into_iter()
            .map(|(key, (values, count))| (call(key), values, count))
            .collect()
    }

    /// Takes a free slot; nothing is recorded into it yet.
    ///
    /// # Errors
    /// When no slot is free.
    pub fn reserve(&mut self, flags: u32) -> Result<SlotId, KernelError> {
        let slot = SlotId(self.free.pop(0).map_err(|_| KernelError::NoSlot)?);
        let epoch = self.slot(slot)?.epoch;
        self.set_slot(
            slot,
            Slot {
                flags,
                epoch,
                ..Slot::default()
            },
        )?;
        Ok(slot)
    }

    fn set_slot(&mut self, slot: SlotId, value: Slot) -> Result<(), KernelError> {
        self.slots
            .set(slot.0, Value(value), 0)
            .map_err(|source| map_error("SLOT", source))
    }

    /// Records a cgroup and everything below it into a slot, from this instant. `level` is where it lies in the hierarchy;
    /// `None` if that is not known.
    ///
    /// # Errors
    /// When the map is full.
    pub fn watch(
        &mut self,
        slot: SlotId,
        cgroup: u64,
        level: Option<u32>,
        started: bool,
    ) -> Result<(), KernelError> {
        self.watch_level(level)?;
        let entry = common::Cgroup {
            slot: slot.0,
            started: u32::from(started),
        };
        self.keys
            .insert(cgroup, Value(entry), 0)
            .map_err(|source| map_error("KEYS", source))?;
        self.generation.bump();
        Ok(())
    }

    /// The same, unless the cgroup is recorded already: then its slot stays.
    ///
    /// # Errors
    /// When the map is full.
    pub fn watch_unless_recorded(
        &mut self,
        slot: SlotId,
        cgroup: u64,
        level: Option<u32>,
    ) -> Result<(), KernelError> {
        self.watch_level(level)?;
        let entry = common::Cgroup {
            slot: slot.0,
            started: 0,
        };
        insert_new(&mut self.keys, cgroup, Value(entry), "KEYS")?;
        self.generation.bump();
        Ok(())
    }

    /// Something is about to be watched at a level. If a first sight does not walk that far, it has to know: what is called
    /// deeper still may belong to it, and is counted.
    fn watch_level(&mut self, level: Option<u32>) -> Result<(), KernelError> {
        if level.is_some_and(|level| level < LEVELS) {
            return Ok(());
        }
        self.deep
            .set(0, 1, 0)
            .map_err(|source| map_error("DEEP", source))
    }

    /// Forgets a cgroup that is gone, unless it is recorded. Its id never comes again.
    pub fn forget(&mut self, cgroup: u64) {
        let _ = self.made.remove(&cgroup);
        let ignored = self.keys.get(&cgroup, 0);
        if ignored.is_ok_and(|entry| entry.0.slot == common::NO_SLOT) {
            let _ = self.keys.remove(&cgroup);
        }
    }

    /// Stops recording the given cgroups, empties the slot and gives it back.
    ///
    /// # Errors
    /// When a map refuses.
    pub fn release(&mut self, slot: SlotId) -> Result<(), KernelError> {
        for (id, _) in self.cgroups(slot) {
            let ignored = common::Cgroup {
                slot: common::NO_SLOT,
                started: 0,
            };
            self.keys
                .insert(id, Value(ignored), 0)
                .map_err(|source| map_error("KEYS", source))?;
        }
        // Its processes may go on in any cgroup, and what they fork: none of them belongs to the slot's next recording.
        let epoch = self.slot(slot)?.epoch.wrapping_add(1);
        self.set_slot(
            slot,
            Slot {
                epoch,
                ..Slot::default()
            },
        )?;
        self.generation.bump();
        self.settle();
        self.clear(slot)?;
        self.free
            .push(slot.0, 0)
            .map_err(|source| map_error("FREE", source))
    }

    /// Forgets what a slot holds.
    fn clear(&mut self, slot: SlotId) -> Result<(), KernelError> {
        for phase in 0..PHASES {
            self.blocks
                .set(slot.0 * PHASES + phase, Value([0; BLOCK]), 0)
                .map_err(|source| map_error("BLOCKS", source))?;
        }
        self.of_slots.clear(slot);
        Ok(())
    }

    /// Waits until no program runs that began before.
    pub(super) fn settle(&self) {
        // SAFETY: no memory is passed. MEMBARRIER_CMD_GLOBAL waits for an RCU grace period (4.3+).
        let _ = unsafe { libc::syscall(libc::SYS_membarrier, 1, 0, 0) };
    }

    /// Counts an existing cgroup as new: for one that was made before anything ran in it.
    ///
    /// # Errors
    /// When the map refuses.
    pub fn count_as_new(&mut self, cgroup: u64) -> Result<(), KernelError> {
        self.made
            .insert(cgroup, 1, 0)
            .map_err(|source| map_error("MADE", source))?;
        self.generation.bump();
        Ok(())
    }

    /// A cgroup that is gone, or that nobody waits for, is new no more.
    pub fn count_as_old(&mut self, cgroup: u64) {
        let _ = self.made.remove(&cgroup);
    }

    /// Gives a process a phase in a slot, as if it had been seen; `filters`: how many it runs under.
    ///
    /// # Errors
    /// When the map is full.
    pub fn set_process(
        &mut self,
        tgid: u32,
        slot: SlotId,
        phase: u32,
        filters: u32,
    ) -> Result<(), KernelError> {
        let process = Process {
            slot: slot.0,
            phase,
            filters,
            epoch: self.slot(slot)?.epoch,
            ..Process::default()
        };
        self.of_slots
            .tasks
            .insert(tgid, Value(process), 0)
            .map_err(|source| map_error("TASKS", source))
    }

    /// The slot and phase of a process.
    #[must_use]
    pub fn process(&self, tgid: u32) -> Option<Process> {
        Some(self.of_slots.tasks.get(&tgid, 0).ok()?.0)
    }

    /// The processes of a slot, by thread group id, wherever they are.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn processes(&self, slot: SlotId) -> Result<Vec<(u32, Process)>, KernelError> {
        let epoch = self.slot(slot)?.epoch;
        let processes = self.of_slots.tasks(slot);
        Ok(processes
            .map(|(tgid, value)| (tgid, value.0))
            .filter(|(_, process)| process.epoch == epoch)
            .collect())
    }

    /// The programs that recorded processes run and that denied calls were made by, each by when it was executed (`ktime`).
    #[must_use]
    pub fn images(&self) -> BTreeSet<u64> {
        let running = self.of_slots.tasks.iter().flatten();
        let running = running.map(|(_, process)| process.0.image);
        let denied = self.of_slots.deniers.keys().flatten();
        running.chain(denied.map(|denier| denier.0.image)).collect()
    }

    /// The cgroups of a slot, with whether something started there.
    #[must_use]
    pub fn cgroups(&self, slot: SlotId) -> Vec<(u64, bool)> {
        of_slot(&self.keys, slot, |_, value| value.0.slot)
            .map(|(id, value)| (id, value.0.started != 0))
            .collect()
    }

    /// Every recorded cgroup with its slot.
    #[must_use]
    pub fn recorded(&self) -> Vec<(u64, SlotId)> {
        self.keys
            .iter()
            .flatten()
            .filter(|(_, value)| value.0.slot != common::NO_SLOT)
            .map(|(id, value)| (id, SlotId(value.0.slot)))
            .collect()
    }

    /// A slot's flags and starts.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn slot(&self, slot: SlotId) -> Result<Slot, KernelError> {
        self.slots
            .get(&slot.0, 0)
            .map(|value| value.0)
            .map_err(|source| map_error("SLOT", source))
    }

    /// The bytes of one phase.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn block(&self, slot: SlotId, phase: u32) -> Result<[u8; BLOCK], KernelError> {
        self.blocks
            .get(&(slot.0 * PHASES + phase), 0)
            .map(|value| value.0)
            .map_err(|source| map_error("BLOCKS", source))
    }

    /// Numbers out of range.
    #[must_use]
    pub fn unknown(&self, slot: SlotId) -> Vec<(UnknownKey, Counted)> {
        self.of_slots
            .unknown(slot)
            .map(|(key, value)| (key.0, value.0))
            .collect()
    }

    /// Denied calls.
    #[must_use]
    pub fn denied(&self, slot: SlotId) -> Vec<(DeniedKey, Counted)> {
        self.of_slots
            .denied(slot)
            .map(|(key, value)| (key.0, value.0))
            .collect()
    }

    /// The processes that were denied calls.
    #[must_use]
    pub fn deniers(&self, slot: SlotId) -> Vec<(DenierKey, Counted)> {
        self.of_slots
            .deniers(slot)
            .map(|(key, value)| (key.0, value.0))
            .collect()
    }

    /// Arguments of denied calls, each with the `ktime` of the first call with them.
    #[must_use]
    pub fn denied_arguments(&self, slot: SlotId) -> Vec<(DeniedArgs, u64)> {
        self.of_slots
            .denied_args(slot)
            .map(|(key, time)| (key.0, time))
            .collect()
    }

    /// Tells of tasks that sleep inside a call that they have entered it, unless they were seen to leave or to enter one since:
    /// for those that were there before denied calls were looked for.
    ///
    /// # Errors
    /// When the map is full.
    pub fn set_inside<'a>(
        &mut self,
        tasks: impl Iterator<Item = &'a Blocked>,
    ) -> Result<(), KernelError> {
        let watching = self.denials.is_some();
        for task in tasks.filter(|task| watching && task.asleep == 1 && task.nr >= 0) {
            insert_new(&mut self.inside, task.tid, common::inside::YES, "INSIDE")?;
        }
        Ok(())
    }

    /// Forgets who is inside a call.
    pub(super) fn clear_inside(&mut self) {
        let threads: Vec<_> = self.inside.keys().flatten().collect();
        for thread in threads {
            let _ = self.inside.remove(&thread);
        }
    }

    /// Processes that entered and of whose line nobody has executed anything.
    #[must_use]
    pub fn entered(&self, slot: SlotId) -> Vec<Entered> {
        self.of_slots
            .entered(slot)
            .map(|(_, value)| value.0)
            .collect()
    }

    /// Lines that ended without executing anything; their calls are in the block of [`common::phase::UNDECIDED`].
    #[must_use]
    pub fn ended(&self, slot: SlotId) -> Vec<Ended> {
        self.of_slots
            .ended(slot)
            .map(|(_, value)| value.0)
            .collect()
    }

    /// A counter, summed over CPUs.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn stat(&self, stat: Stat) -> Result<u64, KernelError> {
        let values = self
            .stats
            .get(&(stat as u32), 0)
            .map_err(|source| map_error("STATS", source))?;
        Ok(values.iter().sum())
    }
}

/// Inserts an entry, unless there is one.
fn insert_new<K: Pod, V: Pod>(
    map: &mut HashMap<MapData, K, V>,
    key: K,
    value: V,
    name: &'static str,
) -> Result<(), KernelError> {
    match map.insert(key, value, BPF_NOEXIST) {
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::EEXIST) =>
        {
            Ok(())
        }
        inserted => inserted.map_err(|source| map_error(name, source)),
    }
}

/// A map that stays with the object: programs that are loaded later refer to it.
fn borrow<'a, T: TryFrom<&'a mut Map, Error = MapError>>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<T, KernelError> {
    let map = ebpf.map_mut(name).ok_or(KernelError::Foreign { name })?;
    T::try_from(map).map_err(|source| map_error(name, source))
}
