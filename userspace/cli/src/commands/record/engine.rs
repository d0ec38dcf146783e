//! `record -- docker run …`: the container that a command starts is recorded, in audit mode, and not the command.

use super::compose;
use crate::{
    args::record::RecordArgs,
    exit::{Exit, Failed},
    output,
};
use anyhow::{Context as _, bail};
use seccast_model::audit_profile;
use seccast_recorder::{
    Recorder, Recording, clock,
    command::{CommandError, Running, User},
    container::{Name, Waiting, Wanted},
    engine::{
        Client, EngineError, Events, Kind, Told, check_runtime,
        command::{Start, Verb},
    },
};
use serde_json::json;
use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long after the client's end its container may show itself: the kernel's news of it are milliseconds behind.
const SETTLE: Duration = Duration::from_secs(2);
/// The same where the client says by its status that something failed: then there may be none.
const SETTLE_FAILED: Duration = Duration::from_millis(500);

/// A command that starts containers, on its way.
pub(super) struct Engine {
    start: Start,
    client: Client,
    user: Option<User>,
    ids: Ids,
    /// The one container that it starts has the audit profile.
    audited: bool,
    running: Option<Running>,
    ended: Option<(ExitStatus, Instant)>,
    stops: Vec<std::process::Child>,
    /// Holds the audit profile and the id file as long as the client may read them.
    _work: TempDir,
}

/// How the ids of its containers are known.
enum Ids {
    /// From the command, or asked before.
    Known(Vec<String>),
    /// The client (`--cidfile`) or podman's hook writes them there.
    File(PathBuf),
    /// The label of [`compose`] has this value.
    Marked(String),
}

impl Ids {
    /// Those that are written down by now, and whether podman's hook gave them the audit profile.
    fn written(&self) -> Vec<(String, bool)> {
        let Self::File(path) = self else {
            return Vec::new();
        };
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines = text.lines().map(|line| match line.split_once(' ') {
            Some((id, _)) => (id.to_owned(), true),
            None => (line.trim().to_owned(), false),
        });
        lines.filter(|(id, _)| !id.is_empty()).collect()
    }
}

impl Engine {
    /// Refuses what cannot be recorded from here, and puts the command into audit mode.
    pub(super) fn prepare(mut start: Start, args: &RecordArgs) -> anyhow::Result<Self> {
        let kind = start.kind();
        let client = start.client.clone().as_user(args.user);
        if start.verb == Verb::Create {
            bail!(
                "{} create starts nothing; use run, or create it and record its start: seccast record --container NAME --wait",
                kind.name()
            );
        }
        if let Some(runtime) = start.runtime() {
            check_runtime(runtime)?;
        }
        client.check_local().map_err(not_found)?;
        let work = tempfile::Builder::new()
            .prefix("seccast-record-")
            .tempdir()
            .context("cannot make a temporary folder")?;
        if let Some(user) = args.user {
            chown(work.path(), Some(user.uid), Some(user.gid))
                .context("cannot give the temporary folder to --user")?;
        }
        let (ids, audited) = prepare_ids(&mut start, &client, args, work.path())?;
        Ok(Self {
            start,
            client,
            user: args.user,
            ids,
            audited,
            running: None,
            ended: None,
            stops: Vec::new(),
            _work: work,
        })
    }

