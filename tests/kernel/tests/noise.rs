//! Runtime noise: whatever a container is started with, and by what, the application's calls are the application's alone.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod root {
    use seccast_kernel::enforcement::PATIENCE;
    use seccast_kernel::engine::{Workloads, run_kept};
    use seccast_kernel::repeats;
    use seccast_kernel::{Call, Record, Recorded, calls, kernel, truth};
    use seccast_model::observation::{Observation, Phase};
    use seccast_rig::{Bundle, BusyLoops, Container, Runtime, engine, rootfs, unique};
    use seccast_workloads as workloads;
    use std::collections::{BTreeMap, BTreeSet};
    use std::fmt::Write as _;
    use std::path::Path;
    use std::time::Instant;

    /// After so many wrong sets the answer is known, and waiting for containers that were missed takes long.
    const ENOUGH: usize = 5;

    /// One way to start the workload.
    struct Variant {
        name: &'static str,
        container: String,
        bundle: Bundle,
        runtime: Runtime,
        /// A program that is started in the running container.
        exec: bool,
    }

    impl Variant {
        /// Starts the container beside an armed recording, and waits for the end of both.
        fn run(&self) -> Recorded {
            if !self.exec {
                return self.run_once(&self.bundle).unwrap();
            }
            // It lives for two seconds, and twice as long each time that the machine was too slow for an exec in them.
            for milliseconds in ["2000", "4000", "8000", "16000", "32000"] {
                match self.run_once(&self.bundle.clone().args(&[milliseconds])) {
                    Ok(recorded) => return recorded,
                    Err(error) => println!("exec within {milliseconds} ms: {error:#}"),
                }
            }
            panic!("nothing can be executed in the container");
        }

        /// An error when the container's end came before that of what was executed in it.
        fn run_once(&self, bundle: &Bundle) -> anyhow::Result<Recorded> {
            let recording = Record::new(["--container", &self.container, "--wait=60s"]).start();
            let mut container = Container::new(&self.container, bundle, &self.runtime).unwrap();
            container.spawn().unwrap();
            let execute = || {
                // What enters before its program runs belongs to the runtime.
                container.wait_started()?;
                let output = container.exec(["/other"])?;
                anyhow::ensure!(output.status.success(), "{}", output.stderr);
                Ok(())
            };
            let executed = if self.exec { execute() } else { Ok(()) };
            let status = container.wait(PATIENCE).unwrap().unwrap();
            assert_eq!(status.code(), Some(0), "{}: {}", self.name, container.log());
            let recorded = recording.end(PATIENCE);
            executed.map(|()| recorded)
        }
    }

    /// A root with the workload, and as `/other` one that calls what the workload does not.
    fn root_folder(dir: &Path) {
        rootfs::with_program(dir, &workloads::path("plain")).unwrap();
        std::fs::copy(workloads::path("signal"), dir.join("other")).unwrap();
    }

    fn variants(dir: &Path) -> Vec<Variant> {
        let root = dir.join("root");
        root_folder(&root);
        let renamed = dir.join("another-name");
        std::fs::copy(Runtime::runc().unwrap().program(), &renamed).unwrap();
        let runc = || Runtime::runc().unwrap();
        let bundle = || Bundle::new(&root, ["/program", "0"]);
        let variant = |name, bundle, runtime| Variant {
            name,
            container: unique(&format!("noise-{name}")),
            bundle,
            runtime,
            exec: false,
        };
        let other = workloads::path("signal");
        let other = other.to_str().unwrap();
        vec![
            variant("plain", bundle(), runc()),
            variant("no-new-privs", bundle().no_new_privs(true), runc()),
            Variant {
                exec: true,
                ..variant("exec", Bundle::new(&root, ["/program"]), runc())
            },
            variant("renamed", bundle(), Runtime::at(renamed)),
            variant(
                "mount-namespace",
                bundle(),
                runc().through(&["unshare", "--mount", "--propagation", "private"]),
            ),
            // Calls what the workload does not: none of it may be in the application's set.
            variant(
                "create-hook",
                bundle().hook("createContainer", other, &["other"]),
                runc(),
            ),
            // Is part of the application, so it has to be the workload.
            variant(
                "start-hook",
                bundle().hook("startContainer", "/program", &["program"]),
                runc(),
            ),
        ]
    }

    /// Calls as text, to be compared byte for byte.
    fn text(calls: BTreeSet<Call>) -> String {
        let mut text = String::new();
        for (arch, name) in calls {
            writeln!(text, "{arch} {name}").unwrap();
        }
        text
    }

    /// What a recording says of a phase, or why it says nothing.
    fn of_phase(recorded: &Recorded, phase: Phase) -> String {
        match &recorded.observation {
            Some(observation) => {
                let _: &Observation = recorded.complete();
                text(calls(observation, phase))
            }
            None => format!("no observation, {}", recorded.status),
        }
    }

    #[test]
    fn the_application_set_is_the_same_every_time_however_it_is_started() {
        let Some(_serial) = kernel() else { return };
        let dir = tempfile::Builder::new()
            .prefix("seccast-test-")
            .tempdir()
            .unwrap();
        let variants = variants(dir.path());
        let expected = text(truth(workloads::program("plain")));
        let other = text(truth(workloads::program("signal")));
        let mut wrong: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let (mut in_hook, mut in_exec) = (0, 0);
        let start = Instant::now();
        let _busy = BusyLoops::start(2);
        let wanted = repeats(15);
        let mut rounds = 0;
        while rounds < wanted && wrong.values().map(Vec::len).sum::<usize>() < ENOUGH {
            rounds += 1;
            // All of a round at once: the recordings are beside each other as well.
            let recorded: Vec<Recorded> = std::thread::scope(|scope| {
                let threads: Vec<_> = variants
                    .iter()
                    .map(|variant| scope.spawn(|| variant.run()))
                    .collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap())
                    .collect()
            });
            for (variant, recorded) in variants.iter().zip(&recorded) {
                let seen = of_phase(recorded, Phase::App);
                if seen != expected {
                    wrong
                        .entry(variant.name)
                        .or_default()
                        .push(format!("round {rounds}: {seen}\n{}", recorded.stderr));
                }
                match variant.name {
                    "create-hook" => {
                        in_hook += usize::from(of_phase(recorded, Phase::Hook) == other);
                    }
                    "exec" => in_exec += usize::from(of_phase(recorded, Phase::Exec) == other),
                    _ => {}
                }
            }
        }
        println!(
            "noise: {rounds} rounds beside two busy loops, {:.0?}",
            start.elapsed()
        );
        for variant in &variants {
            let bad = wrong.get(variant.name).map_or(0, Vec::len);
            println!(
                "{:<16} the application's set is the workload's, {} of {rounds}",
                variant.name,
                rounds - bad
            );
        }
        println!("create-hook      what the hook called is in phase hook, {in_hook} of {rounds}");
        println!(
            "exec             what was executed beside it is in phase exec, {in_exec} of {rounds}"
        );
        let wrong: String = wrong
            .iter()
            .map(|(name, wrong)| format!("{name}\n{}\n", wrong.join("\n")))
            .collect();
        assert!(wrong.is_empty(), "expected\n{expected}got\n{wrong}");
        assert_eq!((in_hook, in_exec), (wanted, wanted));
    }

    #[test]
    fn the_application_set_is_the_same_in_every_engine_and_runtime() {
        let Some(_serial) = kernel() else { return };
        let rounds = repeats(2);
        let workloads = Workloads::new(&["plain"]);
        let bundle = workloads.bundle(&["/plain"]);
        let expected = text(truth(workloads::program("plain")));
        let engines = engine::all().unwrap();
        let mut same: BTreeMap<String, usize> = BTreeMap::new();
        let mut is_same = |what: &str, recorded: &Recorded| {
            let seen = of_phase(recorded, Phase::App);
            assert_eq!(seen, expected, "{what}\n{}", recorded.stderr);
            *same.entry(what.to_owned()).or_default() += 1;
        };
        let start = Instant::now();
        let _busy = BusyLoops::start(2);
        for round in 0..rounds {
            for engine in &engines {
                let engine = engine.as_ref();
                // What is standard input and output is a terminal, a pipe or a file, and the environment is the user's.
                let set = bundle.clone().env("LANG=de_DE.UTF-8").no_new_privs(true);
                let name = format!("noise-{round}");
                let plain = run_kept(engine, &name, &bundle, &[]);
                is_same(engine.name(), &Record::command(&[], &plain).run(PATIENCE));
                let changed = match engine.name() {
                    "ctr" => run_kept(engine, &format!("{name}-set"), &set, &[]),
                    _ => run_kept(
                        engine,
                        &format!("{name}-set"),
                        &set,
                        &["-i", "--init=false"],
                    ),
                };
                let what = format!("{} with options", engine.name());
                is_same(&what, &Record::command(&[], &changed).run(PATIENCE));
            }
            let work = tempfile::tempdir().unwrap();
            let name = unique("noise-runc");
            bundle.write(&name, work.path()).unwrap();
            let mut runc = Runtime::runc().unwrap().command();
            runc.args(["run", "-b"]).arg(work.path()).arg(&name);
            is_same("runc", &Record::command(&[], &runc).run(PATIENCE));
            let name = unique("noise-crun");
            let running = Record::new(["--container", &name, "--wait=60s"]).start();
            let crun = Runtime::crun().unwrap();
            let mut container = Container::new(&name, &bundle, &crun).unwrap();
            assert!(
                container.run(PATIENCE).unwrap().success(),
                "{}",
                container.log()
            );
            is_same("crun", &running.end(PATIENCE));
            let program = workloads::path("plain");
            let command = Record::program(&program, [""; 0]);
            is_same("command", &command.run(PATIENCE));
            let program = program.to_str().unwrap();
            let traced = Record::new(["--backend", "ptrace", "--", program]);
            is_same("command by ptrace", &traced.run(PATIENCE));
        }
        println!(
            "in {:.0?} beside two busy loops, byte for byte:\n{expected}",
            start.elapsed()
        );
        for (what, count) in &same {
            println!("{what:<20} {count} of {rounds}");
            assert_eq!(*count, rounds);
        }
        assert_eq!(same.len(), 10);
    }
}
