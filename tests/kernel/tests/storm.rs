//! Every call at once: nothing is lost at any rate, nor to a neighbour.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod root {
    use seccast_kernel::{Record, assert_calls, call, calls, harmless, kernel, root_with};
    use seccast_model::arch::Arch;
    use seccast_model::observation::Phase;
    use seccast_rig::cgroup::Scope;
    use seccast_rig::{Bundle, Runtime, process, unique};
    use seccast_workloads::{numbers, path};
    use std::collections::BTreeSet;
    use std::fs::{self, File};
    use std::process::Stdio;
    use std::time::Duration;

    /// Rows of the storm's log.
    const ROWS: [Arch; 3] = [Arch::X86_64, Arch::X86, Arch::X32];

    #[test]
    fn every_harmless_call_of_three_abis_is_recorded_in_a_storm() {
        let Some(_serial) = kernel() else { return };
        for (name, reason) in harmless::EXCLUDED {
            println!("not called: {name}: it {reason}");
        }
        let list = harmless::all();
        let root = root_with(&["storm"]);
        let work = tempfile::tempdir().unwrap();
        let scope = Scope::new("storm").unwrap();
        let running = Record::cgroup(scope.path()).start();

        // By hand: the list goes in by stdin, the log comes out by stdout.
        let bundle = Bundle::new(root.path(), ["/storm", "10000"])
            .capabilities(&[])
            .cgroups_path(scope.child("c"));
        bundle.write("storm", work.path()).unwrap();
        fs::write(work.path().join("list"), numbers::encode(&list)).unwrap();
        let mut runc = Runtime::runc().unwrap().command();
        let name = unique("storm");
        runc.args(["run", "-b"]).arg(work.path()).arg(&name);
        let mut runc = runc
            .stdin(File::open(work.path().join("list")).unwrap())
            .stdout(File::create(work.path().join("log")).unwrap())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let status = process::wait(&mut runc, Duration::from_secs(120)).unwrap();
        if status.is_none() {
            drop(process::output(
                Runtime::runc()
                    .unwrap()
                    .command()
                    .args(["delete", "-f", &name]),
                Duration::from_secs(60),
            ));
        }
        assert_eq!(status.and_then(|status| status.code()), Some(0));
        let recorded = running.stop();

        let log = fs::read(work.path().join("log")).unwrap();
        let (called, count) = log.split_at(ROWS.len() * 1024);
        let count = u64::from_ne_bytes(count.try_into().unwrap());
        let mut expected = BTreeSet::new();
        for (row, arch) in ROWS.into_iter().enumerate() {
            let row = &called[row * 1024..][..1024];
            expected.extend(
                (0..1024)
                    .filter(|&nr| row[nr as usize] == 1)
                    .map(|nr| call((arch, nr))),
            );
        }
        let seen = calls(recorded.complete(), Phase::App);
        println!(
            "{count} calls of {} kinds in 10 s, {} of them recorded",
            expected.len(),
            seen.intersection(&expected).count()
        );
        // The list, and eight of the storm's own, of which only clone, exit and exit_group are not in the list already or are no harm.
        assert!(
            expected.len() >= list.len(),
            "the storm has not come around once"
        );
        assert_calls(&seen, &expected, "the storm");
    }

    /// Rounds of the race in all.
    const ROUNDS: usize = 100_000;

    /// Neighbours that the two threads call: each number once in a recording, so that each round finds its two bytes (or bits) unset.
    ///
    /// A recording has room for some 1,500 such pairs. Odd recordings begin one number later: then every number meets both of its
    /// neighbours.
    fn pairs(recording: usize) -> Vec<(Arch, u32)> {
        let mut list = Vec::new();
        for arch in ROWS {
            let numbers = harmless::numbers(arch);
            let mut at = recording % 2;
            while let [first, second, ..] = numbers[at..] {
                if second == first + 1 {
                    // Both threads take both sides in turn.
                    let swap = (list.len() / 2 + recording / 2) % 2 == 1;
                    list.extend(if swap {
                        [(arch, second), (arch, first)]
                    } else {
                        [(arch, first), (arch, second)]
                    });
                    at += 2;
                } else {
                    at += 1;
                }
            }
        }
        list
    }

    #[test]
    fn neighbours_called_at_the_same_time_by_two_threads_are_both_recorded() {
        let Some(_serial) = kernel() else { return };
        let processors = processors();
        let [first, second, ..] = processors[..] else {
            println!("SKIPPED: needs two processors");
            return;
        };
        // Its own calls; the numbers that it calls are the list.
        let own = [
            "read",
            "sched_setaffinity",
            "clone",
            "exit",
            "sched_yield",
            "write",
            "exit_group",
        ];
        let (mut rounds, mut close, mut near, mut recordings) = (0, 0, 0, 0);
        while rounds < ROUNDS {
            let list = pairs(recordings);
            let mut record = Record::new(
                ["--user", "65534:65534", "--"]
                    .map(std::ffi::OsString::from)
                    .into_iter()
                    .chain([
                        path("race").into(),
                        first.to_string().into(),
                        second.to_string().into(),
                    ]),
            );
            record = record.stdin(numbers::encode(&list));
            let recorded = record.run(Duration::from_secs(120));
            let seen = calls(recorded.complete(), Phase::App);
            let mut expected: BTreeSet<_> = list.iter().copied().map(call).collect();
            expected.extend(own.map(|name| (Arch::X86_64, name.to_owned())));
            assert_calls(&seen, &expected, &format!("after {rounds} rounds"));
            let words: Vec<_> = recorded
                .stdout
                .chunks_exact(4)
                .map(|word| u32::from_ne_bytes(word.try_into().unwrap()))
                .collect();
            assert_eq!(words[0] as usize, list.len() / 2);
            rounds += words[0] as usize;
            close += words[1] as usize;
            near += words[2] as usize;
            recordings += 1;
        }
        println!(
            "{rounds} rounds in {recordings} recordings: none missing; the two calls began within 200 cycles in {close} of them, within 1,000 in {near}"
        );
        assert!(near > rounds / 4, "the threads did not meet");
    }

    /// The processors that this process may use.
    fn processors() -> Vec<usize> {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let list = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
            .unwrap();
        let range = |part: &str| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            from.parse::<usize>().unwrap()..=to.parse().unwrap()
        };
        list.trim().split(',').flat_map(range).collect()
    }
}
