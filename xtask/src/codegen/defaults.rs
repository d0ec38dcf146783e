//! `profiles/defaults`: what engines allow by default, from their own sources.
//!
//! docker's and podman's are files of theirs, unchanged. containerd has a function instead: [`refresh_defaults`] runs it and keeps what it makes.
//! CRI-O changes podman's: [`crio`] does so.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::made::Made;
use super::refresh::Package;
use super::syscalls::sha256;
use crate::places;
use crate::process::Run;

/// Large modules on a slow line.
const GO_LIMIT: Duration = Duration::from_secs(600);

/// Go modules, of the versions that `userspace/model/src/defaults.rs` names.
const DOCKER: &str = "github.com/moby/profiles/seccomp@v0.2.3";
const CONTAINERD: &str = "github.com/containerd/containerd/v2@v2.4.2";

/// podman's, from Debian: the Go module proxy does not serve `go.podman.io/common`.
const PODMAN: Package = Package {
    file: "golang-github-containers-common_0.69.1-1_all.deb",
    sha256: "9169948d7804e4bdc6af404cd1594c410ef1625c609ec7eb71490ba2ca8b4919",
};

/// What is committed of others, and its hash: a change of the data is a change of these lines. `refresh_defaults` prints the new ones.
const FILES: [(&str, &str); 3] = [
    (
        "docker/default.json",
        "536529b665dd0972c37bfb569f5d4ac8a53592e7b00752bc39ff063ca9864c74",
    ),
    (
        "containerd/default.json",
        "9e01dc2992b67405fe2d8333e85f9fdc26661c78874be0c843bba2370eb28d9f",
    ),
    (
        "podman/seccomp.json",
        "9b755202516aee4b45d9d411ab800c20fe4f7af97166a93b7f07d5b16c1a4ecd",
    ),
];

/// What CRI-O takes out of podman's rule without conditions, since it makes namespaces, and allows with `CAP_SYS_ADMIN`.
///
/// Source: `DefaultProfile` in <https://github.com/cri-o/cri-o/blob/main/internal/config/seccomp/seccomp.go>, read in 2026.
const CRIO_ADMIN: [&str; 3] = ["clone", "clone3", "unshare"];

/// CRI-O's default, after a look at the files.
pub(super) fn render(root: &Path) -> Result<Made> {
    let defaults = root.join("profiles/defaults");
    for (file, pinned) in FILES {
        let found = sha256(read(&defaults.join(file))?.as_bytes());
        ensure!(
            found == pinned,
            "profiles/defaults/{file} has sha256 {found}, pinned is {pinned}"
        );
    }
    Ok(Made {
        path: "profiles/defaults/crio/default.json".into(),
        text: crio(&read(&defaults.join("podman/seccomp.json"))?)?,
    })
}

