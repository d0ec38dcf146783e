//! SARIF 2.1.0: <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>.

use super::{Finding, Outcome, Rule};
use crate::diagnostic::Severity;
use crate::json;
use serde_json::{Value, json};
use std::fmt::Write as _;

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

pub(super) fn write(outcome: &Outcome, uri: Option<&str>, text: &str) -> String {
    let rules: Vec<Value> = Rule::ALL
        .into_iter()
        .map(|rule| {
            let level = match rule {
                Rule::Unneeded => "note",
                Rule::Incomplete => "warning",
                _ => "error",
            };
            json!({
                "id": rule.code(),
                "name": rule.name(),
                "shortDescription": { "text": rule.text() },
                "help": { "text": rule.help() },
                "defaultConfiguration": { "level": level },
                "properties": { "tags": ["security", "seccomp"] },
            })
        })
        .collect();
    let results: Vec<Value> = outcome
        .findings
        .iter()
        .map(|finding| result(finding, uri, text))
        .collect();
    json::pretty(&json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "seccast",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "invocations": [{ "executionSuccessful": true }],
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    }))
}

fn result(finding: &Finding, uri: Option<&str>, text: &str) -> Value {
    let rule = finding.rule;
    let index = Rule::ALL.iter().position(|one| *one == rule);
    let level = match finding.severity {
        Severity::Info => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    let mut value = json!({
        "ruleId": rule.code(),
        "ruleIndex": index,
        "level": level,
        "message": { "text": finding.full_message() },
    });
    if let Some(uri) = uri {
        let line = finding
            .call
            .as_deref()
            .map_or(1, |call| line_of(text, call));
        value["locations"] = json!([{ "physicalLocation": {
            "artifactLocation": { "uri": escape(uri) },
            "region": { "startLine": line },
        } }]);
    }
    // What stays the same while the line moves.
    let about = finding.call.as_deref().unwrap_or(finding.message.as_str());
    let arch = finding.arch.map_or("", crate::Arch::name);
    value["partialFingerprints"] =
        json!({ "seccast/v1": format!("{}/{arch}/{about}", rule.code()) });
    if let Some(risk) = &finding.risk {
        value["properties"] = json!({
            "risk": format!("{} ({})", risk.level.name(), risk.class.name()),
            "source": risk.source,
        });
    }
    value
}

/// The first line that has the name as a string; the file is one that names calls so.
fn line_of(text: &str, call: &str) -> usize {
    let quoted = format!("\"{call}\"");
    text.find(&quoted).map_or(1, |at| {
        text[..at].bytes().filter(|byte| *byte == b'\n').count() + 1
    })
}

/// A path as a URI reference: relative paths stay relative to the repository.
fn escape(path: &str) -> String {
    let mut uri = String::new();
    if path.starts_with('/') {
        uri.push_str("file://");
    }
    for byte in path.strip_prefix("./").unwrap_or(path).bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_' | b'~') {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}
