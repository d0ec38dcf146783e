//! From observations to a profile.

mod findings;
mod seen;

use crate::arch::Arch;
use crate::base::{self, BaseError, Situation};
use crate::closure::{CORE, Core, RULES};
use crate::diagnostic::Diagnostic;
use crate::merge::{MergeError, Merged};
use crate::observation::Observation;
use crate::policy::Policy;
use crate::profile::{OciArch, Profile};
use crate::report::{ArchReasons, Origin, Recording, Report, Sighted};
use crate::syscall;
use std::collections::{BTreeMap, BTreeSet};

use findings::diagnose;
use seen::Seen;

/// The result of [`generate`].
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The profile, also of an incomplete observation.
    pub profile: Profile,
    /// Why it is as it is; it has the diagnostics as well.
    pub report: Report,
    /// Findings, in the order of their codes.
    pub diagnostics: Vec<Diagnostic>,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// No call in any part of the target's life that belongs into a profile. An empty list of allowed calls is no profile.
    #[error(
        "the observations hold no call of an application, so there is no profile to make of them: record again, and see that the target \
         runs while it is recorded"
    )]
    Empty,
    /// The observations are not of what they say.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// The program was built with a broken runtime base.
    #[error(transparent)]
    Base(#[from] BaseError),
}

/// Makes one profile of all the observations. Neither their order nor how often a recording is given matters.
///
/// # Errors
/// [`GenerateError::Empty`] when no call belongs into a profile; [`GenerateError::Merge`] when two observations have the same id and
/// are not of one recording.
pub fn generate(observations: &[Observation], policy: &Policy) -> Result<Generated, GenerateError> {
    from_merged(&Merged::new(observations)?, policy)
}

/// Makes one profile of recordings that are joined.
///
/// # Errors
/// [`GenerateError::Empty`] when no call belongs into a profile.
pub fn from_merged(merged: &Merged, policy: &Policy) -> Result<Generated, GenerateError> {
    let seen = Seen::new(merged, policy);
    if seen.calls.is_empty() {
        return Err(GenerateError::Empty);
    }
    let architectures = architectures(merged, &seen);
    let syscalls = allowed(merged, &seen, &architectures, policy)?;
    let no_new_privs_saves = if policy.no_new_privs {
        BTreeSet::new()
    } else {
        let with = allowed(
            merged,
            &seen,
            &architectures,
            &Policy {
                no_new_privs: true,
                ..policy.clone()
            },
        )?;
        syscalls
            .keys()
            .filter(|name| !with.contains_key(*name))
            .cloned()
            .collect()
    };
    let mut denied = seen.denied;
    denied.retain(|name, _| !syscalls.contains_key(name));
    let profile = Profile::allowing(
        syscalls.keys().cloned().collect(),
        architectures
            .keys()
            .map(|arch| OciArch::from(*arch))
            .collect(),
    );
    let mut report = Report {
        incomplete: merged.incomplete(),
        policy: policy.clone(),
        recordings: merged.recordings.values().map(Recording::from).collect(),
        architectures,
        syscalls,
        unknown: seen.unknown,
        denied,
        no_new_privs_saves,
        comparison: None,
        diagnostics: Vec::new(),
    };
    report.diagnostics = diagnose(merged, &report, &seen.unfiltered);
    Ok(Generated {
        profile,
        diagnostics: report.diagnostics.clone(),
        report,
    })
}

/// Those of the machines, and those that calls were made by: calls by any other kill, even where everything else is allowed.
fn architectures(merged: &Merged, seen: &Seen) -> BTreeMap<Arch, ArchReasons> {
    let mut reasons: BTreeMap<Arch, ArchReasons> = BTreeMap::new();
    for recording in merged.recordings.values() {
        reasons.entry(recording.machine.arch).or_default().native = true;
    }
    for parts in seen.calls.values() {
        for arch in parts.keys().map(|(arch, _)| *arch).collect::<BTreeSet<_>>() {
            reasons.entry(arch).or_default().calls += 1;
        }
    }
    for unknown in &seen.unknown {
        reasons.entry(unknown.arch).or_default().calls += 1;
    }
    reasons
}

