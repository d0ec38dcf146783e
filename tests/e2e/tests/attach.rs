//! `seccast attach KIND/NAME`, in a real cluster: what it changes, what it says, and that it changes nothing else.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are tests, and a test fails by panicking"
)]

use seccast_e2e::{
    BUSYBOX, COMMAND, Fixture, Namespace, PATIENCE, SECCOMP, all_but, cluster, expect,
};
use seccast_rig::process::{self, Output};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

/// EOPNOTSUPP: mkdir never returns it by itself there.
const ERRNO: u32 = 95;

/// `seccast attach ARGS` on the first node, in the namespace.
fn attach(cluster: &Fixture, space: &Namespace<'_>, args: &[&str]) -> Output {
    cluster.run(&[&["attach", "--namespace", space.name()], args].concat())
}

/// Three Pods of busybox on both nodes, which end at once.
fn deployment(name: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": template(name),
        },
    })
}

fn template(name: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "app", "image": BUSYBOX}],
            "topologySpreadConstraints": [{
                "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"app": name}}, "matchLabelKeys": ["pod-template-hash"],
            }],
        },
    })
}

/// A Deployment, once nothing but a change of ours would give it another resourceVersion: its controller has seen what it is to be,
/// has all Pods and no other ones, and has said so.
fn settled(space: &Namespace<'_>, deployment: &str) -> Value {
    space.until("its controller to be done", || {
        let object = space.get(deployment);
        let status = &object["status"];
        let is_none = |of: &str| status[of].as_u64().unwrap_or(0) == 0;
        let is_all = |of: &str| status[of] == object["spec"]["replicas"];
        let counts = [
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
        ];
        let done = |of: &Value| of["reason"] == "NewReplicaSetAvailable";
        let is_done = status["observedGeneration"] == object["metadata"]["generation"]
            && counts.iter().all(|of| is_all(of))
            && is_none("unavailableReplicas")
            && is_none("terminatingReplicas")
            && status["conditions"].as_array()?.iter().any(done);
        is_done.then_some(object)
    })
}

/// Whether each of three Pods, on both nodes, runs under the filter that denies mkdir, and under nothing else.
fn enforced(space: &Namespace<'_>, label: &str, filtered: bool) {
    let pods = space.live_pods(label);
    assert_eq!(pods.len(), 3, "{pods:?}");
    let nodes: BTreeSet<_> = pods
        .iter()
        .map(|pod| space.node_of(pod).name.clone())
        .collect();
    assert_eq!(nodes.len(), 2, "{nodes:?}");
    for pod in &pods {
        let mode = space.status(pod, "app", "Seccomp");
        assert_eq!(mode, if filtered { "2" } else { "0" }, "{pod}");
        let made = space.try_exec(pod, "app", &["/bin/mkdir", "/tmp/made"]);
        let denied = made.stderr.contains("Operation not supported");
        assert_eq!(
            (made.status.success(), denied),
            (!filtered, filtered),
            "{pod}: {}",
            made.stderr
        );
        space.exec(pod, "app", &["/bin/touch", "/tmp/file"]);
    }
    println!(
        "{label}: 3 Pods on {nodes:?}, Seccomp {}",
        if filtered { 2 } else { 0 }
    );
}

