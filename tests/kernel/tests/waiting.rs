//! `--wait` finds the container that was named, whole, and nothing else.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod root {
    use seccast_kernel::{Record, Recorded, kernel, puppet};
    use seccast_model::observation::Phase;
    use seccast_rig::cgroup::{self, Scope};
    use seccast_rig::{Bundle, Container, Runtime, process, rootfs, unique};
    use std::{
        collections::BTreeSet,
        ffi::CString,
        fs::{self, File},
        io::{self, Read as _, Write as _},
        os::{
            fd::AsRawFd as _,
            unix::{
                ffi::OsStrExt as _,
                fs::{FileTypeExt as _, PermissionsExt as _, chown},
                process::CommandExt as _,
            },
        },
        path::Path,
        process::{Command, Stdio},
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        time::Duration,
    };
    use tempfile::TempDir;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn names(recorded: &Recorded, phase: Phase) -> BTreeSet<String> {
        let calls = &recorded.observation.as_ref().unwrap().calls;
        let of_phase = calls.iter().filter(|((_, of), _)| *of == phase);
        of_phase
            .flat_map(|(_, calls)| calls.keys().cloned())
            .collect()
    }

    fn busybox(args: &[&str]) -> Bundle {
        Bundle::new(rootfs::busybox().unwrap(), args.iter().copied())
    }

    /// runc makes every missing folder of the path; only the last holds the container.
    #[test]
    fn a_parent_that_runc_makes_as_well_is_not_the_container() {
        let Some(_serial) = kernel() else { return };
        let parent = format!("{}/{}", cgroup::PARENT, unique("parent"));
        let runc = Runtime::runc().unwrap();
        let name = unique("awaited");
        let running = Record::new(["--container", &name, "--wait=60s"]).start();
        let bundle = busybox(&["/bin/sleep", "600"]).cgroups_path(format!("{parent}/awaited"));
        let mut awaited = Container::new(&name, &bundle, &runc).unwrap();
        awaited.run_detached().unwrap();
        // A stranger below the same parent calls what the awaited one does not.
        let bundle = busybox(&["/bin/sh", "-c", "umask 022; sync; readlink /x; true"])
            .cgroups_path(format!("{parent}/stranger"));
        let mut stranger = Container::new(&unique("stranger"), &bundle, &runc).unwrap();
        assert!(
            stranger.run(PATIENCE).unwrap().success(),
            "{}",
            stranger.log()
        );
        awaited.kill(libc::SIGKILL).unwrap();
        let recorded = running.end(PATIENCE);
        drop((awaited, stranger));
        let observation = recorded.complete();
        let path = observation.target.cgroup_path.as_deref().unwrap();
        assert_eq!(path, format!("{parent}/awaited"));
        let app = names(&recorded, Phase::App);
        assert!(
            app.contains("clock_nanosleep") || app.contains("nanosleep"),
            "{app:?}"
        );
        for call in ["sync", "umask"] {
            assert!(!app.contains(call), "{call} is the stranger's: {app:?}");
        }
        cgroup::Mounts::read().unwrap().remove(&parent).unwrap();
    }

    #[test]
    fn a_container_that_is_created_and_not_started_is_recorded_from_its_start() {
        let Some(_serial) = kernel() else { return };
        let (runc, name) = (Runtime::runc().unwrap(), unique("made"));
        let work = tempfile::tempdir().unwrap();
        busybox(&["/bin/sh", "-c", "umask 022; sleep 1"])
            .write(&name, work.path())
            .unwrap();
        let run = |args: &[&str]| {
            let mut command = runc.command();
            command.current_dir(work.path()).args(args);
            command.stdout(fs::File::create(work.path().join("log")).unwrap());
            command.stderr(fs::File::create(work.path().join("err")).unwrap());
            command.stdin(std::process::Stdio::null()).status().unwrap()
        };
        assert!(run(&["create", &name]).success());
        let running = Record::new(["--container", &name, "--wait=60s"]).start();
        assert!(run(&["start", &name]).success());
        let recorded = running.end(PATIENCE);
        run(&["delete", "-f", &name]);
        recorded.complete();
        let app = names(&recorded, Phase::App);
        assert!(app.contains("umask") && app.contains("execve"), "{app:?}");
        assert!(!app.contains("pivot_root"), "{app:?}");
    }

    /// The recorder may be late: what it needs to know is kept by the kernel.
    #[test]
    fn a_container_that_came_and_went_while_the_recorder_slept_is_found() {
        let Some(_serial) = kernel() else { return };
        let name = unique("passing");
        let running = Record::new(["--container", &name, "--wait=60s"]).start();
        process::signal(running.pid(), libc::SIGSTOP).unwrap();
        let bundle = busybox(&["/bin/sh", "-c", "umask 022"]);
        let mut container = Container::new(&name, &bundle, &Runtime::runc().unwrap()).unwrap();
        assert!(
            container.run(PATIENCE).unwrap().success(),
            "{}",
            container.log()
        );
        drop(container);
        process::signal(running.pid(), libc::SIGCONT).unwrap();
        let recorded = running.end(PATIENCE);
        recorded.complete();
        assert!(names(&recorded, Phase::App).contains("umask"));
        assert!(!names(&recorded, Phase::App).contains("pivot_root"));
    }

    /// What a createContainer hook executes is the hook.
    #[test]
    fn a_hook_that_runs_other_programs_stays_a_hook() {
        let Some(_serial) = kernel() else { return };
        let name = unique("hooked");
        let running = Record::new(["--container", &name, "--wait=60s"]).start();
        let bundle = busybox(&["/bin/true"]).hook(
            "createContainer",
            "/bin/sh",
            &["sh", "-c", "cat >/dev/null; setsid true; sync"],
        );
        let mut container = Container::new(&name, &bundle, &Runtime::runc().unwrap()).unwrap();
        assert!(
            container.run(PATIENCE).unwrap().success(),
            "{}",
            container.log()
        );
        let recorded = running.end(PATIENCE);
        recorded.complete();
        let (hook, app) = (names(&recorded, Phase::Hook), names(&recorded, Phase::App));
        for call in ["setsid", "sync"] {
            assert!(
                hook.contains(call) && !app.contains(call),
                "{call}: hook {hook:?}, app {app:?}"
            );
        }
        assert!(app.contains("exit_group"), "{app:?}");
    }

    /// Whoever can call a program of his own conmon could else tell root what to run.
    #[test]
    fn another_users_podman_is_never_run() {
        const CONMON: &str = "sleep 60 & echo $! >\"$0.pid\"; wait";
        let Some(_serial) = kernel() else { return };
        // Without a name, and with a folder in /run/user that nobody else has.
        let nobody = 1_000_000 + std::process::id();
        let (id, name) = (format!("{nobody:064x}"), unique("not-ours"));
        let scope = Scope::new("not-ours").unwrap();
        let folder = tempfile::tempdir().unwrap();
        chown(folder.path(), Some(nobody), Some(nobody)).unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let conmon = file("conmon", CONMON);
        let podman = file("podman", "#!/bin/sh\necho \"$@\" >\"$0.ran\"\n");
        let mut command = Command::new("/bin/sh");
        command
            .arg0("conmon")
            .arg(&conmon)
            .args(["-c", &id, "-n", &name]);
        command.arg("--exit-command").arg(&podman);
        command.uid(nobody).gid(nobody).stdin(Stdio::null());
        let mut theirs = command.spawn().unwrap();
        let mut init = String::new();
        process::poll("the child", PATIENCE, || {
            init = fs::read_to_string(conmon.with_extension("pid")).unwrap_or_default();
            Ok(init.ends_with('\n'))
        })
        .unwrap();
        let init: u32 = init.trim().parse().unwrap();
        scope.add(init).unwrap();
        // As crun keeps it for a user.
        let runtime_dir = Path::new("/run/user").join(nobody.to_string());
        let state = runtime_dir.join("crun").join(&id);
        fs::create_dir_all(&state).unwrap();
        fs::write(state.join("status"), format!("{{\"pid\":{init}}}")).unwrap();
        let args = ["--container", &name, "--for=2s", "--allow-incomplete"];
        let recorded = Record::new(args).run(PATIENCE);
        fs::remove_dir_all(runtime_dir).unwrap();
        for pid in [init, theirs.id()] {
            process::signal(pid.cast_signed(), libc::SIGKILL).unwrap();
        }
        theirs.wait().unwrap();
        let target = &recorded.observation.as_ref().unwrap().target;
        assert_eq!(target.container_id.as_ref(), Some(&id));
        assert_eq!(target.engine.as_deref(), Some("podman"));
        assert!(!podman.with_extension("ran").exists(), "root ran it");
    }

    /// A workload may put a pipe where its C library was; nobody may hang on it.
    #[test]
    fn a_hostile_root_does_not_block_the_recorder() {
        let Some(_serial) = kernel() else { return };
        let script = "cp /bin/busybox /tmp/libc.so.6; ln -s libc.so.6 /tmp/sh; \
            exec /tmp/sh -c 'rm /tmp/libc.so.6; mkfifo /tmp/libc.so.6; while :; do sleep 0.1; done'";
        let bundle = busybox(&["/bin/sh", "-c", script]).tmpfs("/tmp");
        let name = unique("hostile");
        let mut container = Container::new(&name, &bundle, &Runtime::runc().unwrap()).unwrap();
        container.run_detached().unwrap();
        let pipe = format!("/proc/{}/root/tmp/libc.so.6", container.pid().unwrap());
        let is_pipe = || Ok(fs::metadata(&pipe).is_ok_and(|file| file.file_type().is_fifo()));
        process::poll("the pipe", PATIENCE, is_pipe).unwrap();
        let recorded = Record::new(["--container", &name, "--for", "1s"]).run(PATIENCE);
        let observation = recorded.observation.as_ref().unwrap();
        assert_eq!(
            observation.machine.libc.as_deref(),
            Some("glibc"),
            "named by its mapping"
        );
        assert!(observation.started_late_ns.is_some());
    }

    /// A workload may have its C library from a file system that it serves itself, and stop serving.
    #[test]
    fn a_file_system_that_does_not_answer_does_not_block_the_recorder() {
        let Some(_serial) = kernel() else { return };
        // Elsewhere it is read.
        let scope = Scope::new("silent").unwrap();
        let mut sleep = Command::new("sleep").arg("60").spawn().unwrap();
        scope.add(sleep.id()).unwrap();
        let pid = sleep.id().cast_signed();
        process::poll("its sleep", PATIENCE, || {
            Ok(process::sleeps_in(pid) == Some(libc::SYS_clock_nanosleep))
        })
        .unwrap();
        let recorded = Record::new(["--cgroup", scope.path(), "--for", "300ms"]).run(PATIENCE);
        sleep.kill().unwrap();
        sleep.wait().unwrap();
        let libc = recorded.observation.unwrap().machine.libc.unwrap();
        assert!(libc.starts_with("glibc 2."), "{libc}");

        let mut puppet = puppet();
        let files = Silent::mount();
        scope.add(puppet.pid()).unwrap();
        let library = files.folder.path().join("libc.so.6");
        let path = puppet.text(library.to_str().unwrap()).unwrap();
        let open = puppet.call(257, &[-100, path, 0 /* O_RDONLY */]).unwrap();
        let mapped = puppet.call(
            9,
            &[
                0, 4096, 1, /* PROT_READ */
                2, /* MAP_PRIVATE */
                open, 0,
            ],
        );
        assert!(mapped.as_ref().is_ok_and(|at| *at > 0), "{open} {mapped:?}");
        files.silence(2 * PATIENCE);

        let recorded = Record::new(["--cgroup", scope.path()]).start();
        println!("armed after {:.1?}", recorded.armed_after());
        puppet.call(39, &[]).unwrap();
        let recorded = recorded.stop();
        assert!(!files.spoke(), "it waited until the files were gone");
        let observation = recorded.observation.as_ref().unwrap();
        assert_eq!(observation.machine.libc.as_deref(), Some("glibc"));
        assert_eq!(names(&recorded, Phase::App), ["getpid".to_owned()].into());
    }

    /// A FUSE file system with one file, which answers nothing any more once it is silent.
    struct Silent {
        folder: TempDir,
        silent: Arc<AtomicBool>,
        /// The silence was over.
        spoke: Arc<AtomicBool>,
    }

    impl Silent {
        fn mount() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let mut options = File::options();
            let device = options.read(true).write(true).open("/dev/fuse").unwrap();
            let data = format!(
                "fd={},rootmode=40000,user_id=0,group_id=0",
                device.as_raw_fd()
            );
            let [path, data] = [folder.path().as_os_str().as_bytes(), data.as_bytes()]
                .map(|text| CString::new(text).unwrap());
            let (name, kind) = (c"silent".as_ptr(), c"fuse".as_ptr());
            // SAFETY: four texts that live until it returns.
            let mounted =
                unsafe { libc::mount(name, path.as_ptr(), kind, 0, data.as_ptr().cast()) };
            assert_eq!(mounted, 0, "{}", io::Error::last_os_error());
            let silent = Arc::new(AtomicBool::new(false));
            let quiet = Arc::clone(&silent);
            std::thread::spawn(move || serve(&device, &quiet));
            Self {
                folder,
                silent,
                spoke: Arc::default(),
            }
        }
    }

    impl Silent {
        /// From now on nothing is answered. Who waits cannot be killed, so it ends after a time: for a test that fails.
        fn silence(&self, limit: Duration) {
            self.silent.store(true, Ordering::Relaxed);
            let path = self.folder.path().to_owned();
            let spoke = Arc::clone(&self.spoke);
            std::thread::spawn(move || {
                std::thread::sleep(limit);
                spoke.store(true, Ordering::Relaxed);
                unmount(&path);
            });
        }

        fn spoke(&self) -> bool {
            self.spoke.load(Ordering::Relaxed)
        }
    }

    impl Drop for Silent {
        fn drop(&mut self) {
            unmount(self.folder.path());
        }
    }

    fn unmount(path: &Path) {
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        // The first ends the connection: who still waits for an answer gets an error, and the server its end.
        for flag in [libc::MNT_FORCE, libc::MNT_DETACH] {
            // SAFETY: a text that lives until it returns.
            let _ = unsafe { libc::umount2(path.as_ptr(), flag) };
        }
    }

    /// Answers as linux/fuse.h has it, 7.31: a folder with a file of one page.
    fn serve(mut device: &File, silent: &AtomicBool) {
        let attributes = |node: u64| {
            let (mode, size) = if node == 1 {
                (0o40755, 0)
            } else {
                (0o100_755, 4096)
            };
            // Inode, size, blocks, three times and their nanoseconds; mode, links, owner, device, block size.
            let longs = [node, size, 8, 0, 0, 0].map(u64::to_ne_bytes).concat();
            let words = [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0_u32].map(u32::to_ne_bytes);
            [longs, words.concat()].concat()
        };
        let mut request = vec![0; 1 << 17];
        while let Ok(length) = device.read(&mut request) {
            let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
            let (unique, node) = (&request[8..16], &request[16..24]);
            let (error, body) = match word(4) {
                _ if silent.load(Ordering::Relaxed) || length < 40 => continue,
                2 => continue, // FORGET has no answer.
                // LOOKUP: node 2, and nothing of it is remembered.
                1 => (
                    0,
                    [
                        [2, 0, 0, 0, 0].map(u64::to_ne_bytes).concat(),
                        attributes(2),
                    ]
                    .concat(),
                ),
                // GETATTR
                3 => {
                    let node = u64::from_ne_bytes(node.try_into().unwrap());
                    (0, [vec![0; 16], attributes(node)].concat())
                }
                // OPEN
                14 => (0, vec![0; 16]),
                // INIT
                26 => {
                    let mut body = [7, 31, 4096, 0, 0, 4096, 1].map(u32::to_ne_bytes).concat();
                    body.resize(64, 0);
                    (0, body)
                }
                _ => (-libc::ENOSYS, Vec::new()),
            };
            let size = u32::try_from(16 + body.len()).unwrap().to_ne_bytes();
            let answer = [&size, &error.to_ne_bytes(), unique, &body[..]].concat();
            if device.write(&answer).is_err() {
                return;
            }
        }
    }
}