/// Every name with its origins: recorded ones first, then core, base and closure.
fn allowed(
    merged: &Merged,
    seen: &Seen,
    architectures: &BTreeMap<Arch, ArchReasons>,
    policy: &Policy,
) -> Result<BTreeMap<String, Vec<Origin>>, BaseError> {
    let exists = |name: &str| {
        architectures
            .keys()
            .any(|arch| syscall::nr(*arch, name).is_some())
    };
    let mut names: BTreeMap<String, Vec<Origin>> = seen
        .calls
        .iter()
        .map(|(name, parts)| {
            let mut origins: Vec<&Sighted> = parts.values().collect();
            origins.sort_by_key(|seen| (seen.part, seen.arch));
            (
                name.clone(),
                origins.into_iter().cloned().map(Origin::Recorded).collect(),
            )
        })
        .collect();
    let mut add = |name: &str, origin: Origin| {
        if exists(name) {
            let origins = names.entry(name.to_owned()).or_default();
            if !origins.contains(&origin) {
                origins.push(origin);
            }
        }
    };
    if policy.core {
        let here = |core: &&Core| core.on.is_none_or(|arch| architectures.contains_key(&arch));
        for core in CORE.iter().filter(here) {
            add(core.name, Origin::Core { why: core.why });
        }
    }
    if policy.base {
        let situation = Situation {
            no_new_privs: policy.no_new_privs,
            start_container_hooks: merged
                .recordings
                .values()
                .any(|one| one.start_container_hooks),
            exec: policy.include_exec,
            aarch64: architectures.contains_key(&Arch::Aarch64),
        };
        for group in base::groups(policy.runtime, situation)? {
            for name in &group.names {
                let origin = Origin::Base {
                    runtime: group.runtime,
                    group: group.name.clone(),
                    why: group.why.clone(),
                };
                add(name, origin);
            }
        }
    }
    if policy.closure {
        // From what was recorded, not from the base: that was measured with the fallbacks of every version.
        let mut reached: BTreeSet<&str> = seen.calls.keys().map(String::as_str).collect();
        let mut fired = vec![false; RULES.len()];
        loop {
            let mut changed = false;
            for (rule, fired) in RULES.iter().zip(&mut fired) {
                if *fired || rule.when.is_some_and(|name| !reached.contains(name)) {
                    continue;
                }
                *fired = true;
                changed = true;
                // Of two calls that stand in for each other, the recorded one does not owe its place to the other.
                let derived = rule.when.is_some_and(|name| !seen.calls.contains_key(name));
                for name in rule.add {
                    // What a filter denied is in no profile by a detour either: the program went on without it. One recording without
                    // such a filter is enough to say that it need not go on without it elsewhere.
                    if seen.always_denied.contains(*name) {
                        continue;
                    }
                    if !(derived && seen.calls.contains_key(*name)) {
                        let origin = Origin::Closure {
                            from: rule.when,
                            why: rule.why,
                            source: rule.source,
                        };
                        add(name, origin);
                    }
                    reached.insert(name);
                }
            }
            if !changed {
                break;
            }
        }
    }
    Ok(names)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::evidence::tests::proven;
    use crate::observation::{
        Backend, Caller, EnteredAs, EnteredProcess, Machine, Phase, Sighting, Target, UnknownNr,
    };
    use crate::policy::Runtime;
    use crate::report::Incomplete;

    /// That nothing was seen, on x86_64.
    pub(crate) fn unseen(id: u8) -> Observation {
        let machine = Machine {
            kernel: "6.12.0".to_owned(),
            arch: Arch::X86_64,
            libc: None,
            extra: BTreeMap::new(),
        };
        Observation {
            tool_version: "0.1.0".to_owned(),
            evidence: Some(proven()),
            ..Observation::new(format!("{id:032x}"), Backend::Ebpf, machine)
        }
    }

    fn empty(id: u8) -> Observation {
        Observation {
            target: Target {
                runtime: Some("runc".to_owned()),
                ..Target::default()
            },
            started_ns: 1_000,
            ended_ns: 2_000,
            ..unseen(id)
        }
    }

    fn sightings(names: &[&str]) -> BTreeMap<String, Sighting> {
        let caller = Caller {
            pid: 7,
            comm: "app".to_owned(),
            exe: Some("/bin/app".to_owned()),
            extra: BTreeMap::new(),
        };
        let sighting = |at| Sighting {
            first_ns: Some(at),
            caller: Some(caller.clone()),
            ..Sighting::default()
        };
        names
            .iter()
            .zip(1..)
            .map(|(name, at)| ((*name).to_owned(), sighting(at * 100)))
            .collect()
    }

    fn with(id: u8, calls: &[(Arch, Phase, &[&str])]) -> Observation {
        let calls = calls
            .iter()
            .map(|(arch, phase, names)| ((*arch, *phase), sightings(names)))
            .collect();
        Observation { calls, ..empty(id) }
    }

    pub(crate) fn app(id: u8, names: &[&str]) -> Observation {
        with(id, &[(Arch::X86_64, Phase::App, names)])
    }

    /// Nothing but what was recorded.
    fn bare() -> Policy {
        Policy {
            core: false,
            base: false,
            closure: false,
            ..Policy::default()
        }
    }

    fn names(generated: &Generated) -> Vec<&str> {
        generated.profile.allowed_names().into_iter().collect()
    }

    fn arches(generated: &Generated) -> Vec<&str> {
        generated
            .profile
            .architectures
            .iter()
            .map(|arch| arch.name())
            .collect()
    }

    fn codes(generated: &Generated) -> Vec<&str> {
        generated
            .diagnostics
            .iter()
            .map(|finding| finding.code)
            .collect()
    }

    #[test]
    fn phases_decide_what_belongs_into_the_profile() {
        let mut observation = with(
            1,
            &[
                (Arch::X86_64, Phase::Runtime, &["mount"]),
                (Arch::X86_64, Phase::Hook, &["bpf"]),
                (Arch::X86_64, Phase::App, &["read"]),
                (Arch::X86_64, Phase::Exec, &["kill"]),
                (Arch::X86_64, Phase::Entered, &["write"]),
            ],
        );
        observation
            .blocked_at_attach
            .insert(Arch::X86_64, sightings(&["pause"]));
        observation
            .denied
            .insert((Arch::X86_64, Phase::App), sightings(&["acct"]));
        observation
            .denied
            .insert((Arch::X86_64, Phase::Runtime), sightings(&["swapon"]));
        let decided = |entered_as| Observation {
            entered_as,
            ..observation.clone()
        };
        let cases = [
            (bare(), None, vec!["kill", "pause", "read"]),
            (
                bare(),
                Some(EnteredAs::Runtime),
                vec!["kill", "pause", "read"],
            ),
            (
                bare(),
                Some(EnteredAs::App),
                vec!["kill", "pause", "read", "write"],
            ),
            (
                Policy {
                    include_exec: false,
                    ..bare()
                },
                None,
                vec!["pause", "read"],
            ),
            (
                Policy {
                    include_denied: true,
                    ..bare()
                },
                None,
                vec!["acct", "kill", "pause", "read"],
            ),
        ];
        for (policy, entered_as, expect) in cases {
            let generated = generate(&[decided(entered_as)], &policy).unwrap();
            assert_eq!(names(&generated), expect, "{policy:?} {entered_as:?}");
        }
    }

    #[test]
    fn an_empty_observation_is_an_error() {
        let runtime_only = with(
            1,
            &[
                (Arch::X86_64, Phase::Runtime, &["mount"]),
                (Arch::X86_64, Phase::Hook, &["read"]),
            ],
        );
        let exec_only = with(2, &[(Arch::X86_64, Phase::Exec, &["read"])]);
        let no_exec = Policy {
            include_exec: false,
            ..Policy::default()
        };
        assert!(matches!(
            generate(&[], &Policy::default()),
            Err(GenerateError::Empty)
        ));
        assert!(matches!(
            generate(&[empty(1)], &Policy::default()),
            Err(GenerateError::Empty)
        ));
        assert!(matches!(
            generate(&[runtime_only], &Policy::default()),
            Err(GenerateError::Empty)
        ));
        assert!(matches!(
            generate(std::slice::from_ref(&exec_only), &no_exec),
            Err(GenerateError::Empty)
        ));
        assert!(generate(&[exec_only], &Policy::default()).is_ok());
    }

    #[test]
    fn the_core_follows_the_architectures() {
        let policy = Policy {
            core: true,
            ..bare()
        };
        let x86_64 = generate(&[app(1, &["read"])], &policy).unwrap();
        assert_eq!(
            names(&x86_64),
            [
                "arch_prctl",
                "execve",
                "exit",
                "exit_group",
                "read",
                "restart_syscall",
                "rseq",
                "rt_sigprocmask",
                "rt_sigreturn",
                "set_robust_list"
            ]
        );
        let i386 = generate(&[with(1, &[(Arch::X86, Phase::App, &["read"])])], &policy).unwrap();
        let expect = [&names(&x86_64)[..], &["set_thread_area", "sigreturn"]].concat();
        assert_eq!(names(&i386), expect);
        let generic = [
            "execve",
            "exit",
            "exit_group",
            "read",
            "restart_syscall",
            "rseq",
            "rt_sigprocmask",
            "rt_sigreturn",
            "set_robust_list",
        ];
        let machines: [(Arch, Calls); 2] = [
            (Arch::Aarch64, &[(Arch::Aarch64, Phase::App, &["read"])]),
            (Arch::Riscv64, &[(Arch::Riscv64, Phase::App, &["read"])]),
        ];
        for (native, calls) in machines {
            let generated = generate(&[on(native, with(1, calls))], &policy).unwrap();
            assert_eq!(names(&generated), generic, "{native}");
            assert_eq!(arches(&generated), [native.oci_name()]);
        }
        let arm = on(
            Arch::Aarch64,
            with(1, &[(Arch::Arm, Phase::App, &["read"])]),
        );
        let expect = [&generic[..], &["set_tls", "sigreturn"]].concat();
        assert_eq!(names(&generate(&[arm], &policy).unwrap()), expect);
    }

    fn on(native: Arch, mut observation: Observation) -> Observation {
        observation.machine.arch = native;
        observation
    }

    /// What an arm64 kernel shows of a 64-bit container, of a 32-bit one, and of one that has both.
    #[test]
    fn arm_is_listed_only_when_it_was_called_by() {
        let cases: [(Calls, &[&str]); 4] = [
            (
                &[(Arch::Aarch64, Phase::App, &["read"])],
                &["SCMP_ARCH_AARCH64"],
            ),
            (
                &[(Arch::Arm, Phase::App, &["read"])],
                &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
            ),
            (
                &[
                    (Arch::Aarch64, Phase::App, &["read"]),
                    (Arch::Arm, Phase::Exec, &["read"]),
                ],
                &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
            ),
            (
                &[
                    (Arch::Aarch64, Phase::App, &["read"]),
                    (Arch::Arm, Phase::Runtime, &["read"]),
                ],
                &["SCMP_ARCH_AARCH64"],
            ),
        ];
        for (calls, expect) in cases {
            let observation = on(Arch::Aarch64, with(1, calls));
            assert_eq!(arches(&generate(&[observation], &bare()).unwrap()), expect);
        }
    }

    #[test]
    fn the_profile_of_a_32_bit_arm_program() {
        let observation = on(
            Arch::Aarch64,
            with(
                1,
                &[(
                    Arch::Arm,
                    Phase::App,
                    &[
                        "_llseek",
                        "cacheflush",
                        "clock_gettime64",
                        "mmap2",
                        "semtimedop_time64",
                        "set_tls",
                        "statx",
                    ],
                )],
            ),
        );
        let policy = Policy {
            runtime: Runtime::Crun,
            no_new_privs: true,
            ..Policy::default()
        };
        let generated = generate(&[observation], &policy).unwrap();
        insta::assert_snapshot!("arm_profile", generated.profile.to_oci_json());
    }

    type Calls = &'static [(Arch, Phase, &'static [&'static str])];

    #[test]
    fn architectures_are_the_native_one_and_those_seen() {
        let cases: [(Calls, &[&str]); 4] = [
            (
                &[(Arch::X86_64, Phase::App, &["read"])],
                &["SCMP_ARCH_X86_64"],
            ),
            (
                &[(Arch::X86, Phase::App, &["read"])],
                &["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"],
            ),
            (
                &[
                    (Arch::X86_64, Phase::App, &["read"]),
                    (Arch::X32, Phase::Exec, &["read"]),
                ],
                &["SCMP_ARCH_X32", "SCMP_ARCH_X86_64"],
            ),
            // The runtime's ABI does not count.
            (
                &[
                    (Arch::X86_64, Phase::App, &["read"]),
                    (Arch::X86, Phase::Runtime, &["read"]),
                ],
                &["SCMP_ARCH_X86_64"],
            ),
        ];
        for (calls, expect) in cases {
            assert_eq!(
                arches(&generate(&[with(1, calls)], &bare()).unwrap()),
                expect
            );
        }
        let mut blocked = app(1, &["read"]);
        blocked
            .blocked_at_attach
            .insert(Arch::X86, sightings(&["pause"]));
        assert_eq!(
            arches(&generate(&[blocked], &bare()).unwrap()),
            ["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"]
        );
    }

    #[test]
    fn the_base_follows_runtime_no_new_privs_and_hooks() {
        let size = |runtime, no_new_privs, hooks| {
            let observation = Observation {
                start_container_hooks: hooks,
                ..app(1, &["acct"])
            };
            let policy = Policy {
                base: true,
                runtime,
                no_new_privs,
                ..bare()
            };
            names(&generate(&[observation], &policy).unwrap()).len() - 1
        };
        assert_eq!(size(Runtime::Runc, true, false), 26);
        assert_eq!(size(Runtime::Runc, false, false), 39);
        assert_eq!(size(Runtime::Runc, false, true), 44);
        assert_eq!(size(Runtime::Crun, true, false), 6);
        assert_eq!(size(Runtime::Crun, false, false), 20);
        assert_eq!(size(Runtime::Any, true, false), 28);
        assert_eq!(size(Runtime::Any, false, false), 45);
    }

    #[test]
    fn no_new_privs_saves_what_only_the_larger_base_has() {
        let policy = Policy {
            base: true,
            runtime: Runtime::Runc,
            ..bare()
        };
        let generated = generate(&[app(1, &["setuid"])], &policy).unwrap();
        let saves: Vec<&str> = generated
            .report
            .no_new_privs_saves
            .iter()
            .map(String::as_str)
            .collect();
        assert_eq!(
            saves,
            [
                "capget",
                "capset",
                "chdir",
                "close_range",
                "faccessat2",
                "fchown",
                "getcwd",
                "getppid",
                "newfstatat",
                "prctl",
                "setgid",
                "setgroups"
            ]
        );
        assert!(codes(&generated).contains(&"SC0010"));
        let smaller = generate(
            &[app(1, &["setuid"])],
            &Policy {
                no_new_privs: true,
                ..policy
            },
        )
        .unwrap();
        assert!(smaller.report.no_new_privs_saves.is_empty());
        assert!(
            saves
                .iter()
                .all(|name| !smaller.report.syscalls.contains_key(*name))
        );
    }

    #[test]
    fn the_closure() {
        let vdso = [
            "clock_getres",
            "clock_gettime",
            "getcpu",
            "getrandom",
            "gettimeofday",
            "time",
        ];
        let cases: [(&[&str], &[&str]); 9] = [
            (&["acct"], &[]),
            (&["clone3"], &["clone"]),
            (&["clone"], &["clone3"]),
            (&["faccessat2"], &["faccessat"]),
            (&["close_range"], &["openat", "getdents64", "close"]),
            (&["statx"], &["newfstatat"]),
            (&["openat2"], &["openat"]),
            (&["epoll_pwait2"], &["epoll_pwait"]),
            (&["nanosleep"], &["clock_nanosleep"]),
        ];
        let policy = Policy {
            closure: true,
            ..bare()
        };
        for (recorded, added) in cases {
            let expect: BTreeSet<&str> =
                [recorded, added, &vdso[..]].concat().into_iter().collect();
            let generated = generate(&[app(1, recorded)], &policy).unwrap();
            assert_eq!(generated.profile.allowed_names(), expect, "{recorded:?}");
        }
        // Denied and done without: not allowed as a fallback either.
        let mut filtered = app(1, &["clone"]);
        let tried = sightings(&["clone3"]);
        filtered.denied.insert((Arch::X86_64, Phase::App), tried);
        let generated = generate(std::slice::from_ref(&filtered), &policy).unwrap();
        assert!(!names(&generated).contains(&"clone3"));
        assert!(generated.report.denied.contains_key("clone3"));
        let include_denied = true;
        let generous = Policy {
            include_denied,
            ..policy.clone()
        };
        assert!(names(&generate(&[filtered], &generous).unwrap()).contains(&"clone3"));
        // 32-bit programs have calls of their own for the same.
        let i386 = generate(
            &[with(
                1,
                &[(Arch::X86, Phase::App, &["futex_time64", "statx"])],
            )],
            &policy,
        )
        .unwrap();
        for name in ["futex", "fstatat64", "clock_gettime64"] {
            assert!(names(&i386).contains(&name), "{name}");
        }
    }

    #[test]
    fn copies_and_earlier_states_of_a_recording_count_once() {
        let early = Observation {
            losses: [("map_full".to_owned(), 2)].into(),
            ended_ns: 1_500,
            ..app(1, &["read"])
        };
        let late = Observation {
            losses: [("map_full".to_owned(), 5)].into(),
            ..app(1, &["read", "write"])
        };
        let other = Observation {
            losses: [("map_full".to_owned(), 1)].into(),
            ..app(2, &["read"])
        };
        let generated = generate(&[late.clone(), early, other, late], &bare()).unwrap();
        assert_eq!(generated.report.recordings.len(), 2);
        assert_eq!(generated.report.recordings[0].ended_ns, 2_000);
        let Some(Incomplete::Losses { losses, .. }) = generated.report.incomplete.first() else {
            panic!("no losses")
        };
        assert_eq!(losses["map_full"], 6);
        let [Origin::Recorded(seen)] = &generated.report.syscalls["read"][..] else {
            panic!("not one origin")
        };
        assert_eq!(seen.recordings, 2);
    }

    #[test]
    fn incomplete_for_each_reason() {
        let complete = app(1, &["read"]);
        let lossy = Observation {
            losses: [("map_full".to_owned(), 1)].into(),
            ..complete.clone()
        };
        let none_lost = Observation {
            losses: [("map_full".to_owned(), 0)].into(),
            ..complete.clone()
        };
        let late = Observation {
            started_late_ns: Some(61_234_000_000),
            ..complete.clone()
        };
        let entered = Observation {
            entered: vec![EnteredProcess {
                pid: 9,
                comm: "mover".to_owned(),
                extra: BTreeMap::new(),
            }],
            entered_count: 3,
            ..complete.clone()
        };
        let decided = Observation {
            entered_as: Some(EnteredAs::Runtime),
            ..entered.clone()
        };
        let filtered = Observation {
            filtered: true,
            ..complete.clone()
        };
        let cases: [(&Observation, &[&str], &[&str]); 7] = [
            (&complete, &[], &[]),
            (&lossy, &["losses"], &["SC0005"]),
            (&none_lost, &[], &[]),
            (&late, &["started_late"], &["SC0006"]),
            (&entered, &["undecided_entered"], &["SC0007"]),
            (&decided, &[], &[]),
            (&filtered, &[], &["SC0004"]),
        ];
        for (observation, reasons, expect) in cases {
            let generated = generate(std::slice::from_ref(observation), &bare()).unwrap();
            let found: Vec<&str> = generated
                .report
                .incomplete
                .iter()
                .map(Incomplete::reason)
                .collect();
            assert_eq!(found, reasons);
            assert_eq!(codes(&generated), expect);
            assert_eq!(generated.report.is_complete(), reasons.is_empty());
        }
        let late = generate(&[late], &bare()).unwrap();
        assert_eq!(
            late.diagnostics[0].message,
            "no recording of this target has its start: the earliest began 61.234 s after it"
        );
    }

    #[test]
    fn a_recording_that_has_the_start_makes_up_for_late_ones() {
        let late = Observation {
            started_late_ns: Some(5),
            ..app(1, &["read"])
        };
        let generated = generate(&[late, app(2, &["write"])], &bare()).unwrap();
        assert!(generated.report.is_complete());
        assert_eq!(codes(&generated), ["SC0013", "SC0016"]);
    }

    #[test]
    fn findings_in_the_data() {
        let mut unknown = app(1, &["read"]);
        unknown.unknown = [(Phase::App, 5000), (Phase::App, -1), (Phase::Runtime, 6000)]
            .map(|(phase, nr)| UnknownNr {
                arch: Arch::X86_64,
                phase,
                nr,
                count: None,
                first: Sighting::default(),
            })
            .into();
        let both = with(
            1,
            &[
                (Arch::X86_64, Phase::App, &["read", "write"]),
                (Arch::X86, Phase::App, &["read"]),
            ],
        );
        let mut denied = app(1, &["read"]);
        denied
            .denied
            .insert((Arch::X86_64, Phase::App), sightings(&["read", "ptrace"]));
        let cases: [(Observation, &str, &str); 8] = [
            (
                unknown,
                "SC0001",
                "calls by numbers that have no name cannot be allowed: -1 on x86_64, 5000 on x86_64",
            ),
            (
                app(1, &["mseal", "cachestat"]),
                "SC0002",
                "nodes with an older libseccomp ignore cachestat (libseccomp 2.5.5), mseal (libseccomp 2.6.0): there they fail with ENOSYS",
            ),
            (
                both,
                "SC0003",
                "seen by x86_64 only, allowed on every listed architecture: write",
            ),
            (
                denied,
                "SC0008",
                "tried, denied by a filter of the recorded target, and left out: ptrace",
            ),
            (
                Observation {
                    own_filter: true,
                    ..app(1, &["read"])
                },
                "SC0009",
                "the application installs a filter of its own: what that denies is not needed",
            ),
            (
                Observation {
                    unprivileged_exec: ["/usr/bin/su\n".to_owned()].into(),
                    ..app(1, &["read"])
                },
                "SC0014",
                "executed without the privileges of their set-id bits or file capabilities, which ptrace takes away: /usr/bin/su\\n",
            ),
            (
                app(1, &["io_uring_setup"]),
                "SC0011",
                "io_uring does its work without system calls: neither a recording nor a profile sees what is done through it",
            ),
            (
                app(1, &["from_linux_9"]),
                "SC0012",
                "names that this version does not know were recorded, by a newer one perhaps, and are allowed: from_linux_9",
            ),
        ];
        for (observation, code, message) in cases {
            let generated = generate(&[observation], &bare()).unwrap();
            assert_eq!(codes(&generated), [code]);
            assert_eq!(generated.diagnostics[0].message, message);
            assert!(generated.report.is_complete(), "{code}");
        }
    }

    #[test]
    fn findings_in_several_recordings() {
        let of = |id, image: Option<&str>, name: Option<&str>, calls: &[&str]| Observation {
            target: Target {
                image: image.map(str::to_owned),
                container_name: name.map(str::to_owned),
                ..Target::default()
            },
            ..app(id, calls)
        };
        let found = |observations: &[Observation]| -> Vec<String> {
            let generated = generate(observations, &bare()).unwrap();
            generated
                .diagnostics
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        let redis = |id, name, calls| of(id, Some("redis"), Some(name), calls);
        let same = [redis(1, "a", &["read"]), redis(2, "b", &["read"])];
        assert_eq!(found(&same), [] as [String; 0]);
        let rare = [&same[..], &[redis(3, "c", &["read", "write"])]].concat();
        assert_eq!(
            found(&rare),
            ["info SC0016: not seen in every recording; in 1 of 3: write"]
        );
        let nginx = of(3, Some("nginx"), None, &["read"]);
        let unnamed = of(4, None, Some("c"), &["read"]);
        assert_eq!(
            found(&[&same[..], &[nginx, unnamed]].concat()),
            ["warning SC0015: the recordings are of different targets: c, nginx, redis"]
        );
    }

    #[test]
    fn a_name_of_a_newer_version_is_kept() {
        let generated = generate(&[app(1, &["from_linux_9"])], &bare()).unwrap();
        assert_eq!(names(&generated), ["from_linux_9"]);
    }

    #[test]
    fn the_first_sighting_is_the_explained_and_earliest_one() {
        let mut silent = app(1, &["read"]);
        silent.calls.insert(
            (Arch::X86_64, Phase::App),
            [("read".to_owned(), Sighting::default())].into(),
        );
        let mut later = app(2, &["read"]);
        later
            .calls
            .insert((Arch::X86_64, Phase::App), sightings(&["write", "read"]));
        let earlier = app(3, &["read"]);
        let generated = generate(&[silent, later, earlier], &bare()).unwrap();
        let [Origin::Recorded(seen)] = &generated.report.syscalls["read"][..] else {
            panic!("not one origin")
        };
        assert_eq!((seen.first_ns, seen.recordings), (Some(100), 3));
        assert_eq!(seen.recording, format!("{:032x}", 3));
    }

    #[test]
    fn the_summary_adds_up() {
        let generated = generate(
            &[with(
                1,
                &[
                    (Arch::X86_64, Phase::App, &["read", "clone3"]),
                    (Arch::X86_64, Phase::Exec, &["kill", "read"]),
                ],
            )],
            &Policy::default(),
        )
        .unwrap();
        let summary = generated.report.summary();
        assert_eq!(
            (summary.recorded, summary.application, summary.exec_only),
            (3, 2, 1)
        );
        assert_eq!(summary.allowed, generated.profile.allowed_names().len());
        assert_eq!(
            summary.allowed,
            summary.recorded + summary.core_added + summary.base_added + summary.closure_added
        );
    }

    #[test]
    fn compared_with_an_engines_default() {
        let mut generated = generate(&[app(1, &["read", "bpf", "from_linux_9"])], &bare()).unwrap();
        let engine = crate::defaults::Engine::Docker;
        let own = engine.capabilities().iter().copied();
        let docker = crate::defaults::resolve(engine, Arch::X86_64, own).unwrap();
        generated.report.compare(&docker);
        let comparison = generated.report.comparison.unwrap();
        assert_eq!(
            (
                comparison.profile_allows,
                comparison.default_allows,
                comparison.known
            ),
            (2, 309, 385)
        );
        assert_eq!(comparison.extra, ["bpf".to_owned()].into());
    }

    #[test]
    fn the_profile_of_a_small_program() {
        let mut observation = with(
            1,
            &[
                (
                    Arch::X86_64,
                    Phase::App,
                    &["getppid", "exit_group", "clone3"],
                ),
                (Arch::X86_64, Phase::Exec, &["kill"]),
            ],
        );
        observation.losses.insert("map_full".to_owned(), 2);
        let policy = Policy {
            runtime: Runtime::Crun,
            no_new_privs: true,
            ..Policy::default()
        };
        let generated = generate(&[observation], &policy).unwrap();
        insta::assert_snapshot!("small_profile", generated.profile.to_oci_json());
        insta::assert_snapshot!("small_report", generated.report.to_json());
    }

    #[test]
    fn what_passes_every_filter_stays_out_of_the_profile() {
        let on = |id, kernel: &str| {
            let mut observation = app(id, &["read", "uretprobe"]);
            observation.machine.kernel = kernel.to_owned();
            observation
        };
        let newer = generate(&[on(1, "6.18.0")], &bare()).unwrap();
        assert_eq!(names(&newer), ["read"]);
        assert_eq!(codes(&newer), ["SC0017"]);
        assert!(newer.diagnostics[0].message.ends_with(": uretprobe"));
        // A filter of an older kernel decides about it.
        for kernels in [&["6.12.3"][..], &["6.18.0", "6.12.3"]] {
            let all: Vec<Observation> = (1..).zip(kernels).map(|(id, it)| on(id, it)).collect();
            let older = generate(&all, &bare()).unwrap();
            assert_eq!(names(&older), ["read", "uretprobe"], "{kernels:?}");
        }
    }
}
