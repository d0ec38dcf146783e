//! Manifests in the styles of public charts and operators: a profile goes in and comes out again, and nothing else changes.
//!
//! The editor takes its positions from granit-parser and checks itself with libyaml; here serde-saphyr and serde_json say what the files
//! mean.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

use seccast_kube::manifest::{Dialect, Outcome, Selection, Wanted, change};
use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};
use std::{collections::BTreeSet, fs, path::PathBuf};

const PROFILE: &str = "seccast/web.json";

/// What a profile does to the lines of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lines {
    /// So many new ones, one behind the other.
    Added(usize),
    /// One line is another one.
    Within,
    /// One is another one, and so many are new behind it.
    WithinAndAdded(usize),
    /// So many new ones, in several places.
    Apart(usize),
}
use Lines::{Added, Apart, Within, WithinAndAdded};

/// What `--detach` makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Back {
    /// The file as it was, byte for byte.
    Same,
    /// There was a profile of another type: that is not brought back.
    Profile,
    /// There was an empty securityContext.
    Empty,
}
use Back::{Empty, Profile, Same};

/// File, containers by comma or a path in values, lines, way back.
const FILES: &[(&str, &str, Lines, Back)] = &[
    ("ingress-nginx.yaml", "", Added(3), Same),
    ("ingress-nginx-certgen-job.yaml", "", Added(4), Same),
    ("cert-manager.yaml", "", Added(3), Same),
    ("prometheus-operator.yaml", "kube-rbac-proxy", Within, Same),
    (
        "alertmanager-flow-multiline.yaml",
        "alertmanager",
        WithinAndAdded(6),
        Same,
    ),
    ("argo-cd-server.yaml", "", Added(3), Same),
    ("argo-rollout.yaml", "", Added(4), Same),
    ("redis-bitnami.yaml", "", WithinAndAdded(1), Profile),
    ("istiod.yaml", "discovery", Added(3), Same),
    (
        "linkerd-proxy-sidecar.yaml",
        "linkerd-proxy",
        Added(4),
        Same,
    ),
    (
        "linkerd-proxy-sidecar.yaml",
        "linkerd-proxy,destination",
        Apart(8),
        Same,
    ),
    ("cilium-agent.yaml", "mount-cgroup", Added(3), Same),
    ("keda-operator.yaml", "", Added(4), Same),
    ("velero.yaml", "", Added(4), Same),
    ("harbor-core.yaml", "", Added(3), Same),
    ("gitlab-runner.yaml", "", Added(4), Same),
    (
        "longhorn-manager.yaml",
        "pre-pull-share-manager-image",
        Added(4),
        Same,
    ),
    ("metallb-speaker.yaml", "frr", Added(4), Same),
    ("external-dns.yaml", "sidecar", Added(4), Same),
    ("tekton-controller.yaml", "", Added(3), Same),
    ("knative-service.yaml", "", Added(4), Same),
    ("kyverno-cleanup-cronjob.yaml", "", Added(4), Same),
    ("falco.yaml", "falcoctl-artifact-follow", Added(3), Empty),
    ("elasticsearch.yaml", "", Added(3), Same),
    ("strimzi-operator.yaml", "", Added(4), Same),
    ("pod-minimal.yaml", "", Within, Same),
    ("pod-json.json", "app", WithinAndAdded(6), Same),
    ("deployment-compact.json", "", Within, Same),
    ("list-tabs.json", "", WithinAndAdded(6), Same),
    ("kubectl-list.yaml", "leader", Within, Same),
    ("windows-editor-crlf.yaml", "", Added(4), Same),
    ("crlf-no-final-newline.yaml", "", WithinAndAdded(4), Same),
    ("bom-utf8.yaml", "", Added(4), Same),
    ("no-final-newline.yaml", "", WithinAndAdded(4), Same),
    ("block-scalar-at-the-end.yaml", "", Added(4), Same),
    ("keep-scalar-then-comments.yaml", "", Added(4), Same),
    ("empty-documents.yaml", "", Added(4), Same),
    ("mixed-line-ends.yaml", "", Added(4), Same),
    ("unicode.yaml", "", Added(4), Same),
    ("tabs-in-comments.yaml", "", Added(4), Same),
    ("duplicate-looking-keys.yaml", "", Added(4), Same),
    ("long-folded.yaml", "", Added(4), Same),
    ("comments-everywhere.yaml", "", Added(4), Same),
    ("dash-on-its-own-line.yaml", "one", Added(4), Same),
    ("explicit-keys.yaml", "", Added(4), Same),
    ("tags-and-anchors.yaml", "", Added(4), Same),
    ("merge-keys.yaml", "web", Added(4), Same),
    ("spinnaker-old-annotations.yaml", "", Within, Same),
    ("kubernetes-dashboard.yaml", "", Added(3), Same),
    ("kustomize-patch-deployment.yaml", "", Added(4), Same),
    ("kustomize-patch-name-only.yaml", "", Within, Same),
    (
        "kustomize-patch-delete-directive.yaml",
        "fluent-bit",
        Added(3),
        Same,
    ),
    ("values-helm-create.yaml", "", Within, Same),
    (
        "values-ingress-nginx.yaml",
        "controller.containerSecurityContext",
        Added(3),
        Same,
    ),
    (
        "values-bitnami-postgresql.yaml",
        "readReplicas.containerSecurityContext",
        Added(3),
        Same,
    ),
    (
        "values-override-only.yaml",
        "prometheus.prometheusSpec.containerSecurityContext",
        Added(4),
        Same,
    ),
    ("compose-wordpress.yaml", "wordpress", Added(1), Same),
    ("compose-version-3.yml", "proxy", Within, Same),
    ("compose-zero-indent-lists.yaml", "app", Added(2), Same),
    ("openshift-template-list.yaml", "router", Within, Empty),
    ("jaeger-sidecars.yaml", "jaeger-agent", Within, Same),
    ("vault.yaml", "", Added(3), Same),
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/manifests")
}

