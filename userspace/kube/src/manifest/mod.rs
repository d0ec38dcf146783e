//! Profiles in files: manifests, kustomize patches, Helm values and compose files.
//!
//! A change is a few bytes of the text at places that a parser found, so that comments, order, quotes and line ends stay. What comes of
//! it is read by libyaml and must mean what the file meant before, but for the profile; else nothing is changed.

mod compose;
mod edit;
mod place;
mod tree;
mod verify;

use crate::pod::{ChooseError, Container, LocalhostProfile, PathError, Windows};
use edit::Source;
use place::Found;
use serde_json::Value;
use std::borrow::Cow;

/// Larger than any manifest, also one with all CRDs of an operator.
const MAX_BYTES: usize = 16 << 20;

/// What is to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This `localhostProfile`; for compose this file.
    Attached(String),
    /// No profile of a file; with a name not this one.
    Detached(Option<String>),
}

/// Where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Containers, `WORKLOAD/CONTAINER`s or services; none: the only one.
    pub containers: Vec<String>,
    /// The securityContext in Helm values, its keys joined by dots.
    pub values_path: Option<String>,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Objects of Kubernetes.
    Kubernetes,
    /// A Compose file.
    Compose,
    /// Values of a Helm chart.
    Values,
}

/// A file as it is to be, and what was found in it.
#[derive(Clone, Debug)]
pub struct Change {
    /// The whole text.
    pub text: String,
    /// What it is.
    pub dialect: Dialect,
    /// One for each container.
    pub places: Vec<Place>,
}

/// A container, a service, a securityContext.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its name for people: `Deployment/web, container app`.
    pub what: String,
    /// What was done.
    pub outcome: Outcome,
    /// The Pod spec and the container in it; not of Helm values and compose files.
    pub pod: Option<(Value, Container)>,
}

/// What became of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It was as wanted.
    Already,
    /// It has the profile now.
    Attached {
        /// What stood there before, which [`Wanted::Detached`] does not bring back.
        instead_of: Option<String>,
    },
    /// The profile is out.
    Detached {
        /// What went with it, since it held nothing else: an empty one that was there before is not brought back.
        emptied: Option<String>,
        /// Comments that stood in what is gone.
        comments: Vec<String>,
    },
    /// Another profile than the one to be taken out, which stays.
    Other(String),
}