#[test]
fn a_deployment_gets_a_profile_and_loses_it_again() {
    let cluster = cluster();
    let space = cluster.namespace("e2e-attach");
    cluster.write_profile("e2e/attach.json", &all_but("mkdir", ERRNO));
    space.apply(&deployment("web", 3).to_string());
    space.rolled_out("deploy/web");
    enforced(&space, "app=web", false);
    let before = settled(&space, "deploy/web");
    let wanted = ["deploy/web", "--profile", "e2e/attach.json"];

    // Neither of these changes anything.
    let shown = attach(&cluster, &space, &[&wanted[..], &["--dry-run"]].concat());
    expect(&shown, 0, &[]);
    let changed: Vec<_> = shown
        .stdout
        .lines()
        .filter(|line| line.starts_with(['+', '-']))
        .map(str::trim_end)
        .collect();
    assert_eq!(
        changed,
        [
            "--- deployment/web: its Pod template",
            "+++ deployment/web: its Pod template then",
            "+    securityContext:",
            "+      seccompProfile:",
            "+        type: Localhost",
            "+        localhostProfile: e2e/attach.json",
        ]
    );
    let checked = attach(&cluster, &space, &[&wanted[..], &["--check"]].concat());
    expect(
        &checked,
        1,
        &[
            "not as wanted: deployment/web, container app: no profile of its own, wanted: Localhost e2e/attach.json",
        ],
    );
    assert_eq!(space.get("deploy/web"), before);

    expect(
        &attach(&cluster, &space, &wanted),
        0,
        &[
            "container app: Localhost e2e/attach.json, was: no profile of its own",
            "3 Pods run under it after ",
        ],
    );
    enforced(&space, "app=web", true);
    let attached = settled(&space, "deploy/web");
    let app = &attached["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        app["securityContext"],
        json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "e2e/attach.json"}})
    );

    // As it is wanted: no rollout, not even a new resourceVersion.
    let again = attach(&cluster, &space, &wanted);
    expect(&again, 0, &["as wanted already", "3 Pods run under it\n"]);
    expect(
        &attach(&cluster, &space, &[&wanted[..], &["--check"]].concat()),
        0,
        &[],
    );
    assert_eq!(space.get("deploy/web"), attached);

    expect(
        &attach(&cluster, &space, &["deploy/web", "--detach"]),
        0,
        &[
            "no profile of its own, was: Localhost e2e/attach.json",
            "3 Pods run without it after ",
        ],
    );
    enforced(&space, "app=web", false);
    let after = settled(&space, "deploy/web");
    assert_eq!(after["spec"], before["spec"]);
    expect(
        &attach(&cluster, &space, &["deploy/web", "--detach"]),
        0,
        &["as wanted already"],
    );
    assert_eq!(space.get("deploy/web"), after);
}

#[test]
fn what_others_have_set_is_theirs_until_it_is_taken_over() {
    let cluster = cluster();
    let space = cluster.namespace("e2e-owner");
    cluster.write_profile("e2e/owner.json", &all_but("mkdir", ERRNO));
    let mut deploy = deployment("web", 1);
    let profile = json!({"type": "RuntimeDefault"});
    deploy["spec"]["template"]["spec"]["containers"][0]["securityContext"] =
        json!({"seccompProfile": profile});
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.json");
    fs::write(&file, deploy.to_string()).unwrap();
    space.kubectl(&[
        "apply",
        "--server-side",
        "--field-manager=helm",
        "--filename",
        file.to_str().unwrap(),
    ]);
    space.rolled_out("deploy/web");
    let before = settled(&space, "deploy/web");
    let wanted = ["deploy/web", "--profile", "e2e/owner.json"];

    let field = r#".spec.template.spec.containers[name="app"].securityContext.seccompProfile.type"#;
    expect(
        &attach(&cluster, &space, &wanted),
        3,
        &[&format!("helm has set {field}"), "--force-conflicts"],
    );
    expect(
        &attach(&cluster, &space, &["deploy/web", "--detach"]),
        3,
        &[
            "container app has its profile (RuntimeDefault) by somebody else, whose it stays: helm",
            "values of a chart",
        ],
    );
    assert_eq!(space.get("deploy/web"), before);

    expect(
        &attach(
            &cluster,
            &space,
            &[&wanted[..], &["--force-conflicts"]].concat(),
        ),
        0,
        &[
            "Localhost e2e/owner.json, was: RuntimeDefault",
            "1 Pod runs under it",
        ],
    );
    let pod = space.live_pods("app=web").pop_first().unwrap();
    assert_eq!(space.status(&pod, "app", "Seccomp"), "2");
    expect(
        &attach(&cluster, &space, &["deploy/web", "--detach"]),
        0,
        &["1 Pod runs without it"],
    );
    assert!(
        space.get("deploy/web")["spec"]["template"]["spec"]["containers"][0]["securityContext"]
            .is_null()
    );
}

