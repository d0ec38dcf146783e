//! The gate of a release: a profile or a recording held against the one that was accepted last, and against a team's policy.

mod junit;
mod policy;
mod sarif;
mod wire;

use crate::arch::Arch;
use crate::defaults::{self, Engine};
use crate::diagnostic::Severity;
use crate::diff::permit::{self, Permit};
use crate::diff::{Change, ChangeKind, Diff, Side, Subject, diff};
use crate::profile::ParseError;
use crate::report::Why;
use crate::risk::{Risk, RiskError, Risks};
use crate::syscall;
use std::collections::BTreeSet;

pub use policy::{IncompleteIs, Policy, PolicyError, SubsetOf};

const DAY_NS: u64 = 24 * 3600 * 1_000_000_000;

/// What a check found.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was checked.
    pub subject: Side,
    /// What it was held against.
    pub against: Side,
    /// The rules that were applied, in the order of their codes; the others were not asked for.
    pub applied: BTreeSet<Rule>,
    /// What was found, in the order of the rules and then of names.
    pub findings: Vec<Finding>,
    /// The difference that the check is about.
    pub diff: Diff,
}

/// A rule of `check`. Codes are never reused: the next new one is SC0112.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A call that the baseline does not let through.
    Added,
    /// A call that is let through with more arguments.
    Widened,
    /// The default action lets through more, or the listener is another.
    Settings,
    /// An architecture that the baseline does not let in.
    ArchitectureAdded,
    /// A call that the policy never allows.
    NeverAllow,
    /// More names than the policy allows.
    MaxNames,
    /// A call that the named engine's default does not let through.
    SubsetOf,
    /// An architecture is missing.
    ArchitectureMissing,
    /// The recording may lack calls.
    Incomplete,
    /// The recording is too old.
    MaxAge,
    /// The policy accepts what needs no acceptance any more.
    Unneeded,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 11] = [
        Self::Added,
        Self::Widened,
        Self::Settings,
        Self::ArchitectureAdded,
        Self::NeverAllow,
        Self::MaxNames,
        Self::SubsetOf,
        Self::ArchitectureMissing,
        Self::Incomplete,
        Self::MaxAge,
        Self::Unneeded,
    ];

    /// `SC0101`…
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Added => "SC0101",
            Self::Widened => "SC0102",
            Self::Settings => "SC0103",
            Self::ArchitectureAdded => "SC0104",
            Self::NeverAllow => "SC0105",
            Self::MaxNames => "SC0106",
            Self::SubsetOf => "SC0107",
            Self::ArchitectureMissing => "SC0108",
            Self::Incomplete => "SC0109",
            Self::MaxAge => "SC0110",
            Self::Unneeded => "SC0111",
        }
    }

    /// One word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Widened => "widened",
            Self::Settings => "settings",
            Self::ArchitectureAdded => "architecture_added",
            Self::NeverAllow => "never_allow",
            Self::MaxNames => "max_names",
            Self::SubsetOf => "subset_of",
            Self::ArchitectureMissing => "architectures",
            Self::Incomplete => "incomplete",
            Self::MaxAge => "max_age_days",
            Self::Unneeded => "unneeded",
        }
    }

    /// What it demands, one sentence.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Added => "no call is let through that the baseline denies",
            Self::Widened => "no call is let through with more arguments than in the baseline",
            Self::Settings => {
                "the default action and the listener let through no more than the baseline's"
            }
            Self::ArchitectureAdded => "no architecture is let in that the baseline kills",
            Self::NeverAllow => "no call is let through that the policy never allows",
            Self::MaxNames => "no more names are let through than the policy says",
            Self::SubsetOf => "the named engine's default lets through all of it",
            Self::ArchitectureMissing => "the architectures that the policy names are let in",
            Self::Incomplete => "the recording missed nothing",
            Self::MaxAge => "the newest recording is younger than the policy says",
            Self::Unneeded => "the policy accepts no more than is needed",
        }
    }

    /// What to do when it is broken.
    #[must_use]
    pub fn help(self) -> &'static str {
        match self {
            Self::Added | Self::Widened => {
                "if the program is meant to make this call, put its name under `allow_additions` in the policy, and take it out when the new profile is the baseline"
            }
            Self::Settings => "take over the new baseline on purpose, or restore the setting",
            Self::ArchitectureAdded => {
                "programs of another architecture run now; if they are meant to, list it under `architectures` in the policy"
            }
            Self::NeverAllow => {
                "take the call out of the profile, and the need for it out of the program"
            }
            Self::MaxNames => "see `seccast diff` for what came, or raise `max_names`",
            Self::SubsetOf => {
                "accept it under `subset_of.except`, or give the container the capability that lets the default allow it"
            }
            Self::ArchitectureMissing => {
                "record on such a machine as well, and merge the recordings"
            }
            Self::Incomplete => {
                "record again, from the start of the program, until nothing is missed"
            }
            Self::MaxAge => "record the program as it is today",
            Self::Unneeded => "take the name out of `allow_additions`",
        }
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// An error fails the check.
    pub severity: Severity,
    /// The call, where it is about one.
    pub call: Option<String>,
    /// The ABI, where a recording is checked.
    pub arch: Option<Arch>,
    /// What was found: lower case, one line.
    pub message: String,
    /// Who made the call first, or why it is in the profile.
    pub why: Option<Why>,
    /// Why the call is dangerous, if it is.
    pub risk: Option<Risk>,
}