fn selection(file: &str, which: &str) -> Selection {
    if file.starts_with("values-") && !which.is_empty() {
        return Selection {
            values_path: Some(which.to_owned()),
            ..Selection::default()
        };
    }
    let names = which.split(',').filter(|name| !name.is_empty());
    Selection {
        containers: names.map(str::to_owned).collect(),
        values_path: None,
    }
}

/// The lines that differ.
fn lines(before: &str, after: &str) -> Lines {
    let diff = TextDiff::from_lines(before, after);
    let changed: Vec<_> = diff
        .iter_all_changes()
        .enumerate()
        .filter(|(_, change)| change.tag() != ChangeTag::Equal)
        .collect();
    let (first, last) = (changed.first().unwrap().0, changed.last().unwrap().0);
    let one_place = last - first + 1 == changed.len();
    let count = |tag| {
        changed
            .iter()
            .filter(|(_, change)| change.tag() == tag)
            .count()
    };
    match (
        one_place,
        count(ChangeTag::Delete),
        count(ChangeTag::Insert),
    ) {
        (true, 0, added) => Added(added),
        (true, 1, 1) => Within,
        (true, 1, added) => WithinAndAdded(added - 1),
        (false, 0, added) => Apart(added),
        other => panic!("{other:?}:\n{after}"),
    }
}

/// What a file means to somebody else.
fn read(file: &str, text: &str) -> Vec<Value> {
    if file.ends_with("json") {
        return vec![serde_json::from_str(text).unwrap()];
    }
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{file}: {error}\n{text}"))
}

/// All maps that are a container of this name in a list of containers, wherever they are.
fn containers<'a>(value: &'a mut Value, name: &str, found: &mut Vec<&'a mut Value>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if key == "containers" || key == "initContainers" {
                    let items = value.as_array_mut().into_iter().flatten();
                    found.extend(
                        items.filter(|item| item["name"].as_str().unwrap_or_default() == name),
                    );
                } else {
                    containers(value, name, found);
                }
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| containers(item, name, found)),
        _ => {}
    }
}

/// The meaning that the file is to have then.
fn wanted(file: &str, which: &str, mut documents: Vec<Value>) -> Vec<Value> {
    let profile = json!({"type": "Localhost", "localhostProfile": PROFILE});
    if file.starts_with("compose-") {
        let option = json!(format!("seccomp={PROFILE}"));
        let options = &mut documents[0]["services"][which]["security_opt"];
        match options.as_array_mut() {
            Some(options) => options.push(option),
            None => *options = json!([option]),
        }
        return documents;
    }
    if file.starts_with("values-") {
        let path = if which.is_empty() {
            "securityContext"
        } else {
            which
        };
        let mut value = &mut documents[0];
        for key in path.split('.') {
            value = &mut value[key];
        }
        value["seccompProfile"] = profile;
        return documents;
    }
    for name in which.split(',') {
        // The only container has no name on the command line; then every container of the file is it.
        let (workload, name) = name.rsplit_once('/').unwrap_or(("", name));
        let mut found = Vec::new();
        for document in &mut documents {
            if workload.is_empty() || document["metadata"]["name"] == workload {
                containers(document, name, &mut found);
            }
        }
        assert_eq!(found.len(), 1, "{file}: {name}");
        found[0]["securityContext"]["seccompProfile"] = profile.clone();
    }
    documents
}

