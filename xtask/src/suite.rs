//! Tests, each a process of its own with a time limit, several beside each other.
//!
//! One that hangs or crashes is a row like another, every row has its time, and tests that wait leave the processors to
//! those that compute. Tests with `alone` among the modules of their name are the exception: they need the machine for themselves.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::process::{Run, check_interrupted};
use crate::{cargo, places};

/// How long one test may take on a busy machine, waiting for those that want the machine alone included.
const LIMIT: Duration = Duration::from_secs(900);

/// A program of tests, as cargo has built it.
#[derive(Clone)]
pub(crate) struct Program {
    file: PathBuf,
    /// Its package, and the name of its file in `tests/` where it is such a one.
    name: String,
    package: String,
    /// The folder of its package, where cargo starts tests.
    folder: PathBuf,
}

/// One test of a program.
#[derive(Clone)]
pub(crate) struct Test {
    program: Program,
    name: String,
}

impl fmt::Display for Test {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.program.name, self.name)
    }
}

impl Test {
    /// Whether nothing else may run beside it.
    pub(crate) fn is_alone(&self) -> bool {
        self.name.split("::").any(|module| module == "alone")
    }

    fn file_name(&self) -> String {
        self.to_string().replace(['/', ' ', ':'], "-")
    }
}

/// How tests are run.
pub(crate) struct Suite {
    /// What the table and the folder of its logs are called.
    pub(crate) name: &'static str,
    /// How many at once.
    pub(crate) beside: usize,
    /// As root, through sudo where that is somebody else.
    pub(crate) rooted: bool,
    /// Variables for each.
    pub(crate) env: Vec<(&'static str, PathBuf)>,
}

/// How a test ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Ok,
    Skipped,
    Failed,
}

/// How many tests ended how; prints as a runner's last line.
#[derive(Clone, Copy, Default)]
pub(crate) struct Count {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Count {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(out, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// Builds the test programs of a selection of packages, such as `--workspace`, and returns them.
pub(crate) fn build(selection: &[String]) -> Result<Vec<Program>> {
    let format = "--message-format=json-render-diagnostics";
    let build = cargo::cargo().args(["test", "--no-run", "--locked", format]);
    let told = build.args(selection).stdout_beside_stderr()?;
    let mut programs: Vec<Program> = told.lines().filter_map(program).collect();
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(programs)
}

/// Leaves a list of programs for [`saved`], which another process asks.
pub(crate) fn save(programs: &[Program]) -> Result<()> {
    let rows = programs.iter().map(|program| {
        json!({ "file": program.file, "name": program.name, "package": program.package, "folder": program.folder })
    });
    let file = list_file()?;
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("failed to make {}", folder.display()))?;
    }
    fs::write(&file, Value::from_iter(rows).to_string())
        .with_context(|| format!("failed to write {}", file.display()))
}

/// The list that [`save`] has left.
pub(crate) fn saved() -> Result<Vec<Program>> {
    let file = list_file()?;
    let text = fs::read(&file).with_context(|| format!("failed to read {}", file.display()))?;
    let rows: Vec<Value> = serde_json::from_slice(&text)
        .with_context(|| format!("failed to understand {}", file.display()))?;
    let program = |row: &Value| {
        let text = |key: &str| Some(row.get(key)?.as_str()?.to_owned());
        Some(Program {
            file: text("file")?.into(),
            name: text("name")?,
            package: text("package")?,
            folder: text("folder")?.into(),
        })
    };
    let programs: Option<_> = rows.iter().map(program).collect();
    programs.with_context(|| format!("{} has a row that is no program", file.display()))
}

fn list_file() -> Result<PathBuf> {
    Ok(cargo::target()?.join("tests/programs.json"))
}

/// The test program that a message of cargo's is about, if it is about one.
fn program(message: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(message).ok()?;
    if !message.get("profile")?.get("test")?.as_bool()? {
        return None;
    }
    let file = message.get("executable")?.as_str()?.into();
    let folder = Path::new(message.get("manifest_path")?.as_str()?).parent()?;
    let package = package(message.get("package_id")?.as_str()?)?;
    let target = message.get("target")?;
    let is_file = target
        .get("kind")?
        .as_array()?
        .iter()
        .any(|kind| kind == "test");
    let name = match target.get("name")?.as_str()? {
        target if is_file => format!("{package}/{target}"),
        _ => package.to_owned(),
    };
    Some(Program {
        file,
        name,
        package: package.to_owned(),
        folder: folder.to_owned(),
    })
}

/// The name in an id such as `path+file:///seccast/tests/rig#seccast-rig@0.1.0`, which is left out where the folder has it.
fn package(id: &str) -> Option<&str> {
    let (place, rest) = id.rsplit_once('#')?;
    match rest.split_once('@') {
        Some((name, _)) => Some(name),
        None => place.rsplit('/').next(),
    }
}

/// Every test of these programs that is wanted.
pub(crate) fn list(programs: &[Program], wanted: impl Fn(&Test) -> bool) -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    for program in programs {
        let told = Run::new(&program.file)
            .args(["--list", "--format=terse"])
            .dir(&program.folder)
            .stdout()?;
        let names = told.lines().filter_map(|line| line.strip_suffix(": test"));
        let all = names.map(|name| Test {
            program: program.clone(),
            name: name.to_owned(),
        });
        tests.extend(all.filter(&wanted));
    }
    Ok(tests)
}

