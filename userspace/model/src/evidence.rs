//! What must be known of a run before its recording may be called complete, or a verdict on it PASS.
//!
//! Whoever watches fills in [`Evidence`], and nobody but [`doubts`] judges it: "we saw no denial" is not "we saw that there was
//! none".

use crate::given::Given;
use crate::observation::{EnteredAs, Observation, Phase};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What is known of a run, with its numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Evidence {
    /// What the runtime, or seccast itself, executed as the application, in order; at most four are kept apart.
    pub starts: Vec<Start>,
    /// Names and numbers that the application called, tried, or was blocked in.
    pub calls: u64,
    /// Programs that processes executed which had entered after the start: `exec`, probes.
    pub execs: u64,
    /// Of these, programs that did not begin under exactly one filter more than their parent.
    pub execs_unlike: u64,
    /// Processes that ran already when the watching began.
    pub present: u64,
    /// Of these, processes that did not run under exactly one filter more than what they were started by.
    pub present_unlike: u64,
    /// Processes that came in from outside and counted as the application at once; nobody knows under which filter they began.
    pub joined: u64,
    /// Processes of the application that went on in the cgroup of another recording, where their later calls are.
    pub left: u64,
    /// Processes that still ran at the end.
    pub running: BTreeSet<Running>,
    /// What ended it.
    pub end: End,
    /// How often the container was started while it was watched; 0 where it ran already, and of what is no container.
    pub lives: u64,
    /// Lives that its engine told of and that were not watched.
    pub lives_missed: u64,
    /// Containers that CMD started and that were not watched, each with the reason and the command that records it.
    pub unwatched: BTreeSet<String>,
    /// Classes of calls that were not seen.
    pub hidden: BTreeSet<Hidden>,
    /// Was the target given the profile of the verdict? `None` of a recording, which needs no filter.
    pub given: Option<Given>,
}

/// A program that was executed, with the filters on its process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Start {
    /// Filters on it (`Seccomp_filters` of proc_pid_status(5)).
    pub filters: u64,
    /// Filters on its parent: what it inherited.
    pub inherited: u64,
}

/// A process that still ran at the end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Running {
    /// Its id, in the recorder's pid namespace.
    pub pid: u32,
    /// Its name.
    pub comm: String,
}

/// What ended the watching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The target's own end.
    #[default]
    Target,
    /// The user: a time limit, `--until`, or a signal.
    User,
}

impl End {
    /// The word in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::User => "user",
        }
    }

    /// The inverse of [`End::name`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Target, Self::User]
            .into_iter()
            .find(|end| end.name() == name)
    }
}

/// A class of calls that a witness cannot see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hidden {
    /// The application's own filter hands calls to a listener or a tracer: what they answer has no entry.
    OwnFilter,
}

impl Hidden {
    /// The word in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OwnFilter => "own_filter",
        }
    }

    /// The inverse of [`Hidden::name`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(Self::OwnFilter).filter(|hidden| hidden.name() == name)
    }
}

/// What is stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    /// A recording has every call of its target.
    Complete,
    /// Nothing of the target was denied by the profile.
    Passed,
}

/// Why something may not be stated.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Doubt {
    /// The observation has no evidence.
    NoEvidence {
        /// The seccast that made it.
        tool_version: String,
    },
    /// Nothing was executed while it was watched, and nothing ran before.
    NotStarted,
    /// The application made no call while it was watched.
    NoCalls,
    /// The target was not given the profile.
    NotGiven(String),
    /// It is not known what it was given.
    GivenUnknown(String),
    /// A program began under another number of filters than what its parent had and one.
    NotInForce(Start),
    /// The same of processes that ran when the watching began.
    PresentUnlike(u64),
    /// The same of programs that entered later.
    ExecsUnlike(u64),
    /// Processes came in from outside.
    Joined(u64),
    /// The recording began after the target.
    Late {
        /// How long after.
        nanoseconds: u64,
    },
    /// Calls may have been missed.
    Losses(BTreeMap<String, u64>),
    /// Processes entered without an exec, and nobody said what they are.
    Undecided(u64),
    /// Processes went on elsewhere.
    Left(u64),
    /// The target ended and left processes running.
    Running(BTreeSet<Running>),
    /// Lives of the container that were not watched.
    LivesMissed {
        /// How many.
        missed: u64,
        /// And how many were.
        watched: u64,
    },
    /// A container that CMD started was not watched.
    Unwatched(String),
    /// Calls that could not be seen.
    Hidden(Hidden),
    /// Calls whose arguments were not recorded well enough.
    Unjudged(BTreeSet<String>),
    /// Calls that the profile allows were denied by a filter that is not the application's own.
    OtherFilter(BTreeSet<String>),
}

