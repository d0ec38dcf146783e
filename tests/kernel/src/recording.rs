//! Runs the seccast binary as a user does, and reads what it wrote.

use seccast_model::arch::Arch;
use seccast_model::observation::{Observation, Phase};
use seccast_model::syscall;
use seccast_rig::process;
use seccast_workloads::Program;
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::{fs::chown, process::CommandExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Until it is armed, and from its end to its files; on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// A call of an observation: its ABI and its name there, or its number where it has none.
pub type Call = (Arch, String);

/// The binary under test: `$SECCAST_BIN`, else built once from this checkout.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn seccast() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(binary) = std::env::var_os("SECCAST_BIN") {
            return binary.into();
        }
        // This test is target/PROFILE/deps/NAME.
        let target = std::env::current_exe().unwrap();
        let target = target.ancestors().nth(3).unwrap();
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "seccast", "--target-dir"])
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(status.success(), "cannot build seccast");
        target.join("debug/seccast")
    })
}

/// A `seccast record` to be started.
#[derive(Debug)]
pub struct Record {
    command: Command,
    stdin: Vec<u8>,
    files: TempDir,
}

/// One that is armed.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stderr: Arc<Stderr>,
    files: TempDir,
    armed_after: Duration,
}

/// One that has ended.
#[derive(Debug)]
pub struct Recorded {
    /// How it ended.
    pub status: ExitStatus,
    /// What CMD printed.
    pub stdout: Vec<u8>,
    /// What both printed.
    pub stderr: String,
    /// The observation, where one was written.
    pub observation: Option<Observation>,
    /// From the start to the line that begins `armed`.
    pub armed_after: Duration,
    files: TempDir,
}

#[derive(Debug, Default)]
struct Stderr {
    text: Mutex<(String, bool)>,
    news: Condvar,
}

impl Record {
    /// `seccast record` with these arguments, an observation and a profile in a temporary folder.
    pub fn new<I: IntoIterator<Item: AsRef<OsStr>>>(args: I) -> Self {
        let mut record = Self::without_files().with_files();
        record.command.args(args);
        record
    }

    /// The same as user and group 65534, without any privilege.
    pub fn unprivileged<I: IntoIterator<Item: AsRef<OsStr>>>(args: I) -> Self {
        let files = folder();
        // Where the binary lies only its owner may look.
        let copy = files.path().join("seccast");
        fs::copy(seccast(), &copy).unwrap();
        chown(files.path(), Some(65534), Some(65534)).unwrap();
        let mut record = Self::by(Command::new(copy), files).with_files();
        record.command.args(args).uid(65534).gid(65534);
        record
    }

    /// `record --all FOLDER` with these arguments.
    pub fn all<I: IntoIterator<Item: AsRef<OsStr>>>(folder: &Path, args: I) -> Self {
        let mut record = Self::without_files();
        record.command.arg("--all").arg(folder).args(args);
        record
    }

    /// `record -o FOLDER -- COMMAND` in the command's environment.
    #[must_use]
    pub fn each(folder: &Path, command: &Command) -> Self {
        let mut record = Self::without_files();
        record.command.arg("-o").arg(folder).arg("--");
        record
            .command
            .arg(command.get_program())
            .args(command.get_args());
        record.environment(command)
    }

    /// `record -o FOLDER` with these arguments, by a command that is seccast: one on a node of a cluster, for example.
    pub fn each_by<I: IntoIterator<Item: AsRef<OsStr>>>(
        seccast: Command,
        folder: &Path,
        args: I,
    ) -> Self {
        let mut record = Self::by(seccast, self::folder());
        record.command.arg("-o").arg(folder).args(args);
        record
    }

    fn without_files() -> Self {
        Self::by(Command::new(seccast()), folder())
    }

    fn by(mut command: Command, files: TempDir) -> Self {
        command.arg("record").current_dir(files.path());
        Self {
            command,
            stdin: Vec::new(),
            files,
        }
    }