    /// Who starts them.
    pub(super) fn name(&self) -> &'static str {
        self.start.kind().name()
    }

    /// From now on no new cgroup escapes.
    pub(super) fn arm(&self, recorder: &mut Recorder) -> anyhow::Result<Waiting> {
        let kind = self.start.kind();
        let of_runtime = |program: &str| {
            let root = self.client.option(&["--root"]);
            root.map_or_else(|| PathBuf::from(format!("/run/{program}")), PathBuf::from)
        };
        let names = match &self.ids {
            Ids::Known(ids) => ids.clone(),
            Ids::File(_) | Ids::Marked(_) => Vec::new(),
        };
        if let (true, Verb::Start, [name]) = (kind.is_runtime(), self.start.verb, &names[..]) {
            let name = Name::new(
                name,
                Some(of_runtime(kind.program())),
                Some(self.client.clone()),
            );
            return Ok(name.wait(recorder)?);
        }
        let containerd = kind == Kind::Containerd;
        let wanted = Wanted {
            names,
            all: false,
            engine: Some(kind),
            namespace: containerd.then(|| self.client.namespace()),
            address: containerd.then(|| self.client.address()),
            root: kind.is_runtime().then(|| of_runtime(kind.program())),
        };
        let events = if kind.is_runtime() {
            Vec::new()
        } else {
            vec![Events::subscribe(&self.client)?]
        };
        Ok(Waiting::arm(
            recorder,
            wanted,
            events,
            self.start.starts_many(),
        )?)
    }

    /// Executes the command.
    pub(super) fn start(&mut self) -> Result<(), CommandError> {
        self.running = Some(Running::start(self.start.words(), None, self.user, None)?);
        Ok(())
    }

    /// Tells what is waited for of the ids that are known by now.
    pub(super) fn learn(&self, waiting: &mut Waiting) {
        for (id, _) in self.ids.written() {
            waiting.expect(&id);
        }
        if let Ids::Marked(mark) = &self.ids {
            let marked = |told: &Told| told.labels.get(compose::LABEL) == Some(mark);
            let ids: Vec<_> = waiting
                .events()
                .iter()
                .flat_map(|events| events.ids(marked))
                .collect();
            for id in ids {
                waiting.expect(&id);
            }
        }
    }

    /// The client's status, once it has ended.
    pub(super) fn status(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if let (None, Some(running)) = (&self.ended, &mut self.running) {
            let status = running.ended().context("cannot wait for CMD")?;
            self.ended = status.map(|status| (status, Instant::now()));
        }
        self.stops
            .retain_mut(|stop| matches!(stop.try_wait(), Ok(None)));
        Ok(self.ended.map(|(status, _)| status))
    }

    /// The client has ended, and so long ago that what it started would have shown itself.
    pub(super) fn is_over(&self) -> bool {
        self.ended.is_some_and(|(status, when)| {
            let settle = if status.success() {
                SETTLE
            } else {
                SETTLE_FAILED
            };
            when.elapsed() >= settle
        })
    }

    /// Sends the client a signal; false when it has ended.
    pub(super) fn signal(&self, signal: i32) -> bool {
        match (&self.running, self.ended) {
            (Some(running), None) => {
                running.signal(signal);
                true
            }
            _ => false,
        }
    }

    /// Stops containers as their engine would: its stop signal, 10 s, KILL; `kill` at once.
    pub(super) fn stop<'a>(&mut self, ids: impl IntoIterator<Item = &'a str>, kill: bool) {
        for id in ids {
            match self.client.stop(id, kill) {
                Ok(child) => self.stops.push(child),
                Err(error) => {
                    output::warning(&format!("cannot stop container {id}: {error}"), None)
                }
            }
        }
    }

    /// A failure of ours leaves nothing running: what was started is killed, and the client with it.
    pub(super) fn abandon<'a>(&mut self, ids: impl IntoIterator<Item = &'a str>) {
        self.stop(ids, true);
        for stop in &mut self.stops {
            let _ = stop.wait();
        }
        self.running = None;
    }

    /// Whose a container is that the command started, where its runtime did not live long enough to tell.
    pub(super) fn claim(&self, recording: &mut Recording, waiting: Option<&Waiting>) {
        let kind = self.client.kind();
        if !kind.is_runtime() {
            let engine = &mut recording.target.engine;
            engine.get_or_insert_with(|| kind.server().to_owned());
        }
        recording.client.get_or_insert_with(|| self.client.clone());
        let id = recording.target.container_id.as_deref().unwrap_or_default();
        let mut told = waiting
            .iter()
            .flat_map(|waiting| waiting.events())
            .filter_map(|events| events.of(id));
        recording.audited = self.audited
            || self
                .ids
                .written()
                .iter()
                .any(|(of, audited)| *audited && of == id)
            || told.any(|told| told.labels.contains_key(compose::AUDITED));
    }

    /// Ids that are written down although no cgroup showed them.
    pub(super) fn written_ids(&self) -> impl Iterator<Item = String> {
        self.ids.written().into_iter().map(|(id, _)| id)
    }
}