/// Why `statement` may not be made of this run; nothing where it is proven.
#[must_use]
pub fn doubts(observation: &Observation, statement: Statement) -> Vec<Doubt> {
    let passed = statement == Statement::Passed;
    let mut doubts = Vec::new();
    if !observation.losses.is_empty() {
        doubts.push(Doubt::Losses(observation.losses.clone()));
    }
    if !passed && let Some(nanoseconds) = observation.started_late_ns {
        doubts.push(Doubt::Late { nanoseconds });
    }
    let entered = observation
        .entered_count
        .max(observation.entered.len() as u64);
    // Whom the user calls the runtime, or the application, is judged as such.
    if entered > 0 && (observation.entered_as.is_none() || passed && runtime(observation)) {
        doubts.push(Doubt::Undecided(entered));
    }
    let Some(evidence) = &observation.evidence else {
        let tool_version = observation.tool_version.clone();
        doubts.push(Doubt::NoEvidence { tool_version });
        return doubts;
    };
    let came = entered > 0 && observation.entered_as == Some(EnteredAs::App);
    if evidence.starts.is_empty() && evidence.present == 0 && evidence.joined == 0 && !came {
        doubts.push(Doubt::NotStarted);
    } else if evidence.calls == 0 {
        doubts.push(Doubt::NoCalls);
    }
    if passed {
        doubts.extend(filter(evidence));
    }
    if evidence.left > 0 {
        doubts.push(Doubt::Left(evidence.left));
    }
    if evidence.end == End::Target && !evidence.running.is_empty() {
        doubts.push(Doubt::Running(evidence.running.clone()));
    }
    if evidence.lives_missed > 0 {
        doubts.push(Doubt::LivesMissed {
            missed: evidence.lives_missed,
            watched: evidence.lives,
        });
    }
    doubts.extend(evidence.unwatched.iter().cloned().map(Doubt::Unwatched));
    doubts.extend(evidence.hidden.iter().copied().map(Doubt::Hidden));
    doubts
}

impl Evidence {
    /// Counts the calls of the application in `observation`.
    pub fn count_calls(&mut self, observation: &Observation) {
        let own = |phase: &Phase| matches!(phase, Phase::App | Phase::Exec | Phase::Entered);
        let named = observation.calls.iter().chain(&observation.denied);
        let named = named.filter(|((_, phase), _)| own(phase));
        let unknown = observation.unknown.iter();
        let unknown = unknown.filter(|unknown| own(&unknown.phase));
        self.calls = named
            .map(|(_, names)| names.len())
            .chain(observation.blocked_at_attach.values().map(BTreeMap::len))
            .chain([unknown.count()])
            .map(|count| count as u64)
            .sum();
    }

    /// The application still ran when the user ended the watching: its end was not seen.
    #[must_use]
    pub fn without_its_end(&self) -> bool {
        self.end == End::User && !self.running.is_empty()
    }
}

/// Was the profile in force, as far as the target's filters tell?
fn filter(evidence: &Evidence) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    match &evidence.given {
        Some(Given::Profile) => {}
        Some(Given::Unknown(why)) => doubts.push(Doubt::GivenUnknown(why.clone())),
        Some(other) => doubts.push(Doubt::NotGiven(other.reason().unwrap_or_default())),
        None => doubts.push(Doubt::GivenUnknown("nobody looked".to_owned())),
    }
    let unlike = |start: &&Start| start.filters != start.inherited + 1;
    doubts.extend(
        evidence
            .starts
            .iter()
            .find(unlike)
            .copied()
            .map(Doubt::NotInForce),
    );
    for (count, doubt) in [
        (
            evidence.present_unlike,
            Doubt::PresentUnlike as fn(u64) -> Doubt,
        ),
        (evidence.execs_unlike, Doubt::ExecsUnlike),
        (evidence.joined, Doubt::Joined),
    ] {
        if count > 0 {
            doubts.push(doubt(count));
        }
    }
    doubts
}