/// Why a file cannot be changed. Nothing is changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not text.
    #[error("it is not UTF-8 text: `iconv -t UTF-8` makes it so")]
    Encoding,
    /// Too large.
    #[error("it has {0} bytes, and at most {MAX_BYTES} are read")]
    TooLarge(usize),
    /// Lines of an old Mac.
    #[error(
        "line {line}: a carriage return ends a line by itself, and YAML's readers differ on it: write LF or CRLF"
    )]
    CarriageReturn {
        /// From 1, of those that end with LF.
        line: usize,
    },
    /// Too deep.
    #[error("it is nested deeper than any manifest")]
    TooDeep,
    /// No YAML.
    #[error("line {line}, column {column}: not valid YAML: {problem}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// The parser's words.
        problem: String,
    },
    /// A template of Helm.
    #[error(
        "line {line}: it is a template of Helm (`{{{{`), and no YAML before Helm has rendered it: attach to the chart's values, or to what \
         `helm template` writes"
    )]
    Template {
        /// From 1.
        line: usize,
    },
    /// Valid by the letter of YAML, and not for the readers that matter.
    #[error("libyaml, whose rules Kubernetes' own reader has, does not read it: {0}")]
    Unreadable(String),
    /// No workload in it.
    #[error("there is no workload in it{}: a Pod, or an object with a Pod template, is needed", found(.0))]
    NoWorkload(Vec<String>),
    /// A kustomization.
    #[error(
        "it is a kustomization, which names manifests and patches: attach to the manifest itself, or to a patch file that `patches: [{{path: \
         …}}]` names{}",
        if *.inline { "; patches that stand in it as text are not changed, so put them into files of their own" } else { "" }
    )]
    Kustomization {
        /// It has patches as text.
        inline: bool,
    },
    /// A JSON patch.
    #[error(
        "it is a list of patch operations (RFC 6902), which says where but not to what: write the patch as a part of the workload \
         (strategic merge), and attach to that"
    )]
    JsonPatch,
    /// Which container is not clear.
    #[error("{what}: {error}")]
    Choose {
        /// The workload.
        what: String,
        /// Why.
        error: ChooseError,
    },
    /// Several workloads.
    #[error("it has several containers: say which with -c: {}", .0.join(", "))]
    Several(Vec<String>),
    /// The same name in several workloads.
    #[error("`{name}` is in several workloads: say which with -c: {}", .places.join(", "))]
    Ambiguous {
        /// The name.
        name: String,
        /// `WORKLOAD/CONTAINER`s.
        places: Vec<String>,
    },
    /// No such container in any workload.
    #[error("it has no container `{name}`{suggestion}: {}", .names.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// What there is.
        names: Vec<String>,
        /// " (did you mean …?)", or nothing.
        suggestion: String,
    },
    /// An empty compose file.
    #[error("it has no services")]
    NoService,
    /// No such service.
    #[error("it has no service `{name}`{suggestion}: {}", .names.join(", "))]
    Service {
        /// The name.
        name: String,
        /// What there is.
        names: Vec<String>,
        /// " (did you mean …?)", or nothing.
        suggestion: String,
    },
    /// Which place of Helm values is not clear.
    #[error("{}", values(.0))]
    Values(Vec<String>),
    /// `--values-path` that is none.
    #[error(
        "`{0}` is no path of a securityContext in Helm values: give its keys joined by dots, such as controller.containerSecurityContext"
    )]
    ValuesPath(String),
    /// `--values-path` for something else.
    #[error("--values-path is for Helm values, and this is {0}")]
    NotValues(&'static str),
    /// A wrong path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Windows.
    #[error("{what}: {error}")]
    Windows {
        /// The workload.
        what: String,
        /// Why.
        error: Windows,
    },
    /// On the way to the profile is an alias.
    #[error(
        "line {line}: `{what}` is an alias, and a change would have to be made where its anchor is, for all that use it: write the value out"
    )]
    Alias {
        /// From 1.
        line: usize,
        /// The key, or the container.
        what: String,
    },
    /// On the way to the profile is an anchor that is used elsewhere.
    #[error(
        "line {line}: `{what}` has an anchor that is used elsewhere, where a change would be made, too: write the value out where it is used"
    )]
    Shared {
        /// From 1.
        line: usize,
        /// The key, or the container.
        what: String,
    },
    /// A merge key brings what is to be changed.
    #[error(
        "line {line}: `{what}` comes from elsewhere by a merge key (`<<`): write it out in this map"
    )]
    Merged {
        /// From 1.
        line: usize,
        /// The key.
        what: String,
    },
    /// Another shape.
    #[error("line {line}: `{what}` is {is}, and has to be {wanted}")]
    Shape {
        /// From 1.
        line: usize,
        /// The key.
        what: String,
        /// What it is.
        is: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// Two `seccomp=` options.
    #[error("line {line}: a second seccomp option in the same list: leave one")]
    Twice {
        /// From 1.
        line: usize,
    },
    /// The change would mean more than it should.
    #[error(
        "line {line}: the change cannot be made here without changing something else, so nothing is changed: write the container in the usual \
         style, one key a line"
    )]
    NotClean {
        /// From 1.
        line: usize,
    },
}

impl ManifestError {
    /// What was typed does not say what is meant: exit 2.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Choose { .. }
                | Self::Several(_)
                | Self::Ambiguous { .. }
                | Self::Unknown { .. }
                | Self::Service { .. }
                | Self::Values(_)
                | Self::ValuesPath(_)
                | Self::NotValues(_)
                | Self::Path(_)
        )
    }
}

fn found(kinds: &[String]) -> String {
    if kinds.is_empty() {
        String::new()
    } else {
        format!(", only {}", kinds.join(", "))
    }
}

fn values(paths: &[String]) -> String {
    if paths.is_empty() {
        return "there is neither a workload nor a service nor a securityContext in it: where it is Helm values, say with --values-path \
                where the chart reads the securityContext"
            .to_owned();
    }
    format!(
        "it seems to be Helm values: say with --values-path where the securityContext is; there are {}",
        paths.join(", ")
    )
}

