//! JUnit XML, as CI systems show it: what `check` and `verify` write.

use std::fmt::Write as _;

/// One test of a suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What it belongs to, like `seccast.check`.
    pub class: String,
    /// What was tested.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Passed,
    /// Not asked for.
    Skipped {
        /// Why.
        message: String,
    },
    /// Not well.
    Failed {
        /// A stable word for the kind of failure.
        kind: String,
        /// One line.
        message: String,
        /// All that is known.
        text: String,
    },
    /// Not known: the test itself could not decide.
    Error {
        /// A stable word for the reason.
        kind: String,
        /// One line.
        message: String,
        /// The next step.
        text: String,
    },
}

/// A file with one suite. It has no time stamps: the same cases give the same bytes.
#[must_use]
pub fn suite(name: &str, cases: &[Case]) -> String {
    let count =
        |test: fn(&Outcome) -> bool| cases.iter().filter(|case| test(&case.outcome)).count();
    let failures = count(|outcome| matches!(outcome, Outcome::Failed { .. }));
    let errors = count(|outcome| matches!(outcome, Outcome::Error { .. }));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped { .. }));
    let counts = format!(
        "tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\"",
        cases.len()
    );
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n  <testsuite name=\"{}\" {counts} skipped=\"{skipped}\">\n",
        escape(name)
    );
    for case in cases {
        let _ = write!(
            xml,
            "    <testcase classname=\"{}\" name=\"{}\"",
            escape(&case.class),
            escape(&case.name)
        );
        let _ = match &case.outcome {
            Outcome::Passed => writeln!(xml, "/>"),
            Outcome::Skipped { message } => writeln!(
                xml,
                ">\n      <skipped message=\"{}\"/>\n    </testcase>",
                escape(message)
            ),
            Outcome::Failed {
                kind,
                message,
                text,
            }
            | Outcome::Error {
                kind,
                message,
                text,
            } => {
                let tag = match &case.outcome {
                    Outcome::Error { .. } => "error",
                    _ => "failure",
                };
                writeln!(
                    xml,
                    ">\n      <{tag} type=\"{}\" message=\"{}\">{}</{tag}>\n    </testcase>",
                    escape(kind),
                    escape(message),
                    escape(text)
                )
            }
        };
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

/// Text and attribute values; what XML 1.0 cannot hold becomes U+FFFD.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => {
                let _ = write!(out, "&#{};", u32::from(c));
            }
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_form() {
        let case = |name: &str, outcome| Case {
            class: "seccast.check".to_owned(),
            name: name.to_owned(),
            outcome,
        };
        let cases = [
            case("max_names", Outcome::Passed),
            case(
                "age",
                Outcome::Skipped {
                    message: "not in the policy".to_owned(),
                },
            ),
            case(
                "ptrace",
                Outcome::Failed {
                    kind: "SC0101".to_owned(),
                    message: "by \"<a\u{1b}&b>\"".to_owned(),
                    text: "one\ntwo".to_owned(),
                },
            ),
        ];
        insta::assert_snapshot!(suite("web.json", &cases));
    }
}
