//! Where a recording's files go, and how they are written.

use crate::{
    args::{record::RecordArgs, target::TargetArgs},
    commands::generate::{say, write_profile},
    exit::Exit,
    output::{
        self,
        file::{Destination, report_beside},
    },
};
use anyhow::{Context as _, bail};
use seccast_model::{Merged, Observation, observation::EnteredProcess};
use seccast_recorder::{cgroup::is_id, engine::command::Start, proc};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Where things go.
pub(super) enum Outputs {
    /// One recording's files.
    Files(Files),
    /// A folder: each container has its own.
    Folder {
        /// The folder.
        path: PathBuf,
        /// Names that were given out.
        names: BTreeSet<String>,
    },
}

/// The files of one recording.
#[derive(Default)]
pub(super) struct Files {
    profile: Option<Destination>,
    observation: Option<Destination>,
}

impl Outputs {
    /// Checks everything that will be written. `many`: there may be more than one container.
    pub(super) fn check(
        args: &RecordArgs,
        start: Option<&Start>,
        many: bool,
    ) -> anyhow::Result<Self> {
        let folder = args
            .all
            .as_ref()
            .or(args.output.as_ref().filter(|path| path.is_dir()));
        if many || args.all.is_some() {
            let here = PathBuf::from(".");
            let folder = folder.or(args.output.is_none().then_some(&here));
            let Some(path) = folder else {
                let (who, one) = match args.target.pod {
                    Some(_) => ("the Pod", "; or name one container with -c"),
                    None => ("the command", ""),
                };
                bail!(
                    "{who} may start more than one container, and {} is no folder; make it one (mkdir), or name another with -o{one}",
                    args.output.clone().unwrap_or_default().display()
                );
            };
            if args.observation.is_some() {
                bail!(
                    "--observation is one file; the observations of several containers go to the folder {}",
                    path.display()
                );
            }
            fs::create_dir_all(path)
                .with_context(|| format!("cannot make folder {}", path.display()))?;
            Destination::check(&path.join("container.seccomp.json"))?;
            return Ok(Self::Folder {
                path: path.clone(),
                names: BTreeSet::new(),
            });
        }
        let default = || {
            PathBuf::from(format!(
                "{}.seccomp.json",
                default_name(&args.target, start)
            ))
        };
        let profile = args.output.clone();
        let profile = profile.or_else(|| args.observation.is_none().then(default));
        Files::check(profile, args.observation.clone()).map(Self::Files)
    }

    /// The files of a container, in a folder by its name.
    pub(super) fn files(&mut self, observation: &Observation) -> anyhow::Result<Files> {
        match self {
            Self::Files(files) => Ok(Files {
                profile: files.profile.clone(),
                observation: files.observation.clone(),
            }),
            Self::Folder { path, names } => {
                let target = &observation.target;
                let id = target.container_id.as_deref().unwrap_or_default();
                // A name of 64 bytes need not be an id, nor be cut anywhere.
                let short = if is_id(id) { &id[..12] } else { id };
                let name = target.container_name.as_deref().unwrap_or(short);
                // None of the three has an underscore.
                let name = safe(&match &target.pod {
                    Some(pod) => format!("{}_{}_{name}", pod.namespace, pod.name),
                    None => name.to_owned(),
                });
                // Two containers of one name, or the same one started twice.
                let mut unique = name.clone();
                let mut next = 2;
                while !names.insert(unique.clone()) {
                    unique = format!("{name}-{next}");
                    next += 1;
                }
                Files::check(
                    Some(path.join(format!("{unique}.seccomp.json"))),
                    Some(path.join(format!("{unique}.observation.json"))),
                )
            }
        }
    }

    /// Does each container have its own files?
    pub(super) fn is_folder(&self) -> bool {
        matches!(self, Self::Folder { .. })
    }
}

impl Files {
    fn check(profile: Option<PathBuf>, observation: Option<PathBuf>) -> anyhow::Result<Self> {
        let check = |path: PathBuf| Destination::check(&path);
        let profile = profile.map(check).transpose()?;
        let observation = observation.map(check).transpose()?;
        let path =
            |destination: &Option<Destination>| destination.as_ref()?.path().map(Path::to_owned);
        let report = path(&profile).map(|profile| report_beside(&profile));
        if let Some(report) = &report {
            Destination::check(report)?;
        }
        let is_stdout = |to: &Option<Destination>| matches!(to, Some(Destination::Stdout));
        if is_stdout(&profile) && is_stdout(&observation) {
            bail!(
                "the observation and the profile would both go to stdout; leave -o out, and make the profile of the observation later with generate"
            );
        }
        let to = path(&observation);
        if to.is_some() && (to == path(&profile) || to == report) {
            bail!(
                "the observation and the profile or its report would both go to {}; give each a file of its own",
                to.unwrap_or_default().display()
            );
        }
        Ok(Self {
            profile,
            observation,
        })
    }

