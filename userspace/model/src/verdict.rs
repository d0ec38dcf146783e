//! Did it run under its profile? What a run showed, held against the profile.
//!
//! What a filter denied is known from the kernel ([`Denial`]: an exit without an enter, semantics 3.2). What a filter let happen and
//! the profile would deny (a complain profile, or none at all) is known from the calls themselves, exactly by name; rules
//! on arguments are judged as far as the arguments were recorded ([`crate::arguments`]).

mod blame;

use crate::arch::Arch;
use crate::arguments;
use crate::denial::{Denial, Denier};
use crate::evidence::{self, Doubt, Statement};
use crate::given::Given;
use crate::observation::{Arguments, Caller, Observation, Phase, Sighting, UnknownNr};
use crate::profile::{Action, Call, Condition, Effect, Op, Profile, Rule, decide, precedence};
use crate::syscall;
use std::collections::{BTreeMap, BTreeSet};

pub use blame::Blame;

/// What a run under a profile showed.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Calls that the profile denies; each fails the run.
    pub findings: Vec<Finding>,
    /// Calls of the container runtime that were denied, and the container started all the same.
    pub tolerated: Vec<Finding>,
    /// Calls that another filter denied and the profile allows: the application's own, an outer one, or whoever they asked.
    pub by_others: Vec<Finding>,
    /// Calls whose arguments were not recorded well enough to say whether the profile allows them.
    pub unjudged: BTreeSet<String>,
    /// Ways in which a call may have been missed: with one, nothing is proven.
    pub losses: BTreeMap<String, u64>,
    /// The application executed something.
    pub started: bool,
    /// Calls that were under way when the watching began: at most one a thread, and whether they were denied is not known.
    pub under_way: u64,
    /// Why a run without findings does not prove that nothing was denied.
    pub doubts: Vec<Doubt>,
}

/// What a run says of its profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was denied, and that is proven.
    Pass,
    /// Something was denied, whatever else is not known.
    Fail,
    /// Nothing was seen to be denied, and that it was not is not proven.
    Inconclusive,
}

impl Outcome {
    /// The word for machines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
        }
    }

    /// Of several runs: one that failed fails all, and all have to be proven. Of none nothing is proven.
    #[must_use]
    pub fn of_all(outcomes: impl IntoIterator<Item = Self>) -> Self {
        let outcomes: Vec<_> = outcomes.into_iter().collect();
        if outcomes.contains(&Self::Fail) {
            Self::Fail
        } else if outcomes.is_empty() || outcomes.contains(&Self::Inconclusive) {
            Self::Inconclusive
        } else {
            Self::Pass
        }
    }
}

/// A call that the profile denies.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The ABI.
    pub arch: Arch,
    /// The part of the target's life.
    pub phase: Phase,
    /// Its number.
    pub nr: i64,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// What happened.
    pub how: How,
    /// Who made it: all, or the first.
    pub processes: Vec<Denier>,
    /// Its arguments, some.
    pub samples: Vec<[u64; 6]>,
    /// Whose denial it is.
    pub blame: Blame,
}

/// What happened to a call that the profile denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// A filter denied it.
    Denied {
        /// What it returned: a negative errno, or its own number where the caller was killed or got SIGSYS.
        result: i64,
        /// How often; exact.
        count: u64,
        /// Of these, by processes that are not listed.
        others: u64,
    },
    /// It happened, and the profile would do this with it.
    WouldBe(Action),
}

