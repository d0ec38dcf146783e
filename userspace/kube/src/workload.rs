//! A workload of the API server: which kinds have a template that can be changed, and what seccast applies to it.
//!
//! Server-side apply takes away whatever a manager owned and does not name again. So what is applied always has every
//! profile that seccast attached before, with the change made to it, and nothing else.

use crate::{
    cluster::{Apply, Cluster, ClusterError},
    pod::{self, Container},
};
use seccast_model::near;
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, fmt, str::FromStr};
use thiserror::Error;

/// Who has the fields, as `kubectl get --show-managed-fields` shows it.
pub const MANAGER: &str = "seccast";

/// What happens to Pods when the template changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The controller replaces them.
    Rollout,
    /// Those that run stay; new ones have the new template.
    NewPods,
    /// The next run has it.
    NextRun,
    /// It cannot be changed.
    Immutable,
}

/// A kind of workload.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// `Deployment`
    pub name: &'static str,
    /// `apis/apps/v1`, in URLs.
    pub path: &'static str,
    /// `deployments`
    pub plural: &'static str,
    /// kubectl's short name: `deploy`.
    pub short: &'static str,
    /// What a changed template does.
    pub effect: Effect,
}

impl Kind {
    /// `apps/v1`, as manifests have it.
    #[must_use]
    pub fn api_version(&self) -> &'static str {
        let path = self.path;
        path.strip_prefix("apis/")
            .or_else(|| path.strip_prefix("api/"))
            .unwrap_or(path)
    }

    /// From the object to the Pod's spec.
    fn pod_spec(&self) -> &'static [&'static str] {
        pod::way_to_spec(self.name)
    }
}

const fn kind(
    name: &'static str,
    path: &'static str,
    plural: &'static str,
    short: &'static str,
    effect: Effect,
) -> Kind {
    Kind {
        name,
        path,
        plural,
        short,
        effect,
    }
}

/// Those that Kubernetes has itself.
pub static KINDS: [Kind; 7] = [
    kind(
        "Deployment",
        "apis/apps/v1",
        "deployments",
        "deploy",
        Effect::Rollout,
    ),
    kind(
        "StatefulSet",
        "apis/apps/v1",
        "statefulsets",
        "sts",
        Effect::Rollout,
    ),
    kind(
        "DaemonSet",
        "apis/apps/v1",
        "daemonsets",
        "ds",
        Effect::Rollout,
    ),
    kind(
        "ReplicaSet",
        "apis/apps/v1",
        "replicasets",
        "rs",
        Effect::NewPods,
    ),
    kind(
        "CronJob",
        "apis/batch/v1",
        "cronjobs",
        "cj",
        Effect::NextRun,
    ),
    kind("Job", "apis/batch/v1", "jobs", "job", Effect::Immutable),
    kind("Pod", "api/v1", "pods", "po", Effect::Immutable),
];

/// KIND/NAME, as kubectl takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The kind.
    pub kind: &'static Kind,
    /// The name.
    pub name: String,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.name.to_lowercase(), self.name)
    }
}

/// Why words name no workload.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// No slash.
    #[error("{0} is neither a file nor KIND/NAME, such as deploy/web")]
    NoKind(String),
    /// An unknown kind.
    #[error(
        "{kind} is no kind of workload that attach knows{near}: it knows deploy, sts, ds, rs and cj; anything else by its file"
    )]
    Kind {
        /// What was typed.
        kind: String,
        /// Near names.
        near: String,
    },
    /// No name of an object.
    #[error("{0:?} is no name of a workload: lower case letters, digits, - and . only")]
    Name(String),
}

impl FromStr for Reference {
    type Err = ReferenceError;

    /// `deploy/web`, `deployments/web`, `Deployment/web`, `deployments.apps/web`, `deployments.v1.apps/web`.
    fn from_str(typed: &str) -> Result<Self, ReferenceError> {
        let Some((kind, name)) = typed.split_once('/') else {
            return Err(ReferenceError::NoKind(typed.to_owned()));
        };
        let lower = kind.to_lowercase();
        let (word, group) = lower.split_once('.').unwrap_or((&lower, ""));
        let found = KINDS.iter().find(|kind| {
            let full = kind.api_version();
            let (known, version) = full.split_once('/').unwrap_or(("", full));
            let versioned = format!("{version}.{known}");
            let mut groups = ["", known, versioned.trim_end_matches('.')].into_iter();
            [kind.plural, kind.short, &kind.name.to_lowercase()].contains(&word)
                && groups.any(|known| known == group)
        });
        let Some(kind) = found else {
            let known = KINDS
                .iter()
                .flat_map(|kind| [kind.name.to_lowercase(), kind.plural.to_owned()]);
            let near = near::names(&lower, known).into_iter().next();
            return Err(ReferenceError::Kind {
                near: near::suggestion(near.as_slice()),
                kind: kind.to_owned(),
            });
        };
        // RFC 1123, which also keeps the name from being another path of the URL.
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if name.is_empty() || name.len() > 253 || !name.chars().all(plain) || name.starts_with('.')
        {
            return Err(ReferenceError::Name(name.to_owned()));
        }
        Ok(Self {
            kind,
            name: name.to_owned(),
        })
    }
}

