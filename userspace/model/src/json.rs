//! Untrusted JSON: bounded before anything is built, and errors that name the field.

use serde::de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// No file that is read here is larger: a recording of every call in every phase by every ABI has about 2 MiB.
pub(crate) const MAX_BYTES: usize = 64 << 20;

/// A parsed value takes up to a hundred bytes of memory, so their number is bounded as well.
pub(crate) const MAX_VALUES: usize = 1 << 20;

/// Why bytes are not JSON that can be looked at.
#[derive(Debug)]
pub(crate) enum Refusal {
    TooLarge { bytes: usize },
    TooManyValues,
    Syntax(serde_json::Error),
}

/// Whether the bytes are few enough to be read.
pub(crate) fn bounded(bytes: &[u8]) -> Result<(), Refusal> {
    if bytes.len() > MAX_BYTES {
        return Err(Refusal::TooLarge { bytes: bytes.len() });
    }
    // Every value but the first follows one of these bytes; those inside strings only make the bound tighter.
    if bytes
        .iter()
        .filter(|byte| matches!(byte, b',' | b'[' | b'{'))
        .count()
        > MAX_VALUES
    {
        return Err(Refusal::TooManyValues);
    }
    Ok(())
}

/// Any JSON within the bounds in which no object has a key twice: of two, runc takes the last and crun 1.8 the first, so that what is
/// judged here would not be what is loaded there.
pub(crate) fn value(bytes: &[u8]) -> Result<Value, Refusal> {
    bounded(bytes)?;
    let value: Result<Unique, _> = serde_json::from_slice(bytes);
    value.map(|Unique(value)| value).map_err(Refusal::Syntax)
}

/// A value without a key that comes twice.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Parts).map(Self)
    }
}

struct Parts;

impl<'de> Visitor<'de> for Parts {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Unique(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format_args!(
                    "`{}` is given twice in one object",
                    shown(&key)
                )));
            }
            let Unique(value) = fields.next_value()?;
            object.insert(key, value);
        }
        Ok(object.into())
    }
}

/// A value in its typed form, or the path of the field that is wrong and what is wrong with it.
pub(crate) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, (String, String)> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.into_inner().to_string();
        let (path, reason) = (cut(&path, 400), cut(&reason, 400));
        // serde names what holds the field, and a document that holds it is called `.`.
        let missing = reason.strip_prefix("missing field `");
        match missing.and_then(|name| name.strip_suffix('`')) {
            Some(name) if path == "." => (name.to_owned(), "is missing".to_owned()),
            Some(name) => (format!("{path}.{name}"), "is missing".to_owned()),
            None => (path, reason),
        }
    })
}

/// Line and column, from 1, of the value that an error names by its path, like `syscalls[3].action`; of the innermost value around it
/// where it is not there. `None` for what is no JSON.
#[must_use]
pub fn position(bytes: &[u8], field: &str) -> Option<(usize, usize)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut at: &RawValue = serde_json::from_str(text).ok()?;
    let mut rest = field.trim_matches('.');
    while let Some((inner, after)) = step(at, rest) {
        (at, rest) = (inner, after);
    }
    // A raw value is a part of the text that it was read from.
    let start = (at.get().as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let before = text.get(..start)?;
    let line = before.rsplit('\n').next().unwrap_or_default();
    Some((before.matches('\n').count() + 1, line.chars().count() + 1))
}

