//! The user's choices for `generate`.

use std::fmt;

/// What `generate` does with observations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The runtime that will start the container: its own calls after it loads the filter have to be in the profile.
    pub runtime: Runtime,
    /// `process.noNewPrivileges`, in Kubernetes `allowPrivilegeEscalation: false`. The base without it is larger and holds for both.
    pub no_new_privs: bool,
    /// Calls that no program can live without, seen or not.
    pub core: bool,
    /// The runtime's base.
    pub base: bool,
    /// Calls that the same program makes on another kernel or machine.
    pub closure: bool,
    /// Calls of processes that entered later: probes, `exec`.
    pub include_exec: bool,
    /// Calls that an existing filter denied while recording.
    pub include_denied: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            runtime: Runtime::Any,
            no_new_privs: false,
            core: true,
            base: true,
            closure: true,
            include_exec: true,
            include_denied: false,
        }
    }
}

/// The program that makes the container and loads the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Runtime {
    /// runc: docker, containerd, Kubernetes by default.
    Runc,
    /// crun: podman, CRI-O.
    Crun,
    /// Either.
    Any,
}

impl Runtime {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Runc, Self::Crun, Self::Any];

    /// `runc`, `crun`, `any`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
            Self::Any => "any",
        }
    }

    /// The inverse of [`Runtime::name`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|runtime| runtime.name() == name)
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
