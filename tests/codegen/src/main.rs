//! Renders the committed files that the model makes of other committed files. `cargo xtask codegen` writes or checks them:
//! it cannot render them itself, as it has to build when the model does not.
//!
//! Its argument is the checkout. It prints one JSON object: paths from there, and what each file has to hold.

mod apps;
mod defaults;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let root = std::env::args_os()
        .nth(1)
        .context("the checkout is not named")?;
    let mut made = BTreeMap::from([
        (
            "profiles/audit.json".to_owned(),
            seccast_model::audit_profile().to_oci_json(),
        ),
        ("docs/defaults.md".to_owned(), defaults::page()?),
    ]);
    made.extend(apps::render(Path::new(&root))?);
    println!("{}", serde_json::to_string(&made)?);
    Ok(())
}
