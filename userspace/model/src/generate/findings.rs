//! What the data itself gives reason to say. Codes are never reused: the next new one is SC0017.

use crate::arch::Arch;
use crate::diagnostic::{Diagnostic, Severity};
use crate::merge::Merged;
use crate::report::{Incomplete, Origin, Report};
use crate::syscall;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn diagnose(merged: &Merged, report: &Report) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let mut find = |code, severity, message: String, advice: Option<&str>| {
        findings.push(Diagnostic {
            code,
            severity,
            message,
            advice: advice.map(str::to_owned),
        });
    };
    let of = merged.recordings.len();
    let recordings = || merged.recordings.values();

    if !report.unknown.is_empty() {
        let numbers: Vec<String> = report
            .unknown
            .iter()
            .map(|unknown| format!("{} on {}", unknown.nr, unknown.arch))
            .collect();
        find(
            "SC0001",
            Severity::Warning,
            format!(
                "calls by numbers that have no name cannot be allowed: {}",
                list(&numbers)
            ),
            Some(
                "the kernel answers ENOSYS to a number that it does not have, and so does this profile; a newer seccast may know the name",
            ),
        );
    }

    let mut newer: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in report.syscalls.keys() {
        if let Some(release) = syscall::info(name).and_then(|info| info.since_libseccomp)
            && release != syscall::COMMON_LIBSECCOMP
        {
            newer.entry(release).or_default().push(name);
        }
    }
    if !newer.is_empty() {
        let groups: Vec<String> = newer
            .iter()
            .map(|(release, names)| format!("{} (libseccomp {release})", names.join(" ")))
            .collect();
        find(
            "SC0002",
            Severity::Warning,
            format!(
                "nodes with an older libseccomp ignore {}: there they fail with ENOSYS",
                list(&groups)
            ),
            Some(
                "run the container once on the oldest node before you rely on these calls; Debian 12 knows the names of 2.5.5",
            ),
        );
    }

    if report.architectures.len() > 1 {
        let mut seen_by: BTreeMap<Vec<&str>, Vec<&str>> = BTreeMap::new();
        for (name, origins) in &report.syscalls {
            let by: BTreeSet<Arch> = origins
                .iter()
                .filter_map(|origin| match origin {
                    Origin::Recorded(seen) => Some(seen.arch),
                    _ => None,
                })
                .collect();
            let elsewhere = |arch: &Arch| !by.contains(arch) && syscall::nr(*arch, name).is_some();
            if !by.is_empty() && report.architectures.keys().any(elsewhere) {
                seen_by
                    .entry(by.iter().map(|arch| arch.name()).collect())
                    .or_default()
                    .push(name);
            }
        }
        for (arches, names) in seen_by {
            find(
                "SC0003",
                Severity::Warning,
                format!(
                    "seen by {} only, allowed on every listed architecture: {}",
                    arches.join(" and "),
                    list(&names)
                ),
                Some(
                    "a profile has one list for all its architectures; a container for each ABI would keep them apart",
                ),
            );
        }
    }

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

    for reason in &report.incomplete {
        let (code, advice) = match reason {
            Incomplete::Losses { .. } => ("SC0005", "record again"),
            Incomplete::StartedLate { .. } => (
                "SC0006",
                "arm the recording with `--wait` and restart the target, or merge with a recording that has the start",
            ),
            Incomplete::UndecidedEntered { .. } => (
                "SC0007",
                "say what these processes are, with `--entered app` or `--entered runtime` of `record` or `generate`",
            ),
        };
        find(code, Severity::Error, reason.to_string(), Some(advice));
    }

    if !report.denied.is_empty() {
        let names: Vec<&String> = report.denied.keys().collect();
        find(
            "SC0008",
            Severity::Info,
            format!(
                "tried, denied by a filter of the recorded target, and left out: {}",
                list(&names)
            ),
            Some("`--include-denied` allows them"),
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

    if !report.no_new_privs_saves.is_empty() {
        let names: Vec<&String> = report.no_new_privs_saves.iter().collect();
        find(
            "SC0010",
            Severity::Info,
            format!(
                "`allowPrivilegeEscalation: false` would save {} names: {}",
                names.len(),
                list(&names)
            ),
            Some("set it in the Pod (in OCI: noNewPrivileges) and generate with `--no-new-privs`"),
        );
    }

    if report.syscalls.contains_key("io_uring_setup") {
        find(
            "SC0011",
            Severity::Warning,
            "io_uring does its work without system calls: neither a recording nor a profile sees what is done through it".to_owned(),
            Some("switch io_uring off in the application where it can be"),
        );
    }

    let unnamed: Vec<&String> = report
        .syscalls
        .keys()
        .filter(|name| syscall::info(name).is_none())
        .collect();
    if !unnamed.is_empty() {
        find(
            "SC0012",
            Severity::Warning,
            format!(
                "names that this version does not know were recorded, by a newer one perhaps, and are allowed: {}",
                list(&unnamed)
            ),
            Some("a runtime ignores a name that its libseccomp does not know"),
        );
    }

    let late = recordings()
        .filter(|one| one.started_late_ns.is_some())
        .count();
    if late > 0 && late < of {
        find(
            "SC0013",
            Severity::Info,
            format!(
                "{late} of {of} recordings began after their target's start; the start is taken from the others"
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

    let targets = targets(merged);
    if targets.len() > 1 {
        find(
            "SC0015",
            Severity::Warning,
            format!(
                "the recordings are of different targets: {}",
                list(&targets)
            ),
            Some(
                "a profile of several images allows each what any of them needs; make one for each",
            ),
        );
    }

    let sometimes: Vec<String> = merged
        .seen_sometimes()
        .into_iter()
        .filter(|(name, _)| report.syscalls.contains_key(*name))
        .map(|(name, presence)| format!("{name} {presence}"))
        .collect();
    if !sometimes.is_empty() {
        find(
            "SC0016",
            Severity::Info,
            format!("seen in some of the recordings only: {}", list(&sometimes)),
            None,
        );
    }
    findings
}

/// The images, or the names of containers without an image, where there is more than one.
fn targets(merged: &Merged) -> Vec<String> {
    let targets = || merged.recordings.values().map(|one| &one.target);
    let images: BTreeSet<&String> = targets()
        .filter_map(|target| target.image.as_ref())
        .collect();
    let names = targets().filter(|target| target.image.is_none());
    let names: BTreeSet<&String> = names.filter_map(|it| it.container_name.as_ref()).collect();
    images
        .union(&names)
        .map(|name| name.escape_debug().to_string())
        .collect()
}

/// At most 20, then how many more.
fn list<T: AsRef<str>>(names: &[T]) -> String {
    let shown: Vec<&str> = names.iter().take(20).map(AsRef::as_ref).collect();
    let more = names.len() - shown.len();
    if more == 0 {
        shown.join(", ")
    } else {
        format!("{} and {more} more", shown.join(", "))
    }
}
