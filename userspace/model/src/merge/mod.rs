//! Several files made one: recordings, and profiles.

mod findings;
mod lives;
pub mod observations;
mod overlap;
pub mod profiles;
mod wire;

pub use observations::{MergeError, Merged, Presence, RecordingId, Seen, UnknownSeen};
pub use profiles::profiles;
