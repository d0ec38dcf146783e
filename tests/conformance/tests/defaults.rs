//! The default profiles of the engines: each number of each ABI gets the answer that libseccomp's filter gives.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use seccast_conformance::{Search, knows, nr, shared_names, version};
use seccast_model::defaults::{Engine, resolve};
use seccast_model::filter::{self, Filter};
use seccast_model::profile::{Action, Call, Profile, decide};
use seccast_model::{Arch, syscall};
use std::collections::BTreeSet;

/// `2.5.4` as numbers.
fn release(text: &str) -> (u32, u32, u32) {
    let mut parts = text.split('.').map(|part| part.parse().unwrap());
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

#[test]
fn no_number_differs_from_the_librarys() {
    let mut compared = 0;
    for info in syscall::infos() {
        for arch in Arch::ALL {
            let bit = if arch == Arch::X32 { 0x4000_0000 } else { 0 };
            let ours = info.nr(arch).map(|nr| nr | bit);
            let theirs = nr(arch, info.name);
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                compared += 1;
                assert_eq!(ours, theirs, "{arch} {}", info.name);
            }
            assert!(ours.is_some() || theirs.is_none(), "{arch} {}", info.name);
        }
    }
    // A library that is too old for a name ignores its rules, which our filter has.
    let shared = shared_names();
    let lacking = syscall::infos()
        .iter()
        .filter(|info| !shared.contains(info.name));
    let lacking: Vec<&str> = lacking
        .map(|info| {
            let since = info.since_libseccomp.map(release);
            let is_newer = since.is_none_or(|since| since > version());
            assert!(is_newer || knows(info.name), "{}", info.name);
            info.name
        })
        .collect();
    println!(
        "libseccomp {:?}: {compared} numbers alike; lacking on some ABI: {lacking:?}",
        version()
    );
}

/// Arguments that matter to some rule of some engine, and others.
const ARGUMENTS: [[u64; 6]; 20] = [
    [0; 6],
    [1, 2, 3, 4, 5, 6],
    // socketcall(SYS_SOCKET), socket(AF_INET), socket(AF_VSOCK) and AF_ALG
    [1, 0, 0, 0, 0, 0],
    [2, 1, 0, 0, 0, 0],
    [40, 1, 0, 0, 0, 0],
    [38, 5, 0, 0, 0, 0],
    [39, 0, 0, 0, 0, 0],
    [1 << 32 | 40, 0, 0, 0, 0, 0],
    // socket(AF_NETLINK, …, NETLINK_AUDIT) and others of both
    [16, 3, 9, 0, 0, 0],
    [16, 3, 0, 0, 0, 0],
    [2, 3, 9, 0, 0, 0],
    // personality
    [8, 0, 0, 0, 0, 0],
    [0x20000, 0, 0, 0, 0, 0],
    [0x20008, 0, 0, 0, 0, 0],
    [0xffff_ffff, 0, 0, 0, 0, 0],
    [u64::MAX; 6],
    // clone
    [0x11, 0, 0, 0, 0, 0],
    [0x1000_0000, 0, 0, 0, 0, 0],
    [0x7e02_0000, 0, 0, 0, 0, 0],
    [0x1000_0000_0000, 0x1000_0000, 0, 0, 0, 0],
];

/// Every number of the tables, those around, and some beyond.
fn numbers(arch: Arch) -> BTreeSet<u32> {
    let private = (0xf_0000..0xf_0008).filter(|_| arch == Arch::Arm);
    (0..1024)
        .chain(private)
        .chain([0x3fff_ffff, 0x4000_0000, 0x8000_0000, u32::MAX])
        .collect()
}

/// The number of calls that were compared.
fn compare(what: &str, profile: &Profile, native: Arch) -> usize {
    let ours = Filter::compile(profile, native).unwrap();
    let theirs = [Search::Linear, Search::Tree]
        .map(|search| seccast_conformance::filter(profile, native, search).unwrap());
    let mut compared = 0;
    for arch in Arch::ALL {
        for nr in numbers(arch) {
            for args in ARGUMENTS {
                let call = Call { arch, nr, args };
                let data = filter::data(&call);
                let [linear, tree] =
                    [0, 1].map(|at| filter::run(&theirs[at], &data).map(filter::action));
                let decided = decide(profile, native, &call);
                assert_eq!(Some(decided), linear, "{what}: {call:x?}");
                assert_eq!(Some(decided), tree, "{what}: {call:x?}");
                assert_eq!(decided, ours.run(&call), "{what}: {call:x?}");
                compared += 1;
            }
        }
    }
    println!(
        "{what}: {compared} calls, {} instructions, libseccomp's {} and {}",
        ours.instructions().len(),
        theirs[0].len(),
        theirs[1].len()
    );
    compared
}

#[test]
fn every_engines_default() {
    let shared = shared_names();
    for engine in Engine::ALL {
        for native in [Arch::X86_64, Arch::Aarch64, Arch::Riscv64] {
            for more in [None, Some("CAP_SYS_ADMIN")] {
                let capabilities = engine.capabilities().iter().copied().chain(more);
                let resolved = resolve(engine, native, capabilities).unwrap();
                let mut profile = resolved.profile.clone();
                for rule in &mut profile.rules {
                    rule.names.retain(|name| {
                        // Names of other architectures stay: nobody has a number for them here.
                        let ours = syscall::info(name).is_some();
                        !ours || shared.contains(name.as_str())
                    });
                }
                let compared = compare(&resolved.label(), &profile, native);
                // 1,028 numbers of each of six ABIs, and eight private ones of Arm.
                assert_eq!(compared, (6 * 1028 + 8) * ARGUMENTS.len());
            }
        }
    }
}

/// The audit profile lists every ABI and allows everything: not one call may be refused.
#[test]
fn the_audit_profile_refuses_nothing() {
    let profile = seccast_model::audit_profile();
    for native in [Arch::X86_64, Arch::Aarch64] {
        let filter = Filter::compile(&profile, native).unwrap();
        let theirs = seccast_conformance::filter(&profile, native, Search::Linear).unwrap();
        for arch in Arch::ALL {
            for nr in numbers(arch) {
                let call = Call {
                    arch,
                    nr,
                    args: [0; 6],
                };
                let expect = filter::run(&theirs, &filter::data(&call)).map(filter::action);
                assert_eq!(Some(filter.run(&call)), expect, "{native}: {call:x?}");
                assert!(
                    filter.run(&call) >= Action::Log || arch == Arch::Riscv64,
                    "{native}: {call:x?}"
                );
            }
        }
    }
}
