//! What an engine allows when nobody gives it a profile, resolved for one architecture and one set of capabilities.
//!
//! "The default" does not exist: engines differ by up to 21 names, so a comparison always says with which.

use crate::arch::Arch;
use crate::parse::moby::{Host, MobyProfile};
use crate::profile::{Action, Effect, ParseError, Profile};
use crate::syscall;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fmt;

/// Whoever starts containers and brings a default profile. Origins of the profiles: `profiles/README.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Engine {
    /// docker: moby's profile.
    Docker,
    /// containerd, with which Kubernetes' `RuntimeDefault` means this one.
    Containerd,
    /// podman and buildah: container-libs' profile.
    Podman,
    /// CRI-O, with which Kubernetes' `RuntimeDefault` means this one.
    Crio,
}

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

/// Source: `DefaultCapabilities` in <https://github.com/containers/container-libs/blob/main/common/pkg/config/default.go>.
const PODMAN_CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Source: `Default` in <https://github.com/cri-o/cri-o/blob/main/internal/config/capabilities/capabilities_linux.go>.
const CRIO_CAPABILITIES: [&str; 9] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
];

impl Engine {
    /// Every engine.
    pub const ALL: [Self; 4] = [Self::Docker, Self::Containerd, Self::Podman, Self::Crio];

    /// The name on the command line and in files: `docker`, `containerd`, `podman`, `crio`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::Podman => "podman",
            Self::Crio => "crio",
        }
    }

    /// The inverse of [`Engine::name`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.name() == name)
    }

    /// Which release its profile is of.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Self::Docker => "moby/profiles seccomp v0.2.3",
            Self::Containerd => "v2.4.2",
            Self::Podman => "containers-common 0.69.1",
            Self::Crio => "changes to containers-common 0.69.1",
        }
    }

    /// What it gives a container that asks for nothing, sorted.
    #[must_use]
    pub fn capabilities(self) -> &'static [&'static str] {
        match self {
            // containerd's are the same: `defaultUnixCaps` in <https://github.com/containerd/containerd/blob/v2.2.0/pkg/oci/spec.go>.
            Self::Docker | Self::Containerd => &DOCKER_CAPABILITIES,
            Self::Podman => &PODMAN_CAPABILITIES,
            Self::Crio => &CRIO_CAPABILITIES,
        }
    }

    fn json(self) -> &'static str {
        match self {
            Self::Docker => include_str!("../../../profiles/defaults/docker/default.json"),
            Self::Containerd => include_str!("../../../profiles/defaults/containerd/default.json"),
            Self::Podman => include_str!("../../../profiles/defaults/podman/seccomp.json"),
            Self::Crio => include_str!("../../../profiles/defaults/crio/default.json"),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An engine's default on one architecture with one set of capabilities. Names that the architecture does not have are left out of the sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedDefault {
    /// Whose.
    pub engine: Engine,
    /// The architecture.
    pub arch: Arch,
    /// The bounding set.
    pub capabilities: BTreeSet<String>,
    /// What the engine gives the runtime: names of other architectures are in there as well.
    pub profile: Profile,
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
            self.engine.version(),
            self.capabilities.len(),
            self.arch
        )
    }
}

/// Every name in the engines' files, those of architectures without a table here included.
#[must_use]
pub fn names() -> BTreeSet<String> {
    #[derive(Deserialize)]
    struct File {
        syscalls: Vec<Rule>,
    }
    #[derive(Deserialize)]
    struct Rule {
        names: Vec<String>,
    }
    Engine::ALL
        .into_iter()
        .filter_map(|engine| serde_json::from_str(engine.json()).ok())
        .flat_map(|file: File| file.syscalls)
        .flat_map(|rule| rule.names)
        .collect()
}

/// An engine's default for a container with these capabilities (as `CAP_CHOWN`), on the newest kernel.
///
/// # Errors
/// Only when the program was built with a broken file.
pub fn resolve<'a>(
    engine: Engine,
    arch: Arch,
    capabilities: impl IntoIterator<Item = &'a str>,
) -> Result<ResolvedDefault, ParseError> {
    let capabilities: BTreeSet<String> = capabilities.into_iter().map(str::to_owned).collect();
    let profile = MobyProfile::from_json(engine.json().as_bytes())?.resolve(Host {
        arch,
        capabilities: &capabilities,
        kernel: None,
    })?;
    let (allowed, conditional) = allowed(&profile, arch);
    Ok(ResolvedDefault {
        engine,
        arch,
        capabilities,
        profile,
        allowed,
        conditional,
        known: syscall::table(arch).len(),
    })
}

