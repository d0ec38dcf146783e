//! Profiles that deny nothing and still make the runtime load a filter: for recording, and for a trial.

use crate::arch::Arch;
use crate::profile::{Action, OciArch, Profile};

/// A profile that allows every call by every ABI, for the container that is recorded: `profiles/audit.json`.
///
/// Given explicitly, it takes the place of the engine's default, which would hide from the recording what it denies (docker's hides
/// `clone3` from every program). It also leads the runtime through the same steps as the enforced profile later will.
///
/// * The default action alone makes runc and crun load a filter: in containers of runc 1.1.5 and crun 1.8.1, with `noNewPrivileges` and
///   without, `/proc/self/status` has `Seccomp: 2`. A rule beside it would change nothing, but for one on arguments, which takes its call
///   out of the kernel's action cache (5.11) and makes every such call run the filter.
/// * The architectures have to be listed although everything is allowed: a call by any other kills the process. Those of 64-bit x86 and
///   Arm kernels are listed together, each runtime drops what its machine does not have. Big-endian ones cannot be in one list with them,
///   and riscv64 is left out: nothing is recorded there, and runc 1.1.5 starts no container whose profile has the token.
/// * No flags: runc before 1.2 refuses them all.
#[must_use]
pub fn audit_profile() -> Profile {
    Profile {
        default_action: Action::Allow,
        architectures: every_architecture().collect(),
        flags: None,
        listener_path: None,
        listener_metadata: None,
        rules: Vec::new(),
    }
}

fn every_architecture() -> impl Iterator<Item = OciArch> {
    let recorded = Arch::ALL.into_iter().filter(|arch| *arch != Arch::Riscv64);
    recorded.map(OciArch::from)
}

impl Profile {
    /// The complain profile: what this one denies by default is allowed and logged (`SCMP_ACT_LOG`), and no architecture
    /// kills, so that a trial shows what would be denied and breaks nothing.
    ///
    /// Rules stay, those that deny included. LOG needs Linux 4.14. The kernel's log of it is limited in rate;
    /// `verify` holds the calls themselves against the profile instead.
    #[must_use]
    pub fn complaining(mut self) -> Self {
        self.default_action = Action::Log;
        self.architectures.extend(every_architecture());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_is_current() {
        assert_eq!(
            audit_profile().to_oci_json(),
            include_str!("../../../profiles/audit.json")
        );
    }

    #[test]
    fn it_lists_every_architecture_that_is_recorded_and_denies_nothing() {
        let profile = audit_profile();
        assert_eq!(profile.default_action, Action::Allow);
        let listed: Vec<_> = profile
            .architectures
            .iter()
            .map(|arch| arch.arch())
            .collect();
        assert_eq!(
            listed,
            [Arch::Aarch64, Arch::Arm, Arch::X32, Arch::X86, Arch::X86_64].map(Some)
        );
        assert!(profile.rules.is_empty());
    }

    #[test]
    fn complaining_allows_by_default_and_kills_nobody() {
        let native = [OciArch::from(Arch::X86_64)].into();
        let profile = Profile::allowing(["read".to_owned()].into(), native).complaining();
        assert_eq!(profile.default_action, Action::Log);
        assert_eq!(profile.architectures, audit_profile().architectures);
        assert_eq!(profile.allowed_names(), ["read"].into());
        assert_eq!(profile.clone().complaining(), profile);
    }
}