/// A step from a value to one in it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// What is to be at a place.
#[derive(Clone, Copy, Debug)]
enum Goal<'a> {
    /// A `seccompProfile` of type Localhost.
    Profile(&'a str),
    /// No `seccompProfile`.
    NoProfile,
    /// An item of `security_opt`.
    Option(&'a str),
    /// No item that sets a profile.
    NoOption,
}

/// Changes a file's text.
///
/// # Errors
/// When it is not clear what is meant, or the change cannot be made without changing something else.
pub fn change(
    bytes: &[u8],
    selection: &Selection,
    wanted: &Wanted,
) -> Result<Change, ManifestError> {
    if bytes.len() > MAX_BYTES {
        return Err(ManifestError::TooLarge(bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| ManifestError::Encoding)?;
    let (bom, text) = match text.strip_prefix('\u{feff}') {
        Some(rest) => ("\u{feff}", rest),
        None => ("", text),
    };
    let lone = |(at, _): &(usize, &str)| !text.get(at + 1..).unwrap_or_default().starts_with('\n');
    if let Some((at, _)) = text.match_indices('\r').find(lone) {
        let line = edit::line(text, at);
        return Err(ManifestError::CarriageReturn { line });
    }
    let json = text.trim_start().starts_with(['{', '['])
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    let documents = read(text, json)?;
    verify::read(&masked(text, json)).map_err(ManifestError::Unreadable)?;
    let (dialect, found) = place::find(text, &documents, selection, wanted)?;
    if dialect != Dialect::Compose
        && let Wanted::Attached(profile) = wanted
    {
        profile.parse::<LocalhostProfile>()?;
    }
    if let Wanted::Attached(profile) = wanted {
        // What holds of a file's name anywhere.
        if profile.is_empty() {
            return Err(PathError::Empty.into());
        }
        if profile.contains(char::is_control) {
            return Err(PathError::Control.into());
        }
    }
    let mut text = text.to_owned();
    let mut places = Vec::new();
    for found in found {
        let (changed, outcome) = reach(&text, json, dialect, &found, wanted)?;
        text = changed;
        places.push(Place {
            what: found.what,
            outcome,
            pod: found.pod,
        });
    }
    Ok(Change {
        text: format!("{bom}{text}"),
        dialect,
        places,
    })
}

fn read(text: &str, json: bool) -> Result<Vec<tree::Document>, ManifestError> {
    let masked = masked(text, json);
    let documents = tree::parse(&masked).map_err(|error| {
        let begins = |line: &str| line.trim_start().starts_with("{{");
        match error {
            ManifestError::Syntax { line: at, .. } => {
                let broken = text.lines().nth(at.saturating_sub(1));
                if broken.is_some_and(|line| line.contains("{{")) {
                    return ManifestError::Template { line: at };
                }
                match text.lines().position(begins) {
                    Some(at) => ManifestError::Template { line: at + 1 },
                    None => error,
                }
            }
            error => error,
        }
    })?;
    // `{{ .Values.x }}` without quotes is a map whose key is a map, which nothing else writes.
    for document in &documents {
        if let Some(node) = document
            .nodes()
            .filter(|node| node.is_template())
            .min_by_key(|node| node.start)
        {
            let line = edit::line(text, node.start);
            return Err(ManifestError::Template { line });
        }
    }
    Ok(documents)
}

/// JSON may have characters as two halves, which YAML does not know: here they are others, at the same places.
fn masked(text: &str, json: bool) -> Cow<'_, str> {
    if !json {
        return Cow::Borrowed(text);
    }
    let mut masked = Cow::Borrowed(text);
    for (at, _) in text.match_indices("\\u") {
        let half = at + 2..at + 4;
        let hex = text.get(half.clone()).unwrap_or_default();
        if let Ok(0xd8..=0xdf) = u8::from_str_radix(hex, 16) {
            masked.to_mut().replace_range(half, "00");
        }
    }
    masked
}

fn reach(
    text: &str,
    json: bool,
    dialect: Dialect,
    found: &Found,
    wanted: &Wanted,
) -> Result<(String, Outcome), ManifestError> {
    let keys: Vec<&str> = found.keys.iter().map(String::as_str).collect();
    let option;
    let goal = match (dialect, wanted) {
        (Dialect::Compose, Wanted::Attached(file)) => {
            option = match &found.now {
                // In the spelling that is there.
                Some(now) if now.starts_with("seccomp:") => format!("seccomp:{file}"),
                _ => format!("seccomp={file}"),
            };
            Goal::Option(&option)
        }
        (_, Wanted::Attached(profile)) => Goal::Profile(profile),
        (Dialect::Compose, Wanted::Detached(_)) => Goal::NoOption,
        (_, Wanted::Detached(_)) => Goal::NoProfile,
    };
    if let Some(other) = &found.other {
        return Ok((text.to_owned(), Outcome::Other(other.clone())));
    }
    let mut before = verify::read(&masked(text, json)).map_err(ManifestError::Unreadable)?;
    let task = Task {
        original: text,
        before: &before,
        json,
        found,
        keys: &keys,
        goal,
    };
    let mut line = 1;
    let Some(changed) = task.attempt(text, 0, &mut line)? else {
        return Err(ManifestError::NotClean { line });
    };
    let outcome = match wanted {
        _ if changed == text => Outcome::Already,
        Wanted::Attached(_) => Outcome::Attached {
            instead_of: found.now.clone(),
        },
        Wanted::Detached(_) => {
            // `security_opt`, or what the `seccompProfile` stood in.
            let above = match (&keys[..], dialect) {
                (all, Dialect::Compose) => all,
                ([above @ .., _], _) => above,
                ([], _) => &[],
            };
            let mut after =
                verify::read(&masked(&changed, json)).map_err(ManifestError::Unreadable)?;
            let [was, is] = [&mut before, &mut after]
                .map(|documents| verify::has(documents, found.document, &found.base, above));
            Outcome::Detached {
                emptied: above
                    .last()
                    .filter(|_| was && !is)
                    .map(|key| (*key).to_owned()),
                comments: lost_comments(text, &changed, json)?,
            }
        }
    };
    Ok((changed, outcome))
}

/// The comments that are in `before` and not in `after`.
fn lost_comments(before: &str, after: &str, json: bool) -> Result<Vec<String>, ManifestError> {
    if json {
        return Ok(Vec::new());
    }
    let (was, is) = (read(before, json)?, read(after, json)?);
    let mut left = tree::comments(after, &is);
    let mut lost = tree::comments(before, &was);
    lost.retain(|comment| {
        let found = left.iter().position(|it| it == comment);
        found.map(|at| left.swap_remove(at)).is_none()
    });
    Ok(lost.into_iter().map(str::to_owned).collect())
}

/// One place that is to be changed.
struct Task<'a> {
    original: &'a str,
    /// What libyaml reads in it.
    before: &'a [serde_yaml_ng::Value],
    json: bool,
    found: &'a Found,
    keys: &'a [&'a str],
    goal: Goal<'a>,
}

