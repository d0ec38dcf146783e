//! What a filter denies is counted in the kernel: exactly, by number, result and process, whatever the filter answers.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod root {
    use libbpf_rs::query::{MapInfo, MapInfoIter};
    use libbpf_rs::{MapCore as _, MapHandle};
    use seccast_kernel::enforcement::committed;
    use seccast_kernel::kernel;
    use seccast_model::arch::Arch::{self, X32, X86, X86_64};
    use seccast_model::denial::{Answer, Denial, Denier};
    use seccast_model::observation::{Observation, Phase, Target};
    use seccast_recorder::cgroup::Hierarchy;
    use seccast_recorder::command::{CommandError, Running, User};
    use seccast_recorder::{Recorder, Recording};
    use seccast_rig::cgroup::Scope;
    use seccast_rig::load::{redis_bundle, redis_ready};
    use seccast_rig::{Container, Runtime, process, unique};
    use seccast_workloads::puppet::Puppet;
    use seccast_workloads::{PROGRAMS, numbers, path};
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::io;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
    use std::path::Path;
    use std::process::{Command, ExitStatus};
    use std::time::{Duration, Instant};

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Actions of linux/seccomp.h.
    const ALLOW: u32 = 0x7fff_0000;
    const KILL_PROCESS: u32 = 0x8000_0000;
    const KILL_THREAD: u32 = 0;
    const TRAP: u32 = 0x0003_0000;
    const ERRNO: u32 = 0x0005_0000;

    /// Calls that no shell makes and that do no harm where they are let through.
    const GETSID: (Arch, u32) = (X86_64, 124);
    const GETPGID: (Arch, u32) = (X86_64, 121);
    const GETSID_I386: (Arch, u32) = (X86, 147);
    const GETSID_X32: (Arch, u32) = (X32, 124);

    /// A filter that answers some calls and allows all others: linux/filter.h, written out.
    fn filter(rules: &[((Arch, u32), u32)]) -> Vec<libc::sock_filter> {
        let instruction = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
        let (load, equal, answer) = (0x20, 0x15, 0x06);
        let rule = |((arch, nr), action): &((Arch, u32), u32)| {
            // AUDIT_ARCH_I386 and AUDIT_ARCH_X86_64.
            let (audit, nr) = match arch {
                X86 => (0x4000_0003, *nr),
                X32 => (0xc000_003e, *nr | 0x4000_0000),
                _ => (0xc000_003e, *nr),
            };
            [
                instruction(load, 0, 0, 4),
                instruction(equal, 0, 3, audit),
                instruction(load, 0, 0, 0),
                instruction(equal, 0, 1, nr),
                instruction(answer, 0, 0, *action),
            ]
        };
        let rules = rules.iter().flat_map(rule);
        rules.chain([instruction(answer, 0, 0, ALLOW)]).collect()
    }

    /// What a run left behind.
    struct Run {
        denials: Vec<Denial>,
        /// Process ids and their statuses, in the order of the arguments of `denied`.
        processes: Vec<(u32, i32)>,
        status: ExitStatus,
        observation: Observation,
    }

    impl Run {
        /// The application's denials without their processes and samples.
        fn counts(&self) -> BTreeMap<(Arch, i64, i64), u64> {
            assert!(
                self.denials.iter().all(|denial| denial.phase == Phase::App),
                "{:?}",
                self.denials
            );
            let count = |denial: &Denial| ((denial.arch, denial.nr, denial.result), denial.count);
            self.denials.iter().map(count).collect()
        }

        /// How often each process was denied something.
        fn by_process(&self) -> BTreeMap<u32, u64> {
            let mut by_process = BTreeMap::new();
            for process in self.denials.iter().flat_map(|denial| &denial.processes) {
                *by_process.entry(process.pid).or_default() += process.count;
            }
            by_process
        }

        /// A denial by its number and result.
        fn denial(&self, nr: i64, result: i64) -> &Denial {
            let mut of = self.denials.iter();
            of.find(|denial| (denial.nr, denial.result) == (nr, result))
                .unwrap()
        }
    }

    /// Runs a command by `sh` in a cgroup of its own under a filter, and counts from before its start.
    fn run(script: &str, filter: &[libc::sock_filter]) -> Run {
        let hierarchy = Hierarchy::find().unwrap();
        let scope = Scope::new("denials-run").unwrap();
        let cgroup = hierarchy.create(&scope.child("c")).unwrap();
        let work = tempfile::tempdir().unwrap();
        let out = work.path().join("out");
        let command: Vec<_> = ["sh", "-c", script, "sh", out.to_str().unwrap()]
            .map(str::to_owned)
            .into();
        let mut recorder = Recorder::start(2).unwrap();
        recorder.watch_denials().unwrap();
        let recording = recorder.watch_command(&cgroup, command.clone()).unwrap();
        let mut running = Running::start(&command, Some(cgroup), None, Some(filter)).unwrap();
        let status = loop {
            recorder.poll(Duration::from_millis(10)).unwrap();
            if let Some(status) = running.ended().unwrap() {
                break status;
            }
        };
        assert_eq!(running.leave(&hierarchy), [""; 0]);
        let observation = recorder.observe(&recording).unwrap();
        assert!(observation.losses.is_empty(), "{:?}", observation.losses);
        assert_eq!(recorder.unjudged().unwrap(), 0);
        assert_eq!(inside(), 0, "threads that are gone");
        let words = fs::read(&out).unwrap_or_default();
        let word = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().unwrap());
        Run {
            denials: recorder.denials(&recording).unwrap(),
            processes: words
                .chunks_exact(8)
                .map(|both| (word(&both[..4]), word(&both[4..]).cast_signed()))
                .collect(),
            status,
            observation,
        }
    }

    /// Threads of which this process's recorder knows whether they are inside a call.
    fn inside() -> usize {
        let files = fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
        let own: BTreeSet<u32> = files
            .filter_map(|file| {
                let info = fs::read_to_string(file.path()).ok()?;
                let id = info.lines().find_map(|line| line.strip_prefix("map_id:"))?;
                id.trim().parse().ok()
            })
            .collect();
        let named = |map: &MapInfo| own.contains(&map.id) && map.name == "INSIDE";
        let map = MapInfoIter::default().find(named).unwrap();
        MapHandle::from_map_id(map.id).unwrap().keys().count()
    }

    /// `denied` with these threads of these processes, each making calls of a list.
    fn denied(calls: &[(Arch, u32)], threads: &[&str], filter: &[libc::sock_filter]) -> Run {
        let work = tempfile::tempdir().unwrap();
        let list = work.path().join("list");
        fs::write(&list, numbers::encode(calls)).unwrap();
        let program = path("denied");
        let [program, list] = [&program, &list].map(|path: &_| Path::to_str(path).unwrap());
        let threads = threads.join(" ");
        run(&format!("exec {program} {threads} < {list} > $1"), filter)
    }

    /// 10,007 calls of four threads in three processes.
    const STORM: [&str; 3] = ["1009,2003", "3001", "3994"];

    #[test]
    fn not_one_of_10007_is_missed() {
        let Some(_serial) = kernel() else { return };
        let calls = [GETSID, GETPGID, GETSID_I386, GETSID_X32];
        let filter = filter(&[
            (GETSID, ERRNO | 1),
            (GETPGID, ERRNO | 38),
            (GETSID_I386, ERRNO | 13),
            (GETSID_X32, ERRNO | 133),
        ]);
        let start = Instant::now();
        let run = denied(&calls, &STORM, &filter);
        assert!(run.status.success(), "{}", run.status);
        // Each thread begins with the first of the list: n calls are ceil(n / 4) of the first, and so on.
        let threads = [1009, 2003, 3001, 3994];
        let of = |at: u64| threads.iter().map(|n| (n + 3 - at) / 4).sum::<u64>();
        let expected = BTreeMap::from([
            ((X86_64, 124, -1), of(0)),
            ((X86_64, 121, -38), of(1)),
            ((X86, 147, -13), of(2)),
            ((X32, 124, -133), of(3)),
        ]);
        assert_eq!(expected.values().sum::<u64>(), 10_007);
        assert_eq!(run.counts(), expected);
        let expected = [3012, 3001, 3994];
        let pids = run.processes.iter().map(|(pid, _)| *pid);
        assert_eq!(run.by_process(), pids.zip(expected).collect());
        for denial in &run.denials {
            assert_eq!(denial.others, 0);
            assert_eq!(denial.samples.len(), 8);
            let last = if denial.arch == X86 { 0 } else { 7 };
            for sample in &denial.samples {
                assert_eq!(sample[1..5], [7; 4], "{denial:?}");
                // int80() has five arguments.
                assert!(denial.arch == X86 || sample[5] == last, "{denial:?}");
                assert!(sample[0] < 3994, "{denial:?}");
            }
            assert!(
                denial
                    .name
                    .as_deref()
                    .is_some_and(|name| name.starts_with("getsid") || name == "getpgid")
            );
            for process in &denial.processes {
                assert_eq!(process.comm, "denied");
                let file = path("denied");
                assert_eq!(process.exe.as_deref(), file.to_str());
            }
        }
        let denied = run.observation.denied.iter();
        let denied =
            denied.flat_map(|((arch, _), names)| names.keys().map(|name| (*arch, name.as_str())));
        let names = [
            (X86_64, "getpgid"),
            (X86_64, "getsid"),
            (X86, "getsid"),
            (X32, "getsid"),
        ];
        assert_eq!(denied.collect::<BTreeSet<_>>(), names.into());
        println!(
            "10,007 denied calls by four threads in three processes, three ABIs, four errnos: all counted, {:?}",
            start.elapsed()
        );
    }

    #[test]
    fn a_trap_counts_at_each_call() {
        let Some(_serial) = kernel() else { return };
        let calls = [GETSID, GETSID_I386, GETSID_X32];
        let filter = filter(&calls.map(|call| (call, TRAP)));
        let run = denied(&calls, &["23", "23,23"], &filter);
        assert!(run.status.success(), "{}", run.status);
        assert!(run.processes.iter().all(|(_, status)| *status == 0));
        let expected = [
            ((X86_64, 124, 124), 24),
            ((X86, 147, 147), 24),
            ((X32, 124, 124), 21),
        ];
        assert_eq!(run.counts(), expected.into());
        assert!(
            run.denials
                .iter()
                .all(|denial| denial.answer() == Answer::Signal)
        );
    }

    #[test]
    fn a_kill_counts_once_for_each_process() {
        let Some(_serial) = kernel() else { return };
        let run = denied(
            &[GETPGID, GETSID],
            &["2", "2,1", "2"],
            &filter(&[(GETSID, KILL_PROCESS)]),
        );
        assert!(run.status.success(), "{}", run.status);
        println!("{:?}", run.processes);
        assert!(run.processes.iter().all(|(_, status)| status & 127 == 31));
        assert_eq!(run.counts(), [((X86_64, 124, 124), 3)].into());
        let each = run.processes.iter().map(|(pid, _)| (*pid, 1));
        assert_eq!(run.by_process(), each.collect());
    }

    #[test]
    fn a_killed_thread_counts_once() {
        let Some(_serial) = kernel() else { return };
        let calls = [GETPGID, GETSID];
        let run = denied(
            &calls,
            &["2,2,1", "2,1,1,2"],
            &filter(&[(GETSID, KILL_THREAD)]),
        );
        assert!(run.status.success(), "{}", run.status);
        assert!(run.processes.iter().all(|(_, status)| *status == 0));
        assert_eq!(run.counts(), [((X86_64, 124, 124), 4)].into());
        let each = run.processes.iter().map(|(pid, _)| (*pid, 2));
        assert_eq!(run.by_process(), each.collect());
        let denial = run.denial(124, 124);
        assert_eq!(denial.samples, [[1, 7, 7, 7, 7, 7]]);
    }

    #[test]
    fn what_a_listener_refuses_counts_and_what_it_lets_through_does_not() {
        let Some(_serial) = kernel() else { return };
        let program = path("notified");
        let run = run(&format!("exec {}", program.display()), &filter(&[]));
        assert!(run.status.success(), "{}", run.status);
        assert_eq!(run.counts(), [((X86_64, 124, -13), 23)].into());
        let denial = run.denial(124, -13);
        assert_eq!((denial.processes.len(), denial.others), (1, 0));
        let expected = (0..8).map(|k| [k, 7, 7, 7, 7, 7]);
        assert_eq!(denial.samples, expected.collect::<Vec<_>>());
    }
    #[test]
    fn processes_without_room_are_counted_together() {
        let Some(_serial) = kernel() else { return };
        let work = tempfile::tempdir().unwrap();
        let list = work.path().join("list");
        fs::write(&list, numbers::encode(&[GETSID; numbers::MAX])).unwrap();
        // A process for each call.
        let forks = format!("{} < {}", path("forks").display(), list.display());
        let run = run(
            &format!("{forks} && exec {forks}"),
            &filter(&[(GETSID, ERRNO | 1)]),
        );
        assert!(run.status.success(), "{}", run.status);
        assert_eq!(run.counts(), [((X86_64, 124, -1), 8192)].into());
        let denial = run.denial(124, -1);
        // Room for 4,096 of them.
        assert_eq!((denial.processes.len(), denial.others), (4096, 4096));
        assert!(denial.processes.iter().all(|process| process.count == 1));
    }

    #[test]
    fn what_no_filter_denies_is_no_denial() {
        let Some(_serial) = kernel() else { return };
        // Forks, threads, execs by a thread and into i386, handlers, unknown numbers: under a filter that allows everything.
        for program in PROGRAMS {
            let file = path(program.name);
            let run = run(&format!("exec {}", file.display()), &filter(&[]));
            assert!(run.status.success(), "{}: {}", program.name, run.status);
            // An application's own filter counts, too.
            let own = program.denied.iter();
            let expected = own.map(|call| ((call.arch, call.nr.into(), -13), call.count.unwrap()));
            assert_eq!(run.counts(), expected.collect(), "{}", program.name);
        }
    }

    #[test]
    fn a_filter_is_the_last_before_the_execve() {
        let Some(_serial) = kernel() else { return };
        let execve = (X86_64, 59);
        let only = |run: &Run, result| {
            let [denial] = &run.denials[..] else {
                unreachable!("{:?}", run.denials)
            };
            assert_eq!(
                (
                    denial.phase,
                    denial.name.as_deref(),
                    denial.result,
                    denial.count
                ),
                // It entered the cgroup and ended without executing anything.
                (Phase::Entered, Some("execve"), result, 1)
            );
        };
        let killed = run("true", &filter(&[(execve, KILL_PROCESS)]));
        assert_eq!(killed.status.signal(), Some(libc::SIGSYS));
        only(&killed, 59);

        let start = |script: &str, user, filter: &[libc::sock_filter]| {
            let command = ["sh", "-c", script].map(str::to_owned);
            Running::start(&command, None, user, Some(filter))
        };
        let refused = start("true", None, &filter(&[(execve, ERRNO | 1)]));
        assert!(matches!(
            refused,
            Err(CommandError::NotExecutable { source, .. }) if source.raw_os_error() == Some(libc::EPERM)
        ));
        let rules = [(GETSID, ERRNO | 1); 820];
        let refused = start("true", None, &filter(&rules));
        assert!(matches!(
            refused,
            Err(CommandError::Filter { instructions: 4101, source, .. }) if source.raw_os_error() == Some(libc::EINVAL)
        ));
        // Privileges stay where the kernel does not ask for them.
        let nobody = User {
            uid: 65534,
            gid: 65534,
        };
        for (user, no_new_privs) in [(None, "0"), (Some(nobody), "1")] {
            let script = format!("grep -q 'NoNewPrivs:.{no_new_privs}' /proc/$$/status");
            let mut running = start(&script, user, &filter(&[])).unwrap();
            let ended = process::poll("the end", PATIENCE, || Ok(running.ended()?.is_some()));
            ended.unwrap();
            assert_eq!(
                running.ended().unwrap().and_then(|status| status.code()),
                Some(0)
            );
        }
    }

    /// A puppet that is denied getsid.
    fn filtered_puppet() -> Puppet {
        let filter = filter(&[(GETSID, ERRNO | 1)]);
        let install = move || {
            let program = libc::sock_fprog {
                len: u16::try_from(filter.len()).unwrap(),
                filter: filter.as_ptr().cast_mut(),
            };
            // SAFETY: the kernel copies the program.
            let failed = unsafe { libc::syscall(libc::SYS_seccomp, 1, 0, &raw const program) };
            if failed == 0 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        };
        let mut command = Command::new(path("puppet"));
        // SAFETY: one system call.
        unsafe { command.pre_exec(install) };
        let work = tempfile::tempdir().unwrap();
        Puppet::start_by(command, &work.path().join("page")).unwrap()
    }

    /// Denied calls.
    fn getsid(puppet: &mut Puppet, times: u64) {
        for k in 0..times {
            assert_eq!(puppet.call(124, &[k.cast_signed()]).unwrap(), -1);
        }
    }

    /// Counts from now on what is denied in a scope; whatever comes in is the application.
    fn watch(scope: &Scope) -> (Recorder, Recording) {
        let mut recorder = Recorder::start(2).unwrap();
        recorder.watch_denials().unwrap();
        let cgroup = recorder.hierarchy().open(scope.path()).unwrap();
        let recording = recorder.watch_present(&cgroup, true, Target::default());
        (recorder, recording.unwrap())
    }

    /// How many getsid were counted, and how many exits could not be judged.
    fn counted(recorder: &Recorder, recording: &Recording) -> (u64, u64) {
        let denials = recorder.denials(recording).unwrap();
        let count = denials.iter().map(|denial| {
            assert_eq!(
                (denial.phase, denial.nr, denial.result),
                (Phase::App, 124, -1)
            );
            denial.count
        });
        (count.sum(), recorder.unjudged().unwrap())
    }

    #[test]
    fn of_a_target_that_runs_nothing_is_missed_in_silence() {
        let Some(_serial) = kernel() else { return };
        let scope = Scope::new("denials").unwrap();
        // It reads from a pipe to which nobody writes: it has entered that call.
        let mut puppet = filtered_puppet();
        scope.add(puppet.pid()).unwrap();
        let (reader, writer) = io::pipe().unwrap();
        let path = format!("/proc/{}/fd/{}", std::process::id(), reader.as_raw_fd());
        let path = puppet.text(&path).unwrap();
        let end = puppet.call(257, &[-100, path, 0 /* O_RDONLY */]).unwrap();
        puppet.repeat(0, &[end, path, 1]).unwrap();
        let pid = puppet.pid().cast_signed();
        let asleep = || Ok(process::sleeps_in(pid) == Some(libc::SYS_read));
        process::poll("the puppet to sleep", PATIENCE, asleep).unwrap();
        let (recorder, recording) = watch(&scope);
        // From now on it gets the end of the file at once.
        drop(writer);
        puppet.stop().unwrap();
        getsid(&mut puppet, 23);
        assert_eq!(counted(&recorder, &recording), (23, 0));
        drop((recorder, puppet));

        // It runs: that its first call was denied cannot be told from the end of one that it was in.
        let mut puppet = filtered_puppet();
        scope.add(puppet.pid()).unwrap();
        let (recorder, recording) = watch(&scope);
        getsid(&mut puppet, 23);
        assert_eq!(counted(&recorder, &recording), (22, 1));
        println!("asleep at attach: 23 of 23; running: 22 of 23, and 1 not judged");
    }

    #[test]
    fn a_moved_task_is_judged_wherever_it_goes() {
        let Some(_serial) = kernel() else { return };
        let (inside, outside) = (
            Scope::new("denials").unwrap(),
            Scope::new("denials-out").unwrap(),
        );
        let (recorder, recording) = watch(&inside);
        let mut puppet = filtered_puppet();
        inside.add(puppet.pid()).unwrap();
        // Nobody knows yet whether it is inside a call.
        getsid(&mut puppet, 1);
        assert_eq!(counted(&recorder, &recording), (0, 1));
        puppet.call(39, &[]).unwrap();
        getsid(&mut puppet, 23);
        assert_eq!(counted(&recorder, &recording), (23, 1));
        // The first call in a cgroup that was never seen.
        let below = Scope::at(inside.child("below")).unwrap();
        below.add(puppet.pid()).unwrap();
        getsid(&mut puppet, 5);
        assert_eq!(counted(&recorder, &recording), (28, 1));
        // Its filter goes with it, and so does the recording.
        outside.add(puppet.pid()).unwrap();
        getsid(&mut puppet, 7);
        assert_eq!(counted(&recorder, &recording), (35, 1));
        inside.add(puppet.pid()).unwrap();
        getsid(&mut puppet, 4);
        assert_eq!(counted(&recorder, &recording), (39, 1));
    }

    #[test]
    fn what_redis_lacks_is_named_while_it_runs() {
        let Some(_serial) = kernel() else { return };
        let mut profile = committed("redis").profile;
        for rule in profile["syscalls"].as_array_mut().unwrap() {
            let names = rule["names"].as_array_mut().unwrap();
            names.retain(|name| name != "getrusage");
        }
        let scope = Scope::new("denials").unwrap();
        let mut recorder = Recorder::start(2).unwrap();
        recorder.watch_denials().unwrap();
        let cgroup = recorder.hierarchy().open(scope.path()).unwrap();
        let recording = recorder.watch_present(&cgroup, false, Target::default());
        let recording = recording.unwrap();
        let bundle = redis_bundle().unwrap().seccomp(profile);
        let bundle = bundle.cgroups_path(scope.child("redis"));
        let runc = Runtime::runc().unwrap();
        let mut redis = Container::new(&unique("denials-redis"), &bundle, &runc).unwrap();
        redis.spawn().unwrap();
        let mut client = redis_ready(&mut redis).unwrap();
        recorder.poll(Duration::ZERO).unwrap();
        assert_eq!(recorder.denials(&recording).unwrap(), []);
        assert!(
            client
                .call(&["INFO", "cpu"])
                .unwrap()
                .contains("used_cpu_sys")
        );
        recorder.poll(Duration::ZERO).unwrap();
        let denials = recorder.denials(&recording).unwrap();
        assert_eq!(redis.try_wait().unwrap(), None, "{}", redis.log());
        let [denial] = &denials[..] else {
            unreachable!("{denials:?}")
        };
        assert_eq!((denial.arch, denial.phase), (X86_64, Phase::App));
        assert_eq!(denial.name.as_deref(), Some("getrusage"));
        assert_eq!(denial.answer(), Answer::Errno(38));
        // RUSAGE_SELF, RUSAGE_CHILDREN as an int, RUSAGE_THREAD; each beside a pointer.
        let first: Vec<_> = denial
            .samples
            .iter()
            .map(|sample| sample[0] as u32)
            .collect();
        assert_eq!((denial.count, &first[..]), (3, &[0, u32::MAX, 1][..]));
        let pid = u32::try_from(redis.pid().unwrap()).unwrap();
        let process = Denier {
            pid,
            comm: "redis-server".to_owned(),
            exe: Some("/usr/bin/redis-server".to_owned()),
            count: 3,
        };
        assert_eq!((&denial.processes[..], denial.others), (&[process][..], 0));
        println!("redis without getrusage, while it runs: {denial:?}");
    }
}
