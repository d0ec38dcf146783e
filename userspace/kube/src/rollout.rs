//! How far a changed template has come, and what holds it up.
//!
//! The judgement is that of `kubectl rollout status`, over the object's status alone. What single Pods wait for is said
//! beside it, since a rollout that does not end has its reason there.

use crate::{
    cluster::{Cluster, ClusterError, one_line},
    workload::{self, Effect, Slot, Workload},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};
use thiserror::Error;

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(500);

/// How far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Every Pod has the new template and is available.
    Done {
        /// How many.
        pods: i64,
    },
    /// On its way.
    Moving(String),
    /// The controller replaces no Pods; why, and what would.
    Still(&'static str),
    /// The controller has given up.
    Failed(String),
}

/// Where the workload stands, by its status.
#[must_use]
pub fn judge(workload: &Workload) -> Progress {
    let (spec, status) = (&workload.object["spec"], &workload.object["status"]);
    let count = |value: &Value| value.as_i64().unwrap_or(0);
    match workload.reference.kind.effect {
        Effect::Rollout => {}
        Effect::NewPods => {
            return Progress::Still(
                "a ReplicaSet replaces no Pod: those that run stay as they are until they are deleted",
            );
        }
        Effect::NextRun => {
            return Progress::Still(
                "runs that have begun stay as they are; the next one has the change",
            );
        }
        Effect::Immutable => return Progress::Still("its template cannot be changed"),
    }
    let on_delete = spec["updateStrategy"]["type"] == "OnDelete";
    if on_delete {
        return Progress::Still(
            "its updateStrategy is OnDelete: each Pod gets the change when it is deleted",
        );
    }
    if spec["paused"] == true {
        return Progress::Still(
            "it is paused: `kubectl rollout resume` lets the change take place",
        );
    }
    if count(&status["observedGeneration"]) < count(&workload.object["metadata"]["generation"]) {
        return Progress::Moving("its controller has not seen the change yet".to_owned());
    }
    let moving = |text: String| Progress::Moving(text);
    match workload.reference.kind.name {
        "DaemonSet" => {
            let wanted = count(&status["desiredNumberScheduled"]);
            let updated = count(&status["updatedNumberScheduled"]);
            let available = count(&status["numberAvailable"]);
            if updated < wanted {
                moving(format!("{updated} of {wanted} Pods are new"))
            } else if available < wanted {
                moving(format!("{available} of {wanted} new Pods are available"))
            } else {
                Progress::Done { pods: wanted }
            }
        }
        "StatefulSet" => {
            let wanted = spec["replicas"].as_i64().unwrap_or(1);
            let partition =
                count(&spec["updateStrategy"]["rollingUpdate"]["partition"]).min(wanted);
            let updated = count(&status["updatedReplicas"]);
            let ready = count(&status["readyReplicas"]);
            // updatedReplicas is kept only while a rollout lasts, and is left out when it is 0.
            let over = status["currentRevision"] == status["updateRevision"];
            if !over && updated < wanted - partition {
                moving(format!("{updated} of {} Pods are new", wanted - partition))
            } else if ready < wanted {
                moving(format!("{ready} of {wanted} Pods are ready"))
            } else if !over && partition == 0 {
                moving(format!("all {wanted} Pods are new"))
            } else {
                Progress::Done {
                    pods: wanted - partition,
                }
            }
        }
        _ => {
            let wanted = spec["replicas"].as_i64().unwrap_or(1);
            let conditions = status["conditions"].as_array().into_iter().flatten();
            let given_up = conditions
                .filter(|condition| condition["type"] == "Progressing")
                .find(|condition| condition["reason"] == "ProgressDeadlineExceeded");
            if let Some(condition) = given_up {
                let message = condition["message"].as_str().unwrap_or_default();
                return Progress::Failed(format!("its progress deadline is over: {message}"));
            }
            let updated = count(&status["updatedReplicas"]);
            let old = count(&status["replicas"]) - updated;
            let available = count(&status["availableReplicas"]);
            if updated < wanted {
                moving(format!("{updated} of {wanted} Pods are new"))
            } else if old > 0 {
                moving(format!("{old} of the old Pods still there"))
            } else if available < updated {
                moving(format!("{available} of {updated} new Pods are available"))
            } else {
                Progress::Done { pods: updated }
            }
        }
    }
}

