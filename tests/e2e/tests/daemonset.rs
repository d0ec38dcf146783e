//! The DaemonSet of `deploy/kustomize`: what it may, what it does on a node, and its own profile.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests, and a test fails by panicking"
)]

use seccast_e2e::{BUSYBOX, Fixture, Namespace, PATIENCE, SECCOMP, cluster};
use seccast_rig::process;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const TAINT: &str = "seccast.dev/profiles";
const LABEL: &str = "app.kubernetes.io/name=seccast";

/// CAP_PERFMON is 38 and CAP_BPF 39 (linux/capability.h).
const CAPABILITIES: &str = "000000c000000000";

/// A profile that a runtime takes.
const PROFILE: &str = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],
"syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]}"#;

fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap().to_owned()
}

/// The agent on both nodes, from this folder of kustomize; gone with the namespace.
fn deployed<'a>(cluster: &'a Fixture, kustomization: &Path) -> Namespace<'a> {
    let space = cluster.namespace("seccast");
    cluster.kubectl(&["apply", "-k", kustomization.to_str().unwrap()]);
    space.rolled_out("daemonset/seccast");
    space
}

/// The agent's Pod on a node.
fn agent(space: &Namespace<'_>, node: &str) -> String {
    let on = |pod: &String| space.node_of(pod).name == node;
    space.until(&format!("an agent on {node}"), || {
        let pods = space.pods(LABEL).into_iter().filter(on);
        let live = |pod: &String| {
            space.get(&format!("pod/{pod}"))["metadata"]["deletionTimestamp"].is_null()
        };
        pods.filter(live).find(|pod| ready(space, pod))
    })
}

fn ready(space: &Namespace<'_>, pod: &str) -> bool {
    let pod = space.get(&format!("pod/{pod}"));
    pod["status"]["containerStatuses"][0]["ready"] == true
}

fn seccast_in(space: &Namespace<'_>, pod: &str, words: &[&str]) -> process::Output {
    space.try_exec(pod, "agent", &[&["/seccast"], words].concat())
}

fn config_map(space: &Namespace<'_>, files: &[(&str, &str)]) {
    let data: serde_json::Map<String, Value> = files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), json!(text)))
        .collect();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seccast-profiles"}, "data": data});
    space.apply(&map.to_string());
}

fn tainted(cluster: &Fixture, node: &str) -> bool {
    let words = ["get", "node", node, "-o", "jsonpath={.spec.taints[*].key}"];
    cluster.kubectl(&words).contains(TAINT)
}

fn taint(cluster: &Fixture, node: &str) {
    let taint = format!("{TAINT}=missing:NoSchedule");
    cluster.kubectl(&["taint", "node", node, &taint, "--overwrite"]);
}

/// Everything that the agent does on a node, in front of `space`'s agents.
fn works(cluster: &Fixture, space: &Namespace<'_>, node: usize, round: &str) {
    let node = cluster.node(node);
    let pod = agent(space, &node.name);
    let disk = cluster.disk(node, SECCOMP).join("seccast");
    let name = format!("{round}.json");
    let file = disk.join(&name);
    config_map(space, &[(&name, PROFILE)]);
    space.until("the profile on the node's disk", || {
        file.exists().then_some(())
    });
    assert_eq!(fs::read_to_string(&file).unwrap(), PROFILE);
    // What somebody edits is repaired.
    let version = fs::canonicalize(&file).unwrap();
    fs::write(&version, "{}").unwrap();
    space.until("what was edited to be repaired", || {
        (fs::read_to_string(&file).ok()? == PROFILE).then_some(())
    });
    let check = [
        "install",
        "--check",
        "--watch=/profiles",
        "--root=/host/seccomp",
    ];
    let checked = seccast_in(space, &pod, &check);
    assert_eq!(checked.status.code(), Some(0), "{}", checked.stderr);
    // A Pod of its node is recorded by what kubectl executes.
    let other = cluster.namespace("e2e-recorded");
    let busy = json!([
        "/bin/sh",
        "-c",
        "while :; do date >/dev/null; sleep 0.2; done"
    ]);
    other.make_pod(
        "busy",
        &json!({"nodeName": node.name, "containers": [{"name": "app", "image": BUSYBOX, "command": busy}]}),
    );
    other.ready("busy");
    let record = [
        "record",
        "--pod",
        "e2e-recorded/busy",
        "--for",
        "3s",
        "--allow-incomplete",
        "-o",
        "-",
    ];
    let recorded = seccast_in(space, &pod, &record);
    assert_eq!(recorded.status.code(), Some(0), "{}", recorded.stderr);
    let profile: Value = serde_json::from_str(&recorded.stdout).unwrap();
    let names = names(&profile);
    assert!(
        names.contains("execve") && names.contains("wait4"),
        "{names:?}"
    );
    other.kubectl(&["delete", "pod", "busy", "--wait=false"]);
}

