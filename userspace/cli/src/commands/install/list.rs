//! `seccast install --list`.

use super::{localhost, usage::Usage};
use crate::{
    args::install::InstallArgs,
    exit::Exit,
    output::{
        color::Tone,
        file::Destination,
        format::{Cell, Table},
    },
};
use seccast_node::{Alias, FOLDER, Installed, Listing, Name, Root};
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
    let listing = folder.map_or_else(|| Ok(Listing::default()), |folder| folder.list())?;
    let named = args.usage.cri_socket.is_some() || args.usage.kubelet.is_some();
    let usage = match Usage::ask(&args.usage) {
        Err(error) if named => return Err(error),
        usage => usage.ok(),
    };
    let mut files: Vec<_> = (listing.profiles.iter())
        .flat_map(|(name, found)| rows(name, found))
        .collect();
    for row in &mut files {
        let file = row
            .localhost_profile
            .strip_prefix(FOLDER)
            .unwrap_or_default();
        let file = file.trim_start_matches('/');
        row.used_by = usage.as_ref().map(|usage| usage.of(file));
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
fn rows(name: &Name, found: &Installed) -> Vec<Row> {
    let row = |file: String, hash: Option<String>, bytes, state| Row {
        localhost_profile: file,
        version: hash,
        bytes,
        state,
        used_by: None,
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
        let file = format!("{FOLDER}/{}", name.version(*hash));
        row(file, Some(hash.to_string()), Some(version.bytes), state)
    }));
    rows
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
