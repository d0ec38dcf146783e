//! Bad input: an error that names what, why and what to do; nothing half-written, nothing replaced.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests, and a test fails by panicking"
)]

mod root {
    use seccast_kernel::{
        Record, kernel, root_with, seccast, seccast_for_everyone, with_own_mounts,
    };
    use seccast_model::observation::Observation;
    use seccast_rig::cgroup::Scope;
    use seccast_rig::process::Output;
    use seccast_rig::{Bundle, Container, Runtime, process, unique};
    use seccast_workloads::path;
    use serde_json::Value;
    use std::ffi::OsStr;
    use std::fs::{self, File};
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
    use std::path::Path;
    use std::process::Command;
    use std::time::Duration;
    use tempfile::TempDir;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A folder where seccast runs, and what is in it afterwards.
    struct Folder {
        folder: TempDir,
        /// Its temporary folder, where it saves an observation that cannot go where it should.
        rescued: TempDir,
    }

    impl Folder {
        fn new() -> Self {
            let (folder, rescued) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            // Others than root run there too.
            fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
            Self { folder, rescued }
        }

        fn path(&self) -> &Path {
            self.folder.path()
        }

        /// A recording cannot be repeated: it was saved, whole, and the message says where.
        fn rescue(&self, stderr: &str) {
            let mut saved = fs::read_dir(self.rescued.path()).unwrap();
            let file = saved.next().unwrap().unwrap().path();
            assert!(saved.next().is_none());
            assert!(stderr.contains(file.to_str().unwrap()), "{stderr}");
            assert!(Observation::from_json(&fs::read(&file).unwrap()).is_ok());
            fs::remove_file(file).unwrap();
        }

        fn file(&self, name: &str) -> String {
            self.path().join(name).to_str().unwrap().to_owned()
        }

        fn names(&self) -> Vec<String> {
            let mut names: Vec<_> = fs::read_dir(self.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }

        /// `seccast ARGS`.
        fn seccast<I: IntoIterator<Item: AsRef<OsStr>>>(&self, args: I) -> Output {
            let mut seccast = Command::new(seccast());
            seccast
                .args(args)
                .current_dir(self.path())
                .env("TMPDIR", self.rescued.path());
            process::output(&mut seccast, PATIENCE).unwrap()
        }

        /// `seccast ARGS` ends with this code and says all of this; and of files there are only these.
        fn fails<I: IntoIterator<Item: AsRef<OsStr>>>(
            &self,
            args: I,
            code: i32,
            says: &[&str],
            files: &[&str],
        ) {
            check(&self.seccast(args), code, says);
            assert_eq!(self.names(), files);
        }
    }

    fn check(output: &Output, code: i32, says: &[&str]) {
        let Output {
            status,
            stdout,
            stderr,
        } = output;
        assert_eq!(status.code(), Some(code), "{stdout}{stderr}");
        for words in says {
            assert!(stderr.contains(words), "nothing of {words:?}:\n{stderr}");
        }
        assert!(!stderr.contains("panicked"), "{stderr}");
        println!("{}", stderr.trim_end());
    }

    /// An observation that is fine.
    fn observation(folder: &Folder) -> Vec<u8> {
        let output = folder.seccast([
            "record",
            "--observation",
            "o.json",
            "-o",
            "p.json",
            "--",
            path("x86_64").to_str().unwrap(),
        ]);
        assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
        let bytes = fs::read(folder.path().join("o.json")).unwrap();
        for name in folder.names() {
            fs::remove_file(folder.path().join(name)).unwrap();
        }
        bytes
    }