impl Task<'_> {
    /// Steps until nothing is left to do, then the comparison; where several places would do, the first that stands it.
    fn attempt(
        &self,
        text: &str,
        depth: usize,
        line: &mut usize,
    ) -> Result<Option<String>, ManifestError> {
        let documents = read(text, self.json)?;
        let document = documents.get(self.found.document);
        if matches!(self.goal, Goal::NoProfile | Goal::NoOption)
            && document.is_none_or(|it| it.root.is_null())
        {
            return Ok(self.same(text).then(|| text.to_owned()));
        }
        let Some(document) = document else {
            return Err(ManifestError::Shape {
                line: 1,
                what: "the document".to_owned(),
                is: "nothing",
                wanted: "a map",
            });
        };
        let source = Source {
            text,
            document,
            json: self.json,
        };
        let base = place::walk(source, &self.found.base)?;
        let edits = source.next(base, self.keys, self.goal)?;
        if edits.is_empty() {
            return Ok(self.same(text).then(|| text.to_owned()));
        }
        // Two keys of a profile, each once, and one attempt more.
        if depth > 4 {
            return Ok(None);
        }
        for edit in edits {
            if depth == 0 {
                *line = edit.line(text);
            }
            if let Ok(Some(changed)) = self.attempt(&edit.apply(text), depth + 1, line) {
                return Ok(Some(changed));
            }
        }
        Ok(None)
    }

    /// Whether `after` is the original with the goal reached, and else the same, in the eyes of libyaml.
    fn same(&self, after: &str) -> bool {
        if self.original == after {
            // Both parsers have read it, and the first found nothing to do.
            return true;
        }
        let Ok(mut is) = verify::read(&masked(after, self.json)) else {
            return false;
        };
        if self.json && serde_json::from_str::<serde::de::IgnoredAny>(after).is_err() {
            return false;
        }
        let mut wanted = self.before.to_vec();
        for (documents, goal) in [(&mut wanted, Some(self.goal)), (&mut is, None)] {
            // A file of which nothing is left.
            if documents.is_empty() {
                documents.push(serde_yaml_ng::Value::Null);
            }
            let document = documents.get_mut(self.found.document);
            let Some(base) = document.and_then(|value| verify::at(value, &self.found.base)) else {
                return false;
            };
            if let Some(goal) = goal
                && verify::reach(base, self.keys, goal).is_none()
            {
                return false;
            }
            verify::settle(base, self.keys);
        }
        wanted == is
    }
}
