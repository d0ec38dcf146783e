//! The Kubernetes cluster of `cargo xtask cluster`, as those see it who use it: where it is, how to get into it.
//!
//! A node is a network and a mount namespace of this machine, held open by one process. Everything that belongs to the
//! cluster, containers included, lies below one control group, so that one write ends it.

use crate::cgroup::Mounts;
use crate::process;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The control group of the cluster.
pub const GROUP: &str = "/seccast-cluster";

/// Below it, the group of all that is no container.
pub const DAEMONS: &str = "/seccast-cluster/daemons";

/// The image of the container that holds a Pod's namespaces: busybox, asleep.
pub const PAUSE: &str = "localhost/pause:1";

/// The image of busybox, with all applets in `/bin`.
pub const BUSYBOX: &str = "localhost/busybox:1";

/// The image of redis, with its tools in `/usr/bin`.
pub const REDIS: &str = "localhost/redis:1";

/// The image of seccast, as manifests call it. The tag is not `latest`, so that a kubelet never asks a registry for it.
pub const SECCAST: &str = "localhost/seccast:dev";

/// One node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name in the API.
    pub name: String,
    /// The process that holds its namespaces.
    pub pid: u32,
}

/// A cluster that runs.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The folder of its files: logs, credentials, the nodes' disks.
    pub dir: PathBuf,
    /// The folder of its programs, kubectl and ctr among them.
    pub programs: PathBuf,
    /// The checkout whose `cargo xtask cluster up` made it.
    pub checkout: PathBuf,
    /// Its nodes by number, the control plane's first.
    pub nodes: Vec<Node>,
    daemons: PathBuf,
}

impl Cluster {
    /// One that is about to be made.
    pub fn new(programs: PathBuf, checkout: PathBuf) -> Result<Self> {
        Ok(Self {
            dir: Self::folder(),
            programs,
            checkout,
            nodes: Vec::new(),
            daemons: Mounts::read()?.dir(DAEMONS),
        })
    }

    /// Where the one cluster of this machine lies.
    #[must_use]
    pub fn folder() -> PathBuf {
        crate::cache_dir().join("cluster")
    }

    /// The cluster that runs on this machine; an error that says how to start one where there is none.
    pub fn running() -> Result<Self> {
        let file = Self::folder().join("state.json");
        let start = "no cluster is up; `cargo xtask cluster up` starts one";
        let text = fs::read(&file).with_context(|| format!("{start} ({})", file.display()))?;
        let state: Value = serde_json::from_slice(&text)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let node = |node: &Value| Node {
            name: text(&node["name"]),
            pid: node["pid"].as_u64().unwrap_or_default() as u32,
        };
        let nodes = state["nodes"].as_array().context("a state without nodes")?;
        let mut cluster = Self::new(
            text(&state["programs"]).into(),
            text(&state["checkout"]).into(),
        )?;
        cluster.nodes = nodes.iter().map(node).collect();
        ensure!(
            !cluster.nodes.is_empty(),
            "{start}: the last one has no node"
        );
        for node in &cluster.nodes {
            // The number may be another process's by now.
            let groups = fs::read_to_string(format!("/proc/{}/cgroup", node.pid));
            let held = groups.is_ok_and(|groups| groups.contains(DAEMONS));
            ensure!(held, "{start}: {} of the last one is gone", node.name);
        }
        Ok(cluster)
    }

    /// Writes down what [`Self::running`] finds.
    pub fn save(&self) -> Result<()> {
        let node = |node: &Node| json!({ "name": node.name, "pid": node.pid });
        let state = json!({
            "programs": self.programs,
            "checkout": self.checkout,
            "nodes": self.nodes.iter().map(node).collect::<Vec<_>>(),
        });
        let file = self.dir.join("state.json");
        fs::write(&file, state.to_string())
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// The kubeconfig of a member of `system:masters`.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig_of("admin")
    }

    /// The kubeconfig of one of the cluster's own users.
    #[must_use]
    pub fn kubeconfig_of(&self, user: &str) -> PathBuf {
        self.dir.join(format!("{user}.kubeconfig"))
    }

    /// A command on a node: in its namespaces and in the cluster's control group, with the cluster's programs first in
    /// `$PATH` and `$KUBECONFIG` set. Its folder is the caller's.
    #[must_use]
    pub fn command(&self, node: &Node, program: impl AsRef<std::ffi::OsStr>) -> Command {
        // Shell, because between fork and exec Rust offers only what is unsafe.
        const JOIN: &str = r#"echo $$ >"$0/cgroup.procs" && exec nsenter "$@""#;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let system = "/usr/local/sbin:/usr/sbin:/sbin";
        let path = format!(
            "{}:{}:{}:{system}",
            self.programs.display(),
            self.dir.join("tools").display(),
            path.to_string_lossy()
        );
        let mut command = Command::new("sh");
        command
            .args(["-c", JOIN])
            .arg(&self.daemons)
            .arg(format!("--target={}", node.pid))
            .args(["--mount", "--net"]);
        if let Ok(here) = std::env::current_dir() {
            command.arg(format!("--wdns={}", here.display()));
        }
        command.arg("--").arg(program);
        command.env("PATH", path);
        command.env("KUBECONFIG", self.kubeconfig());
        command
    }

    /// The node with the control plane.
    pub fn first(&self) -> Result<&Node> {
        self.nodes.first().context("a cluster without a node")
    }

    /// kubectl on the first node, as an administrator.
    #[must_use]
    pub fn kubectl(&self) -> Command {
        // Before there is a node: not the user's kubectl, which may have another cluster.
        let nowhere = || Command::new(self.programs.join("kubectl"));
        let mut kubectl = self
            .first()
            .map_or_else(|_| nowhere(), |node| self.command(node, "kubectl"));
        kubectl.env("KUBECONFIG", self.kubeconfig());
        kubectl
    }

    /// Loads an archive of an image into a node's containerd, where the kubelet looks.
    pub fn load(&self, node: &Node, archive: &Path) -> Result<()> {
        let mut ctr = self.command(node, "ctr");
        ctr.args(["--namespace=k8s.io", "images", "import", "--local"]);
        process::check(ctr.arg(archive), Duration::from_secs(60))
            .with_context(|| format!("cannot load {} on {}", archive.display(), node.name))
            .map(drop)
    }

    /// A file or folder of a node, seen from outside: `/var/lib/kubelet/seccomp` and all else that a node has for itself.
    #[must_use]
    pub fn disk(&self, node: &Node, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        let disk = self.dir.join(&node.name).join("disk");
        disk.join(path.strip_prefix("/").unwrap_or(path))
    }
}
