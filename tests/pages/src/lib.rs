//! The pages of `docs/commands`, run as they are written.
//!
//! What a page shows in a block ` ```console ` is run, block after block, in one folder that holds [`FILES`]; each line that
//! begins with `$ ` by a shell. What follows such a line has to be what it prints on stdout and stderr, and `? 1` the code
//! that it ends with when that is not 0. `...` on a line of its own stands for any lines, `[..]` for any characters in one
//! line. `TRYCMD=overwrite` writes the pages anew; <https://docs.rs/trycmd> has the rest.
//!
//! A block ` ```console,ignore,root ` needs root and the running kernel: [`Needs::Root`] runs it too. So does everything that
//! builds upon such a block.

#![allow(
    clippy::unwrap_used,
    reason = "a harness of tests: what goes wrong here fails the test"
)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};
use trycmd::TestCases;

/// What lies in the folder where a page's commands run, and where it comes from: files of this repository, so that no page
/// shows what was made up.
pub const FILES: [(&str, &str); 10] = [
    (
        "redis.observation.json",
        "profiles/apps/redis/observation.json",
    ),
    (
        "nginx.observation.json",
        "profiles/apps/nginx/observation.json",
    ),
    ("redis.json", "profiles/apps/redis/profile.json"),
    ("podman.json", "profiles/defaults/podman/seccomp.json"),
    ("policy.yaml", "deploy/policy.yaml"),
    (
        "redis.yaml",
        "userspace/kube/tests/manifests/redis-bitnami.yaml",
    ),
    (
        "keda.yaml",
        "userspace/kube/tests/manifests/keda-operator.yaml",
    ),
    (
        "linkerd.yaml",
        "userspace/kube/tests/manifests/linkerd-proxy-sidecar.yaml",
    ),
    (
        "values.yaml",
        "userspace/kube/tests/manifests/values-helm-create.yaml",
    ),
    (
        "compose.yaml",
        "userspace/kube/tests/manifests/compose-wordpress.yaml",
    ),
];

/// What the commands of a block may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: the other blocks are left out.
    Nothing,
    /// Root on a kernel that can record: every block is run.
    Root,
}

/// The root of the checkout.
#[must_use]
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap().to_owned()
}

/// The names of the pages: the verbs that have one.
#[must_use]
pub fn verbs() -> Vec<String> {
    let mut verbs: Vec<_> = fs::read_dir(repository().join("docs/commands"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".md").map(str::to_owned))
        .filter(|name| name != "README")
        .collect();
    verbs.sort();
    verbs
}

/// Runs the page of a verb with this seccast, and panics where it does not tell the truth.
pub fn run(verb: &str, seccast: &Path, needs: Needs, env: &[(&str, &str)]) {
    let page = format!("docs/commands/{verb}.md");
    run_page(&page, &FILES, Path::new("/bin/sh"), seccast, needs, env);
}

/// Runs a page of this repository, in a folder with copies of `files`: what they are called there, and where they are from.
/// `shell` is called as `sh -c COMMAND`.
pub fn run_page(
    page: &str,
    files: &[(&str, &str)],
    shell: &Path,
    seccast: &Path,
    needs: Needs,
    env: &[(&str, &str)],
) {
    let page = repository().join(page);
    let written = fs::read_to_string(&page).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (input, copy) = (folder.path().join("page.in"), folder.path().join("page.md"));
    // Its mere presence makes trycmd work on a copy of the input.
    fs::create_dir(folder.path().join("page.out")).unwrap();
    fs::create_dir(&input).unwrap();
    for (name, from) in files {
        fs::copy(repository().join(from), input.join(name)).unwrap();
    }
    let (text, lines) = for_trycmd(&written, needs);
    fs::write(&copy, &text).unwrap();
    let path = env.iter().find(|(name, _)| *name == "PATH");
    let path = path.map_or_else(|| env::var("PATH").unwrap(), |(_, path)| (*path).to_owned());
    let path = format!("{}:{path}", seccast.parent().unwrap().display());
    let cases = TestCases::new();
    cases
        .case(&copy)
        .register_bin("sh", trycmd::schema::Bin::Path(shell.to_owned()))
        .timeout(Duration::from_secs(180));
    for (name, value) in env {
        cases.env(*name, *value);
    }
    cases.env("PATH", path);
    println!("{}", page.display());
    cases.run();
    if env::var_os("TRYCMD").is_some_and(|mode| mode == "overwrite") {
        let new = fs::read_to_string(&copy).unwrap();
        fs::write(page, from_trycmd(&new, &lines)).unwrap();
    }
}

