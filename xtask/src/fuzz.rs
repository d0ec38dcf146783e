//! `cargo xtask fuzz`: hostile input for every parser, by libFuzzer.
//!
//! `cargo fuzz` does the same with a nightly compiler. The counters that libFuzzer reads need none: they are a pass of LLVM,
//! and only the sanitizers of rustc are unstable.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::process::Run;
use crate::{cargo, places};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long each target runs, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Where chance begins, so that a second run tries the same inputs; else each run tries others.
    #[arg(long)]
    seed: Option<u32>,
    /// How many run at once; as many as there are processors unless it is said.
    #[arg(long)]
    at_once: Option<usize>,
    /// Only these targets: the names of the files in `tests/fuzz/fuzz_targets`.
    targets: Vec<String>,
}

impl Args {
    /// Every target for as long as a change can wait. With a seed, since a change must not fail for what another one brought.
    /// `beside`: other steps run at the same time.
    pub(crate) fn brief(beside: bool) -> Self {
        Self {
            at_once: beside.then(|| (processors() / 2).max(1)),
            seconds: 10,
            seed: Some(1),
            targets: Vec::new(),
        }
    }
}

/// What libFuzzer needs of each edge and each comparison, as cargo-fuzz asks for it.
const COVERAGE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
];

pub(crate) fn run(args: &Args) -> Result<()> {
    let folder = places::root().join("tests/fuzz");
    let known = names(&folder.join("fuzz_targets"))?;
    if let Some(unknown) = args.targets.iter().find(|name| !known.contains(name)) {
        bail!(
            "no fuzz target is called `{unknown}`; the targets are {}",
            known.join(", ")
        );
    }
    let chosen: Vec<_> = known
        .into_iter()
        .filter(|name| args.targets.is_empty() || args.targets.contains(name))
        .collect();
    let built = build(&folder)?;
    // Each fuzzer is one thread.
    let at_once = args.at_once.unwrap_or_else(processors).max(1);
    let queue = Mutex::new(chosen.iter());
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once.min(chosen.len()))
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while let Some(name) = next() {
                        fuzz(&folder, &built, name, args)?;
                    }
                    Ok(())
                })
            })
            .collect();
        let mut done = Ok(());
        for worker in workers {
            let ended = worker.join();
            done = done.and(ended.unwrap_or_else(|_| bail!("a thread of the fuzzer panicked")));
        }
        done
    })
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Builds every target and returns the folder where they are.
fn build(folder: &Path) -> Result<PathBuf> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let target = cargo::target()?.join("fuzz");
    let flags: Vec<_> = COVERAGE.iter().map(|flag| format!("'{flag}'")).collect();
    // For an explicit target, so that build scripts and macros are built without counters.
    let flags = format!("target.{triple}.rustflags=[{}]", flags.join(","));
    let build = Run::new("cargo").args([
        "build",
        "--quiet",
        "--release",
        "--locked",
        "--target",
        &triple,
        "--config",
        &flags,
        "--target-dir",
    ]);
    build
        .arg(&target)
        .dir(folder)
        .limit(Duration::from_secs(900))
        .run()?;
    Ok(target.join(triple).join("release"))
}

fn fuzz(folder: &Path, built: &Path, name: &str, args: &Args) -> Result<()> {
    let seconds = args.seconds;
    // What is new goes below `target`; what is worth keeping is copied into `corpus` by hand.
    let found = cargo::target()?.join("fuzz/found").join(name);
    let found = match args.seed {
        // What earlier runs found would change what this one tries.
        Some(seed) => found.join(format!("seed-{seed}")),
        None => found.join("any"),
    };
    if args.seed.is_some() && found.exists() {
        fs::remove_dir_all(&found)
            .with_context(|| format!("failed to empty the folder {}", found.display()))?;
    }
    fs::create_dir_all(&found)
        .with_context(|| format!("failed to make the folder {}", found.display()))?;
    let run = Run::new(built.join(name))
        .arg(format!("-max_total_time={seconds}"))
        // 0 is libFuzzer's word for any.
        .arg(format!("-seed={}", args.seed.unwrap_or(0)))
        .args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"])
        .arg(format!("-dict={}", folder.join("words.dict").display()))
        .arg(format!("-artifact_prefix={}/", found.display()));
    let run = run
        .arg(&found)
        .arg(folder.join("corpus").join(name))
        .limit(Duration::from_secs(u64::from(seconds) + 60));
    let said = run.stderr().with_context(|| {
        format!(
            "target {name} found something; the input is in {}, and its name as the only argument repeats it",
            found.display()
        )
    })?;
    let figure = |what: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(what));
        line.unwrap_or("?").trim().to_owned()
    };
    let covered = said.lines().rev().find_map(|line| {
        let (_, rest) = line.split_once("cov: ")?;
        rest.split_whitespace().next()
    });
    println!(
        "{name:<12} {:>9} inputs, {} a second, {} edges, {} new inputs",
        figure("stat::number_of_executed_units:"),
        figure("stat::average_exec_per_sec:"),
        covered.unwrap_or("?"),
        figure("stat::new_units_added:"),
    );
    Ok(())
}

/// The names of the files in a folder, without what follows the dot.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))?;
    let mut names: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some(path.file_stem()?.to_string_lossy().into_owned())
        })
        .collect();
    names.sort();
    Ok(names)
}
