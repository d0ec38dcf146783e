//! `seccast doctor`: what this machine can do, and what it lacks.

use crate::{
    args::doctor::DoctorArgs,
    exit::Exit,
    output::{
        color::Tone,
        file::Destination,
        format::{Cell, Table},
    },
};
use seccast_recorder::features::{Finding, State, examine};
use serde::Serialize;

/// What `--format json` and `yaml` write.
#[derive(Serialize)]
struct Document {
    schema: &'static str,
    can_record: bool,
    findings: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    subject: &'static str,
    state: &'static str,
    found: String,
    advice: Option<String>,
}

/// Does it.
pub fn run(args: &DoctorArgs) -> anyhow::Result<Exit> {
    let findings = examine();
    let can_record = can_record(&findings);
    let document = Document {
        schema: "seccast/doctor.v1",
        can_record,
        findings: findings.iter().map(Row::from).collect(),
    };
    let text = args
        .format
        .text(&document, || table(&findings, can_record))?;
    Destination::Stdout.show(&text)?;
    Ok(if can_record {
        Exit::Done
    } else {
        Exit::Findings
    })
}

impl From<&Finding> for Row {
    fn from(finding: &Finding) -> Self {
        Self {
            subject: finding.subject,
            state: finding.state.name(),
            found: finding.found.clone(),
            advice: finding.advice.clone(),
        }
    }
}

/// A runtime whose containers cannot be told apart does not hinder the others.
fn can_record(findings: &[Finding]) -> bool {
    let needed = ["kernel", "btf", "capabilities", "programs", "cgroups"];
    !findings
        .iter()
        .any(|finding| finding.state == State::Missing && needed.contains(&finding.subject))
}

fn table(findings: &[Finding], can_record: bool) -> String {
    let mut table = Table::with_heading(["state", "subject", "found"]);
    for finding in findings {
        let tone = match finding.state {
            State::Good => Tone::Good,
            State::Limited => Tone::Fair,
            State::Missing => Tone::Bad,
        };
        let advice = finding.advice.as_ref();
        let advice = advice.map_or_else(String::new, |advice| format!("\n-> {advice}"));
        table.row([
            Cell::new(tone, finding.state.name()),
            finding.subject.into(),
            format!("{}{advice}", finding.found).into(),
        ]);
    }
    let can_trace = findings
        .iter()
        .any(|finding| finding.subject == "ptrace" && finding.state == State::Good);
    let (tone, verdict) = match (can_record, can_trace) {
        (true, _) => (Tone::Good, "this machine can record"),
        (false, true) => (
            Tone::Fair,
            "this machine cannot record containers yet; commands (-- CMD) it can, by ptrace",
        ),
        (false, false) => (Tone::Bad, "this machine cannot record yet"),
    };
    format!("{table}\n{}\n", tone.paint(verdict))
}
