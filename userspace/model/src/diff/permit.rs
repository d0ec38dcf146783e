//! For which arguments a profile lets a call through, and whether one such set lies within another.

use crate::profile::{Action, Condition, Effect, Op};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// And-bound tests of arguments; none always holds.
pub(crate) type Clause = BTreeSet<Condition>;

/// For which arguments a call is let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Permit {
    Never,
    Always,
    /// One of `any` has to hold; where one of `but` holds as well, either may decide.
    When {
        any: BTreeSet<Clause>,
        but: BTreeSet<Clause>,
    },
    /// None of these may hold.
    Unless(BTreeSet<Clause>),
    /// Some arguments, in a way that is not compared here.
    Some,
}

/// Whether the call is, or may be made by whoever is asked.
pub(crate) fn lets_through(action: Action) -> bool {
    openness(action) > 0
}

/// 0 denied, 1 somebody is asked, 2 made.
pub(super) fn openness(action: Action) -> u8 {
    match action {
        Action::KillProcess | Action::KillThread | Action::Trap | Action::Errno(_) => 0,
        Action::Trace(_) | Action::Notify => 1,
        Action::Log | Action::Allow => 2,
    }
}

impl Permit {
    pub(crate) fn of(effect: &Effect) -> Self {
        match effect {
            Effect::Always(action) if lets_through(*action) => Self::Always,
            Effect::Always(_) => Self::Never,
            Effect::ByArguments { rules, otherwise } => {
                let open = lets_through(*otherwise);
                let clauses = |as_default: bool| -> BTreeSet<Clause> {
                    rules
                        .iter()
                        .filter(|(_, action)| (lets_through(*action) == open) == as_default)
                        .map(|(clause, _)| clause.clone())
                        .collect()
                };
                let (any, but) = (clauses(false), clauses(true));
                match (any.is_empty(), open) {
                    (true, true) => Self::Always,
                    (true, false) => Self::Never,
                    (false, false) => Self::When { any, but },
                    // Those that let through may bite into those that do not.
                    (false, true) if !but.is_empty() => Self::Some,
                    (false, true) => Self::Unless(any),
                }
            }
        }
    }

    /// Whether every call that this lets through is let through by `other`. False also where that cannot be shown.
    pub(crate) fn within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Never, _) | (_, Self::Always) => true,
            (Self::When { .. }, Self::When { .. }) if self == other => true,
            (Self::When { any: narrow, .. }, Self::When { any: wide, but }) => {
                covered(narrow, wide) && apart(narrow, but)
            }
            // What is denied in `other` is denied in `self`.
            (Self::Unless(narrow), Self::Unless(wide)) => covered(wide, narrow),
            (Self::When { any, .. }, Self::Unless(denied)) => apart(any, denied),
            _ => false,
        }
    }
}

/// Whether no arguments pass one of each.
fn apart(some: &BTreeSet<Clause>, others: &BTreeSet<Clause>) -> bool {
    some.iter()
        .all(|one| others.iter().all(|other| disjoint(one, other)))
}

/// Whether each of `narrow` implies one of `wide`.
fn covered(narrow: &BTreeSet<Clause>, wide: &BTreeSet<Clause>) -> bool {
    narrow
        .iter()
        .all(|clause| wide.iter().any(|wider| clause_implies(clause, wider)))
}

fn clause_implies(clause: &Clause, wider: &Clause) -> bool {
    wider
        .iter()
        .all(|wanted| clause.iter().any(|has| implies(has, wanted)))
}

/// Whether no arguments pass both: one test of an exact value fails the other clause's.
fn disjoint(a: &Clause, b: &Clause) -> bool {
    let excludes = |one: &Clause, other: &Clause| {
        one.iter()
            .filter(|condition| condition.op == Op::Eq)
            .any(|exact| {
                other
                    .iter()
                    .any(|test| test.index == exact.index && !holds(test, exact.value))
            })
    };
    excludes(a, b) || excludes(b, a)
}

