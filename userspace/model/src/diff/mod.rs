//! What changed between two profiles, two recordings, or a recording and a profile.
//!
//! Profiles are compared by what they do with calls, not by their text: the order of rules, their grouping and names that have the
//! default's action make no difference. Where it cannot be shown that conditions became wider or narrower, the change says `changed`.

mod markdown;
pub(crate) mod permit;
mod subject;
pub(crate) mod wire;

use crate::arch::Arch;
use crate::profile::{Action, Effect, OciArch};
use crate::report::Why;
use crate::risk::{Risk, RiskError, Risks};
use permit::Permit;
use std::collections::BTreeSet;

pub use subject::Subject;

/// What differs between `before` and `after`.
#[derive(Clone, Debug)]
pub struct Diff {
    /// One side.
    pub before: Side,
    /// The other.
    pub after: Side,
    /// Default action, flags, listener: each with its values before and after.
    pub settings: Vec<Setting>,
    /// Architectures that only `after` lets in.
    pub architectures_added: BTreeSet<OciArch>,
    /// Architectures that only `before` lets in.
    pub architectures_removed: BTreeSet<OciArch>,
    /// Calls that differ, by ABI where a recording takes part, then by name.
    pub changes: Vec<Change>,
}

/// One side of a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// What it is called, mostly a file's name.
    pub label: String,
    /// `profile` or `observation`.
    pub kind: &'static str,
    /// Names that are let through, with conditions or without.
    pub names: usize,
}

/// Something of a profile that is not about one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The field of the OCI specification.
    pub field: &'static str,
    /// Its value, in words.
    pub before: String,
    /// The same of the other side.
    pub after: String,
    /// Whether more is let through than before.
    pub opens: bool,
}

/// A call that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The call.
    pub name: String,
    /// By which ABI; `None` where two profiles are compared.
    pub arch: Option<Arch>,
    /// What became of it.
    pub kind: ChangeKind,
    /// What happens to it before.
    pub before: Effect,
    /// What happens to it after.
    pub after: Effect,
    /// What happens before, in words.
    pub before_text: String,
    /// What happens after, in words.
    pub after_text: String,
    /// Why it is dangerous, if it is.
    pub risk: Option<Risk>,
    /// Why it is there: of the side that has it, and of `after` where both do.
    pub why: Option<Why>,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It is let through, which it never was before.
    Added,
    /// It is let through with more arguments.
    Widened,
    /// It is treated in another way: another errno, or conditions of which neither includes the other.
    Changed,
    /// It is let through with fewer arguments.
    Narrowed,
    /// It is no longer let through.
    Removed,
}

impl ChangeKind {
    /// Every kind, what opens first.
    pub const ALL: [Self; 5] = [
        Self::Added,
        Self::Widened,
        Self::Changed,
        Self::Narrowed,
        Self::Removed,
    ];

    /// The word in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Widened => "widened",
            Self::Changed => "changed",
            Self::Narrowed => "narrowed",
            Self::Removed => "removed",
        }
    }

    /// The sign before a name in tables.
    #[must_use]
    pub fn sign(self) -> &'static str {
        match self {
            Self::Added => "+",
            Self::Removed => "-",
            Self::Widened => ">",
            Self::Narrowed => "<",
            Self::Changed => "~",
        }
    }
}

impl Change {
    /// Whether calls may be let through that were not before.
    #[must_use]
    pub fn opens(&self) -> bool {
        match self.kind {
            ChangeKind::Added | ChangeKind::Widened => true,
            ChangeKind::Changed => Permit::of(&self.after) != Permit::Never,
            ChangeKind::Narrowed | ChangeKind::Removed => false,
        }
    }
}

