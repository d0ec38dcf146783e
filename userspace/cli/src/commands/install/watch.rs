//! `seccast install --watch`: keeps a node equal to a folder, until SIGTERM.

use super::{audit, localhost, told, usage::Asked};
use crate::{args::install::InstallArgs, exit::Exit, output};
use anyhow::{Context as _, bail};
use seccast_kube::{cluster::Access, node::remove_taint};
use seccast_node::{Change, FOLDER, KEEP, Source, Watcher, fingerprint, mirror};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

/// How often the folders are looked at, whether anything says that they changed or not.
const PERIOD: Duration = Duration::from_secs(2);

/// How often every file is read, whatever the folders look like.
const WHOLE: Duration = Duration::from_secs(60);

/// How long to wait after a change for the next one of the same.
const SETTLE: Duration = Duration::from_millis(20);

/// The first and the longest pause between two tries at the API server.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// What is in the file of `--ready`; less, where a process was killed as it wrote.
const READY: &[u8] = b"ready\n";

/// What wakes the loop.
enum News {
    /// SIGTERM or SIGINT.
    Stop,
    /// A folder has changed.
    Changed,
    /// What became of the taint.
    Taint(String),
}

/// Reads the folder; with `--audit` the profile that allows everything is in it.
pub fn read(folder: &Path, args: &InstallArgs) -> anyhow::Result<Source> {
    let mut source = Source::read(folder)?;
    if args.audit {
        let (name, content) = audit()?;
        source.profiles.entry(name).or_insert(content);
    }
    Ok(source)
}

/// Watches until a signal.
pub fn run(args: &InstallArgs, folder: &Path) -> anyhow::Result<Exit> {
    let (sender, news) = channel();
    stop_on_signals(sender.clone())?;
    let watcher = watch(sender.clone());
    let installed = args.root.join(FOLDER);
    let data = folder.join("..data");
    let mut told = Told::default();
    let mut ready = Ready::new(args)?;
    let mut seen = None;
    let mut again = Instant::now();
    loop {
        for folder in [folder, &data, &args.root, &installed] {
            watcher.iter().for_each(|watcher| watcher.add(folder));
        }
        // Before the files are read: what changes meanwhile is another fingerprint.
        let now = fingerprint(&[folder, &installed]);
        if seen.as_ref() != Some(&now) || Instant::now() >= again {
            let (is_ready, standing) = round(args, folder);
            told.say(standing);
            ready.set(is_ready, args, &sender)?;
            if is_ready {
                // What this round changed itself needs no other round; what others changed since, does. It is told apart by the next
                // one, which changes nothing.
                seen = Some(now);
                again = Instant::now() + WHOLE;
            } else {
                // What it has tried in vain is no change to be answered at once.
                seen = Some(fingerprint(&[folder, &installed]));
                again = Instant::now() + PERIOD;
            }
        }
        match wait(&news) {
            Some(News::Stop) => return Ok(Exit::Done),
            Some(News::Taint(line)) => output::note(&line),
            Some(News::Changed) | None => {}
        }
    }
}

/// The next news; changes that come together are one.
fn wait(news: &Receiver<News>) -> Option<News> {
    let first = news.recv_timeout(PERIOD).ok()?;
    if !matches!(first, News::Changed) {
        return Some(first);
    }
    let end = Instant::now() + SETTLE;
    loop {
        match news.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(News::Changed) => {}
            Ok(other) => return Some(other),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Some(first),
        }
    }
}

/// One comparison: whether all is as it should be, and what stands until it changes. What is done is said at once.
fn round(args: &InstallArgs, folder: &Path) -> (bool, BTreeSet<String>) {
    let not_ready = |what: String| format!("not ready: {what}");
    let source = match read(folder, args) {
        Ok(source) => source,
        Err(error) => return (false, [not_ready(format!("{error:#}"))].into()),
    };
    let bad = source.bad.iter();
    let bad = bad.map(|(file, bad)| not_ready(format!("{file} is not installed: {bad}")));
    let others = source.others.iter();
    let others = others.map(|file| format!("{file} is left out: its name does not end with .json"));
    let mut standing: BTreeSet<_> = bad.chain(others).collect();
    let mut is_ready = source.bad.is_empty();
    // Asked at most once a round, and only when something is to be removed.
    let usage = Asked::default();
    let in_use = |file: &str| usage.is(args, file);
    let changes = mirror(&source, &args.root, &in_use).unwrap_or_else(|error| {
        is_ready = false;
        standing.insert(not_ready(format!("{:#}", anyhow::Error::from(error))));
        Vec::new()
    });
    if let Some(error) = usage.error() {
        standing.insert(format!("what is not wanted any more stays: {error:#}"));
    }
    for change in changes {
        let done = match change {
            Change::Put(name, hash, put) => told(&name, hash, put),
            Change::Removed(name) => {
                format!(
                    "{} removed: it left the folder; its versions stay",
                    localhost(&name)
                )
            }
            Change::Dropped(name, hash) => {
                let file = name.version(hash);
                format!("{FOLDER}/{file} removed: {KEEP} newer old versions are kept")
            }
            // The reason is told above.
            Change::InUse(_) if usage.error().is_some() => continue,
            Change::InUse(name) => {
                let name = localhost(&name);
                let why = if usage.nobody() {
                    "no runtime or kubelet can be asked whether a Pod uses it; `seccast install --remove` and --force remove it"
                } else {
                    "it is in use"
                };
                standing.insert(format!("{name} left the folder, and stays: {why}"));
                continue;
            }
            Change::Empty => {
                standing.insert("the folder is empty, and what is installed stays: `seccast install --remove` removes it".to_owned());
                continue;
            }
            Change::Failed(name, error) => {
                is_ready = false;
                let error = anyhow::Error::from(error);
                standing.insert(not_ready(format!("{}: {error:#}", localhost(&name))));
                continue;
            }
        };
        if !args.quiet {
            output::note(&format!("seccast: {done}"));
        }
    }
    (is_ready, standing)
}

