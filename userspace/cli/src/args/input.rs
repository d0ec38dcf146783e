//! What commands that read profiles share.

use clap::Args;
use seccast_model::{Arch, capability, defaults::Engine};
use std::str::FromStr;

/// What a profile with docker's and podman's conditions is resolved for.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Profiles with docker's conditions")]
pub struct HostArgs {
    /// The machine's architecture; without it this machine's
    #[arg(long, value_name = "ARCH", value_parser = arch)]
    pub arch: Option<Arch>,
    /// The container's capabilities, like CHOWN,SYS_ADMIN; `none`, `all`, or an engine for those that it gives by default. Without
    /// it those that docker gives
    #[arg(long, value_name = "CAP,…", value_delimiter = ',')]
    pub capabilities: Option<Vec<Capabilities>>,
}

/// One word of `--capabilities`: none, one or several.
#[derive(Clone, Debug)]
pub struct Capabilities(pub Vec<&'static str>);

fn arch(text: &str) -> Result<Arch, String> {
    Arch::from_name(text).ok_or_else(|| {
        let names = Arch::ALL.map(Arch::name).join(", ");
        format!("no architecture; one of {names}")
    })
}

impl FromStr for Capabilities {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
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
