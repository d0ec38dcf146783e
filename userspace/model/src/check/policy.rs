//! What a team allows its profiles: the policy file, in YAML.

use crate::arch::Arch;
use crate::capability;
use crate::defaults::Engine;
use crate::near;
use crate::risk::Level;
use crate::syscall;
use serde::Deserialize;
use serde_saphyr::{Location, Spanned};
use std::collections::BTreeSet;
use std::fmt;

const SCHEMA: &str = "seccast/policy.v1";

/// No policy is larger.
const MAX_BYTES: usize = 1 << 20;

/// What is asked of a profile; what is not given is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Calls that may never be let through, whatever the baseline says.
    pub never_allow: BTreeSet<String>,
    /// The same of every call of `profiles/risk.json` at this level and above.
    pub never_allow_risk: Option<Level>,
    /// Calls that may be more than in the baseline.
    pub allow_additions: BTreeSet<String>,
    /// How many names may be let through.
    pub max_names: Option<usize>,
    /// An engine's default that has to include the profile.
    pub subset_of: Option<SubsetOf>,
    /// Architectures that have to be let in.
    pub architectures: BTreeSet<Arch>,
    /// How old the newest recording may be, in days.
    pub max_age_days: Option<u32>,
    /// What an incomplete recording is.
    pub incomplete: IncompleteIs,
}

/// The default of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubsetOf {
    /// The engine.
    pub engine: Engine,
    /// The container's capabilities; `None` stands for those that the engine gives.
    pub capabilities: Option<BTreeSet<String>>,
    /// Calls that may be more than the default has.
    pub except: BTreeSet<String>,
}

/// What it means when a recording may lack calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IncompleteIs {
    /// Nothing.
    Allow,
    /// It is said.
    #[default]
    Warn,
    /// The check fails, also where it is not known.
    Forbid,
}

/// Why a file is no policy.
#[derive(Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// Line and column, from 1, where they are known.
    pub place: Option<(u64, u64)>,
    /// The field, like `subset_of.engine`, where it is known.
    pub field: Option<String>,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl std::error::Error for PolicyError {}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "field `{field}`: ")?;
        }
        f.write_str(&self.reason)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: Option<Spanned<String>>,
    never_allow: Option<Vec<Spanned<String>>>,
    never_allow_risk: Option<Level>,
    allow_additions: Option<Vec<Spanned<String>>>,
    max_names: Option<usize>,
    subset_of: Option<FileSubset>,
    architectures: Option<Vec<Spanned<String>>>,
    max_age_days: Option<u32>,
    incomplete: Option<IncompleteIs>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSubset {
    engine: Spanned<String>,
    capabilities: Option<Vec<Spanned<String>>>,
    except: Option<Vec<Spanned<String>>>,
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// For anything that is not exactly a policy: unknown fields, unknown calls, anchors and aliases, a second document.
    pub fn from_yaml(bytes: &[u8]) -> Result<Self, PolicyError> {
        let bare = |reason: String| PolicyError {
            place: None,
            field: None,
            reason,
        };
        if bytes.len() > MAX_BYTES {
            return Err(bare(format!(
                "the file has {} bytes, more than the {MAX_BYTES} of any policy",
                bytes.len()
            )));
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|_| bare("not text in UTF-8; a policy is a YAML file".to_owned()))?;
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_anchors: 0,
                max_aliases: 0,
                max_merge_keys: 0,
                max_documents: 1,
                max_depth: 16,
                max_nodes: 20_000,
            },
            strict_booleans: true,
            with_snippet: false,
        };
        let mut field = None;
        let file: Result<Option<File>, _> =
            serde_saphyr::with_deserializer_from_str_with_options(text, options, |yaml| {
                serde_path_to_error::deserialize(yaml).map_err(|error| {
                    let path = error.path().to_string();
                    field = (path != "." && path != "?").then_some(path);
                    error.into_inner()
                })
            });
        let file = file.map_err(|error| refuse(&error, field))?;
        // Of nothing, or of comments only: a policy that asks nothing is hardly meant.
        let file = file
            .ok_or_else(|| bare("the file is empty; a policy has at least one field".to_owned()))?;
        policy(file)
    }

    /// Whether a call may never be let through.
    #[must_use]
    pub fn forbids(&self, name: &str, level: Option<Level>) -> bool {
        self.never_allow.contains(name)
            || matches!((self.never_allow_risk, level), (Some(from), Some(level)) if level >= from)
    }
}

