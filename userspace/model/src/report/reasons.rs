//! What `diff` and `check` take from a report, of this run or of the file beside a profile: who made each call first, and whether
//! the profile may lack any.

use super::{Origin, Report};
use crate::arch::Arch;
use crate::json::{self, Kind, Refusal};
use crate::observation::Caller;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;

const SCHEMA: &str = "seccast/report.v1";

/// Why a profile is as it is, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reasons {
    /// Why the profile may lack calls, in words; `None` where there is no report.
    pub incomplete: Option<Vec<String>>,
    /// When the last of its recordings ended, nanoseconds since the Unix epoch.
    pub recorded_ns: Option<u64>,
    /// Every call with all reasons for it.
    pub calls: BTreeMap<String, Vec<Why>>,
}

/// Why a call is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Why {
    /// `application`, `exec`, `core`, `base`…: the word of the report.
    pub origin: String,
    /// The ABI that it was recorded with; `None` where it was not recorded.
    pub arch: Option<Arch>,
    /// Who made it first.
    pub caller: Option<Caller>,
    /// Nanoseconds since the start of the recording.
    pub first_ns: Option<u64>,
    /// The recording.
    pub recording: Option<String>,
    /// The reason, of a call that was not recorded.
    pub why: Option<String>,
}

impl Why {
    /// Recorded reasons before others, explained ones before bare ones, then by time.
    pub(crate) fn rank(&self) -> impl Ord + use<> {
        (
            self.arch.is_none(),
            self.caller.is_none(),
            self.first_ns.is_none(),
            self.first_ns,
            self.recording.clone(),
        )
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.arch.is_none() {
            f.write_str(&self.origin)?;
            if let Some(why) = &self.why {
                write!(f, ": {}", why.escape_debug())?;
            }
            return Ok(());
        }
        match &self.caller {
            Some(caller) => {
                write!(f, "first by {}[{}]", caller.comm.escape_debug(), caller.pid)?;
                if let Some(exe) = &caller.exe {
                    write!(f, " {}", exe.escape_debug())?;
                }
            }
            None => f.write_str("recorded")?,
        }
        if self.origin != "application" {
            write!(f, " ({})", self.origin.escape_debug())?;
        }
        if let Some(ns) = self.first_ns {
            let (seconds, milliseconds) = (ns / 1_000_000_000, ns / 1_000_000 % 1000);
            write!(f, ", {seconds}.{milliseconds:03} s after the start")?;
        }
        Ok(())
    }
}

/// Why a file is not a report that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Larger than any report, or with more values.
    #[error("the file is larger than any report")]
    TooLarge,
    /// Not JSON, or cut off.
    #[error("not valid JSON, or cut off")]
    Syntax(#[source] serde_json::Error),
    /// JSON of another kind or version.
    #[error("this is {}, not a report of this version ({SCHEMA}); `seccast generate` writes it anew", kind.noun())]
    Foreign {
        /// What it seems to be.
        kind: Kind,
    },
    /// A field is wrong.
    #[error("field `{field}`: {reason}")]
    Field {
        /// Its path.
        field: String,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Deserialize)]
struct File {
    incomplete: Vec<FileIncomplete>,
    recordings: Vec<FileRecording>,
    syscalls: BTreeMap<String, Vec<FileOrigin>>,
}

#[derive(Deserialize)]
struct FileIncomplete {
    message: String,
}

#[derive(Deserialize)]
struct FileRecording {
    ended_ns: u64,
}

#[derive(Deserialize)]
struct FileOrigin {
    origin: String,
    arch: Option<String>,
    caller: Option<FileCaller>,
    first_ns: Option<u64>,
    recording_id: Option<String>,
    why: Option<String>,
}

#[derive(Deserialize)]
struct FileCaller {
    pid: u32,
    comm: String,
    exe: Option<String>,
}

impl Reasons {
    /// Those of a report that was just made.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        let why = |origin: &Origin| match origin {
            Origin::Recorded(seen) => Why {
                origin: seen.part.name().to_owned(),
                arch: Some(seen.arch),
                caller: seen.caller.clone(),
                first_ns: seen.first_ns,
                recording: Some(seen.recording.clone()),
                why: None,
            },
            Origin::Core { why } => added("core", why),
            Origin::Base { why, .. } => added("base", why),
            Origin::Closure { why, .. } => added("closure", why),
        };
        Self {
            incomplete: Some(report.incomplete.iter().map(ToString::to_string).collect()),
            recorded_ns: report.recordings.iter().map(|one| one.ended_ns).max(),
            calls: report
                .syscalls
                .iter()
                .map(|(name, origins)| (name.clone(), origins.iter().map(why).collect()))
                .collect(),
        }
    }

    /// Those of a report file.
    ///
    /// # Errors
    /// When the bytes are no report of this version.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ReadError> {
        let value = json::value(bytes).map_err(|refusal| match refusal {
            Refusal::TooLarge { .. } | Refusal::TooManyValues => ReadError::TooLarge,
            Refusal::Syntax(error) => ReadError::Syntax(error),
        })?;
        if value.get("schema").and_then(serde_json::Value::as_str) != Some(SCHEMA) {
            return Err(ReadError::Foreign {
                kind: Kind::of(&value),
            });
        }
        let file: File =
            json::typed(value).map_err(|(field, reason)| ReadError::Field { field, reason })?;
        let why = |origin: FileOrigin| Why {
            arch: origin.arch.as_deref().and_then(Arch::from_name),
            origin: origin.origin,
            caller: origin.caller.map(|caller| Caller {
                pid: caller.pid,
                comm: caller.comm,
                exe: caller.exe,
                ..Caller::default()
            }),
            first_ns: origin.first_ns,
            recording: origin.recording_id,
            why: origin.why,
        };
        Ok(Self {
            incomplete: Some(file.incomplete.into_iter().map(|one| one.message).collect()),
            recorded_ns: file.recordings.iter().map(|one| one.ended_ns).max(),
            calls: file
                .syscalls
                .into_iter()
                .map(|(name, origins)| (name, origins.into_iter().map(why).collect()))
                .collect(),
        })
    }
}

fn added(origin: &str, why: &str) -> Why {
    Why {
        origin: origin.to_owned(),
        why: Some(why.to_owned()),
        ..Why::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Observation, Policy, generate};

    /// What is read of the file is what was taken of the report in memory.
    #[test]
    fn a_report_and_its_file_give_the_same_reasons() {
        let file = include_bytes!("../../../../profiles/apps/redis/observation.json");
        let observation = Observation::from_json(file).unwrap();
        let report = generate(&[observation], &Policy::default()).unwrap().report;
        let reasons = Reasons::of(&report);
        assert_eq!(
            Reasons::from_json(report.to_json().as_bytes()).unwrap(),
            reasons
        );
        assert_eq!(reasons.incomplete.as_deref(), Some(&[] as &[String]));
    }

    #[test]
    fn another_file_is_named() {
        let check = |text: &str| Reasons::from_json(text.as_bytes()).unwrap_err().to_string();
        assert!(
            check("{\"defaultAction\": 1}").starts_with("this is a seccomp profile, not a report")
        );
        assert!(
            check("{\"schema\": \"seccast/report.v9\"}")
                .starts_with("this is a report, not a report of this version")
        );
        assert_eq!(
            check("{\"schema\": \"seccast/report.v1\", \"incomplete\": 3}"),
            "field `incomplete`: invalid type: integer `3`, expected a sequence"
        );
    }
}
