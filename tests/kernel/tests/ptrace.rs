//! Without privileges: ptrace makes the observation that eBPF makes of the same program, and disturbs nothing.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests, and a test fails by panicking"
)]

mod root {
    use seccast_kernel::{
        Record, Recorded, Running, calls, kernel, long_enough, named, root_with, seccast, truth,
    };
    use seccast_model::arch::Arch;
    use seccast_model::observation::{Backend, Observation, Phase};
    use seccast_rig::process;
    use seccast_workloads::{Call, PROGRAMS, Program, path};
    use std::collections::{BTreeMap, BTreeSet};
    use std::ffi::{CString, OsStr};
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
    use std::os::unix::process::CommandExt as _;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};
    use tempfile::TempDir;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn by<'a>(backend: &'a str, command: &[&'a str]) -> Record {
        Record::new([&["--backend", backend, "--"][..], command].concat())
    }

    fn traced(command: &[&str]) -> Record {
        by("ptrace", command)
    }

    /// Every program with what it executes, where everybody may look.
    fn programs() -> TempDir {
        let names = PROGRAMS.iter().map(|program| program.name);
        root_with(&names.chain(["chain2", "chain3"]).collect::<Vec<_>>())
    }

    type Facts = BTreeMap<String, String>;

    /// All that two recordings of one deterministic run must have in common: everything but times, process ids, the
    /// backend, the cgroup that ptrace does not need, and what a program's own filter denied.
    fn facts(observation: &Observation) -> Facts {
        let mut facts = Facts::new();
        for ((arch, phase), calls) in &observation.calls {
            for (name, seen) in calls {
                let caller = seen.caller.as_ref().unwrap();
                facts.insert(
                    format!("{arch} {} {name}", phase.name()),
                    format!("{} {:?} {:?}", caller.comm, caller.exe, seen.arguments),
                );
                assert!(seen.first_ns.is_some(), "{name}");
            }
        }
        for unknown in &observation.unknown {
            let caller = unknown.first.caller.as_ref().unwrap();
            facts.insert(
                format!("{} {} {}", unknown.arch, unknown.phase.name(), unknown.nr),
                format!("{:?} {}", unknown.count, caller.comm),
            );
        }
        let rest = (
            &observation.machine,
            &observation.losses,
            observation.explanations_lost,
            observation.started_late_ns,
            observation.filtered,
            observation.own_filter,
            observation.entered_count,
            &observation.target.command,
            &observation.blocked_at_attach,
        );
        facts.insert("rest".to_owned(), format!("{rest:?}"));
        facts
    }

    /// What a program's own filter denied: apart, exactly, and nothing else.
    fn denied(observation: &Observation) -> BTreeSet<(Arch, String)> {
        let of_phase = observation.denied.iter();
        of_phase
            .flat_map(|((arch, phase), names)| {
                assert_eq!(*phase, Phase::App);
                names.keys().map(|name| (*arch, name.clone()))
            })
            .collect()
    }

    fn check(program: &Program, traced: &Recorded, watched: &Recorded) {
        let (traced, watched) = (traced.complete(), watched.complete());
        assert_eq!(traced.backend, Backend::Ptrace);
        assert_eq!(watched.backend, Backend::Ebpf);
        assert_eq!(facts(traced), facts(watched), "{}", program.name);
        assert_eq!(
            calls(traced, Phase::App),
            truth(program),
            "{}",
            program.name
        );
        let truth = |call: &Call| (call.arch, call.name.to_owned());
        assert_eq!(
            denied(traced),
            program.denied.iter().map(truth).collect(),
            "{}",
            program.name
        );
        assert!(traced.unprivileged_exec.is_empty());
    }

    #[test]
    fn each_program_is_observed_as_by_ebpf() {
        let Some(_serial) = kernel() else { return };
        for program in PROGRAMS {
            let command = path(program.name);
            let command = [command.to_str().unwrap()];
            let watched = by("ebpf", &command).run(PATIENCE);
            check(program, &traced(&command).run(PATIENCE), &watched);
            println!("{}: {} calls", program.name, truth(program).len());
        }
    }

    #[test]
    fn each_program_is_observed_as_by_ebpf_for_a_user_without_any_privilege() {
        let Some(_serial) = kernel() else { return };
        let root = programs();
        for program in PROGRAMS {
            let command = root.path().join(program.name);
            let command = ["--", command.to_str().unwrap()];
            let watched = Record::new([&["--user", "65534:65534"][..], &command].concat());
            let mut watched = watched.run(PATIENCE);
            // Who changed its user was seccast's child.
            let runtime = &mut watched.observation.as_mut().unwrap().calls;
            let runtime = runtime.get_mut(&(Arch::X86_64, Phase::Runtime)).unwrap();
            runtime.retain(|name, _| name == "execve");
            let traced = Record::unprivileged(command).run(PATIENCE);
            check(program, &traced, &watched);
            let lines: Vec<_> = traced
                .stderr
                .lines()
                .filter(|line| line.contains("recording by ptrace, since eBPF cannot"))
                .collect();
            assert_eq!(lines.len(), 1, "{}", traced.stderr);
            assert!(lines[0].contains("CAP_BPF"), "{}", traced.stderr);
        }
    }

    #[test]
    fn ordinary_programs_have_the_same_set() {
        let Some(_serial) = kernel() else { return };
        for command in [
            &["/bin/ls", "-l", "/etc"][..],
            &["/usr/bin/sort", "/etc/passwd"],
            &[
                "/bin/sh",
                "-c",
                "ls / | wc -l; (exit 3); umask 077; echo x >/dev/null",
            ],
            &[
                "/usr/bin/perl",
                "-e",
                "socket(my $s, $_ & 1 ? 1 : 2, 1, 0) for 1 .. 9; fcntl(STDIN, $_, 0) for 1000 .. 1039; system('true')",
            ],
        ] {
            let (traced, watched) = (
                traced(command).run(PATIENCE),
                by("ebpf", command).run(PATIENCE),
            );
            let arguments = |recorded: &Recorded| {
                let app = &recorded.complete().calls[&(Arch::X86_64, Phase::App)];
                let values = app.iter().filter_map(|(name, seen)| {
                    Some((name.clone(), seen.arguments.clone()?.values))
                });
                values.collect::<BTreeMap<_, _>>()
            };
            assert_eq!(
                named(traced.complete(), Phase::App),
                named(watched.complete(), Phase::App),
                "{command:?}"
            );
            // Which 32 of more than 32 values are kept is the first ones', by both.
            assert_eq!(arguments(&traced), arguments(&watched), "{command:?}");
            let libc = traced.complete().machine.libc.clone().unwrap();
            assert!(libc.starts_with("glibc 2."), "{libc}");
        }
    }

    #[test]
    fn ten_thousand_threads_and_forks_end_clean() {
        let Some(_serial) = kernel() else { return };
        let start = Instant::now();
        // A name that no other test's has: even a zombie has it.
        let name = format!("swarm-{}", std::process::id());
        let folder = tempfile::tempdir().unwrap();
        let swarm = folder.path().join(&name);
        fs::copy(path("swarm"), &swarm).unwrap();
        let recorded = traced(&[swarm.to_str().unwrap(), "10000"]).run(Duration::from_secs(300));
        // It has compared every exit status, 10,000 of three kinds, with what it should be.
        let observation = recorded.complete();
        println!("10,000 threads and 10,000 processes: {:?}", start.elapsed());
        let names = [
            "clone",
            "exit",
            "exit_group",
            "fork",
            "getpid",
            "kill",
            "sched_yield",
            "wait4",
        ];
        assert_eq!(
            named(observation, Phase::App),
            names.map(|name| (Arch::X86_64, name.to_owned())).into()
        );
        let left = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
            fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        });
        assert_eq!(left.count(), 0, "processes or zombies are left");
    }

    #[test]
    fn nobody_s_child_is_a_zombie_of_the_recorder_while_it_runs() {
        let Some(_serial) = kernel() else { return };
        // 200 grandchildren whose parents end first: no longer anybody's of the tree, and none of the recorder's. They tell their pids.
        let script = "my $n = 0; for (1 .. 200) { if (!fork) { fork or do { syswrite STDOUT, \"$$\\n\"; select undef, undef, undef, 0.01; exit 3 }; exit 2 } } $n++ while wait > 0; select undef, undef, undef, 0.01 until -e $ARGV[0]; exit($n == 200 ? 0 : 1)";
        let work = tempfile::tempdir().unwrap();
        let go = work.path().join("go");
        let running = traced(&["/usr/bin/perl", "-e", script, go.to_str().unwrap()]).start();
        let pids = || {
            let pids = running.stdout();
            let pids = pids.lines().map(|pid| pid.parse::<i32>().unwrap());
            pids.collect::<Vec<_>>()
        };
        process::poll("200 pids", PATIENCE, || {
            Ok(running.stdout().ends_with('\n') && pids().len() == 200)
        })
        .unwrap();
        // Those that live, or are the recorder's zombies; who else has them may leave them.
        let recorder = running.pid().to_string();
        let left = || {
            let mut left = pids();
            left.retain(|pid| {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
                stat.is_ok_and(|stat| {
                    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
                    fields[0] != "Z" || fields[1] == recorder
                })
            });
            left
        };
        let gone = process::poll("them to be gone", PATIENCE, || Ok(left().is_empty()));
        assert!(gone.is_ok(), "{:?}", left());
        fs::write(&go, "").unwrap();
        let recorded = running.end(PATIENCE);
        assert_eq!(recorded.status.code(), Some(0), "{}", recorded.stderr);
    }

    #[test]
    fn the_exit_code_is_the_commands() {
        let Some(_serial) = kernel() else { return };
        for (script, code) in [
            ("exit 0", 0),
            ("exit 7", 7),
            ("kill -9 $$", 137),
            ("kill -TERM $$", 143),
            ("kill -SEGV $$", 139),
        ] {
            let recorded = traced(&["/bin/sh", "-c", script]).run(PATIENCE);
            assert_eq!(
                recorded.status.code(),
                Some(code),
                "{script}: {}",
                recorded.stderr
            );
            assert!(recorded.profile_path().exists(), "{script}: no profile");
        }
        for (program, code) in [
            ("/nowhere/program", 127),
            ("no-such-program-anywhere", 127),
            ("/etc/passwd", 126),
            ("/etc", 126),
        ] {
            let recorded = traced(&[program]).run(PATIENCE);
            assert_eq!(
                recorded.status.code(),
                Some(code),
                "{program}: {}",
                recorded.stderr
            );
            assert!(recorded.stderr.contains(program), "{}", recorded.stderr);
            assert!(recorded.observation.is_none() && !recorded.profile_path().exists());
        }
    }

    fn names(recorded: &Recorded) -> BTreeSet<String> {
        let named = named(recorded.observation.as_ref().unwrap(), Phase::App);
        named.into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn signals_to_the_recorder_end_it_as_they_end_it_with_ebpf() {
        let Some(_serial) = kernel() else { return };
        // The first goes to CMD, whose shutdown is recorded.
        for number in [libc::SIGTERM, libc::SIGINT] {
            let running = traced(&[
                "/bin/sh",
                "-c",
                "trap 'umask 022; readlink /; exit 5' TERM INT; echo ready; while :; do sleep 0.05; done",
            ])
            .start();
            running.wait_for("ready");
            running.catch_up();
            assert!(running.so_far().is_some(), "{}", running.stderr());
            process::signal(running.pid(), number).unwrap();
            let recorded = running.end(PATIENCE);
            assert_eq!(recorded.status.code(), Some(5), "{}", recorded.stderr);
            let names = names(&recorded);
            assert!(
                names.contains("umask") && names.contains("readlink"),
                "{names:?}"
            );
        }
        // The second ends the recording; two at once could be one.
        let script = "trap 'echo got' TERM; echo ready; while :; do sleep 0.05; done";
        let running = traced(&["/bin/sh", "-c", script]).start();
        for answer in ["ready", "got"] {
            running.wait_for(answer);
            process::signal(running.pid(), libc::SIGTERM).unwrap();
        }
        let recorded = running.end(PATIENCE);
        assert!(
            recorded.stderr.contains("CMD is killed"),
            "{}",
            recorded.stderr
        );
        assert_eq!(recorded.status.code(), Some(0), "{}", recorded.stderr);
        // A time limit stops CMD, still recording.
        let script = "trap 'umask 022; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
        let run = |limit: &str| {
            let by = ["--backend", "ptrace", "--for", limit];
            Record::new([&by[..], &["--", "/bin/sh", "-c", script]].concat()).run(PATIENCE * 2)
        };
        let recorded = long_enough(run, |recorded| recorded.stdout == b"ready\n");
        assert_eq!(recorded.status.code(), Some(0), "{}", recorded.stderr);
        assert!(names(&recorded).contains("umask"));
    }

    /// Sends itself and its children every kind of signal, and sees what a process without a tracer sees.
    const SIGNALS: &str = r#"
        use POSIX qw(:sys_wait_h :signal_h);
        sub stays { my ($pid, $flags, $what, $test) = @_; my $status = pack 'i', 0; syscall(61, $pid, $status, $flags, 0) == $pid or die "$what: no report"; $status = unpack 'i', $status; $test->($status) or die "$what: $status" }
        pipe my $ready, my $tell;
        my $child = fork;
        if (!$child) { $SIG{TERM} = sub { exit 9 }; $SIG{TSTP} = 'DEFAULT'; syswrite $tell, '.'; select undef, undef, undef, 0.05 while 1 }
        sysread $ready, my $dot, 1;
        for my $stop (SIGSTOP, SIGTSTP, SIGTTIN) {
            kill $stop, $child;
            stays($child, WUNTRACED, "stop by $stop", sub { WIFSTOPPED($_[0]) && WSTOPSIG($_[0]) == $stop });
            kill SIGCONT, $child;
            stays($child, 8, 'continue', sub { $_[0] == 0xffff });
        }
        kill SIGTERM, $child;
        stays($child, 0, 'handler', sub { WIFEXITED($_[0]) && WEXITSTATUS($_[0]) == 9 });
        for my $end (SIGKILL, SIGSEGV, SIGTRAP, SIGUSR1, 40) {
            my $child = fork;
            if (!$child) { syswrite $tell, '.'; select undef, undef, undef, 60; exit 1 }
            sysread $ready, my $dot, 1;
            kill $end, $child;
            stays($child, 0, "end by $end", sub { WIFSIGNALED($_[0]) && WTERMSIG($_[0]) == $end });
        }
        # A stopped process is killed without being continued.
        my $child = fork;
        if (!$child) { select undef, undef, undef, 60; exit 1 }
        kill SIGSTOP, $child;
        stays($child, WUNTRACED, 'stop', sub { WIFSTOPPED($_[0]) });
        kill SIGKILL, $child;
        stays($child, 0, 'kill', sub { WIFSIGNALED($_[0]) && WTERMSIG($_[0]) == 9 });
        my $got = 0;
        $SIG{USR1} = sub { $got++ };
        for (1 .. 23) { kill SIGUSR1, $$ }
        $got == 23 or die "$got of 23 signals";
    "#;

    #[test]
    fn signals_and_stops_pass_through_and_parents_see_them() {
        let Some(_serial) = kernel() else { return };
        let signals = ["/usr/bin/perl", "-e", SIGNALS];
        let recorded = traced(&signals).as_a_job().run(PATIENCE);
        assert_eq!(recorded.status.code(), Some(0), "{}", recorded.stderr);
        recorded.complete();
    }

    /// The one child of a process that traces it.
    fn child(running: &Running) -> i32 {
        let pid = running.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.trim().parse().unwrap()
    }

    #[test]
    fn a_stopped_command_stays_stopped_until_it_is_continued() {
        let Some(_serial) = kernel() else { return };
        let sleeper = path("sleeper");
        let running = traced(&[sleeper.to_str().unwrap()]).as_a_job().start();
        let command = child(&running);
        let sleeps_in = |call: i64| {
            process::poll("its sleep", PATIENCE, || {
                Ok(process::sleeps_in(command) == Some(call))
            })
            .unwrap();
        };
        sleeps_in(libc::SYS_nanosleep);
        for signal in [libc::SIGTSTP, libc::SIGSTOP] {
            process::signal(command, signal).unwrap();
            // Stopped; `t` is how /proc says so of one that is traced.
            let stopped = || process::state(command) == Some('t');
            process::poll("its stop", PATIENCE, || Ok(stopped())).unwrap();
            // The recorder knows of the stop, and leaves it.
            running.catch_up();
            assert!(stopped());
            process::signal(command, libc::SIGCONT).unwrap();
            sleeps_in(libc::SYS_restart_syscall);
        }
        // Its sleep has not broken off: it ends by this, with 0.
        process::signal(command, libc::SIGTERM).unwrap();
        let recorded = running.end(PATIENCE);
        assert_eq!(recorded.status.code(), Some(0), "{}", recorded.stderr);
        // As without a tracer: a sleep that was stopped is continued by this call.
        let expected = ["exit_group", "nanosleep", "restart_syscall", "rt_sigaction"];
        assert_eq!(names(&recorded), expected.map(str::to_owned).into());
    }

    #[test]
    fn a_signal_that_is_ignored_adds_no_call() {
        let Some(_serial) = kernel() else { return };
        // The end of a child wakes nobody who ignores it, but for a tracer's sake the kernel wakes it all the same.
        // The child ends when its parent is in clock_nanosleep.
        let script = "use Time::HiRes 'usleep'; my $parent = $$; if (!fork) { while (1) { open my $call, '<', \"/proc/$parent/syscall\" or exit 1; exit if <$call> =~ /^230 /; usleep 1000 } } usleep 400_000";
        for (signal, expected) in [("DEFAULT", false), ("IGNORE", false)] {
            let script = format!("$SIG{{CHLD}} = '{signal}'; {script}");
            let command = ["/usr/bin/perl", "-e", &script];
            for backend in ["ebpf", "ptrace"] {
                let recorded = by(backend, &command).run(PATIENCE);
                recorded.complete();
                assert_eq!(
                    names(&recorded).contains("restart_syscall"),
                    expected,
                    "{backend}, {signal}"
                );
            }
        }
    }

    #[test]
    fn a_shell_on_a_terminal_stops_and_continues_its_job() {
        let Some(_serial) = kernel() else { return };
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            "set -m; cd {}; {} record --backend ptrace -o p.json -- cat; echo \"code=$?\"; fg; echo \"code=$?\"",
            folder.path().display(),
            seccast().display()
        );
        let file = folder.path().join("job");
        fs::write(&file, script).unwrap();
        let mut terminal = Command::new("script")
            .args(["-qefc", &format!("bash {}", file.display()), "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(fs::File::create(folder.path().join("out")).unwrap())
            .spawn()
            .unwrap();
        let mut keys = terminal.stdin.take().unwrap();
        let out =
            || String::from_utf8_lossy(&fs::read(folder.path().join("out")).unwrap()).into_owned();
        let mut type_and_wait = |typed: &[u8], expected: &str| {
            keys.write_all(typed).unwrap();
            keys.flush().unwrap();
            let seen = process::poll(expected, PATIENCE, || Ok(out().contains(expected)));
            assert!(seen.is_ok(), "{expected} did not come:\n{}", out());
        };
        type_and_wait(b"", "armed");
        type_and_wait(b"one\n", "one\r\none");
        // Ctrl-Z, Ctrl-D.
        type_and_wait(b"\x1a", "code=148");
        type_and_wait(b"two\n", "two\r\ntwo");
        type_and_wait(b"\x04", "code=0");
        drop(keys);
        assert!(
            process::wait(&mut terminal, PATIENCE)
                .unwrap()
                .unwrap()
                .success()
        );
        assert!(folder.path().join("p.json").exists());
    }

    #[test]
    fn what_the_command_leaves_running_goes_on_untraced() {
        let Some(_serial) = kernel() else { return };
        let sleeper = path("sleeper");
        let script = format!(
            "exec 2>/dev/null; is() {{ until grep -q \"(sleeper) [$2]\" /proc/$1/stat; do sleep 0.01; done; }}; \
             setsid {0} 600000 & a=$!; setsid {0} 600000 & is $a S; is $! S; kill -STOP $!; is $! Tt; echo $a $!; exit 3",
            sleeper.display()
        );
        let recorded = traced(&["/bin/sh", "-c", &script]).run(PATIENCE);
        assert_eq!(recorded.status.code(), Some(3), "{}", recorded.stderr);
        assert!(
            recorded.stderr.contains("left 2 running"),
            "{}",
            recorded.stderr
        );
        let stdout = String::from_utf8(recorded.stdout).unwrap();
        for (pid, expected) in stdout.split_whitespace().zip(['S', 'T']) {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            assert!(status.contains("TracerPid:\t0\n"), "{status}");
            let pid = pid.parse().unwrap();
            let state = || process::state(pid);
            let is = process::poll("its state", PATIENCE, || Ok(state() == Some(expected)));
            let state = state();
            process::signal(pid, libc::SIGKILL).unwrap();
            assert!(is.is_ok(), "{state:?} is not {expected}");
        }
    }

    /// A copy of a workload that its file gives privileges.
    fn privileged(folder: &Path, name: &str, mode: u32, capabilities: &[u8]) -> PathBuf {
        let file = folder.join(name);
        fs::copy(path("plain"), &file).unwrap();
        chown(&file, Some(0), Some(0)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        if !capabilities.is_empty() {
            let path = CString::new(file.as_os_str().as_bytes()).unwrap();
            // SAFETY: valid texts and a buffer of that length.
            let result = unsafe {
                libc::setxattr(
                    path.as_ptr(),
                    c"security.capability".as_ptr(),
                    capabilities.as_ptr().cast(),
                    capabilities.len(),
                    0,
                )
            };
            assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        }
        file
    }

    #[test]
    fn programs_that_lose_their_privileges_are_marked() {
        let Some(_serial) = kernel() else { return };
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // CAP_NET_RAW, permitted and effective, version 2.
        let net_raw = [
            1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        let files = [
            privileged(folder.path(), "setuid", 0o4755, &[]),
            // To be executed, not to be read.
            privileged(folder.path(), "setuid-hidden", 0o4711, &[]),
            privileged(folder.path(), "setgid", 0o2755, &[]),
            privileged(folder.path(), "capability", 0o755, &net_raw),
        ];
        for file in &files {
            let file = file.to_str().unwrap();
            // By a shell, so that it is not the first program.
            let script = format!("{file}; exit $?");
            let recorded = Record::unprivileged(["--", "/bin/sh", "-c", &script]).run(PATIENCE);
            let observation = recorded.complete();
            assert_eq!(
                observation.unprivileged_exec,
                [file.to_owned()].into(),
                "{}",
                recorded.stderr
            );
            let said = format!("{file} was executed without the privileges");
            assert!(recorded.stderr.contains(&said), "{}", recorded.stderr);
            assert!(recorded.stderr.contains("SC0014"), "{}", recorded.stderr);
            // root has what they would give, and under no_new_privs they would give nothing to anybody.
            let recorded = traced(&["/bin/sh", "-c", &script]).run(PATIENCE);
            assert!(
                recorded.complete().unprivileged_exec.is_empty(),
                "{}",
                recorded.stderr
            );
            let command = ["--", "setpriv", "--no-new-privs", file];
            let recorded = Record::unprivileged(command).run(PATIENCE);
            assert!(
                recorded.complete().unprivileged_exec.is_empty(),
                "{}",
                recorded.stderr
            );
        }
        let ordinary = privileged(folder.path(), "ordinary", 0o755, &[]);
        let recorded = Record::unprivileged([OsStr::new("--"), ordinary.as_os_str()]).run(PATIENCE);
        assert!(
            recorded.complete().unprivileged_exec.is_empty(),
            "{}",
            recorded.stderr
        );
        assert_eq!(fs::metadata(&files[0]).unwrap().uid(), 0);
    }

    /// Runs seccast as nobody, with these words behind `record`: its code, and what it said.
    fn refused(folder: &Path, path: &str, args: &[&str]) -> (Option<i32>, String) {
        let copy = folder.join("seccast");
        if !copy.exists() {
            fs::copy(seccast(), &copy).unwrap();
        }
        let mut command = Command::new(copy);
        command.arg("record").args(args).current_dir(folder);
        command.env("PATH", path).uid(65534).gid(65534);
        let output = process::output(&mut command, PATIENCE).unwrap();
        (output.status.code(), output.stderr)
    }

    #[test]
    fn what_ptrace_cannot_record_is_refused_before_anything_is_started() {
        let Some(_serial) = kernel() else { return };
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        for engine in ["docker", "podman"] {
            let file = folder.path().join(engine);
            fs::write(&file, "#!/bin/sh\necho >>started\n").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        let forced = ["--backend", "ptrace"];
        for (args, code, expected) in [
            (
                &["--", "docker", "run", "redis"][..],
                3,
                &["sudo ", "docker run redis", "CAP_BPF"][..],
            ),
            (
                &["--", "podman", "run", "redis"],
                3,
                &["sudo ", "podman inspect", "--container"],
            ),
            (&["--container", "web"], 3, &["ptrace", "-- CMD"]),
            (&["--pid", "1"], 3, &["ptrace", "-- CMD"]),
            (&["--cgroup", "/x"], 3, &["ptrace", "-- CMD"]),
        ] {
            let all = [&forced[..], args].concat();
            let (got, text) = refused(folder.path(), &path, &all);
            assert_eq!(got, Some(code), "{args:?}: {text}");
            for part in expected.iter().filter(|part| **part != "CAP_BPF") {
                assert!(text.contains(part), "{args:?}: {text}");
            }
            // By itself it comes to the same end, and says why eBPF cannot.
            if args[0] == "--" {
                let (got, text) = refused(folder.path(), &path, args);
                assert_eq!(got, Some(code), "{args:?}: {text}");
                assert!(text.contains("CAP_BPF"), "{args:?}: {text}");
            }
        }
        // eBPF by choice: no way out.
        let (code, text) = refused(
            folder.path(),
            &path,
            &["--backend", "ebpf", "--", "docker", "run", "x"],
        );
        assert_eq!(code, Some(125), "{text}");
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(
            names,
            ["docker", "podman", "seccast"],
            "something was started or written"
        );
        // A client that CMD starts is said, and that its container was not watched.
        let (code, text) = refused(
            folder.path(),
            &path,
            &["--", "sh", "-c", "docker run redis; true"],
        );
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("client of docker"), "{text}");
        assert!(text.contains("a container was not watched"), "{text}");
    }
}
