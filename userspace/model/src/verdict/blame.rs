//! Whose denial it is: the profile's answer for a call is compared with what came back.
//!
//! The kernel runs all filters of a thread and takes the strictest answer. So a call that the profile lets through and that was denied all
//! the same was denied by another filter: an outer one, one that the program installed, or a supervisor that one of them asked.
//! Or the profile's filter does not have the rule, since the libseccomp that compiled it ignores names that it does not know.

use crate::arch::Arch;
use crate::denial::{Answer, Denial, MAX_SAMPLES};
use crate::profile::{Action, Call, ENOSYS, Effect, Profile, decide};
use crate::syscall::{self, COMMON_LIBSECCOMP};

/// Whose denial it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The profile denies the call, at least with some of the arguments that it had.
    ByProfile,
    /// The profile lets the call through, so another filter denied it, or whoever that filter asked.
    ByAnotherFilter,
    /// The profile lets the call through by its name. A libseccomp before `since` ignores the name, and its filter answers as this one did.
    UnknownToLibseccomp {
        /// The libseccomp release that first knew the name.
        since: &'static str,
    },
}

impl Blame {
    /// Of a denial in a run under `profile` on a machine whose own ABI is `native`.
    #[must_use]
    pub fn of(profile: &Profile, native: Arch, denial: &Denial) -> Self {
        let lets_through = |action: Action| matches!(action, Action::Allow | Action::Log);
        if !answers(profile, native, denial)
            .into_iter()
            .all(lets_through)
        {
            return Self::ByProfile;
        }
        match since_libseccomp(profile, denial) {
            Some(since) => Self::UnknownToLibseccomp { since },
            None => Self::ByAnotherFilter,
        }
    }
}

/// What the profile answers, or may answer where not all arguments are known.
fn answers(profile: &Profile, native: Arch, denial: &Denial) -> Vec<Action> {
    let decided = |args| {
        let arch = denial.arch;
        let nr = number(denial.nr);
        decide(profile, native, &Call { arch, nr, args })
    };
    let mut answers: Vec<Action> = denial.samples.iter().copied().map(decided).collect();
    let has_all = !denial.samples.is_empty() && denial.samples.len() < MAX_SAMPLES;
    if has_all {
        return answers;
    }
    let effect = denial.name.as_deref().map(|name| profile.effect(name));
    match effect {
        Some(Effect::ByArguments { rules, otherwise }) => {
            answers.extend(rules.into_iter().map(|(_, action)| action));
            answers.push(otherwise);
        }
        _ => answers.push(decided([0; 6])),
    }
    answers
}

/// The number as a filter gets it: 32 bits.
pub(super) fn number(nr: i64) -> u32 {
    u32::try_from(nr & i64::from(u32::MAX)).unwrap_or(u32::MAX)
}

