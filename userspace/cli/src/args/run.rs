//! `seccast run`.

use super::{
    generate::PolicyArgs,
    target::{TargetArgs, Until, duration},
};
use clap::Args;
use seccast_recorder::command::User;
use std::{path::PathBuf, time::Duration};

/// Record, make the profile, start again under it, and judge.
#[derive(Debug, Args)]
#[command(
    long_about = "\
The whole loop: CMD is recorded, a profile is made of the recording, CMD is started again under the profile, and what the profile
denies is listed. Where CMD starts a container (docker, podman, ctr, runc, crun) the container is recorded and put under the
profile, not CMD. CMD runs twice: put the same load on it both times.

Needs root, or CAP_BPF and CAP_PERFMON with write access to a cgroup.",
    after_long_help = "\
Examples:
  seccast run --for 60s -- docker run --rm -p 80:80 nginx
      from nothing to a proven profile: nginx.seccomp.json
  seccast run -o tests.json -- podman run --rm my-image make test
      both runs end by themselves
  seccast run -- sort /etc/passwd
      a plain command

Exit codes: 0 the profile is proven; 1 it denied something, or the recording is incomplete; 2 usage; 3 could not; CMD's own if it
is not 0, and 125, 126, 127 when it could not be started, executed, found."
)]
pub struct RunArgs {
    /// What is run, twice
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
    /// Run CMD as this user
    #[arg(long, value_name = "UID[:GID]")]
    pub user: Option<User>,
    /// When to stop each run: `exit` (the target's end), a duration, `quiet=D` (nothing new for so long); may be repeated
    #[arg(long, value_name = "exit|D|quiet=D")]
    pub until: Vec<Until>,
    /// Stop each run after this long; the same as --until D
    #[arg(long = "for", value_name = "D", value_parser = duration)]
    pub for_: Option<Duration>,
    /// Write the profile here. Without it it goes to NAME.seccomp.json; the observation and the report go beside it
    #[arg(short, long, value_name = "PROFILE")]
    pub output: Option<PathBuf>,
    /// No progress; the verdict, warnings and errors only
    #[arg(short, long)]
    pub quiet: bool,
    /// How the profile is made
    #[command(flatten)]
    pub policy: PolicyArgs,
}

impl RunArgs {
    /// What is watched in each of the runs.
    pub fn target(&self) -> TargetArgs {
        TargetArgs {
            command: self.command.clone(),
            user: self.user,
            until: self.until.clone(),
            for_: self.for_,
            ..TargetArgs::default()
        }
    }
}
