//! One profile that permits what any of several permits.

use super::overlap::{Both, Clause, Rules, are_compiled_rightly, both, depends_on_order, may_meet};
use crate::diff::permit;
use crate::filter::MAX_INSTRUCTIONS;
use crate::profile::{Action, Effect, Gathered, OciArch, Profile, without_unreachable};
use std::collections::{BTreeMap, BTreeSet};

/// Why profiles cannot be merged. The labels are those that [`profiles`] was given.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// No profile.
    #[error("there is nothing to merge: give at least one profile")]
    Nothing,
    /// Something that holds for a whole profile.
    #[error(
        "{one} and {other} have different {what} ({one_has}; {other_has}), and a profile has room for one: make them equal first"
    )]
    Differ {
        /// What it is.
        what: &'static str,
        /// The first profile.
        one: String,
        /// One that differs from it.
        other: String,
        /// What the first has.
        one_has: String,
        /// What the other has.
        other_has: String,
    },
    /// One answers a call with this, at least for some arguments, the other permits more: no rules say both, since the first that holds decides.
    #[error(
        "{one} answers `{name}` with {} where {other} permits more: no profile can say both, so make their rules for it equal",
        named(action)
    )]
    Excluding {
        /// The call.
        name: String,
        /// The profile with this answer.
        one: String,
        /// Its answer.
        action: Action,
        /// The profile that permits more.
        other: String,
    },
    /// One has two rules for a call that may both hold and answer differently. Which of the two a filter finds first depends on its other
    /// rules, and for some on the order of the file.
    #[error(
        "{} has two rules for `{}` that can hold for the same arguments ({}; {}): joined with {}, they could mean something else; list only \
         what is permitted",
        .0.one, .0.name, .0.rule, .0.other_rule, .0.other
    )]
    Ambiguous(Box<Clash>),
    /// Rules of two profiles that no set of rules joins, or none that libseccomp compiles rightly.
    #[error(
        "the rules for `{}` in {} ({}) and {} ({}) cannot be joined exactly: {why}; make the rules of both profiles equal, or permit the \
         call without conditions in one of them",
        .clash.name, .clash.one, .clash.rule, .clash.other, .clash.other_rule
    )]
    Inexact {
        /// What cannot be joined.
        clash: Box<Clash>,
        /// The reason.
        why: &'static str,
    },
}

/// Two rules, or all rules of two profiles, for one call.
#[derive(Debug, PartialEq, Eq)]
pub struct Clash {
    /// The call.
    pub name: String,
    /// A profile.
    pub one: String,
    /// Its rule, in words.
    pub rule: String,
    /// Another profile.
    pub other: String,
    /// Its rule, in words; of [`MergeError::Ambiguous`] the second one of the first profile.
    pub other_rule: String,
}

/// The union: what one of these profiles permits is permitted, and of several answers a call gets the most permissive. What cannot be joined
/// exactly is refused. Each profile comes with a label for errors.
///
/// It is normalized, and depends neither on the order of the profiles nor on repetition. Architectures are joined; without any, only the
/// native one is let in, and that is always so. An allowlist gets nothing that none of the profiles permits. A denylist (a default action
/// that permits) keeps the conditions under which all profiles deny.
///
/// # Errors
/// When the profiles have different default actions, flags or listeners, or rules for one call that cannot be joined exactly: see
/// [`MergeError`].
pub fn profiles(all: &[(String, Profile)]) -> Result<Profile, MergeError> {
    let (_, first) = all.first().ok_or(MergeError::Nothing)?;
    let path = |path: &String| format!("`{}`", path.escape_debug());
    same(all, "default actions", |p| Some(&p.default_action), named)?;
    // Leaving the flags to the runtime is a choice, too.
    same(all, "flags", |p| Some(&p.flags), flags)?;
    let listener_path = same(all, "listener paths", |p| p.listener_path.as_ref(), path)?;
    let listener_metadata = same(
        all,
        "listener metadata",
        |p| p.listener_metadata.as_ref(),
        path,
    )?;
    let architectures: BTreeSet<OciArch> = all
        .iter()
        .flat_map(|(_, profile)| profile.architectures.iter().copied())
        .collect();

    let default = first.default_action;
    let effects: Vec<_> = all.iter().map(|(_, profile)| profile.effects()).collect();
    let names: BTreeSet<&str> = effects.iter().flat_map(|of| of.keys().copied()).collect();
    let mut union: BTreeMap<&str, Effect> = BTreeMap::new();
    let absent = Effect::Always(default);
    for name in names {
        let each: Vec<(&str, &Effect)> = all
            .iter()
            .zip(&effects)
            .map(|((label, _), of)| (label.as_str(), of.get(name).unwrap_or(&absent)))
            .collect();
        union.insert(name, join(name, &each, default)?);
    }
    Ok(Profile {
        architectures,
        listener_path: listener_path.cloned(),
        listener_metadata: listener_metadata.cloned(),
        ..first.with_effects(union)
    })
}

