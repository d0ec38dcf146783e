//! Which calls have their arguments recorded (design 6): scalars that a profile could hold to, 32 bits wide to the kernel.
//!
//! Pointers, descriptors and sizes are never among them, and nothing on a hot path but `fcntl` and `ioctl`, whose commands
//! are few.

use seccast_common::ArgumentRule;

/// Namespace flags of clone(2): everything from CLONE_NEWTIME to CLONE_NEWNET that makes a namespace.
const NAMESPACES: u32 = 0x7e02_0080;
const ALL: u32 = u32::MAX;

/// Index and mask.
type Argument = (u32, u32);

/// The calls, each with one or two arguments.
const CALLS: [(&str, Argument, Option<Argument>); 15] = [
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
];

/// The calls with their rules, for the maps.
pub(crate) fn rules() -> impl Iterator<Item = (&'static str, ArgumentRule)> {
    CALLS.into_iter().map(|(name, low, high)| {
        let (high, high_mask) = high.unwrap_or_default();
        (
            name,
            ArgumentRule {
                low: low.0,
                low_mask: low.1,
                high,
                high_mask,
            },
        )
    })
}

/// A recorded value as one number an argument.
pub(crate) fn split(name: &str, value: u64) -> Vec<u32> {
    let halves = [value & u64::from(u32::MAX), value >> 32]
        .map(|half| u32::try_from(half).unwrap_or_default());
    let two = CALLS
        .iter()
        .any(|(call, _, high)| *call == name && high.is_some());
    halves.into_iter().take(if two { 2 } else { 1 }).collect()
}

/// The indices of the arguments of a call, in the order of [`split`].
pub(crate) fn indices(name: &str) -> Vec<u32> {
    let call = CALLS.iter().find(|(call, ..)| *call == name);
    call.map(|(_, low, high)| {
        [Some(low.0), high.map(|high| high.0)]
            .into_iter()
            .flatten()
            .collect()
    })
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use seccast_common::NUMBERS;
    use seccast_model::arch::Arch;

    #[test]
    fn every_call_is_known_and_fits_the_map() {
        assert!(rules().count() <= seccast_common::ARGUMENT_RULES);
        for (name, _) in rules() {
            let info = seccast_model::syscall::info(name).unwrap();
            let numbers = Arch::ALL.into_iter().filter_map(|arch| info.nr(arch));
            assert!(numbers.max().unwrap() < NUMBERS as u32, "{name}");
        }
    }

    #[test]
    fn pairs_are_split_and_singles_are_not() {
        assert_eq!(split("socket", 1 << 32 | 2), [2, 1]);
        assert_eq!(split("ioctl", 0x5401), [0x5401]);
        assert_eq!(indices("setsockopt"), [1, 2]);
    }
}
