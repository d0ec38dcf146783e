//! From observations to a profile.

use crate::arch::Arch;
use crate::base::{self, BaseError, Situation};
use crate::closure::{CORE, RULES};
use crate::diagnostic::{Diagnostic, Severity};
use crate::observation::{EnteredAs, Observation, Phase, Sighting};
use crate::policy::Policy;
use crate::profile::{OciArch, Profile};
use crate::report::{ArchReasons, Incomplete, Origin, Part, Recording, Report, Sighted, Unknown};
use crate::syscall;
use std::collections::{BTreeMap, BTreeSet};

/// The result of [`generate`].
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The profile, also of an incomplete observation.
    pub profile: Profile,
    /// Why it is as it is; it has the diagnostics as well.
    pub report: Report,
    /// Findings, in the order of their codes.
    pub diagnostics: Vec<Diagnostic>,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// No call in any part of the target's life that belongs into a profile. An empty list of allowed calls is no profile.
    #[error(
        "the observations hold no call of an application, so there is no profile to make of them: record again, and see that the target \
         runs while it is recorded"
    )]
    Empty,
    /// The program was built with a broken runtime base.
    #[error(transparent)]
    Base(#[from] BaseError),
}

/// Makes one profile of all the observations. Neither their order nor how often a recording is given matters.
///
/// # Errors
/// [`GenerateError::Empty`] when no call belongs into a profile.
pub fn generate(observations: &[Observation], policy: &Policy) -> Result<Generated, GenerateError> {
    let inputs = Inputs::new(observations);
    let seen = Seen::new(&inputs, policy);
    if seen.calls.is_empty() {
        return Err(GenerateError::Empty);
    }
    let architectures = architectures(&inputs, &seen);
    let syscalls = allowed(&inputs, &seen, &architectures, policy)?;
    let no_new_privs_saves = if policy.no_new_privs {
        BTreeSet::new()
    } else {
        let with = allowed(
            &inputs,
            &seen,
            &architectures,
            &Policy {
                no_new_privs: true,
                ..policy.clone()
            },
        )?;
        syscalls
            .keys()
            .filter(|name| !with.contains_key(*name))
            .cloned()
            .collect()
    };
    let profile = Profile::allowing(
        syscalls.keys().cloned().collect(),
        architectures
            .keys()
            .map(|arch| OciArch::from(*arch))
            .collect(),
    );
    let mut report = Report {
        incomplete: inputs.incomplete(),
        policy: policy.clone(),
        recordings: inputs.recordings(),
        architectures,
        syscalls,
        unknown: seen.unknown,
        denied: seen.denied,
        no_new_privs_saves,
        comparison: None,
        diagnostics: Vec::new(),
    };
    report.diagnostics = diagnose(&inputs, &report);
    Ok(Generated {
        profile,
        diagnostics: report.diagnostics.clone(),
        report,
    })
}

/// The observations by recording: copies and earlier states of one recording are one.
struct Inputs<'a> {
    by_id: BTreeMap<&'a str, Vec<&'a Observation>>,
}

impl<'a> Inputs<'a> {
    fn new(observations: &'a [Observation]) -> Self {
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
    fn states(&self) -> impl Iterator<Item = &'a Observation> + '_ {
        self.by_id.values().flatten().copied()
    }

    /// The last state of each recording.
    fn last(&self) -> impl Iterator<Item = &'a Observation> + '_ {
        self.by_id
            .values()
            .filter_map(|states| states.last())
            .copied()
    }

    fn recordings(&self) -> Vec<Recording> {
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

    fn incomplete(&self) -> Vec<Incomplete> {
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
                comms: undecided
                    .iter()
                    .flat_map(|last| &last.entered)
                    .map(|process| process.comm.clone())
                    .collect(),
            });
        }
        reasons
    }
}

/// What belongs into the profile.
struct Seen {
    /// By name, ABI and part: the first sighting.
    calls: BTreeMap<String, BTreeMap<(Arch, Part), Sighted>>,
    unknown: Vec<Unknown>,
    /// What the policy leaves out of the denied calls.
    denied: BTreeMap<String, Vec<Sighted>>,
}

/// First sightings, collected without copying what is not first.
type Firsts<'a> = BTreeMap<&'a str, BTreeMap<(Arch, Part), First<'a>>>;

struct First<'a> {
    recording: &'a str,
    sighting: &'a Sighting,
    recordings: BTreeSet<&'a str>,
}

