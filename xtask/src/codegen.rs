//! Files that are made from other files, and the proof that they are current.
//!
//! Everything here works offline from what is committed. [`refresh()`] and
//! [`refresh_defaults()`] renew the committed data from downloaded packages.

mod apps;
mod defaults;
mod manifests;
mod refresh;
mod syscalls;

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) use defaults::refresh_defaults;
pub(crate) use refresh::refresh;

/// A file that is made, and what it has to hold.
struct Made {
    path: PathBuf,
    text: String,
}

/// Writes every generated file; with `check`, writes nothing and fails when one is not what it would write.
pub(crate) fn run(check: bool) -> Result<()> {
    let root = root();
    let mut made = vec![
        Made {
            path: root.join("userspace/model/src/syscall/table.rs"),
            text: syscalls::render(&root.join("xtask/data/syscalls.csv"))?,
        },
        Made {
            path: root.join("profiles/audit.json"),
            text: seccast_model::audit_profile().to_oci_json(),
        },
    ];
    made.push(manifests::render(&root)?);
    made.extend(defaults::render(&root)?);
    made.extend(apps::render(&apps_dir())?);
    let mut stale = Vec::new();
    for Made { path, text } in made {
        let shown = path
            .strip_prefix(&root)
            .unwrap_or(&path)
            .display()
            .to_string();
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        if check {
            stale.push(shown);
        } else {
            fs::write(&path, text).with_context(|| format!("failed to write {shown}"))?;
            println!("wrote {shown}");
        }
    }
    if !stale.is_empty() {
        bail!(
            "not current: {}; run `cargo xtask codegen` and commit the result",
            stale.join(", ")
        );
    }
    Ok(())
}

/// Where the profiles of applications are.
pub(crate) fn apps_dir() -> PathBuf {
    root().join("profiles/apps")
}

/// The top folder of the checkout.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
