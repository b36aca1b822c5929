//! History: what became of each attempt, as people read it.
//!
//! Owns: telling each attempt with its own outcome. A record says beside an attempt why it was needed, which is what came of the one
//! before; what came of the last one is only known at the next. Neighbours: `record::retry` has the attempts, http tells them.

use crate::ids::{NodeId, UserId};
use crate::record::retry::{Attempt, Outcome, Sink};
use crate::time::Timestamp;

/// An attempt with what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its number; 0 is the first time that the notification was sent to whoever was connected.
    pub number: u32,
    /// When.
    pub at: Timestamp,
    /// By which process; every gateway sends what is new by itself.
    pub node: Option<NodeId>,
    /// Which operator asked for it.
    pub by: Option<UserId>,
    /// By which way.
    pub sink: Sink,
    /// What came of it.
    pub came: Came,
    /// When that is looked at, if it is not known yet.
    pub next_at: Option<Timestamp>,
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Came {
    /// No device of the user had been written to.
    Offline,
    /// A device was written to and has not acknowledged in time.
    Unacknowledged,
    /// A device has acknowledged.
    Acknowledged,
    /// It is not known yet.
    Waiting,
    /// It was not looked at any more: nobody is to see the notification, or it has expired.
    Dropped,
}

impl Came {
    /// The name in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Unacknowledged => "unacknowledged",
            Self::Acknowledged => "acknowledged",
            Self::Waiting => "waiting",
            Self::Dropped => "dropped",
        }
    }
}

impl From<Outcome> for Came {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Offline => Self::Offline,
            Outcome::Unacknowledged => Self::Unacknowledged,
        }
    }
}

/// The attempts of a notification that was `sent_at`, oldest first: `made` in all, of which `attempts` are the latest that are told of. What
/// came of the last is `last`.
#[must_use]
pub fn history(sent_at: Timestamp, (made, attempts): (u32, &[Attempt]), last: Came) -> Vec<Told> {
    let forgotten = made.saturating_sub(u32::try_from(attempts.len()).unwrap_or(u32::MAX));
    let first = (forgotten == 0).then_some((0, None));
    let sent = attempts.iter().zip(1..).map(|(attempt, number)| (forgotten.saturating_add(number), Some(attempt)));
    let came = attempts.iter().map(|attempt| attempt.outcome.into()).chain([last]).skip(usize::from(forgotten > 0));
    let told = first.into_iter().chain(sent).zip(came).map(|((number, attempt), came)| Told {
        number,
        at: attempt.map_or(sent_at, |attempt| attempt.at),
        node: attempt.map(|attempt| attempt.node.clone()),
        by: attempt.and_then(|attempt| attempt.by.clone()),
        sink: attempt.map_or(Sink::Websocket, |attempt| attempt.sink),
        came,
        next_at: attempt.and_then(|attempt| attempt.next_at).filter(|_| came == Came::Waiting),
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(at: i64, outcome: Outcome) -> Attempt {
        let [at, next] = [at, at + 30].map(Timestamp::from_millis);
        Attempt { at, node: "node-1".parse().unwrap(), sink: Sink::Websocket, outcome, next_at: Some(next), by: None }
    }

    fn shown(told: &[Told]) -> Vec<(u32, i64, &'static str, Option<i64>)> {
        let line = |told: &Told| (told.number, told.at.as_millis(), told.came.name(), told.next_at.map(Timestamp::as_millis));
        told.iter().map(line).collect()
    }

    #[test]
    fn each_attempt_is_told_with_what_came_of_itself() {
        let attempts = [attempt(100, Outcome::Offline), attempt(200, Outcome::Unacknowledged)];
        let sent = Timestamp::from_millis(7);
        let told = history(sent, (2, &attempts), Came::Waiting);
        assert_eq!(shown(&told), [(0, 7, "offline", None), (1, 100, "unacknowledged", None), (2, 200, "waiting", Some(230))]);
        assert_eq!((told[0].node.is_none(), told[1].node.is_some()), (true, true));
        let told = history(sent, (2, &attempts), Came::Acknowledged);
        assert_eq!(shown(&told).last(), Some(&(2, 200, "acknowledged", None)));
        assert_eq!(shown(&history(sent, (0, &[]), Came::Waiting)), [(0, 7, "waiting", None)]);
    }

    #[test]
    fn what_was_forgotten_keeps_its_numbers() {
        let attempts = [attempt(100, Outcome::Offline), attempt(200, Outcome::Unacknowledged)];
        let told = history(Timestamp::from_millis(7), (12, &attempts), Came::Offline);
        assert_eq!(shown(&told), [(11, 100, "unacknowledged", None), (12, 200, "offline", None)]);
        let told = history(Timestamp::from_millis(7), (u32::MAX, &attempts), Came::Waiting);
        assert_eq!(told.iter().map(|told| told.number).collect::<Vec<_>>(), [u32::MAX - 1, u32::MAX]);
    }
}
