//! Any observation, any policy.

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use seccast_model::evidence::{End, Evidence, Hidden, Running, Start};
use seccast_model::observation::{
    Arguments, Backend, Caller, EnteredAs, EnteredProcess, Extra, Life, Machine, Observation,
    Phase, Pod, Sighting, Target, UnknownNr,
};
use seccast_model::profile::{Action, Call, Condition, OciArch, Op, Profile, Rule};
use seccast_model::{Arch, Given, Policy, Runtime, syscall};
use std::collections::BTreeMap;

/// Few enough that two observations often share names, with every trigger of the closure among them.
pub(crate) fn name() -> impl Strategy<Value = String> {
    let infos: Vec<&str> = syscall::infos().iter().map(|info| info.name).collect();
    prop_oneof![
        4 => prop::sample::select(vec!["read", "write", "clone", "clone3", "statx", "openat2", "mseal", "close_range", "nanosleep"]),
        2 => prop::sample::select(infos),
        1 => prop::sample::select(vec!["from_linux_9", "x"]),
    ]
    .prop_map(str::to_owned)
}

pub(crate) fn arch() -> impl Strategy<Value = Arch> {
    prop_oneof![3 => Just(Arch::X86_64), 1 => prop::sample::select(Arch::ALL.to_vec())]
}

fn phase() -> impl Strategy<Value = Phase> {
    prop::sample::select(Phase::ALL.to_vec())
}

/// Keys that no version has.
fn extra() -> impl Strategy<Value = Extra> {
    let value = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        ".{0,8}".prop_map(Into::into),
    ];
    let value = value.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Into::into),
            btree_map("[a-z]{1,4}", inner, 0..3)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    });
    prop_oneof![3 => Just(Extra::new()), 1 => btree_map("x_[a-z]{1,4}", value, 1..3)]
}

/// Few, so that some differ in one thing only.
fn caller() -> impl Strategy<Value = Caller> {
    let text = |any| prop_oneof![4 => prop::sample::select(vec!["a", "b"]).prop_map(str::to_owned), 1 => any];
    (
        prop_oneof![3 => 0..2_u32, 1 => any::<u32>()],
        text(".{0,15}".boxed()),
        prop::option::of(text(".{0,20}".boxed())),
        extra(),
    )
        .prop_map(|(pid, comm, exe, extra)| Caller {
            pid,
            comm,
            exe,
            extra,
        })
}

fn sighting() -> impl Strategy<Value = Sighting> {
    (
        prop::option::of(0..3_u64),
        prop::option::of(caller()),
        extra(),
    )
        .prop_map(|(first_ns, caller, extra)| Sighting {
            first_ns,
            caller,
            arguments: None,
            extra,
        })
}

/// A call's: it may have arguments.
fn called() -> impl Strategy<Value = Sighting> {
    let values = btree_set(vec(any::<u32>(), 1..3), 0..4);
    let arguments = (vec(0..6_u32, 1..3), values, any::<bool>(), extra()).prop_map(
        |(indices, values, overflow, extra)| Arguments {
            indices,
            values,
            overflow,
            extra,
        },
    );
    (sighting(), prop::option::of(arguments)).prop_map(|(sighting, arguments)| Sighting {
        arguments,
        ..sighting
    })
}

fn calls(max: usize) -> impl Strategy<Value = BTreeMap<(Arch, Phase), BTreeMap<String, Sighting>>> {
    btree_map((arch(), phase()), btree_map(name(), called(), 0..6), 0..max)
}

/// What a state of the recording `id` knows of its target: nothing else than another state does, but not always all.
fn target(id: u8) -> impl Strategy<Value = Target> {
    let text = move |what: &str| prop::option::of(Just(format!("{what}\n\"é{id}")));
    (
        (text("engine"), text("runtime")),
        text("container"),
        text("name"),
        text("image"),
        text("digest"),
        pod(id),
        text("/cgroup"),
        prop_oneof![Just(vec![]), Just(vec![format!("./{id}"), String::new()])],
        extra(),
    )
        .prop_map(
            |(
                (engine, runtime),
                container_id,
                container_name,
                image,
                image_digest,
                pod,
                cgroup_path,
                command,
                extra,
            )| Target {
                engine,
                runtime,
                container_id,
                container_name,
                image,
                image_digest,
                pod,
                cgroup_path,
                command,
                extra,
            },
        )
}

