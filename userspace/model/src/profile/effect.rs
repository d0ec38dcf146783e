//! What a profile does with a call: the meaning of its rules, whatever their order and spelling.
//!
//! It is what runc, crun and youki make of the rules through libseccomp, measured with runc 1.1.5 to 1.5.1, crun 1.8.1 to 1.27.1
//! and libseccomp 2.5.4:
//!
//! * a rule with the default's action is skipped;
//! * of several rules without conditions for one call the first wins, and it swallows all rules with conditions, before or after it;
//! * conditions of one rule are and-bound, unless two of them test the same argument: then each is a rule of its own
//!   (libseccomp refuses such a rule, and the runtimes fall back);
//! * [`Op::MaskedEq`] masks its value as well; without a bit in the mask it is no condition;
//! * of rules with conditions that hold for the same arguments, libseccomp's tree finds the one first that tests the later argument, then
//!   equality (and inequality, and masks) before LT and LE before GE and GT, then the larger value (of LT and LE the smaller): [`precedence`]. (Masks of equal
//!   values come in the order of the file there; here the smaller mask is first.)
//!   A rule is never reached where another has some of its conditions and no others; libseccomp refuses some of these profiles.

use super::{Action, Condition, Op, Profile, Rule};
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};

/// What happens with the calls of one name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// This, with any arguments.
    Always(Action),
    /// It depends on the arguments.
    ByArguments {
        /// Or-bound, each of and-bound conditions (at least one) that test different arguments. The first in the order of
        /// [`precedence`] that holds decides. None has the action `otherwise`.
        rules: BTreeSet<(BTreeSet<Condition>, Action)>,
        /// Where no rule holds: the profile's default action.
        otherwise: Action,
    },
}

impl Effect {
    /// What happens with a call that has these arguments, of an ABI with 64-bit arguments.
    #[must_use]
    pub fn answer(&self, args: &[u64; 6]) -> Action {
        match self {
            Self::Always(action) => *action,
            Self::ByArguments { rules, otherwise } => rules
                .iter()
                .filter(|(conditions, _)| conditions.iter().all(|condition| condition.holds(args)))
                .min_by(|(one, _), (other, _)| precedence(one, other))
                .map_or(*otherwise, |(_, action)| *action),
        }
    }

    /// No arguments get a more permissive answer.
    #[must_use]
    pub fn most_permissive(&self) -> Action {
        match self {
            Self::Always(action) => *action,
            Self::ByArguments { rules, otherwise } => rules
                .iter()
                .map(|(_, action)| *action)
                .fold(*otherwise, Action::max),
        }
    }
}

impl Condition {
    /// Whether it holds for these arguments, all 64 bits compared.
    #[must_use]
    pub fn holds(&self, args: &[u64; 6]) -> bool {
        let Some(arg) = args.get(usize::from(self.index)) else {
            return false;
        };
        match self.op {
            Op::Ne => *arg != self.value,
            Op::Lt => *arg < self.value,
            Op::Le => *arg <= self.value,
            Op::Eq => *arg == self.value,
            Op::Ge => *arg >= self.value,
            Op::Gt => *arg > self.value,
            Op::MaskedEq => arg & self.value == self.value_two & self.value,
        }
    }

    /// One spelling for one meaning, with the bits that an ABI of this width compares; `None` when it always holds.
    fn canonical(self, width: Width) -> Option<Self> {
        let all = width.mask();
        let (value, value_two) = (self.value & all, self.value_two & self.value & all);
        match self.op {
            Op::MaskedEq if value == 0 => None,
            Op::MaskedEq if value == all => Some(Self {
                op: Op::Eq,
                value: value_two,
                value_two: 0,
                ..self
            }),
            Op::MaskedEq => Some(Self {
                value,
                value_two,
                ..self
            }),
            _ => Some(Self {
                value,
                value_two: 0,
                ..self
            }),
        }
    }
}

/// How many bits of an argument libseccomp compares: 32 for x32 as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    Bits32,
    Bits64,
}

impl Width {
    pub(crate) fn mask(self) -> u64 {
        match self {
            Self::Bits32 => u64::from(u32::MAX),
            Self::Bits64 => u64::MAX,
        }
    }
}

impl Rule {
    /// What is or-bound in it.
    pub(crate) fn alternatives(&self, width: Width) -> Vec<BTreeSet<Condition>> {
        let canonical = |condition: &Condition| condition.canonical(width);
        let indices: BTreeSet<u8> = self.conditions.iter().map(|c| c.index).collect();
        if indices.len() == self.conditions.len() {
            vec![self.conditions.iter().filter_map(canonical).collect()]
        } else {
            let alone = |condition| canonical(condition).into_iter().collect();
            self.conditions.iter().map(alone).collect()
        }
    }
}