#[test]
fn containers_attached_one_after_the_other_keep_what_they_have() {
    let cluster = cluster();
    let space = cluster.namespace("e2e-several");
    for name in ["app", "setup", "proxy"] {
        cluster.write_profile(&format!("e2e/{name}.json"), &all_but("mkdir", ERRNO));
    }
    let mut deploy = deployment("web", 1);
    let spec = &mut deploy["spec"]["template"]["spec"];
    spec["initContainers"] = json!([
        {"name": "setup", "image": BUSYBOX, "command": ["/bin/true"]},
        {"name": "proxy", "image": BUSYBOX, "restartPolicy": "Always"},
    ]);
    space.apply(&deploy.to_string());
    // The second of its list alone, then one before it: the server keeps the order only if the order is given.
    for name in ["app", "proxy", "setup"] {
        let profile = format!("e2e/{name}.json");
        let done = attach(
            &cluster,
            &space,
            &["deploy/web", "-c", name, "--profile", &profile],
        );
        expect(
            &done,
            0,
            &[
                &format!("container {name}: Localhost {profile}"),
                "1 Pod runs under it",
            ],
        );
    }
    let has = || {
        let spec = space.get("deploy/web")["spec"]["template"]["spec"].clone();
        let all = [
            &spec["initContainers"][0],
            &spec["initContainers"][1],
            &spec["containers"][0],
        ];
        all.map(|container| {
            container["securityContext"]["seccompProfile"]["localhostProfile"].clone()
        })
    };
    assert_eq!(
        has(),
        [
            json!("e2e/setup.json"),
            json!("e2e/proxy.json"),
            json!("e2e/app.json")
        ]
    );
    let pod = space.live_pods("app=web").pop_first().unwrap();
    for container in ["proxy", "app"] {
        assert_eq!(space.status(&pod, container, "Seccomp"), "2", "{container}");
    }
    // Of the other two, only the one with this profile.
    let detach = [
        "deploy/web",
        "-c",
        "app",
        "-c",
        "setup",
        "--detach",
        "--profile",
        "e2e/setup.json",
    ];
    expect(
        &attach(&cluster, &space, &detach),
        0,
        &["container setup: no profile of its own, was: Localhost e2e/setup.json"],
    );
    assert_eq!(
        has(),
        [Value::Null, json!("e2e/proxy.json"), json!("e2e/app.json")]
    );
}

#[test]
fn a_profile_that_no_node_has_is_explained_and_old_pods_serve_on() {
    let cluster = cluster();
    let space = cluster.namespace("e2e-missing");
    cluster.write_profile("e2e/there.json", &all_but("mkdir", ERRNO));
    for node in &cluster.nodes {
        let _ = fs::remove_file(cluster.disk(node, SECCOMP).join("e2e/missing.json"));
    }
    space.apply(&deployment("web", 3).to_string());
    space.rolled_out("deploy/web");
    expect(
        &attach(
            &cluster,
            &space,
            &["deploy/web", "--profile", "e2e/there.json"],
        ),
        0,
        &[],
    );
    let serving = space.live_pods("app=web");

    let missing = [
        "deploy/web",
        "--profile",
        "e2e/missing.json",
        "--timeout",
        "15s",
    ];
    let refused = attach(&cluster, &space, &missing);
    let back = format!(
        "seccast attach deployment/web -n {} -c app --profile e2e/there.json",
        space.name()
    );
    expect(
        &refused,
        3,
        &[
            "CreateContainerError: failed to create containerd container: cannot load seccomp profile",
            &format!(" has no {SECCOMP}/e2e/missing.json: put it there with `seccast install`"),
            "not rolled out within 15s: 1 of 3 Pods are new",
            &format!("to go back: `{back}`"),
        ],
    );
    let now = space.live_pods("app=web");
    assert!(
        now.is_superset(&serving) && now.len() == 4,
        "{serving:?} {now:?}"
    );
    for pod in &serving {
        space.exec(pod, "app", &["/bin/true"]);
    }
    // As it says.
    let back = back.replace(&format!(" -n {}", space.name()), "");
    let words: Vec<_> = back.split_whitespace().skip(2).collect();
    expect(
        &attach(&cluster, &space, &words),
        0,
        &["3 Pods run under it"],
    );
    assert_eq!(space.live_pods("app=web"), serving);

    // The file comes while it waits.
    let log = tempfile::NamedTempFile::new().unwrap();
    let said = || fs::read_to_string(log.path()).unwrap();
    let mut waits = cluster.seccast(cluster.node(1));
    waits
        .args(["attach", "--namespace", space.name()])
        .args(&missing[..3]);
    let mut waits = waits
        .stderr(log.reopen().unwrap())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    space.until("it to say why", || {
        said().contains("CreateContainerError").then_some(())
    });
    cluster.write_profile("e2e/missing.json", &all_but("mkdir", ERRNO));
    let ended = process::wait(&mut waits, PATIENCE + COMMAND).unwrap();
    if ended.is_none() {
        waits.kill().and_then(|()| waits.wait()).unwrap();
    }
    assert_eq!(
        ended.and_then(|status| status.code()),
        Some(0),
        "{}",
        said()
    );
    assert!(said().contains("3 Pods run under it"), "{}", said());
    enforced(&space, "app=web", true);
}

