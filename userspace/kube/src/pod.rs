//! A Pod's containers and their profiles: what manifests and the API server have in common. Pure.
//!
//! A Pod spec is a [`Value`]: what a manifest says, and nothing that a typed struct would drop.

use seccast_model::{
    Profile, Runtime,
    base::{self, Situation},
    near,
    profile::{Action, ParseError},
};
use serde_json::Value;
use std::{collections::BTreeSet, fmt, str::FromStr};

/// A `localhostProfile`: the path of a profile below the kubelet's seccomp folder (`/var/lib/kubelet/seccomp`).
///
/// The API server demands a relative path without `..`; it lets an empty one pass, which the kubelet then refuses, and looks at
/// neither length nor characters (`ValidateLocalhostProfile`, 1.37). Here it is also without control characters and at most a PATH_MAX.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalhostProfile(String);

/// A path that no kubelet would find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// Nothing.
    #[error(
        "the path is empty: give one below the kubelet's seccomp folder, such as seccast/web.json"
    )]
    Empty,
    /// From `/`.
    #[error(
        "the path begins with `/`, and Kubernetes takes only one below the kubelet's seccomp folder: give it without \
         `/var/lib/kubelet/seccomp/`"
    )]
    Absolute,
    /// Out of the folder.
    #[error(
        "the path has an element `..`, which Kubernetes refuses: give one below the kubelet's seccomp folder"
    )]
    Parent,
    /// Another spelling of the same.
    #[error(
        "the path has an element `.` or an empty one: write it without, such as seccast/web.json, since paths are compared letter by letter"
    )]
    Spelling,
    /// A newline and the like.
    #[error("the path has a control character")]
    Control,
    /// No system call takes it.
    #[error("the path has {0} bytes, and no path of Linux more than 4,095")]
    Long(usize),
}

impl LocalhostProfile {
    /// Where `seccast install --audit` puts the profile for recording.
    pub const AUDIT: &str = "seccast/audit.json";

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LocalhostProfile {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(PathError::Empty);
        }
        if text.starts_with('/') {
            return Err(PathError::Absolute);
        }
        if text.split('/').any(|element| element == "..") {
            return Err(PathError::Parent);
        }
        if text.split('/').any(|element| matches!(element, "" | ".")) {
            return Err(PathError::Spelling);
        }
        if text.chars().any(char::is_control) {
            return Err(PathError::Control);
        }
        if text.len() > 4095 {
            return Err(PathError::Long(text.len()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for LocalhostProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which of a Pod's lists a container is in, and what that makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerKind {
    /// `containers`
    Container,
    /// `initContainers`
    Init,
    /// `initContainers` with `restartPolicy: Always`: runs as long as the Pod does (1.29).
    Sidecar,
    /// `ephemeralContainers`: a debug container.
    Ephemeral,
}

impl ContainerKind {
    /// The field of the Pod spec.
    #[must_use]
    pub fn list(self) -> &'static str {
        match self {
            Self::Container => "containers",
            Self::Init | Self::Sidecar => "initContainers",
            Self::Ephemeral => "ephemeralContainers",
        }
    }

    /// The noun, for messages.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Init => "init container",
            Self::Sidecar => "sidecar",
            Self::Ephemeral => "ephemeral container",
        }
    }
}

/// A container of a Pod spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its name; empty where the spec has none.
    pub name: String,
    /// What it is.
    pub kind: ContainerKind,
    /// Its place in [`ContainerKind::list`].
    pub index: usize,
}

impl Container {
    /// Its value in the Pod spec that it was found in.
    #[must_use]
    pub fn value<'a>(&self, spec: &'a Value) -> &'a Value {
        &spec[self.kind.list()][self.index]
    }
}

/// All containers, in the order in which they start.
#[must_use]
pub fn containers(spec: &Value) -> Vec<Container> {
    let mut found = Vec::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let values = spec[list].as_array().map_or(&[][..], Vec::as_slice);
        for (index, value) in values.iter().enumerate() {
            let kind = match list {
                "containers" => ContainerKind::Container,
                "ephemeralContainers" => ContainerKind::Ephemeral,
                _ if value["restartPolicy"] == "Always" => ContainerKind::Sidecar,
                _ => ContainerKind::Init,
            };
            let name = value["name"].as_str().unwrap_or_default().to_owned();
            found.push(Container { name, kind, index });
        }
    }
    found
}

