//! Formats of others. Plain OCI profiles are read by [`crate::profile::Profile::from_oci_json`].

pub mod moby;
