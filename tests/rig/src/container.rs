//! Containers that a real OCI runtime runs.

use crate::bundle::Bundle;
use crate::cgroup::{self, Mounts};
use crate::load::Server;
use crate::process::{self, Output};
use anyhow::{Context as _, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Longest time that one command of the runtime may take, on a busy machine too.
const COMMAND: Duration = Duration::from_secs(60);

/// An OCI runtime: its binary, its state folder and what it is started through.
#[derive(Clone, Debug)]
pub struct Runtime {
    program: PathBuf,
    root: Option<PathBuf>,
    through: Vec<String>,
}

impl Runtime {
    /// The installed runc with its own state folder.
    pub fn runc() -> Result<Self> {
        Ok(Self::at(process::need("runc", "runc")?))
    }

    /// The installed crun with its own state folder, in a mount namespace where `/sys/fs/cgroup` is cgroup2.
    ///
    /// It refuses a machine with v1 hierarchies beside cgroup2; where there are none, it finds there what was there before.
    pub fn crun() -> Result<Self> {
        let view = "mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"";
        let unshare = "unshare --mount --propagation private sh -c".split(' ');
        let words: Vec<&str> = unshare.chain([view, "sh"]).collect();
        Ok(Self::at(process::need("crun", "crun")?).through(&words))
    }

    /// A runtime at any path, such as a copy of runc under another name.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            root: None,
            through: Vec::new(),
        }
    }

    /// Keeps the state of containers in `root` (`--root`).
    #[must_use]
    pub fn root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = Some(root.into());
        self
    }

    /// Starts the runtime through another command, such as `unshare -m`.
    #[must_use]
    pub fn through(mut self, words: &[&str]) -> Self {
        self.through = words.iter().map(|&word| word.into()).collect();
        self
    }

    /// The runtime's binary.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A command line of the runtime, to be completed.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut words = self.through.iter();
        let mut command = match words.next() {
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        if let Some(root) = &self.root {
            command.arg("--root").arg(root);
        }
        command
    }
}

/// One container; deleted on drop, with its cgroups in every hierarchy.
#[derive(Debug)]
pub struct Container {
    name: String,
    runtime: Runtime,
    mounts: Mounts,
    cgroup: String,
    work: tempfile::TempDir,
    foreground: Option<Child>,
}

impl Container {
    /// Writes the bundle; nothing runs yet.
    ///
    /// A container of that name that an earlier, killed run left behind is deleted.
    pub fn new(name: &str, bundle: &Bundle, runtime: &Runtime) -> Result<Self> {
        let work = tempfile::Builder::new()
            .prefix("seccast-rig-")
            .tempdir()
            .context("temporary folder")?;
        bundle.write(name, work.path())?;
        let container = Self {
            name: name.into(),
            runtime: runtime.clone(),
            mounts: Mounts::read()?,
            cgroup: bundle.cgroup_of(name),
            work,
            foreground: None,
        };
        if container.state_dir().exists() {
            container.delete()?;
        }
        Ok(container)
    }