    /// The files as if the recording ended now.
    pub(super) fn write_so_far(
        &self,
        observation: &Observation,
        args: &RecordArgs,
    ) -> anyhow::Result<()> {
        if let Some(destination) = &self.observation {
            destination.write(&observation.to_json())?;
        }
        if let Some(destination) = &self.profile {
            write_profile(
                &Merged::of(observation.clone())?,
                &args.policy,
                destination,
                true,
            )?;
        }
        Ok(())
    }

    /// The files of a recording that is over. Nothing is written of one of which no profile can be made; what it holds is
    /// said.
    pub(super) fn write(
        &self,
        observation: &Observation,
        args: &RecordArgs,
    ) -> anyhow::Result<Exit> {
        let generated =
            seccast_model::generate(std::slice::from_ref(observation), &(&args.policy).into());
        let complete = match generated {
            Ok(generated) => {
                if self.profile.is_none() {
                    say(&generated.diagnostics, args.quiet);
                }
                generated.report.is_complete()
            }
            Err(error) => {
                let what = self.write_undecided(observation)?;
                return Err(anyhow::Error::new(error).context(what));
            }
        };
        if let Some(destination) = &self.observation {
            if let Err(error) = destination.write(&observation.to_json()) {
                return Err(rescue(observation, error));
            }
            if let (Some(path), false) = (destination.path(), args.quiet) {
                output::note(&format!("seccast: wrote {}", path.display()));
            }
        }
        if let Some(destination) = &self.profile {
            let written = write_profile(
                &Merged::of(observation.clone())?,
                &args.policy,
                destination,
                args.quiet,
            );
            if let Err(error) = written {
                return Err(if self.observation.is_some() {
                    error
                } else {
                    rescue(observation, error)
                });
            }
        }
        if complete || args.allow_incomplete {
            Ok(Exit::Done)
        } else {
            Ok(Exit::Findings)
        }
    }

    /// What entered can be decided later, from the observation. Says what was written.
    fn write_undecided(&self, observation: &Observation) -> anyhow::Result<String> {
        if observation.entered_count > 0 {
            let name = |process: &EnteredProcess| {
                format!("{} ({})", process.comm.escape_debug(), process.pid)
            };
            let names: Vec<_> = observation.entered.iter().map(name).collect();
            output::warning(
                &format!(
                    "{} entered and never executed a program: {}",
                    observation.entered_count,
                    names.join(", ")
                ),
                Some(
                    "say what they are: --entered app or --entered runtime, with record or with generate",
                ),
            );
        }
        let path = observation
            .target
            .cgroup_path
            .as_deref()
            .unwrap_or_default();
        match (&self.observation, observation.entered_count > 0) {
            (Some(destination), true) => {
                destination.write(&observation.to_json())?;
                Ok(format!("of cgroup {path} only the observation was written"))
            }
            _ => Ok(format!("nothing was written of cgroup {path}")),
        }
    }
}

/// The name of a profile whose file was not named.
pub fn default_name(target: &TargetArgs, start: Option<&Start>) -> String {
    let last = |path: &str| {
        path.trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let name = if let Some(start) = start {
        let image = || {
            let image = last(start.image()?);
            // Without the tag or the digest.
            Some(
                image
                    .split([':', '@'])
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            )
        };
        let given = start.option(&["--name"]).or(start.id()).map(str::to_owned);
        let first = || start.positionals().first().cloned();
        given.or_else(image).or_else(first).unwrap_or_default()
    } else if let Some(program) = target.command.first() {
        last(program)
    } else if let Some(name) = &target.container {
        name.chars().take(64).collect()
    } else if let Some(pod) = &target.pod {
        let names = [pod.to_string().replace('/', "_").replace('*', "")];
        let all = names.into_iter().chain(target.pod_container.clone());
        all.collect::<Vec<_>>().join("_")
    } else if let Some(path) = &target.cgroup {
        last(path)
    } else {
        target.pid.and_then(proc::comm).unwrap_or_default()
    };
    safe(&name)
}

fn safe(name: &str) -> String {
    let safe: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    if safe.trim_start_matches('.').is_empty() {
        "recording".to_owned()
    } else {
        safe
    }
}

/// A recording cannot be repeated: what cannot go where it should goes to the temporary folder.
fn rescue(observation: &Observation, error: anyhow::Error) -> anyhow::Error {
    if observation.calls.is_empty() {
        return error;
    }
    let path = std::env::temp_dir().join(format!(
        "seccast-{}.observation.json",
        observation.recording_id
    ));
    match Destination::check(&path)
        .and_then(|destination| destination.write(&observation.to_json()))
    {
        Ok(()) => error.context(format!(
            "the observation was saved as {} instead",
            path.display()
        )),
        Err(_) => error,
    }
}
