//! What a filter denied, as the kernel counted it.

use crate::{arch::Arch, errno, observation::Phase};
use std::fmt;

/// Distinct samples of arguments that are kept of a denial, at most.
pub const MAX_SAMPLES: usize = 8;

/// Calls of one number that a filter answered with one result: each left the kernel without having entered it.
///
/// Any filter counts, also one that the application installed itself: they cannot be told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The ABI of the call.
    pub arch: Arch,
    /// The part of the container's life.
    pub phase: Phase,
    /// The number, for x32 without bit 30.
    pub nr: i64,
    /// Its name, where the tables have one.
    pub name: Option<String>,
    /// What came back: a negative errno (ERRNO, and NOTIFY that its listener refused); the number itself for TRAP and KILL; else a
    /// value that a listener made up. See [`Answer::of`].
    pub result: i64,
    /// How often, exactly. KILL counts once for each process or thread that it killed.
    pub count: u64,
    /// Who, the most frequent first.
    pub processes: Vec<Denier>,
    /// What remains of `count`: calls of processes for which the kernel's map had no room.
    pub others: u64,
    /// Arguments, at most [`MAX_SAMPLES`] distinct ones, the earliest first. 32 bits each for a 32-bit ABI; pointers are addresses.
    pub samples: Vec<[u64; 6]>,
}

/// A process that was denied a call, with the program that it ran then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denier {
    /// Thread group id.
    pub pid: u32,
    /// Name of the thread that was the first to be denied it.
    pub comm: String,
    /// The program's file, as it was executed; `None` where it is not known any more.
    pub exe: Option<String>,
    /// How often.
    pub count: u64,
}

/// How a filter answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The call failed with this errno.
    Errno(u16),
    /// SIGSYS: TRAP, which a handler may survive, or KILL.
    Signal,
    /// The call seemed to succeed: ERRNO with 0, or a listener's value.
    Value(i64),
}

impl Answer {
    /// What the result of a denied call says. ERRNO with 0 of the call with number 0 looks like SIGSYS and is taken for that.
    #[must_use]
    pub fn of(nr: i64, result: i64) -> Self {
        match result {
            result if result >= 0 && result == nr => Self::Signal,
            result => match u16::try_from(-i128::from(result)) {
                Ok(errno) if (1..=errno::MAX).contains(&errno) => Self::Errno(errno),
                _ => Self::Value(result),
            },
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(number) => match errno::name(*number) {
                Some(name) => f.write_str(name),
                None => write!(f, "errno {number}"),
            },
            Self::Signal => f.write_str("SIGSYS"),
            Self::Value(value) => write!(f, "result {value}"),
        }
    }
}

impl Denial {
    /// What the result says.
    #[must_use]
    pub fn answer(&self) -> Answer {
        Answer::of(self.nr, self.result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_told_apart() {
        let cases = [
            (102, -1, Answer::Errno(1), "EPERM"),
            (102, -38, Answer::Errno(38), "ENOSYS"),
            (102, -4095, Answer::Errno(4095), "errno 4095"),
            // The number -1 denied with EPERM.
            (-1, -1, Answer::Errno(1), "EPERM"),
            (102, 102, Answer::Signal, "SIGSYS"),
            (0, 0, Answer::Signal, "SIGSYS"),
            (102, 0, Answer::Value(0), "result 0"),
            (102, 7, Answer::Value(7), "result 7"),
            (102, -4096, Answer::Value(-4096), "result -4096"),
        ];
        for (nr, result, expect, shown) in cases {
            let answer = Answer::of(nr, result);
            assert_eq!(
                (answer, answer.to_string().as_str()),
                (expect, shown),
                "{nr} = {result}"
            );
        }
    }
}
