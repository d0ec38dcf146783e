//! What a profile does with one call: its meaning, without a filter.

use super::effect::{Gathered, Width};
use super::{Action, Condition, Effect, Op, Profile};
use crate::arch::Arch;
use crate::syscall;
use std::collections::{BTreeMap, BTreeSet};

/// Set in the numbers of x32: `__X32_SYSCALL_BIT` of asm/unistd.h.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// A system call, as a filter sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The ABI.
    pub arch: Arch,
    /// The number, for x32 with bit 30 or without.
    pub nr: u32,
    /// All six arguments; of the ABIs with 32-bit arguments the lower halves count.
    pub args: [u64; 6],
}

impl Call {
    /// The number as the kernel gives it to a filter: for x32 with bit 30.
    #[must_use]
    pub fn raw_nr(&self) -> u32 {
        match self.arch {
            Arch::X32 => self.nr | X32_BIT,
            _ => self.nr,
        }
    }
}

/// What a filter that a runtime makes of this profile on a machine of this architecture does with a call.
///
/// A call of an ABI that is neither native nor listed ends its thread, whatever the profile says. i386's socketcall(2) and ipc(2) are
/// let in for the calls that they stand for, of which only the number can be tested. runc's own `ENOSYS` for numbers above all that
/// the profile names is not part of the filter, and not of this.
#[must_use]
pub fn decide(profile: &Profile, native: Arch, call: &Call) -> Action {
    let raw = call.raw_nr();
    // x86_64 and x32 are one architecture to the kernel; -1 is what a tracer sets to skip a call, of either.
    let skipped = raw == u32::MAX && profile.covers(native, Arch::X86_64);
    let arch = match call.arch {
        Arch::X86_64 | Arch::X32 if raw >= X32_BIT && !skipped => Arch::X32,
        Arch::X86_64 | Arch::X32 => Arch::X86_64,
        arch => arch,
    };
    if !profile.covers(native, arch) {
        return Action::KillThread;
    }
    let width = width(arch);
    let sources = sources(arch, raw);
    let mut gathered = Gathered::default();
    for (name, sub) in sources {
        let mut own = Gathered::default();
        for rule in profile.effective_rules() {
            if rule.names.contains(name) {
                own.add_all(rule.alternatives(width), rule.action);
            }
        }
        gathered.take(own, sub);
    }
    let args = call.args.map(|arg| arg & width.mask());
    gathered.effect(profile.default_action).answer(&args)
}

impl Profile {
    /// Whether a filter lets in the calls of an ABI: libseccomp always adds the native one.
    pub(crate) fn covers(&self, native: Arch, arch: Arch) -> bool {
        arch == native || self.architectures.contains(&arch.into())
    }

    /// What happens with each number of an ABI (as the kernel has it) for which there is a rule, in the width of its arguments.
    pub(crate) fn effects_by_number(&self, arch: Arch) -> BTreeMap<u32, Effect> {
        let mut by_name: BTreeMap<&str, Gathered> = BTreeMap::new();
        for rule in self.effective_rules() {
            let alternatives = rule.alternatives(width(arch));
            for name in &rule.names {
                let own = by_name.entry(name).or_default();
                own.add_all(alternatives.clone(), rule.action);
            }
        }
        let mut all: BTreeMap<u32, Gathered> = BTreeMap::new();
        for (name, own) in by_name {
            let through = multiplexed(arch, name).map(|(nr, sub)| (nr, Some(sub)));
            let direct = number(arch, name).map(|nr| (nr, None));
            for (nr, sub) in direct.into_iter().chain(through) {
                all.entry(nr).or_default().take(own.clone(), sub);
            }
        }
        all.into_iter()
            .map(|(nr, gathered)| (nr, gathered.effect(self.default_action)))
            .collect()
    }
}

impl Gathered {
    fn add_all(&mut self, alternatives: Vec<BTreeSet<Condition>>, action: Action) {
        for conditions in alternatives {
            self.add(conditions, action);
        }
    }

    /// The rules of a name, for a call by its own number or through a multiplexer. There a rule that holds whatever the arguments are has a
    /// condition, too: so the name's rules are judged before. (Those that it outdoes libseccomp refuses there, with another action.)
    fn take(&mut self, name: Self, sub: Option<u64>) {
        for (conditions, action) in name.reachable() {
            match sub {
                None => self.add(conditions, action),
                Some(sub) => self.add(through(&conditions, sub), action),
            }
        }
    }
}

