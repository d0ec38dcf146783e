//! YAML and JSON with the place of everything in the text.

use super::ManifestError;
use granit_parser::{Event, Options, Parser, ScalarStyle, StructureStyle};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Deeper than any manifest; what walks a tree recurs this often at most.
const MAX_DEPTH: usize = 100;

/// Values that aliases may unfold to when a tree is made a [`Value`].
const MAX_UNFOLDED: usize = 200_000;

/// A value in the text.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Where it begins: behind anchor and tag.
    pub start: usize,
    /// Behind its last character; of a block scalar behind its last line.
    pub end: usize,
    /// The anchor's number, 0 for none.
    pub anchor: usize,
    pub data: Data,
}

#[derive(Clone, Debug)]
pub(super) enum Data {
    Scalar {
        value: String,
        style: Style,
    },
    Seq {
        flow: bool,
        items: Vec<Node>,
    },
    Map {
        flow: bool,
        entries: Vec<(Node, Node)>,
    },
    Alias(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Plain and not there: `key:` without a value.
    Empty,
    Plain,
    Single,
    Double,
    /// Literal or folded.
    Block,
}

/// A document and what its aliases point to.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub root: Node,
    /// The anchors that an alias names.
    pub aliased: BTreeSet<usize>,
}

impl Node {
    pub(super) fn entries(&self) -> Option<&[(Node, Node)]> {
        match &self.data {
            Data::Map { entries, .. } => Some(entries),
            _ => None,
        }
    }

    pub(super) fn items(&self) -> Option<&[Node]> {
        match &self.data {
            Data::Seq { items, .. } => Some(items),
            _ => None,
        }
    }

    pub(super) fn str(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar { value, .. } => Some(value),
            _ => None,
        }
    }

    /// The value of a key that is written in this map itself.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.position(key)
            .and_then(|at| Some(&self.entries()?.get(at)?.1))
    }

    pub(super) fn position(&self, key: &str) -> Option<usize> {
        let mut entries = self.entries()?.iter();
        entries.position(|(name, _)| name.str() == Some(key))
    }

    /// Nothing, or a word for it.
    pub(super) fn is_null(&self) -> bool {
        match &self.data {
            Data::Scalar { value, style } => {
                *style == Style::Empty
                    || (*style == Style::Plain
                        && matches!(&**value, "" | "~" | "null" | "Null" | "NULL"))
            }
            _ => false,
        }
    }

    /// `{{ … }}`
    pub(super) fn is_template(&self) -> bool {
        matches!(&self.data, Data::Map { flow: true, entries }
            if entries.iter().any(|(key, _)| matches!(key.data, Data::Map { flow: true, .. })))
    }

    /// What it is, for messages.
    pub(super) fn noun(&self) -> &'static str {
        match &self.data {
            _ if self.is_null() => "nothing",
            Data::Scalar { .. } => "a text or number",
            Data::Seq { .. } => "a list",
            Data::Map { .. } => "a map",
            Data::Alias(_) => "an alias",
        }
    }
}

