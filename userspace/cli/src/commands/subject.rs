//! What `diff` and `check` compare: a profile with the report beside it, or recordings.

use crate::{
    input::{self, Input, Reader},
    output::{self, file::report_beside},
};
use anyhow::{Context as _, bail};
use seccast_model::{
    Merged,
    defaults::Engine,
    diff::Subject,
    near,
    report::{ReadError, Reasons},
};
use std::path::Path;

/// Reads both sides; only one can be stdin.
pub fn both(one: &Path, other: &Path, reader: &Reader) -> anyhow::Result<(Subject, Subject)> {
    if one == Path::new("-") && other == Path::new("-") {
        bail!("only one of the two can be stdin: give the name of a file for the other");
    }
    Ok((load(one, reader)?, load(other, reader)?))
}

/// What stands for an engine's default profile in place of a file: `default:docker`.
const DEFAULT: &str = "default:";

fn load(path: &Path, reader: &Reader) -> anyhow::Result<Subject> {
    if let Some(engine) = path.to_str().and_then(|path| path.strip_prefix(DEFAULT)) {
        return default(engine, reader);
    }
    let label = if path == Path::new("-") {
        "stdin".to_owned()
    } else {
        path.display().to_string()
    };
    let recorded = |merged: &Merged| {
        Subject::recorded(&label, merged).with_context(|| format!("cannot compare {label}"))
    };
    match reader.read(path)? {
        Input::Observation(one) => {
            recorded(&Merged::of(*one).with_context(|| format!("cannot use {label}"))?)
        }
        Input::Merged(merged) => recorded(&merged),
        Input::Profile(profile) => Ok(Subject::profile(
            &label,
            *profile,
            reader.arch,
            reasons(path),
        )),
    }
}

/// An engine's default profile, for the capabilities that were typed, else for its own.
fn default(name: &str, reader: &Reader) -> anyhow::Result<Subject> {
    let Some(engine) = Engine::from_name(name) else {
        let names = Engine::ALL.map(Engine::name);
        let near = near::names(name, names.map(str::to_owned));
        bail!(
            "{DEFAULT}{name}: no engine whose default profile is known{}; one of {}",
            near::suggestion(&near),
            names.join(", ")
        );
    };
    let default = reader.default_of(engine)?;
    let label = default.label();
    Ok(Subject::profile(&label, default.profile, reader.arch, None))
}

/// What the report beside a profile says; a report that cannot be used is said and left out.
fn reasons(profile: &Path) -> Option<Reasons> {
    let path = report_beside(profile);
    if !path.is_file() {
        return None;
    }
    let read = input::bytes(&path).and_then(|bytes| {
        Reasons::from_json(&bytes)
            .map_err(|error: ReadError| anyhow::Error::from(error))
            .with_context(|| format!("cannot use {}", path.display()))
    });
    read.inspect_err(|error| output::warning(&format!("{error:#}"), None))
        .ok()
}
