//! The report as a file, version 1.

use super::{Comparison, Incomplete, Origin, Report, Sighted};
use crate::json;
use crate::observation::wire::evidence;
use crate::observation::{Backend, Caller};
use serde_json::{Map, Value, json};

const SCHEMA: &str = "seccast/report.v1";

pub(super) fn write(report: &Report) -> String {
    let summary = report.summary();
    let mut root = json!({
        "schema": SCHEMA,
        "complete": report.is_complete(),
        "incomplete": report.incomplete.iter().map(incomplete).collect::<Vec<_>>(),
        "counts": {
            "allowed": summary.allowed,
            "recorded": summary.recorded,
            "application": summary.application,
            "exec_only": summary.exec_only,
            "core_added": summary.core_added,
            "base_added": summary.base_added,
            "closure_added": summary.closure_added,
        },
        "policy": {
            "runtime": report.policy.runtime.name(),
            "no_new_privs": report.policy.no_new_privs,
            "core": report.policy.core,
            "base": report.policy.base,
            "closure": report.policy.closure,
            "include_exec": report.policy.include_exec,
            "include_denied": report.policy.include_denied,
        },
        "no_new_privs_saves": report.no_new_privs_saves,
        "architectures": report.architectures.iter().map(|(arch, reasons)| json!({
            "arch": arch.name(),
            "oci": arch.oci_name(),
            "native": reasons.native,
            "calls": reasons.calls,
        })).collect::<Vec<_>>(),
        "recordings": report.recordings.iter().map(|recording| {
            let target = &recording.target;
            object([
                ("recording_id", json!(recording.id)),
                ("tool_version", json!(recording.tool_version)),
                ("backend", json!(match recording.backend { Backend::Ebpf => "ebpf", Backend::Ptrace => "ptrace" })),
                ("engine", json!(target.engine)),
                ("runtime", json!(target.runtime)),
                ("container_id", json!(target.container_id)),
                ("container_name", json!(target.container_name)),
                ("image", json!(target.image)),
                ("image_digest", json!(target.image_digest)),
                ("pod", target.pod.as_ref().map_or(Value::Null, |pod| object([
                    ("namespace", json!(pod.namespace)),
                    ("name", json!(pod.name)),
                    ("uid", json!(pod.uid)),
                    ("labels", if pod.labels.is_empty() { Value::Null } else { json!(pod.labels) }),
                ]))),
                ("command", if target.command.is_empty() { Value::Null } else { json!(target.command) }),
                ("evidence", recording.evidence.as_ref().map_or(Value::Null, evidence)),
                ("kernel", json!(recording.machine.kernel)),
                ("arch", json!(recording.machine.arch.name())),
                ("libc", json!(recording.machine.libc)),
                ("started_ns", json!(recording.started_ns)),
                ("ended_ns", json!(recording.ended_ns)),
            ])
        }).collect::<Vec<_>>(),
    });
    let syscalls: Map<String, Value> = report
        .syscalls
        .iter()
        .map(|(name, origins)| (name.clone(), origins.iter().map(origin).collect()))
        .collect();
    let denied: Map<String, Value> = report
        .denied
        .iter()
        .map(|(name, seen)| (name.clone(), seen.iter().map(sighted).collect()))
        .collect();
    let unknown: Vec<Value> = report
        .unknown
        .iter()
        .map(|unknown| {
            object([
                ("arch", json!(unknown.arch.name())),
                ("phase", json!(unknown.phase.name())),
                ("nr", json!(unknown.nr)),
                (
                    "caller",
                    unknown.caller.as_ref().map_or(Value::Null, caller),
                ),
            ])
        })
        .collect();
    let diagnostics: Vec<Value> = report
        .diagnostics
        .iter()
        .map(|finding| {
            object([
                ("code", json!(finding.code)),
                ("severity", json!(finding.severity.name())),
                ("message", json!(finding.message)),
                ("advice", json!(finding.advice)),
            ])
        })
        .collect();
    root["diagnostics"] = Value::Array(diagnostics);
    if let Some(comparison) = &report.comparison {
        root["comparison"] = compared(comparison);
    }
    root["unknown"] = Value::Array(unknown);
    root["denied"] = Value::Object(denied);
    root["syscalls"] = Value::Object(syscalls);
    json::pretty(&root)
}

/// An object without the fields that are null.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(fields.map(|(key, value)| (key.to_owned(), value)).collect())
}

fn origin(origin: &Origin) -> Value {
    match origin {
        Origin::Recorded(seen) => sighted(seen),
        Origin::Core { why } => json!({ "origin": "core", "why": why }),
        Origin::Base {
            runtime,
            group,
            why,
        } => {
            json!({ "origin": "base", "runtime": runtime.name(), "group": group, "why": why })
        }
        Origin::Closure { from, why, source } => object([
            ("origin", json!("closure")),
            ("from", json!(from)),
            ("why", json!(why)),
            ("source", json!(source)),
        ]),
    }
}

fn sighted(seen: &Sighted) -> Value {
    object([
        ("origin", json!(seen.part.name())),
        ("arch", json!(seen.arch.name())),
        ("first_ns", json!(seen.first_ns)),
        ("caller", seen.caller.as_ref().map_or(Value::Null, caller)),
        ("recording_id", json!(seen.recording)),
        ("recordings", json!(seen.recordings)),
    ])
}

fn caller(caller: &Caller) -> Value {
    object([
        ("pid", json!(caller.pid)),
        ("comm", json!(caller.comm)),
        ("exe", json!(caller.exe)),
    ])
}

fn incomplete(incomplete: &Incomplete) -> Value {
    let mut value = json!({ "reason": incomplete.reason(), "message": incomplete.to_string() });
    match incomplete {
        Incomplete::Losses { recordings, losses } => {
            value["losses"] = json!(losses);
            value["recordings"] = json!(recordings);
        }
        Incomplete::StartedLate { nanoseconds } => value["nanoseconds"] = json!(nanoseconds),
        Incomplete::UndecidedEntered {
            recordings,
            count,
            processes,
        } => {
            value["count"] = json!(count);
            let process = |(comm, pid): &(String, u32)| json!({ "comm": comm, "pid": pid });
            value["processes"] = processes.iter().map(process).collect();
            value["recordings"] = json!(recordings);
        }
        Incomplete::Unproven { recordings, .. } => value["recordings"] = json!(recordings),
    }
    value
}

fn compared(comparison: &Comparison) -> Value {
    json!({
        "with": comparison.with,
        "arch": comparison.arch.name(),
        "known": comparison.known,
        "default_allows": comparison.default_allows,
        "profile_allows": comparison.profile_allows,
        "extra": comparison.extra,
    })
}
