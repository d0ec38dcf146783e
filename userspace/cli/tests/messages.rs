//! Whatever a user can give that is wrong: the message names the file, the line where there is one, the field, the reason and
//! what to do. Nothing is written then, and nothing panics.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    fs::{self, File},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::Command,
};

/// A good file, from which the wrong ones are made.
const OBSERVATION: &str = include_str!("../../../profiles/apps/redis/observation.json");

/// `seccast ARGS` in `folder` ends with 3, writes no file, and says all of this in one message.
fn refuses(folder: &Path, args: &[&str], says: &[&str]) {
    let before = names(folder);
    let mut seccast = Command::new(env!("CARGO_BIN_EXE_seccast"));
    let output = seccast.args(args).current_dir(folder).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    print!("{stderr}");
    assert_eq!(output.status.code(), Some(3), "{args:?}: {stderr}");
    assert_eq!(output.stdout, b"", "{args:?}");
    for words in says {
        assert!(
            stderr.contains(words),
            "{args:?}: nothing of {words:?}:\n{stderr}"
        );
    }
    let first = stderr.lines().next().unwrap_or_default();
    assert!(
        first.starts_with("error: ") && !first.ends_with('.'),
        "{stderr}"
    );
    assert!(stderr.len() < 1000, "{} bytes: {stderr}", stderr.len());
    assert_eq!(names(folder), before, "{args:?}");
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// `seccast generate` refuses a file of this content.
fn generate(content: &str, says: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("web.json"), content).unwrap();
    let says: Vec<_> = ["web.json"].iter().chain(says).copied().collect();
    refuses(
        folder.path(),
        &["generate", "web.json", "-o", "out.json"],
        &says,
    );
}

/// The observation with one text in place of another that is in it.
fn changed(from: &str, to: &str) -> String {
    assert!(OBSERVATION.contains(from), "{from}");
    OBSERVATION.replacen(from, to, 1)
}

#[test]
fn json_that_is_none_is_told_with_its_line() {
    generate("", &["empty"]);
    generate(
        "defaultAction: SCMP_ACT_ERRNO\n",
        &["not valid JSON", "line 1 column 1"],
    );
    generate(
        &OBSERVATION[..OBSERVATION.len() / 2],
        &["in the middle", "line ", "record again"],
    );
    let line = OBSERVATION
        .lines()
        .position(|line| line.contains("\"machine\""))
        .unwrap()
        + 1;
    generate(
        &changed("\"machine\": {", "\"machine\": {,"),
        &["not valid JSON", &format!("line {line} ")],
    );
    generate(&"[".repeat(200), &["recursion limit"]);
    generate(
        &changed("\"backend\": ", "\"backend\": \"ebpf\", \"backend\": "),
        &["`backend` is given twice", "line ", "mend it"],
    );
}

#[test]
fn a_field_that_is_wrong_is_told_with_its_path_and_place() {
    // What stands there, what is put there instead, what the message says, and the line that it names: of what is no key that
    // could be there, the line of what holds it.
    let wrong: [(&str, &str, &[&str], &str); 8] = [
        (
            "seccast/observation.v1",
            "seccast/observation.v7",
            &["`schema`", "v7", "newer", "update seccast"],
            "\"schema\"",
        ),
        (
            "\"started_ns\": ",
            "\"started_ns\": -",
            &["`started_ns`", "integer"],
            "\"started_ns\"",
        ),
        (
            "\"started_ns\": ",
            "\"started_ms\": ",
            &["`started_ns`", "is missing"],
            "{",
        ),
        (
            "\"ebpf\"",
            "\"dtrace\"",
            &["`backend`", "dtrace", "ebpf, ptrace"],
            "\"backend\"",
        ),
        (
            "\"x86_64\": {",
            "\"x68_64\": {",
            &["`calls`", "x68_64", "x86_64"],
            "\"calls\"",
        ),
        (
            "\"app\": {",
            "\"ap\": {",
            &["`calls.x86_64`", "`ap`", "app"],
            "\"x86_64\": {",
        ),
        (
            "\"accept4\": {",
            "\"accept 4\": {",
            &["`calls.x86_64.app`", "accept 4", "name of a system call"],
            "\"app\"",
        ),
        (
            "\"pid\": 26777",
            "\"pid\": \"26777\"",
            &["`calls.x86_64.app.accept4.caller.pid`", "string"],
            "\"pid\"",
        ),
    ];
    for (from, to, says, near) in wrong {
        let line = OBSERVATION.lines().position(|line| line.contains(near));
        let line = format!("line {},", line.unwrap() + 1);
        let says: Vec<_> = says.iter().copied().chain([&*line]).collect();
        generate(&changed(from, to), &says);
    }
}

