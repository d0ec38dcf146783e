//! An observation holds exactly the calls that a program makes: no more, no fewer.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests, and a test fails by panicking"
)]

mod root {
    use seccast_kernel::{Call, Record, Recorded, calls, kernel, named, root_with, truth};
    use seccast_model::arch::Arch;
    use seccast_model::observation::Phase;
    use seccast_rig::cgroup::Scope;
    use seccast_rig::{Bundle, Container, Runtime, process, rootfs, unique};
    use seccast_workloads::{PROGRAMS, Program, numbers, path};
    use std::collections::BTreeSet;
    use std::ffi::OsStr;
    use std::fs;
    use std::net::TcpStream;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    const NOTHING: [&OsStr; 0] = [];

    const PATIENCE: Duration = Duration::from_secs(60);

    /// What holds for every recording of a workload.
    fn check(program: &Program, recorded: &Recorded) {
        let observation = recorded.complete();
        assert_eq!(
            calls(observation, Phase::App),
            truth(program),
            "{}",
            program.name
        );
        assert_eq!(
            calls(observation, Phase::Exec),
            [].into(),
            "{}",
            program.name
        );
        assert_eq!(
            calls(observation, Phase::Entered),
            [].into(),
            "{}",
            program.name
        );
        assert_eq!(observation.entered_count, 0, "{}", program.name);
        assert_eq!(
            observation.own_filter,
            !program.denied.is_empty(),
            "{}: own filter",
            program.name
        );
        assert!(!observation.filtered, "{}: filtered", program.name);
        for expected in program.unknown {
            let unknown = |nr| {
                observation
                    .unknown
                    .iter()
                    .find(move |seen| seen.nr == nr && seen.arch == expected.arch)
            };
            let count = unknown(expected.nr).unwrap().count;
            // Numbers within the table are bytes: seen or not.
            assert!(
                count == Some(expected.count)
                    || count.is_none() && (0..1024).contains(&expected.nr),
                "{}: {expected:?}: {count:?}",
                program.name
            );
        }
    }

    #[test]
    fn each_program_is_recorded_exactly() {
        let Some(_serial) = kernel() else { return };
        for program in PROGRAMS {
            let recorded = Record::program(&path(program.name), NOTHING).run(PATIENCE);
            check(program, &recorded);
            // The command is the application from its first instruction on: nothing of who started it is there but the runtime's.
            assert_eq!(recorded.observation.as_ref().unwrap().target.runtime, None);
            println!(
                "{}: {} calls, armed after {:?}",
                program.name,
                truth(program).len(),
                recorded.armed_after
            );
        }
    }

    #[test]
    fn each_program_is_recorded_exactly_in_a_container() {
        let Some(_serial) = kernel() else { return };
        let runc = Runtime::runc().unwrap();
        let root = root_with(
            &PROGRAMS
                .iter()
                .map(|program| program.name)
                .chain(["chain2", "chain3"])
                .collect::<Vec<_>>(),
        );
        for program in PROGRAMS {
            let name = unique(&format!("truth-{}", program.name.replace('_', "-")));
            let running = Record::new(["--container", &name, "--wait=60s"]).start();
            let bundle = Bundle::new(root.path(), [format!("/{}", program.name)]);
            let mut container = Container::new(&name, &bundle, &runc).unwrap();
            let status = container.run(PATIENCE).unwrap();
            assert_eq!(status.code(), Some(0), "{}", container.log());
            let recorded = running.end(PATIENCE);
            check(program, &recorded);
            let observation = recorded.observation.as_ref().unwrap();
            assert_eq!(observation.target.runtime.as_deref(), Some("runc"));
            assert!(
                calls(observation, Phase::Runtime).len() > 20,
                "runc's own calls are its own"
            );
        }
    }

