//! Why a profile is as it is: every allowed name has at least one origin here.

mod reasons;
mod wire;

use crate::arch::Arch;
use crate::defaults::ResolvedDefault;
use crate::diagnostic::Diagnostic;
use crate::evidence::{Doubt, Evidence};
use crate::observation::{Backend, Caller, Machine, Observation, Phase, Target};
use crate::policy::{Policy, Runtime};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use reasons::{ReadError, Reasons, Why};

/// Beside a profile `P.json` lies its report `P.report.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Why the profile may lack calls; empty when it is complete.
    pub incomplete: Vec<Incomplete>,
    /// The choices that were made.
    pub policy: Policy,
    /// What the profile was made from, each recording once.
    pub recordings: Vec<Recording>,
    /// The listed architectures, each with the reasons.
    pub architectures: BTreeMap<Arch, ArchReasons>,
    /// Every allowed name with its origins.
    pub syscalls: BTreeMap<String, Vec<Origin>>,
    /// Numbers that have no name: a profile cannot allow them.
    pub unknown: Vec<Unknown>,
    /// What an existing filter denied, by name, where the policy leaves it out.
    pub denied: BTreeMap<String, Vec<Sighted>>,
    /// Names that would not be allowed with `no_new_privs`; empty when the policy has it already.
    pub no_new_privs_saves: BTreeSet<String>,
    /// See [`Report::compare`].
    pub comparison: Option<Comparison>,
    /// Findings, in the order of their codes.
    pub diagnostics: Vec<Diagnostic>,
}

/// One recording of the input.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Its id.
    pub id: String,
    /// The seccast that made it.
    pub tool_version: String,
    /// What watched the calls.
    pub backend: Backend,
    /// What was recorded.
    pub target: Target,
    /// Where.
    pub machine: Machine,
    /// Its start, nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// Its end.
    pub ended_ns: u64,
    /// What is known of the run; `None` in files of seccast 0.1.0.
    pub evidence: Option<Evidence>,
}

impl From<&Observation> for Recording {
    fn from(one: &Observation) -> Self {
        Self {
            id: one.recording_id.clone(),
            tool_version: one.tool_version.clone(),
            backend: one.backend,
            target: one.target.clone(),
            machine: one.machine.clone(),
            started_ns: one.started_ns,
            ended_ns: one.ended_ns,
            evidence: one.evidence.clone(),
        }
    }
}

/// Why an architecture is listed; at least one holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchReasons {
    /// It is a recorded machine's own.
    pub native: bool,
    /// Names and unknown numbers that were called by it.
    pub calls: usize,
}

/// Why a name is allowed.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// It was recorded.
    Recorded(Sighted),
    /// No program can live without it.
    Core {
        /// The reason.
        why: &'static str,
    },
    /// The runtime itself calls it under the filter.
    Base {
        /// runc or crun.
        runtime: Runtime,
        /// The group of `profiles/runtime/`.
        group: String,
        /// The reason.
        why: String,
    },
    /// The same program makes it on another kernel or machine.
    Closure {
        /// The allowed name that it stands in for; `None` for what the vDSO answers.
        from: Option<&'static str>,
        /// The reason.
        why: &'static str,
        /// Who does so.
        source: &'static str,
    },
}

/// A recorded call: of all sightings by one ABI in one part of the target's life, the first.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighted {
    /// The ABI.
    pub arch: Arch,
    /// The part of the target's life.
    pub part: Part,
    /// The recording of the first sighting.
    pub recording: String,
    /// In how many recordings it was seen.
    pub recordings: usize,
    /// Nanoseconds since the start of that recording; `None` when the explanation was lost.
    pub first_ns: Option<u64>,
    /// Who made it.
    pub caller: Option<Caller>,
}

/// Where in the target's life a call was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// By the application.
    Application,
    /// By a process that entered later: a probe, `exec`.
    Exec,
    /// By a process that entered without an exec and counts as the application.
    Entered,
    /// A task of the application was in it when the recording began.
    BlockedAtAttach,
    /// An existing filter denied it.
    Denied,
}

impl Part {
    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Exec => "exec",
            Self::Entered => "entered",
            Self::BlockedAtAttach => "blocked_at_attach",
            Self::Denied => "denied",
        }
    }
}

/// A number without a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Unknown {
    /// The ABI that it was called by.
    pub arch: Arch,
    /// The phase of the first such call.
    pub phase: Phase,
    /// The number; -1 is -1.
    pub nr: i64,
    /// Who made the first call.
    pub caller: Option<Caller>,
}

/// Why a profile may lack calls.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Incomplete {
    /// The recorder may have missed calls.
    Losses {
        /// The recordings.
        recordings: Vec<String>,
        /// How many, by reason.
        losses: BTreeMap<String, u64>,
    },
    /// No recording has the start of the target.
    StartedLate {
        /// How late the earliest began.
        nanoseconds: u64,
    },
    /// Processes entered without an exec, and nobody said what they are.
    UndecidedEntered {
        /// The recordings.
        recordings: Vec<String>,
        /// How many.
        count: u64,
        /// Names and process ids of some of them.
        processes: BTreeSet<(String, u32)>,
    },
    /// Something that a complete recording needs is not known.
    Unproven {
        /// The recordings.
        recordings: Vec<String>,
        /// What.
        doubt: Doubt,
    },
}

