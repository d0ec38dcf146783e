//! Any profile at the gate: no difference from itself, an outcome against a real one in every form, and merged it is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seccast_model::{
    Arch, Profile,
    check::{Policy, check},
    diff,
    diff::Subject,
    merge,
};
use std::sync::LazyLock;

const REDIS: &str = include_str!("../../../profiles/apps/redis/profile.json");

static BASE: LazyLock<Subject> = LazyLock::new(|| {
    let profile = Profile::from_oci_json(REDIS.as_bytes()).expect("a profile of the repository");
    Subject::profile("redis.json", profile, Arch::X86_64, None)
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(profile) = Profile::from_oci_json(bytes) else {
        return;
    };
    let labelled = |label: &str| (label.to_owned(), profile.clone());
    if let Ok(merged) = merge::profiles(&[labelled("a.json"), labelled("b.json")]) {
        let again = merge::profiles(&[("m.json".to_owned(), merged.clone()), labelled("a.json")]);
        assert_eq!(again.expect("it fits itself"), merged);
    }
    let subject = Subject::profile("web.json", profile, Arch::X86_64, None);
    let same = diff(&subject, &subject).expect("tables are whole");
    assert!(same.is_empty(), "{}", same.summary());
    let outcome = check(&subject, &BASE, &Policy::default(), 0).expect("tables are whole");
    assert!(!outcome.diff.to_markdown().is_empty());
    assert!(outcome.to_json().ends_with('\n'));
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    assert!(outcome.to_sarif(Some("web.json"), text).contains("2.1.0"));
    assert!(outcome.to_junit().contains("<testsuite"));
});
