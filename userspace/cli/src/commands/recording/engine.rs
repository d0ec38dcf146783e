//! `record -- docker run …`: the container that a command starts is recorded, in audit mode, and not the command.

use super::{Mode, Plan, compose};
use crate::{
    exit::{Exit, Failed},
    output,
};
use anyhow::{Context as _, anyhow, bail};
use seccast_model::Profile;
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
    /// What containers are given is the audit profile.
    audits: bool,
    /// The one container that it starts was given a profile.
    given: bool,
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
    /// Those that are written down by now, and whether podman's hook gave them a profile.
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
    pub(super) fn prepare(mut start: Start, plan: &Plan) -> anyhow::Result<Self> {
        let kind = start.kind();
        let user = plan.target.user;
        let client = start.client.clone().as_user(user);
        if start.verb == Verb::Create {
            bail!(
                "{} create starts nothing; use run, or create it and record its start: seccast record --container NAME --wait",
                kind.name()
            );
        }
        if start.verb == Verb::Exec {
            return Err(not_a_start(&start, &plan.mode));
        }
        if let Some(runtime) = start.runtime() {
            check_runtime(runtime)?;
        }
        client.check_local().map_err(not_found)?;
        let work = tempfile::Builder::new()
            .prefix("seccast-record-")
            .tempdir()
            .context("cannot make a temporary folder")?;
        // The client writes and reads there, as whoever it runs.
        if let Some(user) = start.user().and_then(User::of_name).or(user) {
            chown(work.path(), Some(user.uid), Some(user.gid))
                .context("cannot give the temporary folder to the user as whom CMD runs")?;
        }
        let (ids, given) = prepare_ids(&mut start, &client, &plan.mode, work.path())?;
        Ok(Self {
            start,
            client,
            user,
            ids,
            audits: matches!(plan.mode, Mode::Audit),
            given,
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
            pods: None,
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

    /// Removes containers that have ended.
    pub(super) fn remove<'a>(&self, ids: impl IntoIterator<Item = &'a str>) {
        for id in ids {
            // One that the command removed itself is not there.
            if let Ok(mut child) = self.client.remove(id) {
                let _ = child.wait();
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
        recording.audited = self.audits
            && (self.given
                || self
                    .ids
                    .written()
                    .iter()
                    .any(|(of, given)| *given && of == id)
                || told.any(|told| told.labels.contains_key(compose::GIVEN)));
    }

    /// Ids that are written down although no cgroup showed them.
    pub(super) fn written_ids(&self) -> impl Iterator<Item = String> {
        self.ids.written().into_iter().map(|(id, _)| id)
    }
}

/// `exec` starts no container: the one that it enters runs already, and is recorded from outside.
fn not_a_start(start: &Start, mode: &Mode) -> anyhow::Error {
    let name = start.entered().unwrap_or_else(|| "NAME".to_owned());
    let line = match mode {
        Mode::Under { name: profile, .. } => {
            format!("seccast verify --profile {profile} --container {name}")
        }
        _ => format!("seccast record --container {name}"),
    };
    anyhow!(
        "{} exec starts a process in a container that runs already; watch that container, and type the command meanwhile: {line}",
        start.kind().name()
    )
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

/// Gives the containers of the command the profile of the mode, unless the command says itself which filter it wants, and
/// makes it tell their ids: those are in the command, in a file that the client or podman's hook writes before the container
/// starts, or in the engine's answer. True when its one container got the profile.
fn prepare_ids(
    start: &mut Start,
    client: &Client,
    mode: &Mode,
    work: &Path,
) -> anyhow::Result<(Ids, bool)> {
    let kind = start.kind();
    let engine = kind.name();
    if matches!(mode, Mode::AsIs) {
        output::note(&format!(
            "seccast: --keep-filter: {engine}'s filter stays; what it denies is listed as denied and not allowed"
        ));
    } else if start.names_a_filter() {
        if let Mode::Under { name, .. } = mode {
            bail!(
                "the command names a filter itself, and the container is to run under {name}: take it out of the command"
            );
        }
        output::note("seccast: the command names a filter itself, which stays");
    }
    let given = mode
        .profile()
        .filter(|_| !start.names_a_filter())
        .map(|profile| {
            let name = match mode {
                Mode::Audit => "audit.json",
                _ => "profile.json",
            };
            write_profile(&profile, &work.join(name))
        })
        .transpose()?;
    let given = given.as_deref();
    let say = |how: &str| {
        output::note(&match mode {
            Mode::Under { name, .. } => format!("seccast: the container gets {name} ({how})"),
            _ => format!(
                "seccast: audit mode: the container gets a filter that allows everything ({how}); --keep-filter leaves {engine}'s"
            ),
        });
    };
    // A container that exists keeps the filter that it was made with.
    let made_before = || {
        match mode {
            Mode::Under { name, .. } => bail!(
                "a container keeps the filter that it was made with, so it cannot be started under {name}; make it anew with run, or \
                 watch it under its own: seccast verify --profile {name} --container NAME --wait"
            ),
            Mode::Audit if given.is_some() => output::note(
                "seccast: a container keeps the filter that it was made with; to record it in audit mode, make it anew with run",
            ),
            _ => {}
        }
        Ok(())
    };
    match (start.verb, kind) {
        (Verb::Compose, _) if start.makes_services() => {
            let mark = format!("{}-{}", std::process::id(), clock::unix_ns());
            if compose::mark(start, client, work, &mark, given)? {
                say("by a compose file beside the project's");
            }
            Ok((Ids::Marked(mark), false))
        }
        (Verb::Compose, _) => {
            made_before()?;
            let compose = Client::new(kind, start.compose());
            let ids = compose.ask(&["ps", "-a", "-q"])?;
            let ids = ids.split_ascii_whitespace().map(str::to_owned);
            Ok((Ids::Known(ids.collect()), false))
        }
        (Verb::Kube | Verb::Start, Kind::Podman) if !client.is_remote() => {
            hook(start, work, given)?;
            if given.is_some() {
                say("by a precreate hook");
            }
            Ok((Ids::File(work.join("ids")), false))
        }
        (Verb::Kube, _) => bail!(
            "{engine} does not tell which containers `kube play` starts; run it where podman is not remote, or record them by name: seccast record --container NAME --wait"
        ),
        (Verb::Start, Kind::Runc | Kind::Crun | Kind::Containerd) => {
            made_before()?;
            Ok((known_id(start)?, false))
        }
        (_, Kind::Containerd) => {
            // ctr gives no filter unless it is told to.
            let Mode::Under { .. } = mode else {
                return Ok((known_id(start)?, false));
            };
            if let Some(profile) = given {
                let profile = profile.display().to_string();
                start.add(&["--seccomp", "--seccomp-profile", &profile]);
                say(&format!("--seccomp-profile {profile}"));
            }
            Ok((known_id(start)?, true))
        }
        (_, Kind::Runc | Kind::Crun) => {
            let mut has_filter = false;
            if let Some(profile) = given
                && let Some(bundle) = filtered_bundle(&start.bundle(), work, profile, mode)?
            {
                let bundle = bundle.display().to_string();
                start.set("--bundle", "-b", &bundle);
                say(&format!("--bundle {bundle}"));
                has_filter = true;
            }
            Ok((known_id(start)?, has_filter))
        }
        (Verb::Start | Verb::Create | Verb::Exec, _) => {
            made_before()?;
            Ok((known_ids(start, client)?, false))
        }
        (Verb::Run, _) => {
            if let Some(profile) = given {
                let option = format!("seccomp={}", profile.display());
                start.add(&["--security-opt", &option]);
                say(&format!("--security-opt {option}"));
            }
            if let Some(path) = start.option(&["--cidfile"]) {
                return Ok((Ids::File(path.into()), given.is_some()));
            }
            let path = work.join("id");
            start.add(&["--cidfile", &path.display().to_string()]);
            Ok((Ids::File(path), given.is_some()))
        }
    }
}

/// The id that a runtime's command has to name.
fn known_id(start: &Start) -> anyhow::Result<Ids> {
    let Some(id) = start.id() else {
        bail!(
            "the command names no container; {} wants its id",
            start.kind().name()
        );
    };
    Ok(Ids::Known(vec![id.to_owned()]))
}

/// Lets podman call us before it makes each container of the command (`podman --hooks-dir`, oci-hooks(5)).
fn hook(start: &mut Start, work: &Path, profile: Option<&Path>) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot tell where seccast lies")?;
    let ids = work.join("ids").display().to_string();
    let mut words = vec!["seccast", "precreate", "--ids", &ids];
    let profile = profile.map(|path| path.display().to_string());
    if let Some(profile) = &profile {
        words.extend(["--profile", profile]);
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

/// The profile, where an engine's client reads it.
fn write_profile(profile: &Profile, path: &Path) -> anyhow::Result<PathBuf> {
    fs::write(path, profile.to_oci_json())
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path.to_owned())
}

/// A copy of a bundle's config.json with a profile in place of its filter; for the audit profile `None` where it has no filter.
/// The bundle is the user's and stays as it is.
fn filtered_bundle(
    bundle: &Path,
    work: &Path,
    profile: &Path,
    mode: &Mode,
) -> anyhow::Result<Option<PathBuf>> {
    let file = bundle.join("config.json");
    let text = fs::read_to_string(&file).with_context(|| {
        format!(
            "cannot read {}; name the bundle with --bundle",
            file.display()
        )
    })?;
    let mut config: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("{} is no JSON", file.display()))?;
    let linux = config
        .get_mut("linux")
        .and_then(serde_json::Value::as_object_mut)
        .with_context(|| {
            format!(
                "{}: no field `linux`: no OCI bundle for Linux",
                file.display()
            )
        })?;
    let has_one = linux.get("seccomp").is_some_and(|filter| !filter.is_null());
    if !has_one && matches!(mode, Mode::Audit) {
        return Ok(None);
    }
    let profile = fs::read(profile).context("cannot read the profile back")?;
    linux.insert(
        "seccomp".to_owned(),
        serde_json::from_slice(&profile).context("the profile")?,
    );
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
