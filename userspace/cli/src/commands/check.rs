//! `seccast check`: the gate of a release.

use super::subject;
use crate::{
    args::check::{CheckArgs, CheckFormat},
    exit::Exit,
    input::{self, Reader},
    output::{self, color::Tone, file::Destination, printable},
};
use anyhow::{Context as _, bail};
use seccast_model::{
    Severity,
    check::{Outcome, Policy, check},
};
use std::{
    fmt::Write as _,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// Does it.
pub fn run(args: &CheckArgs) -> anyhow::Result<Exit> {
    let destination = Destination::check(&args.output)?;
    let policy = match &args.policy {
        Some(path) => policy(path, args)?,
        None => Policy::default(),
    };
    let reader = Reader::new(&args.host, args.quiet);
    let (subject, against) = subject::both(&args.file, &args.against, &reader)?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        });
    let outcome = check(&subject, &against, &policy, now)?;
    match args.format {
        CheckFormat::Text => destination.show(&text(&outcome))?,
        CheckFormat::Json => destination.write(&outcome.to_json())?,
        CheckFormat::Junit => destination.write(&outcome.to_junit())?,
        CheckFormat::Sarif => {
            let named = args.file.to_str().filter(|path| *path != "-");
            // Only for the lines: what is in the file was read above.
            let content = named.and_then(|path| std::fs::read_to_string(path).ok());
            destination.write(&outcome.to_sarif(named, &content.unwrap_or_default()))?;
        }
    }
    if destination.path().is_some() && (!args.quiet || !outcome.passed()) {
        output::say(text(&outcome).trim_end());
    }
    Ok(if outcome.passed() {
        Exit::Done
    } else {
        Exit::Findings
    })
}

fn policy(path: &Path, args: &CheckArgs) -> anyhow::Result<Policy> {
    if path == Path::new("-") && [&args.file, &args.against].contains(&&path.to_owned()) {
        bail!("only one file can be stdin: give the policy's name");
    }
    let bytes = input::bytes(path)?;
    Policy::from_yaml(&bytes).with_context(|| format!("cannot use {}", path.display()))
}

/// Findings first, the verdict last.
fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    for finding in &outcome.findings {
        let tone = match finding.severity {
            Severity::Error => Tone::Bad,
            Severity::Warning => Tone::Fair,
            Severity::Info => Tone::Plain,
        };
        let head = format!("{} {}", finding.severity.name(), finding.rule.code());
        let _ = writeln!(
            text,
            "{}: {}",
            tone.paint(&head),
            printable(&finding.message)
        );
        if let Some(why) = &finding.why {
            let _ = writeln!(text, "   {}", printable(&why.to_string()));
        }
        if let Some(risk) = &finding.risk {
            let _ = writeln!(text, "   risk {risk}");
        }
        if finding.severity == Severity::Error {
            let _ = writeln!(text, "   hint: {}", finding.rule.help());
        }
    }
    let (tone, verdict) = if outcome.passed() {
        (Tone::Good, "passed")
    } else {
        (Tone::Bad, "failed")
    };
    let count = |severity, noun| match outcome.count(severity) {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    };
    let _ = writeln!(
        text,
        "{}: {} ({} names) against {}, {}, {}",
        tone.paint(verdict),
        printable(&outcome.subject.label),
        outcome.subject.names,
        printable(&outcome.against.label),
        count(Severity::Error, "error"),
        count(Severity::Warning, "warning")
    );
    text
}
