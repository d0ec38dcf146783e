//! Which calls have their arguments recorded (design 6): scalars that a profile could hold to, 32 bits wide to the kernel.
//!
//! Pointers, descriptors and sizes are never among them, and nothing on a hot path but `fcntl` and `ioctl`, whose commands
//! are few.

/// Namespace flags of clone(2): everything from CLONE_NEWTIME to CLONE_NEWNET that makes a namespace.
const NAMESPACES: u32 = 0x7e02_0080;
const ALL: u32 = u32::MAX;

/// An argument of a call: its index, 0 to 5, and the bits that are kept of it.
pub type Argument = (u32, u32);

/// The calls, each with one or two arguments.
pub const CALLS: [(&str, Argument, Option<Argument>); 16] = [
    // The type without SOCK_CLOEXEC and SOCK_NONBLOCK.
    ("socket", (0, ALL), Some((1, 0xf))),
    ("clone", (0, NAMESPACES), None),
    ("unshare", (0, ALL), None),
    ("setns", (1, ALL), None),
    ("ioctl", (1, ALL), None),
    ("prctl", (0, ALL), None),
    ("personality", (0, ALL), None),
    ("fcntl", (1, ALL), None),
    ("fcntl64", (1, ALL), None),
    ("setsockopt", (1, ALL), Some((2, ALL))),
    ("bpf", (0, ALL), None),
    ("keyctl", (0, ALL), None),
    ("ptrace", (0, ALL), None),
    ("prlimit64", (1, ALL), None),
    ("arch_prctl", (0, ALL), None),
    // The operation and the flags: one of them asks for a listener.
    ("seccomp", (0, ALL), Some((1, ALL))),
];

/// The arguments that are recorded of a call, in the order of their values; none for most calls.
#[must_use]
pub fn of(name: &str) -> Vec<Argument> {
    let call = CALLS.iter().find(|(call, ..)| *call == name);
    call.map(|(_, first, second)| [Some(*first), *second].into_iter().flatten().collect())
        .unwrap_or_default()
}
