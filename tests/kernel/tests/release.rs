//! A release cycle as the how-to has it, in plain shell: recorded, committed, stopped by the gate, accepted, committed.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod root {
    use seccast_kernel::{kernel, root_with, seccast};
    use seccast_rig::{Bundle, Runtime, unique};
    use serde_json::Value;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output};

    const PAGE: &str = "docs/how-to/regenerate-on-release.md";
    const ACTION: &str = "deploy/github-action";

    fn repository() -> PathBuf {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        here.ancestors().nth(2).unwrap().to_owned()
    }

    /// The blocks of a language in their order.
    fn blocks(page: &str, info: &str) -> Vec<String> {
        page.split("\n```")
            .filter_map(|block| block.strip_prefix(info)?.strip_prefix('\n'))
            .map(str::to_owned)
            .collect()
    }

    /// A shell in the repository of the program, with what the page says is there.
    struct Shell {
        folder: PathBuf,
        start: String,
    }

    impl Shell {
        fn run(&self, script: &str, env: &[(&str, &str)]) -> Output {
            let path = format!(
                "{}:{}",
                seccast().parent().unwrap().display(),
                std::env::var("PATH").unwrap()
            );
            let mut shell = Command::new("timeout");
            shell.args(["120", "sh", "-eu", "-c", script]);
            shell.current_dir(&self.folder).env("PATH", path);
            shell.env("START", &self.start);
            shell.env("SECCAST_SOURCE", repository());
            // Whoever runs the tests has no say in what is committed here.
            for who in ["AUTHOR", "COMMITTER"] {
                shell.env(format!("GIT_{who}_NAME"), "web");
                shell.env(format!("GIT_{who}_EMAIL"), "web@example.org");
            }
            shell.env("GIT_CONFIG_GLOBAL", "/dev/null");
            shell.envs(env.iter().copied());
            shell.output().unwrap()
        }

        /// What it says, when it ends with this code.
        fn ends(&self, code: i32, script: &str, env: &[(&str, &str)]) -> String {
            let output = self.run(script, env);
            let said = String::from_utf8(output.stdout).unwrap()
                + std::str::from_utf8(&output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(code), "{script}\n{said}");
            said
        }
    }

    fn json(path: &Path) -> Value {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    /// Whether `said` is `shown`, where `[..]` stands for anything in a line.
    fn matches(said: &str, shown: &str) -> bool {
        let (said, shown): (Vec<_>, Vec<_>) = (said.lines().collect(), shown.lines().collect());
        said.len() == shown.len()
            && said.iter().zip(&shown).all(|(said, shown)| {
                let mut rest = *said;
                shown.split("[..]").enumerate().all(|(nth, part)| {
                    let at = if nth == 0 {
                        rest.starts_with(part).then_some(0)
                    } else {
                        rest.find(part)
                    };
                    at.is_some_and(|at| {
                        rest = &rest[at + part.len()..];
                        true
                    })
                })
            })
    }

    #[test]
    fn a_release_that_calls_something_new_is_stopped_until_it_is_accepted() {
        let Some(_serial) = kernel() else { return };
        let page = fs::read_to_string(repository().join(PAGE)).unwrap();
        let steps = blocks(&page, "sh");
        let [keep, first, again, accept, after, union] = &steps[..] else {
            panic!("{} steps", steps.len())
        };
        let [gate] = &blocks(&page, "sh fails")[..] else {
            panic!()
        };
        let [shown] = &blocks(&page, "text")[..] else {
            panic!()
        };

        // The program is in its repository, and the container runs what is there.
        let work = tempfile::tempdir().unwrap();
        let rootfs = root_with(&[]);
        let release = |workload: &str| {
            fs::copy(seccast_workloads::path(workload), rootfs.path().join("web")).unwrap();
        };
        let runc = Runtime::runc().unwrap();
        let state = work.path().join("state");
        let name = unique("release-web");
        Bundle::new(rootfs.path(), ["/web"])
            .write(&name, work.path())
            .unwrap();
        let shell = Shell {
            folder: work.path().join("web"),
            start: format!(
                "{} --root {} run --bundle {} {name}",
                runc.program().display(),
                state.display(),
                work.path().display()
            ),
        };
        fs::create_dir(&shell.folder).unwrap();
        shell.ends(
            0,
            "git init --quiet . && git commit --quiet --allow-empty -m web",
            &[],
        );

        release("plain");
        shell.ends(0, keep, &[]);
        let said = shell.ends(0, first, &[]);
        assert!(said.contains("HEAD has no seccomp/web.json yet"), "{said}");
        // The same again changes nothing.
        shell.ends(0, again, &[]);
        shell.ends(0, gate, &[]);

        release("x86_64");
        shell.ends(0, again, &[]);
        let said = shell.ends(1, gate, &[]);
        assert!(matches(&said, shown), "{said}\n{shown}");

        // The call, the line, the program that made it first: in every form.
        let out = shell.folder.join("seccast-gate");
        let sarif = json(&out.join("seccast.sarif"));
        let schema = "userspace/model/tests/sarif/sarif-schema-2.1.0.json";
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.enable_format_assertions();
        compiler
            .add_resource("sarif.json", json(&repository().join(schema)))
            .unwrap();
        let index = compiler.compile("sarif.json", &mut schemas).unwrap();
        assert_eq!(
            schemas
                .validate(&sarif, index)
                .map_err(|error| error.to_string()),
            Ok(())
        );
        let results = sarif["runs"][0]["results"].as_array().unwrap();
        assert_eq!(results.len(), 2);
        let uname = &results[1];
        assert_eq!(uname["ruleId"], "SC0101");
        let text = uname["message"]["text"].as_str().unwrap();
        assert!(text.starts_with("uname is let through and "), "{text}");
        assert!(text.contains("; first by web["), "{text}");
        let place = &uname["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "seccomp/web.json");
        let line = place["region"]["startLine"].as_u64().unwrap();
        let profile = fs::read_to_string(shell.folder.join("seccomp/web.json")).unwrap();
        let named = profile
            .lines()
            .nth(usize::try_from(line).unwrap() - 1)
            .unwrap();
        assert_eq!(named.trim().trim_end_matches(','), "\"uname\"");
        let finding = &json(&out.join("check.json"))["findings"][1];
        assert_eq!(finding["call"], "uname");
        assert_eq!(finding["why"]["caller"]["comm"], "web");
        assert_eq!(finding["why"]["caller"]["exe"], "/web");
        let junit = fs::read_to_string(out.join("junit.xml")).unwrap();
        assert_eq!(junit.matches("<failure ").count(), 2, "{junit}");
        let comment = fs::read_to_string(out.join("diff.md")).unwrap();
        assert!(comment.contains("| added | `uname` |"), "{comment}");

        // The action says the same, and fails the job only after the findings are shown.
        let action: Vec<String> = action_scripts();
        let [run, last] = &action[..] else { panic!() };
        let (summary, output) = (work.path().join("summary"), work.path().join("output"));
        let place = repository().join(ACTION);
        let env = [
            ("GITHUB_ACTION_PATH", place.to_str().unwrap()),
            ("GITHUB_OUTPUT", output.to_str().unwrap()),
            ("GITHUB_STEP_SUMMARY", summary.to_str().unwrap()),
            ("PROFILE", "seccomp/web.json"),
            ("AGAINST", "HEAD"),
            ("POLICY", "seccomp/policy.yaml"),
            ("SECCAST", "seccast"),
            ("STATUS", "1"),
        ];
        shell.ends(0, run, &env);
        assert_eq!(fs::read_to_string(&output).unwrap(), "status=1\n");
        assert_eq!(fs::read_to_string(&summary).unwrap(), comment);
        shell.ends(1, last, &env);

        shell.ends(0, accept, &[]);
        let said = shell.ends(0, after, &[]);
        assert_eq!(said.matches("info SC0111").count(), 2, "{said}");
        shell.ends(0, union, &[]);
        let log = shell.ends(0, "git status --short; git log --format=%s", &[]);
        assert_eq!(
            log,
            "seccomp: web 2.0 asks for the version of the kernel\nseccomp: profile of web 1.0\nweb\n"
        );

        // A revision that is not there is no pass.
        let said = shell.ends(3, "ci/gate.sh seccomp/web.json nonesuch", &[]);
        assert!(said.contains("git knows no revision nonesuch"), "{said}");
        // Nor is a profile that cannot be read.
        shell.ends(
            3,
            "echo '{' >broken.json && ci/gate.sh broken.json HEAD",
            &[],
        );
    }

    /// What the steps of the action run, in their order.
    fn action_scripts() -> Vec<String> {
        let text = fs::read_to_string(repository().join(ACTION).join("action.yml")).unwrap();
        let mut scripts = Vec::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            match line.strip_prefix("      run: ") {
                Some("|") => {
                    let mut script = String::new();
                    while let Some(line) = lines.next_if(|line| line.starts_with("        ")) {
                        script.push_str(line.trim_start());
                        script.push('\n');
                    }
                    scripts.push(script);
                }
                Some(script) => scripts.push(script.to_owned()),
                None => {}
            }
        }
        scripts
    }
}
