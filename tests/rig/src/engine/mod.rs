//! Engines: docker, podman and containerd, each a private one with its own folders, socket and network namespace.
//!
//! What runs in them is a [`Bundle`], the same that runc runs: its root file system becomes an image, the rest words of the
//! engine's own command line. So the same workload can be compared across engines.
//!
//! Nothing of an engine is installed as a service: where the machine has no docker or containerd, Debian's packages are
//! unpacked in the cache, since installing them would start a daemon.

mod containerd;
mod docker;
mod image;
mod podman;
mod rootless;

pub use containerd::Containerd;
pub use docker::Docker;
pub use podman::Podman;
pub use rootless::Rootless;

use crate::bundle::{Bundle, DOCKER_CAPABILITIES};
use crate::cgroup::Mounts;
use crate::load::Server;
use crate::process::{self, Output};
use crate::rootfs;
use anyhow::{Context as _, Result, bail, ensure};
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

/// Longest time that one command of a client, or the start of a daemon, may take on a busy machine.
const COMMAND: Duration = Duration::from_secs(60);

/// A private engine; everything that it runs is removed on drop, then the engine itself.
pub trait Engine: fmt::Debug {
    /// What the client is called: `docker`, `podman`, `ctr`.
    fn name(&self) -> &'static str;

    /// The client with all that it needs to find this engine, to be completed with a command of its own.
    fn client(&self) -> Command;

    /// The client's words that run `bundle` as `name` in the foreground and remove it at its end.
    ///
    /// Without a profile in the bundle the engine's own default filter stays: docker and podman have one, ctr has none.
    fn run_words(&self, name: &str, bundle: &Bundle) -> Result<Vec<OsString>>;

    /// The pid of a container's first process on this machine, while it runs.
    fn pid(&self, name: &str) -> Result<Option<i32>>;

    /// The engine's id of a container.
    fn id(&self, name: &str) -> Result<String>;

    /// The cgroup path where this engine puts a container of this id when the bundle names none.
    fn cgroup_of(&self, id: &str) -> String;

    /// The names or ids of all containers, whether they run or not.
    fn containers(&self) -> Result<Vec<String>>;

    /// Ends and removes a container.
    fn remove(&self, name: &str) -> Result<()>;

    /// The engine's folder.
    fn room(&self) -> &Room;

    /// The client's words that load an archive of docker's format.
    fn load_words(&self) -> &'static [&'static str];

    /// Runs the client with these words to its end; an exit status other than 0 is an error.
    fn call(&self, words: &[&str]) -> Result<Output> {
        process::check(self.client().args(words), COMMAND)
    }

    /// The whole command that runs `bundle` as `name`, see [`Engine::run_words`].
    fn run(&self, name: &str, bundle: &Bundle) -> Result<Command> {
        let mut command = self.client();
        command.args(self.run_words(name, bundle)?);
        Ok(command)
    }

    /// The image of a bundle, `localhost/NAME:TAG` after the folder of its root file system; imported at the first call.
    fn image(&self, bundle: &Bundle) -> Result<String> {
        let name = image::name(bundle)?;
        let mut images = self
            .room()
            .images
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if !images.contains(&name) {
            let archive = image::archive(bundle, &name, self.room().path())?;
            process::check(
                self.client().args(self.load_words()).arg(archive.path()),
                COMMAND,
            )
            .with_context(|| format!("cannot import {name}"))?;
            images.insert(name.clone());
        }
        Ok(name)
    }
}

/// All three, for tests that hold in front of each.
pub fn all() -> Result<Vec<Box<dyn Engine>>> {
    Ok(vec![
        Box::new(Docker::start()?),
        Box::new(Podman::new()?),
        Box::new(Containerd::start()?),
    ])
}

/// A folder that holds everything of one engine; mounts in it are undone before it is removed.
#[derive(Debug)]
pub struct Room {
    dir: tempfile::TempDir,
    images: Mutex<BTreeSet<String>>,
    /// Groups and folders outside that the engine makes and leaves behind; removed where empty.
    left_behind: Vec<PathBuf>,
}

