//! The whole story: an engineer records a Pod in staging through the DaemonSet, an admin ships the profile to every node by a
//! ConfigMap, the workload gets it, and its Pods run under it and under real load; then it is taken out again.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests, and a test fails by panicking"
)]

use anyhow::{Context as _, Result};
use seccast_e2e::{
    Agents, BUSYBOX, Fixture, Namespace, REDIS, Recording, SECCOMP, cluster, expect, unified,
};
use seccast_rig::cluster::{Cluster, Node};
use seccast_rig::{Server, load, process};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant, SystemTime},
};

/// Requests to each test of redis-benchmark.
const REQUESTS: u32 = 500;

/// The redis of a Pod, as its load sees it.
struct Redis<'a> {
    space: &'a Namespace<'a>,
    pod: String,
    pid: i32,
}

impl<'a> Redis<'a> {
    fn of(space: &'a Namespace<'a>, pod: &str) -> Self {
        let pid = i32::try_from(space.pid(pod, "redis")).unwrap();
        Self {
            space,
            pod: pod.to_owned(),
            pid,
        }
    }
}

impl Server for Redis<'_> {
    fn name(&self) -> &str {
        &self.pod
    }

    fn pid(&self) -> Result<i32> {
        Ok(self.pid)
    }

    fn cgroup_dir(&self) -> Result<PathBuf> {
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", self.pid))?;
        let path = groups.lines().find_map(|line| line.strip_prefix("0::"));
        let path = path.context("no cgroup2")?.trim_start_matches('/');
        Ok(unified().join(path))
    }

    /// Of the container that was worked, not of the one that follows it.
    fn log(&self) -> String {
        let logs = |words: &[&str]| {
            self.space
                .try_kubectl(&[&["logs", &self.pod, "-c", "redis"], words].concat())
                .stdout
        };
        let goodbye = || Some(logs(&["--previous"])).filter(|log| log.contains("ready to exit"));
        self.space.until("the log of a container that ended", || {
            goodbye().or_else(|| {
                Some(logs(&[])).filter(|log| self.alive() || log.contains("ready to exit"))
            })
        })
    }

    fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        Ok(None)
    }

    /// Its exit code is the kubelet's to know.
    fn wait(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        process::poll("redis to end", timeout, || Ok(!self.alive()))?;
        Ok(None)
    }
}

impl Redis<'_> {
    fn alive(&self) -> bool {
        Path::new(&format!("/proc/{}", self.pid)).exists()
    }
}

/// Every kind of command, snapshots, benchmarks, and an end by SIGTERM; every answer is checked.
fn work(space: &Namespace<'_>, pod: &str) {
    space.ready(pod);
    let began = Instant::now();
    load::redis(&mut Redis::of(space, pod), REQUESTS)
        .unwrap_or_else(|error| panic!("{pod}: {error:#}"));
    println!(
        "{pod}: the load passed, {:.1} s",
        began.elapsed().as_secs_f64()
    );
}

fn deployment() -> Value {
    let labels = json!({"app": "redis"});
    let command = "/usr/bin/redis-server --port 6379 --bind 127.0.0.1 --dir /data --hz 100 --dynamic-hz no --daemonize no";
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "redis"},
        "spec": {"replicas": 3, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "volumes": [{"name": "data", "emptyDir": {"medium": "Memory"}}, {"name": "tools", "emptyDir": {}}],
                // For a call that redis does not make: its image has nothing but redis.
                "initContainers": [{
                    "name": "tools", "image": BUSYBOX, "command": ["/bin/cp", "/bin/busybox", "/tools/busybox"],
                    "volumeMounts": [{"name": "tools", "mountPath": "/tools"}],
                }],
                "containers": [{
                    "name": "redis", "image": REDIS, "command": command.split(' ').collect::<Vec<_>>(),
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "tools", "mountPath": "/tools"}],
                    "securityContext": {"runAsUser": 999, "runAsGroup": 999, "allowPrivilegeEscalation": false},
                }],
                "topologySpreadConstraints": [{
                    "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": {"matchLabels": labels}, "matchLabelKeys": ["pod-template-hash"],
                }],
            },
        }},
    })
}

/// When the kubelet swapped the volume of an agent to its newest content, in seconds of the clock. It is a tmpfs of the node.
fn swapped(cluster: &Fixture, agents: &Agents<'_>, node: &Node) -> f64 {
    let pod = agents.get(&format!("pod/{}", agents.on(&node.name)));
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let data =
        format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~projected/profiles/..data");
    let when = cluster.on(node, &["stat", "--format=%.Y", &data]);
    when.trim().parse().unwrap()
}