/// What a profile allows.
fn names(profile: &Value) -> BTreeSet<String> {
    let rules = profile["syscalls"].as_array().unwrap().iter();
    let names = rules.filter(|rule| rule["action"] == "SCMP_ACT_ALLOW");
    let names = names.flat_map(|rule| rule["names"].as_array().unwrap());
    names
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_agent_has_two_capabilities_and_one_right_and_keeps_its_node() {
    let cluster = cluster();
    // Both ways to install it are the same.
    let kustomization = repository().join("deploy/kustomize");
    let made = |words: &[&str]| -> Vec<Value> {
        let words = [words, &["--dry-run=client", "-o", "json"]].concat();
        let text = cluster.kubectl(&words);
        let all = serde_json::Deserializer::from_str(&text).into_iter();
        let mut all: Vec<Value> = all.map(Result::unwrap).collect();
        all.sort_by_key(|item| format!("{}{}", item["kind"], item["metadata"]["name"]));
        all
    };
    let file = repository().join("deploy/seccast.yaml");
    let all = [
        made(&["create", "-k", kustomization.to_str().unwrap()]),
        made(&["create", "-f", file.to_str().unwrap()]),
    ];
    assert_eq!(all[0].len(), 7);
    assert_eq!(all[0], all[1]);
    // As a kubelet registers a new node.
    for node in &cluster.nodes {
        taint(&cluster, &node.name);
    }
    let space = deployed(&cluster, &kustomization);
    for node in &cluster.nodes {
        space.until("the taint to go", || {
            (!tainted(&cluster, &node.name)).then_some(())
        });
    }
    for node in &cluster.nodes {
        let pod = agent(&space, &node.name);
        for (field, value) in [
            ("CapEff", CAPABILITIES),
            ("CapPrm", CAPABILITIES),
            ("CapBnd", CAPABILITIES),
            ("CapInh", "0000000000000000"),
            ("CapAmb", "0000000000000000"),
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
        ] {
            assert_eq!(space.status(&pod, "agent", field), value, "{field}");
        }
        let pid = space.pid(&pod, "agent");
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        let options = |at: &str| {
            let line = mounts
                .lines()
                .find(|line| line.split(' ').nth(4) == Some(at));
            line.unwrap_or_else(|| panic!("nothing is mounted at {at}:\n{mounts}"))
                .split(' ')
                .nth(5)
                .unwrap()
                .to_owned()
        };
        for (at, mode) in [
            ("/", "ro"),
            ("/profiles", "ro"),
            ("/host/cgroup", "ro"),
            ("/host/seccomp", "rw"),
        ] {
            assert!(options(at).starts_with(mode), "{at}: {}", options(at));
        }
    }
    works(&cluster, &space, 1, "first");

    // What an interrupted run has left.
    let role = ["clusterrole", "e2e-get-nodes"];
    let unbind = || {
        for kind in ["clusterrolebinding", "clusterrole"] {
            cluster.kubectl(&["delete", kind, role[1], "--ignore-not-found"]);
        }
    };
    unbind();
    // One right, and that for its own node only.
    let account = "--as=system:serviceaccount:seccast:seccast";
    for (verb, what, may) in [
        ("patch", "nodes", "yes"),
        ("get", "nodes", "no"),
        ("update", "nodes", "no"),
        ("list", "pods", "no"),
        ("get", "secrets", "no"),
        ("get", "configmaps", "no"),
    ] {
        let can = cluster.try_kubectl(&["auth", "can-i", verb, what, account, "--all-namespaces"]);
        assert_eq!(can.stdout.trim(), may, "{verb} {what}: {}", can.stderr);
    }
    let [own, other] = [1, 2].map(|node| cluster.node(node).name.clone());
    let bound = format!("--bound-object-name={}", agent(&space, &own));
    let token = space.kubectl(&[
        "create",
        "token",
        "seccast",
        "--bound-object-kind=Pod",
        &bound,
    ]);
    let config = [
        "config",
        "view",
        "--raw",
        "--minify",
        "--flatten",
        "-o",
        "json",
    ];
    let mut config: Value = serde_json::from_str(&cluster.kubectl(&config)).unwrap();
    config["users"][0]["user"] = json!({"token": token.trim()});
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    fs::write(&kubeconfig, config.to_string()).unwrap();
    // kubectl asks before it changes, which this account may not: for the length of this test it may.
    cluster.kubectl(&["create", role[0], role[1], "--verb=get", "--resource=nodes"]);
    let bind = [
        "create",
        "clusterrolebinding",
        role[1],
        "--clusterrole=e2e-get-nodes",
    ];
    cluster.kubectl(&[&bind[..], &["--serviceaccount=seccast:seccast"]].concat());
    let as_agent = |words: &[&str]| {
        let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
        let output = cluster.try_kubectl(&[&[kubeconfig.as_str()], words].concat());
        (output.status.success(), output.stderr)
    };
    let remove = format!("{TAINT}-");
    let [own_node, other_node] = [own.as_str(), other.as_str()];
    space.kubectl(&[
        "patch",
        "daemonset",
        "seccast",
        "-p",
        r#"{"spec":{"template":{"spec":{"nodeSelector":{"kubernetes.io/hostname":"none"}}}}}"#,
    ]);
    space.until("the agents to end", || {
        space.pods(LABEL).is_empty().then_some(())
    });
    // A token dies with its Pod: one of a Pod that stays.
    let pause = json!({"serviceAccountName": "seccast", "nodeName": own, "containers": [{"name": "app", "image": BUSYBOX}]});
    space.make_pod("stays", &pause);
    space.ready("stays");
    let token = space.kubectl(&[
        "create",
        "token",
        "seccast",
        "--bound-object-kind=Pod",
        "--bound-object-name=stays",
    ]);
    config["users"][0]["user"] = json!({"token": token.trim()});
    fs::write(&kubeconfig, config.to_string()).unwrap();
    taint(&cluster, own_node);
    taint(&cluster, other_node);
    let refused = "ValidatingAdmissionPolicy 'seccast-own-node'";
    for (words, says) in [
        (
            &["taint", "node", other_node, &remove][..],
            "may patch its own node only",
        ),
        (
            &["taint", "node", own_node, "e2e=x:NoSchedule"],
            "may only take the taint",
        ),
        (
            &["label", "node", own_node, "e2e=x"],
            "may change nothing of its node but",
        ),
        (
            &["annotate", "node", own_node, "e2e=x"],
            "may change nothing of its node but",
        ),
        (&["cordon", own_node], "may change nothing of its node but"),
    ] {
        // What kubectl ends with is not to be relied on: `cordon` ends with 0.
        let (_, stderr) = as_agent(words);
        assert!(
            stderr.contains(refused) && stderr.contains(says),
            "{words:?}: {stderr}"
        );
    }
    assert!(tainted(&cluster, own_node) && tainted(&cluster, other_node));
    let (done, stderr) = as_agent(&["taint", "node", own_node, &remove]);
    assert!(done && !tainted(&cluster, own_node), "{stderr}");
    cluster.kubectl(&["taint", "node", other_node, &remove]);
    unbind();
    space.kubectl(&["delete", "namespace", "seccast", "--wait=false"]);
}

/// A recording by kubectl that goes on, from `armed` to what it wrote.
struct Armed {
    kubectl: Child,
    told: BufReader<std::process::ChildStderr>,
}

impl Armed {
    fn start(cluster: &Fixture, pod: &str, words: &[&str]) -> Self {
        let mut kubectl = (**cluster).kubectl();
        kubectl
            .args([
                "--namespace=seccast",
                "exec",
                pod,
                "--",
                "/seccast",
                "record",
            ])
            .args(words);
        let mut kubectl = kubectl
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = BufReader::new(kubectl.stderr.take().unwrap());
        let mut line = String::new();
        while told.read_line(&mut line).unwrap() > 0 {
            if line.contains("armed") {
                return Self { kubectl, told };
            }
        }
        let _ = kubectl.wait();
        panic!("not armed: {line}");
    }

    /// What it wrote to stdout, and what it said.
    fn end(self) -> (String, String) {
        let Self {
            mut kubectl,
            mut told,
        } = self;
        let mut stdout = kubectl.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut stdout, &mut text).map(|_| text)
        });
        let mut said = String::new();
        let start = Instant::now();
        while told.read_line(&mut said).unwrap() > 0 && start.elapsed() < PATIENCE {}
        let _ = kubectl.wait().unwrap();
        (reader.join().unwrap().unwrap(), said)
    }
}

