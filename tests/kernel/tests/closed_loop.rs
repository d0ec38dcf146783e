//! The closed loop: record a real server under load, generate, enforce, run the same load again. Nothing may be denied. And the
//! same under the profiles of `profiles/apps`.
//!
//! A denial is survivable where the program has a fallback for ENOSYS, so "the load passed" is not the proof: the witness is.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod root {
    use seccast_kernel::enforcement::{
        allowed, call_name, committed, denials, enforce, generate_for, record_container,
        with_action,
    };
    use seccast_kernel::{app, kernel, repeats};
    use seccast_rig::cgroup::Scope;
    use seccast_rig::load::App;
    use seccast_rig::{BusyLoops, Container, Witness};
    use serde_json::Value;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    /// Containers side by side: much of a start is waiting, and what waits makes no load. But for haproxy: its threads wait
    /// for each other by spinning, and four of them beside two busy loops on two cores kept a client waiting for 30 s.
    fn side_by_side(name: &str) -> usize {
        if name == "haproxy" { 1 } else { 4 }
    }

    /// Requests of each benchmark of a load; the same when recorded and when enforced.
    const REQUESTS: u32 = 50;

    /// A name that every one of the programs calls at its start and survives without.
    const CONTROL: &str = "getrandom";

    /// Records the server, and starts it under what comes of that.
    ///
    /// A peer's profile passed 5 of 5 starts of redis in quiet and failed 37 of 200 beside two busy loops.
    fn closed_loop(name: &str, starts: usize) {
        let Some(_serial) = kernel() else { return };
        let app = app(name);
        let load = |container: &mut Container| (app.load)(container, REQUESTS);
        let recorded = record_container(name, &(app.bundle)().unwrap(), &load);
        let mut observations = vec![recorded.observation_path()];
        // What chance decides, one recording need not have; the committed ones do.
        observations.extend(committed(name).by_chance());
        let profile = generate_for("runc", &observations).profile;
        println!(
            "{name}: {} names allowed: {}",
            allowed(&profile).len(),
            allowed(&profile).join(" ")
        );
        passes(app, &profile, repeats(starts));
    }

    /// Starts the server under the profile that is committed.
    fn under_the_committed_profile(name: &str, starts: usize) {
        let Some(_serial) = kernel() else { return };
        passes(app(name), &committed(name).profile, repeats(starts));
    }

    fn passes(app: App, profile: &Value, starts: usize) {
        let name = app.name;
        let sides = side_by_side(name);
        let bundle = (app.bundle)().unwrap();
        let load = |container: &mut Container| (app.load)(container, REQUESTS);
        let scope = Scope::new(&format!("closed-{name}")).unwrap();
        let mut witness = Witness::attach(&scope).unwrap();
        let busy = BusyLoops::start(2);
        let start = Instant::now();
        let next = AtomicUsize::new(1);
        let failures: Mutex<Vec<String>> = Mutex::default();
        let slowest = Mutex::new(Duration::ZERO);
        std::thread::scope(|threads| {
            for side in 1..=sides {
                let (next, failures, slowest) = (&next, &failures, &slowest);
                let (bundle, load) = (&bundle, &load);
                let (name, cgroup) = (
                    format!("closed-{name}-{side}"),
                    scope.child(&side.to_string()),
                );
                threads.spawn(move || {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n > starts {
                            break;
                        }
                        let start = Instant::now();
                        if let Err(failed) = enforce(&name, bundle, profile, &cgroup, load) {
                            failures.lock().unwrap().push(format!(
                                "start {n}: {:?}, {:#}",
                                failed.status, failed.error
                            ));
                        }
                        let mut slowest = slowest.lock().unwrap();
                        *slowest = slowest.max(start.elapsed());
                    }
                });
            }
        });
        let took = start.elapsed();
        let (failures, slowest) = (
            failures.into_inner().unwrap(),
            slowest.into_inner().unwrap(),
        );
        let seen = witness.take().unwrap();
        drop(busy);
        // The control, after everything else: the witness still sees this one name denied.
        let without = with_action(profile, CONTROL, "SCMP_ACT_ERRNO");
        let cgroup = scope.child("c");
        let passed = enforce(
            &format!("closed-{name}-c"),
            &bundle,
            &without,
            &cgroup,
            &load,
        )
        .is_ok();
        let control = witness.take().unwrap();
        println!(
            "{name}: without {CONTROL} the load passed: {passed}, the witness saw\n{}",
            denials(&control)
        );
        assert!(
            control
                .denials
                .iter()
                .any(|denial| call_name(denial.nr) == CONTROL && !denial.comm.starts_with("runc")),
            "the witness does not see what is denied"
        );
        println!(
            "{name}: {} of {starts} starts passed their load beside two busy loops, {} denials by the witness\n\
             {name}: {sides} side by side, {:.2} s the slowest, {:.0} s in all",
            starts - failures.len(),
            seen.count(),
            slowest.as_secs_f64(),
            took.as_secs_f64(),
        );
        assert!(
            seen.denials.is_empty() && seen.killed.is_empty(),
            "denied:\n{}{seen}",
            denials(&seen)
        );
        assert!(
            failures.is_empty(),
            "{} of {starts} starts failed:\n{}",
            failures.len(),
            failures.join("\n")
        );
    }

    #[test]
    fn redis_starts_every_time_under_its_profile_without_a_denial() {
        closed_loop("redis", 60);
    }

    #[test]
    fn nginx_starts_every_time_under_its_profile_without_a_denial() {
        closed_loop("nginx", 60);
    }

    #[test]
    fn memcached_starts_under_its_profile_without_a_denial() {
        closed_loop("memcached", 10);
    }

    #[test]
    fn postgresql_starts_under_its_profile_without_a_denial() {
        closed_loop("postgresql", 10);
    }

    #[test]
    fn haproxy_starts_under_its_profile_without_a_denial() {
        closed_loop("haproxy", 10);
    }

    #[test]
    fn mariadb_starts_under_its_profile_without_a_denial() {
        closed_loop("mariadb", 10);
    }

    #[test]
    fn redis_starts_under_the_committed_profile() {
        under_the_committed_profile("redis", 15);
    }

    #[test]
    fn nginx_starts_under_the_committed_profile() {
        under_the_committed_profile("nginx", 15);
    }

    #[test]
    fn memcached_starts_under_the_committed_profile() {
        under_the_committed_profile("memcached", 5);
    }

    #[test]
    fn postgresql_starts_under_the_committed_profile() {
        under_the_committed_profile("postgresql", 5);
    }

    #[test]
    fn haproxy_starts_under_the_committed_profile() {
        under_the_committed_profile("haproxy", 5);
    }

    #[test]
    fn mariadb_starts_under_the_committed_profile() {
        under_the_committed_profile("mariadb", 5);
    }
}
