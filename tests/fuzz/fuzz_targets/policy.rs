//! A policy: whatever is read can be held against a real profile, and its outcome written in every form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seccast_model::{
    Arch, Profile,
    check::{Policy, check},
    diff::Subject,
};
use std::sync::LazyLock;

const REDIS: &str = include_str!("../../../profiles/apps/redis/profile.json");
const NGINX: &str = include_str!("../../../profiles/apps/nginx/profile.json");

static SUBJECTS: LazyLock<[Subject; 2]> = LazyLock::new(|| {
    [REDIS, NGINX].map(|json| {
        let profile = Profile::from_oci_json(json.as_bytes()).expect("a profile of the repository");
        Subject::profile("profile.json", profile, Arch::X86_64, None)
    })
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(policy) = Policy::from_yaml(bytes) else {
        return;
    };
    let [redis, nginx] = &*SUBJECTS;
    let outcome =
        check(redis, nginx, &policy, 1_795_520_299_856_514_329).expect("tables are whole");
    assert!(outcome.to_json().ends_with('\n'));
    assert!(
        outcome
            .to_sarif(Some("profile.json"), REDIS)
            .contains("2.1.0")
    );
    assert!(outcome.to_junit().contains("<testsuite"));
});
