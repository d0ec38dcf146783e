//! A node: namespaces of its own, and in them containerd, kube-proxy and the kubelet.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use seccast_rig::cgroup::Mounts;
use seccast_rig::cluster::{Cluster, DAEMONS, GROUP, Node, PAUSE};
use seccast_rig::process::{check, poll};
use seccast_rig::rootfs;

use super::remains::{FOLDERS, LOGS};
use crate::process::check_interrupted;

/// kube-proxy's tool with what it loads; unpacked, since the package would install a service.
const NFT: &[&str] = &[
    "nftables",
    "libnftables1",
    "libnftnl11",
    "libmnl0",
    "libgmp10",
    "libjansson4",
    "libedit2",
    "libbsd0",
    "libmd0",
    "libtinfo6",
    "libxtables12",
];

/// Where the control plane listens: the first node.
pub(super) const CONTROL: &str = "10.234.1.1";

/// The tree of nft in the cache.
pub(super) fn nft() -> Result<PathBuf> {
    rootfs::from_packages("nft", NFT, &[]).context("failed to fetch nft, which kube-proxy needs")
}

/// Makes a node's control groups and the process that holds its namespaces.
pub(super) fn hold(cluster: &Cluster, number: u8) -> Result<Node> {
    let name = format!("node{number}");
    groups(&name)?;
    // The rest of the machine does not see what is mounted in there.
    const HOLD: &str = r#"echo $$ >"$0/cgroup.procs" && exec unshare --net --mount --propagation private sleep infinity"#;
    let daemons = Mounts::read()?.dir(DAEMONS);
    let mut command = Command::new("sh");
    command.args(["-c", HOLD]).arg(daemons);
    let pid = launch(command, &log(cluster, &name, "namespaces")?)?;
    wait_for_sleep(pid)?;
    Ok(Node { name, pid })
}

/// Waits until a process that is to hold something has come as far as that: into its group and its namespaces.
pub(super) fn wait_for_sleep(pid: u32) -> Result<()> {
    poll(
        "a process to hold the cluster",
        Duration::from_secs(10),
        || {
            check_interrupted()?;
            let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
            Ok(comm.is_ok_and(|comm| comm == "sleep\n"))
        },
    )
}

/// The node's groups in every hierarchy: kubelets must not share one, each removes the Pods that it does not know.
fn groups(name: &str) -> Result<()> {
    let mounts = Mounts::read()?;
    make_group(&mounts.dir(DAEMONS))?;
    let node = format!("{GROUP}/{name}");
    for mount in std::iter::once(&mounts.unified).chain(&mounts.legacy) {
        for path in [GROUP, &node] {
            let dir = mount.join(path.trim_start_matches('/'));
            make_group(&dir)?;
            // A new group of a v1 cpuset has no processors, and nothing can be moved into it.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if mounts.legacy.contains(mount) && dir.join(file).exists() {
                    let above = dir.parent().unwrap_or(mount).join(file);
                    fs::write(dir.join(file), fs::read(&above)?)
                        .with_context(|| format!("failed to fill {file} of {path}"))?;
                }
            }
        }
    }
    if mounts.legacy.is_empty() {
        for dir in [mounts.unified.clone(), mounts.dir(GROUP)] {
            let controllers = fs::read_to_string(dir.join("cgroup.controllers"))?;
            for controller in controllers.split_whitespace() {
                // Not all can be handed on; the kubelet names one that it misses.
                let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
    }
    Ok(())
}

fn make_group(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))
}

/// Starts a daemon: what it says goes to the log, and Ctrl-C of a terminal does not reach it. Returns its pid.
pub(super) fn launch(mut command: Command, log: &File) -> Result<u32> {
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .process_group(0);
    // Not waited for: the cluster outlives this program.
    let child = command
        .spawn()
        .with_context(|| format!("failed to start {command:?}"))?;
    Ok(child.id())
}

/// Starts one of the cluster's programs on a node, for as long as the cluster is up.
pub(super) fn daemon(cluster: &Cluster, node: &Node, program: &str, args: &[&str]) -> Result<()> {
    let mut command = cluster.command(node, program);
    command.args(args);
    launch(command, &log(cluster, &node.name, program)?).map(drop)
}

