//! The requests of ptrace(2), and the stops that wait(2) reports for them.

use std::{io, mem, ptr};

/// `PTRACE_GET_SYSCALL_INFO` and the others of linux/ptrace.h that the libc crate lacks for some C libraries.
const GET_SYSCALL_INFO: u32 = 0x420e;
const EVENT_STOP: i32 = 128;
const INFO_ENTRY: u8 = 1;
const INFO_EXIT: u8 = 2;

/// Every process and thread that a traced one makes is traced as well, and none outlives the tracer untraced.
const OPTIONS: i32 = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_EXITKILL;

/// What a traced thread has stopped for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It enters or leaves a call.
    Call,
    /// It has made a process or thread.
    Forked,
    /// It has executed a program.
    Executed,
    /// It is stopped with its process, until a SIGCONT (job control).
    Group,
    /// It was just made, or was asked to stop, or goes on after a SIGCONT.
    Trap,
    /// It is about to take a signal.
    Signal(i32),
    /// It has ended, with this status of wait(2).
    Ended(i32),
}

/// `struct ptrace_syscall_info` of linux/ptrace.h; `data` is its union.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Info {
    op: u8,
    pad: [u8; 3],
    arch: u32,
    ip: u64,
    sp: u64,
    data: [u64; 8],
}

/// A call that is entered, in the terms of `struct seccomp_data`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// As the kernel reads it: 32 bits, for x32 with bit 30.
    pub(super) nr: i32,
    /// `AUDIT_ARCH_*` of linux/audit.h.
    pub(super) arch: u32,
    /// The instruction.
    pub(super) ip: u64,
    /// In the order of the call's ABI.
    pub(super) args: [u64; 6],
}

/// Which end of a call a thread has stopped at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Entry(Entry),
    /// The result, a negative errno for a failure.
    Exit(i64),
}

/// A thread that has something to report; `None` while there is none, ECHILD when nothing is left to wait for.
pub(super) fn next() -> io::Result<Option<(i32, Stop)>> {
    let mut status = 0;
    // SAFETY: a valid place for the status.
    let tid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::WNOHANG) };
    match tid {
        0 => Ok(None),
        tid if tid < 0 => Err(io::Error::last_os_error()),
        tid => Ok(Some((tid, stop(status)))),
    }
}

/// Waits for a thread that was asked to stop.
pub(super) fn stopped(tid: i32) -> io::Result<()> {
    loop {
        // SAFETY: the status is not asked for.
        if unsafe { libc::waitpid(tid, ptr::null_mut(), libc::__WALL) } == tid {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn stop(status: i32) -> Stop {
    if !libc::WIFSTOPPED(status) {
        return Stop::Ended(status);
    }
    match (libc::WSTOPSIG(status), status >> 16) {
        (signal, 0) if signal == libc::SIGTRAP | 0x80 => Stop::Call,
        (signal, 0) => Stop::Signal(signal),
        (libc::SIGTRAP, EVENT_STOP) => Stop::Trap,
        (_, EVENT_STOP) => Stop::Group,
        (_, libc::PTRACE_EVENT_EXEC) => Stop::Executed,
        _ => Stop::Forked,
    }
}

/// Begins to trace a process, which goes on running (3.4).
pub(super) fn seize(pid: i32) -> io::Result<()> {
    request(libc::PTRACE_SEIZE, pid, OPTIONS as usize)
}

/// Asks a traced thread to stop.
pub(super) fn interrupt(tid: i32) -> io::Result<()> {
    request(libc::PTRACE_INTERRUPT, tid, 0)
}

/// Lets a stopped thread run to its next stop, with a signal if not 0. It may have been killed: then it reports that.
pub(super) fn resume(tid: i32, signal: i32) {
    let _ = request(libc::PTRACE_SYSCALL, tid, signal as usize);
}

/// Leaves a thread stopped, and still hears of its SIGCONT.
pub(super) fn listen(tid: i32) {
    let _ = request(libc::PTRACE_LISTEN, tid, 0);
}

/// Lets go of a stopped thread, with a signal if not 0.
pub(super) fn detach(tid: i32, signal: i32) {
    let _ = request(libc::PTRACE_DETACH, tid, signal as usize);
}

/// What an event is about: the new thread, or the former id of one that has executed a program.
pub(super) fn message(tid: i32) -> Option<i32> {
    let mut message: libc::c_ulong = 0;
    // SAFETY: a valid place for the message.
    let result = unsafe {
        libc::ptrace(
            libc::PTRACE_GETEVENTMSG,
            tid,
            ptr::null_mut::<u8>(),
            &raw mut message,
        )
    };
    (result == 0).then(|| i32::try_from(message).ok()).flatten()
}

/// The call that a thread has stopped at (5.3). `None` when the thread was killed meanwhile.
pub(super) fn end(tid: i32) -> io::Result<Option<End>> {
    let mut info = Info::default();
    // SAFETY: `info` is as large as said.
    let got = unsafe { libc::ptrace(GET_SYSCALL_INFO, tid, mem::size_of::<Info>(), &raw mut info) };
    if got < 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ESRCH) => Ok(None),
            _ => Err(error),
        };
    }
    let [nr, a, b, c, d, e, f, _] = info.data;
    Ok(match info.op {
        INFO_ENTRY => Some(End::Entry(Entry {
            // The kernel takes 32 bits of the register (syscall_get_nr).
            nr: (nr as u32).cast_signed(),
            arch: info.arch,
            ip: info.ip,
            args: [a, b, c, d, e, f],
        })),
        INFO_EXIT => Some(End::Exit(nr.cast_signed())),
        _ => None,
    })
}

