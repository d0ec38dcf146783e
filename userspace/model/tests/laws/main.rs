//! What holds for every observation, policy and profile.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod diff;
mod files;
mod filter;
mod generate;
mod merge;
mod merge_profiles;
mod strategy;
