//! What the seccomp filters of a traced program answer to a call; `seccast_model::filter` runs their programs.
//!
//! ptrace(2) stops a thread before its filters see the call, and tells at the exit only what came back, which an allowed
//! call may answer as well. So the filters that a traced program installs are read when it installs them, and asked
//! about each of its calls. Semantics: net/core/filter.c and kernel/seccomp.c; linux/filter.h, linux/seccomp.h.

use super::request::Entry;
use seccast_model::filter::{Instruction, run};
use std::sync::Arc;

/// Instructions of a program, at most (BPF_MAXINSNS).
pub(super) const LONGEST: u16 = 4096;

/// A filter that a program has installed.
#[derive(Clone, Debug)]
pub(super) enum Filter {
    /// Mode 1: read, write, exit and sigreturn.
    Strict,
    /// Mode 2.
    Program(Vec<Instruction>),
}

/// The filters of a thread, the newest first; what it makes has them too.
#[derive(Clone, Debug, Default)]
pub(super) struct Filters(Option<Arc<(Filter, Filters)>>);

/// SECCOMP_RET_ALLOW, SECCOMP_RET_LOG, SECCOMP_RET_USER_NOTIF and the mask of actions.
const ALLOW: u32 = 0x7fff_0000;
const LOG: u32 = 0x7ffc_0000;
const USER_NOTIF: u32 = 0x7fc0_0000;
const ACTION: u32 = 0xffff_0000;
const KILL_THREAD: u32 = 0;

impl Filters {
    /// With one more.
    pub(super) fn with(&self, filter: Filter) -> Self {
        Self(Some(Arc::new((filter, self.clone()))))
    }

    /// Does one of them keep the call from being made?
    ///
    /// Not where the strictest answer is USER_NOTIF: a supervisor decides, and another filter that denies the call would
    /// not even ask it.
    pub(super) fn deny(&self, entry: &Entry) -> bool {
        let mut strictest = ALLOW;
        let mut next = self;
        while let Some(node) = &next.0 {
            let answer = node.0.answer(entry) & ACTION;
            // The kernel compares actions as signed numbers.
            if answer.cast_signed() < strictest.cast_signed() {
                strictest = answer;
            }
            next = &node.1;
        }
        !matches!(strictest, ALLOW | LOG | USER_NOTIF)
    }
}

impl Filter {
    fn answer(&self, entry: &Entry) -> u32 {
        match self {
            Self::Strict => {
                // kernel/seccomp.c, mode1_syscalls: read, write, exit, rt_sigreturn, and sigreturn of 32 bits.
                let allowed: &[i32] = match entry.arch {
                    super::AUDIT_I386 | super::AUDIT_ARM => &[3, 4, 1, 119],
                    super::AUDIT_AARCH64 => &[63, 64, 93, 139],
                    _ => &[0, 1, 60, 15],
                };
                if allowed.contains(&entry.nr) {
                    ALLOW
                } else {
                    KILL_THREAD
                }
            }
            Self::Program(program) => run(program, &data(entry)).unwrap_or(KILL_THREAD),
        }
    }
}

/// `struct seccomp_data`: nr, arch, instruction pointer, six arguments; as the 32-bit words that a program may load.
fn data(entry: &Entry) -> [u32; 16] {
    let mut words = [0; 16];
    words[0] = entry.nr.cast_unsigned();
    words[1] = entry.arch;
    for (pair, value) in words[2..]
        .chunks_exact_mut(2)
        .zip(std::iter::once(entry.ip).chain(entry.args))
    {
        let bytes = value.to_ne_bytes();
        for (word, half) in pair.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = half.try_into().map_or(0, u32::from_ne_bytes);
        }
    }
    words
}