    /// The container's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts it and returns when its program runs; `wait` then tells that it has ended, but not how.
    pub fn run_detached(&mut self) -> Result<()> {
        let mut command = self.runtime.command();
        command
            .arg("run")
            .arg("-d")
            .arg("--pid-file")
            .arg(self.pid_file())
            .arg("-b")
            .arg(self.work.path());
        let log = self.create_log()?;
        let mut child = command
            .arg(&self.name)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start the runtime")?;
        match process::wait(&mut child, COMMAND)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!(
                "the runtime could not run {}: {status}\n{}",
                self.name,
                self.log()
            ),
            None => {
                child.kill().and_then(|()| child.wait())?;
                bail!(
                    "the runtime did not come back from the start of {}\n{}",
                    self.name,
                    self.log()
                )
            }
        }
    }

    /// Starts it in the foreground and returns at once: `wait` then tells how it ended, as the runtime exits with it.
    ///
    /// The cheapest way: the runtime runs once, and deletes the container itself.
    pub fn spawn(&mut self) -> Result<()> {
        let mut command = self.runtime.command();
        command
            .arg("run")
            .arg("--pid-file")
            .arg(self.pid_file())
            .arg("-b")
            .arg(self.work.path());
        let log = self.create_log()?;
        let child = command
            .arg(&self.name)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start the runtime")?;
        self.foreground = Some(child);
        Ok(())
    }

    /// Starts it in the foreground and waits for its end; 128 + n stands for a signal.
    pub fn run(&mut self, timeout: Duration) -> Result<ExitStatus> {
        self.spawn()?;
        self.wait(timeout)?
            .with_context(|| format!("the runtime says nothing of how {} ended", self.name))
    }

    /// Waits until it has ended. The status is known for a container in the foreground only.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        let late = || format!("{} did not end within {timeout:?}", self.name);
        if let Some(child) = &mut self.foreground {
            let status = process::wait(child, timeout)?.with_context(late)?;
            self.foreground = None;
            return Ok(Some(status));
        }
        if !process::wait_pid(self.pid()?, timeout)? {
            bail!("{}\n{}", late(), self.log());
        }
        Ok(None)
    }

    /// How it ended, when it has; `None` while it runs in the foreground.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        match &mut self.foreground {
            Some(child) => Ok(child.try_wait()?),
            None => Ok(None),
        }
    }

    /// The pid of its first process, in this pid namespace. Waits until the runtime has written it.
    pub fn pid(&self) -> Result<i32> {
        let file = self.pid_file();
        let mut pid = None;
        process::poll("the runtime's pid file", COMMAND, || {
            pid = fs::read_to_string(&file)
                .ok()
                .and_then(|text| text.trim().parse().ok());
            Ok(pid.is_some())
        })
        .with_context(|| self.log())?;
        pid.context("no pid")
    }

    /// Waits until its program runs, where `spawn` has returned earlier.
    pub fn wait_started(&self) -> Result<()> {
        // The runtime's own process keeps a name such as `runc:[2:INIT]` until it executes the program.
        let comm = PathBuf::from(format!("/proc/{}/comm", self.pid()?));
        process::poll("the container's program to start", COMMAND, || {
            let comm = fs::read_to_string(&comm)
                .with_context(|| format!("{} has ended\n{}", self.name, self.log()))?;
            Ok(!comm.starts_with("runc"))
        })
    }

    /// Runs a command in the container, as `kubectl exec` does.
    pub fn exec<I: IntoIterator<Item: AsRef<std::ffi::OsStr>>>(&self, args: I) -> Result<Output> {
        process::output(
            self.runtime
                .command()
                .arg("exec")
                .arg(&self.name)
                .args(args),
            COMMAND,
        )
    }

    /// Sends a signal to its first process.
    pub fn kill(&self, signal: i32) -> Result<()> {
        process::signal(self.pid()?, signal)
    }

    /// Freezes it.
    pub fn pause(&self) -> Result<()> {
        process::check(self.runtime.command().arg("pause").arg(&self.name), COMMAND).map(drop)
    }

    /// Thaws it.
    pub fn resume(&self) -> Result<()> {
        process::check(
            self.runtime.command().arg("resume").arg(&self.name),
            COMMAND,
        )
        .map(drop)
    }

    /// Its cgroup2 folder.
    #[must_use]
    pub fn cgroup_dir(&self) -> PathBuf {
        self.mounts.dir(&self.cgroup)
    }

    /// Its cgroup's path below the mount.
    #[must_use]
    pub fn cgroup_path(&self) -> &str {
        &self.cgroup
    }

    /// What `bpf_get_current_cgroup_id()` returns in it; the folder is there from the start of the container on.
    pub fn cgroup_id(&self) -> Result<u64> {
        cgroup::id(&self.cgroup_dir())
    }

    /// What it and the runtime have printed.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.work.path().join("log"))
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// A folder of its own that lives as long as this value; the bundle lies in it.
    #[must_use]
    pub fn work_dir(&self) -> &Path {
        self.work.path()
    }

    fn create_log(&self) -> Result<File> {
        let path = self.work.path().join("log");
        File::create(&path).with_context(|| format!("cannot create {}", path.display()))
    }

    fn pid_file(&self) -> PathBuf {
        self.work.path().join("pid")
    }

    /// Where the runtime keeps the container's state while it exists.
    fn state_dir(&self) -> PathBuf {
        let root = self.runtime.root.clone().unwrap_or_else(|| {
            let name = self
                .runtime
                .program
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if name == "crun" {
                "/run/crun".into()
            } else {
                "/run/runc".into()
            }
        });
        root.join(&self.name)
    }

    fn delete(&self) -> Result<()> {
        process::output(
            self.runtime
                .command()
                .args(["delete", "-f"])
                .arg(&self.name),
            COMMAND,
        )?;
        self.mounts.remove(&self.cgroup)
    }
}

impl Server for Container {
    fn name(&self) -> &str {
        self.name()
    }

    fn pid(&self) -> Result<i32> {
        self.pid()
    }

    fn cgroup_dir(&self) -> Result<PathBuf> {
        Ok(self.cgroup_dir())
    }

    fn log(&self) -> String {
        self.log()
    }

    fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.try_wait()
    }

    fn wait(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        self.wait(timeout)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Errors have no one to go to: a test that cares has waited for the end itself.
        if self.foreground.is_some() || self.state_dir().exists() {
            let _ = self.delete();
        } else if self.cgroup.starts_with(cgroup::PARENT) {
            let _ = self.mounts.remove(&self.cgroup);
        }
        if let Some(child) = &mut self.foreground {
            if !process::wait(child, Duration::from_secs(5)).is_ok_and(|status| status.is_some()) {
                let _ = child.kill();
            }
            let _ = child.wait();
        }
    }
}
