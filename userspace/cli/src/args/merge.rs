//! `seccast merge`.

use super::input::HostArgs;
use crate::output::format::Format;
use clap::Args;
use std::path::PathBuf;

/// Join observations, or profiles.
#[derive(Debug, Args)]
#[command(
    long_about = "\
Join observations of runs, replicas, nodes and architectures into one file, from which `generate` makes a profile; or join
profiles into one that lets through what any of them does.

A recording counts once, however often it is merged: by its id, not by its file. Merged files can be merged again.",
    after_long_help = "\
Examples:
  seccast merge web-1.json web-2.json web-3.json -o web.merged.json
      three replicas; says which calls were not seen in all of them
  seccast merge web.merged.json monday.json -o web.merged.json
      add a recording
  seccast merge web.json sidecar.json -o both.json
      two profiles; the result lets through what either does
  seccast merge web-1.json web-2.json -o web.merged.json --format json | jq .presence
      in how many recordings each call was seen

Exit codes: 0 done; 1 the recordings are incomplete; 2 usage; 3 could not."
)]
pub struct MergeArgs {
    /// Observations, merged or not, or profiles; `-` is stdin
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Where the result goes; `-` is stdout
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// The form of what is said of the result: lines on stderr, or a document on stdout
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Exit 0 although the recordings are incomplete
    #[arg(long)]
    pub allow_incomplete: bool,
    /// Print warnings and errors only
    #[arg(short, long)]
    pub quiet: bool,
    /// What profiles with conditions are resolved for
    #[command(flatten)]
    pub host: HostArgs,
}
