//! Small programs with exactly known system calls.
//!
//! Each is a static C program without a C library (`programs/*.c`): it makes the calls that its source shows and no others, whatever
//! the environment, the limits and the kind of stdio. [`PROGRAMS`] is the truth that tests compare recordings with;
//! `tests/truth.rs` proves it with ptrace(2), without seccast.

pub mod numbers;
pub mod puppet;

use seccast_model::arch::Arch;
use seccast_model::arch::Arch::{X32, X86, X86_64};
use std::path::{Path, PathBuf};

/// A program and every call that it makes after the execve that starts it.
#[derive(Debug)]
pub struct Program {
    /// The name of its source, and of its file.
    pub name: &'static str,
    /// The calls that enter the kernel, those with a name.
    pub calls: &'static [Call],
    /// The calls whose number no table names.
    pub unknown: &'static [Unknown],
    /// The calls that its own filter denies: they never reach the tracepoint. Empty where it installs none.
    pub denied: &'static [Call],
    /// Programs beside it that it executes.
    pub needs: &'static [&'static str],
}

/// A call by one ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The ABI by which it is made, which is not always the program's.
    pub arch: Arch,
    /// Its number there, for x32 with bit 30.
    pub nr: u32,
    /// Its name there.
    pub name: &'static str,
    /// How often; `None` where chance decides, at least once.
    pub count: Option<u64>,
}

/// A call that no table names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The ABI by which it is made.
    pub arch: Arch,
    /// Its number, for x32 without bit 30.
    pub nr: i64,
    /// How often.
    pub count: u64,
}

const fn call(arch: Arch, nr: u32, name: &'static str, count: u64) -> Call {
    Call {
        arch,
        nr,
        name,
        count: Some(count),
    }
}

const fn some(arch: Arch, nr: u32, name: &'static str) -> Call {
    Call {
        arch,
        nr,
        name,
        count: None,
    }
}

const fn unknown(arch: Arch, nr: i64, count: u64) -> Unknown {
    Unknown { arch, nr, count }
}

/// Bit 30.
const X32_BIT: u32 = 0x4000_0000;

const PROGRAM: Program = Program {
    name: "",
    calls: &[],
    unknown: &[],
    denied: &[],
    needs: &[],
};

const BEHIND_A_FILTER: [Call; 2] = [
    call(X86_64, 110, "getppid", 23),
    call(X86_64, 104, "getgid", 1),
];

