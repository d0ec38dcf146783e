//! Profiles with many values: what libseccomp makes of them may be too long for the kernel where our filter is not.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use seccast_conformance::Search;
use seccast_model::Arch;
use seccast_model::filter::{CompileError, Filter, MAX_INSTRUCTIONS};
use seccast_model::profile::{Action, Condition, Op, Profile, Rule};

/// Allows each call for as many values of its second argument, from the first on.
fn with_values(calls: &[(&str, u64, u64)]) -> Profile {
    let rules = calls.iter().flat_map(|(name, first, count)| {
        (*first..first + count).map(|value| Rule {
            names: [(*name).to_owned()].into(),
            action: Action::Allow,
            conditions: vec![Condition {
                index: 1,
                op: Op::Eq,
                value,
                value_two: 0,
            }],
        })
    });
    Profile {
        rules: rules.collect(),
        ..Profile::allowing([].into(), [].into())
    }
}

/// Instructions of the library's filter; the kernel takes no more than [`MAX_INSTRUCTIONS`].
fn library(profile: &Profile) -> usize {
    let filter = seccast_conformance::filter(profile, Arch::X86_64, Search::Linear);
    filter.unwrap().len()
}

#[test]
fn what_libseccomp_finds_too_long_is_refused_although_ours_is_short() {
    let cases: [&[(&str, u64, u64)]; 3] = [
        &[("ioctl", 0, 4200)],
        // Two that differ in all comparisons, and in none but the last.
        &[("ioctl", 0, 2100), ("fcntl", 1, 2100)],
        &[("ioctl", 0, 1), ("fcntl", 1 << 32, 4200)],
    ];
    for calls in cases {
        let profile = with_values(calls);
        let theirs = library(&profile);
        let ours = Filter::compile(&profile, Arch::X86_64);
        println!(
            "{calls:?}: libseccomp {theirs}, {ours:?}",
            ours = ours.as_ref().map(|it| it.instructions().len())
        );
        assert!(theirs > MAX_INSTRUCTIONS, "{theirs}");
        assert!(
            matches!(ours, Err(CompileError::TooLongForLibrary { instructions }) if instructions <= theirs),
            "{ours:?}"
        );
    }
}

/// What is counted never exceeds what the library writes, so nothing is refused that a runtime can load.
#[test]
fn what_libseccomp_can_make_is_not_refused() {
    let cases: [&[(&str, u64, u64)]; 3] = [
        &[("ioctl", 0, 3800)],
        // The end of one is the other: written once.
        &[("ioctl", 0, 3800), ("fcntl", 0, 3800), ("prctl", 0, 3700)],
        &[("ioctl", 0, 1900), ("fcntl", 7, 1900)],
    ];
    for calls in cases {
        let profile = with_values(calls);
        let theirs = library(&profile);
        let ours = Filter::compile(&profile, Arch::X86_64);
        println!(
            "{calls:?}: libseccomp {theirs}, {ours:?}",
            ours = ours.as_ref().map(|it| it.instructions().len())
        );
        assert!(theirs <= MAX_INSTRUCTIONS, "{theirs}");
        assert!(ours.is_ok(), "{ours:?}");
    }
}