pub(crate) fn width(arch: Arch) -> Width {
    match arch {
        Arch::X86_64 | Arch::Aarch64 | Arch::Riscv64 => Width::Bits64,
        Arch::X86 | Arch::X32 | Arch::Arm => Width::Bits32,
    }
}

/// The names whose rules hold for a number, with the first argument where it is a multiplexer.
fn sources(arch: Arch, raw: u32) -> Vec<(&'static str, Option<u64>)> {
    let nr = match arch {
        Arch::X32 => raw & !X32_BIT,
        _ => raw,
    };
    let name = syscall::name(arch, nr);
    let through = MULTIPLEXED
        .iter()
        .filter(|(multiplexer, _)| arch == Arch::X86 && name == Some(*multiplexer))
        .flat_map(|(_, calls)| calls.iter().map(|(call, sub)| (*call, Some(*sub))));
    name.map(|name| (name, None))
        .into_iter()
        .chain(through)
        .collect()
}

/// The number as the kernel has it.
fn number(arch: Arch, name: &str) -> Option<u32> {
    let nr = syscall::nr(arch, name)?;
    Some(match arch {
        Arch::X32 => nr | X32_BIT,
        _ => nr,
    })
}

/// The conditions that are left when a call comes through a multiplexer, which has its number in the first argument. libseccomp keeps
/// those of the other arguments, although these are others there.
fn through(conditions: &BTreeSet<Condition>, sub: u64) -> BTreeSet<Condition> {
    let which = Condition {
        index: 0,
        op: Op::Eq,
        value: sub,
        value_two: 0,
    };
    let others = conditions.iter().filter(|condition| condition.index != 0);
    others.copied().chain([which]).collect()
}

/// Calls that i386 makes through socketcall(2) and ipc(2) as well, with the first argument there. Source: linux/net.h, linux/ipc.h.
const MULTIPLEXED: [(&str, &[(&str, u64)]); 2] = [
    (
        "socketcall",
        &[
            ("socket", 1),
            ("bind", 2),
            ("connect", 3),
            ("listen", 4),
            ("accept", 5),
            ("getsockname", 6),
            ("getpeername", 7),
            ("socketpair", 8),
            ("send", 9),
            ("recv", 10),
            ("sendto", 11),
            ("recvfrom", 12),
            ("shutdown", 13),
            ("setsockopt", 14),
            ("getsockopt", 15),
            ("sendmsg", 16),
            ("recvmsg", 17),
            ("accept4", 18),
            ("recvmmsg", 19),
            ("sendmmsg", 20),
        ],
    ),
    (
        "ipc",
        &[
            ("semop", 1),
            ("semget", 2),
            ("semctl", 3),
            ("semtimedop", 4),
            ("msgsnd", 11),
            ("msgrcv", 12),
            ("msgget", 13),
            ("msgctl", 14),
            ("shmat", 21),
            ("shmdt", 22),
            ("shmget", 23),
            ("shmctl", 24),
        ],
    ),
];