/// The value that the first part of a path leads to, and the rest of the path. Keys may hold dots themselves.
fn step<'a, 'b>(value: &'a RawValue, path: &'b str) -> Option<(&'a RawValue, &'b str)> {
    if let Some(indexed) = path.strip_prefix('[') {
        let (index, rest) = indexed.split_once(']')?;
        let items: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
        let item = *items.get(index.parse::<usize>().ok()?)?;
        return Some((item, rest.trim_start_matches('.')));
    }
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(value.get()).ok()?;
    let leads = |key: &&String| {
        let rest = path.strip_prefix(key.as_str());
        !path.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let key = fields.keys().filter(leads).max_by_key(|key| key.len())?;
    Some((*fields.get(key)?, path[key.len()..].trim_start_matches('.')))
}

/// Foreign text for a message: short, and without control characters.
pub(crate) fn shown(text: &str) -> String {
    cut(text, 80).escape_debug().to_string()
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What a document seems to be, for errors about files that were mixed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// An observation, whatever its version.
    Observation,
    /// Observations that were merged, whatever the version.
    Merged,
    /// A report of `generate`.
    Report,
    /// A plain OCI profile.
    OciProfile,
    /// A profile with the conditions of docker, podman or CRI-O.
    DockerProfile,
    /// A bundle's `config.json`.
    RuntimeSpec,
    /// A Kubernetes object.
    Manifest,
    /// JSON, but not an object: `null`, a number, a string, an array.
    NotAnObject,
    /// `{}`
    EmptyObject,
    /// An object of another kind.
    Other,
}

impl Kind {
    /// What `value` seems to be.
    pub(crate) fn of(value: &Value) -> Self {
        let Value::Object(object) = value else {
            return Self::NotAnObject;
        };
        if object.is_empty() {
            return Self::EmptyObject;
        }
        if let Some(schema) = object.get("schema").and_then(Value::as_str) {
            match schema.split_once(".v").map_or(schema, |(name, _)| name) {
                "seccast/observation" => return Self::Observation,
                "seccast/merged" => return Self::Merged,
                "seccast/report" => return Self::Report,
                _ => {}
            }
        }
        if object.contains_key("apiVersion") && object.contains_key("kind") {
            return Self::Manifest;
        }
        if object.contains_key("ociVersion") {
            return Self::RuntimeSpec;
        }
        if is_docker(object) {
            return Self::DockerProfile;
        }
        if object.contains_key("defaultAction") || object.contains_key("syscalls") {
            return Self::OciProfile;
        }
        Self::Other
    }

    /// The noun with its article, for messages.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::Observation => "an observation",
            Self::Merged => "a merged observation",
            Self::Report => "a report",
            Self::OciProfile => "a seccomp profile",
            Self::DockerProfile => "a seccomp profile in docker's dialect",
            Self::RuntimeSpec => "the config.json of a bundle",
            Self::Manifest => "a Kubernetes object",
            Self::NotAnObject => "not a JSON object",
            Self::EmptyObject => "an empty JSON object",
            Self::Other => "another kind of JSON object",
        }
    }
}

/// Whether a profile has a key that only docker, podman and CRI-O understand.
pub(crate) fn is_docker(object: &Map<String, Value>) -> bool {
    docker_key(object).is_some()
}

/// The first such key, with its path.
pub(crate) fn docker_key(object: &Map<String, Value>) -> Option<String> {
    for key in ["archMap", "defaultErrno"] {
        if object.contains_key(key) {
            return Some(key.to_owned());
        }
    }
    let rules = object.get("syscalls")?.as_array()?;
    for (at, rule) in rules.iter().enumerate() {
        for key in ["name", "includes", "excludes", "errno"] {
            let value = rule.get(key);
            // docker writes empty `includes` and `excludes` where there is no condition: those mean nothing.
            if value.is_some_and(|value| {
                !value.is_null() && value.as_object().is_none_or(|object| !object.is_empty())
            }) {
                return Some(format!("syscalls[{at}].{key}"));
            }
        }
    }
    None
}

/// Indented by two, a newline at the end.
pub(crate) fn pretty<T: serde::Serialize>(value: &T) -> String {
    // The types that are written here have string keys only and write themselves without an error, so this cannot fail.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::{Refusal, position, value};

    #[test]
    fn a_key_comes_once_in_an_object() {
        let same = r#"{"a": [null, true, -1, 2, 0.5, "x", {"a": {"a": 18446744073709551615}}], "b": {"a": 1}}"#;
        assert_eq!(
            value(same.as_bytes()).unwrap().to_string(),
            same.replace(' ', "")
        );
        for (text, says) in [
            (
                "{\"a\": 1,\n \"b\": 2, \"a\": 1}",
                "`a` is given twice in one object at line 2 column",
            ),
            (
                r#"[{"x": {"a": 1, "\u0061": 2}}]"#,
                "`a` is given twice in one object at line 1 column",
            ),
        ] {
            let Err(Refusal::Syntax(error)) = value(text.as_bytes()) else {
                panic!("{text}");
            };
            assert!(error.to_string().starts_with(says), "{error}");
        }
    }

    #[test]
    fn the_position_of_a_field() {
        let text = "{\n  \"a\": [1, {\"b.c\": {\"d\": 2}}],\n  \"é\": \"\u{1}\", \"b\": {}\n}";
        assert_eq!(
            position(text.as_bytes(), "a"),
            None,
            "a control character in a string is no JSON"
        );
        let text = text.replace('\u{1}', "x");
        let cases = [
            ("a", (2, 8)),
            ("a[0]", (2, 9)),
            ("a[1].b.c.d", (2, 26)),
            ("b", (3, 18)),
            // Not there: what is around it.
            ("b.missing", (3, 18)),
            ("a[7]", (2, 8)),
            (".", (1, 1)),
            ("", (1, 1)),
        ];
        for (field, expect) in cases {
            assert_eq!(position(text.as_bytes(), field), Some(expect), "{field}");
        }
    }
}