#[test]
fn what_is_wrong_and_long_is_cut() {
    let long = format!("\"{}\"", "a".repeat(1 << 20));
    for (from, field) in [
        ("\"seccast/observation.v1\"", "`schema`"),
        ("\"ebpf\"", "`backend`"),
        ("\"accept4\"", "`calls.x86_64.app`"),
        ("60039668", "`calls.x86_64.app.accept4.first_ns`"),
    ] {
        let to = match field {
            "`schema`" => long.replacen("\"", "\"seccast/observation.v", 1),
            _ => long.clone(),
        };
        generate(&changed(from, &to), &[field, "aaa"]);
    }
}

#[test]
fn a_file_of_another_kind_is_told_what_it_is_and_what_to_give() {
    for (content, says) in [
        ("{}", "empty JSON object"),
        ("[]", "not a JSON object"),
        (
            include_str!("../../../profiles/apps/redis/profile.json"),
            "a seccomp profile",
        ),
        (
            include_str!("../../../profiles/defaults/docker/default.json"),
            "docker's dialect",
        ),
        (
            r#"{"ociVersion": "1.0.2", "linux": {"seccomp": {}}}"#,
            "config.json of a bundle",
        ),
        (
            r#"{"apiVersion": "v1", "kind": "Pod"}"#,
            "Kubernetes object",
        ),
        (r#"{"schema": "seccast/report.v1"}"#, "a report"),
        (r#"{"rows": 1}"#, "another kind of JSON object"),
    ] {
        generate(content, &[says, "give "]);
    }
}

#[test]
fn what_is_no_readable_file_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let refuses = |name: &str, says: &[&str]| {
        let says: Vec<_> = [name].iter().chain(says).copied().collect();
        refuses(folder.path(), &["generate", name, "-o", "out.json"], &says);
    };
    refuses("none.json", &["No such file"]);
    fs::create_dir(path("folder")).unwrap();
    refuses("folder", &["irectory", "give the name of a file"]);
    refuses("/dev/zero", &["more than 67108864"]);
    refuses("/dev/null", &["empty"]);
    // Sparse, so that it takes no room; and one of real values.
    File::create(path("large.json"))
        .unwrap()
        .set_len(50 << 20)
        .unwrap();
    refuses("large.json", &["not valid JSON", "line 1 column 1"]);
    File::create(path("huge.json"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    refuses("huge.json", &["more than 67108864"]);
    let long = "a".repeat(50 << 20);
    fs::write(path("long.json"), format!("\"{long}\"")).unwrap();
    refuses("long.json", &["not a JSON object"]);
    fs::write(
        path("schema.json"),
        format!("{{\"schema\": \"seccast/observation.v{long}\"}}"),
    )
    .unwrap();
    refuses("schema.json", &["`schema`", "newer"]);
    fs::write(path("many.json"), format!("[{}0]", "0,".repeat(25 << 20))).unwrap();
    refuses("many.json", &["1048576 values"]);
}

#[test]
fn a_file_that_may_not_be_read_is_told() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let secret = folder.path().join("secret.json");
    fs::write(&secret, OBSERVATION).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads everything, so as root the command is somebody else's; and the build's folder is its owner's alone.
    let copy = folder.path().join("seccast");
    // By a process of its own: a file that another test's fork holds open for writing cannot be executed.
    let mut cp = Command::new("cp");
    let status = cp.arg(env!("CARGO_BIN_EXE_seccast")).arg(&copy).status();
    assert!(status.unwrap().success());
    let mut seccast = Command::new(&copy);
    if File::open(&secret).is_ok() {
        seccast.uid(65534).gid(65534);
    }
    let output = seccast.args(["generate"]).arg(&secret).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    print!("{stderr}");
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(
        stderr.contains("secret.json") && stderr.contains("run as its owner"),
        "{stderr}"
    );
}

/// `seccast ARGS` refuses `wrong.FORM` of this content, beside a profile that is good.
fn refuses_beside_a_profile(form: &str, content: &str, args: &[&str], says: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let wrong = format!("wrong.{form}");
    fs::write(folder.path().join(&wrong), content).unwrap();
    fs::write(folder.path().join("good.json"), PROFILE).unwrap();
    let says: Vec<_> = [&*wrong].iter().chain(says).copied().collect();
    refuses(folder.path(), args, &says);
}

const PROFILE: &str = include_str!("../../../profiles/apps/redis/profile.json");

#[test]
fn a_wrong_profile_is_told_by_every_command_that_takes_one() {
    let wrong: [(&str, &str, &[&str]); 6] = [
        // runc takes the second and crun the first.
        (
            "\"defaultAction\": ",
            "\"defaultAction\": \"SCMP_ACT_ALLOW\",\n\"defaultAction\": ",
            &["`defaultAction` is given twice", "line 3 column"],
        ),
        (
            "SCMP_ACT_ERRNO",
            "SCMP_ACT_ERNO",
            &["line 2, column 20", "`defaultAction`", "SCMP_ACT_ERNO"],
        ),
        (
            "\"defaultErrnoRet\": 38",
            "\"defaultErrnoRet\": \"38\"",
            &["`defaultErrnoRet`", "string"],
        ),
        (
            "SCMP_ARCH_X86_64",
            "SCMP_ARCH_X68_64",
            &["`architectures[0]`", "SCMP_ARCH_X68_64"],
        ),
        (
            "\"action\": ",
            "\"acton\": ",
            &["`syscalls[0].action`", "is missing"],
        ),
        (
            "\"names\": [",
            "\"names\": [,",
            &["not valid JSON", "line "],
        ),
    ];
    for (from, to, says) in wrong {
        assert!(PROFILE.contains(from), "{from}");
        let content = PROFILE.replacen(from, to, 1);
        for args in [
            &["diff", "wrong.json", "good.json"] as &[&str],
            &["check", "wrong.json", "--against", "good.json"],
            &["check", "good.json", "--against", "wrong.json"],
            &["merge", "good.json", "wrong.json", "-o", "out.json"],
            &["convert", "wrong.json", "-o", "out.json"],
        ] {
            refuses_beside_a_profile("json", &content, args, says);
        }
    }
}

#[test]
fn a_wrong_policy_is_told_with_its_line_and_what_was_meant() {
    for (content, says) in [
        ("", &["empty"] as &[&str]),
        ("never_alow: [ptrace]\n", &["line 1", "never_allow"]),
        (
            "max_names: 90\nnever_allow: [ptrcae]\n",
            &["line 2", "ptrcae", "ptrace"],
        ),
        ("schema: seccast/policy.v9\n", &["line 1", "`schema`", "v9"]),
        ("max_names: many\n", &["line 1", "`max_names`"]),
        (
            "never_allow: &a [ptrace]\nallow_additions: *a\n",
            &["line 1", "anchor"],
        ),
        (
            "subset_of: {engine: dokcer}\n",
            &["line 1", "dokcer", "docker"],
        ),
        ("max_names: [90\n", &["line "]),
    ] {
        let args = [
            "check",
            "good.json",
            "--against",
            "good.json",
            "--policy",
            "wrong.yaml",
        ];
        refuses_beside_a_profile("yaml", content, &args, says);
    }
}

#[test]
fn a_name_that_no_table_has_is_told_with_what_may_be_meant() {
    let folder = tempfile::tempdir().unwrap();
    // The last is s390's, which has no table here and is no typing error.
    let profile = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"action": "SCMP_ACT_ALLOW",
        "names": ["read", "opeanat", "s390_pci_mmio_read"]}]}"#;
    fs::write(folder.path().join("web.json"), profile).unwrap();
    let mut seccast = Command::new(env!("CARGO_BIN_EXE_seccast"));
    seccast
        .args(["convert", "web.json", "-o", "out.json"])
        .current_dir(folder.path());
    let output = seccast.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let says = "web.json: no system call `opeanat` is known (did you mean openat";
    assert!(stderr.contains(says), "{stderr}");
    assert!(!stderr.contains("s390"), "{stderr}");
}

