//! `record --all`: every container that starts on the machine, each into files of its own, and nothing else.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod alone {
    use seccast_kernel::engine::{Shared, Workloads, path_with_all};
    use seccast_kernel::repeats;
    use seccast_kernel::{Call, Record, call, calls, harmless, kernel_alone};
    use seccast_model::arch::Arch;
    use seccast_model::audit_profile;
    use seccast_model::observation::{Observation, Phase};
    use seccast_rig::cgroup::Scope;
    use seccast_rig::engine::{Containerd, Docker, Podman};
    use seccast_rig::{Bundle, process, unique};
    use seccast_workloads::{numbers, path};
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::Path;
    use std::process::Command;
    use std::time::{Duration, Instant};

    const PATIENCE: Duration = Duration::from_secs(60);

    /// What is known of a container before it starts.
    #[derive(Debug, PartialEq, Eq)]
    struct Known {
        name: Option<String>,
        engine: String,
        image: String,
        calls: BTreeSet<Call>,
    }

    /// A container that makes one call and ends: it lives for a millisecond.
    struct One {
        name: String,
        bundle: Bundle,
        known: Known,
    }

    fn names(folder: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// What the files say of each container.
    fn written(folder: &Path) -> BTreeMap<String, Known> {
        let files = names(folder);
        let names = files
            .iter()
            .filter_map(|name| name.strip_suffix(".observation.json"));
        names
            .map(|name| {
                let path = folder.join(format!("{name}.observation.json"));
                let observation = Observation::from_json(&fs::read(path).unwrap()).unwrap();
                assert!(observation.losses.is_empty() && observation.started_late_ns.is_none());
                let target = &observation.target;
                let known = Known {
                    // ctr's names are ids.
                    name: target
                        .container_name
                        .clone()
                        .or_else(|| target.container_id.clone()),
                    engine: target.engine.clone().unwrap_or_default(),
                    image: target.image.clone().unwrap_or_default(),
                    calls: calls(&observation, Phase::App),
                };
                (name.to_owned(), known)
            })
            .collect()
    }

    // Every container that starts on the machine meanwhile would be in its folder, and decide about its end.
    #[test]
    fn each_container_of_three_engines_has_its_own_files() {
        let Some(_serial) = kernel_alone() else {
            return;
        };
        let count = repeats(60);
        let (docker, podman) = (Docker::start().unwrap(), Podman::new().unwrap());
        let containerd = Containerd::start().unwrap();
        let engines: [Shared<'_>; 3] = [&docker, &podman, &containerd];
        let ours = unique("all");
        let images = ["a", "b"].map(|tag| Workloads::tagged(tag, &["one"]));
        let mut of_engine: [Vec<One>; 3] = Default::default();
        for (n, (arch, nr)) in harmless::named()
            .into_iter()
            .step_by(5)
            .take(count)
            .enumerate()
        {
            let engine = engines[n % 3];
            let mut words = vec!["/one".to_owned()];
            words.extend(numbers::one(arch, nr));
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            let bundle = images[n / 3 % 2].bundle(&words).capabilities(&[]);
            let name = format!("{ours}-{n}-{}", engine.name());
            let known = Known {
                name: Some(name.clone()),
                engine: if n % 3 == 2 {
                    "containerd"
                } else {
                    engine.name()
                }
                .to_owned(),
                image: engine.image(&bundle).unwrap(),
                calls: BTreeSet::from([call((arch, nr)), (Arch::X86_64, "exit_group".into())]),
            };
            of_engine[n % 3].push(One {
                name,
                bundle,
                known,
            });
        }
        let work = tempfile::tempdir().unwrap();
        let folder = work.path().join("profiles");
        let socket = containerd.address();
        let args = [
            "--engine",
            "containerd",
            "--socket",
            socket.to_str().unwrap(),
        ];
        let running = Record::all(&folder, args)
            .env("DOCKER_HOST", docker.host())
            .env("PATH", path_with_all(&[&docker, &containerd]))
            .start();
        // Something that makes calls in a new cgroup and is no container.
        let session = Scope::new("all-session").unwrap();
        let script = format!(
            "echo $$ >{}/cgroup.procs; exec {}",
            session.dir().display(),
            path("sleeper").display()
        );
        let mut stranger = Command::new("sh").args(["-c", &script]).spawn().unwrap();
        let pid = stranger.id().cast_signed();
        let asleep = || Ok(process::sleeps_in(pid) == Some(libc::SYS_nanosleep));
        process::poll("the stranger's sleep", PATIENCE, asleep).unwrap();
        running.catch_up();
        let known = Instant::now();

        let start = Instant::now();
        std::thread::scope(|scope| {
            for (engine, containers) in engines.into_iter().zip(&of_engine) {
                scope.spawn(move || {
                    for One { name, bundle, .. } in containers {
                        // An engine's own filter would deny some, and kill what is of another ABI.
                        let open = audit_profile().to_oci_json();
                        let open = serde_json::from_str(&open).unwrap();
                        let bundle = bundle.clone().seccomp(open);
                        process::check(&mut engine.run(name, &bundle).unwrap(), PATIENCE).unwrap();
                    }
                });
            }
        });
        let took = start.elapsed();
        let expected: BTreeMap<String, Known> = of_engine
            .into_iter()
            .flatten()
            .map(|one| (one.name, one.known))
            .collect();
        // What is missing then is told below.
        let all = || Ok(names(&folder).len() >= 3 * count);
        let written_all = process::poll("their files", PATIENCE, all);
        println!("{written_all:?}");
        // So long a cgroup may be without evidence; then it is given up in the next round.
        process::poll("its time", PATIENCE, || {
            Ok(known.elapsed() > Duration::from_secs(5))
        })
        .unwrap();
        running.catch_up();
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        let recorded = running.stop();
        let mut seen = written(&folder);
        let mut all = names(&folder);
        // Nobody else starts containers on a machine that is the test's own.
        let others = seen.len();
        seen.retain(|name, _| name.starts_with(&ours));
        all.retain(|name| name.starts_with(&ours));
        let others = others - seen.len();
        println!(
            "{count} containers of three engines in {took:.1?}: {} written, and {others} of others",
            seen.len()
        );
        for (name, known) in &expected {
            match seen.get(name) {
                None => println!("missing: {name}"),
                Some(found) if found != known => println!("wrong: {name}: {found:?}, is {known:?}"),
                Some(_) => {}
            }
        }
        for name in seen.keys().filter(|name| !expected.contains_key(*name)) {
            println!("too many: {name}");
        }
        assert!(seen == expected, "{}", recorded.stderr);
        let suffixes = ["seccomp.json", "observation.json", "seccomp.report.json"];
        let files = expected
            .keys()
            .flat_map(|name| suffixes.map(|suffix| format!("{name}.{suffix}")));
        assert_eq!(all.len(), 3 * count);
        assert_eq!(all, files.collect());
        assert!(
            recorded.stderr.contains("ignored") && recorded.stderr.contains(session.path()),
            "{}",
            recorded.stderr
        );
        if others == 0 {
            recorded.assert_ended(0, &[]);
        }
    }
}
