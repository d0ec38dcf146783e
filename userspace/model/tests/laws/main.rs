//! What holds for every observation, policy and profile.

mod diff;
mod files;
mod filter;
mod generate;
mod merge;
mod merge_profiles;
mod strategy;