/// The log of one program on a node.
pub(super) fn log(cluster: &Cluster, node: &str, program: &str) -> Result<File> {
    let dir = cluster.dir.join(LOGS);
    fs::create_dir_all(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
    let file = dir.join(format!("{node}-{program}.log"));
    File::create(&file).with_context(|| format!("failed to write {}", file.display()))
}

/// A node that is being set up.
pub(super) struct Setup<'a> {
    cluster: &'a Cluster,
    pub(super) node: &'a Node,
    number: usize,
    dir: PathBuf,
}

impl<'a> Setup<'a> {
    pub(super) fn all(cluster: &'a Cluster) -> Vec<Self> {
        let setup = |(at, node): (usize, &'a Node)| Self {
            cluster,
            node,
            number: at + 1,
            dir: cluster.dir.join(&node.name),
        };
        cluster.nodes.iter().enumerate().map(setup).collect()
    }

    /// Gives the node its own folders and addresses: 10.234.N.1 for itself, 10.232.N.0/24 for its Pods.
    pub(super) fn disk_and_network(&self) -> Result<()> {
        let (number, node) = (self.number, self.node);
        let disk = self.dir.join("disk");
        fs::create_dir_all(&disk).with_context(|| format!("failed to make {}", disk.display()))?;
        let env = [("folders", FOLDERS.join(" ")), ("disk", text(&disk)?)];
        let script = |node: &Node, script: &str, env: &[(&str, String)]| {
            let mut sh = self.cluster.command(node, "sh");
            sh.args(["-euc", script]);
            sh.envs(env.iter().map(|(name, value)| (name, value)));
            check(&mut sh, Duration::from_secs(20))
                .with_context(|| format!("failed to set up {}", node.name))
        };
        script(node, include_str!("node.sh"), &env)?;
        if number == 1 {
            // Nobody is at the other end, but the kubelet and Services want a default route.
            let network = format!(
                "ip link add eth0 type veth peer name nobody; ip link set nobody up; ip link set eth0 up; \
                 ip addr add {CONTROL}/24 dev eth0; ip route add default via 10.234.1.2"
            );
            script(node, &network, &[])?;
            return Ok(());
        }
        let control = self.cluster.first()?;
        let outside = format!(
            "ip link add node{number} type veth peer name eth0 netns {}; ip link set node{number} up; \
             ip addr add 10.234.{number}.254/24 dev node{number}; ip route add 10.232.{number}.0/24 via 10.234.{number}.1",
            node.pid
        );
        script(control, &outside, &[])?;
        let inside = format!(
            "ip link set eth0 up; ip addr add 10.234.{number}.1/24 dev eth0; ip route add default via 10.234.{number}.254"
        );
        script(node, &inside, &[])?;
        Ok(())
    }

