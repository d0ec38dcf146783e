//! What a profile gives reason to say, and the recordings that it was made of.

use crate::arch::Arch;
use crate::diagnostic::{Diagnostic, Severity, list};
use crate::merge::Merged;
use crate::report::{Origin, Report};
use crate::syscall;
use std::collections::{BTreeMap, BTreeSet};

/// `unfiltered`: calls that were recorded and pass every filter.
pub(super) fn diagnose(
    merged: &Merged,
    report: &Report,
    unfiltered: &BTreeSet<String>,
) -> Vec<Diagnostic> {
    let mut findings = merged.diagnose();
    let mut find = |code, severity, message: String, advice: Option<&str>| {
        findings.push(Diagnostic {
            code,
            severity,
            message,
            advice: advice.map(str::to_owned),
        });
    };

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

    if !unfiltered.is_empty() {
        let names: Vec<&String> = unfiltered.iter().collect();
        find(
            "SC0017",
            Severity::Info,
            format!(
                "left out, since the recorded kernel lets them through every filter: {}",
                list(&names)
            ),
            Some(
                "a probe of the kernel makes them, not the application; if nodes have a kernel before 6.14 and probe it, record there",
            ),
        );
    }

    findings.sort_by_key(|finding| finding.code);
    findings
}
