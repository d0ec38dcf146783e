//! The outcome for CI systems that show tests.

use super::{Outcome, Rule};
use crate::diagnostic::Severity;
use crate::junit::{self, Case};

pub(super) fn write(outcome: &Outcome) -> String {
    let case = |name: String, result| Case {
        class: "seccast.check".to_owned(),
        name,
        outcome: result,
    };
    let mut cases = Vec::new();
    for rule in Rule::ALL {
        let name = || format!("{} {}: {}", rule.code(), rule.name(), rule.text());
        if !outcome.applied.contains(&rule) {
            let message = "not in the policy".to_owned();
            cases.push(case(name(), junit::Outcome::Skipped { message }));
            continue;
        }
        let before = cases.len();
        let failed = outcome
            .findings
            .iter()
            .filter(|found| found.rule == rule && found.severity == Severity::Error);
        for found in failed {
            let kind = rule.code().to_owned();
            let title = match (&found.call, found.arch) {
                (Some(call), Some(arch)) => format!("{kind} {}: {call} on {arch}", rule.name()),
                (Some(call), None) => format!("{kind} {}: {call}", rule.name()),
                (None, _) => name(),
            };
            let failure = junit::Outcome::Failed {
                kind,
                message: found.message.clone(),
                text: format!("{}\n{}", found.full_message(), rule.help()),
            };
            cases.push(case(title, failure));
        }
        if cases.len() == before {
            cases.push(case(name(), junit::Outcome::Passed));
        }
    }
    junit::suite(&format!("seccast check {}", outcome.subject.label), &cases)
}
