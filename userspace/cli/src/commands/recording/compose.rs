//! `record -- docker compose up`: a file beside the user's own puts each service into audit mode and marks it.

use anyhow::{Context as _, bail};
use seccast_recorder::engine::{Client, command::Start};
use serde::Deserialize;
use serde_json::{Map, json};
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

/// The label that marks the containers of one recording; its value is the recording's.
pub(super) const LABEL: &str = "dev.seccast.recording";

/// The label of those that were given a profile.
pub(super) const GIVEN: &str = "dev.seccast.profile";

/// What is needed of a compose file.
#[derive(Default, Deserialize)]
struct Project {
    #[serde(default)]
    services: BTreeMap<String, Service>,
}

#[derive(Default, Deserialize)]
struct Service {
    #[serde(default)]
    security_opt: Vec<String>,
    #[serde(default)]
    privileged: bool,
}

/// The files that compose looks for, in its order (compose-spec; docker-compose 1.29 has the last two first).
const FILES: [&str; 4] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
];
const OVERRIDES: [&str; 4] = [
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// Adds a file to the command that marks every service with `mark`, and gives it the profile, if there is one, unless it names
/// a filter itself. True when one was given.
pub(super) fn mark(
    start: &mut Start,
    client: &Client,
    work: &Path,
    mark: &str,
    profile: Option<&Path>,
) -> anyhow::Result<bool> {
    let own = files(start)?;
    let project = read(start, client, &own)?;
    if project.services.is_empty() {
        bail!("{} names no service", own.join(", "));
    }
    let mut filtered = false;
    let mut services = Map::new();
    for (name, service) in &project.services {
        let mut added = json!({ "labels": { LABEL: mark } });
        let names_one = service
            .security_opt
            .iter()
            .any(|option| option.starts_with("seccomp"));
        if let Some(profile) = profile
            && !names_one
            && !service.privileged
        {
            added["labels"][GIVEN] = json!("true");
            added["security_opt"] = json!([format!("seccomp={}", profile.display())]);
            filtered = true;
        }
        services.insert(name.clone(), added);
    }
    // JSON is YAML. A version is what docker-compose 1.x and podman-compose want to see where the user's file has one.
    let text = fs::read_to_string(&own[0]).unwrap_or_default();
    let version = text.lines().find_map(|line| line.strip_prefix("version:"));
    let mut added = json!({ "services": services });
    if let Some(version) = version {
        added["version"] = json!(version.trim().trim_matches(['"', '\'']));
    }
    let file = work.join("seccast.compose.yaml");
    fs::write(&file, added.to_string()).context("cannot write a compose file")?;
    // Told of one file, compose looks for no other.
    let mut files = if start.compose_files().is_empty() {
        own
    } else {
        Vec::new()
    };
    files.push(file.display().to_string());
    start.add_compose_files(&files);
    Ok(filtered)
}

/// The files that the command would read.
fn files(start: &Start) -> anyhow::Result<Vec<String>> {
    let named = start.compose_files();
    if !named.is_empty() {
        if named.contains(&"-") {
            bail!("a compose file on stdin cannot be read twice; give it a name");
        }
        return Ok(named.into_iter().map(str::to_owned).collect());
    }
    if let Some(files) = env::var("COMPOSE_FILE")
        .ok()
        .filter(|files| !files.is_empty())
    {
        let separator = env::var("COMPOSE_PATH_SEPARATOR").unwrap_or_else(|_| ":".to_owned());
        return Ok(files.split(&separator).map(str::to_owned).collect());
    }
    let here = env::current_dir().context("no current folder")?;
    let found = |folder: &Path, names: &[&str]| -> Option<PathBuf> {
        names
            .iter()
            .map(|name| folder.join(name))
            .find(|path| path.exists())
    };
    for folder in here.ancestors() {
        if let Some(file) = found(folder, &FILES) {
            let mut files = vec![file];
            files.extend(found(folder, &OVERRIDES));
            return Ok(files
                .iter()
                .map(|file| file.display().to_string())
                .collect());
        }
    }
    bail!(
        "no compose file in {} or above it; name it with -f",
        here.display()
    )
}

/// The services: as compose itself resolves them, else as the files have them.
fn read(start: &Start, client: &Client, files: &[String]) -> anyhow::Result<Project> {
    let compose = Client::new(client.kind(), start.compose());
    if let Ok(text) = compose.ask(&["config"])
        && let Ok(project) = serde_saphyr::from_str::<Project>(&text)
        && !project.services.is_empty()
    {
        return Ok(project);
    }
    // podman-compose 1.0 has no `config`.
    let mut joined = Project::default();
    for file in files {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
        let project: Project =
            serde_saphyr::from_str(&text).with_context(|| format!("{file} is no compose file"))?;
        for (name, service) in project.services {
            let known = joined.services.entry(name).or_default();
            known.security_opt.extend(service.security_opt);
            known.privileged |= service.privileged;
        }
    }
    Ok(joined)
}