fn pod(id: u8) -> impl Strategy<Value = Option<Pod>> {
    let uid = prop::option::of(Just(format!("uid {id}")));
    let labels = prop_oneof![
        Just(BTreeMap::new()),
        Just([("app.kubernetes.io/name".to_owned(), format!("{id}"))].into())
    ];
    let pod = (uid, labels, extra()).prop_map(move |(uid, labels, extra)| Pod {
        namespace: "default".to_owned(),
        name: format!("web-{id}"),
        uid,
        labels,
        extra,
    });
    prop::option::of(pod)
}

/// Of a file that is merged; else it comes of the calls.
fn life() -> impl Strategy<Value = Life> {
    let pids = prop_oneof![3 => btree_set(0..9_u32, 0..3), 1 => btree_set(any::<u32>(), 60..70)];
    let program = prop::option::of(prop::sample::select(vec!["web", "sh\n"]));
    let programs = prop_oneof![3 => btree_set("[a-c]", 0..3), 1 => btree_set("[a-z]{3}", 60..70)];
    let known = (program, programs, pids, prop::option::of(0..9_u64), extra()).prop_map(
        |(program, programs, pids, first_ns, extra)| Life {
            program: program.map(str::to_owned),
            programs,
            pids,
            first_ns,
            extra,
        },
    );
    prop_oneof![1 => Just(Life::default()), 1 => known]
}

fn machine(id: u8) -> impl Strategy<Value = Machine> {
    let arch = [Arch::X86_64, Arch::X86_64, Arch::Aarch64, Arch::Riscv64][usize::from(id)];
    let libc = prop::option::of(Just(format!("libc {id}")));
    (libc, extra()).prop_map(move |(libc, extra)| Machine {
        kernel: format!("6.{id}.0"),
        arch,
        libc,
        extra,
    })
}

fn unknown() -> impl Strategy<Value = UnknownNr> {
    (
        arch(),
        phase(),
        any::<i64>(),
        prop::option::of(any::<u64>()),
        sighting(),
    )
        .prop_map(|(arch, phase, nr, count, first)| UnknownNr {
            arch,
            phase,
            nr,
            count,
            first,
        })
}

fn entered() -> impl Strategy<Value = EnteredProcess> {
    (any::<u32>(), ".{0,15}", extra()).prop_map(|(pid, comm, extra)| EnteredProcess {
        pid,
        comm,
        extra,
    })
}

/// Few ids, so that recordings come twice.
pub(crate) fn observation() -> impl Strategy<Value = Observation> {
    prop_oneof![3 => Just(0_u8), 2 => 1..4_u8].prop_flat_map(state)
}

prop_compose! {
    fn state(id: u8)(
        target in target(id),
        life in life(),
        machine in machine(id),
        ended_ns in 0..3_u64,
        calls in calls(4),
        denied in calls(2),
        blocked_at_attach in btree_map(arch(), btree_map(name(), sighting(), 0..3), 0..2),
        unknown in vec(unknown(), 0..3),
        losses in btree_map("[a-z_]{1,6}", 0..3_u64, 0..2),
        explanations_lost in any::<u64>(),
        started_late_ns in prop::option::of(prop_oneof![0..2_u64, any::<u64>()]),
        flags in any::<[bool; 3]>(),
        entered in prop_oneof![2 => Just(vec![]), 1 => vec(entered(), 0..2)],
        entered_rest in (0..2_u64, prop::option::of(Just([EnteredAs::App, EnteredAs::Runtime][usize::from(id % 2)]))),
        unprivileged_exec in btree_set(".{0,8}", 0..2),
        evidence in evidence(),
        extra in extra(),
    ) -> Observation {
        Observation {
            recording_id: format!("{id:032x}"),
            tool_version: "0.1.0".to_owned(),
            backend: [Backend::Ebpf, Backend::Ptrace][usize::from(id / 2)],
            target,
            life,
            machine,
            started_ns: u64::from(id),
            ended_ns,
            calls,
            denied,
            blocked_at_attach,
            unknown,
            losses,
            explanations_lost,
            started_late_ns,
            filtered: flags[0],
            own_filter: flags[1],
            entered_count: entered.len() as u64 + entered_rest.0,
            entered,
            entered_as: entered_rest.1,
            start_container_hooks: flags[2],
            unprivileged_exec,
            evidence,
            extra,
        }
    }
}

