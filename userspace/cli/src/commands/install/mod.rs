//! `seccast install`: profiles onto a node.

mod list;

use crate::{
    args::install::InstallArgs,
    exit::Exit,
    input,
    output::{self, file::Destination},
};
use anyhow::{Context as _, anyhow, bail};
use seccast_model::{Profile, audit_profile};
use seccast_node::{Alias, ContentError, FOLDER, Hash, Locked, Name, Put, Root, check};
use std::{collections::BTreeMap, path::Path};

/// Contents by name.
type Wanted = BTreeMap<Name, Vec<u8>>;

/// Does it.
pub fn run(args: &InstallArgs) -> anyhow::Result<Exit> {
    if args.list {
        return list::run(args);
    }
    if !args.remove.is_empty() {
        return remove(args);
    }
    install(args)
}

fn install(args: &InstallArgs) -> anyhow::Result<Exit> {
    // All are looked at before one is written.
    let mut wanted = Wanted::new();
    for path in &args.profiles {
        let name = name_of(path)?;
        let content = input::bytes(path)?;
        let profile = check(&content).map_err(|error| refuse(path, &content, error))?;
        warn(path, &profile);
        if wanted.insert(name.clone(), content).is_some() {
            bail!(
                "two of these files would both be {}: rename one",
                localhost(&name)
            );
        }
    }
    if args.audit {
        let name: Name = "audit.json".parse()?;
        let content = audit_profile().to_oci_json().into_bytes();
        if wanted.insert(name, content).is_some() {
            bail!("--audit installs audit.json, and so does one of these files: leave one out");
        }
    }
    if args.dry_run {
        would(&args.root, &wanted)?;
    } else {
        let locked = Root::make(&args.root)?.lock()?;
        for (name, content) in &wanted {
            let put = put(&locked, name, content)?;
            if !args.quiet {
                output::note(&format!("seccast: {}", told(name, content, put)));
            }
        }
    }
    let names: Vec<_> = wanted.keys().map(|name| localhost(name) + "\n").collect();
    Destination::Stdout.write(&names.concat())?;
    Ok(Exit::Done)
}

/// What a Pod names.
fn localhost(name: &Name) -> String {
    format!("{FOLDER}/{}", name.file())
}

fn name_of(path: &Path) -> anyhow::Result<Name> {
    let file = path.file_name().unwrap_or_default();
    let file = file.to_str().ok_or_else(|| anyhow!("it is not UTF-8"));
    file.and_then(|file| Ok(file.parse()?)).with_context(|| {
        format!(
            "cannot install {}: its name has to be one that a Pod can have in `localhostProfile`",
            path.display()
        )
    })
}

/// The error of a file that is not installed, with its place, and the command that mends it.
fn refuse(path: &Path, bytes: &[u8], error: ContentError) -> anyhow::Error {
    if error.is_dialect() {
        let path = path.display();
        return anyhow!(error).context(format!(
            "cannot install {path}: `seccast convert {path} --capabilities …` makes a plain profile of it"
        ));
    }
    if let ContentError::TooLarge { .. } = error {
        return anyhow!(error).context(format!("cannot install {}", path.display()));
    }
    input::refuse(path, bytes, error.field(), &error)
}

/// What some runtimes refuse (semantics 1.2).
fn warn(path: &Path, profile: &Profile) {
    if profile
        .flags
        .as_ref()
        .is_some_and(|flags| !flags.is_empty())
    {
        output::warning(
            &format!(
                "{}: has `flags`, and runc before 1.2 starts no container with them",
                path.display()
            ),
            Some("leave them out where nodes have such a runc"),
        );
    }
    input::warn_of_unknown(path, profile);
}

fn put(locked: &Locked, name: &Name, content: &[u8]) -> anyhow::Result<Put> {
    locked.put(name, content).with_context(|| {
        format!(
            "cannot install {}; what was there before is unchanged",
            localhost(name)
        )
    })
}

fn told(name: &Name, content: &[u8], put: Put) -> String {
    let how = match put {
        Put::Unchanged => "unchanged".to_owned(),
        Put::New => "new".to_owned(),
        Put::Replaced(old) => format!("in place of {old}"),
        Put::Repaired => "repaired: somebody had changed or removed it".to_owned(),
    };
    format!("{} is {}, {how}", localhost(name), Hash::of(content))
}

fn would(root: &Path, wanted: &Wanted) -> anyhow::Result<()> {
    let folder = match Root::open(root) {
        Ok(root) => root.folder()?,
        Err(_) if !root.exists() => None,
        Err(error) => return Err(error.into()),
    };
    for (name, content) in wanted {
        let put = match &folder {
            None => Put::New,
            Some(folder) if folder.holds(name, content)? => Put::Unchanged,
            Some(folder) => match folder.alias(name)? {
                Alias::Missing => Put::New,
                Alias::To(old) if old != Hash::of(content) => Put::Replaced(old),
                Alias::To(_) | Alias::Foreign => Put::Repaired,
            },
        };
        output::note(&format!("would be: {}", told(name, content, put)));
    }
    Ok(())
}

/// The name of what is installed, as `web.json`, `seccast/web.json` or `web`.
fn installed_name(typed: &str) -> anyhow::Result<Name> {
    let file = typed
        .strip_prefix(FOLDER)
        .and_then(|rest| rest.strip_prefix('/'));
    let file = file.unwrap_or(typed);
    let file = file.strip_suffix(".json").unwrap_or(file);
    format!("{file}.json")
        .parse()
        .with_context(|| format!("`{}` is the name of no profile", typed.escape_debug()))
}

fn remove(args: &InstallArgs) -> anyhow::Result<Exit> {
    let names = args.remove.iter().map(|typed| installed_name(typed));
    let names = names.collect::<anyhow::Result<Vec<_>>>()?;
    let root = Root::open(&args.root)?;
    let Some(folder) = root.folder()? else {
        bail!(
            "nothing is installed in {}: see --root",
            args.root.display()
        );
    };
    let listing = folder.list()?;
    if let Some(missing) = names
        .iter()
        .find(|name| !listing.profiles.contains_key(name))
    {
        bail!(
            "{} is not installed in {}: `seccast install --list` says what is",
            localhost(missing),
            args.root.display()
        );
    }
    if !args.force {
        bail!(
            "cannot tell whether containers use {}: --force removes it all the same, and then they do not start again",
            localhost(&names[0])
        );
    }
    let locked = root.lock()?;
    for name in &names {
        if !args.dry_run {
            locked.remove_alias(name)?;
            for hash in listing
                .profiles
                .get(name)
                .iter()
                .flat_map(|found| found.versions.keys())
            {
                locked.remove_version(name, *hash)?;
            }
        }
        if !args.quiet {
            let would = if args.dry_run {
                "would be removed"
            } else {
                "removed"
            };
            output::note(&format!("seccast: {} {would}", localhost(name)));
        }
    }
    Ok(Exit::Done)
}