/// The documents of a stream.
pub(super) fn parse(text: &str) -> Result<Vec<Document>, ManifestError> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut documents = Vec::new();
    // Collections that are open, each with the nodes in it so far: keys and values of a map alternate.
    let mut open: Vec<(Node, Vec<Node>)> = Vec::new();
    let mut aliased = BTreeSet::new();
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| {
            let marker = error.marker();
            ManifestError::Syntax {
                line: marker.line(),
                column: marker.col() + 1,
                problem: error.info(),
            }
        })?;
        let range = span.byte_range().unwrap_or_default();
        let range = range.start.min(text.len())..range.end.min(text.len());
        let node = |anchor, data| Node {
            start: range.start,
            end: range.end,
            anchor,
            data,
        };
        let done = match event {
            Event::SequenceStart(style, anchor, _) => {
                let flow = style == StructureStyle::Flow;
                let items = Vec::new();
                open.push((node(anchor, Data::Seq { flow, items }), Vec::new()));
                None
            }
            Event::MappingStart(style, anchor, _) => {
                let flow = style == StructureStyle::Flow;
                let entries = Vec::new();
                open.push((node(anchor, Data::Map { flow, entries }), Vec::new()));
                None
            }
            Event::Scalar(value, style, anchor, _) => {
                let style = match style {
                    ScalarStyle::Plain if range.is_empty() || value.is_empty() => Style::Empty,
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted => Style::Single,
                    ScalarStyle::DoubleQuoted => Style::Double,
                    ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                };
                let value = value.into_owned();
                let mut node = node(anchor, Data::Scalar { value, style });
                if style == Style::Plain {
                    node.end = trimmed(text, node.start, node.end);
                }
                Some(node)
            }
            Event::Alias(of) => {
                aliased.insert(of);
                Some(node(0, Data::Alias(of)))
            }
            Event::SequenceEnd | Event::MappingEnd => open
                .pop()
                .map(|(node, inside)| closed(text, node, inside, range.end)),
            _ => None,
        };
        if open.len() > MAX_DEPTH {
            return Err(ManifestError::TooDeep);
        }
        if let Some(node) = done {
            match open.last_mut() {
                Some((_, inside)) => inside.push(node),
                None => documents.push(Document {
                    root: node,
                    aliased: std::mem::take(&mut aliased),
                }),
            }
        }
    }
    Ok(documents)
}

fn trimmed(text: &str, start: usize, end: usize) -> usize {
    let inside = text.get(start..end).unwrap_or_default();
    start + inside.trim_end().len()
}

/// A collection whose end was read at `end`; where it ends in block style is where its last value does.
fn closed(text: &str, mut node: Node, inside: Vec<Node>, end: usize) -> Node {
    match &mut node.data {
        Data::Seq { flow, items } => {
            *items = inside;
            node.end = match items.last() {
                Some(last) if !*flow => last.end,
                _ => end,
            };
        }
        Data::Map { flow, entries } => {
            let mut inside = inside.into_iter();
            while let (Some(key), Some(mut value)) = (inside.next(), inside.next()) {
                if matches!(
                    value.data,
                    Data::Scalar {
                        style: Style::Empty,
                        ..
                    }
                ) {
                    // The parser puts it somewhere behind the colon, perhaps lines away.
                    let behind = text.get(key.end..).unwrap_or_default();
                    let gap = behind.len() - behind.trim_start_matches([' ', '\t']).len();
                    let colon =
                        usize::from(behind.get(gap..).is_some_and(|it| it.starts_with(':')));
                    value.end = if colon == 1 {
                        key.end + gap + 1
                    } else {
                        key.end
                    };
                    value.start = value.end;
                }
                entries.push((key, value));
            }
            node.end = match entries.last() {
                Some((_, last)) if !*flow => last.end,
                _ => end,
            };
        }
        _ => {}
    }
    node
}

impl Document {
    /// The root and all in it.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        let mut rest = vec![&self.root];
        std::iter::from_fn(move || {
            let node = rest.pop()?;
            match &node.data {
                Data::Seq { items, .. } => rest.extend(items),
                Data::Map { entries, .. } => {
                    rest.extend(entries.iter().flat_map(|(key, value)| [key, value]));
                }
                _ => {}
            }
            Some(node)
        })
    }

    /// All nodes with an anchor, by its number.
    pub(super) fn anchors(&self) -> BTreeMap<usize, &Node> {
        let anchored = self.nodes().filter(|node| node.anchor != 0);
        anchored.map(|node| (node.anchor, node)).collect()
    }
}