    #[test]
    fn a_cgroup_that_is_not_there_is_named_with_its_neighbours() {
        let Some(_serial) = kernel() else { return };
        let folder = Folder::new();
        let scope = Scope::new("bad-input-one").unwrap();
        let wrong = scope.path().replace("one", "onr");
        folder.fails(
            ["record", "--cgroup", &wrong],
            3,
            &[&wrong, scope.path().rsplit('/').next().unwrap()],
            &[],
        );
        // A file of cgroupfs is not a group, nor is what lies outside of the mount.
        let procs = format!("{}/cgroup.procs", scope.path());
        folder.fails(["record", "--cgroup", &procs], 3, &[&procs], &[]);
        folder.fails(
            ["record", "--cgroup", "/../../../tmp"],
            3,
            &["/../../../tmp"],
            &[],
        );
        let vanished = scope.path().to_owned();
        drop(scope);
        folder.fails(["record", "--cgroup", &vanished], 3, &[&vanished], &[]);
    }

    #[test]
    fn a_cgroup_that_vanishes_ends_its_recording() {
        let Some(_serial) = kernel() else { return };
        // With calls in it, the recording is whole.
        let scope = Scope::new("bad-input-gone").unwrap();
        let running = Record::cgroup(scope.path()).start();
        let script = format!(
            "echo $$ >{}/cgroup.procs; exec {}",
            scope.dir().display(),
            path("x86_64").display()
        );
        process::check(Command::new("sh").args(["-c", &script]), PATIENCE).unwrap();
        fs::remove_dir(scope.dir()).unwrap();
        let recorded = running.stop();
        recorded.complete();
        // With none, there is nothing to write.
        let scope = Scope::new("bad-input-gone").unwrap();
        let running = Record::cgroup(scope.path()).start();
        fs::remove_dir(scope.dir()).unwrap();
        let recorded = running.stop();
        recorded.assert_ended(3, &[scope.path()]);
        assert!(recorded.observation.is_none() && !recorded.profile_path().exists());
    }

    #[test]
    fn a_container_that_is_not_there_is_named_with_its_neighbours() {
        let Some(_serial) = kernel() else { return };
        let folder = Folder::new();
        let root = root_with(&["sleeper"]);
        let bundle = Bundle::new(root.path(), ["/sleeper"]);
        let name = unique("bad-input-redis");
        let mut container = Container::new(&name, &bundle, &Runtime::runc().unwrap()).unwrap();
        container.run_detached().unwrap();
        let wrong = name.replace("redis", "reids");
        folder.fails(
            ["record", "--container", &wrong],
            3,
            &[&wrong, &name, "--wait"],
            &[],
        );
        let id = "fedcba9876543210".repeat(4);
        folder.fails(["record", "--container", &id], 3, &[&id], &[]);
        // It is there, but has ended.
        container.kill(libc::SIGTERM).unwrap();
        container.wait(PATIENCE).unwrap();
        folder.fails(["record", "--container", &name], 3, &[&name], &[]);
    }

    #[test]
    fn a_process_that_is_not_there_or_not_alone_is_refused() {
        let Some(_serial) = kernel() else { return };
        let folder = Folder::new();
        let pid_max: i64 = fs::read_to_string("/proc/sys/kernel/pid_max")
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let nobody = pid_max.to_string();
        folder.fails(["record", "--pid", &nobody], 3, &[&nobody], &[]);
        folder.fails(["record", "--pid", "0"], 3, &["no process 0"], &[]);
        folder.fails(["record", "--pid", "-1"], 2, &["-1"], &[]);
        folder.fails(["record", "--pid", "x"], 2, &["x"], &[]);
        // Two in one cgroup, neither the other's child.
        let scope = Scope::new("bad-input-pid").unwrap();
        let mut sleepers: Vec<_> = (0..2)
            .map(|_| {
                let sleeper = Command::new(path("sleeper")).spawn().unwrap();
                scope.add(sleeper.id()).unwrap();
                sleeper
            })
            .collect();
        let pid = sleepers[0].id().to_string();
        let other = sleepers[1].id().to_string();
        let output = folder.seccast(["record", "--pid", &pid, "--for", "1s"]);
        for sleeper in &mut sleepers {
            sleeper.kill().unwrap();
            sleeper.wait().unwrap();
        }
        check(&output, 3, &[&pid, &other, "--whole-cgroup"]);
    }