fn named(action: &Action) -> String {
    match action.errno() {
        Some(errno) => format!("{} {errno}", action.oci_name()),
        None => action.oci_name().to_owned(),
    }
}

fn flags(flags: &Option<BTreeSet<String>>) -> String {
    match flags {
        None => "those of the runtime".to_owned(),
        Some(flags) if flags.is_empty() => "none".to_owned(),
        Some(flags) => flags.iter().cloned().collect::<Vec<_>>().join(" "),
    }
}

/// The one value of all profiles that have one.
fn same<'a, T: PartialEq>(
    all: &'a [(String, Profile)],
    what: &'static str,
    of: impl Fn(&'a Profile) -> Option<&'a T>,
    show: impl Fn(&'a T) -> String,
) -> Result<Option<&'a T>, MergeError> {
    let mut having = all
        .iter()
        .filter_map(|(label, profile)| Some((label, of(profile)?)));
    let Some((one, one_has)) = having.next() else {
        return Ok(None);
    };
    match having.find(|(_, value)| *value != one_has) {
        None => Ok(Some(one_has)),
        Some((other, other_has)) => Err(MergeError::Differ {
            what,
            one: one.clone(),
            other: other.clone(),
            one_has: show(one_has),
            other_has: show(other_has),
        }),
    }
}

/// What reaches the kernel: nothing, what a supervisor lets through, all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Denied,
    Asked,
    Allowed,
}

fn reach(action: Action) -> Reach {
    match action {
        Action::KillProcess | Action::KillThread | Action::Trap | Action::Errno(_) => Reach::Denied,
        Action::Notify | Action::Trace(_) => Reach::Asked,
        Action::Log | Action::Allow => Reach::Allowed,
    }
}

