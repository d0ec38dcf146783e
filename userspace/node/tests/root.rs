//! The folder on a node: whole for every reader, beneath the root, and nobody's way around it.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use seccast_node::{Alias, GRACE, Hash, Name, NodeError, Put, Root};
use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::SystemTime,
};
use tempfile::TempDir;

/// A plain profile; `n` makes contents that differ, also in length.
fn profile(n: usize) -> Vec<u8> {
    let names = format!("\"read\",{}\"write\"", " ".repeat(n % 7000));
    format!("{{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{{\"names\":[{names}],\"action\":\"SCMP_ACT_ALLOW\"}}],\"n\":{n}}}\n")
        .into_bytes()
}

fn name(file: &str) -> Name {
    file.parse().unwrap()
}

fn root() -> (TempDir, Root) {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::make(&folder.path().join("seccomp")).unwrap();
    (folder, root)
}

/// Every name in the folder, sorted.
fn names(root: &Root) -> Vec<String> {
    let entries = fs::read_dir(root.path().join("seccast")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn read(root: &Root, file: &str) -> Vec<u8> {
    fs::read(root.path().join("seccast").join(file)).unwrap()
}

#[test]
fn a_content_is_a_file_of_its_own_and_the_alias_leads_to_the_latest() {
    let (_folder, root) = root();
    let web = name("web.json");
    let locked = root.lock().unwrap();
    assert_eq!(locked.put(&web, &profile(1)).unwrap(), Put::New);
    assert_eq!(locked.put(&web, &profile(1)).unwrap(), Put::Unchanged);
    let [one, two] = [1, 2].map(|n| Hash::of(&profile(n)));
    assert_eq!(locked.put(&web, &profile(2)).unwrap(), Put::Replaced(one));
    let mut files = [web.file(), web.version(one), web.version(two)];
    files.sort();
    assert_eq!(names(&root), files);
    assert_eq!(
        fs::read_link(root.path().join("seccast/web.json")).unwrap(),
        Path::new(&web.version(two))
    );
    assert_eq!(read(&root, "web.json"), profile(2));
    assert_eq!(read(&root, &web.version(one)), profile(1));
    for file in [web.version(one), web.version(two)] {
        let mode = fs::metadata(root.path().join("seccast").join(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o644);
    }
    // Back again: the old file serves.
    assert_eq!(locked.put(&web, &profile(1)).unwrap(), Put::Replaced(two));
    assert_eq!(names(&root), files);
    // The version that is read is not removed, and the other only after a while.
    assert!(!locked.remove_version(&web, one).unwrap());
    assert!(!locked.remove_version(&web, two).unwrap());
    let old = fs::File::options()
        .append(true)
        .open(root.path().join("seccast").join(web.version(two)))
        .unwrap();
    old.set_modified(SystemTime::now() - GRACE).unwrap();
    assert!(locked.remove_version(&web, two).unwrap());
    assert!(locked.remove_alias(&web).unwrap());
    assert!(!locked.remove_alias(&web).unwrap());
    assert_eq!(names(&root), [web.version(one)]);
}

#[test]
fn a_version_stays_a_minute_after_its_alias_has_gone_and_a_removal_takes_all() {
    let (_folder, root) = root();
    let [web, other] = ["web.json", "web2.json"].map(name);
    let locked = root.lock().unwrap();
    let age = |n: usize| {
        let path = root.path().join("seccast");
        let path = path.join(web.version(Hash::of(&profile(n))));
        let file = fs::File::options().append(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - GRACE).unwrap();
    };
    let one = Hash::of(&profile(1));
    locked.put(&web, &profile(1)).unwrap();
    age(1);
    locked.remove_alias(&web).unwrap();
    assert!(!locked.remove_version(&web, one).unwrap(), "no alias");
    locked.put(&web, &profile(1)).unwrap();
    age(1);
    locked.put(&web, &profile(2)).unwrap();
    fs::remove_file(root.path().join("seccast/web.json")).unwrap();
    fs::write(root.path().join("seccast/web.json"), "{}").unwrap();
    assert!(!locked.remove_version(&web, one).unwrap(), "a foreign one");
    age(1);
    assert!(locked.remove_version(&web, one).unwrap());

    locked.put(&web, &profile(3)).unwrap();
    locked.put(&other, &profile(1)).unwrap();
    assert!(locked.remove(&web).unwrap());
    assert!(!locked.remove(&web).unwrap());
    assert_eq!(names(&root), [other.version(one), other.file()]);
}

#[test]
fn whatever_somebody_did_is_repaired() {
    let (_folder, root) = root();
    let web = name("web.json");
    let content = profile(3);
    let locked = root.lock().unwrap();
    locked.put(&web, &content).unwrap();
    let alias = root.path().join("seccast/web.json");
    let version = root
        .path()
        .join("seccast")
        .join(web.version(Hash::of(&content)));
    let elsewhere = root.path().join("elsewhere.json");
    fs::write(&elsewhere, "{}").unwrap();
    let damage: [(&str, &dyn Fn()); 9] = [
        ("edited", &|| fs::write(&version, "{}").unwrap()),
        ("cut off", &|| fs::write(&version, &content[..9]).unwrap()),
        ("longer", &|| {
            fs::write(&version, [&content[..], b"\n"].concat()).unwrap()
        }),
        ("removed", &|| fs::remove_file(&version).unwrap()),
        ("writable", &|| {
            fs::set_permissions(&version, fs::Permissions::from_mode(0o666)).unwrap()
        }),
        ("a link", &|| {
            fs::remove_file(&version).unwrap();
            symlink(&elsewhere, &version).unwrap();
        }),
        ("alias elsewhere", &|| {
            fs::remove_file(&alias).unwrap();
            symlink(&elsewhere, &alias).unwrap();
        }),
        ("alias a file", &|| {
            fs::remove_file(&alias).unwrap();
            fs::write(&alias, &content).unwrap();
        }),
        ("a pipe", &|| {
            fs::remove_file(&version).unwrap();
            rustix::fs::mkfifoat(rustix::fs::CWD, &version, rustix::fs::Mode::RWXU).unwrap();
        }),
    ];
    for (what, damage) in damage {
        damage();
        assert!(!locked.folder().holds(&web, &content).unwrap(), "{what}");
        assert_eq!(locked.put(&web, &content).unwrap(), Put::Repaired, "{what}");
        assert!(locked.folder().holds(&web, &content).unwrap(), "{what}");
        assert_eq!(fs::read(&alias).unwrap(), content, "{what}");
        assert_eq!(
            fs::read(&elsewhere).unwrap(),
            b"{}",
            "{what}: written through a link"
        );
    }
    fs::remove_file(&alias).unwrap();
    assert_eq!(locked.put(&web, &content).unwrap(), Put::New);
}

#[test]
fn a_folder_in_the_way_is_an_error_and_nothing_else_changes() {
    let (_folder, root) = root();
    let web = name("web.json");
    let locked = root.lock().unwrap();
    fs::create_dir(root.path().join("seccast/web.json")).unwrap();
    let error = locked.put(&web, &profile(1)).unwrap_err();
    assert!(error.to_string().contains("seccast/web.json"), "{error}");
    assert_eq!(locked.folder().alias(&web).unwrap(), Alias::Foreign);
    assert_eq!(names(&root).len(), 2, "{:?}", names(&root));
    // What a killed installer left is gone with the next lock.
    drop(locked);
    fs::write(root.path().join("seccast/.new"), "half").unwrap();
    drop(root.lock().unwrap());
    assert!(!names(&root).contains(&".new".to_owned()));
}

#[test]
fn no_link_below_the_root_is_followed_and_the_root_itself_may_be_one() {
    let (folder, root) = root();
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for target in [
        elsewhere.as_path(),
        Path::new("../elsewhere"),
        Path::new("/"),
    ] {
        symlink(target, root.path().join("seccast")).unwrap();
        assert!(
            matches!(root.folder(), Err(NodeError::Link { .. })),
            "{target:?}"
        );
        let error = root.lock().unwrap_err();
        assert!(
            matches!(error, NodeError::Link { .. }),
            "{target:?}: {error}"
        );
        fs::remove_file(root.path().join("seccast")).unwrap();
    }
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    fs::write(root.path().join("seccast"), "a file").unwrap();
    assert!(matches!(root.lock(), Err(NodeError::Io { .. })));
    fs::remove_file(root.path().join("seccast")).unwrap();

    let link = folder.path().join("link");
    symlink(root.path(), &link).unwrap();
    let linked = Root::make(&link).unwrap();
    linked
        .lock()
        .unwrap()
        .put(&name("web.json"), &profile(1))
        .unwrap();
    assert_eq!(read(&root, "web.json"), profile(1));
    // The root is what was opened, whatever its name leads to later.
    fs::remove_file(&link).unwrap();
    symlink(&elsewhere, &link).unwrap();
    linked
        .lock()
        .unwrap()
        .put(&name("web.json"), &profile(2))
        .unwrap();
    assert_eq!(read(&root, "web.json"), profile(2));
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn what_others_can_write_to_is_refused() {
    let (_folder, root) = root();
    drop(root.lock().unwrap());
    for (path, mode) in [
        (root.path().join("seccast"), 0o777),
        (root.path().to_owned(), 0o1777),
    ] {
        let before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = Root::open(root.path())
            .and_then(|root| root.lock().map(drop))
            .unwrap_err();
        let told = error.to_string();
        assert!(
            told.contains(&format!("{} (mode {mode:o})", path.display())),
            "{told}"
        );
        fs::set_permissions(&path, before).unwrap();
    }
}

#[test]
fn only_the_last_element_of_a_root_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("kubelet/seccomp");
    let error = Root::make(&deep).unwrap_err();
    assert!(
        matches!(&error, NodeError::NoRoot { path } if *path == folder.path().join("kubelet")),
        "{error}"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    fs::create_dir(folder.path().join("kubelet")).unwrap();
    assert!(Root::open(&deep).is_err());
    Root::make(&deep).unwrap();
    assert!(Root::open(&deep).unwrap().folder().unwrap().is_none());
}

#[test]
fn readers_always_find_one_whole_content() {
    const PUTS: usize = 400;
    let (_folder, root) = root();
    let web = name("web.json");
    root.lock().unwrap().put(&web, &profile(0)).unwrap();
    let (done, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
    let path = root.path().join("seccast/web.json");
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    let content =
                        fs::read(&path).expect("the alias leads to a file at every instant");
                    let text = std::str::from_utf8(&content).unwrap().trim_end();
                    let n = text
                        .rsplit_once(":")
                        .unwrap()
                        .1
                        .trim_end_matches('}')
                        .parse()
                        .unwrap();
                    assert_eq!(content, profile(n), "not whole");
                    assert!(n >= last, "went back from {last} to {n}");
                    last = n;
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for n in 1..=PUTS {
            let locked = root.lock().unwrap();
            let before = Hash::of(&profile(n - 1));
            assert_eq!(
                locked.put(&web, &profile(n)).unwrap(),
                Put::Replaced(before)
            );
            // A reader may have followed the link, and not have opened the file.
            assert!(!locked.remove_version(&web, before).unwrap());
        }
        done.store(true, Ordering::Relaxed);
    });
    println!(
        "{} reads beside {PUTS} changes",
        reads.load(Ordering::Relaxed)
    );
    assert!(reads.load(Ordering::Relaxed) > PUTS);
    assert_eq!(names(&root).len(), PUTS + 2);
}

#[test]
fn a_hundred_installers_at_once_are_all_right() {
    const ALL: usize = 100;
    let (_folder, root) = root();
    let begin = Barrier::new(ALL);
    thread::scope(|scope| {
        for n in 0..ALL {
            let (root, begin) = (&root, &begin);
            scope.spawn(move || {
                begin.wait();
                // One name of its own, one of ten, and one that all want.
                for file in [
                    format!("own{n}.json"),
                    format!("ten{}.json", n % 10),
                    "all.json".to_owned(),
                ] {
                    root.lock().unwrap().put(&name(&file), &profile(n)).unwrap();
                }
            });
        }
    });
    let folder = root.folder().unwrap().unwrap();
    let listing = folder.list().unwrap();
    assert_eq!(listing.strangers, [""; 0]);
    assert_eq!(listing.profiles.len(), ALL + 10 + 1);
    let versions = listing.profiles.values().map(|found| found.versions.len());
    assert_eq!(versions.sum::<usize>(), 3 * ALL);
    for (name, found) in &listing.profiles {
        let Alias::To(hash) = found.alias else {
            panic!("{found:?}")
        };
        assert!(found.versions.contains_key(&hash));
        let mut versions = found.versions.keys();
        assert!(versions.all(|hash| folder.is_whole(name, *hash).unwrap()));
    }
}
