//! `seccast attach`: a profile into files, or into workloads of a cluster.

mod files;
mod live;

use crate::{
    args::attach::AttachArgs,
    exit::{Exit, Failed},
    input, output,
};
use anyhow::{Context as _, anyhow};
use seccast_kube::pod::{self, Container, LocalhostProfile};
use seccast_model::{Profile, profile::ParseError};
use serde_json::Value;
use std::path::Path;

/// Does it.
pub fn run(args: &AttachArgs) -> anyhow::Result<Exit> {
    let is_file = |name: &String| name == "-" || Path::new(name).exists() || !is_workload(name);
    let (files, names): (Vec<_>, Vec<_>) = if args.file {
        (args.targets.clone(), Vec::new())
    } else if args.live {
        (Vec::new(), args.targets.clone())
    } else {
        args.targets.iter().cloned().partition(is_file)
    };
    match (&files[..], &names[..]) {
        ([file, ..], [name, ..]) => Err(usage(format!(
            "{file} is a file and {name} a workload of the cluster: attach to one kind at a time; --file or --live says which it is"
        ))),
        (_, []) => files::run(args, &files),
        ([], _) => live::run(args, &names),
    }
}

/// `KIND/NAME`, of which neither looks like a file's.
fn is_workload(name: &str) -> bool {
    let Some((kind, name)) = name.split_once('/') else {
        return false;
    };
    let plain = |text: &str| {
        let mut bytes = text.bytes();
        bytes
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric())
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
    };
    let extension = Path::new(name).extension().and_then(|it| it.to_str());
    plain(kind) && plain(name) && !matches!(extension, Some("yaml" | "yml" | "json"))
}

/// An error of what was typed.
fn usage(message: String) -> anyhow::Error {
    anyhow!(message).context(Failed {
        exit: Exit::Usage,
        what: "cannot tell what is meant".to_owned(),
    })
}

/// The content of the profile that is to be attached, below `folder`; `None` when it is not there, which is said.
fn look_up(
    folder: &Path,
    wanted: &LocalhostProfile,
    quiet: bool,
) -> anyhow::Result<Option<Profile>> {
    let path = folder.join(wanted.as_str());
    if !path.exists() {
        if !quiet {
            output::note(&format!(
                "{}: not there, so its content was not checked; --profiles DIR says below which folder it is",
                path.display()
            ));
        }
        return Ok(None);
    }
    let bytes = input::bytes(&path)?;
    let profile = pod::read_profile(&bytes).map_err(|error| {
        let advice = match error {
            ParseError::DockerDialect { .. } => "; `seccast convert` makes one of it",
            _ => "",
        };
        anyhow!("{error}{advice}")
    });
    profile
        .map(Some)
        .with_context(|| format!("cannot attach {}", path.display()))
}

/// Says what stands in the way of the profile in this container; `what` names it.
fn warn(what: &str, spec: &Value, container: &Container, profile: Option<&Profile>, quiet: bool) {
    for warning in pod::warnings(spec, container, profile) {
        let line = format!("{what}: {warning}");
        if !warning.is_note() {
            output::warning(&line, warning.advice());
        } else if !quiet {
            output::note(&line);
        }
    }
}
