//! The ladder: when a waiting delivery is due, and which rung follows.
//!
//! Owns: the delays of the rungs and their jitter, which follows from the notification's id and the rung, so that every
//! process that asks gets the same answer. Refuses to trust anything a record's headers say: the time a record was appended
//! and the topic it lies on are all that counts. Neighbours: `decide` beside, courier above.

use std::time::Duration;

use crate::ids::NotificationId;
use crate::time::{Delay, Timestamp};

/// The most that jitter adds to a delay.
pub const JITTER_LIMIT: Duration = Duration::from_secs(30);

/// A place to wait: 0 is `notifications` itself, where the first acknowledgement is waited for; rung `n` is the `n`th retry
/// topic, where a delivery waits after its `n`th attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rung(pub usize);

impl Rung {
    /// `notifications` itself.
    pub const FIRST: Self = Self(0);
}

/// The rungs in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder {
    ack_timeout: Duration,
    delays: Vec<Delay>,
    jitter_percent: u8,
}

impl Ladder {
    /// A ladder that waits `ack_timeout` for the first acknowledgement and then each of `delays` after an attempt, plus a jitter
    /// of up to `jitter_percent` of the delay.
    #[must_use]
    pub fn new(ack_timeout: Duration, delays: Vec<Delay>, jitter_percent: u8) -> Self {
        Self { ack_timeout, delays, jitter_percent }
    }

    /// The retry rungs with their delays, lowest first; rung 0 is not among them.
    pub fn rungs(&self) -> impl Iterator<Item = (Rung, &Delay)> {
        self.delays.iter().enumerate().map(|(index, delay)| (Rung(index + 1), delay))
    }

    /// Where a delivery waits after an attempt from `rung`: on the next rung, and on the last again and again. One with a ladder of its
    /// `own` goes to the next rung that this names, and behind its last there is nothing.
    #[must_use]
    pub fn next(&self, rung: Rung, own: Option<&[Delay]>) -> Option<Rung> {
        match own {
            None => Some(Rung((rung.0 + 1).min(self.delays.len()))),
            Some(own) => self.rungs().find(|(next, delay)| *next > rung && own.contains(delay)).map(|(next, _)| next),
        }
    }

    /// Whether no rung is longer.
    #[must_use]
    pub fn is_last(&self, rung: Rung) -> bool {
        rung.0 >= self.delays.len()
    }

    /// How many attempts lead to `rung`, as far as that follows from where it stands.
    #[must_use]
    pub fn attempts_to(&self, rung: Rung, own: Option<&[Delay]>) -> u32 {
        let climbed = self.rungs().filter(|(each, delay)| *each <= rung && own.is_none_or(|own| own.contains(delay)));
        u32::try_from(climbed.count()).unwrap_or(u32::MAX)
    }

    /// When a delivery that was appended to `rung` at `appended` is due: after the rung's delay and the jitter of `id` on it.
    /// Rung 0 has none, since nothing failed yet.
    #[must_use]
    pub fn due(&self, rung: Rung, appended: Timestamp, id: NotificationId) -> Timestamp {
        let Some(delay) = rung.0.checked_sub(1).and_then(|index| self.delays.get(index)) else {
            return appended.plus(self.ack_timeout);
        };
        appended.plus(delay.0).plus(self.jitter(rung, delay.0, id))
    }

    fn jitter(&self, rung: Rung, delay: Duration, id: NotificationId) -> Duration {
        let span = (delay * u32::from(self.jitter_percent) / 100).min(JITTER_LIMIT);
        let span_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let (high, low) = id.0.as_u64_pair();
        Duration::from_millis(scatter(high ^ low.rotate_left(32) ^ rung.0 as u64) % span_ms.saturating_add(1))
    }
}

