//! One profile that permits what any of several permits.

use crate::profile::{
    Action, Condition, Effect, Gathered, OciArch, Op, Profile, precedence, without_unreachable,
};
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
    /// One denies a call with some arguments although another of its rules permits them, and others have other rules for the call.
    #[error(
        "{one} denies `{name}` with arguments that another of its rules permits, and {other} has other rules for it: make them equal, or \
         list what is permitted"
    )]
    Exception {
        /// The call.
        name: String,
        /// The profile with the exception.
        one: String,
        /// One with other rules.
        other: String,
    },
}

/// The union: what one of these profiles permits is permitted, and of several answers a call gets the most permissive, as far as rules can
/// say that. Each profile comes with a label for errors.
///
/// It is normalized, and depends neither on the order of the profiles nor on repetition. Architectures are joined; without any, only the
/// native one is let in, and that is always so. An allowlist gets nothing that none of the profiles permits. A denylist (a default action
/// that permits) keeps the conditions under which all profiles deny, where they are the same.
///
/// # Errors
/// When the profiles have different default actions, flags or listeners, or rules for one call that exclude each other.
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

type Rules = BTreeSet<(BTreeSet<Condition>, Action)>;

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
    // Who denies a call in any case has no say in how it is permitted.
    let permitting: Vec<_> = each.iter().filter(|(_, effect)| permits(effect)).collect();
    let Some(((one, first), others)) = permitting.split_first() else {
        return Ok(denial(each, default));
    };
    let Some((other, _)) = others.iter().find(|(_, effect)| effect != first) else {
        return Ok((*first).clone());
    };
    let mut permitted = Rules::new();
    let mut denied: Option<BTreeMap<BTreeSet<Condition>, Action>> = None;
    for (label, effect) in &permitting {
        let (more, less): (Rules, Rules) = rules(effect, default)
            .into_iter()
            .partition(|(_, action)| is_more(*action, default));
        if reach(default) == Reach::Denied && less.iter().any(|rule| is_exception(rule, &more)) {
            return Err(MergeError::Exception {
                name: name.to_owned(),
                one: (*label).to_owned(),
                other: (if label == one { other } else { one }).to_string(),
            });
        }
        permitted.extend(more);
        // What all deny, and of that the weakest denial.
        let less: BTreeMap<_, _> = less.into_iter().collect();
        denied = Some(match denied {
            None => less,
            Some(mut denied) => {
                denied.retain(|conditions, _| less.contains_key(conditions));
                for (conditions, action) in &mut denied {
                    *action = less
                        .get(conditions)
                        .copied()
                        .map_or(*action, |a| a.max(*action));
                }
                denied
            }
        });
    }
    exclusion(name, &permitting, &permitted)?;
    // An allowlist denies the rest by itself.
    let denied = denied.filter(|_| reach(default) > Reach::Denied);
    let all = permitted.into_iter().chain(denied.unwrap_or_default());
    let mut gathered = Gathered::default();
    for (conditions, action) in without_unreachable(all) {
        gathered.add(conditions, action);
    }
    Ok(gathered.effect(default))
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

/// Whether this denial takes something away from rules that permit: it is found before one of them, and both may hold.
fn is_exception((conditions, _): &(BTreeSet<Condition>, Action), permitted: &Rules) -> bool {
    permitted.iter().any(|(others, _)| {
        let meet = conditions.iter().all(|one| {
            let mut same = others.iter().filter(|other| other.index == one.index);
            same.all(|other| may_meet(one, other))
        });
        meet && precedence(conditions, others).is_lt()
    })
}

/// Whether a value may satisfy both; certain only where one of them is for one value.
fn may_meet(one: &Condition, other: &Condition) -> bool {
    let args = |condition: &Condition| [condition.value; 6];
    match (one.op, other.op) {
        (Op::Eq, _) => other.holds(&args(one)),
        (_, Op::Eq) => one.holds(&args(other)),
        _ => true,
    }
}

/// Rules that ask a supervisor would be found before some that allow, or swallow them.
fn exclusion(name: &str, each: &[&(&str, &Effect)], permitted: &Rules) -> Result<(), MergeError> {
    let with = |wanted: Reach| {
        permitted
            .iter()
            .find(|(_, action)| reach(*action) == wanted)
    };
    let (Some((_, action)), Some(_)) = (with(Reach::Asked), with(Reach::Allowed)) else {
        return Ok(());
    };
    let label = |wanted: Reach| {
        let has = |effect: &Effect| match effect {
            Effect::Always(action) => reach(*action) == wanted,
            Effect::ByArguments { rules, .. } => rules.iter().any(|(_, a)| reach(*a) == wanted),
        };
        let found = each.iter().find(|(_, effect)| has(effect));
        found
            .map(|(label, _)| (*label).to_owned())
            .unwrap_or_default()
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
        let not_two = Condition { op: Op::Ne, ..b };
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
                some(&[(&[eq(0, 3)], Errno(1)), (&[not_two], Allow)]),
                bare(Errno(1)),
                some(&[(&[eq(0, 3)], Errno(1)), (&[not_two], Allow)]),
            ),
            // It is none where it takes nothing away.
            (
                some(&[(&[b], Errno(1)), (&[not_two], Allow)]),
                some(&[(&[c], Allow)]),
                some(&[(&[not_two], Allow), (&[c], Allow)]),
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
                "b.json denies `socket` with arguments that another of its rules permits, and a.json has other rules",
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
