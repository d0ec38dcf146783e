//! The forms of an answer: a table for people, JSON and YAML with the same content for programs.

use super::{color::Tone, printable};
use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;
use std::fmt;
use unicode_width::UnicodeWidthStr as _;

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
    /// The same as YAML
    Yaml,
}

impl Format {
    /// The answer as text: `document`, which starts with its `schema`, or what `table` makes of the same for people.
    /// [`Destination::show`](super::file::Destination::show) takes it.
    ///
    /// # Errors
    /// When `document` has what YAML cannot hold.
    pub fn text(
        self,
        document: &impl Serialize,
        table: impl FnOnce() -> String,
    ) -> anyhow::Result<String> {
        let text = match self {
            Self::Table => return Ok(table()),
            Self::Json => {
                serde_json::to_string_pretty(document).context("cannot write this as JSON")? + "\n"
            }
            Self::Yaml => serde_saphyr::to_string(document).context("cannot write this as YAML")?,
        };
        // Both leave some control characters as they are, such as 0x9b, which terminals take for the start of a sequence.
        Ok(printable(&text))
    }
}

/// One cell of a [`Table`]: text without control characters, and what it means.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl<T: fmt::Display> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(Tone::Plain, text)
    }
}

impl Cell {
    /// A cell with a meaning. The text says it too: colour alone never does.
    pub fn new(tone: Tone, text: impl fmt::Display) -> Self {
        Self {
            text: printable(&text.to_string()),
            tone,
        }
    }
}

/// Rows of cells in columns as wide as they need to be. A newline in a cell goes on below, in its column.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without a heading.
    pub fn new() -> Self {
        Self::default()
    }

    /// A table whose columns have these names.
    pub fn with_heading<const N: usize>(names: [&str; N]) -> Self {
        let mut table = Self::new();
        table.row(names.map(|name| Cell::new(Tone::Strong, name)));
        table
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |line: &str| line.width();
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .flat_map(|cell| cell.text.lines().map(width))
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(widest).collect();
        for row in &self.rows {
            let height = row
                .iter()
                .map(|cell| cell.text.lines().count())
                .max()
                .unwrap_or(0);
            for line in 0..height {
                // Spaces are written before the next cell only, so that no line ends with them.
                let mut owed = 0;
                for (cell, column) in row.iter().zip(&widths) {
                    let text = cell.text.lines().nth(line).unwrap_or("");
                    if !text.is_empty() {
                        write!(f, "{:owed$}{}", "", cell.tone.paint(text))?;
                        owed = 0;
                    }
                    owed += column + 2 - width(text);
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plain(table: &Table) -> String {
        anstream::adapter::strip_str(&table.to_string()).to_string()
    }

    #[test]
    fn columns_are_as_wide_as_they_need_to_be_and_no_line_ends_with_spaces() {
        let mut table = Table::with_heading(["name", "class", "first caller"]);
        table.row(["read".into(), "".into(), "cat".into()]);
        table.row([
            Cell::new(Tone::Bad, "perf_event_open"),
            "kernel".into(),
            "".into(),
        ]);
        table.row(["数".into(), "one\ntwo".into(), "a\nb\nc".into()]);
        assert_eq!(
            plain(&table),
            "\
name             class   first caller
read                     cat
perf_event_open  kernel
数               one     a
                 two     b
                         c
"
        );
    }

    #[test]
    fn what_was_recorded_cannot_write_to_the_terminal_in_any_form() {
        let hostile = "a\u{1b}[31m\u{9b}b\u{7f}";
        let mut table = Table::new();
        table.row([Cell::new(Tone::Plain, hostile)]);
        for format in [Format::Table, Format::Json, Format::Yaml] {
            let text = format
                .text(&json!({"name": hostile}), || table.to_string())
                .unwrap();
            assert!(
                text.chars().all(|c| c == '\n' || !c.is_control()),
                "{format:?}: {text:?}"
            );
        }
    }

    #[test]
    fn json_and_yaml_hold_the_same_in_the_same_order() {
        let document = json!({"schema": "seccast/x.v1", "no": "no", "n": null, "list": ["1", 1, true], "text": "a: b\n# c"});
        let text = |format: Format| format.text(&document, String::new).unwrap();
        assert!(text(Format::Json).starts_with("{\n  \"schema\": \"seccast/x.v1\""));
        assert!(text(Format::Yaml).starts_with("schema: seccast/x.v1\n"));
        let json: serde_json::Value = serde_json::from_str(&text(Format::Json)).unwrap();
        let yaml: serde_json::Value = serde_saphyr::from_str(&text(Format::Yaml)).unwrap();
        assert_eq!((&json, &yaml), (&document, &document));
    }
}
