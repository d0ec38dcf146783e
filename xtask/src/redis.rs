//! The closed loop on a real server: Debian's redis in a container is recorded under load, its profile is written, and
//! the same container runs under that profile with the same load.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use seccast_model::Observation;
use seccast_rig::cgroup::Scope;
use seccast_rig::{Container, Runtime, load};

use crate::process::{Run, check_interrupted};

/// How long the recorder may take to be armed, and to write its files once the container has ended.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the loop needs and where it writes.
pub(crate) struct Loop<'a> {
    /// The binary.
    pub(crate) seccast: &'a Path,
    /// The folder of its files.
    pub(crate) folder: &'a Path,
    /// Holds the containers' cgroups.
    pub(crate) scope: &'a Scope,
    /// How many requests each test of redis-benchmark makes.
    pub(crate) requests: u32,
}

impl Loop<'_> {
    pub(crate) fn observation(&self) -> PathBuf {
        self.folder.join("observation.json")
    }

    pub(crate) fn profile(&self) -> PathBuf {
        self.folder.join("profile.json")
    }

    /// Records the container from its first instruction to its end, under a filter that allows everything.
    /// Returns what the recorder said.
    pub(crate) fn record(&self) -> Result<String> {
        let name = "seccast-demo-recorded";
        let audit = self.folder.join("audit.json");
        self.seccast()
            .args(["generate", "--audit", "-o"])
            .arg(&audit)
            .quiet()?;
        let mut container = self.container(name, &audit)?;
        let recorder = Recorder::start(
            self.record_command(name, &self.observation())
                .arg("--wait=60s"),
        )?;
        self.serve(&mut container, || Ok(()))?;
        recorder.finish()
    }

    /// Writes the profile and the report beside it. Returns what was said.
    pub(crate) fn generate(&self) -> Result<String> {
        self.seccast()
            .arg("generate")
            .arg(self.observation())
            .arg("-o")
            .arg(self.profile())
            .stderr()
    }

    /// Starts the container again, under its profile, and puts it under the same load.
    pub(crate) fn enforce(&self) -> Result<()> {
        let mut container = self.container("seccast-demo-enforced", &self.profile())?;
        self.serve(&mut container, || Ok(()))
    }

    /// The same, recorded from before the load to the end: what the profile denies is in the observation.
    pub(crate) fn enforce_recorded(&self) -> Result<Observation> {
        let name = "seccast-demo-enforced";
        let file = self.folder.join("enforced.json");
        let mut container = self.container(name, &self.profile())?;
        let mut recorder = None;
        self.serve(&mut container, || {
            // Its start is missing, which is no matter here.
            recorder = Some(Recorder::start(
                self.record_command(name, &file).arg("--allow-incomplete"),
            )?);
            Ok(())
        })?;
        recorder.context("nothing recorded")?.finish()?;
        read_observation(&file)
    }

    /// Runs it from its start to its end; `ready` is called when it answers and before the load.
    fn serve(&self, container: &mut Container, ready: impl FnOnce() -> Result<()>) -> Result<()> {
        container.spawn()?;
        // Once it answers, its filter is there.
        load::redis_ready(container).map(drop)?;
        let status = format!("/proc/{}/status", container.pid()?);
        let status =
            fs::read_to_string(&status).with_context(|| format!("failed to read {status}"))?;
        let filtered = status
            .lines()
            .any(|line| line.split_whitespace().eq(["Seccomp:", "2"]));
        ensure!(filtered, "{} runs without a filter", container.name());
        check_interrupted()?;
        ready()?;
        load::redis(container, self.requests)
            .with_context(|| format!("the load on {} failed", container.name()))
    }

    fn container(&self, name: &str, profile: &Path) -> Result<Container> {
        let bundle = load::redis_bundle()?
            .seccomp(read_json(profile)?)
            .cgroups_path(self.scope.child(name));
        Container::new(name, &bundle, &Runtime::runc()?)
    }

    fn record_command(&self, container: &str, observation: &Path) -> Command {
        let mut command = Command::new(self.seccast);
        command
            .args(["record", "--container", container, "--observation"])
            .arg(observation);
        command
    }

    fn seccast(&self) -> Run {
        Run::new(self.seccast)
    }
}

/// A JSON file as it is.
pub(crate) fn read_json(file: &Path) -> Result<serde_json::Value> {
    let open = File::open(file).with_context(|| format!("failed to open {}", file.display()))?;
    serde_json::from_reader(BufReader::new(open))
        .with_context(|| format!("{} is not JSON", file.display()))
}

pub(crate) fn read_observation(file: &Path) -> Result<Observation> {
    let bytes = fs::read(file).with_context(|| format!("failed to read {}", file.display()))?;
    Observation::from_json(&bytes)
        .with_context(|| format!("failed to understand {}", file.display()))
}

/// A running `seccast record`; ended when dropped before it has finished.
struct Recorder {
    child: Child,
    lines: Receiver<String>,
    said: String,
}

impl Recorder {
    /// Starts it and returns when nothing can be missed any more.
    fn start(command: &mut Command) -> Result<Self> {
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
    fn finish(mut self) -> Result<String> {
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
            check_interrupted()?;
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
