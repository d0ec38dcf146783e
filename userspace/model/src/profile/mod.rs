//! A seccomp profile as the OCI runtime specification has it.
//!
//! Field rules: <https://github.com/opencontainers/runtime-spec/blob/v1.3.0/config-linux.md#seccomp>. Only the plain OCI
//! form is ever written, since it is the one that runc, crun, docker, podman, CRI-O and containerd all read alike.

mod decide;
mod effect;
mod oci;

use crate::arch::Arch;
use crate::errno;
use std::collections::BTreeSet;
use std::fmt;

pub use decide::{Call, decide};
pub(crate) use decide::{X32_BIT, width};
pub use effect::{Effect, precedence};
pub(crate) use effect::{Gathered, Width, without_unreachable};
pub use oci::{ParseError, Reason};

/// `ENOSYS`: what a denied call returns in a generated profile, so that C libraries fall back to older calls.
pub const ENOSYS: u16 = 38;

/// `EPERM`: OCI's value where a profile gives none.
pub const EPERM: u16 = 1;

/// The JSON document that a runtime compiles into a filter.
///
/// There is no empty profile: the default action is always given, and `{}`, which engines read as "no seccomp", cannot be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// For calls that no rule names, and for calls of listed architectures only.
    pub default_action: Action,
    /// ABIs that the filter lets in, beside the native one; a call by any other kills.
    pub architectures: BTreeSet<OciArch>,
    /// `SECCOMP_FILTER_FLAG_…`; runc before 1.2 refuses any. `None` leaves the choice to the runtime.
    pub flags: Option<BTreeSet<String>>,
    /// Unix socket that receives notifications of [`Action::Notify`].
    pub listener_path: Option<String>,
    /// Passed on to the listener.
    pub listener_metadata: Option<String>,
    /// In the order of the file: of two rules without conditions for one call the first wins.
    pub rules: Vec<Rule>,
}

/// What happens to the calls that it names; rules for one call are or-bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Names that libseccomp does not know are ignored by the runtimes.
    pub names: BTreeSet<String>,
    /// What happens.
    pub action: Action,
    /// And-bound; none means always.
    pub conditions: Vec<Condition>,
}

/// A test of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Condition {
    /// 0 to 5.
    pub index: u8,
    /// How it is compared.
    pub op: Op,
    /// The value, or for [`Op::MaskedEq`] the mask.
    pub value: u64,
    /// For [`Op::MaskedEq`] the value after masking, else unused.
    pub value_two: u64,
}

/// A comparison of all 64 bits of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// `SCMP_CMP_NE`
    Ne,
    /// `SCMP_CMP_LT`
    Lt,
    /// `SCMP_CMP_LE`
    Le,
    /// `SCMP_CMP_EQ`
    Eq,
    /// `SCMP_CMP_GE`
    Ge,
    /// `SCMP_CMP_GT`
    Gt,
    /// `SCMP_CMP_MASKED_EQ`: `arg & value == value_two`
    MaskedEq,
}

impl Op {
    /// Every comparison.
    pub const ALL: [Self; 7] = [
        Self::Ne,
        Self::Lt,
        Self::Le,
        Self::Eq,
        Self::Ge,
        Self::Gt,
        Self::MaskedEq,
    ];

    /// OCI's name.
    #[must_use]
    pub fn oci_name(self) -> &'static str {
        match self {
            Self::Ne => "SCMP_CMP_NE",
            Self::Lt => "SCMP_CMP_LT",
            Self::Le => "SCMP_CMP_LE",
            Self::Eq => "SCMP_CMP_EQ",
            Self::Ge => "SCMP_CMP_GE",
            Self::Gt => "SCMP_CMP_GT",
            Self::MaskedEq => "SCMP_CMP_MASKED_EQ",
        }
    }
}

/// What a filter does with a call: `seccomp(2)`. The order is the kernel's precedence, the strictest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Ends the process with SIGSYS.
    KillProcess,
    /// Ends the thread with SIGSYS; OCI's `SCMP_ACT_KILL` is the same.
    KillThread,
    /// Sends SIGSYS.
    Trap,
    /// Fails the call with this errno.
    Errno(u16),
    /// Asks the listener.
    Notify,
    /// Asks the tracer, with this message.
    Trace(u16),
    /// Allows, and writes an audit record.
    Log,
    /// Allows.
    Allow,
}

impl Action {
    /// OCI's name.
    #[must_use]
    pub fn oci_name(self) -> &'static str {
        match self {
            Self::KillProcess => "SCMP_ACT_KILL_PROCESS",
            Self::KillThread => "SCMP_ACT_KILL_THREAD",
            Self::Trap => "SCMP_ACT_TRAP",
            Self::Errno(_) => "SCMP_ACT_ERRNO",
            Self::Trace(_) => "SCMP_ACT_TRACE",
            Self::Notify => "SCMP_ACT_NOTIFY",
            Self::Log => "SCMP_ACT_LOG",
            Self::Allow => "SCMP_ACT_ALLOW",
        }
    }

    /// The errno or message of the actions that have one.
    #[must_use]
    pub fn errno(self) -> Option<u16> {
        match self {
            Self::Errno(errno) | Self::Trace(errno) => Some(errno),
            _ => None,
        }
    }
}

/// A profile denies with an errno that the kernel keeps for itself ([`errno::RESTARTS`]).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} denies with errno {errno}: the kernel takes {} to {} for its own restart codes, so such a denial cannot be told from a call that \
     is made again; use another errno, like {ENOSYS}",
    .name.as_ref().map_or("the default action".to_owned(), |name| format!("the rule for `{}`", name.escape_debug())),
    errno::RESTARTS.start(), errno::RESTARTS.end()
)]
pub struct RestartErrno {
    /// A call whose rule does; `None` for the default action.
    pub name: Option<String>,
    /// The errno.
    pub errno: u16,
}