/// When a record is due that lies behind another one in its partition: not before that one, so that the order holds and only
/// the first of a partition has to be watched.
#[must_use]
pub fn behind(own: Timestamp, predecessor: Option<Timestamp>) -> Timestamp {
    predecessor.map_or(own, |before| own.max(before))
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): neighbouring inputs give outputs all over the range.
fn scatter(seed: u64) -> u64 {
    let mut bits = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn ladder(delays_s: &[u64], jitter_percent: u8) -> Ladder {
        let delays = delays_s.iter().map(|seconds| Delay(Duration::from_secs(*seconds))).collect();
        Ladder::new(Duration::from_secs(30), delays, jitter_percent)
    }

    #[test]
    fn every_rung_is_followed_by_the_next_and_the_last_by_itself() {
        let ladder = ladder(&[30, 120], 20);
        let next = [0, 1, 2].map(|rung| ladder.next(Rung(rung), None));
        assert_eq!(next, [Some(Rung(1)), Some(Rung(2)), Some(Rung(2))]);
        assert_eq!([0, 1, 2].map(|rung| ladder.is_last(Rung(rung))), [false, false, true]);
        assert_eq!(ladder.rungs().map(|(rung, _)| rung).collect::<Vec<_>>(), [Rung(1), Rung(2)]);
    }

    #[test]
    fn a_ladder_of_its_own_leaves_rungs_out_and_ends() {
        let ladder = ladder(&[30, 120, 600], 20);
        let delays = |seconds: &[u64]| seconds.iter().map(|seconds| Delay(Duration::from_secs(*seconds))).collect::<Vec<_>>();
        let climbs = |own: &[u64]| [0, 1, 2, 3].map(|rung| ladder.next(Rung(rung), Some(&delays(own))).map(|next| next.0));
        assert_eq!(climbs(&[30, 600]), [Some(1), Some(3), Some(3), None]);
        assert_eq!(climbs(&[]), [None; 4]);
        // A rung that the configuration had when the rule was read.
        assert_eq!(climbs(&[45, 120]), [Some(2), Some(2), None, None]);
        assert_eq!([1, 3].map(|rung| ladder.attempts_to(Rung(rung), Some(&delays(&[30, 600])))), [1, 2]);
        assert_eq!([0, 1, 3].map(|rung| ladder.attempts_to(Rung(rung), None)), [0, 1, 3]);
    }

    #[test]
    fn numbers_are_scattered_as_splitmix64_does_it() {
        // The first outputs of the published generator for the seeds 0 and 1234567.
        assert_eq!(scatter(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(scatter(1_234_567), 6_457_827_717_110_365_317);
    }

    #[test]
    fn a_release_waits_as_long_as_the_one_before_it() {
        let ladder = ladder(&[30, 120], 20);
        let id = NotificationId(Uuid::from_u128(0x438e_828e_0a38_5599_8fb1_76b0_e457_4c75));
        let due = [1, 2].map(|rung| ladder.due(Rung(rung), Timestamp::from_millis(0), id).as_millis());
        assert_eq!(due, [35_530, 141_967]);
    }

    #[test]
    fn what_failed_together_is_not_tried_together() {
        let ladder = ladder(&[30], 20);
        let start = Timestamp::from_millis(0);
        let due = |seed: u128| ladder.due(Rung(1), start, NotificationId(Uuid::from_u128(seed)));
        let different = (0..100).map(due).collect::<std::collections::BTreeSet<_>>();
        assert!(different.len() > 80, "{} of 100", different.len());
    }

    proptest! {
        #[test]
        fn nothing_is_due_early_nor_later_than_its_jitter(
            delays in prop::collection::vec(1..100_000_u64, 1..6),
            percent in 0..=100_u8,
            rung in 0..6_usize,
            appended_ms in 0..4_000_000_000_000_i64,
            id: u128,
        ) {
            let rung = Rung(rung.min(delays.len()));
            let ladder = ladder(&delays, percent);
            let appended = Timestamp::from_millis(appended_ms);
            let waited = ladder.due(rung, appended, NotificationId(Uuid::from_u128(id))).since(appended);
            let delay = if rung == Rung::FIRST { Duration::from_secs(30) } else { Duration::from_secs(delays[rung.0 - 1]) };
            prop_assert!(waited >= delay, "{waited:?} before {delay:?}");
            let jitter = if rung == Rung::FIRST { Duration::ZERO } else { (delay * u32::from(percent) / 100).min(JITTER_LIMIT) };
            prop_assert!(waited <= delay + jitter, "{waited:?} after {delay:?} and {jitter:?}");
        }

        #[test]
        fn every_process_waits_equally_long(id: u128, rung in 1..3_usize) {
            let due = || ladder(&[30, 120], 20).due(Rung(rung), Timestamp::from_millis(0), NotificationId(Uuid::from_u128(id)));
            prop_assert_eq!(due(), due());
        }

        #[test]
        fn a_partition_becomes_due_in_order(own_ms in prop::collection::vec(0..1_000_i64, 1..30)) {
            let mut before = None;
            for own in own_ms.into_iter().map(Timestamp::from_millis) {
                let due = behind(own, before);
                prop_assert!(due >= own);
                prop_assert!(before.is_none_or(|before| due >= before));
                before = Some(due);
            }
        }
    }
}
