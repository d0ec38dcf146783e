//! The dialect of docker, podman and CRI-O: OCI plus conditions on capabilities, architecture and kernel, which the engine evaluates before it
//! writes the OCI configuration.
//!
//! Rules of evaluation: `setupSeccomp` in <https://github.com/moby/profiles/blob/seccomp/v0.2.3/seccomp/seccomp_linux.go> and
//! <https://github.com/containers/container-libs/blob/main/common/pkg/seccomp/seccomp_linux.go>. podman and CRI-O have error numbers by name as
//! well, and no `minKernel`.

use crate::arch::Arch;
use crate::errno;
use crate::json::{self, Refusal};
use crate::profile::{OciArch, ParseError, Profile, Reason};
use crate::syscall::Release;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// A profile with conditions.
#[derive(Clone, Debug)]
pub struct MobyProfile {
    /// With the rules for every host.
    all: Profile,
    arch_map: Vec<ArchMapping>,
    /// Of each rule: what it includes, what it excludes.
    conditions: Vec<(Conditions, Conditions)>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMapping {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Conditions {
    caps: BTreeSet<String>,
    arches: BTreeSet<String>,
    #[serde(deserialize_with = "major_minor")]
    min_kernel: Option<(u64, u64)>,
}

/// What the engine knows when it evaluates the conditions.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// The machine's.
    pub arch: Arch,
    /// The container's bounding set, as `CAP_CHOWN`.
    pub capabilities: &'a BTreeSet<String>,
    /// The running kernel; `None` is newer than any condition.
    pub kernel: Option<Release>,
}

impl MobyProfile {
    /// Reads the dialect; plain OCI is a part of it.
    ///
    /// # Errors
    /// When the bytes are not such a profile; the error names the field.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ParseError> {
        let value = json::value(bytes).map_err(|refusal| match refusal {
            Refusal::TooLarge { bytes } => ParseError::TooLarge { bytes },
            Refusal::TooManyValues => ParseError::TooManyValues,
            Refusal::Syntax(error) => ParseError::Syntax(error),
        })?;
        let kind = json::Kind::of(&value);
        let mut oci = match (kind, value) {
            (json::Kind::OciProfile | json::Kind::DockerProfile, Value::Object(oci)) => oci,
            (json::Kind::EmptyObject, _) => return Err(ParseError::Empty),
            _ => return Err(ParseError::Foreign { kind }),
        };
        let arch_map: Vec<ArchMapping> = typed("archMap", oci.remove("archMap"))?;
        errno_by_name(&mut oci, "", "defaultErrno", "defaultErrnoRet")?;
        let mut conditions = Vec::new();
        // What is no list of objects is left to the reader of OCI, which names it.
        let rules = oci.get_mut("syscalls").and_then(Value::as_array_mut);
        for (at, rule) in rules.into_iter().flatten().enumerate() {
            let Value::Object(rule) = rule else { continue };
            let field = format!("syscalls[{at}].");
            let mut condition = |key: &str| typed(&format!("{field}{key}"), rule.remove(key));
            conditions.push((condition("includes")?, condition("excludes")?));
            errno_by_name(rule, &field, "errno", "errnoRet")?;
            one_name(rule, &field)?;
        }
        let all = Profile::from_value(Value::Object(oci))?;
        if !all.architectures.is_empty() && !arch_map.is_empty() {
            return Err(conflict(
                "architectures",
                "`archMap` is given as well, and engines refuse both: leave one out",
            ));
        }
        Ok(Self {
            all,
            arch_map,
            conditions,
        })
    }

    /// The OCI profile that the engine makes of it on this host.
    ///
    /// # Errors
    /// When the host's entry of `archMap` has an architecture that OCI does not have.
    pub fn resolve(&self, host: Host<'_>) -> Result<Profile, ParseError> {
        let mut profile = self.all.clone();
        let native = native(host.arch).oci_name();
        let mapping = self
            .arch_map
            .iter()
            .position(|mapping| mapping.architecture == native);
        if let Some(at) = mapping {
            let subs = self.arch_map[at].sub_architectures.iter().flatten();
            for token in std::iter::once(&self.arch_map[at].architecture).chain(subs) {
                let arch = OciArch::from_name(token).ok_or_else(|| ParseError::Field {
                    field: format!("archMap[{at}]"),
                    reason: Reason::Unknown {
                        value: token.clone(),
                        wanted: "an architecture of the OCI specification 1.3",
                    },
                })?;
                profile.architectures.insert(arch);
            }
        }
        let mut conditions = self.conditions.iter();
        profile.rules.retain(|_| {
            conditions
                .next()
                .is_none_or(|(includes, excludes)| includes.hold(host) && !excludes.any_holds(host))
        });
        Ok(profile)
    }
}

impl Conditions {
    /// Every condition that is given holds.
    fn hold(&self, host: Host<'_>) -> bool {
        (self.arches.is_empty() || self.arches.contains(goarch(host.arch)))
            && self.caps.is_subset(host.capabilities)
            && self.min_kernel.is_none_or(|wanted| at_least(host, wanted))
    }

