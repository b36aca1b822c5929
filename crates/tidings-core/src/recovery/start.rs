//! Where a subscription begins.
//!
//! Owns: the judgement of a position that a client names, and what a device without one resumes from. Refuses to trust a
//! position: whatever it says, what is sent is the channel's.

use super::Loss;
use crate::position::{Epoch, Position};
use crate::stretch::{Stretch, Stretches};

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With what comes next.
    Live,
    /// At the offset that the client named.
    Named(i64),
    /// At an offset that is known of its device or its mailbox.
    Known(i64),
    /// It cannot be told; with the position that the client named, if it did.
    Lost(Loss, Option<Position>),
}

/// What is known of a device that names no position.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known {
    /// Where it stopped, if it ever was sent something.
    pub stopped: Option<Stopped>,
    /// The first notification of the mailbox that nobody has acknowledged.
    pub pending: Option<i64>,
    /// The next offset to fold of the channel's partition, if anything of it was.
    pub projected: Option<i64>,
}

/// Where a device stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// At an offset of this epoch.
    At(i64),
    /// In an epoch before.
    Before,
}

impl Stopped {
    /// What a device has not acknowledged although it was offered or has acknowledged something behind it.
    #[must_use]
    pub fn holes(offered: &Stretches, acknowledged: &Stretches) -> Vec<Stretch> {
        let (began, first) = (offered.as_slice().first(), acknowledged.as_slice().first());
        let before = began.zip(first).filter(|(began, first)| began.from < first.from);
        let before = before.map(|(began, first)| Stretch { from: began.from, to: first.from });
        before.into_iter().chain(acknowledged.holes()).collect()
    }

    /// Where a device stopped in this epoch that was offered and has acknowledged this. `missed` is the first notification kept in
    /// its [holes](Self::holes): single ones may have been acknowledged by their ids or sent again, ahead of others that the device
    /// never saw. One that acknowledged nothing begins where it began before. One that was never sent anything is new, whatever it has
    /// acknowledged over HTTP: it stopped nowhere.
    #[must_use]
    pub fn of_cursor(offered: &Stretches, acknowledged: &Stretches, missed: Option<i64>, projected: Option<i64>) -> Option<Self> {
        let began = offered.as_slice().first()?.from;
        let Some((first, end)) = acknowledged.as_slice().first().zip(acknowledged.end()) else { return Some(Self::At(began)) };
        // What is not folded yet may lie between too.
        let began = began.min(first.from);
        let unfolded = acknowledged.first_outside(projected.unwrap_or(0).max(began));
        Some(Self::At(missed.map_or(end, |missed| missed.min(end)).min(unfolded)))
    }
}

impl Start {
    /// Judges a position that a client names, where the log ends at `end` in this epoch.
    #[must_use]
    pub fn named(position: Position, epoch: Epoch, end: i64) -> Self {
        if position.epoch != epoch {
            Self::Lost(Loss::Epoch, Some(position))
        } else if position.offset > end {
            Self::Lost(Loss::Beyond, Some(position))
        } else {
            Self::Named(position.offset)
        }
    }

    /// Where a device without a position begins in its mailbox: where it stopped; a new one at the oldest pending notification.
    /// Whether what is not folded yet is pending, nobody can say, so it counts as if it were.
    #[must_use]
    pub fn in_mailbox(known: Known) -> Self {
        let unfolded = known.projected.unwrap_or(0);
        known.stopped.map_or(Self::Known(known.pending.map_or(unfolded, |pending| pending.min(unfolded))), Self::stopped)
    }

    /// Where a device without a position begins in any other channel: where it stopped; a new one at the live end.
    #[must_use]
    pub fn elsewhere(known: Known) -> Self {
        known.stopped.map_or(Self::Live, Self::stopped)
    }

    fn stopped(stopped: Stopped) -> Self {
        match stopped {
            Stopped::At(offset) => Self::Known(offset),
            Stopped::Before => Self::Lost(Loss::Epoch, None),
        }
    }

