//! `cargo xtask ci`: all that a change must pass, cheapest first. `.ci/run` calls it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::process::{self, Run};
use crate::steps::{self, Step};
use crate::{bpf, cargo, codegen, demo, e2e, fuzz, places, setup, test, vm};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these steps, for example `--step clippy`.
    #[arg(long = "step", value_name = "NAME")]
    only: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    process::want_root("running the kernel tests")?;
    let programs = places::root().join("ebpf/programs");
    let lock = cargo::cargo().args(["metadata", "--locked", "--format-version", "1"]);
    let lock_others =
        [&programs, &places::root().join("tests/fuzz")].map(|other| lock.clone().dir(other));
    let mut all = vec![
        Step::work("lock", &lock.to_string(), move || {
            lock.quiet()?;
            lock_others.iter().try_for_each(Run::quiet)
        }),
        Step::command("fmt", cargo::cargo().args(["fmt", "--all", "--check"])),
        Step::command(
            "fmt-ebpf",
            cargo::cargo().args([
                "fmt",
                "--manifest-path",
                "ebpf/programs/Cargo.toml",
                "--check",
            ]),
        ),
        Step::command(
            "fmt-fuzz",
            cargo::cargo().args(["fmt", "--manifest-path", "tests/fuzz/Cargo.toml", "--check"]),
        ),
        Step::work("codegen", "cargo xtask codegen --check", || {
            codegen::run(true)
        }),
        Step::work("tools", "cargo xtask setup", || setup::tools().map(drop)),
        Step::command(
            "clippy",
            cargo::cargo().args([
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--",
                "-D",
                "warnings",
            ]),
        ),
        Step::work(
            "clippy-ebpf",
            "cargo xtask ci --step clippy-ebpf",
            move || lint_programs(&programs),
        ),
        Step::command(
            "doc",
            cargo::cargo().env("RUSTDOCFLAGS", "-D warnings").args([
                "doc",
                "--workspace",
                "--no-deps",
                "--locked",
            ]),
        ),
    ];
    all.push(Step::work("fuzz", "cargo xtask fuzz --seconds 10", || {
        fuzz::run(&fuzz::Args::brief())
    }));
    all.extend(test::steps()?);
    all.push(Step::work("demo", "cargo xtask demo", || {
        demo::run(&demo::Args::default())
    }));
    all.push(Step::work("vm", "cargo xtask vm", || {
        vm::run(&vm::Args::default())
    }));
    all.push(Step::work("e2e", "cargo xtask e2e", || {
        e2e::run(&e2e::Args::default())
    }));
    steps::run(all, &args.only)
}

/// Clippy for the eBPF program, with the compiler that builds it: Debian's comes with its own `clippy-driver`.
fn lint_programs(programs: &Path) -> Result<()> {
    let driver = Path::new("/usr/bin/clippy-driver");
    match bpf::Compiler::find() {
        Some(bpf::Compiler::Prebuilt(rustc))
            if rustc == Path::new(bpf::DEBIAN_RUSTC) && driver.exists() =>
        {
            // What `cargo clippy` does, with a compiler that is not cargo's own; one that is not nightly needs the bootstrap variable.
            let check = Run::new("cargo")
                .env("RUSTC", rustc)
                .env("RUSTC_WORKSPACE_WRAPPER", driver)
                .env("RUSTC_BOOTSTRAP", "1");
            let check = check.env(
                "CLIPPY_ARGS",
                "-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__",
            );
            let check = check
                .args(["check", "--locked", "--target", bpf::TARGET, "--target-dir"])
                .arg(cargo::target()?.join("clippy-ebpf"));
            check.dir(programs).limit(Duration::from_secs(900)).run()
        }
        Some(bpf::Compiler::Prebuilt(rustc)) => {
            eprintln!(
                "skipped: {} comes with no clippy that is known here",
                rustc.display()
            );
            Ok(())
        }
        Some(bpf::Compiler::Nightly) => {
            let check = Run::new("cargo").args([
                "+nightly",
                "clippy",
                "--locked",
                "-Zbuild-std=core",
                "--target",
                bpf::TARGET,
                "--target-dir",
            ]);
            let check = check
                .arg(cargo::target()?.join("clippy-ebpf"))
                .args(["--", "-D", "warnings"]);
            check.dir(programs).limit(Duration::from_secs(900)).run()
        }
        None => bail!("no compiler for {}; run `cargo xtask setup`", bpf::TARGET),
    }
}