impl Diff {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty()
            && self.architectures_added.is_empty()
            && self.architectures_removed.is_empty()
            && self.changes.is_empty()
    }

    /// How many calls changed in this way.
    #[must_use]
    pub fn count(&self, kind: ChangeKind) -> usize {
        self.changes
            .iter()
            .filter(|change| change.kind == kind)
            .count()
    }

    /// `3 added, 1 removed`; `no difference` where there is none.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut parts: Vec<String> = ChangeKind::ALL
            .into_iter()
            .map(|kind| (kind, self.count(kind)))
            .filter(|(_, count)| *count > 0)
            .map(|(kind, count)| format!("{count} {}", kind.name()))
            .collect();
        let rest =
            self.settings.len() + self.architectures_added.len() + self.architectures_removed.len();
        if rest > 0 {
            parts.push(format!(
                "{rest} {} changed",
                if rest == 1 { "setting" } else { "settings" }
            ));
        }
        if parts.is_empty() {
            "no difference".to_owned()
        } else {
            parts.join(", ")
        }
    }

    /// As a file: indented by two, keys in a fixed order, a newline at the end. The same difference gives the same bytes.
    #[must_use]
    pub fn to_json(&self) -> String {
        wire::write(self)
    }

    /// For a comment at a pull request: a table of what is let through that was not before, the rest folded away.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        markdown::write(self)
    }
}

/// Compares two sides.
///
/// # Errors
/// Only when the program was built with a broken table of risks.
pub fn diff(before: &Subject, after: &Subject) -> Result<Diff, RiskError> {
    let risks = Risks::load()?;
    let by_arch = before.as_profile().is_none() || after.as_profile().is_none();
    let (old, new) = (before.effects(by_arch), after.effects(by_arch));
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let text = |side: &Subject, effect: &Effect| match side.as_profile() {
        Some(_) => permit::effect(effect),
        None => permit::recorded(effect),
    };
    let mut changes = Vec::new();
    for (arch, name) in keys {
        let effect = |subject: &Subject| match (arch, subject.as_profile()) {
            (Some(arch), _) => subject.effect(*arch, name),
            (None, Some(profile)) => profile.effect(name),
            // Two profiles only are compared without ABIs.
            (None, None) => Effect::Always(Action::Allow),
        };
        let (was, is) = (effect(before), effect(after));
        let Some(kind) = kind(&was, &is, by_arch) else {
            continue;
        };
        let why = if kind == ChangeKind::Removed {
            before.why(*arch, name)
        } else {
            after.why(*arch, name)
        };
        changes.push(Change {
            name: name.clone(),
            arch: *arch,
            kind,
            before_text: text(before, &was),
            after_text: text(after, &is),
            before: was,
            after: is,
            risk: risks.of(name).cloned(),
            why: why.cloned(),
        });
    }
    let mut settings = Vec::new();
    let (mut added, mut removed) = (BTreeSet::new(), BTreeSet::new());
    if let (Some(old), Some(new)) = (before.as_profile(), after.as_profile()) {
        let mut set = |field, before: String, after: String, opens| {
            if before != after {
                settings.push(Setting {
                    field,
                    before,
                    after,
                    opens,
                });
            }
        };
        set(
            "defaultAction",
            permit::action(old.default_action),
            permit::action(new.default_action),
            permit::openness(new.default_action) > permit::openness(old.default_action),
        );
        let flags = |flags: &Option<BTreeSet<String>>| {
            flags.as_ref().map_or("not given".to_owned(), |flags| {
                let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
                format!("[{}]", flags.join(", "))
            })
        };
        set("flags", flags(&old.flags), flags(&new.flags), false);
        let path = |path: &Option<String>| path.clone().unwrap_or("not given".to_owned());
        // Whoever listens may let calls through.
        let listens = new.listener_path.is_some();
        set(
            "listenerPath",
            path(&old.listener_path),
            path(&new.listener_path),
            listens,
        );
        let known = |subject: &Subject, listed: &BTreeSet<OciArch>| -> BTreeSet<OciArch> {
            if listed.is_empty() {
                subject
                    .architectures()
                    .into_iter()
                    .map(Into::into)
                    .collect()
            } else {
                listed.clone()
            }
        };
        let (old, new) = (
            known(before, &old.architectures),
            known(after, &new.architectures),
        );
        added = new.difference(&old).copied().collect();
        removed = old.difference(&new).copied().collect();
    }
    let side = |subject: &Subject| Side {
        label: subject.label().to_owned(),
        kind: subject.kind(),
        names: subject.names().len(),
    };
    Ok(Diff {
        before: side(before),
        after: side(after),
        settings,
        architectures_added: added,
        architectures_removed: removed,
        changes,
    })
}

