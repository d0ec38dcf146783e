//! Random profiles, random calls: the meaning of a profile, our filter and libseccomp's answer alike.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use seccast_conformance::{Search, is_multiplexed, shared_names};
use seccast_model::filter::{self, Filter};
use seccast_model::profile::{Action, Call, Condition, OciArch, Op, Profile, Rule, decide};
use seccast_model::{Arch, syscall};
use std::ops::Range;

/// Where names are few, rules meet; these are of all ABIs, of some, and behind i386's multiplexers.
const FEW: [&str; 14] = [
    "read",
    "personality",
    "socket",
    "accept",
    "send",
    "recvmmsg",
    "socketcall",
    "semop",
    "semtimedop",
    "shmat",
    "ipc",
    "mmap2",
    "execve",
    "ioctl",
];

fn name() -> impl Strategy<Value = String> {
    let shared: Vec<&str> = shared_names().into_iter().collect();
    prop_oneof![
        6 => prop::sample::select(FEW.to_vec()),
        1 => prop::sample::select(shared),
        1 => Just("from_linux_9"),
    ]
    .prop_map(str::to_owned)
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => Just(Action::Allow),
        2 => Just(Action::Errno(38)),
        1 => Just(Action::KillProcess),
        1 => Just(Action::KillThread),
        1 => Just(Action::Trap),
        // libseccomp refuses the kernel's largest errno.
        1 => (0..4095_u16).prop_map(Action::Errno),
        1 => (0..=4095_u16).prop_map(Action::Trace),
        1 => Just(Action::Notify),
        1 => Just(Action::Log),
    ]
}

/// Few values, so that conditions and arguments meet.
fn value(bits: u32) -> impl Strategy<Value = u64> {
    let all = u64::MAX >> (64 - bits);
    prop_oneof![
        6 => 0..5_u64,
        1 => (0..4_u64).prop_map(move |value| (value << 32 | 2) & all),
        1 => prop::sample::select(vec![u64::MAX, u64::from(u32::MAX), 1 << 31, 1 << 63, 20]).prop_map(move |value| value & all),
        1 => any::<u64>().prop_map(move |value| value & all),
    ]
}

/// What seccast itself writes: comparisons that libseccomp compiles without fault.
fn equality() -> impl Strategy<Value = Condition> {
    let masked = (
        0..6_u8,
        prop_oneof![
            prop::sample::select(vec![
                0,
                1,
                3,
                0xffff_ffff,
                2 << 32 | 2,
                0xff << 32,
                u64::MAX
            ]),
            any::<u64>(),
        ],
        value(64),
    )
        .prop_map(|(index, value, value_two)| Condition {
            index,
            op: Op::MaskedEq,
            value,
            value_two,
        });
    let equal = (0..6_u8, value(64)).prop_map(|(index, value)| Condition {
        index,
        op: Op::Eq,
        value,
        value_two: 0,
    });
    prop_oneof![masked, equal]
}

/// Rules with conditions have one action, or each its own.
fn profile(
    conditions: impl Strategy<Value = Vec<Condition>>,
    rules: Range<usize>,
    mixed: bool,
) -> impl Strategy<Value = Profile> {
    let conditional = vec((btree_set(name(), 1..4), action(), conditions), rules);
    let bare = vec((btree_set(name(), 1..4), action()), 0..4);
    (
        action(),
        action(),
        btree_set(prop::sample::select(Arch::ALL.to_vec()), 0..4),
        conditional,
        bare,
        any::<bool>(),
    )
        .prop_map(
            move |(default_action, action, architectures, conditional, bare, bare_first)| {
                let mut rules: Vec<Rule> = conditional
                    .into_iter()
                    .map(|(names, own, conditions)| Rule {
                        names,
                        action: if mixed { own } else { action },
                        conditions,
                    })
                    .collect();
                // A call that i386 makes through a multiplexer has a condition there.
                let bare = bare.into_iter().flat_map(|(names, own)| {
                    let (through, direct) = names.into_iter().partition(|n| is_multiplexed(n));
                    let through_action = if mixed { own } else { action };
                    [(through, through_action), (direct, own)].map(|(names, action)| Rule {
                        names,
                        action,
                        conditions: vec![],
                    })
                });
                let at = if bare_first { 0 } else { rules.len() };
                rules.splice(at..at, bare);
                // Without such a rule libseccomp forgets to load the number, where the cheapest rule is for a call that the ABI lacks.
                rules.push(Rule {
                    names: ["getppid".to_owned()].into(),
                    action: match default_action {
                        Action::Allow => Action::Errno(1),
                        _ => Action::Allow,
                    },
                    conditions: vec![],
                });
                Profile {
                    default_action,
                    architectures: architectures.into_iter().map(OciArch::from).collect(),
                    flags: None,
                    listener_path: None,
                    listener_metadata: None,
                    rules,
                }
            },
        )
}

/// A call of a name that has rules often, of one that libseccomp knows, or by any number.
fn call() -> impl Strategy<Value = Call> {
    let of = |names: Vec<&str>| {
        let calls: Vec<(Arch, u32)> = names
            .iter()
            .flat_map(|name| Arch::ALL.map(|arch| Some((arch, syscall::nr(arch, name)?))))
            .flatten()
            .collect();
        prop::sample::select(calls)
    };
    let odd = (
        prop::sample::select(Arch::ALL.to_vec()),
        prop_oneof![
            any::<u32>(),
            prop::sample::select(vec![0x3fff_ffff, 0x4000_0000, 0x8000_0000, u32::MAX]),
        ],
    );
    (
        prop_oneof![
            8 => of(FEW.to_vec()),
            1 => of(shared_names().into_iter().collect()),
            1 => odd
        ],
        prop::array::uniform6(value(64)),
    )
        .prop_map(|((arch, nr), args)| Call { arch, nr, args })
}