/// Those of these programs whose package is wanted.
pub(crate) fn of(programs: &[Program], wanted: impl Fn(&str) -> bool) -> Vec<Program> {
    let chosen = programs.iter().filter(|program| wanted(&program.package));
    chosen.cloned().collect()
}

impl Suite {
    /// Runs them all, prints a row for each, and fails when one has failed.
    pub(crate) fn run(&self, mut tests: Vec<Test>) -> Result<Count> {
        ensure!(!tests.is_empty(), "{} has no test", self.name);
        let times = Times::read();
        // The longest first: the last to end then are short ones. What has no time yet may be long.
        tests.sort_by_key(|test| std::cmp::Reverse(times.of(test)));
        let logs = cargo::target()?.join("tests").join(self.name);
        if logs.exists() {
            fs::remove_dir_all(&logs)
                .with_context(|| format!("failed to remove {}", logs.display()))?;
        }
        fs::create_dir_all(&logs).with_context(|| format!("failed to make {}", logs.display()))?;
        let start = Instant::now();
        // One that runs several times, beside itself even, has as many logs.
        let mut runs = HashMap::<String, usize>::new();
        let tests: Vec<(Test, PathBuf)> = tests
            .into_iter()
            .map(|test| {
                let name = test.file_name();
                let run = runs.entry(name.clone()).or_default();
                *run += 1;
                let log = match *run {
                    1 => name,
                    run => format!("{name}-{run}"),
                };
                (test, logs.join(log))
            })
            .collect();
        let queue = Mutex::new(tests.iter());
        let ended = Mutex::new(Vec::new());
        let next = || queue.lock().ok().and_then(|mut queue| queue.next());
        thread::scope(|scope| {
            for _ in 0..self.beside.clamp(1, tests.len()) {
                scope.spawn(|| {
                    while let Some((test, log)) = next() {
                        let row = self.run_one(test, log);
                        println!("{row}");
                        if let Ok(mut ended) = ended.lock() {
                            ended.push(row);
                        }
                        if check_interrupted().is_err() {
                            return;
                        }
                    }
                });
            }
        });
        check_interrupted()?;
        let rows = ended.into_inner().unwrap_or_default();
        times.write(&rows);
        self.sum_up(&rows, tests.len(), start.elapsed())
    }

    fn run_one(&self, test: &Test, log: &Path) -> Row {
        let start = Instant::now();
        let mut run = Run::new(&test.program.file)
            .args(["--exact", "--nocapture", &test.name])
            .dir(&test.program.folder)
            .env("CARGO_MANIFEST_DIR", &test.program.folder)
            .limit(LIMIT);
        for (name, value) in &self.env {
            run = run.env(name, value);
        }
        if self.rooted {
            run = run.rooted();
        }
        let done = run.logged(log);
        let said = fs::read(log).map(|said| String::from_utf8_lossy(&said).into_owned());
        let said = said.unwrap_or_default();
        let end = match &done {
            Err(_) => End::Failed,
            Ok(()) => judge(&said, self.rooted),
        };
        Row {
            test: test.clone(),
            took: start.elapsed(),
            end,
            said: match done {
                Err(error) => Some(format!("{said}\n{error:#}")),
                Ok(()) => (end == End::Failed).then_some(said),
            },
        }
    }

