//! Laws of `merge::profiles`.

use crate::strategy::{acting_profiles, call};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use seccast_model::merge::profiles;
use seccast_model::profile::{Action, Call, decide};
use seccast_model::{Arch, Filter, Profile, syscall};

fn merge(all: &[&Profile]) -> Option<Profile> {
    let labelled: Vec<_> = all
        .iter()
        .map(|profile| (String::new(), (*profile).clone()))
        .collect();
    profiles(&labelled).ok()
}

/// What reaches the kernel: nothing, what a supervisor lets through, everything.
fn permits(action: Action) -> u8 {
    match action {
        Action::Allow | Action::Log => 2,
        Action::Trace(_) | Action::Notify => 1,
        Action::KillProcess | Action::KillThread | Action::Trap | Action::Errno(_) => 0,
    }
}

/// Whether all of the profiles let in the calls of its ABI: a joined architecture is let in by the rules of all. What comes through i386's
/// multiplexers has lost its first argument, which the rules of a denylist may have told apart.
fn is_comparable(call: &Call, native: Arch, all: &[&Profile]) -> bool {
    let arch = match call.arch {
        // The kernel tells these two apart by the number.
        Arch::X86_64 | Arch::X32 if call.raw_nr() >= 0x4000_0000 => Arch::X32,
        Arch::X32 => Arch::X86_64,
        arch => arch,
    };
    let covers =
        |profile: &&Profile| arch == native || profile.architectures.contains(&arch.into());
    let name = syscall::name(call.arch, call.nr);
    all.iter().all(covers) && !matches!(name, Some("socketcall" | "ipc"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_join_lets_through_what_one_of_two_does_and_no_more(
        (a, b, _) in acting_profiles(),
        calls in prop::collection::vec(call(), 128),
    ) {
        let native = Arch::X86_64;
        if let Some(joined) = merge(&[&a, &b]) {
            let filter = Filter::compile(&joined, native).unwrap();
            for call in calls.into_iter().filter(|call| is_comparable(call, native, &[&a, &b])) {
                let most = [&a, &b].map(|profile| permits(decide(profile, native, &call)));
                let most = most.into_iter().max();
                prop_assert_eq!(Some(permits(decide(&joined, native, &call))), most, "decide: {:x?}", call);
                prop_assert_eq!(Some(permits(filter.run(&call))), most, "our filter: {:x?}", call);
            }
        }
    }
}

/// Two that differ in every kind of rule, and yet join: so the laws are not of refusals alone.
#[test]
fn many_random_profiles_can_be_joined() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let joined = (0..200).filter(|_| {
        let (a, b, _) = acting_profiles().new_tree(&mut runner).unwrap().current();
        merge(&[&a, &b]).is_some_and(|joined| joined != a && joined != b)
    });
    let joined = joined.count();
    println!("{joined} of 200 pairs could be joined");
    assert!(joined > 20, "{joined}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_and_repetition_do_not_matter((a, b, c) in acting_profiles()) {
        let all = merge(&[&a, &b, &c]);
        prop_assert_eq!(&merge(&[&c, &a, &b, &a]), &all);
        prop_assert_eq!(&merge(&[&b, &a, &c]), &all);
        if let Some(same) = merge(&[&a, &a]) {
            prop_assert_eq!(same, a.normalized());
        }
    }

    #[test]
    fn groups_do_not_matter((a, b, c) in acting_profiles()) {
        let left = merge(&[&a, &b]).and_then(|ab| merge(&[&ab, &c]));
        let right = merge(&[&b, &c]).and_then(|bc| merge(&[&a, &bc]));
        if let (Some(left), Some(right)) = (&left, &right) {
            prop_assert_eq!(left, right);
            let all = merge(&[&a, &b, &c]);
            prop_assert_eq!(all.as_ref(), Some(left));
        }
    }

    #[test]
    fn nothing_that_one_permits_is_lost((a, b, c) in acting_profiles(), calls in prop::collection::vec(call(), 64)) {
        if let Some(all) = merge(&[&a, &b, &c]) {
            for call in calls {
                let most = [&a, &b, &c].map(|profile| permits(decide(profile, Arch::X86_64, &call)));
                let merged = permits(decide(&all, Arch::X86_64, &call));
                prop_assert!(merged >= most.into_iter().max().unwrap_or(0), "{:x?}", call);
            }
        }
    }

    #[test]
    fn an_allowlist_gets_nothing_that_none_permits((a, b, c) in acting_profiles(), calls in prop::collection::vec(call(), 64)) {
        if permits(a.default_action) == 0
            && let Some(all) = merge(&[&a, &b, &c])
        {
            // A joined architecture is let in by the rules of all.
            for call in calls.into_iter().filter(|call| call.arch == Arch::X86_64 && call.nr < 1024) {
                let most = [&a, &b, &c].map(|profile| permits(decide(profile, Arch::X86_64, &call)));
                let merged = permits(decide(&all, Arch::X86_64, &call));
                prop_assert_eq!(merged, most.into_iter().max().unwrap_or(0), "{:x?}", call);
            }
        }
    }
}
