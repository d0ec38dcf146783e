//! The load: a process that forks, executes and waits, as fast as one CPU can.

use std::{
    io::{self, Write as _},
    ptr,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use crate::measured::pin;

/// Forks and executes `true` until standard input is closed; then says how often and for how many nanoseconds.
pub(crate) fn run(cpu: usize) -> Result<()> {
    pin(cpu)?;
    let mut out = io::stdout().lock();
    writeln!(out, "ready")
        .and_then(|()| out.flush())
        .context("cannot say that the load is ready")?;
    let start = Instant::now();
    let mut rounds = 0u64;
    while !closed() {
        one()?;
        rounds += 1;
    }
    writeln!(out, "{rounds} {}", start.elapsed().as_nanos())
        .and_then(|()| out.flush())
        .context("cannot say how much was done")
}

fn one() -> Result<()> {
    let program = c"/bin/true";
    let arguments = [program.as_ptr(), ptr::null()];
    let environment = [ptr::null()];
    // SAFETY: this process has one thread; the child calls only execve and _exit, with constant strings that end in
    // zero and lists that end in null.
    let child = unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr());
            libc::_exit(127);
        }
        child
    };
    if child < 0 {
        return Err(io::Error::last_os_error()).context("cannot fork");
    }
    let mut status = 0;
    // SAFETY: a valid pointer to a local.
    if unsafe { libc::waitpid(child, &raw mut status, 0) } != child || status != 0 {
        bail!("/bin/true did not run: status {status:#x}");
    }
    Ok(())
}

/// Whether standard input has ended; nothing is ever written into it.
fn closed() -> bool {
    let mut fd = libc::pollfd {
        fd: libc::STDIN_FILENO,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid pollfd; no time limit is waited for.
    unsafe { libc::poll(&raw mut fd, 1, 0) != 0 }
}
