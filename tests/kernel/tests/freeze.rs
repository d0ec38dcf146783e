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
    use seccast_rig::{Bundle, Container, Runtime, Witness, load, rootfs};
    use seccast_workloads as workloads;
    use serde_json::Value;
    use std::time::Duration;

    const REQUESTS: u32 = 50;

    /// How long each interruption lasts, and how long after the one before.
    const PAUSE: Duration = Duration::from_millis(200);

    /// `runc pause` and `resume`, then SIGSTOP and SIGCONT.
    fn interrupt(container: &Container) {
        std::thread::sleep(PAUSE);
        container.pause().unwrap();
        std::thread::sleep(PAUSE);
        container.resume().unwrap();
        std::thread::sleep(PAUSE);
        container.kill(libc::SIGSTOP).unwrap();
        std::thread::sleep(PAUSE);
        container.kill(libc::SIGCONT).unwrap();
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
            Container::new("freeze-redis", &bundle, &Runtime::runc().unwrap()).unwrap();
        container.spawn().unwrap();
        let mut client = load::redis_ready(&mut container).unwrap();
        client.expect("+OK", &["SET", "before", "1"]).unwrap();
        interrupt(&container);
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

    /// Runs a sleeper of 1.5 s under a profile, frozen and stopped meanwhile, and says how it ended.
    fn sleep_under(profile: &Value, bundle: &Bundle, scope: &Scope) -> Option<i32> {
        let bundle = bundle
            .clone()
            .seccomp(profile.clone())
            .cgroups_path(scope.child("c"));
        let mut container =
            Container::new("freeze-sleeper", &bundle, &Runtime::runc().unwrap()).unwrap();
        container.spawn().unwrap();
        container.wait_started().unwrap();
        interrupt(&container);
        container.wait(PATIENCE).unwrap().unwrap().code()
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
        for (name, root, program, short, long) in [
            // nanosleep, and 1 when it breaks off.
            (
                "the workload",
                dir.path().to_path_buf(),
                "/program",
                "10",
                "1500",
            ),
            // clock_nanosleep of the C library.
            (
                "busybox",
                rootfs::busybox().unwrap(),
                "/bin/sleep",
                "0.01",
                "1.5",
            ),
        ] {
            let recorded = record_container(
                "freeze-sleeper",
                &Bundle::new(&root, [program, short]),
                &ends_well,
            );
            let profile = generate(&[recorded]).profile;
            let bundle = Bundle::new(&root, [program, long]);
            let code = sleep_under(&profile, &bundle, &scope);
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
            let code = sleep_under(&without, &bundle, &scope);
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
