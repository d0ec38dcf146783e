//! Everything that is printed or written.

pub mod file;
pub mod progress;

use std::io::Write as _;

/// The one place where an error is printed.
pub fn error(error: &anyhow::Error) {
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
}

/// A line for people.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A warning, with what to do about it.
pub fn warning(message: &str, advice: Option<&str>) {
    note(&format!("warning: {message}"));
    if let Some(advice) = advice {
        note(&format!("   hint: {advice}"));
    }
}