/// The reader's errors in the words of this format.
fn refuse(error: &serde_saphyr::Error, field: Option<String>) -> PolicyError {
    use serde_saphyr::Error;
    use serde_saphyr::budget::BudgetBreach as Breach;
    let error = error.without_snippet();
    let place = error
        .location()
        .filter(|location| *location != Location::UNKNOWN)
        .map(|location| (location.line(), location.column()));
    let reason = match error {
        Error::SerdeUnknownField {
            field, expected, ..
        } => {
            let known = expected.iter().map(|name| (*name).to_owned());
            format!(
                "there is no field `{}`{}; the fields are {}",
                field.escape_debug(),
                near::suggestion(&near::names(field, known)),
                expected.join(", ")
            )
        }
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => format!(
            "`{}` is none of {}",
            variant.escape_debug(),
            expected.join(", ")
        ),
        Error::Budget { breach, .. } => match breach {
            Breach::Anchors { .. } | Breach::Aliases { .. } | Breach::MergeKeys { .. } => {
                "anchors (`&`), aliases (`*`) and merge keys (`<<`) are not read; write the value out"
                    .to_owned()
            }
            Breach::Documents { .. } => "a policy is one document; leave out the second".to_owned(),
            _ => "nested too deep, or more values than any policy has".to_owned(),
        },
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("`{}` is given twice", key.escape_debug())
        }
        other => {
            // Its text repeats the place.
            let text = other.to_string();
            let cut = text.find(" at line ").or_else(|| text.find('\n'));
            match cut.map_or(&*text, |at| &text[..at]) {
                "invalid u64" | "invalid u32" => "not a whole number from 0 on".to_owned(),
                "expected mapping start" => {
                    "here have to be fields, like `max_names: 100`".to_owned()
                }
                "expected sequence start" => {
                    "here has to be a list, like `[bpf, mount]`".to_owned()
                }
                text => text.to_owned(),
            }
        }
    };
    PolicyError {
        place,
        field,
        reason,
    }
}

fn policy(file: File) -> Result<Policy, PolicyError> {
    if let Some(schema) = file.schema.filter(|schema| schema.value != SCHEMA) {
        let reason = format!(
            "`{}` is not the version that this seccast reads, {SCHEMA}",
            schema.value.escape_debug()
        );
        return Err(at("schema", &schema, reason));
    }
    let never_allow = calls("never_allow", file.never_allow.as_deref())?;
    let allow_additions = calls("allow_additions", file.allow_additions.as_deref())?;
    for name in file.allow_additions.iter().flatten() {
        if never_allow.contains(&name.value) {
            let reason = format!("`{}` is in never_allow as well", name.value);
            return Err(at("allow_additions", name, reason));
        }
    }
    let mut architectures = BTreeSet::new();
    for name in file.architectures.iter().flatten() {
        let arch = Arch::from_name(&name.value).or_else(|| Arch::from_oci_name(&name.value));
        let known = Arch::ALL.map(|arch| arch.name().to_owned());
        architectures
            .insert(arch.ok_or_else(|| unknown("architectures", name, "architecture", &known))?);
    }
    Ok(Policy {
        never_allow,
        never_allow_risk: file.never_allow_risk,
        allow_additions,
        max_names: file.max_names,
        subset_of: file.subset_of.map(subset).transpose()?,
        architectures,
        max_age_days: file.max_age_days,
        incomplete: file.incomplete.unwrap_or_default(),
    })
}

fn subset(file: FileSubset) -> Result<SubsetOf, PolicyError> {
    let known = Engine::ALL.map(|engine| engine.name().to_owned());
    let engine = Engine::from_name(&file.engine.value)
        .ok_or_else(|| unknown("subset_of.engine", &file.engine, "engine", &known))?;
    let capabilities = file
        .capabilities
        .map(|list| {
            let capability = |name: Spanned<String>| {
                let known = capability::parse(&name.value).map(str::to_owned);
                known.map_err(|reason| at("subset_of.capabilities", &name, reason))
            };
            list.into_iter().map(capability).collect()
        })
        .transpose()?;
    Ok(SubsetOf {
        engine,
        capabilities,
        except: calls("subset_of.except", file.except.as_deref())?,
    })
}

fn calls(field: &str, list: Option<&[Spanned<String>]>) -> Result<BTreeSet<String>, PolicyError> {
    let mut names = BTreeSet::new();
    for name in list.unwrap_or_default() {
        if syscall::info(&name.value).is_none() {
            let known = syscall::infos().iter().map(|info| info.name.to_owned());
            return Err(unknown(field, name, "system call", known));
        }
        names.insert(name.value.clone());
    }
    Ok(names)
}

fn unknown<I: AsRef<str>>(
    field: &str,
    value: &Spanned<String>,
    noun: &str,
    known: impl IntoIterator<Item = I>,
) -> PolicyError {
    let known = known.into_iter().map(|name| name.as_ref().to_owned());
    let near = near::suggestion(&near::names(&value.value, known));
    at(
        field,
        value,
        format!("there is no {noun} `{}`{near}", value.value.escape_debug()),
    )
}

