//! Running other programs: every one has a time limit, none outlives an interrupted xtask.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, geteuid, kill_process_group};

use crate::places;

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
static SUDO_KEPT: Once = Once::new();

/// From here on Ctrl-C and SIGTERM end the running program, and what was made is cleaned up on the way out.
pub(crate) fn catch_signals() -> Result<()> {
    let flag = INTERRUPTED.get_or_init(Default::default);
    for signal in [
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGHUP,
    ] {
        signal_hook::flag::register(signal, Arc::clone(flag))
            .context("failed to install a signal handler")?;
    }
    Ok(())
}

/// As if the user had asked to stop: ends every program that another thread waits for.
pub(crate) fn interrupt() {
    INTERRUPTED
        .get_or_init(Default::default)
        .store(true, Ordering::Relaxed);
}

/// An error once the user has asked to stop; for loops that wait.
pub(crate) fn check_interrupted() -> Result<()> {
    if INTERRUPTED
        .get()
        .is_some_and(|flag| flag.load(Ordering::Relaxed))
    {
        bail!("interrupted");
    }
    Ok(())
}

pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// Makes sure that `Run::rooted` will not have to ask: the only moment at which a password is read.
pub(crate) fn want_root(reason: &str) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    if places::command("sudo").is_none() {
        bail!("{reason} needs root, and sudo is not installed; run the same command as root");
    }
    // Commands first: `sudo -v` asks for a password as soon as one of several entries wants one (verifypw in sudoers(5)),
    // as on cloud images, whose user has none.
    if Run::new("sudo").args(["-n", "true"]).quiet().is_err() {
        let status = Command::new("sudo")
            .args(["-v", "-p"])
            .arg(format!("{reason} needs root; password for %p: "))
            .status();
        if !status.context("failed to start sudo")?.success() {
            bail!("{reason} needs root, and sudo refused; run the same command as root");
        }
    }
    SUDO_KEPT.call_once(|| drop(thread::spawn(keep_sudo)));
    Ok(())
}

/// sudo forgets a password after 15 minutes, and a first build may take longer.
fn keep_sudo() {
    let refresh = Run::new("sudo").args(["-n", "-v"]);
    loop {
        thread::sleep(Duration::from_secs(60));
        // Where it cannot, the next command that needs root says so.
        let _ = refresh.quiet();
    }
}

/// One program to run. Prints as the line that repeats it in a shell.
#[derive(Clone)]
pub(crate) struct Run {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(String, OsString)>,
    dir: Option<PathBuf>,
    limit: Duration,
    patience: Duration,
}

impl Run {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            dir: None,
            limit: Duration::from_secs(60),
            patience: Duration::from_secs(10),
        }
    }

    /// This program with other words, for the same checkout and cache whoever runs it.
    pub(crate) fn own<A: AsRef<OsStr>>(words: impl IntoIterator<Item = A>) -> Result<Self> {
        Ok(Self::new(own_file()?)
            .args(words)
            .env("SECCAST_CACHE", places::cache()?)
            .env("CARGO_MANIFEST_DIR", places::root().join("xtask")))
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    pub(crate) fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.dir = Some(dir.as_ref().to_owned());
        self
    }

    /// How long it may take; a minute unless told otherwise.
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// How long it has to clean up after SIGTERM before it is killed; ten seconds unless told otherwise.
    pub(crate) fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The same program through sudo, with the variables it was given. As root: unchanged.
    pub(crate) fn rooted(self) -> Self {
        if is_root() {
            return self;
        }
        let mut args: Vec<OsString> = vec!["-n".into(), "env".into()];
        for (name, value) in &self.env {
            let mut assignment = OsString::from(format!("{name}="));
            assignment.push(value);
            args.push(assignment);
        }
        args.push(self.program);
        args.extend(self.args);
        Self {
            program: "sudo".into(),
            args,
            env: Vec::new(),
            dir: self.dir,
            limit: self.limit,
            patience: self.patience,
        }
    }

    /// Becomes it, terminal included; returns only when it cannot be started.
    pub(crate) fn exec(&self) -> Result<()> {
        Err(self.build().exec()).with_context(|| format!("failed to start `{self}`"))
    }

    /// Runs it with our own output streams.
    pub(crate) fn run(&self) -> Result<()> {
        let mut child = self.spawn(Stdio::inherit(), Stdio::inherit())?;
        let status = self.wait(&mut child)?;
        if !status.success() {
            bail!("`{self}` failed: {status}");
        }
        Ok(())
    }

    /// Runs it with each of its lines behind a name, for several that run at once.
    pub(crate) fn prefixed(&self, name: &str) -> Result<()> {
        let mut child = self.spawn(Stdio::piped(), Stdio::piped())?;
        let readers = [
            child.stdout.take().map(|pipe| forward(pipe, name)),
            child.stderr.take().map(|pipe| forward(pipe, name)),
        ];
        let status = self.wait(&mut child)?;
        for reader in readers.into_iter().flatten() {
            // It cannot panic; what it could not read is lost to nobody but the terminal.
            let _ = reader.join();
        }
        if !status.success() {
            bail!("`{self}` failed: {status}");
        }
        Ok(())
    }

    /// Runs it with its output in a file. An error says how it ended, not what it said.
    pub(crate) fn logged(&self, file: &Path) -> Result<()> {
        let log =
            File::create(file).with_context(|| format!("failed to write {}", file.display()))?;
        let mut child = self.spawn(log.try_clone()?.into(), log.into())?;
        let status = self.wait(&mut child)?;
        if !status.success() {
            bail!("`{self}` failed: {status}");
        }
        Ok(())
    }

    /// Runs it and returns what it wrote to stdout; its stderr is ours.
    pub(crate) fn stdout_beside_stderr(&self) -> Result<String> {
        let mut child = self.spawn(Stdio::piped(), Stdio::inherit())?;
        let out = drain(child.stdout.take());
        let status = self.wait(&mut child)?;
        let out = collect(out);
        if !status.success() {
            bail!("`{self}` failed: {status}");
        }
        Ok(out)
    }

    /// Runs it silently; what it said is shown only when it fails.
    pub(crate) fn quiet(&self) -> Result<()> {
        self.stdout().map(drop)
    }

    /// Runs it and returns what it wrote to stdout; stderr is shown only when it fails.
    pub(crate) fn stdout(&self) -> Result<String> {
        self.captured().map(|(out, _)| out)
    }

    /// Runs it and returns what it wrote to stderr.
    pub(crate) fn stderr(&self) -> Result<String> {
        self.captured().map(|(_, err)| err)
    }

    fn captured(&self) -> Result<(String, String)> {
        let mut child = self.spawn(Stdio::piped(), Stdio::piped())?;
        let out = drain(child.stdout.take());
        let err = drain(child.stderr.take());
        let status = self.wait(&mut child)?;
        let out = collect(out);
        let err = collect(err);
        if !status.success() {
            let said = if err.trim().is_empty() {
                out.trim()
            } else {
                err.trim()
            };
            bail!(
                "`{self}` failed: {status}{}{said}",
                if said.is_empty() { "" } else { "\n" }
            );
        }
        Ok((out, err))
    }

    fn spawn(&self, out: Stdio, err: Stdio) -> Result<Child> {
        let mut command = self.build();
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        // A group of its own, so that a time limit or Ctrl-C reaches the children of the child too.
        command.process_group(0);
        command
            .spawn()
            .with_context(|| format!("failed to start `{self}`"))
    }

    fn build(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        // What cargo told this program of itself. A cargo that it starts would take these for the user's: build scripts that
        // look at them, as ring's, run again, and all that depends on them is compiled again, in turns with the user's own.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&name);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
    }

    fn wait(&self, child: &mut Child) -> Result<ExitStatus> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = child
                .try_wait()
                .with_context(|| format!("failed to wait for `{self}`"))?
            {
                return Ok(status);
            }
            let stop = check_interrupted().err().or_else(|| {
                (start.elapsed() >= self.limit).then(|| {
                    anyhow::anyhow!(
                        "`{self}` was ended: not done after {} s",
                        self.limit.as_secs()
                    )
                })
            });
            if let Some(reason) = stop {
                end(child, self.patience);
                return Err(reason);
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

/// Passes lines on, whole, with a name in front.
fn forward(pipe: impl Read + Send + 'static, name: &str) -> JoinHandle<()> {
    let name = name.to_owned();
    thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            eprintln!("{name:<12} {}", String::from_utf8_lossy(&line));
        }
    })
}