/// The union of the effects for one call, each with its profile's label.
fn join(name: &str, each: &[(&str, &Effect)], default: Action) -> Result<Effect, MergeError> {
    let permits = |effect: &Effect| reach(effect.most_permissive()) > Reach::Denied;
    // Who denies a call in any case has no say in how it is permitted. The order is that of the effects, whatever that of the profiles.
    let mut distinct: BTreeMap<&Effect, &str> = BTreeMap::new();
    for (label, effect) in each.iter().filter(|(_, effect)| permits(effect)) {
        distinct.entry(effect).or_insert(label);
    }
    if distinct.is_empty() {
        return Ok(denial(each, default));
    }
    let whole = distinct.keys().filter_map(|effect| match effect {
        Effect::Always(action) if reach(*action) == Reach::Allowed => Some(*action),
        _ => None,
    });
    if let Some(action) = whole.max() {
        return Ok(Effect::Always(action));
    }
    let parts: Vec<Part> = distinct
        .iter()
        .map(|(effect, label)| Part {
            label,
            effect,
            rules: rules(effect, default),
        })
        .collect();
    let is_only = parts.len() == 1;
    for part in &parts {
        // What stays as it is keeps its meaning, unless that is in the order of the file.
        let matters = |(one, other): &(&(Clause, Action), &(Clause, Action))| {
            !is_only || depends_on_order(&one.0, &other.0)
        };
        if let Some((one, other)) = contradictions(&part.rules).find(matters) {
            let mut labels = each.iter().map(|(label, _)| *label);
            let other_label = labels.find(|label| *label != part.label);
            return Err(MergeError::Ambiguous(Box::new(Clash {
                name: name.to_owned(),
                one: part.label.to_owned(),
                rule: in_words(one),
                other_rule: in_words(other),
                other: other_label.unwrap_or("another profile").to_owned(),
            })));
        }
    }
    if let [only] = &*parts {
        if !are_compiled_rightly(&only.rules) {
            let other = each.iter().find(|(label, _)| *label != only.label);
            let (other, effect) = other.copied().unwrap_or((only.label, only.effect));
            let (one, other) = (in_full(only.label, only.effect), in_full(other, effect));
            return Err(inexact(name, one, other, MISCOMPILED));
        }
        return Ok(only.effect.clone());
    }
    let permitted: Rules = parts
        .iter()
        .flat_map(|part| &part.rules)
        .filter(|(_, action)| is_more(*action, default))
        .cloned()
        .collect();
    exclusion(name, &parts, &permitted)?;
    // An allowlist denies the rest by itself.
    let denied = if reach(default) == Reach::Denied {
        Rules::new()
    } else {
        denied_by_all(name, &parts, default)?
    };
    let mut gathered = Gathered::default();
    for (conditions, action) in without_unreachable(permitted.into_iter().chain(denied)) {
        gathered.add(conditions, action);
    }
    let joined = gathered.effect(default);
    let is_anyones = parts.iter().any(|part| *part.effect == joined);
    if let (false, Effect::ByArguments { rules, .. }) = (is_anyones, &joined) {
        if contradictions(rules).next().is_some() {
            return Err(inexact_of(
                name,
                &parts,
                "rules of both can hold for the same arguments and answer differently",
            ));
        }
        let all = parts.iter().map(|part| &part.rules).chain([rules]);
        if !all.into_iter().all(are_compiled_rightly) {
            return Err(inexact_of(name, &parts, MISCOMPILED));
        }
    }
    Ok(joined)
}

/// Why comparisons are not joined. Source: `tests/conformance`, libseccomp 2.5.4 and 2.6.1.
const MISCOMPILED: &str =
    "libseccomp compiles several comparisons other than equality and masks wrongly";

/// What one profile, or several alike, have for a call.
struct Part<'a> {
    label: &'a str,
    effect: &'a Effect,
    rules: Rules,
}

/// Two rules that may both hold, of which one lets through more than the other.
fn contradictions(rules: &Rules) -> impl Iterator<Item = (&(Clause, Action), &(Clause, Action))> {
    rules.iter().enumerate().flat_map(move |(at, one)| {
        let others = rules.iter().skip(at + 1);
        others
            .filter(move |other| reach(one.1) != reach(other.1) && may_meet(&one.0, &other.0))
            .map(move |other| (one, other))
    })
}

/// The conditions under which each of the profiles denies, or permits less than the default; with the weakest such answer of all.
fn denied_by_all(name: &str, parts: &[Part], default: Action) -> Result<Rules, MergeError> {
    let less = |part: &Part| -> Rules {
        let less = part.rules.iter().filter(|(_, action)| *action < default);
        less.cloned().collect()
    };
    let mut weakest: BTreeMap<Reach, Action> = BTreeMap::new();
    for (_, action) in parts.iter().flat_map(less) {
        let known = weakest.entry(reach(action)).or_insert(action);
        *known = action.max(*known);
    }
    let mut denied: Option<(Rules, &Part)> = None;
    for part in parts {
        let Some((before, of)) = denied else {
            denied = Some((less(part), part));
            continue;
        };
        let mut joined = Rules::new();
        for (one, of_one) in &before {
            for (other, of_other) in &less(part) {
                let reached = reach(*of_one).max(reach(*of_other));
                let action = weakest.get(&reached).copied().unwrap_or(default);
                match both(one, other) {
                    Both::Never => {}
                    Both::When(clause) => {
                        joined.insert((clause, action));
                    }
                    Both::Unsaid => {
                        let why = "no rule says when both deny";
                        let one = (of.label, in_words(&(one.clone(), *of_one)));
                        let other = (part.label, in_words(&(other.clone(), *of_other)));
                        return Err(inexact(name, one, other, why));
                    }
                }
                if joined.len() > MAX_INSTRUCTIONS {
                    return Err(inexact_of(
                        name,
                        parts,
                        "that takes more rules than a filter has room for",
                    ));
                }
            }
        }
        if contradictions(&joined).next().is_some() {
            return Err(inexact_of(
                name,
                parts,
                "rules of both can hold for the same arguments and answer differently",
            ));
        }
        denied = Some((without_unreachable(joined), of));
    }
    Ok(denied.map(|(rules, _)| rules).unwrap_or_default())
}