/// The release that first knew the name, if a filter without the profile's rule for it answers as this denial says.
///
/// That filter answers with the default action; runc's own with `ENOSYS` above the largest number that libseccomp knows of the profile.
fn since_libseccomp(profile: &Profile, denial: &Denial) -> Option<&'static str> {
    let name = denial.name.as_deref()?;
    let since = syscall::info(name)?.since_libseccomp?;
    let is_named = profile.rules.iter().any(|rule| rule.names.contains(name));
    let fits = match (profile.default_action, denial.answer()) {
        (Action::Allow | Action::Log, _) => false,
        (Action::Errno(_), Answer::Errno(ENOSYS)) => true,
        (Action::Errno(0), Answer::Value(0)) => true,
        (Action::Errno(default), Answer::Errno(errno)) => default == errno,
        (Action::Trap | Action::KillThread | Action::KillProcess, answer) => {
            matches!(answer, Answer::Signal | Answer::Errno(ENOSYS))
        }
        (Action::Notify | Action::Trace(_), _) => true,
        (Action::Errno(_), _) => false,
    };
    (since != COMMON_LIBSECCOMP && is_named && fits).then_some(since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::Phase;
    use crate::profile::{Condition, Op, Rule};

    fn denied(name: &str, result: i64, samples: &[[u64; 6]]) -> Denial {
        Denial {
            arch: Arch::X86_64,
            phase: Phase::App,
            nr: syscall::nr(Arch::X86_64, name).unwrap().into(),
            name: Some(name.to_owned()),
            result,
            count: 1,
            processes: Vec::new(),
            others: 0,
            samples: samples.to_vec(),
        }
    }

    /// Allows `read`, `mseal` and `socket(1, …)`.
    fn profile(default_action: Action) -> Profile {
        let names = ["read", "mseal"].map(str::to_owned).into();
        let mut profile = Profile {
            default_action,
            ..Profile::allowing(names, [].into())
        };
        profile.rules.push(Rule {
            names: ["socket".to_owned()].into(),
            action: Action::Allow,
            conditions: vec![Condition {
                index: 0,
                op: Op::Eq,
                value: 1,
                value_two: 0,
            }],
        });
        profile
    }

    #[test]
    fn a_denial_is_the_profiles_or_anothers() {
        let zero = [0; 6];
        let (one, two) = ([1, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0]);
        let many: Vec<[u64; 6]> = (0..8).map(|at| [1, at, 0, 0, 0, 0]).collect();
        let (errno, kill) = (Action::Errno(38), Action::KillProcess);
        let since = "2.6.0";
        let cases = [
            // The profile denies it.
            (errno, denied("getppid", -38, &[zero]), Blame::ByProfile),
            (kill, denied("getppid", 110, &[]), Blame::ByProfile),
            // It does, whoever answered before: one filter's answer hides another's.
            (errno, denied("getppid", -1, &[zero]), Blame::ByProfile),
            // It does not: an outer filter, or a listener of the program's own.
            (errno, denied("read", -38, &[zero]), Blame::ByAnotherFilter),
            (errno, denied("read", 7, &[zero]), Blame::ByAnotherFilter),
            (errno, denied("read", -1, &[]), Blame::ByAnotherFilter),
            (
                Action::Log,
                denied("getppid", -1, &[zero]),
                Blame::ByAnotherFilter,
            ),
            // It depends on the arguments.
            (errno, denied("socket", -38, &[one]), Blame::ByAnotherFilter),
            (errno, denied("socket", -38, &[one, two]), Blame::ByProfile),
            (errno, denied("socket", -38, &[]), Blame::ByProfile),
            (errno, denied("socket", -38, &many), Blame::ByProfile),
            (
                errno,
                denied("socket", -38, &many[..7]),
                Blame::ByAnotherFilter,
            ),
            // A libseccomp that does not know the name leaves the default, or runc's ENOSYS.
            (
                errno,
                denied("mseal", -38, &[zero]),
                Blame::UnknownToLibseccomp { since },
            ),
            (
                Action::Errno(1),
                denied("mseal", -38, &[zero]),
                Blame::UnknownToLibseccomp { since },
            ),
            (
                Action::Errno(1),
                denied("mseal", -1, &[zero]),
                Blame::UnknownToLibseccomp { since },
            ),
            (
                kill,
                denied("mseal", 462, &[zero]),
                Blame::UnknownToLibseccomp { since },
            ),
            (errno, denied("mseal", -13, &[zero]), Blame::ByAnotherFilter),
            (
                Action::Allow,
                denied("mseal", -38, &[zero]),
                Blame::ByAnotherFilter,
            ),
        ];
        for (default, denial, expect) in cases {
            let blame = Blame::of(&profile(default), Arch::X86_64, &denial);
            assert_eq!(blame, expect, "{default:?} {denial:?}");
        }
    }

    #[test]
    fn an_abi_that_is_not_listed_is_the_profiles_to_kill() {
        let denial = Denial {
            arch: Arch::X86,
            nr: 3,
            ..denied("read", 3, &[[0; 6]])
        };
        let blame = Blame::of(&profile(Action::Errno(38)), Arch::X86_64, &denial);
        assert_eq!(blame, Blame::ByProfile);
    }
}
