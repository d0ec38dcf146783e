//! `seccast verify --minimal`: which of the allowed calls the load really needs.
//!
//! A call that the run under the whole profile did not show is not needed by it: only those that it showed are taken away, one
//! at a time, and the same is started again.

use crate::output;
use seccast_model::{Observation, Policy, Profile, generate, profile::Action, report::Origin};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fmt::Write as _};

/// The names of a profile by what became of the load without them.
#[derive(Debug, Default)]
pub(super) struct Minimal {
    /// The load fails without it.
    needed: BTreeSet<String>,
    /// It is called, denied, and the load passes all the same.
    survived: BTreeSet<String>,
    /// Nobody called it.
    uncalled: BTreeSet<String>,
    /// For the runtime, for every program or for other kernels, whether the load calls it or not: not taken away.
    kept: BTreeSet<String>,
}

/// Tries `profile` without each call that `seen` shows: `again` starts the same under a profile, true if it passed.
pub(super) fn minimal(
    profile: &Profile,
    seen: &Observation,
    mut again: impl FnMut(&Profile) -> anyhow::Result<bool>,
) -> anyhow::Result<Minimal> {
    let policy = Policy {
        // A plain command has no runtime.
        base: seen.target.container_id.is_some(),
        ..Policy::default()
    };
    let origins = generate(std::slice::from_ref(seen), &policy)?
        .report
        .syscalls;
    let mut minimal = Minimal::default();
    let mut tries = Vec::new();
    for name in profile.allowed_names() {
        let origins = origins.get(name).map_or(&[][..], Vec::as_slice);
        let shared = |origin: &Origin| matches!(origin, Origin::Core { .. } | Origin::Base { .. });
        let recorded = |origin: &Origin| matches!(origin, Origin::Recorded(_));
        if origins.is_empty() {
            minimal.uncalled.insert(name.to_owned());
        } else if origins.iter().any(recorded) && !origins.iter().any(shared) {
            tries.push(name);
        } else {
            minimal.kept.insert(name.to_owned());
        }
    }
    let all = tries.len();
    for (at, name) in tries.into_iter().enumerate() {
        let passed = again(&without(profile, name))?;
        output::note(&format!(
            "seccast: {} of {all}: without {name} {}",
            at + 1,
            if passed { "it passes" } else { "it fails" }
        ));
        let into = if passed {
            &mut minimal.survived
        } else {
            &mut minimal.needed
        };
        into.insert(name.to_owned());
    }
    Ok(minimal)
}

/// The profile without a name: what it denies by default happens to it.
fn without(profile: &Profile, name: &str) -> Profile {
    let mut without = profile.clone();
    for rule in &mut without.rules {
        if matches!(rule.action, Action::Allow | Action::Log) {
            rule.names.remove(name);
        }
    }
    without.rules.retain(|rule| !rule.names.is_empty());
    without
}

impl Minimal {
    /// Are there calls that the load does not need?
    pub(super) fn has_useless(&self) -> bool {
        !self.uncalled.is_empty() || !self.survived.is_empty()
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (what, names) in [
            ("needed by this load", &self.needed),
            ("called, and the load passes without", &self.survived),
            ("not called by this load", &self.uncalled),
            (
                "kept for the runtime, every program or other kernels",
                &self.kept,
            ),
        ] {
            if !names.is_empty() {
                let listed: Vec<_> = names.iter().map(String::as_str).collect();
                let _ = writeln!(text, "  {what} ({}): {}", names.len(), listed.join(" "));
            }
        }
        text
    }

    /// For machines.
    pub(super) fn json(&self) -> Value {
        json!({
            "needed": self.needed,
            "survived": self.survived,
            "uncalled": self.uncalled,
            "kept": self.kept,
        })
    }
}
