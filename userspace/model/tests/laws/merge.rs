//! Laws of `merge`, in the bytes of the files.

use crate::strategy::{observation, policy};
use proptest::collection::vec;
use proptest::prelude::*;
use seccast_model::observation::{EnteredAs, Phase};
use seccast_model::{Merged, Observation, generate};
use std::collections::{BTreeMap, BTreeSet};

fn merged(observations: &[Observation]) -> Merged {
    Merged::new(observations).unwrap()
}

fn join(one: &Merged, other: &Merged) -> Merged {
    one.join(other).unwrap()
}

/// What a reader of the file has.
fn again(merged: &Merged) -> Merged {
    Merged::from_json(merged.to_json().as_bytes()).unwrap()
}

/// Every name of the application with the recordings that have it, from the observations themselves.
fn presence(observations: &[Observation]) -> BTreeMap<&str, BTreeSet<&str>> {
    let decided: BTreeSet<&str> = observations
        .iter()
        .filter(|one| one.entered_as == Some(EnteredAs::App))
        .map(|one| &*one.recording_id)
        .collect();
    let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for one in observations {
        let calls = one.calls.iter().filter(|((_, phase), _)| match phase {
            Phase::App | Phase::Exec => true,
            Phase::Entered => decided.contains(&*one.recording_id),
            Phase::Runtime | Phase::Hook => false,
        });
        let calls = calls
            .map(|(_, names)| names)
            .chain(one.blocked_at_attach.values());
        for name in calls.flat_map(BTreeMap::keys) {
            names.entry(name).or_default().insert(&one.recording_id);
        }
    }
    names
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn commutative(
        (all, shuffled) in vec(observation(), 1..5).prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = merged(&all);
        prop_assert_eq!(whole.to_json(), merged(&shuffled).to_json());
        let (left, right) = all.split_at(cut.index(all.len()));
        let (left, right) = (merged(left), merged(right));
        prop_assert_eq!(join(&left, &right).to_json(), join(&right, &left).to_json());
        prop_assert_eq!(join(&left, &right).to_json(), whole.to_json());
    }

    #[test]
    fn associative(a in vec(observation(), 0..3), b in vec(observation(), 0..3), c in vec(observation(), 0..3)) {
        let (a, b, c) = (merged(&a), merged(&b), merged(&c));
        prop_assert_eq!(join(&join(&a, &b), &c).to_json(), join(&a, &join(&b, &c)).to_json());
    }

    #[test]
    fn idempotent(all in vec(observation(), 0..5)) {
        let merged = merged(&all);
        prop_assert_eq!(join(&merged, &merged).to_json(), merged.to_json());
    }

    #[test]
    fn monotone(fewer in vec(observation(), 0..4), more in vec(observation(), 0..3)) {
        let (fewer, more) = (merged(&fewer), merged(&more));
        let all = join(&fewer, &more);
        prop_assert_eq!(join(&all, &fewer).to_json(), all.to_json());
        for (place, names) in &fewer.calls {
            for (name, seen) in names {
                prop_assert!(all.calls[place][name].recordings.is_superset(&seen.recordings));
            }
        }
        for (reason, count) in fewer.losses() {
            prop_assert!(all.losses()[reason] >= count);
        }
        let now = all.presence();
        for (name, before) in fewer.presence() {
            prop_assert!(now[name].seen >= before.seen && now[name].of >= before.of);
        }
    }

    #[test]
    fn nothing_is_lost_in_a_file(one in vec(observation(), 0..4), other in vec(observation(), 0..4)) {
        let (one, other) = (merged(&one), merged(&other));
        prop_assert_eq!(&again(&one), &one);
        prop_assert_eq!(again(&one).to_json(), one.to_json());
        prop_assert_eq!(join(&again(&one), &again(&other)).to_json(), join(&one, &other).to_json());
    }

    #[test]
    fn presence_and_losses_count_each_recording_once(all in vec(observation(), 0..6)) {
        let merged = merged(&all);
        let seen = merged.presence().into_iter().map(|(name, presence)| (name, presence.seen));
        let expect = presence(&all).into_iter().map(|(name, ids)| (name, ids.len()));
        prop_assert_eq!(seen.collect::<BTreeMap<_, _>>(), expect.collect::<BTreeMap<_, _>>());

        let mut most: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for (one, (reason, count)) in all.iter().flat_map(|one| one.losses.iter().map(move |loss| (one, loss))) {
            let most = most.entry((reason, &one.recording_id)).or_default();
            *most = (*most).max(*count);
        }
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for ((reason, _), count) in most.into_iter().filter(|(_, count)| *count > 0) {
            *sums.entry(reason).or_default() += count;
        }
        prop_assert_eq!(merged.losses(), sums);
    }

    #[test]
    fn a_profile_of_the_file_is_that_of_the_observations(all in vec(observation(), 1..5), policy in policy()) {
        let file = again(&merged(&all));
        match (generate(&all, &policy), seccast_model::generate::from_merged(&file, &policy)) {
            (Ok(one), Ok(other)) => {
                prop_assert_eq!(one.profile.to_oci_json(), other.profile.to_oci_json());
                prop_assert_eq!(one.report.to_json(), other.report.to_json());
            }
            (one, other) => prop_assert!(one.is_err() && other.is_err()),
        }
    }
}
