//! Verdicts, for people and machines.

use seccast_model::{
    Observation, Profile,
    denial::{Answer, Denial, Denier},
    junit::{Case, Outcome, suite},
    observation::wire,
    profile::{Action, Rule},
    verdict::{self, Blame, Finding, How, Verdict, patched},
};
use serde_json::{Value, json};
use std::{fmt::Write as _, time::Duration};

/// Processes that are listed of a call.
const PROCESSES: usize = 4;

/// For people.
pub fn text(name: &str, profile: &Profile, observation: &Observation, verdict: &Verdict) -> String {
    let mut text = String::new();
    let target = super::target(&observation.target);
    let found = verdict.findings.len();
    let outcome = verdict.outcome();
    let word = match outcome {
        verdict::Outcome::Pass => "PASS",
        verdict::Outcome::Fail => "FAIL",
        verdict::Outcome::Inconclusive => "INCONCLUSIVE",
    };
    let what = match (found, outcome) {
        (0, verdict::Outcome::Pass) => "nothing was denied".to_owned(),
        (0, _) => "nothing was seen to be denied, which is not proof that nothing was".to_owned(),
        (1, _) => "1 call denied".to_owned(),
        (n, _) => format!("{n} calls denied"),
    };
    let _ = writeln!(text, "{word}  {target} under {name}: {what}");
    for finding in &verdict.findings {
        let _ = writeln!(text, "  {}", describe(finding));
    }
    let doubts = verdict.doubts.iter();
    for doubt in doubts.filter(|_| outcome == verdict::Outcome::Inconclusive) {
        let _ = writeln!(text, "  not proven: {doubt}");
        let _ = writeln!(text, "    hint: {}", doubt.advice());
    }
    if let (verdict::Outcome::Pass, Some(window)) = (outcome, window(observation)) {
        let _ = writeln!(text, "  {window}");
    }
    if !verdict.tolerated.is_empty() {
        let names: Vec<_> = verdict.tolerated.iter().map(Finding::shown).collect();
        let _ = writeln!(
            text,
            "  the runtime was denied these and started it all the same: {}",
            names.join(", ")
        );
    }
    if !verdict.by_others.is_empty() {
        let names: Vec<_> = verdict.by_others.iter().map(Finding::shown).collect();
        let _ = writeln!(
            text,
            "  denied by another filter, and allowed by the profile: {}",
            names.join(", ")
        );
    }
    if !verdict.unjudged.is_empty() {
        let names: Vec<_> = verdict.unjudged.iter().map(String::as_str).collect();
        let _ = writeln!(
            text,
            "  not judged, since the profile looks at arguments that are not recorded: {}",
            names.join(", ")
        );
    }
    if verdict.under_way > 0 {
        let _ = writeln!(
            text,
            "  not judged, since they were under way when the watching began: {} calls, at most one a thread",
            verdict.under_way
        );
    }
    if !verdict.started && found > 0 {
        let _ = writeln!(
            text,
            "  the application did not start: the runtime itself is held to the profile before it executes it, whatever its own message says"
        );
    }
    let native = observation.machine.arch;
    if let Some(patched) = patched(profile, native, &verdict.findings) {
        let _ = writeln!(
            text,
            "  the smallest change that allows it: {}",
            change(profile, &patched)
        );
    }
    super::printable(&text)
}

/// Of a target that ran already, or runs on: the time for which the verdict holds.
fn window(observation: &Observation) -> Option<String> {
    let evidence = observation.evidence.as_ref()?;
    let late = observation.started_late_ns.is_some();
    if !late && evidence.running.is_empty() {
        return None;
    }
    let nanoseconds = observation.ended_ns.saturating_sub(observation.started_ns);
    let seconds = Duration::from_millis(nanoseconds / 1_000_000);
    let seconds = humantime::format_duration(seconds);
    Some(match (late, evidence.running.is_empty()) {
        (true, true) => format!("this holds for the last {seconds} of its life"),
        (true, false) => format!("this holds for the {seconds} in which it was watched"),
        (false, _) => format!("this holds for the first {seconds} of its life"),
    })
}

/// What a patch adds, in a few words.
fn change(profile: &Profile, patched: &Profile) -> String {
    let mut parts = Vec::new();
    for rule in &patched.rules {
        let same = |old: &&Rule| old.action == rule.action && old.conditions == rule.conditions;
        let old: Vec<&Rule> = profile.rules.iter().filter(same).collect();
        let names = rule.names.iter().map(String::as_str);
        let new: Vec<&str> = names
            .filter(|name| !old.iter().any(|rule| rule.names.contains(*name)))
            .collect();
        if rule.action != Action::Allow || new.is_empty() {
            continue;
        }
        let conditions = rule.conditions.iter();
        let values: Vec<_> = conditions
            .map(|at| format!("argument {} = {:#x}", at.index, at.value_two))
            .collect();
        parts.push(match &*values {
            [] => format!("allow {}", new.join(", allow ")),
            values => format!("allow {} with {}", new.join(", "), values.join(" and ")),
        });
    }
    for arch in patched.architectures.difference(&profile.architectures) {
        parts.push(format!("list {arch}"));
    }
    parts.join(", ")
}

