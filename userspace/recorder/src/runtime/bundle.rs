//! `config.json` of an OCI bundle: the hooks and the filter.

use crate::proc;
use seccast_model::{
    Profile,
    observation::Pod,
    profile::{Action, ParseError},
};
use serde::Deserialize;
use std::{collections::BTreeMap, path::Path};

/// Larger files are not read: a config.json is some ten kilobytes.
const LIMIT: u64 = 16 << 20;

/// The parts of an OCI config that a recording needs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Bundle {
    annotations: BTreeMap<String, String>,
    hooks: Hooks,
    linux: Linux,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Hooks {
    create_container: Vec<Hook>,
    start_container: Vec<Hook>,
}

#[derive(Clone, Debug, Deserialize)]
struct Hook {
    path: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Linux {
    seccomp: Option<serde_json::Value>,
}

impl Bundle {
    /// Reads `config.json` of a bundle folder; `None` when there is none that can be read.
    #[must_use]
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&proc::read_file(&folder.join("config.json"), LIMIT)?).ok()
    }

    fn annotation(&self, keys: &[&str]) -> Option<&str> {
        let mut found = keys.iter().filter_map(|key| self.annotations.get(*key));
        found.next().map(String::as_str)
    }

    /// The name that a CRI (kubelet) or nerdctl gave the container; a Pod's sandbox has none.
    #[must_use]
    pub fn container_name(&self) -> Option<&str> {
        self.annotation(&[
            "io.kubernetes.cri.container-name",
            "io.kubernetes.container.name",
            "nerdctl/name",
        ])
        .filter(|_| !self.is_sandbox())
    }

    /// The image's reference, where a CRI noted it.
    #[must_use]
    pub fn image(&self) -> Option<&str> {
        self.annotation(&[
            "io.kubernetes.cri.image-name",
            "io.kubernetes.cri-o.ImageName",
        ])
    }

    /// The Pod that containerd's CRI plugin (1.6+) or CRI-O made it for. Neither notes the Pod's labels in a container's
    /// bundle, nor whether it is an init or an ephemeral container.
    #[must_use]
    pub fn pod(&self) -> Option<Pod> {
        let of = |key: &str| {
            let theirs = [
                &format!("io.kubernetes.cri.sandbox-{key}"),
                &format!("io.kubernetes.pod.{key}"),
            ];
            self.annotation(&theirs.map(String::as_str))
                .map(str::to_owned)
        };
        Some(Pod {
            namespace: of("namespace")?,
            name: of("name")?,
            uid: of("uid"),
            ..Pod::default()
        })
    }

    /// Is it a Pod's sandbox (`pause`), which holds the namespaces and runs nothing of the user's?
    #[must_use]
    pub fn is_sandbox(&self) -> bool {
        let kind = self.annotation(&[
            "io.kubernetes.cri.container-type",
            "io.kubernetes.cri-o.ContainerType",
        ]);
        kind == Some("sandbox")
    }

    /// Is `file` one of the createContainer hooks, which run before the filter?
    #[must_use]
    pub fn is_create_container_hook(&self, file: &str) -> bool {
        self.hooks
            .create_container
            .iter()
            .any(|hook| hook.path == file)
    }

    /// Has it startContainer hooks? The runtime forks them under the filter.
    #[must_use]
    pub fn has_start_container_hooks(&self) -> bool {
        !self.hooks.start_container.is_empty()
    }

    /// The filter that the runtime is handed, if it is handed one.
    ///
    /// # Errors
    /// When it is no profile.
    pub fn filter(&self) -> Result<Option<Profile>, ParseError> {
        // runc and crun take an empty object for no filter.
        let seccomp = self.linux.seccomp.as_ref();
        let seccomp = seccomp.filter(|seccomp| seccomp.as_object().is_none_or(|of| !of.is_empty()));
        seccomp
            .map(|seccomp| Profile::from_oci_json(seccomp.to_string().as_bytes()))
            .transpose()
    }

    /// Does its filter, if it has one, let every call happen?
    #[must_use]
    pub fn allows_everything(&self) -> bool {
        let lets = |action: Action| matches!(action, Action::Allow | Action::Log);
        self.filter().is_ok_and(|filter| {
            filter.is_none_or(|filter| {
                lets(filter.default_action) && filter.rules.iter().all(|rule| lets(rule.action))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(annotations: &str) -> Bundle {
        serde_json::from_str(&format!("{{\"annotations\": {annotations}}}")).unwrap()
    }

    /// As containerd 2.4.2 wrote them for a kubelet 1.37.2.
    const APP: &str = r#"{
        "io.kubernetes.cri.container-name": "app",
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.image-name": "localhost/bb:1",
        "io.kubernetes.cri.sandbox-id": "3cba2f75faec8e7c0565ccb977d8e8436d2b6855c0a74145b9b38ff955e4d1aa",
        "io.kubernetes.cri.sandbox-name": "multi",
        "io.kubernetes.cri.sandbox-namespace": "default",
        "io.kubernetes.cri.sandbox-uid": "d25a4355-d1b7-4399-8cf3-5d8b2a02b021"
    }"#;
    const SANDBOX: &str = r#"{
        "io.kubernetes.cri.container-type": "sandbox",
        "io.kubernetes.cri.podsandbox.image-name": "localhost/pause:1",
        "io.kubernetes.cri.sandbox-cpu-period": "100000",
        "io.kubernetes.cri.sandbox-id": "3cba2f75faec8e7c0565ccb977d8e8436d2b6855c0a74145b9b38ff955e4d1aa",
        "io.kubernetes.cri.sandbox-name": "multi",
        "io.kubernetes.cri.sandbox-namespace": "default",
        "io.kubernetes.cri.sandbox-uid": "d25a4355-d1b7-4399-8cf3-5d8b2a02b021"
    }"#;
    #[test]
    fn the_filter_is_what_the_runtime_makes_of_it() {
        let check = |linux: &str, has_one: Option<bool>, allows_everything: bool| {
            let bundle: Bundle = serde_json::from_str(&format!("{{\"linux\": {linux}}}")).unwrap();
            let filter = bundle.filter().ok().map(|filter| filter.is_some());
            assert_eq!(filter, has_one, "{linux}");
            assert_eq!(bundle.allows_everything(), allows_everything, "{linux}");
        };
        check("{}", Some(false), true);
        check(r#"{"seccomp": null}"#, Some(false), true);
        check(r#"{"seccomp": {}}"#, Some(false), true);
        let allow = r#"{"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}"#;
        check(allow, Some(true), true);
        let errno = r#"{"seccomp": {"defaultAction": "SCMP_ACT_ERRNO"}}"#;
        check(errno, Some(true), false);
        let one = r#"{"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_KILL"}]}}"#;
        check(one, Some(true), false);
        check(r#"{"seccomp": {"defaultAction": "ALLOW"}}"#, None, false);
    }

    /// The keys of CRI-O 1.2x (server/container_create.go, server/sandbox_run_linux.go); not from a run of it.
    const CRIO: &str = r#"{
        "io.kubernetes.container.name": "app",
        "io.kubernetes.cri-o.ContainerType": "container",
        "io.kubernetes.cri-o.ImageName": "docker.io/library/busybox:1",
        "io.kubernetes.pod.name": "multi",
        "io.kubernetes.pod.namespace": "default",
        "io.kubernetes.pod.uid": "d25a4355-d1b7-4399-8cf3-5d8b2a02b021"
    }"#;

    #[test]
    fn a_bundle_tells_the_pod_and_the_sandbox_from_the_containers() {
        let pod = Pod {
            namespace: "default".to_owned(),
            name: "multi".to_owned(),
            uid: Some("d25a4355-d1b7-4399-8cf3-5d8b2a02b021".to_owned()),
            ..Pod::default()
        };
        let crio_sandbox = CRIO
            .replace("\"container\"", "\"sandbox\"")
            .replace("\"app\"", "\"POD\"");
        for (annotations, name, sandbox) in [
            (APP, Some("app"), false),
            (SANDBOX, None, true),
            (CRIO, Some("app"), false),
            (&crio_sandbox, None, true),
        ] {
            let bundle = bundle(annotations);
            assert_eq!(bundle.pod().as_ref(), Some(&pod), "{annotations}");
            assert_eq!(bundle.container_name(), name, "{annotations}");
            assert_eq!(bundle.is_sandbox(), sandbox, "{annotations}");
        }
        assert_eq!(bundle(APP).image(), Some("localhost/bb:1"));
        assert_eq!(bundle("{\"nerdctl/name\": \"web\"}").pod(), None);
    }
}
