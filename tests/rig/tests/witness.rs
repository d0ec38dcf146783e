//! The witness itself: it counts what a filter denies, exactly, and nothing else.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod root {
    use seccast_rig::cgroup::Scope;
    use seccast_rig::witness::{Testimony, Witness};
    use seccast_rig::{Bundle, Container, Runtime, lock, rootfs, unique};
    use serde_json::{Value, json};
    use std::time::Duration;

    /// Runs a shell script under a profile and says what the witness saw.
    fn testimony(name: &str, profile: Option<Value>, script: &str) -> (Testimony, Option<i32>) {
        let scope = Scope::new(name).unwrap();
        let mut witness = Witness::attach(&scope).unwrap();
        let mut bundle = Bundle::new(rootfs::busybox().unwrap(), ["/bin/sh", "-c", script]);
        if let Some(profile) = profile {
            bundle = bundle.seccomp(profile);
        }
        let bundle = bundle.cgroups_path(scope.child("c"));
        let mut container =
            Container::new(&unique(name), &bundle, &Runtime::runc().unwrap()).unwrap();
        let status = container.run(Duration::from_secs(60)).unwrap();
        let testimony = witness.take().unwrap();
        println!("{name}: {status}, {testimony}{}", container.log());
        (testimony, status.code())
    }

    fn denying(names: &[&str], action: &str) -> Value {
        let mut profile = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": names, "action": action }],
        });
        if action == "SCMP_ACT_ERRNO" {
            profile["syscalls"][0]["errnoRet"] = json!(38);
        }
        profile
    }

    #[test]
    fn each_denied_call_is_counted_and_named() {
        let _lock = lock::beside().unwrap();
        // rmdir calls rmdir once for each folder; 23 is prime.
        let script = "for i in $(seq 23); do rmdir /x; done; true";
        let (seen, status) = testimony(
            "rig-deny",
            Some(denying(&["rmdir"], "SCMP_ACT_ERRNO")),
            script,
        );
        assert_eq!(status, Some(0));
        assert_eq!(seen.denials.len(), 23, "{seen}");
        for denial in &seen.denials {
            let seen = (denial.nr, denial.result, denial.count, denial.comm.as_str());
            assert_eq!(seen, (libc::SYS_rmdir, -38, 1, "rmdir"));
        }
        assert_eq!(seen.killed, []);
    }

    #[test]
    fn a_profile_that_denies_nothing_has_no_denials() {
        let _lock = lock::beside().unwrap();
        // Forks, pipes, signals, subshells and a filter that is there but allows everything.
        let script = "for i in $(seq 40); do echo $i | cat | wc -c; (kill -USR1 $$); done; trap : TERM; kill $$; sleep 0.1";
        let script = format!("trap : USR1; {script}");
        for profile in [None, Some(denying(&["reboot"], "SCMP_ACT_ERRNO"))] {
            let (seen, status) = testimony("rig-allow", profile, &script);
            assert_eq!(status, Some(0));
            assert_eq!(seen, Testimony::default(), "{seen}");
        }
    }

    #[test]
    fn a_killed_process_is_told_from_a_failing_one() {
        let _lock = lock::beside().unwrap();
        let profile = denying(&["rmdir"], "SCMP_ACT_KILL_PROCESS");
        let (seen, status) = testimony("rig-kill", Some(profile), "false; rmdir /x; exit 3");
        assert_eq!(status, Some(3));
        assert_eq!(seen.denials.len(), 1, "{seen}");
        assert_eq!(
            (seen.denials[0].nr, seen.denials[0].count),
            (libc::SYS_rmdir, 1)
        );
        assert_eq!(seen.killed.len(), 1, "{seen}");
        assert_eq!(
            (seen.killed[0].comm.as_str(), seen.killed[0].pid),
            ("rmdir", seen.denials[0].pid)
        );
    }

    #[test]
    fn the_second_container_of_a_scope_is_seen_as_well() {
        let _lock = lock::beside().unwrap();
        let scope = Scope::new("rig-again").unwrap();
        let mut witness = Witness::attach(&scope).unwrap();
        let profile = denying(&["rmdir"], "SCMP_ACT_ERRNO");
        let bundle = Bundle::new(rootfs::busybox().unwrap(), ["/bin/rmdir", "/x"]);
        let bundle = bundle.seccomp(profile).cgroups_path(scope.child("c"));
        for n in 1..=3 {
            let mut container =
                Container::new(&unique("rig-again"), &bundle, &Runtime::runc().unwrap()).unwrap();
            container.run(Duration::from_secs(60)).unwrap();
            drop(container);
            assert_eq!(witness.take().unwrap().count(), 1, "container {n}");
        }
        std::fs::remove_dir(scope.dir()).unwrap();
        assert!(witness.take().is_err(), "a scope that is gone is an error");
    }

    #[test]
    fn two_witnesses_do_not_hear_each_other() {
        let _lock = lock::beside().unwrap();
        let scope = Scope::new("rig-two").unwrap();
        let mut one = Witness::attach(&scope).unwrap();
        let mut two = Witness::attach(&scope).unwrap();
        let profile = denying(&["rmdir"], "SCMP_ACT_ERRNO");
        let bundle = Bundle::new(rootfs::busybox().unwrap(), ["/bin/rmdir", "/x"]);
        let bundle = bundle.seccomp(profile).cgroups_path(scope.child("c"));
        let name = unique("rig-two");
        let mut container = Container::new(&name, &bundle, &Runtime::runc().unwrap()).unwrap();
        container.run(Duration::from_secs(60)).unwrap();
        assert_eq!(one.take().unwrap().count(), 1);
        assert_eq!(two.take().unwrap().count(), 1);
        assert_eq!(one.take().unwrap(), Testimony::default());
    }
}