impl Room {
    /// Makes the folder where overlay works; a path of a socket may only have 107 bytes, so a short one.
    fn new(name: &str) -> Result<Self> {
        let mut tried = Vec::new();
        for base in ["/var/tmp".into(), std::env::temp_dir(), crate::cache_dir()] {
            fs::create_dir_all(&base)
                .with_context(|| format!("cannot create {}", base.display()))?;
            let dir = tempfile::Builder::new()
                .prefix(&format!("seccast-{name}-"))
                .tempdir_in(&base)
                .with_context(|| format!("cannot make a folder in {}", base.display()))?;
            if overlay_works(dir.path())? {
                return Ok(Self {
                    dir,
                    images: Mutex::default(),
                    left_behind: Vec::new(),
                });
            }
            tried.push(base.display().to_string());
        }
        bail!(
            "overlay can be mounted in none of {}; set SECCAST_CACHE to a folder on ext4, xfs or btrfs",
            tried.join(", ")
        )
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Removes this cgroup on drop in every hierarchy where it is empty, unless it was there before.
    fn leaves_cgroup(&mut self, path: &str) -> Result<()> {
        let groups = groups(path)?;
        self.left_behind
            .extend(groups.into_iter().filter(|dir| !dir.exists()));
        Ok(())
    }

    /// The same for one that is the engine's own, and goes before all others.
    fn leaves_own_cgroup(&mut self, path: &str) -> Result<()> {
        self.left_behind.splice(..0, groups(path)?);
        Ok(())
    }
}

/// The folders of a group in all hierarchies.
fn groups(path: &str) -> Result<Vec<PathBuf>> {
    let Mounts { unified, legacy } = Mounts::read()?;
    let mounts = std::iter::once(unified).chain(legacy);
    let groups = mounts.map(|mount| mount.join(path.trim_start_matches('/')));
    Ok(groups.collect())
}

impl Drop for Room {
    fn drop(&mut self) {
        // Errors have no one to go to; what stays is seen by the test that looks for it.
        let _ = unmount_below(self.path());
        for dir in &self.left_behind {
            let _ = fs::remove_dir(dir);
        }
    }
}

/// A daemon in a network namespace of its own, ended on drop.
#[derive(Debug)]
struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    fn start(room: &Room, program: &Path, args: &[&str]) -> Result<Self> {
        let log = room.join("daemon.log");
        let file =
            File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut command = Command::new(process::need("unshare", "util-linux")?);
        // unshare becomes the daemon, so the pid is the daemon's.
        command.arg("--net").arg(program).args(args);
        if let Some(tree) = tree(program) {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let own = ["usr/sbin", "usr/bin"].map(|dir| tree.join(dir));
            command.env(
                "PATH",
                std::env::join_paths(std::env::split_paths(&path).chain(own))?,
            );
            let lib = format!("lib/{}-linux-gnu", std::env::consts::ARCH);
            command.env("LD_LIBRARY_PATH", tree.join(lib));
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child, log })
    }

    /// Waits until `ready` says yes; fails at once when the daemon has ended.
    fn wait_ready(&mut self, ready: impl Fn() -> Result<bool>) -> Result<()> {
        let Self { child, log } = self;
        process::poll("the daemon to answer", COMMAND, || {
            if let Some(status) = child.try_wait()? {
                bail!("the daemon ended with {status}");
            }
            ready()
        })
        .with_context(|| fs::read_to_string(log).unwrap_or_default())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).unwrap_or_default();
        let _ = process::signal(pid, libc::SIGTERM);
        if !process::wait(&mut self.child, COMMAND).is_ok_and(|end| end.is_some()) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// A program of an engine: the machine's own, or Debian's unpacked in the cache.
fn program(name: &str) -> Result<PathBuf> {
    if let Some(found) = process::find(name) {
        return Ok(found);
    }
    let packages = ["docker.io", "containerd", "tini", "libdevmapper1.02.1"];
    let tree = rootfs::from_packages("engines", &packages, &[])?;
    ["usr/bin", "usr/sbin"]
        .iter()
        .map(|dir| tree.join(dir).join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("no {name} on this machine or in {}", packages.join(", ")))
}

