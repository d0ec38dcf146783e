//! The second opinion: what libyaml reads before and after a change.
//!
//! Go's YAML reader, and so Kubernetes', is a port of it. Places in the text come from another parser ([`super::tree`]), so a mistake of
//! either shows.

use super::{Goal, Step, compose};
use serde::Deserialize as _;
use serde_yaml_ng::{Deserializer, Mapping, Value};

/// The documents, aliases unfolded.
pub(super) fn read(text: &str) -> Result<Vec<Value>, String> {
    Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).map_err(|error| error.to_string()))
        .collect()
}

/// The value at `path`.
pub(super) fn at<'a>(value: &'a mut Value, path: &[Step]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.as_mapping_mut()?.get_mut(key.as_str()),
        Step::Index(at) => value.as_sequence_mut()?.get_mut(*at),
    })
}

fn at_keys<'a>(value: &'a mut Value, keys: &[&str]) -> Option<&'a mut Value> {
    let mut keys = keys.iter();
    keys.try_fold(value, |value, key| value.as_mapping_mut()?.get_mut(*key))
}

/// Whether there is anything behind the keys.
pub(super) fn has(documents: &mut [Value], document: usize, base: &[Step], keys: &[&str]) -> bool {
    let value = documents.get_mut(document);
    value
        .and_then(|value| at(value, base))
        .and_then(|value| at_keys(value, keys))
        .is_some()
}

/// A map, also where there was nothing.
fn map(value: &mut Value) -> Option<&mut Mapping> {
    if value.is_null() {
        *value = Mapping::new().into();
    }
    value.as_mapping_mut()
}

/// Does to the value itself what the editor does to the text.
pub(super) fn reach(value: &mut Value, keys: &[&str], goal: Goal<'_>) -> Option<()> {
    let (last, before) = keys.split_last()?;
    match goal {
        Goal::Profile(profile) => {
            let mut node = value;
            for key in keys {
                node = map(node)?.entry((*key).into()).or_insert(Value::Null);
            }
            let entries = [("type", "Localhost"), ("localhostProfile", profile)];
            let entries = entries.map(|(key, text)| (key.into(), text.into()));
            *node = entries.into_iter().collect::<Mapping>().into();
        }
        Goal::Option(option) => {
            let list = map(value)?.entry((*last).into()).or_insert(Value::Null);
            if list.is_null() {
                *list = Vec::<Value>::new().into();
            }
            let items = list.as_sequence_mut()?;
            items.retain(|item| !is_option(item));
            items.push(option.into());
        }
        Goal::NoProfile => {
            if let Some(map) = at_keys(value, before).and_then(Value::as_mapping_mut) {
                map.shift_remove(*last);
            }
        }
        Goal::NoOption => {
            if let Some(items) = at_keys(value, keys).and_then(Value::as_sequence_mut) {
                items.retain(|item| !is_option(item));
            }
        }
    }
    Some(())
}

fn is_option(item: &Value) -> bool {
    item.as_str().is_some_and(compose::is_seccomp)
}

/// What makes no difference along `keys` is gone: what is empty, and the place of the profile among the options.
pub(super) fn settle(value: &mut Value, keys: &[&str]) {
    if let Some(items) = at_keys(value, keys).and_then(Value::as_sequence_mut) {
        items.sort_by_key(is_option);
    }
    for length in (1..=keys.len()).rev() {
        let Some((last, before)) = keys.get(..length).and_then(<[_]>::split_last) else {
            continue;
        };
        if let Some(map) = at_keys(value, before).and_then(Value::as_mapping_mut)
            && map.get(*last).is_some_and(is_empty)
        {
            map.shift_remove(*last);
        }
    }
    // Values that had nothing else.
    if is_empty(value) {
        *value = Value::Null;
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Mapping(map) => map.is_empty(),
        Value::Sequence(items) => items.is_empty(),
        value => value.is_null(),
    }
}
