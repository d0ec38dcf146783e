//! `seccast doctor` says what is so, and what to do about what is not.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod root {
    use seccast_kernel::{
        assert_calls, calls, kernel, seccast, seccast_for_everyone, truth, with_own_mounts,
    };
    use seccast_model::observation::{Observation, Phase};
    use serde_json::Value;
    use std::{fs, os::unix::process::CommandExt as _, path::Path, process::Command};

    /// The exit code and the answer.
    fn doctor(command: &mut Command) -> (Option<i32>, Value) {
        let output = command
            .args(["doctor", "--format", "json"])
            .output()
            .unwrap();
        let answer = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), answer)
    }

    fn finding<'a>(answer: &'a Value, subject: &str) -> &'a Value {
        let findings = answer["findings"].as_array().unwrap();
        findings
            .iter()
            .find(|finding| finding["subject"] == subject)
            .unwrap()
    }

    #[test]
    fn a_machine_that_runs_these_tests_can_record_by_the_fast_path() {
        let Some(_serial) = kernel() else { return };
        let (code, answer) = doctor(&mut Command::new(seccast()));
        assert_eq!(code, Some(0), "{answer:#}");
        assert_eq!(answer["schema"], "seccast/doctor.v1");
        assert_eq!(answer["can_record"], true);
        for subject in ["kernel", "btf", "capabilities", "programs", "runc"] {
            assert_eq!(finding(&answer, subject)["state"], "ok", "{answer:#}");
        }
        let programs = finding(&answer, "programs")["found"].as_str().unwrap();
        assert!(programs.starts_with("fast path"), "{programs}");
        // Whatever is not as it should be comes with what to do.
        for finding in answer["findings"].as_array().unwrap() {
            assert!(
                finding["state"] == "ok" || finding["advice"].is_string(),
                "{finding:#}"
            );
        }
    }

    #[test]
    fn without_privileges_it_names_the_capabilities_and_how_to_give_them() {
        let Some(_serial) = kernel() else { return };
        let (_folder, copy) = seccast_for_everyone();
        let (code, answer) = doctor(Command::new(&copy).uid(65534).gid(65534));
        assert_eq!(code, Some(1), "{answer:#}");
        assert_eq!(answer["can_record"], false);
        let capabilities = finding(&answer, "capabilities");
        assert_eq!(capabilities["state"], "missing");
        assert!(
            capabilities["advice"]
                .as_str()
                .unwrap()
                .contains("cap_bpf,cap_perfmon")
        );
        assert_eq!(finding(&answer, "programs")["state"], "missing");
        assert_eq!(finding(&answer, "kernel")["state"], "ok");
    }

    /// seccast under a kernel BTF in which another type has the name that the fast form of `sys_enter` is attached by.
    fn with_sys_enter_as(other: &[u8], folder: &Path) -> Command {
        let own = b"\0btf_trace_sys_enter\0";
        assert_eq!(other.len(), own.len());
        let mut btf = fs::read("/sys/kernel/btf/vmlinux").unwrap();
        let [here, there] = [own, other].map(|name| {
            let mut places = btf.windows(name.len());
            places.position(|window| window == name).unwrap()
        });
        btf[here..][..own.len()].copy_from_slice(other);
        btf[there..][..own.len()].copy_from_slice(own);
        let file = folder.join("btf");
        fs::write(&file, btf).unwrap();
        let script = "mount --bind \"$1\" /sys/kernel/btf/vmlinux || exit 99; shift; exec \"$@\"";
        let mut command = with_own_mounts(script);
        command.arg(file).arg(seccast()).current_dir(folder);
        command
    }

    #[test]
    fn where_the_verifier_refuses_the_fast_path_its_reason_is_told_and_the_recording_is_whole() {
        let Some(_serial) = kernel() else { return };
        let folder = tempfile::tempdir().unwrap();
        // The end of an address space has one argument where an enter has two.
        let seccast = || with_sys_enter_as(b"\0btf_trace_exit_mmap\0", folder.path());
        let (code, answer) = doctor(&mut seccast());
        assert_eq!(code, Some(0), "{answer:#}");
        let programs = finding(&answer, "programs");
        let found = programs["found"].as_str().unwrap();
        println!("{found}");
        assert_eq!(programs["state"], "limited");
        assert!(found.starts_with("fallback (raw_tp"), "{found}");
        for words in ["sys_enter: Permission denied", "invalid bpf_context access"] {
            assert!(found.contains(words), "nothing of {words:?}: {found}");
        }
        let output = seccast()
            .args(["record", "--observation", "o.json", "-o", "p.json", "--"])
            .arg(seccast_workloads::path("x86_64"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let observation = fs::read(folder.path().join("o.json")).unwrap();
        let observation = Observation::from_json(&observation).unwrap();
        assert_eq!(observation.losses, [].into());
        assert_calls(
            &calls(&observation, Phase::App),
            &truth(seccast_workloads::program("x86_64")),
            "by the fallback",
        );
    }
}
