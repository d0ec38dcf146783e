//! A private containerd, with ctr as its client.

use super::{Daemon, Engine, Room, end_helpers, lines, profile_file, program, remove_all};
use crate::bundle::{Bundle, DOCKER_CAPABILITIES};
use crate::lock::unique;
use anyhow::{Context as _, Result, ensure};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

/// containerd with its CRI plug-in, as the packages have it.
#[derive(Debug)]
pub struct Containerd {
    client: PathBuf,
    /// Of containers, and of their cgroups.
    namespace: String,
    _daemon: Daemon,
    room: Room,
}

impl Containerd {
    /// Starts the daemon and waits until it answers.
    pub fn start() -> Result<Self> {
        let mut room = Room::new("containerd")?;
        let namespace = unique("seccast-rig");
        room.leaves_cgroup(&format!("/{namespace}"))?;
        // The shim keeps runc's state here, whatever the daemon's own folders are.
        room.left_behind
            .push(format!("/run/containerd/runc/{namespace}").into());
        let text = format!(
            r#"
version = 2
root = "{dir}/root"
state = "{dir}/state"
[grpc]
address = "{dir}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "{dir}/opt"
[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
"#,
            dir = room.path().display()
        );
        let config = room.write("containerd.toml", &text)?;
        let daemon = program("containerd")?;
        let mut daemon = Daemon::start(&room, &daemon, &["--config", &config.to_string_lossy()])?;
        let socket = room.join("containerd.sock");
        daemon.wait_ready(|| Ok(std::os::unix::net::UnixStream::connect(&socket).is_ok()))?;
        Ok(Self {
            client: program("ctr")?,
            namespace,
            _daemon: daemon,
            room,
        })
    }

    /// What `CONTAINERD_ADDRESS` and `ctr --address` take.
    #[must_use]
    pub fn address(&self) -> PathBuf {
        self.room.join("containerd.sock")
    }

    /// What `CONTAINERD_NAMESPACE` and `ctr --namespace` take.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl Engine for Containerd {
    fn name(&self) -> &'static str {
        "ctr"
    }

    fn client(&self) -> Command {
        let mut command = Command::new(&self.client);
        command
            .env_remove("CONTAINERD_ADDRESS")
            .env_remove("CONTAINERD_NAMESPACE");
        command.arg("--address").arg(self.address());
        command.args(["--namespace", &self.namespace]);
        command
    }

    fn run_words(&self, name: &str, bundle: &Bundle) -> Result<Vec<OsString>> {
        ensure!(
            bundle.hooks.is_empty(),
            "ctr takes no hooks by its command line"
        );
        let mut words: Vec<OsString> = ["run", "--rm", "--fifo-dir"].map(Into::into).into();
        words.push(self.room.join("fifo").into());
        if bundle.readonly {
            words.push("--read-only".into());
        }
        for mount in &bundle.mounts {
            let text = |key: &str| mount[key].as_str().unwrap_or_default();
            let options = mount["options"].as_array().into_iter().flatten();
            let options: Vec<_> = options.filter_map(|option| option.as_str()).collect();
            let (kind, source, destination) = (text("type"), text("source"), text("destination"));
            let options = options.join(":");
            words.extend([
                "--mount".into(),
                format!("type={kind},src={source},dst={destination},options={options}").into(),
            ]);
        }
        if bundle.capabilities != DOCKER_CAPABILITIES {
            // The same set as docker's is ctr's own; there is no word for all.
            let drop = DOCKER_CAPABILITIES.iter().map(|cap| ["--cap-drop", cap]);
            let add = bundle.capabilities.iter().map(|cap| ["--cap-add", cap]);
            words.extend(drop.chain(add).flatten().map(OsString::from));
        }
        if !bundle.no_new_privs {
            words.push("--allow-new-privs".into());
        }
        if let Some(file) = profile_file(self, name, bundle)? {
            words.extend(["--seccomp".into(), "--seccomp-profile".into(), file.into()]);
        }
        if let Some(path) = &bundle.cgroups_path {
            words.extend(["--cgroup".into(), path.into()]);
        }
        for pair in &bundle.env {
            words.extend(["--env".into(), pair.into()]);
        }
        words.extend([self.image(bundle)?.into(), name.into()]);
        words.extend(bundle.args.iter().map(Into::into));
        Ok(words)
    }

    fn pid(&self, name: &str) -> Result<Option<i32>> {
        let tasks = self.call(&["tasks", "list"])?.stdout;
        let pid = tasks.lines().find_map(|line| {
            let mut columns = line.split_whitespace();
            (columns.next() == Some(name)).then(|| (columns.next(), columns.next()))
        });
        match pid {
            Some((Some(pid), Some("RUNNING"))) => Ok(Some(
                pid.parse().with_context(|| format!("not a pid: {pid}"))?,
            )),
            _ => Ok(None),
        }
    }

    fn id(&self, name: &str) -> Result<String> {
        Ok(name.into())
    }

    fn cgroup_of(&self, id: &str) -> String {
        format!("/{}/{id}", self.namespace)
    }

    fn containers(&self) -> Result<Vec<String>> {
        Ok(lines(&self.call(&["containers", "list", "-q"])?.stdout))
    }

    fn remove(&self, name: &str) -> Result<()> {
        // There may be no task, and with --rm no container after its end; what counts is that it is gone.
        let _ = self.call(&["tasks", "delete", "--force", name]);
        let _ = self.call(&["containers", "delete", name]);
        let left = self.containers()?;
        ensure!(
            !left.iter().any(|left| left == name),
            "{name} is still there"
        );
        Ok(())
    }

    fn room(&self) -> &Room {
        &self.room
    }

    fn load_words(&self) -> &'static [&'static str] {
        &["images", "import"]
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        remove_all(self);
        // A shim whose task `ctr run --rm` and we deleted at once may stay.
        let socket = self.address();
        end_helpers(|line| {
            line.contains("containerd-shim") && line.contains(&*socket.to_string_lossy())
        });
    }
}
