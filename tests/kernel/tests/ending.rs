//! How a recording ends: signals, limits, and the exit codes, which are an interface (design 7).

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod root {
    use seccast_kernel::{Record, Recorded, Running, kernel, long_enough};
    use seccast_model::observation::Phase;
    use seccast_rig::process;
    use std::{
        fs,
        path::Path,
        time::{Duration, Instant},
    };

    const PATIENCE: Duration = Duration::from_secs(60);

    fn sh(script: &str) -> Record {
        Record::program(Path::new("/bin/sh"), ["-c", script])
    }

    /// Names that the application called, over all ABIs.
    fn names(recorded: &Recorded) -> Vec<String> {
        let calls = &recorded.observation.as_ref().unwrap().calls;
        let app = calls.iter().filter(|((_, phase), _)| *phase == Phase::App);
        app.flat_map(|(_, calls)| calls.keys().cloned()).collect()
    }

    fn signal(running: &Running, signal: i32) {
        process::signal(running.pid(), signal).unwrap();
    }

    #[test]
    fn the_exit_code_is_the_commands_when_it_is_not_zero() {
        let Some(_serial) = kernel() else { return };
        for (script, code) in [
            ("exit 0", 0),
            ("exit 7", 7),
            ("kill -9 $$", 137),
            ("kill -TERM $$", 143),
        ] {
            let recorded = sh(script).run(PATIENCE);
            assert_eq!(
                recorded.status.code(),
                Some(code),
                "{script}: {}",
                recorded.stderr
            );
            assert!(recorded.profile_path().exists(), "{script}: no profile");
            let says = recorded
                .stderr
                .lines()
                .any(|line| line.starts_with("seccast: exit code") && line.contains("CMD"));
            assert_eq!(says, code != 0, "{script}: {}", recorded.stderr);
        }
    }

    #[test]
    fn a_command_that_cannot_run_has_the_code_that_env_gives() {
        let Some(_serial) = kernel() else { return };
        for (program, code) in [
            ("/nowhere/program", 127),
            ("no-such-program-anywhere", 127),
            ("/etc/passwd", 126),
            ("/etc", 126),
        ] {
            let recorded = Record::program(Path::new(program), [""; 0]).run(PATIENCE);
            assert_eq!(
                recorded.status.code(),
                Some(code),
                "{program}: {}",
                recorded.stderr
            );
            assert!(
                recorded.stderr.contains(program),
                "{program}: {}",
                recorded.stderr
            );
            assert!(
                recorded.observation.is_none() && !recorded.profile_path().exists(),
                "{program}: files were written"
            );
        }
    }

    #[test]
    fn the_first_signal_goes_to_the_command_and_its_shutdown_is_recorded() {
        let Some(_serial) = kernel() else { return };
        for number in [libc::SIGTERM, libc::SIGINT] {
            let running = sh("trap 'umask 022; readlink / ; exit 5' TERM INT; echo ready; while :; do sleep 0.05; done").start();
            running.wait_for("ready");
            signal(&running, number);
            let recorded = running.end(PATIENCE);
            assert_eq!(recorded.status.code(), Some(5), "{}", recorded.stderr);
            let names = names(&recorded);
            assert!(
                names.iter().any(|name| name == "umask")
                    && names.iter().any(|name| name == "readlink"),
                "{names:?}"
            );
        }
    }

    #[test]
    fn a_second_signal_ends_the_recording_at_once_and_writes_it() {
        let Some(_serial) = kernel() else { return };
        // It does not end by the first, and says that it got it: two at once could be one.
        let running = sh("trap 'echo got' TERM; echo ready; while :; do sleep 0.05; done").start();
        for answer in ["ready", "got"] {
            running.wait_for(answer);
            signal(&running, libc::SIGTERM);
        }
        let recorded = running.end(PATIENCE);
        assert!(
            recorded.stderr.contains("CMD is killed"),
            "{}",
            recorded.stderr
        );
        assert!(names(&recorded).iter().any(|name| name == "wait4"));
        assert_eq!(recorded.status.code(), Some(0), "{}", recorded.stderr);
    }

    /// A shell that has said `ready` before this limit, of a second or more, was over.
    fn limited(option: &str, kind: &str, script: &str) -> Recorded {
        let run = |seconds: &str| {
            let limit = format!("{kind}{seconds}");
            Record::new([option, &limit, "--", "/bin/sh", "-c", script]).run(PATIENCE * 2)
        };
        long_enough(run, |recorded| recorded.stdout == b"ready\n")
    }

    #[test]
    fn a_time_limit_stops_the_command_and_still_records() {
        let Some(_serial) = kernel() else { return };
        let start = Instant::now();
        let script = "trap 'umask 022; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
        let recorded = limited("--for", "", script);
        assert!(start.elapsed() >= Duration::from_secs(1));
        assert_eq!(recorded.status.code(), Some(0), "{}", recorded.stderr);
        assert!(names(&recorded).iter().any(|name| name == "umask"));
    }

    #[test]
    fn quiet_ends_a_recording_that_sees_nothing_new() {
        let Some(_serial) = kernel() else { return };
        let start = Instant::now();
        let script = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done";
        let recorded = limited("--until", "quiet=", script);
        assert!(start.elapsed() >= Duration::from_secs(1));
        assert_eq!(recorded.status.code(), Some(0), "{}", recorded.stderr);
    }

    #[test]
    fn sigusr1_writes_the_state_so_far_and_recording_goes_on() {
        let Some(_serial) = kernel() else { return };
        let work = tempfile::tempdir().unwrap();
        let go = work.path().join("go");
        let script =
            "sleep 0; echo ready; until [ -e \"$0\" ]; do sleep 0.05; done; readlink /; true";
        let running =
            Record::program(Path::new("/bin/sh"), ["-c", script, go.to_str().unwrap()]).start();
        running.wait_for("ready");
        assert!(running.so_far().is_none());
        running.catch_up();
        let first = running.so_far().unwrap();
        fs::write(&go, "").unwrap();
        let has = |name: &str| {
            first
                .calls
                .iter()
                .any(|((_, phase), calls)| *phase == Phase::App && calls.contains_key(name))
        };
        assert!(has("wait4") && !has("readlink"));
        let recorded = running.end(PATIENCE);
        assert_eq!(recorded.complete().recording_id, first.recording_id);
        assert!(names(&recorded).iter().any(|name| name == "readlink"));
    }

    #[test]
    fn a_process_in_a_shared_cgroup_is_refused() {
        let Some(_serial) = kernel() else { return };
        let scope = seccast_rig::cgroup::Scope::new("shared").unwrap();
        let path = scope.child("both");
        let hierarchy = seccast_recorder::cgroup::Hierarchy::find().unwrap();
        let cgroup = hierarchy
            .open(&path)
            .or_else(|_| hierarchy.create(&path))
            .unwrap();
        let mut children = [0, 1].map(|_| {
            let child = std::process::Command::new("sleep")
                .arg("60")
                .spawn()
                .unwrap();
            cgroup.add(child.id()).unwrap();
            child
        });
        let one = children[0].id().to_string();
        // Its own cgroup is not it; and init's is the machine's.
        for (pid, whole, expected) in [
            (one.as_str(), false, "--whole-cgroup"),
            ("1", false, "root cgroup"),
            ("1", true, "root cgroup"),
        ] {
            let mut command = std::process::Command::new(seccast_kernel::seccast());
            command.args(["record", "-o", "/dev/null", "--for", "1s", "--pid", pid]);
            if whole {
                command.arg("--whole-cgroup");
            }
            let output = command.output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(3), "{pid}: {text}");
            assert!(text.contains(expected), "{pid}: {text}");
        }
        let whole = Record::new(["--pid", &one, "--whole-cgroup", "--for", "300ms"]).run(PATIENCE);
        assert_eq!(
            whole.status.code(),
            Some(1),
            "late, and so incomplete: {}",
            whole.stderr
        );
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn a_process_with_its_own_cgroup_is_recorded_late_and_says_so() {
        let Some(_serial) = kernel() else { return };
        let scope = seccast_rig::cgroup::Scope::new("pid").unwrap();
        let path = scope.child("one");
        let hierarchy = seccast_recorder::cgroup::Hierarchy::find().unwrap();
        let cgroup = hierarchy
            .open(&path)
            .or_else(|_| hierarchy.create(&path))
            .unwrap();
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", "sleep 600; while :; do sleep 0.1; done"])
            .spawn()
            .unwrap();
        cgroup.add(child.id()).unwrap();
        let pid = child.id().cast_signed();
        process::poll("the shell to wait", PATIENCE, || {
            Ok(process::sleeps_in(pid) == Some(libc::SYS_wait4))
        })
        .unwrap();
        let running = Record::new(["--pid", &pid.to_string()]).start();
        // Without the sleep that it waits for it goes on, waits for the next one, and is seen.
        let children = format!("/proc/{pid}/task/{pid}/children");
        let children = || fs::read_to_string(&children).unwrap();
        let first = children();
        process::signal(first.trim().parse().unwrap(), libc::SIGTERM).unwrap();
        process::poll("the next sleep", PATIENCE, || {
            Ok(children() != first && process::sleeps_in(pid) == Some(libc::SYS_wait4))
        })
        .unwrap();
        let recorded = running.stop();
        assert!(
            child.try_wait().unwrap().is_none(),
            "what was running already is left alone"
        );
        child.kill().unwrap();
        child.wait().unwrap();
        let observation = recorded.observation.as_ref().unwrap();
        assert!(observation.started_late_ns.is_some());
        assert!(
            observation
                .blocked_at_attach
                .values()
                .any(|calls| calls.contains_key("wait4"))
        );
        assert_eq!(
            recorded.status.code(),
            Some(1),
            "incomplete: {}",
            recorded.stderr
        );
        assert!(recorded.stderr.contains("--wait"), "{}", recorded.stderr);
        assert!(names(&recorded).iter().any(|name| name == "wait4"));
    }
}
