//! The profile for recording: it denies nothing and still makes the runtime load a filter.

use crate::arch::Arch;
use crate::profile::{Action, OciArch, Profile};
use std::collections::BTreeSet;

/// A profile that allows every call by every ABI.
#[must_use]
pub fn audit_profile() -> Profile {
    let architectures: BTreeSet<OciArch> = Arch::ALL
        .into_iter()
        .map(OciArch::from)
        .chain([OciArch::ARM])
        .collect();
    Profile {
        default_action: Action::Allow,
        architectures,
        flags: None,
        listener_path: None,
        listener_metadata: None,
        rules: Vec::new(),
    }
}
