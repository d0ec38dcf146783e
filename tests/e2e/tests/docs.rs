//! Pages that need a cluster, run as they are written.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use seccast_e2e::{cluster, seccast};
use seccast_pages::{Needs, run_page};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

const FILES: [(&str, &str); 3] = [
    ("seccast.yaml", "deploy/seccast.yaml"),
    ("redis.yaml", "docs/how-to/staging-to-production/redis.yaml"),
    ("load.yaml", "docs/how-to/staging-to-production/load.yaml"),
];

#[test]
fn from_staging_to_production_is_as_the_page_says() {
    let cluster = cluster();
    let clean = || {
        for words in [
            &[
                "delete",
                "deployment,service,job",
                "redis",
                "load",
                "--ignore-not-found",
            ][..],
            &["delete", "namespace", "seccast", "--ignore-not-found"],
        ] {
            cluster.kubectl(words);
        }
        cluster.remove_profiles();
    };
    clean();
    // The reader's shell, where kubectl has its cluster.
    let folder = tempfile::tempdir().unwrap();
    let shell = folder.path().join("sh");
    let node = cluster.node(1).pid;
    let script = format!(
        "#!/bin/sh\nexec nsenter --target={node} --mount --net --wdns=\"$PWD\" -- /bin/sh \"$@\"\n"
    );
    fs::write(&shell, script).unwrap();
    fs::set_permissions(&shell, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!(
        "{}:{}",
        cluster.programs.display(),
        std::env::var("PATH").unwrap()
    );
    let kubeconfig = cluster.kubeconfig();
    let env = [
        ("PATH", path.as_str()),
        ("KUBECONFIG", kubeconfig.to_str().unwrap()),
        ("NO_COLOR", "1"),
    ];
    let page = "docs/how-to/staging-to-production.md";
    run_page(page, &FILES, &shell, &seccast(), Needs::Nothing, &env);
    clean();
}
