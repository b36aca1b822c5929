//! Where a subscription begins.
//!
//! Owns: the judgement of a position that a client names, and what a device without one resumes from. Refuses to trust a
//! position: whatever it says, what is sent is the channel's.

use super::Loss;
use crate::position::{Epoch, Position};
use crate::record::cursor::CursorRecord;
use crate::stretch::Stretch;

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With what comes next.
    Live,
    /// Its device is new in the channel, as far as anybody knows: at this offset, or with what comes next. The log is to say so, for
    /// the device comes back to what it is sent from there on.
    First(Option<i64>),
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
    /// Whether this may be one of the channels that it was forgotten in, as it has spoken of too many.
    pub may_have_lapsed: bool,
}

/// Where a device stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// At an offset of this epoch.
    At(i64),
    /// In an epoch before.
    Before,
    /// Perhaps somewhere: what it may have said of it is not folded yet.
    Untold,
}

impl Stopped {
    /// What a device has not acknowledged although it began before, or has acknowledged something behind it.
    #[must_use]
    pub fn holes(cursor: &CursorRecord) -> Vec<Stretch> {
        let acknowledged = cursor.acknowledged.as_slice().first();
        let before = cursor.first().zip(acknowledged).filter(|(began, first)| *began < first.from);
        let before = before.map(|(began, first)| Stretch { from: began, to: first.from });
        before.into_iter().chain(cursor.acknowledged.holes()).collect()
    }

    /// Where a device stopped in this epoch, by its cursor. `missed` is the first notification kept in its [holes](Self::holes): single
    /// ones may have been acknowledged by their ids or sent again, ahead of others that the device never saw. One that acknowledged
    /// nothing begins where it began before. One that was never here is new, whatever it has acknowledged over HTTP: it stopped nowhere.
    #[must_use]
    pub fn of_cursor(cursor: &CursorRecord, missed: Option<i64>, projected: Option<i64>) -> Option<Self> {
        let began = cursor.first().filter(|_| cursor.began.is_some() || !cursor.offered.is_empty())?;
        let Some(end) = cursor.acknowledged.end() else { return Some(Self::At(began)) };
        // What is not folded yet may lie between too.
        let unfolded = cursor.acknowledged.first_outside(projected.unwrap_or(0).max(began));
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
        let pending = known.pending.map_or(unfolded, |pending| pending.min(unfolded));
        known.stopped.map_or(Self::First(Some(pending)), Self::stopped)
    }

    /// Where a device without a position begins in any other channel: where it stopped; a new one at the live end. One that may have
    /// been forgotten here is not taken for a new one.
    #[must_use]
    pub fn elsewhere(known: Known) -> Self {
        let unknown = if known.may_have_lapsed { Self::Lost(Loss::Lapsed, None) } else { Self::First(None) };
        known.stopped.map_or(unknown, Self::stopped)
    }

    fn stopped(stopped: Stopped) -> Self {
        match stopped {
            Stopped::At(offset) => Self::Known(offset),
            Stopped::Before => Self::Lost(Loss::Epoch, None),
            Stopped::Untold => Self::Lost(Loss::Behind, None),
        }
    }

