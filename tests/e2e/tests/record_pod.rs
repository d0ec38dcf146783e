//! `record --pod`: whose calls they are, exactly, and the same as without Kubernetes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

use seccast_e2e::{Fixture, Namespace, PATIENCE, cluster};
use seccast_kernel::{Call, Record, Running, assert_calls, call, calls, truth};
use seccast_model::arch::Arch;
use seccast_model::observation::{Observation, Phase};
use seccast_model::syscall;
use seccast_rig::cgroup::Scope;
use seccast_rig::oci::Image;
use seccast_rig::{Bundle, Container, Runtime, process, rootfs};
use seccast_workloads as workloads;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// busybox with workloads in its root.
const IMAGE: &str = "localhost/workloads:1";

/// Programs that make the same calls whatever their environment, limits and stdio are.
const PROGRAMS: [&str; 10] = [
    "x86_64", "i386", "int80", "threads", "fork", "vfork", "clone3", "chain1", "signal", "unknown",
];

/// Programs of busybox: a real C library, and a shell with children and pipes.
const SCRIPT: &str = "i=0; while [ $i -lt 20 ]; do i=$((i+1)); echo $i; done | sort -n | tail -n 1; cat /etc/group | wc -l; usleep 50000";

/// The root of the image.
fn tree() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(rootfs::busybox().unwrap()).arg(&tree);
    process::check(&mut copy, seccast_e2e::COMMAND).unwrap();
    for name in PROGRAMS.into_iter().chain(["one", "chain2", "chain3"]) {
        fs::copy(workloads::path(name), tree.join(name)).unwrap();
    }
    dir
}

/// The words that make one call, which no other container of the test makes.
fn one(name: &str) -> Vec<String> {
    let nr = syscall::nr(Arch::X86_64, name).unwrap();
    let mut words = vec!["/one".to_owned()];
    words.extend(workloads::numbers::one(Arch::X86_64, nr));
    words
}

/// A shell that makes it and then lives on.
fn one_and_stay(name: &str) -> Vec<String> {
    let script = format!("{} && exec sleep 1000000", one(name).join(" "));
    ["/bin/sh", "-c", &script].map(str::to_owned).to_vec()
}

fn named(name: &str) -> Call {
    call((Arch::X86_64, syscall::nr(Arch::X86_64, name).unwrap()))
}

/// Records on the first node whatever starts in these Pods, each container in files of its own.
fn record(cluster: &Fixture, pods: &str, folder: &Path) -> Running {
    let seccast = cluster.seccast(cluster.node(1));
    Record::each_by(seccast, folder, ["--pod", pods, "--wait"]).start()
}

/// The observations of a folder by their name, each complete.
fn observations(folder: &Path) -> BTreeMap<String, Observation> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some(name) = name.strip_suffix(".observation.json") else {
            continue;
        };
        let observation = Observation::from_json(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(observation.losses, BTreeMap::new(), "{name}");
        assert_eq!(observation.started_late_ns, None, "{name}");
        all.insert(name.to_owned(), observation);
    }
    all
}

/// A Pod on the first node, which is where the recording is.
fn pod(space: &Namespace<'_>, cluster: &Fixture, name: &str, mut spec: Value) {
    spec["nodeName"] = json!(cluster.node(1).name);
    space.make_pod(name, &spec);
}

#[test]
fn init_container_sidecar_debug_container_and_probes_are_told_apart() {
    const SETUP: &str = "sched_get_priority_max";
    const SIDECAR: &str = "getpriority";
    const APP: &str = "timer_getoverrun";
    const PROBE: &str = "mq_getsetattr";
    const EXEC: &str = "io_getevents";
    const DEBUG: &str = "sched_rr_get_interval";

    let cluster = cluster();
    let tree = tree();
    cluster.load(&Image::new(IMAGE, tree.path().join("tree")));
    let space = cluster.namespace("e2e-apart");
    let folder = tempfile::tempdir().unwrap();
    let running = record(&cluster, "e2e-apart/web", folder.path());
    pod(
        &space,
        &cluster,
        "web",
        json!({
            "initContainers": [
                { "name": "setup", "image": IMAGE, "command": one(SETUP) },
                { "name": "side", "image": IMAGE, "command": one_and_stay(SIDECAR), "restartPolicy": "Always" },
            ],
            "containers": [{
                "name": "app",
                "image": IMAGE,
                "command": one_and_stay(APP),
                "readinessProbe": { "exec": { "command": one(PROBE) }, "periodSeconds": 1 },
            }],
        }),
    );
    // The probe has passed.
    space.ready("web");
    let words: Vec<_> = one(EXEC);
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    space.exec("web", "app", &words);
    let debug = one(DEBUG);
    let debug: Vec<_> = debug.iter().map(String::as_str).collect();
    let words = ["debug", "web", "--image", IMAGE, "--container=debug", "--"];
    space.kubectl(&[&words[..], &debug].concat());
    space.until("the debug container to end", || {
        let pod = space.get("pod/web");
        let state = &pod["status"]["ephemeralContainerStatuses"][0]["state"];
        state["terminated"]["exitCode"].as_i64()
    });
    // The recording ends with the Pod.
    space.kubectl(&["delete", "pod", "web", "--wait"]);
    let recorded = running.end(PATIENCE);
    recorded.assert_ended(0, &[]);

    let all = observations(folder.path());
    let names: BTreeSet<_> = all.keys().map(String::as_str).collect();
    let expected = ["setup", "side", "app", "debug"].map(|name| format!("e2e-apart_web_{name}"));
    assert_eq!(
        names,
        expected.iter().map(String::as_str).collect(),
        "{}",
        recorded.stderr
    );
    let marks: BTreeSet<_> = [SETUP, SIDECAR, APP, PROBE, EXEC, DEBUG].map(named).into();
    for (container, own, entered) in [
        ("setup", SETUP, &[][..]),
        ("side", SIDECAR, &[]),
        ("app", APP, &[PROBE, EXEC]),
        ("debug", DEBUG, &[]),
    ] {
        let observation = &all[&format!("e2e-apart_web_{container}")];
        let seen = |phase| -> BTreeSet<_> {
            let seen = calls(observation, phase);
            seen.intersection(&marks).cloned().collect()
        };
        assert_calls(&seen(Phase::App), &[named(own)].into(), container);
        let entered = entered.iter().map(|name| named(name)).collect();
        assert_calls(
            &seen(Phase::Exec),
            &entered,
            &format!("{container}, entered"),
        );
        assert_calls(
            &seen(Phase::Runtime),
            &[].into(),
            &format!("{container}, runtime"),
        );
    }
    // A program that does one thing is seen to do nothing else.
    for (container, own) in [("setup", SETUP), ("debug", DEBUG)] {
        let seen = calls(&all[&format!("e2e-apart_web_{container}")], Phase::App);
        let exit = (Arch::X86_64, "exit_group".to_owned());
        assert_calls(&seen, &[named(own), exit].into(), container);
    }
}

