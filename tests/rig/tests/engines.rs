//! Engines: the same container in docker, podman, containerd and by crun; nothing is left behind.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod root {
    use seccast_rig::cgroup::{Mounts, Scope};
    use seccast_rig::engine::{self, Contained, Engine};
    use seccast_rig::{
        Bundle, Container, Runtime, Server, Witness, load, lock, process, rootfs, unique,
    };
    use serde_json::{Value, json};
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;
    use std::process::Command;
    use std::time::{Duration, Instant};

    const PATIENCE: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Bundle {
        Bundle::new(rootfs::busybox().unwrap(), ["/bin/sh", "-c", script])
    }

    /// Runs a bundle to its end and says with which exit code, and what it printed.
    fn run(engine: &dyn Engine, name: &str, bundle: &Bundle) -> (Option<i32>, String) {
        let mut container = Contained::run(engine, name, bundle).unwrap();
        let status = container.wait(PATIENCE).unwrap().unwrap();
        (status.code(), container.log())
    }

    fn denying(action: &str) -> Value {
        let rule = json!({ "names": ["rmdir"], "action": action });
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] })
    }

    #[test]
    fn the_same_container_runs_in_each_engine_at_once() {
        let _lock = lock::beside().unwrap();
        let engines = engine::all().unwrap();
        for engine in &engines {
            let engine = engine.as_ref();
            let start = Instant::now();
            // Docker warns on standard error that there is no network.
            let script = "echo hello; grep -E 'NoNewPrivs|Seccomp:|CapEff' /proc/self/status; id -u; exit 42";
            let (code, log) = run(engine, "rig-status", &shell(script).user(1000, 1000));
            println!("{}: {:?}", engine.name(), start.elapsed());
            assert_eq!(code, Some(42), "{}: {log}", engine.name());
            // ctr alone has no filter unless it is asked for one.
            let filter = if engine.name() == "ctr" { 0 } else { 2 };
            let expected = format!(
                "hello\nCapEff:\t{:016x}\nNoNewPrivs:\t0\nSeccomp:\t{filter}\n1000\n",
                0
            );
            assert!(log.ends_with(&expected), "{}: {log}", engine.name());
        }
    }

    #[test]
    fn a_containers_cgroup_is_where_its_engine_puts_it() {
        let _lock = lock::beside().unwrap();
        let mounts = Mounts::read().unwrap();
        let scope = Scope::new("rig-engines").unwrap();
        for engine in engine::all().unwrap() {
            let engine = engine.as_ref();
            for named in [false, true] {
                let mut bundle =
                    shell("trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done");
                if named {
                    bundle = bundle.cgroups_path(scope.child("rig-cgroup"));
                }
                let mut container = Contained::run(engine, "rig-cgroup", &bundle).unwrap();
                process::poll("the trap", PATIENCE, || {
                    Ok(container.log().contains("ready"))
                })
                .unwrap();
                let id = engine.id("rig-cgroup").unwrap();
                let path = engine.cgroup_of(&id);
                let path = match (named, path.rsplit_once('/')) {
                    (true, Some((_, last))) => scope.child(last),
                    _ => path,
                };
                assert_eq!(container.cgroup_dir().unwrap(), mounts.dir(&path));
                let procs = fs::read_to_string(mounts.dir(&path).join("cgroup.procs")).unwrap();
                let pid = container.pid().unwrap().to_string();
                assert!(procs.lines().any(|line| line == pid), "{pid} in {procs}");
                assert!(container.cgroup_id().unwrap() > 1);
                container.kill(libc::SIGTERM).unwrap();
                let status = container.wait(PATIENCE).unwrap().unwrap();
                assert_eq!(status.code(), Some(3), "{}", container.log());
            }
        }
    }

    #[test]
    fn the_witness_counts_denials_in_each_engine() {
        let _lock = lock::beside().unwrap();
        // rmdir calls rmdir once for each folder; 23 is prime.
        let script = "for i in $(seq 23); do rmdir /x; done; exit 7";
        let errno = denying("SCMP_ACT_ERRNO");
        for engine in engine::all().unwrap() {
            let engine = engine.as_ref();
            let group = engine.cgroup_of("");
            let group = group.rsplit_once('/').unwrap().0;
            let scope = Scope::at(group).unwrap();
            let mut witness = Witness::attach(&scope).unwrap();
            let (code, log) = run(engine, "rig-deny", &shell(script).seccomp(errno.clone()));
            assert_eq!(code, Some(7), "{log}");
            let seen = witness.take().unwrap();
            assert_eq!(
                (seen.count(), seen.denials.len()),
                (23, 23),
                "{}: {seen}",
                engine.name()
            );
            let kill = shell("rmdir /x; exit 7").seccomp(denying("SCMP_ACT_KILL_PROCESS"));
            assert_eq!(run(engine, "rig-kill", &kill).0, Some(7));
            let seen = witness.take().unwrap();
            assert_eq!(
                (seen.count(), seen.killed.len()),
                (1, 1),
                "{}: {seen}",
                engine.name()
            );
        }
        // crun sees another mount of the same hierarchy.
        let scope = Scope::new("rig-crun").unwrap();
        let mut witness = Witness::attach(&scope).unwrap();
        let bundle = shell(script).seccomp(errno).cgroups_path(scope.child("c"));
        let name = unique("rig-crun");
        let mut container = Container::new(&name, &bundle, &Runtime::crun().unwrap()).unwrap();
        let status = container.run(PATIENCE).unwrap();
        assert_eq!(status.code(), Some(7), "{}", container.log());
        assert_eq!(witness.take().unwrap().count(), 23);
    }

    #[test]
    fn redis_and_nginx_pass_their_loads_in_each_engine() {
        let _lock = lock::beside().unwrap();
        let (redis, nginx) = (load::redis_bundle().unwrap(), load::nginx_bundle().unwrap());
        for engine in engine::all().unwrap() {
            let start = Instant::now();
            let engine = engine.as_ref();
            let mut container = Contained::run(engine, "rig-redis", &redis).unwrap();
            if let Err(error) = load::redis(&mut container, 50) {
                panic!("{}: {error:#}\n{}", engine.name(), container.log());
            }
            let mut container = Contained::run(engine, "rig-nginx", &nginx).unwrap();
            if let Err(error) = load::nginx(&mut container, 50) {
                panic!("{}: {error:#}\n{}", engine.name(), container.log());
            }
            println!("{}: {:?}", engine.name(), start.elapsed());
        }
        let crun = Runtime::crun().unwrap();
        let start = Instant::now();
        let mut container = Container::new(&unique("rig-crun-redis"), &redis, &crun).unwrap();
        container.spawn().unwrap();
        load::redis(&mut container, 50).unwrap();
        let mut container = Container::new(&unique("rig-crun-nginx"), &nginx, &crun).unwrap();
        container.spawn().unwrap();
        load::nginx(&mut container, 50).unwrap();
        println!("crun: {:?}", start.elapsed());
    }

    /// What an engine could change on the machine outside of its own folder and containers.
    fn machine() -> Vec<String> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut links: Vec<_> = fs::read_dir("/sys/class/net").unwrap().flatten().collect();
        links.sort_by_key(fs::DirEntry::file_name);
        let rules = |program: &str| {
            let program = process::find(program)?;
            let output = process::output(&mut Command::new(program), PATIENCE).ok()?;
            let lines = output.stdout.lines().filter(|line| !line.starts_with('#'));
            Some(lines.map(Into::into).collect::<Vec<String>>())
        };
        let mut state = vec![
            format!("forward {}", read("/proc/sys/net/ipv4/ip_forward")),
            format!(
                "forward6 {}",
                read("/proc/sys/net/ipv6/conf/all/forwarding")
            ),
            format!(
                "{:?}",
                links
                    .iter()
                    .map(fs::DirEntry::file_name)
                    .collect::<Vec<_>>()
            ),
        ];
        for program in ["iptables-save", "ip6tables-save"] {
            state.extend(rules(program).unwrap_or_default());
        }
        state
    }

    /// Whatever on the machine still names one of these: cgroups, mounts, processes, files of shims.
    fn traces(of: &BTreeSet<String>) -> Vec<String> {
        fn folders(dir: &Path, found: &mut Vec<String>) {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders(&entry.path(), found);
                    found.push(entry.path().display().to_string());
                }
            }
        }
        let mut all = Vec::new();
        let mounts = Mounts::read().unwrap();
        for mount in std::iter::once(&mounts.unified).chain(&mounts.legacy) {
            folders(mount, &mut all);
        }
        for dir in [
            "/run/containerd",
            "/run/docker",
            "/run/libpod",
            "/var/lib/cni",
            "/run/netns",
        ] {
            folders(Path::new(dir), &mut all);
        }
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
        all.extend(mountinfo.lines().map(|line| format!("mount {line}")));
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
            all.push(format!(
                "{:?} {}",
                process.file_name(),
                String::from_utf8_lossy(&command)
            ));
        }
        all.retain(|line| of.iter().any(|name| line.contains(name.as_str())));
        all
    }

    #[test]
    fn nothing_is_left_behind() {
        let _lock = lock::beside().unwrap();
        let before = machine();
        let mut names = BTreeSet::new();
        let engines = engine::all().unwrap();
        for engine in &engines {
            let engine = engine.as_ref();
            let room = engine.room().path();
            names.insert(room.display().to_string());
            // One that ends, one that still runs when it is dropped, one that outlives even that.
            assert_eq!(run(engine, "rig-ended", &shell("exit 5")).0, Some(5));
            let container = Contained::run(engine, "rig-running", &shell("sleep 600")).unwrap();
            container.pid().unwrap();
            names.insert(engine.id("rig-running").unwrap());
            drop(container);
            let mut words = engine
                .run_words("rig-forgotten", &shell("sleep 600"))
                .unwrap();
            words.retain(|word| word != "--rm");
            words.insert(1, "-d".into());
            process::check(engine.client().args(words), PATIENCE).unwrap();
            let pid = engine.pid("rig-forgotten").unwrap().unwrap();
            names.insert(engine.id("rig-forgotten").unwrap());
            println!("{}: {} of {pid}", engine.name(), room.display());
        }
        let during = traces(&names);
        assert!(
            during.len() > 6,
            "what is looked for cannot be seen: {during:?}"
        );
        drop(engines);
        assert_eq!(traces(&names), Vec::<String>::new());
        for name in names.iter().filter(|name| name.starts_with('/')) {
            assert!(!Path::new(name).exists(), "{name}");
        }
        assert_eq!(machine(), before);
    }
}
