//! `seccast record --pod`: containers of Pods are told apart, from the node and from within a Pod, and what they call is what
//! the same programs call in plain runc.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use seccast_e2e::{Fixture, Namespace, PATIENCE, Recording, cluster, seccast, unified};
use seccast_model::arch::Arch;
use seccast_model::observation::{Observation, Phase};
use seccast_rig::oci::Image;
use seccast_rig::{Bundle, Container, Runtime};
use seccast_workloads::{self as workloads, PROGRAMS};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The test programs, and seccast beside them.
const IMAGE: &str = "localhost/e2e-record:1";

/// Where containerd keeps bundles.
const TASKS: &str = "/run/containerd/io.containerd.runtime.v2.task";

type Calls = BTreeSet<(Arch, String)>;

/// All test programs in one folder, so that those which execute others find them.
fn programs(folder: &Path) {
    let needed = PROGRAMS.iter().flat_map(|program| program.needs).copied();
    let names = PROGRAMS.iter().map(|program| program.name).chain(needed);
    for name in names.chain(["sleeper"]) {
        fs::copy(workloads::path(name), folder.join(name)).unwrap();
    }
}

fn load_image(cluster: &Fixture) {
    let tree = tempfile::tempdir().unwrap();
    programs(tree.path());
    fs::copy(seccast(), tree.path().join("seccast")).unwrap();
    cluster.load(&Image::new(IMAGE, tree.path()));
}

fn calls(observation: &Observation, phase: Phase) -> Calls {
    let named = observation
        .calls
        .iter()
        .filter(|((_, of), _)| *of == phase)
        .flat_map(|((arch, _), calls)| calls.keys().map(|name| (*arch, name.clone())));
    let unknown = observation.unknown.iter().filter(|one| one.phase == phase);
    named
        .chain(unknown.map(|one| (one.arch, one.nr.to_string())))
        .collect()
}

/// What a program calls by its source.
fn truth(name: &str) -> Calls {
    let program = workloads::program(name);
    let named = program.calls.iter();
    let unknown = program.unknown.iter();
    named
        .map(|call| (call.arch, call.name.to_owned()))
        .chain(unknown.map(|one| (one.arch, one.nr.to_string())))
        .collect()
}

/// The same of one that is killed while it sleeps.
fn truth_of_killed(name: &str) -> Calls {
    let mut calls = match name {
        "sleeper" => ["rt_sigaction", "nanosleep"]
            .map(|name| (Arch::X86_64, name.to_owned()))
            .into(),
        name => truth(name),
    };
    calls.remove(&(Arch::X86_64, "exit_group".to_owned()));
    calls
}

/// The observations in a folder by the names of their files.
fn observations(folder: &Path) -> BTreeMap<String, Observation> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let read = |file: String| {
        let name = file.strip_suffix(".observation.json")?.to_owned();
        let bytes = fs::read(folder.join(file)).unwrap();
        Some((name, Observation::from_json(&bytes).unwrap()))
    };
    names.filter_map(read).collect()
}

/// A Pod that has what the DaemonSet has, and a folder to write to.
fn agent(space: &Namespace, node: &str) {
    let cgroups = unified();
    let mount = |name: &str, path: &str| json!({ "name": name, "mountPath": path, "readOnly": name != "out" });
    space.make_pod(
        "agent",
        &json!({
            "nodeName": node,
            "hostPID": true,
            "volumes": [
                { "name": "cgroup", "hostPath": { "path": cgroups } },
                { "name": "tasks", "hostPath": { "path": TASKS } },
                { "name": "out", "emptyDir": {} },
            ],
            "containers": [{
                "name": "app",
                "image": IMAGE,
                "command": ["/sleeper"],
                "resources": { "limits": { "memory": "128Mi" } },
                "volumeMounts": [mount("cgroup", "/host/cgroup"), mount("tasks", TASKS), mount("out", "/out")],
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"], "add": ["BPF", "PERFMON"] },
                    "seccompProfile": { "type": "RuntimeDefault" },
                },
            }],
        }),
    );
    space.ready("agent");
}

/// Where the agent's folder lies on the node's disk.
fn out(cluster: &Fixture, space: &Namespace) -> PathBuf {
    let uid = space.get("pod/agent")["metadata"]["uid"].clone();
    let folder = format!(
        "/var/lib/kubelet/pods/{}/volumes/kubernetes.io~empty-dir/out",
        uid.as_str().unwrap()
    );
    cluster.disk(space.node_of("agent"), folder)
}

fn deployment(node: &str) -> Value {
    let container =
        |name: &str, command: &[&str]| json!({ "name": name, "image": IMAGE, "command": command });
    let mut side = container("side", &["/sleeper"]);
    side["restartPolicy"] = json!("Always");
    let mut app = container("app", &["/plain", "3600000"]);
    app["readinessProbe"] = json!({ "exec": { "command": ["/signal"] }, "periodSeconds": 1 });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "web" },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": {
                    "nodeName": node,
                    "terminationGracePeriodSeconds": 1,
                    "initContainers": [container("init", &["/x86_64"]), side],
                    "containers": [app],
                },
            },
        },
    })
}