#[test]
fn every_kind_says_what_becomes_of_its_pods() {
    let cluster = cluster();
    let space = cluster.namespace("e2e-kinds");
    cluster.write_profile("e2e/kinds.json", &all_but("mkdir", ERRNO));
    let spec = |name: &str| {
        let mut template = template(name);
        template["spec"]
            .as_object_mut()
            .unwrap()
            .remove("topologySpreadConstraints");
        json!({"selector": {"matchLabels": {"app": name}}, "template": template})
    };
    let with = |mut spec: Value, fields: Value| {
        spec.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        spec
    };
    let mut job = json!({"template": spec("job")["template"]});
    job["template"]["spec"]["restartPolicy"] = json!("Never");
    let objects = [
        (
            "apps/v1",
            "StatefulSet",
            "db",
            with(spec("db"), json!({"replicas": 2, "serviceName": "db"})),
        ),
        ("apps/v1", "DaemonSet", "agent", spec("agent")),
        (
            "apps/v1",
            "ReplicaSet",
            "set",
            with(spec("set"), json!({"replicas": 1})),
        ),
        (
            "batch/v1",
            "CronJob",
            "tidy",
            json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job.clone()}}),
        ),
        ("batch/v1", "Job", "once", job),
    ];
    for (version, kind, name, spec) in objects {
        space.apply(
            &json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec})
                .to_string(),
        );
    }
    space.rolled_out("sts/db");
    space.rolled_out("ds/agent");
    let attach = |name: &str| attach(&cluster, &space, &[name, "--profile", "e2e/kinds.json"]);
    expect(
        &attach("sts/db"),
        0,
        &["statefulset/db: 2 Pods run under it"],
    );
    expect(
        &attach("ds/agent"),
        0,
        &["daemonset/agent: 2 Pods run under it"],
    );
    for pod in space.live_pods("app in (db,agent)") {
        assert_eq!(space.status(&pod, "app", "Seccomp"), "2", "{pod}");
    }
    let old = space.live_pods("app=set");
    expect(
        &attach("rs/set"),
        0,
        &["replicaset/set: a ReplicaSet replaces no Pod: those that run stay as they are"],
    );
    assert_eq!(space.live_pods("app=set"), old);
    expect(
        &attach("cj/tidy"),
        0,
        &["cronjob/tidy: runs that have begun stay as they are; the next one has the change"],
    );
    space.kubectl(&["create", "job", "now", "--from=cronjob/tidy"]);
    let pod = space.until("the run's Pod", || {
        space
            .live_pods("batch.kubernetes.io/job-name=now")
            .pop_first()
    });
    space.ready(&pod);
    assert_eq!(space.status(&pod, "app", "Seccomp"), "2");

    let lets = "Kubernetes lets nobody change the securityContext of a";
    expect(
        &attach("job/once"),
        3,
        &[&format!(
            "{lets} Job once it is there; attach to its manifest, delete the Job"
        )],
    );
    expect(
        &attach("job/now"),
        3,
        &["it was made by cronjob/tidy: attach to that"],
    );
    expect(
        &attach(&format!("pod/{pod}")),
        3,
        &[
            &format!("{lets} Pod"),
            "it was made by cronjob/tidy: attach to that",
        ],
    );
    expect(
        &attach("pod/db-0"),
        3,
        &["it was made by statefulset/db: attach to that"],
    );
}