impl Verdict {
    /// Of a run under `profile`, or beside it. `started`: the application executed something; else what the runtime was denied
    /// is why it did not.
    #[must_use]
    pub fn new(
        profile: &Profile,
        observation: &Observation,
        denials: &[Denial],
        started: bool,
    ) -> Self {
        let mut findings = Vec::new();
        let mut tolerated = Vec::new();
        let mut by_others = Vec::new();
        for denial in denials {
            let blame = Blame::of(profile, observation.machine.arch, denial);
            let mut finding = Finding::denied(denial, blame);
            if !started && finding.phase == Phase::Entered {
                finding.phase = Phase::Runtime;
            }
            if finding.blame == Blame::ByAnotherFilter {
                by_others.push(finding);
                continue;
            }
            // Hooks run before the filter.
            if started && matches!(denial.phase, Phase::Runtime | Phase::Hook) {
                tolerated.push(finding);
            } else {
                findings.push(finding);
            }
        }
        let mut unjudged = BTreeSet::new();
        for (arch, phase, name, sighting) in seen(observation) {
            // Of a line that executed nothing: before anything has started it is the runtime's, most of it before the filter.
            if !started && phase == Phase::Entered {
                continue;
            }
            let Some(nr) = syscall::nr(arch, name) else {
                continue;
            };
            // Whatever the profile says, no filter is asked.
            if observation.machine.is_unfiltered(arch, name) {
                continue;
            }
            let native = observation.machine.arch;
            let action = match profile.effect(name) {
                Effect::ByArguments { rules, otherwise } if profile.covers(native, arch) => {
                    let arguments = sighting.arguments.as_ref();
                    let judged = judge(&rules, otherwise, name, arguments);
                    let Some(action) = judged else {
                        unjudged.insert(name.to_owned());
                        continue;
                    };
                    action
                }
                _ => {
                    let args = [0; 6];
                    decide(profile, native, &Call { arch, nr, args })
                }
            };
            if action != Action::Allow {
                findings.push(Finding {
                    arch,
                    phase,
                    nr: i64::from(nr),
                    name: Some(name.to_owned()),
                    how: How::WouldBe(action),
                    processes: sighting.caller.iter().map(first_caller).collect(),
                    samples: Vec::new(),
                    blame: Blame::ByProfile,
                });
            }
        }
        let numbers = observation.unknown.iter();
        findings
            .extend(numbers.filter_map(|number| by_number(profile, observation, number, started)));
        findings.sort_by_key(Finding::order);
        tolerated.sort_by_key(Finding::order);
        by_others.sort_by_key(Finding::order);
        let mut doubts = evidence::doubts(observation, Statement::Passed);
        // Under the profile itself the kernel has judged them.
        let given = observation
            .evidence
            .as_ref()
            .and_then(|it| it.given.as_ref());
        if !unjudged.is_empty() && given != Some(&Given::Profile) {
            doubts.push(Doubt::Unjudged(unjudged.clone()));
        }
        // The application's own filter may deny what it likes; another one that is there may hide what the profile would do.
        if !by_others.is_empty() && !observation.own_filter {
            doubts.push(Doubt::OtherFilter(
                by_others.iter().map(Finding::shown).collect(),
            ));
        }
        if !started && !doubts.contains(&Doubt::NotStarted) {
            doubts.push(Doubt::NotStarted);
        }
        Self {
            findings,
            tolerated,
            by_others,
            unjudged,
            losses: observation.losses.clone(),
            started,
            under_way: 0,
            doubts,
        }
    }

    /// What it says.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        if !self.findings.is_empty() {
            Outcome::Fail
        } else if !self.doubts.is_empty() || !self.started || !self.losses.is_empty() {
            Outcome::Inconclusive
        } else {
            Outcome::Pass
        }
    }

    /// It ran, nothing was denied, and both are proven.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.outcome() == Outcome::Pass
    }
}

impl Finding {
    /// Of calls that a filter denied.
    #[must_use]
    pub fn denied(denial: &Denial, blame: Blame) -> Self {
        Self {
            arch: denial.arch,
            phase: denial.phase,
            nr: denial.nr,
            name: denial.name.clone(),
            how: How::Denied {
                result: denial.result,
                count: denial.count,
                others: denial.others,
            },
            processes: denial.processes.clone(),
            samples: denial.samples.clone(),
            blame,
        }
    }

    /// The name, or the number.
    #[must_use]
    pub fn shown(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.nr.to_string())
    }

    fn order(&self) -> impl Ord + use<> {
        let result = match self.how {
            How::Denied { result, .. } => Some(result),
            How::WouldBe(_) => None,
        };
        (self.arch, self.phase, self.name.clone(), self.nr, result)
    }
}

