//! What holds for every observation and every policy.

mod diff;
mod files;
mod generate;
mod merge;
mod strategy;
