//! The time from the start of `seccast record` until nothing can be missed any more.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::child::Conversation;

/// Milliseconds of each run.
#[derive(Default)]
pub(crate) struct Armed {
    /// As its line says.
    pub(crate) said: Vec<f64>,
    /// From before it was started until its line was read.
    pub(crate) seen: Vec<f64>,
}

/// Starts `seccast record -- true` once more.
pub(crate) fn run(seccast: &Path, armed: &mut Armed) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot make a folder for profiles")?;
    let mut command = Command::new(seccast);
    command.args(["record", "-o"]);
    command.arg(folder.path().join("true.json"));
    command.args(["--", "true"]);
    let start = Instant::now();
    let conversation = Conversation::start("seccast", command, true)?;
    loop {
        let line = conversation
            .answer(Duration::from_secs(20))
            .context("seccast record did not say when it was armed")?;
        if let Some((_, said)) = line.split_once("armed after ") {
            armed.seen.push(start.elapsed().as_secs_f64() * 1e3);
            let number = said.split(' ').next().unwrap_or_default();
            armed
                .said
                .push(number.parse().with_context(|| format!("in `{line}`"))?);
            break;
        }
    }
    conversation.join()
}
