//! Child processes with bounded waits.

use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What a finished command printed.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs a command to its end without standard input; kills it when `timeout` is over.
///
/// Its output goes through files: a daemon that it leaves behind with its pipes open cannot block the reader.
pub fn output(command: &mut Command, timeout: Duration) -> Result<Output> {
    let mut stdout = tempfile::tempfile().context("temporary file")?;
    let mut stderr = tempfile::tempfile().context("temporary file")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone().context("temporary file")?)
        .stderr(stderr.try_clone().context("temporary file")?)
        .spawn()
        .with_context(|| format!("cannot start {}", describe(command)))?;
    let status = wait(&mut child, timeout)?;
    let stdout = read_back(&mut stdout)?;
    let stderr = read_back(&mut stderr)?;
    match status {
        Some(status) => Ok(Output {
            status,
            stdout,
            stderr,
        }),
        None => {
            child
                .kill()
                .and_then(|()| child.wait())
                .context("cannot kill")?;
            bail!(
                "{} did not end within {timeout:?}\n{stdout}{stderr}",
                describe(command)
            )
        }
    }
}

/// As [`output`], and an exit status other than 0 is an error that carries what the command printed.
pub fn check(command: &mut Command, timeout: Duration) -> Result<Output> {
    let output = output(command, timeout)?;
    if !output.status.success() {
        bail!(
            "{}: {}\n{}{}",
            describe(command),
            output.status,
            output.stdout,
            output.stderr
        );
    }
    Ok(output)
}

/// Waits until a child has ended; `None` when `timeout` was over first.
pub fn wait(child: &mut Child, timeout: Duration) -> Result<Option<ExitStatus>> {
    let pid = i32::try_from(child.id()).context("pid")?;
    if let Some(status) = child.try_wait()? {
        return Ok(Some(status));
    }
    wait_pid(pid, timeout)?;
    Ok(child.try_wait()?)
}

/// Waits until any process, a child or not, has ended; whether it did before `timeout` was over.
pub fn wait_pid(pid: i32, timeout: Duration) -> Result<bool> {
    // SAFETY: pidfd_open takes two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        let error = std::io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ESRCH) {
            Ok(true)
        } else {
            Err(error).context("pidfd_open")
        };
    }
    // SAFETY: the descriptor was just made and has no other owner.
    let fd = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).context("descriptor")?) };
    let end = Instant::now() + timeout;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut poll = libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid pollfd.
        let ready = unsafe {
            libc::poll(
                &mut poll,
                1,
                i32::try_from(left.as_millis()).unwrap_or(i32::MAX),
            )
        };
        if ready > 0 {
            return Ok(true);
        }
        if left.is_zero() {
            return Ok(false);
        }
    }
}

/// Sends a signal to one process.
pub fn signal(pid: i32, signal: i32) -> Result<()> {
    anyhow::ensure!(pid > 1, "refusing to signal pid {pid}");
    // SAFETY: kill takes two integers.
    if unsafe { libc::kill(pid, signal) } != 0 {
        return Err(std::io::Error::last_os_error())
            .with_context(|| format!("kill -{signal} {pid}"));
    }
    Ok(())
}

/// The state of a process as /proc has it: `R` runs, `S` sleeps, `T` is stopped, `t` is stopped and traced, `Z` is a zombie; `None`
/// when it is gone.
#[must_use]
pub fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The call that a process sleeps in, by its number; `None` while it does something, and when it is gone.
#[must_use]
pub fn sleeps_in(pid: i32) -> Option<i64> {
    if state(pid) != Some('S') {
        return None;
    }
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    call.split(' ').next()?.trim().parse().ok()
}

/// Calls `ready` every few milliseconds until it says yes; an error that names `what` when `timeout` is over.
pub fn poll(what: &str, timeout: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + timeout;
    while !ready()? {
        if Instant::now() >= end {
            bail!("waited {timeout:?} for {what}");
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    Ok(())
}

/// Finds a program in `$PATH`, and in the folders of system programs, which a user's `$PATH` often lacks.
#[must_use]
pub fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// [`find`], with the package that brings the program in the error.
pub fn need(program: &str, package: &str) -> Result<std::path::PathBuf> {
    find(program).with_context(|| format!("{program} not found; install the package {package}"))
}

fn read_back(file: &mut File) -> Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(1 << 20).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
