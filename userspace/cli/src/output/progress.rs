//! The live line of a recording: on a terminal, on stderr, and never among CMD's own output.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// The live line.
pub struct Progress {
    bar: ProgressBar,
    began: Instant,
    last_new: Instant,
    drawn: Instant,
    distinct: usize,
    newest: String,
}

impl Progress {
    /// A line, hidden where stderr is no terminal or `shown` is false.
    pub fn new(shown: bool) -> Self {
        let bar = if shown {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        let now = Instant::now();
        Self {
            bar,
            began: now,
            last_new: now,
            drawn: now,
            distinct: 0,
            newest: String::new(),
        }
    }

    /// The clock starts when the recording does.
    pub fn restart(&mut self) {
        self.began = Instant::now();
        self.last_new = self.began;
    }

    /// A call was seen for the first time.
    pub fn new_call(&mut self, name: &str, comm: &str, pid: u32) {
        self.distinct += 1;
        self.last_new = Instant::now();
        self.newest = super::printable(&format!("{name} by {comm}[{pid}]"));
    }

    /// How long nothing new was seen.
    pub fn quiet(&self) -> Duration {
        self.last_new.elapsed()
    }

    /// How long the recording runs.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Is it time to draw it again?
    pub fn due(&self) -> bool {
        !self.bar.is_hidden() && self.drawn.elapsed() >= Duration::from_millis(250)
    }

    /// Draws it.
    pub fn draw(&mut self, losses: u64) {
        self.drawn = Instant::now();
        let seconds = |duration: Duration| {
            humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
        };
        let newest = if self.newest.is_empty() {
            String::new()
        } else {
            format!(", newest {}", self.newest)
        };
        self.bar.set_message(format!(
            "{} · {} calls{newest} · {losses} losses · nothing new for {}",
            seconds(self.elapsed()),
            self.distinct,
            seconds(self.quiet())
        ));
        self.bar.tick();
    }

    /// Takes the line away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Prints a line above it.
    pub fn above(&self, line: &str) {
        self.bar.suspend(|| super::note(line));
    }
}
