//! A private docker daemon.

use super::{
    Daemon, Engine, Room, docker_words, existing, inspect, lines, program, remove_all, running,
};
use crate::bundle::Bundle;
use crate::cgroup::Scope;
use anyhow::Result;
use serde_json::json;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

/// dockerd with its own containerd; without a bridge, so that it changes no rule of any network.
#[derive(Debug)]
pub struct Docker {
    client: PathBuf,
    _daemon: Daemon,
    room: Room,
    group: Scope,
}

impl Docker {
    /// Starts the daemon and waits until it answers.
    pub fn start() -> Result<Self> {
        let room = Room::new("docker")?;
        // `/docker` is every daemon's.
        let group = Scope::new("docker")?;
        let socket = room.join("docker.sock");
        let config = json!({
            "data-root": room.join("data"),
            "exec-root": room.join("exec"),
            "pidfile": room.join("docker.pid"),
            "hosts": [format!("unix://{}", socket.display())],
            "bridge": "none",
            "iptables": false,
            "ip6tables": false,
            "ip-forward": false,
            "ip-masq": false,
            "userland-proxy": false,
            "shutdown-timeout": 5,
            "cgroup-parent": group.path(),
        });
        let config = room.write("docker.json", &config.to_string())?;
        let daemon = program("dockerd")?;
        let args = ["--config-file", &config.to_string_lossy()];
        let mut daemon = Daemon::start(&room, &daemon, &args)?;
        daemon.wait_ready(|| Ok(std::os::unix::net::UnixStream::connect(&socket).is_ok()))?;
        Ok(Self {
            client: program("docker")?,
            _daemon: daemon,
            room,
            group,
        })
    }

    /// What `DOCKER_HOST` and `--host` take.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.room.join("docker.sock").display())
    }
}

impl Engine for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn client(&self) -> Command {
        let mut command = Command::new(&self.client);
        // Contexts and plug-ins of the user's must not decide.
        command.env("DOCKER_CONFIG", self.room.join("config"));
        command
            .env_remove("DOCKER_CONTEXT")
            .env_remove("DOCKER_HOST");
        command.args(["--host", &self.host()]);
        command
    }

    fn run_words(&self, name: &str, bundle: &Bundle) -> Result<Vec<OsString>> {
        let mut words = docker_words(self, name, bundle)?;
        words.push(self.image(bundle)?.into());
        words.extend(bundle.args.iter().map(Into::into));
        Ok(words)
    }

    fn pid(&self, name: &str) -> Result<Option<i32>> {
        running(inspect(self, "{{.State.Pid}}", name)?)
    }

    fn id(&self, name: &str) -> Result<String> {
        existing(inspect(self, "{{.Id}}", name)?, name)
    }

    fn cgroup_of(&self, id: &str) -> String {
        self.group.child(id)
    }

    fn containers(&self) -> Result<Vec<String>> {
        Ok(lines(&self.call(&["ps", "-aq"])?.stdout))
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.call(&["rm", "-fv", name]).map(drop)
    }

    fn room(&self) -> &Room {
        &self.room
    }

    fn load_words(&self) -> &'static [&'static str] {
        &["load", "-q", "-i"]
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        remove_all(self);
    }
}
