//! The difference as a file, version 1.

use super::{Change, ChangeKind, Diff, Side};
use crate::json;
use crate::report::Why;
use crate::risk::Risk;
use serde_json::{Map, Value, json};

const SCHEMA: &str = "seccast/diff.v1";

pub(super) fn write(diff: &Diff) -> String {
    let side = |side: &Side| json!({ "label": side.label, "kind": side.kind, "names": side.names });
    let counts: Map<String, Value> = ChangeKind::ALL
        .into_iter()
        .map(|kind| (kind.name().to_owned(), json!(diff.count(kind))))
        .collect();
    let settings: Vec<Value> = diff
        .settings
        .iter()
        .map(|setting| {
            json!({
                "field": setting.field,
                "before": setting.before,
                "after": setting.after,
                "opens": setting.opens,
            })
        })
        .collect();
    let tokens = |archs: &std::collections::BTreeSet<crate::profile::OciArch>| -> Vec<&str> {
        archs.iter().map(|arch| arch.name()).collect()
    };
    json::pretty(&json!({
        "schema": SCHEMA,
        "before": side(&diff.before),
        "after": side(&diff.after),
        "different": !diff.is_empty(),
        "counts": counts,
        "settings": settings,
        "architectures": {
            "added": tokens(&diff.architectures_added),
            "removed": tokens(&diff.architectures_removed),
        },
        "changes": diff.changes.iter().map(change).collect::<Vec<_>>(),
    }))
}

fn change(change: &Change) -> Value {
    let mut value = json!({ "change": change.kind.name(), "name": change.name });
    if let Some(arch) = change.arch {
        value["arch"] = json!(arch.name());
    }
    value["before"] = json!(change.before_text);
    value["after"] = json!(change.after_text);
    if let Some(found) = &change.risk {
        value["risk"] = risk(found);
    }
    if let Some(reason) = &change.why {
        value["why"] = why(reason);
    }
    value
}

pub(crate) fn risk(risk: &Risk) -> Value {
    json!({
        "level": risk.level.name(),
        "class": risk.class.name(),
        "why": risk.why,
        "source": risk.source,
    })
}

/// As an origin of a report.
pub(crate) fn why(why: &Why) -> Value {
    let caller = why.caller.as_ref().map(|caller| {
        let mut value = json!({ "pid": caller.pid, "comm": caller.comm });
        if let Some(exe) = &caller.exe {
            value["exe"] = json!(exe);
        }
        value
    });
    let fields = [
        ("origin", json!(why.origin)),
        ("arch", json!(why.arch.map(crate::Arch::name))),
        ("first_ns", json!(why.first_ns)),
        ("caller", json!(caller)),
        ("recording_id", json!(why.recording)),
        ("why", json!(why.why)),
    ];
    fields
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| (key.to_owned(), value))
        .collect::<Map<_, _>>()
        .into()
}