    /// One of the conditions that are given holds.
    fn any_holds(&self, host: Host<'_>) -> bool {
        self.arches.contains(goarch(host.arch))
            || !self.caps.is_disjoint(host.capabilities)
            || self.min_kernel.is_some_and(|wanted| at_least(host, wanted))
    }
}

fn at_least(host: Host<'_>, wanted: (u64, u64)) -> bool {
    host.kernel
        .is_none_or(|kernel| (kernel.major.into(), kernel.minor.into()) >= wanted)
}

/// Puts the number of the error that `key` names at `number`, where OCI has it.
fn errno_by_name(
    object: &mut Map<String, Value>,
    field: &str,
    key: &str,
    number: &str,
) -> Result<(), ParseError> {
    let name: Option<String> = typed(&format!("{field}{key}"), object.remove(key))?;
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    // podman takes the number as text, too.
    let Some(errno) = errno::number(&name).or_else(|| name.parse().ok()) else {
        return Err(ParseError::Field {
            field: format!("{field}{key}"),
            reason: Reason::Unknown {
                value: name,
                wanted: "the name of an error of Linux, such as `ENOSYS`",
            },
        });
    };
    match object.insert(number.to_owned(), errno.into()) {
        Some(old) if !old.is_null() && old != errno => Err(conflict(
            &format!("{field}{key}"),
            "the number beside it is another one, and docker reads that, podman this: make them agree",
        )),
        _ => Ok(()),
    }
}

/// `name` is an old form of `names`.
fn one_name(rule: &mut Map<String, Value>, field: &str) -> Result<(), ParseError> {
    let Some(name) = rule
        .remove("name")
        .filter(|name| !name.is_null() && name != "")
    else {
        return Ok(());
    };
    let names = rule.insert("names".to_owned(), Value::Array(vec![name]));
    if names.is_some_and(|names| {
        !names.is_null() && names.as_array().is_none_or(|names| !names.is_empty())
    }) {
        return Err(conflict(
            &format!("{field}name"),
            "`names` is given as well, and engines refuse both: leave one out",
        ));
    }
    Ok(())
}

fn conflict(field: &str, text: &'static str) -> ParseError {
    ParseError::Field {
        field: field.to_owned(),
        reason: Reason::Conflict(text),
    }
}

/// Absent and null are the default.
fn typed<T: serde::de::DeserializeOwned + Default>(
    field: &str,
    value: Option<Value>,
) -> Result<T, ParseError> {
    match value {
        None | Some(Value::Null) => Ok(T::default()),
        Some(value) => {
            json::typed(value).map_err(|(path, text)| ParseError::shape(join(field, &path), text))
        }
    }
}

fn join(field: &str, path: &str) -> String {
    match path {
        "." => field.to_owned(),
        path if path.starts_with('[') => format!("{field}{path}"),
        path => format!("{field}.{path}"),
    }
}

/// `4.8`.
fn major_minor<'de, D: Deserializer<'de>>(from: D) -> Result<Option<(u64, u64)>, D::Error> {
    let text = Option::<String>::deserialize(from)?.filter(|text| !text.is_empty());
    let parse = |text: &str| {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    text.map(|text| {
        parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "`{}` is no kernel release such as `4.8`",
                json::shown(&text)
            ))
        })
    })
    .transpose()
}

/// The machine's architecture: programs of the 32-bit ABIs run on a 64-bit engine.
fn native(arch: Arch) -> Arch {
    match arch {
        Arch::X86_64 | Arch::X86 | Arch::X32 => Arch::X86_64,
        Arch::Aarch64 | Arch::Arm => Arch::Aarch64,
        Arch::Riscv64 => Arch::Riscv64,
    }
}

