//! `seccast doctor` says what is so, and what to do about what is not.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod root {
    use seccast_kernel::{kernel, seccast, seccast_for_everyone};
    use serde_json::Value;
    use std::{os::unix::process::CommandExt as _, process::Command};

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
}