/// The number of the multiplexer that a call may come through, and its first argument.
fn multiplexed(arch: Arch, name: &str) -> Option<(u32, u64)> {
    if arch != Arch::X86 {
        return None;
    }
    MULTIPLEXED.iter().find_map(|(multiplexer, calls)| {
        let (_, sub) = calls.iter().find(|(call, _)| *call == name)?;
        Some((number(arch, multiplexer)?, *sub))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Rule;

    const DEFAULT: Action = Action::Errno(38);

    fn profile(architectures: &[Arch], rules: &[(&str, Action, &[Condition])]) -> Profile {
        let architectures = architectures.iter().map(|arch| (*arch).into()).collect();
        let rules = rules.iter().map(|(name, action, conditions)| Rule {
            names: [(*name).to_owned()].into(),
            action: *action,
            conditions: conditions.to_vec(),
        });
        Profile {
            rules: rules.collect(),
            ..Profile::allowing(BTreeSet::new(), architectures)
        }
    }

    fn condition(index: u8, op: Op, value: u64) -> Condition {
        Condition {
            index,
            op,
            value,
            value_two: 0,
        }
    }

    fn check(profile: &Profile, cases: &[(Arch, u32, [u64; 6], Action)]) {
        for (arch, nr, args, expect) in cases {
            let call = Call {
                arch: *arch,
                nr: *nr,
                args: *args,
            };
            assert_eq!(decide(profile, Arch::X86_64, &call), *expect, "{call:?}");
        }
    }

    #[test]
    fn an_abi_that_is_not_listed_is_killed() {
        let rules: [(&str, Action, &[Condition]); 1] = [("getppid", Action::Allow, &[])];
        let none = [0; 6];
        check(
            &profile(&[], &rules),
            &[
                (Arch::X86_64, 110, none, Action::Allow),
                (Arch::X86_64, 111, none, DEFAULT),
                (Arch::X86_64, 5000, none, DEFAULT),
                // What a tracer skips.
                (Arch::X86_64, u32::MAX, none, DEFAULT),
                (Arch::X86_64, 0x8000_0000, none, Action::KillThread),
                (Arch::X86_64, X32_BIT | 110, none, Action::KillThread),
                (Arch::X32, 110, none, Action::KillThread),
                (Arch::X86, 64, none, Action::KillThread),
                (Arch::Aarch64, 173, none, Action::KillThread),
            ],
        );
        check(
            &profile(&[Arch::X86, Arch::X32], &rules),
            &[
                (Arch::X86_64, 110, none, Action::Allow),
                (Arch::X86_64, 64, none, DEFAULT),
                (Arch::X86, 64, none, Action::Allow),
                (Arch::X86, 110, none, DEFAULT),
                (Arch::X32, 110, none, Action::Allow),
                (Arch::X32, X32_BIT | 110, none, Action::Allow),
                (Arch::X86_64, X32_BIT | 110, none, Action::Allow),
                (Arch::X86_64, 0x8000_0000, none, DEFAULT),
                (Arch::Arm, 64, none, Action::KillThread),
            ],
        );
    }

    #[test]
    fn thirty_two_bit_abis_compare_the_lower_halves() {
        let value = (7 << 32) | 3;
        let profile = profile(
            &[Arch::X86],
            &[("personality", Action::Allow, &[condition(0, Op::Eq, value)])],
        );
        check(
            &profile,
            &[
                (Arch::X86_64, 135, [3, 0, 0, 0, 0, 0], DEFAULT),
                (Arch::X86_64, 135, [value, 0, 0, 0, 0, 0], Action::Allow),
                (Arch::X86, 136, [3, 0, 0, 0, 0, 0], Action::Allow),
                (
                    Arch::X86,
                    136,
                    [(9 << 32) | 3, 0, 0, 0, 0, 0],
                    Action::Allow,
                ),
                (Arch::X86, 136, [4, 0, 0, 0, 0, 0], DEFAULT),
            ],
        );
    }

    #[test]
    fn a_rule_without_conditions_is_the_first_through_a_multiplexer_too() {
        let (first, second) = (Action::Errno(1), Action::Allow);
        let domain = condition(0, Op::Eq, 2);
        let rules: [&[(&str, Action, &[Condition])]; 2] = [
            &[("socket", first, &[]), ("socket", second, &[])],
            &[("socket", second, &[domain]), ("socket", first, &[])],
        ];
        for rules in rules {
            let profile = profile(&[Arch::X86], rules);
            let cases = [
                (Arch::X86, 359, [2, 0, 0, 0, 0, 0], first),
                (Arch::X86, 102, [1, 0, 0, 0, 0, 0], first),
            ];
            check(&profile, &cases);
            check(&profile.normalized(), &cases);
            let effects = profile.effects_by_number(Arch::X86);
            assert_eq!(effects[&102].answer(&[1, 0, 0, 0, 0, 0]), first);
        }
    }

    #[test]
    fn i386_multiplexers_stand_for_their_calls() {
        let stream = condition(1, Op::Eq, 1);
        let profile = profile(
            &[Arch::X86],
            &[
                ("socket", Action::Allow, &[condition(0, Op::Eq, 2), stream]),
                ("accept", Action::Allow, &[]),
                ("shmat", Action::Log, &[]),
            ],
        );
        check(
            &profile,
            &[
                (Arch::X86, 359, [2, 1, 0, 0, 0, 0], Action::Allow),
                (Arch::X86, 359, [1, 1, 0, 0, 0, 0], DEFAULT),
                // The domain is out of reach, and the type is compared with a pointer.
                (Arch::X86, 102, [1, 1, 0, 0, 0, 0], Action::Allow),
                (Arch::X86, 102, [1, 2, 0, 0, 0, 0], DEFAULT),
                (Arch::X86, 102, [5, 9, 0, 0, 0, 0], Action::Allow),
                (Arch::X86, 102, [2, 1, 0, 0, 0, 0], DEFAULT),
                (Arch::X86, 117, [21, 0, 0, 0, 0, 0], Action::Log),
                (Arch::X86, 397, [0; 6], Action::Log),
                (Arch::X86_64, 102, [1, 1, 0, 0, 0, 0], DEFAULT),
            ],
        );
    }
}
