//! The DaemonSet of `deploy/kustomize`: what it may, what it does on a node, and its own profile.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests, and a test fails by panicking"
)]

use seccast_e2e::{
    Agents, BUSYBOX, Fixture, MISSING, Recording, SECCAST, SECCOMP, TAINT, cluster, expect,
};
use seccast_pages::repository;
use seccast_rig::process;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;

/// CAP_PERFMON is 38 and CAP_BPF 39 (linux/capability.h).
const CAPABILITIES: &str = "000000c000000000";

/// A profile that a runtime takes.
const PROFILE: &str = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],
"syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]}"#;

fn seccast_in(space: &Agents<'_>, pod: &str, words: &[&str]) -> process::Output {
    space.try_exec(pod, "agent", &[&["/seccast"], words].concat())
}

fn config_map(space: &Agents<'_>, files: &[(&str, &str)]) {
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

/// Everything that the agent does on a node, in front of `space`'s agents.
fn works(cluster: &Fixture, space: &Agents<'_>, node: usize, round: &str) {
    let node = cluster.node(node);
    let pod = space.on(&node.name);
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
    expect(&checked, 0, &[]);
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
    expect(&recorded, 0, &[]);
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
    let kustomization = Agents::kustomization();
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
    let nodes = cluster.nodes.iter();
    let _new: Vec<_> = nodes
        .map(|node| cluster.taint(&node.name, MISSING))
        .collect();
    let space = cluster.agents(&kustomization);
    for node in &cluster.nodes {
        space.until("the taint to go", || {
            (!tainted(&cluster, &node.name)).then_some(())
        });
    }
    for node in &cluster.nodes {
        let pod = space.on(&node.name);
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
    let role = "e2e-get-nodes";
    cluster.revoke(role);
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
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    // kubectl asks before it changes, which this account may not: for the length of this test it may.
    let _right = cluster.grant(role, "get", "nodes", "seccast:seccast");
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
        space.pods(Agents::LABEL).is_empty().then_some(())
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
    cluster.kubeconfig_with(&token, &kubeconfig);
    let _closed = [own_node, other_node].map(|node| cluster.taint(node, MISSING));
    let refused = "ValidatingAdmissionPolicy 'seccast-own-node'";
    let patch = ["patch", "node", own_node, "--type=merge", "-p"];
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": other_node, "uid": "e2e"});
    let owner = json!({"metadata": {"ownerReferences": [owner]}}).to_string();
    let owner = [&patch[..], &[&owner]].concat();
    let finalizer = r#"{"metadata":{"finalizers":["e2e.example.org/x"]}}"#;
    let finalizer = [&patch[..], &[finalizer]].concat();
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
        (&finalizer, "may change nothing of its node but"),
        (&owner, "may change nothing of its node but"),
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
}

#[test]
fn the_agent_runs_under_the_profile_that_another_recorded() {
    let cluster = cluster();
    let space = cluster.agents(&Agents::kustomization());
    let node = cluster.node(1).name.clone();
    // A second instance on the same node, which the DaemonSet does not know of.
    let first = space.on(&node);
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
        "--namespace=seccast",
        "exec",
        "recorder",
        "--",
        "/seccast",
        "record",
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
    let mut kubectl = (*cluster).kubectl();
    let recording = Recording::arm(kubectl.args(only));
    space.kubectl(&["delete", "pod", &first]);
    works(&cluster, &space, 1, "recorded");
    let second = space.on(&node);
    space.kubectl(&["delete", "pod", &second]);
    // Its code is not asked for: what RuntimeDefault denied counts as a finding.
    let ended = recording.end();
    let (profile, said) = (ended.stdout, ended.stderr);
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

    // And under it the agent does the same, by an image whose name users have changed.
    let image = "localhost/e2e-seccast:own";
    for node in &cluster.nodes {
        let tag = ["ctr", "--namespace=k8s.io", "images", "tag", "--force"];
        cluster.on(node, &[&tag[..], &[SECCAST, image]].concat());
    }
    let overlay = tempfile::tempdir_in(repository()).unwrap();
    let text = "resources: [../deploy/kustomize]\ncomponents: [../deploy/kustomize/own-profile]\n\
                images: [{name: localhost/seccast, newName: localhost/e2e-seccast, newTag: own}]\n";
    fs::write(overlay.path().join("kustomization.yaml"), text).unwrap();
    space.change(overlay.path());
    for node in &cluster.nodes {
        let pod = space.on(&node.name);
        let spec = &space.get(&format!("pod/{pod}"))["spec"];
        for kind in ["initContainers", "containers"] {
            assert_eq!(spec[kind][0]["image"], image, "{kind}");
        }
        let profile = &spec["containers"][0]["securityContext"]["seccompProfile"];
        assert_eq!(profile["localhostProfile"], "agent/seccast/seccast.json");
        assert_eq!(space.status(&pod, "agent", "Seccomp"), "2");
        assert_eq!(space.status(&pod, "agent", "CapEff"), CAPABILITIES);
        // What is watched is what it was without: else a ConfigMap that is missing were not an empty folder.
        let watched = cluster.disk(node, SECCOMP).join("seccast/seccast.json");
        assert!(fs::symlink_metadata(watched).is_err());
    }
    // Denied calls are counted from outside while it works.
    let pod = space.on(&node);
    let id = space.container_id(&pod, "agent");
    let mut verify = cluster.seccast(cluster.node(1));
    let profile = cluster
        .disk(cluster.node(1), SECCOMP)
        .join("agent/seccast/seccast.json");
    let profile = fs::canonicalize(profile).unwrap();
    verify.arg("verify").arg("--profile").arg(&profile).args([
        "--container",
        &id,
        "--format",
        "json",
    ]);
    let verify = Recording::arm(&mut verify);
    works(&cluster, &space, 1, "enforced");
    let verdict = verify.stop();
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
}
