//! `seccast install --list`.

use super::usage::Usage;
use crate::{
    args::install::InstallArgs,
    exit::Exit,
    output::{
        self,
        color::Tone,
        file::Destination,
        format::{Cell, Table},
    },
};
use seccast_node::{Alias, FOLDER, Folder, Hash, Installed, Listing, Name, Root};
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
    /// `NAMESPACE/POD`; `null` when nobody could say.
    used_by: Option<Vec<String>>,
}

/// Does it.
pub fn run(args: &InstallArgs) -> anyhow::Result<Exit> {
    let folder = Root::open(&args.root)?.folder()?;
    let listing = folder
        .as_ref()
        .map_or_else(|| Ok(Listing::default()), Folder::list)?;
    let named = args.usage.cri_socket.is_some() || args.usage.kubelet.is_some();
    let usage = match Usage::ask_if_any(&args.usage) {
        Err(error) if named => return Err(error),
        // Whoever may not use the runtime's socket still gets the list.
        usage => usage.unwrap_or_default(),
    };
    let mut files = Vec::new();
    if let Some(folder) = &folder {
        for (name, found) in &listing.profiles {
            files.extend(rows(folder, name, found, usage.as_ref())?);
        }
    }
    let document = Document {
        schema: "seccast/installed.v1",
        root: args.root.display().to_string(),
        files,
        others: listing.strangers,
    };
    let text = args.format.text(&document, || table(&document))?;
    Destination::Stdout.show(&text)?;
    Ok(Exit::Done)
}

/// The alias first, then the old versions, the latest first.
fn rows(
    folder: &Folder,
    name: &Name,
    found: &Installed,
    usage: Option<&Usage>,
) -> anyhow::Result<Vec<Row>> {
    let row = |file: String, hash: Option<Hash>, bytes, state| Row {
        localhost_profile: format!("{FOLDER}/{file}"),
        version: hash.map(|hash| hash.to_string()),
        bytes,
        state,
        used_by: usage.map(|usage| usage.of(&file)),
    };
    let mut rows = Vec::new();
    match found.alias {
        Alias::Missing => {}
        Alias::Foreign => rows.push(row(name.file(), None, None, "not ours")),
        Alias::To(hash) => {
            let version = found.versions.get(&hash);
            let state = match version {
                None => "missing",
                Some(_) if folder.is_whole(name, hash)? => "current",
                Some(_) => "edited",
            };
            let bytes = version.map(|version| version.bytes);
            rows.push(row(name.file(), Some(hash), bytes, state));
        }
    }
    let mut old: Vec<_> = found
        .versions
        .iter()
        .filter(|(hash, _)| found.alias != Alias::To(**hash))
        .collect();
    old.sort_by_key(|(_, version)| std::cmp::Reverse(version.since));
    for (hash, version) in old {
        let state = if folder.is_whole(name, *hash)? {
            "old"
        } else {
            "old, edited"
        };
        let file = name.version(*hash);
        rows.push(row(file, Some(*hash), Some(version.bytes), state));
    }
    Ok(rows)
}

fn table(document: &Document) -> String {
    if document.files.is_empty() {
        return format!("nothing is installed in {}\n", document.root);
    }
    let mut table =
        Table::with_heading(["localhostProfile", "version", "bytes", "state", "used by"]);
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
            used_by(row.used_by.as_deref()).into(),
        ]);
    }
    let others = document
        .others
        .iter()
        .map(|name| output::printable(&name.replace('\n', "\u{fffd}")))
        .map(|name| format!("not seccast's: {name}\n"));
    format!("{table}{}", others.collect::<String>())
}

fn used_by(pods: Option<&[String]>) -> String {
    match pods {
        None => "unknown".to_owned(),
        Some([]) => "nobody".to_owned(),
        Some([pod]) => pod.clone(),
        Some([pod, others @ ..]) => format!("{pod} and {} more", others.len()),
    }
}
