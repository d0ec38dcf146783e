//! Tests in a real Kubernetes: what they share.
//!
//! A test takes [`cluster`] first, which panics where no cluster is up, and then a [`Namespace`] of its own, which is
//! gone when the test is over. Every wait is bounded; whatever fails panics with all that was said.
//!
//! ```no_run
//! let cluster = seccast_e2e::cluster();
//! let space = cluster.namespace("hello");
//! space.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: …");
//! space.ready("web");
//! assert_eq!(space.exec("web", "app", &["/bin/echo", "yes"]), "yes\n");
//! let pid = space.pid("web", "app"); // on this machine, so /proc/PID is the container's
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests are tests, and a test fails by panicking"
)]

use seccast_pages::repository;
use seccast_rig::cgroup::Mounts;
use seccast_rig::cluster::{Cluster, Node};
use seccast_rig::oci::Image;
use seccast_rig::process::{self, Output};
use seccast_rig::{Lock, lock};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub use seccast_rig::cluster::{BUSYBOX, REDIS, SECCAST};

/// Longest time that one command may take on a busy machine.
pub const COMMAND: Duration = Duration::from_secs(60);

/// Longest time that something may take to come about: a Pod to be ready, a rollout, a file on a node.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Where Kubernetes looks for profiles on a node.
pub const SECCOMP: &str = "/var/lib/kubelet/seccomp";

/// The key of the taint that agents take off their nodes.
pub const TAINT: &str = "seccast.dev/profiles";

/// That taint as a kubelet registers a new node with it.
pub const MISSING: &str = "seccast.dev/profiles=missing:NoSchedule";

/// The cluster that is up; no other test uses it while it is held.
#[derive(Debug)]
pub struct Fixture {
    cluster: Cluster,
    _lock: Lock,
}

/// Waits until no other test uses the cluster.
///
/// # Panics
/// When no cluster is up: these tests have nothing to fall back on, and never skip.
#[must_use]
pub fn cluster() -> Fixture {
    let lock = lock::in_cluster().unwrap();
    match Cluster::running() {
        Ok(cluster) => Fixture {
            cluster,
            _lock: lock,
        },
        Err(error) => panic!("{error:#}\n`cargo xtask e2e` starts one for these tests"),
    }
}

/// The seccast under test, on this machine: `$SECCAST_BIN`.
///
/// # Panics
/// When the variable is not set.
#[must_use]
pub fn seccast() -> PathBuf {
    let binary = std::env::var_os("SECCAST_BIN");
    binary
        .expect("SECCAST_BIN names no seccast; `cargo xtask e2e` sets it")
        .into()
}

/// Where the nodes have their cgroup2 mounted, which is where this machine has it.
#[must_use]
pub fn unified() -> PathBuf {
    Mounts::read().unwrap().unified
}

impl Fixture {
    /// Node 1 or 2.
    #[must_use]
    pub fn node(&self, number: usize) -> &Node {
        let count = self.cluster.nodes.len();
        let node = number.checked_sub(1).and_then(|at| self.nodes.get(at));
        node.unwrap_or_else(|| panic!("no node {number}: the cluster has {count}"))
    }

    /// Runs a command on a node and returns what it wrote to stdout.
    pub fn on(&self, node: &Node, words: &[&str]) -> String {
        let mut command = self.command(node, words[0]);
        process::check(command.args(&words[1..]), COMMAND)
            .unwrap()
            .stdout
    }

    /// The seccast under test on a node, to be completed; as root, outside of any container.
    #[must_use]
    pub fn seccast(&self, node: &Node) -> Command {
        self.command(node, seccast())
    }

    /// Runs the seccast under test on the first node, whatever becomes of it, and prints what was said.
    pub fn run(&self, words: &[&str]) -> Output {
        // `attach` waits for a rollout.
        let rollout = words.first() == Some(&"attach");
        let limit = if rollout { PATIENCE + COMMAND } else { COMMAND };
        let mut command = self.seccast(self.node(1));
        let output = process::output(command.args(words), limit).unwrap();
        let (stdout, stderr) = (&output.stdout, &output.stderr);
        println!("$ seccast {}\n{stdout}{stderr}", words.join(" "));
        output
    }