    #[test]
    fn thousands_of_numbers_without_a_name_cost_nothing() {
        let Some(_serial) = kernel() else { return };
        let beyond: Vec<_> = (0..2000)
            .flat_map(|nr| [(Arch::X86_64, 2000 + nr), (Arch::X86, 2000 + nr)])
            .collect();
        let recorded = Record::program(&path("forks"), NOTHING)
            .stdin(numbers::encode(&beyond))
            .run(PATIENCE);
        let observation = recorded.complete();
        let own = ["read", "fork", "wait4", "exit", "exit_group"];
        assert_eq!(
            named(observation, Phase::App),
            own.map(|name| (Arch::X86_64, name.to_owned())).into()
        );
        let seen = calls(observation, Phase::App).len() - own.len();
        assert_eq!(seen, beyond.len());
        // More than are kept: counted still, and no loss, since none of them could ever be in a profile.
        {
            let many: Vec<_> = (0..4096).map(|nr| (Arch::X86_64, 10_000 + nr)).collect();
            let list = [beyond.clone(), many].concat();
            let script = format!("{0} <a; {0} <b", path("forks").display());
            let work = tempfile::tempdir().unwrap();
            fs::write(work.path().join("a"), numbers::encode(&list[..4096])).unwrap();
            fs::write(work.path().join("b"), numbers::encode(&list[4096..])).unwrap();
            let script = format!("cd {}; {script}", work.path().display());
            let recorded = Record::new(["--", "sh", "-c", &script]).run(PATIENCE);
            let observation = recorded.complete();
            assert!(
                named(observation, Phase::App)
                    .is_superset(&own.map(|name| (Arch::X86_64, name.to_owned())).into())
            );
            println!(
                "{} of {} numbers kept",
                observation.unknown.len(),
                list.len()
            );
        }
    }

    #[test]
    fn a_container_that_ran_already_is_recorded_from_then_on_and_says_so() {
        let Some(_serial) = kernel() else { return };
        let root = root_with(&["sleeper"]);
        let bundle = Bundle::new(root.path(), ["/sleeper"]);
        let name = unique("truth-late");
        let mut container = Container::new(&name, &bundle, &Runtime::runc().unwrap()).unwrap();
        container.run_detached().unwrap();
        let pid = container.pid().unwrap();
        let asleep = || Ok(process::sleeps_in(pid) == Some(libc::SYS_nanosleep));
        process::poll("its sleep", PATIENCE, asleep).unwrap();
        let running = Record::new(["--container", &name]).start();
        container.kill(libc::SIGTERM).unwrap();
        let recorded = running.end(PATIENCE);
        let observation = recorded.observation.as_ref().unwrap();
        assert_eq!(recorded.status.code(), Some(1), "{}", recorded.stderr);
        assert!(observation.started_late_ns.is_some());
        assert_eq!(
            calls(observation, Phase::App),
            [(Arch::X86_64, "exit_group".into())].into()
        );
        // It slept when the recording began: that call's enter was before.
        let blocked: Vec<_> = observation
            .blocked_at_attach
            .iter()
            .map(|(arch, calls)| (*arch, calls.keys().cloned().collect()))
            .collect();
        assert_eq!(blocked, [(Arch::X86_64, vec!["nanosleep".to_owned()])]);
        assert_eq!(observation.losses, [].into());
    }

    /// Differences between strace and seccast that have a reason. There is none.
    const EXPLAINED: &[(&str, &str)] = &[];

    /// On a thread in a network namespace with a loopback, where every port is free.
    fn in_a_network_of_its_own(work: fn()) {
        let enter = move || {
            // SAFETY: the call changes the network namespace of this thread alone.
            let left = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(left, 0, "{}", std::io::Error::last_os_error());
            let mut up = Command::new("ip");
            process::check(up.args(["link", "set", "lo", "up"]), PATIENCE).unwrap();
            work();
        };
        if let Err(panic) = std::thread::spawn(enter).join() {
            std::panic::resume_unwind(panic);
        }
    }

    #[test]
    fn redis_under_load_is_what_strace_saw_of_the_same_run() {
        let Some(_serial) = kernel() else { return };
        in_a_network_of_its_own(redis_beside_strace);
    }

