//! `seccast install`: profiles onto a node.

mod list;
mod usage;
mod watch;

use crate::{
    args::install::InstallArgs,
    exit::Exit,
    input,
    output::{self, file::Destination},
};
use anyhow::{Context as _, anyhow, bail};
use seccast_model::{Profile, audit_profile};
use seccast_node::{
    Alias, ContentError, FOLDER, Folder, GRACE, Hash, Listing, Locked, Name, Put, Root, Source,
    check, differences,
};
use std::{collections::BTreeMap, path::Path};
use usage::{Asked, Usage};

/// Does it.
pub fn run(args: &InstallArgs) -> anyhow::Result<Exit> {
    if args.list {
        return list::run(args);
    }
    if args.prune {
        return prune(args);
    }
    if !args.remove.is_empty() {
        return remove(args);
    }
    match &args.watch {
        Some(folder) if args.check => check_all(args, &watch::read(folder, args)?),
        Some(folder) => watch::run(args, folder),
        None => install(args),
    }
}

fn install(args: &InstallArgs) -> anyhow::Result<Exit> {
    // All are looked at before one is written.
    let mut source = Source::default();
    for path in &args.profiles {
        let name = name_of(path)?;
        let content = input::bytes(path)?;
        let profile = check(&content).map_err(|error| refuse(path, &content, error))?;
        warn(path, &profile);
        if source.profiles.insert(name.clone(), content).is_some() {
            bail!(
                "two of these files would both be {}: rename one",
                localhost(&name)
            );
        }
    }
    if args.audit {
        let (name, content) = audit()?;
        if source.profiles.insert(name, content).is_some() {
            bail!("--audit installs audit.json, and so does one of these files: leave one out");
        }
    }
    if args.check {
        return check_all(args, &source);
    }
    if args.dry_run {
        would(&args.root, &source.profiles)?;
    } else {
        let locked = Root::make(&args.root)?.lock()?;
        for (name, content) in &source.profiles {
            let put = put(&locked, name, content)?;
            if !args.quiet {
                output::note(&format!("seccast: {}", told(name, Hash::of(content), put)));
            }
        }
    }
    let names: Vec<_> = source
        .profiles
        .keys()
        .map(|name| localhost(name) + "\n")
        .collect();
    Destination::Stdout.write(&names.concat())?;
    Ok(Exit::Done)
}

/// The profile that allows everything.
fn audit() -> anyhow::Result<(Name, Vec<u8>)> {
    Ok((
        "audit.json".parse()?,
        audit_profile().to_oci_json().into_bytes(),
    ))
}

/// `--check`: with a folder to be watched, what is there and not in it counts as well, unless --watch leaves it there.
fn check_all(args: &InstallArgs, source: &Source) -> anyhow::Result<Exit> {
    let folder = open(&args.root)?;
    let listing = folder
        .as_ref()
        .map_or_else(|| Ok(Listing::default()), Folder::list)?;
    let mut different = differences(source, folder.as_ref(), &listing)?;
    let usage = Asked::default();
    different.retain(|name| {
        let wanted = source.profiles.contains_key(name);
        wanted || args.watch.is_some() && usage.is(args, &name.file()) == Some(false)
    });
    let bad = source
        .bad
        .iter()
        .map(|(file, bad)| format!("{file}: {bad}\n"));
    let different = different.iter().map(|name| {
        let how = if source.profiles.contains_key(name) {
            "not on the node as it should be"
        } else {
            "on the node, and not in the folder"
        };
        format!("{}: {how}\n", localhost(name))
    });
    let lines: Vec<_> = bad.chain(different).collect();
    Destination::Stdout.write(&output::printable(&lines.concat()))?;
    Ok(if lines.is_empty() {
        Exit::Done
    } else {
        Exit::Findings
    })
}

