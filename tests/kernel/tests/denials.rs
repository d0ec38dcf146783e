//! What a filter denies is counted in the kernel: exactly, by number, result and process, whatever the filter answers.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod root {
    use seccast_kernel::kernel;
    use seccast_model::arch::Arch::{self, X32, X86, X86_64};
    use seccast_model::denial::{Answer, Denial};
    use seccast_model::observation::Phase;
    use seccast_recorder::cgroup::Hierarchy;
    use seccast_recorder::command::Running;
    use seccast_recorder::{Recorder, Recording};
    use seccast_workloads::{numbers, path};
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, Instant};

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
        code: Option<i32>,
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
        let cgroup = hierarchy
            .create(&format!("/seccast-denials-{}", std::process::id()))
            .unwrap();
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
        no_loss(&mut recorder, &recording);
        let words = fs::read(&out).unwrap_or_default();
        let word = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().unwrap());
        Run {
            denials: recorder.denials(&recording).unwrap(),
            processes: words
                .chunks_exact(8)
                .map(|both| (word(&both[..4]), word(&both[4..]).cast_signed()))
                .collect(),
            code: status.code(),
        }
    }

    fn no_loss(recorder: &mut Recorder, recording: &Recording) {
        let observation = recorder.observe(recording).unwrap();
        assert!(observation.losses.is_empty(), "{:?}", observation.losses);
        assert_eq!(recorder.unjudged().unwrap(), 0);
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
        assert_eq!(run.code, Some(0));
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
        assert_eq!(run.code, Some(0));
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
        assert_eq!(run.code, Some(0));
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
        assert_eq!(run.code, Some(0));
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
        assert_eq!(run.code, Some(0));
        assert_eq!(run.counts(), [((X86_64, 124, -13), 23)].into());
        let denial = run.denial(124, -13);
        assert_eq!((denial.processes.len(), denial.others), (1, 0));
        let expected = (0..8).map(|k| [k, 7, 7, 7, 7, 7]);
        assert_eq!(denial.samples, expected.collect::<Vec<_>>());
    }
}
