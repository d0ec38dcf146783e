//! An engine that is not there, elsewhere or says no: a clear error each, nothing left running, nothing half-written.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod root {
    use seccast_kernel::engine::{Workloads, run_kept};
    use seccast_kernel::{kernel, seccast};
    use seccast_rig::engine::{Containerd, Docker, Podman};
    use seccast_rig::{Bundle, Engine, Runtime, cgroup::Mounts, process};
    use std::collections::BTreeSet;
    use std::ffi::OsString;
    use std::fs;
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A folder for files and one for temporary ones: both have to be empty afterwards.
    struct Folder {
        files: tempfile::TempDir,
        work: tempfile::TempDir,
    }

    impl Folder {
        fn new() -> Self {
            let (files, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            Self { files, work }
        }

        /// `seccast record ARGS -- COMMAND`, in the command's environment.
        fn record(&self, args: &[&str], command: Option<&Command>) -> Command {
            let mut seccast = Command::new(seccast());
            seccast.args(["record", "-o", "p.json", "--observation", "o.json"]);
            seccast.args(args).current_dir(self.files.path());
            if let Some(command) = command {
                seccast
                    .arg("--")
                    .arg(command.get_program())
                    .args(command.get_args());
                for (name, value) in command.get_envs() {
                    match value {
                        Some(value) => seccast.env(name, value),
                        None => seccast.env_remove(name),
                    };
                }
            }
            seccast.env("TMPDIR", self.work.path());
            seccast
        }

        /// It ends with this code, says all of this, and leaves nothing.
        fn fails(&self, mut seccast: Command, code: i32, says: &[&str]) {
            let output = process::output(&mut seccast, PATIENCE).unwrap();
            let stderr = &output.stderr;
            assert_eq!(output.status.code(), Some(code), "{seccast:?}\n{stderr}");
            for words in says {
                assert!(stderr.contains(words), "nothing of {words:?}:\n{stderr}");
            }
            assert!(!stderr.contains("panicked"), "{stderr}");
            self.is_clean(stderr);
            println!("{code}: {}", stderr.lines().last().unwrap());
        }

        fn is_clean(&self, stderr: &str) {
            for folder in [&self.files, &self.work] {
                assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{stderr}");
            }
            // Of clients that were asked, and of streams of events, every one has the folder in its environment.
            let mark = self.work.path().to_str().unwrap().as_bytes();
            let lives = || {
                let processes = fs::read_dir("/proc").unwrap().flatten();
                let environments =
                    processes.filter_map(|entry| fs::read(entry.path().join("environ")).ok());
                let mut environments = environments;
                environments.any(|text| text.windows(mark.len()).any(|part| part == mark))
            };
            process::poll("clients to be gone", PATIENCE, || Ok(!lives())).unwrap();
        }
    }

    fn command(line: &str) -> Command {
        let mut words = line.split(' ');
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        for name in [
            "DOCKER_HOST",
            "DOCKER_CONTEXT",
            "CONTAINER_HOST",
            "CONTAINERD_ADDRESS",
        ] {
            command.env_remove(name);
        }
        command
    }

    /// An engine's client, wherever it is, with other words than those of the private engine.
    fn client(engine: &dyn Engine, line: &str) -> Command {
        command(&format!(
            "{} {line}",
            engine.client().get_program().display()
        ))
    }

    #[test]
    fn an_engine_that_is_not_there_or_elsewhere_is_refused_with_the_reason() {
        let Some(_serial) = kernel() else { return };
        let folder = Folder::new();
        let docker = Docker::start().unwrap();
        let (podman, containerd) = (Podman::new().unwrap(), Containerd::start().unwrap());
        let refused = |command: Command, code: i32, says: &[&str]| {
            let says = [&["CMD was not run"], says].concat();
            folder.fails(folder.record(&[], Some(&command)), code, &says);
        };
        // No client, or none that can be executed.
        for engine in ["docker", "podman", "ctr"] {
            let line = format!("/nonexistent/{engine} run image name");
            refused(command(&line), 127, &["/nonexistent", "install it"]);
        }
        let file = tempfile::tempdir().unwrap();
        let file = file.path().join("docker");
        fs::write(&file, "").unwrap();
        let line = format!("{} run image", file.display());
        refused(command(&line), 126, &[file.to_str().unwrap()]);
        // Nobody listens.
        let socket = "unix:///nonexistent.sock";
        let says = ["does not answer", "nonexistent.sock"];
        refused(
            client(&docker, &format!("--host {socket} run image")),
            125,
            &says,
        );
        let with = |mut command: Command, name: &str, value: &str| {
            command.env(name, value);
            command
        };
        let plain = |engine: &dyn Engine| client(engine, "run image");
        refused(with(plain(&docker), "DOCKER_HOST", socket), 125, &says);
        refused(
            client(&podman, &format!("--url {socket} run image")),
            125,
            &says,
        );
        refused(
            client(&containerd, "--address /nonexistent.sock run image c"),
            125,
            &says,
        );
        // Another machine.
        for host in ["tcp://192.0.2.1:2375", "ssh://user@192.0.2.1"] {
            let says = [host, "another machine"];
            refused(client(&docker, &format!("-H {host} run image")), 125, &says);
            refused(with(plain(&docker), "DOCKER_HOST", host), 125, &says);
            refused(with(plain(&podman), "CONTAINER_HOST", host), 125, &says);
        }
        // Another kernel, which is not there and need not be.
        for runtime in ["runsc", "kata-runtime", "io.containerd.kata.v2"] {
            for engine in [&docker as &dyn Engine, &podman, &containerd] {
                let mut command = engine.client();
                command.args(["run", "--runtime", runtime, "image", "c"]);
                refused(command, 125, &[runtime, "kernel of its own"]);
            }
        }
        // By name.
        let name = |args: &[&str], host: &str, says: &[&str]| {
            let mut seccast = folder.record(args, None);
            let path = seccast_kernel::engine::path_with(&docker);
            seccast.env("DOCKER_HOST", host).env("PATH", path);
            folder.fails(seccast, 3, says);
        };
        let unknown = ["--container", "nobody-of-this-name"];
        name(&unknown, &docker.host(), &["not known to docker", "--wait"]);
        name(
            &unknown,
            socket,
            &["docker does not answer", "nonexistent.sock"],
        );
        let args =
            |rest: [&'static str; 2]| [&unknown[..], &["--engine", "docker"], &rest].concat();
        name(
            &args(["--socket", "/nonexistent.sock"]),
            socket,
            &["is no socket"],
        );
        name(&args(["--for", "1s"]), socket, &["does not answer"]);
        name(
            &args(["--for", "1s"]),
            "tcp://192.0.2.1:2375",
            &["another machine"],
        );
    }

    /// Groups and containers of an engine.
    fn left(engine: &dyn Engine) -> BTreeSet<OsString> {
        let mounts = Mounts::read().unwrap();
        let path = engine.cgroup_of("");
        let parent = mounts.dir(path.rsplit_once('/').unwrap().0);
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.path().is_dir());
        let groups = folders.map(|entry| entry.file_name());
        groups
            .chain(engine.containers().unwrap().into_iter().map(Into::into))
            .collect()
    }

    #[test]
    fn a_container_that_does_not_start_leaves_nothing_and_its_clients_code() {
        let Some(_serial) = kernel() else { return };
        let folder = Folder::new();
        let workloads = Workloads::new(&["x86_64"]);
        let engines = seccast_rig::engine::all().unwrap();
        for engine in &engines {
            let engine = engine.as_ref();
            let before = left(engine);
            let starts_nothing = |command: &Command, says: &[&str]| {
                // What the client says without seccast, it says with it.
                let mut alone = Command::new(command.get_program());
                alone.args(command.get_args());
                for (name, value) in command.get_envs() {
                    match value {
                        Some(value) => alone.env(name, value),
                        None => alone.env_remove(name),
                    };
                }
                let code = process::output(&mut alone, PATIENCE)
                    .unwrap()
                    .status
                    .code()
                    .unwrap();
                assert_ne!(code, 0);
                let code_is = format!("exit code {code}");
                let says = [&["nothing was written", &code_is], says].concat();
                folder.fails(folder.record(&[], Some(command)), code, &says);
                assert_eq!(left(engine), before, "{}", engine.name());
            };
            let bundle = workloads.bundle(&["/nonexistent"]);
            starts_nothing(&engine.run("bad", &bundle).unwrap(), &["/nonexistent"]);
            let mut missing = engine.client();
            let pull: &[&str] = if engine.name() == "ctr" {
                &[]
            } else {
                &["--pull=never"]
            };
            missing
                .arg("run")
                .args(pull)
                .args(["localhost/none:1", "bad"]);
            starts_nothing(&missing, &["localhost/none:1"]);
        }
        // runc has no image, but a bundle.
        let mut runc = Runtime::runc().unwrap().command();
        runc.args(["run", "-b", "/nonexistent", "bad"]);
        folder.fails(
            folder.record(&[], Some(&runc)),
            125,
            &["/nonexistent/config.json"],
        );
    }

    /// What is written when a recording ends.
    const WRITTEN: [&str; 3] = ["o.json", "p.json", "p.report.json"];

    /// Ended at once, by hand or since nothing can be written: what it started is not left running.
    #[test]
    fn a_recording_that_breaks_off_leaves_no_container() {
        let Some(_serial) = kernel() else { return };
        for engine in &seccast_rig::engine::all().unwrap() {
            let engine = engine.as_ref();
            for options in [&["-d"] as &[&str], &[]] {
                let tries = (1..=5).find(|_| breaks_off(engine, options));
                println!("{} {options:?}: {tries:?}", engine.name());
                assert!(tries.is_some(), "it was never broken off");
            }
        }
    }

    /// Breaks off a recording; whether that was before its end: an engine kills what does not stop in ten seconds.
    fn breaks_off(engine: &dyn Engine, options: &[&str]) -> bool {
        // As the first process of its namespace it does not hear SIGTERM.
        let workloads = Workloads::new(&["plain"]);
        let bundle: Bundle = workloads.bundle(&["/plain", "600000"]);
        let (folder, before) = (Folder::new(), left(engine));
        let client = run_kept(engine, "broken", &bundle, options);
        let mut seccast = folder.record(&[], Some(&client));
        let log = tempfile::NamedTempFile::new().unwrap();
        seccast.stdin(Stdio::null()).stdout(Stdio::null());
        let mut seccast = seccast.stderr(log.reopen().unwrap()).spawn().unwrap();
        let runs = || Ok(engine.pid("broken").unwrap().is_some_and(runs_itself));
        process::poll("the container", PATIENCE, runs).unwrap();
        // The recorder has seen it.
        let seen = || Ok(fs::read_to_string(log.path())?.contains("is starting"));
        process::poll("the recorder", PATIENCE, seen).unwrap();
        let pid = i32::try_from(seccast.id()).unwrap();
        // The first goes to CMD; two at once could be one. It has been taken when what was asked for after it is done, the
        // second time at the latest: the first answer may be of a round that had begun before.
        let first = Instant::now();
        process::signal(pid, libc::SIGTERM).unwrap();
        for times in 1..=2 {
            if seccast.try_wait().unwrap().is_some() {
                break;
            }
            process::signal(pid, libc::SIGUSR1).unwrap();
            let answered = || {
                let said = fs::read_to_string(log.path())?;
                let answers = said.matches("wrote the state so far").count();
                Ok(answers == times || seccast.try_wait()?.is_some())
            };
            process::poll("the state so far", PATIENCE, answered).unwrap();
        }
        let early = seccast.try_wait().unwrap();
        if early.is_none() {
            for name in WRITTEN {
                fs::remove_file(folder.files.path().join(name)).unwrap();
            }
            process::signal(pid, libc::SIGTERM).unwrap();
        }
        let status = process::wait(&mut seccast, PATIENCE).unwrap().unwrap();
        let said = fs::read_to_string(log.path()).unwrap();
        println!("{} {options:?}: {status}", engine.name());
        assert!(
            early.is_none() || first.elapsed() >= Duration::from_secs(10),
            "{said}"
        );
        let gone = || Ok(engine.pid("broken").unwrap().is_none());
        process::poll(&format!("the end\n{said}"), PATIENCE, gone).unwrap();
        // What was recorded until then is written, whole.
        for name in WRITTEN {
            fs::remove_file(folder.files.path().join(name)).unwrap();
        }
        folder.is_clean(&said);
        engine.remove("broken").unwrap();
        assert_eq!(left(engine), before);
        early.is_none()
    }

    /// The runtime has executed the program.
    fn runs_itself(pid: i32) -> bool {
        let comm = Path::new("/proc").join(pid.to_string()).join("comm");
        fs::read_to_string(comm).is_ok_and(|comm| comm.trim() == "plain")
    }
}
