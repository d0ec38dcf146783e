//! `seccast verify`: a run under a profile, and the verdict.

mod minimal;

use super::recording::{self, Ended, Mode, Plan, Sink, before_start};
use crate::{
    args::{
        record::BackendArg,
        verify::{VerdictFormat, VerifyArgs},
    },
    exit::Exit,
    input,
    output::{self, file::Destination, verdict as shown},
};
use anyhow::bail;
use minimal::Minimal;
use seccast_model::{
    Arch, Observation, Profile,
    denial::Denial,
    verdict::{Outcome, Verdict},
};
use seccast_recorder::engine::command::Start;
use serde_json::Value;
use std::{collections::BTreeSet, path::PathBuf};

/// Does it.
pub fn run(args: &VerifyArgs) -> anyhow::Result<Exit> {
    before_start(!args.target.command.is_empty(), verify(args))
}

fn verify(args: &VerifyArgs) -> anyhow::Result<Exit> {
    let profile = input::profile_to_judge(&args.profile, args.quiet)?;
    let name = args.profile.display().to_string();
    let with_command = !args.target.command.is_empty();
    let start = Start::parse(&args.target.command);
    let pods = args.target.pods();
    let many = start.as_ref().is_some_and(Start::starts_many)
        || pods.is_some_and(|pods| pods.may_be_many());
    if many && args.minimal {
        bail!("--minimal tries one container again and again; the command may start more than one");
    }
    let to_stderr = with_command && args.format == VerdictFormat::Text && args.output.is_none();
    let stdout = PathBuf::from("-");
    let destination = Destination::check(args.output.as_ref().unwrap_or(&stdout))?;
    let patched = args.patched.as_deref().map(Destination::check);
    let patched = patched.transpose()?;

    let mut trial = Trial::new(&profile, name.clone(), many, args.quiet);
    let plan = |profile: &Profile, remove| Plan {
        target: args.target.clone(),
        all: None,
        mode: if with_command {
            Mode::Under {
                profile: Box::new(profile.clone()),
                name: name.clone(),
            }
        } else {
            Mode::AsIs
        },
        backend: Some(BackendArg::Ebpf),
        entered: None,
        quiet: args.quiet,
        denials: true,
        remove,
        judged: Some(profile.clone()),
    };
    let exit = recording::record(plan(&profile, args.minimal), start.clone(), &mut trial)?;
    let Some(first) = trial.tried.first() else {
        return Ok(exit);
    };
    let minimal = if args.minimal && trial.outcome() == Outcome::Pass && exit == Exit::Done {
        let start = || start.clone();
        let again = |without: &Profile| {
            let mut trial = Trial::new(without, name.clone(), false, true);
            recording::record(plan(without, true), start(), &mut trial)?;
            Ok(!trial.failed)
        };
        Some(minimal::minimal(&profile, &first.0, again)?)
    } else {
        if args.minimal {
            output::warning(
                "the profile is not proven as it is, so no call was taken away",
                None,
            );
        }
        None
    };
    let text = match args.format {
        VerdictFormat::Text => {
            trial.text() + &minimal.as_ref().map(Minimal::text).unwrap_or_default()
        }
        VerdictFormat::Json => trial.json(minimal.as_ref().map(Minimal::json)),
        VerdictFormat::Junit => shown::junit(&trial.name, &trial.tried),
    };
    if to_stderr {
        output::note(text.trim_end());
    } else {
        destination.write(&text)?;
    }
    if let (Some(patched), Some(profile)) = (patched, trial.patched()) {
        patched.write(&profile.to_oci_json())?;
        if let Some(path) = patched.path() {
            output::note(&format!("seccast: wrote {}", path.display()));
        }
    }
    Ok(match minimal {
        Some(minimal) if minimal.has_useless() => Exit::Findings,
        _ => exit,
    })
}

/// A profile on trial.
pub struct Trial<'a> {
    profile: &'a Profile,
    name: String,
    /// There may be more than one container.
    many: bool,
    quiet: bool,
    /// CMD failed, or nothing started.
    failed: bool,
    /// What was tried, with the verdict.
    tried: Vec<(Observation, Verdict)>,
    /// What was told: calls and their results.
    told: BTreeSet<(Arch, i64, i64)>,
}

impl<'a> Trial<'a> {
    /// Of this profile.
    pub fn new(profile: &'a Profile, name: String, many: bool, quiet: bool) -> Self {
        Self {
            profile,
            name,
            many,
            quiet,
            failed: false,
            tried: Vec::new(),
            told: BTreeSet::new(),
        }
    }

    /// What all that ran says.
    pub fn outcome(&self) -> Outcome {
        Outcome::of_all(self.tried.iter().map(|(_, verdict)| verdict.outcome()))
    }

    /// For people.
    pub fn text(&self) -> String {
        self.tried
            .iter()
            .map(|(observation, verdict)| {
                shown::text(&self.name, self.profile, observation, verdict)
            })
            .collect()
    }

    /// For machines.
    fn json(&self, minimal: Option<Value>) -> String {
        shown::json(&self.name, self.outcome(), &self.tried, minimal)
    }

    /// The profile with what all of the tried lack.
    pub fn patched(&self) -> Option<Profile> {
        let findings = self.tried.iter().flat_map(|(_, verdict)| &verdict.findings);
        let native = self.tried.first()?.0.machine.arch;
        seccast_model::verdict::patched(self.profile, native, findings)
    }
}

impl Sink for Trial<'_> {
    fn is_folder(&self) -> bool {
        self.many
    }

    fn so_far(&mut self, _: &Observation) -> anyhow::Result<bool> {
        Ok(false)
    }

    fn denied(&mut self, denials: &[Denial]) -> Vec<String> {
        if self.quiet {
            return Vec::new();
        }
        denials
            .iter()
            .filter(|denial| self.told.insert((denial.arch, denial.nr, denial.result)))
            .map(|denial| format!("seccast: denied: {}", shown::denial(denial)))
            .collect()
    }

    fn end(&mut self, ended: &Ended) -> anyhow::Result<Exit> {
        let mut verdict = Verdict::new(
            self.profile,
            &ended.observation,
            &ended.denials,
            ended.started,
        );
        verdict.under_way = ended.unjudged;
        let exit = if verdict.passed() {
            Exit::Done
        } else {
            Exit::Findings
        };
        self.failed |= ended.failed || !ended.started;
        self.tried.push((ended.observation.clone(), verdict));
        Ok(exit)
    }
}
