//! What engines make of profiles with conditions is what seccast makes of them, and runtimes take it.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod root {
    use seccast_kernel::engine::Workloads;
    use seccast_kernel::{kernel, root_with};
    use seccast_model::arch::Arch::X86_64;
    use seccast_model::defaults::{self, DOCKER_CAPABILITIES};
    use seccast_model::parse::moby::{Host, MobyProfile};
    use seccast_model::profile::Profile;
    use seccast_rig::engine::{Docker, Podman};
    use seccast_rig::{Bundle, Contained, Container, Engine, Runtime, Server as _, unique};
    use serde_json::Value;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    /// The files that engines bring. docker 20.10 does not know `defaultErrnoRet`, which podman's has, nor errors by name.
    const FILES: [&str; 4] = [
        "docker/default.json",
        "containerd/default.json",
        "podman/seccomp.json",
        "crio/default.json",
    ];

    const CAPABILITIES: [&[&str]; 4] = [
        &DOCKER_CAPABILITIES,
        &[],
        &["CAP_SYSLOG", "CAP_SYS_PTRACE"],
        &["CAP_AUDIT_WRITE", "CAP_SYS_ADMIN", "CAP_SYS_TIME"],
    ];

    /// The configuration that an engine gave the runtime for a container of this id.
    fn configuration(folder: &Path, id: &str) -> Option<Value> {
        let entries = fs::read_dir(folder).ok()?;
        let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths.find_map(|path| {
            let file = path.join("config.json");
            let inside = path.components().any(|part| part.as_os_str() == id);
            let read = || serde_json::from_slice(&fs::read(&file).ok()?).ok();
            let found = read().filter(|found: &Value| found.get("ociVersion").is_some());
            found.filter(|_| inside).or_else(|| {
                let below = path.is_dir() && !path.is_symlink();
                below.then(|| configuration(&path, id)).flatten()
            })
        })
    }

    /// In how many containers an engine's evaluation of the files was compared.
    fn agrees(engine: &dyn Engine, files: &[&str]) -> usize {
        let workloads = Workloads::new(&["sleeper"]);
        for file in files {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../profiles/defaults")
                .join(file);
            let bytes = fs::read(path).unwrap();
            let dialect = MobyProfile::from_json(&bytes).unwrap();
            for capabilities in CAPABILITIES {
                let bundle = workloads.bundle(&["/sleeper"]).capabilities(capabilities);
                let bundle = bundle.seccomp(serde_json::from_slice(&bytes).unwrap());
                let container = Contained::run(engine, "seccast-dialect", &bundle).unwrap();
                container.pid().unwrap();
                let id = engine.id("seccast-dialect").unwrap();
                let given = configuration(engine.room().path(), &id).unwrap();
                let given =
                    Profile::from_oci_json(given["linux"]["seccomp"].to_string().as_bytes())
                        .unwrap();
                let capabilities: BTreeSet<String> =
                    capabilities.iter().map(|name| (*name).to_owned()).collect();
                let ours = dialect
                    .resolve(Host {
                        arch: X86_64,
                        capabilities: &capabilities,
                        kernel: None,
                    })
                    .unwrap();
                assert_eq!(
                    given,
                    ours,
                    "{}: {file} with {capabilities:?}",
                    engine.name()
                );
            }
        }
        files.len() * CAPABILITIES.len()
    }

    #[test]
    fn docker_evaluates_conditions_like_seccast() {
        let Some(_kernel) = kernel() else { return };
        let compared = agrees(&Docker::start().unwrap(), &FILES[..2]);
        println!("docker gave its runtime the same profile in {compared} containers");
    }

    #[test]
    fn podman_evaluates_conditions_like_seccast() {
        let Some(_kernel) = kernel() else { return };
        let compared = agrees(&Podman::new().unwrap(), &FILES);
        println!("podman gave its runtime the same profile in {compared} containers");
    }

    #[test]
    fn runtimes_take_every_default_in_its_plain_form() {
        let Some(_kernel) = kernel() else { return };
        let root = root_with(&["sleeper"]);
        for (name, runtime) in [
            ("runc", Runtime::runc().unwrap()),
            ("crun", Runtime::crun().unwrap()),
        ] {
            for engine in defaults::Engine::ALL {
                let capabilities = engine.capabilities();
                let default =
                    defaults::resolve(engine, X86_64, capabilities.iter().copied()).unwrap();
                let plain = serde_json::from_str(&default.profile.to_oci_json()).unwrap();
                let bundle = Bundle::new(root.path(), ["/sleeper", "1"]).capabilities(capabilities);
                let own = unique("seccast-plain");
                let mut container = Container::new(&own, &bundle.seccomp(plain), &runtime).unwrap();
                let status = container.run(Duration::from_secs(60)).unwrap();
                assert!(
                    status.success(),
                    "{name}, {engine}: {status}\n{}",
                    container.log()
                );
            }
            println!(
                "{name} ran a container under each of {} defaults",
                defaults::Engine::ALL.len()
            );
        }
    }
}
