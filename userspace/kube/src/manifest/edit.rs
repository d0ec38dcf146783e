//! Changes of the text: the least that a value needs, in the style of what is around it.

use super::{
    Goal, ManifestError, compose,
    tree::{self, Data, Document, Node, Style},
};
use std::{collections::BTreeMap, fmt::Write as _, ops::Range};

/// A piece of the text and what takes its place.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    range: Range<usize>,
    text: String,
}

impl Edit {
    pub(super) fn apply(&self, text: &str) -> String {
        let before = text.get(..self.range.start).unwrap_or_default();
        let after = text.get(self.range.end..).unwrap_or_default();
        format!("{before}{}{after}", self.text)
    }

    /// The line that it begins at, from 1.
    pub(super) fn line(&self, text: &str) -> usize {
        line(text, self.range.start)
    }
}

pub(super) fn line(text: &str, at: usize) -> usize {
    1 + text.get(..at).unwrap_or_default().matches('\n').count()
}

/// A value that is not in the text yet.
#[derive(Clone, Debug)]
enum New<'a> {
    Text(&'a str),
    Map(Vec<(&'a str, New<'a>)>),
    List(&'a str),
}

/// The text, and what is known of it.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub text: &'a str,
    pub document: &'a Document,
    /// JSON: keys and texts are quoted.
    pub json: bool,
}

