//! The closed loop: record a real server under load, generate, enforce, run the same load again. Nothing may be denied.
//!
//! A denial is survivable where the program has a fallback for ENOSYS, so "the load passed" is not the proof: the witness is.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod root {
    use seccast_kernel::enforcement::{
        allowed, call_name, denials, enforce, generate, record_container, with_action,
    };
    use seccast_kernel::kernel;
    use seccast_rig::cgroup::Scope;
    use seccast_rig::{Bundle, BusyLoops, Container, Witness, load};
    use std::time::{Duration, Instant};

    /// A peer's profile passed 5 of 5 starts in quiet and failed 37 of 200 beside two busy loops.
    const STARTS: usize = 200;

    /// Requests of each benchmark of a load; the same when recorded and when enforced.
    const REQUESTS: u32 = 50;

    /// A name that both programs call at their start and survive without.
    const CONTROL: &str = "sysinfo";

    fn closed_loop(
        name: &str,
        bundle: &Bundle,
        load: fn(&mut Container, u32) -> anyhow::Result<()>,
    ) {
        let Some(_serial) = kernel() else { return };
        let load = |container: &mut Container| load(container, REQUESTS);
        let recorded = record_container(name, bundle, &load);
        let generated = generate(&[recorded]);
        println!(
            "{name}: {} names allowed: {}",
            allowed(&generated.profile).len(),
            allowed(&generated.profile).join(" ")
        );

        let scope = Scope::new(name).unwrap();
        let mut witness = Witness::attach(&scope).unwrap();
        let _busy = BusyLoops::start(2);
        let start = Instant::now();
        let (mut failures, mut slowest) = (Vec::new(), Duration::ZERO);
        for n in 1..=STARTS {
            let start = Instant::now();
            if let Err(failed) = enforce(name, bundle, &generated.profile, &scope.child("c"), &load)
            {
                failures.push(format!(
                    "start {n}: {:?}, {:#}",
                    failed.status, failed.error
                ));
            }
            slowest = slowest.max(start.elapsed());
        }
        let took = start.elapsed();
        let seen = witness.take().unwrap();
        // The control, after everything else: the witness still sees this one name denied.
        let without = with_action(&generated.profile, CONTROL, "SCMP_ACT_ERRNO");
        let passed = enforce(name, bundle, &without, &scope.child("c"), &load).is_ok();
        let control = witness.take().unwrap();
        println!(
            "{name}: without {CONTROL} the load passed: {passed}, the witness saw\n{}",
            denials(&control)
        );
        assert!(
            control
                .denials
                .iter()
                .any(|denial| call_name(denial.nr) == CONTROL),
            "the witness does not see what is denied"
        );
        println!(
            "{name}: {} of {STARTS} starts passed their load beside two busy loops, {} denials by the witness\n\
             {name}: {:.2} s a start, {:.2} s the slowest, {:.0} s in all",
            STARTS - failures.len(),
            seen.count(),
            took.as_secs_f64() / STARTS as f64,
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
            "{} of {STARTS} starts failed:\n{}",
            failures.len(),
            failures.join("\n")
        );
    }

    #[test]
    fn redis_starts_200_times_of_200_under_its_profile_without_a_denial() {
        closed_loop("closed-redis", &load::redis_bundle().unwrap(), load::redis);
    }

    #[test]
    fn nginx_starts_200_times_of_200_under_its_profile_without_a_denial() {
        closed_loop("closed-nginx", &load::nginx_bundle().unwrap(), load::nginx);
    }
}