/// What a profile has for a call, with the profile's label.
type Words<'a> = (&'a str, String);

fn in_full<'a>(label: &'a str, effect: &Effect) -> Words<'a> {
    (label, permit::effect(effect))
}

/// Of the first two of several.
fn inexact_of(name: &str, parts: &[Part], why: &'static str) -> MergeError {
    let mut all = parts.iter().map(|part| in_full(part.label, part.effect));
    let one = all.next().unwrap_or_default();
    inexact(name, one, all.next().unwrap_or_default(), why)
}

fn inexact(name: &str, one: Words, other: Words, why: &'static str) -> MergeError {
    let clash = Clash {
        name: name.to_owned(),
        one: one.0.to_owned(),
        rule: one.1,
        other: other.0.to_owned(),
        other_rule: other.1,
    };
    MergeError::Inexact {
        clash: Box::new(clash),
        why,
    }
}

fn in_words((clause, action): &(Clause, Action)) -> String {
    permit::rule(clause, *action)
}

/// Nobody permits the call: the weakest denial, for any arguments unless all agree.
fn denial(each: &[(&str, &Effect)], default: Action) -> Effect {
    let weakest = |effect: &Effect| match effect {
        Effect::Always(action) => *action,
        Effect::ByArguments { .. } => default,
    };
    match each.split_first() {
        Some(((_, first), others)) if others.iter().all(|(_, effect)| effect == first) => {
            (*first).clone()
        }
        _ => Effect::Always(
            each.iter()
                .map(|(_, e)| weakest(e))
                .max()
                .unwrap_or(default),
        ),
    }
}

fn rules(effect: &Effect, default: Action) -> Rules {
    match effect {
        Effect::Always(action) if *action == default => Rules::new(),
        Effect::Always(action) => [(BTreeSet::new(), *action)].into(),
        Effect::ByArguments { rules, .. } => rules.clone(),
    }
}

/// Whether a rule is there to permit something: an allowlist's denials are not, whatever their errno.
fn is_more(action: Action, default: Action) -> bool {
    match reach(default) {
        Reach::Denied => reach(action) > Reach::Denied,
        _ => action > default,
    }
}

