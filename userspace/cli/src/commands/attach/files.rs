//! Manifests, compose files and Helm values.

use super::{diff, look_up, usage, verb, warn};
use crate::{
    args::attach::AttachArgs,
    exit::Exit,
    input,
    output::{self, file::Destination, printable},
};
use anyhow::{Context as _, bail};
use seccast_kube::manifest::{self, Change, Dialect, Outcome, Selection, Wanted};
use seccast_kube::pod::LocalhostProfile;
use seccast_model::Profile;
use std::path::{Path, PathBuf};

/// A file before and after.
struct Changed<'a> {
    path: &'a Path,
    before: String,
    change: Change,
}

/// Attaches to each of `files`. All are looked at before the first is written.
pub(super) fn run(args: &AttachArgs, files: &[String]) -> anyhow::Result<Exit> {
    let of_cluster = [
        ("--namespace", args.namespace.is_some()),
        ("--context", args.context.is_some()),
        ("--kubeconfig", args.kubeconfig.is_some()),
        ("--force-conflicts", args.force_conflicts),
    ];
    if let Some((option, _)) = of_cluster.iter().find(|(_, given)| *given) {
        return Err(usage(format!(
            "{option} is for workloads of a cluster, and {} is a file",
            files.first().map_or("-", String::as_str)
        )));
    }
    let only_one = !(args.in_place || args.check || args.dry_run);
    if only_one && files.len() > 1 {
        return Err(usage(format!(
            "{} files would all go to stdout: give --in-place, or one file",
            files.len()
        )));
    }
    if args.in_place && files.iter().any(|file| file == "-") {
        return Err(usage(
            "stdin cannot be written in place: leave --in-place out".to_owned(),
        ));
    }
    let selection = Selection {
        containers: args.container.clone(),
        values_path: args.values_path.clone(),
    };
    let wanted = if args.detach {
        Wanted::Detached(args.profile.clone())
    } else {
        Wanted::Attached(args.wanted().unwrap_or_default().to_owned())
    };
    let mut changed: Vec<Changed<'_>> = Vec::new();
    for file in files {
        let path = Path::new(file);
        if changed.iter().any(|one| one.path == path) {
            continue;
        }
        let bytes = input::bytes(path)?;
        let change = manifest::change(&bytes, &selection, &wanted)
            .map_err(|error| {
                if error.is_usage() {
                    usage(error.to_string())
                } else {
                    error.into()
                }
            })
            .with_context(|| format!("cannot {} {file}", verb(args)))?;
        let before = String::from_utf8(bytes).context("not UTF-8")?;
        changed.push(Changed {
            path,
            before,
            change,
        });
    }
    if let Wanted::Attached(profile) = &wanted {
        checks(args, &changed, profile)?;
    }
    // In place it is said once it is so.
    if !args.in_place {
        changed.iter().for_each(|one| report(args, one));
    }
    let as_wanted = changed.iter().all(|one| one.before == one.change.text);
    if args.check {
        return Ok(if as_wanted {
            Exit::Done
        } else {
            Exit::Findings
        });
    }
    if args.dry_run {
        let of_one = |one: &Changed<'_>| {
            let name = one.path.display().to_string();
            diff([&name, &name], &one.before, &one.change.text)
        };
        Destination::Stdout.show(&changed.iter().map(of_one).collect::<String>())?;
        return Ok(Exit::Done);
    }
    // All places are looked at before the first is written to.
    if !args.in_place {
        let stdout = Destination::check(Path::new("-"))?;
        for one in &changed {
            stdout.write(&one.change.text)?;
        }
        return Ok(Exit::Done);
    }
    let mut writes = Vec::new();
    for one in &changed {
        if one.before == one.change.text {
            writes.push((None, one));
            continue;
        }
        let destination = Destination::check(one.path)?;
        if destination.path().is_none() {
            bail!(
                "{} is no regular file: leave --in-place out",
                one.path.display()
            );
        }
        writes.push((Some(destination), one));
    }
    for (destination, one) in writes {
        if let Some(destination) = destination {
            // Somebody else may have written it since it was read.
            if input::bytes(one.path)? != one.before.as_bytes() {
                bail!(
                    "{} has changed meanwhile: nothing was written to it; try again",
                    one.path.display()
                );
            }
            destination.write(&one.change.text)?;
        }
        report(args, one);
    }
    Ok(Exit::Done)
}

