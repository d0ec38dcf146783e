//! Laws of `merge::profiles`.

use crate::strategy::{acting_profiles, call};
use proptest::prelude::*;
use seccast_model::merge::profiles;
use seccast_model::profile::{Action, decide};
use seccast_model::{Arch, Profile};

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

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_and_repetition_do_not_matter((a, b, c) in acting_profiles()) {
        let all = merge(&[&a, &b, &c]);
        prop_assert_eq!(&merge(&[&c, &a, &b, &a]), &all);
        prop_assert_eq!(&merge(&[&b, &a, &c]), &all);
        prop_assert_eq!(merge(&[&a, &a]), Some(a.normalized()));
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