/// One container of a template: which list it is in, and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// In `initContainers` instead of `containers`: init containers and native sidecars.
    pub init: bool,
    /// Its name: the key of both lists.
    pub name: String,
}

impl From<&Container> for Slot {
    /// A template has no ephemeral containers.
    fn from(container: &Container) -> Self {
        let init = container.kind.list() == "initContainers";
        Self {
            init,
            name: container.name.clone(),
        }
    }
}

/// The field of the Pod spec.
pub(crate) fn list(init: bool) -> &'static str {
    if init { "initContainers" } else { "containers" }
}

/// A workload as the API server has it.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its kind and name.
    pub reference: Reference,
    /// The whole object.
    pub object: Value,
}

impl Workload {
    /// Asks for it.
    ///
    /// # Errors
    ///
    /// What the server or the network says.
    pub fn get(cluster: &Cluster, reference: &Reference) -> Result<Self, ClusterError> {
        let Kind { path, plural, .. } = reference.kind;
        let object = cluster.get(path, plural, &reference.name)?;
        Ok(Self {
            reference: reference.clone(),
            object,
        })
    }

    /// The Pod's spec in its template; null where the object has none.
    #[must_use]
    pub fn pod_spec(&self) -> &Value {
        let path = self.reference.kind.pod_spec();
        path.iter().fold(&self.object, |value, key| &value[key])
    }

    /// The template, with its metadata; for a Pod the Pod itself.
    #[must_use]
    pub fn template(&self) -> &Value {
        let path = self.reference.kind.pod_spec();
        path[..path.len() - 1]
            .iter()
            .fold(&self.object, |value, key| &value[key])
    }

    /// The names of the containers, or of the init containers, in their order.
    #[must_use]
    pub fn names(&self, init: bool) -> Vec<String> {
        let containers = self.pod_spec()[list(init)].as_array().into_iter().flatten();
        containers
            .filter_map(|container| container["name"].as_str().map(str::to_owned))
            .collect()
    }

    /// The container's own seccompProfile.
    #[must_use]
    pub fn profile(&self, slot: &Slot) -> Option<&Value> {
        let containers = self.pod_spec()[list(slot.init)].as_array()?;
        let container = containers
            .iter()
            .find(|container| container["name"] == slot.name.as_str())?;
        let profile = &container["securityContext"]["seccompProfile"];
        profile.is_object().then_some(profile)
    }

    /// The containers whose seccompProfile somebody has set, each with their names, of those `owned_by` says yes to.
    ///
    /// From the managed fields, in the form `k:{"name":"app"}` for members of a list.
    #[must_use]
    pub fn owned(&self, owned_by: impl Fn(&str) -> bool) -> BTreeMap<Slot, Vec<String>> {
        let mut owned: BTreeMap<Slot, Vec<String>> = BTreeMap::new();
        let entries = self.object["metadata"]["managedFields"].as_array();
        for entry in entries.into_iter().flatten() {
            let manager = entry["manager"].as_str().unwrap_or_default();
            if !owned_by(manager) {
                continue;
            }
            let path = self.reference.kind.pod_spec().iter();
            let spec = path.fold(&entry["fieldsV1"], |value, key| &value[format!("f:{key}")]);
            for init in [false, true] {
                let members = spec[format!("f:{}", list(init))].as_object();
                for (key, fields) in members.into_iter().flatten() {
                    let key = key
                        .strip_prefix("k:")
                        .and_then(|key| serde_json::from_str::<Value>(key).ok());
                    let name = key.as_ref().and_then(|key| key["name"].as_str());
                    if let Some(name) = name
                        && fields["f:securityContext"]["f:seccompProfile"].is_object()
                    {
                        let slot = Slot {
                            init,
                            name: name.to_owned(),
                        };
                        owned.entry(slot).or_default().push(manager.to_owned());
                    }
                }
            }
        }
        owned
    }