#[test]
fn from_staging_to_production() {
    let cluster = cluster();
    let agents = cluster.agents(&Agents::kustomization());
    let space = cluster.namespace("e2e-story");
    space.apply(&deployment().to_string());
    space.rolled_out("deploy/redis");
    let attach = |args: &[&str]| {
        let output = cluster.run(&[&["attach"], args].concat());
        expect(&output, 0, &[]);
        output.stderr
    };
    let live = ["--namespace", space.name(), "deploy/redis"];

    // Record: the agent of node 2 is armed, then all Pods start anew.
    let node = cluster.node(2).name.clone();
    let agent = agents.on(&node);
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("redis.json");
    let rig: &Cluster = &cluster;
    let mut record = rig.kubectl();
    record.args([
        "-n",
        "seccast",
        "exec",
        &agent,
        "--",
        "/seccast",
        "record",
        "--pod",
        "e2e-story/redis-*",
        "-c",
        "redis",
    ]);
    let recording = Recording::arm(record.args(["--wait=100s", "-o", "-"]));
    let old = space.live_pods("app=redis");
    space.kubectl(&["rollout", "restart", "deploy/redis"]);
    space.rolled_out("deploy/redis");
    let new: BTreeSet<_> = space
        .live_pods("app=redis")
        .difference(&old)
        .cloned()
        .collect();
    assert_eq!(new.len(), 3, "{new:?}");
    for pod in new.iter().filter(|pod| space.node_of(pod).name == node) {
        work(&space, pod);
    }
    let text = recording.done();
    fs::write(&profile, &text).unwrap();
    let made: Value = serde_json::from_str(&text).unwrap();
    let names: usize = made["syscalls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["names"].as_array().unwrap().len())
        .sum();
    println!("the profile has {names} names");

    // Ship: the ConfigMap, then every node's disk.
    let file = format!("--from-file=redis.json={}", profile.display());
    agents.kubectl(&["create", "configmap", "seccast-profiles", &file]);
    for node in &cluster.nodes {
        let installed = cluster.disk(node, SECCOMP).join("seccast/redis.json");
        let content = || {
            fs::read_to_string(&installed)
                .ok()
                .filter(|found| *found == text)
        };
        space.until("the profile on the node", content);
        let there = fs::symlink_metadata(&installed)
            .unwrap()
            .modified()
            .unwrap();
        let there = there
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs_f64();
        let after = there - swapped(&cluster, &agents, node);
        println!(
            "{}: on disk {after:.2} s after the volume's swap",
            node.name
        );
    }

    // Attach, live and by file: the same object.
    let before = space.get("deploy/redis")["spec"].clone();
    let pod = space.live_pods("app=redis").pop_first().unwrap();
    let link = ["/tools/busybox", "ln", "-s", "nowhere", "/data/link"];
    space.exec(&pod, "redis", &link);
    let wanted = ["--profile", "seccast/redis.json", "-c", "redis"];
    let profiles = cluster.disk(cluster.node(1), SECCOMP);
    let lookup = ["--profiles", profiles.to_str().unwrap()];
    let said = attach(&[&live[..], &wanted, &lookup].concat());
    assert!(said.contains("3 Pods run under it"), "{said}");
    let manifest = dir.path().join("redis.yaml");
    fs::write(&manifest, deployment().to_string()).unwrap();
    attach(
        &[
            &[manifest.to_str().unwrap(), "--in-place"],
            &wanted[..],
            &lookup,
        ]
        .concat(),
    );
    let there =
        space.get("deploy/redis")["spec"]["template"]["spec"]["containers"][0]["securityContext"]
            .clone();
    let written: Value = serde_json::from_str(&fs::read_to_string(&manifest).unwrap()).unwrap();
    assert_eq!(
        written["spec"]["template"]["spec"]["containers"][0]["securityContext"],
        there
    );

    // Under it: the filter is there, what redis does not need is denied, the load passes.
    let under = space.live_pods("app=redis");
    assert_eq!(under.len(), 3, "{under:?}");
    for pod in &under {
        assert_eq!(space.status(pod, "redis", "Seccomp"), "2", "{pod}");
        assert_eq!(space.status(pod, "redis", "Seccomp_filters"), "1", "{pod}");
        let denied = space.try_exec(pod, "redis", &link);
        assert!(
            !denied.status.success() && denied.stderr.contains("Function not implemented"),
            "{pod}: {}",
            denied.stderr
        );
        work(&space, pod);
    }

    let said = attach(&[&live[..], &["--detach"]].concat());
    assert!(said.contains("3 Pods run without it"), "{said}");
    for pod in space.live_pods("app=redis") {
        assert_eq!(space.status(&pod, "redis", "Seccomp"), "0", "{pod}");
    }
    assert_eq!(space.get("deploy/redis")["spec"], before);
}
