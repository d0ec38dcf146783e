//! A process that makes the calls it is told to, when it is told to, and no others between them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A running `puppet`. Dropping it kills the process.
///
/// Orders go through a page that the puppet maps and this side writes as a file, so that they cost it no call.
#[derive(Debug)]
pub struct Puppet {
    child: Child,
    page: File,
    command: u32,
}

/// Where in the page the members of the program's `struct page` are.
mod at {
    pub(super) const COMMAND: u64 = 0;
    pub(super) const DONE: u64 = 4;
    pub(super) const I386: u64 = 8;
    pub(super) const STOP: u64 = 12;
    pub(super) const TIMES: u64 = 16;
    pub(super) const NR: u64 = 24;
    pub(super) const ARGS: u64 = 32;
    pub(super) const RESULT: u64 = 80;
    pub(super) const MADE: u64 = 88;
    pub(super) const TEXT: u64 = 2048;
}

/// Where the page is in the puppet's memory.
const PAGE: i64 = 0x1000_0000;

/// How long a call may take; the puppet waits busily, on a machine that may have other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

impl Puppet {
    /// Starts one; its page is a file that must not exist yet. When this returns, its start is over: it makes no call without an order.
    ///
    /// # Errors
    /// When the page cannot be made, or the program not be started.
    pub fn start(page: &Path) -> io::Result<Self> {
        Self::start_by(Command::new(crate::path("puppet")), page)
    }

    /// The same with a command of one's own that ends in executing the puppet.
    ///
    /// # Errors
    /// As [`Puppet::start`].
    pub fn start_by(mut command: Command, page: &Path) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(page)?;
        file.set_len(4096)?;
        let child = command.arg(page).stdin(Stdio::null()).spawn()?;
        let mut puppet = Self {
            child,
            page: file,
            command: 0,
        };
        puppet.call(39, &[])?; // getpid: it has mapped the page when this is answered
        Ok(puppet)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes an x86_64 call once; the result is the kernel's: a negative errno.
    ///
    /// # Errors
    /// When the puppet does not answer.
    pub fn call(&mut self, nr: i64, args: &[i64]) -> io::Result<i64> {
        self.begin(false, nr, args, 1)?;
        self.end()
    }

    /// Makes an i386 call once, by int 0x80.
    ///
    /// # Errors
    /// When the puppet does not answer.
    pub fn call_i386(&mut self, nr: i64, args: &[i64]) -> io::Result<i64> {
        self.begin(true, nr, args, 1)?;
        self.end()
    }

    /// Begins to make a call over and over, until [`Puppet::stop`].
    ///
    /// # Errors
    /// When the page cannot be written.
    pub fn repeat(&mut self, nr: i64, args: &[i64]) -> io::Result<()> {
        self.begin(false, nr, args, u64::MAX)
    }

    /// Waits until a repetition has made this many more calls.
    ///
    /// # Errors
    /// When the puppet does not make them.
    pub fn goes_on(&mut self, calls: u64) -> io::Result<()> {
        let wanted = self.number(at::MADE)? + calls;
        self.until(|puppet| Ok(puppet.number(at::MADE)? >= wanted))
    }

    /// Ends a repetition: when this returns, the last of its calls has returned.
    ///
    /// # Errors
    /// When the puppet does not answer.
    pub fn stop(&mut self) -> io::Result<()> {
        self.page.write_all_at(&1_u32.to_ne_bytes(), at::STOP)?;
        self.end()?;
        self.page.write_all_at(&0_u32.to_ne_bytes(), at::STOP)
    }

    /// Puts a text into the page, with a zero behind it; the value is its address in the puppet.
    ///
    /// # Errors
    /// When the page cannot be written.
    pub fn text(&mut self, text: &str) -> io::Result<i64> {
        self.page.write_all_at(text.as_bytes(), at::TEXT)?;
        self.page.write_all_at(&[0], at::TEXT + text.len() as u64)?;
        Ok(PAGE + at::TEXT.cast_signed())
    }

    fn begin(&mut self, i386: bool, nr: i64, args: &[i64], times: u64) -> io::Result<()> {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        self.page
            .write_all_at(&u32::from(i386).to_ne_bytes(), at::I386)?;
        self.page.write_all_at(&times.to_ne_bytes(), at::TIMES)?;
        self.page.write_all_at(&nr.to_ne_bytes(), at::NR)?;
        self.page
            .write_all_at(&all.map(i64::to_ne_bytes).concat(), at::ARGS)?;
        self.command += 1;
        self.page
            .write_all_at(&self.command.to_ne_bytes(), at::COMMAND)
    }

    fn end(&mut self) -> io::Result<i64> {
        self.until(|puppet| {
            let mut done = [0; 4];
            puppet.page.read_exact_at(&mut done, at::DONE)?;
            Ok(u32::from_ne_bytes(done) == puppet.command)
        })?;
        Ok(self.number(at::RESULT)?.cast_signed())
    }

    /// A member of eight bytes.
    fn number(&self, at: u64) -> io::Result<u64> {
        let mut number = [0; 8];
        self.page.read_exact_at(&mut number, at)?;
        Ok(u64::from_ne_bytes(number))
    }

    fn until(&mut self, ready: impl Fn(&Self) -> io::Result<bool>) -> io::Result<()> {
        let start = Instant::now();
        while !ready(self)? {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("the puppet ended: {status}")));
            }
            if start.elapsed() > PATIENCE {
                return Err(io::Error::other("the puppet does not answer"));
            }
            sleep(Duration::from_micros(100));
        }
        Ok(())
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        // Both fail only when it has ended, which is what they are for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
