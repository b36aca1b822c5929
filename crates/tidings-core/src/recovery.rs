//! Recovery: how a device that was away gets what it missed of a channel, in order and once, or is told that it does not.
//!
//! Owns: where a subscription begins, and the steps from there to the live end. Refuses to read anything: what ring and store
//! hold is an argument. Neighbours: `position` before it, `protocol` says what was decided, the gateway carries it out.

mod catch_up;
mod start;
#[cfg(test)]
mod tests;

pub use self::catch_up::{Answer, Archive, CatchUp, Newest, Page, Reach, Step};
pub use self::start::{Known, Start, Stopped};

/// Why it cannot be said what a device missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Its position is of another epoch.
    Epoch,
    /// Its position lies beyond the end of the log.
    Beyond,
    /// The ring does not reach back so far, and there is no store.
    Forgotten,
    /// The projection did not come as far as the ring reaches back, in the time it was given.
    Behind,
    /// Store or brokers did not answer in the time they were given.
    Unanswered,
    /// Its device may have been here, but has been in too many channels since.
    Lapsed,
}

impl Loss {
    /// Every loss there is.
    pub const ALL: [Self; 6] = [Self::Epoch, Self::Beyond, Self::Forgotten, Self::Behind, Self::Unanswered, Self::Lapsed];

    /// The word for it in metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Epoch => "epoch",
            Self::Beyond => "beyond",
            Self::Forgotten => "forgotten",
            Self::Behind => "behind",
            Self::Unanswered => "unanswered",
            Self::Lapsed => "lapsed",
        }
    }
}

/// A hole in what a device is sent: some of it is no longer kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncated {
    /// Its first offset.
    pub from: i64,
    /// The first offset behind it.
    pub to: i64,
}
