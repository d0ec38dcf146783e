//! Capabilities instead of root: CAP_BPF and CAP_PERFMON with a cgroup of one's own are enough for `record -- CMD`, and what
//! is missing is named.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod root {
    use seccast_kernel::{calls, kernel, root_with, seccast, truth};
    use seccast_model::observation::{Backend, Observation, Phase};
    use seccast_rig::cgroup::Scope;
    use seccast_rig::process;
    use seccast_workloads::program;
    use std::fs;
    use std::os::unix::fs::chown;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::time::Duration;
    use tempfile::TempDir;

    /// A recording that may not fall back.
    #[rustfmt::skip]
    const FORCED: [&str; 7] = ["record", "--backend", "ebpf", "-o", "f.json", "--", "/plain"];

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A user without a name, a folder of its own with seccast and workloads, and a cgroup of its own.
    struct User {
        folder: TempDir,
        scope: Scope,
    }

    impl User {
        fn new(scope: &str) -> Self {
            let folder = root_with(&["x86_64", "int80", "fork", "vfork", "threads", "plain"]);
            fs::copy(seccast(), folder.path().join("seccast")).unwrap();
            let scope = Scope::new(scope).unwrap();
            for path in [
                folder.path().to_owned(),
                scope.dir(),
                scope.dir().join("cgroup.procs"),
            ] {
                chown(path, Some(65534), Some(65534)).unwrap();
            }
            Self { folder, scope }
        }

        fn file(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// Runs seccast in its cgroup with capabilities in the form of setpriv(1): the code and all that it printed.
        fn run(&self, capabilities: &str, args: &[&str]) -> (Option<i32>, String) {
            self.run_in(&self.scope.dir(), capabilities, args)
        }

        fn run_in(
            &self,
            cgroup: &Path,
            capabilities: &str,
            args: &[&str],
        ) -> (Option<i32>, String) {
            let mut command = Command::new("sh");
            command
                .args(["-c", "echo $$ >\"$0\" && exec \"$@\""])
                .arg(cgroup.join("cgroup.procs"))
                .args([
                    "setpriv",
                    "--reuid",
                    "65534",
                    "--regid",
                    "65534",
                    "--clear-groups",
                ])
                .args(["--inh-caps", capabilities, "--ambient-caps", capabilities])
                .arg(self.file("seccast"))
                .args(args)
                .current_dir(self.folder.path());
            let output = process::output(&mut command, PATIENCE).unwrap();
            (output.status.code(), output.stdout + &output.stderr)
        }

        /// Records a workload, which must be recorded exactly.
        fn record(
            &self,
            capabilities: &str,
            name: &str,
            backend: Backend,
            options: &[&str],
        ) -> String {
            let command = self.file(name);
            let target = ["-o", "p.json", "--observation", "o.json", "--"];
            let command = [command.to_str().unwrap()];
            let args = [&["record"], options, &target, &command].concat();
            let (code, text) = self.run(capabilities, &args);
            assert_eq!(code, Some(0), "{name}: {text}");
            let bytes = fs::read(self.file("o.json")).unwrap();
            let observation = Observation::from_json(&bytes).unwrap();
            assert_eq!(observation.backend, backend, "{name}: {text}");
            assert_eq!(observation.losses, [].into(), "{name}");
            assert_eq!(
                calls(&observation, Phase::App),
                truth(program(name)),
                "{name}"
            );
            // Nothing is left of the command's cgroup.
            let mut left = fs::read_dir(self.scope.dir()).unwrap().flatten();
            assert!(left.all(|entry| entry.file_type().unwrap().is_file()));
            text
        }
    }

    const BOTH: &str = "+bpf,+perfmon";
    /// setpriv's word for no change: none are there.
    const NONE: &str = "-all";

    #[test]
    fn two_capabilities_and_a_cgroup_of_ones_own_are_enough() {
        let Some(_serial) = kernel() else { return };
        let user = User::new("capabilities");
        for name in ["x86_64", "int80", "fork", "vfork", "threads"] {
            user.record(BOTH, name, Backend::Ebpf, &["--backend", "ebpf"]);
        }
        let (code, text) = user.run(BOTH, &["doctor"]);
        assert_eq!(code, Some(0), "{text}");
        let below = format!("a command gets its own below {}/", user.scope.path());
        assert!(text.contains(&below), "{text}");
        // The line that doctor prints is the one that helps: as capabilities of the file they are the same.
        let (code, text) = user.run(NONE, &["doctor"]);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("BPF and PERFMON missing"), "{text}");
        let line = text
            .lines()
            .find_map(|line| line.split_once("setcap "))
            .unwrap()
            .1;
        assert!(
            line.ends_with(user.file("seccast").to_str().unwrap()),
            "{line}"
        );
        process::check(Command::new("setcap").args(line.split(' ')), PATIENCE).unwrap();
        for name in ["x86_64", "fork"] {
            user.record(NONE, name, Backend::Ebpf, &["--backend", "ebpf"]);
        }
        let (code, text) = user.run(NONE, &["doctor"]);
        assert_eq!(code, Some(0), "{text}");
    }

    #[test]
    fn the_missing_one_is_named_and_a_command_is_recorded_by_ptrace_instead() {
        let Some(_serial) = kernel() else { return };
        let user = User::new("capability");
        for (capabilities, missing) in [("+bpf", "PERFMON"), ("+perfmon", "BPF")] {
            let (code, text) = user.run(capabilities, &["doctor"]);
            assert_eq!(code, Some(1), "{text}");
            assert!(text.contains(&format!("  {missing} missing")), "{text}");
            assert!(
                text.contains("commands (-- CMD) it can, by ptrace"),
                "{text}"
            );
            let said = format!("CAP_{missing} is missing");
            let (code, text) = user.run(capabilities, &FORCED);
            assert_eq!(code, Some(125), "{text}");
            assert!(
                text.contains(&said) && !user.file("f.json").exists(),
                "{text}"
            );
            let text = user.record(capabilities, "plain", Backend::Ptrace, &[]);
            assert!(text.contains(&said), "{text}");
        }
    }

    #[test]
    fn a_cgroup_that_is_not_ones_own_is_named() {
        let Some(_serial) = kernel() else { return };
        let user = User::new("not-delegated");
        // The folder alone is not enough: the command has to be moved there.
        chown(user.scope.dir().join("cgroup.procs"), Some(0), Some(0)).unwrap();
        let root = user.scope.dir().ancestors().nth(2).unwrap().to_owned();
        for cgroup in [user.scope.dir(), root] {
            let (code, text) = user.run_in(&cgroup, BOTH, &["doctor"]);
            assert_eq!(code, Some(0), "containers can be recorded: {text}");
            let procs = cgroup.join("cgroup.procs");
            let said = format!("cannot write {}", procs.display());
            assert!(text.contains(&said), "{text}");
            let (code, text) = user.run_in(&cgroup, BOTH, &FORCED);
            assert_eq!(code, Some(125), "{text}");
            assert!(
                text.contains(&said) && !user.file("f.json").exists(),
                "{text}"
            );
        }
        let text = user.record(BOTH, "plain", Backend::Ptrace, &[]);
        assert!(
            text.contains("recording by ptrace, since eBPF cannot: cannot write"),
            "{text}"
        );
    }
}