impl Finding {
    /// The message with all that is known, one line.
    #[must_use]
    pub fn full_message(&self) -> String {
        let mut text = self.message.clone();
        if let Some(why) = &self.why {
            text += &format!("; {why}");
        }
        if let Some(risk) = &self.risk {
            text += &format!("; risk: {risk}");
        }
        text
    }
}

/// Why a check could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The program was built with a broken table of risks.
    #[error(transparent)]
    Risk(#[from] RiskError),
    /// The program was built with a broken default.
    #[error("the default profile of {engine}")]
    Default {
        /// Whose.
        engine: Engine,
        /// What is wrong.
        #[source]
        source: ParseError,
    },
}

impl Outcome {
    /// Whether nothing was found that fails the check.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.count(Severity::Error) == 0
    }

    /// How many findings have this severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count()
    }

    /// As a file: indented by two, keys in a fixed order, a newline at the end. The same outcome gives the same bytes.
    #[must_use]
    pub fn to_json(&self) -> String {
        wire::write(self)
    }

    /// SARIF 2.1.0, for code scanning. `uri` is the checked file relative to the repository, `text` what is in it: a finding about a call
    /// points to the line that names it.
    #[must_use]
    pub fn to_sarif(&self, uri: Option<&str>, text: &str) -> String {
        sarif::write(self, uri, text)
    }

    /// JUnit XML: a test for each rule that was applied, one for each finding that fails.
    #[must_use]
    pub fn to_junit(&self) -> String {
        junit::write(self)
    }
}

/// Holds `subject` against `against` and `policy`, at `now_ns` nanoseconds since the Unix epoch.
///
/// # Errors
/// Only when the program was built with a broken table.
pub fn check(
    subject: &Subject,
    against: &Subject,
    policy: &Policy,
    now_ns: u64,
) -> Result<Outcome, CheckError> {
    let diff = diff(against, subject)?;
    let mut check = Check {
        subject,
        policy,
        risks: Risks::load()?,
        applied: BTreeSet::from([
            Rule::Added,
            Rule::Widened,
            Rule::Settings,
            Rule::ArchitectureAdded,
        ]),
        findings: Vec::new(),
    };
    check.differences(&diff);
    check.never_allow();
    check.max_names();
    check.subset_of()?;
    check.architectures();
    check.incomplete();
    check.max_age(now_ns);
    check.unneeded(&diff);
    let mut findings = check.findings;
    findings.sort_by(|a, b| (a.rule, &a.call, a.arch).cmp(&(b.rule, &b.call, b.arch)));
    Ok(Outcome {
        subject: diff.after.clone(),
        against: diff.before.clone(),
        applied: check.applied,
        findings,
        diff,
    })
}

struct Check<'a> {
    subject: &'a Subject,
    policy: &'a Policy,
    risks: Risks,
    applied: BTreeSet<Rule>,
    findings: Vec<Finding>,
}