/// A program as it lies in memory: `struct sock_filter` one after the other.
pub(super) fn instructions(bytes: &[u8]) -> Vec<Instruction> {
    let (of_eight, _) = bytes.as_chunks();
    let instruction = |[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; 8]| Instruction {
        code: u16::from_ne_bytes([*c0, *c1]),
        jt: *jt,
        jf: *jf,
        k: u32::from_ne_bytes([*k0, *k1, *k2, *k3]),
    };
    of_eight.iter().map(instruction).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(instructions: &[(u16, u8, u8, u32)]) -> Filter {
        let bytes = instructions.iter().flat_map(|(code, jt, jf, k)| {
            [
                &code.to_ne_bytes()[..],
                &[*jt, *jf][..],
                &k.to_ne_bytes()[..],
            ]
            .concat()
        });
        Filter::Program(super::instructions(&bytes.collect::<Vec<u8>>()))
    }

    fn call(nr: i32) -> Entry {
        Entry {
            nr,
            arch: 0xc000_003e,
            args: [0x1_0000_0002, 0, 0, 0, 0, 7],
            ..Entry::default()
        }
    }

    const ERRNO: u32 = 0x0005_0001;

    #[test]
    fn numbers_architectures_and_halves_of_arguments_are_loaded() {
        for (offset, value) in [
            (0, 39),
            (4, 0xc000_003e),
            (16, 2),
            (20, 1),
            (56, 7),
            (60, 0),
        ] {
            let only = program(&[
                (0x20, 0, 0, offset),
                (0x15, 1, 0, value),
                (0x06, 0, 0, ERRNO),
                (0x06, 0, 0, ALLOW),
            ]);
            assert!(
                !Filters::default().with(only.clone()).deny(&call(39)),
                "offset {offset}"
            );
            let other = Entry {
                nr: 1,
                arch: 1,
                ip: 1,
                args: [u64::MAX; 6],
            };
            assert!(
                Filters::default().with(only).deny(&other),
                "offset {offset}"
            );
        }
    }

    #[test]
    fn the_strictest_of_all_filters_decides_and_none_denies_nothing() {
        let all = |action| program(&[(0x06, 0, 0, action)]);
        let of = |actions: &[u32]| {
            actions
                .iter()
                .fold(Filters::default(), |filters, action| {
                    filters.with(all(*action))
                })
                .deny(&call(39))
        };
        assert!(!of(&[]));
        assert!(!of(&[ALLOW, LOG, ALLOW]));
        assert!(!of(&[USER_NOTIF]));
        assert!(of(&[ALLOW, ERRNO, LOG]));
        // KILL_PROCESS, KILL_THREAD, TRAP, TRACE without a tracer that asked for it.
        for action in [0x8000_0000, 0, 0x0003_0000, 0x7ff0_0000] {
            assert!(of(&[ALLOW, action]) && of(&[action, ALLOW]));
        }
        // A supervisor is not asked where another filter denies.
        assert!(of(&[USER_NOTIF, ERRNO]));
    }

    #[test]
    fn strict_mode_allows_four_calls_of_each_abi() {
        let strict = Filters::default().with(Filter::Strict);
        let allowed = (0..512)
            .filter(|nr| !strict.deny(&call(*nr)))
            .collect::<Vec<_>>();
        assert_eq!(allowed, [0, 1, 15, 60]);
    }

    #[test]
    fn arithmetic_is_the_kernels() {
        // (39 - 40) >> 28 = 15, stored, loaded, * 3, ^ 1 = 44; jset 4; ja over a denial.
        let filter = program(&[
            (0x20, 0, 0, 0),
            (0x14, 0, 0, 40),
            (0x74, 0, 0, 28),
            (0x02, 0, 0, 15),
            (0x00, 0, 0, 3),
            (0x61, 0, 0, 15),
            (0x2c, 0, 0, 0),
            (0xa4, 0, 0, 1),
            (0x45, 0, 2, 4),
            (0x05, 0, 0, 1),
            (0x06, 0, 0, ERRNO),
            (0x15, 0, 1, 44),
            (0x06, 0, 0, ALLOW),
            (0x06, 0, 0, ERRNO),
        ]);
        assert!(!Filters::default().with(filter).deny(&call(39)));
        let divided_by_zero = program(&[(0x01, 0, 0, 0), (0x3c, 0, 0, 0), (0x06, 0, 0, ALLOW)]);
        assert!(Filters::default().with(divided_by_zero).deny(&call(39)));
    }
}
