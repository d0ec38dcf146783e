//! `cargo xtask cluster`: a real Kubernetes on this machine, of one or two nodes, without a registry of images.
//!
//! ```text
//! programs   built from Go modules, once, into the cache
//! node       a network and a mount namespace, containerd, kube-proxy, kubelet
//! control    etcd, API server, controllers, scheduler, names: in the first node's namespaces
//! remains    ends and removes everything, also what a crash has left
//! ```
//!
//! Every process, containers included, lies below one control group: one write to its `cgroup.kill` ends the cluster, and
//! with the last process its namespaces, mounts and links are gone.

mod control;
mod node;
mod programs;
mod remains;

use std::fs::{self, File, TryLockError};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use seccast_rig::cgroup::Mounts;
use seccast_rig::cluster::{BUSYBOX, Cluster, DAEMONS, PAUSE, REDIS};
use seccast_rig::oci::Image;
use seccast_rig::rootfs;

use crate::process::{self, Run, check_interrupted};
use crate::{dist, image, places, setup};

/// How long a cluster may take to be up on a busy machine.
const UP: Duration = Duration::from_secs(180);

/// Whoever has it locked has the one cluster of this machine. Not in a cache: the cluster's control group is the machine's,
/// and who uses another cache would end it.
const LOCK: &str = "/run/seccast-cluster.lock";

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    #[command(about = format!("Start it; the first time its programs are built, which takes {}", programs::BUILD))]
    Up(Up),
    /// End it and remove everything but its logs.
    Down(Down),
    /// Build its programs and pack its images, which `up` does as well.
    Build,
    /// Load images from archives onto every node; without one, seccast's as `cargo xtask image` makes it.
    LoadImage {
        /// Archives, OCI layouts or what `docker save` writes.
        archives: Vec<PathBuf>,
    },
    /// Run a command, else a shell, on a node, with kubectl, ctr and KUBECONFIG at hand.
    Shell(Shell),
}

#[derive(clap::Args, Clone)]
pub(crate) struct Up {
    /// How many nodes; the first has the control plane and runs Pods too.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) nodes: u8,
    /// How many seconds to wait for another cluster of this machine to be taken down.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(crate) wait: u64,
    #[command(flatten)]
    pub(crate) prepared: Prepared,
}

impl Up {
    /// One of so many nodes; what it needs is not made yet.
    pub(crate) fn of(nodes: u8, wait: u64) -> Self {
        Self {
            nodes,
            wait,
            prepared: Prepared::default(),
        }
    }
}

/// What root is started with, made by the user.
#[derive(clap::Args, Clone, Default)]
pub(crate) struct Prepared {
    /// The folder of the cluster's programs.
    #[arg(long, hide = true)]
    pub(crate) programs: Option<PathBuf>,
    /// Archives of images for every node.
    #[arg(long, hide = true)]
    pub(crate) images: Vec<PathBuf>,
}

#[derive(clap::Args)]
struct Down {
    /// Also when it is another checkout's, or nobody knows whose.
    #[arg(long)]
    force: bool,
}

#[derive(clap::Args)]
struct Shell {
    /// The number of the node.
    #[arg(long, default_value_t = 1)]
    node: usize,
    /// The command and its arguments.
    #[arg(last = true)]
    command: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if let Verb::Build = &args.verb {
        return prepare().map(drop);
    }
    process::want_root("running a cluster")?;
    match &args.verb {
        Verb::Build => Ok(()),
        Verb::Up(up) if up.prepared.programs.is_some() => start(up),
        Verb::Up(up) => self::up(up),
        // Built by the user: as root, cargo would leave files in the checkout that the user cannot replace.
        Verb::LoadImage { archives } if archives.is_empty() => {
            let own = image::build(&dist::build()?)?;
            if process::is_root() {
                return load_images(&[own]);
            }
            let again = Run::own(["cluster", "load-image"])?.arg(own);
            again.rooted().exec()
        }
        _ if !process::is_root() => Run::own(std::env::args_os().skip(1))?.rooted().exec(),
        Verb::Down(down) => self::down(down.force),
        Verb::LoadImage { archives } => load_images(archives),
        Verb::Shell(shell) => self::shell(shell),
    }
}

impl Prepared {
    /// The same as words of a command line.
    pub(crate) fn words(&self, mut run: Run) -> Run {
        for (option, paths) in [
            ("--programs", self.programs.as_slice()),
            ("--images", &self.images),
        ] {
            for path in paths {
                run = run.arg(option).arg(path);
            }
        }
        run
    }
}

