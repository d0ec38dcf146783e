//! The default filter of an engine: out of the way unless it is asked for, and then what it denied is told apart.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod root {
    use seccast_kernel::enforcement::allowed;
    use seccast_kernel::engine::{Workloads, run_kept};
    use seccast_kernel::{Call, Record, Recorded, assert_calls, call, calls, kernel};
    use seccast_model::arch::Arch::X86_64;
    use seccast_model::observation::{Observation, Phase};
    use seccast_model::syscall;
    use seccast_rig::engine::{Docker, Podman};
    use seccast_rig::{Bundle, Engine, Runtime, unique};
    use seccast_workloads::numbers;
    use serde_json::json;
    use std::collections::BTreeSet;
    use std::process::Command;
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// The default filters of docker (20.10, 24) and podman (4.3) deny these to a container without capabilities.
    const DENIED: &[&str] = &[
        "acct",
        "bpf",
        "delete_module",
        "init_module",
        "iopl",
        "kexec_load",
        "lookup_dcookie",
        "open_by_handle_at",
        "perf_event_open",
        "quotactl",
        "settimeofday",
        "swapon",
        "userfaultfd",
    ];

    /// Docker's does, podman's does not.
    const DENIED_BY_DOCKER: &[&str] = &["clone3", "fsopen", "reboot"];

    /// Both allow these.
    const ALLOWED: &[&str] = &["faccessat2", "getpid", "getuid", "openat", "uname"];

    /// The storm's own.
    const OWN: &[&str] = &[
        "clone",
        "exit",
        "exit_group",
        "nanosleep",
        "read",
        "sched_yield",
        "write",
    ];

    fn set(names: &[&[&str]]) -> BTreeSet<Call> {
        let names = names.iter().copied().flatten();
        names.map(|name| (X86_64, (*name).to_owned())).collect()
    }

    /// The calls of [`DENIED`] and [`ALLOWED`] over and over, as a container without capabilities.
    struct Storm {
        workloads: Workloads,
        list: Vec<u8>,
    }

    impl Storm {
        fn new() -> Self {
            let number = |name: &&str| (X86_64, syscall::nr(X86_64, name).unwrap());
            let list = [DENIED, DENIED_BY_DOCKER, ALLOWED].concat();
            let list: Vec<_> = list.iter().map(number).collect();
            assert_eq!(call(list[0]), (X86_64, DENIED[0].to_owned()));
            Self {
                workloads: Workloads::new(&["storm"]),
                list: numbers::encode(&list),
            }
        }

        fn bundle(&self) -> Bundle {
            self.workloads.bundle(&["/storm", "300"]).capabilities(&[])
        }

        fn record(&self, args: &[&str], command: &Command) -> Recorded {
            let record = Record::command(args, command).stdin(self.list.clone());
            record.run(PATIENCE)
        }
    }

    /// Everything was called and nothing was denied.
    fn is_whole(recorded: &Recorded, what: &str) {
        let observation = recorded.complete();
        let seen = calls(observation, Phase::App);
        assert_calls(&seen, &set(&[DENIED, DENIED_BY_DOCKER, ALLOWED, OWN]), what);
        assert!(
            observation.denied.is_empty(),
            "{what}: {:?}",
            observation.denied
        );
        println!("{what}: {} calls, none denied", seen.len());
    }

    fn denied(observation: &Observation) -> BTreeSet<Call> {
        let denied = observation.denied.iter();
        denied
            .flat_map(|((arch, _), names)| names.keys().map(|name| (*arch, name.clone())))
            .collect()
    }

    /// What the filter denied is listed as denied and nowhere else.
    fn is_filtered(recorded: &Recorded, expected: &[&str], rest: &[&[&str]], what: &str) {
        let observation = recorded.observation.as_ref().unwrap();
        assert!(
            observation.filtered && observation.losses.is_empty(),
            "{}",
            recorded.stderr
        );
        assert_calls(&denied(observation), &set(&[expected]), what);
        assert_calls(&calls(observation, Phase::App), &set(rest), what);
        let allowed = allowed(&recorded.profile());
        for name in expected {
            let is_allowed = allowed.iter().any(|allowed| allowed == name);
            let is_said = recorded.stderr.contains(name);
            assert_eq!(
                (is_allowed, is_said),
                (false, true),
                "{what}: {name}\n{}",
                recorded.stderr
            );
        }
        println!("{what}: {} denied, {:?}", expected.len(), recorded.status);
    }

    #[test]
    fn in_audit_mode_the_set_is_that_of_plain_runc() {
        let Some(_serial) = kernel() else { return };
        let storm = Storm::new();
        let bundle = storm.bundle();
        let work = tempfile::tempdir().unwrap();
        let mut runc = Runtime::runc().unwrap().command();
        let name = unique("audit-runc");
        runc.args(["run", "-b"]).arg(work.path()).arg(&name);
        bundle.write(&name, work.path()).unwrap();
        is_whole(&storm.record(&[], &runc), "runc without a filter");
        // A bundle's own filter is replaced, and the bundle stays as it is.
        let all = [DENIED, DENIED_BY_DOCKER].concat();
        let rule = json!({ "names": all, "action": "SCMP_ACT_ERRNO" });
        let filter = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
        let filtered = bundle.clone().seccomp(filter);
        filtered.write(&name, work.path()).unwrap();
        let config = std::fs::read(work.path().join("config.json")).unwrap();
        is_whole(&storm.record(&[], &runc), "runc with a filter");
        assert_eq!(
            std::fs::read(work.path().join("config.json")).unwrap(),
            config
        );
        let recorded = storm.record(&["--keep-filter"], &runc);
        is_filtered(&recorded, &all, &[ALLOWED, OWN], "runc --keep-filter");

        let (docker, podman) = (Docker::start().unwrap(), Podman::new().unwrap());
        // ctr gives no filter, and its containers never see the end of their input, where the list is.
        let engines: [&dyn Engine; 2] = [&docker, &podman];
        for engine in engines {
            let name = engine.name();
            let command = run_kept(engine, "audit", &bundle, &["-i"]);
            is_whole(&storm.record(&[], &command), name);
            let command = run_kept(engine, "kept", &bundle, &["-i"]);
            let recorded = storm.record(&["--keep-filter"], &command);
            let what = format!("{name} --keep-filter");
            if name == "docker" {
                is_filtered(&recorded, &all, &[ALLOWED, OWN], &what);
            } else {
                let rest = [DENIED_BY_DOCKER, ALLOWED, OWN];
                is_filtered(&recorded, DENIED, &rest, &what);
            }
            // The same where the command names a filter itself.
            let own = run_kept(engine, "named", &filtered, &["-i"]);
            let recorded = storm.record(&[], &own);
            let what = format!("{name} with its own filter");
            is_filtered(&recorded, &all, &[ALLOWED, OWN], &what);
            assert!(recorded.stderr.contains("names a filter itself"));
        }
    }
}
