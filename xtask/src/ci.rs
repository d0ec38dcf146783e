//! `cargo xtask ci`: all that a change must pass, cheapest first. `.ci/run` calls it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::changed::{self, Broken};
use crate::process::Run;
use crate::steps::{self, Lane, Step};
use crate::{bpf, cargo, codegen, demo, e2e, format, fuzz, places, suite, test, vm};

/// The suites of `cargo xtask ci`.
const SUITES: [&str; 4] = ["unit", "kernel", "alone", "e2e"];

/// A second together: no change goes without them.
const ALWAYS: [&str; 2] = ["fmt", "tables"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these steps, for example `--step clippy`; `--list` names them.
    #[arg(long = "step", value_name = "NAME")]
    only: Vec<String>,
    /// Only what the files can break that differ from the upstream branch, else from the last commit.
    #[arg(long, conflicts_with_all = ["only", "list"])]
    changed: bool,
    /// The revision that `--changed` compares with.
    #[arg(long, value_name = "REVISION", requires = "changed")]
    since: Option<String>,
    /// Name the steps, and which of them need root.
    #[arg(long, conflicts_with = "only")]
    list: bool,
    /// Other steps run beside this one: what they have built is taken as it is.
    #[arg(long, hide = true, requires = "only")]
    beside: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let steps = steps(args.beside);
    if args.list {
        steps::list(&steps);
        return Ok(());
    }
    if !args.only.is_empty() {
        return steps::run_some(steps, &args.only);
    }
    if args.changed {
        return run_changed(steps, args.since.as_deref());
    }
    suite::forget(&SUITES)?;
    steps::run_all("ci", &steps)?;
    test::sum_up(&SUITES)
}

/// Runs what these files can break, and says what of the proofs it leaves out.
fn run_changed(all: Vec<Step>, since: Option<&str>) -> Result<()> {
    let broken = changed::broken(&changed::files(since)?, &changed::workspace()?);
    let proofs = all.iter().filter(|step| step.is_proof());
    let proofs: Vec<_> = proofs.map(Step::name).collect();
    let steps = changed_steps(all, broken);
    let left: Vec<_> = proofs
        .into_iter()
        .filter(|name| !steps.iter().any(|step| step.name() == *name))
        .collect();
    steps::run(steps)?;
    eprintln!(
        "not run, or not whole: {}; `cargo xtask ci` runs everything",
        left.join(", ")
    );
    Ok(())
}

/// The steps for what is broken, cheapest first.
fn changed_steps(all: Vec<Step>, broken: Broken) -> Vec<Step> {
    let (mut steps, others): (Vec<_>, Vec<_>) = all
        .into_iter()
        .filter(|step| ALWAYS.contains(&step.name()) || broken.steps.contains(step.name()))
        .partition(|step| ALWAYS.contains(&step.name()) || step.name() == "lock");
    let selection = |names: &BTreeSet<String>| -> Vec<String> {
        let options = names.iter().map(|name| format!("--package={name}"));
        options.collect()
    };
    if !broken.dependents.is_empty() {
        steps.push(clippy(&selection(&broken.dependents)));
    }
    let mut own = broken.packages;
    own.retain(|name| !test::is_elsewhere(name));
    if !own.is_empty() {
        let selection = selection(&own);
        let repeat = format!("cargo test {}", selection.join(" "));
        steps.push(Step::work("tests", &repeat, move || {
            test::run_unit(&suite::build(&selection)?)
        }));
    }
    steps.extend(others);
    let (e2e, kernel): (Vec<_>, Vec<_>) = broken
        .programs
        .into_iter()
        .partition(|program| program.starts_with(test::CLUSTER));
    if !kernel.is_empty() {
        let repeat = format!("cargo xtask test {}", kernel.join(" "));
        let work = move || test::run_some(&kernel, 1);
        steps.push(Step::work("kernel-tests", &repeat, work).root(test::REASON));
    }
    if !e2e.is_empty() {
        let repeat = format!("cargo xtask e2e {}", e2e.join(" "));
        let work = move || e2e::run(&e2e::Args::of(e2e));
        steps.push(Step::work("e2e-tests", &repeat, work).root(e2e::REASON));
    }
    steps
}

/// Cheapest first, but what tests wait for before what nobody waits for.
fn steps(beside: bool) -> Vec<Step> {
    let programs = places::root().join("ebpf/programs");
    let lock = cargo::cargo().args(["metadata", "--locked", "--format-version", "1"]);
    let lock_others =
        [&programs, &places::root().join("tests/fuzz")].map(|other| lock.clone().dir(other));
    let mut all = vec![
        Step::work("lock", &lock.to_string(), move || {
            lock.quiet()?;
            lock_others.iter().try_for_each(Run::quiet)
        }),
        Step::work("fmt", "cargo xtask fmt --check", || format::run(true)),
        Step::work("tables", "cargo xtask codegen --tables --check", || {
            codegen::tables(true)
        }),
    ];
    all.extend(test::steps(beside));
    all.extend([
        Step::work("codegen", "cargo xtask codegen --check", || {
            codegen::run(true)
        }),
        clippy(&["--workspace".to_owned()]),
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
        Step::work("demo", "cargo xtask demo", demo::run)
            .lane(Lane::Tests)
            .after(&["build", "dist"])
            .root("running containers and loading eBPF programs"),
        Step::work("kubernetes", "cargo xtask cluster build", || {
            crate::cluster::prepare().map(drop)
        })
        .lane(Lane::Machines)
        .after(&["setup"]),
        Step::work("e2e", "cargo xtask e2e", move || {
            e2e::run(&e2e::Args::of_gate(beside))
        })
        .lane(Lane::Machines)
        .when_built()
        .root(e2e::REASON),
        // Behind the cluster, since the kernel's tests take twice as long as that.
        Step::work("vm", "cargo xtask vm", || vm::run(&vm::Args::default()))
            .lane(Lane::Machines)
            .when_built(),
        Step::work(
            "fuzz",
            "cargo xtask fuzz --seconds 10 --seed 1",
            move || fuzz::run(&fuzz::Args::brief(beside)),
        )
        .lane(Lane::Machines)
        .when_built(),
    ]);
    all
}

fn clippy(selection: &[String]) -> Step {
    let clippy = cargo::cargo().args(["clippy", "--all-targets", "--locked"]);
    let clippy = clippy.args(selection).args(["--", "-D", "warnings"]);
    Step::command("clippy", clippy)
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
