//! The two sides of a comparison.

use super::permit::{Permit, lets_through};
use crate::arch::Arch;
use crate::generate::{GenerateError, from_merged};
use crate::merge::Merged;
use crate::observation::{Arguments, EnteredAs, Phase};
use crate::policy::Policy;
use crate::profile::{Action, ENOSYS};
use crate::profile::{Condition, Effect, Op, Profile};
use crate::report::{Reasons, Why};
use crate::syscall;
use std::collections::{BTreeMap, BTreeSet};

/// One side of a comparison: a profile, or what recordings saw.
#[derive(Clone, Debug)]
pub struct Subject {
    label: String,
    content: Content,
    reasons: Reasons,
}

#[derive(Clone, Debug)]
enum Content {
    Profile {
        profile: Box<Profile>,
        native: Arch,
    },
    /// What the recordings would have a filter allow, by ABI.
    Recorded(BTreeMap<(Arch, String), Effect>),
}

impl Subject {
    /// A profile. `native` is the architecture of the machines that it is for, where it lists none; `reasons` come from the report
    /// beside it.
    #[must_use]
    pub fn profile(label: &str, profile: Profile, native: Arch, reasons: Option<Reasons>) -> Self {
        Self {
            label: label.to_owned(),
            content: Content::Profile {
                profile: Box::new(profile),
                native,
            },
            reasons: reasons.unwrap_or_default(),
        }
    }

    /// What recordings saw of the application and of what entered later, as `generate` takes it: with no base, core or closure.
    ///
    /// # Errors
    /// When nothing was recorded.
    pub fn recorded(label: &str, merged: &Merged) -> Result<Self, GenerateError> {
        let policy = Policy {
            core: false,
            base: false,
            closure: false,
            ..Policy::default()
        };
        let reasons = Reasons::of(&from_merged(merged, &policy)?.report);
        let mut calls: BTreeMap<(Arch, String), Effect> = BTreeMap::new();
        for (name, whys) in &reasons.calls {
            for arch in whys.iter().filter_map(|why| why.arch) {
                let effect = recorded(merged, arch, name);
                calls.insert((arch, name.clone()), effect);
            }
        }
        Ok(Self {
            label: label.to_owned(),
            content: Content::Recorded(calls),
            reasons,
        })
    }

