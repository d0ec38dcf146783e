//! What becomes of a file that is made: it is written where it differs, or named where nothing may be written.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::places;

/// A file that is made, and what it has to hold.
pub(super) struct Made {
    /// From the root of the checkout.
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// Files as they were found.
pub(super) struct Settled {
    check: bool,
    stale: Vec<String>,
}

impl Settled {
    /// Of nothing yet. With `check`, nothing will be written.
    pub(super) fn new(check: bool) -> Self {
        Self {
            check,
            stale: Vec::new(),
        }
    }

    /// Writes those that are not current, or remembers them.
    pub(super) fn add(&mut self, made: impl IntoIterator<Item = Made>) -> Result<()> {
        for Made { path, text } in made {
            let file = places::root().join(&path);
            let shown = path.display();
            if fs::read_to_string(&file).is_ok_and(|old| old == text) {
                continue;
            }
            if self.check {
                self.stale.push(shown.to_string());
            } else {
                fs::write(&file, text).with_context(|| format!("failed to write {shown}"))?;
                println!("wrote {shown}");
            }
        }
        Ok(())
    }

    /// Fails when one was not current and could not be written.
    pub(super) fn end(self) -> Result<()> {
        if !self.stale.is_empty() {
            bail!(
                "not current: {}; run `cargo xtask codegen` and commit the result",
                self.stale.join(", ")
            );
        }
        Ok(())
    }
}