/// The engine's name of the machine.
fn goarch(arch: Arch) -> &'static str {
    match native(arch) {
        Arch::Aarch64 => "arm64",
        Arch::Riscv64 => "riscv64",
        _ => "amd64",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Action;

    const PROFILE: &[u8] = br#"{
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {}, "excludes": null},
            {"name": "ptrace", "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["arm64"]}}
        ]
    }"#;

    fn allowed(arch: Arch, caps: &[&str], kernel: Option<Release>) -> Vec<String> {
        let capabilities = caps.iter().map(|cap| (*cap).to_owned()).collect();
        let profile = MobyProfile::from_json(PROFILE).unwrap();
        let profile = profile
            .resolve(Host {
                arch,
                capabilities: &capabilities,
                kernel,
            })
            .unwrap();
        profile
            .allowed_names()
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    /// Architecture, capabilities, kernel, and the names that are allowed.
    type Case = (
        Arch,
        &'static [&'static str],
        Option<Release>,
        &'static [&'static str],
    );

    #[test]
    fn conditions() {
        let cases: [Case; 8] = [
            (Arch::X86_64, &[], None, &["clone", "ptrace", "read"]),
            (
                Arch::X86_64,
                &[],
                Some(Release::new(4, 7, 9)),
                &["clone", "read"],
            ),
            (
                Arch::X86_64,
                &[],
                Some(Release::new(4, 10, 0)),
                &["clone", "ptrace", "read"],
            ),
            (Arch::X86_64, &["CAP_SYS_ADMIN"], None, &["ptrace", "read"]),
            (
                Arch::X86_64,
                &["CAP_SYS_ADMIN", "CAP_BPF"],
                None,
                &["mount", "ptrace", "read"],
            ),
            (Arch::Aarch64, &[], None, &["ptrace", "read"]),
            // 32-bit Arm programs run on an arm64 engine.
            (Arch::Arm, &[], None, &["ptrace", "read"]),
            (Arch::Riscv64, &[], None, &["clone", "ptrace", "read"]),
        ];
        for (arch, caps, kernel, expect) in cases {
            assert_eq!(
                allowed(arch, caps, kernel),
                expect,
                "{arch} {caps:?} {kernel:?}"
            );
        }
    }

    #[test]
    fn errors_name_the_field() {
        let cases: [(&[u8], &str); 12] = [
            (
                br#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": 3}"#,
                "`syscalls`",
            ),
            (
                br#"{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [{"architecture": 3}]}"#,
                "`archMap[0].architecture`",
            ),
            (
                br#"{"syscalls": [{"includes": {"caps": 3}}]}"#,
                "`syscalls[0].includes.caps`",
            ),
            (
                br#"{"syscalls": [{"includes": {"moon": 3}}]}"#,
                "`syscalls[0].includes",
            ),
            (
                br#"{"syscalls": [{"includes": {"minKernel": "new"}}]}"#,
                "`syscalls[0].includes.minKernel`: `new` is no kernel release",
            ),
            (
                br#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"name": "read", "action": "SCMP_ACT_MAYBE", "includes": {"arches": ["mips"]}}]}"#,
                "`syscalls[0].action`",
            ),
            (
                br#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"name": "read", "names": ["write"], "action": "SCMP_ACT_ALLOW"}]}"#,
                "`syscalls[0].name`: `names` is given as well",
            ),
            (
                br#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86"], "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}"#,
                "`architectures`: `archMap` is given as well",
            ),
            (
                br#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "ENOSYS", "defaultErrnoRet": 1}"#,
                "`defaultErrno`: the number beside it is another one",
            ),
            (
                br#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errno": "EMOON"}]}"#,
                "`syscalls[0].errno`: `EMOON` is not the name of an error",
            ),
            (
                br#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [7], "archMap": []}"#,
                "`syscalls[0]`",
            ),
            (b"{}", "an empty object is not a profile"),
        ];
        for (bytes, expect) in cases {
            let error = MobyProfile::from_json(bytes).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        }
    }

    #[test]
    fn errors_by_name() {
        let profile = br#"{
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "ENOSYS",
            "syscalls": [
                {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errno": "EPERM", "errnoRet": 1},
                {"names": ["acct"], "action": "SCMP_ACT_ERRNO", "errno": "EACCES", "errnoRet": null},
                {"names": ["swapon"], "action": "SCMP_ACT_ERRNO", "errno": ""}
            ]
        }"#;
        let host = Host {
            arch: Arch::X86_64,
            capabilities: &BTreeSet::new(),
            kernel: None,
        };
        let profile = MobyProfile::from_json(profile)
            .unwrap()
            .resolve(host)
            .unwrap();
        assert_eq!(profile.default_action, Action::Errno(38));
        let actions: Vec<Action> = profile.rules.iter().map(|rule| rule.action).collect();
        assert_eq!(actions, [1, 13, 1].map(Action::Errno));
    }

    #[test]
    fn architectures_are_those_of_the_machine() {
        let profile = MobyProfile::from_json(PROFILE).unwrap();
        let of = |arch| {
            let host = Host {
                arch,
                capabilities: &BTreeSet::new(),
                kernel: None,
            };
            let profile = profile.resolve(host).unwrap();
            profile
                .architectures
                .into_iter()
                .map(OciArch::name)
                .collect::<Vec<_>>()
        };
        assert_eq!(of(Arch::X32), ["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"]);
        assert_eq!(of(Arch::Arm), [""; 0]);
        let unknown = br#"{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [
            {"architecture": "SCMP_ARCH_X86_64"},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_MOON"]}]}"#;
        let unknown = MobyProfile::from_json(unknown).unwrap();
        let on = |arch| {
            unknown.resolve(Host {
                arch,
                capabilities: &BTreeSet::new(),
                kernel: None,
            })
        };
        assert!(on(Arch::X86_64).is_ok());
        let error = on(Arch::Aarch64).unwrap_err().to_string();
        assert!(
            error.contains("`archMap[1]`: `SCMP_ARCH_MOON` is not"),
            "{error}"
        );
    }
}