/// Which container is meant is not clear.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChooseError {
    /// There is none.
    #[error("it has no containers: the Pod spec's `containers` is missing or empty")]
    None,
    /// More than one container, and no name given.
    #[error("it has several containers: say which with -c: {}", .0.join(", "))]
    Several(Vec<String>),
    /// No such name.
    #[error("it has no container `{name}`{suggestion}: {}", .names.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        names: Vec<String>,
        /// " (did you mean …?)", or nothing.
        suggestion: String,
    },
}

/// The containers of these names; without names the only one that is no init, sidecar or ephemeral container.
///
/// # Errors
/// When a name is not there, or without names there is not exactly one; with the names that there are.
pub fn choose(spec: &Value, names: &[String]) -> Result<Vec<Container>, ChooseError> {
    let all = containers(spec);
    let there = || {
        all.iter()
            .map(|container| match container.kind {
                ContainerKind::Container => container.name.clone(),
                kind => format!("{} ({})", container.name, kind.noun()),
            })
            .collect()
    };
    if names.is_empty() {
        let mut main = all
            .iter()
            .filter(|container| container.kind == ContainerKind::Container);
        return match (main.next(), main.next()) {
            (Some(only), None) => Ok(vec![only.clone()]),
            (None, _) => Err(ChooseError::None),
            _ => Err(ChooseError::Several(there())),
        };
    }
    let mut chosen: Vec<Container> = Vec::new();
    for name in names {
        let Some(found) = all.iter().find(|container| container.name == *name) else {
            let near = near::names(name, all.iter().map(|container| container.name.clone()));
            return Err(ChooseError::Unknown {
                name: name.clone(),
                suggestion: near::suggestion(&near),
                names: there(),
            });
        };
        if !chosen.contains(found) {
            chosen.push(found.clone());
        }
    }
    Ok(chosen)
}

/// A Pod that can have no seccomp profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is for Windows (`os.name` or `nodeSelector`), where no Pod can have a seccompProfile")]
pub struct Windows;

/// Whether the Pod may have a profile at all.
///
/// # Errors
/// For Windows.
pub fn attachable(spec: &Value) -> Result<(), Windows> {
    if spec["os"]["name"] == "windows" || spec["nodeSelector"]["kubernetes.io/os"] == "windows" {
        return Err(Windows);
    }
    Ok(())
}

/// A `seccompProfile` in words, `Localhost seccast/web.json` or `RuntimeDefault`; `None` where it has no type.
#[must_use]
pub fn described(profile: &Value) -> Option<String> {
    let kind = profile["type"].as_str()?;
    let path = profile["localhostProfile"].as_str();
    Some(path.map_or_else(|| kind.to_owned(), |path| format!("{kind} {path}")))
}

/// From an object of this kind to its Pod's spec.
#[must_use]
pub fn way_to_spec(kind: &str) -> &'static [&'static str] {
    match kind {
        "Pod" => &["spec"],
        "PodTemplate" => &["template", "spec"],
        "CronJob" => &["spec", "jobTemplate", "spec", "template", "spec"],
        // Whatever has a Pod template where the built-in workloads have it: a Rollout, a CloneSet, a Knative Service.
        _ => &["spec", "template", "spec"],
    }
}