/// An architecture of the OCI specification: more than [`Arch`], which has a table for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OciArch(&'static str);

impl OciArch {
    /// Every token of the specification 1.3.0, sorted.
    const TOKENS: [&'static str; 23] = [
        "SCMP_ARCH_AARCH64",
        "SCMP_ARCH_ARM",
        "SCMP_ARCH_LOONGARCH64",
        "SCMP_ARCH_M68K",
        "SCMP_ARCH_MIPS",
        "SCMP_ARCH_MIPS64",
        "SCMP_ARCH_MIPS64N32",
        "SCMP_ARCH_MIPSEL",
        "SCMP_ARCH_MIPSEL64",
        "SCMP_ARCH_MIPSEL64N32",
        "SCMP_ARCH_PARISC",
        "SCMP_ARCH_PARISC64",
        "SCMP_ARCH_PPC",
        "SCMP_ARCH_PPC64",
        "SCMP_ARCH_PPC64LE",
        "SCMP_ARCH_RISCV64",
        "SCMP_ARCH_S390",
        "SCMP_ARCH_S390X",
        "SCMP_ARCH_SH",
        "SCMP_ARCH_SHEB",
        "SCMP_ARCH_X32",
        "SCMP_ARCH_X86",
        "SCMP_ARCH_X86_64",
    ];

    /// By its token.
    #[must_use]
    pub fn from_name(token: &str) -> Option<Self> {
        Self::TOKENS
            .into_iter()
            .find(|known| *known == token)
            .map(Self)
    }

    /// The token.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0
    }

    /// The architecture with a table, where there is one.
    #[must_use]
    pub fn arch(self) -> Option<Arch> {
        Arch::from_oci_name(self.0)
    }
}

impl From<Arch> for OciArch {
    fn from(arch: Arch) -> Self {
        Self(arch.oci_name())
    }
}

impl fmt::Display for OciArch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Profile {
    /// A profile that allows these calls without conditions and fails every other with `ENOSYS`.
    #[must_use]
    pub fn allowing(names: BTreeSet<String>, architectures: BTreeSet<OciArch>) -> Self {
        Self {
            default_action: Action::Errno(ENOSYS),
            architectures,
            flags: None,
            listener_path: None,
            listener_metadata: None,
            rules: vec![Rule {
                names,
                action: Action::Allow,
                conditions: Vec::new(),
            }],
        }
    }

    /// The first action whose denials nobody sees, since the kernel takes its errno for a restart.
    #[must_use]
    pub fn restart_errno(&self) -> Option<RestartErrno> {
        let default = (None, self.default_action);
        let rules = self.rules.iter().filter_map(|rule| {
            let name = rule.names.first()?;
            Some((Some(name), rule.action))
        });
        [default]
            .into_iter()
            .chain(rules)
            .find_map(|(name, action)| match action {
                Action::Errno(errno) if errno::RESTARTS.contains(&errno) => Some(RestartErrno {
                    name: name.cloned(),
                    errno,
                }),
                _ => None,
            })
    }

    /// The names that a rule allows (with `SCMP_ACT_ALLOW` or `SCMP_ACT_LOG`), with or without conditions.
    #[must_use]
    pub fn allowed_names(&self) -> BTreeSet<&str> {
        self.rules
            .iter()
            .filter(|rule| matches!(rule.action, Action::Allow | Action::Log))
            .flat_map(|rule| rule.names.iter().map(String::as_str))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_sorted_and_cover_every_table() {
        assert!(OciArch::TOKENS.is_sorted());
        for arch in Arch::ALL {
            assert_eq!(
                OciArch::from_name(arch.oci_name()),
                Some(OciArch::from(arch))
            );
            assert_eq!(OciArch::from(arch).arch(), Some(arch));
        }
        assert_eq!(OciArch::from_name("SCMP_ARCH_NONE"), None);
        let mips = OciArch::from_name("SCMP_ARCH_MIPS");
        assert_eq!(mips.map(OciArch::name), Some("SCMP_ARCH_MIPS"));
        assert_eq!(mips.and_then(OciArch::arch), None);
    }

    #[test]
    fn an_errno_that_the_kernel_keeps_for_itself_is_found() {
        let with = |default_action, rule: Action| Profile {
            default_action,
            rules: vec![Rule {
                names: ["acct".to_owned(), "bpf".to_owned()].into(),
                action: rule,
                conditions: Vec::new(),
            }],
            ..Profile::allowing(BTreeSet::new(), BTreeSet::new())
        };
        for errno in [0, 1, 38, 511, 517, 4095] {
            let profile = with(Action::Errno(errno), Action::Errno(errno));
            assert_eq!(profile.restart_errno(), None, "{errno}");
        }
        for errno in 512..=516 {
            let found = with(Action::Errno(errno), Action::Allow).restart_errno();
            assert_eq!(found, Some(RestartErrno { name: None, errno }));
            let found = with(Action::Allow, Action::Errno(errno)).restart_errno();
            let name = Some("acct".to_owned());
            assert_eq!(found, Some(RestartErrno { name, errno }));
            // A message to a tracer is no errno.
            assert_eq!(
                with(Action::Trace(errno), Action::Allow).restart_errno(),
                None
            );
        }
        let found = with(Action::KillProcess, Action::Errno(514)).restart_errno();
        assert_eq!(
            found.map(|found| found.to_string()).unwrap_or_default(),
            "the rule for `acct` denies with errno 514: the kernel takes 512 to 516 for its own restart codes, so such a denial cannot be \
             told from a call that is made again; use another errno, like 38"
        );
    }
}