    /// What it was called when it was made.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// `profile` or `observation`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.content {
            Content::Profile { .. } => "profile",
            Content::Recorded(_) => "observation",
        }
    }

    /// Why its calls are there, as far as it is known.
    #[must_use]
    pub fn reasons(&self) -> &Reasons {
        &self.reasons
    }

    /// The profile, if it is one.
    #[must_use]
    pub fn as_profile(&self) -> Option<&Profile> {
        match &self.content {
            Content::Profile { profile, .. } => Some(profile),
            Content::Recorded(_) => None,
        }
    }

    /// The architectures that it lets in.
    #[must_use]
    pub fn architectures(&self) -> BTreeSet<Arch> {
        match &self.content {
            Content::Profile { profile, native } => {
                if profile.architectures.is_empty() {
                    BTreeSet::from([*native])
                } else {
                    profile
                        .architectures
                        .iter()
                        .filter_map(|arch| arch.arch())
                        .collect()
                }
            }
            Content::Recorded(calls) => calls.keys().map(|(arch, _)| *arch).collect(),
        }
    }

    /// Every name that is let through, with conditions or without, on any of its architectures.
    #[must_use]
    pub fn names(&self) -> BTreeSet<&str> {
        match &self.content {
            Content::Profile { profile, .. } => {
                let effects = profile.effects();
                let mut names: BTreeSet<&str> = BTreeSet::new();
                // What no rule names has the default.
                if lets_through(profile.default_action) {
                    let all = |arch| syscall::table(arch).iter().map(|call| call.name);
                    names.extend(self.architectures().into_iter().flat_map(all));
                }
                for (name, effect) in effects {
                    if Permit::of(&effect) == Permit::Never {
                        names.remove(name);
                    } else {
                        names.insert(name);
                    }
                }
                names
            }
            Content::Recorded(calls) => calls.keys().map(|(_, name)| name.as_str()).collect(),
        }
    }

    /// What happens to a call by one ABI; by an ABI that is not let in the kernel kills.
    #[must_use]
    pub fn effect(&self, arch: Arch, name: &str) -> Effect {
        match &self.content {
            Content::Profile { profile, .. } if self.architectures().contains(&arch) => {
                profile.effect(name)
            }
            Content::Profile { .. } => Effect::Always(Action::KillThread),
            Content::Recorded(calls) => calls
                .get(&(arch, name.to_owned()))
                .cloned()
                .unwrap_or(Effect::Always(Action::Errno(ENOSYS))),
        }
    }

    /// Every call that it says something of, with its effect; by ABI or, where `by_arch` is false, by name only.
    pub(super) fn effects(&self, by_arch: bool) -> BTreeMap<(Option<Arch>, String), Effect> {
        match &self.content {
            Content::Recorded(calls) => calls
                .iter()
                .map(|((arch, name), effect)| ((Some(*arch), name.clone()), effect.clone()))
                .collect(),
            Content::Profile { profile, .. } if by_arch => {
                let effects = profile.effects();
                let on = |arch: Arch| {
                    effects
                        .iter()
                        .filter(move |(name, _)| syscall::nr(arch, name).is_some())
                        .map(move |(name, effect)| {
                            ((Some(arch), (*name).to_owned()), effect.clone())
                        })
                };
                self.architectures().into_iter().flat_map(on).collect()
            }
            Content::Profile { profile, .. } => profile
                .effects()
                .into_iter()
                .map(|(name, effect)| ((None, name.to_owned()), effect))
                .collect(),
        }
    }

    /// Why a call is there: who made it first, or why it was added.
    #[must_use]
    pub fn why(&self, arch: Option<Arch>, name: &str) -> Option<&Why> {
        let whys = self.reasons.calls.get(name)?;
        whys.iter()
            .filter(|why| arch.is_none() || why.arch.is_none() || why.arch == arch)
            .min_by_key(|why| why.rank())
    }
}

/// What a filter would have to allow for what was recorded: every argument, or where these were recorded just them.
fn recorded(merged: &Merged, arch: Arch, name: &str) -> Effect {
    let joined = merged
        .calls
        .iter()
        .filter(|((of, phase), _)| *of == arch && !matches!(phase, Phase::Runtime | Phase::Hook))
        .map(|(_, calls)| calls)
        .chain(merged.blocked_at_attach.get(&arch))
        .filter_map(|calls| calls.get(name))
        .map(|seen| &seen.first);
    // What entered counts for the recordings of which it was said.
    let entered = merged
        .recordings
        .values()
        .filter(|recording| recording.entered_as == Some(EnteredAs::App))
        .flat_map(|recording| &recording.calls)
        .filter(|((of, _), _)| *of == arch)
        .filter_map(|(_, calls)| calls.get(name));
    let mut rules = BTreeSet::new();
    for sighting in joined.chain(entered) {
        match &sighting.arguments {
            Some(arguments) if !arguments.overflow && !arguments.values.is_empty() => {
                rules.extend(clauses(arguments).map(|clause| (clause, Action::Allow)));
            }
            _ => return Effect::Always(Action::Allow),
        }
    }
    if rules.is_empty() {
        return Effect::Always(Action::Allow);
    }
    Effect::ByArguments {
        rules,
        otherwise: Action::Errno(ENOSYS),
    }
}

fn clauses(arguments: &Arguments) -> impl Iterator<Item = BTreeSet<Condition>> + '_ {
    arguments.values.iter().map(|values| {
        let test = |(index, value): (&u32, &u32)| Condition {
            index: u8::try_from(*index).unwrap_or(u8::MAX),
            op: Op::Eq,
            value: u64::from(*value),
            value_two: 0,
        };
        arguments.indices.iter().zip(values).map(test).collect()
    })
}
