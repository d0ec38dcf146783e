//! What a change can break, judged from the files that it touches: the table behind `cargo xtask ci --changed`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::process::Run;
use crate::{cargo, places};

/// Beside the tests of its own packages: which steps a change below a path can break. The longest path that fits counts.
///
/// The model's dependents are compiled, its laws hold without them: that is what makes its loop a short one.
const STEPS: [(&str, &[&str]); 20] = [
    ("ebpf/", &["clippy-ebpf", "dist", "kernel", "alone", "vm"]),
    ("userspace/recorder/", &["dist", "kernel", "alone"]),
    ("userspace/cli/", &["dist", "kernel", "alone"]),
    ("userspace/cli/tests/", &[]),
    ("userspace/kube/", &["dist", "e2e"]),
    ("userspace/kube/tests/", &[]),
    ("userspace/model/", &["codegen"]),
    ("userspace/model/tests/", &[]),
    ("profiles/", &["codegen"]),
    ("deploy/", &["dist", "e2e"]),
    ("docs/commands/", &["dist", "kernel"]),
    ("tests/rig/", &["dist", "kernel", "alone"]),
    ("tests/workloads/", &["dist", "kernel", "alone"]),
    ("tests/kernel/", &["dist", "kernel", "alone"]),
    ("tests/e2e/", &["dist", "e2e"]),
    ("tests/closed-loop/", &["dist", "demo", "vm"]),
    ("tests/guest/", &["vm"]),
    ("tests/codegen/", &["codegen"]),
    ("tests/fuzz/", &["fuzz"]),
    ("xtask/src/cluster/", &["dist", "e2e"]),
];

/// Folders whose test programs a change in `tests/NAME.rs` breaks alone.
const PROGRAMS: [(&str, &str, &[&str]); 2] = [
    ("tests/kernel/tests/", "seccast-kernel", &["dist"]),
    ("tests/e2e/tests/", "seccast-e2e", &[]),
];

/// What a change can break.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Broken {
    /// The packages that it touches: their tests.
    pub(crate) packages: BTreeSet<String>,
    /// Those, and all that depend on them: whether they compile, and what clippy says.
    pub(crate) dependents: BTreeSet<String>,
    /// Test programs such as `seccast-kernel/moves`, where nothing else of their package is touched.
    pub(crate) programs: BTreeSet<String>,
    /// Steps of `cargo xtask ci` beyond these.
    pub(crate) steps: BTreeSet<&'static str>,
}

/// A package of the workspace.
#[derive(Debug)]
pub(crate) struct Package {
    name: String,
    /// Its folder, from the root of the checkout.
    folder: PathBuf,
    /// Packages of the workspace that it names, for its tests or its build script too.
    uses: BTreeSet<String>,
}

/// The files that differ from a revision, those that git does not track yet included; from the root of the checkout.
pub(crate) fn files(since: Option<&str>) -> Result<Vec<String>> {
    let git = || Run::new("git").dir(places::root());
    let base = match since {
        Some(revision) => revision.to_owned(),
        None => {
            let upstream = git().args(["merge-base", "HEAD", "@{upstream}"]).stdout();
            upstream.map_or_else(|_| "HEAD".to_owned(), |base| base.trim().to_owned())
        }
    };
    let tracked = git().args(["diff", "--name-only", &base]).stdout()?;
    let fresh = git()
        .args(["ls-files", "--others", "--exclude-standard"])
        .stdout()?;
    let files: Vec<_> = tracked
        .lines()
        .chain(fresh.lines())
        .map(str::to_owned)
        .collect();
    ensure!(
        !files.is_empty(),
        "nothing differs from {base}; name a revision with --since"
    );
    Ok(files)
}

/// The packages of the workspace.
pub(crate) fn workspace() -> Result<Vec<Package>> {
    let metadata = ["metadata", "--no-deps", "--format-version=1", "--offline"];
    let text = cargo::cargo().args(metadata).stdout()?;
    let metadata: Value =
        serde_json::from_str(&text).context("failed to read the output of `cargo metadata`")?;
    let packages = metadata.get("packages").and_then(Value::as_array);
    let packages = packages.context("`cargo metadata` names no packages")?;
    let read = |package: &Value| {
        let manifest = Path::new(package.get("manifest_path")?.as_str()?);
        let uses = package.get("dependencies")?.as_array()?.iter();
        let own = uses.filter(|used| used.get("path").is_some_and(Value::is_string));
        Some(Package {
            name: package.get("name")?.as_str()?.to_owned(),
            folder: manifest
                .parent()?
                .strip_prefix(places::root())
                .ok()?
                .to_owned(),
            uses: own
                .filter_map(|used| Some(used.get("name")?.as_str()?.to_owned()))
                .collect(),
        })
    };
    let packages: Option<_> = packages.iter().map(read).collect();
    packages.context("`cargo metadata` has a package without a name, a place or dependencies")
}

