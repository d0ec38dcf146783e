//! Where in a file a profile belongs.

use super::{
    Dialect, ManifestError, Selection, Step, Wanted, compose,
    edit::{Source, line},
    tree::{self, Document, Node},
};
use crate::pod::{self, Container, ContainerKind};
use seccast_model::near;
use serde_json::Value;

/// A map of the file and the keys in it that lead to the profile.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub document: usize,
    pub base: Vec<Step>,
    pub keys: Vec<String>,
    /// For people.
    pub what: String,
    pub pod: Option<(Value, Container)>,
    /// What is there now and is not what is wanted.
    pub now: Option<String>,
    /// What is there and not to be taken out.
    pub other: Option<String>,
}

/// A Pod spec of a file.
struct Pod {
    document: usize,
    path: Vec<Step>,
    /// `Deployment/web`
    what: String,
    name: String,
    spec: Value,
}

/// The place that the steps lead to.
pub(super) fn walk<'a>(source: Source<'a>, steps: &[Step]) -> Result<&'a Node, ManifestError> {
    let root = &source.document.root;
    let anchors = source.document.anchors();
    let mut node = root;
    for step in steps {
        let (next, what) = match step {
            Step::Key(key) => {
                let at = source.step(node, key, &anchors)?;
                let entry = at.and_then(|at| node.entries()?.get(at));
                (entry.map(|(_, value)| value), key.clone())
            }
            Step::Index(at) => (
                node.items().and_then(|items| items.get(*at)),
                format!("item {at}"),
            ),
        };
        let Some(next) = next else {
            return Err(ManifestError::Shape {
                line: line(source.text, node.start),
                what,
                is: "not there",
                wanted: "a map",
            });
        };
        if let Step::Index(_) = step {
            source.own(next, next.start, &what)?;
        }
        node = next;
    }
    if node.entries().is_none() {
        let what = match steps.last() {
            Some(Step::Key(key)) => key.clone(),
            Some(Step::Index(at)) => format!("item {at}"),
            None => "the document".to_owned(),
        };
        return Err(source.not_a(node, &what, "a map"));
    }
    Ok(node)
}

/// What the file is, and the places that are meant.
pub(super) fn find(
    text: &str,
    documents: &[Document],
    selection: &Selection,
    wanted: &Wanted,
) -> Result<(Dialect, Vec<Found>), ManifestError> {
    let values: Vec<Value> = documents
        .iter()
        .map(|document| tree::value(&document.root, &document.anchors()))
        .collect();
    let is_object = |value: &Value| value["kind"].is_string() && value["apiVersion"].is_string();
    let kubernetes = values.iter().any(is_object);
    let compose = !kubernetes
        && values
            .first()
            .is_some_and(|value| value["services"].is_object());
    if let Some(path) = &selection.values_path {
        if kubernetes {
            return Err(ManifestError::NotValues("a manifest"));
        }
        if compose {
            return Err(ManifestError::NotValues("a compose file"));
        }
        return Ok((Dialect::Values, vec![value_at(path, &values, wanted)?]));
    }
    if compose {
        return Ok((Dialect::Compose, services(&values, selection, wanted)?));
    }
    let mut pods = Vec::new();
    for (document, value) in values.iter().enumerate() {
        collect(document, value, &mut Vec::new(), &mut pods);
    }
    if !pods.is_empty() {
        return Ok((
            Dialect::Kubernetes,
            of_pods(text, documents, &pods, selection, wanted)?,
        ));
    }
    let kustomization = values
        .iter()
        .find(|value| matches!(value["kind"].as_str(), Some("Kustomization" | "Component")));
    if let Some(value) = kustomization {
        let texts = |list: &str, key: &str| {
            let patches = value[list].as_array().map_or(&[][..], Vec::as_slice);
            patches.iter().any(|patch| {
                if key.is_empty() {
                    patch.as_str().is_some_and(|it| it.contains('\n'))
                } else {
                    patch[key].is_string()
                }
            })
        };
        let inline = texts("patches", "patch")
            || texts("patchesJson6902", "patch")
            || texts("patchesStrategicMerge", "");
        return Err(ManifestError::Kustomization { inline });
    }
    if values.iter().any(|value| value[0]["op"].is_string()) {
        return Err(ManifestError::JsonPatch);
    }
    if kubernetes || values.iter().all(|value| !value.is_object()) {
        let kinds = values
            .iter()
            .filter_map(|value| value["kind"].as_str())
            .map(str::to_owned)
            .collect();
        return Err(ManifestError::NoWorkload(kinds));
    }
    // Values: the only securityContext of a container that there is.
    let mut paths = Vec::new();
    if let Some(value) = values.first() {
        contexts(value, "", &mut paths);
    }
    match &paths[..] {
        [only] if selection.containers.is_empty() => {
            let mut found = value_at(only, &values, wanted)?;
            if let Wanted::Detached(_) = wanted {
                keep_context(&mut found, &values);
            }
            Ok((Dialect::Values, vec![found]))
        }
        _ => Err(ManifestError::Values(paths)),
    }
}

