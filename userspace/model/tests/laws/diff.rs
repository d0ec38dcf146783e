//! What `diff` says of any two profiles.

use crate::strategy::{observation, profile};
use proptest::prelude::*;
use proptest::sample::select;
use seccast_model::diff::{ChangeKind, Subject};
use seccast_model::profile::{Action, Condition, OciArch, Op, Rule};
use seccast_model::{Arch, Merged, Profile, diff};
use std::collections::BTreeSet;

fn subject(profile: Profile) -> Subject {
    Subject::profile("p.json", profile, Arch::X86_64, None)
}

const VALUES: [u64; 7] = [0, 1, 2, 3, 6, 7, u64::MAX];

/// Conditions on two arguments and of few values, so that they meet.
fn condition() -> impl Strategy<Value = Condition> {
    (
        0..2_u8,
        select(Op::ALL.to_vec()),
        select(&VALUES[..]),
        select(&VALUES[..]),
    )
        .prop_map(|(index, op, value, value_two)| Condition {
            index,
            op,
            value,
            value_two,
        })
}

fn action() -> impl Strategy<Value = Action> {
    select(vec![
        Action::Allow,
        Action::Allow,
        Action::Log,
        Action::Notify,
        Action::Errno(1),
        Action::Errno(38),
        Action::KillProcess,
    ])
}

prop_compose! {
    /// Rules for one name.
    fn of_one_call()(
        default_action in action(),
        rules in prop::collection::vec((action(), prop::collection::vec(condition(), 0..3)), 0..4),
    ) -> Profile {
        let rules = rules.into_iter().map(|(action, conditions)| Rule {
            names: BTreeSet::from(["socket".to_owned()]),
            action,
            conditions,
        });
        Profile { default_action, rules: rules.collect(), ..Profile::allowing(BTreeSet::new(), BTreeSet::new()) }
    }
}

prop_compose! {
    /// The same where conditions and exceptions of one argument meet nearly always.
    fn of_one_argument()(
        rules in prop::collection::vec(
            (
                select(vec![Action::Allow, Action::Allow, Action::Errno(1)]),
                select(vec![Op::Eq, Op::Eq, Op::Ne, Op::Lt, Op::Ge]),
                0..4_u64,
            ),
            1..4,
        ),
    ) -> Profile {
        let rules = rules.into_iter().map(|(action, op, value)| Rule {
            names: BTreeSet::from(["socket".to_owned()]),
            action,
            conditions: vec![Condition { index: 0, op, value, value_two: 0 }],
        });
        Profile { rules: rules.collect(), ..Profile::allowing(BTreeSet::new(), BTreeSet::new()) }
    }
}

fn lets_through(action: Action) -> bool {
    matches!(
        action,
        Action::Allow | Action::Log | Action::Notify | Action::Trace(_)
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_differs_from_itself(profile in profile(), observation in observation()) {
        let profile = subject(profile);
        prop_assert!(diff(&profile, &profile).unwrap().is_empty());
        if let Ok(recorded) = Subject::recorded("o.json", &Merged::of(observation).unwrap()) {
            prop_assert!(diff(&recorded, &recorded).unwrap().is_empty());
        }
    }

    #[test]
    fn the_other_way_round_is_the_mirror(a in of_one_call(), b in of_one_call()) {
        let (a, b) = (subject(a), subject(b));
        let there = diff(&a, &b).unwrap();
        let back = diff(&b, &a).unwrap();
        let mirror = |kind| match kind {
            ChangeKind::Added => ChangeKind::Removed,
            ChangeKind::Removed => ChangeKind::Added,
            ChangeKind::Widened => ChangeKind::Narrowed,
            ChangeKind::Narrowed => ChangeKind::Widened,
            ChangeKind::Changed => ChangeKind::Changed,
        };
        let mirrored: Vec<_> = back.changes.iter().map(|change| (&change.name, mirror(change.kind))).collect();
        let kinds: Vec<_> = there.changes.iter().map(|change| (&change.name, change.kind)).collect();
        prop_assert_eq!(kinds, mirrored);
    }

    /// What a gate relies on: where nothing is said to open, no arguments pass that did not pass before.
    #[test]
    fn what_is_not_said_to_open_does_not_open(
        a in of_one_call(),
        b in of_one_call(),
        calls in prop::collection::vec((select(&VALUES[..]), select(&VALUES[..])), 20),
    ) {
        let found = diff(&subject(a.clone()), &subject(b.clone())).unwrap();
        let opens = found.changes.iter().any(seccast_model::diff::Change::opens)
            || found.settings.iter().any(|setting| setting.opens);
        if !opens {
            let (before, after) = (a.effect("socket"), b.effect("socket"));
            for (first, second) in calls {
                let args = [first, second, 0, 0, 0, 0];
                prop_assert!(
                    !lets_through(after.answer(&args)) || lets_through(before.answer(&args)),
                    "{:?} {:?} {:?}", before, after, args
                );
            }
        }
    }

    /// The same of exceptions, with every argument that matters.
    #[test]
    fn no_exception_is_overlooked(a in of_one_argument(), b in of_one_argument()) {
        let found = diff(&subject(a.clone()), &subject(b.clone())).unwrap();
        if !found.changes.iter().any(seccast_model::diff::Change::opens) {
            let (before, after) = (a.effect("socket"), b.effect("socket"));
            for value in 0..5 {
                let args = [value, 0, 0, 0, 0, 0];
                prop_assert!(
                    !lets_through(after.answer(&args)) || lets_through(before.answer(&args)),
                    "{:?} {:?} {}", before, after, value
                );
            }
        }
    }

    /// A profile that lists none means the machine's own.
    #[test]
    fn architectures_are_told_apart(
        a in prop::collection::btree_set(select(Arch::ALL.to_vec()), 0..3),
        b in prop::collection::btree_set(select(Arch::ALL.to_vec()), 0..3),
    ) {
        let of = |archs: &BTreeSet<Arch>| subject(Profile::allowing(
            BTreeSet::from(["read".to_owned()]),
            archs.iter().copied().map(OciArch::from).collect(),
        ));
        let found = diff(&of(&a), &of(&b)).unwrap();
        // None listed is the machine's own.
        let meant = |archs: &BTreeSet<Arch>| if archs.is_empty() { BTreeSet::from([Arch::X86_64]) } else { archs.clone() };
        let added: BTreeSet<OciArch> = meant(&b).difference(&meant(&a)).copied().map(OciArch::from).collect();
        prop_assert_eq!(found.architectures_added, added);
        prop_assert_eq!(found.changes.len(), 0);
    }
}
