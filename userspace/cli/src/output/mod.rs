//! Everything that is printed or written.

pub mod file;
pub mod progress;

use std::io::Write as _;

/// The one place where an error is printed.
pub fn error(error: &anyhow::Error) {
    note(&format!("error: {error:#}"));
}

/// A line for people. Names of processes and files come from whoever is recorded: control characters do not reach the
/// terminal.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{}", printable(line));
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

/// A warning, with what to do about it.
pub fn warning(message: &str, advice: Option<&str>) {
    note(&format!("warning: {message}"));
    if let Some(advice) = advice {
        note(&format!("   hint: {advice}"));
    }
}
