//! `seccast diff`.

use super::input::HostArgs;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Say what differs between two profiles, two recordings, or a recording and a profile.
#[derive(Debug, Args)]
#[command(
    long_about = "\
Say what differs between two profiles, two recordings, or a recording and a profile.

Profiles are compared by what they do with calls: order, grouping and names that get the default make no difference.
A recording is compared by ABI, and with the argument values that it has. Who made a call first comes from the
recording, or from the report beside the profile.",
    after_long_help = "\
Examples:
  seccast diff web-1.0.json web-1.1.json
      what the new profile lets through that the old one did not, and the other way round
  seccast diff web.json monday.observation.json
      what was recorded and web.json denies; what it lets through and nobody called
  seccast diff web-1.0.json web-1.1.json --format markdown -o comment.md
      the same for a comment at a pull request
  seccast diff default:containerd web.json
      what web.json changes for a container that had RuntimeDefault
  git show main:web.json | seccast diff --exit-code - web.json
      exit 1 when the profile is another than on main

Exit codes: 0 done; 1 with --exit-code: something differs; 2 usage; 3 could not."
)]
pub struct DiffArgs {
    /// Profile, observation or merged recordings before; `-` is stdin, `default:docker` what docker allows by default (or
    /// containerd, podman, crio)
    #[arg(value_name = "A")]
    pub before: PathBuf,
    /// The same after
    #[arg(value_name = "B")]
    pub after: PathBuf,
    /// Exit 1 when something differs
    #[arg(long)]
    pub exit_code: bool,
    /// The form of the result
    #[arg(long, value_enum, default_value_t)]
    pub format: DiffFormat,
    /// Where it goes; `-` is stdout
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// Print warnings and errors only
    #[arg(short, long)]
    pub quiet: bool,
    /// What profiles with conditions are resolved for
    #[command(flatten)]
    pub host: HostArgs,
}

/// The form of a difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DiffFormat {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
    /// The same as YAML
    Yaml,
    /// For a comment at a pull request
    Markdown,
}