fn job(node: &str) -> Value {
    let container = json!({ "name": "job", "image": IMAGE, "command": ["/plain", "50"] });
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": "short" },
        "spec": { "template": { "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "containers": [container],
        }}},
    })
}

#[test]
fn containers_of_pods_are_told_apart_from_their_first_instruction_on_the_node_and_in_a_pod() {
    let cluster = cluster();
    load_image(&cluster);
    let node = cluster.node(1);
    let home = cluster.namespace("e2e-record-agent");
    let space = cluster.namespace("e2e-record");
    agent(&home, &node.name);
    space.apply(&deployment(&node.name).to_string());
    space.rolled_out("deploy/web");

    let here = tempfile::tempdir().unwrap();
    let record = ["record", "--pod", "e2e-record/*", "--wait", "-o"];
    let mut on_node = cluster.seccast(node);
    let on_node = Recording::arm(on_node.args(record).arg(here.path()));
    let in_pod = |words: &[&str]| {
        let mut kubectl = seccast_rig::cluster::Cluster::kubectl(&cluster);
        kubectl.args([
            "--namespace",
            home.name(),
            "exec",
            "agent",
            "--",
            "/seccast",
        ]);
        Recording::arm(kubectl.args(words))
    };
    let within = in_pod(&[&record[..], &["/out"]].concat());
    let one = ["-c", "app", "--wait", "--for", "3s", "-o", "-"];
    let profile = in_pod(&[&["record", "--pod", "e2e-record/web-*"], &one[..]].concat());

    let old = space.pods("app=web");
    space.kubectl(&["rollout", "restart", "deploy/web"]);
    space.rolled_out("deploy/web");
    let web = space.until("the new Pod alone", || {
        let pods = space.pods("app=web");
        (pods.len() == 1 && pods != old).then(|| pods[0].clone())
    });
    space.apply(&job(&node.name).to_string());
    let short = space.pods("job-name=short").remove(0);
    assert_eq!(space.ended(&short), "Succeeded");
    let image = format!("--image={IMAGE}");
    let debug = [
        "debug",
        &web,
        &image,
        "--container=debugger",
        "--target=app",
        "--profile=baseline",
    ];
    space.kubectl(&[&debug[..], &["--", "/i386"]].concat());
    space.until("the debug container to end", || {
        let pod = space.get(&format!("pod/{web}"));
        let state = pod["status"]["ephemeralContainerStatuses"][0]["state"].clone();
        (state["terminated"]["reason"] == "Completed").then_some(())
    });
    space.kubectl(&["delete", "deploy/web", "job/short", "--wait"]);

    let profile: Value = serde_json::from_str(&profile.done()).unwrap();
    let allowed = profile["syscalls"][0]["names"].as_array().unwrap();
    for (_, name) in truth_of_killed("plain") {
        assert!(allowed.contains(&json!(name)), "{name}: {profile}");
    }
    // Both end by themselves, with the Pods.
    on_node.done();
    within.done();
    let found = observations(here.path());
    let of_web = |container: &str| format!("e2e-record_{web}_{container}");
    let expected = BTreeMap::from([
        (of_web("init"), truth("x86_64")),
        (of_web("side"), truth_of_killed("sleeper")),
        (of_web("app"), truth_of_killed("plain")),
        (of_web("debugger"), truth("i386")),
        (format!("e2e-record_{short}_job"), truth("plain")),
    ]);
    // The sandboxes are not among them, nor the old Pod.
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (name, observation) in &found {
        let mut application = calls(observation, Phase::App);
        if *name == of_web("side") {
            // It ends by itself if the kubelet gives it the time.
            application.remove(&(Arch::X86_64, "exit_group".to_owned()));
        }
        assert_eq!(application, expected[name], "{name}");
        let probed = calls(observation, Phase::Exec);
        let probe = if *name == of_web("app") {
            truth("signal")
        } else {
            Calls::new()
        };
        assert_eq!(probed, probe, "{name}");
        assert_eq!(observation.started_late_ns, None, "{name}");
        assert_eq!(observation.losses, BTreeMap::new(), "{name}");
        let target = &observation.target;
        let pod = target.pod.as_ref().unwrap();
        let container = target.container_name.as_deref().unwrap();
        assert_eq!(*name, format!("{}_{}_{container}", pod.namespace, pod.name));
        assert_eq!(target.image.as_deref(), Some(IMAGE));
        assert_eq!(target.engine.as_deref(), Some("containerd"));
        assert_eq!(target.runtime.as_deref(), Some("runc"));
        let path = target.cgroup_path.as_deref().unwrap();
        assert!(path.contains(pod.uid.as_deref().unwrap()), "{path}");
    }
    let from_within = observations(&out(&cluster, &home));
    assert_eq!(from_within.len(), found.len());
    for (name, observation) in &found {
        for phase in [Phase::App, Phase::Exec] {
            let within = calls(&from_within[name], phase);
            assert_eq!(within, calls(observation, phase), "{name}");
        }
        // Only the runtime's socket tells labels, and the agent has none.
        let mut target = observation.target.clone();
        let labels = std::mem::take(&mut target.pod.as_mut().unwrap().labels);
        assert_eq!(from_within[name].target, target);
        let of_web = labels.get("app").map(String::as_str) == Some("web");
        assert_eq!(of_web, name.contains(&web), "{name}: {labels:?}");
    }
}