/// Builds and packs what it needs, and starts it.
pub(crate) fn up(up: &Up) -> Result<()> {
    let up = Up {
        prepared: prepare()?,
        ..up.clone()
    };
    if process::is_root() {
        return start(&up);
    }
    let again = Run::own(["cluster", "up"])?
        .arg(format!("--nodes={}", up.nodes))
        .arg(format!("--wait={}", up.wait));
    up.prepared
        .words(again)
        .limit(UP + Duration::from_secs(up.wait))
        .rooted()
        .run()
}

/// What a user does: builds the programs and packs the images.
pub(crate) fn prepare() -> Result<Prepared> {
    setup::cluster(programs::missing()?)?;
    let programs = programs::ready()?;
    let sleep = ["/bin/sleep", "2147483647"];
    let (busybox, redis) = (rootfs::busybox()?, rootfs::redis()?);
    node::nft()?;
    let mut images = Vec::new();
    for (name, tree, command) in [
        (PAUSE, &busybox, &sleep[..]),
        (BUSYBOX, &busybox, &sleep),
        (REDIS, &redis, &["/usr/bin/redis-server"]),
    ] {
        images.push(pack(name, tree, command)?);
    }
    let seccast = image::path()?;
    if seccast.is_file() {
        images.push(seccast);
    }
    Ok(Prepared {
        programs: Some(programs),
        images,
    })
}

/// An archive of a tree of the cache as the image `localhost/NAME:1`, made once for each tree.
fn pack(image: &str, tree: &Path, command: &[&str]) -> Result<PathBuf> {
    let name = image
        .trim_start_matches("localhost/")
        .trim_end_matches(":1");
    let of = tree.file_name().unwrap_or_default().to_string_lossy();
    let archive = places::cache()?.join(format!("images/{name}-of-{of}.tar"));
    if !archive.is_file() {
        Image::new(image, tree).command(command).write(&archive)?;
    }
    Ok(archive)
}

/// What root does. Whatever fails, nothing is left but logs.
fn start(up: &Up) -> Result<()> {
    let programs = up.prepared.programs.clone();
    let programs = programs.context("no programs are named")?;
    let started = Instant::now();
    let lock = lock(Duration::from_secs(up.wait))?;
    remains::remove()?;
    let mut cluster = Cluster::new(programs, places::root())?;
    fs::create_dir_all(&cluster.dir)
        .with_context(|| format!("failed to make {}", cluster.dir.display()))?;
    let made = bring_up(&mut cluster, up, &lock);
    if let Err(error) = made {
        let logs = cluster.dir.join("logs");
        let cleaned = remains::end().and_then(|()| remains::remove());
        return Err(match cleaned {
            Ok(()) => error,
            Err(also) => error.context(format!("cleaning up failed as well: {also:#}")),
        })
        .with_context(|| {
            format!(
                "no cluster; the logs of its programs are in {}",
                logs.display()
            )
        });
    }
    println!(
        "cluster: Kubernetes {} with {} {} is up after {:.1} s; `cargo xtask cluster shell` leads into it",
        programs::KUBERNETES,
        up.nodes,
        if up.nodes == 1 { "node" } else { "nodes" },
        started.elapsed().as_secs_f64(),
    );
    Ok(())
}

fn bring_up(cluster: &mut Cluster, up: &Up, lock: &File) -> Result<()> {
    remains::make_folders(&cluster.dir)?;
    for number in 1..=up.nodes {
        cluster.nodes.push(node::hold(cluster, number)?);
    }
    cluster.save()?;
    node::write_nft(cluster)?;
    let nodes = node::Setup::all(cluster);
    for node in &nodes {
        node.disk_and_network()?;
    }
    control::credentials(cluster)?;
    control::start_api(cluster)?;
    for node in &nodes {
        node.start_containerd()?;
    }
    for node in &nodes {
        node.wait_for_containerd()?;
        for archive in &up.prepared.images {
            cluster.load(node.node, archive)?;
        }
    }
    control::wait_for_api(cluster)?;
    control::start_controllers(cluster)?;
    for node in &nodes {
        node.start_kubelet()?;
    }
    control::wait_for_nodes(cluster)?;
    hand_over(cluster, lock)
}

