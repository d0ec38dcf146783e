//! What an engine allows when nobody gives it a profile, resolved for one architecture and one set of capabilities.
//!
//! "The default" does not exist: engines differ by up to 21 names, so a comparison always says with which.

use crate::arch::Arch;
use crate::parse::moby::{Host, MobyProfile};
use crate::profile::{Action, ParseError};
use crate::syscall;
use std::collections::BTreeSet;

/// docker's, unchanged: `profiles/README.md` has its origin.
const DOCKER: &str = include_str!("../../../profiles/defaults/docker/default.json");

/// The release of [`DOCKER`].
const DOCKER_VERSION: &str = "moby/profiles seccomp v0.2.3";

/// The capabilities that docker gives a container by default.
///
/// Source: `DefaultCapabilities` in <https://github.com/moby/moby/blob/v28.5.2/daemon/pkg/oci/caps/defaults.go>.
pub const DOCKER_CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// An engine's default on one architecture with one set of capabilities. Names that the architecture does not have are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedDefault {
    /// `docker`.
    pub engine: &'static str,
    /// Which release of its profile.
    pub version: &'static str,
    /// The architecture.
    pub arch: Arch,
    /// The bounding set.
    pub capabilities: BTreeSet<String>,
    /// Names that are allowed with any arguments.
    pub allowed: BTreeSet<String>,
    /// Names that are allowed with some arguments only.
    pub conditional: BTreeSet<String>,
    /// Calls of the architecture.
    pub known: usize,
}

impl ResolvedDefault {
    /// Names that are allowed, with conditions or without.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "no engine's default is empty")]
    pub fn len(&self) -> usize {
        self.allowed.len() + self.conditional.len()
    }

    /// Whether a name is allowed, with conditions or without.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        self.allowed.contains(name) || self.conditional.contains(name)
    }

    /// Engine, release, capabilities and architecture in words.
    #[must_use]
    pub fn label(&self) -> String {
        format!(
            "{} ({}) with {} capabilities on {}",
            self.engine,
            self.version,
            self.capabilities.len(),
            self.arch
        )
    }
}

/// docker's default for a container with these capabilities (as `CAP_CHOWN`), on the newest kernel.
///
/// # Errors
/// Only when the program was built with a broken file.
pub fn docker<'a>(
    arch: Arch,
    capabilities: impl IntoIterator<Item = &'a str>,
) -> Result<ResolvedDefault, ParseError> {
    let capabilities: BTreeSet<String> = capabilities.into_iter().map(str::to_owned).collect();
    let profile = MobyProfile::from_json(DOCKER.as_bytes())?.resolve(Host {
        arch,
        capabilities: &capabilities,
        kernel: None,
    })?;
    let mut allowed = BTreeSet::new();
    let mut conditional = BTreeSet::new();
    for rule in profile
        .rules
        .iter()
        .filter(|rule| rule.action == Action::Allow)
    {
        let set = if rule.conditions.is_empty() {
            &mut allowed
        } else {
            &mut conditional
        };
        set.extend(
            rule.names
                .iter()
                .filter(|name| syscall::nr(arch, name).is_some())
                .cloned(),
        );
    }
    conditional.retain(|name| !allowed.contains(name));
    Ok(ResolvedDefault {
        engine: "docker",
        version: DOCKER_VERSION,
        arch,
        capabilities,
        allowed,
        conditional,
        known: syscall::table(arch).len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// libseccomp 2.6.1 resolves as many names of each.
    #[test]
    fn sizes_are_those_that_were_measured() {
        let with_admin = [&DOCKER_CAPABILITIES[..], &["CAP_SYS_ADMIN"]].concat();
        let cases: [(Arch, &[&str], usize, usize); 8] = [
            (Arch::X86_64, &DOCKER_CAPABILITIES, 309, 385),
            (Arch::X86_64, &[], 308, 385),
            (Arch::X86_64, &with_admin, 333, 385),
            (Arch::Aarch64, &DOCKER_CAPABILITIES, 267, 327),
            (Arch::Aarch64, &[], 266, 327),
            (Arch::Aarch64, &with_admin, 291, 327),
            (Arch::Arm, &DOCKER_CAPABILITIES, 353, 430),
            (Arch::Riscv64, &DOCKER_CAPABILITIES, 268, 328),
        ];
        for (arch, caps, allowed, known) in cases {
            let default = docker(arch, caps.iter().copied()).unwrap();
            assert_eq!(
                (default.len(), default.known),
                (allowed, known),
                "{}",
                default.label()
            );
        }
    }

    #[test]
    fn arm_has_its_private_calls_on_an_arm64_engine() {
        let default = docker(Arch::Arm, DOCKER_CAPABILITIES).unwrap();
        let private = [
            "breakpoint",
            "cacheflush",
            "get_tls",
            "set_tls",
            "usr26",
            "usr32",
        ];
        assert_eq!(
            private.map(|name| default.allows(name)),
            [true, true, false, true, false, false]
        );
    }

    #[test]
    fn three_names_have_conditions() {
        let default = docker(Arch::X86_64, DOCKER_CAPABILITIES).unwrap();
        assert_eq!(default.allowed.len(), 306);
        assert_eq!(
            default
                .conditional
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
            ["clone", "personality", "socket"]
        );
        assert!(!default.allows("clone3"));
        assert!(!default.allows("mount"));
    }

    /// Asked of Debian 12's libseccomp, which has the names of 2.5.5; `riscv_hwprobe` is the ninth, which x86_64 does not have.
    #[test]
    fn names_that_debian_12_ignores() {
        let default = docker(Arch::X86_64, DOCKER_CAPABILITIES).unwrap();
        let newer = |name: &&String| {
            let since = syscall::info(name).and_then(|info| info.since_libseccomp);
            !matches!(since, Some("2.5.4" | "2.5.5"))
        };
        let ignored: Vec<&String> = default.allowed.iter().filter(newer).collect();
        assert_eq!(
            ignored,
            [
                "getxattrat",
                "listmount",
                "listxattrat",
                "mseal",
                "removexattrat",
                "setxattrat",
                "statmount",
                "uretprobe"
            ]
        );
    }

    #[test]
    fn the_label_says_with_what() {
        let default = docker(Arch::X86_64, DOCKER_CAPABILITIES).unwrap();
        assert_eq!(
            default.label(),
            "docker (moby/profiles seccomp v0.2.3) with 14 capabilities on x86_64"
        );
    }

    #[test]
    fn every_runtime_base_is_within_it() {
        use crate::base::{Situation, groups};
        use crate::policy::Runtime;
        let default = docker(Arch::X86_64, []).unwrap();
        let all = Situation {
            no_new_privs: false,
            start_container_hooks: true,
            exec: true,
            aarch64: true,
        };
        for group in groups(Runtime::Any, all).unwrap() {
            for name in &group.names {
                assert!(default.allows(name), "{name}");
            }
        }
    }
}
