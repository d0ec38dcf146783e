//! Loads the eBPF programs, watches cgroups and containers, and produces observations.
//!
//! Only this crate knows aya, cgroupfs and container runtimes. It prints nothing.
#![warn(missing_docs)]

mod arguments;
pub mod btf;
pub mod cgroup;
pub mod clock;
pub mod command;
pub mod container;
pub mod engine;
pub mod features;
pub mod kernel;
pub mod proc;
pub mod ptrace;
mod recorder;
pub mod runtime;

pub use recorder::{Made, News, Recorder, RecorderError, Recording, kernel_release, native};
