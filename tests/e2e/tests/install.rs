//! `seccast install` on nodes of a real cluster: who uses a profile, and the start-up taint.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are tests, and a test fails by panicking"
)]

use seccast_e2e::{
    Agents, BUSYBOX, Fixture, MISSING, Namespace, Right, SECCOMP, TAINT, all_but, cluster,
};
use seccast_rig::process::{self, Output};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime};

/// How long agents may take to end: the kubelet gives them 30 s.
const COMMAND: Duration = Duration::from_secs(90);

/// `seccast install ARGS` on the first node.
fn install(cluster: &Fixture, args: &[&str]) -> Output {
    cluster.run(&[&["install"], args].concat())
}

/// The same, which has to end with this code, and say all of this.
fn expect(cluster: &Fixture, args: &[&str], code: i32, says: &[&str]) {
    seccast_e2e::expect(&install(cluster, args), code, says);
}

/// Our folder on the first node, empty.
fn folder(cluster: &Fixture) -> std::path::PathBuf {
    // The agents of a test before this one, which are not waited for at its end, repair what is taken from them.
    let agents = [
        "get",
        "pods",
        "--all-namespaces",
        "--output=name",
        "--selector",
        Agents::LABEL,
    ];
    process::poll("the end of other agents", COMMAND, || {
        Ok(cluster.kubectl(&agents).trim().is_empty())
    })
    .unwrap();
    let folder = cluster.disk(cluster.node(1), SECCOMP).join("seccast");
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    folder
}

