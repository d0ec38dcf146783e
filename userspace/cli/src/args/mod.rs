//! What was typed: one file a verb, no side effects.

pub mod attach;
pub mod check;
pub mod completions;
pub mod convert;
pub mod diff;
pub mod doctor;
pub mod generate;
pub mod input;
pub mod install;
pub mod man;
pub mod merge;
pub mod precreate;
pub mod record;
pub mod run;
pub mod target;
pub mod verify;

use clap::{ColorChoice, Parser, Subcommand};

/// Seccomp profiles for containers, from what they really call.
#[derive(Debug, Parser)]
#[command(
    name = "seccast",
    version,
    arg_required_else_help = true,
    max_term_width = 100,
    after_long_help = "\
Examples:
  seccast record -o web.json -- docker run --rm web
      record the container that the command starts, and make a profile of what it called
  seccast generate web.observation.json -o web.json
      make the profile of a recording again
  seccast help record
      every option of a command, with more examples

Exit codes: 0 done; 1 findings; 2 usage; 3 could not; `record`, `verify` and `run -- CMD` have CMD's own."
)]
pub struct Args {
    /// Use colours: where a terminal shows them and NO_COLOR is not set, always, or never
    #[arg(
        long,
        global = true,
        display_order = 900,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "auto|always|never"
    )]
    pub color: ColorChoice,
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Record what a command, a process or a container calls
    Record(Box<record::RecordArgs>),
    /// Make a profile from observations
    Generate(generate::GenerateArgs),
    /// Join observations, or profiles
    Merge(merge::MergeArgs),
    /// Run something under a profile, and list what the profile denies
    Verify(Box<verify::VerifyArgs>),
    /// Record, make the profile, start again under it, and judge
    Run(Box<run::RunArgs>),
    /// Say what differs between two profiles or recordings
    Diff(diff::DiffArgs),
    /// Make a plain OCI profile of anybody's, or of an engine's default
    Convert(convert::ConvertArgs),
    /// Hold a profile or a recording against the last accepted one, and against a policy
    Check(check::CheckArgs),
    /// Write a profile into manifests and other files, or into a workload of a cluster
    Attach(Box<attach::AttachArgs>),
    /// Put profiles onto this node, where Pods find them
    Install(Box<install::InstallArgs>),
    /// Say what this machine lacks to record
    Doctor(doctor::DoctorArgs),
    /// Write the completions of a shell
    Completions(completions::CompletionsArgs),
    /// Write the man pages
    Man(man::ManArgs),
    /// What podman calls before it makes a container that is recorded
    #[command(hide = true)]
    Precreate(precreate::PrecreateArgs),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn every_verb_says_what_it_does_with_examples_that_parse_and_its_exit_codes() {
        let mut seccast = Args::command();
        seccast.build();
        let verbs = seccast.get_subcommands().filter(|verb| !verb.is_hide_set());
        for verb in verbs.filter(|verb| verb.get_name() != "help") {
            let name = verb.get_name();
            let help = verb.get_after_long_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            assert!(verb.get_about().is_some(), "{name}");
            assert!(help.contains("\n\nExit codes: 0 "), "{name}: {help}");
            let examples = help.strip_prefix("Examples:\n").unwrap_or("");
            let lines = examples.lines().take_while(|line| !line.is_empty());
            let mut count = 0;
            for line in lines.filter_map(|line| line.strip_prefix("  seccast ")) {
                // Up to what the shell does with it.
                let typed = line.split(['|', '>']).next().unwrap_or("");
                let words = typed.split_whitespace().map(|word| word.trim_matches('\''));
                let words = ["seccast"].into_iter().chain(words);
                Args::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
                count += 1;
            }
            assert!(count > 0, "{name} has no example: {help}");
        }
        seccast.debug_assert();
    }
}
