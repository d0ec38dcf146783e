//! Which calls are dangerous, how much, and why: what `diff` and `check` say beside a name.
//!
//! The data is `profiles/risk.json`, each group with its reason and its source. A name that is not in it is not harmless: it is
//! only not known for anything in particular.

use crate::json;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

const FILE: &str = include_str!("../../../profiles/risk.json");

/// Why a call is dangerous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Risk {
    /// What it endangers.
    pub class: Class,
    /// How much.
    pub level: Level,
    /// The reason, one line.
    pub why: String,
    /// Where that is said: man pages, the kernel's and docker's documentation.
    pub source: String,
}

/// What a dangerous call endangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Changes the code of the kernel.
    KernelCode,
    /// Reaches the hardware.
    Hardware,
    /// Changes what the whole machine shares.
    HostState,
    /// Changes what keeps a container apart: mounts, namespaces, its root.
    Isolation,
    /// Does work that filters do not see.
    FilterBypass,
    /// Reaches into other processes.
    OtherProcesses,
    /// Shows what others do.
    Information,
    /// Opens kernel code that is large, old, or a help to attacks.
    KernelSurface,
}

impl Class {
    /// The name in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KernelCode => "kernel_code",
            Self::Hardware => "hardware",
            Self::HostState => "host_state",
            Self::Isolation => "isolation",
            Self::FilterBypass => "filter_bypass",
            Self::OtherProcesses => "other_processes",
            Self::Information => "information",
            Self::KernelSurface => "kernel_surface",
        }
    }
}

/// How dangerous a call is; ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Worth knowing: ordinary programs may need it.
    Elevated,
    /// Few programs need it.
    High,
    /// Whoever may make it has the machine.
    Critical,
}

impl Level {
    /// The name in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Elevated => "elevated",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}): {}",
            self.level.name(),
            self.class.name(),
            self.why
        )
    }
}

/// `profiles/risk.json` is not in order. It is part of the program, so this is a bug in it.
#[derive(Debug, thiserror::Error)]
#[error("profiles/risk.json, field `{field}`: {reason}")]
pub struct RiskError {
    field: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "schema")]
    _schema: String,
    #[serde(rename = "origin")]
    _origin: String,
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    class: Class,
    level: Level,
    names: BTreeSet<String>,
    why: String,
    source: String,
}

/// Every dangerous call by name.
#[derive(Clone, Debug)]
pub struct Risks(BTreeMap<String, Risk>);

impl Risks {
    /// The table of this program.
    ///
    /// # Errors
    /// Only when the program was built with a broken file.
    pub fn load() -> Result<Self, RiskError> {
        let error = |(field, reason)| RiskError { field, reason };
        let value =
            serde_json::from_str(FILE).map_err(|e| error((".".to_owned(), e.to_string())))?;
        let file: File = json::typed(value).map_err(error)?;
        let mut risks = BTreeMap::new();
        for group in file.groups {
            for name in group.names {
                let risk = Risk {
                    class: group.class,
                    level: group.level,
                    why: group.why.clone(),
                    source: group.source.clone(),
                };
                risks.insert(name, risk);
            }
        }
        Ok(Self(risks))
    }

    /// Why a call is dangerous; `None` where nothing in particular is known.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<&Risk> {
        self.0.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;
    use crate::{defaults, syscall};

    #[test]
    fn every_name_exists_and_is_in_one_group_only() {
        let risks = Risks::load().unwrap();
        let file: File = serde_json::from_str(FILE).unwrap();
        let listed: usize = file.groups.iter().map(|group| group.names.len()).sum();
        assert_eq!((listed, risks.0.len()), (70, 70));
        for (name, risk) in &risks.0 {
            assert!(syscall::info(name).is_some(), "{name}");
            assert!(!risk.source.is_empty() && !risk.why.is_empty(), "{name}");
        }
    }

    /// Of what docker denies a container with its capabilities, this is not in the table: obsolete, or new and harmless.
    #[test]
    fn what_docker_denies_is_in_the_table_or_known_to_be_harmless() {
        let risks = Risks::load().unwrap();
        let default = defaults::resolve(
            defaults::Engine::Docker,
            Arch::X86_64,
            defaults::DOCKER_CAPABILITIES,
        )
        .unwrap();
        let harmless: Vec<&str> = syscall::table(Arch::X86_64)
            .iter()
            .map(|call| call.name)
            .filter(|name| !default.allows(name) && risks.of(name).is_none())
            .collect();
        let obsolete = [
            "ustat",
            "sysfs",
            "_sysctl",
            "get_kernel_syms",
            "query_module",
            "nfsservctl",
            "getpmsg",
            "putpmsg",
            "afs_syscall",
            "tuxcall",
            "security",
            "vserver",
        ];
        let new = [
            "uprobe",
            "lsm_get_self_attr",
            "lsm_set_self_attr",
            "lsm_list_modules",
            "file_getattr",
            "file_setattr",
            "listns",
            "rseq_slice_yield",
        ];
        assert_eq!(harmless, [&obsolete[..], &new].concat());
    }

    #[test]
    fn levels_are_ordered() {
        let risks = Risks::load().unwrap();
        let level = |name| risks.of(name).map(|risk| risk.level);
        assert!(level("bpf") > level("ptrace") && level("ptrace") > level("clone"));
        assert_eq!(level("read"), None);
        assert_eq!(
            risks.of("ptrace").unwrap().to_string(),
            "high (other_processes): reads, changes or takes over another process: its memory, its descriptors"
        );
    }
}
