//! podman without root, in what systemd makes when a user logs in: a delegated group and a runtime folder.

use super::{Engine, Room, existing, inspect, lines, podman, remove_all, running};
use crate::bundle::Bundle;
use crate::cgroup::{Mounts, remove_tree};
use crate::process;
use anyhow::{Context as _, Result, ensure};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

/// The user; the machine knows its name, `/etc/subuid` and `/etc/subgid` its range.
const UID: u32 = 1000;
/// The group that the user may divide, where systemd has it.
const GROUP: &str = "/user.slice/user-1000.slice/user@1000.service";
/// The containers' group in it; podman refuses one called a slice where it does not ask systemd.
const PARENT: &str = "/user.slice/user-1000.slice/user@1000.service/containers";
/// The folder of whatever runs for the user. The runtimes keep their state in it.
const RUNTIME_DIR: &str = "/run/user/1000";

/// What podman needs where there is no systemd; the rest, crun too, is what Debian's podman does by itself.
const CONFIGURATION: &str = r#"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"#;

/// podman of a user, with crun and its storage where a user has them.
#[derive(Debug)]
pub struct Rootless {
    client: PathBuf,
    room: Room,
    mounts: Mounts,
    session: Arc<File>,
}

impl Rootless {
    /// Makes the session. Needs root, cgroup2 alone, and a user 1000 that has none.
    pub fn new() -> Result<Self> {
        let client = process::need("podman", "podman")?;
        process::need("newuidmap", "uidmap")?;
        let mounts = Mounts::read()?;
        ensure!(
            mounts.legacy.is_empty(),
            "without root podman needs a machine with nothing but cgroup2"
        );
        let group = mounts.dir(GROUP);
        ensure!(
            !group.exists(),
            "user {UID} has a session: {} exists",
            group.display()
        );
        let session = group.join("app.slice/session.scope");
        fs::create_dir_all(&session)
            .with_context(|| format!("cannot create {}", session.display()))?;
        // Controllers come from the top; the slices above the group stay root's.
        let above = group.ancestors().take(GROUP.split('/').count());
        for dir in above.collect::<Vec<_>>().into_iter().rev() {
            let control = dir.join("cgroup.subtree_control");
            fs::write(&control, "+cpu +memory +pids")
                .with_context(|| format!("cannot enable controllers in {}", control.display()))?;
        }
        for dir in session.ancestors().take(3) {
            for file in [
                "",
                "cgroup.procs",
                "cgroup.threads",
                "cgroup.subtree_control",
            ] {
                chown(dir.join(file), Some(UID), Some(UID))
                    .with_context(|| format!("cannot give away {}", dir.display()))?;
            }
        }
        let room = Room::new("rootless")?;
        room.write("containers.conf", CONFIGURATION)?;
        fs::create_dir_all(RUNTIME_DIR)?;
        fs::set_permissions(RUNTIME_DIR, fs::Permissions::from_mode(0o700))?;
        for dir in [room.path(), RUNTIME_DIR.as_ref()] {
            chown(dir, Some(UID), Some(UID))
                .with_context(|| format!("cannot give away {}", dir.display()))?;
        }
        let session = session.join("cgroup.procs");
        let session = File::options().write(true).open(&session);
        Ok(Self {
            client,
            room,
            mounts,
            session: Arc::new(session.context("cannot open the session's cgroup.procs")?),
        })
    }

    /// The group of the user.
    #[must_use]
    pub fn group(&self) -> &'static str {
        GROUP
    }
}

/// Enters the session and gives up root.
fn log_in(mut session: &File) -> io::Result<()> {
    // 0 is whoever writes it.
    session.write_all(b"0")?;
    // SAFETY: no group is read from an empty list; the other two take integers.
    let done = unsafe {
        libc::setgroups(0, std::ptr::null()) == 0
            && libc::setgid(UID) == 0
            && libc::setuid(UID) == 0
    };
    if done {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

impl Engine for Rootless {
    fn name(&self) -> &'static str {
        "podman"
    }

    fn client(&self) -> Command {
        let mut command = Command::new(&self.client);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command
            .current_dir(self.room.path())
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.room.path())
            .env("TMPDIR", self.room.path())
            .env("XDG_RUNTIME_DIR", RUNTIME_DIR)
            .env("CONTAINERS_CONF", self.room.join("containers.conf"));
        let session = Arc::clone(&self.session);
        // SAFETY: four system calls on what was made before the fork; no memory is allocated.
        unsafe { command.pre_exec(move || log_in(&session)) };
        command
    }

    fn run_words(&self, name: &str, bundle: &Bundle) -> Result<Vec<OsString>> {
        let group = format!("{PARENT}/{name}");
        podman::run_words(self, name, &bundle.clone().cgroups_path(group))
    }

    fn pid(&self, name: &str) -> Result<Option<i32>> {
        running(inspect(self, "{{.State.Pid}}", name)?)
    }

    fn id(&self, name: &str) -> Result<String> {
        existing(inspect(self, "{{.Id}}", name)?, name)
    }

    fn cgroup_of(&self, id: &str) -> String {
        format!("{PARENT}/libpod-{id}")
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

impl Drop for Rootless {
    fn drop(&mut self) {
        remove_all(self);
        // What is left is podman's process that keeps its namespaces. All of it is this engine's: it made the group.
        let group = self.mounts.dir(GROUP);
        let _ = fs::write(group.join("cgroup.kill"), "1");
        let gone = || Ok(remove_tree(&group));
        let _ = process::poll("the session to end", super::COMMAND, gone);
        let _ = fs::remove_dir_all(RUNTIME_DIR);
    }
}
