//! Profiles that are joined, as libseccomp compiles them: the joined one lets through what one of them does, and no more.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use seccast_conformance::Search;
use seccast_model::filter;
use seccast_model::profile::{Action, Call, Condition, Op, Profile, Rule};
use seccast_model::{Arch, merge, syscall};
use std::cell::Cell;

/// Few, so that rules meet.
const NAMES: [&str; 3] = ["read", "personality", "socket"];

fn condition() -> impl Strategy<Value = Condition> {
    let masks = prop::sample::select(vec![1_u64, 2, 3, 0xffff_ffff]);
    let masked = (0..2_u8, masks, 0..4_u64).prop_map(|(index, value, value_two)| Condition {
        index,
        op: Op::MaskedEq,
        value,
        value_two,
    });
    let equal = (0..2_u8, 0..4_u64).prop_map(|(index, value)| Condition {
        index,
        op: Op::Eq,
        value,
        value_two: 0,
    });
    prop_oneof![masked, equal]
}

/// Allow, kill and fail, of the same calls with overlapping conditions; not the default action alone. An inequality stands alone.
fn profile() -> impl Strategy<Value = Profile> {
    let name = prop::sample::select(NAMES.to_vec()).prop_map(str::to_owned);
    let action = prop::sample::select(vec![
        Action::Allow,
        Action::Allow,
        Action::KillProcess,
        Action::Errno(1),
        Action::Log,
    ]);
    let not_two = (0..2_u8).prop_map(|index| {
        vec![Condition {
            index,
            op: Op::Ne,
            value: 2,
            value_two: 0,
        }]
    });
    let conditions = prop_oneof![9 => vec(condition(), 0..3), 1 => not_two];
    vec((btree_set(name, 1..3), action, conditions), 1..4).prop_map(|rules| Profile {
        rules: rules
            .into_iter()
            .map(|(names, action, conditions)| Rule {
                names,
                action,
                conditions,
            })
            .collect(),
        ..Profile::allowing([].into(), [].into())
    })
}

fn lets_through(action: Action) -> bool {
    matches!(action, Action::Allow | Action::Log)
}

#[test]
fn a_join_lets_through_what_one_of_two_does_as_libseccomp_says() {
    let repeats = std::env::var("SECCAST_REPEATS").ok();
    let mut runner = TestRunner::new(ProptestConfig {
        cases: repeats.map_or(1000, |repeats| repeats.parse().unwrap()),
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let defaults = prop::sample::select(vec![
        Action::Errno(38),
        Action::KillProcess,
        Action::Allow,
        Action::Log,
    ]);
    let native = Arch::X86_64;
    let (joined, refused) = (Cell::new(0_u32), Cell::new(0_u32));
    let search = prop::sample::select(vec![Search::Linear, Search::Tree]);
    let result = runner.run(
        &(defaults, profile(), profile(), search),
        |(default_action, one, other, search)| {
            let both = [one, other].map(|profile| Profile {
                default_action,
                ..profile
            });
            let library = |profile: &Profile| seccast_conformance::filter(profile, native, search);
            // Two actions for the same conditions: no container starts with these.
            let Ok(filters) = both.iter().map(library).collect::<Result<Vec<_>, _>>() else {
                return Ok(());
            };
            let labelled = both.map(|profile| (String::new(), profile));
            let Ok(union) = merge::profiles(&labelled) else {
                refused.set(refused.get() + 1);
                return Ok(());
            };
            joined.set(joined.get() + 1);
            let of_union = match library(&union) {
                Ok(filter) => filter,
                Err(refused) => return Err(TestCaseError::fail(format!("{refused:?}"))),
            };
            for name in NAMES {
                for (first, second) in (0..5).flat_map(|one| (0..5).map(move |two| (one, two))) {
                    let call = Call {
                        arch: native,
                        nr: syscall::nr(native, name).unwrap(),
                        args: [first, second, 0, 0, 0, 0],
                    };
                    let passes = |program: &[filter::Instruction]| {
                        filter::run(program, &filter::data(&call))
                            .map(filter::action)
                            .map(lets_through)
                    };
                    let wanted = filters.iter().any(|program| passes(program) == Some(true));
                    prop_assert_eq!(passes(&of_union), Some(wanted), "{}{:?}", name, call.args);
                }
            }
            Ok(())
        },
    );
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, (default, one, other, search))) => panic!(
            "{reason}\n{default:?}, {search:?}:\n{}{}",
            one.to_oci_json(),
            other.to_oci_json()
        ),
        Err(error) => panic!("{error}"),
    }
    println!("{} joined, {} refused", joined.get(), refused.get());
    assert!(joined.get() > refused.get() / 4, "too few were joined");
}
