//! When two rules hold for the same call, and what holds where both do.
//!
//! Which of two rules that hold libseccomp finds first depends on its tree and, for some, on the order of the file; and it compiles some
//! sets of inequalities wrongly (`tests/conformance`). What a join of profiles means must depend on neither.

use crate::profile::{Action, Condition, Op, Width};
use std::collections::{BTreeMap, BTreeSet};

/// And-bound conditions, each of another argument.
pub(super) type Clause = BTreeSet<Condition>;

/// The rules of one call.
pub(super) type Rules = BTreeSet<(Clause, Action)>;

/// The arguments for which two clauses hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Both {
    /// None.
    Never,
    /// Those of this clause.
    When(Clause),
    /// No clause says it.
    Unsaid,
}

/// Whether some arguments satisfy both clauses, on an ABI with 64-bit arguments or with 32-bit ones. Errs on the side of "yes".
pub(super) fn may_meet(one: &Clause, other: &Clause) -> bool {
    [Width::Bits64, Width::Bits32].into_iter().any(|width| {
        one.iter().all(|one| {
            other
                .iter()
                .filter(|other| other.index == one.index)
                .all(|other| values_meet(one, other, width))
        })
    })
}

/// Whether it may depend on the order of the file which of two rules libseccomp finds first. Of equality alone it
/// does not (`tests/conformance`, `the_first_of_several_actions`).
pub(super) fn depends_on_order(one: &Clause, other: &Clause) -> bool {
    let mut conditions = one.iter().chain(other);
    !conditions.all(|condition| condition.op == Op::Eq)
}

/// The conjunction of two clauses.
pub(super) fn both(one: &Clause, other: &Clause) -> Both {
    if !may_meet(one, other) {
        return Both::Never;
    }
    let mut by_index: BTreeMap<u8, Condition> = one.iter().map(|it| (it.index, *it)).collect();
    for condition in other {
        let stricter = match by_index.get(&condition.index) {
            None => *condition,
            Some(known) => match stricter(known, condition) {
                Some(stricter) => stricter,
                None => return Both::Unsaid,
            },
        };
        by_index.insert(condition.index, stricter);
    }
    Both::When(by_index.into_values().collect())
}

/// The one of two conditions of an argument that implies the other, at both widths.
fn stricter(one: &Condition, other: &Condition) -> Option<Condition> {
    let implies = |exact: &Condition, wider: &Condition| {
        exact == wider
            || exact.op == Op::Eq
                && [Width::Bits64, Width::Bits32]
                    .into_iter()
                    .all(|width| narrowed(wider, width).holds(&[exact.value & width.mask(); 6]))
    };
    if implies(one, other) {
        Some(*one)
    } else if implies(other, one) {
        Some(*other)
    } else {
        None
    }
}

/// Whether a value may satisfy both conditions.
fn values_meet(one: &Condition, other: &Condition, width: Width) -> bool {
    let (one, other) = (narrowed(one, width), narrowed(other, width));
    match (one.op, other.op) {
        (Op::Eq, _) => other.holds(&[one.value; 6]),
        (_, Op::Eq) => one.holds(&[other.value; 6]),
        (Op::MaskedEq, Op::MaskedEq) => {
            (one.value_two ^ other.value_two) & one.value & other.value == 0
        }
        _ => match (range(&one, width), range(&other, width)) {
            (Some((low, high)), Some((other_low, other_high))) => {
                low.max(other_low) <= high.min(other_high)
            }
            _ => true,
        },
    }
}

/// As an ABI of this width compares.
fn narrowed(condition: &Condition, width: Width) -> Condition {
    Condition {
        value: condition.value & width.mask(),
        value_two: condition.value_two & width.mask(),
        ..*condition
    }
}

/// The first and the last value of an order's comparison; the last is before the first where there is none.
fn range(condition: &Condition, width: Width) -> Option<(u64, u64)> {
    let (value, last) = (condition.value, width.mask());
    let none = (1, 0);
    match condition.op {
        Op::Lt => Some(value.checked_sub(1).map_or(none, |high| (0, high))),
        Op::Le => Some((0, value)),
        Op::Ge => Some((value, last)),
        Op::Gt if value == last => Some(none),
        Op::Gt => Some((value + 1, last)),
        Op::Eq | Op::Ne | Op::MaskedEq => None,
    }
}

/// Whether libseccomp makes of these rules what they say: equality and masks; one rule alone; or comparisons of one argument with 32-bit
/// values that have one action. `tests/conformance/tests/random.rs` shows each.
pub(super) fn are_compiled_rightly(rules: &Rules) -> bool {
    let conditions = || rules.iter().flat_map(|(clause, _)| clause);
    let of_values = |condition: &Condition| matches!(condition.op, Op::Eq | Op::MaskedEq);
    if rules.len() <= 1 || conditions().all(of_values) {
        return true;
    }
    let actions: BTreeSet<Action> = rules.iter().map(|(_, action)| *action).collect();
    let arguments: BTreeSet<u8> = conditions().map(|condition| condition.index).collect();
    let small = |condition: &Condition| {
        condition.op != Op::MaskedEq && condition.value <= u64::from(u32::MAX)
    };
    actions.len() == 1 && arguments.len() == 1 && conditions().all(small)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(index: u8) -> Vec<Condition> {
        let values = [0, 1, 2, 3, 5, u64::MAX, u64::from(u32::MAX), 1 << 32 | 1];
        let mut all = Vec::new();
        for op in Op::ALL {
            for value in values {
                let twos: &[u64] = if op == Op::MaskedEq { &values } else { &[0] };
                all.extend(twos.iter().map(|value_two| Condition {
                    index,
                    op,
                    value,
                    value_two: *value_two & value,
                }));
            }
        }
        all
    }

    /// Two conditions that are said never to meet have no common value, and what is said of both is true of each value.
    #[test]
    fn what_is_said_of_two_conditions_holds_for_every_value() {
        let values: Vec<u64> = (0..9)
            .chain([
                u64::MAX - 1,
                u64::MAX,
                u64::from(u32::MAX),
                1 << 32,
                1 << 32 | 1,
            ])
            .collect();
        let (mut apart, mut said) = (0, 0);
        for one in conditions(0) {
            for other in conditions(0) {
                let (a, b) = ([one].into(), [other].into());
                let both = both(&a, &b);
                apart += usize::from(both == Both::Never);
                for width in [Width::Bits64, Width::Bits32] {
                    let (one, other) = (narrowed(&one, width), narrowed(&other, width));
                    for args in values.iter().map(|value| [value & width.mask(); 6]) {
                        let holds = one.holds(&args) && other.holds(&args);
                        match &both {
                            Both::Never => assert!(!holds, "{one:?} {other:?} {args:?}"),
                            Both::When(clause) => {
                                said += 1;
                                let says = clause.iter().all(|it| narrowed(it, width).holds(&args));
                                assert_eq!(says, holds, "{one:?} {other:?} {args:?}");
                            }
                            Both::Unsaid => {}
                        }
                    }
                }
            }
        }
        assert!(apart > 100 && said > 1000, "{apart} {said}");
    }

    #[test]
    fn values_that_differ_above_32_bits_meet_on_narrow_abis() {
        let eq = |value| {
            let condition = Condition {
                index: 0,
                op: Op::Eq,
                value,
                value_two: 0,
            };
            Clause::from([condition])
        };
        assert_eq!(both(&eq(1), &eq(2)), Both::Never);
        assert_eq!(both(&eq(1), &eq(1 << 32 | 1)), Both::Unsaid);
    }
}