#[test]
fn an_engine_that_has_no_default_is_told_with_those_that_have() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("web.observation.json"), OBSERVATION).unwrap();
    refuses(
        folder.path(),
        &["diff", "default:dockr", "web.observation.json"],
        &[
            "default:dockr",
            "did you mean docker",
            "containerd, podman, crio",
        ],
    );
}

#[test]
fn a_switch_for_a_command_is_refused_beside_another_target() {
    for (verb, switch) in [
        (&["verify", "--profile", "web.json"][..], &["--minimal"][..]),
        (&["verify", "--profile", "web.json"], &["--user", "1000"]),
        (&["record"], &["--keep-filter"]),
        (&["record"], &["--user", "1000"]),
    ] {
        let mut seccast = Command::new(env!("CARGO_BIN_EXE_seccast"));
        seccast.args(verb).args(switch).args(["--container", "web"]);
        let output = seccast.output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            output.status.code(),
            Some(2),
            "{verb:?} {switch:?}: {stderr}"
        );
        assert!(stderr.contains("cannot be used with"), "{stderr}");
    }
}

#[test]
fn a_profile_that_allows_by_default_is_counted_so() {
    let folder = tempfile::tempdir().unwrap();
    let open = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]}"#;
    fs::write(folder.path().join("open.json"), open).unwrap();
    for (args, says) in [
        (
            &[
                "convert",
                "open.json",
                "--arch",
                "x86_64",
                "-o",
                "/dev/null",
            ][..],
            "385 of 385 calls of x86_64 allowed",
        ),
        (
            &["merge", "open.json", "open.json", "-o", "/dev/null"],
            "2 profiles joined: 385 names allowed",
        ),
    ] {
        let mut seccast = Command::new(env!("CARGO_BIN_EXE_seccast"));
        let output = seccast.args(args).current_dir(folder.path()).output();
        let stderr = String::from_utf8(output.unwrap().stderr).unwrap();
        assert!(stderr.contains(says), "{stderr}");
    }
}

