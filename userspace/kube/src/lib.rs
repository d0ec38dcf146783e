//! Profiles in Kubernetes: manifests, and the API server.
//!
//! The only crate that knows kube. It prints nothing.

pub mod cluster;
pub mod kubelet;
pub mod manifest;
pub mod node;
pub mod pod;
pub mod rollout;
pub mod workload;
