//! The documents tell the truth: what `docs/commands` shows is what seccast prints, and all name the same verbs.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use seccast_pages::{Needs, repository, run, verbs};
use std::{fs, path::Path, process::Command};

const SECCAST: &str = env!("CARGO_BIN_EXE_seccast");

#[test]
fn every_page_shows_what_is_printed() {
    for verb in verbs() {
        run(&verb, Path::new(SECCAST), Needs::Nothing, &[]);
    }
}

/// The verbs of `seccast --help`, without clap's own.
fn helped() -> Vec<String> {
    let output = Command::new(SECCAST).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let lines = list.lines().take_while(|line| !line.is_empty());
    let mut verbs: Vec<_> = lines
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .map(str::to_owned)
        .collect();
    verbs.sort();
    verbs
}

#[test]
fn the_readme_the_pages_and_help_know_the_same_verbs() {
    let helped = helped();
    assert_eq!(helped, verbs(), "docs/commands has other pages than --help");
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    for verb in &helped {
        let link = format!("[`{verb}`](docs/commands/{verb}.md)");
        assert!(readme.contains(&link), "README.md has no {link}");
    }
    // Nor does it know others.
    for text in readme.split("(docs/commands/").skip(1) {
        let (name, _) = text.split_once(".md)").unwrap();
        assert!(helped.iter().any(|verb| verb == name), "{name}");
    }
}

#[test]
fn man_pages_and_completions_are_made_for_every_verb() {
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new(SECCAST)
        .arg("man")
        .arg(folder.path())
        .status()
        .unwrap();
    assert!(status.success());
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut wanted: Vec<_> = helped()
        .iter()
        .map(|verb| format!("seccast-{verb}.1"))
        .collect();
    wanted.push("seccast.1".to_owned());
    wanted.sort();
    assert_eq!(names, wanted);
    for name in &names {
        let page = fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(
            page.contains(&format!(".TH {} 1", name.trim_end_matches(".1"))),
            "{page}"
        );
        for section in ["NAME", "SYNOPSIS", "OPTIONS", "\"EXIT STATUS\"", "EXAMPLES"] {
            let top = name == "seccast.1" && ["EXIT STATUS", "EXAMPLES"].contains(&section);
            assert!(
                top || page.contains(&format!("\n.SH {section}\n")),
                "{name}: no {section}"
            );
        }
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = Command::new(SECCAST)
            .args(["completions", shell])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let script = String::from_utf8(output.stdout).unwrap();
        for verb in helped() {
            assert!(script.contains(&verb), "{shell}: no {verb}");
        }
    }
}
