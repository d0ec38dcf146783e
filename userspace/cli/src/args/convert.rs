//! `seccast convert`.

use super::input::HostArgs;
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use seccast_model::defaults::Engine;
use std::path::PathBuf;

/// Make a plain OCI profile of anybody's, or of an engine's default.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  seccast convert docker-profile.json --capabilities docker,NET_ADMIN -o plain.json
      what docker makes of the profile for a container with --cap-add NET_ADMIN, for containerd and Kubernetes to read
  seccast convert docker-profile.json --arch aarch64 --capabilities none -o plain.json
      the same for a container without capabilities on an arm64 machine
  seccast convert --default containerd -o runtime-default.json
      the profile that containerd gives a container that asks for RuntimeDefault

Exit codes: 0 done; 2 usage; 3 could not.")]
pub struct ConvertArgs {
    /// A seccomp profile; `-` is stdin
    #[arg(required_unless_present = "default", value_name = "PROFILE")]
    pub profile: Option<PathBuf>,
    /// Instead of a file, what this engine allows when nobody gives it a profile; without --capabilities for those that it gives
    #[arg(long, value_parser = engine(), value_name = "ENGINE", conflicts_with = "profile")]
    pub default: Option<Engine>,
    /// Where the plain profile goes; `-` is stdout
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// Print warnings and errors only
    #[arg(short, long)]
    pub quiet: bool,
    /// What conditions are evaluated for; with --default, the capabilities are that engine's unless given
    #[command(flatten)]
    pub host: HostArgs,
}

fn engine() -> impl TypedValueParser<Value = Engine> {
    PossibleValuesParser::new(Engine::ALL.map(Engine::name))
        .try_map(|name| Engine::from_name(&name).ok_or("not an engine"))
}
