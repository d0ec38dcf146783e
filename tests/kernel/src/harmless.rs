//! Calls that can be made with arguments of -1 by a process without capabilities, and do nothing.

use seccast_model::arch::Arch;
use seccast_model::syscall;

/// The calls that are left out, and why. Everything else fails with these arguments (EFAULT, EBADF, EINVAL, EPERM, ENOSYS…) or
/// answers a question.
pub const EXCLUDED: &[(&str, &str)] = &[
    ("exit", "ends the thread"),
    ("exit_group", "ends the process"),
    ("fork", "makes a process whatever its arguments"),
    ("vfork", "makes a process whatever its arguments"),
    ("rt_sigreturn", "jumps to wherever the stack says"),
    ("sigreturn", "jumps to wherever the stack says"),
    ("uretprobe", "answers SIGILL outside of a probe"),
    (
        "uprobe",
        "answers SIGILL outside of a probe on some kernels",
    ),
    ("pause", "blocks until a signal comes"),
    (
        "sigsuspend",
        "blocks until a signal comes: its third argument is the mask itself",
    ),
    (
        "sync",
        "blocks until every file system of the machine is written",
    ),
    ("alarm", "sets a timer: its argument is the time itself"),
    ("umask", "changes the mask: its argument is the mask itself"),
    (
        "ssetmask",
        "changes the signal mask: its argument is the mask itself",
    ),
    (
        "nice",
        "changes the priority: its argument is the step itself",
    ),
    ("setsid", "leaves the session"),
    (
        "set_tid_address",
        "changes the word that the end of a thread clears, by which the workloads wait for it",
    ),
    ("eventfd", "makes a descriptor whatever its argument"),
    ("inotify_init", "makes a descriptor: it has no arguments"),
    (
        "msgget",
        "makes a message queue: -1 is a key, and has the bits of IPC_CREAT",
    ),
    ("kill", "signals every process: -1 is no pid of one"),
    ("vhangup", "hangs up the terminal where it is allowed"),
];

/// The numbers below 1,024 that may be called, for x32 without bit 30.
#[must_use]
pub fn numbers(arch: Arch) -> Vec<u32> {
    let excluded = |name| EXCLUDED.iter().any(|&(excluded, _)| excluded == name);
    (0..1024)
        .filter(|&nr| !syscall::name(arch, nr).is_some_and(excluded))
        .collect()
}

/// The calls that may be made and have a name, of all ABIs that an x86_64 program can call by.
#[must_use]
pub fn named() -> Vec<(Arch, u32)> {
    all()
        .into_iter()
        .filter(|&(arch, nr)| syscall::name(arch, nr).is_some())
        .collect()
}

/// Every number below 1,024 that may be called, of all ABIs that an x86_64 program can call by.
#[must_use]
pub fn all() -> Vec<(Arch, u32)> {
    [Arch::X86_64, Arch::X86, Arch::X32]
        .into_iter()
        .flat_map(|arch| numbers(arch).into_iter().map(move |nr| (arch, nr)))
        .collect()
}
