//! The closed loop on a real server: Debian's redis in a container is recorded under load, its profile is written, and
//! the same container runs under that profile with the same load.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use seccast_model::Observation;
use seccast_rig::cgroup::Scope;
use seccast_rig::{Contained, Container, Engine, Runtime, Server, load, process, unique};

use crate::interrupt;
use crate::recorder::{Recorder, read_json, read_observation};

/// How long `seccast generate` may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the loop needs and where it writes.
pub struct Loop<'a> {
    /// The binary.
    pub seccast: &'a Path,
    /// The folder of its files.
    pub folder: &'a Path,
    /// Who runs the containers.
    pub host: Host<'a>,
    /// How many requests each test of redis-benchmark makes.
    pub requests: u32,
}

/// Who runs a container.
pub enum Host<'a> {
    /// runc, with the container's cgroup in this group.
    Runc(&'a Scope),
    /// An engine.
    Engine(&'a dyn Engine),
}

impl Loop<'_> {
    /// Where the recording is written.
    pub fn observation(&self) -> PathBuf {
        self.folder.join("observation.json")
    }

    /// Where its profile is written.
    pub fn profile(&self) -> PathBuf {
        self.folder.join("profile.json")
    }

    /// Records the container from its first instruction to its end, under a filter that allows everything.
    /// Returns what the recorder said.
    pub fn record(&self) -> Result<String> {
        let name = &unique("seccast-demo-recorded");
        let audit = self.folder.join("audit.json");
        let mut generate = Command::new(self.seccast);
        generate.args(["generate", "--audit", "-o"]).arg(&audit);
        process::check(&mut generate, PATIENCE)?;
        if let Host::Engine(engine) = self.host {
            engine.image(&load::redis_bundle()?)?;
        }
        let recorder = Recorder::start(
            self.record_command(name, &self.observation())
                .arg("--wait=60s"),
        )?;
        self.run(name, &audit, || Ok(()))?;
        recorder.finish()
    }

    /// Writes the profile and the report beside it. Returns what was said.
    pub fn generate(&self) -> Result<String> {
        let mut generate = Command::new(self.seccast);
        generate.arg("generate").arg(self.observation());
        generate.arg("-o").arg(self.profile());
        Ok(process::check(&mut generate, PATIENCE)?.stderr)
    }

    /// Starts the container again, under its profile, and puts it under the same load.
    pub fn enforce(&self) -> Result<()> {
        self.run(&unique("seccast-demo-enforced"), &self.profile(), || Ok(()))
    }

    /// The same, recorded from before the load to the end: what the profile denies is in the observation.
    pub fn enforce_recorded(&self) -> Result<Observation> {
        let name = &unique("seccast-demo-enforced");
        let file = self.folder.join("enforced.json");
        let mut recorder = None;
        self.run(name, &self.profile(), || {
            // Its start is missing, which is no matter here.
            recorder = Some(Recorder::start(
                self.record_command(name, &file).arg("--allow-incomplete"),
            )?);
            Ok(())
        })?;
        recorder.context("nothing recorded")?.finish()?;
        read_observation(&file)
    }

    /// Runs it under a profile from its start to its end; `ready` is called when it answers and before the load.
    fn run(&self, name: &str, profile: &Path, ready: impl FnOnce() -> Result<()>) -> Result<()> {
        let bundle = load::redis_bundle()?.seccomp(read_json(profile)?);
        match self.host {
            Host::Runc(scope) => {
                let bundle = bundle.cgroups_path(scope.child(name));
                let mut container = Container::new(name, &bundle, &Runtime::runc()?)?;
                container.spawn()?;
                self.serve(container, ready)
            }
            Host::Engine(engine) => self.serve(Contained::run(engine, name, &bundle)?, ready),
        }
    }

    fn serve(&self, mut container: impl Server, ready: impl FnOnce() -> Result<()>) -> Result<()> {
        // Once it answers, its filter is there.
        load::redis_ready(&mut container).map(drop)?;
        let status = format!("/proc/{}/status", container.pid()?);
        let status =
            fs::read_to_string(&status).with_context(|| format!("failed to read {status}"))?;
        let filtered = status
            .lines()
            .any(|line| line.split_whitespace().eq(["Seccomp:", "2"]));
        ensure!(filtered, "{} runs without a filter", container.name());
        interrupt::check()?;
        ready()?;
        load::redis(&mut container, self.requests)
            .with_context(|| format!("the load on {} failed", container.name()))
    }

    fn record_command(&self, container: &str, observation: &Path) -> Command {
        let mut command = Command::new(self.seccast);
        command
            .args(["record", "--container", container, "--observation"])
            .arg(observation);
        command
    }
}