/// The rules of one call while they are collected, in the order of the profile.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gathered {
    bare: Option<Action>,
    conditional: Vec<(BTreeSet<Condition>, Action)>,
}

impl Gathered {
    pub(crate) fn add(&mut self, conditions: BTreeSet<Condition>, action: Action) {
        if conditions.is_empty() {
            self.bare.get_or_insert(action);
        } else {
            self.conditional.push((conditions, action));
        }
    }

    /// The rules but those that one without conditions outdoes.
    pub(crate) fn reachable(self) -> Vec<(BTreeSet<Condition>, Action)> {
        match self.bare {
            Some(action) => vec![(BTreeSet::new(), action)],
            None => self.conditional,
        }
    }

    pub(crate) fn effect(self, otherwise: Action) -> Effect {
        let rules = match self.bare {
            Some(action) => return Effect::Always(action),
            None => without_unreachable(self.conditional),
        };
        if rules.is_empty() {
            Effect::Always(otherwise)
        } else {
            Effect::ByArguments { rules, otherwise }
        }
    }
}

/// Which of two rules with these conditions is looked at first (`Less`), as in libseccomp's `_db_chain_lt`.
#[must_use]
pub fn precedence(one: &BTreeSet<Condition>, other: &BTreeSet<Condition>) -> Ordering {
    let rank = |condition: &Condition| {
        let Condition {
            index,
            op,
            value,
            value_two,
        } = *condition;
        let (class, value) = match op {
            Op::Eq | Op::Ne => (0, !value),
            Op::MaskedEq => (0, !value_two),
            Op::Lt | Op::Le => (1, value),
            Op::Ge | Op::Gt => (2, !value),
        };
        (Reverse(index), class, value, *condition)
    };
    one.iter().map(rank).cmp(other.iter().map(rank))
}

/// Leaves out rules that are never reached, since another one has some of their conditions and no others.
pub(crate) fn without_unreachable(
    rules: impl IntoIterator<Item = (BTreeSet<Condition>, Action)>,
) -> BTreeSet<(BTreeSet<Condition>, Action)> {
    let mut best: BTreeMap<BTreeSet<Condition>, Action> = BTreeMap::new();
    for (conditions, action) in rules {
        // libseccomp refuses the same conditions with two actions.
        let known = best.entry(conditions).or_insert(action);
        *known = action.max(*known);
    }
    let unreachable = |conditions: &BTreeSet<Condition>| {
        // At most six conditions, as each tests another argument.
        (0..(1_u32 << conditions.len()) - 1).any(|subset| {
            let some: BTreeSet<Condition> = conditions
                .iter()
                .enumerate()
                .filter(|(nth, _)| subset >> nth & 1 == 1)
                .map(|(_, condition)| *condition)
                .collect();
            best.contains_key(&some)
        })
    };
    best.iter()
        .filter(|(conditions, _)| !unreachable(conditions))
        .map(|(conditions, action)| (conditions.clone(), *action))
        .collect()
}

