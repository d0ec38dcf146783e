//! Any profile as a filter: for each call it answers what the rules say, on every machine, and normalizing changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seccast_model::{
    Arch, Filter, Profile,
    profile::{Call, decide},
    syscall,
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(profile) = Profile::from_oci_json(bytes) else {
        return;
    };
    let normalized = profile.normalized();
    assert_eq!(normalized.normalized(), normalized);
    // Values that a condition asks for, their neighbours, and halves of 64 bits that are theirs in part.
    let conditions = profile.rules.iter().flat_map(|rule| &rule.conditions);
    let mut values: Vec<u64> = conditions
        .take(16)
        .flat_map(|condition| [condition.value, condition.value_two])
        .flat_map(|value| [value, value.wrapping_add(1), value ^ (1 << 32), !value])
        .collect();
    values.push(0);
    for native in [Arch::X86_64, Arch::Aarch64] {
        let Ok(filter) = Filter::compile(&profile, native) else {
            continue;
        };
        for arch in Arch::ALL {
            let names = profile.rules.iter().flat_map(|rule| &rule.names).take(16);
            let named = names.filter_map(|name| syscall::nr(arch, name));
            for nr in named.chain([0, 1, u32::MAX]) {
                for at in 0..values.len() {
                    // Another value for each argument.
                    let arg = |index: usize| values[(at + index) % values.len()];
                    let args = std::array::from_fn(arg);
                    let call = Call { arch, nr, args };
                    let wanted = decide(&profile, native, &call);
                    assert_eq!(filter.run(&call), wanted, "{call:?} on {native}");
                    assert_eq!(decide(&normalized, native, &call), wanted, "{call:?}");
                }
            }
        }
    }
});