/// The names of an architecture that a profile allows with any arguments, and those that it allows with some only.
#[must_use]
pub fn allowed(profile: &Profile, arch: Arch) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut allowed = BTreeSet::new();
    let mut conditional = BTreeSet::new();
    let effects = profile.effects();
    let default = Effect::Always(profile.default_action);
    for name in syscall::table(arch).iter().map(|call| call.name) {
        let effect = effects.get(name).unwrap_or(&default);
        if effect.most_permissive() < Action::Log {
            continue;
        }
        match effect {
            Effect::Always(_) => allowed.insert(name.to_owned()),
            Effect::ByArguments { .. } => conditional.insert(name.to_owned()),
        };
    }
    (allowed, conditional)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(engine: Engine, arch: Arch) -> ResolvedDefault {
        resolve(engine, arch, engine.capabilities().iter().copied()).unwrap()
    }

    /// Names that the first allows and the second does not.
    fn beyond(one: &ResolvedDefault, other: &ResolvedDefault) -> Vec<String> {
        let names = one.allowed.union(&one.conditional);
        names.filter(|name| !other.allows(name)).cloned().collect()
    }

    /// docker's are those that libseccomp 2.6.1 resolves. docker's and podman's were counted in the sources of 2026 without this program, and so were
    /// CRI-O's before its own changes.
    #[test]
    fn sizes_are_those_that_were_measured() {
        let admin = "CAP_SYS_ADMIN";
        // With no capability, with the engine's own, with CAP_SYS_ADMIN as well.
        let cases: [(Engine, Arch, [usize; 3], usize); 14] = [
            (Engine::Docker, Arch::X86_64, [308, 309, 333], 385),
            (Engine::Docker, Arch::Aarch64, [266, 267, 291], 327),
            (Engine::Docker, Arch::Arm, [352, 353, 377], 430),
            (Engine::Docker, Arch::Riscv64, [267, 268, 292], 328),
            (Engine::Containerd, Arch::X86_64, [311, 312, 333], 385),
            (Engine::Containerd, Arch::Aarch64, [269, 270, 291], 327),
            (Engine::Containerd, Arch::Arm, [355, 356, 377], 430),
            (Engine::Containerd, Arch::Riscv64, [270, 271, 292], 328),
            (Engine::Podman, Arch::X86_64, [317, 318, 325], 385),
            (Engine::Podman, Arch::Aarch64, [276, 277, 284], 327),
            (Engine::Podman, Arch::Riscv64, [276, 277, 284], 328),
            (Engine::Crio, Arch::X86_64, [315, 315, 324], 385),
            (Engine::Crio, Arch::Aarch64, [274, 274, 283], 327),
            (Engine::Crio, Arch::Riscv64, [274, 274, 283], 328),
        ];
        for (engine, arch, sizes, known) in cases {
            let own = engine.capabilities().to_vec();
            let sets = [Vec::new(), own.clone(), [own, vec![admin]].concat()];
            let defaults = sets.map(|set| resolve(engine, arch, set).unwrap());
            assert_eq!(
                defaults.each_ref().map(ResolvedDefault::len),
                sizes,
                "{engine} {arch}"
            );
            assert_eq!(defaults[0].known, known);
        }
    }

    /// Which docker allows with CAP_SYS_ADMIN only. `riscv_hwprobe`, which docker allows everywhere, containerd allows on the one machine that has it.
    #[test]
    fn containerd_allows_three_names_more_than_docker() {
        for arch in [Arch::X86_64, Arch::Aarch64, Arch::Riscv64] {
            let (docker, containerd) = (own(Engine::Docker, arch), own(Engine::Containerd, arch));
            assert_eq!(beyond(&docker, &containerd), [""; 0]);
            assert_eq!(
                beyond(&containerd, &docker),
                ["lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr"],
                "{arch}"
            );
            let named =
                |default: &ResolvedDefault| default.profile.effects().contains_key("riscv_hwprobe");
            assert_eq!(
                (named(&docker), named(&containerd)),
                (true, arch == Arch::Riscv64)
            );
        }
    }

    #[test]
    fn podman_and_docker_differ_by_these_names() {
        let (docker, podman) = (
            own(Engine::Docker, Arch::X86_64),
            own(Engine::Podman, Arch::X86_64),
        );
        let podman_only = "clone3 fanotify_init fsconfig fsmount fsopen fspick get_mempolicy keyctl mbind mount mount_setattr move_mount \
                           open_tree pidfd_getfd pivot_root reboot set_mempolicy setns syslog umount2 unshare";
        assert_eq!(beyond(&podman, &docker).join(" "), podman_only);
        assert_eq!(
            beyond(&docker, &podman).join(" "),
            "cachestat getxattrat io_pgetevents listmount listxattrat map_shadow_stack mseal removexattrat setxattrat statmount uretprobe vmsplice"
        );
        assert_eq!(podman.profile.default_action, Action::Errno(38));
        assert_eq!(docker.profile.default_action, Action::Errno(1));
        assert_eq!(
            podman.profile.effect("vmsplice"),
            Effect::Always(Action::Errno(1))
        );
    }

    /// podman's with CRI-O's capabilities has 317 names on x86_64.
    #[test]
    fn crio_takes_the_calls_that_make_namespaces() {
        for (arch, before) in [(Arch::X86_64, 317), (Arch::Aarch64, 276)] {
            let capabilities = Engine::Crio.capabilities().iter().copied();
            let podman = resolve(Engine::Podman, arch, capabilities).unwrap();
            let crio = own(Engine::Crio, arch);
            assert_eq!((podman.len(), crio.len()), (before, before - 2));
            assert_eq!(beyond(&podman, &crio), ["clone3", "unshare"]);
            assert!(podman.allowed.contains("clone") && crio.conditional.contains("clone"));
            let clone = |flags| crio.profile.effect("clone").answer(&[flags, 0, 0, 0, 0, 0]);
            let [thread, user_namespace] = [0x3d_0f00, 0x1000_0011];
            assert_eq!(
                (clone(thread), clone(user_namespace)),
                (Action::Allow, Action::Errno(1))
            );
            assert_eq!(
                crio.profile.effect("clone3"),
                Effect::Always(Action::Errno(38))
            );
            let admin = [Engine::Crio.capabilities(), &["CAP_SYS_ADMIN"]].concat();
            let admin = resolve(Engine::Crio, arch, admin).unwrap();
            for name in CRIO_NAMESPACES {
                assert_eq!(
                    admin.profile.effect(name),
                    Effect::Always(Action::Allow),
                    "{name}"
                );
            }
        }
    }

    const CRIO_NAMESPACES: [&str; 3] = ["clone", "clone3", "unshare"];

    #[test]
    fn capabilities_are_sorted_and_engines_have_their_names() {
        for engine in Engine::ALL {
            assert!(engine.capabilities().is_sorted(), "{engine}");
            // Whatever its profile has a condition on, and what it gives, is a capability.
            let named = engine
                .json()
                .split('"')
                .filter(|word| word.starts_with("CAP_"));
            for name in named.chain(engine.capabilities().iter().copied()) {
                assert_eq!(crate::capability::parse(name), Ok(name));
            }
            assert_eq!(Engine::from_name(engine.name()), Some(engine));
        }
        assert_eq!(Engine::from_name("cri-o"), None);
    }

    #[test]
    fn arm_has_its_private_calls_on_an_arm64_engine() {
        let default = own(Engine::Docker, Arch::Arm);
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
    fn a_default_that_allows_counts() {
        let mut profile = crate::audit_profile();
        let of = |profile: &Profile| {
            let (any, some) = allowed(profile, Arch::X86_64);
            (any.len(), some.len())
        };
        assert_eq!(of(&profile), (385, 0));
        profile.rules.push(crate::profile::Rule {
            names: ["bpf".to_owned()].into(),
            action: Action::Errno(1),
            conditions: Vec::new(),
        });
        assert_eq!(of(&profile), (384, 0));
    }

    #[test]
    fn three_names_have_conditions() {
        let default = own(Engine::Docker, Arch::X86_64);
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
        let default = own(Engine::Docker, Arch::X86_64);
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
        let default = own(Engine::Docker, Arch::X86_64);
        assert_eq!(
            default.label(),
            "docker (moby/profiles seccomp v0.2.3) with 14 capabilities on x86_64"
        );
    }

    #[test]
    fn every_runtime_base_is_within_it() {
        use crate::base::{Situation, groups};
        use crate::policy::Runtime;
        let default = resolve(Engine::Docker, Arch::X86_64, []).unwrap();
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
