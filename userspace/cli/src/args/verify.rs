//! `seccast verify`.

use super::target::TargetArgs;
use clap::{ArgGroup, Args, ValueEnum};
use std::path::PathBuf;

/// Run something under a profile, and list what the profile denies.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("target").required(true).multiple(false),
    long_about = "\
Run a command or a container under a profile, list what the profile denies it, and judge.

A call that the filter denies is seen in the kernel, as an exit without an enter: no audit daemon, no kernel log. Counts are
exact; arguments and processes are samples. Calls that happened although the profile would deny them (a complain profile, another
filter, none) are found by holding every call against the profile.

Needs root, or CAP_BPF and CAP_PERFMON with write access to a cgroup.",
    after_long_help = "\
Examples:
  seccast verify --profile web.json -- docker run --rm -p 80:80 nginx
      start the container under web.json in place of docker's profile, and watch it to its end
  seccast verify --profile sort.json -- sort /etc/passwd
      run a command under the profile, in a sandbox of seccast's own
  seccast verify --profile web.json --container web --for 10m
      watch a container that runs under web.json, its complain form or another filter
  seccast verify --profile tests.json --minimal -- podman run --rm my-image make test
      which of the calls the tests really need
  seccast verify --profile web.json --patched new.json --format json -o verdict.json -- ./start-and-test.sh
      for CI: the verdict for machines, and the profile with the least that is missing

Exit codes: 0 nothing was denied; 1 something was, calls were missed, or --minimal found calls that are not needed; 2 usage; 3 could not; with CMD its own if it is not 0
and nothing was denied, and 125, 126, 127 when it could not be started, executed, found."
)]
pub struct VerifyArgs {
    /// The profile: plain OCI JSON, or docker's or podman's dialect
    #[arg(short, long, value_name = "PROFILE")]
    pub profile: PathBuf,
    /// What is watched, and how long
    #[command(flatten)]
    pub target: TargetArgs,
    /// Form of the verdict
    #[arg(long, value_enum, default_value_t = VerdictFormat::Text)]
    pub format: VerdictFormat,
    /// Where the verdict goes; `-` is stdout. Without it stdout, and stderr for text where stdout is CMD's
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write the profile with the least that is missing here, if something is
    #[arg(long, value_name = "FILE")]
    pub patched: Option<PathBuf>,
    /// With CMD: run it again without each call that it makes, and list which it really needs
    #[arg(long, requires = "command", conflicts_with_all = ["container", "pod", "cgroup", "pid"])]
    pub minimal: bool,
    /// Print no denials as they come
    #[arg(short, long)]
    pub quiet: bool,
}

/// How the verdict is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VerdictFormat {
    /// For people
    Text,
    /// seccast/verdict.v1
    Json,
    /// For CI systems
    Junit,
}