    pub(super) fn start_containerd(&self) -> Result<()> {
        let (bin, dir) = (text(&self.cluster.programs)?, text(&self.dir)?);
        // restrict_oom_score_adj: a machine without CAP_SYS_RESOURCE may not lower it.
        let config = format!(
            r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
grpc.address = "/run/containerd/containerd.sock"
[plugins]
"io.containerd.internal.v1.opt".path = "/var/lib/containerd/opt"
"io.containerd.cri.v1.images".pinned_images.sandbox = "{PAUSE}"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
cni = {{bin_dirs = ["{bin}"], conf_dir = "{dir}/cni"}}
containerd.runtimes.runc = {{runtime_type = "io.containerd.runc.v2", options = {{BinaryName = "{bin}/runc", SystemdCgroup = false}}}}
"#
        );
        let network = serde_json::json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": [
            { "type": "bridge", "bridge": "pods", "isGateway": true, "hairpinMode": true, "ipam": {
                "type": "host-local", "dataDir": format!("{dir}/addresses"),
                "routes": [{ "dst": "0.0.0.0/0" }],
                "ranges": [[{ "subnet": format!("10.232.{}.0/24", self.number) }]],
            }},
            { "type": "loopback" },
        ]});
        let config = self.file("containerd.toml", &config)?;
        self.file("cni/pods.conflist", &network.to_string())?;
        self.daemon("containerd", &["--config", &config])
    }

    pub(super) fn wait_for_containerd(&self) -> Result<()> {
        poll(
            &format!("containerd of {}", self.node.name),
            Duration::from_secs(30),
            || {
                check_interrupted()?;
                let mut ctr = self.cluster.command(self.node, "ctr");
                Ok(check(ctr.arg("version"), Duration::from_secs(10)).is_ok())
            },
        )
    }

    /// kube-proxy and the kubelet, once there is an API server.
    pub(super) fn start_kubelet(&self) -> Result<()> {
        let (name, all) = (&self.node.name, text(&self.cluster.dir)?);
        // Not JSON: what starts with a brace is taken for another kind of file. Connection tracking stays as it is.
        let proxy = format!(
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: 10.232.0.0/16
clientConnection: {{kubeconfig: {all}/proxy.kubeconfig}}
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
nodePortAddresses: [primary]
"
        );
        let proxy = self.file("proxy.yaml", &proxy)?;
        let override_name = format!("--hostname-override={name}");
        self.daemon("kube-proxy", &["--config", &proxy, &override_name])?;
        // Quick to notice things, and not picky about the machine: v1 groups, swap, no room on its disk.
        let kubelet = format!(
            "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupRoot: {GROUP}/{name}
enforceNodeAllocatable: []
volumePluginDir: /var/lib/kubelet/volumeplugins
protectKernelDefaults: true
makeIPTablesUtilChains: false
readOnlyPort: 0
address: 0.0.0.0
nodeStatusUpdateFrequency: 1s
syncFrequency: 2s
evictionHard: {{memory.available: 10Mi}}
imageGCHighThresholdPercent: 100
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {all}/keys/ca.crt}}}}
authorization: {{mode: Webhook}}
clusterDNS: [{CONTROL}]
clusterDomain: cluster.local
"
        );
        let config = self.file("kubelet.yaml", &kubelet)?;
        let kubeconfig = text(&self.cluster.kubeconfig_of(name))?;
        let address = format!("--node-ip=10.234.{}.1", self.number);
        let keys = format!("--cert-dir={}/keys", text(&self.dir)?);
        self.daemon(
            "kubelet",
            &[
                "--config",
                &config,
                "--kubeconfig",
                &kubeconfig,
                &override_name,
                &address,
                &keys,
            ],
        )
    }

    /// Writes a file of the node and returns its path.
    fn file(&self, name: &str, content: &str) -> Result<String> {
        let file = self.dir.join(name);
        let folder = file.parent().unwrap_or(&self.dir);
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&file, content))
            .with_context(|| format!("failed to write {}", file.display()))?;
        text(&file)
    }

    fn daemon(&self, program: &str, args: &[&str]) -> Result<()> {
        daemon(self.cluster, self.node, program, args)
    }
}

/// A path as a part of a configuration file.
pub(super) fn text(path: &Path) -> Result<String> {
    let text = path
        .to_str()
        .with_context(|| format!("{} is no text", path.display()))?;
    ensure!(
        !text.contains(['"', '\'', '\\', '\n', '{', '}', ',', '#', ':']),
        "{text} has characters that configuration files read otherwise; set SECCAST_CACHE to another folder"
    );
    Ok(text.to_owned())
}

/// Makes `nft` a command of the cluster's: the unpacked program with the unpacked libraries.
pub(super) fn write_nft(cluster: &Cluster) -> Result<()> {
    let tree = text(&nft()?)?;
    let libraries = format!("lib/{}-linux-gnu", std::env::consts::ARCH);
    let tools = cluster.dir.join("tools");
    let script = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH={tree}/usr/{libraries}:{tree}/{libraries} exec {tree}/usr/sbin/nft \"$@\"\n"
    );
    let file = tools.join("nft");
    fs::create_dir_all(&tools)
        .and_then(|()| fs::write(&file, script))
        .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("failed to write {}", file.display()))
}
