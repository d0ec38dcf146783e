//! A list of steps: each prints its name, how long it took, and how to repeat it when it fails.
//!
//! All of them run in lanes beside each other, each as a process of its own; those that are named run one after the other in
//! this one.

use std::fs;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::{self, Run};

type Work = Box<dyn FnOnce() -> Result<()> + Send + Sync>;

/// Steps of one lane run one after the other, in the order of the list; lanes run beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// All that compiles the workspace: cargo would have them wait for each other.
    Build,
    /// Tests on this machine.
    Tests,
    /// Kubernetes, the machine that is emulated, the fuzzers: what shares no engine with the tests.
    Machines,
    /// Nothing runs beside these: they come after all others.
    Alone,
}

const LANES: [Lane; 3] = [Lane::Build, Lane::Tests, Lane::Machines];

/// Below this, in MiB, lanes run one after the other: a cluster takes 1,500, a linker or a Go compiler 2,000.
const MEMORY: u64 = 8 * 1024;

/// One step of `test` or `ci`.
pub(crate) struct Step {
    name: &'static str,
    repeat: String,
    lane: Lane,
    after: &'static [&'static str],
    when_built: bool,
    root: Option<&'static str>,
    work: Work,
}

impl Step {
    /// A step that is one command; the command itself is how to repeat it.
    pub(crate) fn command(name: &'static str, run: Run) -> Self {
        Self::work(name, &run.to_string(), move || run.run())
    }

    /// A step that this xtask does; `repeat` is the line to type.
    pub(crate) fn work(
        name: &'static str,
        repeat: &str,
        work: impl FnOnce() -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            repeat: repeat.to_owned(),
            lane: Lane::Build,
            after: &[],
            when_built: false,
            root: None,
            work: Box::new(work),
        }
    }

    /// The lane that it runs in, the first unless told otherwise.
    pub(crate) fn lane(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self
    }

    /// Steps of other lanes that must be done before.
    pub(crate) fn after(mut self, names: &'static [&'static str]) -> Self {
        self.after = names;
        self
    }

    /// After the whole lane that builds. Beside compilers, tests that wait for programs of their own wait too long: with both at
    /// once, two processors had a load of 80.
    pub(crate) fn when_built(mut self) -> Self {
        self.when_built = true;
        self
    }

    /// It needs root; the reason is what sudo's question says.
    pub(crate) fn root(mut self, reason: &'static str) -> Self {
        self.root = Some(reason);
        self
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it runs something, and not only builds or reads it.
    pub(crate) fn is_proof(&self) -> bool {
        self.lane != Lane::Build
    }

    fn describe(&self) -> String {
        let root = if self.root.is_some() { "root" } else { "" };
        format!("{:<14} {root:<5} {}", self.name, self.repeat)
    }
}

/// A line for each step: its name, whether it needs root, and what it does.
pub(crate) fn list(steps: &[Step]) {
    for step in steps {
        println!("{}", step.describe());
    }
}

/// [`run`] with those that are named.
pub(crate) fn run_some(steps: Vec<Step>, only: &[String]) -> Result<()> {
    if let Some(unknown) = only
        .iter()
        .find(|name| !steps.iter().any(|step| step.name == name.as_str()))
    {
        let names: Vec<_> = steps.iter().map(|step| step.name).collect();
        bail!(
            "no step is called `{unknown}`; the steps are {}",
            names.join(", ")
        );
    }
    let chosen: Vec<_> = steps
        .into_iter()
        .filter(|step| only.iter().any(|name| name == step.name))
        .collect();
    run(chosen)
}

/// Runs the steps in their order, in this process, and stops at the first that fails.
pub(crate) fn run(steps: Vec<Step>) -> Result<()> {
    want_root(&steps)?;
    let (all, start) = (steps.len(), Instant::now());
    let mut rows = Vec::new();
    for (done, step) in steps.into_iter().enumerate() {
        let (name, repeat) = (step.name, step.repeat);
        eprintln!("[{}/{all}] {name}: {repeat}", done + 1);
        let began = Instant::now();
        (step.work)().with_context(|| failed(name, &repeat, began.elapsed()))?;
        eprintln!(
            "[{}/{all}] {name}: ok after {:.1} s",
            done + 1,
            began.elapsed().as_secs_f64()
        );
        rows.push((name, began.elapsed()));
    }
    if all > 1 {
        print_times(&rows, start.elapsed());
    }
    Ok(())
}