fn profile(folder: &Path, name: &str, errno: u32) -> String {
    let path = folder.join(name);
    fs::write(&path, all_but("mkdir", errno).to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A Pod on the first node whose container names this profile.
fn pod(cluster: &Fixture, space: &Namespace<'_>, name: &str, image: &str, localhost: &str) {
    let seccomp = json!({"type": "Localhost", "localhostProfile": localhost});
    let container = json!({
        "name": "app", "image": image, "imagePullPolicy": "Never",
        "securityContext": {"seccompProfile": seccomp},
    });
    let node = &cluster.node(1).name;
    space.make_pod(name, &json!({"nodeName": node, "containers": [container]}));
}

/// A service account that may do this with Nodes for as long as the right is held, and a kubeconfig and a token file of it.
fn account<'a>(
    cluster: &'a Fixture,
    space: &Namespace<'_>,
    verb: &str,
    resource: &str,
    at: &Path,
) -> (Right<'a>, String, String) {
    let name = format!("{}-{verb}", space.name());
    space.kubectl(&["create", "serviceaccount", &name]);
    let account = format!("{}:{name}", space.name());
    let right = cluster.grant(&name, verb, resource, &account);
    let token = space.kubectl(&["create", "token", &name]);
    let [kubeconfig, file] = ["kubeconfig", "token"].map(|end| at.join(format!("{name}.{end}")));
    cluster.kubeconfig_with(&token, &kubeconfig);
    fs::write(&file, token.trim()).unwrap();
    let [kubeconfig, file] = [kubeconfig, file].map(|path| path.to_str().unwrap().to_owned());
    (right, kubeconfig, file)
}

/// The state of each installed file of this test's profile, and who uses it: others may be put back by whoever has them.
fn listed(cluster: &Fixture, args: &[&str]) -> BTreeMap<String, (String, Value)> {
    let output = install(cluster, &[&["--list", "--format", "json"], args].concat());
    let list: Value = serde_json::from_str(&output.stdout).unwrap();
    let files = list["files"].as_array().unwrap().iter();
    files
        .map(|file| {
            let text = |field: &str| file[field].as_str().unwrap().to_owned();
            (
                text("localhost_profile"),
                (text("state"), file["used_by"].clone()),
            )
        })
        .filter(|(name, _)| name.starts_with("seccast/web."))
        .collect()
}

#[test]
fn what_a_pod_uses_is_not_removed() {
    let cluster = cluster();
    let space = cluster.namespace("e2e-install");
    let files = tempfile::tempdir().unwrap();
    let folder = folder(&cluster);
    let web = profile(files.path(), "web.json", 95);
    expect(&cluster, &[&web], 0, &["seccast/web.json is ", ", new"]);
    let first = fs::read_link(folder.join("web.json")).unwrap();
    let first = format!("seccast/{}", first.display());
    pod(&cluster, &space, "alias", BUSYBOX, "seccast/web.json");
    pod(&cluster, &space, "version", BUSYBOX, &first);
    space.ready("alias");
    space.ready("version");
    for pod in ["alias", "version"] {
        assert_eq!(space.status(pod, "app", "Seccomp"), "2");
    }
    // Two newer ones, of which a Pod that cannot begin, and so has no container, names the first.
    profile(files.path(), "web.json", 96);
    expect(&cluster, &[&web], 0, &["in place of"]);
    let second = fs::read_link(folder.join("web.json")).unwrap();
    let second = format!("seccast/{}", second.display());
    pod(&cluster, &space, "begins", "localhost/none:1", &second);
    space.until("the kubelet to know the Pod", || {
        let status = space.get("pod/begins")["status"].clone();
        (status["containerStatuses"][0]["state"]["waiting"]["reason"] == "ErrImageNeverPull")
            .then_some(())
    });
    profile(files.path(), "web.json", 97);
    expect(&cluster, &[&web], 0, &["in place of"]);
    let used = |pods: &[&str]| {
        let pods: Vec<_> = pods
            .iter()
            .map(|pod| format!("e2e-install/{pod}"))
            .collect();
        json!(pods)
    };
    let list = listed(&cluster, &[]);
    assert_eq!(list.len(), 3);
    assert_eq!(
        list["seccast/web.json"],
        ("current".to_owned(), used(&["alias"]))
    );
    assert_eq!(list[&first], ("old".to_owned(), used(&["version"])));
    assert_eq!(list[&second], ("old".to_owned(), used(&[])));
    // The kubelet knows more.
    let (_right, _, token) = account(&cluster, &space, "get", "nodes/proxy", files.path());
    let addresses =
        space.get(&format!("node/{}", cluster.node(1).name))["status"]["addresses"].clone();
    let mut addresses = addresses.as_array().unwrap().iter();
    let address = addresses
        .find(|address| address["type"] == "InternalIP")
        .unwrap();
    let url = format!("https://{}:10250", address["address"].as_str().unwrap());
    let kubelet = [
        "--kubelet",
        &url,
        "--kubelet-token",
        &token,
        "--kubelet-insecure",
    ];
    assert_eq!(listed(&cluster, &kubelet)[&second].1, used(&["begins"]));
    let strict = [
        "--prune",
        "--kubelet",
        &url,
        "--kubelet-token",
        &token,
        "--kubelet-ca",
        &token,
    ];
    expect(
        &cluster,
        &strict,
        3,
        &["cannot tell what is in use", "kubelet"],
    );

    expect(
        &cluster,
        &["--remove", "web"],
        3,
        &["in use by e2e-install/alias"],
    );
    expect(
        &cluster,
        &["--prune"],
        0,
        &["old versions kept: 1 in use, 1 that were current"],
    );
    for entry in fs::read_dir(&folder).unwrap() {
        let file = fs::File::options()
            .append(true)
            .open(entry.unwrap().path())
            .unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(61))
            .unwrap();
    }
    expect(
        &cluster,
        &[&["--prune"], &kubelet[..]].concat(),
        0,
        &["old versions kept: 2 in use, 0"],
    );
    expect(
        &cluster,
        &["--prune"],
        0,
        &[&format!("{second} removed"), "kept: 1 in use"],
    );
    space.kubectl(&["delete", "pod", "--all", "--now"]);
    space.until("the runtime to have forgotten", || {
        listed(&cluster, &[])
            .values()
            .all(|(_, by)| *by == json!([]))
            .then_some(())
    });
    expect(
        &cluster,
        &["--remove", "web"],
        0,
        &["seccast/web.json removed"],
    );
    assert!(listed(&cluster, &[]).is_empty());
}