    /// Runs kubectl and returns what it wrote to stdout.
    pub fn kubectl(&self, words: &[&str]) -> String {
        process::check(self.cluster.kubectl().args(words), COMMAND)
            .unwrap()
            .stdout
    }

    /// Runs kubectl, whatever becomes of it.
    pub fn try_kubectl(&self, words: &[&str]) -> Output {
        process::output(self.cluster.kubectl().args(words), COMMAND).unwrap()
    }

    /// Loads an image on every node.
    pub fn load(&self, image: &Image) {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("image.tar");
        image.write(&archive).unwrap();
        for node in &self.nodes {
            self.cluster.load(node, &archive).unwrap();
        }
    }

    /// Writes a profile by hand, as `localhostProfile: REL` finds it on every node.
    pub fn write_profile(&self, rel: &str, profile: &Value) {
        for node in &self.nodes {
            let file = self.disk(node, SECCOMP).join(rel);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, profile.to_string()).unwrap();
        }
    }

    /// Removes all profiles that seccast has put on the nodes: agents leave what they put.
    pub fn remove_profiles(&self) {
        for node in &self.nodes {
            for folder in ["seccast", "agent"] {
                let _ = fs::remove_dir_all(self.disk(node, SECCOMP).join(folder));
            }
        }
    }

    /// Writes a kubeconfig of whoever has this token.
    pub fn kubeconfig_with(&self, token: &str, file: &Path) {
        let view = ["config", "view", "--raw", "--minify", "--flatten"];
        let config = self.kubectl(&[&view[..], &["-o", "json"]].concat());
        let mut config: Value = serde_json::from_str(&config).unwrap();
        config["users"][0]["user"] = json!({ "token": token.trim() });
        fs::write(file, config.to_string()).unwrap();
    }

    /// Lets a service account `NAMESPACE:NAME` do this in the whole cluster, until what is returned is dropped.
    #[must_use]
    pub fn grant(&self, role: &str, verb: &str, resource: &str, account: &str) -> Right<'_> {
        self.revoke(role);
        let right = Right {
            cluster: self,
            role: role.to_owned(),
        };
        let [verb, resource] = [format!("--verb={verb}"), format!("--resource={resource}")];
        self.kubectl(&["create", "clusterrole", role, &verb, &resource]);
        let of = format!("--clusterrole={role}");
        let account = format!("--serviceaccount={account}");
        self.kubectl(&["create", "clusterrolebinding", role, &of, &account]);
        right
    }

    /// Ends what [`Self::grant`] began, also in a run that was interrupted.
    pub fn revoke(&self, role: &str) {
        for kind in ["clusterrolebinding", "clusterrole"] {
            self.try_kubectl(&["delete", kind, role, "--ignore-not-found"]);
        }
    }

    /// Gives a node a taint, `KEY=VALUE:EFFECT`, until what is returned is dropped: no test may leave a closed node.
    #[must_use]
    pub fn taint(&self, node: &str, taint: &str) -> Tainted<'_> {
        let (key, _) = taint.split_once('=').unwrap();
        let tainted = Tainted {
            cluster: self,
            words: ["taint", "node", node, &format!("{key}-")].map(str::to_owned),
        };
        self.kubectl(&["taint", "node", node, taint, "--overwrite"]);
        tainted
    }

    /// The agents of a kustomization, `deploy/kustomize` for example, on nodes without profiles.
    #[must_use]
    pub fn agents(&self, kustomization: &Path) -> Agents<'_> {
        let agents = Agents(self.namespace("seccast"));
        self.remove_profiles();
        agents.change(kustomization);
        agents
    }

    /// A namespace for one test; one that an interrupted run has left is removed first.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Namespace<'_> {
        self.kubectl(&["delete", "namespace", name, "--ignore-not-found", "--wait"]);
        self.kubectl(&["create", "namespace", name]);
        let space = Namespace {
            cluster: self,
            name: name.to_owned(),
        };
        // No Pod can be made before it is there.
        space.until("the default service account", || {
            let account = space.try_kubectl(&["get", "serviceaccount", "default"]);
            account.status.success().then_some(())
        });
        space
    }
}