/// The profile's content, and what of the containers stands in its way.
fn checks(args: &AttachArgs, changed: &[Changed<'_>], profile: &str) -> anyhow::Result<()> {
    let in_cluster = changed
        .iter()
        .any(|one| one.change.dialect != Dialect::Compose);
    let content = if in_cluster {
        let wanted: LocalhostProfile = profile.parse()?;
        look_up(&args.profiles, &wanted, args.quiet)?
    } else {
        None
    };
    for one in changed {
        if one.change.dialect == Dialect::Compose {
            compose(args, one.path, profile)?;
        }
        for place in &one.change.places {
            if let Some((spec, container)) = &place.pod {
                let what = format!("{}: {}", one.path.display(), place.what);
                warn(&what, spec, container, content.as_ref(), args.quiet);
            } else if one.change.dialect == Dialect::Values && !args.quiet {
                output::note(&format!(
                    "{}: values say nothing of the Pod, so it was not checked; `helm template` shows what becomes of them",
                    one.path.display()
                ));
            }
        }
    }
    Ok(())
}

/// docker and podman find the file from the folder of the compose file, and read their own dialect.
fn compose(args: &AttachArgs, file: &Path, profile: &str) -> anyhow::Result<()> {
    let path = file.parent().unwrap_or(Path::new("")).join(profile);
    if path.exists() {
        // Read to the end; for what it is resolved there is the engine's to decide.
        let _: Profile = input::profile(&path, true)?;
    } else if !args.quiet {
        output::note(&format!(
            "{}: not there, so its content was not checked; a profile in a compose file is named from that file's folder",
            path.display()
        ));
    }
    Ok(())
}

/// What became of each place, on stderr.
fn report(args: &AttachArgs, one: &Changed<'_>) {
    let name = if one.path == Path::new("-") {
        PathBuf::from("stdin")
    } else {
        one.path.to_owned()
    };
    let profile = args.wanted().unwrap_or_default();
    for place in &one.change.places {
        let head = format!("{}: {}", name.display(), place.what);
        match &place.outcome {
            Outcome::Already if args.detach => {
                note(args, &format!("{head}: has no profile of a file"));
            }
            Outcome::Already => note(args, &format!("{head}: has {profile} already")),
            Outcome::Attached { instead_of } => {
                let now = instead_of.as_deref();
                if args.check {
                    let now = now.unwrap_or("no profile");
                    output::note(&format!("{head}: has {now}, and {profile} is wanted"));
                    continue;
                }
                let does = if args.dry_run { "would get" } else { "gets" };
                let instead = now.map(|now| format!(" instead of {now}"));
                let instead = instead.unwrap_or_default();
                note(args, &format!("{head}: {does} {profile}{instead}"));
                if now.is_some() {
                    note(
                        args,
                        "   hint: --detach takes the profile out and does not bring back what was there before",
                    );
                }
            }
            Outcome::Detached { .. } if args.check => {
                output::note(&format!("{head}: has a profile, and none is wanted"));
            }
            Outcome::Detached { emptied, comments } => {
                let does = if args.dry_run { "would lose" } else { "loses" };
                let above = emptied.as_ref().map(|above| {
                    format!(" and its {above}, which has nothing else; if that was there before, empty, it is not brought back")
                });
                note(
                    args,
                    &format!("{head}: {does} its profile{}", above.unwrap_or_default()),
                );
                for comment in comments {
                    let line = format!("{head}: {does} the comment {} with it", printable(comment));
                    output::warning(&line, None);
                }
            }
            Outcome::Other(other) => output::warning(
                &format!("{head}: has {other}, which stays"),
                Some("--detach takes out profiles of files only, and with --profile only that one"),
            ),
            _ => {}
        }
    }
}

fn note(args: &AttachArgs, line: &str) {
    if !args.quiet {
        output::note(line);
    }
}
