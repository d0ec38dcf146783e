//! Profiles on a node: the kubelet's seccomp folder, kept whole.
//!
//! It knows neither a cluster nor a runtime, and prints nothing.