/// `seccast install --watch` on the first node; ended on drop.
struct Watch(Child);

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn watch(cluster: &Fixture, folder: &Path, node: &str, kubeconfig: &str) -> Watch {
    let mut command = cluster.seccast(cluster.node(1));
    command.args(["install", "--node", node, "--kubeconfig", kubeconfig]);
    command.arg("--watch").arg(folder.join("profiles"));
    let log = fs::File::create(folder.join("log")).unwrap();
    Watch(command.stderr(log).stdin(Stdio::null()).spawn().unwrap())
}

#[test]
fn the_taint_goes_when_all_is_on_the_disk_by_the_right_to_patch_alone() {
    let cluster = cluster();
    let space = cluster.namespace("e2e-taint");
    let files = tempfile::tempdir().unwrap();
    let folder = folder(&cluster);
    let node = cluster.node(1).name.clone();
    let taints = || {
        let node = space.get(&format!("node/{node}"));
        let taints = node["spec"]["taints"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let keys = taints
            .iter()
            .map(|taint| taint["key"].as_str().unwrap().to_owned());
        keys.collect::<Vec<_>>()
    };
    let _ours = cluster.taint(&node, MISSING);
    let _other = cluster.taint(&node, "example.org/other=x:PreferNoSchedule");
    let ours_alone = ["example.org/other"];
    assert_eq!(taints().len(), 2);
    let says = |words: &str| {
        space.until(words, || {
            let log = fs::read_to_string(files.path().join("log")).unwrap();
            log.contains(words).then_some(())
        });
    };
    fs::create_dir(files.path().join("profiles")).unwrap();
    profile(&files.path().join("profiles"), "web.json", 95);
    fs::write(files.path().join("profiles/bad.json"), "{").unwrap();
    let (_may_patch, patch, _) = account(&cluster, &space, "patch", "nodes", files.path());
    let (_may_get, get, _) = account(&cluster, &space, "get", "nodes", files.path());

    // Who may not patch is told what is missing, and the files are there all the same.
    fs::remove_file(files.path().join("profiles/bad.json")).unwrap();
    let without = watch(&cluster, files.path(), &node, &get);
    says("the service account needs `patch` of `nodes`");
    assert!(folder.join("web.json").exists());
    assert_eq!(taints().len(), 2);
    drop(without);

    // Not while a file is missing.
    fs::write(files.path().join("profiles/bad.json"), "{").unwrap();
    let _watch = watch(&cluster, files.path(), &node, &patch);
    says("not ready: bad.json is not installed");
    // However often it looks: for each of these it does.
    for name in ["second.json", "third.json"] {
        profile(&files.path().join("profiles"), name, 95);
        space.until("another round", || folder.join(name).exists().then_some(()));
    }
    assert_eq!(taints().len(), 2);
    fs::remove_file(files.path().join("profiles/bad.json")).unwrap();
    says(&format!(
        "node {node}: taint {TAINT}=missing:NoSchedule removed"
    ));
    assert_eq!(taints(), ours_alone);
    // And not a moment before all was there.
    let log = fs::read_to_string(files.path().join("log")).unwrap();
    let at = |words: &str| log.find(words).unwrap();
    assert!(at("ready: the node is equal") < at(TAINT), "{log}");
    // It may do nothing else.
    for words in [["get", "node"], ["delete", "node"]] {
        let refused = space.try_kubectl(&[&words[..], &[&node, "--kubeconfig", &patch]].concat());
        assert!(refused.stderr.contains("Forbidden"), "{}", refused.stderr);
    }
}