/// The only main container's name.
fn only(file: &str, text: &str) -> String {
    let text = text.trim_start_matches('\u{feff}');
    let place = &change(
        text.as_bytes(),
        &selection(file, ""),
        &Wanted::Detached(None),
    )
    .unwrap()
    .places[0];
    place.pod.as_ref().map_or_else(
        || place.what.clone(),
        |(_, container)| container.name.clone(),
    )
}

#[test]
fn only_the_profile_changes_and_it_comes_out_again() {
    let there: BTreeSet<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let tested: BTreeSet<_> = FILES.iter().map(|(file, ..)| (*file).to_owned()).collect();
    let mut wrong = Vec::new();
    for (file, which, lines_wanted, back) in FILES {
        let before = fs::read_to_string(folder().join(file)).unwrap();
        let selection = selection(file, which);
        let attach = Wanted::Attached(PROFILE.to_owned());
        let attached = match change(before.as_bytes(), &selection, &attach) {
            Ok(attached) => attached,
            Err(error) => {
                wrong.push(format!("{file}: {error}"));
                continue;
            }
        };
        assert!(
            matches!(attached.places[0].outcome, Outcome::Attached { .. }),
            "{file}"
        );
        let after = &attached.text;
        println!(
            "== {file} {which}\n{}",
            TextDiff::from_lines(&before, after).unified_diff()
        );
        let lines = lines(&before, after);
        if lines != *lines_wanted {
            wrong.push(format!("{file}: {lines:?}"));
        }

        let name = if which.is_empty() && !file.starts_with("values-") {
            only(file, &before)
        } else {
            (*which).to_owned()
        };
        let meant = wanted(
            file,
            if file.starts_with("values-") {
                which
            } else {
                &name
            },
            read(file, &before),
        );
        if read(file, after) != meant {
            wrong.push(format!("{file}: means {:?}", read(file, after)));
        }

        let again = change(after.as_bytes(), &selection, &attach).unwrap();
        assert_eq!(again.text, *after, "{file}");
        assert!(
            again
                .places
                .iter()
                .all(|place| place.outcome == Outcome::Already),
            "{file}"
        );

        let detached = change(
            after.as_bytes(),
            &selection,
            &Wanted::Detached(Some(PROFILE.to_owned())),
        )
        .unwrap();
        println!(
            "-- detached\n{}",
            TextDiff::from_lines(&before, &detached.text).unified_diff()
        );
        let is = match *back {
            _ if detached.text == before => Same,
            Same => Empty,
            back => back,
        };
        if is != *back {
            wrong.push(format!(
                "{file}: detached: {is:?}\n{}",
                TextDiff::from_lines(&before, &detached.text).unified_diff()
            ));
        }
        let nothing = change(
            detached.text.as_bytes(),
            &selection,
            &Wanted::Detached(None),
        )
        .unwrap();
        assert_eq!(nothing.text, detached.text, "{file}");
        if attached.dialect == Dialect::Kubernetes && *back != Profile {
            // What the file meant without what is empty.
            assert_eq!(
                without_empty(read(file, &detached.text)),
                without_empty(read(file, &before)),
                "{file}"
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(there, tested);
}

fn without_empty(mut documents: Vec<Value>) -> Vec<Value> {
    fn clean(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.retain(|key, value| {
                    key != "securityContext" || !(value.is_null() || *value == json!({}))
                });
                map.values_mut().for_each(clean);
            }
            Value::Array(items) => items.iter_mut().for_each(clean),
            _ => {}
        }
    }
    documents.iter_mut().for_each(clean);
    documents
}

/// The fuzzer of `tests/fuzz` begins with some of these, and with what it found itself.
#[test]
fn the_corpus_of_the_fuzzer_is_of_these_manifests() {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for file in std::fs::read_dir(here.join("../../tests/fuzz/corpus/attach")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("found-") {
            continue;
        }
        let manifest = here.join("tests/manifests").join(name);
        let (ours, theirs) = (std::fs::read(manifest), std::fs::read(&path).unwrap());
        assert_eq!(ours.unwrap(), theirs, "{}", path.display());
        count += 1;
    }
    assert_eq!(count, 10);
}