fn runtime(observation: &Observation) -> bool {
    observation.entered_as == Some(EnteredAs::Runtime)
}

impl Doubt {
    /// The word in files.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoEvidence { .. } => "no_evidence",
            Self::NotStarted => "not_started",
            Self::NoCalls => "no_calls",
            Self::NotGiven(_) => "not_given",
            Self::GivenUnknown(_) => "given_unknown",
            Self::NotInForce(_) | Self::PresentUnlike(_) | Self::ExecsUnlike(_) => "not_in_force",
            Self::Joined(_) => "joined",
            Self::Late { .. } => "started_late",
            Self::Losses(_) => "losses",
            Self::Undecided(_) => "undecided_entered",
            Self::Left(_) => "left",
            Self::Running(_) => "running",
            Self::LivesMissed { .. } => "lives_missed",
            Self::Unwatched(_) => "unwatched",
            Self::Hidden(hidden) => hidden.name(),
            Self::Unjudged(_) => "unjudged",
            Self::OtherFilter(_) => "other_filter",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NoEvidence { .. } => "record again with this version",
            Self::NotStarted => {
                "the runtime refused the profile, or failed for another reason: see its own message; if it ran, start the recording before it"
            }
            Self::NoCalls => "put load on it while it is watched",
            Self::NotGiven(_) => {
                "give the container the profile, without `privileged` and without another seccomp option, and verify again"
            }
            Self::GivenUnknown(_) => {
                "start it by seccast (`seccast verify --profile FILE -- docker run …`), or run as root on the machine of the container"
            }
            Self::NotInForce(_) | Self::PresentUnlike(_) | Self::ExecsUnlike(_) => {
                "see `Seccomp` and `Seccomp_filters` in /proc/PID/status; a privileged container and an exec by `docker exec --privileged` have no filter"
            }
            Self::Joined(_) => "start it in the target instead of moving it there",
            Self::Late { .. } => "start the recording before the target",
            Self::Losses(_) => {
                "record again on a machine that is less busy; docs/observation.md says what each one means"
            }
            Self::Undecided(_) => {
                "say what they are: `--entered app` or `--entered runtime`; for a verdict, start them inside the target"
            }
            Self::Left(_) => "record the other cgroup alone, or the one above both",
            Self::Running(_) => "run it in the foreground, or record its cgroup or container",
            Self::LivesMissed { .. } => {
                "record the container by its name with --all, or without a restart policy"
            }
            Self::Unwatched(_) => "record that container",
            Self::Hidden(Hidden::OwnFilter) => {
                "record the application with its own filter switched off, or allow by hand what its listener or tracer answers"
            }
            Self::OtherFilter(_) => {
                "give the container this profile alone, and run it where no filter is inherited (an outer container, LXC, a unit's SystemCallFilter)"
            }
            Self::Unjudged(_) => "run it under the profile itself, where the kernel judges",
        }
    }
}

