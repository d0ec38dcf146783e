//! From the maps to the observation.

use super::{
    First, Recorder, RecorderError, Recording, kernel_release, named, phase_of, split, text,
};
use crate::{arguments, clock, kernel::SlotId, proc, runtime::bundle::Bundle};
use seccast_common::{
    self as common, ARGUMENT_VALUES, BLOCK, Cost, Counted, NUMBERS, Stat, abi, phase, position,
    slot_flag,
};
use seccast_model::{
    arch::Arch,
    evidence::{self, Evidence, Hidden, Running},
    observation::{
        Arguments, Backend, Caller, EnteredProcess, Machine, Observation, Phase, Sighting,
        UnknownNr,
    },
    syscall,
};
use std::{collections::BTreeMap, fs};

impl Recorder {
    /// The calls of a recording so far.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn observe(&mut self, recording: &Recording) -> Result<Observation, RecorderError> {
        let machine = Machine {
            kernel: kernel_release(),
            arch: self.arch,
            libc: recording.libc.clone(),
            extra: BTreeMap::new(),
        };
        let mut observation = Observation {
            target: recording.target.clone(),
            started_ns: recording.started_ns,
            ended_ns: clock::unix_ns(),
            blocked_at_attach: recording.blocked.clone(),
            explanations_lost: self.explanations_lost()?,
            started_late_ns: recording.started_late_ns,
            filtered: recording.filtered_at_attach,
            entered_as: recording.entered_as,
            start_container_hooks: recording
                .bundle
                .as_ref()
                .is_some_and(Bundle::has_start_container_hooks),
            ..Observation::new(recording.id.clone(), Backend::Ebpf, machine)
        };
        let mut evidence = Evidence {
            present: recording.present,
            present_unlike: recording.present_unlike,
            lives: u64::from(recording.present == 0 && recording.target.container_id.is_some()),
            ..Evidence::default()
        };
        for slot in &recording.slots {
            self.observe_slot(recording, *slot, &mut observation)?;
            self.observe_evidence(recording, *slot, &mut observation, &mut evidence)?;
        }
        let inherits = evidence.starts.iter().any(|start| start.inherited > 0);
        observation.filtered &= inherits || !recording.denies_nothing();
        evidence.running.extend(running(recording));
        evidence.count_calls(&observation);
        if observation.own_filter && !self.every_denial && hands_on(&observation) {
            evidence.hidden.insert(Hidden::OwnFilter);
        }
        observation.evidence = Some(evidence);
        observation.losses = self.losses_by_reason()?;
        for (reason, count) in [
            ("blocked_unread", recording.blocked_unread),
            ("present_without_phase", recording.without_phase),
        ] {
            if count > 0 {
                observation.losses.insert(reason.to_owned(), count);
            }
        }
        Ok(observation)
    }

    /// Ways in which something may have been missed, since the object was loaded.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn losses(&self) -> Result<u64, RecorderError> {
        Ok(self.losses_by_reason()?.values().sum())
    }

    fn explanations_lost(&self) -> Result<u64, RecorderError> {
        let mut lost = 0;
        for stat in Stat::ALL {
            if is_explanation(self.arch, stat) {
                lost += self.kernel.stat(stat)?;
            }
        }
        Ok(lost)
    }

    fn losses_by_reason(&self) -> Result<BTreeMap<String, u64>, RecorderError> {
        let mut losses = BTreeMap::new();
        for stat in Stat::ALL
            .into_iter()
            .filter(|stat| !is_explanation(self.arch, *stat))
        {
            losses.insert(stat.name().to_owned(), self.kernel.stat(stat)?);
        }
        losses.insert("recursion".to_owned(), self.kernel.recursion_misses());
        losses.retain(|_, count| *count > 0);
        Ok(losses)
    }

    /// What the kernel side knows of a slot's programs and processes.
    fn observe_evidence(
        &self,
        recording: &Recording,
        slot: SlotId,
        observation: &mut Observation,
        evidence: &mut Evidence,
    ) -> Result<(), RecorderError> {
        let state = self.kernel.slot(slot)?;
        let blocks = (phase::START..).zip(&state.at).take(state.starts as usize);
        for (block, start) in blocks {
            if !self.is_hook(recording, slot, block) {
                evidence.starts.push(evidence::Start {
                    filters: start.filters.into(),
                    inherited: start.inherited.into(),
                });
            }
        }
        evidence.execs += u64::from(state.execs);
        evidence.execs_unlike += u64::from(state.execs_unlike);
        evidence.joined += u64::from(state.joined);
        evidence.left += u64::from(state.left);
        // The kernel's ids mean nothing in another pid namespace.
        let processes = if proc::in_first_pid_namespace() {
            self.kernel.processes(slot)?
        } else {
            Vec::new()
        };
        for (pid, process) in processes {
            // Whom the runtime left in it for a moment is told by who entered.
            if process.phase < phase::EXEC || proc::is_dead(pid) {
                continue;
            }
            observation.own_filter |= !recording.filtered_at_attach
                && proc::filters(pid).is_some_and(|filters| filters > process.filters);
            evidence.running.insert(Running {
                pid,
                comm: proc::comm(pid).unwrap_or_default(),
            });
        }
        Ok(())
    }

    fn observe_slot(
        &mut self,
        recording: &Recording,
        slot: SlotId,
        observation: &mut Observation,
    ) -> Result<(), RecorderError> {
        let entered = self.kernel.entered(slot);
        let ended = self.kernel.ended(slot);
        let who: Vec<_> = entered
            .iter()
            .map(|line| (line.pid, text(&line.comm)))
            .chain(ended.iter().map(|line| (line.pid, text(&line.comm))))
            .collect();
        observation.entered_count += who.len() as u64;
        let names = who.iter().map(|(pid, comm)| EnteredProcess {
            pid: *pid,
            comm: comm.clone(),
            ..EnteredProcess::default()
        });
        observation.entered.extend(names.take(16));
        let undecided = !who.is_empty();
        let flags = self.kernel.slot(slot)?.flags;
        observation.filtered |= flags & slot_flag::FILTERED != 0;
        // Of one that was there at attach it is not known who installed it.
        observation.own_filter |=
            flags & slot_flag::OWN_FILTER != 0 && !recording.filtered_at_attach;

        for block in 0..common::PHASES {
            let bytes = self.kernel.block(slot, block)?;
            let phase = self.phase(recording, slot, block, false);
            // What a line called before it was decided was explained as undecided.
            let also = (block <= phase::ENTER).then_some(phase::UNDECIDED);
            self.observe_block(recording, &bytes, phase, observation, |row, nr| {
                let first = |block| self.firsts.get(&(slot.0, block, row, nr));
                first(block).or_else(|| first(also?))
            });
        }
        for line in &entered {
            self.observe_block(
                recording,
                &line.calls,
                Phase::Entered,
                observation,
                |row, nr| {
                    let first = self.firsts.get(&(slot.0, phase::UNDECIDED, row, nr))?;
                    // Another line may have been the first to call it.
                    who.iter()
                        .any(|(pid, _)| *pid == first.pid)
                        .then_some(first)
                },
            );
        }
        self.observe_arguments(recording, slot, undecided, observation);
        for (key, counted) in self.kernel.unknown(slot) {
            let Some(arch) = self.abi(key.abi_phase >> 16) else {
                continue;
            };
            let phase = self.phase(recording, slot, key.abi_phase & 0xffff, undecided);
            let nr = key.nr.cast_signed();
            let first = self.counted(recording, &counted);
            let count = Some(counted.count);
            add(observation, calls, (arch, phase, nr), count, first);
        }
        self.observe_denied(recording, slot, undecided, observation);
        observation
            .unknown
            .sort_by_key(|unknown| (unknown.arch, unknown.phase, unknown.nr));
        Ok(())
    }

    /// The calls of one block.
    fn observe_block<'a>(
        &self,
        recording: &Recording,
        bytes: &[u8; BLOCK],
        phase: Phase,
        observation: &mut Observation,
        first: impl Fn(u32, u32) -> Option<&'a First>,
    ) {
        for row in [abi::NATIVE, abi::COMPAT, abi::X32] {
            let Some(arch) = self.abi(row) else { continue };
            for nr in (0..NUMBERS as u32).filter(|nr| bytes[position(row, *nr)] != 0) {
                let first = first(row, nr)
                    .map(|first| self.sighting(recording, first))
                    .unwrap_or_default();
                add(observation, calls, (arch, phase, nr.into()), None, first);
            }
        }
    }

    /// Calls that a filter denied: whatever their results, one of each number, seen first where it was first.
    fn observe_denied(
        &self,
        recording: &Recording,
        slot: SlotId,
        undecided: bool,
        observation: &mut Observation,
    ) {
        let mut denied: BTreeMap<_, Counted> = BTreeMap::new();
        for (key, counted) in self.kernel.denied(slot) {
            let (row, nr) = split(key.abi_phase >> 16, key.nr.cast_signed());
            let phase = self.phase(recording, slot, key.abi_phase & 0xffff, undecided);
            let Some(arch) = self.abi(row) else { continue };
            let known = denied.entry((arch, phase, nr)).or_default();
            let count = known.count + counted.count;
            if known.count == 0 || counted.time < known.time {
                *known = counted;
            }
            known.count = count;
        }
        for (call, counted) in denied {
            let first = self.counted(recording, &counted);
            let count = Some(counted.count);
            add(observation, |seen| &mut seen.denied, call, count, first);
        }
    }

    /// The values of recorded arguments, beside the calls that they belong to.
    fn observe_arguments(
        &self,
        recording: &Recording,
        slot: SlotId,
        undecided: bool,
        observation: &mut Observation,
    ) {
        for (call, values, count) in self.kernel.arguments(slot) {
            let phase = self.phase(recording, slot, call.abi_phase & 0xffff, undecided);
            let Some(arch) = self.abi(call.abi_phase >> 16) else {
                continue;
            };
            let Some(name) = syscall::name(arch, call.nr) else {
                continue;
            };
            let Some(sighting) = observation
                .calls
                .get_mut(&(arch, phase))
                .and_then(|calls| calls.get_mut(name))
            else {
                continue;
            };
            let arguments = sighting.arguments.get_or_insert_with(|| Arguments {
                indices: arguments::indices(name),
                ..Arguments::default()
            });
            arguments.values.extend(
                values
                    .into_iter()
                    .map(|value| arguments::split(name, value)),
            );
            arguments.overflow |= count > ARGUMENT_VALUES;
        }
    }

    /// What a block's calls are to a profile. `undecided`: numbers and values that are kept by slot and phase only may be
    /// those of a process that entered.
    pub(super) fn phase(
        &self,
        recording: &Recording,
        slot: SlotId,
        block: u32,
        undecided: bool,
    ) -> Phase {
        match phase_of(block) {
            Phase::Runtime if undecided => Phase::Entered,
            Phase::App if self.is_hook(recording, slot, block) => Phase::Hook,
            phase => phase,
        }
    }

    /// Did a createContainer hook start this block? The first program of a block says what it is: what a hook executes is
    /// the hook. The last block is shared, and a lost event could have been the first: then it is the application, which
    /// loses nothing.
    fn is_hook(&self, recording: &Recording, slot: SlotId, start: u32) -> bool {
        let first = self.starts.get(&(slot.0, start));
        // A hook is forked by the runtime's process in the container, which becomes the application itself.
        let of_runtime = |state: common::Slot| {
            let at = start
                .checked_sub(phase::START)
                .and_then(|at| state.at.get(at as usize).copied());
            at.is_some_and(|start| start.of_runtime != 0)
        };
        start + 1 < common::PHASES
            && self.kernel.slot(slot).is_ok_and(of_runtime)
            && self.kernel.stat(Stat::RingFull).is_ok_and(|lost| lost == 0)
            && first
                .zip(recording.bundle.as_ref())
                .is_some_and(|((_, file), bundle)| bundle.is_create_container_hook(file))
    }

    /// Did the application start under a filter? `None` while it has not started.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn started_filtered(&self, recording: &Recording) -> Result<Option<bool>, RecorderError> {
        let mut started = None;
        for slot in &recording.slots {
            let state = self.kernel.slot(*slot)?;
            let blocks = phase::START..phase::START + state.starts.min(phase::STARTS);
            if blocks
                .clone()
                .any(|start| !self.is_hook(recording, *slot, start))
            {
                started = Some(started.unwrap_or(false) | (state.flags & slot_flag::FILTERED != 0));
            }
        }
        Ok(started)
    }

    /// Did the application start under a filter that was there before its container's? It may deny what the container's own allows.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn inherits_filters(&self, recording: &Recording) -> Result<bool, RecorderError> {
        for slot in &recording.slots {
            let state = self.kernel.slot(*slot)?;
            let mut starts = state.at.iter().take(state.starts as usize);
            if starts.any(|start| start.inherited > 0) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn sighting(&self, recording: &Recording, first: &First) -> Sighting {
        Sighting {
            first_ns: Some(first.time.saturating_sub(recording.started_ktime)),
            caller: Some(Caller {
                pid: first.pid,
                comm: first.comm.clone(),
                exe: self.exe(first.pid, first.image),
                ..Caller::default()
            }),
            ..Sighting::default()
        }
    }

    /// The file that a process executed last, by when it did; 0 where that was before the recording.
    pub(super) fn exe(&self, pid: u32, image: u64) -> Option<String> {
        let known = self.files.of(image).map(str::to_owned);
        known.or_else(|| {
            let link = || fs::read_link(format!("/proc/{pid}/exe")).ok();
            let link = (image == 0).then(link)??;
            Some(link.display().to_string())
        })
    }

    fn counted(&self, recording: &Recording, counted: &Counted) -> Sighting {
        self.sighting(
            recording,
            &First {
                time: counted.time,
                image: 0,
                pid: counted.pid,
                comm: text(&counted.comm),
            },
        )
    }
}

