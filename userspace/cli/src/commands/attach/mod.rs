//! `seccast attach`: a profile into files, or into workloads of a cluster.

mod files;
mod live;

use crate::{
    args::attach::AttachArgs,
    exit::{Exit, Failed},
    input,
    output::{self, color::Tone, printable},
};
use anyhow::{Context as _, anyhow};
use seccast_kube::{
    pod::{self, Container, LocalhostProfile},
    workload::Reference,
};
use seccast_model::{Profile, profile::ParseError};
use serde_json::Value;
use similar::{ChangeTag, TextDiff};
use std::{fmt::Write as _, path::Path};

/// Does it.
pub fn run(args: &AttachArgs) -> anyhow::Result<Exit> {
    // A folder deploy/web is nothing that could be meant.
    let there = |name: &str| std::fs::metadata(name).is_ok_and(|it| !it.is_dir());
    let is_file = |name: &String| name == "-" || there(name) || !is_workload(name);
    let both =
        |name: &&String| there(name) && is_workload(name) && name.parse::<Reference>().is_ok();
    if !args.file
        && !args.live
        && let Some(name) = args.targets.iter().find(both)
    {
        return Err(usage(format!(
            "{name} is a file, and the name of a workload of the cluster: --file or --live says which is meant"
        )));
    }
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

/// For messages.
fn verb(args: &AttachArgs) -> &'static str {
    if args.detach {
        "detach from"
    } else {
        "attach to"
    }
}

/// A unified diff, with colours; nothing where both are the same.
fn diff(names: [&str; 2], before: &str, after: &str) -> String {
    let mut text = String::new();
    if before == after {
        return text;
    }
    let [from, to] = names.map(printable);
    let diff = TextDiff::from_lines(before, after);
    let _ = writeln!(text, "--- {from}\n+++ {to}");
    for hunk in diff.unified_diff().context_radius(3).iter_hunks() {
        let _ = writeln!(text, "{}", hunk.header());
        for change in hunk.iter_changes() {
            let (sign, tone) = match change.tag() {
                ChangeTag::Delete => ("-", Tone::Bad),
                ChangeTag::Insert => ("+", Tone::Good),
                ChangeTag::Equal => (" ", Tone::Plain),
            };
            let line = printable(change.value().trim_end_matches(['\n', '\r']));
            let _ = writeln!(text, "{}", tone.paint(&format!("{sign}{line}")));
            if change.missing_newline() {
                let _ = writeln!(text, "\\ No newline at end of file");
            }
        }
    }
    text
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