    /// What is applied so that the containers have these profiles, or (None) not ours any more.
    ///
    /// It has the uid, so that an object that was deleted and made again, or is gone, is a conflict instead of a new one. `exact`: and the
    /// resourceVersion, so that a profile which seccast attached elsewhere since then is one as well, and is not taken out.
    #[must_use]
    pub fn intent(&self, change: &BTreeMap<Slot, Option<Value>>, exact: bool) -> Value {
        let kept = self
            .owned(|manager| manager == MANAGER)
            .into_keys()
            .filter_map(|slot| {
                let profile = self.profile(&slot)?.clone();
                Some((slot, Some(profile)))
            });
        let mut all: BTreeMap<_, _> = kept.collect();
        all.extend(change.clone());
        // In the workload's own order: what is applied also decides the order of a list's members, and init containers run by it.
        let mut spec = Map::new();
        for init in [false, true] {
            let members: Vec<_> = self
                .names(init)
                .into_iter()
                .filter_map(|name| {
                    let profile = all.remove(&Slot {
                        init,
                        name: name.clone(),
                    })??;
                    Some(json!({"name": name, "securityContext": {"seccompProfile": profile}}))
                })
                .collect();
            if !members.is_empty() {
                spec.insert(list(init).to_owned(), Value::Array(members));
            }
        }
        let mut object = json!({
            "apiVersion": self.reference.kind.api_version(),
            "kind": self.reference.kind.name,
            "metadata": {
                "name": self.object["metadata"]["name"],
                "namespace": self.object["metadata"]["namespace"],
                "uid": self.object["metadata"]["uid"],
            },
        });
        if exact {
            let version = &self.object["metadata"]["resourceVersion"];
            object["metadata"]["resourceVersion"] = version.clone();
        }
        if !spec.is_empty() {
            let path = self.reference.kind.pod_spec().iter();
            let place = path.fold(&mut object, |value, key| &mut value[*key]);
            *place = Value::Object(spec);
        }
        object
    }

    /// Applies an [`intent`](Self::intent): what the workload is then, or would be.
    ///
    /// # Errors
    ///
    /// What the server or the network says.
    pub fn apply(
        &self,
        cluster: &Cluster,
        intent: &Value,
        force: bool,
        dry_run: bool,
    ) -> Result<Self, ClusterError> {
        let Kind { path, plural, .. } = self.reference.kind;
        let apply = Apply {
            manager: MANAGER,
            force,
            dry_run,
        };
        let object = cluster.apply(path, plural, intent, &apply)?;
        Ok(Self {
            reference: self.reference.clone(),
            object,
        })
    }

    /// Its Pods. A CronJob's are its Jobs', and not asked for.
    ///
    /// # Errors
    ///
    /// What the server or the network says.
    pub fn pods(&self, cluster: &Cluster) -> Result<Vec<Value>, ClusterError> {
        match self.selector() {
            Some(labels) => cluster.list("api/v1", "pods", &labels),
            None => Ok(Vec::new()),
        }
    }

    /// Its label selector, as a query has it.
    fn selector(&self) -> Option<String> {
        let selector = &self.object["spec"]["selector"];
        let labels = selector["matchLabels"].as_object().into_iter().flatten();
        let labels = labels.map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
        let expressions = selector["matchExpressions"]
            .as_array()
            .into_iter()
            .flatten();
        let expressions = expressions.map(|expression| {
            let key = expression["key"].as_str()?;
            let values = expression["values"].as_array().into_iter().flatten();
            let values = values
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join(",");
            match expression["operator"].as_str()? {
                "In" => Some(format!("{key} in ({values})")),
                "NotIn" => Some(format!("{key} notin ({values})")),
                "Exists" => Some(key.to_owned()),
                "DoesNotExist" => Some(format!("!{key}")),
                _ => None,
            }
        });
        let all: Option<Vec<_>> = labels.chain(expressions).collect();
        all.filter(|all| !all.is_empty()).map(|all| all.join(","))
    }

