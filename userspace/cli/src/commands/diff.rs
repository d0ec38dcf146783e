//! `seccast diff`: what differs.

use super::subject;
use crate::{
    args::diff::{DiffArgs, DiffFormat},
    exit::Exit,
    input::Reader,
    output::{
        color::Tone,
        file::Destination,
        format::{Cell, Format, Table},
    },
};
use seccast_model::{
    diff,
    diff::{Change, ChangeKind, Diff},
    risk::Level,
};

/// Conditions of a rule may be many; the other formats have all of them.
const CONDITIONS: usize = 100;

/// Does it.
pub fn run(args: &DiffArgs) -> anyhow::Result<Exit> {
    let destination = Destination::check(&args.output)?;
    let reader = Reader::new(&args.host, args.quiet);
    let (before, after) = subject::both(&args.before, &args.after, &reader)?;
    let found = diff(&before, &after)?;
    match args.format {
        DiffFormat::Table => destination.show(&table(&found))?,
        DiffFormat::Json => destination.write(&found.to_json())?,
        DiffFormat::Yaml => {
            let document: serde_json::Value = serde_json::from_str(&found.to_json())?;
            destination.write(&Format::Yaml.text(&document, String::new)?)?;
        }
        DiffFormat::Markdown => destination.write(&found.to_markdown())?,
    }
    Ok(if args.exit_code && !found.is_empty() {
        Exit::Findings
    } else {
        Exit::Done
    })
}

fn table(found: &Diff) -> String {
    let mut table = Table::new();
    for setting in &found.settings {
        let tone = if setting.opens {
            Tone::Bad
        } else {
            Tone::Plain
        };
        table.row([
            Cell::new(tone, "~"),
            Cell::new(Tone::Strong, setting.field),
            "".into(),
            "".into(),
            format!("was: {}\nis:  {}", setting.before, setting.after).into(),
        ]);
    }
    let archs = [
        (Tone::Bad, "+", &found.architectures_added),
        (Tone::Plain, "-", &found.architectures_removed),
    ];
    for (tone, sign, archs) in archs {
        for arch in archs {
            table.row([
                Cell::new(tone, sign),
                Cell::new(Tone::Strong, arch),
                "".into(),
                "".into(),
                "".into(),
            ]);
        }
    }
    for change in &found.changes {
        let tone = match (change.opens(), &change.risk) {
            (true, Some(risk)) if risk.level > Level::Elevated => Tone::Bad,
            (true, _) => Tone::Fair,
            (false, _) => Tone::Good,
        };
        table.row([
            Cell::new(tone, change.kind.sign()),
            Cell::new(Tone::Strong, &change.name),
            change.arch.map_or("", |arch| arch.name()).into(),
            change
                .risk
                .as_ref()
                .map_or("", |risk| risk.level.name())
                .into(),
            remark(change).into(),
        ]);
    }
    let side = |side: &diff::Side| format!("{} ({} names)", side.label, side.names);
    let empty = if found.is_empty() { "" } else { "\n" };
    format!(
        "{} -> {}\n{empty}{table}{empty}{}\n",
        crate::output::printable(&side(&found.before)),
        crate::output::printable(&side(&found.after)),
        found.summary()
    )
}

/// Who called first, what the conditions are, and why it matters.
fn remark(change: &Change) -> String {
    let mut lines = Vec::new();
    if let Some(why) = &change.why {
        lines.push(why.to_string());
    }
    let was = || cut(&change.before_text);
    let is = || cut(&change.after_text);
    match change.kind {
        // Plainly allowed or not: the sign says it.
        ChangeKind::Added if change.after_text.contains("when") => lines.push(is()),
        ChangeKind::Removed if change.before_text.contains("when") => lines.push(was()),
        ChangeKind::Added | ChangeKind::Removed => {}
        _ => lines.push(format!("was: {}\nis:  {}", was(), is())),
    }
    if let Some(risk) = change.risk.as_ref().filter(|_| change.opens()) {
        lines.push(risk.why.clone());
    }
    lines.join("\n")
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(CONDITIONS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