    /// The position that the client is to keep until it is sent something, where `live` is the live end. A client that comes
    /// back with it has lost nothing: if nothing is known, it is the beginning of the epoch.
    #[must_use]
    pub fn shown(self, epoch: Epoch, live: i64) -> Position {
        let offset = match self {
            Self::Live => live,
            Self::Named(offset) | Self::Known(offset) => offset,
            Self::Lost(_, Some(position)) => return position,
            Self::Lost(_, None) => 0,
        };
        Position { epoch, offset }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Epoch = Epoch(2);

    fn at(epoch: u64, offset: i64) -> Position {
        Position { epoch: Epoch(epoch), offset }
    }

    #[test]
    fn a_position_counts_up_to_the_end_of_the_log_and_in_its_own_epoch_only() {
        assert_eq!(Start::named(at(2, 0), EPOCH, 0), Start::Named(0));
        assert_eq!(Start::named(at(2, 9), EPOCH, 9), Start::Named(9));
        assert_eq!(Start::named(at(2, 10), EPOCH, 9), Start::Lost(Loss::Beyond, Some(at(2, 10))));
        for epoch in [1, 3] {
            assert_eq!(Start::named(at(epoch, 4), EPOCH, 9), Start::Lost(Loss::Epoch, Some(at(epoch, 4))));
        }
    }

    #[test]
    fn a_device_without_a_position_resumes_where_it_stopped_wherever_that_is_known() {
        let known = Known { stopped: Some(Stopped::At(7)), pending: Some(3), projected: Some(9) };
        assert_eq!(Start::in_mailbox(known), Start::Known(7));
        assert_eq!(Start::elsewhere(known), Start::Known(7));
    }

    #[test]
    fn a_device_that_stopped_in_an_epoch_before_is_told_so_everywhere() {
        let known = Known { stopped: Some(Stopped::Before), pending: Some(3), projected: Some(9) };
        assert_eq!(Start::in_mailbox(known), Start::Lost(Loss::Epoch, None));
        assert_eq!(Start::elsewhere(known), Start::Lost(Loss::Epoch, None));
    }

    #[test]
    fn a_new_device_begins_at_the_oldest_pending_notification_of_its_mailbox_and_at_the_live_end_elsewhere() {
        let pending = Known { pending: Some(3), projected: Some(9), ..Known::default() };
        assert_eq!(Start::in_mailbox(pending), Start::Known(3));
        assert_eq!(Start::elsewhere(pending), Start::Live);
    }

    #[test]
    fn what_is_not_folded_yet_counts_as_pending() {
        let folded = Known { projected: Some(9), ..Known::default() };
        assert_eq!(Start::in_mailbox(folded), Start::Known(9));
        assert_eq!(Start::in_mailbox(Known::default()), Start::Known(0), "nothing of the partition was ever folded");
    }

    fn set(ranges: &[(i64, i64)]) -> Stretches {
        ranges.iter().map(|(from, to)| Stretch { from: *from, to: *to }).collect()
    }

    #[test]
    fn a_device_stopped_at_the_first_it_did_not_acknowledge_however_far_single_acknowledgements_reach() {
        let at = |acknowledged: &[(i64, i64)], missed, projected| {
            let stopped = Stopped::of_cursor(&set(&[(2, 60)]), &set(acknowledged), missed, projected);
            match stopped.unwrap() {
                Stopped::At(offset) => offset,
                Stopped::Before => panic!("{stopped:?}"),
            }
        };
        assert_eq!(at(&[(2, 10)], None, Some(40)), 10);
        assert_eq!(at(&[(2, 10), (30, 31)], Some(14), Some(40)), 14);
        assert_eq!(at(&[(2, 10), (30, 31)], None, Some(40)), 31, "records of others lie between");
        assert_eq!(at(&[(2, 10), (30, 31)], None, Some(12)), 12, "nobody knows yet what lies between");
        assert_eq!(at(&[(2, 10), (30, 31)], None, None), 10);
        assert_eq!(at(&[], None, Some(40)), 2, "nothing was acknowledged");
        assert_eq!(Stopped::of_cursor(&set(&[]), &set(&[]), None, Some(9)), None);
        assert_eq!(Stopped::of_cursor(&set(&[]), &set(&[(3, 5)]), None, Some(9)), None, "it was never sent anything");
    }

    #[test]
    fn what_a_device_was_offered_before_the_first_it_acknowledged_is_not_left_out() {
        let (offered, acknowledged) = (set(&[(3, 11)]), set(&[(9, 10)]));
        assert_eq!(Stopped::holes(&offered, &acknowledged), [Stretch { from: 3, to: 9 }]);
        let stopped = |missed, projected| Stopped::of_cursor(&offered, &acknowledged, missed, projected);
        assert_eq!(stopped(Some(4), Some(40)), Some(Stopped::At(4)));
        assert_eq!(stopped(None, Some(40)), Some(Stopped::At(10)), "nothing of its channel lies there");
        assert_eq!(stopped(None, Some(6)), Some(Stopped::At(6)), "nobody knows yet what lies there");
        assert_eq!(stopped(None, None), Some(Stopped::At(3)));
        assert_eq!(Stopped::holes(&set(&[(3, 9)]), &set(&[(3, 5), (7, 9)])), [Stretch { from: 5, to: 7 }]);
        assert_eq!(Stopped::holes(&set(&[]), &set(&[(3, 5)])), []);
    }

    #[test]
    fn the_position_to_keep_meanwhile_never_lies_behind_what_was_missed() {
        assert_eq!(Start::Live.shown(EPOCH, 8), at(2, 8));
        assert_eq!(Start::Named(3).shown(EPOCH, 8), at(2, 3));
        assert_eq!(Start::Lost(Loss::Beyond, Some(at(2, 99))).shown(EPOCH, 8), at(2, 99));
        assert_eq!(Start::Lost(Loss::Unanswered, None).shown(EPOCH, 8), at(2, 0));
    }
}