/// Only 1 is the gate's own: a profile that is not there must neither pass nor look like one that fails.
#[test]
fn the_gate_tells_wrong_usage_from_a_profile_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("web.json"), PROFILE).unwrap();
    let gate = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/github-action/gate.sh");
    let absolute = folder.path().join("web.json").display().to_string();
    for (args, code, says) in [
        (&[][..], 2, "usage: gate.sh PROFILE REVISION [POLICY]"),
        (&["web.json"], 2, "usage: "),
        (&[&absolute, "HEAD"], 2, "from this folder on"),
        (&["none.json", "HEAD"], 3, "cannot read none.json"),
        (&["web.json", "HEAD"], 3, "git knows no revision HEAD"),
    ] {
        let mut sh = Command::new("sh");
        sh.arg(&gate).args(args).current_dir(folder.path());
        let output = sh.env("SECCAST", env!("CARGO_BIN_EXE_seccast")).output();
        let output = output.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(says), "{stderr}");
    }
}

#[test]
fn an_api_server_that_cannot_be_asked_is_named_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = |server: &str| {
        format!(
            "{{apiVersion: v1, kind: Config, current-context: here, clusters: [{{name: c, cluster: {{server: '{server}'}}}}],\n \
             users: [{{name: u, user: {{token: t}}}}], contexts: [{{name: here, context: {{cluster: c, user: u}}}}]}}\n"
        )
    };
    // Nobody listens there; a port that was free a moment ago may be another test's by now.
    let closed = "https://127.0.0.1:1".to_owned();
    for (name, content) in [
        ("closed", kubeconfig(&closed)),
        ("unknown", kubeconfig("https://kubernetes.invalid:6443")),
        ("none", "hello".to_owned()),
        (
            "no-context",
            kubeconfig(&closed).replace("current-context: here, ", ""),
        ),
    ] {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let attach = |options: &[&str], says: &[&str]| {
        let args = ["attach", "deploy/web", "--detach"];
        refuses(folder.path(), &[&args, options].concat(), says);
    };
    attach(
        &["--kubeconfig", "closed"],
        &[
            "deployment/web",
            &closed,
            "Connection refused",
            "is it running there",
        ],
    );
    attach(
        &["--kubeconfig", "unknown"],
        &[
            "https://kubernetes.invalid:6443",
            "lookup",
            "does not resolve from here",
        ],
    );
    attach(&["--kubeconfig", "none"], &["the kubeconfig none:"]);
    attach(
        &["--kubeconfig", "missing"],
        &["the kubeconfig missing: No such file"],
    );
    attach(
        &["--kubeconfig", "no-context"],
        &["no-context", "no current context", "--context"],
    );
    attach(
        &["--kubeconfig", "closed", "--context", "her"],
        &[
            "closed has no context her (did you mean here?)",
            "kubectl config get-contexts",
        ],
    );
    attach(
        &["--kubeconfig", "closed", "--context", "here"],
        &["Connection refused"],
    );
    let proxied = kubeconfig(&closed).replace(
        "cluster: {",
        "cluster: {proxy-url: 'http://me:secret@proxy.example:3128', ",
    );
    fs::write(folder.path().join("proxied"), proxied).unwrap();
    attach(
        &["--kubeconfig", "proxied"],
        &[
            "the kubeconfig proxied says to ask the API server through the proxy proxy.example, and seccast uses none",
            "unset HTTPS_PROXY",
        ],
    );
}