impl Check<'_> {
    fn find(&mut self, rule: Rule, severity: Severity, message: String) {
        self.findings.push(Finding {
            rule,
            severity,
            call: None,
            arch: None,
            message,
            why: None,
            risk: None,
        });
    }

    fn find_call(&mut self, rule: Rule, arch: Option<Arch>, name: &str, message: String) {
        self.findings.push(Finding {
            rule,
            severity: Severity::Error,
            call: Some(name.to_owned()),
            arch,
            message,
            why: self.subject.why(arch, name).cloned(),
            risk: self.risks.of(name).cloned(),
        });
    }

    fn differences(&mut self, diff: &Diff) {
        let unaccepted = diff
            .changes
            .iter()
            .filter(|change| change.opens() && !self.policy.allow_additions.contains(&change.name));
        for change in unaccepted {
            let on = on(change);
            let (rule, message) = if change.kind == ChangeKind::Added {
                let how = if self.subject.as_profile().is_some() {
                    "is let through"
                } else {
                    "was recorded"
                };
                (
                    Rule::Added,
                    format!(
                        "{}{on} {how} and {} denies it",
                        change.name, diff.before.label
                    ),
                )
            } else {
                let (before, after) = (&change.before_text, &change.after_text);
                (
                    Rule::Widened,
                    format!("{}{on} was {before} and is {after}", change.name),
                )
            };
            self.find_call(rule, change.arch, &change.name, message);
        }
        for setting in diff.settings.iter().filter(|setting| setting.opens) {
            let message = format!(
                "{} was \"{}\" and is \"{}\"",
                setting.field, setting.before, setting.after
            );
            self.find(Rule::Settings, Severity::Error, message);
        }
        for arch in &diff.architectures_added {
            if arch
                .arch()
                .is_none_or(|arch| !self.policy.architectures.contains(&arch))
            {
                let message = format!(
                    "programs of {arch} are let in and {} kills them",
                    diff.before.label
                );
                self.find(Rule::ArchitectureAdded, Severity::Error, message);
            }
        }
    }

    fn never_allow(&mut self) {
        if self.policy.never_allow.is_empty() && self.policy.never_allow_risk.is_none() {
            return;
        }
        self.applied.insert(Rule::NeverAllow);
        for name in self.subject.names() {
            let level = self.risks.of(name).map(|risk| risk.level);
            if self.policy.forbids(name, level) {
                self.find_call(
                    Rule::NeverAllow,
                    None,
                    name,
                    format!("{name} is let through and the policy never allows it"),
                );
            }
        }
    }

    fn max_names(&mut self) {
        let Some(max) = self.policy.max_names else {
            return;
        };
        self.applied.insert(Rule::MaxNames);
        let names = self.subject.names().len();
        if names > max {
            let message = format!("{names} names are let through and the policy allows {max}");
            self.find(Rule::MaxNames, Severity::Error, message);
        }
    }

    fn subset_of(&mut self) -> Result<(), CheckError> {
        let Some(subset) = &self.policy.subset_of else {
            return Ok(());
        };
        self.applied.insert(Rule::SubsetOf);
        for arch in self.subject.architectures() {
            let own = subset.engine.capabilities().iter().copied();
            let default = match &subset.capabilities {
                Some(names) => {
                    defaults::resolve(subset.engine, arch, names.iter().map(String::as_str))
                }
                None => defaults::resolve(subset.engine, arch, own),
            };
            let default = default.map_err(|source| CheckError::Default {
                engine: subset.engine,
                source,
            })?;
            for name in self.subject.names() {
                if subset.except.contains(name) || syscall::nr(arch, name).is_none() {
                    continue;
                }
                let (is, most) = (
                    self.subject.effect(arch, name),
                    default.profile.effect(name),
                );
                if !Permit::of(&is).within(&Permit::of(&most)) {
                    let message = format!(
                        "{name} on {arch} is {}; {} has {}",
                        permit::effect(&is),
                        default.label(),
                        permit::effect(&most)
                    );
                    self.find_call(Rule::SubsetOf, Some(arch), name, message);
                }
            }
        }
        Ok(())
    }

    fn architectures(&mut self) {
        if self.policy.architectures.is_empty() {
            return;
        }
        self.applied.insert(Rule::ArchitectureMissing);
        for arch in self
            .policy
            .architectures
            .difference(&self.subject.architectures())
        {
            let message = format!("programs of {arch} are not let in and the policy names it");
            self.find(Rule::ArchitectureMissing, Severity::Error, message);
        }
    }

    fn incomplete(&mut self) {
        let severity = match self.policy.incomplete {
            IncompleteIs::Allow => return,
            IncompleteIs::Warn => Severity::Warning,
            IncompleteIs::Forbid => Severity::Error,
        };
        self.applied.insert(Rule::Incomplete);
        match &self.subject.reasons().incomplete {
            None => {
                let message =
                    "whether calls were missed is not known: there is no report beside the profile"
                        .to_owned();
                self.find(Rule::Incomplete, severity, message);
            }
            Some(reasons) => {
                for reason in reasons.clone() {
                    self.find(
                        Rule::Incomplete,
                        severity,
                        format!("calls may be missing: {reason}"),
                    );
                }
            }
        }
    }

    fn max_age(&mut self, now_ns: u64) {
        let Some(max) = self.policy.max_age_days else {
            return;
        };
        self.applied.insert(Rule::MaxAge);
        match self.subject.reasons().recorded_ns {
            None => {
                let message =
                    "when it was recorded is not known: there is no report beside the profile"
                        .to_owned();
                self.find(Rule::MaxAge, Severity::Error, message);
            }
            Some(recorded) => {
                let age = now_ns.saturating_sub(recorded);
                if age > u64::from(max) * DAY_NS {
                    let message = format!(
                        "the newest recording is {} days old and the policy allows {max}",
                        age / DAY_NS
                    );
                    self.find(Rule::MaxAge, Severity::Error, message);
                }
            }
        }
    }

    fn unneeded(&mut self, diff: &Diff) {
        if self.policy.allow_additions.is_empty() {
            return;
        }
        self.applied.insert(Rule::Unneeded);
        let needed = |name: &&String| {
            diff.changes
                .iter()
                .any(|change| change.opens() && change.name == **name)
        };
        let unneeded: Vec<String> = self
            .policy
            .allow_additions
            .iter()
            .filter(|name| !needed(name))
            .cloned()
            .collect();
        for name in unneeded {
            let message = format!("{name} is accepted as an addition and is none");
            self.findings.push(Finding {
                rule: Rule::Unneeded,
                severity: Severity::Info,
                call: Some(name),
                arch: None,
                message,
                why: None,
                risk: None,
            });
        }
    }
}

