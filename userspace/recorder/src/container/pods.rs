//! Containers of Pods, as the user named them.

use super::{ContainerError, Waiting, Wanted, identity::Identity};
use crate::{
    cgroup::{Cgroup, Hierarchy},
    engine::{Details, cri},
    recorder::{Recorder, RecorderError, Recording},
    runtime::{
        bundle::Bundle,
        cri::{self as bundles, Contained},
        state::{self, State},
    },
};
use seccast_model::{near, observation::Pod};
use std::{collections::BTreeSet, fmt, path::PathBuf, str::FromStr};

/// Containers of one Pod, or of those whose names begin alike: `NS/NAME`, `NS/NAME*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pods {
    namespace: String,
    name: String,
    /// Any end of the name is meant, such as those that a Deployment gives.
    any_end: bool,
    /// Only containers of these names; every one if there is none.
    containers: Vec<String>,
}

/// Why a text names no Pod.
#[derive(Debug, thiserror::Error)]
#[error("{part} is no name of a {what} (a-z, 0-9, - and .); write NAMESPACE/NAME, or NAMESPACE/NAME* for any end", part = .part.escape_debug())]
pub struct PodsError {
    part: String,
    what: &'static str,
}

impl FromStr for Pods {
    type Err = PodsError;

    /// Without a namespace it is `default`.
    fn from_str(text: &str) -> Result<Self, PodsError> {
        let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
        let (name, any_end) = match name.strip_suffix('*') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let check = |part: &str, what| {
            let allowed =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
            if part.chars().all(allowed) && part.len() <= 253 {
                return Ok(part.to_owned());
            }
            let part = part.to_owned();
            Err(PodsError { part, what })
        };
        let empty = |what| PodsError {
            part: "\"\"".to_owned(),
            what,
        };
        if namespace.is_empty() {
            return Err(empty("namespace"));
        }
        if name.is_empty() && !any_end {
            return Err(empty("Pod"));
        }
        Ok(Self {
            namespace: check(namespace, "namespace")?,
            name: check(name, "Pod")?,
            any_end,
            containers: Vec::new(),
        })
    }
}

impl fmt::Display for Pods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.any_end { "*" } else { "" };
        write!(f, "{}/{}{end}", self.namespace, self.name)
    }
}

impl Pods {
    /// Only the containers of these names, if there are any.
    #[must_use]
    pub fn only(self, containers: Vec<String>) -> Self {
        Self { containers, ..self }
    }

    /// May more than one container be meant?
    #[must_use]
    pub fn may_be_many(&self) -> bool {
        self.any_end || self.containers.len() != 1
    }

    fn is(&self, pod: &Pod) -> bool {
        let named = match pod.name.strip_prefix(&self.name) {
            Some(end) => self.any_end || end.is_empty(),
            None => false,
        };
        named && pod.namespace == self.namespace
    }

    /// Is this the bundle of one that is meant? A Pod's sandbox never is.
    #[must_use]
    pub fn have(&self, bundle: &Bundle) -> bool {
        let named = |name: &str| {
            self.containers.is_empty() || self.containers.iter().any(|one| one == name)
        };
        !bundle.is_sandbox()
            && bundle.container_name().is_some_and(named)
            && bundle.pod().is_some_and(|pod| self.is(&pod))
    }

    /// Where bundles are looked for.
    fn folders() -> Result<Vec<PathBuf>, ContainerError> {
        let folders = bundles::folders();
        if folders.is_empty() {
            return Err(ContainerError::NoPods {
                looked: bundles::usual(),
            });
        }
        Ok(folders)
    }

    /// Those that exist, with their cgroups; what has ended is not among them.
    fn present(&self, recorder: &Recorder, folders: &[PathBuf]) -> Vec<(Contained, Cgroup)> {
        let mut found = bundles::containers(folders);
        found.retain(|one| self.have(&one.bundle));
        found.sort_by_key(|one| name(&one.bundle));
        let cgroup = |contained: Contained| {
            let cgroup = recorder.hierarchy().containing(&contained.id).into_iter();
            let cgroup = cgroup.min_by_key(|cgroup| cgroup.path.len())?;
            cgroup.populated().then_some((contained, cgroup))
        };
        found.into_iter().filter_map(cgroup).collect()
    }

    /// Records those that run.
    ///
    /// # Errors
    /// When there is none, or when the kernel refuses.
    pub fn record_running(
        &self,
        recorder: &mut Recorder,
    ) -> Result<Vec<Recording>, ContainerError> {
        let folders = Self::folders()?;
        let present = self.present(recorder, &folders);
        if present.is_empty() {
            return Err(self.unknown(recorder.hierarchy(), &folders));
        }
        let mut recordings = Vec::new();
        for (contained, cgroup) in present {
            let created = is_created(&contained.id, &cgroup);
            recordings.push(record(recorder, contained, &cgroup, created)?);
        }
        Ok(recordings)
    }

    /// Arms for the next start of one of them, or with `many` for every start.
    ///
    /// # Errors
    /// When the kernel refuses, or when nothing here would tell which Pod a container belongs to.
    pub fn wait(&self, recorder: &mut Recorder, many: bool) -> Result<Waiting, ContainerError> {
        let folders = Self::folders()?;
        let wanted = Wanted {
            pods: Some(self.clone()),
            ..Wanted::default()
        };
        let mut waiting = Waiting::arm(recorder, wanted, Vec::new(), many)?;
        for (contained, cgroup) in self.present(recorder, &folders) {
            if is_created(&contained.id, &cgroup) {
                waiting.add_created(record(recorder, contained, &cgroup, true)?);
                if !many {
                    break;
                }
            }
        }
        Ok(waiting)
    }