/// Rules that ask a supervisor would be found before some that allow, or swallow them.
fn exclusion(name: &str, parts: &[Part], permitted: &Rules) -> Result<(), MergeError> {
    let with = |wanted: Reach| {
        permitted
            .iter()
            .find(|(_, action)| reach(*action) == wanted)
    };
    let (Some((_, action)), Some(_)) = (with(Reach::Asked), with(Reach::Allowed)) else {
        return Ok(());
    };
    let label = |wanted: Reach| {
        let has = |part: &&Part| {
            part.rules
                .iter()
                .any(|(_, action)| reach(*action) == wanted)
        };
        let found = parts.iter().find(has);
        found.map(|part| part.label.to_owned()).unwrap_or_default()
    };
    Err(MergeError::Excluding {
        name: name.to_owned(),
        one: label(Reach::Asked),
        action: *action,
        other: label(Reach::Allowed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;
    use crate::profile::{Condition, Op};

    const DEFAULT: Action = Action::Errno(38);

    fn eq(index: u8, value: u64) -> Condition {
        Condition {
            index,
            op: Op::Eq,
            value,
            value_two: 0,
        }
    }

    fn bare(action: Action) -> Effect {
        Effect::Always(action)
    }

    fn some(rules: &[(&[Condition], Action)]) -> Effect {
        Effect::ByArguments {
            rules: rules
                .iter()
                .map(|(conditions, action)| (conditions.iter().copied().collect(), *action))
                .collect(),
            otherwise: DEFAULT,
        }
    }

    fn of(default_action: Action, effect: &Effect) -> Profile {
        let profile = Profile {
            default_action,
            ..Profile::allowing(BTreeSet::new(), BTreeSet::new())
        };
        let effect = match effect.clone() {
            Effect::ByArguments { rules, .. } => Effect::ByArguments {
                rules,
                otherwise: default_action,
            },
            always => always,
        };
        profile.with_effects([("socket", effect)])
    }

    fn merged(default: Action, one: &Effect, other: &Effect) -> Result<Effect, MergeError> {
        let both = [("one", one), ("other", other)];
        let both = both.map(|(label, effect)| (label.to_owned(), of(default, effect)));
        Ok(profiles(&both)?.effect("socket"))
    }

    #[test]
    fn the_most_permissive_answer() {
        use Action::{Allow, Errno, KillProcess, Log};
        let (a, b, c) = (eq(0, 1), eq(0, 2), eq(1, 3));
        let cases = [
            (bare(Allow), bare(DEFAULT), bare(Allow)),
            (bare(Allow), some(&[(&[a], Errno(1))]), bare(Allow)),
            (bare(Allow), some(&[(&[a], Allow)]), bare(Allow)),
            (
                some(&[(&[a], Allow)]),
                some(&[(&[b], Allow)]),
                some(&[(&[a], Allow), (&[b], Allow)]),
            ),
            (
                some(&[(&[a, c], Allow)]),
                some(&[(&[a], Allow)]),
                some(&[(&[a], Allow)]),
            ),
            (
                some(&[(&[a], Log)]),
                some(&[(&[a], Allow)]),
                some(&[(&[a], Allow)]),
            ),
            (bare(Log), some(&[(&[a], Allow)]), bare(Log)),
            // Of denials the weakest.
            (bare(Errno(1)), bare(Errno(2)), bare(Errno(2))),
            (bare(Errno(1)), bare(DEFAULT), bare(DEFAULT)),
            (bare(Errno(40)), bare(DEFAULT), bare(Errno(40))),
            (
                bare(Errno(40)),
                some(&[(&[a], Allow)]),
                some(&[(&[a], Allow)]),
            ),
            (some(&[(&[a], KillProcess)]), bare(DEFAULT), bare(DEFAULT)),
            (some(&[(&[a], KillProcess)]), bare(Errno(1)), bare(DEFAULT)),
            // An exception stays where the others deny, and where they agree.
            (
                some(&[(&[eq(0, 3)], Errno(1)), (&[a], Allow)]),
                bare(Errno(1)),
                some(&[(&[eq(0, 3)], Errno(1)), (&[a], Allow)]),
            ),
            // It is none where it takes nothing away.
            (
                some(&[(&[b], Errno(1)), (&[a], Allow)]),
                some(&[(&[c], Allow)]),
                some(&[(&[a], Allow), (&[c], Allow)]),
            ),
        ];
        for (one, other, expect) in cases {
            assert_eq!(
                merged(DEFAULT, &one, &other),
                Ok(expect.clone()),
                "{one:?} {other:?}"
            );
            assert_eq!(
                merged(DEFAULT, &other, &one),
                Ok(expect),
                "{other:?} {one:?}"
            );
        }
    }

    #[test]
    fn a_denylist_denies_what_all_deny() {
        let (a, b) = (eq(0, 1), eq(0, 2));
        let deny = |conditions: &[Condition]| {
            let rules = conditions
                .iter()
                .map(|condition| ([*condition].into(), Action::Errno(1)));
            Effect::ByArguments {
                rules: rules.collect(),
                otherwise: Action::Allow,
            }
        };
        assert_eq!(
            merged(Action::Allow, &deny(&[a, b]), &deny(&[b])),
            Ok(deny(&[b]))
        );
        assert_eq!(
            merged(Action::Allow, &deny(&[a]), &deny(&[b])),
            Ok(bare(Action::Allow))
        );
        // What both deny, though no rule of either says it.
        let c = eq(1, 3);
        let both = Effect::ByArguments {
            rules: [([a, c].into(), Action::Errno(1))].into(),
            otherwise: Action::Allow,
        };
        assert_eq!(merged(Action::Allow, &deny(&[a]), &deny(&[c])), Ok(both));
        let masked = |value, value_two| Condition {
            index: 0,
            op: Op::MaskedEq,
            value,
            value_two,
        };
        let refused = merged(
            Action::Allow,
            &deny(&[masked(1, 1)]),
            &deny(&[masked(2, 2)]),
        );
        assert!(
            matches!(refused, Err(MergeError::Inexact { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn architectures_are_joined_and_stay_unspecified() {
        let with = |architectures: &[Arch]| Profile {
            architectures: architectures.iter().map(|arch| (*arch).into()).collect(),
            ..of(DEFAULT, &bare(Action::Allow))
        };
        let merge = |one: &[Arch], other: &[Arch]| {
            let both = [(String::new(), with(one)), (String::new(), with(other))];
            profiles(&both).map(|profile| profile.architectures)
        };
        assert_eq!(merge(&[], &[]), Ok([].into()));
        assert_eq!(merge(&[], &[Arch::X86]), Ok([Arch::X86.into()].into()));
        assert_eq!(
            merge(&[Arch::X86_64], &[Arch::X86]),
            Ok([Arch::X86_64.into(), Arch::X86.into()].into())
        );
    }

    #[test]
    fn errors_name_both_files() {
        let base = of(DEFAULT, &bare(Action::Allow));
        let listening = |path: &str| Profile {
            listener_path: Some(path.to_owned()),
            ..base.clone()
        };
        let cases = [
            (
                base.clone(),
                of(Action::Errno(1), &bare(Action::Allow)),
                "a.json and b.json have different default actions (SCMP_ACT_ERRNO 38; SCMP_ACT_ERRNO 1)",
            ),
            (
                base.clone(),
                Profile {
                    flags: Some([].into()),
                    ..base.clone()
                },
                "a.json and b.json have different flags (those of the runtime; none)",
            ),
            (
                listening("/run/a"),
                listening("/run/b"),
                "a.json and b.json have different listener paths (`/run/a`; `/run/b`)",
            ),
            (
                of(DEFAULT, &some(&[(&[eq(0, 1)], Action::Allow)])),
                of(DEFAULT, &bare(Action::Notify)),
                "b.json answers `socket` with SCMP_ACT_NOTIFY where a.json permits more",
            ),
            (
                of(DEFAULT, &some(&[(&[eq(0, 1)], Action::Allow)])),
                of(
                    DEFAULT,
                    &some(&[
                        (&[eq(0, 40)], Action::Errno(1)),
                        (
                            &[Condition {
                                op: Op::Ne,
                                ..eq(0, 16)
                            }],
                            Action::Allow,
                        ),
                    ]),
                ),
                "b.json has two rules for `socket` that can hold for the same arguments (allowed when a0 != 0x10; denied, errno 1 when a0 == 0x28): \
                 joined with a.json, they could mean something else",
            ),
            (
                of(
                    DEFAULT,
                    &some(&[(
                        &[Condition {
                            op: Op::Ne,
                            ..eq(0, 2)
                        }],
                        Action::Allow,
                    )]),
                ),
                of(DEFAULT, &some(&[(&[eq(1, 3)], Action::Allow)])),
                "the rules for `socket` in a.json (allowed when a0 != 0x2, else denied, errno 38) and b.json (allowed when a1 == 0x3, else \
                 denied, errno 38) cannot be joined exactly: libseccomp compiles several comparisons",
            ),
        ];
        for (one, other, expect) in cases {
            let both = [("a.json".to_owned(), one), ("b.json".to_owned(), other)];
            let error = profiles(&both).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        }
        assert_eq!(profiles(&[]), Err(MergeError::Nothing));
        // Only one has a listener.
        let both = [
            (String::new(), base.clone()),
            (String::new(), listening("/run/a")),
        ];
        assert_eq!(
            profiles(&both).map(|p| p.listener_path),
            Ok(Some("/run/a".to_owned()))
        );
    }
}