/// CMD is the client: that it is not there is CMD's not being there.
fn not_found(error: EngineError) -> anyhow::Error {
    let exit = match &error {
        EngineError::NoClient { source, .. } if source.kind() == ErrorKind::NotFound => {
            Exit::NotFound
        }
        EngineError::NoClient { .. } => Exit::NotExecutable,
        _ => return error.into(),
    };
    anyhow::Error::new(error).context(Failed {
        exit,
        what: "CMD was not run".to_owned(),
    })
}

/// Puts the command into audit mode, unless it says itself which filter it wants, and makes it tell its containers' ids:
/// those are in the command, in a file that the client or podman's hook writes before the container starts, or in the
/// engine's answer. True when its one container got the audit profile.
fn prepare_ids(
    start: &mut Start,
    client: &Client,
    args: &RecordArgs,
    work: &Path,
) -> anyhow::Result<(Ids, bool)> {
    let kind = start.kind();
    let engine = kind.name();
    let keep = args.keep_filter || start.names_a_filter();
    if args.keep_filter {
        output::note(&format!(
            "seccast: --keep-filter: {engine}'s filter stays; what it denies is listed as denied and not allowed"
        ));
    } else if keep {
        output::note("seccast: the command names a filter itself, which stays");
    }
    let audited = |how: &str| {
        output::note(&format!(
            "seccast: audit mode: the container gets a filter that allows everything ({how}); --keep-filter leaves {engine}'s"
        ));
    };
    let made_before = || {
        if !keep {
            output::note(
                "seccast: a container keeps the filter that it was made with; to record it in audit mode, make it anew with run",
            );
        }
    };
    match (start.verb, kind) {
        (Verb::Compose, _) if start.makes_services() => {
            let mark = format!("{}-{}", std::process::id(), clock::unix_ns());
            if compose::mark(start, client, work, &mark, keep)? {
                audited("by a compose file beside the project's");
            }
            Ok((Ids::Marked(mark), false))
        }
        (Verb::Compose, _) => {
            made_before();
            let compose = Client::new(kind, start.compose().to_vec());
            let ids = compose.ask(&["ps", "-a", "-q"])?;
            let ids = ids.split_ascii_whitespace().map(str::to_owned);
            Ok((Ids::Known(ids.collect()), false))
        }
        (Verb::Kube | Verb::Start, Kind::Podman) if !client.is_remote() => {
            hook(start, work, keep)?;
            if !keep {
                audited("by a precreate hook");
            }
            Ok((Ids::File(work.join("ids")), false))
        }
        (Verb::Kube, _) => bail!(
            "{engine} does not tell which containers `kube play` starts; run it where podman is not remote, or record them by name: seccast record --container NAME --wait"
        ),
        (_, Kind::Runc | Kind::Crun | Kind::Containerd) => {
            let mut has_filter = false;
            if start.verb == Verb::Start {
                made_before();
            } else if !keep
                && kind.is_runtime()
                && let Some(bundle) = audited_bundle(&start.bundle(), work)?
            {
                let bundle = bundle.display().to_string();
                start.set("--bundle", "-b", &bundle);
                audited(&format!("--bundle {bundle}"));
                has_filter = true;
            }
            // ctr gives no filter unless it is told to.
            let Some(id) = start.id() else {
                bail!("the command names no container; {engine} wants its id");
            };
            Ok((Ids::Known(vec![id.to_owned()]), has_filter))
        }
        (Verb::Start | Verb::Create, _) => {
            made_before();
            Ok((known_ids(start, client)?, false))
        }
        (Verb::Run, _) => {
            if !keep {
                let profile = write_audit_profile(work)?;
                let option = format!("seccomp={}", profile.display());
                start.add(&["--security-opt", &option]);
                audited(&format!("--security-opt {option}"));
            }
            if let Some(path) = start.option(&["--cidfile"]) {
                return Ok((Ids::File(path.into()), !keep));
            }
            let path = work.join("id");
            start.add(&["--cidfile", &path.display().to_string()]);
            Ok((Ids::File(path), !keep))
        }
    }
}

