//! xtask stands on its own: it builds, and does what needs no product, when the product does not compile.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are tests, and a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// The checkout.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// What a command wrote, and whether it succeeded; shown when the test fails.
fn run(command: &mut Command) -> (bool, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let said = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    println!("{command:?}: {status}\n{}", said.concat());
    (status.success(), said.concat())
}

fn cargo(folder: &Path) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(folder);
    cargo
}

#[test]
fn no_crate_of_the_product_is_built_for_xtask() {
    let metadata = ["metadata", "--locked", "--offline", "--format-version=1"];
    let told = cargo(root()).args(metadata).output().unwrap();
    assert!(told.status.success(), "{told:?}");
    let metadata: Value = serde_json::from_slice(&told.stdout).unwrap();
    let by_id = |list: &Value| -> BTreeMap<String, Value> {
        let id = |one: &Value| one["id"].as_str().unwrap().to_owned();
        let list = list.as_array().unwrap().iter();
        list.map(|one| (id(one), one.clone())).collect()
    };
    let packages = by_id(&metadata["packages"]);
    let nodes = by_id(&metadata["resolve"]["nodes"]);
    let mut wanted: Vec<&str> = packages
        .iter()
        .filter(|(_, package)| package["name"] == "xtask")
        .map(|(id, _)| id.as_str())
        .collect();
    let mut built = BTreeSet::new();
    while let Some(id) = wanted.pop() {
        if built.insert(id) {
            // Those of tests are not built for it.
            let deps = nodes[id]["deps"].as_array().unwrap().iter().filter(|dep| {
                let mut kinds = dep["dep_kinds"].as_array().unwrap().iter();
                kinds.any(|kind| kind["kind"] != "dev")
            });
            wanted.extend(deps.map(|dep| dep["pkg"].as_str().unwrap()));
        }
    }
    let named = |is: &dyn Fn(&Value) -> bool| -> Vec<&str> {
        let built = built.iter().map(|id| &packages[*id]);
        let mut names: Vec<_> = built
            .filter(|package| is(package))
            .map(|package| package["name"].as_str().unwrap())
            .collect();
        names.sort_unstable();
        names
    };
    let local = named(&|package| package["source"].is_null());
    assert_eq!(local, ["seccast-rig", "xtask"]);
    let of_c_libraries = named(&|package| !package["links"].is_null());
    assert_eq!(of_c_libraries, [] as [&str; 0]);
}

#[test]
fn what_needs_no_model_works_when_the_model_does_not_compile() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("broken-model");
    let checkout = folder.join("checkout");
    copy_checkout(&checkout);
    fs::OpenOptions::new()
        .append(true)
        .open(checkout.join("userspace/model/src/lib.rs"))
        .and_then(|mut file| file.write_all(b"\npub fn broken( {\n"))
        .unwrap();

    // To cargo, files of the same times in the same places of a checkout are the same: where the break does not reach xtask,
    // all of it is built already. The program is put apart, as the one of this checkout may be running.
    let target = folder.join("target");
    let (built, _) = run(cargo(&checkout)
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_BUILD_BUILD_DIR", shared_build())
        .args(["build", "--package=xtask", "--locked", "--offline"]));
    assert!(built, "xtask does not build");
    let xtask = |words: &[&str]| {
        let mut xtask = Command::new(target.join("debug/xtask"));
        // As cargo starts it.
        xtask.env("CARGO_MANIFEST_DIR", checkout.join("xtask"));
        xtask.env("CARGO_TARGET_DIR", &target);
        xtask.current_dir(&checkout).args(words);
        xtask
    };

    let (done, said) = run(&mut xtask(&["codegen", "--tables", "--check"]));
    assert!(done, "codegen --tables: {said}");

    let (done, said) = run(&mut xtask(&["fmt", "--check"]));
    assert!(!done && said.contains("userspace/model/src/lib.rs"));
    assert!(!said.contains("could not compile"));

    // Nothing is to be installed by a test: on a machine that lacks something, it fails.
    let refusing = folder.join("refusing");
    for name in ["apt-get", "sudo"] {
        refuse(&refusing, name);
    }
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", refusing.display());
    let (done, said) = run(xtask(&["setup"])
        .env("PATH", path)
        .env("CARGO_NET_OFFLINE", "true"));
    assert!(
        done && said.contains("nothing to do"),
        "run `cargo xtask setup`"
    );

    if !can_be_root() {
        println!("SKIPPED: `cluster down` needs root");
        let required = std::env::var_os("SECCAST_REQUIRE_KERNEL");
        assert!(required.is_none_or(|value| value != "1"));
        return;
    }
    // A cache of its own: what lies in another one is somebody's. A cluster that is up now is, too.
    let (done, said) = run(xtask(&["cluster", "down"]).env("SECCAST_CACHE", folder.join("cache")));
    assert!(done || said.contains("this machine has a cluster, but none that"));
}

/// Where this test was built, for what both checkouts build alike.
fn shared_build() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}

/// All that git knows or would take, with its times: nothing is built again that was built from the same copy.
fn copy_checkout(to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    // Whoever owns the checkout.
    let mut git = Command::new("git");
    git.current_dir(root()).args(["-c", "safe.directory=*"]);
    git.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let listed = git.output().unwrap();
    assert!(listed.status.success(), "{git:?}: {listed:?}");
    let files = String::from_utf8(listed.stdout).unwrap();
    for file in files.split_terminator('\0') {
        let (from, to) = (root().join(file), to.join(file));
        // Removed, and git not yet told.
        let Ok(metadata) = fs::metadata(&from) else {
            continue;
        };
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&from, &to).unwrap();
        let copy = fs::File::options().append(true).open(&to).unwrap();
        copy.set_modified(metadata.modified().unwrap()).unwrap();
    }
}

/// A command that refuses to do anything.
fn refuse(folder: &Path, name: &str) {
    fs::create_dir_all(folder).unwrap();
    let file = folder.join(name);
    fs::write(
        &file,
        "#!/bin/sh\necho 'a test installs nothing' >&2\nexit 1\n",
    )
    .unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// As xtask does it: by sudo, which must not ask for a password here.
fn can_be_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    root || run(Command::new("sudo").args(["-n", "true"])).0
}