#[test]
fn the_agent_runs_under_the_profile_that_another_recorded() {
    let cluster = cluster();
    let base = repository().join("deploy/kustomize");
    for node in &cluster.nodes {
        let _ = fs::remove_dir_all(cluster.disk(node, SECCOMP).join("seccast"));
    }
    let space = deployed(&cluster, &base);
    let node = cluster.node(1).name.clone();
    // A second instance on the same node, which the DaemonSet does not know of.
    let first = agent(&space, &node);
    let mut spec = space.get(&format!("pod/{first}"))["spec"].clone();
    for field in ["nodeName", "tolerations", "affinity"] {
        spec.as_object_mut().unwrap().remove(field);
    }
    spec["nodeName"] = json!(node);
    spec["containers"][0]["args"] = json!(["install", "--watch=/profiles", "--root=/tmp"]);
    spec["containers"][0]
        .as_object_mut()
        .unwrap()
        .remove("readinessProbe");
    spec["volumes"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "tmp", "emptyDir": {}}));
    let mounts = spec["containers"][0]["volumeMounts"]
        .as_array_mut()
        .unwrap();
    mounts.push(json!({"name": "tmp", "mountPath": "/tmp"}));
    space.make_pod("recorder", &spec);
    space.ready("recorder");

    let only = [
        "--pod",
        "seccast/seccast-*",
        "-c",
        "agent",
        "--wait=60s",
        "--for",
        "4m",
        "-o",
        "-",
    ];
    let recording = Armed::start(&cluster, "recorder", &only);
    space.kubectl(&["delete", "pod", &first]);
    works(&cluster, &space, 1, "recorded");
    let second = agent(&space, &node);
    space.kubectl(&["delete", "pod", &second]);
    let (profile, said) = recording.end();
    println!("{said}");
    let recorded: Value =
        serde_json::from_str(&profile).unwrap_or_else(|_| panic!("{said}\n{profile}"));

    // What is committed covers what this machine's agent called.
    let file = repository().join("deploy/kustomize/own-profile/seccast.json");
    let new = cluster.dir.join("own-profile.json");
    fs::write(&new, &profile).unwrap();
    let committed: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let missing: Vec<_> = names(&recorded)
        .difference(&names(&committed))
        .cloned()
        .collect();
    assert!(
        missing.is_empty(),
        "{} lacks {missing:?}; if that is right, renew it by `seccast merge {0} {} -o {0}`",
        file.display(),
        new.display()
    );

    // And under it the agent does the same.
    let overlay = tempfile::tempdir_in(repository().join("target")).unwrap();
    let text =
        "resources: [../../deploy/kustomize]\ncomponents: [../../deploy/kustomize/own-profile]\n";
    fs::write(overlay.path().join("kustomization.yaml"), text).unwrap();
    cluster.kubectl(&["apply", "-k", overlay.path().to_str().unwrap()]);
    space.rolled_out("daemonset/seccast");
    for node in &cluster.nodes {
        let pod = agent(&space, &node.name);
        let profile = &space.get(&format!("pod/{pod}"))["spec"]["containers"][0]["securityContext"]
            ["seccompProfile"];
        assert_eq!(profile["localhostProfile"], "seccast/seccast.json");
        assert_eq!(space.status(&pod, "agent", "Seccomp"), "2");
        assert_eq!(space.status(&pod, "agent", "CapEff"), CAPABILITIES);
    }
    // Denied calls are counted from outside while it works.
    let pod = agent(&space, &node);
    let id = space.container_id(&pod, "agent");
    let mut verify = cluster.seccast(cluster.node(1));
    let profile = cluster
        .disk(cluster.node(1), SECCOMP)
        .join("seccast/seccast.json");
    let profile = fs::canonicalize(profile).unwrap();
    verify.arg("verify").arg("--profile").arg(&profile).args([
        "--container",
        &id,
        "--for",
        "25s",
        "--format",
        "json",
    ]);
    let verify =
        std::thread::spawn(move || process::output(&mut verify, Duration::from_secs(120)).unwrap());
    std::thread::sleep(Duration::from_secs(1));
    works(&cluster, &space, 1, "enforced");
    let verdict = verify.join().unwrap();
    let said: Value = serde_json::from_str(&verdict.stdout).unwrap();
    let findings = said["runs"][0]["findings"].as_array().unwrap();
    let denied: BTreeSet<_> = findings
        .iter()
        .map(|of| of["name"].as_str().unwrap())
        .collect();
    // It was recorded under RuntimeDefault, which answers clone3 with the same errno: the C library calls clone then.
    assert!(
        denied.is_subset(&BTreeSet::from(["clone3"])),
        "{said:#}\n{}",
        verdict.stderr
    );
    assert_eq!(said["runs"][0]["losses"], json!({}), "{said:#}");
    space.kubectl(&["delete", "namespace", "seccast", "--wait=false"]);
}