/// A denied call on one line. Whose denial it is comes with the verdict.
pub fn denial(denial: &Denial) -> String {
    describe(&Finding::denied(denial, Blame::ByProfile))
}

fn describe(finding: &Finding) -> String {
    let mut line = format!(
        "{} ({}, {})",
        finding.shown(),
        finding.arch,
        finding.phase.name()
    );
    let _ = match finding.how {
        How::Denied { result, count, .. } => {
            let answer = Answer::of(finding.nr, result);
            write!(line, ": {} {answer}", times(count))
        }
        How::WouldBe(action) => write!(line, ": happened, the profile would {}", verb(action)),
    };
    let by: Vec<_> = finding
        .processes
        .iter()
        .take(PROCESSES)
        .map(process)
        .collect();
    if !by.is_empty() {
        let more = match finding.processes.len().saturating_sub(PROCESSES) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let _ = write!(line, ", by {}{more}", by.join(", "));
    }
    if let Some(sample) = finding.samples.first() {
        let values: Vec<_> = sample.iter().map(|value| format!("{value:#x}")).collect();
        let _ = write!(line, "; arguments {}", values.join(" "));
    }
    line + &blame(finding.blame)
}

/// Whose denial it is, if it is not the profile's, with the next step.
fn blame(blame: Blame) -> String {
    match blame {
        Blame::ByProfile => String::new(),
        Blame::ByAnotherFilter => "; the profile allows it, so another filter denied it: look for an outer filter, or one that the program \
             installs"
            .to_owned(),
        Blame::UnknownToLibseccomp { since } => format!(
            "; the profile allows it, but a libseccomp before {since} ignores the name: update libseccomp on this machine"
        ),
    }
}

fn process(process: &Denier) -> String {
    let file = match &process.exe {
        Some(exe) if !exe.ends_with(&process.comm) => format!(" {exe}"),
        _ => String::new(),
    };
    format!("{}[{}]{file}", process.comm, process.pid)
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        n => format!("{n} times"),
    }
}

fn verb(action: Action) -> String {
    match action {
        Action::KillProcess | Action::KillThread => "kill".to_owned(),
        Action::Trap => "send SIGSYS".to_owned(),
        Action::Errno(errno) => format!("answer {}", Answer::Errno(errno)),
        Action::Trace(_) => "ask a tracer".to_owned(),
        Action::Notify => "ask the listener".to_owned(),
        Action::Log => "deny it outside of complain mode".to_owned(),
        Action::Allow => "allow it".to_owned(),
    }
}

