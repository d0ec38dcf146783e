//! Files that are made from other files, and the proof that they are current.
//!
//! Everything here works offline from what is committed. [`refresh`] and [`defaults::refresh_defaults`] renew the committed
//! data from downloaded packages. What comes of data alone is made here, and needs no other crate of the product to compile:
//! the model is built with it. What the model makes of recordings and profiles is rendered by `tests/codegen`.

mod defaults;
mod made;
mod manifests;
mod refresh;
mod syscalls;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use self::made::{Made, Settled};
use crate::{cargo, places};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail when a file is not current.
    #[arg(long, conflicts_with = "refresh")]
    check: bool,
    /// Only what comes of data alone: the tables of the model, manifests, default profiles. Needs no model that compiles.
    #[arg(long, conflicts_with = "refresh")]
    tables: bool,
    /// Renew the committed data from the packages in this folder (xtask/data/README.md says which).
    #[arg(long, value_name = "FOLDER")]
    refresh: Option<PathBuf>,
    /// Renew `profiles/defaults` from the package in this folder and from Go modules (profiles/README.md says which).
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["check", "tables", "refresh"])]
    refresh_defaults: Option<PathBuf>,
}

impl Args {
    pub(crate) fn run(&self) -> Result<()> {
        match (&self.refresh, &self.refresh_defaults) {
            (Some(folder), _) => refresh::refresh(folder),
            (None, Some(folder)) => defaults::refresh_defaults(folder),
            (None, None) if self.tables => tables(self.check),
            (None, None) => run(self.check),
        }
    }
}

/// Writes every generated file; with `check`, writes nothing and fails when one is not what it would write.
pub(crate) fn run(check: bool) -> Result<()> {
    let mut settled = Settled::new(check);
    // Before the model is built, which has them inside.
    settled.add(of_data()?)?;
    settled.add(of_the_model()?)?;
    settled.end()
}

/// The same of those that come of data alone.
pub(crate) fn tables(check: bool) -> Result<()> {
    let mut settled = Settled::new(check);
    settled.add(of_data()?)?;
    settled.end()
}

fn of_data() -> Result<[Made; 3]> {
    let root = places::root();
    Ok([
        Made {
            path: "userspace/model/src/syscall/table.rs".into(),
            text: syscalls::render(&root.join("xtask/data/syscalls.csv"))?,
        },
        manifests::render(&root)?,
        defaults::render(&root)?,
    ])
}

fn of_the_model() -> Result<Vec<Made>> {
    let render = cargo::cargo().args(["run", "--quiet", "--locked", "--package=seccast-codegen"]);
    let told = render.arg("--").arg(places::root()).stdout()?;
    let files: BTreeMap<PathBuf, String> =
        serde_json::from_str(&told).context("failed to read what seccast-codegen rendered")?;
    ensure!(!files.is_empty(), "seccast-codegen rendered nothing");
    let made = files.into_iter().map(|(path, text)| Made { path, text });
    Ok(made.collect())
}

/// Where the profiles of applications are.
pub(crate) fn apps_dir() -> PathBuf {
    places::root().join("profiles/apps")
}
