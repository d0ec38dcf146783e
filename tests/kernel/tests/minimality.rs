//! Minimality: whatever one application name is taken away, the program dies of it. There is no list of tolerated names.
//!
//! redis is recorded here; of the others the profiles in `profiles/apps` are shown to be minimal.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod root {
    use seccast_kernel::enforcement::{
        Failed, Load, call_name, committed, enforce, generate, record_container, with_action,
    };
    use seccast_kernel::{app, kernel, named};
    use seccast_model::arch::Arch;
    use seccast_model::base::{self, Situation};
    use seccast_model::observation::Phase;
    use seccast_model::policy::Runtime;
    use seccast_rig::cgroup::Scope;
    use seccast_rig::load::App;
    use seccast_rig::{BusyLoops, Container, Testimony, Witness};
    use serde_json::Value;
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Instant;

    const RECORDINGS: usize = 10;

    /// Tries for a name that every recording had.
    const TRIES: usize = 3;

    /// Tries for a name that chance decides.
    const TRIES_BY_CHANCE: usize = 30;

    /// Containers side by side, each without another name: the witness tells them apart by what was denied.
    const SIDE_BY_SIDE: usize = 4;

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

    /// The names of the application, and whether every recording had them.
    type Names = BTreeMap<String, bool>;

    fn recorded(app: App) -> (Value, Names) {
        let bundle = (app.bundle)().unwrap();
        let load: Load<'_> = &|container: &mut Container| (app.load)(container, REQUESTS);
        let recordings: Vec<_> = (0..RECORDINGS)
            .map(|_| record_container(app.name, &bundle, load))
            .collect();
        let mut presence: BTreeMap<String, usize> = BTreeMap::new();
        for (arch, name) in recordings
            .iter()
            .flat_map(|recording| named(recording.complete(), Phase::App))
        {
            assert_eq!(arch, Arch::X86_64, "{name} was called by another ABI");
            *presence.entry(name).or_default() += 1;
        }
        let always = presence
            .into_iter()
            .map(|(name, of)| (name, of == RECORDINGS));
        (generate(&recordings).profile, always.collect())
    }

    /// Everybody dies without any one of their calls.
    fn minimal(app: App, profile: &Value, names: Names) {
        let start = Instant::now();
        let name = app.name;
        let base = base::groups(Runtime::Runc, Situation::default()).unwrap();
        let base: BTreeSet<&String> = base.iter().flat_map(|group| &group.names).collect();
        let (shared, mut own): (Names, Names) =
            names.into_iter().partition(|(name, _)| base.contains(name));
        let shared: Vec<_> = shared.into_keys().collect();
        println!(
            "minimality of {name}: the runtime needs as well, so left out: {}",
            shared.join(" ")
        );

        let bundle = (app.bundle)().unwrap();
        // Its master would start dying children for ever again.
        let bundle = match name {
            "postgresql" => bundle.args(&["-c", "restart_after_crash=off"]),
            _ => bundle,
        };
        let load = |container: &mut Container| (app.load)(container, REQUESTS);
        let scope = Scope::new(&format!("minimal-{name}")).unwrap();
        let mut witness = Witness::attach(&scope).unwrap();
        let run = |side: usize, profile: &Value| -> Result<(), Failed> {
            let container = format!("minimal-{name}-{side}");
            enforce(
                &container,
                &bundle,
                profile,
                &scope.child(&side.to_string()),
                &load,
            )
        };
        // The control: with nothing taken away no one dies.
        run(0, profile).unwrap();
        let seen = witness.take().unwrap();
        assert_eq!(seen, Testimony::default(), "with the whole profile: {seen}");

        println!("{:<20} {:>6}  who died", "name", "tries");
        let all = own.len();
        let mut survivors = Vec::new();
        let mut busy = None;
        for n in 1..=TRIES_BY_CHANCE {
            // What is left has to do with chance, and the recordings that had it were made on a busy machine.
            if n > TRIES {
                busy.get_or_insert_with(|| BusyLoops::start(2));
            }
            let names: Vec<(String, bool)> = own.clone().into_iter().collect();
            for some in names.chunks(SIDE_BY_SIDE) {
                let results: Vec<_> = std::thread::scope(|threads| {
                    let threads: Vec<_> = some
                        .iter()
                        .enumerate()
                        .map(|(side, (name, _))| {
                            let without = with_action(profile, name, "SCMP_ACT_KILL_PROCESS");
                            let run = &run;
                            threads.spawn(move || run(side, &without))
                        })
                        .collect();
                    threads.into_iter().map(|run| run.join().unwrap()).collect()
                });
                let seen = witness.take().unwrap();
                for ((name, always), result) in some.iter().zip(results) {
                    let why = match (victim(&seen, name), result) {
                        (Ok(comm), Err(failed)) => {
                            let whole = match failed.status.and_then(|status| status.code()) {
                                Some(code) => format!("the container ended with {code}"),
                                None => "only a child died".into(),
                            };
                            println!("{name:<20} {n:>6}  {comm}, {whole}");
                            own.remove(name);
                            continue;
                        }
                        // A child may die alone, but then the load has to notice.
                        (Ok(comm), Ok(())) => {
                            format!("{comm} died of SIGSYS, but the load passed")
                        }
                        (Err(why), _) => why,
                    };
                    if n == if *always { TRIES } else { TRIES_BY_CHANCE } {
                        println!("{name:<20} {n:>6}  NO ONE");
                        own.remove(name);
                        survivors.push(format!("{name} ({n} tries): {why}"));
                    }
                }
            }
        }
        println!(
            "minimality of {name}: {all} names, {} not needed, {:.0?}",
            survivors.len(),
            start.elapsed()
        );
        assert!(
            survivors.is_empty(),
            "not needed:\n{}",
            survivors.join("\n")
        );
    }

    fn committed_is_minimal(name: &str) {
        let Some(_serial) = kernel() else { return };
        let committed = committed(name);
        let names = committed.names().into_iter();
        let names = names.map(|name| (name.clone(), committed.always(&name)));
        minimal(app(name), &committed.profile, names.collect());
    }

    #[test]
    fn redis_dies_without_any_one_of_its_calls() {
        let Some(_serial) = kernel() else { return };
        let (profile, names) = recorded(app("redis"));
        minimal(app("redis"), &profile, names);
    }

    #[test]
    fn memcached_dies_without_any_one_of_its_calls() {
        committed_is_minimal("memcached");
    }

    #[test]
    fn postgresql_dies_without_any_one_of_its_calls() {
        committed_is_minimal("postgresql");
    }

    #[test]
    fn haproxy_dies_without_any_one_of_its_calls() {
        committed_is_minimal("haproxy");
    }

    #[test]
    fn mariadb_dies_without_any_one_of_its_calls() {
        committed_is_minimal("mariadb");
    }
}