/// For machines: `seccast/verdict.v1`.
pub fn json(
    name: &str,
    outcome: verdict::Outcome,
    tried: &[(Observation, Verdict)],
    minimal: Option<Value>,
) -> String {
    let one = |(observation, verdict): &(Observation, Verdict)| {
        let target = &observation.target;
        json!({
            "verdict": verdict.outcome().name(),
            "passed": verdict.passed(),
            "doubts": verdict.doubts.iter().map(|doubt| json!({
                "reason": doubt.name(),
                "message": doubt.to_string(),
                "next_step": doubt.advice(),
            })).collect::<Vec<_>>(),
            "evidence": observation.evidence.as_ref().map(wire::evidence),
            "started": verdict.started,
            "recording_id": observation.recording_id,
            "target": {
                "engine": target.engine,
                "runtime": target.runtime,
                "container_id": target.container_id,
                "container_name": target.container_name,
                "image": target.image,
                "command": target.command,
            },
            "findings": verdict.findings.iter().map(finding).collect::<Vec<_>>(),
            "tolerated": verdict.tolerated.iter().map(finding).collect::<Vec<_>>(),
            "by_others": verdict.by_others.iter().map(finding).collect::<Vec<_>>(),
            "unjudged": verdict.unjudged,
            "losses": verdict.losses,
            "under_way": verdict.under_way,
        })
    };
    let mut document = json!({
        "schema": "seccast/verdict.v1",
        "profile": name,
        "verdict": outcome.name(),
        "passed": outcome == verdict::Outcome::Pass,
        "runs": tried.iter().map(one).collect::<Vec<_>>(),
    });
    if let (Some(document), Some(minimal)) = (document.as_object_mut(), minimal) {
        document.insert("minimal".to_owned(), minimal);
    }
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

/// For CI systems: a test for each run that passed, and one for each call that was denied.
pub fn junit(name: &str, tried: &[(Observation, Verdict)]) -> String {
    let mut cases = Vec::new();
    for (observation, verdict) in tried {
        let target = super::target(&observation.target);
        let mut case = |name: String, outcome| {
            cases.push(Case {
                class: "seccast.verify".to_owned(),
                name,
                outcome,
            });
        };
        if verdict.passed() {
            case(target, Outcome::Passed);
            continue;
        }
        for finding in &verdict.findings {
            let failure = Outcome::Failed {
                kind: "denied".to_owned(),
                message: describe(finding),
                text: String::new(),
            };
            case(format!("{target}: {}", finding.shown()), failure);
        }
        // What is not proven is an error of the test, not a failure of the profile.
        let doubts = verdict.doubts.iter();
        let inconclusive = verdict.outcome() == verdict::Outcome::Inconclusive;
        for doubt in doubts.filter(|_| inconclusive) {
            let error = Outcome::Error {
                kind: doubt.name().to_owned(),
                message: doubt.to_string(),
                text: doubt.advice().to_owned(),
            };
            case(format!("{target}: {}", doubt.name()), error);
        }
    }
    suite(&format!("seccast verify {name}"), &cases)
}

fn finding(finding: &Finding) -> Value {
    let mut value = json!({
        "arch": finding.arch.name(),
        "phase": finding.phase.name(),
        "nr": finding.nr,
        "name": finding.name,
        "processes": finding.processes.iter().map(|process| json!({
            "pid": process.pid,
            "comm": process.comm,
            "exe": process.exe,
            "count": process.count,
        })).collect::<Vec<_>>(),
        "samples": finding.samples.iter().map(|sample| {
            sample.iter().map(|value| format!("{value:#x}")).collect::<Vec<_>>()
        }).collect::<Vec<_>>(),
        "blame": match finding.blame {
            Blame::ByProfile => json!({ "by": "profile" }),
            Blame::ByAnotherFilter => json!({ "by": "another_filter" }),
            Blame::UnknownToLibseccomp { since } => json!({ "by": "libseccomp", "since": since }),
        },
    });
    let how = match finding.how {
        How::Denied {
            result,
            count,
            others,
        } => json!({ "denied": { "result": result, "count": count, "others": others } }),
        How::WouldBe(action) => json!({ "would_be": {
            "action": action.oci_name(),
            "errno": action.errno(),
        } }),
    };
    if let (Some(object), Value::Object(how)) = (value.as_object_mut(), how) {
        object.extend(how);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use seccast_model::profile::{Condition, Op};

    #[test]
    fn a_change_is_told_whatever_rules_stood_in_its_way() {
        let rule = |names: &[&str], action, values: &[(u8, u64)]| Rule {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            action,
            conditions: values
                .iter()
                .map(|(index, value_two)| Condition {
                    index: *index,
                    op: Op::MaskedEq,
                    value: u64::from(u32::MAX),
                    value_two: *value_two,
                })
                .collect(),
        };
        let with = |rules| Profile {
            rules,
            ..Profile::allowing([].into(), [].into())
        };
        let (allow, deny) = (Action::Allow, Action::Errno(1));
        let before = with(vec![
            rule(&["read"], allow, &[]),
            rule(&["write", "close"], deny, &[]),
            rule(&["fcntl", "ioctl"], allow, &[(1, 3)]),
        ]);
        let cases = [
            (
                vec![
                    rule(&["read", "write"], allow, &[]),
                    rule(&["close"], deny, &[]),
                    rule(&["fcntl", "ioctl"], allow, &[(1, 3)]),
                ],
                "allow write",
            ),
            (
                vec![
                    rule(&["fcntl", "read", "write"], allow, &[]),
                    rule(&["close"], deny, &[]),
                    rule(&["ioctl"], allow, &[(1, 3)]),
                ],
                "allow fcntl, allow write",
            ),
            (
                [
                    before.rules.clone(),
                    vec![rule(&["socket"], allow, &[(0, 2), (1, 1)])],
                ]
                .concat(),
                "allow socket with argument 0 = 0x2 and argument 1 = 0x1",
            ),
        ];
        for (rules, says) in cases {
            assert_eq!(change(&before, &with(rules)), says);
        }
    }

    #[test]
    fn what_a_profile_would_do_is_told_by_its_errno() {
        assert_eq!(verb(Action::Errno(1)), "answer EPERM");
        assert_eq!(verb(Action::Errno(38)), "answer ENOSYS");
        assert_eq!(verb(Action::Errno(0)), "answer errno 0");
        assert_eq!(verb(Action::Trap), "send SIGSYS");
    }

    #[test]
    fn a_denial_that_the_profile_allows_names_its_origin() {
        use seccast_model::{Arch, observation::Phase};
        let says = |blame| {
            let denial = Denial {
                arch: Arch::X86_64,
                phase: Phase::App,
                nr: 462,
                name: Some("mseal".to_owned()),
                result: -38,
                count: 1,
                processes: Vec::new(),
                others: 0,
                samples: Vec::new(),
            };
            let found = Finding::denied(&denial, blame);
            let by = finding(&found)["blame"]["by"].as_str().map(str::to_owned);
            (describe(&found), by.unwrap_or_default())
        };
        let (line, by) = says(Blame::ByProfile);
        assert_eq!(line, "mseal (x86_64, app): once ENOSYS");
        assert_eq!(by, "profile");
        let (line, by) = says(Blame::ByAnotherFilter);
        assert!(line.contains("another filter denied it"), "{line}");
        assert_eq!(by, "another_filter");
        let (line, by) = says(Blame::UnknownToLibseccomp { since: "2.6.0" });
        assert!(
            line.contains("a libseccomp before 2.6.0 ignores the name"),
            "{line}"
        );
        assert_eq!(by, "libseccomp");
    }
}
