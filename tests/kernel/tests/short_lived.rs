//! Containers that live for about a millisecond: nothing of them is missed.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod root {
    use seccast_kernel::{Record, assert_calls, call, calls, harmless, kernel, root_with};
    use seccast_model::arch::Arch;
    use seccast_model::observation::Phase;
    use seccast_rig::cgroup::Scope;
    use seccast_rig::{Bundle, Container, Runtime, process, unique};
    use seccast_workloads::numbers;
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    const CONTAINERS: usize = 1000;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn each_of_1000_containers_is_in_the_recording_of_their_parent() {
        let Some(_serial) = kernel() else { return };
        // No ABI has 1,000 calls, so a container's own call is a pair of ABI and number: each has a name, and none is made twice.
        let own: Vec<_> = harmless::named().into_iter().take(CONTAINERS).collect();
        assert_eq!(
            own.len(),
            CONTAINERS,
            "the three ABIs together have too few harmless calls"
        );
        let root = root_with(&["one"]);
        let scope = Scope::new("short").unwrap();
        let runc = Runtime::runc().unwrap();
        let running = Record::cgroup(scope.path()).start();

        let start = Instant::now();
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(&(arch, nr)) = own.get(next.fetch_add(1, Ordering::Relaxed)) {
                let name = unique(&format!("short-{arch}-{nr}").replace('_', "-"));
                run(&runc, root.path(), &scope, &name, arch, nr);
            }
        };
        std::thread::scope(|threads| {
            threads.spawn(work);
            threads.spawn(work);
        });
        let took = start.elapsed();
        let recorded = running.stop();

        let mut expected: BTreeSet<_> = own.into_iter().map(call).collect();
        expected.insert((Arch::X86_64, "exit_group".into()));
        let seen = calls(recorded.complete(), Phase::App);
        println!(
            "{CONTAINERS} containers in {took:.1?}: {} of {} calls",
            seen.intersection(&expected).count(),
            expected.len()
        );
        assert_calls(&seen, &expected, "the containers");
        let observation = recorded.observation.as_ref().unwrap();
        assert_eq!(observation.entered_count, 0);
    }

    /// Runs a container that makes one call, the cheapest way: no folder but the bundle, no state afterwards.
    fn run(runc: &Runtime, root: &Path, scope: &Scope, name: &str, arch: Arch, nr: u32) {
        let mut args = vec!["/one".to_owned()];
        args.extend(numbers::one(arch, nr));
        let bundle = Bundle::new(root, args)
            .capabilities(&[])
            .cgroups_path(scope.child(name));
        let mut container = Container::new(name, &bundle, runc).unwrap();
        let status = container.run(PATIENCE).unwrap();
        assert_eq!(status.code(), Some(0), "{name}: {}", container.log());
    }

    #[test]
    fn each_of_50_containers_is_caught_by_its_name() {
        let Some(_serial) = kernel() else { return };
        let root = root_with(&["one"]);
        let scope = Scope::new("wait").unwrap();
        let runc = Runtime::runc().unwrap();
        let mut lived = Vec::new();
        for (arch, nr) in harmless::named().into_iter().step_by(20).take(50) {
            let name = unique(&format!("wait-{arch}-{nr}").replace('_', "-"));
            let running = Record::new(["--container", &name, "--wait"]).start();
            // Another one beside it, which is not to be in the recording.
            let other = unique("wait-other");
            run(&runc, root.path(), &scope, &other, Arch::X86_64, 1);
            let start = Instant::now();
            run(&runc, root.path(), &scope, &name, arch, nr);
            lived.push(start.elapsed());
            let recorded = running.end(PATIENCE);
            let expected = BTreeSet::from([call((arch, nr)), (Arch::X86_64, "exit_group".into())]);
            assert_eq!(
                calls(recorded.complete(), Phase::App),
                expected,
                "{name}\n{}",
                recorded.stderr
            );
        }
        lived.sort();
        println!(
            "50 of 50 complete; from runc's start to its end {:.1?} (median)",
            lived[25]
        );
    }

    #[test]
    fn without_the_container_a_bounded_wait_ends_with_3_and_no_file() {
        let Some(_serial) = kernel() else { return };
        let start = Instant::now();
        let recorded = Record::new(["--container", "wait-for-nobody", "--wait=2s"]).run(PATIENCE);
        recorded.assert_ended(3, &["wait-for-nobody"]);
        assert!(start.elapsed() >= Duration::from_secs(2));
        assert!(recorded.observation.is_none());
        assert!(!recorded.profile_path().exists());
    }

    /// What the other tests of this file rest on, a number for a reader: such a container lives for about a millisecond.
    #[test]
    fn how_long_such_a_container_lives_is_printed() {
        let start = Instant::now();
        for _ in 0..100 {
            let mut child = Command::new(seccast_workloads::path("one"))
                .args(["x86_64", "110"])
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            assert!(
                process::wait(&mut child, PATIENCE)
                    .unwrap()
                    .unwrap()
                    .success()
            );
        }
        println!("from fork to wait {:.1?}", start.elapsed() / 100);
    }
}
