//! docker's dialect: whatever resolves is a plain profile, for any machine and capabilities.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seccast_model::{
    Arch, Profile, defaults,
    parse::moby::{Host, MobyProfile},
    syscall::Release,
};
use std::collections::BTreeSet;

fuzz_target!(|bytes: &[u8]| {
    let Ok(dialect) = MobyProfile::from_json(bytes) else {
        return;
    };
    let docker = defaults::DOCKER_CAPABILITIES
        .iter()
        .map(|name| (*name).to_owned())
        .collect();
    for capabilities in [&BTreeSet::new(), &docker] {
        for arch in [Arch::X86_64, Arch::Aarch64, Arch::Riscv64] {
            for kernel in [
                None,
                Some(Release {
                    major: 4,
                    minor: 8,
                    patch: 0,
                }),
            ] {
                let host = Host {
                    arch,
                    capabilities,
                    kernel,
                };
                if let Ok(profile) = dialect.resolve(host) {
                    let json = profile.to_oci_json();
                    Profile::from_oci_json(json.as_bytes()).expect("what was resolved is plain");
                }
            }
        }
    }
});
