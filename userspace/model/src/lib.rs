//! The domain of seccast: syscall tables, observations, profiles, and the rules that lead from one to the other.
//!
//! Pure and deterministic: no I/O, no clock, no global state. The same input gives the same bytes.
//!
//! ```
//! use seccast_model::{Observation, Policy, generate};
//!
//! let file = br#"{
//!     "schema": "seccast/observation.v1",
//!     "recording_id": "00112233445566778899aabbccddeeff",
//!     "tool_version": "0.2.0",
//!     "backend": "ebpf",
//!     "target": {},
//!     "machine": { "kernel": "6.12.0", "arch": "x86_64" },
//!     "started_ns": 0,
//!     "ended_ns": 1000000000,
//!     "calls": { "x86_64": { "app": { "getppid": { "first_ns": 17 } } } },
//!     "denied": {},
//!     "blocked_at_attach": {},
//!     "unknown": [],
//!     "losses": {},
//!     "explanations_lost": 0,
//!     "filtered": false,
//!     "own_filter": false,
//!     "entered": [],
//!     "entered_count": 0,
//!     "start_container_hooks": false,
//!     "evidence": {
//!         "end": "target", "starts": [{ "filters": 1, "inherited": 0 }], "calls": 1, "execs": 0, "execs_unlike": 0,
//!         "present": 0, "present_unlike": 0, "joined": 0, "left": 0, "running": [], "lives": 1, "lives_missed": 0,
//!         "unwatched": [], "hidden": []
//!     }
//! }"#;
//! let observation = Observation::from_json(file)?;
//! let generated = generate(&[observation], &Policy::default())?;
//! assert!(generated.report.is_complete());
//! assert!(generated.profile.to_oci_json().contains("\"getppid\""));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod arch;
pub mod arguments;
mod audit;
pub mod base;
pub mod capability;
pub mod check;
mod closure;
pub mod defaults;
pub mod denial;
pub mod diagnostic;
pub mod diff;
pub mod errno;
pub mod evidence;
pub mod filter;
pub mod generate;
mod given;
mod json;
pub mod junit;
pub mod merge;
pub mod near;
pub mod observation;
pub mod parse;
pub mod policy;
pub mod profile;
pub mod report;
pub mod risk;
pub mod syscall;
pub mod verdict;

pub use arch::Arch;
pub use audit::audit_profile;
pub use denial::Denial;
pub use diagnostic::{Diagnostic, Severity};
pub use diff::diff;
pub use filter::Filter;
pub use generate::{GenerateError, Generated, generate};
pub use given::Given;
pub use json::{Kind, position};
pub use merge::Merged;
pub use observation::Observation;
pub use policy::{Policy, Runtime};
pub use profile::Profile;
pub use report::Report;
