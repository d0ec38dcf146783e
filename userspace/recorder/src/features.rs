//! What this machine can do for a recording, and what it lacks.

use crate::{
    cgroup::Hierarchy,
    command,
    engine::Client,
    kernel::{Form, Kernel, KernelError, missing_capabilities},
    proc, ptrace,
    recorder::{kernel_release, native},
    runtime::cri,
};
use std::{
    collections::BTreeSet,
    env,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Good,
    /// Recording works without it, or not for everything.
    Limited,
    /// Recording does not work.
    Missing,
}

impl State {
    /// `ok`, `limited`, `missing`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Limited => "limited",
            Self::Missing => "missing",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What: `kernel`, `btf`, `cgroups`…
    pub subject: &'static str,
    /// How it matters.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do, where there is something to do.
    pub advice: Option<String>,
}

impl Finding {
    fn new(
        subject: &'static str,
        state: State,
        found: impl Into<String>,
        advice: Option<&str>,
    ) -> Self {
        Self {
            subject,
            state,
            found: found.into(),
            advice: advice.map(str::to_owned),
        }
    }
}

/// Looks at everything that a recording needs.
#[must_use]
pub fn examine() -> Vec<Finding> {
    let mut findings = vec![kernel(), btf(), capabilities()];
    findings.extend(programs());
    let hierarchy = Hierarchy::find().ok();
    findings.push(cgroups(hierarchy.as_ref()));
    findings.extend(hierarchy.as_ref().map(own_cgroup));
    findings.extend(pid_namespace());
    findings.push(tracing());
    let pods = pods();
    let has_pods = pods.as_ref().is_some_and(|pods| pods.state == State::Good);
    findings.extend(pods);
    findings.extend(
        ["runc", "crun", "podman", "docker", "containerd"]
            .into_iter()
            .filter_map(|name| runtime(name, hierarchy.as_ref())),
    );
    if !has_pods && !findings.iter().any(|finding| finding.subject == "runc") {
        let advice = "record commands, cgroups and processes; or install runc";
        findings.push(Finding::new(
            "runc",
            State::Limited,
            "not installed",
            Some(advice),
        ));
    }
    findings
}

fn kernel() -> Finding {
    let release = kernel_release();
    let version = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok())
        .collect::<Vec<_>>();
    let old = version.as_slice() < [5, 10].as_slice();
    let machine = env::consts::ARCH;
    if native().is_none() {
        return Finding::new(
            "kernel",
            State::Missing,
            format!("{release} on {machine}"),
            Some("record on x86_64 or aarch64; of riscv64 there is a table only, for `generate`"),
        );
    }
    let advice = old.then_some("5.10 is the oldest kernel that is supported");
    Finding::new(
        "kernel",
        if old { State::Missing } else { State::Good },
        format!("{release} on {machine}"),
        advice,
    )
}

fn btf() -> Finding {
    match crate::kernel::globals() {
        Ok(globals) => Finding::new(
            "btf",
            State::Good,
            format!("{}, {} offsets found", crate::btf::VMLINUX, globals.len()),
            None,
        ),
        Err(error) => {
            let advice = "boot a kernel with CONFIG_DEBUG_INFO_BTF=y; Debian's, Ubuntu's and Fedora's have it";
            Finding::new("btf", State::Missing, error.to_string(), Some(advice))
        }
    }
}

fn capabilities() -> Finding {
    let missing = missing_capabilities();
    if missing.is_empty() {
        let found = match proc::has_capability(21) {
            true => "SYS_ADMIN",
            false => "BPF, PERFMON",
        };
        return Finding::new("capabilities", State::Good, found, None);
    }
    let binary = env::current_exe().unwrap_or_else(|_| "seccast".into());
    let advice = format!(
        "run as root, or give the binary what it needs: setcap cap_bpf,cap_perfmon+ep {}",
        binary.display()
    );
    let found = format!("{} missing", missing.join(" and "));
    Finding::new("capabilities", State::Missing, found, Some(&advice))
}

