//! Profiles in Kubernetes: manifests, and the API server.
//!
//! The only crate that knows kube. It prints nothing. Without the feature `cluster` it is [`manifest`] and [`pod`] alone, which do no
//! I/O.

#![forbid(unsafe_code)]

#[cfg(feature = "cluster")]
pub mod cluster;
#[cfg(feature = "cluster")]
pub mod kubelet;
pub mod manifest;
#[cfg(feature = "cluster")]
pub mod node;
pub mod pod;
#[cfg(feature = "cluster")]
pub mod rollout;
#[cfg(feature = "cluster")]
pub mod workload;