/// The file of this program, also when a build has replaced it since it was started.
fn own_file() -> Result<PathBuf> {
    let file = std::env::current_exe().context("failed to find this program's own file")?;
    let replaced = file
        .to_str()
        .and_then(|path| path.strip_suffix(" (deleted)"));
    Ok(replaced.map_or_else(|| file.clone(), PathBuf::from))
}

/// Ends a child and its group: TERM, patience, KILL.
fn end(child: &mut Child, patience: Duration) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    for (signal, patience) in [
        (Signal::TERM, patience),
        (Signal::KILL, Duration::from_secs(5)),
    ] {
        if let Some(group) = group {
            // It may be gone already; then there is nothing to end.
            let _ = kill_process_group(group, signal);
        }
        let start = Instant::now();
        while start.elapsed() < patience {
            if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn drain(stream: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // A broken pipe ends the text; the exit status tells the rest.
            let _ = stream.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn collect(reader: JoinHandle<Vec<u8>>) -> String {
    reader
        .join()
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

impl fmt::Display for Run {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.env {
            write!(out, "{name}={} ", quoted(value))?;
        }
        write!(out, "{}", quoted(&self.program))?;
        for arg in &self.args {
            write!(out, " {}", quoted(arg))?;
        }
        Ok(())
    }
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_prints_as_the_line_that_repeats_it() {
        let run = Run::new("cargo")
            .args(["doc", "it's"])
            .env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(
            run.to_string(),
            r"RUSTDOCFLAGS='-D warnings' cargo doc 'it'\''s'"
        );
    }

    #[test]
    fn a_program_that_takes_too_long_is_ended_with_its_children() {
        // The pipe closes when the last process of the group has: else this would not come back.
        let run = Run::new("sh")
            .args(["-c", "sleep infinity & wait"])
            .limit(Duration::from_millis(50));
        let error = run.stdout().unwrap_err().to_string();
        assert!(error.contains("not done after"), "{error}");
    }

    #[test]
    fn a_program_is_not_told_what_cargo_told_this_one() {
        let told = Run::new("sh")
            .args(["-c", "echo ${CARGO_PKG_NAME-none} $CARGO_MANIFEST_DIR"])
            .env("CARGO_MANIFEST_DIR", "given")
            .stdout();
        assert_eq!(told.unwrap(), "none given\n");
    }

    #[test]
    fn a_failure_says_what_the_program_said() {
        let error = Run::new("sh")
            .args(["-c", "echo no such thing >&2; exit 3"])
            .quiet()
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("exit status: 3\nno such thing"), "{error}");
    }
}
