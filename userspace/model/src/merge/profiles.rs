//! One profile that permits what any of several permits.

use crate::profile::{Action, Condition, Effect, Gathered, OciArch, Profile, without_redundant};
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
    /// One answers a call with this whatever the arguments, the other permits more with some: a rule without conditions swallows those
    /// that have conditions.
    #[error(
        "{always} answers `{name}` with {} for any arguments, and {sometimes} permits more for some: a profile can say only one of both, \
         so make one like the other",
        named(action)
    )]
    Swallowed {
        /// The call.
        name: String,
        /// The profile with the rule without conditions.
        always: String,
        /// What that rule does.
        action: Action,
        /// The profile with conditions.
        sometimes: String,
    },
}

/// The union: each call gets the most permissive of the answers that these profiles give, as [`decide`](crate::profile::decide) has
/// them. Each profile comes with a label for errors.
///
/// It is normalized, and depends neither on the order of the profiles nor on repetition. Architectures are joined; without any, only the
/// native one is let in, and that is always so. Conditions under which all of several profiles deny are left out where they test one argument
/// differently, so that more is permitted: a rule cannot say that.
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
    for name in names {
        let sides = effects
            .iter()
            .map(|of| Sides::of(of.get(name), default))
            .reduce(Sides::join)
            .unwrap_or_default();
        let effect = sides.effect(default).map_err(|action| {
            let label = |wanted: &dyn Fn(&Effect) -> bool| {
                let found = all.iter().zip(&effects);
                let found = found.filter(|(_, of)| of.get(name).is_some_and(wanted));
                found
                    .map(|((label, _), _)| label.clone())
                    .next()
                    .unwrap_or_default()
            };
            MergeError::Swallowed {
                name: name.to_owned(),
                always: label(&|effect| *effect == Effect::Always(action)),
                action,
                sometimes: label(&|effect| {
                    matches!(effect, Effect::ByArguments { .. })
                        && effect.most_permissive() > action
                }),
            }
        })?;
        union.insert(name, effect);
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

/// The rules for one call that permit more than the default, and those that permit less; a rule without conditions always holds.
#[derive(Debug, Default)]
struct Sides {
    more: Rules,
    less: Rules,
}

impl Sides {
    fn of(effect: Option<&Effect>, default: Action) -> Self {
        let rules = match effect {
            None => Rules::new(),
            Some(Effect::Always(action)) => [(BTreeSet::new(), *action)].into(),
            Some(Effect::ByArguments { rules, .. }) => rules.clone(),
        };
        let rules = rules.into_iter().filter(|(_, action)| *action != default);
        let (more, less) = rules.partition(|(_, action)| *action > default);
        Self { more, less }
    }

    /// A call gets more where one of both gives more, and less only where both do.
    fn join(self, other: Self) -> Self {
        let pairs = self
            .less
            .iter()
            .flat_map(|one| other.less.iter().filter_map(|other| both(one, other)));
        Self {
            less: without_redundant(pairs),
            more: without_redundant(self.more.into_iter().chain(other.more)),
        }
    }

    /// `Err` with the action of a rule without conditions that no profile can have beside the others.
    fn effect(self, default: Action) -> Result<Effect, Action> {
        let bare = (self.more.first()).filter(|(conditions, _)| conditions.is_empty());
        if let Some((_, action)) = bare.cloned()
            && self.more.len() > 1
        {
            // LOG allows as much as ALLOW.
            return match action {
                Action::Log => Ok(Effect::Always(action)),
                _ => Err(action),
            };
        }
        let mut gathered = Gathered::default();
        for (conditions, action) in self.more.into_iter().chain(self.less) {
            gathered.add(conditions, action);
        }
        Ok(gathered.effect(default))
    }
}

/// Where both hold, if a rule can say it: no two conditions of one argument.
fn both(
    one: &(BTreeSet<Condition>, Action),
    other: &(BTreeSet<Condition>, Action),
) -> Option<(BTreeSet<Condition>, Action)> {
    let conditions: BTreeSet<Condition> = one.0.union(&other.0).copied().collect();
    let indices: BTreeSet<u8> = conditions.iter().map(|condition| condition.index).collect();
    (indices.len() == conditions.len()).then_some((conditions, one.1.max(other.1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;
    use crate::profile::Op;

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
            (bare(Errno(1)), bare(Errno(2)), bare(Errno(2))),
            (bare(Errno(1)), bare(DEFAULT), bare(DEFAULT)),
            (some(&[(&[a], KillProcess)]), bare(DEFAULT), bare(DEFAULT)),
            (
                some(&[(&[a], KillProcess)]),
                bare(Errno(1)),
                some(&[(&[a], Errno(1))]),
            ),
            (
                some(&[(&[a], KillProcess)]),
                some(&[(&[c], Errno(1))]),
                some(&[(&[a, c], Errno(1))]),
            ),
            // Two conditions of one argument would be or-bound.
            (
                some(&[(&[a], KillProcess)]),
                some(&[(&[b], KillProcess)]),
                bare(DEFAULT),
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
                "b.json answers `socket` with SCMP_ACT_NOTIFY for any arguments, and a.json permits more for some",
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