fn list(names: &BTreeSet<String>) -> String {
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    names.join(", ")
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEvidence { tool_version } => write!(
                f,
                "the observation has no evidence: it was made by seccast {tool_version}"
            ),
            Self::NotStarted => write!(f, "the application did not start while it was watched"),
            Self::NoCalls => write!(f, "the application made no call while it was watched"),
            Self::NotGiven(what) => write!(f, "the profile was not in force: {what}"),
            Self::GivenUnknown(why) => {
                write!(
                    f,
                    "it is not known which filter the target was given: {why}"
                )
            }
            Self::NotInForce(Start { filters, inherited }) => match filters.checked_sub(*inherited)
            {
                None | Some(0) => write!(f, "the application began without a filter of its own"),
                Some(own) => write!(
                    f,
                    "the application began under {own} filters more than its parent had, not one"
                ),
            },
            Self::PresentUnlike(count) => write!(
                f,
                "{count} of the processes that ran already are not under exactly one filter of the container"
            ),
            Self::ExecsUnlike(count) => write!(
                f,
                "{count} programs that entered later did not begin under exactly one filter of the container"
            ),
            Self::Joined(count) => write!(
                f,
                "{count} processes were moved in from outside, and their filter is not known"
            ),
            Self::Late { nanoseconds } => write!(
                f,
                "the recording began {}.{:03} s after the target",
                nanoseconds / 1_000_000_000,
                nanoseconds / 1_000_000 % 1000
            ),
            Self::Losses(losses) => {
                let list: Vec<_> = losses
                    .iter()
                    .map(|(reason, count)| format!("{reason} {count}"))
                    .collect();
                write!(f, "calls may have been missed: {}", list.join(", "))
            }
            Self::Undecided(count) => {
                write!(f, "{count} processes entered and never executed a program")
            }
            Self::Left(count) => write!(
                f,
                "{count} processes went on in a cgroup that another recording has"
            ),
            Self::Running(running) => {
                let some: Vec<_> = running
                    .iter()
                    .take(8)
                    .map(|one| format!("{} ({})", one.comm.escape_debug(), one.pid))
                    .collect();
                let more = match running.len().saturating_sub(some.len()) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                write!(
                    f,
                    "the target ended and left {} processes running: {}{more}",
                    running.len(),
                    some.join(", ")
                )
            }
            Self::LivesMissed { missed, watched } => write!(
                f,
                "the container was started {} times, and {missed} of these lives were not watched",
                missed + watched
            ),
            Self::Unwatched(what) => write!(f, "a container was not watched: {what}"),
            Self::Hidden(Hidden::OwnFilter) => write!(
                f,
                "the application has a filter of its own that hands calls to a listener or a tracer: these calls were not seen"
            ),
            Self::Unjudged(names) => write!(
                f,
                "the profile looks at arguments that were not recorded: {}",
                list(names)
            ),
            Self::OtherFilter(names) => write!(
                f,
                "another filter denied what the profile allows: {}",
                list(names)
            ),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::arch::Arch;
    use crate::observation::{Backend, EnteredProcess, Machine};

    /// A container that was started under one filter, called something and ended.
    pub(crate) fn proven() -> Evidence {
        Evidence {
            starts: vec![Start {
                filters: 1,
                inherited: 0,
            }],
            calls: 3,
            lives: 1,
            given: Some(Given::Profile),
            ..Evidence::default()
        }
    }

    fn observation(evidence: Option<Evidence>) -> Observation {
        let machine = Machine {
            kernel: "6.12.0".to_owned(),
            arch: Arch::X86_64,
            libc: None,
            extra: BTreeMap::new(),
        };
        Observation {
            evidence,
            ..Observation::new("0".repeat(32), Backend::Ebpf, machine)
        }
    }

    /// Every fact alone: what it says against a complete recording, and against PASS.
    #[test]
    fn each_fact_is_held_against_what_it_disproves() {
        type Change = fn(&mut Observation, &mut Evidence);
        let cases: &[(&str, Change, &[&str], &[&str])] = &[
            ("nothing", |_, _| {}, &[], &[]),
            (
                "losses",
                |of, _| {
                    of.losses.insert("ring".to_owned(), 1);
                },
                &["losses"],
                &["losses"],
            ),
            (
                "late, and present processes stand for the execve",
                |of, it| {
                    of.started_late_ns = Some(1);
                    it.starts.clear();
                    it.present = 2;
                },
                &["started_late"],
                &[],
            ),
            (
                "a present process without its filter",
                |_, it| {
                    it.present = 2;
                    it.present_unlike = 1;
                },
                &[],
                &["not_in_force"],
            ),
            (
                "who entered is undecided",
                |of, _| of.entered_count = 1,
                &["undecided_entered"],
                &["undecided_entered"],
            ),
            (
                "who entered is named, and not counted",
                |of, _| of.entered.push(EnteredProcess::default()),
                &["undecided_entered"],
                &["undecided_entered"],
            ),
            (
                "who entered is the application",
                |of, _| {
                    of.entered_count = 1;
                    of.entered_as = Some(EnteredAs::App);
                },
                &[],
                &[],
            ),
            (
                "who entered is the runtime: that is what the user says, not what was seen",
                |of, _| {
                    of.entered_count = 1;
                    of.entered_as = Some(EnteredAs::Runtime);
                },
                &[],
                &["undecided_entered"],
            ),
            (
                "nothing was executed",
                |_, it| it.starts.clear(),
                &["not_started"],
                &["not_started"],
            ),
            (
                "nothing was called",
                |_, it| it.calls = 0,
                &["no_calls"],
                &["no_calls"],
            ),
            (
                "nobody looked at the filter",
                |_, it| it.given = None,
                &[],
                &["given_unknown"],
            ),
            (
                "another filter",
                |_, it| it.given = Some(Given::Other),
                &[],
                &["not_given"],
            ),
            (
                "an engine that does not tell",
                |_, it| it.given = Some(Given::Unknown("remote".to_owned())),
                &[],
                &["given_unknown"],
            ),
            (
                "no filter",
                |_, it| it.starts[0].filters = 0,
                &[],
                &["not_in_force"],
            ),
            (
                "the one filter is inherited",
                |_, it| it.starts[0].inherited = 1,
                &[],
                &["not_in_force"],
            ),
            (
                "an inherited filter and one of its own",
                |_, it| {
                    it.starts[0].filters = 2;
                    it.starts[0].inherited = 1;
                },
                &[],
                &[],
            ),
            (
                "two filters of its own",
                |_, it| it.starts[0].filters = 2,
                &[],
                &["not_in_force"],
            ),
            (
                "one of several starts has none",
                |_, it| it.starts.push(Start::default()),
                &[],
                &["not_in_force"],
            ),
            (
                "an exec without a filter",
                |_, it| {
                    it.execs = 2;
                    it.execs_unlike = 1;
                },
                &[],
                &["not_in_force"],
            ),
            (
                "moved in from outside",
                |_, it| it.joined = 1,
                &[],
                &["joined"],
            ),
            ("moved out", |_, it| it.left = 1, &["left"], &["left"]),
            (
                "left running by the target",
                |_, it| {
                    it.running.insert(Running {
                        pid: 7,
                        comm: "sh".to_owned(),
                    });
                },
                &["running"],
                &["running"],
            ),
            (
                "running where the user ended it",
                |_, it| {
                    it.end = End::User;
                    it.running.insert(Running {
                        pid: 7,
                        comm: "sh".to_owned(),
                    });
                },
                &[],
                &[],
            ),
            (
                "a life that was not watched",
                |_, it| it.lives_missed = 2,
                &["lives_missed"],
                &["lives_missed"],
            ),
            (
                "a container that was not watched",
                |_, it| {
                    it.unwatched.insert("docker: web".to_owned());
                },
                &["unwatched"],
                &["unwatched"],
            ),
            (
                "hidden calls",
                |_, it| {
                    it.hidden.insert(Hidden::OwnFilter);
                },
                &["own_filter"],
                &["own_filter"],
            ),
        ];
        for (what, change, complete, passed) in cases {
            let mut of = observation(None);
            let mut evidence = proven();
            change(&mut of, &mut evidence);
            of.evidence = Some(evidence);
            for (statement, expect) in
                [(Statement::Complete, complete), (Statement::Passed, passed)]
            {
                let found = doubts(&of, statement);
                let names: Vec<_> = found.iter().map(Doubt::name).collect();
                assert_eq!(names, **expect, "{what}: {statement:?}");
                for doubt in found {
                    assert!(!doubt.to_string().is_empty() && !doubt.advice().is_empty());
                }
            }
        }
    }

    #[test]
    fn without_evidence_nothing_is_stated() {
        let found = doubts(&observation(None), Statement::Complete);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].to_string(),
            format!(
                "the observation has no evidence: it was made by seccast {}",
                env!("CARGO_PKG_VERSION")
            )
        );
    }

    #[test]
    fn words_of_files_are_read_back() {
        for end in [End::Target, End::User] {
            assert_eq!(End::from_name(end.name()), Some(end));
        }
        assert_eq!(Hidden::from_name("own_filter"), Some(Hidden::OwnFilter));
    }
}