/// The unpacked packages that a program comes from; `None` for one of the machine's own.
fn tree(program: &Path) -> Option<PathBuf> {
    let tree = program.ancestors().nth(3)?;
    tree.starts_with(crate::cache_dir())
        .then(|| tree.to_path_buf())
}

/// A container that a command in the foreground runs: an engine's client, or seccast with the client behind it.
#[derive(Debug)]
pub struct Contained<'engine> {
    engine: &'engine dyn Engine,
    name: String,
    command: RefCell<Child>,
    log: PathBuf,
    found: OnceCell<(i32, PathBuf)>,
}

impl<'engine> Contained<'engine> {
    /// Runs a bundle under this name in the engine.
    pub fn run(engine: &'engine dyn Engine, name: &str, bundle: &Bundle) -> Result<Self> {
        Self::spawn(engine, name, &mut engine.run(name, bundle)?)
    }

    /// Starts a command that makes the engine run a container of this name. What it prints is the log.
    pub fn spawn(engine: &'engine dyn Engine, name: &str, command: &mut Command) -> Result<Self> {
        let log = engine.room().join(&format!("{name}.log"));
        let file =
            File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self {
            engine,
            name: name.into(),
            command: RefCell::new(child),
            log,
            found: OnceCell::new(),
        })
    }

    /// What `bpf_get_current_cgroup_id()` returns in it.
    pub fn cgroup_id(&self) -> Result<u64> {
        crate::cgroup::id(&self.cgroup_dir()?)
    }

    /// Its pid and cgroup2 folder, asked once: both are known as soon as its program runs, and are remembered after its end.
    fn found(&self) -> Result<&(i32, PathBuf)> {
        if let Some(found) = self.found.get() {
            return Ok(found);
        }
        let mut pid = None;
        process::poll("the engine to start the container", COMMAND, || {
            if let Some(status) = self.command.borrow_mut().try_wait()? {
                bail!("{} ended with {status} before it was seen", self.name);
            }
            pid = self.engine.pid(&self.name)?;
            Ok(pid.is_some())
        })
        .with_context(|| self.log())?;
        let pid = pid.context("no pid")?;
        let path = cgroup_of_pid(pid)?;
        Ok(self.found.get_or_init(|| (pid, path)))
    }
}

/// The cgroup2 folder of a process.
fn cgroup_of_pid(pid: i32) -> Result<PathBuf> {
    let file = format!("/proc/{pid}/cgroup");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    Ok(Mounts::read()?.dir(path.with_context(|| format!("{file} has no cgroup2 line"))?))
}

impl Server for Contained<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn pid(&self) -> Result<i32> {
        Ok(self.found()?.0)
    }

    fn cgroup_dir(&self) -> Result<PathBuf> {
        Ok(self.found()?.1.clone())
    }

    fn log(&self) -> String {
        fs::read(&self.log)
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.command.get_mut().try_wait()?)
    }

    fn wait(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        let status = process::wait(self.command.get_mut(), timeout)?;
        let late = || {
            format!(
                "{} did not end within {timeout:?}\n{}",
                self.name,
                self.log()
            )
        };
        Ok(Some(status.with_context(late)?))
    }
}

impl Drop for Contained<'_> {
    fn drop(&mut self) {
        if !matches!(self.try_wait(), Ok(Some(_))) {
            let _ = self.engine.remove(&self.name);
            let command = self.command.get_mut();
            if !process::wait(command, COMMAND).is_ok_and(|end| end.is_some()) {
                let _ = command.kill();
            }
            let _ = command.wait();
        }
    }
}