    fn with_files(mut self) -> Self {
        let [observation, profile] = ["o.json", "p.json"].map(|name| self.files.path().join(name));
        self.command.arg("--observation").arg(observation);
        self.command.arg("-o").arg(profile);
        self
    }

    /// `record -- PROGRAM ARGS`.
    pub fn program<I: IntoIterator<Item: AsRef<OsStr>>>(program: &Path, args: I) -> Self {
        let mut record = Self::new([OsStr::new("--"), program.as_os_str()]);
        record.command.args(args);
        record
    }

    /// `record ARGS -- COMMAND` in the command's environment.
    #[must_use]
    pub fn command(args: &[&str], command: &Command) -> Self {
        let mut record = Self::new(args);
        record.command.arg("--").arg(command.get_program());
        record.command.args(command.get_args());
        record.environment(command)
    }

    /// Takes over what another command changes in the environment.
    #[must_use]
    pub fn environment(mut self, command: &Command) -> Self {
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => self.command.env(name, value),
                None => self.command.env_remove(name),
            };
        }
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// `record --cgroup PATH`, PATH below the cgroup2 mount.
    #[must_use]
    pub fn cgroup(path: &str) -> Self {
        Self::new(["--cgroup", path])
    }

    /// In a process group of its own, so that the kernel lets a terminal's signals stop CMD: in a group without a parent in its
    /// session, as a service of systemd's or `setsid` makes one, they are ignored.
    #[must_use]
    pub fn as_a_job(mut self) -> Self {
        let ends_with_the_test = || {
            // SAFETY: the call takes two integers.
            match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        self.command.process_group(0);
        // SAFETY: one system call. Who kills the group of a test does not reach this one.
        unsafe { self.command.pre_exec(ends_with_the_test) };
        self
    }

    /// Gives CMD something to read.
    #[must_use]
    pub fn stdin(mut self, bytes: Vec<u8>) -> Self {
        self.stdin = bytes;
        self
    }

    /// Starts it and returns when it is armed.
    ///
    /// # Panics
    /// When it ends or is silent instead.
    #[must_use]
    pub fn start(mut self) -> Running {
        let start = Instant::now();
        let mut child = self
            .command
            .stdin(Stdio::piped())
            .stdout(File::create(self.files.path().join("stdout")).unwrap())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = Arc::new(Stderr::default());
        stderr.follow(&mut child);
        // A program that does not read its input may be gone already.
        drop(child.stdin.take().unwrap().write_all(&self.stdin));
        let mut running = Running {
            child,
            stderr,
            files: self.files,
            armed_after: Duration::ZERO,
        };
        running.stderr.wait_for_armed(start + PATIENCE);
        running.armed_after = start.elapsed();
        running
    }

    /// Starts it and waits for its end.
    ///
    /// # Panics
    /// As [`Record::start`] and [`Running::end`].
    #[must_use]
    pub fn run(self, timeout: Duration) -> Recorded {
        self.start().end(timeout)
    }
}

fn folder() -> TempDir {
    let mut folder = tempfile::Builder::new();
    folder.prefix("seccast-test-").tempdir().unwrap()
}

impl Running {
    /// The process id of seccast.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// From the start to the line that begins `armed`.
    #[must_use]
    pub fn armed_after(&self) -> Duration {
        self.armed_after
    }