#[test]
fn a_privileged_container_is_warned_of_and_has_no_filter() {
    let cluster = cluster();
    let space = cluster.namespace("e2e-privileged");
    cluster.write_profile("e2e/privileged.json", &all_but("mkdir", ERRNO));
    let mut deploy = deployment("web", 1);
    deploy["spec"]["template"]["spec"]["containers"][0]["securityContext"] =
        json!({"privileged": true});
    space.apply(&deploy.to_string());
    expect(
        &attach(
            &cluster,
            &space,
            &["deploy/web", "--profile", "e2e/privileged.json"],
        ),
        0,
        &[
            "warning: deployment/web, container app: it is privileged",
            "hint: take `privileged: true` out",
        ],
    );
    let pod = space.live_pods("app=web").pop_first().unwrap();
    assert_eq!(
        space.status(&pod, "app", "Seccomp"),
        "0",
        "the warning is not true any more"
    );
}

#[test]
fn who_may_not_and_what_is_wrong_changes_nothing() {
    let cluster = cluster();
    let space = cluster.namespace("e2e-refused");
    space.apply(&deployment("web", 1).to_string());
    space.rolled_out("deploy/web");
    let before = settled(&space, "deploy/web");
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let attach = |args: &[&str]| attach(&cluster, &space, &[&["deploy/web"], args].concat());

    // Docker's dialect, of which containerd would drop the conditions.
    let docker = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}}],
    });
    fs::write(path("docker.json"), docker.to_string()).unwrap();
    let profiles = path("");
    expect(
        &attach(&["--profile", "docker.json", "--profiles", &profiles]),
        3,
        &[
            "docker.json",
            "docker's dialect",
            "`seccast convert` makes one of it",
        ],
    );
    expect(
        &attach(&["--audit", "-c", "ap"]),
        2,
        &["no container `ap` (did you mean app?)"],
    );
    expect(
        &attach(&["--audit", "-c", "db/app"]),
        2,
        &["-c db/app is of none of the workloads"],
    );
    expect(&attach(&["--profile", "../web.json"]), 2, &["`..`"]);
    expect(
        &attach(&["--audit", "--in-place"]),
        2,
        &["--in-place is for files"],
    );

    // Workloads that are not there: nothing of the first is changed either.
    expect(
        &attach(&["deploy/wev", "--audit"]),
        3,
        &["no deployments.apps/wev in namespace e2e-refused (did you mean web?)"],
    );
    let elsewhere = cluster.namespace("e2e-elsewhere");
    elsewhere.apply(&deployment("gone", 0).to_string());
    expect(
        &attach(&["deploy/gone", "--audit"]),
        3,
        &["(there is one in namespace e2e-elsewhere)"],
    );

    // Who asks, and where.
    let admin = fs::read_to_string(cluster.kubeconfig()).unwrap();
    let admin: Value = serde_json::from_str(&admin).unwrap();
    let kubeconfig = |name: &str, token: &str| {
        cluster.kubeconfig_with(token, path(name).as_ref());
        path(name)
    };
    let server = &admin["clusters"][0]["cluster"]["server"];
    let closed = server.as_str().unwrap().replace(":6443", ":6444");
    let nobody = kubeconfig("nobody", "expired");
    expect(
        &attach(&["--audit", "--kubeconfig", &nobody]),
        3,
        &["does not know who asks (Unauthorized)", "log in again"],
    );
    let mut elsewhere = admin.clone();
    elsewhere["clusters"][0]["cluster"]["server"] = json!(closed);
    let refused = path("refused");
    fs::write(&refused, elsewhere.to_string()).unwrap();
    expect(
        &attach(&["--audit", "--kubeconfig", &refused]),
        3,
        &[&closed, "Connection refused", "is it running there"],
    );

    // A service account that may look, and one more that may not even that.
    for (name, verbs) in [
        ("looks", Some("get")),
        ("blind", None),
        ("may", Some("get,patch")),
    ] {
        space.kubectl(&["create", "serviceaccount", name]);
        if let Some(verbs) = verbs {
            space.kubectl(&[
                "create",
                "role",
                name,
                &format!("--verb={verbs}"),
                "--resource=deployments",
            ]);
            let account = format!("--serviceaccount={}:{name}", space.name());
            space.kubectl(&[
                "create",
                "rolebinding",
                name,
                &format!("--role={name}"),
                &account,
            ]);
        }
        let token = space.kubectl(&["create", "token", name]);
        kubeconfig(name, &token);
    }
    for (name, verb) in [("looks", "patch"), ("blind", "get")] {
        let account = format!("system:serviceaccount:{}:{name}", space.name());
        expect(
            &attach(&["--audit", "--kubeconfig", &path(name)]),
            3,
            &[
                &format!("not allowed to {verb} deployments.apps/web in namespace e2e-refused"),
                &account,
                &format!(
                    "`kubectl auth can-i {verb} deployments.apps/web --namespace e2e-refused`"
                ),
            ],
        );
        // What the message proposes to ask is what is missing.
        let words = [
            "auth",
            "can-i",
            verb,
            "deployments.apps/web",
            "--as",
            &account,
        ];
        assert_eq!(space.try_kubectl(&words).stdout.trim(), "no", "{name}");
    }
    assert_eq!(space.get("deploy/web"), before);

    // The two rights are enough; without a third it is said what cannot be seen.
    cluster.write_profile("e2e/refused.json", &all_but("mkdir", ERRNO));
    expect(
        &attach(&[
            "--profile",
            "e2e/refused.json",
            "--kubeconfig",
            &path("may"),
        ]),
        0,
        &[
            "not allowed to list pods in namespace e2e-refused",
            "1 Pod runs under it",
        ],
    );
}

