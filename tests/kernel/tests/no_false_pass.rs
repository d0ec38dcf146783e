//! Random runs under random profiles, judged by `verify` and by a witness that is not seccast: no PASS where the witness saw a denial,
//! and no FAIL where it saw none.
//!
//! `SECCAST_CASES=500 SECCAST_SEED=7 cargo test -p seccast-kernel --test no_false_pass` tries more, and others.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod root {
    use seccast_kernel::engine::Workloads;
    use seccast_kernel::{kernel, seccast};
    use seccast_model::arch::Arch;
    use seccast_rig::engine::{Docker, Podman};
    use seccast_rig::witness::Witness;
    use seccast_rig::{Engine, cgroup::Scope, process, unique};
    use seccast_workloads::{Program, path, program};
    use serde_json::{Value, json};
    use std::collections::{BTreeMap, BTreeSet};
    use std::ffi::OsString;
    use std::fs::{self, File};
    use std::os::fd::AsRawFd as _;
    use std::path::Path;
    use std::process::Command;
    use std::time::{Duration, SystemTime};
    use tempfile::TempDir;

    const PATIENCE: Duration = Duration::from_secs(120);

    /// Programs of one file each, all of whose calls are known: forks, threads, a filter of their own, signals.
    const PROGRAMS: [&str; 8] = [
        "x86_64",
        "plain",
        "fork",
        "vfork",
        "threads",
        "signal",
        "own_filter_seccomp",
        "own_filter_prctl",
    ];

    /// A way to start a program.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Way {
        /// `-- PROGRAM`
        Command,
        /// `-- /dev/fd/N`
        Descriptor,
        /// `-- sh -c 'PROGRAM; true'`
        Shell,
        /// `-- mover ELSEWHERE PROGRAM`: it executes it in another cgroup.
        Moved,
        /// `-- runc run`
        Runc,
        /// `-- docker run`
        Docker,
        /// `-- podman run`
        Podman,
    }

    const WAYS: [Way; 7] = [
        Way::Command,
        Way::Descriptor,
        Way::Shell,
        Way::Moved,
        Way::Runc,
        Way::Docker,
        Way::Podman,
    ];

    /// Numerical Recipes' generator: a seed gives the same cases everywhere.
    struct Chance(u64);

    impl Chance {
        fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let at = (self.0 >> 33) % all.len() as u64;
            &all[usize::try_from(at).unwrap()]
        }
    }

    /// All that cases share.
    struct Place {
        folder: TempDir,
        elsewhere: Scope,
        names: BTreeMap<&'static str, String>,
        workloads: Workloads,
        docker: Docker,
        podman: Podman,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            // By names that no other test has: what is denied is told by the name.
            let own = std::process::id() % 0x10000;
            let names: BTreeMap<_, _> = (0..)
                .zip(PROGRAMS)
                .map(|(at, name)| (name, format!("np{own:x}-{at}")))
                .collect();
            for (program, name) in &names {
                fs::copy(path(program), folder.path().join(name)).unwrap();
            }
            fs::copy(path("mover"), folder.path().join("mover")).unwrap();
            Self {
                workloads: Workloads::of(&unique("np"), folder.path()),
                folder,
                elsewhere: Scope::new("no-false-pass").unwrap(),
                names,
                docker: Docker::start().unwrap(),
                podman: Podman::new().unwrap(),
            }
        }

        fn command(&self, way: Way, program: &str, number: usize) -> (Command, Option<File>) {
            let name = &self.names[program];
            let file = self.folder.path().join(name);
            let inside = format!("/{name}");
            let bundle = self.workloads.bundle(&[&inside]);
            let id = format!("{name}-{number}");
            let mut held = None;
            let command = match way {
                Way::Command => Command::new(file),
                Way::Descriptor => {
                    let open = File::open(file).unwrap();
                    // SAFETY: takes FD_CLOEXEC from a descriptor of this process.
                    let taken = unsafe { libc::fcntl(open.as_raw_fd(), libc::F_SETFD, 0) };
                    assert_eq!(taken, 0);
                    let command = Command::new(format!("/dev/fd/{}", open.as_raw_fd()));
                    held = Some(open);
                    command
                }
                Way::Shell => {
                    let mut command = Command::new("/bin/sh");
                    command.args(["-c", &format!("{}; exit $?", file.display())]);
                    command
                }
                Way::Moved => {
                    let mut command = Command::new(self.folder.path().join("mover"));
                    command
                        .arg(self.elsewhere.dir().join("cgroup.procs"))
                        .arg(name);
                    command
                }
                Way::Runc => {
                    let folder = self.folder.path().join(&id);
                    fs::create_dir(&folder).unwrap();
                    bundle.write(&id, &folder).unwrap();
                    let mut command = Command::new("runc");
                    command.args(["run", "--bundle"]).arg(folder).arg(&id);
                    command
                }
                Way::Docker => self.docker.run(&id, &bundle).unwrap(),
                Way::Podman => self.podman.run(&id, &bundle).unwrap(),
            };
            (command, held)
        }
    }

    /// Everything is allowed but one call: what the runtimes need is not what is tried here.
    fn profile(denied: Option<&str>) -> Value {
        let rules: Vec<_> = denied
            .into_iter()
            .map(|name| json!({ "names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }))
            .collect();
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules })
    }

    /// Calls of a program that neither it nor a runtime needs to come to its end.
    fn deniable(program: &Program) -> Vec<&'static str> {
        const HARMLESS: [&str; 9] = [
            "getppid", "getpid", "getuid", "getgid", "getsid", "getpgrp", "uname", "geteuid",
            "getegid",
        ];
        let own = program
            .calls
            .iter()
            .filter(|call| call.arch == Arch::X86_64);
        own.map(|call| call.name)
            .filter(|name| HARMLESS.contains(name))
            .collect()
    }

    fn verify(folder: &Path, profile: &Value, command: &Command) -> (Value, String) {
        let [profile_path, out] = ["p.json", "v.json"].map(|name| folder.join(name));
        fs::write(&profile_path, profile.to_string()).unwrap();
        let _ = fs::remove_file(&out);
        let mut verify = Command::new(seccast());
        verify.args(["verify", "--quiet", "--format", "json", "--profile"]);
        verify.arg(&profile_path).arg("-o").arg(&out).arg("--");
        verify.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => verify.env(name, value),
                None => verify.env_remove(name),
            };
        }
        let output = process::output(&mut verify, PATIENCE).unwrap();
        let text = fs::read(&out).unwrap_or_else(|error| panic!("{error}: {}", output.stderr));
        (serde_json::from_slice(&text).unwrap(), output.stderr)
    }

    fn number(variable: &str) -> Option<u64> {
        std::env::var(variable)
            .ok()
            .map(|text| text.parse().unwrap())
    }

    #[test]
    fn verdicts_are_those_of_a_witness() {
        let Some(_serial) = kernel() else { return };
        let cases = usize::try_from(number("SECCAST_CASES").unwrap_or(40)).unwrap();
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        let seed = number("SECCAST_SEED").unwrap_or(now.as_secs());
        println!("SECCAST_SEED={seed} repeats these {cases} cases");
        let mut chance = Chance(seed);
        let place = Place::new();
        let mut witness = Witness::attach_everywhere().unwrap();
        let mut wrong = Vec::new();
        let mut seen = BTreeMap::new();
        for number in 0..cases {
            // Each way in turn: 40 cases have every one of them.
            let way = WAYS[number % WAYS.len()];
            let name = *chance.of(&PROGRAMS);
            let deniable = deniable(program(name));
            let denied = if *chance.of(&[true, false]) {
                Some(*chance.of(&deniable))
            } else {
                None
            };
            let (command, held) = place.command(way, name, number);
            witness.take().unwrap();
            let (verdict, said) = verify(place.folder.path(), &profile(denied), &command);
            drop(held);
            let testimony = witness.take().unwrap();
            // Executed by descriptor a program is called by its number; its calls are told by whose they are.
            let own: BTreeSet<OsString> = [place.names[name].clone().into(), "mover".into()].into();
            let mine = |comm: &str| {
                own.contains(&OsString::from(comm))
                    || way == Way::Descriptor && comm.parse::<u32>().is_ok()
            };
            let by_profile = |mine: &dyn Fn(&str) -> bool| -> u64 {
                let denials = testimony.denials.iter();
                denials
                    .filter(|denial| denial.result == -38 && mine(&denial.comm))
                    .map(|denial| denial.count)
                    .sum()
            };
            let own = by_profile(&mine);
            // The runtime is held to the profile before it executes the program, which then does not start.
            let runtimes = by_profile(&|comm| comm.starts_with("runc:"));
            let started = verdict["runs"][0]["started"] == true;
            let expected = if own > 0 || runtimes > 0 && !started {
                "fail"
            } else {
                "pass"
            };
            let found = verdict["verdict"].as_str().unwrap();
            *seen.entry((way, expected)).or_insert(0) += 1;
            if found != expected {
                wrong.push(format!(
                    "{number}: {way:?} {name} without {denied:?}: {found}, the witness saw {own} denials and {runtimes} of the runtime's: {}\n{said}{testimony}",
                    verdict["runs"][0]["doubts"]
                ));
            }
        }
        println!("{seen:?}");
        assert!(
            wrong.is_empty(),
            "{} of {cases}:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
    }
}
