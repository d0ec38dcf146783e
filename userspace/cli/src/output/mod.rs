//! Everything that is printed or written.

pub mod color;
pub mod file;
pub mod format;
pub mod progress;
pub mod verdict;

use color::Tone;
use seccast_model::{Diagnostic, Severity, observation::Target};
use std::io::Write as _;

/// The one place where an error is printed.
pub fn error(error: &anyhow::Error) {
    tagged(Tone::Bad, "error", &format!("{error:#}"));
}

/// A line for people. Names of processes and files come from whoever is recorded: control characters do not reach the
/// terminal.
pub fn note(line: &str) {
    say(&printable(line));
}

/// The text without control characters but newlines.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// A container by the name that people know it by.
pub fn container(target: &Target) -> String {
    let id = target.container_id.as_deref().unwrap_or_default();
    let name = target
        .container_name
        .as_deref()
        .unwrap_or(id)
        .escape_debug();
    match &target.pod {
        Some(pod) => format!("container {name} of Pod {}/{}", pod.namespace, pod.name),
        None => format!("container {name}"),
    }
}

/// A warning, with what to do about it.
pub fn warning(message: &str, advice: Option<&str>) {
    tagged(Tone::Fair, "warning", message);
    if let Some(advice) = advice {
        note(&format!("   hint: {advice}"));
    }
}

/// What was found in the data; its advice only where it matters.
pub fn diagnostic(diagnostic: &Diagnostic) {
    let tone = match diagnostic.severity {
        Severity::Error => Tone::Bad,
        Severity::Warning => Tone::Fair,
        Severity::Info => Tone::Plain,
    };
    let tag = format!("{} {}", diagnostic.severity.name(), diagnostic.code);
    tagged(tone, &tag, &diagnostic.message);
    if let Some(advice) = &diagnostic.advice
        && diagnostic.severity >= Severity::Warning
    {
        note(&format!("   hint: {advice}"));
    }
}

/// A line that begins with what it is.
pub fn tagged(tone: Tone, tag: &str, line: &str) {
    say(&format!(
        "{} {}",
        tone.paint(&format!("{tag}:")),
        printable(line)
    ));
}

/// Lines that are [`printable`] already, and may have colours.
pub fn say(line: &str) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// What was watched.
pub fn target(target: &Target) -> String {
    let engine = target.engine.as_deref().or(target.runtime.as_deref());
    let known = target.container_name.is_some() || target.container_id.is_some();
    match engine {
        Some(engine) if known => format!("{} ({engine})", container(target)),
        None if known => container(target),
        _ if !target.command.is_empty() => target.command.join(" "),
        _ => format!("cgroup {}", target.cgroup_path.as_deref().unwrap_or("/")),
    }
}
