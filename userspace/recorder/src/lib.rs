//! Loads the eBPF programs.
