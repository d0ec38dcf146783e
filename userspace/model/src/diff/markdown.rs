//! The difference as a comment at a pull request.

use super::{Change, Diff};
use std::fmt::Write as _;

/// Rows of one table: a comment has at most 65,536 characters.
const ROWS: usize = 200;

pub(super) fn write(diff: &Diff) -> String {
    let mut text = format!(
        "### seccomp: {}\n\n{} ({} names) → {} ({} names)\n",
        diff.summary(),
        code(&diff.before.label),
        diff.before.names,
        code(&diff.after.label),
        diff.after.names
    );
    for setting in &diff.settings {
        let sign = if setting.opens { "⚠️ " } else { "" };
        let _ = write!(
            text,
            "\n* {sign}`{}`: {} → {}",
            setting.field,
            cell(&setting.before),
            cell(&setting.after)
        );
    }
    for arch in &diff.architectures_added {
        let _ = write!(text, "\n* ⚠️ `{arch}` is let in now");
    }
    for arch in &diff.architectures_removed {
        let _ = write!(text, "\n* `{arch}` is no longer let in");
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let (opens, rest): (Vec<&Change>, Vec<&Change>) =
        diff.changes.iter().partition(|change| change.opens());
    if !opens.is_empty() {
        text.push('\n');
        table(&mut text, &opens);
    }
    if !rest.is_empty() {
        let _ = write!(
            text,
            "\n<details><summary>{} that open nothing</summary>\n\n",
            rest.len()
        );
        table(&mut text, &rest);
        text.push_str("\n</details>\n");
    }
    text
}

fn table(text: &mut String, changes: &[&Change]) {
    let by_arch = changes.iter().any(|change| change.arch.is_some());
    text.push_str(if by_arch {
        "| | call | ABI | risk | why | before → after |\n|---|---|---|---|---|---|\n"
    } else {
        "| | call | risk | why | before → after |\n|---|---|---|---|---|\n"
    });
    for change in changes.iter().take(ROWS) {
        let _ = write!(text, "| {} | {} |", change.kind.name(), code(&change.name));
        if by_arch {
            let _ = write!(text, " {} |", change.arch.map_or("", crate::Arch::name));
        }
        let risk = change.risk.as_ref().map(ToString::to_string);
        let why = change.why.as_ref().map(ToString::to_string);
        let _ = writeln!(
            text,
            " {} | {} | {} → {} |",
            cell(&risk.unwrap_or_default()),
            cell(&why.unwrap_or_default()),
            cell(&change.before_text),
            cell(&change.after_text)
        );
    }
    if let Some(more) = changes.len().checked_sub(ROWS).filter(|more| *more > 0) {
        let _ = write!(text, "\nand {more} more\n");
    }
}

/// Nothing of a recording may end a cell, make a link, call a person or start an element.
fn cell(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '|' | '<' | '>' | '[' | ']' | '*' | '_' | '`' | '@' | '#' | '\\' | '!' | '~' => {
                let _ = write!(out, "&#{};", u32::from(c));
            }
            '&' => out.push_str("&amp;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A name as code: a backtick would end it, a bar the cell.
fn code(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| {
            if c.is_control() || matches!(c, '`' | '|') {
                '?'
            } else {
                c
            }
        })
        .collect();
    format!("`{text}`")
}
