//! Laws of `generate`.

use crate::strategy::{observation, policy};
use proptest::collection::vec;
use proptest::prelude::*;
use seccast_model::{Generated, Observation, Policy, Profile, generate};
use std::collections::BTreeSet;

fn names(generated: &Generated) -> BTreeSet<String> {
    generated
        .profile
        .allowed_names()
        .into_iter()
        .map(str::to_owned)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn neither_order_nor_repetition_matters(
        (observations, shuffled) in vec(observation(), 1..5).prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        again in any::<prop::sample::Index>(),
        policy in policy(),
    ) {
        let mut shuffled = shuffled;
        shuffled.push(shuffled[again.index(shuffled.len())].clone());
        match (generate(&observations, &policy), generate(&shuffled, &policy)) {
            (Ok(one), Ok(other)) => {
                prop_assert_eq!(&one, &other);
                prop_assert_eq!(one.profile.to_oci_json(), other.profile.to_oci_json());
                prop_assert_eq!(one.report.to_json(), other.report.to_json());
            }
            (one, other) => prop_assert!(one.is_err() && other.is_err()),
        }
    }

    /// A later state of the same recording may: what was denied by then is not what a fallback brings in.
    #[test]
    fn more_recordings_never_take_a_name_away(
        observations in vec(observation(), 1..4),
        mut more in vec(observation(), 1..3),
        policy in policy(),
    ) {
        if let Ok(fewer) = generate(&observations, &policy) {
            more.retain(|new| observations.iter().all(|known| known.recording_id != new.recording_id));
            let all: Vec<Observation> = observations.into_iter().chain(more).collect();
            let all = generate(&all, &policy).unwrap();
            prop_assert!(names(&all).is_superset(&names(&fewer)));
            prop_assert!(all.profile.architectures.is_superset(&fewer.profile.architectures));
        }
    }

    #[test]
    fn every_allowed_name_has_an_origin(observations in vec(observation(), 1..4), policy in policy()) {
        if let Ok(generated) = generate(&observations, &policy) {
            let explained: BTreeSet<String> = generated.report.syscalls.keys().cloned().collect();
            prop_assert_eq!(&explained, &names(&generated));
            prop_assert!(!explained.is_empty());
            for (name, origins) in &generated.report.syscalls {
                prop_assert!(!origins.is_empty(), "{}", name);
            }
            let summary = generated.report.summary();
            prop_assert_eq!(
                summary.allowed,
                summary.recorded + summary.core_added + summary.base_added + summary.closure_added
            );
        }
    }

    #[test]
    fn each_group_only_adds(observations in vec(observation(), 1..4), policy in policy()) {
        let bare = Policy { core: false, base: false, closure: false, ..policy.clone() };
        if let Ok(bare) = generate(&observations, &bare) {
            let full = generate(&observations, &policy).unwrap();
            prop_assert!(names(&full).is_superset(&names(&bare)));
            prop_assert_eq!(full.report.is_complete(), bare.report.is_complete());
        }
    }

    #[test]
    fn the_larger_base_holds_for_both(observations in vec(observation(), 1..3), policy in policy()) {
        let with = Policy { no_new_privs: true, ..policy.clone() };
        let without = Policy { no_new_privs: false, ..policy };
        if let (Ok(with), Ok(without)) = (generate(&observations, &with), generate(&observations, &without)) {
            let saved: BTreeSet<String> = names(&without).difference(&names(&with)).cloned().collect();
            prop_assert_eq!(&saved, &without.report.no_new_privs_saves);
            prop_assert!(names(&without).is_superset(&names(&with)));
        }
    }

    #[test]
    fn a_generated_profile_is_plain_oci(observations in vec(observation(), 1..3), policy in policy()) {
        if let Ok(generated) = generate(&observations, &policy) {
            let read = Profile::from_oci_json(generated.profile.to_oci_json().as_bytes()).unwrap();
            prop_assert_eq!(read, generated.profile);
        }
    }
}
