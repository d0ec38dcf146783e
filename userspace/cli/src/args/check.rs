//! `seccast check`.

use super::input::HostArgs;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Hold a profile or a recording against the last accepted one, and against a policy.
#[derive(Debug, Args)]
#[command(
    long_about = "\
Hold a profile or a recording against the last accepted one, and against a policy: the gate of a release.

It fails when more is let through than by the baseline and the policy does not accept it, and when the policy's own
demands are not met. Who made a new call first comes from the recording, or from the report beside the profile.",
    after_long_help = "\
Examples:
  seccast check web.json --against released/web.json
      fails when web.json lets through what the released profile denies
  seccast check web.json --against released/web.json --policy policy.yaml
      the same, with accepted additions and a team's demands
  seccast check monday.observation.json --against web.json
      fails when something was recorded that web.json denies
  seccast check web.json --against default:docker
      fails when web.json lets through what docker's default denies
  seccast check web.json --against released/web.json --format sarif -o seccast.sarif
      for code scanning; --format junit for CI systems that show tests

Exit codes: 0 passed; 1 failed; 2 usage; 3 could not."
)]
pub struct CheckArgs {
    /// Profile, observation or merged recordings; `-` is stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What was accepted last: the same kinds of files, or `default:docker` (containerd, podman, crio) for what the engine
    /// allows by default
    #[arg(long, value_name = "BASE")]
    pub against: PathBuf,
    /// The policy, a YAML file
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<PathBuf>,
    /// The form of the result
    #[arg(long, value_enum, default_value_t)]
    pub format: CheckFormat,
    /// Where it goes; `-` is stdout. With a file the verdict goes to stderr as well
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// Print warnings and errors only
    #[arg(short, long)]
    pub quiet: bool,
    /// What profiles with conditions are resolved for
    #[command(flatten)]
    pub host: HostArgs,
}

/// The form of an outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// JUnit XML, for CI systems that show tests
    Junit,
}