/// What became of a call. Where a recording takes part only what is let through counts, since it has no denials.
fn kind(was: &Effect, is: &Effect, permits_only: bool) -> Option<ChangeKind> {
    if was == is {
        return None;
    }
    let (old, new) = (Permit::of(was), Permit::of(is));
    Some(match (&old, &new) {
        (Permit::Never, Permit::Never) => {
            return (!permits_only).then_some(ChangeKind::Changed);
        }
        (Permit::Never, _) => ChangeKind::Added,
        (_, Permit::Never) => ChangeKind::Removed,
        _ => match (old.within(&new), new.within(&old)) {
            (true, true) => match (was, is) {
                (Effect::Always(was), Effect::Always(is)) => {
                    match permit::openness(*was).cmp(&permit::openness(*is)) {
                        std::cmp::Ordering::Less => ChangeKind::Widened,
                        std::cmp::Ordering::Greater => ChangeKind::Narrowed,
                        std::cmp::Ordering::Equal if permits_only => return None,
                        std::cmp::Ordering::Equal => ChangeKind::Changed,
                    }
                }
                _ if permits_only => return None,
                _ => ChangeKind::Changed,
            },
            (true, false) => ChangeKind::Widened,
            (false, true) => ChangeKind::Narrowed,
            (false, false) => ChangeKind::Changed,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::Merged;
    use crate::observation::{Observation, Phase};
    use crate::policy::Policy;
    use crate::profile::{Condition, ENOSYS, EPERM, Op, Profile, Rule};
    use crate::{generate, report::Reasons};

    type Rules<'a> = &'a [(&'a [&'a str], Action, &'a [Condition])];

    fn profile(rules: Rules<'_>) -> Subject {
        let rules = rules.iter().map(|(names, action, conditions)| Rule {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            action: *action,
            conditions: conditions.to_vec(),
        });
        let profile = Profile {
            rules: rules.collect(),
            ..Profile::allowing(BTreeSet::new(), BTreeSet::from([Arch::X86_64.into()]))
        };
        Subject::profile("p.json", profile, Arch::X86_64, None)
    }

    fn domain(value: u64) -> Condition {
        Condition {
            index: 0,
            op: Op::Eq,
            value,
            value_two: 0,
        }
    }

    #[test]
    fn what_becomes_of_a_call() {
        use Action::{Allow, Errno, KillProcess, Log, Notify};
        fn check(before: Rules<'_>, after: Rules<'_>, expect: Option<ChangeKind>) {
            let found = diff(&profile(before), &profile(after)).unwrap();
            let kinds: Vec<_> = found.changes.iter().map(|change| change.kind).collect();
            let expect: Vec<_> = expect.into_iter().collect();
            assert_eq!(kinds, expect, "{before:?} {after:?}");
        }
        let denied: Rules<'_> = &[];
        let allow: &[_] = &[(&["socket"][..], Allow, &[][..])];
        let unix: &[_] = &[(&["socket"][..], Allow, &[domain(1)][..])];
        let two: &[_] = &[
            (&["socket"][..], Allow, &[domain(2)][..]),
            (&["socket"][..], Allow, &[domain(1)][..]),
        ];
        let other: &[_] = &[(&["socket"][..], Allow, &[domain(2)][..])];
        let with = |action| [(&["socket"][..], action, &[][..])];
        check(denied, allow, Some(ChangeKind::Added));
        check(denied, unix, Some(ChangeKind::Added));
        check(allow, denied, Some(ChangeKind::Removed));
        check(unix, allow, Some(ChangeKind::Widened));
        check(unix, two, Some(ChangeKind::Widened));
        check(two, unix, Some(ChangeKind::Narrowed));
        check(unix, other, Some(ChangeKind::Changed));
        check(allow, &with(Log), Some(ChangeKind::Changed));
        check(&with(Notify), allow, Some(ChangeKind::Widened));
        check(
            &with(Errno(EPERM)),
            &with(KillProcess),
            Some(ChangeKind::Changed),
        );
        // The default's action, named or not.
        check(denied, &with(Errno(ENOSYS)), None);
        // A bare rule swallows the others.
        check(allow, &[allow[0], unix[0]], None);
    }

    fn redis() -> Observation {
        let file = include_bytes!("../../../../profiles/apps/redis/observation.json");
        Observation::from_json(file).unwrap()
    }

    fn recorded(label: &str, observation: Observation) -> Subject {
        Subject::recorded(label, &Merged::of(observation).unwrap()).unwrap()
    }

    #[test]
    fn a_recording_and_the_profile_that_was_made_of_it() {
        let generated = generate(&[redis()], &Policy::default()).unwrap();
        let reasons = Reasons::of(&generated.report);
        let profile =
            Subject::profile("redis.json", generated.profile, Arch::X86_64, Some(reasons));
        let recorded = recorded("redis.observation.json", redis());
        let found = diff(&profile, &recorded).unwrap();
        assert_eq!(found.count(ChangeKind::Added), 0);
        assert_eq!(found.count(ChangeKind::Widened), 0);
        let summary = generated.report.summary();
        assert_eq!(
            found.count(ChangeKind::Removed),
            summary.allowed - summary.recorded
        );
        // The recording has values of arguments, and the profile allows any.
        let narrowed: Vec<&str> = found
            .changes
            .iter()
            .filter(|change| change.kind == ChangeKind::Narrowed)
            .map(|change| change.name.as_str())
            .collect();
        assert!(narrowed.contains(&"socket"), "{narrowed:?}");
        let unexplained = |change: &&Change| change.why.is_none();
        assert_eq!(found.changes.iter().filter(unexplained).count(), 0);
    }

    #[test]
    fn a_new_call_and_a_new_value_of_a_recording() {
        let mut after = redis();
        after.recording_id = "00000000000000000000000000000001".to_owned();
        let calls = after.calls.get_mut(&(Arch::X86_64, Phase::App)).unwrap();
        let sighting = calls.get("socket").unwrap().clone();
        calls.insert("ptrace".to_owned(), sighting);
        let arguments = calls.get_mut("socket").unwrap().arguments.as_mut().unwrap();
        let mut value = arguments.values.first().unwrap().clone();
        value[0] = 17;
        arguments.values.insert(value);
        let before = recorded("1.json", redis());
        let after = recorded("2.json", after);
        let found = diff(&before, &after).unwrap();
        assert_eq!(found.summary(), "1 added, 1 widened");
        insta::assert_snapshot!("diff_markdown", found.to_markdown());
        insta::assert_snapshot!("diff_json", found.to_json());
    }

    #[test]
    fn text_of_strangers_stays_text_in_a_comment() {
        let evil = "x`|<img src=x>\n# @all [a](b)";
        let before = profile(&[]);
        let after = profile(&[(&[evil], Action::Allow, &[])]);
        let text = diff(&before, &after).unwrap().to_markdown();
        let row = text.lines().last().unwrap();
        assert_eq!(row.matches('|').count(), 6, "{text}");
        assert_eq!(row.matches('`').count(), 2, "{text}");
    }
}