/// Whether every value that passes `has` passes `wanted`.
fn implies(has: &Condition, wanted: &Condition) -> bool {
    if has.index != wanted.index {
        return false;
    }
    if has == wanted {
        return true;
    }
    match (has.op, wanted.op) {
        (Op::Eq, _) => holds(wanted, has.value),
        (Op::MaskedEq, Op::MaskedEq) => {
            wanted.value & !has.value == 0 && (has.value_two ^ wanted.value_two) & wanted.value == 0
        }
        // All bits are tested: an exact value.
        (Op::MaskedEq, _) if has.value == u64::MAX => holds(wanted, has.value_two),
        // A bit that is set here and not there.
        (Op::MaskedEq, Op::Ne) => (wanted.value ^ has.value_two) & has.value != 0,
        (Op::Lt | Op::Le, Op::Lt | Op::Le) => greatest(has) <= greatest(wanted),
        (Op::Gt | Op::Ge, Op::Gt | Op::Ge) => {
            least(has).is_none_or(|has| least(wanted).is_some_and(|wanted| has >= wanted))
        }
        (Op::Lt | Op::Le, Op::Ne) => greatest(has).is_none_or(|most| most < wanted.value),
        (Op::Gt | Op::Ge, Op::Ne) => least(has).is_none_or(|least| least > wanted.value),
        _ => false,
    }
}

/// The greatest value that passes `<` or `<=`; `None` where none does.
fn greatest(condition: &Condition) -> Option<u64> {
    match condition.op {
        Op::Lt => condition.value.checked_sub(1),
        _ => Some(condition.value),
    }
}

/// The least value that passes `>` or `>=`; `None` where none does.
fn least(condition: &Condition) -> Option<u64> {
    match condition.op {
        Op::Gt => condition.value.checked_add(1),
        _ => Some(condition.value),
    }
}

/// Whether it holds for this value of its argument.
fn holds(condition: &Condition, value: u64) -> bool {
    condition.holds(&[value; 6])
}

/// An action in words.
pub(crate) fn action(action: Action) -> String {
    match action {
        Action::KillProcess => "process killed".to_owned(),
        Action::KillThread => "thread killed".to_owned(),
        Action::Trap => "trapped".to_owned(),
        Action::Errno(errno) => format!("denied, errno {errno}"),
        Action::Trace(_) => "tracer asked".to_owned(),
        Action::Notify => "listener asked".to_owned(),
        Action::Log => "allowed and logged".to_owned(),
        Action::Allow => "allowed".to_owned(),
    }
}

/// What a recording has of a call, in words.
pub(crate) fn recorded(effect: &Effect) -> String {
    match effect {
        Effect::Always(action) if lets_through(*action) => "recorded".to_owned(),
        Effect::Always(_) => "not recorded".to_owned(),
        Effect::ByArguments { rules, .. } => {
            let clauses: Vec<String> = rules
                .iter()
                .map(|(clause, _)| clause_text(clause))
                .collect();
            format!("recorded with {}", clauses.join(" or "))
        }
    }
}

/// An effect in words: `allowed when a0 == 1 or a0 == 2, else denied, errno 38`.
pub(crate) fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Always(always) => action(*always),
        Effect::ByArguments { rules, otherwise } => {
            let mut text = String::new();
            let actions: BTreeSet<Action> = rules.iter().map(|(_, action)| *action).collect();
            for of in actions {
                let clauses: Vec<String> = rules
                    .iter()
                    .filter(|(_, action)| *action == of)
                    .map(|(clause, _)| clause_text(clause))
                    .collect();
                let _ = write!(text, "{} when {}, ", action(of), clauses.join(" or "));
            }
            text + "else " + &action(*otherwise)
        }
    }
}

/// A rule in words: `allowed when a0 == 1`, or `allowed` with any arguments.
pub(crate) fn rule(clause: &Clause, does: Action) -> String {
    if clause.is_empty() {
        action(does)
    } else {
        format!("{} when {}", action(does), clause_text(clause))
    }
}

fn clause_text(clause: &Clause) -> String {
    let tests: Vec<String> = clause.iter().map(condition).collect();
    tests.join(" and ")
}

