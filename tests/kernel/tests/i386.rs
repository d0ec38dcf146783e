//! 32-bit programs: named by their own table, and allowed by an architecture that is listed only for them.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod root {
    use seccast_kernel::{Record, Recorded, calls, kernel, root_with, truth};
    use seccast_model::observation::Phase;
    use seccast_rig::cgroup::Scope;
    use seccast_rig::{Bundle, Container, Runtime, Witness, unique};
    use seccast_workloads::program;
    use serde_json::{Value, json};
    use std::path::Path;
    use std::time::Duration;

    /// Runs a workload in runc and records it from its first instruction.
    fn record(name: &str, root: &Path) -> Recorded {
        let container = unique(&format!("i386-{name}"));
        let running = Record::new(["--container", &container, "--wait=60s"]).start();
        let bundle = Bundle::new(root, [format!("/{name}")]);
        let mut container = Container::new(&container, &bundle, &Runtime::runc().unwrap()).unwrap();
        let status = container.run(Duration::from_secs(60)).unwrap();
        assert_eq!(status.code(), Some(0), "{}", container.log());
        running.end(Duration::from_secs(60))
    }

    /// Runs it under a profile: its status, and how many calls were denied.
    fn enforce(name: &str, root: &Path, profile: Value) -> (Option<i32>, u64) {
        let scope = Scope::new("i386").unwrap();
        let mut witness = Witness::attach(&scope).unwrap();
        let bundle = Bundle::new(root, [format!("/{name}")])
            .seccomp(profile)
            .cgroups_path(scope.child("c"));
        let mut container =
            Container::new(&unique("i386-enforced"), &bundle, &Runtime::runc().unwrap()).unwrap();
        let status = container.run(Duration::from_secs(60)).unwrap();
        let testimony = witness.take().unwrap();
        println!("{name}: {status}, {testimony}{}", container.log());
        (status.code(), testimony.count())
    }

    #[test]
    fn a_32_bit_program_is_named_by_its_table_and_runs_under_its_profile() {
        let Some(_serial) = kernel() else { return };
        let root = root_with(&["i386", "x86_64"]);
        let recorded = record("i386", root.path());
        assert_eq!(
            calls(recorded.complete(), Phase::App),
            truth(program("i386"))
        );
        let profile = recorded.profile();
        assert_eq!(
            profile["architectures"],
            json!(["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"])
        );
        assert_eq!(enforce("i386", root.path(), profile), (Some(0), 0));
    }

    #[test]
    fn a_64_bit_program_does_not_list_the_32_bit_architecture() {
        let Some(_serial) = kernel() else { return };
        let root = root_with(&["i386", "x86_64"]);
        let recorded = record("x86_64", root.path());
        assert_eq!(
            calls(recorded.complete(), Phase::App),
            truth(program("x86_64"))
        );
        let profile = recorded.profile();
        assert_eq!(profile["architectures"], json!(["SCMP_ARCH_X86_64"]));
        assert_eq!(
            enforce("x86_64", root.path(), profile.clone()),
            (Some(0), 0)
        );
        // And so a 32-bit program dies under it, whatever it calls.
        let (status, _) = enforce("i386", root.path(), profile);
        assert_eq!(status, Some(128 + libc::SIGSYS));
    }

    #[test]
    fn each_abi_that_a_program_calls_by_is_listed_and_no_other() {
        let Some(_serial) = kernel() else { return };
        let root = root_with(&["int80", "x32", "chain1", "chain2", "chain3", "i386"]);
        for (name, architectures) in [
            ("int80", json!(["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"])),
            ("x32", json!(["SCMP_ARCH_X32", "SCMP_ARCH_X86_64"])),
            ("chain1", json!(["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"])),
        ] {
            let recorded = record(name, root.path());
            assert_eq!(calls(recorded.complete(), Phase::App), truth(program(name)));
            let profile = recorded.profile();
            assert_eq!(profile["architectures"], architectures, "{name}");
            assert_eq!(enforce(name, root.path(), profile), (Some(0), 0), "{name}");
        }
    }
}
