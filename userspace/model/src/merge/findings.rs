//! What recordings give reason to say, whatever is made of them.

use super::observations::{Merged, Presence};
use crate::diagnostic::{Diagnostic, Severity, list};
use crate::observation::Target;
use crate::report::Incomplete;
use std::collections::{BTreeMap, BTreeSet};

impl Merged {
    /// Findings about the recordings, in the order of their codes.
    #[must_use]
    pub fn diagnose(&self) -> Vec<Diagnostic> {
        let mut findings = Vec::new();
        let mut find = |code, severity, message: String, advice: Option<&str>| {
            findings.push(Diagnostic {
                code,
                severity,
                message,
                advice: advice.map(str::to_owned),
            });
        };
        let of = self.recordings.len();
        let recordings = || self.recordings.values();

        let filtered = recordings().filter(|one| one.filtered).count();
        if filtered > 0 {
            find(
                "SC0004",
                Severity::Warning,
                format!(
                    "{filtered} of {of} recordings ran under a filter: what it denied, and what would have followed, was not recorded"
                ),
                Some(
                    "record with the audit profile (`generate --audit`), which loads a filter that denies nothing",
                ),
            );
        }

        for reason in self.incomplete() {
            let (code, advice) = match reason {
                Incomplete::Losses { .. } => ("SC0005", "record again"),
                Incomplete::StartedLate { .. } => (
                    "SC0006",
                    "arm the recording with `--wait` and restart the target, or merge with a recording that has the start of the same image, container \
                     name and program",
                ),
                Incomplete::UndecidedEntered { .. } => (
                    "SC0007",
                    "say what these processes are, with `--entered app` or `--entered runtime` of `record` or `generate`",
                ),
                Incomplete::Unproven { ref doubt, .. } => ("SC0020", doubt.advice()),
            };
            find(code, Severity::Error, reason.to_string(), Some(advice));
        }

        let evidence = || recordings().filter_map(|one| one.evidence.as_ref());
        let cut = evidence().filter(|it| it.without_its_end()).count();
        if cut > 0 {
            find(
                "SC0021",
                Severity::Warning,
                format!(
                    "the application still ran at the end of {cut} of {of} recordings: what it calls to save and to stop was not recorded"
                ),
                Some(
                    "stop the application itself and let the recording end with it, without --for or --until",
                ),
            );
        }

        if recordings().any(|one| one.own_filter) {
            find(
                "SC0009",
                Severity::Info,
                "the application installs a filter of its own: what that denies is not needed"
                    .to_owned(),
                None,
            );
        }

        let late = recordings()
            .filter(|one| one.started_late_ns.is_some())
            .count()
            .saturating_sub(self.without_start().len());
        if late > 0 {
            find(
                "SC0013",
                Severity::Info,
                format!(
                    "{late} of {of} recordings began after their target's start; the start is taken from others of the same target"
                ),
                None,
            );
        }

        let unprivileged: BTreeSet<&String> = recordings()
            .flat_map(|one| &one.unprivileged_exec)
            .collect();
        if !unprivileged.is_empty() {
            let files: Vec<String> = unprivileged
                .iter()
                .map(|file| file.escape_debug().to_string())
                .collect();
            find(
                "SC0014",
                Severity::Warning,
                format!(
                    "executed without the privileges of their set-id bits or file capabilities, which ptrace takes away: {}",
                    list(&files)
                ),
                Some(
                    "what they call with their privileges is missing; record as root, where eBPF takes nothing away",
                ),
            );
        }

        let targets = targets(self);
        if targets.len() > 1 {
            find(
                "SC0015",
                Severity::Warning,
                format!(
                    "the recordings are of different targets: {}",
                    list(&targets)
                ),
                Some(
                    "where these are not replicas of one workload, make a profile for each: this one allows each what any of them needs",
                ),
            );
        }

        let mut sometimes: BTreeMap<Presence, Vec<&str>> = BTreeMap::new();
        for (name, presence) in self.presence() {
            if presence.seen < presence.of {
                sometimes.entry(presence).or_default().push(name);
            }
        }
        if !sometimes.is_empty() {
            let groups: Vec<String> = sometimes
                .iter()
                .map(|(presence, names)| format!("in {presence}: {}", list(names)))
                .collect();
            find(
                "SC0016",
                Severity::Info,
                format!("not seen in every recording; {}", groups.join("; ")),
                None,
            );
        }
        findings
    }
}

/// The images, or the names of containers whose image is not known, where there is more than one.
fn targets(merged: &Merged) -> Vec<String> {
    // An engine's ids say nothing; those of a runtime alone are names.
    let is_name = |id: &&String| !id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let name = |target: &'_ Target| -> Option<String> {
        let id = || target.container_id.as_ref().filter(is_name);
        let name = target.image.as_ref().or(target.container_name.as_ref());
        name.or_else(id).map(|name| name.escape_debug().to_string())
    };
    let names: BTreeSet<String> = merged
        .recordings
        .values()
        .filter_map(|one| name(&one.target))
        .collect();
    names.into_iter().collect()
}
