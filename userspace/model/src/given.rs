//! Was the profile in force: what a container's runtime was handed, held against what it was to get.

use crate::profile::{Action, Profile};

/// Whether the profile that is judged was the one that the target ran under.
///
/// What a client was told on its command line is no evidence: a compose file, a manifest or `--privileged` outdoes it. The
/// evidence is the OCI configuration that the runtime got, and whether a filter was on when the application was executed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Given {
    /// The profile, by what it means.
    Profile,
    /// Another filter.
    Other,
    /// No filter.
    None,
    /// It cannot be told, and why.
    Unknown(String),
}

impl Given {
    /// `handed`: the runtime's filter, where its configuration has one, or why that is not known. `filtered`: whether a
    /// filter was on, where processes showed it.
    ///
    /// Profiles are compared by their effects, not by their spelling. `flags` and the errno of a denial do not count: engines
    /// drop both (docker 20.10 knows no `defaultErrnoRet`), and neither decides which calls are denied.
    #[must_use]
    pub fn of(
        wanted: &Profile,
        handed: Result<Option<&Profile>, String>,
        filtered: Option<bool>,
    ) -> Self {
        match (handed, filtered) {
            (_, Some(false)) | (Ok(None), _) => Self::None,
            (Ok(Some(handed)), _) if means(handed) == means(wanted) => Self::Profile,
            (Ok(Some(_)), _) => Self::Other,
            (Err(why), _) => Self::Unknown(why),
        }
    }

    /// A word for files.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Other => "other",
            Self::None => "none",
            Self::Unknown(_) => "unknown",
        }
    }

    /// The inverse of [`Given::name`]; `why` of one that is not known.
    #[must_use]
    pub fn from_name(name: &str, why: Option<String>) -> Option<Self> {
        match name {
            "profile" => Some(Self::Profile),
            "other" => Some(Self::Other),
            "none" => Some(Self::None),
            "unknown" => Some(Self::Unknown(why.unwrap_or_default())),
            _ => None,
        }
    }

    /// Why the profile is not known to have been in force; `None` where it was.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Profile => None,
            Self::Other => Some("the container's runtime was handed another filter".to_owned()),
            Self::None => Some("the container ran without a filter".to_owned()),
            Self::Unknown(why) => Some(why.clone()),
        }
    }
}

/// What a profile does, without what does not decide whether a call happens.
fn means(profile: &Profile) -> Profile {
    let action = |action: Action| match action {
        Action::Errno(_) => Action::Errno(0),
        other => other,
    };
    let mut plain = Profile {
        default_action: action(profile.default_action),
        flags: None,
        ..profile.clone()
    };
    for rule in &mut plain.rules {
        rule.action = action(rule.action);
    }
    plain.normalized()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arch, audit_profile, profile::OciArch};

    fn allowing(names: &[&str]) -> Profile {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Profile::allowing(names, [OciArch::from(Arch::X86_64)].into())
    }

    #[test]
    fn only_what_the_runtime_was_handed_counts() {
        let wanted = allowing(&["read", "write"]);
        let mut split = allowing(&["write"]);
        split.rules.extend(allowing(&["read"]).rules);
        let mut docker = wanted.clone();
        docker.default_action = Action::Errno(1);
        let mut flagged = wanted.clone();
        flagged.flags = Some(["SECCOMP_FILTER_FLAG_LOG".to_owned()].into());
        let mut killing = wanted.clone();
        killing.default_action = Action::KillProcess;
        let mut open = wanted.clone();
        open.architectures.insert(OciArch::from(Arch::X86));
        let why = || "its bundle is gone".to_owned();
        for (what, handed, filtered, expected) in [
            ("itself", Ok(Some(&wanted)), Some(true), Given::Profile),
            ("before it ran", Ok(Some(&wanted)), None, Given::Profile),
            ("in two rules", Ok(Some(&split)), Some(true), Given::Profile),
            ("another errno", Ok(Some(&docker)), None, Given::Profile),
            ("flags", Ok(Some(&flagged)), None, Given::Profile),
            ("another action", Ok(Some(&killing)), None, Given::Other),
            ("one more ABI", Ok(Some(&open)), None, Given::Other),
            (
                "less",
                Ok(Some(&allowing(&["read"]))),
                Some(true),
                Given::Other,
            ),
            ("more", Ok(Some(&audit_profile())), Some(true), Given::Other),
            ("none", Ok(None), None, Given::None),
            ("an inherited one", Ok(None), Some(true), Given::None),
            (
                "handed, not on",
                Ok(Some(&wanted)),
                Some(false),
                Given::None,
            ),
            ("unread", Err(why()), Some(true), Given::Unknown(why())),
            ("unread, none on", Err(why()), Some(false), Given::None),
        ] {
            let given = Given::of(&wanted, handed, filtered);
            assert_eq!(given, expected, "{what}");
            assert_eq!(given.reason().is_none(), given == Given::Profile, "{what}");
        }
    }
}
