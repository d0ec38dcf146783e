//! `seccast convert`.

use clap::{
    Args, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use seccast_model::{Arch, capability, defaults::Engine};
use std::{path::PathBuf, str::FromStr};

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
    /// Instead of a file, what this engine allows when nobody gives it a profile
    #[arg(long, value_parser = engine(), value_name = "ENGINE", conflicts_with = "profile")]
    pub default: Option<Engine>,
    /// Where the plain profile goes; `-` is stdout
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// The machine that runs the container; without it, this one
    #[arg(long, value_enum)]
    pub arch: Option<ArchArg>,
    /// The capabilities of the container, with commas: names, `none`, `all`, or an engine for those that it gives by default. Without
    /// it, those of the engine of --default, else docker's
    #[arg(long, value_delimiter = ',', value_name = "CAP,…")]
    pub capabilities: Option<Vec<CapabilitiesArg>>,
    /// Print warnings and errors only
    #[arg(short, long)]
    pub quiet: bool,
}

fn engine() -> impl TypedValueParser<Value = Engine> {
    PossibleValuesParser::new(Engine::ALL.map(Engine::name))
        .try_map(|name| Engine::from_name(&name).ok_or("not an engine"))
}

/// A machine's architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ArchArg {
    /// With the i386 and x32 ABIs
    #[value(name = "x86_64", alias = "amd64")]
    X86_64,
    /// With the 32-bit Arm ABI
    #[value(name = "aarch64", alias = "arm64")]
    Aarch64,
    /// Alone
    #[value(name = "riscv64")]
    Riscv64,
}

impl From<ArchArg> for Arch {
    fn from(arg: ArchArg) -> Self {
        match arg {
            ArchArg::X86_64 => Self::X86_64,
            ArchArg::Aarch64 => Self::Aarch64,
            ArchArg::Riscv64 => Self::Riscv64,
        }
    }
}

/// One or more capabilities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapabilitiesArg(pub Vec<&'static str>);

impl FromStr for CapabilitiesArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(engine) = Engine::from_name(text) {
            return Ok(Self(engine.capabilities().to_vec()));
        }
        match text {
            "none" => Ok(Self(Vec::new())),
            "all" => Ok(Self(capability::ALL.to_vec())),
            name => capability::parse(name).map(|name| Self(vec![name])),
        }
    }
}
