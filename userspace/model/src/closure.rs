//! Calls that are allowed whether they were seen or not: the core that no program can live without, and those that the same program makes
//! on another kernel or machine.

use crate::arch::Arch;

/// A call of the core.
pub(crate) struct Core {
    pub(crate) name: &'static str,
    /// The only architecture where it is one, of those that have it.
    pub(crate) on: Option<Arch>,
    pub(crate) why: &'static str,
}

/// Always allowed. Those that an architecture does not have are left out of its profiles.
pub(crate) const CORE: [Core; 12] = [
    Core {
        name: "arch_prctl",
        on: None,
        why: "sets the thread pointer when a program starts: nothing that may be executed runs without it",
    },
    Core {
        name: "execve",
        on: None,
        why: "the runtime starts the application with it, under the filter",
    },
    Core {
        name: "exit",
        on: None,
        why: "a thread ends with it",
    },
    Core {
        name: "exit_group",
        on: None,
        why: "a process ends with it",
    },
    Core {
        name: "restart_syscall",
        on: None,
        why: "the kernel makes a program call it after a freeze, a stop or a debugger; without it glibc aborts",
    },
    Core {
        name: "rseq",
        on: None,
        why: "the C library calls it when a thread starts, depending on its version and the kernel's",
    },
    Core {
        name: "rt_sigprocmask",
        on: None,
        why: "signal handling",
    },
    Core {
        name: "rt_sigreturn",
        on: None,
        why: "every signal handler returns with it, and a recording may see no signal",
    },
    Core {
        name: "set_robust_list",
        on: None,
        why: "the C library calls it when a thread starts",
    },
    Core {
        name: "set_thread_area",
        on: Some(Arch::X86),
        why: "sets the thread pointer when an i386 program starts; x86_64, which has the call as well, uses arch_prctl",
    },
    Core {
        name: "set_tls",
        on: None,
        why: "sets the thread pointer when a 32-bit Arm program starts, as the register can only be read there",
    },
    Core {
        name: "sigreturn",
        on: None,
        why: "signal handlers of 32-bit programs return with it",
    },
];

/// When `when` was recorded, or added by another rule, `add` is allowed as well.
pub(crate) struct Rule {
    /// `None`: always.
    pub(crate) when: Option<&'static str>,
    pub(crate) add: &'static [&'static str],
    pub(crate) why: &'static str,
    pub(crate) source: &'static str,
}