/// Boxed: as a part of a larger strategy it would not fit the stack of a test.
fn evidence() -> BoxedStrategy<Option<Evidence>> {
    let start = (0..3_u64, 0..2_u64).prop_map(|(filters, inherited)| Start { filters, inherited });
    let running = (any::<u32>(), ".{0,15}").prop_map(|(pid, comm)| Running { pid, comm });
    let given = prop_oneof![
        Just(None),
        Just(Some(Given::Profile)),
        Just(Some(Given::Other)),
        Just(Some(Given::None)),
        ".{0,8}".prop_map(|why| Some(Given::Unknown(why))),
    ];
    let evidence = (
        vec(start, 0..3),
        any::<[u8; 9]>(),
        btree_set(running, 0..2),
        any::<[bool; 2]>(),
        btree_set(".{0,8}", 0..2),
        given,
    )
        .prop_map(|(starts, counts, running, flags, unwatched, given)| {
            let count = |at: usize| u64::from(counts[at]);
            Evidence {
                starts,
                calls: count(0),
                execs: count(1),
                execs_unlike: count(2),
                present: count(3),
                present_unlike: count(4),
                joined: count(5),
                left: count(6),
                running,
                end: if flags[0] { End::User } else { End::Target },
                lives: count(7),
                lives_missed: count(8),
                unwatched,
                hidden: flags[1].then_some(Hidden::OwnFilter).into_iter().collect(),
                given,
            }
        });
    prop::option::of(evidence).boxed()
}

pub(crate) fn policy() -> impl Strategy<Value = Policy> {
    (
        prop::sample::select(Runtime::ALL.to_vec()),
        any::<[bool; 6]>(),
    )
        .prop_map(
            |(
                runtime,
                [
                    no_new_privs,
                    core,
                    base,
                    closure,
                    include_exec,
                    include_denied,
                ],
            )| Policy {
                runtime,
                no_new_privs,
                core,
                base,
                closure,
                include_exec,
                include_denied,
            },
        )
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::KillProcess),
        Just(Action::KillThread),
        Just(Action::Trap),
        (0..=4095_u16).prop_map(Action::Errno),
        (0..=4095_u16).prop_map(Action::Trace),
        Just(Action::Notify),
        Just(Action::Log),
        Just(Action::Allow),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    (
        0..6_u8,
        prop::sample::select(Op::ALL.to_vec()),
        any::<u64>(),
        any::<u64>(),
    )
        .prop_map(|(index, op, value, value_two)| Condition {
            index,
            op,
            value,
            value_two,
        })
}

prop_compose! {
    pub(crate) fn profile()(
        default_action in action(),
        architectures in btree_set(arch().prop_map(OciArch::from), 0..3),
        flags in prop::option::of(btree_set("[A-Z_]{1,8}", 0..2)),
        listener in (prop::option::of(".{0,8}"), prop::option::of(".{0,8}")),
        rules in vec(
            (btree_set(name(), 1..4), action(), vec(condition(), 0..3))
                .prop_map(|(names, action, conditions)| Rule { names, action, conditions }),
            0..4,
        ),
    ) -> Profile {
        Profile {
            default_action,
            architectures,
            flags,
            listener_path: listener.0,
            listener_metadata: listener.1,
            rules,
        }
    }
}

