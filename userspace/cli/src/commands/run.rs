//! `seccast run`: record, generate, start again under the profile, verify.

use super::{
    generate::write_profile,
    record::default_name,
    recording::{self, Ended, Mode, Plan, Sink, before_start},
    verify::Trial,
};
use crate::{
    args::{record::BackendArg, run::RunArgs},
    exit::Exit,
    input,
    output::{
        self,
        file::{Destination, observation_beside},
    },
};
use anyhow::bail;
use seccast_model::{Merged, Observation, Profile, generate, verdict::Outcome};
use seccast_recorder::engine::{
    Kind,
    command::{Start, Verb},
};
use std::path::{Path, PathBuf};

/// Does it.
pub fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    before_start(true, whole_loop(args))
}

fn whole_loop(args: &RunArgs) -> anyhow::Result<Exit> {
    let start = Start::parse(&args.command);
    if let Some(start) = &start
        && (start.verb != Verb::Run || start.starts_many())
    {
        bail!(
            "run starts one new container twice: give it a `run`, without pods and projects; for others: seccast record -o profiles -- …, then seccast verify --profile …"
        );
    }
    let path = args.output.clone().unwrap_or_else(|| {
        let name = default_name(&args.target(), start.as_ref());
        PathBuf::from(format!("{name}.seccomp.json"))
    });
    let destination = Destination::check(&path)?;
    let Some(path) = destination.path().map(Path::to_owned) else {
        bail!("the profile has to be a file, since CMD is started under it; give one with -o");
    };
    let beside = Destination::check(&observation_beside(&path))?;

    output::note("seccast: 1 of 2: recording");
    let mut recorded = Recorded::default();
    let plan = |mode: Mode, denials| Plan {
        target: args.target(),
        all: None,
        judged: match &mode {
            Mode::Under { profile, .. } => Some(Profile::clone(profile)),
            Mode::Audit | Mode::AsIs => None,
        },
        mode,
        backend: Some(BackendArg::Ebpf),
        entered: None,
        quiet: args.quiet,
        denials,
        remove: !denials,
    };
    let exit = recording::record(plan(Mode::Audit, false), start.clone(), &mut recorded)?;
    let Some(observation) = recorded.observation else {
        return Ok(exit);
    };
    beside.write(&observation.to_json())?;
    if let Exit::Command(_) = exit {
        output::note(
            "seccast: CMD failed without a profile, so there is nothing to prove; its observation was kept",
        );
        return Ok(exit);
    }
    let complete = write_profile(
        &Merged::of(observation.clone())?,
        &args.policy,
        &destination,
        args.quiet,
    )?;
    let profile = input::profile(&path, args.quiet)?;

    output::note(&format!("seccast: 2 of 2: again, under {}", path.display()));
    let name = path.display().to_string();
    let mut trial = Trial::new(&profile, name.clone(), false, args.quiet);
    let mode = Mode::Under {
        profile: Box::new(profile.clone()),
        name,
    };
    let exit = recording::record(plan(mode, true), start.clone(), &mut trial)?;
    output::note(trial.text().trim_end());
    if trial.outcome() == Outcome::Pass {
        output::note(&to_paste(start.as_ref(), &path));
    }
    Ok(match exit {
        Exit::Done if !complete => Exit::Findings,
        exit => exit,
    })
}

/// What puts the profile to use.
fn to_paste(start: Option<&Start>, path: &Path) -> String {
    let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let absolute = absolute.display();
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let own = start.map(|start| match start.kind() {
        Kind::Docker | Kind::Podman | Kind::Nerdctl => format!(
            "{}:\n  {} run --security-opt seccomp={absolute} …\n",
            start.kind().name(),
            start.kind().program()
        ),
        Kind::Containerd => {
            format!("containerd:\n  ctr run --seccomp --seccomp-profile {absolute} …\n")
        }
        Kind::Runc | Kind::Crun => format!(
            "{}: put {absolute} into the bundle's config.json as linux.seccomp\n",
            start.kind().name()
        ),
    });
    format!(
        "to use it:\n{}Kubernetes, with the file below the kubelet's seccomp folder of each node:\n  securityContext:\n    seccompProfile:\n      type: Localhost\n      localhostProfile: {file}",
        own.unwrap_or_default()
    )
}

/// The recording, kept.
#[derive(Default)]
struct Recorded {
    observation: Option<Observation>,
}

impl Sink for Recorded {
    fn is_folder(&self) -> bool {
        false
    }

    fn so_far(&mut self, _: &Observation) -> anyhow::Result<bool> {
        Ok(false)
    }

    fn end(&mut self, ended: &Ended) -> anyhow::Result<Exit> {
        // Of one of which no profile can be made there is nothing to start again under.
        generate(
            std::slice::from_ref(&ended.observation),
            &seccast_model::Policy::default(),
        )?;
        self.observation = Some(ended.observation.clone());
        Ok(Exit::Done)
    }
}