/// What CRI-O makes of podman's: see [`CRIO_ADMIN`]. Without that capability it allows clone without namespaces, answers EPERM with any of them,
/// and ENOSYS to clone3, whose flags a filter cannot see.
fn crio(podman: &str) -> Result<String> {
    const NAMESPACES: u64 = 0x7e02_0000;
    let mut profile: Value = serde_json::from_str(podman)?;
    let rules = profile["syscalls"]
        .as_array_mut()
        .context("podman's profile has no rules")?;
    let allowed = rules
        .iter_mut()
        .find(|rule| rule["action"] == "SCMP_ACT_ALLOW")
        .and_then(|rule| rule["names"].as_array_mut())
        .context("podman's profile allows nothing")?;
    let before = allowed.len();
    allowed.retain(|name| !CRIO_ADMIN.iter().any(|admin| name == admin));
    ensure!(
        before - allowed.len() == CRIO_ADMIN.len(),
        "podman's profile does not have {CRIO_ADMIN:?} where CRI-O takes them out"
    );
    let flags = |mask: u64, value: u64| json!({ "index": 0, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ" });
    let namespaces: Vec<Value> = (0..u64::BITS)
        .map(|bit| 1 << bit)
        .filter(|flag| NAMESPACES & flag != 0)
        .map(|flag| flags(flag, flag))
        .collect();
    let without = json!({ "caps": ["CAP_SYS_ADMIN"] });
    rules.extend([
        json!({ "names": CRIO_ADMIN, "action": "SCMP_ACT_ALLOW", "includes": without }),
        json!({ "names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [flags(NAMESPACES, 0)] }),
        json!({ "names": ["clone"], "action": "SCMP_ACT_ERRNO", "errno": "EPERM", "args": namespaces, "excludes": without }),
        json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errno": "ENOSYS", "excludes": without }),
    ]);
    Ok(serde_json::to_string_pretty(&profile)? + "\n")
}

/// Makes `profiles/defaults` anew: from a Debian package in `downloads`, and from modules that the Go module proxy has. Needs `go`.
pub(crate) fn refresh_defaults(downloads: &Path) -> Result<()> {
    let root = places::root();
    let docker = module(DOCKER)?;
    let containerd = module(CONTAINERD)?;

    let work = tempfile::tempdir()?;
    let write = |to: &Path, bytes: &[u8]| -> Result<()> {
        fs::create_dir_all(to.parent().context("a file without a folder")?)?;
        fs::write(to, bytes).with_context(|| format!("failed to write {}", to.display()))
    };
    let tool = root.join("xtask/data/defaults");
    for (from, to) in [
        ("main.go", "main.go"),
        ("go.mod", "go.mod"),
        ("go.sum", "go.sum"),
        ("kernelversion.go", "kernelversion/kernelversion.go"),
    ] {
        write(&work.path().join(to), read(&tool.join(from))?.as_bytes())?;
    }
    let source = read(&containerd.join("contrib/seccomp/seccomp_default.go"))?
        .replace("\t\"runtime\"\n", "")
        .replace("runtime.GOARCH", "GOARCH")
        .replace(
            "github.com/containerd/containerd/v2/pkg/kernelversion",
            "defaults/kernelversion",
        );
    let source =
        format!("{source}\n// GOARCH is asked for instead of this machine's.\nvar GOARCH string\n");
    write(
        &work.path().join("containerd/seccomp_default.go"),
        source.as_bytes(),
    )?;
    Run::new("go")
        .args(["run", "."])
        .dir(work.path())
        .limit(GO_LIMIT)
        .run()?;

    let bytes =
        |path: &Path| fs::read(path).with_context(|| format!("failed to read {}", path.display()));
    for (file, bytes) in [
        ("docker/default.json", bytes(&docker.join("default.json"))?),
        ("docker/LICENSE", bytes(&docker.join("LICENSE"))?),
        (
            "containerd/default.json",
            bytes(&work.path().join("containerd.json"))?,
        ),
        ("containerd/LICENSE", bytes(&containerd.join("LICENSE"))?),
        (
            "podman/seccomp.json",
            PODMAN.member(downloads, "./usr/share/containers/seccomp.json")?,
        ),
        (
            "podman/copyright",
            PODMAN.member(
                downloads,
                "./usr/share/doc/golang-github-containers-common/copyright",
            )?,
        ),
    ] {
        write(&root.join("profiles/defaults").join(file), &bytes)?;
        println!("{file} has sha256 {}", sha256(&bytes));
    }
    println!(
        "put the hashes into xtask/src/codegen/defaults.rs, the versions into userspace/model/src/defaults.rs, then run `cargo xtask codegen`"
    );
    Ok(())
}

/// The folder of a Go module.
fn module(name: &str) -> Result<PathBuf> {
    let answer = Run::new("go")
        .args(["mod", "download", "-json", name])
        .limit(GO_LIMIT)
        .stdout()?;
    let answer: Value = serde_json::from_str(&answer)?;
    let dir = answer["Dir"]
        .as_str()
        .with_context(|| format!("go has no folder for {name}: {}", answer["Error"]))?;
    Ok(dir.into())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}
