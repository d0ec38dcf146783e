//! `seccast install` under everything that can happen to it: killed at each of its steps, a hundred at once, names that lead elsewhere.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::{
    fs,
    mem::MaybeUninit,
    os::unix::{fs::symlink, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread::{self, sleep},
    time::{Duration, Instant, SystemTime},
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
        (
            vec!["--watch", "x", "--root", "none/none", "--check"],
            &["cannot read the folder x"],
        ),
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

/// A folder as the kubelet mounts a ConfigMap: files are links into `..data`, which is a link to the folder of a version, replaced by a
/// rename; the folder before it is removed then (pkg/volume/util/atomic_writer.go).
struct ConfigMap {
    folder: PathBuf,
    version: usize,
}

impl ConfigMap {
    fn new(folder: PathBuf) -> Self {
        fs::create_dir(&folder).unwrap();
        Self { folder, version: 0 }
    }

    fn set(&mut self, files: &[(&str, String)]) {
        self.version += 1;
        let old = self.folder.join(format!("..{}", self.version - 1));
        let new = format!("..{}", self.version);
        fs::create_dir(self.folder.join(&new)).unwrap();
        for (name, content) in files {
            fs::write(self.folder.join(&new).join(name), content).unwrap();
        }
        symlink(&new, self.folder.join("..data_tmp")).unwrap();
        fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data")).unwrap();
        for (name, _) in files {
            let link = self.folder.join(name);
            if !link.is_symlink() {
                symlink(format!("..data/{name}"), link).unwrap();
            }
        }
        for name in names(&self.folder) {
            if !name.starts_with('.') && !files.iter().any(|(file, _)| *file == name) {
                fs::remove_file(self.folder.join(name)).unwrap();
            }
        }
        if old.exists() {
            fs::remove_dir_all(old).unwrap();
        }
    }
}

/// `seccast install --watch`, ended by SIGTERM on drop.
struct Watch {
    child: Child,
    log: PathBuf,
    at: PathBuf,
}

impl Watch {
    fn start(at: &Path, args: &[&str]) -> Self {
        let log = at.join("log");
        let child = Command::new(SECCAST)
            .args([
                "install", "--watch", "profiles", "--root", "root", "--ready", "ready",
            ])
            .args(args)
            .current_dir(at)
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self {
            child,
            log,
            at: at.to_owned(),
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn wait(&self, what: &str, mut done: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !done() {
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "no {what}:\n{}",
                self.log()
            );
            sleep(Duration::from_millis(2));
        }
    }

    fn says(&self, line: &str) {
        self.wait(line, || self.log().contains(line));
    }

    fn is_ready(&self) -> bool {
        self.at.join("ready").exists()
    }

    /// SIGTERM; the exit code, and how long it took.
    fn end(mut self) -> (Option<i32>, Duration) {
        let begin = Instant::now();
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        (self.child.wait().unwrap().code(), begin.elapsed())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `--check`, the readiness probe: its exit code, and what it prints.
fn probe(at: &Path) -> (Option<i32>, String) {
    let output = seccast(
        at,
        &[
            "install", "--check", "--watch", "profiles", "--root", "root",
        ],
    );
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn a_config_map_swapped_a_thousand_times_is_on_the_disk_after_each_settle_and_never_half() {
    const SETTLES: usize = 100;
    const BURST: usize = 10;
    let folder = folder();
    let at = folder.path();
    let text = |n: usize| profile("read") + &" ".repeat(n);
    let mut map = ConfigMap::new(at.join("profiles"));
    map.set(&[("web.json", text(0)), ("other.json", text(0))]);
    let watch = Watch::start(at, &["--quiet"]);
    let alias = at.join("root/seccast/web.json");
    watch.wait("readiness", || watch.is_ready());
    let (done, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut slowest = Duration::ZERO;
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut last, whole) = (0, text(0).len());
            while !done.load(Ordering::Relaxed) {
                let found = fs::read_to_string(&alias).expect("there at every instant");
                let n = found.len() - whole;
                assert!(found == text(n) && n >= last, "{n} after {last}");
                last = n;
                reads.fetch_add(1, Ordering::Relaxed);
            }
        });
        for settle in 1..=SETTLES {
            for n in (settle - 1) * BURST + 1..=settle * BURST {
                map.set(&[("web.json", text(n)), ("other.json", text(n))]);
            }
            let begin = Instant::now();
            for name in ["web.json", "other.json"] {
                let wanted = text(settle * BURST);
                watch.wait("the last content", || {
                    fs::read_to_string(at.join("root/seccast").join(name)).unwrap() == wanted
                });
            }
            slowest = slowest.max(begin.elapsed());
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(map.version, 1 + SETTLES * BURST);
    assert_eq!(probe(at), (Some(0), String::new()));
    assert!(watch.is_ready());
    assert_eq!(watch.log(), "");
    let (code, took) = watch.end();
    assert_eq!(code, Some(0));
    assert!(!at.join("ready").exists());
    println!(
        "{} changes, {} reads; on the disk at most {slowest:?} after a burst; ended in {took:?}",
        map.version - 1,
        reads.load(Ordering::Relaxed)
    );
}

#[test]
fn a_watched_node_is_repaired_and_a_bad_file_stops_no_other() {
    let folder = folder();
    let at = folder.path();
    assert_eq!(probe(at).0, Some(3), "there is no folder");
    fs::create_dir(at.join("profiles")).unwrap();
    let (web, db) = (at.join("profiles/web.json"), at.join("profiles/db.json"));
    fs::write(&web, profile("read")).unwrap();
    fs::write(&db, profile("read")).unwrap();
    assert_eq!(probe(at), (Some(1), "seccast/db.json: not on the node as it should be\nseccast/web.json: not on the node as it should be\n".to_owned()));
    // Who is named and does not answer may know of a Pod that uses what leaves.
    let watch = Watch::start(at, &["--cri-socket", "none.sock"]);
    watch.says("ready: the node is equal to the folder");
    assert_eq!(probe(at), (Some(0), String::new()));

    // Whatever somebody does to the node.
    let alias = at.join("root/seccast/web.json");
    let repaired = |times: usize| {
        watch.wait("repair", || {
            fs::read_to_string(&alias).is_ok_and(|found| found == profile("read"))
        });
        watch.wait("word of it", || {
            watch
                .log()
                .matches("somebody had changed or removed it")
                .count()
                == times
        });
    };
    fs::write(&alias, "{}").unwrap();
    repaired(1);
    fs::remove_file(fs::canonicalize(&alias).unwrap()).unwrap();
    repaired(2);
    fs::remove_file(&alias).unwrap();
    watch.wait("the alias again", || alias.exists());
    fs::remove_dir_all(at.join("root/seccast")).unwrap();
    watch.wait("all again", || {
        alias.exists() && at.join("root/seccast/db.json").exists()
    });
    watch.wait("readiness", || watch.is_ready() && probe(at).0 == Some(0));

    // A bad file: the other one still comes, and what there was of the bad one stays.
    fs::write(&web, "{\"defaultAction\":").unwrap();
    fs::write(&db, profile("write")).unwrap();
    watch.says("not ready: web.json is not installed: not valid JSON");
    watch.wait("the other", || {
        fs::read_to_string(at.join("root/seccast/db.json")).unwrap() == profile("write")
    });
    watch.wait("no readiness", || !watch.is_ready());
    assert_eq!(fs::read_to_string(&alias).unwrap(), profile("read"));
    let (code, said) = probe(at);
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
    fs::write(&web, profile("read")).unwrap();
    watch.wait("readiness", || watch.is_ready());

    // What leaves the folder stays while somebody may use it, and else leaves the node, but for its versions.
    fs::remove_file(&db).unwrap();
    watch.says("what is not wanted any more stays: no container runtime answers at none.sock");
    assert!(at.join("root/seccast/db.json").exists() && watch.is_ready());
    assert_eq!(watch.end().0, Some(0));
    let watch = Watch::start(at, &["--force"]);
    watch.says("seccast/db.json removed: it left the folder; its versions stay");
    assert!(!at.join("root/seccast/db.json").exists());
    assert_eq!(
        names(&at.join("root/seccast"))
            .iter()
            .filter(|name| name.starts_with("db."))
            .count(),
        2
    );
    // An empty folder removes nothing.
    fs::remove_file(&web).unwrap();
    watch.says("the folder is empty, and what is installed stays");
    assert!(alias.exists());
    fs::write(at.join("profiles/README.md"), "").unwrap();
    watch.says("README.md is left out");
    // Each is told once, however often the folders are looked at: for each of these they are read anew.
    for n in 1..=3 {
        let name = format!("NOTES-{n}.md");
        fs::write(at.join("profiles").join(&name), "").unwrap();
        watch.says(&format!("{name} is left out"));
    }
    for line in ["the folder is empty", "README.md is left out"] {
        assert_eq!(watch.log().matches(line).count(), 1, "{}", watch.log());
    }
    // And the folder itself.
    fs::rename(at.join("profiles"), at.join("away")).unwrap();
    watch.says("not ready: cannot read the folder profiles");
    watch.wait("no readiness", || !watch.is_ready());
    assert!(alias.exists());
    fs::rename(at.join("away"), at.join("profiles")).unwrap();
    watch.wait("readiness", || watch.is_ready());
    let (code, took) = watch.end();
    assert_eq!(code, Some(0));
    println!("ended in {took:?}");
}

#[test]
fn old_versions_are_bounded_and_kept_a_minute() {
    let folder = folder();
    let at = folder.path();
    fs::create_dir(at.join("profiles")).unwrap();
    let versions = || names(&at.join("root/seccast")).len() - 1;
    for n in 0..30 {
        fs::write(
            at.join("profiles/web.json"),
            profile("read") + &" ".repeat(n),
        )
        .unwrap();
        install(at, &["profiles/web.json"]);
    }
    assert_eq!(versions(), 30);
    // All but the current one were current within the last minute.
    let current = fs::canonicalize(at.join("root/seccast/web.json")).unwrap();
    let age = |seconds: u64| {
        for name in names(&at.join("root/seccast")) {
            let path = at.join("root/seccast").join(&name);
            if path != current && name != "web.json" {
                let file = fs::File::options().append(true).open(&path).unwrap();
                file.set_modified(SystemTime::now() - Duration::from_secs(seconds))
                    .unwrap();
            }
        }
    };
    // Who is named and does not answer may know of a Pod that uses them.
    age(61);
    let watch = Watch::start(at, &["--cri-socket", "none.sock"]);
    watch.says("seccast: ready");
    watch.says("stays: no container runtime answers at none.sock");
    assert_eq!(watch.end().0, Some(0));
    assert_eq!(versions(), 30);
    // Half a minute is left for what is not to be old yet.
    for (seconds, left) in [(0, 30), (30, 30), (61, 11)] {
        age(seconds);
        let watch = Watch::start(at, &[]);
        watch.says("seccast: ready");
        let log = watch.log();
        assert_eq!(watch.end().0, Some(0));
        assert_eq!(versions(), left, "{log}");
        let dropped = log.matches("removed: 10 newer old versions are kept");
        assert_eq!(dropped.count(), 30 - left, "{log}");
    }
    age(61);
    // Nobody knows what is in use.
    refuses(
        at,
        &["--prune", "--root", "root", "--cri-socket", "none.sock"],
        &["cannot tell what is in use", "none.sock", "--force"],
    );
    refuses(
        at,
        &[
            "--remove",
            "web",
            "--root",
            "root",
            "--cri-socket",
            "none.sock",
        ],
        &["cannot tell what is in use", "--force"],
    );
    install(at, &["--prune", "--force", "--dry-run"]);
    assert_eq!(versions(), 11);
    install(at, &["--prune", "--force"]);
    assert_eq!(versions(), 1);
    assert!(current.exists());
    install(at, &["--remove", "seccast/web.json", "--force"]);
    assert_eq!(names(&at.join("root/seccast")), [""; 0]);
}

/// A device, a link, or a file of somebody else's in place of `--ready`.
#[test]
fn what_is_not_a_mark_of_readiness_is_not_removed() {
    let folder = folder();
    let at = folder.path();
    let watch = |file: &str| {
        let watch = ["--watch", "new", "--root", "root", "--ready", file];
        refuses(at, &watch, &[file, "is not what --ready writes"]);
    };
    fs::write(at.join("notes"), "ready to go\n").unwrap();
    watch("notes");
    symlink("notes", at.join("link")).unwrap();
    watch("link");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    watch("fifo");
    for name in ["notes", "link", "fifo"] {
        assert!(fs::symlink_metadata(at.join(name)).is_ok(), "{name}");
    }

    // That of a process that was killed, before or after it was written.
    fs::create_dir(at.join("profiles")).unwrap();
    for left in ["", "ready\n"] {
        fs::write(at.join("ready"), left).unwrap();
        let watch = Watch::start(at, &[]);
        watch.says("seccast: ready");
        assert_eq!(watch.end().0, Some(0));
        assert!(!at.join("ready").exists());
    }
}

/// A node that cannot be made equal to its folder is tried again every two seconds, and not whenever a try has touched the folder.
#[test]
fn what_cannot_be_put_does_not_keep_the_watch_busy() {
    let folder = folder();
    let at = folder.path();
    fs::create_dir_all(at.join("root/seccast/web.json/in-the-way")).unwrap();
    fs::create_dir(at.join("profiles")).unwrap();
    fs::write(at.join("profiles/web.json"), profile("read")).unwrap();
    let watch = Watch::start(at, &[]);
    watch.says("not ready: seccast/web.json");
    // Each try makes a link that cannot be put. Between two are two seconds, or more on a slow machine; there were thirty tries a second,
    // were each the cause of the next.
    let begin = Instant::now();
    let links = inotify::init(CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&links, at.join("root/seccast"), WatchFlags::CREATE).unwrap();
    let mut tries = 0;
    watch.wait("the second try from now", || {
        let mut buffer = [const { MaybeUninit::uninit() }; 4096];
        let mut reader = inotify::Reader::new(&links, &mut buffer);
        while reader.next().is_ok() {
            tries += 1;
        }
        tries >= 2
    });
    let took = begin.elapsed();
    println!("{tries} tries in {took:?}");
    assert!(took >= Duration::from_secs(2), "{tries} tries in {took:?}");
    // And it goes on once it can.
    fs::remove_dir_all(at.join("root/seccast/web.json")).unwrap();
    watch.wait("readiness", || watch.is_ready());
    assert_eq!(watch.end().0, Some(0));
}

/// What only --watch or a question of use takes is no word for an installation, where it would do nothing.
#[test]
fn options_that_would_do_nothing_are_usage_errors() {
    let folder = folder();
    let at = folder.path();
    for args in [
        &["new/web.json", "--ready", "r"][..],
        &["new/web.json", "--node", "n"],
        &["new/web.json", "--force"],
        &["new/web.json", "--cri-socket", "s"],
        &["new/web.json", "--kubelet", "https://n:10250"],
        &["--list", "--node", "n"],
        &["--prune", "--ready", "r"],
        &["--audit", "--force"],
    ] {
        let output = seccast(at, &[&["install", "--root", "root"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
    }
    assert_eq!(names(&at.join("root")), [""; 0]);
}

#[test]
fn folders_and_files_are_for_everybody_to_read_below_any_umask() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = folder();
    let at = folder.path();
    let script = "umask 077; exec \"$0\" install new/web.json --root made";
    let output = Command::new("sh")
        .args(["-c", script, SECCAST])
        .current_dir(at)
        .output();
    assert!(output.unwrap().status.success());
    for (path, mode) in [
        ("made", 0o755),
        ("made/seccast", 0o755),
        ("made/seccast/web.json", 0o644),
    ] {
        let permissions = fs::metadata(at.join(path)).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o7777, mode, "{path}");
    }
}
