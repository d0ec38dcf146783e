//! Several files made one: recordings, and profiles.

mod findings;
pub mod observations;
mod wire;

pub use observations::{MergeError, Merged, Presence, RecordingId, Seen, UnknownSeen};
