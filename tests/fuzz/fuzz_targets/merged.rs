//! Joined recordings: whatever is read is written as it was, and joined with itself it is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seccast_model::{Merged, Policy, Profile, generate};

fuzz_target!(|bytes: &[u8]| {
    let Ok(merged) = Merged::from_json(bytes) else {
        return;
    };
    let json = merged.to_json();
    let again = Merged::from_json(json.as_bytes()).expect("what was written can be read");
    assert_eq!(again, merged);
    assert_eq!(again.to_json(), json);
    let twice = merged.join(&again).expect("it fits itself");
    assert_eq!(twice, merged);
    let _ = merged.diagnose();
    if let Ok(generated) = generate::from_merged(&merged, &Policy::default()) {
        let profile = generated.profile.to_oci_json();
        Profile::from_oci_json(profile.as_bytes()).expect("a profile is a profile");
    }
});