/// Names that have rules often enough to meet: of all ABIs, of some, through i386's multiplexers, and of none.
const ACTING: [&str; 16] = [
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
    "set_tls",
    "renameat",
    "from_linux_9",
];

/// Few values, so that conditions of several rules and arguments of calls meet.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..4_u64,
        1 => (0..4_u64).prop_map(|value| value << 32 | 2),
        1 => prop::sample::select(vec![u64::MAX, u64::from(u32::MAX), 1 << 31, 1 << 63, 20]),
    ]
}

/// Masks without a bit in the lower half only are left out: they are no condition on 32-bit ABIs, which no spelling keeps.
fn acting_condition() -> impl Strategy<Value = Condition> {
    let mask = prop::sample::select(vec![0, 1, 3, 0xffff_ffff, 2 << 32 | 2, u64::MAX]);
    (
        0..3_u8,
        prop::sample::select(Op::ALL.to_vec()),
        value(),
        mask,
        value(),
    )
        .prop_map(|(index, op, value, mask, value_two)| Condition {
            index,
            op,
            value: if op == Op::MaskedEq { mask } else { value },
            value_two,
        })
}

fn acting_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => Just(Action::Allow),
        3 => Just(Action::Errno(38)),
        1 => action(),
    ]
}

/// A profile whose rules meet each other and the calls of [`call`].
pub(crate) fn acting_profile() -> impl Strategy<Value = Profile> {
    let name = prop::sample::select(ACTING.to_vec()).prop_map(str::to_owned);
    let rule = (
        btree_set(name, 1..5),
        acting_action(),
        vec(acting_condition(), 0..4),
    );
    (
        acting_action(),
        btree_set(prop::sample::select(Arch::ALL.to_vec()), 0..4),
        vec(rule, 0..10),
    )
        .prop_map(|(default_action, architectures, rules)| Profile {
            default_action,
            architectures: architectures.into_iter().map(OciArch::from).collect(),
            flags: None,
            listener_path: None,
            listener_metadata: None,
            rules: rules
                .into_iter()
                .map(|(names, action, conditions)| Rule {
                    names,
                    action,
                    conditions,
                })
                .collect(),
        })
}

/// A call of one of the names that [`acting_profile`] has, or by a number that means nothing.
pub(crate) fn call() -> impl Strategy<Value = Call> {
    let named = (
        prop::sample::select(Arch::ALL.to_vec()),
        prop::sample::select(ACTING.to_vec()),
    )
        .prop_filter_map("no such call", |(arch, name)| {
            Some((arch, syscall::nr(arch, name)?))
        });
    let odd = (
        prop::sample::select(Arch::ALL.to_vec()),
        prop_oneof![
            any::<u32>(),
            prop::sample::select(vec![0x3fff_ffff, 0x4000_0000, 0x8000_0000, u32::MAX])
        ],
    );
    (
        prop_oneof![9 => named, 1 => odd],
        prop::array::uniform6(value()),
    )
        .prop_map(|((arch, nr), args)| Call { arch, nr, args })
}

/// What a machine may be.
pub(crate) fn machine_arch() -> impl Strategy<Value = Arch> {
    prop::sample::select(vec![
        Arch::X86_64,
        Arch::X86,
        Arch::Aarch64,
        Arch::Arm,
        Arch::Riscv64,
    ])
}

/// Three that can be merged, as far as their default actions and flags go.
pub(crate) fn acting_profiles() -> impl Strategy<Value = (Profile, Profile, Profile)> {
    (
        acting_action(),
        acting_profile(),
        acting_profile(),
        acting_profile(),
    )
        .prop_map(|(default_action, a, b, c)| {
            let with = |profile| Profile {
                default_action,
                ..profile
            };
            (with(a), with(b), with(c))
        })
}