#[test]
fn what_is_no_pod_or_has_no_place_for_its_containers_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let record = |args: &[&str], says: &[&str]| {
        refuses(folder.path(), &[&["record"], args].concat(), says);
    };
    record(
        &["--pod", "web", "--wait", "-o", "web.json"],
        &["web.json is no folder", "name one container with -c"],
    );
    record(
        &["--pod", "web", "-c", "app", "-o", "-", "--observation", "-"],
        &["both go to stdout", "generate"],
    );
    let usage = |args: &[&str], says: &str| {
        let mut seccast = Command::new(env!("CARGO_BIN_EXE_seccast"));
        let output = seccast.arg("record").args(args).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(says), "{args:?}: {stderr}");
    };
    usage(&["--pod", "shop/Web"], "NAMESPACE/NAME*");
    usage(&["--pod", "web", "--container", "web"], "cannot be used");
    usage(&["--container", "web", "-c", "app"], "cannot be used");
    usage(&["--pod", "web", "--engine", "docker"], "cannot be used");
}

#[test]
fn an_observation_is_not_replaced_by_its_profile() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("web.report.json");
    fs::write(&file, OBSERVATION).unwrap();
    // As the profile itself, by another spelling, and as the report beside it.
    for out in ["web.report.json", "./web.report.json", "web.json"] {
        refuses(
            folder.path(),
            &["generate", "web.report.json", "-o", out],
            &["web.report.json is one of the observations", "another name"],
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), OBSERVATION);
    }
}

