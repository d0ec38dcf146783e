//! The truth of the workloads, told by ptrace(2) and not by seccast: every call of every process and thread, counted by ABI and number.
#![allow(
    clippy::unwrap_used,
    clippy::zombie_processes,
    reason = "a test fails by panicking, and its own wait reaps"
)]

use seccast_model::arch::Arch;
use seccast_workloads::numbers;
use seccast_workloads::puppet::Puppet;
use seccast_workloads::{PROGRAMS, Program, path};
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::mem;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::ptr;

/// Calls by ABI and number (x32 without bit 30, negative numbers as such).
type Calls = BTreeMap<(Arch, i64), u64>;

#[test]
fn every_program_makes_exactly_the_calls_of_its_table() {
    for program in PROGRAMS {
        // sched_yield is the one call whose count is chance.
        let mut seen = trace(program.name, &[], &[]);
        let mut expected = expected(program);
        for call in program.calls.iter().filter(|call| call.count.is_none()) {
            let key = (call.arch, i64::from(call.nr & 0x3fff_ffff));
            assert!(
                seen.remove(&key).is_some(),
                "{}: {} is not called",
                program.name,
                call.name
            );
            expected.remove(&key);
        }
        assert_eq!(seen, expected, "{}", program.name);
    }
}

#[test]
fn one_makes_the_one_call_that_it_is_told() {
    for (arch, nr) in [(Arch::X86_64, 110), (Arch::X86, 64), (Arch::X32, 546)] {
        let [abi, number] = numbers::one(arch, nr);
        let seen = trace("one", &[&abi, &number], &[]);
        assert_eq!(
            seen,
            Calls::from([((arch, i64::from(nr)), 1), ((Arch::X86_64, 231), 1)])
        );
    }
}

#[test]
fn forks_makes_each_call_of_its_list_once() {
    let list: Vec<_> = (500..600)
        .flat_map(|nr| [(Arch::X86_64, nr), (Arch::X86, nr), (Arch::X32, nr + 100)])
        .collect();
    let mut seen = trace("forks", &[], &numbers::encode(&list));
    // The kernel begins fork and wait4 anew, as new calls, when a SIGCHLD comes in between.
    for (own, count) in [(0, 2), (57, 300), (60, 300), (61, 300), (231, 1)] {
        let made = seen.remove(&(Arch::X86_64, own)).unwrap();
        assert!(
            made == count || made > count && [57, 61].contains(&own),
            "{own}: {made}"
        );
    }
    assert_eq!(
        seen,
        list.into_iter()
            .map(|(arch, nr)| ((arch, i64::from(nr)), 1))
            .collect()
    );
}

#[test]
fn execs_executes_itself_as_often_as_it_is_told() {
    let seen = trace("execs", &["23", "/dev/zero"], &[]);
    let counts = [(59, 23), (257, 1), (0, 1), (231, 1)];
    let expected = counts.map(|(nr, count)| ((Arch::X86_64, nr), count));
    assert_eq!(seen, expected.into());
}

#[test]
fn a_puppet_makes_the_calls_that_it_is_told() {
    let page = std::env::temp_dir().join(format!("puppet-{}", std::process::id()));
    let mut puppet = Puppet::start(&page).unwrap();
    std::fs::remove_file(&page).unwrap();
    assert_eq!(puppet.call(39, &[]).unwrap(), i64::from(puppet.pid()));
    assert_eq!(puppet.call_i386(20, &[]).unwrap(), i64::from(puppet.pid()));
    let name = puppet.text("/nonexistent").unwrap();
    assert_eq!(
        puppet.call(257, &[-100, name, 0]).unwrap(),
        i64::from(-libc::ENOENT)
    );
    puppet.repeat(110, &[]).unwrap();
    puppet.stop().unwrap();
    assert_eq!(puppet.call(5000, &[]).unwrap(), i64::from(-libc::ENOSYS));
}

fn expected(program: &Program) -> Calls {
    let named = program.calls.iter().chain(program.denied);
    let named =
        named.filter_map(|call| Some(((call.arch, i64::from(call.nr & 0x3fff_ffff)), call.count?)));
    named
        .chain(
            program
                .unknown
                .iter()
                .map(|unknown| ((unknown.arch, unknown.nr), unknown.count)),
        )
        .collect()
}

