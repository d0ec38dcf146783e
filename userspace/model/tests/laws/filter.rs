//! Laws of a profile's meaning: the compiled filter has it, and one spelling is as good as another.

use crate::strategy::{acting_profile, call, machine_arch};
use proptest::prelude::*;
use seccast_model::Filter;
use seccast_model::profile::decide;

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_filter_answers_as_its_profile(
        profile in acting_profile(),
        native in machine_arch(),
        calls in prop::collection::vec(call(), 64),
    ) {
        let filter = Filter::compile(&profile, native).unwrap();
        for call in calls {
            prop_assert_eq!(filter.run(&call), decide(&profile, native, &call), "{:x?}", call);
        }
    }

    #[test]
    fn normalizing_changes_no_answer(
        profile in acting_profile(),
        native in machine_arch(),
        calls in prop::collection::vec(call(), 64),
    ) {
        let normalized = profile.normalized();
        for call in calls {
            prop_assert_eq!(decide(&normalized, native, &call), decide(&profile, native, &call), "{:x?}", call);
        }
        for (name, effect) in normalized.effects() {
            prop_assert_eq!(&effect, &profile.effect(name), "{}", name);
        }
        prop_assert_eq!(normalized.normalized(), normalized);
    }

    #[test]
    fn an_effect_answers_as_its_profile(profile in acting_profile(), calls in prop::collection::vec(call(), 64)) {
        use seccast_model::{Arch, syscall};
        for call in calls.into_iter().filter(|call| call.arch == Arch::X86_64) {
            if let Some(name) = syscall::name(call.arch, call.nr) {
                let effect = profile.effect(name);
                prop_assert_eq!(effect.answer(&call.args), decide(&profile, Arch::X86_64, &call), "{:x?}", call);
                prop_assert!(effect.most_permissive() >= effect.answer(&call.args));
            }
        }
    }
}
