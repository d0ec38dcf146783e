//! The domain of seccast: syscall tables, observations, profiles, and the rules that lead from one to the other.
//!
//! Pure and deterministic: no I/O, no clock, no global state. The same input gives the same bytes.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod arch;
pub mod observation;
