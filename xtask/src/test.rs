//! `cargo xtask test`: sets up, builds and runs every test.

use std::path::PathBuf;
use std::thread;

use anyhow::{Result, ensure};

use crate::process;
use crate::steps::{self, Lane, Step};
use crate::suite::{self, Program, Suite};
use crate::{cargo, dist, places, setup};

/// Packages whose tests need root and the running kernel.
const ROOTED: [&str; 2] = ["seccast-rig", "seccast-kernel"];

/// And those of `cargo xtask e2e`, which need a cluster.
pub(crate) const CLUSTER: &str = "seccast-e2e";

/// Why they need it.
pub(crate) const REASON: &str = "running the kernel tests";

/// The suites of `cargo xtask test`.
const SUITES: [&str; 3] = ["unit", "kernel", "alone"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these steps, for example `--step kernel`; `--list` names them.
    #[arg(long = "step", value_name = "NAME")]
    only: Vec<String>,
    /// Only tests that have one of these words in their name, of all that need no cluster.
    #[arg(value_name = "WORD", conflicts_with = "only")]
    words: Vec<String>,
    /// How often each of these tests runs.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "words")]
    times: usize,
    /// Name the steps, and which of them need root.
    #[arg(long, conflicts_with_all = ["only", "words"])]
    list: bool,
    /// Other steps run beside this one: what they have built is taken as it is.
    #[arg(long, hide = true, requires = "only")]
    beside: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if !args.words.is_empty() {
        return run_some(&args.words, args.times);
    }
    let steps = steps(args.beside);
    if args.list {
        steps::list(&steps);
        return Ok(());
    }
    if !args.only.is_empty() {
        return steps::run_some(steps, &args.only);
    }
    suite::forget(&SUITES)?;
    steps::run_all("test", &steps)?;
    sum_up(&SUITES)
}

/// Prints the slowest tests of these suites, and as the last line how many there were.
pub(crate) fn sum_up(suites: &[&str]) -> Result<()> {
    let (count, mut times) = suite::recorded(suites)?;
    times.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    println!("\nthe slowest tests:");
    for (name, took) in times.iter().take(20) {
        println!("{took:8.1} s  {name}");
    }
    println!("{count}");
    Ok(())
}

/// The steps of `test`, which `ci` has too.
pub(crate) fn steps(beside: bool) -> Vec<Step> {
    vec![
        Step::work("setup", "cargo xtask setup", || setup::tools().map(drop)),
        Step::work("build", "cargo test --no-run --workspace --locked", || {
            suite::save(&suite::build(&["--workspace".to_owned()])?)
        }),
        // What is shipped: the kernel tests run it.
        Step::work("dist", "cargo xtask dist", dist::run),
        Step::command(
            "doctest",
            cargo::cargo().args(["test", "--doc", "--workspace", "--locked"]),
        ),
        Step::work("unit", "cargo xtask test --step unit", move || {
            run_unit(&programs(beside)?)
        })
        .lane(Lane::Tests)
        .after(&["build"]),
        Step::work("kernel", "cargo xtask test --step kernel", move || {
            let programs = suite::of(&programs(beside)?, |package| ROOTED.contains(&package));
            let tests = suite::list(&programs, |test| !test.is_alone())?;
            kernel("kernel")?.run(tests).map(drop)
        })
        .lane(Lane::Tests)
        .when_built()
        .root(REASON),
        Step::work("alone", "cargo xtask test --step alone", move || {
            let programs = suite::of(&programs(beside)?, |package| ROOTED.contains(&package));
            let tests = suite::list(&programs, suite::Test::is_alone)?;
            Suite {
                beside: 1,
                ..kernel("alone")?
            }
            .run(tests)
            .map(drop)
        })
        .lane(Lane::Alone)
        .root(REASON),
    ]
}

/// The tests of all packages but a cluster's that have one of these words in their name.
pub(crate) fn run_some(words: &[String], times: usize) -> Result<()> {
    let programs = programs(false)?;
    let wanted = |test: &suite::Test| {
        let name = test.to_string();
        words.iter().any(|word| name.contains(word.as_str()))
    };
    let rooted = suite::of(&programs, |package| ROOTED.contains(&package));
    let plain = suite::of(&programs, |package| !is_elsewhere(package));
    let plain = suite::list(&plain, wanted)?;
    let (alone, kernel): (Vec<_>, Vec<_>) = suite::list(&rooted, wanted)?
        .into_iter()
        .partition(suite::Test::is_alone);
    ensure!(
        plain.len() + alone.len() + kernel.len() > 0,
        "no test has one of these words in its name: {}",
        words.join(", ")
    );
    if alone.len() + kernel.len() > 0 {
        process::want_root(REASON)?;
        dist::build()?;
    }
    let suites = [
        (plain, unit()),
        (kernel, self::kernel("kernel")?),
        (
            alone,
            Suite {
                beside: 1,
                ..self::kernel("alone")?
            },
        ),
    ];
    let names = suites.each_ref().map(|(_, suite)| suite.name);
    suite::forget(&names)?;
    for (tests, suite) in suites {
        if !tests.is_empty() {
            suite.run(repeated(tests, times))?;
        }
    }
    let (count, _) = suite::recorded(&names)?;
    println!("{count}");
    Ok(())
}

/// All of them, and then all of them again.
fn repeated(tests: Vec<suite::Test>, times: usize) -> Vec<suite::Test> {
    let all = tests.len() * times;
    tests.into_iter().cycle().take(all).collect()
}

/// Whether the tests of this package need more than a user has.
pub(crate) fn is_elsewhere(package: &str) -> bool {
    package == CLUSTER || ROOTED.contains(&package)
}

/// The tests of these programs that need neither root nor a cluster.
pub(crate) fn run_unit(programs: &[Program]) -> Result<()> {
    let programs = suite::of(programs, |package| !is_elsewhere(package));
    let tests = suite::list(&programs, |_| true)?;
    unit().run(tests).map(drop)
}

/// Every test program of the workspace: built now, or by the step beside this one.
pub(crate) fn programs(beside: bool) -> Result<Vec<Program>> {
    if beside {
        suite::saved()
    } else {
        suite::build(&["--workspace".to_owned()])
    }
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn unit() -> Suite {
    Suite {
        name: "unit",
        beside: processors(),
        rooted: false,
        env: Vec::new(),
    }
}

/// On the real kernel, with what is shipped; none may skip. A server, its clients and busy loops take two processors: two such tests
/// on two processors took longer beside each other than one after the other: haproxy's ten times as long.
pub(crate) fn kernel(name: &'static str) -> Result<Suite> {
    Ok(Suite {
        name,
        beside: (processors() / 2).max(1),
        rooted: true,
        env: vec![
            ("SECCAST_REQUIRE_KERNEL", PathBuf::from("1")),
            ("SECCAST_BIN", dist::path()?),
            ("SECCAST_CACHE", places::cache()?),
        ],
    })
}