    /// Why none was found.
    fn unknown(&self, hierarchy: &Hierarchy, folders: &[PathBuf]) -> ContainerError {
        let all = bundles::containers(folders);
        let of_pod = |one: &&Contained| one.bundle.pod().is_some_and(|pod| self.is(&pod));
        let containers: BTreeSet<_> = all
            .iter()
            .filter(of_pod)
            .filter_map(|one| one.bundle.container_name())
            .map(str::to_owned)
            .collect();
        if !containers.is_empty() {
            if !hierarchy.is_whole() {
                return ContainerError::Part {
                    mount: hierarchy.mount().to_owned(),
                };
            }
            return ContainerError::NotInPod {
                pods: self.to_string(),
                wanted: match self.containers.join(", ") {
                    none if none.is_empty() => "none of its containers:".to_owned(),
                    names => format!("no container {names}: it has"),
                },
                there: containers.into_iter().collect::<Vec<_>>().join(", "),
            };
        }
        let pods: BTreeSet<String> = all
            .iter()
            .filter_map(|one| one.bundle.pod())
            .map(|pod| format!("{}/{}", pod.namespace, pod.name))
            .collect();
        ContainerError::UnknownPod {
            pods: self.to_string(),
            others: match pods.len() {
                0 => "nor does any other".to_owned(),
                1 => "where one does".to_owned(),
                many => format!("where {many} do"),
            },
            near: near::names(&self.to_string(), pods),
        }
    }
}

/// What only the runtime's socket tells of a Pod's container, where that can be reached: the Pod's labels.
#[must_use]
pub fn ask(container: &str) -> Option<Details> {
    // A node may have more than one runtime.
    let found = cri::Runtime::all().find_map(|runtime| {
        let known = runtime.ok()?.containers().ok()?;
        known.into_iter().find(|one| one.id == container)
    })?;
    Some(Details {
        id: found.id,
        pod_labels: found.pod.labels,
        ..Details::default()
    })
}

/// A Pod's container in one word, for sorting.
fn name(bundle: &Bundle) -> Option<(String, String, String)> {
    let pod = bundle.pod()?;
    Some((pod.namespace, pod.name, bundle.container_name()?.to_owned()))
}

fn record(
    recorder: &mut Recorder,
    contained: Contained,
    cgroup: &Cgroup,
    created: bool,
) -> Result<Recording, RecorderError> {
    let id = contained.id.clone();
    let identity = Identity::of_contained(contained);
    let target = identity.target();
    let created = created
        .then(|| recorder.watch_created(cgroup, target.clone()))
        .transpose()?;
    let mut recording = match created {
        Some(recording) if is_created(&id, cgroup) => recording,
        early => {
            // It was started between the look and the watching: its first calls may be missing.
            for slot in early.iter().flat_map(|early| &early.slots) {
                recorder.release(*slot)?;
            }
            recorder.watch_present(cgroup, false, target)?
        }
    };
    recording.bundle = identity.bundle;
    Ok(recording)
}

/// Does only the runtime's own process wait in it for the start? Its state folder says so, which no workload can write. Where
/// that is not seen, as in a Pod without it, the container counts as started: its recording is late, and says so.
fn is_created(id: &str, cgroup: &Cgroup) -> bool {
    let processes = cgroup.processes();
    let waits = |state: State| state.created && processes.iter().eq([&state.pid]);
    state::roots()
        .iter()
        .filter_map(|root| state::state(root, id))
        .any(waits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(pod: &str, container: Option<&str>) -> Bundle {
        let (namespace, name) = pod.split_once('/').unwrap();
        let kind = container.map_or("sandbox", |_| "container");
        let text = serde_json::json!({"annotations": {
            "io.kubernetes.cri.container-type": kind,
            "io.kubernetes.cri.container-name": container.unwrap_or_default(),
            "io.kubernetes.cri.sandbox-name": name,
            "io.kubernetes.cri.sandbox-namespace": namespace,
        }});
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn names_ends_and_containers_are_told_apart() {
        let check = |pods: &str, only: &[&str], pod: &str, container: Option<&str>| {
            let pods: Pods = pods.parse().unwrap();
            let only = only.iter().map(|name| (*name).to_owned()).collect();
            pods.only(only).have(&bundle(pod, container))
        };
        let app = Some("app");
        assert!(check("web", &[], "default/web", app));
        assert!(!check("web", &[], "default/web-1", app));
        assert!(!check("web", &[], "shop/web", app));
        assert!(check("shop/web", &[], "shop/web", app));
        assert!(check("shop/web-*", &[], "shop/web-5d4-x", app));
        assert!(!check("shop/web-*", &[], "shop/web", app));
        assert!(check("shop/*", &[], "shop/any", app));
        assert!(check("web", &["side", "app"], "default/web", app));
        assert!(!check("web", &["ap"], "default/web", app));
        assert!(!check("web", &[], "default/web", None));
    }

    #[test]
    fn what_is_no_name_of_a_pod_is_refused() {
        for text in [
            "", "/", "a/", "/a", "a/b/c", "a*b", "A/b", "a/b c", "a/../b", "*/a",
        ] {
            assert!(text.parse::<Pods>().is_err(), "{text}");
        }
        for text in ["a", "a/b", "a/b*", "a/*", "*"] {
            let pods: Pods = text.parse().unwrap();
            let whole = if text.contains('/') {
                text.to_owned()
            } else {
                format!("default/{text}")
            };
            assert_eq!(pods.to_string(), whole);
        }
    }
}
