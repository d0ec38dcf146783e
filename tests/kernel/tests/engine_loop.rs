//! The closed loop in front of each engine: `record -- ENGINE run`, generate, run under the profile in the same engine with the
//! same load. Nothing may be denied, and the witness says so.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod root {
    use seccast_kernel::enforcement::{
        Generated, allowed, call_name, denials, generate_for, with_action,
    };
    use seccast_kernel::repeats;
    use seccast_kernel::{Record, kernel, seccast};
    use seccast_model::Observation;
    use seccast_rig::cgroup::Scope;
    use seccast_rig::engine::{Contained, Containerd, Docker, Podman};
    use seccast_rig::{
        Bundle, BusyLoops, Container, Engine, Runtime, Server, Witness, load, unique,
    };
    use serde_json::Value;
    use std::process::Command;
    use std::time::{Duration, Instant};

    const PATIENCE: Duration = Duration::from_secs(60);
    /// Starts of each program in each engine; 50 by hand.
    const STARTS: usize = 5;
    /// Requests of each benchmark of a load; the same when recorded and when enforced.
    const REQUESTS: u32 = 50;
    /// A name that both programs call at their start and survive without.
    const CONTROL: &str = "sysinfo";

    /// Starts under the profile beside two busy loops, then once without [`CONTROL`].
    fn is_enough(
        what: &str,
        profile: &Value,
        scope: &Scope,
        enforce: impl Fn(&Value) -> anyhow::Result<()>,
    ) {
        let starts = repeats(STARTS);
        let mut witness = Witness::attach(scope).unwrap();
        let _busy = BusyLoops::start(2);
        let start = Instant::now();
        let failures: Vec<String> = (1..=starts)
            .filter_map(|n| Some(format!("start {n}: {:#}", enforce(profile).err()?)))
            .collect();
        let took = start.elapsed();
        let seen = witness.take().unwrap();
        let passed = enforce(&with_action(profile, CONTROL, "SCMP_ACT_ERRNO")).is_ok();
        let control = witness.take().unwrap();
        println!(
            "{what}: {} names, {} of {starts} starts beside two busy loops, {} denials by the witness, {:.2} s a start; \
             without {CONTROL} the load passed: {passed}, and the witness saw\n{}",
            allowed(profile).len(),
            starts - failures.len(),
            seen.count(),
            took.as_secs_f64() / starts as f64,
            denials(&control),
        );
        let mut names = control.denials.iter().map(|denial| call_name(denial.nr));
        assert!(names.any(|name| name == CONTROL), "the witness is blind");
        assert!(
            seen.denials.is_empty() && seen.killed.is_empty(),
            "denied:\n{}{seen}",
            denials(&seen)
        );
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    type Load<'a> = fn(&mut Contained<'a>, u32) -> anyhow::Result<()>;

    fn recorded<'a>(
        engine: &'a dyn Engine,
        name: &str,
        bundle: &Bundle,
        load: Load<'a>,
    ) -> Generated {
        let files = tempfile::tempdir().unwrap();
        let observation = files.path().join("o.json");
        let mut command = Command::new(seccast());
        command.args(["record", "--observation"]).arg(&observation);
        let client = engine.run(name, bundle).unwrap();
        command
            .arg("--")
            .arg(client.get_program())
            .args(client.get_args());
        for (name, value) in client.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        // With seccast in front of the client it is the same container to its load.
        let mut container = Contained::spawn(engine, name, &mut command).unwrap();
        if let Err(error) = load(&mut container, REQUESTS) {
            panic!("{name}, recorded: {error:#}\n{}", container.log());
        }
        let status = container.wait(PATIENCE).unwrap().unwrap();
        assert_eq!(status.code(), Some(0), "{}", container.log());
        let read = Observation::from_json(&std::fs::read(&observation).unwrap()).unwrap();
        assert!(read.losses.is_empty() && read.started_late_ns.is_none() && read.denied.is_empty());
        generate_for("runc", &[observation])
    }

    fn in_engine(engine: &dyn Engine) {
        let group = engine.cgroup_of("");
        let scope = Scope::at(group.rsplit_once('/').unwrap().0).unwrap();
        let programs: [(&str, Bundle, Load<'_>); 2] = [
            ("redis", load::redis_bundle().unwrap(), load::redis),
            ("nginx", load::nginx_bundle().unwrap(), load::nginx),
        ];
        for (program, bundle, load) in programs {
            let name = format!("loop-{program}");
            let generated = recorded(engine, &name, &bundle, load);
            let what = format!("{program} in {}", engine.name());
            is_enough(&what, &generated.profile, &scope, |profile| {
                let bundle = bundle.clone().seccomp(profile.clone());
                let mut container = Contained::run(engine, &name, &bundle)?;
                load(&mut container, REQUESTS).map_err(|error| error.context(container.log()))
            });
        }
    }

    #[test]
    fn redis_and_nginx_run_in_docker_under_their_profiles() {
        let Some(_serial) = kernel() else { return };
        in_engine(&Docker::start().unwrap());
    }

    #[test]
    fn redis_and_nginx_run_in_podman_under_their_profiles() {
        let Some(_serial) = kernel() else { return };
        in_engine(&Podman::new().unwrap());
    }

    #[test]
    fn redis_and_nginx_run_in_containerd_under_their_profiles() {
        let Some(_serial) = kernel() else { return };
        in_engine(&Containerd::start().unwrap());
    }

    /// crun has a base of its own.
    #[test]
    fn redis_runs_in_crun_under_its_profile() {
        let Some(_serial) = kernel() else { return };
        let (name, bundle) = (unique("loop-crun"), load::redis_bundle().unwrap());
        let run = |bundle: &Bundle| {
            let mut container = Container::new(&name, bundle, &Runtime::crun()?)?;
            container.spawn()?;
            load::redis(&mut container, REQUESTS).map_err(|error| error.context(container.log()))
        };
        let running = Record::new(["--container", &name, "--wait=60s"]).start();
        run(&bundle).unwrap();
        let recorded = running.end(PATIENCE);
        recorded.complete();
        let generated = generate_for("crun", &[recorded.observation_path()]);
        let scope = Scope::new("loop-crun").unwrap();
        is_enough("redis in crun", &generated.profile, &scope, |profile| {
            let bundle = bundle.clone().seccomp(profile.clone());
            run(&bundle.cgroups_path(scope.child("c")))
        });
    }
}
