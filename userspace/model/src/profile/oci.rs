//! Reading and writing of plain OCI JSON.

use super::{Action, Condition, EPERM, OciArch, Op, Profile, Rule};
use crate::errno;
use crate::json::{self, Kind, Refusal};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// Why a file is not a plain OCI profile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Larger than any profile.
    #[error("the file has at least {bytes} bytes, and no profile more than {max}", max = json::MAX_BYTES)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// More values than any profile.
    #[error("the file has more than {max} values", max = json::MAX_VALUES)]
    TooManyValues,
    /// Not JSON, or cut off.
    #[error("not valid JSON, or cut off")]
    Syntax(#[source] serde_json::Error),
    /// JSON of another kind.
    #[error("this is {}, not a seccomp profile", kind.noun())]
    Foreign {
        /// What it seems to be.
        kind: Kind,
    },
    /// `{}`
    #[error(
        "an empty object is not a profile: engines read it as \"seccomp off\"; give it a `defaultAction`"
    )]
    Empty,
    /// It depends on capabilities, architectures or kernels, which only docker, podman and CRI-O evaluate.
    #[error(
        "field `{field}` is of docker's dialect, which containerd drops without a word: give a plain OCI profile (`names`, \
         `action`, `args`, `architectures`)"
    )]
    DockerDialect {
        /// The first such field.
        field: String,
    },
    /// A field is wrong.
    #[error("field `{field}`: {reason}")]
    Field {
        /// Its path, like `syscalls[3].action`.
        field: String,
        /// What is wrong.
        reason: Reason,
    },
}

