//! Pods under profiles, and seccast's own image.

use seccast_e2e::{BUSYBOX, SECCAST, all_but, cluster, seccast, unified};
use seccast_rig::process;
use serde_json::{Value, json};
use std::process::Command;

/// EOPNOTSUPP: mkdir never returns it by itself there.
const ERRNO: u32 = 95;

#[test]
fn a_pod_under_a_localhost_profile_has_its_filter() {
    let cluster = cluster();
    cluster.write_profile("e2e/no-mkdir.json", &all_but("mkdir", ERRNO));
    let space = cluster.namespace("e2e-filter");
    for node in &cluster.nodes {
        for (kind, profile) in [
            (
                "localhost",
                json!({ "type": "Localhost", "localhostProfile": "e2e/no-mkdir.json" }),
            ),
            ("unconfined", json!({ "type": "Unconfined" })),
        ] {
            let pod = format!("{kind}-{}", node.name);
            space.make_pod(
                &pod,
                &json!({ "nodeName": node.name, "containers": [{
                    "name": "app", "image": BUSYBOX, "securityContext": { "seccompProfile": profile },
                }]}),
            );
            space.ready(&pod);
            assert_eq!(space.node_of(&pod).name, node.name);
            let filtered = kind == "localhost";
            let mode = if filtered { "2" } else { "0" };
            assert_eq!(space.status(&pod, "app", "Seccomp"), mode, "{pod}");
            let made = space.try_exec(&pod, "app", &["/bin/mkdir", "/tmp/x"]);
            assert_eq!(made.status.success(), !filtered, "{pod}: {}", made.stderr);
            let why = made.stderr.contains("Operation not supported");
            assert_eq!(why, filtered, "{pod}: {}", made.stderr);
        }
    }
}

#[test]
fn a_profile_that_is_not_on_the_node_keeps_a_container_from_starting_until_it_is() {
    let cluster = cluster();
    for node in &cluster.nodes {
        let _ = std::fs::remove_file(cluster.disk(node, "/var/lib/kubelet/seccomp/e2e/late.json"));
    }
    let space = cluster.namespace("e2e-late");
    let profile = json!({ "type": "Localhost", "localhostProfile": "e2e/late.json" });
    space.pod(
        "late",
        BUSYBOX,
        json!({ "securityContext": { "seccompProfile": profile } }),
    );
    let reason = space.until("a container that cannot be made", || {
        let pod = space.get("pod/late");
        let waiting = pod["status"]["containerStatuses"][0]["state"]["waiting"].clone();
        (waiting["reason"] == "CreateContainerError").then(|| waiting["message"].to_string())
    });
    assert!(reason.contains("e2e/late.json"), "{reason}");
    cluster.write_profile("e2e/late.json", &all_but("mkdir", ERRNO));
    space.ready("late");
    assert_eq!(space.status("late", "app", "Seccomp"), "2");
}

#[test]
fn the_image_holds_the_seccast_that_was_built() {
    let cluster = cluster();
    let space = cluster.namespace("e2e-image");
    space.pod("version", SECCAST, json!({ "args": ["--version"] }));
    assert_eq!(space.ended("version"), "Succeeded");
    let here = process::check(
        Command::new(seccast()).arg("--version"),
        seccast_e2e::COMMAND,
    );
    assert_eq!(space.logs("version", "app"), here.unwrap().stdout);
}

/// What the DaemonSet is: not privileged, no more than two capabilities, a root that is read-only.
#[test]
fn two_capabilities_are_enough_in_a_pod() {
    let cluster = cluster();
    let space = cluster.namespace("e2e-doctor");
    for (name, add) in [("both", &["BPF", "PERFMON"][..]), ("neither", &[])] {
        let spec = json!({
            "hostPID": true,
            "volumes": [{ "name": "cgroup", "hostPath": { "path": unified() } }],
            "containers": [{
                "name": "app",
                "image": SECCAST,
                "args": ["doctor", "--format", "json"],
                "volumeMounts": [{ "name": "cgroup", "mountPath": "/host/cgroup", "readOnly": true }],
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"], "add": add },
                    "seccompProfile": { "type": "RuntimeDefault" },
                },
            }],
        });
        space.make_pod(name, &spec);
        let phase = space.ended(name);
        let said = space.logs(name, "app");
        let report: Value = serde_json::from_str(&said).unwrap();
        let of = |subject: &str| {
            let checks = report["findings"].as_array().unwrap();
            let check = checks.iter().find(|check| check["subject"] == subject);
            let check = check.unwrap_or_else(|| panic!("nothing on {subject}: {said}"));
            (
                check["state"].as_str().unwrap().to_owned(),
                check["found"].as_str().unwrap().to_owned(),
            )
        };
        if name == "both" {
            assert_eq!(phase, "Succeeded", "{said}");
            assert_eq!(of("capabilities"), ("ok".into(), "BPF, PERFMON".into()));
            assert_eq!(of("programs").0, "ok", "{said}");
            assert!(
                of("cgroups").1.ends_with("cgroup2 at /host/cgroup"),
                "{said}"
            );
        } else {
            assert_eq!(phase, "Failed", "{said}");
            assert_eq!(of("capabilities").0, "missing", "{said}");
        }
    }
}
