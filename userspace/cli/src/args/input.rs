//! What commands that read profiles share.

use clap::Args;
use seccast_model::Arch;

/// What a profile with docker's and podman's conditions is resolved for.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Profiles with docker's conditions")]
pub struct HostArgs {
    /// The machine's architecture; without it this machine's
    #[arg(long, value_name = "ARCH", value_parser = arch)]
    pub arch: Option<Arch>,
    /// The container's capabilities, like CHOWN,SYS_ADMIN; without it those that docker gives
    #[arg(long, value_name = "CAP,…", value_delimiter = ',', value_parser = capability)]
    pub capabilities: Option<Vec<String>>,
}

fn arch(text: &str) -> Result<Arch, String> {
    Arch::from_name(text).ok_or_else(|| {
        let names = Arch::ALL.map(Arch::name).join(", ");
        format!("no architecture; one of {names}")
    })
}

fn capability(text: &str) -> Result<String, String> {
    let name = text.trim().to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    if !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    {
        Ok(format!("CAP_{name}"))
    } else {
        Err("no capability; write for example SYS_ADMIN".to_owned())
    }
}
