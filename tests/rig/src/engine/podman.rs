//! A private podman.

use super::{
    Engine, Room, docker_words, end_helpers, existing, inspect, lines, remove_all, running,
};
use crate::bundle::Bundle;
use crate::cgroup::Scope;
use crate::process;
use anyhow::Result;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

/// What podman needs where it may not raise limits and where limits of pids may have no controller; its own locks and events.
const CONFIGURATION: &str = r#"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
pids_limit = 0
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
"#;

/// podman with runc and its own storage; there is no daemon.
#[derive(Debug)]
pub struct Podman {
    client: PathBuf,
    room: Room,
    group: Scope,
}

impl Podman {
    /// Prepares the folders.
    pub fn new() -> Result<Self> {
        let room = Room::new("podman")?;
        room.write("containers.conf", CONFIGURATION)?;
        Ok(Self {
            client: process::need("podman", "podman")?,
            room,
            group: Scope::new("podman")?,
        })
    }

    /// One for pods as well: `kube play` puts them where every podman does, whatever it is told.
    pub fn with_pods() -> Result<Self> {
        let mut podman = Self::new()?;
        // conmon has one beside, in the v1 hierarchies only.
        podman.room.leaves_cgroup("/libpod_parent/conmon")?;
        podman.room.leaves_cgroup("/libpod_parent")?;
        Ok(podman)
    }

    /// podman leaves a pod's group in the hierarchies that it does not know.
    fn remove_pods(&mut self) -> Result<()> {
        for id in lines(&self.call(&["pod", "ps", "-q", "--no-trunc"])?.stdout) {
            self.room
                .leaves_own_cgroup(&format!("/libpod_parent/{id}"))?;
            self.call(&["pod", "rm", "-f", &id])?;
        }
        Ok(())
    }
}

impl Engine for Podman {
    fn name(&self) -> &'static str {
        "podman"
    }

    fn client(&self) -> Command {
        let mut command = Command::new(&self.client);
        command.env("CONTAINERS_CONF", self.room.join("containers.conf"));
        command.env_remove("CONTAINER_HOST");
        for (option, folder) in [
            ("--root", "root"),
            ("--runroot", "run"),
            ("--tmpdir", "tmp"),
        ] {
            command.arg(option).arg(self.room.join(folder));
        }
        command
    }

    fn run_words(&self, name: &str, bundle: &Bundle) -> Result<Vec<OsString>> {
        if bundle.cgroups_path.is_some() {
            return run_words(self, name, bundle);
        }
        // podman takes all but the last element.
        let own = bundle.clone().cgroups_path(self.group.child(name));
        run_words(self, name, &own)
    }

    fn pid(&self, name: &str) -> Result<Option<i32>> {
        running(inspect(self, "{{.State.Pid}}", name)?)
    }

    fn id(&self, name: &str) -> Result<String> {
        existing(inspect(self, "{{.Id}}", name)?, name)
    }

    fn cgroup_of(&self, id: &str) -> String {
        self.group.child(&format!("libpod-{id}"))
    }

    fn containers(&self) -> Result<Vec<String>> {
        Ok(lines(&self.call(&["ps", "-aq"])?.stdout))
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.call(&["rm", "-fv", "--time=0", name]).map(drop)
    }

    fn room(&self) -> &Room {
        &self.room
    }

    fn load_words(&self) -> &'static [&'static str] {
        &["load", "-q", "-i"]
    }
}

/// See [`Engine::run_words`].
pub(super) fn run_words(engine: &dyn Engine, name: &str, bundle: &Bundle) -> Result<Vec<OsString>> {
    let mut words = docker_words(engine, name, bundle)?;
    // Else a root that is read-only gets more writable folders than docker gives it.
    words.push("--read-only-tmpfs=false".into());
    words.push(engine.image(bundle)?.into());
    words.extend(bundle.args.iter().map(Into::into));
    Ok(words)
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Errors have no one to go to; what stays is seen by the test that looks for it.
        let _ = self.remove_pods();
        remove_all(self);
        // conmon calls podman to clean up, which mounts its storage again.
        let room = self.room.path();
        end_helpers(|line| line.contains(&*room.to_string_lossy()));
    }
}
