//! Minimality: whatever one application name is taken away, the program dies of it. There is no list of tolerated names.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod root {
    use seccast_kernel::enforcement::{
        Load, call_name, enforce, generate, record_container, with_action,
    };
    use seccast_kernel::kernel;
    use seccast_model::arch::Arch;
    use seccast_model::base::{self, Situation};
    use seccast_model::observation::Phase;
    use seccast_model::policy::Runtime;
    use seccast_rig::cgroup::Scope;
    use seccast_rig::{Container, Testimony, Witness, load};
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Instant;

    const RECORDINGS: usize = 10;

    /// Tries for a name that every recording had.
    const TRIES: usize = 3;

    /// Tries for a name that chance decides.
    const TRIES_BY_CHANCE: usize = 30;

    const REQUESTS: u32 = 50;

    /// Which task of the application died of the call, or why none did.
    ///
    /// runc's own process keeps its name until it executes the application: a call denied under another name was made after that.
    fn victim(seen: &Testimony, name: &str) -> Result<String, String> {
        let mut of_name = seen
            .denials
            .iter()
            .filter(|denial| call_name(denial.nr) == name && denial.nr == denial.result);
        let Some(denial) = of_name.find(|denial| !denial.comm.starts_with("runc")) else {
            return Err(format!("the application did not call it: {seen}"));
        };
        if seen.killed.iter().any(|killed| killed.pid == denial.pid) {
            Ok(denial.comm.clone())
        } else {
            Err(format!("{} called it and lives: {seen}", denial.comm))
        }
    }

    #[test]
    fn redis_dies_without_any_one_of_its_calls() {
        let Some(_serial) = kernel() else { return };
        let start = Instant::now();
        let bundle = load::redis_bundle().unwrap();
        let load: Load<'_> = &|container: &mut Container| load::redis(container, REQUESTS);

        let recordings: Vec<_> = (0..RECORDINGS)
            .map(|_| record_container("minimal-redis", &bundle, load))
            .collect();
        let mut presence: BTreeMap<String, usize> = BTreeMap::new();
        for recording in &recordings {
            let calls = &recording.complete().calls;
            let foreign: Vec<_> = calls
                .keys()
                .filter(|(arch, phase)| *phase == Phase::App && *arch != Arch::X86_64)
                .collect();
            assert!(foreign.is_empty(), "calls by another ABI: {foreign:?}");
            for name in calls
                .get(&(Arch::X86_64, Phase::App))
                .into_iter()
                .flat_map(|names| names.keys())
            {
                *presence.entry(name.clone()).or_default() += 1;
            }
        }
        let profile = generate(&recordings).profile;
        println!(
            "minimality: {RECORDINGS} recordings, {} application names, {:.0?}",
            presence.len(),
            start.elapsed()
        );

        let base = base::groups(Runtime::Runc, Situation::default()).unwrap();
        let base: BTreeSet<&str> = base
            .iter()
            .flat_map(|group| &group.names)
            .map(String::as_str)
            .collect();
        let (shared, own): (Vec<_>, Vec<_>) = presence
            .iter()
            .partition(|(name, _)| base.contains(name.as_str()));
        let shared: Vec<_> = shared.into_iter().map(|(name, _)| name.as_str()).collect();
        println!(
            "minimality: the runtime needs as well, so left out: {}",
            shared.join(" ")
        );

        let scope = Scope::new("minimal").unwrap();
        let mut witness = Witness::attach(&scope).unwrap();
        // The control: with nothing taken away no one dies.
        enforce("minimal-redis", &bundle, &profile, &scope.child("c"), load).unwrap();
        let seen = witness.take().unwrap();
        assert_eq!(seen, Testimony::default(), "with the whole profile: {seen}");

        println!(
            "{:<20} {:>10} {:>6}  who died",
            "name", "recordings", "tries"
        );
        let mut survivors = Vec::new();
        for &(name, &recordings) in &own {
            let profile = with_action(&profile, name, "SCMP_ACT_KILL_PROCESS");
            let tries = if recordings == RECORDINGS {
                TRIES
            } else {
                TRIES_BY_CHANCE
            };
            let mut last = String::new();
            let died = (1..=tries).find_map(|n| {
                let result = enforce("minimal-redis", &bundle, &profile, &scope.child("c"), load);
                let seen = witness.take().unwrap();
                match (victim(&seen, name), result) {
                    (Ok(comm), Err(failed)) => return Some((n, comm, failed.status)),
                    // A child may die alone, but then the load has to notice.
                    (Ok(comm), Ok(())) => {
                        last = format!("{comm} died of SIGSYS, but the load passed");
                    }
                    (Err(why), _) => last = why,
                }
                None
            });
            let of = format!("{recordings} of {RECORDINGS}");
            match died {
                Some((n, comm, status)) => {
                    let whole = match status.and_then(|status| status.code()) {
                        Some(code) => format!("the container ended with {code}"),
                        None => "only a child died".into(),
                    };
                    println!("{name:<20} {of:>10} {n:>6}  {comm}, {whole}");
                }
                None => {
                    println!("{name:<20} {of:>10} {tries:>6}  NO ONE");
                    survivors.push(format!("{name} ({of}, {tries} tries): {last}"));
                }
            }
        }
        println!(
            "minimality: {} names, {} not needed, {:.0?}",
            own.len(),
            survivors.len(),
            start.elapsed()
        );
        assert!(
            survivors.is_empty(),
            "not needed:\n{}",
            survivors.join("\n")
        );
    }
}
