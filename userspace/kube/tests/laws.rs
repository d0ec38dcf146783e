//! Laws of `change` over manifests that differ in all that means nothing: indentation, line ends, comments, quotes, braces.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

use proptest::prelude::*;
use seccast_kube::manifest::{Outcome, Selection, Wanted, change};
use similar::{ChangeTag, TextDiff};

/// How a manifest is written.
#[derive(Clone, Debug)]
struct Style {
    step: usize,
    list_step: usize,
    dash: usize,
    crlf: bool,
    bom: bool,
    final_newline: bool,
    comments: Vec<u8>,
    context: u8,
    last: u8,
    containers: usize,
    chosen: usize,
    documents: u8,
}

fn style() -> impl Strategy<Value = Style> {
    let shape = (1..7usize, 0..5usize, 1..4usize, any::<[bool; 3]>());
    let rest = (
        proptest::collection::vec(any::<u8>(), 40),
        0..6u8,
        0..9u8,
        1..4usize,
        0..4usize,
        0..4u8,
    );
    (shape, rest).prop_map(
        |(
            (step, list_step, dash, [crlf, bom, final_newline]),
            (comments, context, last, containers, chosen, documents),
        )| Style {
            step,
            list_step,
            dash,
            crlf,
            bom,
            final_newline,
            comments,
            context,
            last,
            containers,
            chosen: chosen % containers,
            documents,
        },
    )
}