    fn sum_up(&self, rows: &[Row], all: usize, took: Duration) -> Result<Count> {
        let count = |end| rows.iter().filter(|row| row.end == end).count();
        let count = Count {
            passed: count(End::Ok),
            failed: count(End::Failed),
            skipped: count(End::Skipped),
        };
        println!("{:8.1} s  {}: {count}", took.as_secs_f64(), self.name);
        record(self.name, count, rows)?;
        ensure!(
            rows.len() == all,
            "only {} of {all} tests ran; a thread of the runner has panicked",
            rows.len()
        );
        let failed: Vec<&Row> = rows.iter().filter(|row| row.end == End::Failed).collect();
        if failed.is_empty() {
            return Ok(count);
        }
        let mut list = String::new();
        for row in failed {
            eprintln!(
                "\n--- {} said:\n{}",
                row.test,
                row.said.as_deref().unwrap_or_default()
            );
            write!(list, "\n  {}", row.test)?;
        }
        bail!("{} of {all} tests failed:{list}", count.failed)
    }
}

/// How a test ended whose program exited with 0: that alone is no proof, since one that called `exit` has done so as well, and to a
/// test program a name that matches nothing is a success. Where all is there that tests need, none may skip.
fn judge(said: &str, must_run: bool) -> End {
    let ignored = said.contains("test result: ok. 0 passed; 0 failed; 1 ignored");
    let passed = said.contains("test result: ok. 1 passed");
    let skipped = ignored || said.lines().any(|line| line.starts_with("SKIPPED:"));
    match (passed || ignored, skipped) {
        (true, false) => End::Ok,
        (true, true) if !must_run => End::Skipped,
        _ => End::Failed,
    }
}

/// A test that has ended.
struct Row {
    test: Test,
    took: Duration,
    end: End,
    /// What one that failed has printed.
    said: Option<String>,
}

impl fmt::Display for Row {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.end {
            End::Ok => "ok",
            End::Skipped => "SKIPPED",
            End::Failed => "FAILED",
        };
        let took = self.took.as_secs_f64();
        write!(out, "{took:8.1} s  {word:<7}  {}", self.test)
    }
}

/// How long tests took when they ran last on this machine, by their names. Kept for their order alone.
struct Times(HashMap<String, f64>);

impl Times {
    fn file() -> Result<PathBuf> {
        Ok(places::cache()?.join("test-times"))
    }

    fn read() -> Self {
        let text = Self::file().and_then(|file| Ok(fs::read_to_string(file)?));
        Self(text.map_or_else(|_| HashMap::new(), |text| rows(&text).collect()))
    }

    /// In milliseconds; what is not known is taken for long.
    fn of(&self, test: &Test) -> u64 {
        let known = self.0.get(&test.to_string());
        known.map_or(20_000, |took| (took * 1000.0) as u64)
    }

    fn write(mut self, new: &[Row]) {
        let new = new.iter().filter(|row| row.end == End::Ok);
        self.0
            .extend(new.map(|row| (row.test.to_string(), row.took.as_secs_f64())));
        let mut lines: Vec<_> = self
            .0
            .iter()
            .map(|(name, took)| line(*took, name))
            .collect();
        lines.sort();
        // Without the file the next run has another order, no more.
        let _ = Self::file().and_then(|file| Ok(fs::write(file, lines.concat())?));
    }
}

fn line(took: f64, name: &str) -> String {
    format!("{took:.1}\t{name}\n")
}

fn rows(text: &str) -> impl Iterator<Item = (String, f64)> {
    text.lines().filter_map(|line| {
        let (took, name) = line.split_once('\t')?;
        Some((name.to_owned(), took.parse().ok()?))
    })
}

/// Where a suite leaves its counts and times for [`recorded`], which another process asks.
fn record_file(name: &str) -> Result<PathBuf> {
    Ok(cargo::target()?.join("tests").join(format!("{name}.tsv")))
}