impl<'a> Source<'a> {
    /// What has to be done next at `base` to reach the goal: places to do it, the best first. Nothing: it is reached.
    pub(super) fn next(
        self,
        base: &'a Node,
        keys: &[&'a str],
        goal: Goal<'a>,
    ) -> Result<Vec<Edit>, ManifestError> {
        let anchors = self.document.anchors();
        match goal {
            Goal::Profile(_) | Goal::Option(_) => self.put(base, keys, goal, &anchors),
            Goal::NoProfile | Goal::NoOption => self.take(base, keys, goal, &anchors),
        }
    }

    /// A node on the way: neither an alias, nor what an alias names, which a change would change elsewhere, too.
    pub(super) fn own(self, node: &Node, at: usize, what: &str) -> Result<(), ManifestError> {
        let line = line(self.text, at);
        let what = what.to_owned();
        if matches!(node.data, Data::Alias(_)) {
            return Err(ManifestError::Alias { line, what });
        }
        if node.anchor != 0 && self.document.aliased.contains(&node.anchor) {
            return Err(ManifestError::Shared { line, what });
        }
        Ok(())
    }

    /// A step to a key's value; `None` when it is not there.
    pub(super) fn step(
        self,
        map: &'a Node,
        key: &str,
        anchors: &BTreeMap<usize, &'a Node>,
    ) -> Result<Option<usize>, ManifestError> {
        let Some(at) = map.position(key) else {
            if tree::merged(map, anchors)
                .iter()
                .any(|source| source.position(key).is_some())
            {
                return Err(ManifestError::Merged {
                    line: line(self.text, map.start),
                    what: key.to_owned(),
                });
            }
            return Ok(None);
        };
        if let Some((name, value)) = map.entries().and_then(|entries| entries.get(at)) {
            self.own(value, name.start, key)?;
        }
        Ok(Some(at))
    }

    pub(super) fn not_a(self, node: &Node, what: &str, wanted: &'static str) -> ManifestError {
        ManifestError::Shape {
            line: line(self.text, node.start),
            what: what.to_owned(),
            is: node.noun(),
            wanted,
        }
    }

    fn put(
        self,
        base: &'a Node,
        keys: &[&'a str],
        goal: Goal<'a>,
        anchors: &BTreeMap<usize, &'a Node>,
    ) -> Result<Vec<Edit>, ManifestError> {
        let mut map = base;
        for (depth, key) in keys.iter().enumerate() {
            let rest = keys.get(depth + 1..).unwrap_or_default();
            let new = match goal {
                Goal::Option(option) => New::List(option),
                Goal::Profile(profile) => rest.iter().rev().fold(
                    New::Map(vec![
                        ("type", New::Text("Localhost")),
                        ("localhostProfile", New::Text(profile)),
                    ]),
                    |inner, key| New::Map(vec![(key, inner)]),
                ),
                Goal::NoProfile | Goal::NoOption => return Ok(Vec::new()),
            };
            let Some(at) = self.step(map, key, anchors)? else {
                return Ok(self.append(map, key, &new));
            };
            let Some((name, value)) = map.entries().and_then(|entries| entries.get(at)) else {
                return Ok(Vec::new());
            };
            if value.is_null() {
                return Ok(vec![self.fill(map, name, value, &new)]);
            }
            if let (Goal::Option(option), Some(items)) = (goal, value.items()) {
                return self.option(value, items, option);
            }
            if value.entries().is_none() {
                let wanted = match goal {
                    Goal::Option(_) => "a list",
                    _ => "a map",
                };
                return Err(self.not_a(value, key, wanted));
            }
            map = value;
        }
        let Goal::Profile(profile) = goal else {
            return Ok(Vec::new());
        };
        for (key, wanted) in [("type", "Localhost"), ("localhostProfile", profile)] {
            let Some(at) = self.step(map, key, anchors)? else {
                return Ok(self.append(map, key, &New::Text(wanted)));
            };
            let Some((name, value)) = map.entries().and_then(|entries| entries.get(at)) else {
                continue;
            };
            if value.is_null() {
                return Ok(vec![self.fill(map, name, value, &New::Text(wanted))]);
            }
            match value.str() {
                Some(is) if is == wanted => {}
                Some(_) => return Ok(vec![self.replace(value, wanted)]),
                None => return Err(self.not_a(value, key, "a text")),
            }
        }
        Ok(Vec::new())
    }

    /// The `seccomp=` of a list of options.
    fn option(self, list: &Node, items: &[Node], option: &str) -> Result<Vec<Edit>, ManifestError> {
        let is_seccomp = |item: &&Node| item.str().is_some_and(compose::is_seccomp);
        let mut old = items.iter().filter(is_seccomp);
        match (old.next(), old.next()) {
            (Some(old), None) => {
                self.own(old, old.start, "security_opt")?;
                if old.str() == Some(option) {
                    return Ok(Vec::new());
                }
                Ok(vec![self.replace(old, option)])
            }
            (Some(_), Some(second)) => Err(ManifestError::Twice {
                line: line(self.text, second.start),
            }),
            (None, _) => Ok(self.append_item(list, items, option)),
        }
    }

    fn take(
        self,
        base: &'a Node,
        keys: &[&'a str],
        goal: Goal<'a>,
        anchors: &BTreeMap<usize, &'a Node>,
    ) -> Result<Vec<Edit>, ManifestError> {
        let mut way = Vec::new();
        let mut map = base;
        for key in keys {
            if map.entries().is_none() {
                return Ok(Vec::new());
            }
            let Some(at) = self.step(map, key, anchors)? else {
                return Ok(Vec::new());
            };
            way.push((map, at));
            match map.entries().and_then(|entries| entries.get(at)) {
                Some((_, value)) => map = value,
                None => return Ok(Vec::new()),
            }
        }
        // In a patch or in values it says to take out what the base or the chart has.
        if matches!(goal, Goal::NoProfile) && map.is_null() {
            return Ok(Vec::new());
        }
        if let (Goal::NoOption, Data::Seq { flow, items }) = (goal, &map.data) {
            let is_seccomp = |item: &Node| item.str().is_some_and(compose::is_seccomp);
            let Some(at) = items.iter().position(is_seccomp) else {
                return Ok(Vec::new());
            };
            let spans: Vec<_> = items.iter().map(|item| item.start..item.end).collect();
            if items.len() > 1 {
                return Ok(vec![self.remove(&spans, at, *flow)]);
            }
        }
        while let Some((map, at)) = way.pop() {
            let Data::Map { flow, entries } = &map.data else {
                break;
            };
            let above = way
                .last()
                .map(|(map, _)| matches!(map.data, Data::Map { flow: true, .. }));
            // A map that has nothing else was made for the profile, or was empty. In braces it can be left as empty braces, which is
            // what it was if it stands in a block.
            let alone = entries.len() == 1 && above.is_some();
            if alone && (!*flow || above == Some(true)) {
                continue;
            }
            // What nothing is left of, a container or all values, is a map all the same, and not nothing.
            if let ([(key, value)], false, None) = (&entries[..], *flow, above) {
                // Braces stand on the line of their key.
                let before = self.text.get(..key.start).unwrap_or_default().trim_end();
                let (start, text) = match before.ends_with(':') {
                    true => (before.len(), " {}"),
                    false => (key.start, "{}"),
                };
                return Ok(vec![Edit {
                    range: start..last(value).end.max(key.end),
                    text: text.to_owned(),
                }]);
            }
            let spans: Vec<_> = entries
                .iter()
                .map(|(key, value)| key.start..value.end.max(key.end))
                .collect();
            return Ok(vec![self.remove(&spans, at, *flow)]);
        }
        Ok(Vec::new())
    }

    /// An entry or item without what separates it from the others.
    fn remove(self, spans: &[Range<usize>], at: usize, flow: bool) -> Edit {
        let Some(span) = spans.get(at).cloned() else {
            return Edit {
                range: 0..0,
                text: String::new(),
            };
        };
        let next = spans.get(at + 1);
        let before = at.checked_sub(1).and_then(|at| spans.get(at));
        if flow && let Some(edit) = self.remove_beside_comments(before, &span, next) {
            return edit;
        }
        let range = if flow {
            match (before, next) {
                (Some(before), _) => before.end..span.end,
                (None, Some(next)) => span.start..next.start,
                (None, None) => span,
            }
        } else {
            let start = self.line_start(span.start);
            let lead = self.text.get(start..span.start).unwrap_or_default();
            match next {
                // `- key: value`: the next key moves up behind the dash.
                Some(next)
                    if at == 0
                        && lead.trim_start_matches([' ', '-']).is_empty()
                        && lead.contains("- ")
                        && self.line_start(next.start) != start
                        && !self.is_item(spans) =>
                {
                    // And so does a comment above it.
                    span.start..self.comment_above(span.start, next.start)
                }
                _ => self.lines(start, span.end),
            }
        };
        Edit {
            range,
            text: String::new(),
        }
    }

    /// The same in braces, where comments stand between this entry and its neighbours: they stay. `None` where there are none.
    fn remove_beside_comments(
        self,
        before: Option<&Range<usize>>,
        span: &Range<usize>,
        next: Option<&Range<usize>>,
    ) -> Option<Edit> {
        let Some(before) = before else {
            let next = next?;
            let gap = self.text.get(span.end..next.start)?;
            return gap.contains('#').then(|| Edit {
                range: span.start..next.start,
                text: without_comma(gap),
            });
        };
        let gap = self.text.get(before.end..span.start)?;
        if !gap.contains('#') {
            return None;
        }
        // Whose comma stands before it, unless another follows.
        let behind = self.text.get(span.end..).unwrap_or_default();
        let comma = behind.trim_start();
        let (end, gap) = if comma.starts_with(',') {
            let comma = span.end + behind.len() - comma.len();
            (comma + 1, gap.to_owned())
        } else {
            (span.end, without_comma(gap))
        };
        let (line_end, _) = self.line_end(end);
        let rest = self.text.get(end..line_end).unwrap_or_default();
        let text = if rest.trim().is_empty() {
            gap.trim_end().to_owned()
        } else {
            gap
        };
        Some(Edit {
            range: before.end..end,
            text,
        })
    }

    /// Where the comments in lines of their own begin that stand directly above `at`, behind `from`; else `at`.
    fn comment_above(self, from: usize, at: usize) -> usize {
        let mut found = at;
        let mut start = self.line_start(at);
        while start > 0 {
            let above = self.line_start(start - 1);
            let line = self.text.get(above..start).unwrap_or_default();
            let comment = line.trim_start();
            if above <= from || !(comment.is_empty() || comment.starts_with('#')) {
                break;
            }
            if !comment.is_empty() {
                found = above + line.len() - comment.len();
            }
            start = above;
        }
        found
    }

    /// Each begins with a dash of its own.
    fn is_item(self, spans: &[Range<usize>]) -> bool {
        spans.iter().all(|span| {
            let lead = self.text.get(self.line_start(span.start)..span.start);
            lead.unwrap_or_default().trim_start().starts_with("- ")
        })
    }

    /// The lines from `start` to the one that `end` is in; without a newline at the file's end the one before.
    fn lines(self, start: usize, end: usize) -> Range<usize> {
        let (line_end, eol) = self.line_end(end);
        if eol.is_empty() && start > 0 {
            let before = self.text.get(..start).unwrap_or_default();
            let cut = before
                .strip_suffix("\r\n")
                .or_else(|| before.strip_suffix('\n'));
            return cut.map_or(start, str::len)..line_end;
        }
        start..line_end + eol.len()
    }

    fn line_start(self, at: usize) -> usize {
        let before = self.text.get(..at).unwrap_or_default();
        before.rfind('\n').map_or(0, |at| at + 1)
    }

    /// The end of the line, and what ends it; nothing at the file's end. At the begin of a line it is the line before that ends.
    fn line_end(self, at: usize) -> (usize, &'a str) {
        let before = self.text.get(..at).unwrap_or_default();
        let from = if before.ends_with('\n') { at - 1 } else { at };
        let Some(newline) = self.text.get(from..).and_then(|rest| rest.find('\n')) else {
            return (self.text.len(), "");
        };
        let newline = from + newline;
        if self
            .text
            .get(..newline)
            .is_some_and(|before| before.ends_with('\r'))
        {
            (newline - 1, "\r\n")
        } else {
            (newline, "\n")
        }
    }

    /// How far a key is from the begin of its line, as spaces: a dash before it counts.
    fn indent(self, at: usize) -> String {
        let lead = self.text.get(self.line_start(at)..at).unwrap_or_default();
        " ".repeat(lead.chars().count())
    }

    /// By how much maps in maps are indented: in this map, else what is usual in the file.
    fn step_width(self, map: &Node) -> usize {
        let width = |(key, value): &(Node, Node)| {
            let (inner, _) = block_map(value)?.first()?;
            let outer = self.indent(key.start).len();
            Some(self.indent(inner.start).len().saturating_sub(outer))
        };
        let own = usual(map, width);
        own.or_else(|| usual(&self.document.root, width))
            .filter(|width| *width > 0)
            .unwrap_or(2)
    }

    /// By how much the dashes of a list are indented in a map: what is usual in the file.
    fn list_step(self, map: &Node) -> usize {
        let width = |(key, value): &(Node, Node)| {
            let Data::Seq { flow: false, items } = &value.data else {
                return None;
            };
            let first = items.first()?.start;
            let lead = self.text.get(self.line_start(first)..first)?;
            Some(lead.find('-')?.saturating_sub(self.indent(key.start).len()))
        };
        usual(&self.document.root, width).unwrap_or_else(|| self.step_width(map))
    }

    /// A new last entry of a map.
    fn append(self, map: &Node, key: &str, new: &New<'_>) -> Vec<Edit> {
        let Data::Map { flow, entries } = &map.data else {
            return Vec::new();
        };
        let Some(((first, _), (last, value))) = entries.first().zip(entries.last()) else {
            let flat = self.flat(map.start, None);
            let text = format!("{}: {}", flat.key(key), flat.value(new));
            return vec![Edit {
                range: map.start + 1..map.start + 1,
                text,
            }];
        };
        let end = value.end.max(last.end);
        if *flow {
            return vec![self.append_flow(map, first, last, end, key, new)];
        }
        let indent = self.indent(first.start);
        let mut lines = Vec::new();
        self.block(map, key, new, &indent, &mut lines);
        // A block scalar may own the empty lines behind it, or the comments; another place is beyond all doubt.
        let single = |(_, value): &&(Node, Node)| matches!(value.data, Data::Scalar { style, .. } if style != Style::Block && style != Style::Empty);
        let mut places = vec![tree_end(self.text, value), end];
        for name in ["image", "name"] {
            places.extend(map.get(name).map(|value| value.end));
        }
        places.extend(
            entries
                .iter()
                .rev()
                .find(single)
                .map(|(_, value)| value.end),
        );
        places.dedup();
        places
            .into_iter()
            .map(|at| self.insert(at, &lines))
            .collect()
    }

    /// Lines behind the one that `at` is in.
    fn insert(self, at: usize, lines: &[String]) -> Edit {
        let (line_end, eol) = self.line_end(at);
        if eol.is_empty() {
            let eol = if self.text.contains("\r\n") {
                "\r\n"
            } else {
                "\n"
            };
            let text = lines.iter().fold(String::new(), |mut text, line| {
                let _ = write!(text, "{eol}{line}");
                text
            });
            return Edit {
                range: line_end..line_end,
                text,
            };
        }
        let at = line_end + eol.len();
        let text = lines.iter().fold(String::new(), |mut text, line| {
            let _ = write!(text, "{line}{eol}");
            text
        });
        Edit {
            range: at..at,
            text,
        }
    }

    /// The lines of a new entry of `map`.
    fn block(self, map: &Node, key: &str, new: &New<'_>, indent: &str, lines: &mut Vec<String>) {
        let flat = self.flat_style(false);
        let key = flat.key(key);
        match new {
            New::Text(text) => lines.push(format!("{indent}{key}: {}", flat.text(text))),
            New::List(item) => {
                let step = " ".repeat(self.list_step(map));
                lines.push(format!("{indent}{key}:"));
                lines.push(format!("{indent}{step}- {}", flat.text(item)));
            }
            New::Map(entries) => {
                lines.push(format!("{indent}{key}:"));
                let deeper = format!("{indent}{}", " ".repeat(self.step_width(map)));
                for (key, new) in entries {
                    self.block(map, key, new, &deeper, lines);
                }
            }
        }
    }

    fn append_flow(
        self,
        map: &Node,
        first: &Node,
        last: &Node,
        end: usize,
        key: &str,
        new: &New<'_>,
    ) -> Edit {
        let start = self.line_start(last.start);
        let lead = self.text.get(start..last.start).unwrap_or_default();
        let flat = self.flat(map.start, Some((first, last)));
        let text = if lead.trim().is_empty() {
            // One entry a line.
            let (_, eol) = self.line_end(last.start);
            let outer = self
                .text
                .get(self.line_start(map.end.saturating_sub(1))..)
                .unwrap_or_default();
            let outer: String = outer
                .chars()
                .take_while(|c| c.is_ascii_whitespace() && *c != '\n')
                .collect();
            let step = lead
                .strip_prefix(&outer)
                .filter(|step| !step.is_empty())
                .unwrap_or("  ");
            let eol = if eol.is_empty() { "\n" } else { eol };
            let value = flat.lines(new, lead, step, eol);
            let entry = format!("{eol}{lead}{}: {value}", flat.key(key));
            // A comment behind the last entry is its own.
            let (line_end, _) = self.line_end(end);
            let rest = self.text.get(end..line_end).unwrap_or_default();
            let (comma, comment) = match rest.strip_prefix(',') {
                Some(comment) => (",", comment),
                None => ("", rest),
            };
            if comment.trim_start().starts_with('#') {
                return Edit {
                    range: end..line_end,
                    text: format!(",{comment}{entry}{comma}"),
                };
            }
            format!(",{entry}")
        } else {
            let space = if flat.compact { "" } else { " " };
            format!(",{space}{}:{space}{}", flat.key(key), flat.value(new))
        };
        Edit {
            range: end..end,
            text,
        }
    }

    fn append_item(self, list: &Node, items: &[Node], option: &str) -> Vec<Edit> {
        let flow = matches!(list.data, Data::Seq { flow: true, .. });
        let quoted = items.iter().any(|item| {
            matches!(
                item.data,
                Data::Scalar {
                    style: Style::Double,
                    ..
                }
            )
        });
        let text = self.flat_style(quoted).text(option);
        let Some(last) = items.last() else {
            return vec![Edit {
                range: list.start + 1..list.start + 1,
                text,
            }];
        };
        if flow {
            return vec![Edit {
                range: last.end..last.end,
                text: format!(", {text}"),
            }];
        }
        let start = self.line_start(last.start);
        let lead = self.text.get(start..last.start).unwrap_or_default();
        vec![self.insert(tree_end(self.text, last), &[format!("{lead}{text}")])]
    }

    /// A value where there is nothing or a word for it.
    fn fill(self, map: &Node, key: &Node, value: &Node, new: &New<'_>) -> Edit {
        let in_flow = matches!(map.data, Data::Map { flow: true, .. });
        let flat = self.flat_style(self.json);
        let empty = matches!(
            value.data,
            Data::Scalar {
                style: Style::Empty,
                ..
            }
        );
        if !empty {
            return Edit {
                range: value.start..value.end,
                text: flat.value(new),
            };
        }
        if in_flow || matches!(new, New::Text(_)) {
            let colon = if value.end > key.end { "" } else { ":" };
            return Edit {
                range: value.end..value.end,
                text: format!("{colon} {}", flat.value(new)),
            };
        }
        let mut lines = Vec::new();
        self.block(map, "", new, &self.indent(key.start), &mut lines);
        lines.remove(0);
        self.insert(value.end, &lines)
    }

    /// A scalar in the quotes of the one before.
    fn replace(self, old: &Node, new: &str) -> Edit {
        let text = match old.data {
            Data::Scalar {
                style: Style::Double,
                ..
            } => quoted(new),
            Data::Scalar {
                style: Style::Single,
                ..
            } => single(new),
            _ => self.flat_style(self.json).text(new),
        };
        Edit {
            range: old.start..old.end,
            text,
        }
    }

    fn flat_style(self, quoted: bool) -> Flat {
        Flat {
            quoted: self.json || quoted,
            compact: false,
            padded: false,
        }
    }

    /// The style of the braces at `start`.
    fn flat(self, start: usize, entries: Option<(&Node, &Node)>) -> Flat {
        let inside = self.text.get(start + 1..).unwrap_or_default();
        let is_quoted = |node: &Node| {
            matches!(
                node.data,
                Data::Scalar {
                    style: Style::Double,
                    ..
                }
            )
        };
        let quoted = self.json || entries.is_some_and(|(first, _)| is_quoted(first));
        let tight = entries.is_some_and(|(_, last)| {
            let behind = self.text.get(last.end..).unwrap_or_default();
            behind
                .strip_prefix(':')
                .is_some_and(|it| !it.starts_with(char::is_whitespace))
        });
        Flat {
            quoted,
            compact: quoted && tight,
            padded: entries.is_some() && inside.starts_with(' '),
        }
    }
}

fn block_map(node: &Node) -> Option<&[(Node, Node)]> {
    match &node.data {
        Data::Map {
            flow: false,
            entries,
        } => Some(entries),
        _ => None,
    }
}

/// The most frequent width of the entries of block maps in `root`; of several the least.
fn usual(root: &Node, width: impl Fn(&(Node, Node)) -> Option<usize>) -> Option<usize> {
    let mut widths: BTreeMap<usize, usize> = BTreeMap::new();
    let mut rest = vec![root];
    while let Some(node) = rest.pop() {
        for width in block_map(node)
            .unwrap_or_default()
            .iter()
            .filter_map(&width)
        {
            *widths.entry(width).or_default() += 1;
        }
        match &node.data {
            Data::Seq { items, .. } => rest.extend(items),
            Data::Map { entries, .. } => rest.extend(entries.iter().map(|(_, value)| value)),
            _ => {}
        }
    }
    let most = widths
        .iter()
        .max_by_key(|(width, count)| (**count, usize::MAX - **width));
    most.map(|(width, _)| *width)
}

/// The last scalar, or what stands in braces, of a value.
fn last(node: &Node) -> &Node {
    let inner = match &node.data {
        Data::Seq { flow: false, items } => items.last(),
        Data::Map {
            flow: false,
            entries,
        } => entries.last().map(|(_, value)| value),
        _ => None,
    };
    inner.map_or(node, last)
}

/// The comma that separates two entries in braces: one in a comment does not.
fn comma(gap: &str) -> Option<usize> {
    let mut in_comment = false;
    let found = gap.char_indices().find(|(_, c)| {
        in_comment = *c == '#' || in_comment && *c != '\n';
        *c == ',' && !in_comment
    });
    found.map(|(at, _)| at)
}

fn without_comma(gap: &str) -> String {
    let mut text = gap.to_owned();
    if let Some(at) = comma(gap) {
        text.remove(at);
    }
    text
}

/// Where a value's own lines end: without the empty lines behind a block scalar, which only some of them keep.
fn tree_end(text: &str, node: &Node) -> usize {
    let last = last(node);
    match last.data {
        Data::Scalar {
            style: Style::Block,
            ..
        } => {
            let own = text.get(last.start..last.end).unwrap_or_default();
            last.start + own.trim_end().len()
        }
        _ => node.end,
    }
}

/// How values are written in one line.
#[derive(Clone, Copy)]
struct Flat {
    quoted: bool,
    compact: bool,
    padded: bool,
}

impl Flat {
    fn key(self, key: &str) -> String {
        self.text(key)
    }

    fn text(self, text: &str) -> String {
        if self.quoted {
            quoted(text)
        } else if is_plain_text(text) {
            text.to_owned()
        } else if text.contains(char::is_control) {
            quoted(text)
        } else {
            single(text)
        }
    }

    fn value(self, new: &New<'_>) -> String {
        let (space, pad) = (
            if self.compact { "" } else { " " },
            if self.padded { " " } else { "" },
        );
        match new {
            New::Text(text) => self.text(text),
            New::List(item) => format!("[{}]", self.text(item)),
            New::Map(entries) => {
                let entries: Vec<_> = entries
                    .iter()
                    .map(|(key, new)| format!("{}:{space}{}", self.key(key), self.value(new)))
                    .collect();
                format!("{{{pad}{}{pad}}}", entries.join(&format!(",{space}")))
            }
        }
    }

    /// One entry a line.
    fn lines(self, new: &New<'_>, lead: &str, step: &str, eol: &str) -> String {
        let deeper = format!("{lead}{step}");
        match new {
            New::Map(entries) => {
                let entries: Vec<_> = entries
                    .iter()
                    .map(|(key, new)| {
                        format!(
                            "{eol}{deeper}{}: {}",
                            self.key(key),
                            self.lines(new, &deeper, step, eol)
                        )
                    })
                    .collect();
                format!("{{{}{eol}{lead}}}", entries.join(","))
            }
            new => self.value(new),
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn single(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// What every reader of YAML takes for a text without quotes.
pub(super) fn is_plain_text(text: &str) -> bool {
    let words = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let begins = text.starts_with("./") || text.starts_with(|c: char| c.is_ascii_alphabetic());
    begins
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._/-+=".contains(&byte))
        && !words.contains(&&*text.to_ascii_lowercase())
}
