//! The control plane, in the first node's namespaces: keys, etcd, API server, controllers, scheduler, names.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use seccast_rig::cluster::{Cluster, Node};
use seccast_rig::process::output;
use serde_json::json;

use super::node::{CONTROL, daemon, text};
use crate::process::{Run, check_interrupted};

/// How long the API server, and then the nodes, may take on a busy machine.
const READY: Duration = Duration::from_secs(90);

/// The cluster's own users: name, user name, groups. Each has a token and a kubeconfig.
const USERS: [(&str, &str, &str); 4] = [
    ("admin", "admin", "system:masters"),
    ("controllers", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
    ("proxy", "system:kube-proxy", ""),
];

/// Makes keys, certificates, tokens and kubeconfigs.
pub(super) fn credentials(cluster: &Cluster) -> Result<()> {
    let keys = cluster.dir.join("keys");
    fs::create_dir_all(&keys).with_context(|| format!("failed to make {}", keys.display()))?;
    let key = |name: &str| {
        let curve = [
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ];
        openssl(&keys).args(curve).args(["-out", name]).quiet()
    };
    key("sa.key")?;
    openssl(&keys)
        .args(["pkey", "-in", "sa.key", "-pubout", "-out", "sa.pub"])
        .quiet()?;
    key("ca.key")?;
    openssl(&keys)
        .args(["req", "-x509", "-new", "-key", "ca.key", "-out", "ca.crt"])
        .args(["-days", "365", "-subj", "/CN=seccast-cluster"])
        .quiet()?;
    let names = format!(
        "subjectAltName=IP:127.0.0.1,IP:{CONTROL},IP:10.233.0.1,DNS:localhost,DNS:kubernetes,\
         DNS:kubernetes.default,DNS:kubernetes.default.svc"
    );
    for (name, subject, extension) in [
        ("api", "/CN=kube-apiserver", names.as_str()),
        (
            "api-kubelet",
            "/O=system:masters/CN=api-kubelet",
            "extendedKeyUsage=clientAuth",
        ),
    ] {
        let (private, public) = (format!("{name}.key"), format!("{name}.crt"));
        key(&private)?;
        openssl(&keys)
            .args([
                "req", "-x509", "-new", "-key", &private, "-out", &public, "-days", "365",
            ])
            .args(["-subj", subject, "-CA", "ca.crt", "-CAkey", "ca.key"])
            .args([
                "-addext",
                extension,
                "-addext",
                "basicConstraints=critical,CA:FALSE",
            ])
            .quiet()?;
    }
    let mut tokens = String::new();
    let mut user = |name: &str, user: &str, group: &str| {
        let token = format!("token-of-{name}");
        tokens.push_str(&format!("{token},{user},{name},\"{group}\"\n"));
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "seccast",
            "contexts": [{ "name": "seccast", "context": { "cluster": "seccast", "user": name } }],
            "users": [{ "name": name, "user": { "token": token } }],
            "clusters": [{ "name": "seccast", "cluster": {
                "server": format!("https://{CONTROL}:6443"),
                "certificate-authority": keys.join("ca.crt"),
            }}],
        });
        let file = cluster.kubeconfig_of(name);
        fs::write(&file, config.to_string())
            .with_context(|| format!("failed to write {}", file.display()))
    };
    for (name, of, group) in USERS {
        user(name, of, group)?;
    }
    for Node { name, .. } in &cluster.nodes {
        user(name, &format!("system:node:{name}"), "system:nodes")?;
    }
    fs::write(keys.join("tokens.csv"), tokens).context("failed to write the tokens")
}

fn openssl(keys: &Path) -> Run {
    Run::new("openssl").dir(keys)
}