#[test]
fn by_file_and_live_a_workload_becomes_the_same() {
    let cluster = cluster();
    cluster.write_profile("e2e/same.json", &all_but("mkdir", ERRNO));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.yaml");
    // As people write it.
    let manifest = "\
# The shop's front door.
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web}   # see above
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: app  # the program
        image: localhost/busybox:1
        securityContext:
          allowPrivilegeEscalation: false
";
    let specs = [false, true].map(|by_file| {
        let name = if by_file { "e2e-by-file" } else { "e2e-live" };
        let space = cluster.namespace(name);
        fs::write(&file, manifest).unwrap();
        let file = file.to_str().unwrap();
        if by_file {
            let args = [file, "--profile", "e2e/same.json", "--in-place"];
            expect(&cluster.run(&[&["attach"], &args[..]].concat()), 0, &[]);
        }
        space.kubectl(&["apply", "--filename", file]);
        if !by_file {
            let args = ["deploy/web", "--profile", "e2e/same.json"];
            expect(
                &attach(&cluster, &space, &args),
                0,
                &["1 Pod runs under it"],
            );
        }
        space.rolled_out("deploy/web");
        let pod = space.live_pods("app=web").pop_first().unwrap();
        assert_eq!(space.status(&pod, "app", "Seccomp"), "2");
        settled(&space, "deploy/web")["spec"].clone()
    });
    assert_eq!(specs[0], specs[1]);
    let lines: Vec<_> = manifest.lines().collect();
    let written = fs::read_to_string(&file).unwrap();
    assert_eq!(
        written.lines().filter(|line| !lines.contains(line)).count(),
        3
    );
}
