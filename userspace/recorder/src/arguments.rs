//! The arguments that are recorded (`seccast_model::arguments`), as the maps hold them.

use seccast_common::ArgumentRule;
use seccast_model::arguments::{self, CALLS};

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
    let count = arguments::of(name).len().max(1);
    halves.into_iter().take(count).collect()
}

/// The indices of the arguments of a call, in the order of [`split`].
pub(crate) fn indices(name: &str) -> Vec<u32> {
    arguments::of(name)
        .into_iter()
        .map(|(index, _)| index)
        .collect()
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