    #[test]
    fn wrong_usage_ends_with_2() {
        let Some(_serial) = kernel() else { return };
        let folder = Folder::new();
        for args in [
            &["record"] as &[&str],
            &["record", "--"],
            &["record", "--cgroup", "/x", "--pid", "1"],
            &["record", "--cgroup", "/x", "--", "true"],
            &["record", "--for", "soon", "--", "true"],
            &["record", "--for", "-1s", "--", "true"],
            &["record", "--until", "maybe", "--", "true"],
            &["record", "--user", "nobody-of-this-name:x", "--", "true"],
            &["record", "--entered", "perhaps", "--cgroup", "/x"],
            &["record", "--no-such-option", "--", "true"],
            &["generate"],
            &["generate", "--runtime", "docker", "o.json"],
            &["no-such-command"],
        ] {
            let output = folder.seccast(args);
            assert_eq!(output.status.code(), Some(2), "{args:?}: {}", output.stderr);
            assert!(
                !output.stderr.is_empty() && output.stdout.is_empty(),
                "{args:?}"
            );
        }
        assert_eq!(folder.names(), [] as [&str; 0]);
    }

    #[test]
    fn without_privileges_it_says_which_are_missing() {
        let Some(_serial) = kernel() else { return };
        let folder = Folder::new();
        let (_copy, binary) = seccast_for_everyone();
        let scope = Scope::new("bad-input-nobody").unwrap();
        let nobody = |args: &[&str]| {
            let setpriv = [
                "--reuid",
                "65534",
                "--regid",
                "65534",
                "--clear-groups",
                "--inh-caps=-all",
                "--bounding-set=-all",
            ];
            process::output(
                Command::new("setpriv")
                    .args(setpriv)
                    .arg(&binary)
                    .args(args)
                    .current_dir(folder.path()),
                PATIENCE,
            )
            .unwrap()
        };
        check(
            &nobody(&["record", "--cgroup", scope.path(), "--for", "1s"]),
            3,
            &["CAP_BPF", "root"],
        );
        check(
            &nobody(&["record", "--backend", "ebpf", "--", "true"]),
            125,
            &["CAP_BPF", "root"],
        );
        assert_eq!(folder.names(), [] as [&str; 0]);
    }

    #[test]
    fn a_full_disk_leaves_the_old_file_and_no_other() {
        let Some(_serial) = kernel() else { return };
        let folder = Folder::new();
        // One page, taken by the old file.
        let script = r#"
            mount -t tmpfs -o size=4k none "$1" && printf old >"$1/o.json" || exit 99
            "$2" record --observation "$1/o.json" -- "$3"
            code=$?
            ls -A "$1"; cat "$1/o.json"
            exit $code"#;
        let output = process::output(
            with_own_mounts(script)
                .args([folder.path(), seccast(), &path("x86_64")])
                .env("TMPDIR", folder.rescued.path())
                .current_dir(folder.path()),
            PATIENCE,
        )
        .unwrap();
        check(&output, 3, &["o.json", "No space left"]);
        assert_eq!(output.stdout, "o.json\nold");
        folder.rescue(&output.stderr);
    }

    /// What a bad place for output leads to: 125 when CMD was not started, else 3, as CMD ends with 0.
    fn bad_output(folder: &Folder, option: &str, place: &str, says: &[&str]) {
        let ran = folder.path().join("ran");
        let output = folder.seccast([
            "record",
            option,
            place,
            "--",
            "touch",
            ran.to_str().unwrap(),
        ]);
        let code = if ran.exists() { 3 } else { 125 };
        if ran.exists() {
            fs::remove_file(ran).unwrap();
            folder.rescue(&output.stderr);
        }
        check(&output, code, says);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let Some(_serial) = kernel() else { return };
        let folder = Folder::new();
        fs::create_dir(folder.path().join("folder")).unwrap();
        for option in ["--observation", "-o"] {
            bad_output(
                &folder,
                option,
                &folder.file("folder"),
                &[&folder.file("folder"), "is a folder"],
            );
            bad_output(
                &folder,
                option,
                &folder.file("none/x.json"),
                &[&folder.file("none"), "No such file"],
            );
            bad_output(&folder, option, "/proc/1/x.json", &["/proc/1/x.json"]);
            // Beside the default profile no other file may be left.
            assert!(
                folder
                    .names()
                    .iter()
                    .all(|name| name == "folder" || name.contains("touch")),
                "{:?}",
                folder.names()
            );
            for name in folder.names().iter().filter(|name| *name != "folder") {
                fs::remove_file(folder.path().join(name)).unwrap();
            }
        }
        assert_eq!(
            fs::read_dir(folder.path().join("folder")).unwrap().count(),
            0
        );
    }

