//! What commands that take long have in common: a bar on the terminal, times as people give them, Ctrl-C and SIGTERM.

use std::cell::Cell;
use std::io::Write as _;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tidings_core::time::{Delay, Timestamp, TimestampError};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::replay::Progress;

const STYLE: &str = "{msg} [{bar:30}] {human_pos}/{human_len} ({per_sec}, {eta} left)";

/// How far something is, on standard error: a bar with rate and estimated end where that is a terminal.
pub(super) struct Bar {
    bar: ProgressBar,
    elsewhere: Elsewhere,
    /// What was told last where no bar is shown.
    told: Cell<Option<(&'static str, u64)>>,
}

/// What is told where standard error is no terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Elsewhere {
    /// Nothing.
    Silent,
    /// A line for each tenth.
    Tenths,
}

impl Bar {
    pub(super) fn new(elsewhere: Elsewhere) -> Self {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template(STYLE) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, elsewhere, told: Cell::new(None) }
    }

    pub(super) fn show(&self, Progress { what, done, all }: Progress) {
        if self.bar.is_hidden() {
            return self.tell((what, done, all));
        }
        if self.bar.message() != what {
            self.bar.reset();
            self.bar.set_message(what);
        }
        self.bar.set_length(all);
        self.bar.set_position(done);
    }

    fn tell(&self, (what, done, all): (&'static str, u64, u64)) {
        let tenth = (done.saturating_mul(10)).checked_div(all).unwrap_or(10);
        if self.elsewhere == Elsewhere::Silent || self.told.replace(Some((what, tenth))) == Some((what, tenth)) {
            return;
        }
        // Nobody may listen; that stops nothing.
        let _ = writeln!(std::io::stderr().lock(), "{what}: {} %, {done} of {all} offsets", tenth * 10);
    }

    /// Takes it away, so that what is printed stands alone.
    pub(super) fn gone(&self) {
        self.bar.finish_and_clear();
    }
}

/// A time as it is given: an instant, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    At(Timestamp),
    Ago(Delay),
}

impl Moment {
    /// The instant, if it is `now`.
    pub(super) fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(delay) => now.minus(delay.0),
        }
    }
}

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        text.parse().map(Self::Ago).or_else(|_| text.parse().map(Self::At)).map_err(MomentError)
    }
}

/// A text that is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; or say how long ago, as `2h`")]
pub(super) struct MomentError(TimestampError);

/// Runs what blocks beside the runtime, and has it end early on Ctrl-C, or when whoever runs it in a container wants its end.
pub(super) async fn stoppable(
    work: impl FnOnce(&CancellationToken) -> anyhow::Result<ExitCode> + Send + 'static,
) -> anyhow::Result<ExitCode> {
    let stop = CancellationToken::new();
    let given = stop.clone();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut working = tokio::task::spawn_blocking(move || work(&given));
    tokio::select! {
        ended = &mut working => return ended?,
        heard = tokio::signal::ctrl_c() => heard?,
        _ = terminate.recv() => {}
    }
    stop.cancel();
    working.await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_an_instant_or_how_long_ago() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let at = |text: &str| text.parse::<Moment>().unwrap().before(now).to_string();
        assert_eq!(at("2h"), "2026-01-31T10:00:00.000Z");
        assert_eq!(at("2026-01-30T01:02:03Z"), "2026-01-30T01:02:03.000Z");
        insta::assert_snapshot!("noon".parse::<Moment>().unwrap_err(), @"a time looks like `2026-01-31T12:00:00Z` (RFC 3339), this is \"noon\"; or say how long ago, as `2h`");
    }
}
