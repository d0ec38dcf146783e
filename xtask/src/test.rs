//! `cargo xtask test`: sets up, builds and runs every test.

use anyhow::Result;

use crate::process::{self, Run};
use crate::steps::{self, Step};
use crate::{cargo, dist, setup};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these steps, for example `--step kernel`.
    #[arg(long = "step", value_name = "NAME")]
    only: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    process::want_root("running the kernel tests")?;
    steps::run(steps()?, &args.only)
}

/// The steps of `test`, which `ci` has too.
pub(crate) fn steps() -> Result<Vec<Step>> {
    let rooted = ["seccast-rig", "seccast-kernel"];
    // And those of `cargo xtask e2e`, which need a cluster.
    let elsewhere = [rooted[0], rooted[1], crate::e2e::PACKAGE];
    let test = cargo::cargo().args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    Ok(vec![
        Step::work("setup", "cargo xtask setup", || setup::tools().map(drop)),
        // Alone first, so that a failure to compile is not read as a failed test.
        Step::command(
            "build",
            cargo::cargo().args(["build", "--workspace", "--all-targets", "--locked"]),
        ),
        Step::command(
            "test",
            test.args(elsewhere.map(|package| format!("--exclude={package}"))),
        ),
        // The kernel tests run what is shipped.
        Step::work("dist", "cargo xtask dist", dist::run),
        Step::command("kernel", kernel_tests(&rooted)?),
    ])
}

/// The tests that need root and the running kernel: one at a time, and none may skip.
fn kernel_tests(packages: &[&str]) -> Result<Run> {
    let binary = dist::path()?;
    let mut run = cargo::cargo()
        .env("SECCAST_REQUIRE_KERNEL", "1")
        .env("SECCAST_BIN", binary);
    if !process::is_root() {
        // cargo stays the user's; only the test programs run as root, with what they read from the environment.
        let runner = format!(
            "CARGO_TARGET_{}_UNKNOWN_LINUX_GNU_RUNNER",
            std::env::consts::ARCH.to_uppercase()
        );
        let kept = "SECCAST_REQUIRE_KERNEL,SECCAST_BIN,SECCAST_CACHE,XDG_CACHE_HOME,HOME,PATH";
        run = run.env(&runner, format!("sudo -n --preserve-env={kept}"));
    }
    let run = run.args(["test", "--locked", "--no-fail-fast"]).args(
        packages
            .iter()
            .map(|package| format!("--package={package}")),
    );
    Ok(run.args(["--", "--test-threads=1"]))
}