/// Runs a workload and counts its calls after the execve that starts it.
fn trace(name: &str, args: &[&str], stdin: &[u8]) -> Calls {
    let mut command = Command::new(path(name));
    command.args(args).stdin(Stdio::piped());
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe {
        command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    let root = child.id().cast_signed();

    // It stops with a SIGTRAP when it has executed the program.
    assert_eq!(
        wait(root),
        Some((root, Stop::Signal(libc::SIGTRAP))),
        "{name}"
    );
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_EXITKILL;
    ptrace(libc::PTRACE_SETOPTIONS, root, options as usize);
    ptrace(libc::PTRACE_SYSCALL, root, 0);

    let mut calls = Calls::new();
    let mut code = None;
    let mut fresh = Vec::new();
    while let Some((pid, stop)) = wait(-1) {
        let signal = match stop {
            Stop::Syscall => {
                if let Some(key) = entered(pid) {
                    *calls.entry(key).or_default() += 1;
                }
                0
            }
            Stop::Event => 0,
            Stop::Ended(status) => {
                if pid == root {
                    code = Some(status);
                }
                continue;
            }
            // A new process or thread begins with a SIGSTOP that nobody sent.
            Stop::Signal(libc::SIGSTOP) if !fresh.contains(&pid) => {
                fresh.push(pid);
                0
            }
            Stop::Signal(signal) => signal,
        };
        ptrace(libc::PTRACE_SYSCALL, pid, signal as usize);
    }
    assert_eq!(code, Some(0), "{name}: exit code");
    calls
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Syscall,
    Event,
    Signal(i32),
    Ended(i32),
}

/// Waits for any process or thread that this thread traces; `None` when there is none left.
fn wait(pid: i32) -> Option<(i32, Stop)> {
    let mut status = 0;
    // SAFETY: `status` is a valid place for the result. __WNOTHREAD keeps to the tracees of this thread: tests run beside each other.
    let pid = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
    if pid < 0 {
        assert_eq!(
            io::Error::last_os_error().raw_os_error(),
            Some(libc::ECHILD)
        );
        return None;
    }
    let stop = if libc::WIFEXITED(status) {
        Stop::Ended(libc::WEXITSTATUS(status))
    } else if libc::WIFSIGNALED(status) {
        Stop::Ended(128 + libc::WTERMSIG(status))
    } else if status >> 16 != 0 {
        Stop::Event
    } else if libc::WSTOPSIG(status) == libc::SIGTRAP | 0x80 {
        Stop::Syscall
    } else {
        Stop::Signal(libc::WSTOPSIG(status))
    };
    Some((pid, stop))
}

/// The call that the process is about to make; `None` when it is leaving one.
fn entered(pid: i32) -> Option<(Arch, i64)> {
    // SAFETY: a struct of integers, valid when zero.
    let mut info: libc::ptrace_syscall_info = unsafe { mem::zeroed() };
    // SAFETY: `info` is as large as said, and the process is stopped and traced by this thread.
    let got = unsafe {
        libc::ptrace(
            libc::PTRACE_GET_SYSCALL_INFO,
            pid,
            mem::size_of_val(&info),
            &raw mut info,
        )
    };
    assert!(got > 0, "{}", io::Error::last_os_error());
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return None;
    }
    // SAFETY: `op` says which member of the union is valid.
    let nr = i64::from(unsafe { info.u.entry.nr } as i32);
    // 32-bit x86 is the one audit architecture here without the 64-bit flag.
    Some(match info.arch {
        0x4000_0003 => (Arch::X86, nr),
        _ if nr > 0 && nr & 0x4000_0000 != 0 => (Arch::X32, nr & 0x3fff_ffff),
        _ => (Arch::X86_64, nr),
    })
}

fn ptrace(request: libc::c_uint, pid: i32, data: usize) {
    // SAFETY: these requests take integers only.
    let result = unsafe { libc::ptrace(request, pid, ptr::null_mut::<u8>(), data) };
    // A process that was killed while it was stopped is gone; its end is reported by wait.
    let error = io::Error::last_os_error();
    assert!(
        result == 0 || error.raw_os_error() == Some(libc::ESRCH),
        "ptrace {request} of {pid}: {error}"
    );
}