/// A call by a number without a name that happened, and that the profile denies. No rule names it, so its arguments do not matter.
fn by_number(
    profile: &Profile,
    observation: &Observation,
    number: &UnknownNr,
    started: bool,
) -> Option<Finding> {
    let counts = match number.phase {
        Phase::App | Phase::Exec => true,
        Phase::Entered => started,
        Phase::Runtime | Phase::Hook => false,
    };
    let call = Call {
        arch: number.arch,
        nr: blame::number(number.nr),
        args: [0; 6],
    };
    let action = decide(profile, observation.machine.arch, &call);
    (counts && action != Action::Allow).then(|| Finding {
        arch: number.arch,
        phase: number.phase,
        nr: number.nr,
        name: None,
        how: How::WouldBe(action),
        processes: number.first.caller.iter().map(first_caller).collect(),
        samples: Vec::new(),
        blame: Blame::ByProfile,
    })
}

/// The calls that happened and belong into a profile.
fn seen(observation: &Observation) -> impl Iterator<Item = (Arch, Phase, &str, &Sighting)> {
    let by_phase = observation
        .calls
        .iter()
        .filter(|((_, phase), _)| matches!(phase, Phase::App | Phase::Exec | Phase::Entered))
        .flat_map(|((arch, phase), names)| names.iter().map(move |call| (*arch, *phase, call)));
    let blocked = observation
        .blocked_at_attach
        .iter()
        .flat_map(|(arch, names)| names.iter().map(move |call| (*arch, Phase::App, call)));
    by_phase
        .chain(blocked)
        .map(|(arch, phase, (name, sighting))| (arch, phase, name.as_str(), sighting))
}

/// Who is known to have made it; how often is not.
fn first_caller(caller: &Caller) -> Denier {
    Denier {
        pid: caller.pid,
        comm: caller.comm.clone(),
        exe: caller.exe.clone(),
        count: 1,
    }
}

/// What the profile does with a call that was recorded; of several values the worst. `None`: not enough was recorded.
fn judge(
    rules: &BTreeSet<(BTreeSet<Condition>, Action)>,
    otherwise: Action,
    name: &str,
    recorded: Option<&Arguments>,
) -> Option<Action> {
    let recorded = recorded.filter(|recorded| !recorded.values.is_empty())?;
    let known = arguments::of(name);
    let mut sorted: Vec<_> = rules.iter().collect();
    sorted.sort_by(|(one, _), (other, _)| precedence(one, other));
    let mut worst = Action::Allow;
    for values in &recorded.values {
        let value_of = |index: u8| {
            let of = u32::from(index);
            let at = recorded.indices.iter().position(|index| *index == of)?;
            let (_, mask) = known.iter().find(|(index, _)| *index == of)?;
            Some((*values.get(at)?, *mask))
        };
        let mut possible = BTreeSet::new();
        let mut action = otherwise;
        for (conditions, of_rule) in &sorted {
            let mut fits = Some(true);
            for condition in conditions {
                match holds(condition, value_of(condition.index)) {
                    Some(true) => {}
                    Some(false) => {
                        fits = Some(false);
                        break;
                    }
                    None => fits = None,
                }
            }
            match fits {
                Some(true) => {
                    action = *of_rule;
                    break;
                }
                Some(false) => {}
                None => {
                    possible.insert(*of_rule);
                }
            }
        }
        if possible.iter().any(|other| *other != action) {
            return None;
        }
        worst = worst.min(action);
    }
    // What was not kept may be denied: only that a kept one is denied is certain.
    (!recorded.overflow || worst != Action::Allow).then_some(worst)
}

/// Does a condition hold of a value, of which the bits of `mask` were kept? The kernel reads 32 bits of these arguments: the
/// upper half is taken for zero.
fn holds(condition: &Condition, value: Option<(u32, u32)>) -> Option<bool> {
    let (value, mask) = value.map(|(value, mask)| (u64::from(value), u64::from(mask)))?;
    let whole = mask == u64::from(u32::MAX);
    let Condition {
        value: of,
        value_two,
        ..
    } = *condition;
    let decided = |holds| whole.then_some(holds);
    match condition.op {
        Op::MaskedEq if (value ^ value_two) & of & mask != 0 => Some(false),
        Op::MaskedEq if of & !mask & u64::from(u32::MAX) == 0 => Some(value & of == value_two),
        Op::MaskedEq => None,
        Op::Eq => decided(value == of),
        Op::Ne => decided(value != of),
        Op::Lt => decided(value < of),
        Op::Le => decided(value <= of),
        Op::Ge => decided(value >= of),
        Op::Gt => decided(value > of),
    }
}