/// Lets podman call us before it makes each container of the command (`podman --hooks-dir`, oci-hooks(5)).
fn hook(start: &mut Start, work: &Path, keep_filter: bool) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot tell where seccast lies")?;
    let ids = work.join("ids").display().to_string();
    let mut words = vec!["seccast", "precreate", "--ids", &ids];
    if keep_filter {
        words.push("--keep-filter");
    }
    let hook = json!({
        "version": "1.0.0",
        "hook": { "path": program, "args": words },
        "when": { "always": true },
        "stages": ["precreate"],
    });
    let folder = work.join("hooks");
    fs::create_dir(&folder).context("cannot make a temporary folder for a hook")?;
    fs::write(folder.join("seccast.json"), hook.to_string()).context("cannot write a hook")?;
    let folder = folder.display().to_string();
    let mut options = vec!["--hooks-dir", folder.as_str()];
    // One that is named takes the place of the usual ones (podman(1)).
    if start.client.option(&["--hooks-dir"]).is_none() {
        let usual = [
            "/usr/share/containers/oci/hooks.d",
            "/etc/containers/oci/hooks.d",
        ];
        for folder in usual
            .into_iter()
            .filter(|folder| Path::new(folder).is_dir())
        {
            options.extend(["--hooks-dir", folder]);
        }
    }
    start.add_global(&options);
    Ok(())
}

/// The ids of containers that exist.
fn known_ids(start: &Start, client: &Client) -> anyhow::Result<Ids> {
    let names = start.positionals();
    let engine = client.kind().name();
    if names.is_empty() {
        bail!("name the containers that {engine} is to start");
    }
    let id = |name: &String| match client.inspect(name) {
        Ok(Some(details)) => Ok(details.id),
        Ok(None) => Err(EngineError::Unknown {
            engine,
            name: name.clone(),
        }),
        Err(error) => Err(error),
    };
    Ok(Ids::Known(names.iter().map(id).collect::<Result<_, _>>()?))
}

/// The audit profile, where an engine's client reads it.
pub(super) fn write_audit_profile(work: &Path) -> anyhow::Result<PathBuf> {
    let profile = work.join("audit.json");
    fs::write(&profile, audit_profile().to_oci_json()).context("cannot write the audit profile")?;
    Ok(profile)
}

/// A copy of a bundle's config.json with the audit profile in place of its filter; `None` where it has none. The bundle is
/// the user's and stays as it is.
fn audited_bundle(bundle: &Path, work: &Path) -> anyhow::Result<Option<PathBuf>> {
    let file = bundle.join("config.json");
    let text = fs::read_to_string(&file).with_context(|| {
        format!(
            "cannot read {}; name the bundle with --bundle",
            file.display()
        )
    })?;
    let mut config: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("{} is no JSON", file.display()))?;
    let Some(filter) = config
        .pointer_mut("/linux/seccomp")
        .filter(|filter| !filter.is_null())
    else {
        return Ok(None);
    };
    *filter = serde_json::from_str(&audit_profile().to_oci_json()).context("the audit profile")?;
    // Paths in it are relative to the bundle (OCI config.md: root.path, mounts[].source of bind mounts).
    let bundle = bundle
        .canonicalize()
        .with_context(|| format!("no bundle {}", bundle.display()))?;
    let make_absolute = |path: Option<&mut serde_json::Value>| {
        if let Some(path) = path
            && let Some(text) = path.as_str()
            && !text.starts_with('/')
        {
            *path = bundle.join(text).display().to_string().into();
        }
    };
    make_absolute(config.pointer_mut("/root/path"));
    let mounts = config
        .get_mut("mounts")
        .and_then(serde_json::Value::as_array_mut);
    for mount in mounts.into_iter().flatten() {
        let bind = |option: &serde_json::Value| matches!(option.as_str(), Some("bind" | "rbind"));
        let options = mount.get("options").and_then(serde_json::Value::as_array);
        if options.is_some_and(|options| options.iter().any(bind)) {
            make_absolute(mount.get_mut("source"));
        }
    }
    let copy = work.join("bundle");
    fs::create_dir(&copy).context("cannot make a temporary bundle")?;
    fs::write(copy.join("config.json"), config.to_string())
        .context("cannot write a temporary bundle")?;
    Ok(Some(copy))
}
