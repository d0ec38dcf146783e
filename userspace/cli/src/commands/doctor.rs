//! `seccast doctor`: what this machine can do, and what it lacks.

use crate::{
    args::doctor::{DoctorArgs, Format},
    exit::Exit,
    output::{self, file::Destination},
};
use seccast_recorder::features::{Finding, State, examine};
use serde_json::json;
use std::fmt::Write as _;

/// Does it.
pub fn run(args: &DoctorArgs) -> anyhow::Result<Exit> {
    let findings = examine();
    let can_record = can_record(&findings);
    let text = match args.format {
        Format::Json => {
            let list: Vec<_> = findings
                .iter()
                .map(|finding| json!({"subject": finding.subject, "state": finding.state.name(), "found": finding.found, "advice": finding.advice}))
                .collect();
            format!(
                "{:#}\n",
                json!({"schema": "seccast/doctor.v1", "can_record": can_record, "findings": list})
            )
        }
        Format::Table => table(&findings, can_record),
    };
    Destination::Stdout.write(&output::printable(&text))?;
    Ok(if can_record {
        Exit::Done
    } else {
        Exit::Findings
    })
}

/// A runtime whose containers cannot be told apart does not hinder the others.
fn can_record(findings: &[Finding]) -> bool {
    let needed = ["kernel", "btf", "capabilities", "programs", "cgroups"];
    !findings
        .iter()
        .any(|finding| finding.state == State::Missing && needed.contains(&finding.subject))
}

fn table(findings: &[Finding], can_record: bool) -> String {
    let mut text = String::new();
    for finding in findings {
        let _ = writeln!(
            text,
            "{:<8} {:<13} {}",
            finding.state.name(),
            finding.subject,
            finding.found
        );
        if let Some(advice) = &finding.advice {
            let _ = writeln!(text, "{:<22} -> {advice}", "");
        }
    }
    let can_trace = findings
        .iter()
        .any(|finding| finding.subject == "ptrace" && finding.state == State::Good);
    let _ = writeln!(
        text,
        "\n{}",
        match (can_record, can_trace) {
            (true, _) => "this machine can record",
            (false, true) =>
                "this machine cannot record containers yet; commands (-- CMD) it can, by ptrace",
            (false, false) => "this machine cannot record yet",
        }
    );
    text
}