    #[test]
    fn a_device_is_written_in_place_and_never_replaced() {
        let Some(_serial) = kernel() else { return };
        let folder = Folder::new();
        // Nodes of the test's own: were they replaced, the machine's would be whole.
        let node = |name: &str, minor: u32| {
            process::check(
                Command::new("mknod").args([&folder.file(name), "c", "1", &minor.to_string()]),
                PATIENCE,
            )
            .unwrap();
            folder.file(name)
        };
        let (null, full) = (node("null", 3), node("full", 7));
        let device = |path: &str| {
            let metadata = fs::symlink_metadata(path).unwrap();
            assert!(metadata.file_type().is_char_device(), "{path}");
            metadata.rdev() & 0xff
        };
        for option in ["--observation", "-o"] {
            bad_output(&folder, option, &full, &[&full, "No space left"]);
            assert_eq!(device(&full), 7);
        }
        let output = folder.seccast([
            "record",
            "--observation",
            &null,
            "-o",
            &null,
            "--",
            path("x86_64").to_str().unwrap(),
        ]);
        check(&output, 0, &[]);
        assert_eq!(device(&null), 3);

        let fifo = folder.file("fifo");
        process::check(Command::new("mkfifo").arg(&fifo), PATIENCE).unwrap();
        let reader = std::thread::spawn({
            let fifo = fifo.clone();
            move || fs::read(fifo).unwrap()
        });
        let output = folder.seccast([
            "record",
            "--observation",
            &fifo,
            "-o",
            &null,
            "--",
            path("x86_64").to_str().unwrap(),
        ]);
        check(&output, 0, &[]);
        assert!(Observation::from_json(&reader.join().unwrap()).is_ok());
        assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
    }

    #[test]
    fn one_place_for_two_files_is_refused() {
        let Some(_serial) = kernel() else { return };
        let folder = Folder::new();
        fs::write(folder.path().join("x.json"), "old").unwrap();
        let args = [
            "record",
            "-o",
            "x.json",
            "--observation",
            "x.json",
            "--",
            "touch",
            "ran",
        ];
        let output = folder.seccast(args);
        assert!(
            [2, 125].contains(&output.status.code().unwrap()),
            "{}",
            output.stderr
        );
        assert_eq!(folder.names(), ["x.json"]);
        assert_eq!(
            fs::read_to_string(folder.path().join("x.json")).unwrap(),
            "old"
        );
    }

    #[test]
    fn an_existing_file_is_replaced_whole() {
        let Some(_serial) = kernel() else { return };
        let folder = Folder::new();
        fs::write(folder.path().join("o.json"), "x".repeat(1 << 20)).unwrap();
        let output = folder.seccast([
            "record",
            "--observation",
            "o.json",
            "--",
            path("x86_64").to_str().unwrap(),
        ]);
        check(&output, 0, &[]);
        assert!(Observation::from_json(&fs::read(folder.path().join("o.json")).unwrap()).is_ok());
        assert_eq!(folder.names(), ["o.json"]);
    }

