//! What is called complete, or PASS, is so: programs and users that would have it said of less.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod root {
    use seccast_kernel::{
        Record, Recorded, calls, kernel, named, puppet, root_with, seccast, truth,
    };
    use seccast_model::arch::Arch;
    use seccast_model::evidence::{End, Hidden, Start};
    use seccast_model::observation::{Observation, Phase};
    use seccast_rig::cgroup::Scope;
    use seccast_rig::{Bundle, Container, Runtime, process, unique};
    use seccast_workloads::{path, program};
    use serde_json::{Value, json};
    use std::collections::BTreeSet;
    use std::ffi::{OsStr, OsString};
    use std::fs::{self, File};
    use std::os::fd::AsRawFd;
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(60);
    /// What `mover` calls of its own, with a helper: after its execve.
    const MOVER: [&str; 8] = [
        "execve",
        "exit_group",
        "fork",
        "getpgrp",
        "getsid",
        "openat",
        "wait4",
        "write",
    ];

    fn names(observation: &Observation, phase: Phase) -> BTreeSet<String> {
        let named = named(observation, phase).into_iter();
        named.map(|(_, name)| name).collect()
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// A profile that allows these calls, and 38 for the others.
    fn allowing(names: &[&str]) -> Value {
        json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 38,
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
        })
    }

    /// `seccast verify` with these words: its exit code, its verdict, and what it said.
    fn verify<I: IntoIterator<Item: AsRef<OsStr>>>(
        profile: &Value,
        words: I,
    ) -> (i32, Value, String) {
        let folder = tempfile::tempdir().unwrap();
        let [profile_path, out] = ["p.json", "v.json"].map(|name| folder.path().join(name));
        fs::write(&profile_path, profile.to_string()).unwrap();
        let mut command = Command::new(seccast());
        command.args(["verify", "--format", "json", "--profile"]);
        command.arg(&profile_path).arg("-o").arg(&out).args(words);
        let output = process::output(&mut command, PATIENCE).unwrap();
        let text = fs::read(&out).unwrap_or_else(|error| panic!("{error}: {}", output.stderr));
        let verdict = serde_json::from_slice(&text).unwrap();
        (output.status.code().unwrap(), verdict, output.stderr)
    }

    fn doubts(verdict: &Value) -> Vec<&str> {
        let doubts = verdict["runs"][0]["doubts"].as_array().unwrap();
        doubts
            .iter()
            .map(|one| one["reason"].as_str().unwrap())
            .collect()
    }

    fn found(verdict: &Value) -> Vec<&str> {
        let findings = verdict["runs"][0]["findings"].as_array().unwrap();
        findings
            .iter()
            .map(|one| one["name"].as_str().unwrap())
            .collect()
    }

    fn unfinished(recorded: &Recorded, reason: &str) {
        recorded.assert_ended(1, &["SC0020", reason]);
    }

    #[test]
    fn a_command_has_evidence_with_its_numbers() {
        let Some(_serial) = kernel() else { return };
        let recorded = Record::program(&path("plain"), [] as [&str; 0]).run(PATIENCE);
        let evidence = recorded.complete().evidence.as_ref().unwrap();
        assert_eq!(
            evidence.starts,
            [Start {
                filters: 0,
                inherited: 0
            }]
        );
        assert_eq!(evidence.calls, truth(program("plain")).len() as u64);
        assert_eq!(evidence.end, End::Target);
        let (code, verdict, stderr) = verify(
            &allowing(&[
                "execve",
                "getppid",
                "getpid",
                "getuid",
                "fcntl",
                "futex",
                "nanosleep",
                "exit_group",
            ]),
            [OsString::from("--"), path("plain").into()],
        );
        assert_eq!((code, &verdict["verdict"]), (0, &json!("pass")), "{stderr}");
        let evidence = &verdict["runs"][0]["evidence"];
        assert_eq!(
            evidence["starts"],
            json!([{ "filters": 1, "inherited": 0 }])
        );
        assert_eq!(evidence["given"], json!({ "filter": "profile" }));
    }

    #[test]
    fn who_moves_in_and_starts_a_helper_is_not_the_runtime() {
        let Some(_serial) = kernel() else { return };
        let scope = Scope::new("mover-in").unwrap();
        let running = Record::cgroup(scope.path()).start();
        let procs = scope.dir().join("cgroup.procs");
        let status = Command::new(path("mover"))
            .arg(&procs)
            .arg("plain")
            .status();
        assert!(status.unwrap().success());
        let recorded = running.stop();
        let observation = recorded.observation.as_ref().unwrap();
        // The write that moved it was made outside.
        let own: Vec<_> = MOVER
            .into_iter()
            .filter(|name| !["openat", "write"].contains(name))
            .collect();
        assert_eq!(names(observation, Phase::Entered), set(&own));
        assert_eq!(calls(observation, Phase::Runtime), [].into());
        assert_eq!(calls(observation, Phase::App), truth(program("plain")));
        recorded.assert_ended(1, &["SC0007", "mover"]);
    }

    /// It leaves as a runtime would, before its helper is executed; but a runtime's program lives in mounts of its own.
    #[test]
    fn who_moves_in_and_is_gone_before_its_helper_starts_is_not_the_runtime() {
        let Some(_serial) = kernel() else { return };
        let scope = Scope::new("mover-gone").unwrap();
        let running = Record::cgroup(scope.path()).start();
        let procs = scope.dir().join("cgroup.procs");
        let mut mover = Command::new(path("mover"));
        let status = mover.arg(&procs).args(["plain", "gone"]).status();
        assert!(status.unwrap().success());
        let empty = || Ok(fs::read_to_string(&procs)?.is_empty());
        process::poll("the helper to end", PATIENCE, empty).unwrap();
        let recorded = running.stop();
        let observation = recorded.observation.as_ref().unwrap();
        let entered = names(observation, Phase::Entered);
        // How often it has to look for its parent is chance.
        let own = [
            "execve",
            "exit_group",
            "fork",
            "getpgrp",
            "getpid",
            "getppid",
        ];
        assert!(entered.is_superset(&set(&own)), "{entered:?}");
        assert_eq!(calls(observation, Phase::Runtime), [].into());
        assert_eq!(calls(observation, Phase::App), truth(program("plain")));
        recorded.assert_ended(1, &["SC0007", "mover"]);
    }

    /// A service with mounts of its own is no runtime either: those of a runtime are the container's.
    #[test]
    fn who_moves_in_with_mounts_of_its_own_is_not_the_runtime() {
        let Some(_serial) = kernel() else { return };
        let root = root_with(&["sleeper"]);
        let scope = Scope::new("mover-mounts").unwrap();
        let name = unique("mover-mounts");
        let bundle = Bundle::new(root.path(), ["/sleeper"]).cgroups_path(scope.child("c"));
        let running = Record::new(["--container", &name, "--wait=60s"]).start();
        let mut container = Container::new(&name, &bundle, &Runtime::runc().unwrap()).unwrap();
        container.spawn().unwrap();
        container.wait_started().unwrap();
        let procs = container.cgroup_dir().join("cgroup.procs");
        // The program is executed outside, in mounts that are not its parent's, and moves in by itself.
        let mut mover = Command::new("unshare");
        mover.args(["--mount", "--propagation", "private"]);
        let status = mover.arg(path("mover")).arg(&procs).status();
        assert!(status.unwrap().success());
        container.kill(libc::SIGKILL).unwrap();
        container.wait(PATIENCE).unwrap();
        drop(container);
        let recorded = running.end(PATIENCE);
        let observation = recorded.observation.as_ref().unwrap();
        let own = ["exit_group", "getpgrp", "getsid"];
        assert_eq!(names(observation, Phase::Entered), set(&own));
        recorded.assert_ended(1, &["SC0007", "mover"]);
    }

    #[test]
    fn a_program_that_is_started_by_descriptor_is_recorded() {
        let Some(_serial) = kernel() else { return };
        let file = File::open(path("plain")).unwrap();
        // SAFETY: duplicates a descriptor of this process; the copy has no FD_CLOEXEC, and stays open to its end.
        let descriptor = unsafe { libc::dup(file.as_raw_fd()) };
        for folder in ["/dev/fd", "/proc/self/fd"] {
            let recorded = Record::new(["--", &format!("{folder}/{descriptor}")]).run(PATIENCE);
            let observation = recorded.complete();
            assert_eq!(
                calls(observation, Phase::App),
                truth(program("plain")),
                "{folder}"
            );
        }
    }

    #[test]
    fn who_leaves_takes_the_recording_along() {
        let Some(_serial) = kernel() else { return };
        let elsewhere = Scope::new("mover-out").unwrap();
        let procs = elsewhere.dir().join("cgroup.procs");
        let words = [procs.as_os_str(), OsStr::new("plain")];
        let recorded = Record::program(&path("mover"), words).run(PATIENCE);
        let mut all = truth(program("plain"));
        all.extend(MOVER.map(|name| (Arch::X86_64, name.to_owned())));
        assert_eq!(calls(recorded.complete(), Phase::App), all);

        let command = |mut words: Vec<OsString>| {
            words.insert(0, "--".into());
            words.insert(1, path("mover").into());
            words.push(procs.clone().into());
            words
        };
        let own = [
            "execve",
            "exit_group",
            "getpgrp",
            "getsid",
            "openat",
            "write",
        ];
        let (code, verdict, stderr) = verify(&allowing(&own), command(Vec::new()));
        assert_eq!((code, &verdict["verdict"]), (0, &json!("pass")), "{stderr}");
        let less: Vec<_> = own.into_iter().filter(|name| *name != "getsid").collect();
        let (code, verdict, _) = verify(&allowing(&less), command(Vec::new()));
        assert_eq!((code, found(&verdict)), (1, vec!["getsid"]));
    }

    #[test]
    fn a_call_by_the_vsyscall_page_is_a_call() {
        let Some(_serial) = kernel() else { return };
        let recorded = Record::program(&path("vsyscall"), [] as [&str; 0]).run(PATIENCE);
        let expected = set(&["gettimeofday", "exit_group"]);
        assert_eq!(names(recorded.complete(), Phase::App), expected);
        let words = || [OsString::from("--"), path("vsyscall").into()];
        let (code, verdict, stderr) = verify(
            &allowing(&["execve", "gettimeofday", "exit_group"]),
            words(),
        );
        assert_eq!((code, &verdict["verdict"]), (0, &json!("pass")), "{stderr}");
        let (code, verdict, _) = verify(&allowing(&["execve", "exit_group"]), words());
        assert_eq!((code, &verdict["verdict"]), (1, &json!("fail")));
        assert_eq!(found(&verdict), ["gettimeofday"]);
    }

    #[test]
    fn a_filter_of_its_own_is_seen_while_the_program_runs() {
        let Some(_serial) = kernel() else { return };
        let running = Record::program(&path("own_filter_stays"), [] as [&str; 0]).start();
        running.wait_for("installed");
        running.catch_up();
        assert!(running.so_far().unwrap().own_filter);
        let recorded = running.stop();
        assert!(recorded.observation.as_ref().unwrap().own_filter);
    }

    #[test]
    fn what_its_own_filter_hands_to_a_listener_makes_a_recording_incomplete() {
        let Some(_serial) = kernel() else { return };
        let recorded = Record::program(&path("notified"), [] as [&str; 0]).run(PATIENCE);
        let evidence = recorded
            .observation
            .as_ref()
            .unwrap()
            .evidence
            .clone()
            .unwrap();
        assert_eq!(evidence.hidden, [Hidden::OwnFilter].into());
        unfinished(&recorded, "listener");
        // A filter that denies by itself hides nothing that is needed.
        let recorded = Record::program(&path("own_filter_seccomp"), [] as [&str; 0]).run(PATIENCE);
        assert!(recorded.complete().own_filter);
    }

    #[test]
    fn what_a_command_leaves_running_makes_it_incomplete_and_inconclusive() {
        let Some(_serial) = kernel() else { return };
        let words = ["-c", "sleep 600 >/dev/null 2>&1 & echo $!"];
        let recorded = Record::new(["--", "/bin/sh"].into_iter().chain(words)).run(PATIENCE);
        let left = |stdout: &[u8]| {
            String::from_utf8_lossy(stdout)
                .trim()
                .parse::<i32>()
                .unwrap()
        };
        let pid = left(&recorded.stdout);
        let evidence = recorded
            .observation
            .as_ref()
            .unwrap()
            .evidence
            .clone()
            .unwrap();
        let running: Vec<_> = evidence
            .running
            .iter()
            .map(|one| one.pid.cast_signed())
            .collect();
        assert_eq!((evidence.end, running), (End::Target, vec![pid]));
        unfinished(&recorded, "left 1 processes running");
        process::signal(pid, libc::SIGKILL).unwrap();

        let words = ["--", "/bin/sh"].into_iter().chain(words);
        // Everything: how far the one that is left came before its recording ended is chance.
        let all = json!({ "defaultAction": "SCMP_ACT_ALLOW" });
        let (code, verdict, _) = verify(&all, words);
        let running = &verdict["runs"][0]["evidence"]["running"][0]["pid"];
        let pid = running.as_i64().and_then(|pid| i32::try_from(pid).ok());
        process::signal(pid.unwrap(), libc::SIGKILL).unwrap();
        assert_eq!((code, &verdict["verdict"]), (1, &json!("inconclusive")));
        assert_eq!(doubts(&verdict), ["running"]);
    }

    #[test]
    fn a_target_without_a_filter_proves_nothing() {
        let Some(_serial) = kernel() else { return };
        let scope = Scope::new("unfiltered").unwrap();
        let mut puppet = puppet();
        scope.add(puppet.pid()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let [profile, out] = ["p.json", "v.json"].map(|name| folder.path().join(name));
        fs::write(
            &profile,
            allowing(&["getuid", "exit_group", "futex"]).to_string(),
        )
        .unwrap();
        let mut command = Command::new(seccast());
        command.args(["verify", "--for", "1s", "--format", "json", "--profile"]);
        command.arg(&profile).arg("-o").arg(&out);
        command.args(["--pid", &puppet.pid().to_string(), "--whole-cgroup"]);
        let mut child = command.spawn().unwrap();
        puppet.call(102, &[]).unwrap();
        let status = process::wait(&mut child, PATIENCE).unwrap().unwrap();
        let verdict: Value = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
        assert_eq!(status.code(), Some(1), "{verdict}");
        assert_eq!(verdict["verdict"], "inconclusive");
        assert!(doubts(&verdict).contains(&"not_in_force"), "{verdict}");
    }

    /// Privileged, `seccomp:unconfined`, or nobody gave it one: nothing is denied, and nothing is proven.
    #[test]
    fn a_container_without_a_filter_proves_nothing() {
        let Some(_serial) = kernel() else { return };
        let root = root_with(&["plain"]);
        let folder = tempfile::tempdir().unwrap();
        let all = json!({ "defaultAction": "SCMP_ACT_ALLOW" });
        let profile = folder.path().join("p.json");
        fs::write(&profile, all.to_string()).unwrap();
        let other = allowing(&["getppid"]);
        for (filter, reason) in [
            (None, "without a filter"),
            (Some(&all), ""),
            (Some(&other), "another filter"),
        ] {
            let name = unique("unfiltered");
            let out = folder.path().join(&name);
            let mut verify = Command::new(seccast());
            verify.args(["verify", "--format", "json", "--profile"]);
            verify.arg(&profile).arg("-o").arg(&out);
            verify.args(["--container", &name, "--wait=60s"]);
            let log = File::create(folder.path().join("log")).unwrap();
            let mut verify = verify.stderr(log).spawn().unwrap();
            let armed = || Ok(fs::read_to_string(folder.path().join("log"))?.contains("armed"));
            process::poll("seccast to be armed", PATIENCE, armed).unwrap();
            let mut bundle = Bundle::new(root.path(), ["/plain"]);
            if let Some(filter) = filter {
                bundle = bundle.seccomp(filter.clone());
            }
            let runc = Runtime::runc().unwrap();
            let mut container = Container::new(&name, &bundle, &runc).unwrap();
            // Under the other filter it cannot start, and that is not this profile's doing.
            drop(container.run(PATIENCE));
            drop(container);
            let status = process::wait(&mut verify, PATIENCE).unwrap().unwrap();
            let verdict: Value = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
            let expected = if reason.is_empty() {
                (Some(0), "pass")
            } else {
                (Some(1), "inconclusive")
            };
            let found = verdict["verdict"].as_str().unwrap();
            assert_eq!((status.code(), found), expected, "{verdict}");
            if !reason.is_empty() {
                assert!(doubts(&verdict).contains(&"not_given"), "{verdict}");
                assert!(verdict.to_string().contains(reason), "{verdict}");
            }
        }
    }

    /// By the ids of its own namespace it would take the application for the runtime.
    #[test]
    fn who_cannot_tell_the_processes_by_their_ids_says_so() {
        let Some(_serial) = kernel() else { return };
        let scope = Scope::new("other-pids").unwrap();
        let puppet = puppet();
        scope.add(puppet.pid()).unwrap();
        let mut command = Command::new("unshare");
        command
            .args(["--pid", "--fork", "--mount-proc"])
            .arg(seccast());
        command.args([
            "record",
            "-o",
            "/dev/null",
            "--for",
            "1s",
            "--cgroup",
            scope.path(),
        ]);
        let output = process::output(&mut command, PATIENCE).unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", output.stderr);
        assert!(output.stderr.contains("pid namespace"), "{}", output.stderr);
        drop(puppet);
    }

    /// An exec of a program that is not there, as of a health check: the runtime came, failed and went.
    #[test]
    fn an_exec_of_a_missing_program_leaves_the_recording_complete() {
        let Some(_serial) = kernel() else { return };
        let root = root_with(&["sleeper", "plain"]);
        for runtime in [Runtime::runc(), Runtime::crun()] {
            let Ok(runtime) = runtime else { continue };
            let scope = Scope::new("missing").unwrap();
            let name = unique("missing");
            let bundle = Bundle::new(root.path(), ["/sleeper"]).cgroups_path(scope.child("c"));
            let running = Record::new(["--container", &name, "--wait=60s"]).start();
            let mut container = Container::new(&name, &bundle, &runtime).unwrap();
            container.spawn().unwrap();
            container.wait_started().unwrap();
            let failed = container.exec(["/not-there"]).unwrap();
            assert!(!failed.status.success());
            let probe = container.exec(["/plain"]).unwrap();
            assert!(probe.status.success(), "{}{}", probe.stdout, probe.stderr);
            container.kill(libc::SIGKILL).unwrap();
            container.wait(PATIENCE).unwrap();
            drop(container);
            let recorded = running.end(PATIENCE);
            let observation = recorded.complete();
            assert_eq!(observation.entered_count, 0, "{:?}", observation.entered);
            let evidence = observation.evidence.as_ref().unwrap();
            assert_eq!((evidence.execs, evidence.lives), (1, 1));
            assert_eq!(calls(observation, Phase::Exec), truth(program("plain")));
        }
    }

    /// A createContainer hook that is the same file as the application: the hook is not the application, nor the other way round.
    #[test]
    fn a_hook_of_the_applications_own_path_does_not_swallow_it() {
        let Some(_serial) = kernel() else { return };
        let root = root_with(&["plain"]);
        let name = unique("same-path");
        // The hook runs before the root changes: the path has to hold on both sides.
        let file = root.path().join("plain");
        let inside = root.path().join(file.strip_prefix("/").unwrap());
        fs::create_dir_all(inside.parent().unwrap()).unwrap();
        fs::copy(&file, &inside).unwrap();
        let file = file.to_str().unwrap();
        let running = Record::new(["--container", &name, "--wait=60s"]).start();
        let bundle = Bundle::new(root.path(), [file]).hook("createContainer", file, &["plain"]);
        let mut container = Container::new(&name, &bundle, &Runtime::runc().unwrap()).unwrap();
        let status = container.run(PATIENCE).unwrap();
        assert!(status.success(), "{}", container.log());
        drop(container);
        let recorded = running.end(PATIENCE);
        let observation = recorded.complete();
        assert_eq!(calls(observation, Phase::App), truth(program("plain")));
        assert_eq!(calls(observation, Phase::Hook), truth(program("plain")));
        assert_eq!(observation.evidence.as_ref().unwrap().starts.len(), 1);
    }

    /// LXC, a unit's SystemCallFilter, an outer container: the filter that audit mode gives denies nothing, and the inherited one does.
    #[test]
    fn an_inherited_filter_is_not_taken_for_none() {
        let Some(_serial) = kernel() else { return };
        let root = root_with(&["x86_64"]);
        let name = unique("inherits");
        let bundle = Bundle::new(root.path(), ["/x86_64"]);
        let folder = tempfile::tempdir().unwrap();
        bundle.write(&name, folder.path()).unwrap();
        let mut record = Command::new(seccast());
        let [observation, profile] = ["o.json", "p.json"].map(|file| folder.path().join(file));
        record
            .arg("record")
            .arg("--observation")
            .arg(&observation)
            .arg("-o")
            .arg(&profile);
        record
            .args(["--", "runc", "run", "--bundle"])
            .arg(folder.path())
            .arg(&name);
        // getppid is answered with errno 1, all else is allowed.
        let denies = [
            filter(0x20, 0, 0, 0),
            filter(0x15, 0, 1, 110),
            filter(0x06, 0, 0, 0x0005_0001),
            filter(0x06, 0, 0, 0x7fff_0000),
        ];
        let install = move || {
            let program = libc::sock_fprog {
                len: 4,
                filter: denies.as_ptr().cast_mut(),
            };
            // SAFETY: the program lies in this closure.
            match unsafe { libc::prctl(libc::PR_SET_SECCOMP, 2, &raw const program) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: one system call.
        unsafe { record.pre_exec(install) };
        let output = process::output(&mut record, PATIENCE).unwrap();
        let observation = Observation::from_json(&fs::read(&observation).unwrap()).unwrap();
        let evidence = observation.evidence.as_ref().unwrap();
        // The bundle has no filter, and nobody adds one.
        assert_eq!(
            evidence.starts,
            [Start {
                filters: 1,
                inherited: 1
            }],
            "{}",
            output.stderr
        );
        assert!(observation.filtered, "{}", output.stderr);
        let denied = &observation.denied[&(Arch::X86_64, Phase::App)];
        assert_eq!(denied.keys().collect::<Vec<_>>(), ["getppid"]);
        assert!(output.stderr.contains("SC0004"), "{}", output.stderr);
    }

    fn filter(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
        libc::sock_filter { code, jt, jf, k }
    }
}
