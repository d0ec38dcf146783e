//! `seccast install --list`.

use super::localhost;
use crate::{
    args::install::InstallArgs,
    exit::Exit,
    output::{
        color::Tone,
        file::Destination,
        format::{Cell, Table},
    },
};
use seccast_node::{Alias, Installed, Listing, Name, Root};
use serde::Serialize;

/// What `--format json` and `yaml` write.
#[derive(Serialize)]
struct Document {
    schema: &'static str,
    root: String,
    files: Vec<Row>,
    others: Vec<String>,
}

#[derive(Serialize)]
struct Row {
    localhost_profile: String,
    version: Option<String>,
    bytes: Option<u64>,
    state: &'static str,
}

/// Does it.
pub fn run(args: &InstallArgs) -> anyhow::Result<Exit> {
    let folder = Root::open(&args.root)?.folder()?;
    let listing = folder.map_or_else(|| Ok(Listing::default()), |folder| folder.list())?;
    let document = Document {
        schema: "seccast/installed.v1",
        root: args.root.display().to_string(),
        files: listing
            .profiles
            .iter()
            .flat_map(|(name, found)| rows(name, found))
            .collect(),
        others: listing.strangers,
    };
    let text = args.format.text(&document, || table(&document))?;
    Destination::Stdout.show(&text)?;
    Ok(Exit::Done)
}

/// The alias first, then the old versions, the latest first.
fn rows(name: &Name, found: &Installed) -> Vec<Row> {
    let row = |file: String, hash: Option<String>, bytes, state| Row {
        localhost_profile: file,
        version: hash,
        bytes,
        state,
    };
    let mut rows = Vec::new();
    match found.alias {
        Alias::Missing => {}
        Alias::Foreign => rows.push(row(localhost(name), None, None, "not ours")),
        Alias::To(hash) => {
            let version = found.versions.get(&hash);
            let state = match version {
                None => "missing",
                Some(version) if version.whole => "current",
                Some(_) => "edited",
            };
            rows.push(row(
                localhost(name),
                Some(hash.to_string()),
                version.map(|v| v.bytes),
                state,
            ));
        }
    }
    let mut old: Vec<_> = found
        .versions
        .iter()
        .filter(|(hash, _)| found.alias != Alias::To(**hash))
        .collect();
    old.sort_by_key(|(_, version)| std::cmp::Reverse(version.since));
    rows.extend(old.into_iter().map(|(hash, version)| {
        let state = if version.whole { "old" } else { "old, edited" };
        let file = format!("{}/{}", seccast_node::FOLDER, name.version(*hash));
        row(file, Some(hash.to_string()), Some(version.bytes), state)
    }));
    rows
}

fn table(document: &Document) -> String {
    if document.files.is_empty() {
        return format!("nothing is installed in {}\n", document.root);
    }
    let mut table = Table::with_heading(["localhostProfile", "version", "bytes", "state"]);
    for row in &document.files {
        let tone = match row.state {
            "current" => Tone::Good,
            "old" => Tone::Plain,
            _ => Tone::Bad,
        };
        table.row([
            row.localhost_profile.clone().into(),
            row.version.clone().unwrap_or_default().into(),
            row.bytes
                .map_or_else(String::new, |bytes| bytes.to_string())
                .into(),
            Cell::new(tone, row.state),
        ]);
    }
    let others = document
        .others
        .iter()
        .map(|name| format!("not seccast's: {name}\n"));
    format!("{table}{}", others.collect::<String>())
}
