//! Exit codes: an interface (the table of the README).

use std::{fmt, process::ExitCode};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, nothing found.
    Done,
    /// Findings: an incomplete recording or profile, a shut gate, what is not as wanted.
    Findings,
    /// What was typed cannot be meant, beyond what clap finds.
    Usage,
    /// Could not: kernel, privileges, runtime, file, nothing recorded.
    CouldNot,
    /// `record -- CMD`: our own failure before CMD ran.
    BeforeCommand,
    /// CMD cannot be executed.
    NotExecutable,
    /// CMD was not found.
    NotFound,
    /// CMD's own.
    Command(u8),
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Findings => 1,
            Self::Usage => 2,
            Self::CouldNot => 3,
            Self::BeforeCommand => 125,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
            Self::Command(code) => code,
        }
    }

    /// The exit that an error asks for with [`Failed`], else [`Exit::CouldNot`].
    pub fn of(error: &anyhow::Error) -> Self {
        error
            .downcast_ref::<Failed>()
            .map_or(Self::CouldNot, |failed| failed.exit)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error context that fixes the exit code.
#[derive(Debug)]
pub struct Failed {
    /// The exit.
    pub exit: Exit,
    /// What failed.
    pub what: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}
