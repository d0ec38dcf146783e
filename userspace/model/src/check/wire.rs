//! The outcome as a file, version 1.

use super::{Outcome, Rule};
use crate::diagnostic::Severity;
use crate::diff::{Side, wire};
use crate::json;
use serde_json::{Value, json};

const SCHEMA: &str = "seccast/check.v1";

pub(super) fn write(outcome: &Outcome) -> String {
    let side = |side: &Side| json!({ "label": side.label, "kind": side.kind, "names": side.names });
    let rules: Vec<Value> = Rule::ALL
        .into_iter()
        .map(|rule| {
            json!({
                "code": rule.code(),
                "rule": rule.name(),
                "text": rule.text(),
                "applied": outcome.applied.contains(&rule),
            })
        })
        .collect();
    let findings: Vec<Value> = outcome
        .findings
        .iter()
        .map(|finding| {
            let mut value = json!({
                "code": finding.rule.code(),
                "rule": finding.rule.name(),
                "severity": finding.severity.name(),
                "message": finding.message,
            });
            if let Some(call) = &finding.call {
                value["call"] = json!(call);
            }
            if let Some(arch) = finding.arch {
                value["arch"] = json!(arch.name());
            }
            if let Some(why) = &finding.why {
                value["why"] = wire::why(why);
            }
            if let Some(risk) = &finding.risk {
                value["risk"] = wire::risk(risk);
            }
            value["help"] = json!(finding.rule.help());
            value
        })
        .collect();
    json::pretty(&json!({
        "schema": SCHEMA,
        "passed": outcome.passed(),
        "checked": side(&outcome.subject),
        "against": side(&outcome.against),
        "counts": {
            "error": outcome.count(Severity::Error),
            "warning": outcome.count(Severity::Warning),
            "info": outcome.count(Severity::Info),
        },
        "rules": rules,
        "findings": findings,
    }))
}