/// The profile with the least that makes it allow the findings: a value where it has values for that call and the arguments are
/// known, else the name; and the architecture, of a machine whose own is `native`. `None` where that changes nothing.
#[must_use]
pub fn patched<'a>(
    profile: &Profile,
    native: Arch,
    findings: impl IntoIterator<Item = &'a Finding>,
) -> Option<Profile> {
    let mut patched = profile.clone();
    let mut names = BTreeSet::new();
    for finding in findings {
        let Some(name) = &finding.name else { continue };
        if !profile.covers(native, finding.arch) {
            patched.architectures.insert(finding.arch.into());
            patched.architectures.insert(native.into());
        }
        match profile.effect(name) {
            Effect::Always(Action::Allow) => {}
            Effect::ByArguments { rules, .. } => match values(&rules, &finding.samples) {
                Some(wanted) => patched
                    .rules
                    .extend(wanted.into_iter().map(|conditions| Rule {
                        names: [name.clone()].into(),
                        action: Action::Allow,
                        conditions,
                    })),
                None => {
                    names.insert(name.clone());
                }
            },
            Effect::Always(_) => {
                names.insert(name.clone());
            }
        }
    }
    // The first bare rule for a name counts, so those that are in the way go.
    for rule in &mut patched.rules {
        if rule.action != Action::Allow || !rule.conditions.is_empty() {
            rule.names.retain(|name| !names.contains(name));
        }
    }
    patched.rules.retain(|rule| !rule.names.is_empty());
    let bare = patched
        .rules
        .iter_mut()
        .find(|rule| rule.action == Action::Allow && rule.conditions.is_empty());
    match bare {
        Some(rule) => rule.names.extend(names),
        None if names.is_empty() => {}
        None => patched.rules.push(Rule {
            names,
            action: Action::Allow,
            conditions: Vec::new(),
        }),
    }
    (patched != *profile).then_some(patched)
}

