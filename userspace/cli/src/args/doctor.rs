//! `seccast doctor`.

use crate::output::format::Format;
use clap::Args;

/// Say what this machine lacks to record.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  seccast doctor
      what was found, and what to do about each gap
  seccast doctor --format json | jq -r '.findings[] | select(.state == \"missing\") | .advice'

Exit codes: 0 this machine can record; 1 it cannot; 2 usage.")]
pub struct DoctorArgs {
    /// The form of the answer
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}