/// Our folder below a root; `None` where neither is.
fn open(root: &Path) -> anyhow::Result<Option<Folder>> {
    match Root::open(root) {
        Ok(root) => Ok(root.folder()?),
        Err(_) if !root.exists() => Ok(None),
        Err(error) => Err(error.into()),
    }
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

fn told(name: &Name, hash: Hash, put: Put) -> String {
    let how = match put {
        Put::Unchanged => "unchanged".to_owned(),
        Put::New => "new".to_owned(),
        Put::Replaced(old) => format!("in place of {old}"),
        Put::Repaired => "repaired: somebody had changed or removed it".to_owned(),
    };
    format!("{} is {hash}, {how}", localhost(name))
}

fn would(root: &Path, wanted: &BTreeMap<Name, Vec<u8>>) -> anyhow::Result<()> {
    let folder = open(root)?;
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
        let told = told(name, Hash::of(content), put);
        output::note(&format!("would be: {told}"));
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

/// Who uses what, unless --force says that it does not matter.
fn usage(args: &InstallArgs) -> anyhow::Result<Option<Usage>> {
    if args.force {
        return Ok(None);
    }
    let usage = Usage::ask(&args.usage);
    usage.map(Some).context(
        "cannot tell what is in use, so nothing is removed; name who knows with --cri-socket or --kubelet, or remove it all the same with --force",
    )
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
    let mut files = Vec::new();
    for name in &names {
        let Some(found) = listing.profiles.get(name) else {
            bail!(
                "{} is not installed in {}: `seccast install --list` says what is",
                localhost(name),
                args.root.display()
            );
        };
        files.push((name.file(), name));
        files.extend(
            found
                .versions
                .keys()
                .map(|hash| (name.version(*hash), name)),
        );
    }
    let usage = usage(args)?;
    for (file, name) in &files {
        let pods = usage
            .as_ref()
            .map(|usage| usage.of(file))
            .unwrap_or_default();
        if !pods.is_empty() {
            bail!(
                "{} is in use by {}, whose containers would not start again: remove those first, or --force it",
                localhost(name),
                pods.join(", ")
            );
        }
    }
    let locked = lock(args, &root)?;
    for name in &names {
        if let Some(locked) = &locked {
            locked.remove(name)?;
        }
        removed(args, &localhost(name));
    }
    Ok(Exit::Done)
}

/// The lock, but for a dry run, which changes nothing and waits for nobody.
fn lock(args: &InstallArgs, root: &Root) -> anyhow::Result<Option<Locked>> {
    let lock = (!args.dry_run).then(|| root.lock());
    Ok(lock.transpose()?)
}

/// What a dry run says is its result.
fn removed(args: &InstallArgs, file: &str) {
    if args.dry_run || !args.quiet {
        let would = if args.dry_run {
            "would be removed"
        } else {
            "removed"
        };
        output::note(&format!("seccast: {file} {would}"));
    }
}

fn prune(args: &InstallArgs) -> anyhow::Result<Exit> {
    let usage = usage(args)?;
    let root = Root::open(&args.root)?;
    let Some(folder) = root.folder()? else {
        return Ok(Exit::Done);
    };
    let locked = lock(args, &root)?;
    let folder = locked.as_ref().map_or(&folder, Locked::folder);
    let (mut used, mut young) = (0, 0);
    for (name, found) in folder.list()?.profiles {
        for (hash, version) in found
            .versions
            .into_iter()
            .filter(|(hash, _)| found.alias != Alias::To(*hash))
        {
            let remove = || match &locked {
                Some(locked) => locked.remove_version(&name, hash),
                None => Ok(!version.is_young()),
            };
            let file = name.version(hash);
            if usage
                .as_ref()
                .is_some_and(|usage| !usage.of(&file).is_empty())
            {
                used += 1;
            } else if remove()? {
                removed(args, &format!("{FOLDER}/{file}"));
            } else {
                young += 1;
            }
        }
    }
    if !args.quiet && used + young > 0 {
        output::note(&format!(
            "seccast: old versions kept: {used} in use, {young} that were current within the last {} seconds",
            GRACE.as_secs()
        ));
    }
    Ok(Exit::Done)
}