/// `seccast attach file ARGS` with a profile below `seccast/` ends with this code, prints nothing on stdout, changes nothing, and says all
/// of this.
fn attach(file: (&str, &str), profile: &str, args: &[&str], code: i32, says: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join(file.0), file.1).unwrap();
    fs::create_dir(path.join("seccast")).unwrap();
    fs::write(path.join("seccast/web.json"), profile).unwrap();
    let mut seccast = Command::new(env!("CARGO_BIN_EXE_seccast"));
    seccast.args(["attach", file.0, "--in-place"]).args(args);
    let output = seccast.current_dir(path).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    print!("{stderr}");
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert_eq!(output.stdout, b"", "{args:?}");
    for words in says {
        assert!(stderr.contains(words), "nothing of {words:?}:\n{stderr}");
    }
    if code != 0 {
        assert_eq!(fs::read_to_string(path.join(file.0)).unwrap(), file.1);
        assert_eq!(names(path), [file.0, "seccast"]);
    }
}

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - name: web\n    image: web\n";
const WEB: &[&str] = &["--profile", "seccast/web.json"];

#[test]
fn what_cannot_be_attached_is_told_and_nothing_is_changed() {
    let good = include_str!("../../../profiles/apps/redis/profile.json");
    let docker = include_str!("../../../profiles/defaults/podman/seccomp.json");
    let pod = ("pod.yaml", POD);
    attach(
        pod,
        docker,
        WEB,
        3,
        &[
            "seccast/web.json",
            "field `archMap`",
            "docker's dialect",
            "seccast convert",
        ],
    );
    attach(
        pod,
        "{\"defaultAction\"",
        WEB,
        3,
        &["seccast/web.json", "not valid JSON"],
    );
    attach(pod, "{}", WEB, 3, &["an empty object is not a profile"]);
    let profile = |path| ["--profile", path];
    attach(
        pod,
        good,
        &profile("/etc/web.json"),
        2,
        &["begins with `/`", "give it without"],
    );
    attach(pod, good, &profile("../web.json"), 2, &["an element `..`"]);
    attach(pod, good, &profile(""), 2, &["the path is empty"]);
    attach(
        pod,
        good,
        &["-c", "wep", WEB[0], WEB[1]],
        2,
        &["Pod/web", "no container `wep` (did you mean web?): web"],
    );
    attach(
        pod,
        good,
        &["deploy/web", WEB[0], WEB[1]],
        2,
        &["pod.yaml is a file", "deploy/web a workload", "--live"],
    );
    for option in [
        &["--namespace", "shop"][..],
        &["--context", "prod"],
        &["--kubeconfig", "config"],
        &["--force-conflicts"],
    ] {
        let says = format!(
            "{} is for workloads of a cluster, and pod.yaml is a file",
            option[0]
        );
        attach(pod, good, &[option, WEB].concat(), 2, &[&says]);
    }
    attach(
        pod,
        good,
        &["gone.yaml", WEB[0], WEB[1]],
        3,
        &["gone.yaml", "No such file"],
    );
    let windows = POD.replace("spec:\n", "spec:\n  os: {name: windows}\n");
    attach(
        ("pod.yaml", &windows),
        good,
        WEB,
        3,
        &["pod.yaml", "Windows", "no Pod can have a seccompProfile"],
    );
    let broken = POD.replace("  - name", "  - 'name");
    attach(
        ("pod.yaml", &broken),
        good,
        WEB,
        3,
        &["pod.yaml", "line ", "not valid YAML"],
    );
    attach(
        ("docs.md", "# no YAML of a workload\n"),
        good,
        WEB,
        3,
        &["there is no workload in it"],
    );
    // Said, and done all the same.
    attach(
        pod,
        good,
        &profile("seccast/gone.json"),
        0,
        &["./seccast/gone.json: not there, so its content was not checked"],
    );
    let privileged = format!("{POD}    securityContext: {{privileged: true}}\n");
    attach(
        ("pod.yaml", &privileged),
        good,
        WEB,
        0,
        &[
            "warning: ",
            "it is privileged: containerd then drops the profile",
        ],
    );
    attach(
        pod,
        good,
        WEB,
        0,
        &["lacks `allowPrivilegeEscalation: false`", "17 calls more"],
    );
    for (more, words) in [
        ("  hostUsers: false\n", "user namespace"),
        ("  runtimeClassName: gvisor\n", "seems to be gVisor"),
        (
            "  runtimeClassName: kata-clh\n",
            "seems to be Kata Containers",
        ),
        (
            "  securityContext: {seccompProfile: {type: RuntimeDefault}}\n",
            "the Pod has a profile for all of its containers as well (RuntimeDefault)",
        ),
    ] {
        attach(
            ("pod.yaml", &format!("{POD}{more}")),
            good,
            WEB,
            0,
            &[words],
        );
    }
}

