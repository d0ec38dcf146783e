//! `seccast verify` and `seccast run`: verdicts of real programs under real filters, in front of each engine.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod root {
    use seccast_kernel::enforcement::{allowed, committed, with_action};
    use seccast_kernel::engine::{Workloads, run_kept};
    use seccast_kernel::{Record, kernel, long_enough, seccast};
    use seccast_model::arch::Arch;
    use seccast_model::observation::{Observation, Phase};
    use seccast_rig::engine::{self, Contained, Docker};
    use seccast_rig::process::{self, Output};
    use seccast_rig::{Bundle, Engine, Runtime, Server as _, load, unique};
    use seccast_workloads::path;
    use serde_json::{Value, json};
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::time::Duration;
    use tempfile::TempDir;

    const PATIENCE: Duration = Duration::from_secs(90);
    const REQUESTS: u32 = 50;

    /// What `seccast verify --format json` said.
    struct Verdict {
        output: Output,
        json: Value,
        patched: Option<Value>,
    }

    fn read(path: &Path) -> Option<Value> {
        Some(serde_json::from_slice(&std::fs::read(path).ok()?).unwrap())
    }

    fn write(folder: &TempDir, profile: &Value) -> PathBuf {
        let path = folder.path().join("p.json");
        std::fs::write(&path, profile.to_string()).unwrap();
        path
    }

    /// `seccast VERB WORDS -- COMMAND`, with the command's variables.
    fn with_command(words: &[&str], command: &Command) -> Command {
        let mut seccast = Command::new(seccast());
        seccast.args(words).arg("--");
        seccast.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => seccast.env(name, value),
                None => seccast.env_remove(name),
            };
        }
        seccast
    }

    fn verify(profile: &Value, words: &[&str], command: &Command) -> Verdict {
        verify_within(profile, words, command, PATIENCE)
    }

    fn verify_within(
        profile: &Value,
        words: &[&str],
        command: &Command,
        limit: Duration,
    ) -> Verdict {
        let folder = tempfile::tempdir().unwrap();
        let profile = write(&folder, profile);
        let [verdict, patched] = ["v.json", "patched.json"].map(|name| folder.path().join(name));
        let [profile, out, new] =
            [&profile, &verdict, &patched].map(|path| path.display().to_string());
        let mut all = vec![
            "verify",
            "--profile",
            &profile,
            "--format",
            "json",
            "-o",
            &out,
        ];
        all.extend(["--patched", &new]);
        all.extend(words);
        let output = process::output(&mut with_command(&all, command), limit).unwrap();
        Verdict {
            json: read(&verdict).unwrap_or_default(),
            patched: read(&patched),
            output,
        }
    }

    impl Verdict {
        fn code(&self) -> Option<i32> {
            self.output.status.code()
        }

        fn findings(&self) -> Vec<(&str, &Value)> {
            let runs = self.json["runs"].as_array().into_iter().flatten();
            runs.flat_map(|run| run["findings"].as_array().unwrap())
                .map(|finding| (finding["name"].as_str().unwrap_or("-"), finding))
                .collect()
        }

        #[track_caller]
        fn passed(&self) {
            let stderr = &self.output.stderr;
            assert_eq!(self.code(), Some(0), "{stderr}{}", self.json);
            assert_eq!(self.json["passed"], true, "{stderr}");
            assert!(self.findings().is_empty() && self.patched.is_none());
        }

        /// It failed for this one call.
        #[track_caller]
        fn failed(&self, name: &str) -> &Value {
            assert_eq!(self.code(), Some(1), "{}", self.output.stderr);
            assert_eq!(self.json["passed"], false);
            let found = self.findings();
            let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, [name], "{}", self.output.stderr);
            found[0].1
        }
    }

    /// What `x86_64` calls, and what starts it.
    fn own() -> Value {
        json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 38,
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{
                "names": [
                    "execve", "exit_group", "faccessat2", "getpid", "getppid", "getuid", "openat", "read", "uname"
                ],
                "action": "SCMP_ACT_ALLOW",
            }],
        })
    }

    fn without(profile: &Value, name: &str) -> Value {
        with_action(profile, name, "SCMP_ACT_ERRNO")
    }

    #[test]
    fn a_command_is_judged_under_its_profile() {
        let Some(_serial) = kernel() else { return };
        let command = Command::new(path("x86_64"));
        verify(&own(), &[], &command).passed();

        let mut cut = own();
        let names = cut["syscalls"][0]["names"].as_array_mut().unwrap();
        names.retain(|name| name != "getppid");
        let verdict = verify(&cut, &[], &command);
        let finding = verdict.failed("getppid");
        assert_eq!(finding["denied"]["count"], 23);
        assert_eq!(finding["denied"]["result"], -38);
        assert_eq!(finding["processes"][0]["comm"], "x86_64");
        assert_eq!(finding["processes"][0]["count"], 23);
        let patched = verdict.patched.as_ref().unwrap();
        assert_eq!(allowed(patched), allowed(&own()));
        verify(patched, &[], &command).passed();

        let folder = tempfile::tempdir().unwrap();
        let given = write(&folder, &cut).display().to_string();
        let words = ["verify", "--profile", &given, "--format", "junit"];
        let junit = process::output(&mut with_command(&words, &command), PATIENCE).unwrap();
        assert_eq!(junit.status.code(), Some(1), "{}", junit.stderr);
        let says = [
            "tests=\"1\" failures=\"1\"",
            "type=\"denied\"",
            "getppid (x86_64, app): 23 times ENOSYS",
        ];
        for part in says {
            assert!(junit.stdout.contains(part), "{part}: {}", junit.stdout);
        }

        // Each action is told by what it does.
        let errno = json!({ "names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13 });
        for (rule, count, result) in [
            (errno, 23, -13),
            (
                json!({ "names": ["getppid"], "action": "SCMP_ACT_TRAP" }),
                1,
                110,
            ),
            (
                json!({ "names": ["getppid"], "action": "SCMP_ACT_KILL_PROCESS" }),
                1,
                110,
            ),
            (
                json!({ "names": ["getppid"], "action": "SCMP_ACT_KILL" }),
                1,
                110,
            ),
        ] {
            let mut profile = cut.clone();
            profile["syscalls"]
                .as_array_mut()
                .unwrap()
                .push(rule.clone());
            let verdict = verify(&profile, &[], &command);
            let denied = &verdict.failed("getppid")["denied"];
            assert_eq!(
                (&denied["count"], &denied["result"]),
                (&json!(count), &json!(result)),
                "{rule}"
            );
            verify(verdict.patched.as_ref().unwrap(), &[], &command).passed();
        }
        let mut log = cut.clone();
        let rule = json!({ "names": ["getppid"], "action": "SCMP_ACT_LOG" });
        log["syscalls"].as_array_mut().unwrap().push(rule);
        let verdict = verify(&log, &[], &command);
        assert_eq!(
            verdict.failed("getppid")["would_be"]["action"],
            "SCMP_ACT_LOG"
        );
    }

    #[test]
    fn a_value_that_is_missing_is_proposed_and_not_the_whole_call() {
        let Some(_serial) = kernel() else { return };
        let command = Command::new(path("plain"));
        let rule = |value: u32| {
            json!({ "names": ["fcntl"], "action": "SCMP_ACT_ALLOW", "args": [
                { "index": 1, "op": "SCMP_CMP_MASKED_EQ", "value": u32::MAX, "valueTwo": value },
            ] })
        };
        let names = [
            "execve",
            "exit_group",
            "futex",
            "getpid",
            "getppid",
            "getuid",
            "nanosleep",
        ];
        let mut profile = own();
        profile["syscalls"][0]["names"] = json!(names);
        profile["syscalls"].as_array_mut().unwrap().push(rule(4));
        // plain calls fcntl(-1, 0).
        let verdict = verify(&profile, &[], &command);
        let finding = verdict.failed("fcntl");
        assert_eq!(finding["denied"]["count"], 1);
        assert_eq!(finding["samples"][0][1], "0x0");
        let patched = verdict.patched.as_ref().unwrap();
        let rules = patched["syscalls"].as_array().unwrap();
        assert_eq!(rules.len(), 3, "{patched}");
        assert_eq!(rules[0]["names"], json!(names));
        verify(patched, &[], &command).passed();
    }

    #[test]
    fn a_profile_for_another_abi_kills_and_says_which() {
        let Some(_serial) = kernel() else { return };
        let verdict = verify(&own(), &[], &Command::new(path("int80")));
        assert_eq!(verdict.code(), Some(1), "{}", verdict.output.stderr);
        let found = verdict.findings();
        assert!(
            found.iter().any(|(_, finding)| finding["arch"] == "i386"),
            "{}",
            verdict.json
        );
        let patched = verdict.patched.as_ref().unwrap();
        assert_eq!(
            patched["architectures"],
            json!(["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"])
        );
    }

    /// redis under the committed profile, then without a call that it makes at its start and survives without.
    fn redis_in(engine: &dyn Engine) {
        const CONTROL: &str = "sysinfo";
        let bundle = load::redis_bundle().unwrap();
        let profile = committed("redis").profile;
        for (profile, missing) in [
            (profile.clone(), None),
            (without(&profile, CONTROL), Some(CONTROL)),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let out = folder.path().join("v.json").display().to_string();
            let given = write(&folder, &profile).display().to_string();
            let words = [
                "verify",
                "--profile",
                &given,
                "--format",
                "json",
                "-o",
                &out,
            ];
            let name = "verify-redis";
            let mut command = with_command(&words, &engine.run(name, &bundle).unwrap());
            let mut container = Contained::spawn(engine, name, &mut command).unwrap();
            let loaded = load::redis(&mut container, REQUESTS);
            let log = container.log();
            // The load wants an exit status of 0 as well, which a verdict of "failed" is not.
            if let (Err(error), None) = (loaded, missing) {
                panic!("{}: {error:#}\n{log}", engine.name());
            }
            assert!(
                log.contains("ready to exit, bye bye"),
                "{}: {log}",
                engine.name()
            );
            let status = container.wait(PATIENCE).unwrap().unwrap();
            let json = read(Path::new(&out)).unwrap();
            let findings = json["runs"][0]["findings"].as_array().unwrap();
            let names: Vec<_> = findings
                .iter()
                .map(|finding| finding["name"].as_str())
                .collect();
            println!("{}: {names:?}\n{}", engine.name(), container.log());
            match missing {
                None => {
                    assert_eq!(status.code(), Some(0), "{log}");
                    assert!(names.is_empty() && json["passed"] == true, "{json}");
                }
                Some(missing) => {
                    assert_eq!(status.code(), Some(1), "{log}");
                    assert_eq!(names, [Some(missing)], "{json}");
                    let by = findings[0]["processes"][0]["comm"].as_str().unwrap();
                    assert!(by.contains("redis-server"), "{by}");
                    // As it comes; that this is while the program runs is shown in denials.rs.
                    assert!(
                        log.contains(&format!("seccast: denied: {missing}")),
                        "{log}"
                    );
                }
            }
        }
    }

    #[test]
    fn redis_is_judged_in_each_engine() {
        let Some(_serial) = kernel() else { return };
        for engine in engine::all().unwrap() {
            redis_in(engine.as_ref());
        }
    }

    /// `runc run` in a bundle whose configuration says nothing of a filter.
    fn bare(runtime: &Runtime, bundle: &Bundle, folder: &Path, name: &str) -> Command {
        bundle.write(name, folder).unwrap();
        let mut command = runtime.command();
        command.args(["run", "--bundle"]).arg(folder).arg(name);
        command
    }

    #[test]
    fn a_container_that_cannot_start_is_explained() {
        let Some(_serial) = kernel() else { return };
        let workloads = Workloads::new(&["x86_64"]);
        let folder = tempfile::tempdir().unwrap();
        let runc = Runtime::runc().unwrap();
        let command = bare(
            &runc,
            &workloads.bundle(&["/x86_64"]),
            folder.path(),
            &unique("verify-start"),
        );
        let recorded = Record::command(&["--runtime", "runc"], &command).run(PATIENCE);
        recorded.complete();
        verify(&recorded.profile(), &[], &command).passed();
        // runc refuses to go on where it cannot tell what /proc is.
        let verdict = verify(&without(&recorded.profile(), "fstatfs"), &[], &command);
        let finding = verdict.failed("fstatfs");
        assert_eq!(finding["phase"], "runtime");
        assert_eq!(verdict.json["runs"][0]["started"], false);
        verify(verdict.patched.as_ref().unwrap(), &[], &command).passed();
        // Without these it says what is not so, or not why (semantics 2.3); which of the texts is a matter of time.
        const MISLEADING: [&str; 5] = [
            "cannot start an already running container",
            "cannot start a container that has stopped",
            "container process is already dead",
            "container is not running",
            "init process",
        ];
        for name in ["write", "close"] {
            let cut = without(&recorded.profile(), name);
            let verdict = verify(&cut, &[], &command);
            let said = &verdict.output.stderr;
            let said = said
                .lines()
                .find(|line| line.contains("run failed"))
                .unwrap();
            println!("without {name}: {said}");
            assert!(MISLEADING.iter().any(|text| said.contains(text)), "{said}");
            assert!(!said.contains(name), "{said}");
            assert_eq!(verdict.failed(name)["phase"], "runtime");
            verify(verdict.patched.as_ref().unwrap(), &[], &command).passed();

            let given = write(&folder, &cut).display().to_string();
            let words = ["verify", "--profile", &given];
            let text = process::output(&mut with_command(&words, &command), PATIENCE).unwrap();
            assert_eq!(text.status.code(), Some(1), "{}", text.stderr);
            let verdict = text.stdout + &text.stderr;
            for part in [
                &format!("{name} (x86_64, runtime): "),
                "the application did not start: the runtime itself is held to the profile",
                &format!("the smallest change that allows it: allow {name}"),
            ] {
                assert!(verdict.contains(part), "{part}: {verdict}");
            }
        }
        let config = std::fs::read(folder.path().join("config.json")).unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert!(
            config["linux"].get("seccomp").is_none(),
            "the bundle is the user's"
        );
    }

    #[test]
    fn a_complain_profile_breaks_nothing_and_shows_what_it_would() {
        let Some(_serial) = kernel() else { return };
        let docker = Docker::start().unwrap();
        let workloads = Workloads::new(&["x86_64", "signal"]);
        let recorded = Record::command(
            &["--complain"],
            &run_kept(&docker, "complain-1", &workloads.bundle(&["/x86_64"]), &[]),
        )
        .run(PATIENCE);
        let complain = recorded.profile();
        assert_eq!(complain["defaultAction"], "SCMP_ACT_LOG");
        let bundle = workloads.bundle(&["/x86_64"]);
        verify(&complain, &[], &docker.run("complain-2", &bundle).unwrap()).passed();
        let mut cut = complain.clone();
        let names = cut["syscalls"][0]["names"].as_array_mut().unwrap();
        names.retain(|name| name != "getppid" && name != "uname");
        let verdict = verify(&cut, &[], &docker.run("complain-3", &bundle).unwrap());
        assert_eq!(verdict.code(), Some(1), "{}", verdict.output.stderr);
        let names: Vec<_> = verdict.findings().iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["getppid", "uname"]);
        assert_eq!(
            allowed(verdict.patched.as_ref().unwrap()),
            allowed(&complain)
        );
    }

    /// With KILL for its default, the profile ends the same program: `patched` aside, that is what the verdict has to say.
    #[test]
    fn numbers_without_a_name_are_judged_under_a_profile_that_complains() {
        let Some(_serial) = kernel() else { return };
        let mut complain = own();
        complain["defaultAction"] = "SCMP_ACT_LOG".into();
        complain.as_object_mut().unwrap().remove("defaultErrnoRet");
        complain["architectures"] = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
        let command = Command::new(path("unknown"));
        let verdict = verify(&complain, &[], &command);
        assert_eq!(verdict.code(), Some(1), "{}", verdict.output.stderr);
        let mut numbers: Vec<(&str, i64)> = verdict
            .findings()
            .into_iter()
            .inspect(|(name, finding)| {
                assert_eq!(*name, "-");
                assert_eq!(finding["would_be"]["action"], "SCMP_ACT_LOG");
            })
            .map(|(_, finding)| {
                (
                    finding["arch"].as_str().unwrap(),
                    finding["nr"].as_i64().unwrap(),
                )
            })
            .collect();
        numbers.sort_unstable();
        let expect = [
            ("i386", 1001),
            ("i386", 6000),
            ("x32", 1002),
            ("x86_64", -1),
            ("x86_64", 1000),
            ("x86_64", 5000),
        ];
        assert_eq!(numbers, expect);

        let mut kill = complain.clone();
        kill["defaultAction"] = "SCMP_ACT_KILL_PROCESS".into();
        assert!(!verify(&kill, &[], &command).output.status.success());
    }

    /// The program's own filter denies what the profile allows.
    #[test]
    fn a_denial_by_the_programs_own_filter_is_not_the_profiles() {
        let Some(_serial) = kernel() else { return };
        let mut profile = own();
        let names = profile["syscalls"][0]["names"].as_array_mut().unwrap();
        names.extend(["getgid", "prctl", "seccomp"].map(Value::from));
        let command = Command::new(path("own_filter_seccomp"));
        let verdict = verify(&profile, &[], &command);
        verdict.passed();
        let other = &verdict.json["runs"][0]["by_others"][0];
        assert_eq!(
            (&other["name"], &other["denied"]["result"]),
            (&json!("getuid"), &json!(-13))
        );
        assert_eq!(other["blame"]["by"], "another_filter");

        let names = profile["syscalls"][0]["names"].as_array_mut().unwrap();
        names.retain(|name| name != "getgid" && name != "getuid");
        let verdict = verify(&profile, &[], &command);
        let blames: Vec<_> = verdict
            .findings()
            .into_iter()
            .map(|(name, finding)| (name, finding["blame"]["by"].as_str().unwrap()))
            .collect();
        assert_eq!(blames, [("getgid", "profile"), ("getuid", "profile")]);
    }

    #[test]
    fn a_container_that_is_waited_for_is_judged_under_the_filter_that_it_has() {
        let Some(_serial) = kernel() else { return };
        let workloads = Workloads::new(&["x86_64"]);
        let mut cut = own();
        let more = [
            "close",
            "epoll_ctl",
            "fcntl",
            "fstat",
            "fstatfs",
            "futex",
            "getdents64",
            "openat2",
            "statx",
            "write",
            "rt_sigreturn",
        ];
        let names = cut["syscalls"][0]["names"].as_array_mut().unwrap();
        names.extend(more.map(Value::from));
        names.retain(|name| name != "getppid");
        let bundle = workloads
            .bundle(&["/x86_64"])
            .no_new_privs(true)
            .seccomp(cut.clone());
        let folder = tempfile::tempdir().unwrap();
        let runc = Runtime::runc().unwrap();
        let name = unique("verify-wait");
        let mut container = bare(&runc, &bundle, folder.path(), &name);
        let profile = write(&folder, &own());
        let mut seccast = Command::new(seccast());
        seccast.args([
            "verify",
            "--container",
            &name,
            "--wait=30s",
            "--format",
            "json",
            "--profile",
        ]);
        let log = folder.path().join("log");
        let mut seccast = seccast
            .arg(&profile)
            .stdout(std::fs::File::create(folder.path().join("out")).unwrap())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        process::poll("seccast to be armed", PATIENCE, || {
            Ok(std::fs::read_to_string(&log)?.contains("armed"))
        })
        .unwrap();
        process::check(&mut container, PATIENCE).unwrap();
        let status = process::wait(&mut seccast, PATIENCE).unwrap().unwrap();
        let log = std::fs::read_to_string(&log).unwrap();
        assert_eq!(status.code(), Some(1), "{log}");
        let json = read(&folder.path().join("out")).unwrap();
        // The container's own filter denied it, which is not this profile.
        assert_eq!(json["verdict"], "inconclusive", "{json}");
        let other = &json["runs"][0]["by_others"][0];
        assert_eq!(
            (&other["name"], &other["denied"]["count"]),
            (&json!("getppid"), &json!(23)),
            "{json}"
        );
    }

    #[test]
    fn useless_names_are_found_out() {
        let Some(_serial) = kernel() else { return };
        let mut wide = own();
        let names = wide["syscalls"][0]["names"].as_array_mut().unwrap();
        names.extend(["acct", "bpf", "mount"].map(Value::from));
        let verdict = verify(&wide, &["--minimal"], &Command::new(path("x86_64")));
        assert_eq!(verdict.code(), Some(1), "{}", verdict.output.stderr);
        let minimal = &verdict.json["minimal"];
        assert_eq!(minimal["uncalled"], json!(["acct", "bpf", "mount"]));
        // It looks at no result of its calls.
        assert_eq!(minimal["needed"], json!([]));
        let survived = [
            "faccessat2",
            "getpid",
            "getppid",
            "getuid",
            "openat",
            "read",
            "uname",
        ];
        assert_eq!(minimal["survived"], json!(survived), "{minimal}");
    }

    /// For a hook of a container's start: ends a redis by SIGTERM as soon as it has looked for work twenty times and all its threads wait
    /// for some, in epoll_wait or futex. It does that in the background, since runc waits for the hook, and goes when redis has ended.
    const END_WHEN_READY: &str = r#"
        pid=$(sed 's/.*"pid":\([0-9]*\).*/\1/')
        waits() {
            for task in /proc/$pid/task/*; do
                read -r call rest <$task/syscall && case $call in 202 | 232) ;; *) return 1 ;; esac
            done
            [ "$(awk '/^voluntary/ { print $2 }' /proc/$pid/status)" -ge 20 ]
        }
        while grep -q '^State:.[^Z]' /proc/$pid/status; do
            if waits; then
                kill -TERM $pid
                break
            fi
            sleep 0.01
        done </dev/null >/dev/null 2>&1 &
    "#;

    /// As the test of minimality has it: a recorded profile has no name that is not called. Three that are put in are found out.
    #[test]
    fn three_useless_names_in_redis_profile_are_found_out() {
        let Some(_serial) = kernel() else { return };
        const USELESS: [&str; 3] = ["acct", "bpf", "swapon"];
        let folder = tempfile::tempdir().unwrap();
        let runc = Runtime::runc().unwrap();
        let bundle = load::redis_bundle().unwrap();
        let bundle = bundle.hook("poststart", "/bin/sh", &["sh", "-c", END_WHEN_READY]);
        let command = bare(&runc, &bundle, folder.path(), &unique("verify-minimal"));
        let recorded = Record::command(&["--runtime", "runc"], &command).run(PATIENCE);
        recorded.complete();
        let mut wide = recorded.profile();
        let names = wide["syscalls"][0]["names"].as_array_mut().unwrap();
        names.extend(USELESS.map(Value::from));
        // The limit is for what never becomes ready or does not end: without fdatasync it cannot save, and stays.
        let words = ["--minimal", "--for", "5s"];
        let verdict = verify_within(&wide, &words, &command, PATIENCE * 4);
        assert_eq!(verdict.code(), Some(1), "{}", verdict.output.stderr);
        let minimal = &verdict.json["minimal"];
        println!("{minimal}");
        assert_eq!(minimal["uncalled"], json!(USELESS), "{minimal}");
        for (list, name) in [
            ("needed", "bind"),
            ("needed", "listen"),
            ("survived", "sysinfo"),
        ] {
            let names = minimal[list].as_array().unwrap();
            assert!(
                names.iter().any(|one| one == name),
                "{name} is not {list}: {minimal}"
            );
        }
    }

    /// From nothing to a verdict, in front of each engine.
    #[test]
    fn run_is_the_whole_loop_in_each_engine() {
        let Some(_serial) = kernel() else { return };
        let workloads = Workloads::new(&["x86_64"]);
        let bundle = workloads.bundle(&["/x86_64"]);
        for engine in engine::all().unwrap() {
            let folder = tempfile::tempdir().unwrap();
            // With --rm, and without: then the name is wanted twice.
            for (name, command) in [
                ("run-removed", engine.run("run-removed", &bundle).unwrap()),
                (
                    "run-kept",
                    run_kept(engine.as_ref(), "run-kept", &bundle, &[]),
                ),
            ] {
                let profile = folder.path().join(format!("{name}.seccomp.json"));
                let words = ["run", "-o", &profile.display().to_string()];
                let output =
                    process::output(&mut with_command(&words, &command), PATIENCE).unwrap();
                let what = format!("{} {name}\n{}", engine.name(), output.stderr);
                assert_eq!(output.status.code(), Some(0), "{what}");
                assert!(output.stderr.contains("PASS"), "{what}");
                assert!(output.stderr.contains("localhostProfile"), "{what}");
                let names = allowed(&read(&profile).unwrap());
                assert!(
                    names.iter().any(|allowed| allowed == "faccessat2"),
                    "{what}"
                );
                assert!(
                    folder
                        .path()
                        .join(format!("{name}.observation.json"))
                        .exists()
                );
                println!("{what}");
            }
        }
    }

    #[test]
    fn run_stops_a_server_in_time_and_keeps_what_a_failing_command_showed() {
        let Some(_serial) = kernel() else { return };
        let docker = Docker::start().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let profile = folder
            .path()
            .join("redis.seccomp.json")
            .display()
            .to_string();
        let command = docker
            .run("run-redis", &load::redis_bundle().unwrap())
            .unwrap();
        // Served for longer than its start took, so that what it is verified by does the same.
        let observation = folder.path().join("redis.observation.json");
        let served = |_: &Output| {
            let observation =
                Observation::from_json(&std::fs::read(&observation).unwrap()).unwrap();
            let app = &observation.calls[&(Arch::X86_64, Phase::App)];
            let first = app.get("epoll_wait").and_then(|seen| seen.first_ns);
            first.is_some_and(|first| 2 * first < observation.ended_ns - observation.started_ns)
        };
        let run = |limit: &str| {
            let words = ["run", "--for", limit, "-o", &profile];
            process::output(&mut with_command(&words, &command), PATIENCE * 4).unwrap()
        };
        let output = long_enough(run, served);
        assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
        assert!(output.stderr.contains("PASS"), "{}", output.stderr);
        println!("{}", output.stderr);

        let mut fails = Command::new("sh");
        fails.args(["-c", "exit 7"]);
        let output = process::output(
            with_command(&["run", "-o", &profile], &fails).current_dir(folder.path()),
            PATIENCE,
        )
        .unwrap();
        assert_eq!(output.status.code(), Some(7), "{}", output.stderr);
        assert!(folder.path().join("redis.observation.json").exists());
    }
}