    /// What it has printed so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.text.lock().unwrap().0.clone()
    }

    /// What CMD has printed so far.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn stdout(&self) -> String {
        let bytes = fs::read(self.files.path().join("stdout")).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until CMD has printed this.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_for(&self, printed: &str) {
        let seen = process::poll(printed, PATIENCE, || Ok(self.stdout().contains(printed)));
        assert!(seen.is_ok(), "{seen:?}\n{}{}", self.stdout(), self.stderr());
    }

    /// Asks it by SIGUSR1 for the state so far until that is written. What had happened before this call, it has dealt with when
    /// this returns: the first answer may be of a round that had begun before.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn catch_up(&self) {
        // The last two are those of a recording of many.
        const ANSWERS: [&str; 3] = [
            "seccast: wrote the state so far",
            "seccast: each container's files are written at its end",
            "seccast: nothing is recorded yet",
        ];
        let answers = || -> usize {
            let stderr = self.stderr();
            ANSWERS
                .iter()
                .map(|line| stderr.matches(line).count())
                .sum()
        };
        for _ in 0..2 {
            let before = answers();
            process::signal(self.pid(), libc::SIGUSR1).unwrap();
            let answered = process::poll("the state so far", PATIENCE, || Ok(answers() > before));
            assert!(answered.is_ok(), "{answered:?}\n{}", self.stderr());
        }
    }

    /// What SIGUSR1 has made it write; `None` while there is nothing.
    ///
    /// # Panics
    /// When it is not an observation: it is written as a whole.
    #[must_use]
    pub fn so_far(&self) -> Option<Observation> {
        let bytes = fs::read(self.files.path().join("o.json")).ok()?;
        Some(Observation::from_json(&bytes).unwrap())
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGTERM, which ends a recording of something that is not its child, and waits for its files.
    #[must_use]
    pub fn stop(self) -> Recorded {
        process::signal(self.pid(), libc::SIGTERM).unwrap();
        self.end(PATIENCE)
    }

    /// Waits until it has ended and written its files.
    ///
    /// # Panics
    /// When it does not end in time.
    #[must_use]
    pub fn end(mut self, timeout: Duration) -> Recorded {
        let Some(status) = process::wait(&mut self.child, timeout).unwrap() else {
            panic!("seccast did not end within {timeout:?}:\n{}", self.stderr());
        };
        let stderr = self.stderr.wait_for_end(Instant::now() + PATIENCE);
        let files = std::mem::replace(&mut self.files, tempfile::tempdir().unwrap());
        let observation = fs::read(files.path().join("o.json")).ok().map(|bytes| {
            match Observation::from_json(&bytes) {
                Ok(observation) => observation,
                Err(error) => panic!("the observation cannot be read: {error}\n{stderr}"),
            }
        });
        Recorded {
            status,
            stdout: fs::read(files.path().join("stdout")).unwrap(),
            stderr,
            observation,
            armed_after: self.armed_after,
            files,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only a failed test comes here with a living child. A second SIGTERM ends seccast at once.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            for _ in 0..2 {
                drop(process::signal(self.pid(), libc::SIGTERM));
                if process::wait(&mut self.child, Duration::from_secs(5))
                    .is_ok_and(|status| status.is_some())
                {
                    return;
                }
            }
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

impl Recorded {
    /// The observation of a recording that missed nothing.
    ///
    /// # Panics
    /// When there is none, or when it says that something may be missing, or seccast did not end with 0.
    pub fn complete(&self) -> &Observation {
        let Some(observation) = &self.observation else {
            panic!("{}: no observation\n{}", self.status, self.stderr);
        };
        assert_eq!(observation.losses, [].into(), "losses\n{}", self.stderr);
        assert_eq!(
            observation.started_late_ns, None,
            "started late\n{}",
            self.stderr
        );
        assert_eq!(self.status.code(), Some(0), "{}", self.stderr);
        observation
    }

    /// Asserts the exit code, and that all of these were said.
    ///
    /// # Panics
    /// When it ended otherwise, or one was not said.
    pub fn assert_ended(&self, code: i32, says: &[&str]) {
        assert_eq!(self.status.code(), Some(code), "{}", self.stderr);
        for words in says {
            assert!(
                self.stderr.contains(words),
                "nothing of {words:?}:\n{}",
                self.stderr
            );
        }
    }

    /// The profile that was written.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn profile(&self) -> Value {
        let bytes = fs::read(self.profile_path()).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    /// Where the profile is, as long as this value lives.
    #[must_use]
    pub fn profile_path(&self) -> PathBuf {
        self.files.path().join("p.json")
    }

    /// Where the observation is, as long as this value lives.
    #[must_use]
    pub fn observation_path(&self) -> PathBuf {
        self.files.path().join("o.json")
    }
}

impl Stderr {
    /// Collects what the child prints, on a thread of its own.
    fn follow(self: &Arc<Self>, child: &mut Child) {
        let this = Arc::clone(self);
        let pipe = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in pipe.split(b'\n').map_while(Result::ok) {
                let mut text = this.text.lock().unwrap();
                text.0.push_str(&String::from_utf8_lossy(&line));
                text.0.push('\n');
                this.news.notify_all();
            }
            this.text.lock().unwrap().1 = true;
            this.news.notify_all();
        });
    }

    fn wait_for_armed(&self, deadline: Instant) {
        let armed = |text: &str| text.lines().any(|line| line.starts_with("armed"));
        let text = self.wait(deadline, |text, ended| ended || armed(text));
        assert!(armed(&text), "seccast was not armed:\n{text}");
    }

    /// The whole text. What CMD has left behind may hold the pipe open: then what there is at the deadline.
    fn wait_for_end(&self, deadline: Instant) -> String {
        self.wait(deadline, |_, ended| ended)
    }

    fn wait(&self, deadline: Instant, mut ready: impl FnMut(&str, bool) -> bool) -> String {
        let mut text = self.text.lock().unwrap();
        while !ready(&text.0, text.1) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            text = self.news.wait_timeout(text, left).unwrap().0;
        }
        text.0.clone()
    }
}