impl Deref for Fixture {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

/// A right that lasts as long as this.
#[derive(Debug)]
pub struct Right<'a> {
    cluster: &'a Fixture,
    role: String,
}

impl Drop for Right<'_> {
    fn drop(&mut self) {
        self.cluster.revoke(&self.role);
    }
}

/// A taint that lasts as long as this, unless it is taken off before.
#[derive(Debug)]
pub struct Tainted<'a> {
    cluster: &'a Fixture,
    words: [String; 4],
}

impl Drop for Tainted<'_> {
    fn drop(&mut self) {
        // One that is gone already is an error of kubectl's.
        let mut kubectl = self.cluster.cluster.kubectl();
        let _ = process::output(kubectl.args(&self.words), COMMAND);
    }
}

/// The agents of a DaemonSet as in `deploy/kustomize`; gone with their namespace.
#[derive(Debug)]
pub struct Agents<'a>(Namespace<'a>);

impl<'a> Deref for Agents<'a> {
    type Target = Namespace<'a>;

    fn deref(&self) -> &Namespace<'a> {
        &self.0
    }
}

impl Agents<'_> {
    /// What all of them have.
    pub const LABEL: &'static str = "app.kubernetes.io/name=seccast";

    /// The folder that users have.
    #[must_use]
    pub fn kustomization() -> PathBuf {
        repository().join("deploy/kustomize")
    }

    /// Makes them what another kustomization says.
    pub fn change(&self, kustomization: &Path) {
        let folder = kustomization.to_str().unwrap();
        self.cluster.kubectl(&["apply", "-k", folder]);
        self.rolled_out("daemonset/seccast");
    }

    /// The Pod on a node, once it is ready.
    pub fn on(&self, node: &str) -> String {
        self.until(&format!("an agent on {node}"), || {
            let ready = |pod: &Value| {
                pod["spec"]["nodeName"] == node
                    && pod["status"]["containerStatuses"][0]["ready"] == true
            };
            self.live(Self::LABEL)
                .iter()
                .find(|pod| ready(pod))
                .map(name)
        })
    }
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

/// A recording under way; ended on drop.
#[derive(Debug)]
pub struct Recording {
    child: Child,
    folder: tempfile::TempDir,
}

impl Recording {
    /// Starts it and waits until it is armed.
    pub fn arm(command: &mut Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| File::create(folder.path().join(name)).unwrap();
        command.stdin(Stdio::null());
        let child = command
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .unwrap();
        let recording = Self { child, folder };
        process::poll("armed", PATIENCE, || {
            Ok(recording.read("err").contains("armed after"))
        })
        .unwrap_or_else(|error| panic!("{error:#}: {}", recording.read("err")));
        recording
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.path().join(file)).unwrap()
    }

    /// Waits until it has ended by itself, and prints what it said.
    pub fn end(mut self) -> Output {
        let status = process::wait(&mut self.child, PATIENCE).unwrap();
        let stderr = self.read("err");
        println!("{stderr}");
        Output {
            status: status.unwrap_or_else(|| panic!("it goes on: {stderr}")),
            stdout: self.read("out"),
            stderr,
        }
    }

    /// Ends it by SIGTERM, which a command on a node gets itself, and prints what it said.
    pub fn stop(self) -> Output {
        const SIGTERM: i32 = 15;
        process::signal(self.child.id().cast_signed(), SIGTERM).unwrap();
        self.end()
    }

    /// The same with 0; what it wrote to stdout.
    pub fn done(self) -> String {
        let output = self.end();
        expect(&output, 0, &[]);
        output.stdout
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A namespace of the cluster; all that is in it goes with it.
#[derive(Debug)]
pub struct Namespace<'a> {
    cluster: &'a Fixture,
    name: String,
}