/// What holds new Pods up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The container; empty where the Pod as a whole waits.
    pub container: String,
    /// The kubelet's or the scheduler's word: `CreateContainerError`.
    pub reason: String,
    /// Its message.
    pub message: String,
    /// What it means for a profile.
    pub meaning: Option<Meaning>,
    /// How many Pods.
    pub pods: usize,
    /// Where they are.
    pub nodes: BTreeSet<String>,
}

/// What a reason means for a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The node has no such file.
    Missing {
        /// The file, as the kubelet asked for it.
        path: String,
    },
    /// The file is not a profile that the runtime takes.
    Unusable,
    /// The container was killed by a filter: SIGSYS.
    Killed,
    /// The container ended: something may have been denied it.
    Ended,
}

/// What holds up the Pods that are as wanted: each container has its profile (None: none).
#[must_use]
pub fn troubles(pods: &[Value], wanted: &BTreeMap<Slot, Option<Value>>) -> Vec<Trouble> {
    let mut all: Vec<Trouble> = Vec::new();
    let new = pods.iter().filter(|pod| is_new(pod, wanted));
    for one in new.flat_map(waits) {
        let same = |known: &&mut Trouble| {
            (&known.container, &known.reason, &known.message)
                == (&one.container, &one.reason, &one.message)
        };
        match all.iter_mut().find(same) {
            Some(known) => {
                known.pods += 1;
                known.nodes.extend(one.nodes);
            }
            None => all.push(one),
        }
    }
    all
}

/// A Pod of the new template, that is not being deleted.
fn is_new(pod: &Value, wanted: &BTreeMap<Slot, Option<Value>>) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null()
        && wanted.iter().all(|(slot, profile)| {
            let containers = pod["spec"][workload::list(slot.init)]
                .as_array()
                .into_iter()
                .flatten();
            let mut named = containers.filter(|container| container["name"] == slot.name.as_str());
            named.any(|container| {
                let has = &container["securityContext"]["seccompProfile"];
                profile
                    .as_ref()
                    .map_or(has.is_null(), |profile| has == profile)
            })
        })
}

/// Whatever the Pod waits for.
fn waits(pod: &Value) -> Vec<Trouble> {
    let mut waits = Vec::new();
    let text = |value: &Value| one_line(value.as_str().unwrap_or_default());
    let nodes: BTreeSet<_> = pod["spec"]["nodeName"]
        .as_str()
        .map(str::to_owned)
        .into_iter()
        .collect();
    let mut wait = |container, reason, message, meaning| {
        waits.push(Trouble {
            container,
            reason,
            message,
            meaning,
            pods: 1,
            nodes: nodes.clone(),
        });
    };
    for condition in pod["status"]["conditions"].as_array().into_iter().flatten() {
        if condition["type"] == "PodScheduled" && condition["status"] == "False" {
            wait(
                String::new(),
                text(&condition["reason"]),
                text(&condition["message"]),
                None,
            );
        }
    }
    let lists =
        ["initContainerStatuses", "containerStatuses"].map(|list| pod["status"][list].as_array());
    for status in lists.into_iter().flatten().flatten() {
        let waiting = &status["state"]["waiting"];
        let ended = [&status["state"], &status["lastState"]].map(|state| &state["terminated"]);
        let ended = ended
            .into_iter()
            .find(|ended| ended["exitCode"].as_i64().is_some_and(|code| code != 0));
        let (name, reason) = (text(&status["name"]), text(&waiting["reason"]));
        match (reason.as_str(), ended) {
            // On its way.
            ("PodInitializing" | "ContainerCreating", _) => {}
            ("" | "CrashLoopBackOff", Some(ended)) if status["ready"] != true => {
                let code = ended["exitCode"].as_i64().unwrap_or_default();
                let meaning = if code == SIGSYS {
                    Meaning::Killed
                } else {
                    Meaning::Ended
                };
                let reason = if reason.is_empty() {
                    text(&ended["reason"])
                } else {
                    reason
                };
                wait(
                    name,
                    reason,
                    format!("it ended with code {code}"),
                    Some(meaning),
                );
            }
            ("" | "CrashLoopBackOff", _) => {}
            _ => {
                let message = text(&waiting["message"]);
                let meaning = meaning(&message);
                wait(name, reason, message, meaning);
            }
        }
    }
    waits
}