    fn redis_beside_strace() {
        let root = rootfs::redis().unwrap();
        let work = tempfile::tempdir().unwrap();
        let scope = Scope::new("truth-redis").unwrap();
        let log = work.path().join("strace");
        let port = 6379;
        let running = Record::cgroup(scope.path()).start();

        // Only the shell and what it becomes are in the cgroup; strace stays outside.
        let script = format!(
            "mount -t tmpfs none {root}/data && exec strace -f -qq -o {log} sh -c \
             'echo $$ >{procs} && exec chroot {root} /usr/bin/redis-server --port {port} --bind 127.0.0.1 --dir /data --save 1 1'",
            root = root.display(),
            log = log.display(),
            procs = scope.dir().join("cgroup.procs").display(),
        );
        let mut strace = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        process::poll("redis", PATIENCE, || {
            Ok(TcpStream::connect(("127.0.0.1", port)).is_ok())
        })
        .unwrap();
        let client = |program: &str, args: &[&str]| {
            let port = port.to_string();
            let words = [program, "-p", &port];
            process::check(
                Command::new("chroot").arg(&root).args(words).args(args),
                Duration::from_secs(120),
            )
            .unwrap()
            .stdout
        };
        client(
            "/usr/bin/redis-benchmark",
            &[
                "-q",
                "-c",
                "8",
                "-n",
                "500",
                "-t",
                "set,get,incr,lpush,lrange,mset",
            ],
        );
        client("/usr/bin/redis-cli", &["bgsave"]);
        process::poll("the snapshot", PATIENCE, || {
            Ok(client("/usr/bin/redis-cli", &["info", "persistence"])
                .contains("rdb_bgsave_in_progress:0"))
        })
        .unwrap();
        let pids = fs::read_to_string(scope.dir().join("cgroup.procs")).unwrap();
        process::signal(pids.lines().next().unwrap().parse().unwrap(), libc::SIGTERM).unwrap();
        let status = process::wait(&mut strace, PATIENCE).unwrap().unwrap();
        assert!(status.success(), "{status}");
        let recorded = running.stop();

        let strace = after_the_entry(&fs::read_to_string(&log).unwrap());
        let seen: BTreeSet<Call> = named(recorded.complete(), Phase::App);
        let ours: BTreeSet<_> = seen.iter().map(|(_, name)| name.clone()).collect();
        println!(
            "redis: {} calls by seccast, {} by strace",
            ours.len(),
            strace.len()
        );
        for name in ours.symmetric_difference(&strace) {
            println!(
                "  only {}: {name}",
                if ours.contains(name) {
                    "seccast"
                } else {
                    "strace"
                }
            );
        }
        let unexplained: Vec<_> = ours
            .symmetric_difference(&strace)
            .filter(|name| !EXPLAINED.iter().any(|(explained, _)| explained == name))
            .collect();
        assert!(unexplained.is_empty(), "{unexplained:?}");
        assert!(seen.iter().all(|(arch, _)| *arch == Arch::X86_64));
        assert!(
            ours.len() > 30 && ours.contains("epoll_wait"),
            "a server under load calls more than that: {ours:?}"
        );
        let observation = recorded.observation.as_ref().unwrap();
        assert_eq!(
            calls(observation, Phase::Exec).len() + calls(observation, Phase::Entered).len(),
            0
        );
    }

    /// The names in a log of `strace -f` behind the first successful execve of a process that has written to a file, which is
    /// how the shell enters the cgroup: its own start is the execve before.
    fn after_the_entry(log: &str) -> BTreeSet<String> {
        let mut lines = log.lines();
        let wrote = lines
            .by_ref()
            .any(|line| line.contains(" write(1, ") && line.contains(r#"\n", "#));
        assert!(wrote, "the shell did not enter the cgroup:\n{log}");
        let entered = lines
            .by_ref()
            .any(|line| line.contains(" execve(") && line.ends_with(" = 0"));
        assert!(entered, "nothing was executed:\n{log}");
        let name = |line: &str| {
            // "PID name(…": not "PID <... name resumed>", "PID --- SIGNAL", "PID +++ exited".
            let call = line.split_once(' ')?.1.trim_start();
            let name = call.split_once('(')?.0;
            let is_name = name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
            (is_name && !name.is_empty()).then(|| name.to_owned())
        };
        lines
            .filter_map(name)
            .map(|name| kernel_name(&name).to_owned())
            .collect()
    }

    /// strace has names of its own for a few calls.
    fn kernel_name(name: &str) -> &str {
        match name {
            "pread" => "pread64",
            "pwrite" => "pwrite64",
            name => name,
        }
    }

    #[test]
    fn names_of_the_workloads_are_those_of_the_tables() {
        for call in PROGRAMS
            .iter()
            .flat_map(|program| program.calls.iter().chain(program.denied))
        {
            let name = seccast_model::syscall::name(call.arch, call.nr & 0x3fff_ffff);
            assert_eq!(name, Some(call.name), "{call:?}");
        }
        for unknown in PROGRAMS.iter().flat_map(|program| program.unknown) {
            let name = u32::try_from(unknown.nr)
                .ok()
                .and_then(|nr| seccast_model::syscall::name(unknown.arch, nr));
            assert_eq!(name, None, "{unknown:?}");
        }
    }
}