/// ` on x86_64`, where a recording takes part.
fn on(change: &Change) -> String {
    change
        .arch
        .map(|arch| format!(" on {arch}"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::{Observation, Phase};
    use crate::report::Reasons;
    use crate::{Merged, generate};
    use serde_json::Value;

    fn redis() -> Observation {
        let file = include_bytes!("../../../../profiles/apps/redis/observation.json");
        Observation::from_json(file).unwrap()
    }

    /// The same with a call more.
    fn redis_2() -> Observation {
        let mut observation = redis();
        observation.recording_id = "00000000000000000000000000000002".to_owned();
        let calls = observation
            .calls
            .get_mut(&(Arch::X86_64, Phase::App))
            .unwrap();
        calls.insert("ptrace".to_owned(), calls["accept4"].clone());
        observation
    }

    fn profile(label: &str, observation: Observation) -> Subject {
        let generated = generate(&[observation], &crate::Policy::default()).unwrap();
        let reasons = Reasons::of(&generated.report);
        Subject::profile(label, generated.profile, Arch::X86_64, Some(reasons))
    }

    fn policy(yaml: &str) -> Policy {
        Policy::from_yaml(yaml.as_bytes()).unwrap()
    }

    /// A day after the recording.
    fn now() -> u64 {
        redis().ended_ns + DAY_NS
    }

    fn outcome(subject: &Subject, yaml: &str) -> Outcome {
        let policy = if yaml.is_empty() {
            Policy::default()
        } else {
            policy(yaml)
        };
        check(subject, &profile("redis.json", redis()), &policy, now()).unwrap()
    }

    /// Codes, calls and severities.
    fn found(outcome: &Outcome) -> Vec<(&'static str, &str, &'static str)> {
        outcome
            .findings
            .iter()
            .map(|found| {
                (
                    found.rule.code(),
                    found.call.as_deref().unwrap_or(""),
                    found.severity.name(),
                )
            })
            .collect()
    }

    #[test]
    fn a_release_that_calls_something_new_fails_until_it_is_accepted() {
        let new = profile("redis-2.json", redis_2());
        let failed = outcome(&new, "");
        assert!(!failed.passed());
        assert_eq!(found(&failed), [("SC0101", "ptrace", "error")]);
        assert_eq!(
            failed.findings[0].full_message(),
            "ptrace is let through and redis.json denies it; first by redis-server[26777] /usr/bin/redis-server, 0.060 s after the start; \
             risk: high (other_processes): reads, changes or takes over another process: its memory, its descriptors"
        );
        let accepted = outcome(&new, "allow_additions: [ptrace]");
        assert!(accepted.passed());
        assert_eq!(found(&accepted), []);
        // The recording says the same as its profile, by ABI.
        let recorded = Subject::recorded("2.json", &Merged::of(redis_2()).unwrap()).unwrap();
        let failed = outcome(&recorded, "");
        assert_eq!(found(&failed), [("SC0101", "ptrace", "error")]);
        assert_eq!(failed.findings[0].arch, Some(Arch::X86_64));
        assert!(outcome(&recorded, "allow_additions: [ptrace]").passed());
        // And the same release again passes, with a word that the acceptance has done its work.
        let again = outcome(&profile("redis.json", redis()), "allow_additions: [ptrace]");
        assert!(again.passed());
        assert_eq!(found(&again), [("SC0111", "ptrace", "info")]);
    }

    #[test]
    fn each_field_of_a_policy_fails_for_its_own_reason() {
        type Wanted<'a> = &'a [(&'a str, &'a str, &'a str)];
        let subject = profile("redis.json", redis());
        let cases: [(&str, Wanted<'_>); 13] = [
            (
                "never_allow: [ptrace, socket]",
                &[("SC0105", "socket", "error")],
            ),
            ("never_allow_risk: high", &[]),
            (
                "never_allow_risk: elevated",
                &[("SC0105", "clone", "error"), ("SC0105", "clone3", "error")],
            ),
            ("max_names: 88", &[]),
            ("max_names: 87", &[("SC0106", "", "error")]),
            // docker's default has conditions for two of these and ENOSYS for the third.
            (
                "subset_of: {engine: docker}",
                &[
                    ("SC0107", "clone", "error"),
                    ("SC0107", "clone3", "error"),
                    ("SC0107", "socket", "error"),
                ],
            ),
            (
                "subset_of: {engine: docker, except: [clone, clone3, socket]}",
                &[],
            ),
            ("architectures: [x86_64]", &[]),
            (
                "architectures: [x86_64, aarch64]",
                &[("SC0108", "", "error")],
            ),
            ("max_age_days: 1", &[]),
            ("max_age_days: 0", &[("SC0110", "", "error")]),
            ("incomplete: forbid", &[]),
            ("allow_additions: [socket]", &[("SC0111", "socket", "info")]),
        ];
        for (yaml, expect) in cases {
            assert_eq!(found(&outcome(&subject, yaml)), expect, "{yaml}");
        }
    }

    #[test]
    fn what_is_not_known_is_no_pass_where_it_is_demanded() {
        let old = profile("redis.json", redis());
        let bare = Subject::profile(
            "p.json",
            old.as_profile().unwrap().clone(),
            Arch::X86_64,
            None,
        );
        let mut lossy = redis();
        lossy.losses.insert("map_full".to_owned(), 3);
        let lossy = profile("lossy.json", lossy);
        let cases = [
            (&bare, "incomplete: allow", vec![]),
            (&bare, "incomplete: warn", vec![("SC0109", "", "warning")]),
            (&bare, "incomplete: forbid", vec![("SC0109", "", "error")]),
            (
                &bare,
                "{incomplete: allow, max_age_days: 9}",
                vec![("SC0110", "", "error")],
            ),
            (&lossy, "incomplete: allow", vec![]),
            (&lossy, "incomplete: warn", vec![("SC0109", "", "warning")]),
            (&lossy, "incomplete: forbid", vec![("SC0109", "", "error")]),
        ];
        for (subject, yaml, expect) in cases {
            assert_eq!(
                found(&outcome(subject, yaml)),
                expect,
                "{} {yaml}",
                subject.label()
            );
        }
    }

    #[test]
    fn a_profile_that_lets_everything_in_fails() {
        let mut open = profile("redis.json", redis()).as_profile().unwrap().clone();
        open.default_action = crate::profile::Action::Log;
        open.architectures.insert(Arch::X86.into());
        let open = Subject::profile("open.json", open, Arch::X86_64, None);
        let failed = outcome(&open, "incomplete: allow");
        assert_eq!(
            found(&failed),
            [("SC0103", "", "error"), ("SC0104", "", "error")]
        );
        let accepted = outcome(&open, "{incomplete: allow, architectures: [i386, x86_64]}");
        assert_eq!(found(&accepted), [("SC0103", "", "error")]);
        // What no rule names counts for the engine's default as well.
        let subset = outcome(&open, "{incomplete: allow, subset_of: {engine: podman}}");
        assert!(
            subset
                .findings
                .iter()
                .any(|found| found.call.as_deref() == Some("kexec_load"))
        );
    }

    #[test]
    fn sarif_is_valid_and_points_to_the_line() {
        let schema: Value =
            serde_json::from_str(include_str!("../../tests/sarif/sarif-schema-2.1.0.json"))
                .unwrap();
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.enable_format_assertions();
        compiler.add_resource("sarif.json", schema).unwrap();
        let index = compiler.compile("sarif.json", &mut schemas).unwrap();
        let valid = |text: &str| {
            let value: Value = serde_json::from_str(text).unwrap();
            schemas
                .validate(&value, index)
                .map_err(|error| error.to_string())
                .unwrap();
            value
        };

        let generated = generate(&[redis_2()], &crate::Policy::default()).unwrap();
        let text = generated.profile.to_oci_json();
        let line = text
            .lines()
            .position(|line| line.trim().starts_with("\"ptrace\""))
            .unwrap()
            + 1;
        let failed = outcome(
            &profile("redis-2.json", redis_2()),
            "{never_allow: [ptrace], max_names: 1, allow_additions: [read], architectures: [arm]}",
        );
        assert_eq!(failed.findings.len(), 5);
        let sarif = valid(&failed.to_sarif(Some("./deploy/a b/redis-2.json"), &text));
        let results = sarif["runs"][0]["results"].as_array().unwrap();
        assert_eq!(results.len(), 5);
        let place = &results[0]["locations"][0]["physicalLocation"];
        assert_eq!(
            place["artifactLocation"]["uri"],
            "deploy/a%20b/redis-2.json"
        );
        assert_eq!(place["region"]["startLine"], line);
        for result in results {
            let rule = &sarif["runs"][0]["tool"]["driver"]["rules"]
                [usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
            assert_eq!(rule["id"], result["ruleId"]);
        }
        // Without a file, with an absolute one, and with nothing found.
        valid(&failed.to_sarif(None, ""));
        let absolute = valid(&failed.to_sarif(Some("/p/ü.json"), ""));
        assert_eq!(
            absolute["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
                ["uri"],
            "file:///p/%C3%BC.json"
        );
        let nothing =
            valid(&outcome(&profile("redis.json", redis()), "").to_sarif(Some("redis.json"), ""));
        assert_eq!(nothing["runs"][0]["results"], serde_json::json!([]));
        // The schema does refuse something.
        let mut wrong = nothing;
        wrong["runs"][0]["results"] = serde_json::json!([{ "ruleId": "SC0101" }]);
        assert!(schemas.validate(&wrong, index).is_err());
    }

    #[test]
    fn files_of_a_failed_check() {
        let failed = outcome(
            &profile("redis-2.json", redis_2()),
            "{never_allow: [bpf], max_names: 1, allow_additions: [read]}",
        );
        insta::assert_snapshot!("check_json", failed.to_json());
        insta::assert_snapshot!("check_junit", failed.to_junit());
    }
}