/// Runs a recording with a time limit until its program was `ready` for that: twice as long each time that the machine was too
/// slow.
///
/// # Panics
/// When a minute is not enough.
pub fn long_enough<T>(mut run: impl FnMut(&str) -> T, ready: impl Fn(&T) -> bool) -> T {
    for seconds in [1, 2, 4, 8, 16, 32, 64] {
        let recorded = run(&format!("{seconds}s"));
        if ready(&recorded) {
            return recorded;
        }
        println!("not ready within {seconds} s");
    }
    panic!("its program does not become ready");
}

/// Everything of one phase, named or not, as a set.
#[must_use]
pub fn calls(observation: &Observation, phase: Phase) -> BTreeSet<Call> {
    let unknown = observation
        .unknown
        .iter()
        .filter(|unknown| unknown.phase == phase);
    let mut all = named(observation, phase);
    all.extend(unknown.map(|unknown| (unknown.arch, unknown.nr.to_string())));
    all
}

/// The calls of one phase that have a name.
#[must_use]
pub fn named(observation: &Observation, phase: Phase) -> BTreeSet<Call> {
    let of_phase = observation.calls.iter().filter(|((_, of), _)| *of == phase);
    of_phase
        .flat_map(|((arch, _), names)| names.keys().map(|name| (*arch, name.clone())))
        .collect()
}

/// A call by its number, in the form of [`calls`].
#[must_use]
pub fn call((arch, nr): (Arch, u32)) -> Call {
    let name = syscall::name(arch, nr).map_or_else(|| nr.to_string(), str::to_owned);
    (arch, name)
}

/// Asserts that these and no others were seen; tells only the difference, since whole sets fill pages.
///
/// # Panics
/// When one is missing or too many.
pub fn assert_calls(seen: &BTreeSet<Call>, expected: &BTreeSet<Call>, what: &str) {
    let missing: Vec<_> = expected.difference(seen).collect();
    let more: Vec<_> = seen.difference(expected).collect();
    assert!(
        missing.is_empty() && more.is_empty(),
        "{what}: missing {missing:?}, too many {more:?}"
    );
}

/// What a workload is known to call, in the form of [`calls`].
#[must_use]
pub fn truth(program: &Program) -> BTreeSet<Call> {
    let named = program
        .calls
        .iter()
        .map(|call| (call.arch, call.name.to_owned()));
    named
        .chain(
            program
                .unknown
                .iter()
                .map(|unknown| (unknown.arch, unknown.nr.to_string())),
        )
        .collect()
}
