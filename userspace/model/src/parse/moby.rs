//! docker's profile dialect: OCI plus conditions on capabilities, architecture and kernel, which the engine evaluates before it writes the
//! OCI configuration.
//!
//! Rules of evaluation: `setupSeccomp` in <https://github.com/moby/profiles/blob/seccomp/v0.2.3/seccomp/seccomp_linux.go>.

use crate::arch::Arch;
use crate::json::{self, Refusal};
use crate::profile::{ParseError, Profile};
use crate::syscall::Release;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// A profile with docker's conditions.
#[derive(Clone, Debug)]
pub struct MobyProfile {
    /// Everything but the rules and the architectures.
    head: Map<String, Value>,
    arch_map: Vec<ArchMapping>,
    rules: Vec<MobyRule>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMapping {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Clone, Debug)]
struct MobyRule {
    /// As OCI has it.
    oci: Map<String, Value>,
    includes: Conditions,
    excludes: Conditions,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Conditions {
    #[serde(default)]
    caps: BTreeSet<String>,
    #[serde(default)]
    arches: BTreeSet<String>,
    #[serde(default)]
    min_kernel: Option<String>,
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
        let mut head = match (kind, value) {
            (json::Kind::OciProfile | json::Kind::DockerProfile, Value::Object(head)) => head,
            (json::Kind::EmptyObject, _) => return Err(ParseError::Empty),
            _ => return Err(ParseError::Foreign { kind }),
        };
        let arch_map = typed("archMap", head.remove("archMap"))?;
        let rules: Vec<Map<String, Value>> = typed("syscalls", head.remove("syscalls"))?;
        let rules = rules
            .into_iter()
            .enumerate()
            .map(|(at, mut rule)| {
                let includes = typed(&format!("syscalls[{at}].includes"), rule.remove("includes"))?;
                let excludes = typed(&format!("syscalls[{at}].excludes"), rule.remove("excludes"))?;
                if let Some(name) = rule.remove("name") {
                    rule.entry("names").or_insert(Value::Array(vec![name]));
                }
                Ok(MobyRule {
                    oci: rule,
                    includes,
                    excludes,
                })
            })
            .collect::<Result<_, ParseError>>()?;
        Ok(Self {
            head,
            arch_map,
            rules,
        })
    }

    /// The OCI profile that the engine makes of it on this host.
    ///
    /// # Errors
    /// When a rule that applies is not in order; the error names the field of the resolved profile.
    pub fn resolve(&self, host: Host<'_>) -> Result<Profile, ParseError> {
        let mut oci = self.head.clone();
        if let Some(mapping) = self
            .arch_map
            .iter()
            .find(|mapping| mapping.architecture == native(host.arch).oci_name())
        {
            let subs = mapping.sub_architectures.iter().flatten();
            let all = std::iter::once(&mapping.architecture)
                .chain(subs)
                .cloned()
                .map(Value::String)
                .collect();
            oci.insert("architectures".to_owned(), Value::Array(all));
        }
        let rules = self
            .rules
            .iter()
            .filter(|rule| rule.applies(host))
            .map(|rule| Value::Object(rule.oci.clone()))
            .collect();
        oci.insert("syscalls".to_owned(), Value::Array(rules));
        Profile::from_value(Value::Object(oci))
    }
}

impl MobyRule {
    fn applies(&self, host: Host<'_>) -> bool {
        let arch = goarch(host.arch);
        let at_least = |release: &Option<String>| match (release, host.kernel) {
            (None, _) => None,
            (Some(_), None) => Some(true),
            (Some(wanted), Some(kernel)) => {
                Some((kernel.major, kernel.minor) >= major_minor(wanted))
            }
        };
        let excluded = self.excludes.arches.contains(arch)
            || self
                .excludes
                .caps
                .iter()
                .any(|cap| host.capabilities.contains(cap))
            || at_least(&self.excludes.min_kernel) == Some(true);
        let included = (self.includes.arches.is_empty() || self.includes.arches.contains(arch))
            && self.includes.caps.is_subset(host.capabilities)
            && at_least(&self.includes.min_kernel) != Some(false);
        included && !excluded
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

/// `4.8`; what is no number counts as 0.
fn major_minor(text: &str) -> (u8, u8) {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let cases: [(&[u8], &str); 4] = [
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
        ];
        for (bytes, expect) in cases {
            let error = MobyProfile::from_json(bytes).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        }
    }
}
