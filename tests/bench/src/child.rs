//! Child processes that are asked by lines and answer by lines, each answer within a time limit.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::overhead::check_interrupted;

/// A child with its lines. It is ended when this is dropped: first by the end of its input, then by force.
pub(crate) struct Conversation {
    name: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

/// How long a child may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(5);

impl Conversation {
    /// Starts it. Its answers are the lines of its standard output; with `errors`, of its standard error as well, which
    /// is ours otherwise.
    pub(crate) fn start(name: &'static str, mut command: Command, errors: bool) -> Result<Self> {
        let (output, writer) = io::pipe().context("cannot make a pipe")?;
        if errors {
            command.stderr(writer.try_clone().context("cannot share a pipe")?);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(writer)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        // It holds our ends of the pipe, which would never end.
        drop(command);
        let input = child.stdin.take();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            name,
            child,
            input,
            lines,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it writes.
    pub(crate) fn answer(&self, limit: Duration) -> Result<String> {
        let start = Instant::now();
        loop {
            check_interrupted()?;
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Disconnected) => bail!("{} ended too early", self.name),
                Err(RecvTimeoutError::Timeout) if start.elapsed() >= limit => {
                    bail!("{} said nothing for {} s", self.name, limit.as_secs())
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Writes a line and returns the answer.
    pub(crate) fn ask(&mut self, question: &str, limit: Duration) -> Result<String> {
        let input = self.input.as_mut().context("its input is closed")?;
        writeln!(input, "{question}").with_context(|| format!("cannot write to {}", self.name))?;
        self.answer(limit)
    }

    /// Closes its input and waits for the last line.
    pub(crate) fn finish(mut self, limit: Duration) -> Result<String> {
        self.input = None;
        self.answer(limit)
    }

    /// Reads on until it ends.
    pub(crate) fn join(mut self) -> Result<()> {
        self.input = None;
        self.wait();
        Ok(())
    }

    /// Sends a signal and returns everything that it still writes.
    pub(crate) fn interrupt(mut self) -> Vec<String> {
        signal(&self.child, libc::SIGINT);
        self.wait();
        // Until the end of the pipe, which nothing holds open any more.
        std::iter::from_fn(|| self.lines.recv_timeout(PATIENCE).ok()).collect()
    }

    fn wait(&mut self) {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.input = None;
        self.wait();
    }
}

fn signal(child: &Child, signal: i32) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // SAFETY: no memory is passed; the child is ours and not reaped yet.
        let _ = unsafe { libc::kill(pid, signal) };
    }
}