/// The page as trycmd takes it, and what stands there in place of what: a shell runs every command, since trycmd knows neither
/// pipes nor redirections; and an empty line, which is how trycmd tells that the last line of an output has its end.
fn for_trycmd(page: &str, needs: Needs) -> (String, Vec<(String, String)>) {
    let (mut text, mut instead) = (String::new(), Vec::new());
    let mut lines = page.split_inclusive('\n').peekable();
    let (mut runs, mut printed) = (false, false);
    while let Some(line) = lines.next() {
        let mut ours = line.to_owned();
        let mut theirs = line.to_owned();
        let command = line.strip_prefix("$ ").filter(|_| runs);
        if printed && (command.is_some() || line == FENCE) {
            text.push('\n');
        }
        printed = runs && command.is_none() && !line.starts_with("? ");
        if let Some(info) = line.strip_prefix("```") {
            let rooted = info.trim_end().split(',').any(|word| word == "root");
            runs = info.starts_with("console") && (!rooted || needs == Needs::Root);
            printed = false;
            if rooted && runs {
                theirs = "```console,as-root\n".to_owned();
            }
        } else if let Some(command) = command {
            let part = |line: &str| line.trim_end().trim_end_matches('\\').trim_end().to_owned();
            let mut command = part(command);
            while let Some(more) = lines.next_if(|line| line.starts_with("> ")) {
                ours.push_str(more);
                command = format!("{command} {}", part(&more[2..]));
            }
            theirs = format!("$ sh -c '{}'\n", command.replace('\'', r"'\''"));
        }
        text.push_str(&theirs);
        if ours != theirs {
            instead.push((ours, theirs));
        }
    }
    (text, instead)
}

/// The page again, from what trycmd has written into its own.
fn from_trycmd(text: &str, instead: &[(String, String)]) -> String {
    let mut page = String::new();
    let mut runs = false;
    for line in text.split_inclusive('\n') {
        if runs && (line == FENCE || line.starts_with("$ ")) && page.ends_with("\n\n") {
            page.pop();
        }
        if let Some(info) = line.strip_prefix("```") {
            runs = info.starts_with("console") && !info.contains("ignore");
        }
        page.push_str(line);
    }
    let back = |page: String, (ours, theirs): &(String, String)| page.replace(theirs, ours);
    instead.iter().fold(page, back)
}

const FENCE: &str = "```\n";

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# A page
```console
$ a 'b' \\
>   c
? 1
out
$ quiet
```
```console,ignore,root
$ d >e | f
```
```json
$ g
```
";

    #[test]
    fn a_shell_runs_every_command_and_root_alone_what_needs_it() {
        let (text, instead) = for_trycmd(PAGE, Needs::Nothing);
        let mut other = PAGE.replace("$ quiet", "\n$ sh -c 'quiet'");
        other = other.replace("$ a 'b' \\\n>   c", r"$ sh -c 'a '\''b'\''   c'");
        assert_eq!(text, other);
        assert_eq!(from_trycmd(&text, &instead), PAGE);
        let (text, instead) = for_trycmd(PAGE, Needs::Root);
        other = other.replace("$ d >e | f", "$ sh -c 'd >e | f'");
        other = other.replace("console,ignore,root", "console,as-root");
        assert_eq!(text, other);
        assert_eq!(from_trycmd(&text, &instead), PAGE);
    }
}