/// The conditions that let these samples in, in the form of the rules that are there: `None` where those are not all tests of
/// the same arguments for values, or nothing is known of the arguments.
fn values(
    rules: &BTreeSet<(BTreeSet<Condition>, Action)>,
    samples: &[[u64; 6]],
) -> Option<BTreeSet<Vec<Condition>>> {
    let form = |condition: &Condition| match condition.op {
        Op::MaskedEq => Some((condition.index, condition.value)),
        // As 64 bits, so that the patch holds for what was seen and no more.
        Op::Eq => Some((condition.index, u64::from(u32::MAX))),
        _ => None,
    };
    let mut forms = BTreeSet::new();
    for (conditions, action) in rules {
        if *action != Action::Allow {
            return None;
        }
        forms.insert(
            conditions
                .iter()
                .map(form)
                .collect::<Option<BTreeSet<_>>>()?,
        );
    }
    let form = forms.pop_first().filter(|_| forms.is_empty())?;
    if samples.is_empty() {
        return None;
    }
    let of_sample = |sample: &[u64; 6]| {
        let condition = |(index, mask): &(u8, u64)| Condition {
            index: *index,
            op: Op::MaskedEq,
            value: *mask,
            value_two: sample.get(usize::from(*index)).copied().unwrap_or_default() & mask,
        };
        form.iter().map(condition).collect()
    };
    Some(samples.iter().map(of_sample).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::tests::app;
    use crate::profile::ENOSYS;

    fn allowing(names: &[&str]) -> Profile {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Profile::allowing(names, [Arch::X86_64.into()].into())
    }

    fn denial(name: &str, phase: Phase, result: i64) -> Denial {
        Denial {
            arch: Arch::X86_64,
            phase,
            nr: syscall::nr(Arch::X86_64, name).unwrap().into(),
            name: Some(name.to_owned()),
            result,
            count: 23,
            processes: Vec::new(),
            others: 0,
            samples: vec![[1, 2, 3, 4, 5, 6]],
        }
    }

    fn found(verdict: &Verdict) -> Vec<(String, How)> {
        let findings = verdict.findings.iter();
        findings
            .map(|finding| (finding.shown(), finding.how))
            .collect()
    }

    fn condition(index: u8, op: Op, value: u64, value_two: u64) -> Condition {
        Condition {
            index,
            op,
            value,
            value_two,
        }
    }

    fn with_rule(mut profile: Profile, name: &str, conditions: &[Condition]) -> Profile {
        profile.rules.push(Rule {
            names: [name.to_owned()].into(),
            action: Action::Allow,
            conditions: conditions.to_vec(),
        });
        profile
    }

    #[test]
    fn what_is_allowed_passes() {
        let verdict = Verdict::new(&allowing(&["read"]), &app(1, &["read"]), &[], true);
        assert!(verdict.passed() && verdict.findings.is_empty());
        let lossy = Observation {
            losses: [("no_phase".to_owned(), 1)].into(),
            ..app(1, &["read"])
        };
        assert!(!Verdict::new(&allowing(&["read"]), &lossy, &[], true).passed());
        assert!(!Verdict::new(&allowing(&["read"]), &app(1, &["read"]), &[], false).passed());
    }

    #[test]
    fn what_happened_is_held_against_the_profile() {
        let complain = allowing(&["read"]).complaining();
        let seen = app(1, &["read", "write"]);
        let log = How::WouldBe(Action::Log);
        let verdict = Verdict::new(&complain, &seen, &[], true);
        assert_eq!(found(&verdict), [("write".to_owned(), log)]);
        assert_eq!(verdict.findings[0].processes[0].comm, "app");
        let patched = patched(&complain, Arch::X86_64, &verdict.findings).unwrap();
        assert_eq!(patched, allowing(&["read", "write"]).complaining());
    }

    #[test]
    fn a_denial_names_the_smallest_change() {
        let profile = allowing(&["read"]);
        let denials = [denial("getppid", Phase::App, -38)];
        let verdict = Verdict::new(&profile, &app(1, &["read"]), &denials, true);
        let how = How::Denied {
            result: -38,
            count: 23,
            others: 0,
        };
        assert_eq!(found(&verdict), [("getppid".to_owned(), how)]);
        let patched = patched(&profile, Arch::X86_64, &verdict.findings).unwrap();
        assert_eq!(patched, allowing(&["getppid", "read"]));
    }

    #[test]
    fn a_rule_that_denies_goes_when_its_call_is_needed() {
        let mut profile = allowing(&["read"]);
        profile.rules.insert(
            0,
            Rule {
                names: ["getppid".to_owned()].into(),
                action: Action::KillProcess,
                conditions: Vec::new(),
            },
        );
        let denials = [denial("getppid", Phase::App, 110)];
        let verdict = Verdict::new(&profile, &app(1, &["read"]), &denials, true);
        let patched = patched(&profile, Arch::X86_64, &verdict.findings).unwrap();
        assert_eq!(patched, allowing(&["getppid", "read"]));
    }

    #[test]
    fn where_there_are_values_a_value_is_added() {
        let one = condition(1, Op::MaskedEq, 0xffff_ffff, 9);
        let profile = with_rule(allowing(&["read"]), "fcntl", &[one]);
        let denials = [denial("fcntl", Phase::App, -38)];
        let verdict = Verdict::new(&profile, &app(1, &["read"]), &denials, true);
        let patched = patched(&profile, Arch::X86_64, &verdict.findings).unwrap();
        let two = condition(1, Op::MaskedEq, 0xffff_ffff, 2);
        assert_eq!(patched, with_rule(profile, "fcntl", &[two]));
    }

    #[test]
    fn the_runtimes_own_denials_matter_where_it_did_not_start() {
        let profile = allowing(&["read"]);
        let denials = [denial("fstatfs", Phase::Runtime, -38)];
        let started = Verdict::new(&profile, &app(1, &["read"]), &denials, true);
        assert!(started.passed() && started.tolerated.len() == 1);
        let not = Verdict::new(&profile, &app(1, &[]), &denials, false);
        assert_eq!(not.findings.len(), 1);
    }

    #[test]
    fn a_call_by_an_unlisted_abi_would_be_killed() {
        let mut seen = app(1, &["read"]);
        let names = seen.calls[&(Arch::X86_64, Phase::App)].clone();
        seen.calls.insert((Arch::X86, Phase::App), names);
        let profile = allowing(&["read"]);
        let verdict = Verdict::new(&profile, &seen, &[], true);
        let how = How::WouldBe(Action::KillThread);
        assert_eq!(found(&verdict), [("read".to_owned(), how)]);
        let patched = patched(&profile, Arch::X86_64, &verdict.findings).unwrap();
        assert!(patched.architectures.contains(&Arch::X86.into()));
    }

    /// As podman's default has it: one value denied, all but another allowed.
    #[test]
    fn a_denial_before_an_allowance_is_found() {
        let mut profile = with_rule(
            allowing(&["read"]),
            "socket",
            &[condition(0, Op::Ne, 16, 0)],
        );
        profile.rules.push(Rule {
            names: ["socket".to_owned()].into(),
            action: Action::Errno(22),
            conditions: vec![condition(0, Op::Eq, 40, 0)],
        });
        let judged = |domain: u32| {
            let mut seen = app(1, &["socket"]);
            let names = seen.calls.get_mut(&(Arch::X86_64, Phase::App)).unwrap();
            names.get_mut("socket").unwrap().arguments = Some(Arguments {
                indices: vec![0, 1],
                values: [vec![domain, 1]].into(),
                ..Arguments::default()
            });
            let verdict = Verdict::new(&profile, &seen, &[], true);
            verdict.findings.first().map(|finding| finding.how)
        };
        assert_eq!(judged(2), None);
        assert_eq!(judged(40), Some(How::WouldBe(Action::Errno(22))));
        assert_eq!(judged(16), Some(How::WouldBe(Action::Errno(ENOSYS))));
    }

    /// The answer of one rule on `fcntl`, or on `clone`, of which only namespace flags are kept.
    #[test]
    fn arguments_are_judged_as_far_as_they_were_recorded() {
        let with = |name: &str, index: u32, value: u32| {
            let mut seen = app(1, &[name]);
            let names = seen.calls.get_mut(&(Arch::X86_64, Phase::App)).unwrap();
            names.get_mut(name).unwrap().arguments = Some(Arguments {
                indices: vec![index],
                values: [vec![value]].into(),
                ..Arguments::default()
            });
            seen
        };
        let low = u64::from(u32::MAX);
        let cases = [
            ("fcntl", 1, 3, condition(1, Op::Eq, 3, 0), Some(true)),
            ("fcntl", 1, 4, condition(1, Op::Eq, 3, 0), Some(false)),
            (
                "fcntl",
                1,
                3,
                condition(1, Op::MaskedEq, low, 3),
                Some(true),
            ),
            ("fcntl", 1, 3, condition(1, Op::Ne, 3, 0), Some(false)),
            ("fcntl", 1, 3, condition(1, Op::Lt, 4, 0), Some(true)),
            ("fcntl", 1, 3, condition(2, Op::Eq, 3, 0), None),
            (
                "clone",
                0,
                0,
                condition(0, Op::MaskedEq, 0x7e02_0000, 0),
                Some(true),
            ),
            (
                "clone",
                0,
                0x1000_0000,
                condition(0, Op::MaskedEq, 0x7e02_0000, 0),
                Some(false),
            ),
            ("clone", 0, 0, condition(0, Op::MaskedEq, low, 17), None),
            ("clone", 0, 0, condition(0, Op::Eq, 17, 0), None),
        ];
        for (name, index, value, condition, expected) in cases {
            let profile = with_rule(allowing(&["read"]), name, &[condition]);
            let verdict = Verdict::new(&profile, &with(name, index, value), &[], true);
            let judged = verdict
                .unjudged
                .is_empty()
                .then_some(verdict.findings.is_empty());
            assert_eq!(judged, expected, "{name} {value:#x} {condition:?}");
        }
    }

    #[test]
    fn a_call_that_passes_every_filter_is_not_denied() {
        let on = |kernel: &str, arch| {
            let mut observation = app(1, &["read"]);
            observation.machine.kernel = kernel.to_owned();
            let calls = observation.calls.entry((arch, Phase::App)).or_default();
            calls.insert("uretprobe".to_owned(), Sighting::default());
            let mut profile = allowing(&["read"]);
            profile.architectures.insert(Arch::X32.into());
            Verdict::new(&profile, &observation, &[], true).passed()
        };
        assert!(on("6.14.0-rc1", Arch::X86_64));
        assert!(on("7.2.1-generic", Arch::X86_64));
        assert!(!on("6.13.9", Arch::X86_64));
        assert!(!on("unknown", Arch::X86_64));
        assert!(!on("6.14.0", Arch::X32));
    }

    /// With KILL for the default, the profile that complains would end the program.
    #[test]
    fn numbers_without_a_name_are_judged() {
        let mut seen = app(1, &["read"]);
        let number = |arch, phase, nr| UnknownNr {
            arch,
            phase,
            nr,
            count: Some(3),
            first: Sighting::default(),
        };
        seen.unknown = vec![
            number(Arch::X86_64, Phase::App, 5000),
            number(Arch::X86_64, Phase::App, -1),
            number(Arch::X86_64, Phase::Exec, 900),
            number(Arch::X86, Phase::App, 5000),
            number(Arch::X86_64, Phase::Runtime, 5001),
            number(Arch::X86_64, Phase::Entered, 5002),
        ];
        let kill = Profile {
            default_action: Action::KillProcess,
            ..allowing(&["read"])
        };
        let judged = |profile: &Profile, started| {
            let verdict = Verdict::new(profile, &seen, &[], started);
            assert!(!verdict.passed());
            found(&verdict)
        };
        let would = |nr: i64, action| (nr.to_string(), How::WouldBe(action));
        let cases = [
            (kill.clone().complaining(), Action::Log),
            (kill.clone(), Action::KillProcess),
            (allowing(&["read"]), Action::Errno(ENOSYS)),
        ];
        for (profile, action) in cases {
            let i386 = decide(
                &profile,
                Arch::X86_64,
                &Call {
                    arch: Arch::X86,
                    nr: 5000,
                    args: [0; 6],
                },
            );
            let mut expect = vec![would(-1, action), would(5000, action)];
            expect.push(would(900, action));
            expect.push(would(5002, action));
            expect.push(would(5000, i386));
            assert_eq!(judged(&profile, true), expect);
            expect.retain(|(nr, _)| nr != "5002");
            assert_eq!(judged(&profile, false), expect);
        }
        let lenient = Profile {
            default_action: Action::Allow,
            architectures: [Arch::X86.into()].into(),
            ..allowing(&[])
        };
        assert!(Verdict::new(&lenient, &seen, &[], true).passed());
    }

    #[test]
    fn a_denial_says_whose_it_is() {
        let profile = allowing(&["mseal", "read"]);
        let denials = [
            denial("getppid", Phase::App, -38),
            denial("mseal", Phase::App, -38),
            denial("read", Phase::App, -1),
        ];
        let verdict = Verdict::new(&profile, &app(1, &["read"]), &denials, true);
        assert!(!verdict.passed());
        let blames: Vec<Blame> = verdict
            .findings
            .iter()
            .map(|finding| finding.blame)
            .collect();
        let unknown = Blame::UnknownToLibseccomp { since: "2.6.0" };
        assert_eq!(blames, [Blame::ByProfile, unknown]);
        assert_eq!(verdict.by_others[0].shown(), "read");

        // The application's own filter may deny what it likes, and nobody knows what an outer one hides.
        let denied = [denial("read", Phase::App, -1)];
        for (own_filter, outcome) in [(true, Outcome::Pass), (false, Outcome::Inconclusive)] {
            let seen = Observation {
                own_filter,
                ..app(1, &["read"])
            };
            let verdict = Verdict::new(&profile, &seen, &denied, true);
            assert_eq!((verdict.outcome(), verdict.by_others.len()), (outcome, 1));
        }
    }
}
