//! `seccast generate`: observations to a profile.

use crate::{
    args::generate::{EnteredArg, GenerateArgs, PolicyArgs, RuntimeArg},
    exit::Exit,
    input,
    output::{
        self,
        file::{Destination, report_beside},
    },
};
use anyhow::ensure;
use seccast_model::{
    Diagnostic, Generated, Merged, Policy, Runtime, Severity, audit_profile, defaults::resolve,
    generate::from_merged, observation::EnteredAs,
};
use std::path::PathBuf;

/// Does it.
pub fn run(args: &GenerateArgs) -> anyhow::Result<Exit> {
    let destination = Destination::check(&args.output)?;
    if args.audit {
        destination.write(&audit_profile().to_oci_json())?;
        return Ok(Exit::Done);
    }
    if let Some(path) = destination.path() {
        for place in [path, &report_beside(path)] {
            let real = place.canonicalize().ok();
            let is_place = |one: &PathBuf| real.is_some() && one.canonicalize().ok() == real;
            ensure!(
                !args.observations.iter().any(is_place),
                "{} is one of the observations, and would be lost: give the profile another name with -o",
                place.display()
            );
        }
    }
    let mut merged = input::recordings(&args.observations)?;
    if let Some(entered) = args.entered {
        merged.decide_entered(entered.into());
    }
    let complete = write_profile(&merged, &args.policy, &destination, args.quiet)?;
    Ok(if complete || args.allow_incomplete {
        Exit::Done
    } else {
        Exit::Findings
    })
}

/// Makes and writes the profile, and beside a file its report. True if nothing may be missing.
pub fn write_profile(
    merged: &Merged,
    policy: &PolicyArgs,
    destination: &Destination,
    quiet: bool,
) -> anyhow::Result<bool> {
    let Generated {
        profile,
        mut report,
        diagnostics,
    } = from_merged(merged, &policy.into())?;
    let recording = merged.recordings.values().next();
    if let (Some(recording), Some(engine)) = (recording, policy.compare.0) {
        let capabilities = engine.capabilities().iter().copied();
        let default = resolve(engine, recording.machine.arch, capabilities)?;
        report.compare(&default);
    }
    let profile = if policy.complain {
        profile.complaining()
    } else {
        profile
    };
    destination.write(&profile.to_oci_json())?;
    let mut written = String::new();
    if let Some(path) = destination.path() {
        let beside = report_beside(path);
        Destination::check(&beside)?.write(&report.to_json())?;
        written = format!("; wrote {} and {}", path.display(), beside.display());
    }
    say(&diagnostics, quiet);
    if !quiet {
        let summary = report.summary();
        output::note(&format!(
            "seccast: {} names allowed: {} recorded, {} for every program, {} for the runtime, {} for other kernels{written}",
            summary.allowed,
            summary.recorded,
            summary.core_added,
            summary.base_added,
            summary.closure_added
        ));
        if let Some(comparison) = &report.comparison {
            output::note(&format!(
                "seccast: {} of {} calls of {} allowed; {} allows {}",
                comparison.profile_allows,
                comparison.known,
                comparison.arch,
                comparison.with,
                comparison.default_allows
            ));
        }
    }
    Ok(report.is_complete())
}

/// Prints what was found: with `quiet`, only what matters.
pub fn say(diagnostics: &[Diagnostic], quiet: bool) {
    for diagnostic in diagnostics {
        if quiet && diagnostic.severity < Severity::Warning {
            continue;
        }
        output::diagnostic(diagnostic);
    }
}

impl From<EnteredArg> for EnteredAs {
    fn from(arg: EnteredArg) -> Self {
        match arg {
            EnteredArg::App => Self::App,
            EnteredArg::Runtime => Self::Runtime,
        }
    }
}

impl From<&PolicyArgs> for Policy {
    fn from(args: &PolicyArgs) -> Self {
        Self {
            runtime: match args.runtime {
                RuntimeArg::Runc => Runtime::Runc,
                RuntimeArg::Crun => Runtime::Crun,
                RuntimeArg::Any => Runtime::Any,
            },
            no_new_privs: args.no_new_privs,
            core: !args.no_core,
            base: !args.no_base,
            closure: !args.no_closure,
            include_exec: !args.no_exec,
            include_denied: args.include_denied,
        }
    }
}