/// A Deployment in this style.
fn write(style: &Style) -> String {
    let mut lines: Vec<String> = Vec::new();
    let pad = |depth: usize| " ".repeat(depth * style.step);
    if style.documents & 1 == 1 {
        lines.extend(["---", "# an empty document", "---"].map(str::to_owned));
    }
    lines.extend(
        [
            "apiVersion: apps/v1",
            "kind: Deployment",
            "metadata: {name: web}",
            "spec:",
        ]
        .map(str::to_owned),
    );
    lines.push(format!("{}template:", pad(1)));
    lines.push(format!("{}spec:", pad(2)));
    lines.push(format!("{}containers:", pad(3)));
    let dash = format!(
        "{}{}-{}",
        pad(3),
        " ".repeat(style.list_step),
        " ".repeat(style.dash)
    );
    let key = " ".repeat(dash.len());
    let deeper = format!("{key}{}", " ".repeat(style.step));
    for at in 0..style.containers {
        lines.push(format!("{dash}name: c{at}"));
        match style.context {
            0 => {}
            1 => lines.extend([
                format!("{key}securityContext:"),
                format!("{deeper}runAsUser: {at}"),
            ]),
            2 => lines.push(format!("{key}securityContext: {{runAsUser: {at}}}")),
            3 => lines.push(format!("{key}'securityContext': {{ runAsUser: {at}, }}")),
            4 => lines.extend([
                format!("{key}\"securityContext\":"),
                format!("{deeper}\"runAsUser\": {at}"),
            ]),
            _ => lines.push(format!("{key}securityContext: {{}}")),
        }
        match style.last {
            0 => lines.push(format!("{key}image: 'i:{at}'")),
            1 => lines.extend([
                format!("{key}args:"),
                format!("{key}- |"),
                format!("{deeper}text: {at}"),
                format!("{deeper}- more"),
            ]),
            2 => lines.extend([
                format!("{key}args: [a,"),
                format!("{deeper}\"b # no comment\"]"),
            ]),
            3 => lines.extend([
                format!("{key}args:"),
                format!("{deeper}- plain text"),
                format!("{deeper}  that goes on"),
            ]),
            4 => lines.extend([format!("{key}workingDir: \"a\\"), format!("{deeper}b\"")]),
            5 => lines.extend([
                format!("{key}env:"),
                format!("{key}- name: A"),
                format!("{key}  value: >-"),
                format!("{key}    folded"),
                format!("{key}    text"),
            ]),
            6 => lines.push(format!("{key}stdin:")),
            7 => lines.extend([format!("{key}workingDir: |+"), format!("{deeper}kept")]),
            _ => lines.push(format!("{key}image: i # a comment")),
        }
    }
    if style.documents & 2 == 2 {
        lines.extend(
            [
                "---",
                "apiVersion: v1",
                "kind: ConfigMap",
                "data: {securityContext: seccompProfile}",
            ]
            .map(str::to_owned),
        );
    }
    let eol = if style.crlf { "\r\n" } else { "\n" };
    let mut text = String::new();
    let count = lines.len();
    for (at, line) in lines.into_iter().enumerate() {
        // Not where it would become a part of a text.
        let first = line.trim_start().starts_with(['-', '\'', '"']) || line.contains(": ");
        let comment = style.comments.get(at).copied().unwrap_or(0);
        if comment & 7 == 1 && line.starts_with("metadata") {
            text.push_str(&format!("# seccompProfile: here{eol}"));
        }
        if comment & 7 == 2 && line.trim_start().starts_with("- name: c") {
            text.push_str(&format!("# before{eol}{eol}"));
        }
        text.push_str(&line);
        if comment & 8 == 8
            && first
            && line.ends_with(|c: char| c.is_ascii_alphanumeric())
            && line.contains("name: c")
        {
            text.push_str("   # behind: it");
        }
        if at + 1 < count || style.final_newline {
            text.push_str(eol);
        }
    }
    if style.bom {
        format!("\u{feff}{text}")
    } else {
        text
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn in_and_out_is_nothing_and_in_changes_one_place(style in style()) {
        let before = write(&style);
        let selection = Selection { containers: vec![format!("c{}", style.chosen)], values_path: None };
        let attach = Wanted::Attached("seccast/web.json".to_owned());
        let attached = change(before.as_bytes(), &selection, &attach).unwrap_or_else(|error| panic!("{error}\n{before}"));
        let is_attached = matches!(attached.places[0].outcome, Outcome::Attached { instead_of: None });
        prop_assert!(is_attached);

        let changes = TextDiff::from_lines(&before, &attached.text);
        let changed: Vec<_> = changes.iter_all_changes().enumerate().filter(|(_, change)| change.tag() != ChangeTag::Equal).collect();
        prop_assert_eq!(changed[changed.len() - 1].0 - changed[0].0 + 1, changed.len(), "{}", &attached.text);
        let added: String = changed.iter().filter(|(_, change)| change.tag() == ChangeTag::Insert).map(|(_, change)| change.value()).collect();
        prop_assert_eq!(added.contains('\r'), style.crlf && added.contains('\n'), "{:?}", added);

        let again = change(attached.text.as_bytes(), &selection, &attach).unwrap();
        prop_assert_eq!(&again.text, &attached.text);
        prop_assert_eq!(&again.places[0].outcome, &Outcome::Already);
        let detached = change(attached.text.as_bytes(), &selection, &Wanted::Detached(None)).unwrap();
        prop_assert_eq!(&detached.text, &before);

        // Another profile instead changes only its name.
        let other = Wanted::Attached("other.json".to_owned());
        let replaced = change(attached.text.as_bytes(), &selection, &other).unwrap();
        prop_assert_eq!(replaced.text, attached.text.replace("seccast/web.json", "other.json"));
    }

    #[test]
    fn no_text_makes_it_panic(text in "[ \t\n\r:,#&*!|>'\"%@`{}\\[\\]?~a-zé-]{0,80}", names in proptest::collection::vec("[a-c/]{0,3}", 0..2)) {
        let selection = Selection { containers: names, values_path: None };
        for head in ["", "services:\n  a:\n", "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: a\n    "] {
            let text = format!("{head}{text}");
            for wanted in [Wanted::Attached("x.json".to_owned()), Wanted::Detached(None)] {
                if let Ok(done) = change(text.as_bytes(), &selection, &wanted) {
                    let again = change(done.text.as_bytes(), &selection, &wanted).unwrap_or_else(|error| panic!("{error}\n{text}\n{}", done.text));
                    prop_assert_eq!(again.text, done.text);
                }
            }
        }
    }
}
