//! How long the filter is that libseccomp makes: longer than ours, which joins neighbouring values.

use crate::arch::Arch;
use crate::profile::{Condition, Effect, Op, Profile, width};
use std::collections::{BTreeMap, BTreeSet};

/// As many instructions libseccomp's filter of this profile has at least.
///
/// For a call whose rules test one argument for values, libseccomp compares the values one after the other, the smallest last. It writes
/// equal ends of such chains once, so only the comparisons that differ are counted; `tests/conformance` holds the number against the library.
pub(super) fn least_instructions(profile: &Profile, native: Arch) -> usize {
    let mut chains = Chains::default();
    for arch in Arch::ALL {
        if !profile.covers(native, arch) {
            continue;
        }
        let effects: BTreeSet<Effect> = profile.effects_by_number(arch).into_values().collect();
        for effect in effects {
            if let Effect::ByArguments { rules, .. } = effect {
                let all: Vec<&Condition> = rules.iter().flat_map(|(clause, _)| clause).collect();
                let is_chain = rules.iter().all(|(clause, _)| clause.len() == 1)
                    && all.iter().all(|it| {
                        it.op == Op::Eq && Some(it.index) == all.first().map(|it| it.index)
                    });
                if is_chain {
                    let lower = |it: &&Condition| super::low(it.value & width(arch).mask());
                    chains.add(all.iter().map(lower).collect());
                }
            }
        }
    }
    chains.nodes.len()
}

/// Comparisons, each with those that follow it.
#[derive(Default)]
struct Chains {
    nodes: BTreeMap<(usize, u32), usize>,
}

impl Chains {
    fn add(&mut self, values: BTreeSet<u32>) {
        let mut rest = 0;
        for value in values {
            let next = self.nodes.len() + 1;
            rest = *self.nodes.entry((rest, value)).or_insert(next);
        }
    }
}