/// Memory of a stopped thread; `None` where there is none.
pub(super) fn memory(tid: i32, address: u64, length: usize) -> Option<Vec<u8>> {
    let from = address & !7;
    let before = usize::try_from(address - from).ok()?;
    let words = (before + length).div_ceil(8);
    let mut bytes = Vec::with_capacity(words * 8);
    for word in 0..words as u64 {
        bytes.extend(peek(tid, from.checked_add(word * 8)?)?.to_ne_bytes());
    }
    bytes.get(before..before + length).map(<[u8]>::to_vec)
}

/// A text of a stopped thread's with a zero at its end, of which at most `limit` bytes are taken.
pub(super) fn text(tid: i32, address: u64, limit: usize) -> Option<String> {
    let mut bytes = Vec::new();
    while bytes.len() < limit {
        let at = address.checked_add(bytes.len() as u64)?;
        // Up to the next word: never more than the text needs of a page.
        let part = memory(tid, at, 8 - (at & 7) as usize)?;
        match part.iter().position(|byte| *byte == 0) {
            Some(end) => {
                bytes.extend(&part[..end]);
                break;
            }
            None => bytes.extend(part),
        }
    }
    bytes.truncate(limit);
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn peek(tid: i32, address: u64) -> Option<libc::c_long> {
    let address = usize::try_from(address).ok()?;
    // SAFETY: errno is this thread's own; a word may be -1, so only errno tells of a failure.
    unsafe {
        *libc::__errno_location() = 0;
        let word = libc::ptrace(libc::PTRACE_PEEKDATA, tid, address, 0usize);
        (*libc::__errno_location() == 0).then_some(word)
    }
}

/// A request without pointers.
fn request(request: libc::c_uint, tid: i32, data: usize) -> io::Result<()> {
    // SAFETY: these requests take integers only.
    match unsafe { libc::ptrace(request, tid, ptr::null_mut::<u8>(), data) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_are_told_apart_by_signal_and_event() {
        let stopped = |signal: i32, event: i32| stop(event << 16 | signal << 8 | 0x7f);
        assert_eq!(stopped(libc::SIGTRAP | 0x80, 0), Stop::Call);
        assert_eq!(stopped(libc::SIGTRAP, 0), Stop::Signal(libc::SIGTRAP));
        assert_eq!(stopped(libc::SIGSTOP, 0), Stop::Signal(libc::SIGSTOP));
        assert_eq!(stopped(libc::SIGSTOP, EVENT_STOP), Stop::Group);
        assert_eq!(stopped(libc::SIGTRAP, EVENT_STOP), Stop::Trap);
        assert_eq!(stopped(libc::SIGTRAP, 4), Stop::Executed);
        assert_eq!(stopped(libc::SIGTRAP, 3), Stop::Forked);
        assert_eq!(stop(7 << 8), Stop::Ended(7 << 8));
        assert_eq!(stop(libc::SIGKILL), Stop::Ended(libc::SIGKILL));
    }
}