/// The fallbacks of C libraries, and calls that the vDSO answers on one machine and the kernel on another.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        when: Some("clone3"),
        add: &["clone"],
        why: "the C library falls back to it where clone3 is missing or hidden by a filter",
        source: "glibc sysdeps/unix/sysv/linux/clone-internal.c; clone(2)",
    },
    Rule {
        when: Some("clone"),
        add: &["clone3"],
        why: "the same C library prefers it where no outer filter hides it: a recording under docker's default never shows it",
        source: "glibc sysdeps/unix/sysv/linux/clone-internal.c; moby profiles/seccomp/default.json",
    },
    Rule {
        when: Some("faccessat2"),
        add: &["faccessat"],
        why: "the C library falls back to it before Linux 5.8",
        source: "glibc sysdeps/unix/sysv/linux/faccessat.c",
    },
    Rule {
        when: Some("close_range"),
        add: &["openat", "getdents64", "close"],
        why: "the C library reads /proc/self/fd instead before Linux 5.9",
        source: "glibc sysdeps/unix/sysv/linux/closefrom_fallback.c",
    },
    Rule {
        when: Some("statx"),
        add: &["newfstatat", "fstatat64"],
        why: "the C library falls back to it before Linux 4.11, and where a filter hides statx",
        source: "glibc sysdeps/unix/sysv/linux/statx.c",
    },
    Rule {
        when: Some("openat2"),
        add: &["openat"],
        why: "programs fall back to it before Linux 5.6",
        source: "openat2(2)",
    },
    Rule {
        when: Some("epoll_pwait2"),
        add: &["epoll_pwait"],
        why: "programs fall back to it before Linux 5.11",
        source: "epoll_wait(2)",
    },
    Rule {
        when: Some("fchmodat2"),
        add: &["fchmodat"],
        why: "the C library falls back to it before Linux 6.6",
        source: "glibc sysdeps/unix/sysv/linux/fchmodat.c",
    },
    Rule {
        when: Some("renameat2"),
        add: &["renameat"],
        why: "the C library falls back to it where renameat2 is missing",
        source: "glibc sysdeps/unix/sysv/linux/renameat2.c",
    },
    Rule {
        when: Some("preadv2"),
        add: &["preadv"],
        why: "the C library falls back to it where preadv2 is missing",
        source: "glibc sysdeps/unix/sysv/linux/preadv2.c",
    },
    Rule {
        when: Some("pwritev2"),
        add: &["pwritev"],
        why: "the C library falls back to it where pwritev2 is missing",
        source: "glibc sysdeps/unix/sysv/linux/pwritev2.c",
    },
    Rule {
        when: Some("futex_waitv"),
        add: &["futex"],
        why: "programs fall back to it before Linux 5.16",
        source: "futex_waitv(2)",
    },
    Rule {
        when: Some("nanosleep"),
        add: &["clock_nanosleep"],
        why: "C libraries sleep with either, by their version",
        source: "glibc 2.31 release notes; vdso(7)",
    },
    Rule {
        when: Some("clock_nanosleep"),
        add: &["nanosleep"],
        why: "C libraries sleep with either, by their version",
        source: "glibc 2.31 release notes; vdso(7)",
    },
    Rule {
        when: None,
        add: &[
            "clock_getres",
            "clock_getres_time64",
            "clock_gettime",
            "clock_gettime64",
            "getcpu",
            "getrandom",
            "gettimeofday",
            "time",
        ],
        why: "answered without a system call where the clock allows it, by the kernel on other machines",
        source: "vdso(7)",
    },
    // 32-bit programs ask for 64-bit time first, and fall back before Linux 5.1.
    time64("clock_adjtime64", &["clock_adjtime"]),
    time64("clock_nanosleep_time64", &["clock_nanosleep"]),
    time64("clock_settime64", &["clock_settime"]),
    time64("futex_time64", &["futex"]),
    time64("io_pgetevents_time64", &["io_pgetevents"]),
    time64("mq_timedreceive_time64", &["mq_timedreceive"]),
    time64("mq_timedsend_time64", &["mq_timedsend"]),
    time64("ppoll_time64", &["ppoll"]),
    time64("pselect6_time64", &["pselect6"]),
    time64("recvmmsg_time64", &["recvmmsg"]),
    time64("rt_sigtimedwait_time64", &["rt_sigtimedwait"]),
    time64("sched_rr_get_interval_time64", &["sched_rr_get_interval"]),
    // i386 has it behind ipc, Arm as a call of its own.
    time64("semtimedop_time64", &["ipc", "semtimedop"]),
    time64("timer_gettime64", &["timer_gettime"]),
    time64("timer_settime64", &["timer_settime"]),
    time64("timerfd_gettime64", &["timerfd_gettime"]),
    time64("timerfd_settime64", &["timerfd_settime"]),
    time64("utimensat_time64", &["utimensat"]),
];

const fn time64(name: &'static str, add: &'static [&'static str]) -> Rule {
    Rule {
        when: Some(name),
        add,
        why: "32-bit programs fall back to it before Linux 5.1",
        source: "glibc sysdeps/unix/sysv/linux, __ASSUME_TIME64_SYSCALLS",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscall;

    #[test]
    fn every_name_exists_somewhere() {
        for core in &CORE {
            assert!(syscall::info(core.name).is_some(), "{}", core.name);
        }
        for rule in RULES {
            for name in rule.add.iter().chain(&rule.when) {
                assert!(syscall::info(name).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn every_time64_call_of_the_tables_has_a_rule() {
        for info in syscall::infos() {
            if info.name.ends_with("_time64") {
                let known = RULES
                    .iter()
                    .any(|rule| rule.when == Some(info.name) || rule.add.contains(&info.name));
                assert!(known, "{}", info.name);
            }
        }
    }
}