/// The words of docker, which podman took over.
fn docker_words(engine: &dyn Engine, name: &str, bundle: &Bundle) -> Result<Vec<OsString>> {
    ensure!(
        bundle.hooks.is_empty(),
        "{} takes no hooks by its command line",
        engine.name()
    );
    let mut words: Vec<OsString> = ["run", "--rm", "--network=none", "--name", name]
        .map(Into::into)
        .into();
    if bundle.readonly {
        words.push("--read-only".into());
    }
    for mount in &bundle.mounts {
        let text = |key: &str| mount[key].as_str().unwrap_or_default();
        let (source, destination) = (text("source"), text("destination"));
        match text("type") {
            "tmpfs" => words.extend(["--tmpfs".into(), format!("{destination}:mode=1777").into()]),
            _ => words.extend(["-v".into(), format!("{source}:{destination}").into()]),
        }
    }
    if bundle.capabilities != DOCKER_CAPABILITIES {
        words.push("--cap-drop=ALL".into());
        words.extend(
            bundle
                .capabilities
                .iter()
                .map(|cap| format!("--cap-add={cap}").into()),
        );
    }
    if bundle.no_new_privs {
        words.extend(["--security-opt", "no-new-privileges"].map(Into::into));
    }
    if let Some(file) = profile_file(engine, name, bundle)? {
        let mut option = OsString::from("seccomp=");
        option.push(file);
        words.extend(["--security-opt".into(), option]);
    }
    if let Some((parent, _)) = bundle
        .cgroups_path
        .as_deref()
        .and_then(|path| path.rsplit_once('/'))
    {
        words.push(format!("--cgroup-parent={parent}").into());
    }
    words.extend(bundle.env.iter().map(|pair| format!("--env={pair}").into()));
    Ok(words)
}

/// What docker or podman say of a container in a Go template; `None` for one that does not exist.
fn inspect(engine: &dyn Engine, format: &str, name: &str) -> Result<Option<String>> {
    let words = ["inspect", "--type", "container", "--format", format, name];
    let output = process::output(engine.client().args(words), COMMAND)?;
    Ok(output
        .status
        .success()
        .then(|| output.stdout.trim().to_owned()))
}

/// The pid that [`inspect`] found; 0 stands for a container that does not run.
fn running(pid: Option<String>) -> Result<Option<i32>> {
    let pid = pid.map(|pid| pid.parse().with_context(|| format!("not a pid: {pid}")));
    Ok(pid.transpose()?.filter(|pid| *pid > 0))
}

fn existing(found: Option<String>, name: &str) -> Result<String> {
    found.with_context(|| format!("there is no container {name}"))
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim().to_owned()).collect()
}

/// The bundle's profile as a file.
fn profile_file(engine: &dyn Engine, name: &str, bundle: &Bundle) -> Result<Option<PathBuf>> {
    let write = |profile| {
        let text = serde_json::to_string_pretty(profile)?;
        engine.room().write(&format!("{name}-seccomp.json"), &text)
    };
    bundle.seccomp.as_ref().map(write).transpose()
}

/// Ends and removes all containers; what fails is left to the end of the daemon.
fn remove_all(engine: &dyn Engine) {
    for container in engine.containers().unwrap_or_default() {
        let _ = engine.remove(&container);
    }
}

/// Waits for processes whose command line is of an engine's helpers; who stays is killed.
fn end_helpers(is: impl Fn(&str) -> bool) {
    let living = || -> Vec<i32> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            is(&String::from_utf8_lossy(&line))
        })
        .collect()
    };
    let ended = process::poll("helpers to end", Duration::from_secs(5), || {
        Ok(living().is_empty())
    });
    if ended.is_err() {
        for pid in living() {
            let _ = process::signal(pid, libc::SIGKILL);
        }
    }
}

/// Undoes every mount on a folder or below it, the last first.
fn unmount_below(dir: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let mut below: Vec<&str> = points
        .filter(|point| Path::new(point).starts_with(dir))
        .collect();
    below.reverse();
    for point in below {
        process::check(Command::new("umount").args(["--lazy", point]), COMMAND)?;
    }
    Ok(())
}

/// Whether overlay can be mounted with all its folders in `dir`; tried in a mount namespace of its own.
fn overlay_works(dir: &Path) -> Result<bool> {
    let script = "mkdir probe && cd probe && mkdir l u w m && \
                  mount -t overlay overlay -o lowerdir=l,upperdir=u,workdir=w m && touch m/x";
    let mut command = Command::new(process::need("unshare", "util-linux")?);
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
    let output = process::output(command.current_dir(dir), COMMAND)?;
    fs::remove_dir_all(dir.join("probe")).context("cannot remove the probe of overlay")?;
    Ok(output.status.success())
}