    /// The position that the client is to keep until it is sent something, where `live` is the live end. A client that comes
    /// back with it has lost nothing: if nothing is known, it is the beginning of the epoch.
    #[must_use]
    pub fn shown(self, epoch: Epoch, live: i64) -> Position {
        let offset = match self {
            Self::Live | Self::First(None) => live,
            Self::Named(offset) | Self::Known(offset) | Self::First(Some(offset)) => offset,
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
        let known = Known { stopped: Some(Stopped::At(7)), pending: Some(3), projected: Some(9), may_have_lapsed: true };
        assert_eq!(Start::in_mailbox(known), Start::Known(7));
        assert_eq!(Start::elsewhere(known), Start::Known(7));
    }

    #[test]
    fn a_device_that_stopped_in_an_epoch_before_is_told_so_everywhere() {
        let known = Known { stopped: Some(Stopped::Before), pending: Some(3), projected: Some(9), ..Known::default() };
        assert_eq!(Start::in_mailbox(known), Start::Lost(Loss::Epoch, None));
        assert_eq!(Start::elsewhere(known), Start::Lost(Loss::Epoch, None));
    }

    #[test]
    fn a_device_that_may_have_been_here_is_not_taken_for_a_new_one() {
        let known = Known { stopped: Some(Stopped::Untold), projected: Some(9), ..Known::default() };
        assert_eq!(Start::elsewhere(known), Start::Lost(Loss::Behind, None));
        let lapsed = Known { may_have_lapsed: true, ..Known::default() };
        assert_eq!(Start::elsewhere(lapsed), Start::Lost(Loss::Lapsed, None));
    }

    #[test]
    fn a_new_device_begins_at_the_oldest_pending_notification_of_its_mailbox_and_at_the_live_end_elsewhere() {
        let pending = Known { pending: Some(3), projected: Some(9), ..Known::default() };
        assert_eq!(Start::in_mailbox(pending), Start::First(Some(3)));
        assert_eq!(Start::elsewhere(pending), Start::First(None));
    }

    #[test]
    fn what_is_not_folded_yet_counts_as_pending() {
        let folded = Known { projected: Some(9), ..Known::default() };
        assert_eq!(Start::in_mailbox(folded), Start::First(Some(9)));
        assert_eq!(Start::in_mailbox(Known::default()), Start::First(Some(0)), "nothing of the partition was ever folded");
    }

    fn cursor(offered: &[(i64, i64)], acknowledged: &[(i64, i64)]) -> CursorRecord {
        let set = |ranges: &[(i64, i64)]| ranges.iter().map(|(from, to)| Stretch { from: *from, to: *to }).collect();
        CursorRecord {
            user_id: "42".parse().unwrap(),
            device_id: "phone".parse().unwrap(),
            drawn: false,
            channel: "user-42".parse().unwrap(),
            epoch: EPOCH,
            began: None,
            offered: set(offered),
            acknowledged: set(acknowledged),
        }
    }

    #[test]
    fn a_device_stopped_at_the_first_it_did_not_acknowledge_however_far_single_acknowledgements_reach() {
        let at = |acknowledged: &[(i64, i64)], missed, projected| {
            let stopped = Stopped::of_cursor(&cursor(&[(2, 60)], acknowledged), missed, projected);
            match stopped.unwrap() {
                Stopped::At(offset) => offset,
                Stopped::Before | Stopped::Untold => panic!("{stopped:?}"),
            }
        };
        assert_eq!(at(&[(2, 10)], None, Some(40)), 10);
        assert_eq!(at(&[(2, 10), (30, 31)], Some(14), Some(40)), 14);
        assert_eq!(at(&[(2, 10), (30, 31)], None, Some(40)), 31, "records of others lie between");
        assert_eq!(at(&[(2, 10), (30, 31)], None, Some(12)), 12, "nobody knows yet what lies between");
        assert_eq!(at(&[(2, 10), (30, 31)], None, None), 10);
        assert_eq!(at(&[], None, Some(40)), 2, "nothing was acknowledged");
        assert_eq!(Stopped::of_cursor(&cursor(&[], &[]), None, Some(9)), None);
        assert_eq!(Stopped::of_cursor(&cursor(&[], &[(3, 5)]), None, Some(9)), None, "it was never sent anything");
    }

    #[test]
    fn what_a_device_was_offered_before_the_first_it_acknowledged_is_not_left_out() {
        let offered = cursor(&[(3, 11)], &[(9, 10)]);
        assert_eq!(Stopped::holes(&offered), [Stretch { from: 3, to: 9 }]);
        let stopped = |missed, projected| Stopped::of_cursor(&offered, missed, projected);
        assert_eq!(stopped(Some(4), Some(40)), Some(Stopped::At(4)));
        assert_eq!(stopped(None, Some(40)), Some(Stopped::At(10)), "nothing of its channel lies there");
        assert_eq!(stopped(None, Some(6)), Some(Stopped::At(6)), "nobody knows yet what lies there");
        assert_eq!(stopped(None, None), Some(Stopped::At(3)));
        assert_eq!(Stopped::holes(&cursor(&[(3, 9)], &[(3, 5), (7, 9)])), [Stretch { from: 5, to: 7 }]);
        assert_eq!(Stopped::holes(&cursor(&[], &[(3, 5)])), []);
    }

    #[test]
    fn a_device_that_was_sent_nothing_yet_comes_back_to_where_it_began() {
        let began = |cursor: CursorRecord| CursorRecord { began: Some(3), ..cursor };
        let nothing = began(cursor(&[], &[]));
        assert_eq!((Stopped::holes(&nothing), Stopped::of_cursor(&nothing, None, Some(40))), (vec![], Some(Stopped::At(3))));
        // The first thing that it ever acknowledged lies behind others that it never saw.
        let later = began(cursor(&[(9, 12)], &[(9, 12)]));
        assert_eq!(Stopped::holes(&later), [Stretch { from: 3, to: 9 }]);
        assert_eq!(Stopped::of_cursor(&later, Some(5), Some(40)), Some(Stopped::At(5)));
        assert_eq!(Stopped::of_cursor(&later, None, Some(40)), Some(Stopped::At(12)), "nothing of its channel lies there");
        assert_eq!(Stopped::of_cursor(&later, None, Some(4)), Some(Stopped::At(4)), "nobody knows yet what lies there");
    }

    #[test]
    fn the_position_to_keep_meanwhile_never_lies_behind_what_was_missed() {
        assert_eq!([Start::Live, Start::First(None)].map(|start| start.shown(EPOCH, 8)), [at(2, 8); 2]);
        assert_eq!(Start::First(Some(3)).shown(EPOCH, 8), at(2, 3));
        assert_eq!(Start::Named(3).shown(EPOCH, 8), at(2, 3));
        assert_eq!(Start::Lost(Loss::Beyond, Some(at(2, 99))).shown(EPOCH, 8), at(2, 99));
        assert_eq!(Start::Lost(Loss::Unanswered, None).shown(EPOCH, 8), at(2, 0));
    }
}