fn at(field: &str, value: &Spanned<String>, reason: String) -> PolicyError {
    PolicyError {
        place: Some((value.referenced.line(), value.referenced.column())),
        field: Some(field.to_owned()),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_read() {
        let file = "\
# what our services may do
schema: seccast/policy.v1
never_allow: [ptrace, bpf]
never_allow_risk: critical
allow_additions:
  - sendmmsg   # new resolver
max_names: 120
subset_of:
  engine: docker
  capabilities: [CAP_NET_BIND_SERVICE]
  except: [clone3]
architectures: [x86_64, SCMP_ARCH_AARCH64]
max_age_days: 90
incomplete: forbid
";
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(
            Policy::from_yaml(file.as_bytes()),
            Ok(Policy {
                never_allow: set(&["bpf", "ptrace"]),
                never_allow_risk: Some(Level::Critical),
                allow_additions: set(&["sendmmsg"]),
                max_names: Some(120),
                subset_of: Some(SubsetOf {
                    engine: Engine::Docker,
                    capabilities: Some(set(&["CAP_NET_BIND_SERVICE"])),
                    except: set(&["clone3"]),
                }),
                architectures: [Arch::X86_64, Arch::Aarch64].into(),
                max_age_days: Some(90),
                incomplete: IncompleteIs::Forbid,
            })
        );
        assert_eq!(Policy::from_yaml(b"never_allow:\n"), Ok(Policy::default()));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let cases = [
            (
                "max_name: 3",
                "line 1, column 1: field `max_name`: there is no field `max_name` (did you mean max_names, max_age_days?); the fields are schema, never_allow, never_allow_risk, allow_additions, max_names, subset_of, architectures, max_age_days, incomplete",
            ),
            (
                "never_allow:\n  - ptrace\n  - ptrase\n",
                "line 3, column 5: field `never_allow`: there is no system call `ptrase` (did you mean ptrace, pause?)",
            ),
            (
                "max_names: many",
                "line 1, column 12: field `max_names`: not a whole number from 0 on",
            ),
            (
                "max_names: -1",
                "line 1, column 12: field `max_names`: not a whole number from 0 on",
            ),
            (
                "never_allow: &a [ptrace]\nallow_additions: *a",
                "line 1, column 17: anchors (`&`), aliases (`*`) and merge keys (`<<`) are not read; write the value out",
            ),
            (
                "incomplete: maybe",
                "line 1, column 13: field `incomplete`: `maybe` is none of allow, warn, forbid",
            ),
            (
                "subset_of:\n  engine: dokcer",
                "line 2, column 11: field `subset_of.engine`: there is no engine `dokcer` (did you mean docker?)",
            ),
            (
                "schema: seccast/policy.v2",
                "line 1, column 9: field `schema`: `seccast/policy.v2` is not the version that this seccast reads, seccast/policy.v1",
            ),
            (
                "never_allow: [bpf]\nallow_additions: [read, bpf]",
                "line 2, column 25: field `allow_additions`: `bpf` is in never_allow as well",
            ),
            (
                "max_names: 1\nmax_names: 2",
                "line 2, column 1: `max_names` is given twice",
            ),
            (
                "a: [",
                "line 1, column 1: field `a`: there is no field `a`; the fields are schema, never_allow, never_allow_risk, allow_additions, max_names, subset_of, architectures, max_age_days, incomplete",
            ),
            ("", "the file is empty; a policy has at least one field"),
            (
                "# nothing\n",
                "the file is empty; a policy has at least one field",
            ),
            (
                "max_names: 1\n---\nmax_names: 2\n",
                "line 2, column 1: a policy is one document; leave out the second",
            ),
            (
                "never_allow: bpf",
                "line 1, column 14: field `never_allow`: here has to be a list, like `[bpf, mount]`",
            ),
            (
                "- a",
                "line 1, column 1: here have to be fields, like `max_names: 100`",
            ),
            (
                "subset_of: {capabilities: [net_admn], engine: docker}",
                "line 1, column 28: field `subset_of.capabilities`: `net_admn` is no capability (did you mean NET_ADMIN, NET_RAW, NET_BROADCAST?)",
            ),
            (
                "subset_of: {}",
                "line 1, column 12: field `subset_of`: missing field `engine`",
            ),
        ];
        let mut wrong = Vec::new();
        for (file, expect) in cases {
            let error = Policy::from_yaml(file.as_bytes()).unwrap_err().to_string();
            if error != expect {
                wrong.push(format!("{file:?}\n  {error}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn bounds_hold() {
        let deep = "a: ".to_owned() + &"[".repeat(100_000);
        assert!(Policy::from_yaml(deep.as_bytes()).is_err());
        let large = vec![b' '; MAX_BYTES + 1];
        assert!(
            Policy::from_yaml(&large)
                .unwrap_err()
                .reason
                .starts_with("the file has 1048577 bytes")
        );
        assert!(Policy::from_yaml(b"\xff\xfe").is_err());
        let many = "never_allow: [".to_owned() + &"read,".repeat(30_000) + "]";
        assert_eq!(
            Policy::from_yaml(many.as_bytes()).unwrap_err().reason,
            "nested too deep, or more values than any policy has"
        );
    }
}