/// The programs that need no argument and end by themselves.
pub const PROGRAMS: &[Program] = &[
    Program {
        name: "x86_64",
        calls: &[
            call(X86_64, 110, "getppid", 23),
            call(X86_64, 0, "read", 1),
            call(X86_64, 39, "getpid", 1),
            call(X86_64, 63, "uname", 1),
            call(X86_64, 257, "openat", 1),
            call(X86_64, 439, "faccessat2", 1),
            call(X86_64, 102, "getuid", 1),
            call(X86_64, 231, "exit_group", 1),
        ],
        ..PROGRAM
    },
    Program {
        name: "i386",
        calls: &[
            call(X86, 64, "getppid", 23),
            call(X86, 39, "mkdir", 1),
            call(X86, 20, "getpid", 1),
            call(X86, 201, "geteuid32", 1),
            call(X86, 102, "socketcall", 1),
            call(X86, 403, "clock_gettime64", 1),
            call(X86, 252, "exit_group", 1),
        ],
        ..PROGRAM
    },
    Program {
        name: "x32",
        calls: &[
            call(X32, X32_BIT | 110, "getppid", 23),
            call(X32, X32_BIT | 39, "getpid", 1),
            call(X32, X32_BIT | 512, "rt_sigaction", 1),
            call(X86_64, 102, "getuid", 1),
            call(X86_64, 231, "exit_group", 1),
        ],
        ..PROGRAM
    },
    Program {
        name: "int80",
        calls: &[
            call(X86, 64, "getppid", 23),
            call(X86, 20, "getpid", 1),
            call(X86, 54, "ioctl", 1),
            call(X86_64, 102, "getuid", 1),
            call(X86_64, 231, "exit_group", 1),
        ],
        ..PROGRAM
    },
    Program {
        name: "threads",
        calls: &[
            call(X86_64, 56, "clone", 4),
            call(X86_64, 110, "getppid", 4 * 23),
            call(X86_64, 102, "getuid", 1),
            call(X86_64, 104, "getgid", 1),
            call(X86_64, 107, "geteuid", 1),
            call(X86_64, 108, "getegid", 1),
            call(X86_64, 60, "exit", 4),
            some(X86_64, 24, "sched_yield"),
            call(X86_64, 231, "exit_group", 1),
        ],
        ..PROGRAM
    },
    Program {
        name: "fork",
        calls: &[
            call(X86_64, 102, "getuid", 1),
            call(X86_64, 57, "fork", 2),
            call(X86_64, 110, "getppid", 23),
            call(X86_64, 104, "getgid", 1),
            call(X86_64, 61, "wait4", 2),
            call(X86_64, 231, "exit_group", 3),
        ],
        ..PROGRAM
    },
    Program {
        name: "vfork",
        calls: &[
            call(X86_64, 58, "vfork", 1),
            call(X86_64, 110, "getppid", 23),
            call(X86_64, 59, "execve", 1),
            call(X86_64, 102, "getuid", 1),
            call(X86_64, 61, "wait4", 1),
            call(X86_64, 231, "exit_group", 2),
        ],
        ..PROGRAM
    },
    Program {
        name: "clone3",
        calls: &[
            call(X86_64, 435, "clone3", 1),
            call(X86_64, 110, "getppid", 23),
            call(X86_64, 60, "exit", 1),
            call(X86_64, 61, "wait4", 1),
            call(X86_64, 231, "exit_group", 1),
        ],
        ..PROGRAM
    },
    Program {
        name: "chain1",
        calls: &[
            call(X86_64, 110, "getppid", 23),
            call(X86_64, 102, "getuid", 1),
            call(X86_64, 104, "getgid", 1),
            call(X86_64, 107, "geteuid", 1),
            // chain1's two, of which one fails, and chain3's.
            call(X86_64, 59, "execve", 3),
            call(X86_64, 322, "execveat", 1),
            call(X86, 64, "getppid", 23),
            call(X86, 39, "mkdir", 1),
            call(X86, 20, "getpid", 1),
            call(X86, 201, "geteuid32", 1),
            call(X86, 102, "socketcall", 1),
            call(X86, 403, "clock_gettime64", 1),
            call(X86, 252, "exit_group", 1),
        ],
        needs: &["chain2", "chain3", "i386"],
        ..PROGRAM
    },
    Program {
        name: "thread_exec",
        calls: &[
            call(X86_64, 56, "clone", 1),
            // The thread's, then plain's.
            call(X86_64, 110, "getppid", 2 * 23),
            call(X86_64, 59, "execve", 1),
            some(X86_64, 24, "sched_yield"),
            call(X86_64, 39, "getpid", 1),
            call(X86_64, 102, "getuid", 1),
            call(X86_64, 72, "fcntl", 1),
            call(X86_64, 202, "futex", 1),
            call(X86_64, 35, "nanosleep", 1),
            call(X86_64, 231, "exit_group", 1),
        ],
        needs: &["plain"],
        ..PROGRAM
    },
    Program {
        name: "signal",
        calls: &[
            call(X86_64, 13, "rt_sigaction", 1),
            call(X86_64, 39, "getpid", 1),
            call(X86_64, 62, "kill", 1),
            call(X86_64, 110, "getppid", 23),
            call(X86_64, 15, "rt_sigreturn", 1),
            call(X86_64, 231, "exit_group", 1),
        ],
        ..PROGRAM
    },
    Program {
        name: "unknown",
        calls: &[
            call(X86_64, 110, "getppid", 23),
            call(X86_64, 231, "exit_group", 1),
        ],
        unknown: &[
            unknown(X86_64, 5000, 7),
            unknown(X86_64, -1, 3),
            unknown(X86_64, 1000, 1),
            unknown(X86, 1001, 1),
            unknown(X86, 6000, 1),
            unknown(X32, 1002, 1),
        ],
        ..PROGRAM
    },
    Program {
        name: "own_filter_seccomp",
        calls: &[
            call(X86_64, 157, "prctl", 1),
            call(X86_64, 317, "seccomp", 1),
            BEHIND_A_FILTER[0],
            BEHIND_A_FILTER[1],
            call(X86_64, 231, "exit_group", 1),
        ],
        denied: &[call(X86_64, 102, "getuid", 1)],
        ..PROGRAM
    },
    Program {
        name: "own_filter_prctl",
        calls: &[
            call(X86_64, 157, "prctl", 2),
            BEHIND_A_FILTER[0],
            BEHIND_A_FILTER[1],
            call(X86_64, 231, "exit_group", 1),
        ],
        denied: &[call(X86_64, 102, "getuid", 1)],
        ..PROGRAM
    },
    Program {
        name: "plain",
        calls: &[
            call(X86_64, 110, "getppid", 23),
            call(X86_64, 39, "getpid", 1),
            call(X86_64, 102, "getuid", 1),
            call(X86_64, 72, "fcntl", 1),
            call(X86_64, 202, "futex", 1),
            call(X86_64, 35, "nanosleep", 1),
            call(X86_64, 231, "exit_group", 1),
        ],
        ..PROGRAM
    },
];

/// The program of that name.
///
/// # Panics
/// When [`PROGRAMS`] has none.
#[must_use]
pub fn program(name: &str) -> &'static Program {
    match PROGRAMS.iter().find(|program| program.name == name) {
        Some(program) => program,
        None => unreachable!("no workload is called {name}"),
    }
}

/// Where the program is: those of [`PROGRAMS`], what they need, and the ones that tests steer: `sleeper`, `one`, `storm`, `race`,
/// `forks`, `execs`, `swarm`, `runners`, `reuse`, `puppet`, `mover`, `vsyscall`, `own_filter_stays`, `notified`. Each source says what it takes.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("OUT_DIR")).join(name)
}
