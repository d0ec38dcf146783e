//! `seccast merge`: observations, or profiles, to one.

use super::generate::say;
use crate::{
    args::merge::MergeArgs,
    exit::Exit,
    input::{Input, Reader, absorb},
    output::{self, file::Destination, format::Format},
};
use anyhow::{Context as _, bail};
use seccast_model::{Arch, Diagnostic, Merged, Profile, diff::Subject, merge};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

const SCHEMA: &str = "seccast/merge.v1";

/// Up to so many recordings, a merged file is small enough to be read.
const MANY: usize = 10_000;

/// What `--format json` and `yaml` write of recordings.
#[derive(Serialize)]
struct OfRecordings<'a> {
    schema: &'static str,
    kind: &'static str,
    files: usize,
    recordings: usize,
    complete: bool,
    losses: BTreeMap<&'a str, u64>,
    presence: BTreeMap<&'a str, Seen>,
    diagnostics: Vec<Finding>,
}

/// The same of profiles.
#[derive(Serialize)]
struct OfProfiles {
    schema: &'static str,
    kind: &'static str,
    files: usize,
    names: usize,
}

#[derive(Serialize)]
struct Seen {
    seen: usize,
    of: usize,
}

#[derive(Serialize)]
struct Finding {
    code: &'static str,
    severity: &'static str,
    message: String,
    advice: Option<String>,
}

/// Does it.
pub fn run(args: &MergeArgs) -> anyhow::Result<Exit> {
    let destination = Destination::check(&args.output)?;
    if args.format != Format::Table && matches!(destination, Destination::Stdout) {
        bail!("the result and what --format says of it would both go to stdout: give -o FILE");
    }
    let reader = Reader::new(&args.host, args.quiet);
    // One file at a time: a thousand of them need no more memory than their join.
    let mut recordings: Option<(&Path, Merged)> = None;
    let mut profiles: Vec<(String, Profile)> = Vec::new();
    for path in &args.files {
        let one = match reader.read(path)? {
            Input::Observation(one) => Merged::of(*one)?,
            Input::Merged(one) => *one,
            Input::Profile(one) => {
                profiles.push((path.display().to_string(), *one));
                continue;
            }
        };
        absorb(
            &mut recordings
                .get_or_insert_with(|| (path, Merged::default()))
                .1,
            one,
            path,
        )?;
    }
    match (recordings, profiles.first()) {
        (Some((observation, _)), Some((profile, _))) => bail!(
            "{} is an observation and {profile} a profile: merge one kind; `generate` makes a profile of observations, which can then \
             be merged with others",
            observation.display()
        ),
        (Some((_, merged)), None) => write_recordings(&merged, args, &destination),

        (None, _) => write_profile(&profiles, reader.arch, args, &destination),
    }
}

fn write_recordings(
    merged: &Merged,
    args: &MergeArgs,
    destination: &Destination,
) -> anyhow::Result<Exit> {
    let text = merged.to_json();
    if merged.recordings.len() > MANY {
        Merged::from_json(text.as_bytes())
            .context("the result would be too large to be read again: merge fewer recordings")?;
    }
    destination.write(&text)?;
    let diagnostics = merged.diagnose();
    let complete = merged.incomplete().is_empty();
    let presence = merged.presence();
    if args.format == Format::Table {
        say(&diagnostics, args.quiet);
        if !args.quiet {
            let arches: BTreeSet<&str> = merged.calls.keys().map(|(arch, _)| arch.name()).collect();
            let arches: Vec<&str> = arches.into_iter().collect();
            output::note(&format!(
                "seccast: {} recordings of {} files joined: {} names by {}{}",
                merged.recordings.len(),
                args.files.len(),
                presence.len(),
                arches.join(", "),
                written(destination)
            ));
        }
    } else {
        let document = OfRecordings {
            schema: SCHEMA,
            kind: "recordings",
            files: args.files.len(),
            recordings: merged.recordings.len(),
            complete,
            losses: merged.losses(),
            presence: presence
                .into_iter()
                .map(|(name, it)| {
                    let seen = Seen {
                        seen: it.seen,
                        of: it.of,
                    };
                    (name, seen)
                })
                .collect(),
            diagnostics: diagnostics.iter().map(Finding::from).collect(),
        };
        Destination::Stdout.show(&args.format.text(&document, String::new)?)?;
    }
    Ok(if complete || args.allow_incomplete {
        Exit::Done
    } else {
        Exit::Findings
    })
}

fn write_profile(
    profiles: &[(String, Profile)],
    native: Arch,
    args: &MergeArgs,
    destination: &Destination,
) -> anyhow::Result<Exit> {
    let merged = merge::profiles(profiles)?;
    destination.write(&merged.to_oci_json())?;
    let names = Subject::profile("", merged, native, None).names().len();
    if args.format == Format::Table {
        if !args.quiet {
            output::note(&format!(
                "seccast: {} profiles joined: {names} names allowed{}",
                profiles.len(),
                written(destination)
            ));
        }
    } else {
        let document = OfProfiles {
            schema: SCHEMA,
            kind: "profiles",
            files: profiles.len(),
            names,
        };
        Destination::Stdout.show(&args.format.text(&document, String::new)?)?;
    }
    Ok(Exit::Done)
}

fn written(destination: &Destination) -> String {
    let path = destination.path();
    path.map_or_else(String::new, |path| format!("; wrote {}", path.display()))
}

impl From<&Diagnostic> for Finding {
    fn from(finding: &Diagnostic) -> Self {
        Self {
            code: finding.code,
            severity: finding.severity.name(),
            message: finding.message.clone(),
            advice: finding.advice.clone(),
        }
    }
}