/// What is wrong with a field.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Missing or of another type, in the words of the JSON reader.
    Shape(String),
    /// A value that the specification does not have; runtimes refuse it.
    Unknown {
        /// The value.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// An argument that no system call has.
    Index(u32),
    /// An errno above the kernel's 4095.
    Errno(u32),
    /// A rule without a name.
    NoNames,
    /// Two fields that cannot both be given.
    Conflict(&'static str),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape(text) => f.write_str(text),
            Self::Unknown { value, wanted } => {
                write!(f, "`{}` is not {wanted}", json::shown(value))
            }
            Self::Index(index) => write!(f, "argument {index} does not exist, they are 0 to 5"),
            Self::Errno(errno) => write!(f, "errno {errno} is above the kernel's {}", errno::MAX),
            Self::NoNames => f.write_str("a rule has to name a system call"),
            Self::Conflict(text) => f.write_str(text),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireProfile {
    default_action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default_errno_ret: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    architectures: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    flags: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    listener_path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    listener_metadata: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    syscalls: Option<Vec<WireRule>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireRule {
    names: Vec<String>,
    action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    errno_ret: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    args: Option<Vec<WireArg>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireArg {
    index: u32,
    value: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    value_two: u64,
    op: String,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Profile {
    /// The profile as OCI JSON: indented by two, names and architectures sorted, a newline at the end. The same profile gives the same bytes.
    #[must_use]
    pub fn to_oci_json(&self) -> String {
        let wire = WireProfile {
            default_action: self.default_action.oci_name().to_owned(),
            default_errno_ret: errno_ret(self.default_action),
            architectures: (!self.architectures.is_empty()).then(|| {
                self.architectures
                    .iter()
                    .map(|arch| arch.name().to_owned())
                    .collect()
            }),
            flags: self
                .flags
                .as_ref()
                .map(|flags| flags.iter().cloned().collect()),
            listener_path: self.listener_path.clone(),
            listener_metadata: self.listener_metadata.clone(),
            syscalls: (!self.rules.is_empty()).then(|| {
                let rule = |rule: &Rule| WireRule {
                    names: rule.names.iter().cloned().collect(),
                    action: rule.action.oci_name().to_owned(),
                    errno_ret: errno_ret(rule.action),
                    args: (!rule.conditions.is_empty()).then(|| {
                        let arg = |condition: &Condition| WireArg {
                            index: condition.index.into(),
                            value: condition.value,
                            value_two: condition.value_two,
                            op: condition.op.oci_name().to_owned(),
                        };
                        rule.conditions.iter().map(arg).collect()
                    }),
                };
                self.rules.iter().map(rule).collect()
            }),
        };
        json::pretty(&wire)
    }

    /// Reads plain OCI JSON. Keys that the specification does not have are ignored, as runtimes do, but for those of docker's dialect.
    ///
    /// # Errors
    /// When the bytes are not such a profile; the error names the field.
    pub fn from_oci_json(bytes: &[u8]) -> Result<Self, ParseError> {
        let value = json::value(bytes).map_err(|refusal| match refusal {
            Refusal::TooLarge { bytes } => ParseError::TooLarge { bytes },
            Refusal::TooManyValues => ParseError::TooManyValues,
            Refusal::Syntax(error) => ParseError::Syntax(error),
        })?;
        match Kind::of(&value) {
            Kind::OciProfile => {}
            Kind::EmptyObject => return Err(ParseError::Empty),
            Kind::DockerProfile => {
                let field = value
                    .as_object()
                    .and_then(json::docker_key)
                    .unwrap_or_default();
                return Err(ParseError::DockerDialect { field });
            }
            kind => return Err(ParseError::Foreign { kind }),
        }
        read(value)
    }

    /// The same of a value that is known to be a profile.
    pub(crate) fn from_value(value: Value) -> Result<Self, ParseError> {
        read(value)
    }
}

impl ParseError {
    /// The path of the field that is wrong, where it is one field: [`crate::position`] finds it in the file.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::DockerDialect { field } | Self::Field { field, .. } => Some(field),
            _ => None,
        }
    }

    pub(crate) fn shape(field: String, text: String) -> Self {
        Self::Field {
            field,
            reason: Reason::Shape(text),
        }
    }
}

/// The errno, where it is not OCI's default: crun refuses it on actions that take none, so it is never written there.
fn errno_ret(action: Action) -> Option<u32> {
    action
        .errno()
        .filter(|errno| *errno != EPERM)
        .map(u32::from)
}

fn read(value: Value) -> Result<Profile, ParseError> {
    let wire: WireProfile = json::typed(value).map_err(|(field, text)| ParseError::Field {
        field,
        reason: Reason::Shape(text),
    })?;
    let default_action = action(&wire.default_action, wire.default_errno_ret, "", "default")?;
    let mut architectures = std::collections::BTreeSet::new();
    for (at, token) in wire
        .architectures
        .unwrap_or_default()
        .into_iter()
        .enumerate()
    {
        let Some(arch) = OciArch::from_name(&token) else {
            return Err(unknown(
                format!("architectures[{at}]"),
                token,
                "an architecture of the OCI specification 1.3",
            ));
        };
        architectures.insert(arch);
    }
    let mut rules = Vec::new();
    for (at, rule) in wire.syscalls.unwrap_or_default().into_iter().enumerate() {
        let field = format!("syscalls[{at}]");
        if rule.names.is_empty() {
            return Err(ParseError::Field {
                field: format!("{field}.names"),
                reason: Reason::NoNames,
            });
        }
        let action = action(&rule.action, rule.errno_ret, &format!("{field}."), "")?;
        let mut conditions = Vec::new();
        for (nth, arg) in rule.args.unwrap_or_default().into_iter().enumerate() {
            conditions.push(condition(arg, &format!("{field}.args[{nth}]"))?);
        }
        rules.push(Rule {
            names: rule.names.into_iter().collect(),
            action,
            conditions,
        });
    }
    Ok(Profile {
        default_action,
        architectures,
        flags: wire.flags.map(|flags| flags.into_iter().collect()),
        listener_path: wire.listener_path,
        listener_metadata: wire.listener_metadata,
        rules,
    })
}

fn condition(arg: WireArg, field: &str) -> Result<Condition, ParseError> {
    let Some(index) = u8::try_from(arg.index).ok().filter(|index| *index < 6) else {
        return Err(ParseError::Field {
            field: format!("{field}.index"),
            reason: Reason::Index(arg.index),
        });
    };
    let Some(op) = Op::ALL.into_iter().find(|op| op.oci_name() == arg.op) else {
        return Err(unknown(
            format!("{field}.op"),
            arg.op,
            "a comparison (SCMP_CMP_EQ, SCMP_CMP_MASKED_EQ, …)",
        ));
    };
    Ok(Condition {
        index,
        op,
        value: arg.value,
        value_two: arg.value_two,
    })
}

/// `prefix` is the path of the object, `name` is `default` for the two fields of the profile itself.
fn action(token: &str, errno: Option<u32>, prefix: &str, name: &str) -> Result<Action, ParseError> {
    let (action_field, errno_field) = if name.is_empty() {
        ("action", "errnoRet")
    } else {
        ("defaultAction", "defaultErrnoRet")
    };
    let errno = match errno {
        None => EPERM,
        Some(given) => match u16::try_from(given) {
            Ok(errno) if errno <= errno::MAX => errno,
            _ => {
                return Err(ParseError::Field {
                    field: format!("{prefix}{errno_field}"),
                    reason: Reason::Errno(given),
                });
            }
        },
    };
    Ok(match token {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_ERRNO" => Action::Errno(errno),
        "SCMP_ACT_TRACE" => Action::Trace(errno),
        "SCMP_ACT_NOTIFY" => Action::Notify,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_ALLOW" => Action::Allow,
        _ => {
            return Err(unknown(
                format!("{prefix}{action_field}"),
                token.to_owned(),
                "an action (SCMP_ACT_ALLOW, SCMP_ACT_ERRNO, …)",
            ));
        }
    })
}

fn unknown(field: String, value: String, wanted: &'static str) -> ParseError {
    ParseError::Field {
        field,
        reason: Reason::Unknown { value, wanted },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;
    use std::collections::BTreeSet;

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn an_allowlist_as_json() {
        let architectures = [Arch::X86_64, Arch::X86].map(OciArch::from).into();
        let profile = Profile::allowing(names(&["write", "read", "exit_group"]), architectures);
        insta::assert_snapshot!(profile.to_oci_json(), @r#"
        {
          "defaultAction": "SCMP_ACT_ERRNO",
          "defaultErrnoRet": 38,
          "architectures": [
            "SCMP_ARCH_X86",
            "SCMP_ARCH_X86_64"
          ],
          "syscalls": [
            {
              "names": [
                "exit_group",
                "read",
                "write"
              ],
              "action": "SCMP_ACT_ALLOW"
            }
          ]
        }
        "#);
        assert!(profile.to_oci_json().ends_with("}\n"));
    }

    #[test]
    fn everything_that_oci_has_survives() {
        let profile = Profile {
            default_action: Action::KillProcess,
            architectures: [Arch::Arm.into(), Arch::Aarch64.into()].into(),
            flags: Some(names(&["SECCOMP_FILTER_FLAG_LOG"])),
            listener_path: Some("/run/listener".to_owned()),
            listener_metadata: Some("x".to_owned()),
            rules: vec![
                Rule {
                    names: names(&["socket"]),
                    action: Action::Allow,
                    conditions: vec![
                        Condition {
                            index: 0,
                            op: Op::MaskedEq,
                            value: 0xffff_ffff,
                            value_two: 2,
                        },
                        Condition {
                            index: 5,
                            op: Op::Eq,
                            value: u64::MAX,
                            value_two: 0,
                        },
                    ],
                },
                Rule {
                    names: names(&["clone3"]),
                    action: Action::Errno(38),
                    conditions: vec![],
                },
                Rule {
                    names: names(&["clone"]),
                    action: Action::Errno(1),
                    conditions: vec![],
                },
                Rule {
                    names: names(&["ptrace"]),
                    action: Action::Trace(7),
                    conditions: vec![],
                },
                Rule {
                    names: names(&["bpf"]),
                    action: Action::Notify,
                    conditions: vec![],
                },
                Rule {
                    names: names(&["kcmp"]),
                    action: Action::KillThread,
                    conditions: vec![],
                },
                Rule {
                    names: names(&["acct"]),
                    action: Action::Trap,
                    conditions: vec![],
                },
                Rule {
                    names: names(&["read", "write"]),
                    action: Action::Log,
                    conditions: vec![],
                },
            ],
        };
        let json = profile.to_oci_json();
        assert_eq!(Profile::from_oci_json(json.as_bytes()).unwrap(), profile);
        assert_eq!(profile.allowed_names(), ["read", "socket", "write"].into());
        // crun refuses an errno on actions that take none, runc 1.1 accepts it nowhere but where it differs from EPERM.
        assert_eq!(json.matches("rrnoRet").count(), 2);
    }

    #[test]
    fn kill_is_kill_thread() {
        let profile = Profile::from_oci_json(br#"{"defaultAction": "SCMP_ACT_KILL"}"#).unwrap();
        assert_eq!(profile.default_action, Action::KillThread);
    }

    #[test]
    fn unknown_keys_are_ignored_as_runtimes_do() {
        let profile = br#"{"defaultAction": "SCMP_ACT_ALLOW", "comment": "x", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG",
            "comment": "", "includes": {}, "excludes": {}}]}"#;
        assert_eq!(Profile::from_oci_json(profile).unwrap().rules.len(), 1);
    }

    #[test]
    fn errors_name_the_field_and_the_reason() {
        let deep = format!(
            r#"{{"defaultAction": {}1{}}}"#,
            "[".repeat(200),
            "]".repeat(200)
        );
        let cases: [(&str, &[&str]); 20] = [
            ("", &["not valid JSON"]),
            (
                "{\"defaultAction\": \"SCMP_A",
                &["not valid JSON, or cut off"],
            ),
            (&deep, &["not valid JSON"]),
            ("null", &["not a JSON object"]),
            ("[]", &["not a JSON object"]),
            ("{}", &["seccomp off", "defaultAction"]),
            (r#"{"a": 1}"#, &["another kind of JSON object"]),
            (
                r#"{"schema": "seccast/observation.v1"}"#,
                &["an observation"],
            ),
            (r#"{"schema": "seccast/report.v1"}"#, &["a report"]),
            (r#"{"ociVersion": "1.0.2"}"#, &["config.json"]),
            (r#"{"apiVersion": "v1", "kind": "Pod"}"#, &["Kubernetes"]),
            (r#"{"syscalls": []}"#, &["defaultAction"]),
            (
                r#"{"defaultAction": "ALLOW"}"#,
                &["`defaultAction`", "`ALLOW`", "SCMP_ACT_ALLOW"],
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}"#,
                &["`defaultErrnoRet`", "4096"],
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ERRNO", "archMap": []}"#,
                &["docker", "`archMap`", "containerd"],
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"name": "read", "action": "SCMP_ACT_ALLOW"}]}"#,
                &["docker", "`syscalls[0].name`"],
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["x86_64"]}"#,
                &["`architectures[0]`", "`x86_64`"],
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": [], "action": "SCMP_ACT_ALLOW"}]}"#,
                &["`syscalls[0].names`"],
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
                &["`syscalls[0].args[0].index`", "6"],
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 1, "value": -1, "op": "SCMP_CMP_EQ"}]}]}"#,
                &["`syscalls[0].args[0].value`"],
            ),
        ];
        for (text, expect) in cases {
            let error = Profile::from_oci_json(text.as_bytes())
                .unwrap_err()
                .to_string();
            for part in expect {
                assert!(error.contains(part), "{text:.80}: {error}");
            }
        }
    }
}