/// What the application of a container calls that plain runc starts.
fn in_runc(tree: &Path, name: &str, words: &[&str]) -> BTreeSet<Call> {
    let scope = Scope::new("e2e").unwrap();
    let running = Record::new(["--container", name, "--wait"]).start();
    let bundle = Bundle::new(tree, words.iter().copied())
        .cgroups_path(scope.child(name))
        // A shell without it asks the kernel; a Pod's containers have it.
        .env("HOSTNAME=pod");
    let mut container = Container::new(name, &bundle, &Runtime::runc().unwrap()).unwrap();
    container.run(PATIENCE).unwrap();
    calls(running.end(PATIENCE).complete(), Phase::App)
}

#[test]
fn a_program_calls_the_same_in_runc_and_in_a_pod() {
    let cluster = cluster();
    let dir = tree();
    let tree = dir.path().join("tree");
    cluster.load(&Image::new(IMAGE, &tree));
    let space = cluster.namespace("e2e-same");
    let folder = tempfile::tempdir().unwrap();
    let running = record(&cluster, "e2e-same/program-*", folder.path());
    let script = ["/bin/sh", "-c", SCRIPT];
    let paths = PROGRAMS.map(|name| [format!("/{name}")]);
    let mut all: Vec<(&str, Vec<&str>)> = vec![("script", script.to_vec())];
    let programs = PROGRAMS.into_iter().zip(&paths);
    all.extend(programs.map(|(name, path)| (name, vec![path[0].as_str()])));

    let pod_name = |name: &str| format!("program-{}", name.replace('_', "-"));
    for (name, words) in &all {
        let container = json!({ "name": "app", "image": IMAGE, "command": words });
        pod(
            &space,
            &cluster,
            &pod_name(name),
            json!({ "containers": [container] }),
        );
    }
    for (name, _) in &all {
        space.ended(&pod_name(name));
    }
    running.stop().assert_ended(0, &[]);
    let in_pods = observations(folder.path());
    assert_eq!(in_pods.len(), all.len());
    for (name, words) in &all {
        let observation = &in_pods[&format!("e2e-same_{}_app", pod_name(name))];
        let in_pod = calls(observation, Phase::App);
        if *name != "script" {
            assert_calls(
                &in_pod,
                &truth(workloads::program(name)),
                &format!("{name} in a Pod"),
            );
        }
        let in_runc = in_runc(&tree, &format!("e2e-{name}"), words);
        assert_calls(&in_pod, &in_runc, &format!("{name} in a Pod, not in runc"));
        println!("{name}: the same {} calls", in_pod.len());
    }
}

#[test]
fn each_pod_of_a_job_of_50_ms_is_recorded_from_its_first_instruction() {
    const PODS: usize = 5;
    let cluster = cluster();
    let dir = tree();
    let tree = dir.path().join("tree");
    cluster.load(&Image::new(IMAGE, &tree));
    let space = cluster.namespace("e2e-job");
    let folder = tempfile::tempdir().unwrap();
    let running = record(&cluster, "e2e-job/short-*", folder.path());
    let script = ["/bin/sh", "-c", SCRIPT];
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": "short" },
        "spec": { "completions": PODS, "parallelism": PODS, "template": { "spec": {
            "restartPolicy": "Never",
            "nodeName": cluster.node(1).name,
            "containers": [{ "name": "app", "image": IMAGE, "command": script }],
        }}},
    });
    space.apply(&job.to_string());
    space.until("the Job to be done", || {
        let job = space.get("job/short");
        (job["status"]["succeeded"] == PODS).then_some(())
    });
    running.stop().assert_ended(0, &[]);

    let all = observations(folder.path());
    assert_eq!(all.len(), PODS, "{:?}", all.keys());
    let expected = in_runc(&tree, "e2e-short", &script);
    for (name, observation) in &all {
        assert_calls(&calls(observation, Phase::App), &expected, name);
        let took = Duration::from_nanos(observation.ended_ns - observation.started_ns);
        println!("{name}: {} calls, recorded for {took:.0?}", expected.len());
    }
}
