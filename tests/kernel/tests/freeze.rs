//! A frozen or stopped program goes on: the kernel resumes its sleep through restart_syscall, which no recording shows.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod root {
    use seccast_kernel::enforcement::{
        PATIENCE, allowed, denials, generate, record_container, with_action,
    };
    use seccast_kernel::kernel;
    use seccast_rig::cgroup::Scope;
    use seccast_rig::{Bundle, Container, Runtime, Witness, load, process, rootfs, unique};
    use seccast_workloads as workloads;
    use serde_json::Value;
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    const REQUESTS: u32 = 50;

    /// Calls in which these programs sleep.
    const SLEEPS: [i64; 4] = [
        libc::SYS_nanosleep,
        libc::SYS_clock_nanosleep,
        libc::SYS_restart_syscall,
        libc::SYS_epoll_wait,
    ];

    /// `runc pause` and `resume`, then SIGSTOP and SIGCONT, each while it sleeps; an error when it has ended before.
    fn interrupt(container: &Container) -> anyhow::Result<()> {
        let pid = container.pid()?;
        let until = |what: &str, is: &dyn Fn() -> bool| {
            process::poll(what, PATIENCE, || {
                anyhow::ensure!(
                    !matches!(process::state(pid), None | Some('Z')),
                    "it has ended"
                );
                Ok(is())
            })
        };
        let asleep = || process::sleeps_in(pid).is_some_and(|call| SLEEPS.contains(&call));
        until("its sleep", &asleep)?;
        // Both return when it is done.
        container.pause()?;
        container.resume()?;
        until("its sleep after the freeze", &asleep)?;
        container.kill(libc::SIGSTOP)?;
        until("its stop", &|| process::state(pid) == Some('T'))?;
        container.kill(libc::SIGCONT)
    }

    fn ends_well(container: &mut Container) -> anyhow::Result<()> {
        let status = container.wait(PATIENCE)?;
        anyhow::ensure!(
            status.is_some_and(|status| status.success()),
            "ended with {status:?}"
        );
        Ok(())
    }

    #[test]
    fn an_enforced_redis_survives_being_frozen_and_stopped() {
        let Some(_serial) = kernel() else { return };
        let bundle = load::redis_bundle().unwrap();
        let recorded = record_container("freeze-redis", &bundle, &|container: &mut Container| {
            load::redis(container, REQUESTS)
        });
        let profile = generate(&[recorded]).profile;
        let scope = Scope::new("freeze").unwrap();
        let mut witness = Witness::attach(&scope).unwrap();
        let bundle = bundle.seccomp(profile).cgroups_path(scope.child("c"));
        let mut container =
            Container::new(&unique("freeze-redis"), &bundle, &Runtime::runc().unwrap()).unwrap();
        container.spawn().unwrap();
        let mut client = load::redis_ready(&mut container).unwrap();
        client.expect("+OK", &["SET", "before", "1"]).unwrap();
        interrupt(&container).unwrap();
        client.expect("1", &["GET", "before"]).unwrap();
        drop(client);
        // The whole load again, to its clean end.
        load::redis(&mut container, REQUESTS).unwrap();
        let seen = witness.take().unwrap();
        println!("freeze: redis went on, {} denials", seen.count());
        assert!(
            seen.denials.is_empty() && seen.killed.is_empty(),
            "{}{seen}",
            denials(&seen)
        );
    }

    /// A program that sleeps as long as its argument says, where `second` is a second.
    struct Sleeper {
        root: PathBuf,
        program: &'static str,
        second: u64,
    }

    /// Runs a sleeper under a profile, frozen and stopped meanwhile, and says how it ended. It sleeps for a second, and twice as long
    /// each time that its sleep was over before the machine had done that.
    fn sleep_under(profile: &Value, sleeper: &Sleeper, scope: &Scope) -> Option<i32> {
        for seconds in [1, 2, 4, 8, 16, 32] {
            let length = (seconds * sleeper.second).to_string();
            let bundle = Bundle::new(&sleeper.root, [sleeper.program, &length])
                .seccomp(profile.clone())
                .cgroups_path(scope.child("c"));
            let began = Instant::now();
            let mut container = Container::new(
                &unique("freeze-sleeper"),
                &bundle,
                &Runtime::runc().unwrap(),
            )
            .unwrap();
            container.spawn().unwrap();
            container.wait_started().unwrap();
            let interrupted = interrupt(&container);
            let code = container.wait(PATIENCE).unwrap().unwrap().code();
            let Err(error) = interrupted else { return code };
            println!("freeze: {seconds} s: {error:#}, with {code:?}");
            // Else it did not end by itself.
            if began.elapsed() < Duration::from_secs(seconds) {
                return code;
            }
        }
        panic!("the machine is too slow");
    }

    #[test]
    fn an_enforced_sleeper_survives_being_frozen_and_stopped() {
        let Some(_serial) = kernel() else { return };
        let dir = tempfile::Builder::new()
            .prefix("seccast-test-")
            .tempdir()
            .unwrap();
        rootfs::with_program(dir.path(), &workloads::path("sleeper")).unwrap();
        let scope = Scope::new("freeze").unwrap();
        let mut witness = Witness::attach(&scope).unwrap();
        let workload = Sleeper {
            root: dir.path().to_path_buf(),
            program: "/program",
            second: 1000,
        };
        let busybox = Sleeper {
            root: rootfs::busybox().unwrap(),
            program: "/bin/sleep",
            second: 1,
        };
        // nanosleep, and 1 when it breaks off; clock_nanosleep of the C library.
        for (name, sleeper, short) in [
            ("the workload", workload, "10"),
            ("busybox", busybox, "0.01"),
        ] {
            let recorded = record_container(
                "freeze-sleeper",
                &Bundle::new(&sleeper.root, [sleeper.program, short]),
                &ends_well,
            );
            let profile = generate(&[recorded]).profile;
            let code = sleep_under(&profile, &sleeper, &scope);
            let seen = witness.take().unwrap();
            println!(
                "freeze: {name} ended with {code:?}, {} denials, {} names",
                seen.count(),
                allowed(&profile).len()
            );
            assert_eq!(code, Some(0), "{name}");
            assert!(seen.denials.is_empty(), "{name}:\n{}{seen}", denials(&seen));

            // The control: without restart_syscall it is denied, so the test sees what it is about.
            let without = with_action(&profile, "restart_syscall", "SCMP_ACT_ERRNO");
            let code = sleep_under(&without, &sleeper, &scope);
            let seen = witness.take().unwrap();
            println!(
                "freeze: {name} without restart_syscall ended with {code:?}:\n{}",
                denials(&seen)
            );
            assert!(
                seen.denials
                    .iter()
                    .any(|denial| denial.nr == libc::SYS_restart_syscall),
                "{name}: {seen}"
            );
        }
    }
}
