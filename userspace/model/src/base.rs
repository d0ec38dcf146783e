//! What a container runtime itself calls after it has loaded the filter and before the application runs.
//!
//! Never learned from a recording: some of these calls come by chance (a signal of the Go runtime), so that a recorded base fails now
//! and then. The data is `profiles/runtime/*.json`, with its origin in it.

use crate::json;
use crate::policy::Runtime;
use serde::Deserialize;
use std::collections::BTreeSet;

const FILES: [(Runtime, &str); 2] = [
    (
        Runtime::Runc,
        include_str!("../../../profiles/runtime/runc.json"),
    ),
    (
        Runtime::Crun,
        include_str!("../../../profiles/runtime/crun.json"),
    ),
];

/// What the base depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Situation {
    /// `process.noNewPrivileges`.
    pub no_new_privs: bool,
    /// The bundle has startContainer hooks, which run under the filter.
    pub start_container_hooks: bool,
    /// Processes may be started in the running container.
    pub exec: bool,
    /// The profile is for aarch64, perhaps beside others.
    pub aarch64: bool,
}

/// Calls that a runtime makes for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The runtime; never [`Runtime::Any`].
    pub runtime: Runtime,
    /// Its name in the file.
    pub name: String,
    /// The reason.
    pub why: String,
    /// The calls.
    pub names: BTreeSet<String>,
}

/// A file of `profiles/runtime/` is not in order. It is part of the program, so this is a bug in it.
#[derive(Debug, thiserror::Error)]
#[error("profiles/runtime/{runtime}.json, field `{field}`: {reason}")]
pub struct BaseError {
    runtime: Runtime,
    field: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "schema")]
    _schema: String,
    #[serde(rename = "runtime")]
    _runtime: String,
    #[serde(rename = "measured_with")]
    _measured_with: Vec<String>,
    #[serde(rename = "origin")]
    _origin: String,
    groups: Vec<FileGroup>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileGroup {
    group: String,
    #[serde(default)]
    when: Vec<When>,
    why: String,
    names: BTreeSet<String>,
}

/// All of a group's have to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum When {
    WithoutNoNewPrivs,
    StartContainerHooks,
    Exec,
    Aarch64,
}

impl When {
    fn holds(self, situation: Situation) -> bool {
        match self {
            Self::WithoutNoNewPrivs => !situation.no_new_privs,
            Self::StartContainerHooks => situation.start_container_hooks,
            Self::Exec => situation.exec,
            Self::Aarch64 => situation.aarch64,
        }
    }
}

/// The groups that apply; for [`Runtime::Any`] those of every runtime.
///
/// # Errors
/// Only when the program was built with a broken file.
pub fn groups(runtime: Runtime, situation: Situation) -> Result<Vec<Group>, BaseError> {
    let mut groups = Vec::new();
    for (of, text) in FILES {
        if runtime != Runtime::Any && runtime != of {
            continue;
        }
        let error = |(field, reason)| BaseError {
            runtime: of,
            field,
            reason,
        };
        let value =
            serde_json::from_str(text).map_err(|e| error((".".to_owned(), e.to_string())))?;
        let file: File = json::typed(value).map_err(error)?;
        groups.extend(
            file.groups
                .into_iter()
                .filter(|group| group.when.iter().all(|when| when.holds(situation)))
                .map(|group| Group {
                    runtime: of,
                    name: group.group,
                    why: group.why,
                    names: group.names,
                }),
        );
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;
    use crate::syscall;

    fn names(runtime: Runtime, no_new_privs: bool, hooks: bool, exec: bool) -> BTreeSet<String> {
        let situation = Situation {
            no_new_privs,
            start_container_hooks: hooks,
            exec,
            aarch64: false,
        };
        groups(runtime, situation)
            .unwrap()
            .into_iter()
            .flat_map(|group| group.names)
            .collect()
    }

    #[test]
    fn sizes_are_those_measured() {
        assert_eq!(names(Runtime::Runc, true, false, true).len(), 26);
        assert_eq!(names(Runtime::Runc, false, false, true).len(), 39);
        assert_eq!(names(Runtime::Runc, false, true, true).len(), 44);
        assert_eq!(names(Runtime::Crun, true, false, false).len(), 4);
        assert_eq!(names(Runtime::Crun, false, false, false).len(), 15);
        assert_eq!(names(Runtime::Crun, true, false, true).len(), 6);
        assert_eq!(names(Runtime::Crun, false, false, true).len(), 20);
    }

    #[test]
    fn any_is_the_union() {
        for bits in 0..8 {
            let [nnp, hooks, exec] = [1, 2, 4].map(|bit| bits & bit != 0);
            let both =
                &names(Runtime::Runc, nnp, hooks, exec) | &names(Runtime::Crun, nnp, hooks, exec);
            assert_eq!(names(Runtime::Any, nnp, hooks, exec), both);
        }
    }

    #[test]
    fn the_base_without_no_new_privs_holds_for_both() {
        for runtime in Runtime::ALL {
            assert!(
                names(runtime, false, true, true).is_superset(&names(runtime, true, true, true)),
                "{runtime}"
            );
        }
    }

    #[test]
    fn every_name_exists() {
        for name in names(Runtime::Any, false, true, true) {
            assert!(syscall::nr(Arch::X86_64, &name).is_some(), "{name}");
            // What aarch64 lacks needs a group of its own there.
            assert!(
                syscall::nr(Arch::Aarch64, &name).is_some() || name == "dup2",
                "{name}"
            );
        }
        let hooks = Situation {
            start_container_hooks: true,
            aarch64: true,
            ..Situation::default()
        };
        assert!(
            groups(Runtime::Crun, hooks)
                .unwrap()
                .iter()
                .any(|group| group.names.contains("dup3"))
        );
    }
}
