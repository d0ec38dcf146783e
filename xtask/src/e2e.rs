//! `cargo xtask e2e`: the tests that need a cluster, in one of two nodes that is made for them.
//!
//! Each test is a process of its own with a time limit, so that one that hangs is a row of the table like another.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use seccast_rig::cluster::Cluster;

use crate::cluster::{self, Prepared, Up};
use crate::process::{self, Run, check_interrupted};
use crate::{cargo, dist, image, places};

/// What holds the tests.
pub(crate) const PACKAGE: &str = "seccast-e2e";

/// What the tests want.
const NODES: u8 = 2;

/// How long one test may take, waiting for those of others included.
const LIMIT: Duration = Duration::from_secs(300);

/// How long another cluster of this machine is waited for.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Only tests that have one of these words in their name.
    words: Vec<String>,
    /// Leave the cluster up; one of this checkout, of two nodes, that is up already is used.
    #[arg(long)]
    keep: bool,
    /// What root is started with: the binary, the test programs.
    #[arg(long, hide = true)]
    binary: Option<PathBuf>,
    #[arg(long = "tests", hide = true)]
    tests: Vec<PathBuf>,
    #[command(flatten)]
    prepared: Prepared,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(binary) = &args.binary {
        return run_in_cluster(args, binary, &args.tests, &args.prepared);
    }
    process::want_root("running a cluster")?;
    let binary = dist::build()?;
    image::build(&binary)?;
    let tests = build_tests()?;
    let prepared = cluster::prepare()?;
    if process::is_root() {
        return run_in_cluster(args, &binary, &tests, &prepared);
    }
    let mut again = Run::own(["e2e"])?.args(&args.words);
    again = again.arg("--binary").arg(binary);
    for program in tests {
        again = again.arg("--tests").arg(program);
    }
    if args.keep {
        again = again.arg("--keep");
    }
    prepared
        .words(again)
        .limit(Duration::from_secs(3600))
        .rooted()
        .run()
}

/// Builds the test programs and returns where they are.
fn build_tests() -> Result<Vec<PathBuf>> {
    let build = cargo::cargo().args(["test", "--locked", "--no-run", "--message-format=json"]);
    let told = build.args(["--package", PACKAGE, "--tests"]).stdout()?;
    let program = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message.get("executable")?.as_str()?))
    };
    Ok(told.lines().filter_map(program).collect())
}

fn run_in_cluster(
    args: &Args,
    binary: &Path,
    tests: &[PathBuf],
    prepared: &Prepared,
) -> Result<()> {
    let all = list(tests, &args.words)?;
    match Cluster::running() {
        // Nobody but us would take it down: waiting for that were in vain.
        Ok(cluster) if cluster.checkout == places::root() => {
            ensure!(
                args.keep && cluster.nodes.len() == usize::from(NODES),
                "a cluster of this checkout is up, nodes: {}; --keep uses one of {NODES}, \
                 `cargo xtask cluster down` makes way for another",
                cluster.nodes.len()
            );
            cluster::load_images(&prepared.images)?;
        }
        _ => cluster::start(&Up {
            nodes: NODES,
            wait: PATIENCE.as_secs(),
            prepared: prepared.clone(),
        })?,
    }
    let cluster = Ends(!args.keep);
    let done = run_all(&all, binary);
    cluster.end()?;
    done
}

/// One test of one program.
struct Test {
    program: PathBuf,
    name: String,
}

fn list(programs: &[PathBuf], words: &[String]) -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    for program in programs {
        let told = Run::new(program)
            .args(["--list", "--format=terse"])
            .stdout()?;
        let names = told.lines().filter_map(|line| line.strip_suffix(": test"));
        let chosen =
            |name: &&str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
        tests.extend(names.filter(chosen).map(|name| Test {
            program: program.clone(),
            name: name.to_owned(),
        }));
    }
    ensure!(
        !tests.is_empty(),
        "no test has one of these words in its name: {}",
        words.join(", ")
    );
    Ok(tests)
}

fn run_all(tests: &[Test], binary: &Path) -> Result<()> {
    let start = Instant::now();
    let mut failed = Vec::new();
    for Test { program, name } in tests {
        let began = Instant::now();
        let done = Run::new(program)
            .args(["--exact", name])
            .env("SECCAST_BIN", binary)
            .env("SECCAST_CACHE", places::cache()?)
            .limit(LIMIT)
            .stdout();
        check_interrupted()?;
        let word = if done.is_ok() { "ok" } else { "FAILED" };
        println!("{:8.1} s  {word:<6}  {name}", began.elapsed().as_secs_f64());
        if let Err(error) = done {
            eprintln!("{error:#}");
            failed.push(name.as_str());
        }
    }
    println!(
        "{:8.1} s  in all, {} of {} ok",
        start.elapsed().as_secs_f64(),
        tests.len() - failed.len(),
        tests.len()
    );
    if !failed.is_empty() {
        bail!(
            "{} of {} tests failed: {}; repeat them with: cargo xtask e2e --keep {}",
            failed.len(),
            tests.len(),
            failed.join(", "),
            failed.join(" ")
        );
    }
    Ok(())
}

/// Takes the cluster down, however the tests end.
struct Ends(bool);

impl Ends {
    fn end(mut self) -> Result<()> {
        if std::mem::take(&mut self.0) {
            cluster::down(false)?;
        }
        Ok(())
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        if self.0 {
            // A panic or an error is on its way already, and says more.
            let _ = cluster::down(false);
        }
    }
}
