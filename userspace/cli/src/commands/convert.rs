//! `seccast convert`: anybody's profile to a plain one.

use crate::{
    args::convert::ConvertArgs,
    exit::Exit,
    input::{Input, Reader},
    output::{self, file::Destination},
};
use anyhow::bail;
use seccast_model::{defaults::allowed, syscall};

/// Does it.
pub fn run(args: &ConvertArgs) -> anyhow::Result<Exit> {
    let destination = Destination::check(&args.output)?;
    let reader = Reader::new(&args.host, args.quiet);
    let profile = match (args.default, &args.profile) {
        (Some(engine), _) => {
            let default = reader.default_of(engine)?;
            if !args.quiet {
                output::note(&format!("seccast: {}", default.label()));
            }
            default.profile
        }
        (None, Some(path)) => match reader.read(path)? {
            Input::Profile(profile) => *profile,
            Input::Observation(_) | Input::Merged(_) => bail!(
                "cannot use {}: this is what was recorded, not a seccomp profile: `seccast generate` makes one of it",
                path.display()
            ),
        },
        (None, None) => bail!("nothing to convert: give a profile, or --default"),
    };
    destination.write(&profile.to_oci_json())?;
    if !args.quiet {
        let (any, some) = allowed(&profile, reader.arch);
        let written = destination
            .path()
            .map(|path| format!("; wrote {}", path.display()));
        output::note(&format!(
            "seccast: {} of {} calls of {} allowed, {} of them with some arguments only{}",
            any.len() + some.len(),
            syscall::table(reader.arch).len(),
            reader.arch,
            some.len(),
            written.unwrap_or_default()
        ));
    }
    Ok(Exit::Done)
}
