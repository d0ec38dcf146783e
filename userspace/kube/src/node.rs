//! The start-up taint of a node, removed by the node's own installer.
//!
//! A node that registers with the taint gets no Pod before its profiles are on the disk. The installer has one right only, to **patch**
//! its Node. A node's taints are one atomic list (`+listType=atomic`, and no strategic merge key), so neither a strategic merge patch nor
//! server-side apply can take one out of it. A JSON patch can, by its index, if it knows the list; and a merge patch that changes nothing
//! answers with the Node. `test` before `remove` makes the second fail when somebody has changed the list in between.

use crate::{
    cluster::{Access, Cluster, ClusterError, Question},
    workload::MANAGER,
};
use serde_json::{Value, json};

/// Tries, since kubelets and controllers write to Nodes as well.
const TRIES: usize = 5;

/// Why a taint is still there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaintError {
    /// No name of a node.
    #[error("`{}` cannot be the name of a node", .0.escape_debug())]
    Name(String),
    /// RBAC or a policy.
    #[error(
        "not allowed to patch node {node} ({message}): the service account needs `patch` of `nodes`, and nothing else"
    )]
    Forbidden {
        /// The node.
        node: String,
        /// What the API server says.
        message: String,
    },
    /// There is no such node.
    #[error("there is no node {node}: give spec.nodeName, as the downward API has it, with --node")]
    NoNode {
        /// The node.
        node: String,
    },
    /// The API server.
    #[error(transparent)]
    Cluster(ClusterError),
}

/// Removes every taint of this key from a node, and says which there were, as `key=value:effect`; none when it is gone already.
///
/// # Errors
/// When the API server cannot be asked, or does not allow it.
pub fn remove_taint(access: &Access, node: &str, key: &str) -> Result<Vec<String>, TaintError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if node.is_empty() || node.starts_with('.') || !node.chars().all(allowed) {
        return Err(TaintError::Name(node.to_owned()));
    }
    let refused = |error| match error {
        ClusterError::Forbidden { message, .. } => TaintError::Forbidden {
            node: node.to_owned(),
            message,
        },
        ClusterError::NotFound { .. } => TaintError::NoNode {
            node: node.to_owned(),
        },
        error => TaintError::Cluster(error),
    };
    let cluster = Cluster::connect(access).map_err(TaintError::Cluster)?;
    let mut tries = 0;
    loop {
        // Changes nothing, and answers with the Node.
        let found = patch(&cluster, node, "merge-patch", &json!({})).map_err(refused)?;
        let taints = found.pointer("/spec/taints").and_then(Value::as_array);
        let (removal, names) = removal(taints.map_or(&[], Vec::as_slice), key);
        if names.is_empty() {
            return Ok(names);
        }
        tries += 1;
        match patch(&cluster, node, "json-patch", &removal) {
            Ok(_) => return Ok(names),
            // The list is another one by now.
            Err(ClusterError::Changed { .. } | ClusterError::Refused { .. }) if tries < TRIES => {}
            Err(error) => return Err(refused(error)),
        }
    }
}

/// The patch that takes all taints of a key out of a list, the last first, and what they are.
fn removal(taints: &[Value], key: &str) -> (Value, Vec<String>) {
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let (mut patch, mut names) = (Vec::new(), Vec::new());
    for (at, taint) in taints.iter().enumerate().rev() {
        if taint["key"] != key {
            continue;
        }
        let path = format!("/spec/taints/{at}");
        patch.push(json!({"op": "test", "path": path, "value": taint}));
        patch.push(json!({"op": "remove", "path": path}));
        let value = text(taint, "value");
        let equals = if value.is_empty() { "" } else { "=" };
        names.push(format!("{key}{equals}{value}:{}", text(taint, "effect")));
    }
    (Value::Array(patch), names)
}

fn patch(cluster: &Cluster, node: &str, kind: &str, body: &Value) -> Result<Value, ClusterError> {
    let question = Question {
        verb: "patch",
        path: "api/v1",
        plural: "nodes",
        name: node,
    };
    let request = http::Request::patch(format!("/api/v1/nodes/{node}?fieldManager={MANAGER}"))
        .header("content-type", format!("application/{kind}+json"))
        .header("accept", "application/json")
        .body(body.to_string().into_bytes());
    let request = request.map_err(kube::core::request::Error::BuildRequest);
    cluster.ask(question, request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_taints_of_the_key_go_and_the_indices_hold() {
        let taint =
            |key: &str, effect: &str| json!({"key": key, "value": "missing", "effect": effect});
        let ours = "seccast.dev/profiles";
        let taints = [
            taint(ours, "NoSchedule"),
            taint("other", "NoSchedule"),
            taint(ours, "NoExecute"),
        ];
        let (patch, names) = removal(&taints, ours);
        assert_eq!(
            names,
            [
                "seccast.dev/profiles=missing:NoExecute",
                "seccast.dev/profiles=missing:NoSchedule"
            ]
        );
        assert_eq!(
            patch,
            json!([
                {"op": "test", "path": "/spec/taints/2", "value": taints[2]},
                {"op": "remove", "path": "/spec/taints/2"},
                {"op": "test", "path": "/spec/taints/0", "value": taints[0]},
                {"op": "remove", "path": "/spec/taints/0"},
            ])
        );
        assert_eq!(removal(&taints, "seccast.dev/profile").1, [""; 0]);
    }

    #[test]
    fn what_is_no_name_of_a_node_is_never_a_part_of_an_address() {
        for name in ["", "a/b", "..", "a?x", "a%2fb", "a b"] {
            let error = remove_taint(&Access::default(), name, "k").unwrap_err();
            assert!(matches!(error, TaintError::Name(_)), "{name}: {error}");
        }
    }
}