/// The Pod specs in an object, or in a list of them.
fn collect(document: usize, value: &Value, path: &mut Vec<Step>, pods: &mut Vec<Pod>) {
    let Some(kind) = value["kind"].as_str() else {
        return;
    };
    if let Some(items) = value["items"].as_array() {
        for (at, item) in items.iter().enumerate() {
            path.extend([Step::Key("items".to_owned()), Step::Index(at)]);
            collect(document, item, path, pods);
            path.truncate(path.len() - 2);
        }
        return;
    }
    let way = pod::way_to_spec(kind);
    let spec = way.iter().fold(value, |value, key| &value[*key]);
    if !spec["containers"].is_array() && !spec["initContainers"].is_array() {
        return;
    }
    let name = value["metadata"]["name"]
        .as_str()
        .or(value["metadata"]["generateName"].as_str());
    let name = name.unwrap_or_default().to_owned();
    let mut path = path.clone();
    path.extend(way.iter().map(|key| Step::Key((*key).to_owned())));
    pods.push(Pod {
        document,
        path,
        what: format!("{kind}/{name}"),
        name,
        spec: spec.clone(),
    });
}

fn of_pods(
    text: &str,
    documents: &[Document],
    pods: &[Pod],
    selection: &Selection,
    wanted: &Wanted,
) -> Result<Vec<Found>, ManifestError> {
    let mut chosen: Vec<(&Pod, Container)> = Vec::new();
    if let ([only], true) = (
        pods,
        selection.containers.iter().all(|name| !name.contains('/')),
    ) {
        let containers = pod::choose(&only.spec, &selection.containers).map_err(|error| {
            ManifestError::Choose {
                what: only.what.clone(),
                error,
            }
        })?;
        chosen.extend(containers.into_iter().map(|container| (only, container)));
    } else {
        let all: Vec<_> = pods
            .iter()
            .flat_map(|pod| {
                pod::containers(&pod.spec)
                    .into_iter()
                    .map(move |it| (pod, it))
            })
            .collect();
        let full =
            |(pod, container): &(&Pod, Container)| format!("{}/{}", pod.what, container.name);
        if selection.containers.is_empty() {
            let mut main = all
                .iter()
                .filter(|(_, container)| container.kind == ContainerKind::Container);
            match (main.next(), main.next()) {
                (Some(only), None) => chosen.push(only.clone()),
                _ => return Err(ManifestError::Several(all.iter().map(full).collect())),
            }
        }
        for name in &selection.containers {
            let is = |(pod, container): &&(&Pod, Container)| match name.rsplit_once('/') {
                Some((workload, name)) => {
                    container.name == name
                        && (pod.name == workload || pod.what.eq_ignore_ascii_case(workload))
                }
                None => container.name == *name,
            };
            let matches: Vec<_> = all.iter().filter(is).collect();
            match &matches[..] {
                [] => {
                    let near = near::names(
                        name,
                        all.iter().map(|(_, container)| container.name.clone()),
                    );
                    return Err(ManifestError::Unknown {
                        name: name.clone(),
                        suggestion: near::suggestion(&near),
                        names: all.iter().map(full).collect(),
                    });
                }
                [one] => {
                    if !chosen
                        .iter()
                        .any(|it| std::ptr::eq(it.0, one.0) && it.1 == one.1)
                    {
                        chosen.push((*one).clone());
                    }
                }
                several => {
                    return Err(ManifestError::Ambiguous {
                        name: name.clone(),
                        places: several.iter().map(|it| full(it)).collect(),
                    });
                }
            }
        }
    }
    let mut found = Vec::new();
    for (pod, container) in chosen {
        if let Wanted::Attached(_) = wanted {
            pod::attachable(&pod.spec).map_err(|error| ManifestError::Windows {
                what: pod.what.clone(),
                error,
            })?;
        }
        // Knative lets the only container be without a name.
        let name = match &*container.name {
            "" => (container.index + 1).to_string(),
            name => name.to_owned(),
        };
        let what = format!("{}, {} {name}", pod.what, container.kind.noun());
        let mut base = pod.path.clone();
        base.extend([
            Step::Key(container.kind.list().to_owned()),
            Step::Index(container.index),
        ]);
        if let Some(document) = documents.get(pod.document) {
            // An alias on the way is told before anything else is said of the container.
            let source = Source {
                text,
                document,
                json: false,
            };
            walk(source, &base)?;
        }
        let (now, other) = judge(
            &container.value(&pod.spec)["securityContext"]["seccompProfile"],
            wanted,
        );
        found.push(Found {
            document: pod.document,
            base,
            keys: vec!["securityContext".to_owned(), "seccompProfile".to_owned()],
            what,
            pod: Some((pod.spec.clone(), container)),
            now,
            other,
        });
    }
    Ok(found)
}

