//! Classic BPF filters: what a profile is compiled to, and what the kernel runs at each system call.
//!
//! [`Filter::compile`] makes of a profile what runc and crun make of it through libseccomp: `tests/conformance` compares the two.
//! Facts: seccomp(2), linux/filter.h, linux/seccomp.h, net/core/filter.c and kernel/seccomp.c.

mod assemble;
mod compile;
mod interpret;
mod library;

use crate::errno;
use crate::profile::{Action, Call};

pub use compile::CompileError;
pub use interpret::run;

/// Instructions of a filter, at most: `BPF_MAXINSNS`.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// The 32-bit words of `struct seccomp_data`: number, architecture, instruction pointer and six arguments, these in two halves each.
pub type Data = [u32; 16];

/// One instruction: `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Instructions to skip where a comparison holds.
    pub jt: u8,
    /// The same where it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// A program for seccomp(2): never empty, at most [`MAX_INSTRUCTIONS`] long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    instructions: Vec<Instruction>,
}

impl Filter {
    /// What seccomp(2) is given.
    #[must_use]
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// What the kernel does with a call under this filter alone.
    #[must_use]
    pub fn run(&self, call: &Call) -> Action {
        // The kernel takes no filter that does not end; if it did, it would kill.
        run(&self.instructions, &data(call)).map_or(Action::KillProcess, action)
    }
}

/// The call as a filter gets it, on the little-endian machines that all tables are for; the instruction pointer is 0.
#[must_use]
pub fn data(call: &Call) -> Data {
    let mut words = [0; 16];
    words[0] = call.raw_nr();
    words[1] = call.arch.audit_token();
    for (halves, arg) in words[4..].chunks_exact_mut(2).zip(call.args) {
        halves[0] = low(arg);
        halves[1] = high(arg);
    }
    words
}

fn low(value: u64) -> u32 {
    (value & u64::from(u32::MAX)) as u32
}

fn high(value: u64) -> u32 {
    (value >> 32) as u32
}

/// `SECCOMP_RET_ACTION_FULL` and `SECCOMP_RET_DATA`.
const ACTION: u32 = 0xffff_0000;
const DATA: u32 = 0x0000_ffff;

const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const USER_NOTIF: u32 = 0x7fc0_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;

/// What the kernel does with a filter's value: `__seccomp_filter`.
#[must_use]
pub fn action(value: u32) -> Action {
    let data = (value & DATA) as u16;
    match value & ACTION {
        KILL_THREAD => Action::KillThread,
        TRAP => Action::Trap,
        // Larger ones are cut.
        ERRNO => Action::Errno(data.min(errno::MAX)),
        USER_NOTIF => Action::Notify,
        TRACE => Action::Trace(data),
        LOG => Action::Log,
        ALLOW => Action::Allow,
        // KILL_PROCESS, and whatever the kernel does not know.
        _ => Action::KillProcess,
    }
}

/// The inverse of [`action`].
#[must_use]
pub fn value(action: Action) -> u32 {
    match action {
        Action::KillProcess => KILL_PROCESS,
        Action::KillThread => KILL_THREAD,
        Action::Trap => TRAP,
        Action::Errno(errno) => ERRNO | u32::from(errno),
        Action::Notify => USER_NOTIF,
        Action::Trace(message) => TRACE | u32::from(message),
        Action::Log => LOG,
        Action::Allow => ALLOW,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_linux_seccomp_h() {
        let cases = [
            (Action::KillProcess, 0x8000_0000),
            (Action::KillThread, 0),
            (Action::Trap, 0x0003_0000),
            (Action::Errno(38), 0x0005_0026),
            (Action::Errno(4095), 0x0005_0fff),
            (Action::Notify, 0x7fc0_0000),
            (Action::Trace(4095), 0x7ff0_0fff),
            (Action::Log, 0x7ffc_0000),
            (Action::Allow, 0x7fff_0000),
        ];
        for (of, number) in cases {
            assert_eq!(value(of), number);
            assert_eq!(action(number), of);
        }
        // The kernel takes the strictest of several filters' values, as signed numbers.
        assert!(cases.is_sorted_by_key(|(_, number)| number.cast_signed()));
        assert!(cases.is_sorted_by_key(|(action, _)| *action));
        assert_eq!(action(0x0005_ffff), Action::Errno(4095));
        assert_eq!(action(0x1234_0000), Action::KillProcess);
    }
}