/// 128 + SIGSYS, which is 31 on every architecture that Kubernetes runs on.
const SIGSYS: i64 = 159;

/// The messages of containerd and CRI-O when they read a profile, and of runc and crun when they are given it.
fn meaning(message: &str) -> Option<Meaning> {
    let of_profile = [
        "cannot load seccomp profile",
        "unable to load local profile",
        "load seccomp profile",
    ]
    .iter()
    .any(|words| message.contains(words));
    if of_profile && message.contains("no such file") {
        // The path is the first quoted word, or the first absolute one.
        let quoted = message.split('"').find(|part| part.starts_with('/'));
        let bare = || message.split([' ', ':']).find(|part| part.starts_with('/'));
        let path = quoted.or_else(bare).unwrap_or_default().to_owned();
        return Some(Meaning::Missing { path });
    }
    (of_profile || message.contains("seccomp")).then_some(Meaning::Unusable)
}

/// How a wait ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// [`Progress::Done`].
    Done {
        /// How many Pods have the new template.
        pods: i64,
        /// Since the wait began.
        after: Duration,
    },
    /// [`Progress::Still`].
    Still(&'static str),
    /// Not within the time, or the controller has given up.
    Not {
        /// Where it stands.
        what: String,
        /// The controller has given up, before the time was over.
        given_up: bool,
        /// What holds the new Pods up.
        troubles: Vec<Trouble>,
    },
}

