//! `--wait` finds the container that was named, whole, and nothing else.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod root {
    use seccast_kernel::{Record, Recorded, kernel};
    use seccast_model::observation::Phase;
    use seccast_rig::{Bundle, Container, Runtime, process, rootfs};
    use std::{collections::BTreeSet, fs, os::unix::fs::FileTypeExt as _, time::Duration};

    const PATIENCE: Duration = Duration::from_secs(30);

    fn names(recorded: &Recorded, phase: Phase) -> BTreeSet<String> {
        let calls = &recorded.observation.as_ref().unwrap().calls;
        let of_phase = calls.iter().filter(|((_, of), _)| *of == phase);
        of_phase
            .flat_map(|(_, calls)| calls.keys().cloned())
            .collect()
    }

    fn busybox(args: &[&str]) -> Bundle {
        Bundle::new(rootfs::busybox().unwrap(), args.iter().copied())
    }

    /// runc makes every missing folder of the path; only the last holds the container.
    #[test]
    fn a_parent_that_runc_makes_as_well_is_not_the_container() {
        let Some(_serial) = kernel() else { return };
        let parent = format!("/seccast-test/parent-{}", std::process::id());
        let runc = Runtime::runc().unwrap();
        let running = Record::new(["--container", "awaited", "--wait=60s"]).start();
        let bundle = busybox(&["/bin/sleep", "2"]).cgroups_path(format!("{parent}/awaited"));
        let mut awaited = Container::new("awaited", &bundle, &runc).unwrap();
        awaited.run_detached().unwrap();
        // A stranger below the same parent calls what the awaited one does not.
        let bundle = busybox(&["/bin/sh", "-c", "umask 022; sync; readlink /x; true"])
            .cgroups_path(format!("{parent}/stranger"));
        let mut stranger = Container::new("stranger", &bundle, &runc).unwrap();
        assert!(
            stranger.run(PATIENCE).unwrap().success(),
            "{}",
            stranger.log()
        );
        let recorded = running.end(PATIENCE);
        drop((awaited, stranger));
        let observation = recorded.complete();
        let path = observation.target.cgroup_path.as_deref().unwrap();
        assert_eq!(path, format!("{parent}/awaited"));
        let app = names(&recorded, Phase::App);
        assert!(
            app.contains("clock_nanosleep") || app.contains("nanosleep"),
            "{app:?}"
        );
        for call in ["sync", "umask"] {
            assert!(!app.contains(call), "{call} is the stranger's: {app:?}");
        }
        seccast_rig::cgroup::Mounts::read()
            .unwrap()
            .remove(&parent)
            .unwrap();
    }

    #[test]
    fn a_container_that_is_created_and_not_started_is_recorded_from_its_start() {
        let Some(_serial) = kernel() else { return };
        let runc = Runtime::runc().unwrap();
        let work = tempfile::tempdir().unwrap();
        busybox(&["/bin/sh", "-c", "umask 022; sleep 1"])
            .write("made", work.path())
            .unwrap();
        let run = |args: &[&str]| {
            let mut command = runc.command();
            command.current_dir(work.path()).args(args);
            command.stdout(fs::File::create(work.path().join("log")).unwrap());
            command.stderr(fs::File::create(work.path().join("err")).unwrap());
            command.stdin(std::process::Stdio::null()).status().unwrap()
        };
        run(&["delete", "-f", "made"]);
        assert!(run(&["create", "made"]).success());
        let running = Record::new(["--container", "made", "--wait=60s"]).start();
        assert!(run(&["start", "made"]).success());
        let recorded = running.end(PATIENCE);
        run(&["delete", "-f", "made"]);
        recorded.complete();
        let app = names(&recorded, Phase::App);
        assert!(app.contains("umask") && app.contains("execve"), "{app:?}");
        assert!(!app.contains("pivot_root"), "{app:?}");
    }

    /// The recorder may be late: what it needs to know is kept by the kernel.
    #[test]
    fn a_container_that_came_and_went_while_the_recorder_slept_is_found() {
        let Some(_serial) = kernel() else { return };
        let running = Record::new(["--container", "passing", "--wait=60s"]).start();
        process::signal(running.pid(), libc::SIGSTOP).unwrap();
        let bundle = busybox(&["/bin/sh", "-c", "umask 022"]);
        let mut container = Container::new("passing", &bundle, &Runtime::runc().unwrap()).unwrap();
        assert!(
            container.run(PATIENCE).unwrap().success(),
            "{}",
            container.log()
        );
        drop(container);
        process::signal(running.pid(), libc::SIGCONT).unwrap();
        let recorded = running.end(PATIENCE);
        recorded.complete();
        assert!(names(&recorded, Phase::App).contains("umask"));
        assert!(!names(&recorded, Phase::App).contains("pivot_root"));
    }

    /// What a createContainer hook executes is the hook.
    #[test]
    fn a_hook_that_runs_other_programs_stays_a_hook() {
        let Some(_serial) = kernel() else { return };
        let running = Record::new(["--container", "hooked", "--wait=60s"]).start();
        let bundle = busybox(&["/bin/true"]).hook(
            "createContainer",
            "/bin/sh",
            &["sh", "-c", "cat >/dev/null; setsid true; sync"],
        );
        let mut container = Container::new("hooked", &bundle, &Runtime::runc().unwrap()).unwrap();
        assert!(
            container.run(PATIENCE).unwrap().success(),
            "{}",
            container.log()
        );
        let recorded = running.end(PATIENCE);
        recorded.complete();
        let (hook, app) = (names(&recorded, Phase::Hook), names(&recorded, Phase::App));
        for call in ["setsid", "sync"] {
            assert!(
                hook.contains(call) && !app.contains(call),
                "{call}: hook {hook:?}, app {app:?}"
            );
        }
        assert!(app.contains("exit_group"), "{app:?}");
    }

    /// A workload may put a pipe where its C library was; nobody may hang on it.
    #[test]
    fn a_hostile_root_does_not_block_the_recorder() {
        let Some(_serial) = kernel() else { return };
        let script = "cp /bin/busybox /tmp/libc.so.6; ln -s libc.so.6 /tmp/sh; \
            exec /tmp/sh -c 'rm /tmp/libc.so.6; mkfifo /tmp/libc.so.6; while :; do sleep 0.1; done'";
        let bundle = busybox(&["/bin/sh", "-c", script]).tmpfs("/tmp");
        let mut container = Container::new("hostile", &bundle, &Runtime::runc().unwrap()).unwrap();
        container.run_detached().unwrap();
        let pipe = format!("/proc/{}/root/tmp/libc.so.6", container.pid().unwrap());
        let is_pipe = || Ok(fs::metadata(&pipe).is_ok_and(|file| file.file_type().is_fifo()));
        process::poll("the pipe", PATIENCE, is_pipe).unwrap();
        let recorded = Record::new(["--container", "hostile", "--for", "1s"])
            .start()
            .end(Duration::from_secs(15));
        let observation = recorded.observation.as_ref().unwrap();
        assert_eq!(
            observation.machine.libc.as_deref(),
            Some("glibc"),
            "named by its mapping"
        );
        assert!(observation.started_late_ns.is_some());
    }
}
