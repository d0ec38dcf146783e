//! Colours: where the stream shows them, and never alone.

use anstream::ColorChoice;
use anstyle::{AnsiColor, Style};

/// Fixes for the whole program what `--color` says. Auto is a terminal that can, unless `NO_COLOR` says otherwise, or
/// whatever `CLICOLOR_FORCE` says.
pub fn choose(when: clap::ColorChoice) {
    match when {
        clap::ColorChoice::Auto => ColorChoice::Auto,
        clap::ColorChoice::Always => ColorChoice::Always,
        clap::ColorChoice::Never => ColorChoice::Never,
    }
    .write_global();
}

/// What a text means; the text itself says it as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing of its own.
    Plain,
    /// A name, a heading.
    Strong,
    /// As it should be.
    Good,
    /// Worth a look: a warning, a limit.
    Fair,
    /// An error, a finding, a denial.
    Bad,
}

impl Tone {
    /// The text in this tone. The escape sequences are taken out again where the stream does not show colours, so this goes
    /// only to [`Destination::show`](super::file::Destination::show) and [`note`](super::note).
    pub fn paint(self, text: &str) -> String {
        let style = match self {
            Self::Plain => return text.to_owned(),
            Self::Strong => Style::new().bold(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Fair => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
        };
        format!("{style}{text}{style:#}")
    }
}