/// What stands in the way of a profile, or makes it do something else than one expects.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// containerd gives privileged containers no profile, whatever the Pod says; CRI-O only one that its configuration names.
    Privileged,
    /// Without `allowPrivilegeEscalation: false` the runtime needs more calls under the filter.
    Escalation {
        /// Those calls which the profile allows; all of them where the profile is not known.
        names: BTreeSet<String>,
        /// The profile is known.
        known: bool,
    },
    /// The profile has the runtime's small base only, and the container lacks `allowPrivilegeEscalation: false`.
    SmallBase {
        /// What the runtime calls and the profile denies.
        names: BTreeSet<String>,
    },
    /// `hostUsers: false`: a user namespace.
    UserNamespace,
    /// A runtime class with a kernel of its own.
    Guest {
        /// `runtimeClassName`
        class: String,
        /// gVisor or Kata Containers.
        sandbox: &'static str,
    },
    /// The Pod has a profile for all of its containers as well.
    PodProfile {
        /// Its type, and its path.
        profile: String,
    },
    /// The profile denies nothing.
    AllowsAll,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Privileged => f.write_str(
                "it is privileged: containerd then drops the profile without a word, and so does CRI-O by default",
            ),
            Self::Escalation { names, known: true } => write!(
                f,
                "it lacks `allowPrivilegeEscalation: false`: the runtime then makes {} calls more under the filter, which the profile allows: {}",
                names.len(),
                list(names)
            ),
            Self::Escalation { names, known: false } => write!(
                f,
                "it lacks `allowPrivilegeEscalation: false`: the runtime then makes up to {} calls more under the filter, which a profile has to \
                 allow: {}",
                names.len(),
                list(names)
            ),
            Self::SmallBase { names } => write!(
                f,
                "it lacks `allowPrivilegeEscalation: false`, and the profile denies calls that the runtime then makes: {}; the container \
                 may not start",
                list(names)
            ),
            Self::UserNamespace => f.write_str(
                "the Pod has a user namespace (`hostUsers: false`): what the runtime calls under the filter was measured without one",
            ),
            Self::Guest { class, sandbox } => write!(
                f,
                "its runtime class `{class}` seems to be {sandbox}, which has a kernel of its own: the host's seccomp does not reach what \
                 runs in it"
            ),
            Self::PodProfile { profile } => write!(
                f,
                "the Pod has a profile for all of its containers as well ({profile}): this container's takes its place, the others keep it"
            ),
            Self::AllowsAll => f.write_str("the profile denies nothing: it is for recording"),
        }
    }
}

impl Warning {
    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::Privileged => {
                "take `privileged: true` out, and give the container the capabilities that it needs"
            }
            Self::Escalation { .. } => {
                "set `allowPrivilegeEscalation: false` where the program executes no setuid files, and make the profile with --no-new-privs"
            }
            Self::SmallBase { .. } => {
                "set `allowPrivilegeEscalation: false`, or make the profile without --no-new-privs"
            }
            Self::UserNamespace => "start one such Pod under the profile before many",
            Self::Guest { .. } => "use it with a class of runc or crun",
            Self::PodProfile { .. } | Self::AllowsAll => return None,
        })
    }

    /// It is worth knowing, and nothing is wrong.
    #[must_use]
    pub fn is_note(&self) -> bool {
        matches!(self, Self::PodProfile { .. } | Self::AllowsAll)
    }
}