fn programs() -> Vec<Finding> {
    let began = Instant::now();
    match Kernel::load(1) {
        Ok(mut kernel) => {
            let took = began.elapsed().as_millis();
            let how = format!("loaded and attached in {took} ms");
            let mut findings = vec![match kernel.form() {
                Form::Fast => Finding::new(
                    "programs",
                    State::Good,
                    format!("fast path (tp_btf, cached), {how}"),
                    None,
                ),
                Form::Raw => Finding::new(
                    "programs",
                    State::Limited,
                    format!(
                        "fallback (raw_tp, no cache), {how}; the fast path was refused: {}",
                        kernel.slow().unwrap_or("no BTF to attach by")
                    ),
                    Some(
                        "recording is exact but costs more; Linux 5.11 with BTF has the fast path, and where that is refused it is a defect: report it with this line",
                    ),
                ),
            }];
            findings.push(match kernel.blocked() {
                Ok(_) => Finding::new("late start", State::Good, "calls that tasks are blocked in are read with their ABI", None),
                Err(error) => {
                    let advice = "blocked calls are read from /proc, which needs root and guesses the ABI; Linux 5.15 has the iterator";
                    Finding::new("late start", State::Limited, format!("no task iterator: {}", error.brief()), Some(advice))
                }
            });
            findings
        }
        Err(error @ KernelError::NoPrivilege { .. }) => {
            vec![Finding::new(
                "programs",
                State::Missing,
                error.to_string(),
                Some("see capabilities"),
            )]
        }
        Err(error) => {
            let advice =
                "if eBPF is allowed here, this is a defect: report it with the kernel's version";
            vec![Finding::new(
                "programs",
                State::Missing,
                error.brief(),
                Some(advice),
            )]
        }
    }
}

fn cgroups(hierarchy: Option<&Hierarchy>) -> Finding {
    match hierarchy {
        None => {
            let advice = "mount one (mount -t cgroup2 none /sys/fs/cgroup/unified), or boot with systemd.unified_cgroup_hierarchy=1";
            Finding::new(
                "cgroups",
                State::Missing,
                "no cgroup2 hierarchy (pure v1)",
                Some(advice),
            )
        }
        Some(hierarchy) if !hierarchy.is_whole() => {
            let advice = "in a container: mount the machine's cgroup2 hierarchy (in a Pod by hostPath, read-only), at any path";
            Finding::new(
                "cgroups",
                State::Limited,
                format!(
                    "{} is a part of the hierarchy: other containers are not seen",
                    hierarchy.mount().display()
                ),
                Some(advice),
            )
        }
        Some(hierarchy) if hierarchy.hybrid() => {
            let advice = "runc's containers can be told apart; crun refuses hybrid hosts";
            Finding::new(
                "cgroups",
                State::Limited,
                format!("hybrid, cgroup2 at {}", hierarchy.mount().display()),
                Some(advice),
            )
        }
        Some(hierarchy) => Finding::new(
            "cgroups",
            State::Good,
            format!("v2 at {}", hierarchy.mount().display()),
            None,
        ),
    }
}

/// `record -- CMD` puts CMD into a cgroup of its own.
fn own_cgroup(hierarchy: &Hierarchy) -> Finding {
    const SUBJECT: &str = "own cgroup";
    match command::cgroup(hierarchy) {
        Ok(cgroup) => {
            let _ = cgroup.remove();
            let (parent, _) = cgroup.path.rsplit_once('/').unwrap_or_default();
            let found = format!("a command gets its own below {parent}/");
            Finding::new(SUBJECT, State::Good, found, None)
        }
        Err(error) => {
            let advice = "-- CMD is recorded by ptrace; or start seccast in a cgroup whose folder and cgroup.procs are yours, for example by systemd-run --user --scope --property Delegate=yes";
            let mut found = error.to_string();
            if let Some(source) = std::error::Error::source(&error) {
                found = format!("{found}: {source}");
            }
            Finding::new(SUBJECT, State::Limited, found, Some(advice))
        }
    }
}

/// What the kernel tells has the machine's process ids.
fn pid_namespace() -> Option<Finding> {
    if proc::in_first_pid_namespace() {
        return None;
    }
    let advice = "run seccast among the machine's processes (in a Pod: hostPID: true)";
    Some(Finding::new(
        "processes",
        State::Limited,
        "a pid namespace of its own: what runs already cannot be told apart, and callers not be named",
        Some(advice),
    ))
}