/// All three answers for each call, for so many profiles with 64 calls each.
fn check(
    cases: u32,
    mixed: bool,
    profiles: impl Strategy<Value = Profile>,
    natives: &[Arch],
    calls: impl Strategy<Value = Call>,
) {
    let repeats = std::env::var("SECCAST_REPEATS").ok();
    let cases = repeats.map_or(cases, |repeats| repeats.parse().unwrap());
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let native = prop::sample::select(natives.to_vec());
    let search = prop::sample::select(vec![Search::Linear, Search::Tree]);
    let all = (profiles, native, search, vec(calls, 64));
    let result = runner.run(&all, |(profile, native, search, calls)| {
        let theirs = match seccast_conformance::filter(&profile, native, search) {
            Ok(theirs) => theirs,
            // Two actions for the same conditions.
            Err(refused) if mixed && refused.code == -libc::EEXIST => return Ok(()),
            Err(refused) => return Err(TestCaseError::fail(format!("{refused:?}"))),
        };
        let ours = Filter::compile(&profile, native).unwrap();
        for call in calls {
            let expect = filter::run(&theirs, &filter::data(&call)).map(filter::action);
            prop_assert_eq!(
                Some(decide(&profile, native, &call)),
                expect,
                "decide: {:x?}",
                call
            );
            prop_assert_eq!(Some(ours.run(&call)), expect, "our filter: {:x?}", call);
        }
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, (profile, native, search, _))) => {
            panic!(
                "{reason}\non {native}, {search:?}:\n{}",
                profile.to_oci_json()
            )
        }
        Err(error) => panic!("{error}"),
    }
}

/// Machines.
const NATIVE: [Arch; 3] = [Arch::X86_64, Arch::Aarch64, Arch::Riscv64];

#[test]
fn equality_and_masks() {
    check(
        1000,
        false,
        profile(vec(equality(), 0..4), 0..8, false),
        &NATIVE,
        call(),
    );
}

/// A comparison of one of the first arguments.
fn comparison(arguments: u8, bits: u32) -> impl Strategy<Value = Condition> {
    let ops = [Op::Ne, Op::Lt, Op::Le, Op::Eq, Op::Ge, Op::Gt];
    let ops = prop::sample::select(ops.to_vec());
    (0..arguments, ops, value(bits)).prop_map(|(index, op, value)| Condition {
        index,
        op,
        value,
        value_two: 0,
    })
}

/// libseccomp compiles sets of comparisons of one argument rightly where no value has more than 32 bits.
#[test]
fn comparisons_of_one_argument_with_32_bits() {
    check(
        500,
        false,
        profile(vec(comparison(1, 32), 1..2), 0..8, false),
        &NATIVE,
        call(),
    );
}

/// The same of one rule alone with any values, on ABIs with 64-bit arguments.
#[test]
fn one_rule_of_comparisons() {
    let call = call().prop_map(|call| match call.arch {
        Arch::X86_64 | Arch::Aarch64 | Arch::Riscv64 => call,
        _ => Call {
            arch: Arch::X86_64,
            ..call
        },
    });
    // Two conditions of one argument would be two rules.
    let conditions = vec(comparison(6, 64), 1..4).prop_map(|mut conditions| {
        conditions.sort();
        conditions.dedup_by_key(|condition| condition.index);
        conditions
    });
    check(500, true, profile(conditions, 1..2, true), &NATIVE, call);
}

#[test]
fn the_library_refuses_what_is_left_to_us() {
    let rule = |action, value| Rule {
        names: ["socket".to_owned()].into(),
        action,
        conditions: vec![Condition {
            index: 0,
            op: Op::Eq,
            value,
            value_two: 0,
        }],
    };
    let of = |rules| Profile {
        rules,
        ..Profile::allowing([].into(), [].into())
    };
    let library = |profile: &Profile| {
        seccast_conformance::filter(profile, Arch::X86_64, Search::Linear).map(|_| ())
    };
    let two = of(vec![rule(Action::Allow, 1), rule(Action::Errno(1), 2)]);
    assert_eq!(library(&two), Ok(()));
    let twice = of(vec![rule(Action::Errno(1), 2), rule(Action::Allow, 2)]);
    assert_eq!(
        library(&twice).map_err(|refused| refused.code),
        Err(-libc::EEXIST)
    );
    let call = Call {
        arch: Arch::X86_64,
        nr: 41,
        args: [2, 0, 0, 0, 0, 0],
    };
    assert_eq!(decide(&twice, Arch::X86_64, &call), Action::Allow);
}

/// Rules with different actions that hold for the same call: which one libseccomp finds first. Of inequality one rule alone: libseccomp
/// compiles it wrongly with several arguments, and with two values.
#[test]
fn the_first_of_several_actions() {
    let condition = |op, index, value| Condition {
        index,
        op,
        value,
        value_two: 0,
    };
    let equal = (0..3_u8, 0..4_u64).prop_map(move |(index, value)| condition(Op::Eq, index, value));
    let not_two = (0..3_u8).prop_map(move |index| vec![condition(Op::Ne, index, 2)]);
    let conditions = prop_oneof![3 => vec(equal, 1..4), 1 => not_two];
    check(500, true, profile(conditions, 0..8, true), &NATIVE, call());
}