/// Does what this counts cost no call that a profile could name? Of the numbers out of range, only those private to Arm have names.
pub(super) fn is_explanation(machine: Arch, stat: Stat) -> bool {
    match stat.cost() {
        Cost::Call => false,
        Cost::ArmCall => machine != Arch::Aarch64,
        Cost::Explanation => true,
    }
}

/// The processes in a recording's cgroup that run.
fn running(recording: &Recording) -> impl Iterator<Item = Running> {
    let processes = recording.cgroup.processes().into_iter();
    processes
        .filter(|pid| !proc::is_dead(*pid))
        .map(|pid| Running {
            pid,
            comm: proc::comm(pid).unwrap_or_default(),
        })
}

/// May the application's own filter hand calls to a listener, or to a tracer? It was not seen to ask for a listener
/// (SECCOMP_FILTER_FLAG_NEW_LISTENER of linux/seccomp.h), nor to trace.
fn hands_on(observation: &Observation) -> bool {
    const NEW_LISTENER: u32 = 8;
    let listens = |sighting: &Sighting| {
        sighting.arguments.as_ref().is_none_or(|arguments| {
            let mut values = arguments.values.iter();
            arguments.overflow
                || values.any(|of| of.get(1).is_none_or(|flags| flags & NEW_LISTENER != 0))
        })
    };
    let own = [Phase::App, Phase::Exec, Phase::Entered];
    let mut calls = observation.calls.iter();
    calls.any(|((_, phase), names)| {
        own.contains(phase)
            && (names.contains_key("ptrace") || names.get("seccomp").is_some_and(listens))
    })
}

type Calls = BTreeMap<(Arch, Phase), BTreeMap<String, Sighting>>;

fn calls(observation: &mut Observation) -> &mut Calls {
    &mut observation.calls
}

/// Adds a call `to` those of its kind, or the earlier sighting of one that is there; a number without a name to the unknown.
fn add(
    observation: &mut Observation,
    to: impl FnOnce(&mut Observation) -> &mut Calls,
    (arch, phase, nr): (Arch, Phase, i64),
    count: Option<u64>,
    first: Sighting,
) {
    let Some(name) = named(arch, nr) else {
        observation.unknown.push(UnknownNr {
            arch,
            phase,
            nr,
            count,
            first,
        });
        return;
    };
    let calls = to(observation).entry((arch, phase)).or_default();
    match calls.get_mut(name) {
        Some(seen) if earlier(&first, seen) => *seen = first,
        Some(_) => {}
        None => {
            calls.insert(name.to_owned(), first);
        }
    }
}

fn earlier(left: &Sighting, right: &Sighting) -> bool {
    match (left.first_ns, right.first_ns) {
        (Some(left), Some(right)) => left < right,
        (Some(_), None) => true,
        _ => false,
    }
}
