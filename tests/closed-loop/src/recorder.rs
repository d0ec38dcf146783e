//! `seccast record` beside us, and the files that it leaves.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use seccast_model::Observation;

use crate::interrupt;

/// How long the recorder may take to be armed, and to write its files once the container has ended.
const PATIENCE: Duration = Duration::from_secs(60);

/// A JSON file as it is.
pub fn read_json(file: &Path) -> Result<serde_json::Value> {
    let open = File::open(file).with_context(|| format!("failed to open {}", file.display()))?;
    serde_json::from_reader(BufReader::new(open))
        .with_context(|| format!("{} is not JSON", file.display()))
}

pub fn read_observation(file: &Path) -> Result<Observation> {
    let bytes = fs::read(file).with_context(|| format!("failed to read {}", file.display()))?;
    Observation::from_json(&bytes)
        .with_context(|| format!("failed to understand {}", file.display()))
}

/// A running `seccast record`; ended when dropped before it has finished.
pub struct Recorder {
    child: Child,
    lines: Receiver<String>,
    said: String,
}

impl Recorder {
    /// Starts it and returns when nothing can be missed any more.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("failed to start seccast")?;
        let stderr = child.stderr.take().context("no standard error")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            BufReader::new(stderr)
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        let mut recorder = Self {
            child,
            lines,
            said: String::new(),
        };
        if !recorder.read_until(|line| line.starts_with("armed"))? {
            bail!(
                "`seccast record` ended before it was armed:\n{}",
                recorder.said
            );
        }
        Ok(recorder)
    }

    /// Waits for its end, which follows the container's, and returns what it said.
    pub fn finish(mut self) -> Result<String> {
        self.read_until(|_| false)?;
        // Its standard error is closed: it ends now.
        let status = self.child.wait().context("failed to wait for seccast")?;
        if !status.success() {
            bail!("`seccast record` failed: {status}\n{}", self.said);
        }
        Ok(std::mem::take(&mut self.said))
    }

    /// Reads to the line that is wanted (true) or to the end (false).
    fn read_until(&mut self, wanted: impl Fn(&str) -> bool) -> Result<bool> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            interrupt::check()?;
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => {
                    self.said.push_str(&line);
                    self.said.push('\n');
                    if wanted(&line) {
                        return Ok(true);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
            }
        }
        bail!(
            "`seccast record` said nothing for {} s; before that:\n{}",
            PATIENCE.as_secs(),
            self.said
        )
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