#[test]
fn a_running_pod_is_recorded_late_and_a_wrong_name_is_told() {
    let cluster = cluster();
    load_image(&cluster);
    let node = cluster.node(1);
    let home = cluster.namespace("e2e-late-agent");
    agent(&home, &node.name);
    let exec = |words: &[&str]| {
        let all = [&["exec", "agent", "--", "/seccast", "record"], words].concat();
        home.try_kubectl(&all)
    };
    let container = json!({ "name": "app", "image": IMAGE, "command": ["/sleeper"] });
    home.make_pod(
        "still",
        &json!({ "nodeName": node.name, "containers": [container] }),
    );
    home.ready("still");
    let still = ["--pod", "e2e-late-agent/still", "--for", "1s"];
    let late = exec(&[&still[..], &["--observation", "-", "--allow-incomplete"]].concat());
    assert_eq!(late.status.code(), Some(0), "{}", late.stderr);
    let observation = Observation::from_json(late.stdout.as_bytes()).unwrap();
    assert!(observation.started_late_ns.is_some());
    let blocked = &observation.blocked_at_attach[&Arch::X86_64];
    assert_eq!(blocked.keys().collect::<Vec<_>>(), ["nanosleep"]);
    assert_eq!(calls(&observation, Phase::App), Calls::new());
    for (words, says) in [
        (
            &["--pod", "e2e-late-agent/stil"][..],
            "did you mean e2e-late-agent/still",
        ),
        (&["--pod", "still"], "no Pod default/still runs here"),
        (
            &["--pod", "e2e-late-agent/still", "-c", "ap"],
            "runs no container ap: it has app",
        ),
        (
            &["--pod", "e2e-late-agent/*"],
            "2 containers are meant, and there is one file for them",
        ),
        (
            &["--pod", "none", "-c", "app", "--wait=1s"],
            "did not start within 1s",
        ),
    ] {
        let refused = exec(&[words, &["--for", "1s", "-o", "-"]].concat());
        assert_eq!(
            refused.status.code(),
            Some(3),
            "{words:?}: {}",
            refused.stderr
        );
        assert!(
            refused.stderr.contains(says),
            "{words:?}: {}",
            refused.stderr
        );
        assert_eq!(refused.stdout, "", "{words:?}");
    }
}

#[test]
fn every_program_calls_in_a_pod_what_it_calls_in_plain_runc() {
    let cluster = cluster();
    load_image(&cluster);
    let node = cluster.node(1);
    let space = cluster.namespace("e2e-same");
    let name = |program: &str| program.replace('_', "-");

    let in_pod = tempfile::tempdir().unwrap();
    let mut command = cluster.seccast(node);
    command.args(["record", "--pod", "e2e-same/all", "--wait", "-o"]);
    // Some install filters of their own, whose denials are not seen.
    let recording = Recording::arm(command.arg(in_pod.path()).arg("--allow-incomplete"));
    let container = |program: &workloads::Program| json!({ "name": name(program.name), "image": IMAGE, "command": [format!("/{}", program.name)] });
    let containers: Vec<_> = PROGRAMS.iter().map(container).collect();
    space.make_pod(
        "all",
        &json!({ "nodeName": node.name, "containers": containers }),
    );
    space.ended("all");
    recording.done();

    let in_runc = tempfile::tempdir().unwrap();
    let root = tempfile::tempdir().unwrap();
    for folder in ["proc", "sys", "dev", "tmp"] {
        fs::create_dir(root.path().join(folder)).unwrap();
    }
    programs(root.path());
    let runtime = Runtime::runc().unwrap();
    for program in PROGRAMS {
        let id = format!("e2e-same-{}", program.name);
        let mut command = Command::new(seccast());
        command.args([
            "record",
            "--container",
            &id,
            "--wait=60s",
            "--allow-incomplete",
            "--observation",
        ]);
        let file = in_runc.path().join(format!(
            "e2e-same_all_{}.observation.json",
            name(program.name)
        ));
        let recording = Recording::arm(command.arg(file));
        let bundle = Bundle::new(root.path(), [format!("/{}", program.name)]);
        Container::new(&id, &bundle, &runtime)
            .unwrap()
            .run(PATIENCE)
            .unwrap();
        recording.done();
    }

    let [in_pod, in_runc] = [in_pod, in_runc].map(|folder| observations(folder.path()));
    assert_eq!(in_pod.len(), PROGRAMS.len());
    for program in PROGRAMS {
        let file = format!("e2e-same_all_{}", name(program.name));
        let of_pod = calls(&in_pod[&file], Phase::App);
        assert_eq!(of_pod, truth(program.name), "{} in a Pod", program.name);
        assert_eq!(
            of_pod,
            calls(&in_runc[&file], Phase::App),
            "{}",
            program.name
        );
    }
}