/// What a map takes from others by `<<`.
pub(super) fn merged<'a>(map: &'a Node, anchors: &BTreeMap<usize, &'a Node>) -> Vec<&'a Node> {
    let mut found = Vec::new();
    let Some(sources) = map.get("<<") else {
        return found;
    };
    let mut rest = vec![sources];
    // An anchor may stand inside of what it names.
    let mut budget = 1000;
    while let Some(node) = rest.pop().filter(|_| budget > 0) {
        budget -= 1;
        match &node.data {
            Data::Alias(of) => rest.extend(anchors.get(of)),
            Data::Seq { items, .. } => rest.extend(items),
            Data::Map { .. } => {
                found.push(node);
                rest.extend(node.get("<<"));
            }
            Data::Scalar { .. } => {}
        }
    }
    found
}

/// As Kubernetes' reader has it (sigs.k8s.io/yaml, which is go-yaml v2): YAML 1.1, where `yes` is true.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Some(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Some(false)
        }
        _ => None,
    }
}

/// The value with aliases and merges unfolded; null where that grows too large.
pub(super) fn value(root: &Node, anchors: &BTreeMap<usize, &Node>) -> Value {
    fn unfold(
        node: &Node,
        anchors: &BTreeMap<usize, &Node>,
        depth: usize,
        left: &mut usize,
    ) -> Value {
        if depth > MAX_DEPTH || *left == 0 {
            return Value::Null;
        }
        *left -= 1;
        let mut inner = |node: &Node| unfold(node, anchors, depth + 1, left);
        match &node.data {
            Data::Alias(of) => anchors.get(of).map_or(Value::Null, |node| inner(node)),
            Data::Seq { items, .. } => items.iter().map(inner).collect(),
            Data::Map { entries, .. } => {
                let mut map = Map::new();
                for (key, value) in entries {
                    let key = key.str().unwrap_or_default();
                    if key != "<<" {
                        map.insert(key.to_owned(), inner(value));
                    }
                }
                for source in merged(node, anchors) {
                    for (key, value) in source.entries().unwrap_or_default() {
                        let key = key.str().unwrap_or_default();
                        if key != "<<" && !map.contains_key(key) {
                            map.insert(key.to_owned(), inner(value));
                        }
                    }
                }
                Value::Object(map)
            }
            Data::Scalar { value, style } => match (style, &**value) {
                _ if node.is_null() => Value::Null,
                (Style::Plain, text) => {
                    boolean(text).map_or_else(|| Value::String(value.clone()), Value::Bool)
                }
                _ => Value::String(value.clone()),
            },
        }
    }
    let mut left = MAX_UNFOLDED;
    unfold(root, anchors, 0, &mut left)
}

/// The comments of a text, in their order, each from its `#` to the end of its line.
pub(super) fn comments<'a>(text: &'a str, documents: &[Document]) -> Vec<&'a str> {
    let mut scalars = Vec::new();
    let mut rest: Vec<_> = documents.iter().map(|document| &document.root).collect();
    while let Some(node) = rest.pop() {
        match &node.data {
            Data::Scalar { .. } => scalars.push(node.start..node.end),
            Data::Seq { items, .. } => rest.extend(items),
            Data::Map { entries, .. } => {
                rest.extend(entries.iter().flat_map(|(key, value)| [key, value]));
            }
            Data::Alias(_) => {}
        }
    }
    scalars.sort_unstable_by_key(|scalar| scalar.start);
    // The only scalar that could hold it is the last that begins before it.
    let in_scalar = |at: usize| {
        let behind = scalars.partition_point(|scalar| scalar.start <= at);
        let before = behind.checked_sub(1).and_then(|last| scalars.get(last));
        before.is_some_and(|scalar| at < scalar.end)
    };
    let mut comments = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let begins = |at: &usize| {
            let before = line.get(..*at).unwrap_or_default();
            (before.is_empty() || before.ends_with([' ', '\t'])) && !in_scalar(start + at)
        };
        let found = line.match_indices('#').map(|(at, _)| at).find(begins);
        comments.extend(found.and_then(|at| Some(line.get(at..)?.trim_end())));
        start += line.len();
    }
    comments
}
