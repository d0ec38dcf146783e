//! `profiles/apps`: a profile of each application's observations, and the table of all of them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use seccast_model::defaults::{DOCKER_CAPABILITIES, Engine, resolve};
use seccast_model::report::Summary;
use seccast_model::{Observation, Policy, generate};
use serde::Deserialize;

const INTRODUCTION: &str = "\
# Profiles of applications

Made by `cargo xtask profiles` and `cargo xtask codegen`; `cargo xtask codegen --check` proves each profile, and this page,
to be what the observations beside it give.

Each folder has

* `profile.json`: the profile, for runc and crun, with and without `no_new_privs`;
* `observation.json`, and more of them where one recording does not have everything: what was recorded, the input of
  `seccast generate`;
* `provenance.json`: packages with their exact versions, kernel, runtime, command, load, number of recordings, and the
  calls that only some of these had.

What they are: the union of real runs of Debian's packages under the load that `provenance.json` describes, recorded until
five further runs added nothing, every other one beside two busy loops. The kernel tests start each server under its profile
(tests/README.md). What they are not: a promise for another version, configuration, module or storage engine than those
recorded. Record your own, and merge:

    seccast generate profiles/apps/redis/observation*.json mine.json -o redis.json

mariadb reads and writes through io_uring where the kernel has it. What goes through a ring is no system call, so no filter
sees it; docker's default profile does not allow it.

";

/// The parts of `provenance.json` that the table needs.
#[derive(Deserialize)]
struct Provenance {
    package: String,
    version: String,
    runs: Runs,
    not_in_every_run: serde_json::Map<String, serde_json::Value>,
    observations: Vec<String>,
}

#[derive(Deserialize)]
struct Runs {
    recorded: usize,
    last_that_added: usize,
}

/// The profile of every folder, and `README.md`, by their paths in the checkout.
pub(crate) fn render(root: &Path) -> Result<Vec<(String, String)>> {
    let dir = root.join("profiles/apps");
    let mut names: Vec<_> = fs::read_dir(&dir)
        .with_context(|| format!("failed to read {}", dir.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    names.retain(|path| path.is_dir());
    names.sort();
    let mut made = Vec::new();
    let mut rows = String::new();
    let mut notes = String::new();
    let mut with = String::new();
    for folder in names {
        let name = folder
            .file_name()
            .and_then(|name| name.to_str())
            .context("a folder without a name")?;
        let read = |file: &str| {
            fs::read(folder.join(file))
                .with_context(|| format!("failed to read profiles/apps/{name}/{file}"))
        };
        let provenance: Provenance = serde_json::from_slice(&read("provenance.json")?)
            .with_context(|| {
                format!("failed to understand profiles/apps/{name}/provenance.json")
            })?;
        let observations = provenance
            .observations
            .iter()
            .map(|file| {
                Observation::from_json(&read(file)?)
                    .with_context(|| format!("failed to understand profiles/apps/{name}/{file}"))
            })
            .collect::<Result<Vec<_>>>()?;
        let mut generated = generate(&observations, &Policy::default())
            .with_context(|| format!("nothing can be generated for {name}"))?;
        let first = observations.first().context("no observation")?;
        let default = resolve(Engine::Docker, first.machine.arch, DOCKER_CAPABILITIES)?;
        generated.report.compare(&default);
        ensure!(
            generated.report.is_complete(),
            "the observations of {name} are incomplete"
        );
        let comparison = generated.report.comparison.as_ref();
        let comparison = comparison.context("the report compares nothing")?;
        let Summary {
            application,
            core_added,
            base_added,
            closure_added,
            ..
        } = generated.report.summary();
        with = format!(
            "{}, which allows {} of {}",
            comparison.with, comparison.default_allows, comparison.known
        );
        writeln!(
            rows,
            "| [{name}]({name}/) | {} {} | {} ({}) | {application} | {} | {core_added} + {base_added} + {closure_added} | {} |",
            provenance.package,
            provenance.version,
            provenance.runs.recorded,
            provenance.runs.last_that_added,
            provenance.not_in_every_run.len(),
            comparison.profile_allows,
        )?;
        if !comparison.extra.is_empty() {
            let extra: Vec<_> = comparison
                .extra
                .iter()
                .map(|name| format!("`{name}`"))
                .collect();
            writeln!(notes, "* {name}: {}", extra.join(", "))?;
        }
        made.push((
            format!("profiles/apps/{name}/profile.json"),
            generated.profile.to_oci_json(),
        ));
    }
    if notes.is_empty() {
        notes.push_str("* none\n");
    }
    let text = format!(
        "{INTRODUCTION}\
         | application | package | recordings (last that added) | recorded names | of these not in every recording | added: core + runtime + other kernels | allowed |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n\
         {rows}\n\
         Compared with {with}. Allowed here and not there:\n\n{notes}"
    );
    made.push(("profiles/apps/README.md".to_owned(), text));
    Ok(made)
}