impl Namespace<'_> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs kubectl in this namespace and returns what it wrote to stdout.
    pub fn kubectl(&self, words: &[&str]) -> String {
        self.cluster.kubectl(&self.words(words))
    }

    /// Runs kubectl in this namespace, whatever becomes of it.
    pub fn try_kubectl(&self, words: &[&str]) -> Output {
        self.cluster.try_kubectl(&self.words(words))
    }

    fn words<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        // First, so that it is not taken for a word of a command that kubectl hands on.
        [&["--namespace", self.name.as_str()][..], words].concat()
    }

    /// Applies manifests, YAML or JSON.
    pub fn apply(&self, manifests: &str) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("manifests.yaml");
        fs::write(&file, manifests).unwrap();
        self.kubectl(&["apply", "--filename", file.to_str().unwrap()]);
    }

    /// Makes a Pod of one container `app`, which nothing restarts, with these fields of the container beside its image.
    pub fn pod(&self, name: &str, image: &str, container: Value) {
        let mut app = json!({ "name": "app", "image": image });
        let fields = app.as_object_mut().unwrap();
        fields.extend(container.as_object().unwrap().clone());
        self.make_pod(name, &json!({ "containers": [app] }));
    }

    /// Makes a Pod of this `spec`, which nothing restarts, and which ends at once when it is removed.
    pub fn make_pod(&self, name: &str, spec: &Value) {
        let mut spec = spec.clone();
        let fields = spec.as_object_mut().unwrap();
        for (field, value) in [
            ("restartPolicy", json!("Never")),
            ("terminationGracePeriodSeconds", json!(0)),
        ] {
            fields.entry(field).or_insert(value);
        }
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name, "labels": { "app": name } },
            "spec": spec,
        });
        self.apply(&pod.to_string());
    }

    /// An object as the API server has it, for example `get("pod/web")`.
    pub fn get(&self, object: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", object, "-o", "json"])).unwrap()
    }

    /// Asks until there is an answer.
    ///
    /// # Panics
    /// After two minutes, with what the namespace's Pods look like and what happened there.
    pub fn until<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            if start.elapsed() > PATIENCE {
                let pods = self.try_kubectl(&["get", "pods", "-o", "wide"]).stdout;
                let events = ["get", "events", "--sort-by=.lastTimestamp"];
                let events = self.try_kubectl(&events).stdout;
                panic!("waited {PATIENCE:?} for {what}\n{pods}\n{events}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until a Pod is ready.
    pub fn ready(&self, pod: &str) {
        self.until(&format!("Pod {pod} to be ready"), || {
            let pod = self.get(&format!("pod/{pod}"));
            let conditions = pod["status"]["conditions"].as_array()?;
            let ready = |of: &Value| of["type"] == "Ready" && of["status"] == "True";
            conditions.iter().any(ready).then_some(())
        });
    }

    /// Waits until a Deployment, DaemonSet or StatefulSet such as `deploy/web` has rolled out.
    pub fn rolled_out(&self, workload: &str) {
        let words = ["rollout", "status", workload, "--timeout=120s"];
        let mut kubectl = self.cluster.cluster.kubectl();
        process::check(kubectl.args(self.words(&words)), PATIENCE + COMMAND).unwrap();
    }

    /// Waits until a Pod is over, and returns its phase: `Succeeded` or `Failed`.
    pub fn ended(&self, pod: &str) -> String {
        self.until(&format!("Pod {pod} to end"), || {
            let pod = self.get(&format!("pod/{pod}"));
            let phase = pod["status"]["phase"].as_str()?;
            matches!(phase, "Succeeded" | "Failed").then(|| phase.to_owned())
        })
    }

    /// What a container has written.
    pub fn logs(&self, pod: &str, container: &str) -> String {
        self.kubectl(&["logs", pod, "--container", container])
    }

    /// Runs a command in a container and returns what it wrote to stdout.
    pub fn exec(&self, pod: &str, container: &str, words: &[&str]) -> String {
        self.kubectl(&[&["exec", pod, "--container", container, "--"], words].concat())
    }

    /// Runs a command in a container, whatever becomes of it.
    pub fn try_exec(&self, pod: &str, container: &str, words: &[&str]) -> Output {
        self.try_kubectl(&[&["exec", pod, "--container", container, "--"], words].concat())
    }

    /// The names of the Pods with this label, for example `app=web`.
    pub fn pods(&self, label: &str) -> Vec<String> {
        let names = ["get", "pods", "-l", label, "-o", "name"];
        let names = self.kubectl(&names);
        let name = |line: &str| line.trim_start_matches("pod/").to_owned();
        names.lines().map(name).collect()
    }

    /// The names of those of them that are not on their way out.
    pub fn live_pods(&self, label: &str) -> BTreeSet<String> {
        self.live(label).iter().map(name).collect()
    }

    fn live(&self, label: &str) -> Vec<Value> {
        let pods = self.kubectl(&["get", "pods", "-l", label, "-o", "json"]);
        let mut pods: Value = serde_json::from_str(&pods).unwrap();
        let mut pods = std::mem::take(pods["items"].as_array_mut().unwrap());
        pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        pods
    }

    /// The node on which a Pod is.
    #[must_use]
    pub fn node_of(&self, pod: &str) -> &Node {
        let name = self.get(&format!("pod/{pod}"))["spec"]["nodeName"].clone();
        let node = self.cluster.nodes.iter().find(|node| name == node.name);
        node.unwrap_or_else(|| panic!("Pod {pod} is on no node of ours: {name}"))
    }

    /// The 64 hexadecimal digits of a container, of whatever kind; empty before it is made.
    pub fn container_id(&self, pod: &str, container: &str) -> String {
        let status = self.get(&format!("pod/{pod}"))["status"].clone();
        let lists = [
            "containerStatuses",
            "initContainerStatuses",
            "ephemeralContainerStatuses",
        ];
        let all = lists.iter().filter_map(|list| status[list].as_array());
        let found = all.flatten().find(|of| of["name"] == container);
        let id = found.and_then(|of| of["containerID"].as_str());
        id.unwrap_or_default()
            .trim_start_matches("containerd://")
            .to_owned()
    }

    /// The first process of a container that runs, by its number on this machine.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self, pod: &str, container: &str) -> u32 {
        let id = self.container_id(pod, container);
        let node = self.node_of(pod);
        let tasks = ["ctr", "--namespace=k8s.io", "tasks", "list"];
        let tasks = self.cluster.on(node, &tasks);
        let pid = tasks.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some(id.as_str())).then(|| words.next())?
        });
        let pid = pid.and_then(|pid| pid.parse().ok());
        pid.unwrap_or_else(|| panic!("{container} of {pod} ({id}) does not run:\n{tasks}"))
    }

    /// A line of `/proc/PID/status` of a container's first process, for example `Seccomp`, `CapEff`, `NoNewPrivs`.
    pub fn status(&self, pod: &str, container: &str, field: &str) -> String {
        let file = format!("/proc/{}/status", self.pid(pod, container));
        let status = fs::read_to_string(&file).unwrap();
        let of = |line: &str| {
            Some(
                line.strip_prefix(field)?
                    .strip_prefix(':')?
                    .trim()
                    .to_owned(),
            )
        };
        let value = status.lines().find_map(of);
        value.unwrap_or_else(|| panic!("{file} has no {field}"))
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        // What the containers said would be gone otherwise.
        if std::thread::panicking() {
            let all = self.try_kubectl(&["get", "all", "-o", "wide"]);
            eprintln!("{}{}", all.stdout, all.stderr);
        }
        let mut kubectl = self.cluster.cluster.kubectl();
        kubectl.args(["delete", "namespace", &self.name, "--wait=false"]);
        // One that stays disturbs nobody.
        let _ = process::output(&mut kubectl, COMMAND);
    }
}

/// It has to have ended with this code, and to have said all of this.
pub fn expect(output: &Output, code: i32, says: &[&str]) {
    let (status, stderr) = (output.status, &output.stderr);
    assert_eq!(status.code(), Some(code), "{stderr}");
    for words in says {
        assert!(stderr.contains(words), "nothing of {words:?}:\n{stderr}");
    }
}

/// A profile that allows everything, with one exception: `name` returns the error `errno`.
#[must_use]
pub fn all_but(name: &str, errno: u32) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": errno }],
    })
}