/// Containers of Pods, on a node or in a Pod of it.
fn pods() -> Option<Finding> {
    const SUBJECT: &str = "pods";
    let folders = cri::folders();
    if folders.is_empty() {
        let advice = format!(
            "mount the folder in which the node's runtime keeps bundles at the same path (hostPath, read-only): {}",
            cri::usual()
        );
        let found =
            "in a Pod, and no folder of a runtime is seen: no container is known by its Pod";
        return env::var_os("KUBERNETES_SERVICE_HOST")
            .map(|_| Finding::new(SUBJECT, State::Limited, found, Some(&advice)));
    }
    let containers = cri::containers(&folders);
    if containers.is_empty() && folders.iter().all(|folder| folder == Path::new(cri::CRIO)) {
        // podman has that folder, too.
        return None;
    }
    let pods: BTreeSet<_> = containers
        .iter()
        .filter_map(|one| one.bundle.pod())
        .map(|pod| (pod.namespace, pod.name))
        .collect();
    let folders: Vec<_> = folders
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    let found = format!(
        "{} in {}; recorded with --pod NAMESPACE/NAME",
        pods.len(),
        folders.join(", ")
    );
    Some(Finding::new(SUBJECT, State::Good, found, None))
}

/// What is left without any privilege.
fn tracing() -> Finding {
    match ptrace::available() {
        Ok(()) => Finding::new(
            "ptrace",
            State::Good,
            "commands can be recorded without privileges, slowly",
            None,
        ),
        Err(why) => {
            let advice = "only commands that run without privileges (-- CMD) need it";
            Finding::new("ptrace", State::Limited, why, Some(advice))
        }
    }
}

/// A runtime or engine on the PATH: its version, and whether its containers have cgroups of their own here.
fn runtime(name: &'static str, hierarchy: Option<&Hierarchy>) -> Option<Finding> {
    let path = on_path(name)?;
    let version = version(&path).unwrap_or_else(|| "version unknown".to_owned());
    let hybrid = hierarchy.is_some_and(Hierarchy::hybrid);
    let (state, how, advice) = match (name, hierarchy) {
        (_, None) => (
            State::Missing,
            "containers cannot be told apart",
            Some("see cgroups"),
        ),
        ("crun", _) if hybrid => (
            State::Missing,
            "containers cannot be told apart",
            Some("crun refuses hybrid hosts; use a v2 host, or runc"),
        ),
        ("podman", _) if hybrid => (
            State::Limited,
            "containers can be told apart with runc only; recorded by name, by id, or with -- podman run",
            Some("podman --runtime runc"),
        ),
        ("containerd", _) => (
            State::Good,
            "containers can be told apart; recorded by id, or with -- ctr run",
            None,
        ),
        ("docker", _) => (
            State::Good,
            "containers can be told apart; recorded by name, by id, or with -- docker run",
            None,
        ),
        _ => (
            State::Good,
            "containers can be told apart; recorded by name, by id, or with a command that starts them",
            None,
        ),
    };
    let engine = Client::in_use()
        .into_iter()
        .find(|client| client.kind().name() == name);
    if let (Some(client), State::Good | State::Limited) = (engine, state)
        && let Err(error) = client.check_local()
    {
        let advice = "start it, or set what leads to it (DOCKER_HOST, a context, CONTAINER_HOST)";
        return Some(Finding::new(
            name,
            State::Limited,
            format!("{version}; {error}"),
            Some(advice),
        ));
    }
    Some(Finding::new(
        name,
        state,
        format!("{version}; {how}"),
        advice,
    ))
}

fn on_path(name: &str) -> Option<PathBuf> {
    let usual = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .chain(usual)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// The first word of `--version` that begins with a digit; an engine that does not answer is not waited for.
fn version(path: &Path) -> Option<String> {
    let mut child = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let deadline = Instant::now() + Duration::from_secs(2);
    while child.try_wait().ok()?.is_none() {
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
    let mut text = String::new();
    child
        .stdout
        .take()?
        .take(4096)
        .read_to_string(&mut text)
        .ok()?;
    text.split([' ', ',', '\n'])
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
        .map(str::to_owned)
}
