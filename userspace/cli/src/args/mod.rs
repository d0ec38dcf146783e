//! What was typed: one file a verb, no side effects.

pub mod doctor;
pub mod generate;
pub mod precreate;
pub mod record;

use clap::{ColorChoice, Parser, Subcommand};

/// Seccomp profiles for containers, from what they really call.
#[derive(Debug, Parser)]
#[command(
    name = "seccast",
    version,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub struct Args {
    /// Use colours: where a terminal shows them and NO_COLOR is not set, always, or never
    #[arg(
        long,
        global = true,
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
    /// Say what this machine lacks to record
    Doctor(doctor::DoctorArgs),
    /// What podman calls before it makes a container that is recorded
    #[command(hide = true)]
    Precreate(precreate::PrecreateArgs),
}
