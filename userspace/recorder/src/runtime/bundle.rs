//! `config.json` of an OCI bundle: the hooks and the filter.

use crate::proc;
use serde::Deserialize;
use std::{collections::BTreeMap, path::Path};

/// Larger files are not read: a config.json is some ten kilobytes.
const LIMIT: u64 = 16 << 20;

/// The parts of an OCI config that a recording needs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Bundle {
    annotations: BTreeMap<String, String>,
    hooks: Hooks,
    linux: Linux,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Hooks {
    create_container: Vec<Hook>,
    start_container: Vec<Hook>,
}

#[derive(Clone, Debug, Deserialize)]
struct Hook {
    path: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Linux {
    seccomp: Option<Seccomp>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Seccomp {
    default_action: String,
    syscalls: Vec<Rule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Rule {
    action: String,
}

impl Bundle {
    /// Reads `config.json` of a bundle folder; `None` when there is none that can be read.
    #[must_use]
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&proc::read_file(&folder.join("config.json"), LIMIT)?).ok()
    }

    /// The name that a CRI (kubelet) or nerdctl gave the container.
    #[must_use]
    pub fn container_name(&self) -> Option<&str> {
        let keys = ["io.kubernetes.cri.container-name", "nerdctl/name"];
        let mut found = keys.iter().filter_map(|key| self.annotations.get(*key));
        found.next().map(String::as_str)
    }

    /// The image's reference, where a CRI noted it.
    #[must_use]
    pub fn image(&self) -> Option<&str> {
        let image = self.annotations.get("io.kubernetes.cri.image-name");
        image.map(String::as_str)
    }

    /// Is `file` one of the createContainer hooks, which run before the filter?
    #[must_use]
    pub fn is_create_container_hook(&self, file: &str) -> bool {
        self.hooks
            .create_container
            .iter()
            .any(|hook| hook.path == file)
    }

    /// Has it startContainer hooks? The runtime forks them under the filter.
    #[must_use]
    pub fn has_start_container_hooks(&self) -> bool {
        !self.hooks.start_container.is_empty()
    }

    /// Does its filter, if it has one, let every call happen?
    #[must_use]
    pub fn allows_everything(&self) -> bool {
        let lets = |action: &str| matches!(action, "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG");
        self.linux.seccomp.as_ref().is_none_or(|seccomp| {
            lets(&seccomp.default_action) && seccomp.syscalls.iter().all(|rule| lets(&rule.action))
        })
    }
}