    #[test]
    fn what_is_not_an_observation_is_refused_with_what_it_is() {
        let Some(_serial) = kernel() else { return };
        let folder = Folder::new();
        let good = observation(&folder);
        let refuse = |content: &[u8], says: &[&str]| {
            fs::write(folder.path().join("in.json"), content).unwrap();
            fs::write(folder.path().join("out.json"), "old").unwrap();
            let says: Vec<_> = says.iter().copied().chain(["in.json"]).collect();
            folder.fails(
                ["generate", "in.json", "-o", "out.json"],
                3,
                &says,
                &["in.json", "out.json"],
            );
            assert_eq!(
                fs::read_to_string(folder.path().join("out.json")).unwrap(),
                "old"
            );
        };
        // Truncated anywhere.
        for part in 0..20 {
            refuse(&good[..good.len() * part / 20], &[]);
        }
        refuse(&good[..good.len() / 2], &["ends in the middle"]);
        refuse(b"", &["empty"]);
        refuse(b"\0\xff\xfe", &[]);
        refuse(b"{}", &[]);
        refuse(b"[]", &[]);
        refuse(b"null", &[]);
        refuse("[".repeat(1 << 20).as_bytes(), &[]);
        // A profile, in either dialect.
        refuse(
            br#"{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":[]}],"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","includes":{},"excludes":{}}]}"#,
            &["docker", "profile", "observation"],
        );
        refuse(br#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}"#, &["profile", "observation"]);
        // A version of the future.
        let mut future: Value = serde_json::from_slice(&good).unwrap();
        future["schema"] = future["schema"]
            .as_str()
            .unwrap()
            .replace("v1", "v99")
            .into();
        refuse(future.to_string().as_bytes(), &["v99", "newer"]);
        // And the good one is taken.
        fs::write(folder.path().join("in.json"), &good).unwrap();
        let output = folder.seccast(["generate", "in.json", "-o", "out.json"]);
        check(&output, 0, &[]);
    }

    #[test]
    fn an_input_that_is_no_file_or_endless_is_refused_at_once() {
        let Some(_serial) = kernel() else { return };
        let folder = Folder::new();
        folder.fails(
            ["generate", "none.json", "-o", "out.json"],
            3,
            &["none.json", "No such file"],
            &[],
        );
        fs::create_dir(folder.path().join("folder")).unwrap();
        folder.fails(
            ["generate", "folder", "-o", "out.json"],
            3,
            &["folder", "irectory"],
            &["folder"],
        );
        folder.fails(
            ["generate", "/dev/zero", "-o", "out.json"],
            3,
            &["/dev/zero"],
            &["folder"],
        );
        File::create(folder.path().join("huge.json"))
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        folder.fails(
            ["generate", "huge.json", "-o", "out.json"],
            3,
            &["huge.json"],
            &["folder", "huge.json"],
        );
    }

    #[test]
    fn an_empty_recording_is_an_error_and_no_file() {
        let Some(_serial) = kernel() else { return };
        let folder = Folder::new();
        let scope = Scope::new("bad-input-empty").unwrap();
        let args = [
            "record",
            "--cgroup",
            scope.path(),
            "--for",
            "1s",
            "--observation",
            "o.json",
            "-o",
            "p.json",
        ];
        folder.fails(args, 3, &["nothing", scope.path()], &[]);
    }

    #[test]
    fn without_btf_it_records_or_says_why_not() {
        let Some(_serial) = kernel() else { return };
        let folder = Folder::new();
        let script = "mount -t tmpfs none /sys/kernel/btf || exit 99; exec \"$@\"";
        let output = process::output(
            with_own_mounts(script)
                .arg(seccast())
                .args(["record", "--observation", "o.json", "-o", "p.json", "--"])
                .arg(path("x86_64"))
                .current_dir(folder.path()),
            PATIENCE,
        )
        .unwrap();
        if output.status.success() {
            let observation =
                Observation::from_json(&fs::read(folder.path().join("o.json")).unwrap()).unwrap();
            let seen = seccast_kernel::calls(&observation, seccast_model::observation::Phase::App);
            assert_eq!(
                seen,
                seccast_kernel::truth(seccast_workloads::program("x86_64"))
            );
            println!("without BTF it records");
        } else {
            check(&output, 125, &["BTF"]);
            assert_eq!(folder.names(), [] as [&str; 0]);
        }
    }
}
