//! `seccast generate`.

use clap::{
    Args, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use seccast_model::defaults::Engine;
use std::path::PathBuf;

/// Make a profile from observations.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  seccast generate web.observation.json -o web.json
      the profile, and web.report.json: every allowed name with its reason
  seccast generate run1.json run2.json --runtime runc --no-new-privs -o web.json
      the union of two recordings, for runc with allowPrivilegeEscalation: false
  seccast generate web.observation.json --compare containerd -o web.json
      beside what containerd allows by default, which is RuntimeDefault in Kubernetes with it
  seccast generate --audit -o audit.json
      the profile for recording: it denies nothing and still loads a filter

Exit codes: 0 done; 1 the observations are incomplete; 2 usage; 3 could not.")]
pub struct GenerateArgs {
    /// Observation files, merged or not; `-` is stdin
    #[arg(required_unless_present = "audit", value_name = "OBS")]
    pub observations: Vec<PathBuf>,
    /// Where the profile goes; `-` is stdout. The report goes beside a file
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// Emit the audit profile: everything allowed, every architecture, one that makes the runtime load a filter
    #[arg(long, conflicts_with = "observations")]
    pub audit: bool,
    /// Exit 0 although the observations are incomplete
    #[arg(long)]
    pub allow_incomplete: bool,
    /// What processes count as that entered a target and executed nothing, where the recording did not say
    #[arg(long, value_enum, value_name = "PHASE")]
    pub entered: Option<EnteredArg>,
    /// Print warnings and errors only
    #[arg(short, long)]
    pub quiet: bool,
    /// How the profile is made
    #[command(flatten)]
    pub policy: PolicyArgs,
}

/// How the profile is made.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Profile")]
pub struct PolicyArgs {
    /// The runtime that will start the container; what it calls under the filter is allowed
    #[arg(long, value_enum, default_value_t = RuntimeArg::Any)]
    pub runtime: RuntimeArg,
    /// The container runs with no_new_privs (`allowPrivilegeEscalation: false`): a smaller base is enough
    #[arg(long)]
    pub no_new_privs: bool,
    /// Leave out what processes called that entered later: probes, exec
    #[arg(long)]
    pub no_exec: bool,
    /// Leave out what the same program would call on another kernel or machine
    #[arg(long)]
    pub no_closure: bool,
    /// Leave out the runtime's base; such a profile may not start
    #[arg(long)]
    pub no_base: bool,
    /// Leave out the calls that no program can live without; such a profile may not start
    #[arg(long)]
    pub no_core: bool,
    /// Allow what a filter denied while recording
    #[arg(long)]
    pub include_denied: bool,
    /// The engine whose default profile the last line and the report compare with
    #[arg(long, value_parser = compare(), value_name = "ENGINE", default_value = "docker")]
    pub compare: Compare,
    /// Emit a complain profile: what it does not name is allowed and logged instead of denied, for a trial with `verify`
    #[arg(long)]
    pub complain: bool,
}

/// An engine with a default profile, for the capabilities that it gives by default; or nothing.
#[derive(Clone, Copy, Debug)]
pub struct Compare(pub Option<Engine>);

fn compare() -> impl TypedValueParser<Value = Compare> {
    let engines = Engine::ALL.map(Engine::name).into_iter();
    PossibleValuesParser::new(engines.chain(["none"])).map(|name| Compare(Engine::from_name(&name)))
}

/// The program that makes the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RuntimeArg {
    /// docker's, containerd's and Kubernetes' default
    Runc,
    /// podman's and CRI-O's
    Crun,
    /// Either
    Any,
}

/// What entered without executing anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EnteredArg {
    /// The application: its calls are in the profile
    App,
    /// The runtime: they are not
    Runtime,
}