/// What there is and is replaced, and what there is and stays.
fn judge(profile: &Value, wanted: &Wanted) -> (Option<String>, Option<String>) {
    let Some(now) = pod::described(profile) else {
        // `$patch: delete` in a patch of kustomize takes out what the base has.
        let stays = profile.is_object() && matches!(wanted, Wanted::Detached(_));
        return (
            None,
            stays.then(|| "a seccompProfile without a type".to_owned()),
        );
    };
    let is_file = profile["type"] == "Localhost";
    let path = profile["localhostProfile"].as_str();
    match wanted {
        Wanted::Attached(_) => (Some(now), None),
        Wanted::Detached(None) if is_file => (None, None),
        Wanted::Detached(Some(name)) if is_file && path == Some(name) => (None, None),
        Wanted::Detached(_) => (None, Some(now)),
    }
}

fn services(
    values: &[Value],
    selection: &Selection,
    wanted: &Wanted,
) -> Result<Vec<Found>, ManifestError> {
    let services = values
        .first()
        .and_then(|value| value["services"].as_object());
    let names: Vec<String> = services
        .map(|services| services.keys().cloned().collect())
        .unwrap_or_default();
    let chosen = match (&selection.containers[..], &names[..]) {
        ([], [only]) => vec![only.clone()],
        ([], []) => return Err(ManifestError::NoService),
        ([], _) => return Err(ManifestError::Several(names)),
        (chosen, _) => chosen.to_vec(),
    };
    let mut found: Vec<Found> = Vec::new();
    for name in chosen {
        let Some(service) = services.and_then(|services| services.get(&name)) else {
            let near = near::names(&name, names.iter().cloned());
            return Err(ManifestError::Service {
                name,
                suggestion: near::suggestion(&near),
                names,
            });
        };
        let what = format!("service {name}");
        if found.iter().any(|found| found.what == what) {
            continue;
        }
        let options = service["security_opt"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let now = options
            .iter()
            .filter_map(Value::as_str)
            .find(|option| compose::is_seccomp(option));
        let value = now.and_then(compose::value);
        let (now, other) = match (wanted, now, value) {
            (Wanted::Attached(_), now, _) => (now.map(str::to_owned), None),
            (Wanted::Detached(name), Some(now), Some(value)) => {
                let stays = match name {
                    Some(name) => value != name,
                    None => matches!(value, "unconfined" | "builtin"),
                };
                (None, stays.then(|| now.to_owned()))
            }
            (Wanted::Detached(_), _, _) => (None, None),
        };
        found.push(Found {
            document: 0,
            base: vec![Step::Key("services".to_owned()), Step::Key(name)],
            keys: vec!["security_opt".to_owned()],
            what,
            pod: None,
            now,
            other,
        });
    }
    Ok(found)
}

/// The place that a dotted path names; what is missing of it will be made.
fn value_at(path: &str, values: &[Value], wanted: &Wanted) -> Result<Found, ManifestError> {
    let mut keys: Vec<String> = path.split('.').map(str::to_owned).collect();
    if keys.iter().any(String::is_empty) || keys.last().is_some_and(|key| key == "seccompProfile") {
        return Err(ManifestError::ValuesPath(path.to_owned()));
    }
    keys.push("seccompProfile".to_owned());
    let root = values.first().unwrap_or(&Value::Null);
    let profile = keys.iter().fold(root, |value, key| &value[key.as_str()]);
    let (now, other) = judge(profile, wanted);
    Ok(Found {
        document: 0,
        base: Vec::new(),
        keys,
        what: path.to_owned(),
        pod: None,
        now,
        other,
    })
}

/// Lets the `securityContext` stay, if only as `{}`: without a path it is found by being there, so nobody made it for the profile,
/// and it is what the next change finds.
fn keep_context(found: &mut Found, values: &[Value]) {
    let Some((profile, context)) = found.keys.split_last() else {
        return;
    };
    let root = values.first().unwrap_or(&Value::Null);
    let value = context.iter().fold(root, |value, key| &value[key.as_str()]);
    if value.is_object() {
        found.base = context.iter().cloned().map(Step::Key).collect();
        found.keys = vec![profile.clone()];
    }
}

/// Where values have a container's securityContext: the names that charts use, not that of the Pod beside it.
fn contexts(value: &Value, path: &str, found: &mut Vec<String>) {
    let Some(map) = value.as_object() else {
        return;
    };
    // A dot in a key cannot be said in a path.
    for (key, value) in map.iter().filter(|(key, _)| !key.contains('.')) {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        let own = match key.as_str() {
            "containerSecurityContext" => true,
            // Of the Pod, where the container's is beside it, or where it says what only a Pod can.
            "securityContext" => {
                let of_pod = [
                    "fsGroup",
                    "fsGroupChangePolicy",
                    "supplementalGroups",
                    "supplementalGroupsPolicy",
                    "sysctls",
                ];
                !map.contains_key("containerSecurityContext")
                    && of_pod.iter().all(|field| value[*field].is_null())
            }
            _ => false,
        };
        if own && (value.is_object() || value.is_null()) {
            found.push(path);
        } else {
            contexts(value, &path, found);
        }
    }
}