/// etcd, which forgets everything with the machine, and the API server.
pub(super) fn start_api(cluster: &Cluster) -> Result<()> {
    let node = cluster.first()?;
    let dir = text(&cluster.dir)?;
    let keys = format!("{dir}/keys");
    let client = "http://127.0.0.1:2379";
    daemon(
        cluster,
        node,
        "etcd",
        &[
            &format!("--data-dir={dir}/etcd"),
            &format!("--listen-client-urls={client}"),
            &format!("--advertise-client-urls={client}"),
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
        ],
    )?;
    daemon(
        cluster,
        node,
        "kube-apiserver",
        &[
            &format!("--etcd-servers={client}"),
            "--bind-address=0.0.0.0",
            "--secure-port=6443",
            &format!("--advertise-address={CONTROL}"),
            "--service-cluster-ip-range=10.233.0.0/16",
            &format!("--tls-cert-file={keys}/api.crt"),
            &format!("--tls-private-key-file={keys}/api.key"),
            &format!("--client-ca-file={keys}/ca.crt"),
            &format!("--token-auth-file={keys}/tokens.csv"),
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--service-account-issuer=https://kubernetes.default.svc",
            &format!("--service-account-signing-key-file={keys}/sa.key"),
            &format!("--service-account-key-file={keys}/sa.pub"),
            "--allow-privileged",
            &format!("--kubelet-client-certificate={keys}/api-kubelet.crt"),
            &format!("--kubelet-client-key={keys}/api-kubelet.key"),
            "--kubelet-preferred-address-types=InternalIP",
            // No node has a route to Services but through kube-proxy.
            "--enable-aggregator-routing",
        ],
    )
}

pub(super) fn wait_for_api(cluster: &Cluster) -> Result<()> {
    wait(
        cluster,
        "the API server",
        &["get", "--raw", "/readyz"],
        |said| said == "ok",
    )
}

/// Controllers, scheduler and names.
pub(super) fn start_controllers(cluster: &Cluster) -> Result<()> {
    let node = cluster.first()?;
    let dir = text(&cluster.dir)?;
    let keys = format!("{dir}/keys");
    daemon(
        cluster,
        node,
        "kube-controller-manager",
        &[
            &format!("--kubeconfig={dir}/controllers.kubeconfig"),
            &format!("--root-ca-file={keys}/ca.crt"),
            &format!("--service-account-private-key-file={keys}/sa.key"),
            &format!("--cluster-signing-cert-file={keys}/ca.crt"),
            &format!("--cluster-signing-key-file={keys}/ca.key"),
            "--use-service-account-credentials",
            // Otherwise service accounts take five seconds more to be there.
            "--kube-api-qps=1000",
            "--kube-api-burst=2000",
            &format!("--flex-volume-plugin-dir={dir}/volumeplugins"),
            "--leader-elect=false",
            &format!("--cert-dir={keys}"),
        ],
    )?;
    daemon(
        cluster,
        node,
        "kube-scheduler",
        &[
            &format!("--kubeconfig={dir}/scheduler.kubeconfig"),
            "--leader-elect=false",
            &format!("--cert-dir={keys}"),
        ],
    )?;
    let corefile = cluster.dir.join("Corefile");
    let zones = format!(
        ".:53 {{\n bind {CONTROL}\n errors\n kubernetes cluster.local in-addr.arpa {{\n  kubeconfig {dir}/admin.kubeconfig seccast\n }}\n}}\n"
    );
    fs::write(&corefile, zones).context("failed to write the Corefile")?;
    daemon(cluster, node, "coredns", &["-conf", &text(&corefile)?])
}

/// Until every node is ready and the default service account is there: then Pods can be made.
pub(super) fn wait_for_nodes(cluster: &Cluster) -> Result<()> {
    let ready = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
    let all = vec!["True"; cluster.nodes.len()];
    wait(
        cluster,
        "the nodes",
        &["get", "nodes", "-o", ready],
        |said| said.split_whitespace().eq(all.iter().copied()),
    )?;
    let account = ["get", "serviceaccount", "default", "-o", "name"];
    wait(cluster, "the default service account", &account, |said| {
        !said.is_empty()
    })
}

/// Asks until the answer is right; an error has the last one.
fn wait(
    cluster: &Cluster,
    what: &str,
    question: &[&str],
    right: impl Fn(&str) -> bool,
) -> Result<()> {
    let start = Instant::now();
    loop {
        check_interrupted()?;
        let said = output(cluster.kubectl().args(question), Duration::from_secs(20));
        let last = match said {
            Ok(said) if said.status.success() && right(said.stdout.trim()) => return Ok(()),
            Ok(said) => format!("{}{}", said.stdout, said.stderr),
            Err(error) => format!("{error:#}"),
        };
        if start.elapsed() > READY {
            bail!(
                "{what} not ready after {} s: {}",
                READY.as_secs(),
                last.trim()
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