/// A file is taken for a workload, or a workload for a file, only where nothing else can be meant.
#[test]
fn a_name_of_a_file_and_a_workload_is_not_guessed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir_all(path.join("deploy/web")).unwrap();
    fs::write(path.join("deploy/app"), POD).unwrap();
    fs::write(path.join("deploy/pod.yaml"), POD).unwrap();
    fs::create_dir(path.join("other")).unwrap();
    fs::write(path.join("other/app"), POD).unwrap();
    let ask = |args: &[&str], code: i32, says: &str| {
        let mut seccast = Command::new(env!("CARGO_BIN_EXE_seccast"));
        let args = [&["attach"], args, WEB, &["--dry-run"]].concat();
        let output = seccast.args(&args).current_dir(path).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        print!("{stderr}");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(says), "{args:?}: {stderr}");
    };
    let gets = "container web: would get seccast/web.json";
    let none = ["--kubeconfig", "none"];
    let asked = "the kubeconfig none: No such file";
    ask(
        &["deploy/app"],
        2,
        "deploy/app is a file, and the name of a workload of the cluster: --file or --live says which is meant",
    );
    ask(&["deploy/app", "--file"], 0, gets);
    ask(&["deploy/app", "--live", none[0], none[1]], 3, asked);
    // A folder is no file.
    ask(&["deploy/web", none[0], none[1]], 3, asked);
    ask(&["deploy/pod.yaml"], 0, gets);
    ask(&["other/app"], 0, gets);
    ask(
        &["deploy/web", "--values-path", "a.b"],
        2,
        "--values-path is for files",
    );
}

#[test]
fn one_file_that_cannot_be_changed_keeps_all_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("a.yaml"), POD).unwrap();
    fs::write(path.join("b.yaml"), "kind: Service\napiVersion: v1\n").unwrap();
    let args = [
        "attach",
        "a.yaml",
        "b.yaml",
        "--in-place",
        "--quiet",
        WEB[0],
        WEB[1],
    ];
    refuses(
        path,
        &args,
        &["b.yaml", "there is no workload in it, only Service"],
    );
    assert_eq!(fs::read_to_string(path.join("a.yaml")).unwrap(), POD);
}

/// The kernel takes these errnos for its own, so what such a profile denies is not seen: `verify` does not judge under it.
#[test]
fn a_profile_that_denies_with_a_restart_code_is_not_judged() {
    let folder = tempfile::tempdir().unwrap();
    let profiles = [
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 512}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO", "errnoRet": 516}]}"#,
    ];
    for profile in profiles {
        fs::write(folder.path().join("web.json"), profile).unwrap();
        let says = [
            "cannot use web.json",
            "denies with errno 51",
            "the kernel takes 512 to 516 for its own restart codes",
            "use another errno, like 38",
        ];
        let args = ["verify", "--profile", "web.json", "--container", "none"];
        refuses(folder.path(), &args, &says);
        let mut diff = Command::new(env!("CARGO_BIN_EXE_seccast"));
        let diff = diff.args(["diff", "web.json", "web.json"]);
        let output = diff.current_dir(folder.path()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stderr}");
        assert!(stderr.contains("warning: web.json: "), "{stderr}");
        assert!(stderr.contains(says[2]), "{stderr}");
    }
}