impl Incomplete {
    /// The word for it in reports.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Losses { .. } => "losses",
            Self::StartedLate { .. } => "started_late",
            Self::UndecidedEntered { .. } => "undecided_entered",
            Self::Unproven { doubt, .. } => doubt.name(),
        }
    }
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Losses { losses, .. } => {
                let list: Vec<String> = losses
                    .iter()
                    .map(|(reason, count)| format!("{reason} {count}"))
                    .collect();
                write!(f, "calls may have been missed: {}", list.join(", "))
            }
            Self::StartedLate { nanoseconds } => write!(
                f,
                "no recording of this target has its start: the earliest began {}.{:03} s after it",
                nanoseconds / 1_000_000_000,
                nanoseconds / 1_000_000 % 1000
            ),
            Self::UndecidedEntered {
                count, processes, ..
            } => {
                let names: Vec<String> = processes
                    .iter()
                    .map(|(comm, pid)| format!("{} ({pid})", comm.escape_debug()))
                    .collect();
                write!(
                    f,
                    "{count} entered and never executed a program: {}",
                    names.join(", ")
                )
            }
            Self::Unproven { doubt, .. } => doubt.fmt(f),
        }
    }
}

/// The profile beside what an engine allows by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// What it is compared with, like `docker (moby/profiles 0.2.3) with 14 capabilities on x86_64`.
    pub with: String,
    /// The architecture that both are counted on.
    pub arch: Arch,
    /// Calls of that architecture.
    pub known: usize,
    /// Names that the default allows on it, some of them with conditions.
    pub default_allows: usize,
    /// Names of that architecture that the profile allows.
    pub profile_allows: usize,
    /// Names that the profile allows and the default does not.
    pub extra: BTreeSet<String>,
}

/// The numbers of a report, for one line of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// All allowed names: `recorded + core_added + base_added + closure_added`.
    pub allowed: usize,
    /// Names that were recorded, in any part.
    pub recorded: usize,
    /// Names that the application was seen to make.
    pub application: usize,
    /// Names that only later processes (`exec`, probes) were seen to make.
    pub exec_only: usize,
    /// Names that were not recorded and are of the core.
    pub core_added: usize,
    /// Names that were not recorded, are not of the core, and are of the runtime's base.
    pub base_added: usize,
    /// Names that only the closure has.
    pub closure_added: usize,
    /// Distinct recordings.
    pub recordings: usize,
    /// Names that `no_new_privs` would save.
    pub no_new_privs_saves: usize,
}

impl Report {
    /// Whether nothing speaks against the profile holding every call.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.incomplete.is_empty()
    }

    /// The numbers.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let mut summary = Summary {
            allowed: self.syscalls.len(),
            recorded: 0,
            application: 0,
            exec_only: 0,
            core_added: 0,
            base_added: 0,
            closure_added: 0,
            recordings: self.recordings.len(),
            no_new_privs_saves: self.no_new_privs_saves.len(),
        };
        for origins in self.syscalls.values() {
            let part = |part| {
                origins
                    .iter()
                    .any(|origin| matches!(origin, Origin::Recorded(seen) if seen.part == part))
            };
            let has = |test: fn(&Origin) -> bool| origins.iter().any(test);
            if has(|origin| matches!(origin, Origin::Recorded(_))) {
                summary.recorded += 1;
                summary.application += usize::from(part(Part::Application));
                let others = origins.iter().any(
                    |origin| matches!(origin, Origin::Recorded(seen) if seen.part != Part::Exec),
                );
                summary.exec_only += usize::from(!others);
            } else if has(|origin| matches!(origin, Origin::Core { .. })) {
                summary.core_added += 1;
            } else if has(|origin| matches!(origin, Origin::Base { .. })) {
                summary.base_added += 1;
            } else {
                summary.closure_added += 1;
            }
        }
        summary
    }

    /// Puts the profile beside an engine's default on one architecture; the report then has the comparison.
    pub fn compare(&mut self, default: &ResolvedDefault) {
        let here: BTreeSet<&String> = self
            .syscalls
            .keys()
            .filter(|name| crate::syscall::nr(default.arch, name).is_some())
            .collect();
        self.comparison = Some(Comparison {
            with: default.label(),
            arch: default.arch,
            known: default.known,
            default_allows: default.len(),
            profile_allows: here.len(),
            extra: here
                .into_iter()
                .filter(|name| !default.allows(name))
                .cloned()
                .collect(),
        });
    }

    /// The report as a file: indented by two, keys in a fixed order, a newline at the end. The same report gives the same bytes.
    #[must_use]
    pub fn to_json(&self) -> String {
        wire::write(self)
    }
}