    /// Who made it, by KIND/NAME: the workload whose template counts.
    #[must_use]
    pub fn controller(&self) -> Option<Reference> {
        let owners = self.object["metadata"]["ownerReferences"].as_array()?;
        let owner = owners.iter().find(|owner| owner["controller"] == true)?;
        let (kind, name) = (owner["kind"].as_str()?, owner["name"].as_str()?);
        format!("{kind}/{name}").parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(typed: &str, expect: Result<(&str, &str), &str>) {
        let found = typed.parse::<Reference>();
        let found = found.map(|found| (found.kind.name, found.name));
        let found = found.map_err(|error| error.to_string());
        let found = found
            .as_ref()
            .map(|(kind, name)| (*kind, name.as_str()))
            .map_err(String::as_str);
        assert_eq!(found, expect, "{typed}");
    }

    #[test]
    fn kinds_have_the_names_that_kubectl_takes() {
        for typed in [
            "deploy",
            "deployment",
            "deployments",
            "Deployment",
            "deployments.apps",
            "deployment.v1.apps",
        ] {
            check(&format!("{typed}/web"), Ok(("Deployment", "web")));
        }
        check("sts/db", Ok(("StatefulSet", "db")));
        check("ds/agent", Ok(("DaemonSet", "agent")));
        check("rs/web-1", Ok(("ReplicaSet", "web-1")));
        check("cj/tidy", Ok(("CronJob", "tidy")));
        check("cronjobs.batch/tidy", Ok(("CronJob", "tidy")));
        check("jobs/once", Ok(("Job", "once")));
        check("po/web.1", Ok(("Pod", "web.1")));
        check("pods.v1/web", Ok(("Pod", "web")));
    }

    #[test]
    fn what_names_no_workload_is_refused_with_what_may_be_meant() {
        let known = "it knows deploy, sts, ds, rs and cj; anything else by its file";
        check(
            "web",
            Err("web is neither a file nor KIND/NAME, such as deploy/web"),
        );
        check(
            "deploymnt/web",
            Err(&format!(
                "deploymnt is no kind of workload that attach knows (did you mean deployment?): {known}"
            )),
        );
        check(
            "rollout/web",
            Err(&format!(
                "rollout is no kind of workload that attach knows: {known}"
            )),
        );
        check(
            "deployments.example.com/web",
            Err(&format!(
                "deployments.example.com is no kind of workload that attach knows (did you mean deployments?): {known}"
            )),
        );
        for name in ["", "../web", "web/status", "Web", "web?x=1", ".."] {
            check(
                &format!("deploy/{name}"),
                Err(&format!(
                    "{name:?} is no name of a workload: lower case letters, digits, - and . only"
                )),
            );
        }
    }

    fn workload(kind: &str, object: Value) -> Workload {
        let reference = format!("{kind}/web").parse().unwrap();
        Workload { reference, object }
    }

    fn slot(init: bool, name: &str) -> Slot {
        Slot {
            init,
            name: name.to_owned(),
        }
    }

    fn localhost(path: &str) -> Value {
        json!({"type": "Localhost", "localhostProfile": path})
    }

    /// `app` and the init container `setup` are ours, `proxy` is Helm's.
    fn two_of_ours() -> Workload {
        let ours = json!({"f:spec": {"f:template": {"f:spec": {
            "f:containers": {"k:{\"name\":\"app\"}": {"f:name": {}, "f:securityContext": {"f:seccompProfile": {"f:type": {}, "f:localhostProfile": {}}}}},
            "f:initContainers": {"k:{\"name\":\"setup\"}": {"f:securityContext": {"f:seccompProfile": {"f:type": {}}}}},
        }}}});
        let helm = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {
            "k:{\"name\":\"app\"}": {".": {}, "f:image": {}, "f:securityContext": {"f:runAsUser": {}}},
            "k:{\"name\":\"proxy\"}": {".": {}, "f:securityContext": {"f:seccompProfile": {"f:type": {}}}},
        }}}}});
        workload(
            "deploy",
            json!({
                "metadata": {"name": "web", "namespace": "shop", "uid": "u-1", "managedFields": [
                    {"manager": "seccast", "operation": "Apply", "fieldsV1": ours},
                    {"manager": "helm", "operation": "Update", "fieldsV1": helm},
                ]},
                "spec": {"template": {"spec": {
                    "containers": [
                        {"name": "app", "image": "web", "securityContext": {"runAsUser": 7, "seccompProfile": localhost("seccast/app.json")}},
                        {"name": "proxy", "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}},
                    ],
                    "initContainers": [{"name": "setup", "securityContext": {"seccompProfile": localhost("seccast/setup.json")}}],
                }}},
            }),
        )
    }

    #[test]
    fn who_has_set_a_profile_is_read_from_the_managed_fields() {
        let workload = two_of_ours();
        let ours: Vec<_> = workload
            .owned(|manager| manager == MANAGER)
            .into_keys()
            .collect();
        assert_eq!(ours, [slot(false, "app"), slot(true, "setup")]);
        let others = workload.owned(|manager| manager != MANAGER);
        assert_eq!(
            others,
            BTreeMap::from([(slot(false, "proxy"), vec!["helm".to_owned()])])
        );
        assert_eq!(
            workload.profile(&slot(false, "app")),
            Some(&localhost("seccast/app.json"))
        );
        assert_eq!(workload.profile(&slot(false, "setup")), None);
    }

    #[test]
    fn an_intent_keeps_what_was_attached_before_and_has_nothing_else() {
        let change =
            BTreeMap::from([(slot(false, "proxy"), Some(localhost("seccast/proxy.json")))]);
        let member = |name: &str| json!({"name": name, "securityContext": {"seccompProfile": localhost(&format!("seccast/{name}.json"))}});
        let head = json!({"name": "web", "namespace": "shop", "uid": "u-1"});
        assert_eq!(
            two_of_ours().intent(&change, false),
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": head,
                "spec": {"template": {"spec": {"containers": [member("app"), member("proxy")], "initContainers": [member("setup")]}}},
            })
        );
        // By the workload's order, not by name: init containers run in it.
        let mut setup_first = two_of_ours();
        let list = &mut setup_first.object["spec"]["template"]["spec"]["initContainers"];
        list.as_array_mut().unwrap().push(json!({"name": "proxy"}));
        let change = BTreeMap::from([(slot(true, "proxy"), Some(localhost("seccast/proxy.json")))]);
        assert_eq!(
            setup_first.intent(&change, false)["spec"]["template"]["spec"]["initContainers"],
            json!([member("setup"), member("proxy")])
        );
        let detach = BTreeMap::from([(slot(false, "app"), None)]);
        assert_eq!(
            two_of_ours().intent(&detach, false)["spec"],
            json!({"template": {"spec": {"initContainers": [member("setup")]}}})
        );
        let all = BTreeMap::from([(slot(false, "app"), None), (slot(true, "setup"), None)]);
        assert_eq!(
            two_of_ours().intent(&all, false),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": head})
        );
    }

    #[test]
    fn only_an_exact_intent_is_of_one_version() {
        let mut workload = two_of_ours();
        workload.object["metadata"]["resourceVersion"] = json!("7");
        let change = BTreeMap::from([(slot(false, "app"), None)]);
        let (loose, mut exact) = (
            workload.intent(&change, false),
            workload.intent(&change, true),
        );
        assert_eq!(loose["metadata"].get("resourceVersion"), None);
        let metadata = exact["metadata"].as_object_mut().unwrap();
        assert_eq!(metadata.remove("resourceVersion"), Some(json!("7")));
        assert_eq!(exact, loose);
    }

    #[test]
    fn a_cron_job_has_its_pod_one_level_deeper() {
        let cron = workload(
            "cj",
            json!({
                "metadata": {"name": "web", "namespace": "shop", "uid": "u-2"},
                "spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "app"}]}}}}},
            }),
        );
        let change = BTreeMap::from([(slot(false, "app"), Some(localhost("a.json")))]);
        let intent = cron.intent(&change, false);
        assert_eq!(intent["apiVersion"], "batch/v1");
        assert_eq!(
            intent["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["name"],
            "app"
        );
    }

    #[test]
    fn a_selector_is_written_as_a_query_has_it() {
        let deploy = workload(
            "deploy",
            json!({"spec": {"selector": {
                "matchLabels": {"app": "web"},
                "matchExpressions": [
                    {"key": "tier", "operator": "In", "values": ["a", "b"]},
                    {"key": "old", "operator": "DoesNotExist"},
                ],
            }}}),
        );
        assert_eq!(deploy.selector().unwrap(), "app=web,tier in (a,b),!old");
        assert_eq!(workload("cj", json!({"spec": {}})).selector(), None);
    }

    #[test]
    fn a_pods_template_is_its_controllers() {
        let pod = workload(
            "po",
            json!({"metadata": {"ownerReferences": [
            {"kind": "ReplicaSet", "name": "web-5d", "controller": true}]}}),
        );
        assert_eq!(pod.controller().unwrap().to_string(), "replicaset/web-5d");
        assert_eq!(workload("po", json!({})).controller(), None);
    }
}