/// Whoever has the lock has a cluster: gives it to a process that ends with the cluster. Not before all is up: when this
/// program is killed on the way, the lock is free, and the next start removes what is left.
fn hand_over(cluster: &Cluster, lock: &File) -> Result<()> {
    let node = cluster.first()?;
    let mut keeper = cluster.command(node, "sleep");
    keeper.arg("infinity");
    fcntl_setfd(lock, FdFlags::empty()).context("failed to hand the lock over")?;
    let launched = node::launch(keeper, &node::log(cluster, &node.name, "lock")?);
    fcntl_setfd(lock, FdFlags::CLOEXEC).context("failed to keep the lock")?;
    node::wait_for_sleep(launched?)
}

/// The right to have a cluster on this machine; where somebody else has it, that is said once and waited for.
fn lock(patience: Duration) -> Result<File> {
    let start = Instant::now();
    let mut said = false;
    loop {
        if let Some(lock) = try_lock()? {
            return Ok(lock);
        }
        let other = || {
            let whose = Cluster::running().map_or_else(
                // One that is being started, too, has not said yet whose it is.
                |_| "another cache's, or not up yet".to_owned(),
                |cluster| format!("that of the checkout {}", cluster.checkout.display()),
            );
            format!("this machine has a cluster already, {whose}")
        };
        ensure!(
            start.elapsed() < patience,
            "{}; `cargo xtask cluster down` there ends it",
            other()
        );
        if !std::mem::replace(&mut said, true) {
            eprintln!(
                "cluster: waiting {} s at most: {}",
                patience.as_secs(),
                other()
            );
        }
        check_interrupted()?;
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The same when nobody has it.
fn try_lock() -> Result<Option<File>> {
    let lock = File::create(LOCK).with_context(|| format!("failed to open {LOCK}"))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("failed to lock {LOCK}"))
        }
    }
}

/// Ends the cluster of this checkout, through sudo where root is somebody else.
pub(crate) fn take_down() -> Result<()> {
    if process::is_root() {
        return down(false);
    }
    Run::own(["cluster", "down"])?.rooted().run()
}

/// Ends the cluster. Needs no other program: it works also while this one is being ended.
fn down(force: bool) -> Result<()> {
    let free = match Cluster::running() {
        Ok(cluster) => {
            ensure!(
                force || cluster.checkout == places::root(),
                "the cluster is that of the checkout {}; --force ends it all the same",
                cluster.checkout.display()
            );
            None
        }
        Err(error) => {
            let free = try_lock()?;
            ensure!(
                force || free.is_some(),
                "this machine has a cluster, but none that {} knows: another cache's, or one that is not up yet; \
                 --force ends it all the same ({error:#})",
                Cluster::folder().display()
            );
            free.map(OwnedFd::from)
        }
    };
    // Somebody may be waiting for this one's end; it comes when nothing is left.
    let held = free.or_else(share_lock);
    remains::end()?;
    let _lock = match held {
        Some(lock) => lock,
        None => lock(Duration::from_secs(2))?.into(),
    };
    remains::remove()
}

/// The lock that a process of the cluster holds: to be held beyond its end.
fn share_lock() -> Option<OwnedFd> {
    let daemons = Mounts::read().ok()?.dir(DAEMONS).join("cgroup.procs");
    let of_process = |pid: &str| {
        let mut fds = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        let fd = fds.find(|fd| fs::read_link(fd.path()).is_ok_and(|of| of == Path::new(LOCK)))?;
        let number = fd.file_name().to_str()?.parse().ok()?;
        let process = pidfd_open(Pid::from_raw(pid.parse().ok()?)?, PidfdFlags::empty()).ok()?;
        pidfd_getfd(process, number, PidfdGetfdFlags::empty()).ok()
    };
    fs::read_to_string(daemons)
        .ok()?
        .lines()
        .find_map(of_process)
}

fn load_images(archives: &[PathBuf]) -> Result<()> {
    let cluster = Cluster::running()?;
    for node in &cluster.nodes {
        for archive in archives {
            cluster.load(node, archive)?;
        }
    }
    Ok(())
}

fn shell(shell: &Shell) -> Result<()> {
    let cluster = Cluster::running()?;
    let node = shell.node.checked_sub(1);
    let node = node.and_then(|at| cluster.nodes.get(at)).with_context(|| {
        format!(
            "there is no node {}; the cluster has {}",
            shell.node,
            cluster.nodes.len()
        )
    })?;
    let login = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
    let (program, args) = match shell.command.split_first() {
        Some((program, args)) => (program.as_str(), args),
        None => (login.as_str(), &[][..]),
    };
    let mut command = cluster.command(node, program);
    Err(command.args(args).exec()).context("failed to start a shell")
}
