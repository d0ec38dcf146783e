//! A plain OCI profile: whatever is read is written as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seccast_model::Profile;

fuzz_target!(|bytes: &[u8]| {
    let Ok(profile) = Profile::from_oci_json(bytes) else {
        return;
    };
    let json = profile.to_oci_json();
    let again = Profile::from_oci_json(json.as_bytes()).expect("what was written can be read");
    assert_eq!(again, profile);
    assert_eq!(again.to_oci_json(), json);
});
