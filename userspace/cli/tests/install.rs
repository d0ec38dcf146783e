//! `seccast install` under everything that can happen to it: killed at each of its steps, a hundred at once, names that lead elsewhere.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    fs,
    os::unix::fs::symlink,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

const SECCAST: &str = env!("CARGO_BIN_EXE_seccast");

/// What the installer calls once it has its root, and so where it can be killed between two changes of the disk.
const STEPS: &str = "openat2,mkdirat,flock,unlinkat,openat,fchmod,write,fsync,renameat,symlinkat,utimensat,readlinkat,newfstatat,fstat,close";

fn seccast(folder: &Path, args: &[&str]) -> Output {
    Command::new(SECCAST)
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// `seccast install ARGS --root root`, which has to succeed.
fn install(folder: &Path, args: &[&str]) {
    let output = seccast(folder, &[&["install", "--root", "root"], args].concat());
    assert!(output.status.success(), "{args:?}: {output:?}");
}

/// A folder with profiles `old/web.json` and `new/web.json`, and one for a root.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, call) in [("old", "read"), ("new", "write")] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("web.json"), profile(call)).unwrap();
    }
    fs::create_dir(folder.path().join("root")).unwrap();
    folder
}

fn profile(call: &str) -> String {
    // More than one page, so that half of it could be there.
    let rule = format!("{{\"names\":[\"{call}\"],\"action\":\"SCMP_ACT_ALLOW\"}}");
    let rules = vec![rule; 400].join(",\n");
    format!("{{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{rules}]}}\n")
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn list(folder: &Path) -> serde_json::Value {
    let output = seccast(
        folder,
        &["install", "--list", "--root", "root", "--format", "json"],
    );
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn killed_at_each_call_it_leaves_the_old_or_the_new_file_whole() {
    if Command::new("strace").arg("-V").output().is_err() {
        assert!(
            std::env::var_os("SECCAST_REQUIRE_KERNEL").is_none(),
            "no strace"
        );
        println!("SKIPPED: needs strace");
        return;
    }
    let (mut old, mut new, mut killed) = (0, 0, 0);
    for step in STEPS.split(',') {
        for nth in 1.. {
            let folder = folder();
            let at = folder.path();
            install(at, &["old/web.json"]);
            let status = Command::new("strace")
                .args(["-qq", "-f", "-o", "/dev/null"])
                .arg(format!("--trace={step}"))
                .arg(format!("--inject={step}:signal=KILL:when={nth}"))
                .args([SECCAST, "install", "--root", "root", "new/web.json"])
                .current_dir(at)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            let found = fs::read_to_string(at.join("root/seccast/web.json")).unwrap();
            if found == profile("read") {
                old += 1;
            } else {
                assert_eq!(found, profile("write"), "killed at {step} number {nth}");
                new += 1;
            }
            // Whoever comes next tidies up.
            let was_killed = status.signal() == Some(9);
            assert!(was_killed || status.success(), "{step} {nth}: {status}");
            install(at, &["new/web.json"]);
            let mut left = names(&at.join("root/seccast"));
            left.retain(|name| name != "web.json");
            assert_eq!(left.len(), 2, "killed at {step} number {nth}: {left:?}");
            assert_eq!(
                fs::read_to_string(at.join("root/seccast/web.json")).unwrap(),
                profile("write")
            );
            if !was_killed {
                break;
            }
            killed += 1;
        }
    }
    println!("killed {killed} times: {old} times the old file was there, {new} times the new one");
    let whole = STEPS.split(',').count();
    assert_eq!(old + new, killed + whole);
    // Once after the alias has moved, at least, and often before.
    assert!(killed > 100 && new > whole, "{killed} {new}");
}

#[test]
fn killed_at_the_first_install_it_leaves_a_whole_file_or_none() {
    if Command::new("strace").arg("-V").output().is_err() {
        assert!(
            std::env::var_os("SECCAST_REQUIRE_KERNEL").is_none(),
            "no strace"
        );
        println!("SKIPPED: needs strace");
        return;
    }
    for step in [
        "mkdirat",
        "flock",
        "openat2",
        "write",
        "fsync",
        "renameat",
        "symlinkat",
    ] {
        for nth in 1.. {
            let folder = folder();
            let at = folder.path();
            let status = Command::new("strace")
                .args(["-qq", "-f", "-o", "/dev/null"])
                .arg(format!("--trace={step}"))
                .arg(format!("--inject={step}:signal=KILL:when={nth}"))
                .args([SECCAST, "install", "--root", "root", "new/web.json"])
                .current_dir(at)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            if let Ok(found) = fs::read_to_string(at.join("root/seccast/web.json")) {
                assert_eq!(found, profile("write"), "{step} {nth}");
            }
            install(at, &["new/web.json"]);
            assert_eq!(names(&at.join("root/seccast")).len(), 2, "{step} {nth}");
            if status.success() {
                break;
            }
        }
    }
}

#[test]
fn a_hundred_at_once_are_all_there_and_whole() {
    const ALL: usize = 100;
    let folder = folder();
    let at = folder.path();
    for n in 0..ALL {
        fs::create_dir(at.join(n.to_string())).unwrap();
        fs::write(
            at.join(format!("{n}/all.json")),
            profile("read") + &" ".repeat(n),
        )
        .unwrap();
        fs::write(
            at.join(format!("{n}/own{n}.json")),
            profile("read") + &" ".repeat(n),
        )
        .unwrap();
    }
    let children: Vec<_> = (0..ALL)
        .map(|n| {
            Command::new(SECCAST)
                .args(["install", "--quiet", "--root", "root"])
                .args([format!("{n}/all.json"), format!("{n}/own{n}.json")])
                .current_dir(at)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for (n, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said, format!("seccast/all.json\nseccast/own{n}.json\n"));
        assert_eq!(output.stderr, b"");
    }
    let list = list(at);
    let files = list["files"].as_array().unwrap();
    let count = |state: &str| files.iter().filter(|file| file["state"] == state).count();
    // Each has its own; of the common one each put a version of its own, and the last to come is the current one.
    assert_eq!(
        (count("current"), count("old"), files.len()),
        (ALL + 1, ALL - 1, 2 * ALL)
    );
    assert_eq!(list["others"], serde_json::json!([]));
}

/// `seccast install ARGS` ends with 3, says all of this, and the tree below the folder is as before.
fn refuses(at: &Path, args: &[&str], says: &[&str]) {
    let before = tree(at);
    let output = seccast(at, &[&["install"], args].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{args:?}: {stderr}");
    assert_eq!(output.stdout, b"", "{args:?}");
    for words in says {
        assert!(
            stderr.contains(words),
            "{args:?}: nothing of {words:?}: {stderr}"
        );
    }
    let typed: usize = args.iter().map(|arg| arg.len()).sum();
    assert!(stderr.len() < 1000 + typed, "{stderr}");
    assert_eq!(tree(at), before, "{args:?}");
}

/// Every path below a folder, with what links lead to.
fn tree(at: &Path) -> Vec<(PathBuf, Option<PathBuf>)> {
    let mut paths = Vec::new();
    let mut folders = vec![at.to_owned()];
    while let Some(folder) = folders.pop() {
        for name in names(&folder) {
            let path = folder.join(name);
            if path.is_dir() && !path.is_symlink() {
                folders.push(path.clone());
            }
            paths.push((path.clone(), fs::read_link(&path).ok()));
        }
    }
    paths
}

#[test]
fn what_leads_elsewhere_or_is_no_name_is_refused_and_nothing_changes() {
    let folder = folder();
    let at = folder.path();
    fs::write(at.join(".hidden.json"), profile("read")).unwrap();
    fs::write(at.join("web.txt"), profile("read")).unwrap();
    fs::write(at.join("a\nb.json"), profile("read")).unwrap();
    fs::write(at.join("web.0123456789abcdef.json"), profile("read")).unwrap();
    let long = format!("{}.json", "x".repeat(250));
    fs::write(at.join(&long), profile("read")).unwrap();
    let huge = "x".repeat(4096);
    for (args, says) in [
        (
            vec![".hidden.json"],
            &["begins with a dot", "localhostProfile"][..],
        ),
        (vec!["web.txt"], &["does not end with `.json`"]),
        (vec!["a\nb.json"], &["control character \\n"]),
        (vec!["web.0123456789abcdef.json"], &["leave the hash out"]),
        (vec![&long], &["has 255 bytes", "at most 238"]),
        (vec![&huge], &["has 4096 bytes"]),
        (vec!["old/.."], &["cannot install old/.."]),
        (vec!["old"], &["does not end"]),
        (
            vec!["none.json"],
            &["cannot read none.json", "No such file"],
        ),
        (
            vec!["old/web.json", "new/web.json"],
            &["would both be seccast/web.json"],
        ),
        (
            vec!["old/web.json", "--root", "none/seccomp"],
            &["no folder none", "--root"],
        ),
        (vec!["--remove", "../web"], &["`../web`", "has a `/`"]),
        (vec!["--remove", "web"], &["nothing is installed"]),
        (vec!["--list", "--root", "none"], &["cannot open none"]),
    ] {
        let args = if args.contains(&"--root") {
            args
        } else {
            [&args[..], &["--root", "root"]].concat()
        };
        refuses(at, &args, says);
    }
    // Links below the root.
    fs::create_dir(at.join("elsewhere")).unwrap();
    for target in ["../elsewhere", "../..", "/", "nowhere"] {
        symlink(target, at.join("root/seccast")).unwrap();
        refuses(
            at,
            &["old/web.json", "--root", "root"],
            &["root/seccast", "symbolic link"],
        );
        refuses(
            at,
            &["--list", "--root", "root"],
            &["root/seccast", "symbolic link"],
        );
        fs::remove_file(at.join("root/seccast")).unwrap();
    }
    // One that is wrong among many: none is written.
    fs::write(at.join("bad.json"), "{").unwrap();
    refuses(
        at,
        &["old/web.json", "bad.json", "--root", "root"],
        &["bad.json", "not valid JSON"],
    );
}

#[test]
fn what_runtimes_would_read_wrongly_is_refused_with_what_mends_it() {
    let folder = folder();
    let at = folder.path();
    let podman = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../profiles/defaults/podman/seccomp.json"
    );
    fs::copy(podman, at.join("podman.json")).unwrap();
    let observation = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../profiles/apps/redis/observation.json"
    );
    fs::copy(observation, at.join("redis.json")).unwrap();
    fs::write(at.join("empty.json"), "{}").unwrap();
    let good = profile("read");
    fs::write(
        at.join("large.json"),
        format!("{good}{}", " ".repeat(1 << 20)),
    )
    .unwrap();
    fs::write(
        at.join("notify.json"),
        good.replacen("SCMP_ACT_ALLOW", "SCMP_ACT_NOTIFY", 1),
    )
    .unwrap();
    fs::write(
        at.join("action.json"),
        good.replacen("SCMP_ACT_ALLOW", "ALLOW", 1),
    )
    .unwrap();
    for (file, says) in [
        (
            "podman.json",
            &["`seccast convert podman.json", "docker's dialect"][..],
        ),
        ("redis.json", &["not a seccomp profile"]),
        ("empty.json", &["seccomp off"]),
        (
            "large.json",
            &["large.json", "no installed profile more than 1048576"],
        ),
        ("notify.json", &["notify.json", "listenerPath"]),
        (
            "action.json",
            &["action.json, line 1", "`syscalls[0].action`"],
        ),
    ] {
        refuses(at, &[file, "--root", "root"], says);
    }
    fs::write(
        at.join("flags.json"),
        good.replacen('{', "{\"flags\":[\"SECCOMP_FILTER_FLAG_LOG\"],", 1),
    )
    .unwrap();
    let output = seccast(at, &["install", "flags.json", "--root", "root"]);
    assert!(output.status.success());
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("runc before 1.2")
    );
}

#[test]
fn a_listing_says_what_somebody_changed() {
    let folder = folder();
    let at = folder.path();
    install(at, &["old/web.json", "--audit"]);
    install(at, &["new/web.json"]);
    let seccomp = at.join("root/seccast");
    fs::write(seccomp.join("plain.json"), "{}").unwrap();
    fs::write(seccomp.join("notes.txt"), "").unwrap();
    let states = |folder: &Path| -> Vec<String> {
        let list = list(folder);
        assert_eq!(list["others"], serde_json::json!(["notes.txt"]));
        let files = list["files"].as_array().unwrap();
        files
            .iter()
            .map(|file| {
                format!(
                    "{} {}",
                    file["localhost_profile"].as_str().unwrap(),
                    file["state"].as_str().unwrap()
                )
            })
            .collect()
    };
    let old = states(at);
    assert_eq!(old.len(), 4);
    assert_eq!(
        old[..2],
        ["seccast/audit.json current", "seccast/plain.json not ours"]
    );
    assert_eq!(old[2], "seccast/web.json current");
    assert!(old[3].ends_with(".json old"), "{old:?}");
    // The profile itself, through the link, as an editor does it.
    fs::write(seccomp.join("web.json"), "{}").unwrap();
    assert_eq!(states(at)[2], "seccast/web.json edited");
    fs::remove_file(fs::canonicalize(seccomp.join("web.json")).unwrap()).unwrap();
    assert_eq!(states(at)[2], "seccast/web.json missing");
    install(at, &["new/web.json"]);
    assert_eq!(states(at), old);
}

#[test]
fn a_dry_run_says_the_same_and_does_nothing() {
    let folder = folder();
    let at = folder.path();
    for (args, says) in [
        (&["old/web.json"][..], "new"),
        (&["old/web.json"], "unchanged"),
        (&["new/web.json"], "in place of "),
    ] {
        let before = tree(at);
        let dry = seccast(
            at,
            &[&["install", "--dry-run", "--root", "root"], args].concat(),
        );
        assert_eq!(tree(at), before);
        let done = seccast(at, &[&["install", "--root", "root"], args].concat());
        let [dry, done] = [dry, done].map(|output| {
            assert!(output.status.success());
            (
                String::from_utf8(output.stdout).unwrap(),
                String::from_utf8(output.stderr).unwrap(),
            )
        });
        assert_eq!(dry.0, done.0);
        assert!(done.1.contains(says), "{done:?}");
        assert_eq!(dry.1.replace("would be:", "seccast:"), done.1);
    }
}