fn list(names: &BTreeSet<String>) -> String {
    names
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

/// What is to be said of a container of this Pod spec that gets a profile; the profile's content where it is known.
#[must_use]
pub fn warnings(spec: &Value, container: &Container, profile: Option<&Profile>) -> Vec<Warning> {
    let value = container.value(spec);
    let context = &value["securityContext"];
    let mut found = Vec::new();
    if context["privileged"] == true {
        found.push(Warning::Privileged);
    } else if context["allowPrivilegeEscalation"] != false {
        found.extend(escalation(profile));
    }
    if spec["hostUsers"] == false {
        found.push(Warning::UserNamespace);
    }
    if let Some(class) = spec["runtimeClassName"].as_str()
        && let Some(sandbox) = sandbox(class)
    {
        let class = class.to_owned();
        found.push(Warning::Guest { class, sandbox });
    }
    if let Some(profile) = described(&spec["securityContext"]["seccompProfile"]) {
        found.push(Warning::PodProfile { profile });
    }
    if profile.is_some_and(allows_all) {
        found.push(Warning::AllowsAll);
    }
    found
}

/// As the audit profile: every call gets the same answer, and none is an error.
fn allows_all(profile: &Profile) -> bool {
    matches!(profile.default_action, Action::Allow | Action::Log) && profile.rules.is_empty()
}

/// What the lack of `allowPrivilegeEscalation: false` costs. Nothing is said where the program was built with broken data.
fn escalation(profile: Option<&Profile>) -> Option<Warning> {
    let names = |runtime, no_new_privs| -> Option<BTreeSet<String>> {
        let situation = Situation {
            no_new_privs,
            exec: true,
            ..Situation::default()
        };
        let groups = base::groups(runtime, situation).ok()?;
        Some(groups.into_iter().flat_map(|group| group.names).collect())
    };
    let more = |runtime| Some(&names(runtime, false)? - &names(runtime, true)?);
    let Some(profile) = profile else {
        let names = more(Runtime::Any)?;
        return Some(Warning::Escalation {
            names,
            known: false,
        });
    };
    if matches!(profile.default_action, Action::Allow | Action::Log) {
        return None;
    }
    let allowed = profile.allowed_names();
    let denied = |runtime| -> Option<BTreeSet<String>> {
        let names = more(runtime)?.into_iter();
        Some(
            names
                .filter(|name| !allowed.contains(name.as_str()))
                .collect(),
        )
    };
    // A profile that is made for one of the runtimes has its calls, not the other's.
    let (runc, crun) = (denied(Runtime::Runc)?, denied(Runtime::Crun)?);
    if !runc.is_empty() && !crun.is_empty() {
        let names = if crun.len() < runc.len() { crun } else { runc };
        return Some(Warning::SmallBase { names });
    }
    let mut names = more(Runtime::Any)?;
    names.retain(|name| allowed.contains(name.as_str()));
    Some(Warning::Escalation { names, known: true })
}

/// The sandbox that a runtime class is usually called after; the class itself is the administrator's to name.
fn sandbox(class: &str) -> Option<&'static str> {
    let class = class.to_ascii_lowercase();
    if class.contains("gvisor") || class.contains("runsc") {
        return Some("gVisor");
    }
    class.contains("kata").then_some("Kata Containers")
}