/// What is not as it should be, or is worth a word, each told once as long as it stands.
#[derive(Default)]
struct Told(BTreeSet<String>);

impl Told {
    fn say(&mut self, standing: BTreeSet<String>) {
        for line in standing.difference(&self.0) {
            output::note(&format!("seccast: {line}"));
        }
        self.0 = standing;
    }
}

/// What others are told: the file, and the taint.
struct Ready {
    file: Option<PathBuf>,
    is: bool,
    /// The same, for the thread that takes care of the taint.
    shared: Arc<AtomicBool>,
    /// The taint was taken care of, or a thread does.
    taint: bool,
}

impl Ready {
    fn new(args: &InstallArgs) -> anyhow::Result<Self> {
        let mut ready = Self {
            file: args.ready.ready.clone(),
            is: true,
            shared: Arc::default(),
            taint: false,
        };
        // That of a process before this one says nothing.
        ready.clear()?;
        ready.is = false;
        Ok(ready)
    }

    fn set(&mut self, is: bool, args: &InstallArgs, sender: &Sender<News>) -> anyhow::Result<()> {
        self.shared.store(is, Ordering::Relaxed);
        if is && !self.is {
            if let Some(file) = &self.file {
                fs::write(file, READY)
                    .with_context(|| format!("cannot write {}", file.display()))?;
            }
            if !args.quiet {
                output::note("seccast: ready: the node is equal to the folder");
            }
            if let Some(node) = &args.ready.node
                && !self.taint
            {
                self.taint = true;
                let (node, key) = (node.clone(), args.ready.taint.clone());
                let access = Access {
                    kubeconfig: args.ready.kubeconfig.clone(),
                    ..Access::default()
                };
                let (sender, ready) = (sender.clone(), Arc::clone(&self.shared));
                thread::spawn(move || untaint(&access, &node, &key, &ready, &sender));
            }
        }
        if !is {
            self.clear()?;
        }
        self.is = is;
        Ok(())
    }

    fn clear(&self) -> anyhow::Result<()> {
        let Some(file) = self.file.as_ref().filter(|_| self.is) else {
            return Ok(());
        };
        let removed = match is_mark(file) {
            Ok(true) => fs::remove_file(file),
            Ok(false) => bail!(
                "{} is there and is not what --ready writes: name a file that nobody else uses",
                file.display()
            ),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.with_context(|| format!("cannot remove {}", file.display())),
        }
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        drop(self.clear());
    }
}

/// A device, or what somebody else keeps there, is none.
fn is_mark(file: &Path) -> io::Result<bool> {
    Ok(fs::symlink_metadata(file)?.is_file() && READY.starts_with(&fs::read(file)?))
}

/// Removes the taint, and tries until it is gone, while the node is ready. Files do not wait for this.
fn untaint(access: &Access, node: &str, key: &str, ready: &AtomicBool, sender: &Sender<News>) {
    let [first, longest] = PAUSES;
    let mut pause = first;
    let mut last = String::new();
    let mut say = |line: String| {
        if line != last {
            last.clone_from(&line);
            drop(sender.send(News::Taint(line)));
        }
    };
    loop {
        if !ready.load(Ordering::Relaxed) {
            thread::sleep(first);
            continue;
        }
        match remove_taint(access, node, key) {
            Ok(taints) if taints.is_empty() => {
                return say(format!("seccast: node {node} has no taint {key}"));
            }
            Ok(taints) => {
                return say(format!(
                    "seccast: node {node}: taint {} removed",
                    taints.join(", ")
                ));
            }
            Err(error) => say(format!(
                "seccast: the taint {key} stays, tried again: {:#}",
                anyhow::Error::from(error)
            )),
        }
        thread::sleep(pause);
        pause = (pause * 2).min(longest);
    }
}

fn stop_on_signals(sender: Sender<News>) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("cannot wait for signals")?;
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            drop(sender.send(News::Stop));
        }
    });
    Ok(())
}

/// Tells of changes at once; without it the period is enough.
fn watch(sender: Sender<News>) -> Option<Arc<Watcher>> {
    let watcher = Arc::new(Watcher::new().ok()?);
    let waits = Arc::clone(&watcher);
    thread::spawn(move || while waits.wait().is_ok() && sender.send(News::Changed).is_ok() {});
    Some(watcher)
}