fn record(name: &str, count: Count, rows: &[Row]) -> Result<()> {
    let mut text = format!("{} {} {}\n", count.passed, count.failed, count.skipped);
    for row in rows {
        text.push_str(&line(row.took.as_secs_f64(), &row.test.to_string()));
    }
    let file = record_file(name)?;
    fs::write(&file, text).with_context(|| format!("failed to write {}", file.display()))
}

/// What suites of these names have recorded since [`forget`]: the counts of all, and each test with its seconds.
pub(crate) fn recorded(names: &[&str]) -> Result<(Count, Vec<(String, f64)>)> {
    let (mut all, mut times) = (Count::default(), Vec::new());
    for name in names {
        let Ok(text) = fs::read_to_string(record_file(name)?) else {
            continue;
        };
        let first = text.lines().next().unwrap_or_default();
        let counts: Vec<usize> = first.split(' ').flat_map(str::parse).collect();
        if let [passed, failed, skipped] = counts[..] {
            all.add(Count {
                passed,
                failed,
                skipped,
            });
        }
        times.extend(rows(&text));
    }
    Ok((all, times))
}

/// Removes what suites of these names have recorded.
pub(crate) fn forget(names: &[&str]) -> Result<()> {
    for name in names {
        let file = record_file(name)?;
        if file.exists() {
            fs::remove_file(&file)
                .with_context(|| format!("failed to remove {}", file.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(name: &str) -> Test {
        Test {
            program: Program {
                file: "/program".into(),
                name: "seccast-kernel/moves".into(),
                package: "seccast-kernel".into(),
                folder: "/".into(),
            },
            name: name.to_owned(),
        }
    }

    #[test]
    fn a_module_of_the_name_says_that_a_test_wants_the_machine_alone() {
        for (name, alone) in [
            ("alone::storm", true),
            ("root::alone::storm", true),
            ("root::a_program_alone_is_recorded", false),
        ] {
            assert_eq!(test(name).is_alone(), alone, "{name}");
        }
    }

    #[test]
    fn exit_0_without_a_test_that_passed_is_a_failure() {
        let ok = "test result: ok. 1 passed; 0 failed; 0 ignored";
        let ignored = "test result: ok. 0 passed; 0 failed; 1 ignored";
        let none = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out";
        let skipped = format!("SKIPPED: needs root\n{ok}");
        for (said, may_skip, must_run) in [
            (ok, End::Ok, End::Ok),
            ("running 1 test", End::Failed, End::Failed),
            (none, End::Failed, End::Failed),
            (ignored, End::Skipped, End::Failed),
            (&skipped, End::Skipped, End::Failed),
        ] {
            assert!(judge(said, false) == may_skip, "{said}");
            assert!(judge(said, true) == must_run, "{said}");
        }
    }

    #[test]
    fn cargo_tells_which_programs_are_tests() {
        let message = |id: &str, kind: &str, name: &str, test: bool| {
            json!({
                "package_id": id, "manifest_path": "/s/tests/kernel/Cargo.toml", "executable": "/s/target/debug/deps/x",
                "target": { "kind": [kind], "name": name }, "profile": { "test": test },
            })
            .to_string()
        };
        let id = "path+file:///s/tests/kernel#seccast-kernel@0.1.0";
        let found = program(&message(id, "test", "moves", true)).map(|program| program.name);
        assert_eq!(found.as_deref(), Some("seccast-kernel/moves"));
        let short = "path+file:///s/xtask#0.1.0";
        let found = program(&message(short, "bin", "xtask", true)).map(|program| program.name);
        assert_eq!(found.as_deref(), Some("xtask"));
        assert!(program(&message(id, "lib", "seccast_kernel", false)).is_none());
    }

    #[test]
    fn what_was_recorded_is_read_again() {
        let text = format!("2 1 0\n{}{}", line(1.25, "a b"), line(0.04, "c"));
        let read: Vec<_> = rows(&text).collect();
        assert_eq!(read, [("a b".to_owned(), 1.2), ("c".to_owned(), 0.0)]);
    }
}
