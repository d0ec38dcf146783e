//! Long and deep cgroups: a container is recorded whatever the length of its cgroup's path, and a stranger costs nothing however
//! deep it lies.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod root {
    use seccast_kernel::{
        Call, Record, assert_calls, call, calls, harmless, kernel, puppet, root_with, seccast,
        with_own_mounts,
    };
    use seccast_model::arch::Arch;
    use seccast_model::observation::{Observation, Phase, Target};
    use seccast_recorder::{Recorder, cgroup::Cgroup};
    use seccast_rig::cgroup::{Scope, id, remove_tree};
    use seccast_rig::{Bundle, Container, Runtime, process, unique};
    use seccast_workloads::{numbers, puppet::Puppet};
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    const GETUID: i64 = 102;
    const GETGID: i64 = 104;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Bytes of a container's path as a node of kind has it, and about as many as one `open` takes with the mount before it.
    const LENGTHS: [usize; 2] = [301, 4000];

    fn x86_64<const N: usize>(names: [&str; N]) -> BTreeSet<Call> {
        names
            .into_iter()
            .map(|name| (Arch::X86_64, name.to_owned()))
            .collect()
    }

    /// The path of a cgroup below a scope that has so many bytes and ends with this name.
    fn long(scope: &Scope, length: usize, name: &str) -> String {
        let mut path = scope.path().to_owned();
        let mut left = length - path.len() - name.len() - 1;
        while left > 0 {
            // With its slash; none may be left alone.
            let part = match left {
                257 => 255,
                left => left.min(256),
            };
            path.push('/');
            path.push_str(&"k".repeat(part - 1));
            left -= part;
        }
        let path = format!("{path}/{name}");
        assert_eq!(path.len(), length);
        path
    }

    /// What a container calls that runs `one`.
    fn one() -> ([String; 2], BTreeSet<Call>) {
        let (arch, nr) = harmless::named()[7];
        let expected = BTreeSet::from([call((arch, nr)), (Arch::X86_64, "exit_group".into())]);
        (numbers::one(arch, nr), expected)
    }

    fn run_one(name: &str, bundle: &Bundle) {
        let mut container = Container::new(name, bundle, &Runtime::runc().unwrap()).unwrap();
        let status = container.run(PATIENCE).unwrap();
        assert_eq!(status.code(), Some(0), "{name}: {}", container.log());
    }

    /// The one observation in a folder whose name begins so.
    fn observation(folder: &Path, name: &str) -> Option<Observation> {
        let entries = fs::read_dir(folder).ok()?.flatten();
        let path = entries.map(|entry| entry.path()).find(|path| {
            let file = path.file_name().unwrap().to_string_lossy();
            file.starts_with(name) && file.ends_with(".observation.json")
        })?;
        Some(Observation::from_json(&fs::read(path).unwrap()).unwrap())
    }

    #[test]
    fn a_running_container_with_a_long_cgroup_path_is_recorded_to_its_end() {
        let Some(_serial) = kernel() else { return };
        let root = root_with(&["sleeper"]);
        for length in LENGTHS {
            let scope = Scope::new("long-late").unwrap();
            let name = unique("long-late");
            let bundle =
                Bundle::new(root.path(), ["/sleeper"]).cgroups_path(long(&scope, length, &name));
            let mut container = Container::new(&name, &bundle, &Runtime::runc().unwrap()).unwrap();
            container.run_detached().unwrap();
            let pid = container.pid().unwrap();
            let asleep = || Ok(process::sleeps_in(pid) == Some(libc::SYS_nanosleep));
            process::poll("its sleep", PATIENCE, asleep).unwrap();
            let running = Record::new(["--container", &name]).start();
            running.catch_up();
            container.kill(libc::SIGTERM).unwrap();
            container.wait(PATIENCE).unwrap();
            let recorded = running.end(PATIENCE);
            let observation = recorded.observation.as_ref().unwrap();
            let mut seen = calls(observation, Phase::App);
            // What it was in when the recording began.
            for (arch, blocked) in &observation.blocked_at_attach {
                seen.extend(blocked.keys().map(|name| (*arch, name.clone())));
            }
            assert_calls(&seen, &x86_64(["nanosleep", "exit_group"]), &name);
            assert_eq!(observation.losses, [].into(), "{length}");
            assert_eq!(
                observation.target.cgroup_path.as_deref().map(str::len),
                Some(length)
            );
        }
    }

    #[test]
    fn a_container_with_a_long_cgroup_path_is_waited_for_by_its_name() {
        let Some(_serial) = kernel() else { return };
        let root = root_with(&["one"]);
        let (words, expected) = one();
        for length in LENGTHS {
            let scope = Scope::new("long-wait").unwrap();
            let name = unique("long-wait");
            let running = Record::new(["--container", &name, "--wait"]).start();
            let args = ["/one".to_owned()].into_iter().chain(words.clone());
            let bundle = Bundle::new(root.path(), args)
                .capabilities(&[])
                .cgroups_path(long(&scope, length, &name));
            run_one(&name, &bundle);
            let recorded = running.end(PATIENCE);
            let observation = recorded.complete();
            assert_calls(&calls(observation, Phase::App), &expected, &name);
            assert_eq!(
                observation.target.cgroup_path,
                Some(bundle.cgroup_of(&name))
            );
        }
    }

    #[test]
    fn containers_with_long_cgroup_paths_are_among_all() {
        let Some(_serial) = kernel() else { return };
        let root = root_with(&["one"]);
        let (words, expected) = one();
        let scope = Scope::new("long-all").unwrap();
        let work = tempfile::tempdir().unwrap();
        let folder = work.path().join("profiles");
        let running = Record::all(&folder, [] as [&str; 0]).start();
        let names = LENGTHS.map(|length| unique(&format!("long-all-{length}")));
        for (name, length) in names.iter().zip(LENGTHS) {
            let args = ["/one".to_owned()].into_iter().chain(words.clone());
            let bundle = Bundle::new(root.path(), args)
                .capabilities(&[])
                .cgroups_path(long(&scope, length, name));
            run_one(name, &bundle);
        }
        let written = || {
            Ok(names
                .iter()
                .all(|name| observation(&folder, name).is_some()))
        };
        let written = process::poll("their files", PATIENCE, written);
        // Others' containers are recorded as well, and decide about its end.
        let recorded = running.stop();
        assert!(written.is_ok(), "{written:?}\n{}", recorded.stderr);
        for (name, length) in names.iter().zip(LENGTHS) {
            let observation = observation(&folder, name).unwrap();
            assert_calls(&calls(&observation, Phase::App), &expected, name);
            assert_eq!(observation.losses, [].into());
            assert_eq!(
                observation.target.cgroup_path.as_deref().map(str::len),
                Some(length)
            );
        }
    }

    #[test]
    fn a_pods_container_with_a_long_cgroup_path_is_recorded() {
        let Some(_serial) = kernel() else { return };
        let root = root_with(&["one"]);
        let (words, expected) = one();
        for length in LENGTHS {
            let scope = Scope::new("long-pod").unwrap();
            let id: String = format!("{:0>64x}", id(&scope.dir()).unwrap());
            let args = ["/one".to_owned()].into_iter().chain(words.clone());
            let bundle = Bundle::new(root.path(), args)
                .capabilities(&[])
                .annotation("io.kubernetes.cri.container-type", "container")
                .annotation("io.kubernetes.cri.container-name", "app")
                .annotation("io.kubernetes.cri.sandbox-name", "long")
                .annotation("io.kubernetes.cri.sandbox-namespace", "cgroups")
                .cgroups_path(long(&scope, length, &id));
            // What containerd has of it before it starts; only this recorder sees it.
            let work = tempfile::tempdir().unwrap();
            let state = work.path().join("io.containerd.runtime.v2.task/k8s.io");
            fs::create_dir_all(state.join(&id)).unwrap();
            bundle.write(&id, &state.join(&id)).unwrap();
            let mut command = with_own_mounts(
                "mkdir -p /run/containerd && mount --bind \"$1\" /run/containerd && shift && exec \"$@\"",
            );
            command.arg(work.path()).arg(seccast());
            let folder = work.path().join("profiles");
            fs::create_dir(&folder).unwrap();
            let running =
                Record::each_by(command, &folder, ["--pod", "cgroups/long", "--wait"]).start();
            run_one(&id, &bundle);
            let recorded = running.end(PATIENCE);
            recorded.assert_ended(0, &[]);
            let observation = observation(&folder, "").unwrap();
            assert_calls(
                &calls(&observation, Phase::App),
                &expected,
                &recorded.stderr,
            );
            assert_eq!(observation.losses, [].into());
            assert_eq!(observation.target.cgroup_path, Some(bundle.cgroup_of(&id)));
        }
    }

    /// Cgroups that a recorder has made, one in the other. No path leads to them, so nothing else could remove them.
    struct Made(Vec<Cgroup>);

    impl Drop for Made {
        fn drop(&mut self) {
            for cgroup in self.0.iter().rev() {
                let gone = || Ok(cgroup.remove().is_ok() || !cgroup.exists());
                drop(process::poll("them to be removable", PATIENCE, gone));
            }
        }
    }

    /// The kernel itself cuts such a path in /proc/PID/cgroup.
    #[test]
    fn a_cgroup_with_a_path_that_no_open_takes_is_recorded() {
        let Some(_serial) = kernel() else { return };
        let scope = Scope::new("long-open").unwrap();
        let mut recorder = Recorder::start(1).unwrap();
        let (mut made, mut path) = (Made(Vec::new()), scope.path().to_owned());
        while path.len() <= 5000 {
            path = format!("{path}/{}", "k".repeat(250));
            made.0.push(recorder.hierarchy().create(&path).unwrap());
        }
        let cgroup = made.0.last().unwrap().clone();
        let mut puppet = puppet();
        cgroup.add(puppet.pid()).unwrap();
        assert_eq!(cgroup.processes(), [puppet.pid()].into());
        assert!(cgroup.populated());
        let found = recorder.hierarchy().of_process(puppet.pid()).unwrap();
        assert_eq!(found, cgroup);
        let recording = recorder
            .watch_present(&found, false, Target::default())
            .unwrap();
        puppet.call(GETUID, &[]).unwrap();
        let observation = recorder.observe(&recording).unwrap();
        assert_eq!(named(&observation), x86_64(["getuid"]));
        assert_eq!(observation.losses, [].into());
        // Before its cgroup.
        drop(puppet);
        drop(made);
    }

    /// Cgroups below a scope, one in the other.
    struct Deep<'a> {
        scope: &'a Scope,
        names: String,
    }

    impl<'a> Deep<'a> {
        /// The scope itself lies at level 2.
        fn down_to(scope: &'a Scope, level: usize) -> Self {
            let names = "/d".repeat(level - 2);
            fs::create_dir_all(Self::at(scope, &names)).unwrap();
            Self { scope, names }
        }

        fn at(scope: &Scope, names: &str) -> PathBuf {
            scope.dir().join(names.trim_start_matches('/'))
        }

        fn path(&self) -> String {
            format!("{}{}", self.scope.path(), self.names)
        }

        fn add(&self, puppet: &Puppet) {
            let procs = Self::at(self.scope, &self.names).join("cgroup.procs");
            fs::write(procs, puppet.pid().to_string()).unwrap();
        }
    }

    #[test]
    fn a_stranger_70_levels_deep_costs_nothing() {
        let Some(_serial) = kernel() else { return };
        let (target, other) = (
            Scope::new("deep-target").unwrap(),
            Scope::new("deep-other").unwrap(),
        );
        let deep = Deep::down_to(&other, 70);
        let (mut inside, mut stranger) = (puppet(), puppet());
        deep.add(&stranger);
        target.add(inside.pid()).unwrap();
        let running = Record::cgroup(target.path()).start();
        stranger.call(GETUID, &[]).unwrap();
        inside.call(GETGID, &[]).unwrap();
        let recorded = running.stop();
        let observation = recorded.observation.as_ref().unwrap();
        assert_eq!(observation.losses, [].into());
        assert_eq!(named(observation), x86_64(["getgid"]));
        drop(stranger);
    }

    #[test]
    fn what_lies_70_levels_deep_in_something_watched_is_recorded() {
        let Some(_serial) = kernel() else { return };
        let target = Scope::new("deep-target").unwrap();
        let mut puppet = puppet();
        target.add(puppet.pid()).unwrap();
        let running = Record::cgroup(target.path()).start();
        puppet.call(GETGID, &[]).unwrap();
        // Made since, and no call of it was seen above.
        let deep = Deep::down_to(&target, 70);
        deep.add(&puppet);
        puppet.call(GETUID, &[]).unwrap();
        let recorded = running.stop();
        let observation = recorded.observation.as_ref().unwrap();
        assert_eq!(observation.losses, [].into());
        assert_eq!(named(observation), x86_64(["getgid", "getuid"]));
    }

    #[test]
    fn a_call_below_something_that_is_watched_that_deep_is_counted_as_a_loss() {
        let Some(_serial) = kernel() else { return };
        let scope = Scope::new("deep-loss").unwrap();
        let (watched, below) = (Deep::down_to(&scope, 66), Deep::down_to(&scope, 72));
        let (mut inside, mut hidden) = (puppet(), puppet());
        watched.add(&inside);
        let running = Record::cgroup(&watched.path()).start();
        inside.call(GETGID, &[]).unwrap();
        below.add(&hidden);
        hidden.call(GETUID, &[]).unwrap();
        let recorded = running.stop();
        let observation = recorded.observation.as_ref().unwrap();
        assert_eq!(named(observation), x86_64(["getgid"]));
        assert!(
            observation
                .losses
                .get("too_deep")
                .is_some_and(|lost| *lost > 0),
            "{:?}",
            observation.losses
        );
        recorded.assert_ended(1, &[]);
        drop((inside, hidden));
        assert!(remove_tree(&scope.dir().join("d")));
    }

    /// What was called, in any phase but the runtime's.
    fn named(observation: &Observation) -> BTreeSet<Call> {
        [Phase::App, Phase::Exec, Phase::Entered]
            .into_iter()
            .flat_map(|phase| calls(observation, phase))
            .collect()
    }
}