/// What a change of these files can break.
pub(crate) fn broken(files: &[String], workspace: &[Package]) -> Broken {
    let mut broken = Broken::default();
    for file in files {
        let program = PROGRAMS.iter().find_map(|(folder, package, steps)| {
            let name = file.strip_prefix(folder)?.strip_suffix(".rs")?;
            (!name.contains('/')).then(|| (format!("{package}/{name}"), *package, *steps))
        });
        if let Some((program, package, steps)) = program {
            broken.programs.insert(program);
            broken.dependents.insert(package.to_owned());
            broken.steps.extend(steps);
            continue;
        }
        let fits = STEPS.iter().filter(|(path, _)| file.starts_with(path));
        if let Some((_, steps)) = fits.max_by_key(|(path, _)| path.len()) {
            broken.steps.extend(*steps);
        }
        if file.ends_with("Cargo.toml") || file.ends_with("Cargo.lock") {
            broken.steps.insert("lock");
        }
        let own = workspace
            .iter()
            .filter(|package| Path::new(file).starts_with(&package.folder));
        if let Some(package) = own.max_by_key(|package| package.folder.as_os_str().len()) {
            broken.packages.insert(package.name.clone());
        }
    }
    broken
        .dependents
        .extend(dependents(&broken.packages, workspace));
    // All of its tests run anyway.
    let all: BTreeMap<&str, &str> = [("seccast-kernel", "kernel"), ("seccast-e2e", "e2e")].into();
    broken.programs.retain(|program| {
        let package = program.split('/').next().unwrap_or_default();
        all.get(package)
            .is_none_or(|step| !broken.steps.contains(step))
    });
    broken
}

/// These packages and all that use them, one through another.
fn dependents(packages: &BTreeSet<String>, workspace: &[Package]) -> BTreeSet<String> {
    let mut found = packages.clone();
    loop {
        let more: Vec<_> = workspace
            .iter()
            .filter(|package| !found.contains(&package.name))
            .filter(|package| !package.uses.is_disjoint(&found))
            .map(|package| package.name.clone())
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> Vec<Package> {
        let package = |name: &str, folder: &str, uses: &[&str]| Package {
            name: name.to_owned(),
            folder: folder.into(),
            uses: uses.iter().map(|&name| name.to_owned()).collect(),
        };
        vec![
            package("seccast-model", "userspace/model", &[]),
            package("seccast-recorder", "userspace/recorder", &["seccast-model"]),
            package("seccast", "userspace/cli", &["seccast-recorder"]),
            package("seccast-kernel", "tests/kernel", &["seccast-model"]),
            package("xtask", "xtask", &[]),
        ]
    }

    #[track_caller]
    fn check(
        files: &[&str],
        packages: &[&str],
        dependents: &[&str],
        programs: &[&str],
        steps: &[&'static str],
    ) {
        let files: Vec<_> = files.iter().map(|&file| file.to_owned()).collect();
        let own = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let expected = Broken {
            packages: own(packages),
            dependents: own(dependents),
            programs: own(programs),
            steps: steps.iter().copied().collect(),
        };
        assert_eq!(broken(&files, &workspace()), expected, "{files:?}");
    }

    #[test]
    fn a_change_of_the_model_compiles_its_dependents_and_runs_no_kernel_test() {
        check(
            &["userspace/model/src/closure.rs"],
            &["seccast-model"],
            &[
                "seccast",
                "seccast-kernel",
                "seccast-model",
                "seccast-recorder",
            ],
            &[],
            &["codegen"],
        );
    }

    #[test]
    fn a_change_of_the_recorder_runs_the_kernel_tests() {
        check(
            &["userspace/recorder/src/cgroup.rs"],
            &["seccast-recorder"],
            &["seccast", "seccast-recorder"],
            &[],
            &["alone", "dist", "kernel"],
        );
    }

    #[test]
    fn a_test_program_is_run_by_itself_unless_all_are() {
        let moves = "tests/kernel/tests/moves.rs";
        check(
            &[moves],
            &[],
            &["seccast-kernel"],
            &["seccast-kernel/moves"],
            &["dist"],
        );
        check(
            &[moves, "tests/kernel/src/lib.rs"],
            &["seccast-kernel"],
            &["seccast-kernel"],
            &[],
            &["alone", "dist", "kernel"],
        );
    }

    #[test]
    fn what_belongs_to_no_package_has_its_steps_all_the_same() {
        check(
            &["profiles/audit.json", "README.md"],
            &[],
            &[],
            &[],
            &["codegen"],
        );
        check(
            &["ebpf/programs/Cargo.lock"],
            &[],
            &[],
            &[],
            &["alone", "clippy-ebpf", "dist", "kernel", "lock", "vm"],
        );
    }

    /// A path of the table that is no more would protect nobody.
    #[test]
    fn every_path_of_the_table_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let programs = PROGRAMS.iter().map(|(path, ..)| path);
        for path in STEPS.iter().map(|(path, _)| path).chain(programs) {
            assert!(root.join(path).is_dir(), "{path}");
        }
    }
}