/// What is new since the last look, for whoever waits.
#[derive(Clone, Copy, Debug)]
pub enum News<'a> {
    /// Where it stands.
    Stands(&'a str),
    /// Something holds Pods up.
    Trouble(&'a Trouble),
    /// The Pods cannot be looked at.
    Blind(&'a ClusterError),
}

/// Why a wait could not go on.
#[derive(Debug, Error)]
#[error("the change is made, but its rollout cannot be followed: {0}")]
pub struct Lost(#[from] ClusterError);

/// Waits until the workload's Pods are as wanted.
///
/// An API server that does not answer for a while (an upgrade, a restart) does not end the wait. Needs the right to `get`
/// the workload; with that to `list` Pods it also says what they wait for.
///
/// # Errors
///
/// When the workload is gone or may not be looked at any more, and when the API server did not answer to the end.
pub fn wait(
    cluster: &Cluster,
    workload: &Workload,
    wanted: &BTreeMap<Slot, Option<Value>>,
    limit: Duration,
    mut news: impl FnMut(News<'_>),
) -> Result<Ended, Lost> {
    let begin = Instant::now();
    let (mut stood, mut told, mut blind) = (String::new(), Vec::<Trouble>::new(), false);
    loop {
        let over = begin.elapsed() >= limit;
        match Workload::get(cluster, &workload.reference) {
            Ok(now) => {
                let progress = judge(&now);
                let (what, failed) = match progress {
                    Progress::Done { pods } => {
                        return Ok(Ended::Done {
                            pods,
                            after: begin.elapsed(),
                        });
                    }
                    Progress::Still(why) => return Ok(Ended::Still(why)),
                    Progress::Moving(what) => (what, false),
                    Progress::Failed(what) => (what, true),
                };
                let troubles = match now.pods(cluster) {
                    Ok(pods) => troubles(&pods, wanted),
                    Err(error) => {
                        if !std::mem::replace(&mut blind, true) {
                            news(News::Blind(&error));
                        }
                        Vec::new()
                    }
                };
                if over || failed {
                    return Ok(Ended::Not {
                        what,
                        given_up: failed,
                        troubles,
                    });
                }
                if what != stood {
                    news(News::Stands(&what));
                    stood = what;
                }
                for trouble in troubles {
                    let same = |known: &Trouble| {
                        (&known.container, &known.reason, &known.meaning)
                            == (&trouble.container, &trouble.reason, &trouble.meaning)
                    };
                    if !told.iter().any(same) {
                        news(News::Trouble(&trouble));
                        told.push(trouble);
                    }
                }
            }
            Err(ClusterError::Unreachable { .. } | ClusterError::Refused { .. }) if !over => {}
            Err(error) => return Err(Lost(error)),
        }
        thread::sleep(PERIOD.min(limit.saturating_sub(begin.elapsed())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(kind: &str, spec: Value, status: Value, expect: &str) {
        let reference = format!("{kind}/web").parse().unwrap();
        let object = json!({"metadata": {"generation": 2}, "spec": spec, "status": status});
        let found = match judge(&Workload { reference, object }) {
            Progress::Done { pods } => format!("done: {pods}"),
            Progress::Moving(what) => format!("moving: {what}"),
            Progress::Still(why) => format!("still: {why}"),
            Progress::Failed(what) => format!("failed: {what}"),
        };
        assert_eq!(found, expect);
    }

    #[test]
    fn a_deployment_is_done_when_all_are_new_no_old_one_is_left_and_all_are_available() {
        let deploy = |status, expect| check("deploy", json!({"replicas": 3}), status, expect);
        deploy(
            json!({"observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}),
            "moving: its controller has not seen the change yet",
        );
        deploy(
            json!({"observedGeneration": 2, "replicas": 4, "updatedReplicas": 1, "availableReplicas": 3}),
            "moving: 1 of 3 Pods are new",
        );
        deploy(
            json!({"observedGeneration": 2, "replicas": 4, "updatedReplicas": 3, "availableReplicas": 3}),
            "moving: 1 of the old Pods still there",
        );
        deploy(
            json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 2}),
            "moving: 2 of 3 new Pods are available",
        );
        deploy(
            json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}),
            "done: 3",
        );
        let over = json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "ReplicaSet \"web-2\" has timed out progressing."}]);
        deploy(
            json!({"observedGeneration": 2, "conditions": over}),
            "failed: its progress deadline is over: ReplicaSet \"web-2\" has timed out progressing.",
        );
        check(
            "deploy",
            json!({"replicas": 0}),
            json!({"observedGeneration": 2}),
            "done: 0",
        );
        check(
            "deploy",
            json!({"replicas": 3, "paused": true}),
            json!({}),
            "still: it is paused: `kubectl rollout resume` lets the change take place",
        );
    }

    #[test]
    fn a_stateful_set_goes_down_to_its_partition() {
        let set = |partition: i64| json!({"replicas": 3, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}});
        let status = |updated: i64, ready: i64, current: &str| json!({"observedGeneration": 2, "updatedReplicas": updated, "readyReplicas": ready, "currentRevision": current, "updateRevision": "b"});
        check(
            "sts",
            set(0),
            status(1, 3, "a"),
            "moving: 1 of 3 Pods are new",
        );
        check(
            "sts",
            set(0),
            status(3, 2, "a"),
            "moving: 2 of 3 Pods are ready",
        );
        check("sts", set(0), status(0, 3, "b"), "done: 3");
        check(
            "sts",
            set(2),
            status(0, 3, "a"),
            "moving: 0 of 1 Pods are new",
        );
        check("sts", set(2), status(1, 3, "a"), "done: 1");
        check(
            "sts",
            json!({"updateStrategy": {"type": "OnDelete"}}),
            json!({}),
            "still: its updateStrategy is OnDelete: each Pod gets the change when it is deleted",
        );
    }

    #[test]
    fn a_daemon_set_is_done_when_every_node_has_a_new_pod() {
        let status = |updated: i64, available: i64| json!({"observedGeneration": 2, "desiredNumberScheduled": 2, "updatedNumberScheduled": updated, "numberAvailable": available});
        check("ds", json!({}), status(1, 2), "moving: 1 of 2 Pods are new");
        check(
            "ds",
            json!({}),
            status(2, 1),
            "moving: 1 of 2 new Pods are available",
        );
        check("ds", json!({}), status(2, 2), "done: 2");
    }

    #[test]
    fn what_replaces_no_pod_is_said() {
        check(
            "rs",
            json!({}),
            json!({}),
            "still: a ReplicaSet replaces no Pod: those that run stay as they are until they are deleted",
        );
        check(
            "cj",
            json!({}),
            json!({}),
            "still: runs that have begun stay as they are; the next one has the change",
        );
    }

    fn pod(profile: &str, node: &str, status: Value) -> Value {
        json!({
            "metadata": {"name": "web"},
            "spec": {"nodeName": node, "containers": [{"name": "app", "securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": profile}}}]},
            "status": {"containerStatuses": [status]},
        })
    }

    #[test]
    fn only_new_pods_are_in_trouble_and_what_it_means_for_the_profile_is_known() {
        let slot = Slot {
            init: false,
            name: "app".to_owned(),
        };
        let wanted = BTreeMap::from([(
            slot,
            Some(json!({"type": "Localhost", "localhostProfile": "new.json"})),
        )]);
        // As containerd 2.4 says it.
        let message = "failed to create containerd container: cannot load seccomp profile \"/var/lib/kubelet/seccomp/new.json\": open /var/lib/kubelet/seccomp/new.json: no such file or directory";
        let missing = json!({"name": "app", "ready": false, "state": {"waiting": {"reason": "CreateContainerError", "message": message}}});
        let killed = json!({"name": "app", "ready": false, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}, "lastState": {"terminated": {"exitCode": 159, "reason": "Error"}}});
        let pods = [
            pod("old.json", "node3", missing.clone()),
            pod("new.json", "node2", missing.clone()),
            pod("new.json", "node1", missing),
            pod("new.json", "node1", killed),
            pod(
                "new.json",
                "node1",
                json!({"name": "app", "ready": false, "state": {"waiting": {"reason": "ContainerCreating"}}}),
            ),
            pod(
                "new.json",
                "node1",
                json!({"name": "app", "ready": true, "state": {"running": {}}}),
            ),
        ];
        let trouble = |reason: &str, message: &str, meaning, pods, nodes: &[&str]| Trouble {
            container: "app".to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            meaning: Some(meaning),
            pods,
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
        };
        let path = "/var/lib/kubelet/seccomp/new.json".to_owned();
        assert_eq!(
            troubles(&pods, &wanted),
            [
                trouble(
                    "CreateContainerError",
                    message,
                    Meaning::Missing { path },
                    2,
                    &["node1", "node2"]
                ),
                trouble(
                    "CrashLoopBackOff",
                    "it ended with code 159",
                    Meaning::Killed,
                    1,
                    &["node1"]
                ),
            ]
        );
    }

    #[test]
    fn the_words_of_runtimes_are_understood() {
        let check = |message: &str, expect| assert_eq!(meaning(message), expect, "{message}");
        let path = "/var/lib/kubelet/seccomp/a.json".to_owned();
        check(
            "unable to load local profile \"/var/lib/kubelet/seccomp/a.json\": open /var/lib/kubelet/seccomp/a.json: no such file or directory",
            Some(Meaning::Missing { path }),
        );
        check(
            "failed to create containerd container: cannot load seccomp profile \"/a\": decoding seccomp profile failed: unexpected end of JSON input",
            Some(Meaning::Unusable),
        );
        check(
            "runc create failed: unable to start container process: error during container init: unable to init seccomp: string  is not a valid action",
            Some(Meaning::Unusable),
        );
        check("Back-off pulling image \"x\"", None);
    }
}
