//! Containers that engines start are found by evidence, in whatever way they were named, and no other is.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod root {
    use seccast_kernel::engine::{Shared, Workloads, ids, path_with, run_kept};
    use seccast_kernel::repeats;
    use seccast_kernel::{Record, Recorded, calls, kernel, long_enough, truth};
    use seccast_model::observation::{Observation, Phase};
    use seccast_rig::cgroup::Scope;
    use seccast_rig::engine::{self, Contained, Containerd, Docker, Podman};
    use seccast_rig::{Bundle, Container, Engine, Runtime, Server, process, rootfs, unique};
    use seccast_workloads::program;
    use std::collections::BTreeSet;
    use std::process::{Child, Command, Stdio};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    const PATIENCE: Duration = Duration::from_secs(90);
    /// Between two starts of strangers.
    const EVERY: Duration = Duration::from_millis(50);
    /// Clients of one engine at once: more would only wait for each other.
    const AT_ONCE: usize = 2;

    /// What the kernel has seen is the workload, whole and alone.
    fn is_exactly<'a>(recorded: &'a Recorded, workload: &str, what: &str) -> &'a Observation {
        let observation = recorded.complete();
        let seen = calls(observation, Phase::App);
        let expected = truth(program(workload));
        assert_eq!(seen, expected, "{what}\n{}", recorded.stderr);
        observation
    }

    /// Starts a stranger every 50 ms, as far as the machine can, until it is told to stop.
    fn strangers(start: impl Fn(usize) -> Command, stop: &AtomicBool, started: &AtomicUsize) {
        let mut running: Vec<Child> = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            running.retain_mut(|child| child.try_wait().unwrap().is_none());
            if running.len() < AT_ONCE {
                let n = started.fetch_add(1, Ordering::Relaxed);
                let mut command = start(n);
                let child = command.stdin(Stdio::null()).stdout(Stdio::null());
                running.push(child.stderr(Stdio::null()).spawn().unwrap());
            }
            std::thread::sleep(EVERY);
        }
        for mut child in running {
            assert!(process::wait(&mut child, PATIENCE).unwrap().is_some());
        }
    }

    /// `record -- ENGINE run` while the same engine, another one and runc start others of the same image.
    fn picks_its_own(engine: Shared<'_>, other: Shared<'_>) {
        let rounds = repeats(10);
        let workloads = Workloads::new(&["x86_64", "signal"]);
        let (own, stranger) = (
            workloads.bundle(&["/x86_64"]),
            workloads.bundle(&["/signal"]),
        );
        for engine in [engine, other] {
            engine.image(&own).unwrap();
        }
        let stop = AtomicBool::new(false);
        let counts: [AtomicUsize; 3] = Default::default();
        let runc = Runtime::runc().unwrap();
        let (bundle, group) = (
            tempfile::tempdir().unwrap(),
            Scope::new("stranger").unwrap(),
        );
        let (mut armed, mut right) = (Duration::ZERO, BTreeSet::new());
        let began = Instant::now();
        std::thread::scope(|scope| {
            for (engine, count) in [engine, other].into_iter().zip(&counts) {
                let stranger = stranger.clone();
                let start = move |n| engine.run(&format!("stranger-{n}"), &stranger).unwrap();
                let stop = &stop;
                scope.spawn(move || strangers(start, stop, count));
            }
            let bare = stranger.clone().cgroups_path(group.child("c"));
            bare.write("stranger", bundle.path()).unwrap();
            let start = |n| {
                let mut command = runc.command();
                command.args(["run", "-b"]).arg(bundle.path());
                command.arg(unique(&format!("stranger-{n}")));
                command
            };
            let (stop, bare) = (&stop, &counts[2]);
            scope.spawn(move || strangers(start, stop, bare));
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for n in 0..rounds {
                    let name = format!("own-{n}");
                    let command = run_kept(engine, &name, &own, &[]);
                    let recorded = Record::command(&[], &command).run(PATIENCE);
                    armed = armed.max(recorded.armed_after);
                    let target = &is_exactly(&recorded, "x86_64", &name).target;
                    assert_eq!(target.container_name.as_deref(), Some(name.as_str()));
                    assert_eq!(target.engine.as_deref(), Some(engine.name()));
                    right.insert((name, target.container_id.clone().unwrap()));
                }
            }));
            stop.store(true, Ordering::Relaxed);
            if let Err(panic) = result {
                std::panic::resume_unwind(panic);
            }
        });
        let took = began.elapsed();
        let all = ids(engine);
        let own = all.into_iter().filter(|(name, _)| name.starts_with("own-"));
        assert_eq!(right, own.collect(), "ids as {} tells them", engine.name());
        let [same, others, bare] = counts.map(AtomicUsize::into_inner);
        println!(
            "{}: {rounds} of {rounds} are its own, in {took:.0?}, armed after {armed:.0?} at most; beside them {same} by {}, \
             {others} by {}, {bare} by runc: one in {:.0?}",
            engine.name(),
            engine.name(),
            other.name(),
            took / u32::try_from(same + others + bare).unwrap(),
        );
    }

    #[test]
    fn docker_run_is_told_from_strangers_of_the_same_image() {
        let Some(_serial) = kernel() else { return };
        picks_its_own(&Docker::start().unwrap(), &Podman::new().unwrap());
    }

    #[test]
    fn podman_run_is_told_from_strangers_of_the_same_image() {
        let Some(_serial) = kernel() else { return };
        picks_its_own(&Podman::new().unwrap(), &Docker::start().unwrap());
    }

    /// A container of this engine that lives until it is told to end, and runs its own program already.
    fn sleeping<'a>(engine: &'a dyn Engine, name: &str, bundle: &Bundle) -> Contained<'a> {
        let container = Contained::run(engine, name, bundle).unwrap();
        asleep(container.pid().unwrap());
        container
    }

    fn asleep(pid: i32) {
        let asleep = || Ok(process::sleeps_in(pid) == Some(libc::SYS_nanosleep));
        process::poll("its program's sleep", PATIENCE, asleep).unwrap();
    }

    /// What a running container's recording says: late, by how much, and what it sleeps in. The container was started after the first of
    /// two moments, and ran before the second.
    fn is_late(
        record: impl FnOnce() -> Recorded,
        engine: Option<&str>,
        id: &str,
        [before, running]: [Instant; 2],
    ) {
        // /proc has the start of a process in hundredths of a second.
        const TICK: Duration = Duration::from_millis(10);
        let least = running.elapsed();
        let recorded = record();
        let most = before.elapsed() + TICK;
        recorded.assert_ended(1, &["--wait"]);
        let observation = recorded.observation.as_ref().unwrap();
        let target = &observation.target;
        assert_eq!(target.container_id.as_deref(), Some(id));
        let known = target.engine.as_deref().or(target.runtime.as_deref());
        // An id alone is found in the cgroups.
        assert!(engine.is_none() || known == engine, "{target:?}");
        let late = Duration::from_nanos(observation.started_late_ns.unwrap());
        assert!(
            (least..=most).contains(&late),
            "{least:?} {late:?} {most:?}"
        );
        let blocked = observation.blocked_at_attach.values();
        let blocked: BTreeSet<_> = blocked.flat_map(|calls| calls.keys()).collect();
        assert_eq!(blocked, BTreeSet::from([&"nanosleep".to_owned()]));
        println!("{id} of {known:?}: late by {late:.1?}");
    }

    #[test]
    fn a_running_container_is_found_by_its_name_and_its_age_is_told() {
        let Some(_serial) = kernel() else { return };
        let workloads = Workloads::new(&["sleeper"]);
        let bundle = workloads.bundle(&["/sleeper"]);
        let (docker, podman) = (Docker::start().unwrap(), Podman::new().unwrap());
        let containerd = Containerd::start().unwrap();
        let late = |name: &str| {
            Record::new(["--container", name, "--for", "300ms"])
                .env("DOCKER_HOST", docker.host())
                .env("PATH", path_with(&docker))
                .run(PATIENCE)
        };
        let engines: [&dyn Engine; 3] = [&docker, &podman, &containerd];
        for engine in engines {
            let name = unique(&format!("late-{}", engine.name()));
            let before = Instant::now();
            let container = sleeping(engine, &name, &bundle);
            let moments = [before, Instant::now()];
            let id = engine.id(&name).unwrap();
            let known = if engine.name() == "ctr" {
                "containerd"
            } else {
                engine.name()
            };
            is_late(|| late(&name), Some(known), &id, moments);
            // By its id as well; and it is left alone.
            is_late(|| late(&id), None, &id, moments);
            assert_eq!(engine.pid(&name).unwrap(), Some(container.pid().unwrap()));
        }
        let name = unique("late-crun");
        let mut container = Container::new(&name, &bundle, &Runtime::crun().unwrap()).unwrap();
        let before = Instant::now();
        container.spawn().unwrap();
        asleep(container.pid().unwrap());
        is_late(
            || late(&name),
            Some("crun"),
            &name,
            [before, Instant::now()],
        );
    }

    #[test]
    fn a_container_that_is_waited_for_is_complete_whoever_starts_it() {
        let Some(_serial) = kernel() else { return };
        let workloads = Workloads::new(&["x86_64"]);
        let bundle = workloads.bundle(&["/x86_64"]);
        let (docker, podman) = (Docker::start().unwrap(), Podman::new().unwrap());
        let containerd = Containerd::start().unwrap();
        let wait = |name: &str| {
            Record::new(["--container", name, "--wait=60s"])
                .env("DOCKER_HOST", docker.host())
                .env("PATH", path_with(&docker))
                .start()
        };
        let engines: [&dyn Engine; 3] = [&docker, &podman, &containerd];
        for engine in engines {
            let name = unique(&format!("wait-{}", engine.name()));
            engine.image(&bundle).unwrap();
            let running = wait(&name);
            let mut command = run_kept(engine, &name, &bundle, &[]);
            process::check(&mut command, PATIENCE).unwrap();
            let recorded = running.end(PATIENCE);
            let target = &is_exactly(&recorded, "x86_64", &name).target;
            let id = engine.id(&name).unwrap();
            assert_eq!(target.container_id.as_deref(), Some(id.as_str()));
        }
        let name = unique("wait-crun");
        let running = wait(&name);
        let mut container = Container::new(&name, &bundle, &Runtime::crun().unwrap()).unwrap();
        assert!(
            container.run(PATIENCE).unwrap().success(),
            "{}",
            container.log()
        );
        let recorded = running.end(PATIENCE);
        let target = &is_exactly(&recorded, "x86_64", "crun").target;
        assert_eq!(target.runtime.as_deref(), Some("crun"));
    }

    #[test]
    fn a_name_that_two_engines_know_is_refused_with_both() {
        let Some(_serial) = kernel() else { return };
        let workloads = Workloads::new(&["sleeper"]);
        let bundle = workloads.bundle(&["/sleeper"]);
        let (docker, podman) = (Docker::start().unwrap(), Podman::new().unwrap());
        let name = unique("twin");
        let mut twins = [
            sleeping(&docker, &name, &bundle),
            sleeping(&podman, &name, &bundle),
        ];
        let ids = [docker.id(&name).unwrap(), podman.id(&name).unwrap()];
        let record = |args: &[&str]| {
            let mut command = Command::new(seccast_kernel::seccast());
            command.args([
                "record",
                "-o",
                "/dev/null",
                "--for",
                "300ms",
                "--container",
                &name,
            ]);
            command.args(args).env("DOCKER_HOST", docker.host());
            command.env("PATH", path_with(&docker));
            process::output(&mut command, PATIENCE).unwrap()
        };
        for args in [&[] as &[&str], &["--wait=5s"]] {
            let output = record(args);
            assert_eq!(output.status.code(), Some(3), "{}", output.stderr);
            for words in ["docker", "podman", &ids[0], &ids[1], "--engine"] {
                assert!(output.stderr.contains(words), "{words}: {}", output.stderr);
            }
            println!("{}", output.stderr.trim_end());
        }
        // Told which, it is one.
        for (engine, id) in ["docker", "podman"].iter().zip(&ids) {
            let args = ["--container", &name, "--for", "300ms", "--engine", engine];
            let recorded = Record::new(args)
                .environment(&docker.client())
                .env("DOCKER_HOST", docker.host())
                .env("PATH", path_with(&docker))
                .run(PATIENCE);
            let target = &recorded.observation.as_ref().unwrap().target;
            assert_eq!(
                target.container_id.as_deref(),
                Some(id.as_str()),
                "{}",
                recorded.stderr
            );
        }
        for twin in &mut twins {
            twin.kill(libc::SIGTERM).unwrap();
            twin.wait(PATIENCE).unwrap();
        }
    }

    /// Each way that leads a client to its engine leads seccast there.
    #[test]
    fn options_variables_and_contexts_lead_to_the_engine() {
        let Some(_serial) = kernel() else { return };
        let workloads = Workloads::new(&["x86_64"]);
        let bundle = workloads.bundle(&["/x86_64"]);
        let (docker, podman) = (Docker::start().unwrap(), Podman::new().unwrap());
        let containerd = Containerd::start().unwrap();
        let check = |what: &str, args: &[&str], command: &Command, name: &str, engine: &str| {
            let recorded = Record::command(args, command).run(PATIENCE);
            let target = &is_exactly(&recorded, "x86_64", what).target;
            let named = target
                .container_name
                .as_deref()
                .or(target.container_id.as_deref());
            assert_eq!(named, Some(name), "{what}");
            let by = target.engine.as_deref().or(target.runtime.as_deref());
            assert_eq!(by, Some(engine), "{what}");
            println!("{what}: {name} of {engine}");
        };
        // What follows the client's own options.
        let words = |engine: &dyn Engine, name: &str| engine.run_words(name, &bundle).unwrap();

        let mut command = Command::new(docker.client().get_program());
        command
            .env("DOCKER_HOST", docker.host())
            .env_remove("DOCKER_CONTEXT");
        check(
            "DOCKER_HOST",
            &[],
            command.args(words(&docker, "by-host")),
            "by-host",
            "docker",
        );
        let config = tempfile::tempdir().unwrap();
        let context = |args: &[&str]| {
            let mut command = Command::new(docker.client().get_program());
            command
                .env("DOCKER_CONFIG", config.path())
                .env_remove("DOCKER_HOST");
            command.env_remove("DOCKER_CONTEXT").args(args);
            command
        };
        let host = format!("host={}", docker.host());
        let create = ["context", "create", "rig", "--docker", &host];
        process::check(&mut context(&create), PATIENCE).unwrap();
        let mut command = context(&["--context", "rig"]);
        check(
            "--context",
            &[],
            command.args(words(&docker, "by-option")),
            "by-option",
            "docker",
        );
        let mut command = context(&[]);
        command
            .env("DOCKER_CONTEXT", "rig")
            .args(words(&docker, "by-variable"));
        check("DOCKER_CONTEXT", &[], &command, "by-variable", "docker");
        process::check(&mut context(&["context", "use", "rig"]), PATIENCE).unwrap();
        let mut command = context(&[]);
        check(
            "context use",
            &[],
            command.args(words(&docker, "by-use")),
            "by-use",
            "docker",
        );

        check(
            "podman --root",
            &[],
            &podman.run("by-root", &bundle).unwrap(),
            "by-root",
            "podman",
        );

        let mut command = Command::new(containerd.client().get_program());
        command.env("CONTAINERD_ADDRESS", containerd.address());
        command.env("CONTAINERD_NAMESPACE", containerd.namespace());
        command.args(words(&containerd, "by-variables"));
        check(
            "CONTAINERD_ADDRESS",
            &[],
            &command,
            "by-variables",
            "containerd",
        );
        let command = containerd.run("by-address", &bundle).unwrap();
        check("ctr --address", &[], &command, "by-address", "containerd");

        let (root, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for runtime in ["runc", "crun"] {
            let name = unique(&format!("by-{runtime}"));
            let program = match runtime {
                "runc" => Runtime::runc(),
                _ => Runtime::crun(),
            };
            let program = program.unwrap().root(root.path());
            bundle.write(&name, work.path()).unwrap();
            let mut command = program.command();
            command.args(["run", "-b"]).arg(work.path()).arg(&name);
            if runtime == "runc" {
                check("runc --root", &[], &command, &name, runtime);
            }
            let option = root.path().to_str().unwrap();
            let waited = ["--container", &name, "--wait=60s", "--runtime-root", option];
            let running = Record::new(waited).start();
            process::check(&mut command, PATIENCE).unwrap();
            let recorded = running.end(PATIENCE);
            let target = &is_exactly(&recorded, "x86_64", "--runtime-root").target;
            assert_eq!(target.container_id.as_deref(), Some(name.as_str()));
        }

        // A socket that no variable names.
        let sockets: [(&str, String, &dyn Engine); 2] = [
            ("docker", docker.host().replace("unix://", ""), &docker),
            (
                "containerd",
                containerd.address().to_str().unwrap().to_owned(),
                &containerd,
            ),
        ];
        for (kind, socket, engine) in sockets {
            let name = unique(&format!("by-socket-{kind}"));
            let args = [
                "--container",
                &name,
                "--wait=60s",
                "--engine",
                kind,
                "--socket",
                &socket,
            ];
            let running = Record::new(args).env("PATH", path_with(engine)).start();
            process::check(&mut engine.run(&name, &bundle).unwrap(), PATIENCE).unwrap();
            is_exactly(&running.end(PATIENCE), "x86_64", &name);
        }
    }

    /// What `sleeper` calls from its start to an end by SIGTERM or by itself.
    fn is_whole_sleep(recorded: &Recorded, what: &str) {
        let seen = calls(recorded.complete(), Phase::App);
        let names: Vec<_> = seen.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["exit_group", "nanosleep", "rt_sigaction"], "{what}");
    }

    #[test]
    fn the_end_is_the_containers_and_not_the_clients() {
        let Some(_serial) = kernel() else { return };
        let workloads = Workloads::new(&["sleeper", "x86_64"]);
        for engine in engine::all().unwrap() {
            let engine = engine.as_ref();
            // The client is gone long before.
            let bundle = workloads.bundle(&["/sleeper", "1500"]);
            let command = run_kept(engine, "detached", &bundle, &["-d"]);
            let recorded = Record::command(&[], &command).run(PATIENCE);
            is_whole_sleep(&recorded, engine.name());
            // Stopped as its engine would, and still recorded.
            let bundle = workloads.bundle(&["/sleeper"]);
            let run = |limit: &str| {
                let name = format!("limited-{limit}");
                let command = run_kept(engine, &name, &bundle, &["-d"]);
                let began = Instant::now();
                let recorded = Record::command(&["--until", limit], &command).run(PATIENCE * 2);
                let seconds = limit.trim_end_matches('s').parse().unwrap();
                assert!(began.elapsed() >= Duration::from_secs(seconds));
                let gone = || Ok(engine.pid(&name).unwrap().is_none());
                process::poll("the end", PATIENCE, gone).unwrap();
                recorded
            };
            let slept = |recorded: &Recorded| {
                let app = calls(recorded.observation.as_ref().unwrap(), Phase::App);
                app.iter().any(|(_, name)| name == "nanosleep")
            };
            is_whole_sleep(&long_enough(run, slept), engine.name());
            // It was made before, with a filter, and is started now.
            let bundle = workloads.bundle(&["/x86_64"]);
            let mut create = engine.client();
            let words = engine.run_words("made", &bundle).unwrap();
            let words = words.iter().skip(1).filter(|word| *word != "--rm");
            let mut start = engine.client();
            if engine.name() == "ctr" {
                let mut words: Vec<_> = words.collect();
                let fifo = words.iter().position(|word| *word == "--fifo-dir").unwrap();
                words.drain(fifo..fifo + 2);
                create.args(["containers", "create"]).args(words);
                start.args(["tasks", "start", "--fifo-dir"]);
                start.arg(engine.room().path().join("fifo")).arg("made");
            } else {
                create.arg("create").args(words);
                start.args(["start", "-a", "made"]);
            }
            process::check(&mut create, PATIENCE).unwrap();
            let recorded = Record::command(&[], &start).run(PATIENCE);
            let target = &is_exactly(&recorded, "x86_64", engine.name()).target;
            let id = engine.id("made").unwrap();
            assert_eq!(target.container_id.as_deref(), Some(id.as_str()));
        }
    }

    #[test]
    fn exit_codes_are_the_containers() {
        let Some(_serial) = kernel() else { return };
        let shell = |script| Bundle::new(rootfs::busybox().unwrap(), ["/bin/sh", "-c", script]);
        let check = |what: &str, script: &str, command: &Command| {
            let code = if script == "exit 42" {
                42
            } else {
                128 + libc::SIGKILL
            };
            let recorded = Record::command(&[], command).run(PATIENCE);
            recorded.assert_ended(code, &["exit code", "is CMD's own"]);
            assert!(
                recorded.observation.is_some() && recorded.profile_path().exists(),
                "{what}"
            );
        };
        // The first process of a pid namespace ignores its own signals; its child does not.
        for script in ["exit 42", "sh -c 'kill -9 $$'; exit $?"] {
            for engine in engine::all().unwrap() {
                let command = engine.run("coded", &shell(script)).unwrap();
                check(engine.name(), script, &command);
            }
            let work = tempfile::tempdir().unwrap();
            let name = unique("coded");
            shell(script).write(&name, work.path()).unwrap();
            let mut command = Runtime::runc().unwrap().command();
            command.args(["run", "-b"]).arg(work.path()).arg(&name);
            check("runc", script, &command);
        }
    }
}