fn condition(condition: &Condition) -> String {
    let Condition {
        index,
        op,
        value,
        value_two,
    } = condition;
    let sign = match op {
        Op::Ne => "!=",
        Op::Lt => "<",
        Op::Le => "<=",
        Op::Eq => "==",
        Op::Ge => ">=",
        Op::Gt => ">",
        Op::MaskedEq => return format!("a{index} & {value:#x} == {value_two:#x}"),
    };
    format!("a{index} {sign} {value:#x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(index: u8, op: Op, value: u64, value_two: u64) -> Condition {
        Condition {
            index,
            op,
            value,
            value_two,
        }
    }

    fn clauses(clauses: &[&[Condition]]) -> BTreeSet<Clause> {
        let clause = |clause: &&[Condition]| clause.iter().copied().collect();
        clauses.iter().map(clause).collect()
    }

    fn when(any: &[&[Condition]]) -> Permit {
        when_but(any, &[])
    }

    fn when_but(any: &[&[Condition]], but: &[&[Condition]]) -> Permit {
        Permit::When {
            any: clauses(any),
            but: clauses(but),
        }
    }

    fn unless(denied: &[&[Condition]]) -> Permit {
        Permit::Unless(clauses(denied))
    }

    /// What `implies` says is true of every value of a small world whose masks and values reach over its edges.
    #[test]
    fn an_implication_holds_for_every_value() {
        let values = [0, 1, 2, 3, 6, 7, u64::MAX];
        let mut conditions = Vec::new();
        for op in Op::ALL {
            for value in values {
                for two in if op == Op::MaskedEq {
                    &values[..]
                } else {
                    &[0]
                } {
                    conditions.push(test(0, op, value, *two));
                }
            }
        }
        let mut proven = 0;
        for has in &conditions {
            for wanted in &conditions {
                if implies(has, wanted) {
                    proven += 1;
                    let worlds = (0..16).chain(u64::MAX - 4..=u64::MAX);
                    for value in worlds {
                        assert!(
                            !holds(has, value) || holds(wanted, value),
                            "{has:?} {wanted:?} {value}"
                        );
                    }
                }
            }
        }
        assert!(proven > conditions.len(), "only equal ones were proven");
    }

    #[test]
    fn sets_within_sets() {
        let eq = |value| test(0, Op::Eq, value, 0);
        let masked = |value| test(0, Op::MaskedEq, 0xffff_ffff, value);
        let cases = [
            (Permit::Never, Permit::Never, true, true),
            (Permit::Never, when(&[&[eq(1)]]), true, false),
            (when(&[&[eq(1)]]), Permit::Always, true, false),
            (when(&[&[eq(1)]]), when(&[&[eq(1)], &[eq(2)]]), true, false),
            (when(&[&[eq(1)]]), when(&[&[masked(1)]]), true, false),
            (
                when(&[&[eq(1), test(1, Op::Eq, 5, 0)]]),
                when(&[&[eq(1)]]),
                true,
                false,
            ),
            // docker's socket: every domain but 40 and 38.
            (
                when(&[&[eq(1)], &[eq(2)]]),
                unless(&[&[eq(40)], &[eq(38)]]),
                true,
                false,
            ),
            (
                when(&[&[eq(38)]]),
                unless(&[&[eq(40)], &[eq(38)]]),
                false,
                false,
            ),
            (
                unless(&[&[eq(1)], &[eq(2)]]),
                unless(&[&[eq(1)]]),
                true,
                false,
            ),
            (unless(&[&[eq(1)]]), Permit::Always, true, false),
            (Permit::Some, Permit::Some, false, false),
            // podman's socket: every domain but 16, and 40 is denied by a rule of its own.
            (
                when(&[&[eq(1)]]),
                when_but(&[&[test(0, Op::Ne, 16, 0)]], &[&[eq(40)]]),
                true,
                false,
            ),
            (
                when(&[&[eq(40)]]),
                when_but(&[&[test(0, Op::Ne, 16, 0)]], &[&[eq(40)]]),
                false,
                false,
            ),
            (
                when_but(&[&[eq(1)]], &[&[eq(40)]]),
                when_but(&[&[eq(1)]], &[&[eq(40)]]),
                true,
                true,
            ),
        ];
        for (a, b, within, contains) in cases {
            assert_eq!(
                (a.within(&b), b.within(&a)),
                (within, contains),
                "{a:?} {b:?}"
            );
        }
    }

    #[test]
    fn effects_in_words() {
        let by = Effect::ByArguments {
            rules: [
                (
                    [test(0, Op::MaskedEq, 0x7e02_0000, 0)]
                        .into_iter()
                        .collect(),
                    Action::Allow,
                ),
                (
                    [test(0, Op::Eq, 1, 0), test(1, Op::Ge, 16, 0)]
                        .into_iter()
                        .collect(),
                    Action::Allow,
                ),
            ]
            .into_iter()
            .collect(),
            otherwise: Action::Errno(38),
        };
        assert_eq!(
            effect(&by),
            "allowed when a0 == 0x1 and a1 >= 0x10 or a0 & 0x7e020000 == 0x0, else denied, errno 38"
        );
    }
}
