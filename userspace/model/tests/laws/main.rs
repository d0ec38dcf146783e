//! What holds for every observation and every policy.

mod files;
mod generate;
mod merge;
mod strategy;
