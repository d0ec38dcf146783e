//! OCI bundles: what to run and how, as the `config.json` that a runtime reads.

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// The capabilities that docker gives a container by default, and so does [`Bundle`].
///
/// A list of the rig's own: nothing here may need the model to compile. Source: `DefaultCapabilities` in
/// <https://github.com/moby/moby/blob/v28.5.2/daemon/pkg/oci/caps/defaults.go>.
pub const DOCKER_CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// A container's configuration.
#[derive(Clone, Debug)]
pub struct Bundle {
    pub(crate) rootfs: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) user: (u32, u32),
    pub(crate) no_new_privs: bool,
    pub(crate) seccomp: Option<Value>,
    pub(crate) capabilities: Vec<String>,
    pub(crate) hooks: Map<String, Value>,
    pub(crate) mounts: Vec<Value>,
    pub(crate) cgroups_path: Option<String>,
    pub(crate) annotations: Map<String, Value>,
    pub(crate) readonly: bool,
}

impl Bundle {
    /// Runs `args` in `rootfs` as root with docker's capabilities, its root read-only and without a filter.
    pub fn new<I: IntoIterator<Item: Into<String>>>(rootfs: impl Into<PathBuf>, args: I) -> Self {
        Self {
            rootfs: rootfs.into(),
            args: args.into_iter().map(Into::into).collect(),
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()],
            user: (0, 0),
            no_new_privs: false,
            seccomp: None,
            capabilities: DOCKER_CAPABILITIES.map(str::to_owned).to_vec(),
            hooks: Map::new(),
            mounts: Vec::new(),
            cgroups_path: None,
            annotations: Map::new(),
            readonly: true,
        }
    }

    /// What it runs.
    #[must_use]
    pub fn command(&self) -> &[String] {
        &self.args
    }

    /// Adds words to the command.
    #[must_use]
    pub fn args(mut self, words: &[&str]) -> Self {
        self.args.extend(words.iter().map(|&word| word.into()));
        self
    }

    /// Adds `NAME=VALUE` to the environment.
    #[must_use]
    pub fn env(mut self, pair: impl Into<String>) -> Self {
        self.env.push(pair.into());
        self
    }

    /// Runs as this user and group.
    #[must_use]
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.user = (uid, gid);
        self
    }

    /// Sets `process.noNewPrivileges`, Kubernetes' `allowPrivilegeEscalation: false`.
    #[must_use]
    pub fn no_new_privs(mut self, on: bool) -> Self {
        self.no_new_privs = on;
        self
    }

    /// Runs under this profile, the content of `linux.seccomp`.
    #[must_use]
    pub fn seccomp(mut self, profile: Value) -> Self {
        self.seccomp = Some(profile);
        self
    }

    /// Replaces the capabilities; none when empty.
    #[must_use]
    pub fn capabilities(mut self, names: &[&str]) -> Self {
        self.capabilities = names.iter().map(|&name| name.into()).collect();
        self
    }

    /// Adds a hook at a stage of the runtime specification, such as `createContainer` or `startContainer`.
    #[must_use]
    pub fn hook(mut self, stage: &str, path: &str, args: &[&str]) -> Self {
        let hook = json!({ "path": path, "args": args });
        match self.hooks.entry(stage).or_insert_with(|| json!([])) {
            Value::Array(hooks) => hooks.push(hook),
            other => *other = json!([hook]),
        }
        self
    }

    /// Mounts an empty tmpfs that everyone may write to.
    #[must_use]
    pub fn tmpfs(mut self, destination: &str) -> Self {
        self.mounts.push(json!({
            "destination": destination, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"],
        }));
        self
    }

    /// Mounts a tmpfs that begins with what the root has at `destination`: cheap data of its own for each start.
    ///
    /// The runtime copies it, before it loads the filter; an option of runc and crun.
    #[must_use]
    pub fn tmpfs_with_content(mut self, destination: &str) -> Self {
        self.mounts.push(json!({
            "destination": destination, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777", "tmpcopyup"],
        }));
        self
    }

    /// Mounts a folder or file of the machine.
    #[must_use]
    pub fn bind(mut self, source: &Path, destination: &str) -> Self {
        self.mounts.push(json!({
            "destination": destination, "type": "bind", "source": source, "options": ["rbind", "nosuid", "nodev"],
        }));
        self
    }

    /// Sets `linux.cgroupsPath`; without it the container's name below [`crate::cgroup::PARENT`] is used.
    #[must_use]
    pub fn cgroups_path(mut self, path: impl Into<String>) -> Self {
        self.cgroups_path = Some(path.into());
        self
    }

    /// Sets an annotation, such as those by which the runtime behind a kubelet tells a Pod.
    #[must_use]
    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.insert(name.to_owned(), value.into());
        self
    }

    /// Whether the container may write to its root; the caches of [`crate::rootfs`] are shared, so only for own trees.
    #[must_use]
    pub fn readonly(mut self, on: bool) -> Self {
        self.readonly = on;
        self
    }

    /// The cgroup path of a container of this name.
    #[must_use]
    pub fn cgroup_of(&self, name: &str) -> String {
        self.cgroups_path
            .clone()
            .unwrap_or_else(|| format!("{}/{name}", crate::cgroup::PARENT))
    }

    /// The configuration for a container of this name.
    #[must_use]
    pub fn config(&self, name: &str) -> Value {
        let caps = &self.capabilities;
        let mut mounts = vec![
            json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
            json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] }),
            json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] }),
            json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] }),
            json!({ "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] }),
            json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] }),
        ];
        mounts.extend(self.mounts.iter().cloned());
        let namespaces =
            ["pid", "network", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind }));
        let mut linux = json!({
            "cgroupsPath": self.cgroup_of(name),
            "namespaces": namespaces,
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        });
        if let Some(profile) = &self.seccomp {
            linux["seccomp"] = profile.clone();
        }
        let mut config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": { "uid": self.user.0, "gid": self.user.1 },
                "args": self.args,
                "env": self.env,
                "cwd": "/",
                "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
                // Limits may only be lowered: raising one needs CAP_SYS_RESOURCE.
                "rlimits": [{ "type": "RLIMIT_CORE", "hard": 0, "soft": 0 }],
                "noNewPrivileges": self.no_new_privs,
            },
            "root": { "path": self.rootfs, "readonly": self.readonly },
            "hostname": "seccast",
            "mounts": mounts,
            "linux": linux,
        });
        if !self.hooks.is_empty() {
            config["hooks"] = Value::Object(self.hooks.clone());
        }
        if !self.annotations.is_empty() {
            config["annotations"] = Value::Object(self.annotations.clone());
        }
        config
    }

    /// Writes `config.json` into a folder.
    pub fn write(&self, name: &str, dir: &Path) -> Result<()> {
        let file = dir.join("config.json");
        let text = serde_json::to_vec_pretty(&self.config(name))?;
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    }
}
