//! An observation: whatever is read is written as it was, and a profile that can be made of it is one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seccast_model::{Observation, Policy, Profile, generate};

fuzz_target!(|bytes: &[u8]| {
    let Ok(observation) = Observation::from_json(bytes) else {
        return;
    };
    let json = observation.to_json();
    let again = Observation::from_json(json.as_bytes()).expect("what was written can be read");
    assert_eq!(again, observation);
    assert_eq!(again.to_json(), json);
    let policy = Policy {
        include_denied: true,
        ..Policy::default()
    };
    if let Ok(generated) = generate(&[observation], &policy) {
        let profile = generated.profile.to_oci_json();
        let profile = Profile::from_oci_json(profile.as_bytes()).expect("a profile is a profile");
        assert!(!profile.allowed_names().is_empty());
        assert!(!generated.report.to_json().is_empty());
    }
});
