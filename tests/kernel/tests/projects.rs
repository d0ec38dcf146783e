//! A command that starts several containers: each has its own, right profile in one folder.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod root {
    use seccast_kernel::engine::{Workloads, path_with};
    use seccast_kernel::{Record, Recorded, calls, enforcement::allowed, kernel, truth};
    use seccast_model::observation::{Observation, Phase};
    use seccast_rig::engine::{Docker, Podman};
    use seccast_rig::{Engine, process};
    use seccast_workloads::program;
    use serde_json::{Value, json};
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;
    use std::process::Command;
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(120);
    /// Services and what they run.
    const SERVICES: [(&str, &str); 3] = [("one", "x86_64"), ("two", "signal"), ("three", "plain")];

    fn programs() -> [&'static str; 3] {
        SERVICES.map(|(_, program)| program)
    }

    /// Exactly these files are in the folder, each with exactly the calls of its workload, none under a filter that denies.
    fn check(folder: &Path, recorded: &Recorded, engine: &str, name: impl Fn(&str) -> String) {
        recorded.assert_ended(0, &["audit mode"]);
        let mut expected = BTreeSet::new();
        for (service, workload) in SERVICES {
            let name = name(service);
            let file = |kind: &str| format!("{name}.{kind}.json");
            let read = |kind: &str| fs::read(folder.join(file(kind))).unwrap();
            let observation = Observation::from_json(&read("observation")).unwrap();
            assert!(observation.losses.is_empty() && observation.started_late_ns.is_none());
            assert!(!observation.filtered, "{name}\n{}", recorded.stderr);
            let target = &observation.target;
            assert_eq!(target.container_name.as_deref(), Some(name.as_str()));
            assert_eq!(target.engine.as_deref(), Some(engine));
            assert_eq!(target.image.as_deref(), Some("localhost/workloads:1"));
            let truth = truth(program(workload));
            assert_eq!(calls(&observation, Phase::App), truth, "{name}");
            let profile: Value = serde_json::from_slice(&read("seccomp")).unwrap();
            let allowed = allowed(&profile);
            assert!(truth.iter().all(|(_, call)| allowed.contains(call)));
            expected.extend(["observation", "seccomp", "seccomp.report"].map(file));
        }
        let entries = fs::read_dir(folder).unwrap();
        let written: BTreeSet<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(written, expected);
    }

    /// A compose project whose services run the workloads.
    fn project(folder: &Path) {
        let services: serde_json::Map<_, _> = SERVICES
            .iter()
            .map(|(service, program)| {
                let service = (*service).to_owned();
                let command = [format!("/{program}")];
                let image = "localhost/workloads:1";
                (
                    service,
                    json!({ "image": image, "command": command, "network_mode": "none" }),
                )
            })
            .collect();
        let project = json!({ "version": "2.4", "services": services });
        fs::write(folder.join("docker-compose.yml"), project.to_string()).unwrap();
    }

    #[test]
    fn each_service_of_a_compose_project_has_its_own_profile() {
        let Some(_serial) = kernel() else { return };
        let docker = Docker::start().unwrap();
        let workloads = Workloads::new(&programs());
        docker.image(&workloads.bundle(&["/plain"])).unwrap();
        let work = tempfile::Builder::new()
            .prefix("project")
            .tempdir()
            .unwrap();
        project(work.path());
        let compose = |words: &[&str]| {
            let mut command =
                Command::new(process::need("docker-compose", "docker-compose").unwrap());
            command
                .args(["-p", "trio", "-f"])
                .arg(work.path().join("docker-compose.yml"));
            command
                .args(words)
                .env("DOCKER_HOST", docker.host())
                .env("PATH", path_with(&docker));
            command
        };
        let folder = work.path().join("out");
        fs::create_dir(&folder).unwrap();
        let recorded = Record::each(&folder, &compose(&["up"])).run(PATIENCE);
        check(&folder, &recorded, "docker", |service| {
            format!("trio_{service}_1")
        });
        process::check(&mut compose(&["down"]), PATIENCE).unwrap();

        // Its end is its containers', not the client's.
        let recorded = Record::each(&folder, &compose(&["up", "-d"])).run(PATIENCE);
        check(&folder, &recorded, "docker", |service| {
            format!("trio_{service}_1")
        });
        process::check(&mut compose(&["down"]), PATIENCE).unwrap();

        // One file is no place for three.
        let file = work.path().join("one.json");
        let mut record = Command::new(seccast_kernel::seccast());
        record.args(["record", "-o"]).arg(&file).arg("--");
        let up = compose(&["up"]);
        record
            .arg(up.get_program())
            .args(up.get_args())
            .env("DOCKER_HOST", docker.host());
        let output = process::output(&mut record, PATIENCE).unwrap();
        assert_eq!(output.status.code(), Some(125), "{}", output.stderr);
        assert!(
            output.stderr.contains("one.json is no folder"),
            "{}",
            output.stderr
        );
        assert!(!file.exists() && docker.containers().unwrap().is_empty());
    }

    #[test]
    fn each_container_of_a_pod_has_its_own_profile() {
        let Some(_serial) = kernel() else { return };
        let podman = Podman::with_pods().unwrap();
        let workloads = Workloads::new(&programs());
        podman.image(&workloads.bundle(&["/plain"])).unwrap();
        let containers = SERVICES.map(|(name, program)| {
            json!({ "name": name, "image": "localhost/workloads:1", "command": [format!("/{program}")] })
        });
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "trio" },
            "spec": { "restartPolicy": "Never", "containers": containers },
        });
        let work = tempfile::tempdir().unwrap();
        let file = work.path().join("pod.yaml");
        fs::write(&file, pod.to_string()).unwrap();
        let folder = work.path().join("out");
        fs::create_dir(&folder).unwrap();
        let mut play = podman.client();
        play.args(["kube", "play", "--network", "none"]).arg(&file);
        let recorded = Record::each(&folder, &play).run(PATIENCE);
        check(&folder, &recorded, "podman", |container| {
            format!("trio-{container}")
        });
        assert_eq!(fs::read(&file).unwrap(), pod.to_string().into_bytes());
    }
}