impl Profile {
    /// The rules that runtimes do not skip.
    pub(crate) fn effective_rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules
            .iter()
            .filter(|rule| rule.action != self.default_action)
    }

    /// What happens with the calls of this name, on the ABIs with 64-bit arguments. (On the others libseccomp compares the lower halves.)
    #[must_use]
    pub fn effect(&self, name: &str) -> Effect {
        let mut gathered = Gathered::default();
        for rule in self.effective_rules() {
            if rule.names.contains(name) {
                for conditions in rule.alternatives(Width::Bits64) {
                    gathered.add(conditions, rule.action);
                }
            }
        }
        gathered.effect(self.default_action)
    }

    /// The same of every name that a rule names, also of names that no table has.
    #[must_use]
    pub fn effects(&self) -> BTreeMap<&str, Effect> {
        let mut all: BTreeMap<&str, Gathered> = BTreeMap::new();
        for rule in &self.rules {
            let alternatives = rule.alternatives(Width::Bits64);
            for name in &rule.names {
                let gathered = all.entry(name).or_default();
                if rule.action != self.default_action {
                    for conditions in &alternatives {
                        gathered.add(conditions.clone(), rule.action);
                    }
                }
            }
        }
        all.into_iter()
            .map(|(name, gathered)| (name, gathered.effect(self.default_action)))
            .collect()
    }

    /// A profile with the same effects and one spelling for them: no redundant rule, names grouped, rules sorted.
    ///
    /// Names that get the default are left out. runc counts those as well when it looks for the highest number of a profile, above which
    /// it lets calls fail with `ENOSYS`.
    #[must_use]
    pub fn normalized(&self) -> Self {
        self.with_effects(self.effects())
    }

    /// This profile with other rules: those that have these effects. An effect's `otherwise` must be the default action.
    pub(crate) fn with_effects<'a>(
        &self,
        effects: impl IntoIterator<Item = (&'a str, Effect)>,
    ) -> Self {
        let mut rules: BTreeMap<(BTreeSet<Condition>, Action), BTreeSet<String>> = BTreeMap::new();
        for (name, effect) in effects {
            let pairs = match effect {
                Effect::Always(action) if action == self.default_action => continue,
                Effect::Always(action) => [(BTreeSet::new(), action)].into(),
                Effect::ByArguments { rules, .. } => rules,
            };
            for pair in pairs {
                rules.entry(pair).or_default().insert(name.to_owned());
            }
        }
        let rules = rules
            .into_iter()
            .map(|((conditions, action), names)| Rule {
                names,
                action,
                conditions: conditions.into_iter().collect(),
            })
            .collect();
        Self {
            rules,
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::ENOSYS;

    fn condition(index: u8, op: Op, value: u64, value_two: u64) -> Condition {
        Condition {
            index,
            op,
            value,
            value_two,
        }
    }

    fn eq(index: u8, value: u64) -> Condition {
        condition(index, Op::Eq, value, 0)
    }

    fn rule(name: &str, action: Action, conditions: &[Condition]) -> Rule {
        Rule {
            names: [name.to_owned()].into(),
            action,
            conditions: conditions.to_vec(),
        }
    }

    fn profile(rules: Vec<Rule>) -> Profile {
        Profile {
            rules,
            ..Profile::allowing(BTreeSet::new(), BTreeSet::new())
        }
    }

    fn by_arguments(rules: &[(&[Condition], Action)]) -> Effect {
        Effect::ByArguments {
            rules: rules
                .iter()
                .map(|(conditions, action)| (conditions.iter().copied().collect(), *action))
                .collect(),
            otherwise: Action::Errno(ENOSYS),
        }
    }

    #[test]
    fn effects_are_those_of_the_runtimes() {
        use Action::{Allow, Errno, KillThread, Log};
        let default = Errno(ENOSYS);
        let only = |action: Action, conditions: &[Condition]| rule("socket", action, conditions);
        let (ge, le) = (condition(0, Op::Ge, 3, 0), condition(0, Op::Le, 5, 0));
        let cases: [(&str, Vec<Rule>, Effect); 14] = [
            (
                "a name without a rule",
                vec![rule("read", Allow, &[])],
                Effect::Always(default),
            ),
            (
                "the first bare rule",
                vec![only(Log, &[]), only(Allow, &[])],
                Effect::Always(Log),
            ),
            (
                "bare before conditional",
                vec![only(Allow, &[]), only(Errno(1), &[eq(0, 40)])],
                Effect::Always(Allow),
            ),
            (
                "bare after conditional",
                vec![only(Errno(1), &[eq(0, 40)]), only(Allow, &[])],
                Effect::Always(Allow),
            ),
            (
                "the default's action is no rule",
                vec![only(default, &[]), only(Allow, &[eq(0, 1)])],
                by_arguments(&[(&[eq(0, 1)], Allow)]),
            ),
            (
                "another errno is not the default's action",
                vec![only(Errno(1), &[]), only(Allow, &[eq(0, 1)])],
                Effect::Always(Errno(1)),
            ),
            (
                "one argument twice is or-bound",
                vec![only(Allow, &[ge, le, eq(1, 7)])],
                by_arguments(&[(&[ge], Allow), (&[le], Allow), (&[eq(1, 7)], Allow)]),
            ),
            (
                "arguments are and-bound",
                vec![only(Allow, &[eq(1, 7), ge])],
                by_arguments(&[(&[ge, eq(1, 7)], Allow)]),
            ),
            (
                "a whole mask is equality",
                vec![only(Allow, &[condition(0, Op::MaskedEq, u64::MAX, 9)])],
                by_arguments(&[(&[eq(0, 9)], Allow)]),
            ),
            (
                "the value is masked",
                vec![only(Allow, &[condition(0, Op::MaskedEq, 0xff, 0x1ff)])],
                by_arguments(&[(&[condition(0, Op::MaskedEq, 0xff, 0xff)], Allow)]),
            ),
            (
                "no mask, no condition",
                vec![only(Allow, &[condition(0, Op::MaskedEq, 0, 9)])],
                Effect::Always(Allow),
            ),
            (
                "the second value is of masks only",
                vec![
                    only(Allow, &[condition(0, Op::Eq, 1, 5)]),
                    only(Allow, &[eq(0, 1)]),
                ],
                by_arguments(&[(&[eq(0, 1)], Allow)]),
            ),
            (
                "fewer conditions permit more",
                vec![only(Allow, &[eq(0, 1), eq(1, 2)]), only(Allow, &[eq(0, 1)])],
                by_arguments(&[(&[eq(0, 1)], Allow)]),
            ),
            (
                "fewer conditions come first",
                vec![
                    only(KillThread, &[eq(0, 1)]),
                    only(Allow, &[eq(0, 1), eq(1, 2)]),
                ],
                by_arguments(&[(&[eq(0, 1)], KillThread)]),
            ),
        ];
        for (what, rules, expect) in cases {
            let profile = profile(rules);
            assert_eq!(profile.effect("socket"), expect, "{what}");
            if let Some(of_all) = profile.effects().remove("socket") {
                assert_eq!(of_all, expect, "{what}");
            }
            assert_eq!(profile.normalized().effect("socket"), expect, "{what}");
        }
    }

    #[test]
    fn answers_go_by_the_arguments() {
        let effect = by_arguments(&[
            (&[condition(0, Op::Gt, 1 << 32, 0), eq(5, 2)], Action::Allow),
            (&[condition(1, Op::MaskedEq, 0xf0, 0x20)], Action::Log),
            (&[condition(2, Op::Ne, 0, 0)], Action::KillProcess),
        ]);
        let cases = [
            ([0; 6], Action::Errno(ENOSYS)),
            ([1 << 32, 0, 0, 0, 0, 2], Action::Errno(ENOSYS)),
            ([(1 << 32) + 1, 0, 0, 0, 0, 2], Action::Allow),
            // The later argument is looked at first.
            ([(1 << 32) + 1, 0x12f, 9, 0, 0, 2], Action::KillProcess),
            ([(1 << 32) + 1, 0x12f, 0, 0, 0, 2], Action::Log),
            ([0, 0x12f, 9, 0, 0, 0], Action::KillProcess),
        ];
        for (args, expect) in cases {
            assert_eq!(effect.answer(&args), expect, "{args:?}");
        }
        assert_eq!(effect.most_permissive(), Action::Allow);
    }

    /// podman's default denies AF_VSOCK (40) and allows all domains but AF_NETLINK (16).
    #[test]
    fn of_two_values_of_one_argument_the_larger_comes_first() {
        let socket = |denied| {
            by_arguments(&[
                (&[eq(0, denied)], Action::Errno(1)),
                (&[condition(0, Op::Ne, 16, 0)], Action::Allow),
            ])
        };
        assert_eq!(socket(40).answer(&[40; 6]), Action::Errno(1));
        assert_eq!(socket(10).answer(&[10; 6]), Action::Allow);
        let range = by_arguments(&[
            (&[condition(0, Op::Lt, 9, 0)], Action::Log),
            (&[condition(0, Op::Le, 5, 0)], Action::Notify),
            (&[condition(0, Op::Ge, 2, 0)], Action::Allow),
            (&[eq(0, 7)], Action::Trap),
        ]);
        let answers = [1, 6, 7, 9].map(|value| range.answer(&[value; 6]));
        assert_eq!(
            answers,
            [Action::Notify, Action::Log, Action::Trap, Action::Allow]
        );
    }

    #[test]
    fn one_spelling_for_one_meaning() {
        let one = profile(vec![
            rule("write", Action::Allow, &[]),
            rule("socket", Action::Allow, &[eq(1, 2), eq(0, 1)]),
            rule("read", Action::Allow, &[]),
            rule("mount", Action::Errno(ENOSYS), &[]),
        ]);
        let other = profile(vec![
            rule("socket", Action::Allow, &[eq(0, 1), eq(1, 2)]),
            Rule {
                names: ["read".to_owned(), "write".to_owned()].into(),
                action: Action::Allow,
                conditions: vec![],
            },
        ]);
        assert_eq!(one.normalized(), other.normalized());
        assert_eq!(one.normalized().rules.len(), 2);
        assert_eq!(one.normalized().normalized(), one.normalized());
        assert_eq!(one.effects().len(), 4);
    }
}