/// Runs them all, each as a process of its own with the verb's `--step`; when one fails, the others are ended.
/// Returns how long each took, in the order in which they ended.
pub(crate) fn run_all(verb: &str, steps: &[Step]) -> Result<Vec<(&'static str, Duration)>> {
    for step in steps {
        let known = |name: &&&str| !steps.iter().any(|other| other.name == **name);
        if let Some(unknown) = step.after.iter().find(known) {
            bail!("{} comes after `{unknown}`, which is no step", step.name);
        }
    }
    want_root(steps)?;
    let together = memory().is_none_or(|free| free >= MEMORY);
    if !together {
        eprintln!("less than {MEMORY} MiB are free: one step at a time");
    }
    let start = Instant::now();
    let state = State::default();
    let run_lane = |of: &dyn Fn(&Step) -> bool| {
        for step in steps.iter().filter(|step| of(step)) {
            let mut after = step.after.to_vec();
            if step.when_built {
                let build = steps.iter().filter(|step| step.lane == Lane::Build);
                after.extend(build.map(Step::name));
            }
            if !state.wait_for(&after) {
                return;
            }
            state.run(verb, step, steps.len());
        }
    };
    if together {
        thread::scope(|scope| {
            for lane in LANES {
                scope.spawn(move || run_lane(&|step| step.lane == lane));
            }
        });
    } else {
        // Each comes after what it waits for in the list already.
        run_lane(&|step| step.lane != Lane::Alone);
    }
    run_lane(&|step| step.lane == Lane::Alone);
    let ended = state.ended.into_inner();
    let Ended { rows, failed } = ended.unwrap_or_else(PoisonError::into_inner);
    eprintln!();
    print_times(&rows, start.elapsed());
    if let Some(failed) = failed {
        bail!("{failed}");
    }
    ensure!(
        rows.len() == steps.len(),
        "only {} of {} steps ran",
        rows.len(),
        steps.len()
    );
    Ok(rows)
}

/// What has ended so far, and who waits for that.
#[derive(Default)]
struct State {
    ended: Mutex<Ended>,
    news: Condvar,
}

#[derive(Default)]
struct Ended {
    rows: Vec<(&'static str, Duration)>,
    /// Why the first one failed that did.
    failed: Option<String>,
}

impl State {
    /// Waits until these have ended; false when one, whichever, has failed.
    fn wait_for(&self, names: &[&str]) -> bool {
        let waits = |ended: &mut Ended| {
            let has_ended = |name: &&str| ended.rows.iter().any(|(row, _)| row == name);
            ended.failed.is_none() && !names.iter().all(has_ended)
        };
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = self.news.wait_while(ended, waits);
        ended
            .unwrap_or_else(PoisonError::into_inner)
            .failed
            .is_none()
    }

    fn run(&self, verb: &str, step: &Step, all: usize) {
        let start = Instant::now();
        eprintln!("{:<12} starts: {}", step.name, step.repeat);
        let done = child(verb, step.name).and_then(|run| run.prefixed(step.name));
        let took = start.elapsed();
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        match done {
            Ok(()) => {
                ended.rows.push((step.name, took));
                let (done, took) = (ended.rows.len(), took.as_secs_f64());
                eprintln!("{:<12} [{done}/{all}] ok after {took:.1} s", step.name);
            }
            Err(error) => {
                let failed = failed(step.name, &step.repeat, took);
                eprintln!("{:<12} {failed}: {error:#}", step.name);
                // What fails after it was ended by us.
                ended.failed.get_or_insert(failed);
                process::interrupt();
            }
        }
        self.news.notify_all();
    }
}

/// This program with one step. It may have a cluster or containers to clean up when it is ended.
fn child(verb: &str, name: &str) -> Result<Run> {
    Ok(Run::own([verb, "--step", name, "--beside"])?
        .limit(Duration::from_secs(5400))
        .patience(Duration::from_secs(60)))
}

fn want_root(steps: &[Step]) -> Result<()> {
    match steps.iter().find_map(|step| step.root) {
        Some(reason) => process::want_root(reason),
        None => Ok(()),
    }
}

fn failed(name: &str, repeat: &str, took: Duration) -> String {
    let took = took.as_secs_f64();
    format!("step `{name}` failed after {took:.1} s; repeat it with: {repeat}")
}

fn print_times(rows: &[(&str, Duration)], took: Duration) {
    for (name, took) in rows {
        eprintln!("{:8.1} s  {name}", took.as_secs_f64());
    }
    eprintln!("{:8.1} s  in all", took.as_secs_f64());
}

/// What is free, in MiB; `None` where nobody says.
fn memory() -> Option<u64> {
    let text = fs::read_to_string(PathBuf::from("/proc/meminfo")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_stops_and_says_how_to_repeat_it() {
        let steps = vec![
            Step::work("first", "cargo xtask first", || Ok(())),
            Step::work("second", "cargo xtask second", || bail!("the reason")),
            Step::work("third", "cargo xtask third", || panic!("must not run")),
        ];
        let names = ["first", "second", "third"].map(str::to_owned);
        let error = format!("{:#}", run_some(steps, &names).unwrap_err());
        assert!(error.starts_with("step `second` failed after"), "{error}");
        assert!(
            error.ends_with("repeat it with: cargo xtask second: the reason"),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_step_is_refused_with_the_list() {
        let error = run_some(
            vec![Step::work("fmt", "cargo fmt", || Ok(()))],
            &["fmtt".to_owned()],
        )
        .unwrap_err()
        .to_string();
        assert_eq!(error, "no step is called `fmtt`; the steps are fmt");
    }

    #[test]
    fn who_waits_for_a_step_that_fails_does_not_run() {
        let state = State::default();
        thread::scope(|scope| {
            let waits = scope.spawn(|| state.wait_for(&["build"]));
            state.ended.lock().unwrap().failed = Some("build".to_owned());
            state.news.notify_all();
            assert!(!waits.join().unwrap());
        });
        let state = State::default();
        thread::scope(|scope| {
            let waits = scope.spawn(|| state.wait_for(&["build"]));
            let row = ("build", Duration::ZERO);
            state.ended.lock().unwrap().rows.push(row);
            state.news.notify_all();
            assert!(waits.join().unwrap());
        });
    }
}