/// Reads the file that a `localhostProfile` names. The kubelet hands its path to the runtime, and containerd reads plain OCI only.
///
/// # Errors
/// For anything else; docker's dialect included, of which containerd drops every condition without a word.
pub fn read_profile(bytes: &[u8]) -> Result<Profile, ParseError> {
    Profile::from_oci_json(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec() -> Value {
        json!({
            "initContainers": [
                {"name": "migrate"},
                {"name": "proxy", "restartPolicy": "Always"},
            ],
            "containers": [{"name": "web"}],
            "ephemeralContainers": [{"name": "debugger"}],
        })
    }

    fn names(spec: &Value, names: &[&str]) -> Result<Vec<(String, ContainerKind)>, ChooseError> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let chosen = choose(spec, &names)?;
        Ok(chosen.into_iter().map(|it| (it.name, it.kind)).collect())
    }

    #[test]
    fn the_only_container_is_chosen_and_all_others_by_name() {
        use ContainerKind::{Container, Ephemeral, Init, Sidecar};
        let mut spec = spec();
        assert_eq!(names(&spec, &[]), Ok(vec![("web".into(), Container)]));
        assert_eq!(
            names(&spec, &["proxy", "migrate", "proxy", "debugger"]),
            Ok(vec![
                ("proxy".into(), Sidecar),
                ("migrate".into(), Init),
                ("debugger".into(), Ephemeral)
            ])
        );
        assert_eq!(
            names(&spec, &["proxi"]).unwrap_err().to_string(),
            "it has no container `proxi` (did you mean proxy?): migrate (init container), proxy (sidecar), web, debugger (ephemeral container)"
        );
        spec["containers"] = json!([{"name": "web"}, {"name": "log"}]);
        assert_eq!(
            names(&spec, &[]).unwrap_err().to_string(),
            "it has several containers: say which with -c: migrate (init container), proxy (sidecar), web, log, debugger (ephemeral \
             container)"
        );
        assert_eq!(names(&json!({}), &[]), Err(ChooseError::None));
    }

    #[test]
    fn paths_that_no_kubelet_finds_are_refused() {
        let parse = |text: &str| text.parse::<LocalhostProfile>();
        for good in ["web.json", "seccast/web.json", "a..b/..c/d..", "ä b.json"] {
            assert_eq!(parse(good).unwrap().as_str(), good);
        }
        let long = "a/".repeat(2047) + "ab";
        let cases = [
            ("", PathError::Empty),
            ("/var/lib/kubelet/seccomp/web.json", PathError::Absolute),
            ("..", PathError::Parent),
            ("a/../b", PathError::Parent),
            ("./x.json", PathError::Spelling),
            ("a//b", PathError::Spelling),
            ("a\nb", PathError::Control),
            (&long, PathError::Long(4096)),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    fn warned(spec: &Value, profile: Option<&Profile>) -> Vec<Warning> {
        let chosen = choose(spec, &[]).unwrap();
        warnings(spec, &chosen[0], profile)
    }

    #[test]
    fn each_obstacle_is_told_once() {
        let safe = json!({"allowPrivilegeEscalation": false});
        let with = |spec: Value, context: &Value| {
            let mut spec = spec;
            spec["containers"] = json!([{"name": "web", "securityContext": context}]);
            warned(&spec, None)
        };
        assert_eq!(with(json!({}), &safe), []);
        assert_eq!(
            with(json!({}), &json!({"privileged": true})),
            [Warning::Privileged]
        );
        assert_eq!(with(json!({"hostUsers": true}), &safe), []);
        assert_eq!(
            with(json!({"hostUsers": false}), &safe),
            [Warning::UserNamespace]
        );
        let guest = |class: &str, sandbox| Warning::Guest {
            class: class.to_owned(),
            sandbox,
        };
        for (class, sandbox) in [
            ("gvisor", "gVisor"),
            ("runsc", "gVisor"),
            ("kata-qemu", "Kata Containers"),
        ] {
            let spec = json!({"runtimeClassName": class});
            assert_eq!(with(spec, &safe), [guest(class, sandbox)]);
        }
        assert_eq!(with(json!({"runtimeClassName": "nvidia"}), &safe), []);
        let spec = json!({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}});
        let profile = "RuntimeDefault".to_owned();
        assert_eq!(with(spec, &safe), [Warning::PodProfile { profile }]);
        assert_eq!(attachable(&json!({"os": {"name": "linux"}})), Ok(()));
        assert_eq!(
            attachable(&json!({"os": {"name": "windows"}})),
            Err(Windows)
        );
    }

    #[test]
    fn privilege_escalation_costs_what_was_measured() {
        let spec = json!({"containers": [{"name": "web"}]});
        let [
            Warning::Escalation {
                names: all,
                known: false,
            },
        ] = &warned(&spec, None)[..]
        else {
            panic!("{:?}", warned(&spec, None));
        };
        // 39 against 26 of runc, 20 against 6 of crun (semantics 2.3), and their common ones once.
        let names = |runtime, no_new_privs| -> BTreeSet<String> {
            let situation = Situation {
                no_new_privs,
                exec: true,
                ..Situation::default()
            };
            let groups = base::groups(runtime, situation).unwrap();
            groups.into_iter().flat_map(|group| group.names).collect()
        };
        let [runc, crun] = [Runtime::Runc, Runtime::Crun]
            .map(|runtime| &names(runtime, false) - &names(runtime, true));
        assert_eq!((runc.len(), crun.len()), (13, 14));
        // What one of them needs anyway is no cost of a profile for both.
        let any = &names(Runtime::Any, false) - &names(Runtime::Any, true);
        assert_eq!((any.len(), all), (17, &any));

        let allowing = |names: BTreeSet<String>| Profile::allowing(names, BTreeSet::new());
        // Made for runc: crun's are not in it.
        let profile = allowing(names(Runtime::Runc, false));
        let known = &any & &names(Runtime::Runc, false);
        assert_eq!(known.len(), 12);
        assert_eq!(
            warned(&spec, Some(&profile)),
            [Warning::Escalation {
                names: known,
                known: true
            }]
        );
        // Made for no_new_privs: the container would not start.
        let small = allowing(names(Runtime::Any, true));
        let [Warning::SmallBase { names: missing }] = &warned(&spec, Some(&small))[..] else {
            panic!("{:?}", warned(&spec, Some(&small)));
        };
        assert!(missing.is_subset(all) && !missing.is_empty());
        assert_eq!(
            warned(&spec, Some(&seccast_model::audit_profile())),
            [Warning::AllowsAll]
        );
    }
}