impl Seen {
    fn new(inputs: &Inputs<'_>, policy: &Policy) -> Self {
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
        denied.retain(|name, _| !calls.contains_key(name));
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

/// Those of the machines, and those that calls were made by: calls by any other kill, even where everything else is allowed.
fn architectures(inputs: &Inputs<'_>, seen: &Seen) -> BTreeMap<Arch, ArchReasons> {
    let mut reasons: BTreeMap<Arch, ArchReasons> = BTreeMap::new();
    for state in inputs.states() {
        reasons.entry(state.machine.arch).or_default().native = true;
    }
    for parts in seen.calls.values() {
        for arch in parts.keys().map(|(arch, _)| *arch).collect::<BTreeSet<_>>() {
            reasons.entry(arch).or_default().calls += 1;
        }
    }
    for unknown in &seen.unknown {
        reasons.entry(unknown.arch).or_default().calls += 1;
    }
    reasons
}

/// Every name with its origins: recorded ones first, then core, base and closure.
fn allowed(
    inputs: &Inputs<'_>,
    seen: &Seen,
    architectures: &BTreeMap<Arch, ArchReasons>,
    policy: &Policy,
) -> Result<BTreeMap<String, Vec<Origin>>, BaseError> {
    let exists = |name: &str| {
        architectures
            .keys()
            .any(|arch| syscall::nr(*arch, name).is_some())
    };
    let mut names: BTreeMap<String, Vec<Origin>> = seen
        .calls
        .iter()
        .map(|(name, parts)| {
            let mut origins: Vec<&Sighted> = parts.values().collect();
            origins.sort_by_key(|seen| (seen.part, seen.arch));
            (
                name.clone(),
                origins.into_iter().cloned().map(Origin::Recorded).collect(),
            )
        })
        .collect();
    let mut add = |name: &str, origin: Origin| {
        if exists(name) {
            let origins = names.entry(name.to_owned()).or_default();
            if !origins.contains(&origin) {
                origins.push(origin);
            }
        }
    };
    if policy.core {
        for core in &CORE {
            add(core.name, Origin::Core { why: core.why });
        }
    }
    if policy.base {
        let situation = Situation {
            no_new_privs: policy.no_new_privs,
            start_container_hooks: inputs.states().any(|state| state.start_container_hooks),
            exec: policy.include_exec,
        };
        for group in base::groups(policy.runtime, situation)? {
            for name in &group.names {
                let origin = Origin::Base {
                    runtime: group.runtime,
                    group: group.name.clone(),
                    why: group.why.clone(),
                };
                add(name, origin);
            }
        }
    }
    if policy.closure {
        // From what was recorded, not from the base: that was measured with the fallbacks of every version.
        let mut reached: BTreeSet<&str> = seen.calls.keys().map(String::as_str).collect();
        let mut fired = vec![false; RULES.len()];
        loop {
            let mut changed = false;
            for (rule, fired) in RULES.iter().zip(&mut fired) {
                if *fired || rule.when.is_some_and(|name| !reached.contains(name)) {
                    continue;
                }
                *fired = true;
                changed = true;
                for name in rule.add {
                    add(
                        name,
                        Origin::Closure {
                            from: rule.when,
                            why: rule.why,
                            source: rule.source,
                        },
                    );
                    reached.insert(name);
                }
            }
            if !changed {
                break;
            }
        }
    }
    Ok(names)
}

fn diagnose(inputs: &Inputs<'_>, report: &Report) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let mut find = |code, severity, message: String, advice: Option<&str>| {
        findings.push(Diagnostic {
            code,
            severity,
            message,
            advice: advice.map(str::to_owned),
        });
    };
    let recordings = report.recordings.len();

    if !report.unknown.is_empty() {
        let numbers: Vec<String> = report
            .unknown
            .iter()
            .map(|unknown| format!("{} on {}", unknown.nr, unknown.arch))
            .collect();
        find(
            "SC0001",
            Severity::Warning,
            format!(
                "calls by numbers that have no name cannot be allowed: {}",
                list(&numbers)
            ),
            Some(
                "the kernel answers ENOSYS to a number that it does not have, and so does this profile; a newer seccast may know the name",
            ),
        );
    }

    let mut newer: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in report.syscalls.keys() {
        if let Some(release) = syscall::info(name).and_then(|info| info.since_libseccomp)
            && release != syscall::COMMON_LIBSECCOMP
        {
            newer.entry(release).or_default().push(name);
        }
    }
    if !newer.is_empty() {
        let groups: Vec<String> = newer
            .iter()
            .map(|(release, names)| format!("{} (libseccomp {release})", names.join(" ")))
            .collect();
        find(
            "SC0002",
            Severity::Warning,
            format!(
                "nodes with an older libseccomp ignore {}: there they fail with ENOSYS",
                list(&groups)
            ),
            Some(
                "Debian 12 has libseccomp 2.5.4; run the container on such a node once before you rely on these calls",
            ),
        );
    }

    if report.architectures.len() > 1 {
        let mut one_only: BTreeMap<Arch, Vec<&str>> = BTreeMap::new();
        for (name, origins) in &report.syscalls {
            let by: BTreeSet<Arch> = origins
                .iter()
                .filter_map(|origin| match origin {
                    Origin::Recorded(seen) => Some(seen.arch),
                    _ => None,
                })
                .collect();
            let elsewhere = report
                .architectures
                .keys()
                .any(|arch| !by.contains(arch) && syscall::nr(*arch, name).is_some());
            if let (Some(arch), 1, true) = (by.first(), by.len(), elsewhere) {
                one_only.entry(*arch).or_default().push(name);
            }
        }
        for (arch, names) in one_only {
            find(
                "SC0003",
                Severity::Warning,
                format!(
                    "seen by {arch} only, allowed on every listed architecture: {}",
                    list(&names)
                ),
                Some(
                    "a profile has one list for all its architectures; a container for each ABI would keep them apart",
                ),
            );
        }
    }

    let filtered: Vec<&Observation> = inputs.last().filter(|last| last.filtered).collect();
    if !filtered.is_empty() {
        find(
            "SC0004",
            Severity::Warning,
            format!(
                "{} of {recordings} recordings ran under a filter: what it denied, and what would have followed, was not recorded",
                filtered.len()
            ),
            Some(
                "record with the audit profile (`generate --audit`), which loads a filter that denies nothing",
            ),
        );
    }

    for reason in &report.incomplete {
        let (code, advice) = match reason {
            Incomplete::Losses { .. } => ("SC0005", "record again"),
            Incomplete::StartedLate { .. } => (
                "SC0006",
                "arm the recording with `--wait` and restart the target, or merge with a recording that has the start",
            ),
            Incomplete::UndecidedEntered { .. } => (
                "SC0007",
                "record again with `--entered app` or `--entered runtime`, whichever these processes are",
            ),
        };
        find(code, Severity::Error, reason.to_string(), Some(advice));
    }

    if !report.denied.is_empty() {
        let names: Vec<&String> = report.denied.keys().collect();
        find(
            "SC0008",
            Severity::Info,
            format!(
                "tried, denied by the filter of the recorded container, and left out: {}",
                list(&names)
            ),
            Some("`--include-denied` allows them"),
        );
    }

    if inputs.last().any(|last| last.own_filter) {
        find(
            "SC0009",
            Severity::Info,
            "the application installs a filter of its own: what that denies was not seen and is not needed".to_owned(),
            None,
        );
    }

    if !report.no_new_privs_saves.is_empty() {
        let names: Vec<&String> = report.no_new_privs_saves.iter().collect();
        find(
            "SC0010",
            Severity::Info,
            format!(
                "`allowPrivilegeEscalation: false` would save {} names: {}",
                names.len(),
                list(&names)
            ),
            Some("set it in the Pod (in OCI: noNewPrivileges) and generate with `--no-new-privs`"),
        );
    }

    if report.syscalls.contains_key("io_uring_setup") {
        find(
            "SC0011",
            Severity::Warning,
            "io_uring does its work without system calls: neither a recording nor a profile sees what is done through it".to_owned(),
            Some("switch io_uring off in the application where it can be"),
        );
    }

    let unnamed: Vec<&String> = report
        .syscalls
        .keys()
        .filter(|name| syscall::info(name).is_none())
        .collect();
    if !unnamed.is_empty() {
        find(
            "SC0012",
            Severity::Warning,
            format!(
                "names that this version does not know were recorded, by a newer one perhaps, and are allowed: {}",
                list(&unnamed)
            ),
            Some("a runtime ignores a name that its libseccomp does not know"),
        );
    }

    let late = inputs
        .last()
        .filter(|last| last.started_late_ns.is_some())
        .count();
    if late > 0 && late < recordings {
        find(
            "SC0013",
            Severity::Info,
            format!(
                "{late} of {recordings} recordings began after their target's start; the start is taken from the others"
            ),
            None,
        );
    }
    findings
}

/// At most 20, then how many more.
fn list<T: AsRef<str>>(names: &[T]) -> String {
    let shown: Vec<&str> = names.iter().take(20).map(AsRef::as_ref).collect();
    let more = names.len() - shown.len();
    if more == 0 {
        shown.join(", ")
    } else {
        format!("{} and {more} more", shown.join(", "))
    }
}
