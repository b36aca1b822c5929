//! Deciding: what happens to a delivery that is due.
//!
//! Owns: what counts as delivered, given what each device was offered and has acknowledged, and the step that follows.
//! Refuses to decide on half the evidence: whoever asks has waited until the projection has passed. Neighbours: `ladder`
//! beside; store gathers the evidence, courier carries the decision out.

use std::collections::BTreeMap;

use super::ladder::{Ladder, Rung};
use crate::ids::DeviceId;
use crate::position::Epoch;
use crate::record::retry::Outcome;
use crate::time::Delay;

/// How far a notification got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// A device of the mailbox's owner has acknowledged it.
    Delivered,
    /// A device was written to; none has acknowledged.
    Offered,
    /// No device was written to.
    NotOffered,
}

/// Where a notification lies on its channel's partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The generation that the offset belongs to.
    pub epoch: Epoch,
    /// The record's offset.
    pub offset: i64,
}

/// One stretch of one device that covers a place where the notification lies on the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Whose stretch.
    pub device: DeviceId,
    /// Which of the notification's places it covers. Most notifications have one; one that was written twice has several.
    pub place: Place,
    /// What the stretch says.
    pub said: Said,
}

/// What a stretch says of the offsets inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Said {
    /// They were written to the device.
    Offered,
    /// The device has acknowledged them.
    Acknowledged,
}

/// How far a notification got, by all that is known of it.
///
/// A device that meets the same notification a second time on the log is not sent it again: the second place counts as handled
/// with whatever lies around it. So of each device only the first place that it was offered tells whether it acknowledged. In another
/// epoch it is sent again what it was offered in an earlier one, and so each epoch tells for itself.
#[must_use]
pub fn reach(sightings: &[Sighting]) -> Reach {
    let mut first: BTreeMap<(&DeviceId, Epoch), (Place, Said)> = BTreeMap::new();
    for sighting in sightings {
        let device = (&sighting.device, sighting.place.epoch);
        let known = first.entry(device).or_insert((sighting.place, sighting.said));
        if sighting.place < known.0 || (sighting.place == known.0 && sighting.said == Said::Acknowledged) {
            *known = (sighting.place, sighting.said);
        }
    }
    if first.is_empty() {
        return Reach::NotOffered;
    }
    let acknowledged = first.values().any(|(_, said)| *said == Said::Acknowledged);
    if acknowledged { Reach::Delivered } else { Reach::Offered }
}

/// A delivery that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case<'a> {
    /// Where it waited.
    pub rung: Rung,
    /// The rungs that its rule names, if it does.
    pub own: Option<&'a [Delay]>,
    /// How many attempts it tells of. They are counted on from there, and decide nothing else.
    pub made: u32,
    /// How far it got.
    pub reach: Reach,
    /// What else is known of it.
    pub standing: Standing,
}

/// Whether a delivery is still worth its ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It is.
    Current,
    /// It is, and was tried for as long as anything is: the last rung is not repeated any more.
    Old,
    /// The notification has expired.
    Expired,
    /// Nobody is to see the notification any more.
    Withdrawn,
    /// The same notification lies on the log before this record, and has its ladder from there.
    Duplicate,
    /// It is, and the epoch that it belongs to is over.
    Past,
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Its ladder ends in silence.
    Drop(Dropped),
    /// It is tried again, and waits on `next`.
    Attempt {
        /// The attempt's number, from 1: more than that of any attempt that is told of, or that the rung stands for.
        redelivery: u32,
        /// Where it waits then.
        next: Rung,
        /// Why the attempt is needed.
        outcome: Outcome,
    },
    /// Its ladder ends without success.
    Undelivered {
        /// Why.
        reason: Outcome,
    },
    /// Its notification is written again, to the topic of the epoch in force, and has its ladder from there.
    CarryOver,
}

/// Why a delivery needs nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dropped {
    /// It was acknowledged.
    Delivered,
    /// Nobody wants to see it any more.
    Expired,
    /// Nobody is to see it any more.
    Withdrawn,
    /// Another record has the ladder.
    Duplicate,
}

/// Decides about a delivery that is due.
#[must_use]
pub fn decide(case: Case<'_>, ladder: &Ladder) -> Decision {
    let outcome = match (case.standing, case.reach) {
        (Standing::Duplicate, _) => return Decision::Drop(Dropped::Duplicate),
        (_, Reach::Delivered) => return Decision::Drop(Dropped::Delivered),
        (Standing::Withdrawn, _) => return Decision::Drop(Dropped::Withdrawn),
        (Standing::Expired, _) => return Decision::Drop(Dropped::Expired),
        (Standing::Past, _) => return Decision::CarryOver,
        (Standing::Current | Standing::Old, Reach::Offered) => Outcome::Unacknowledged,
        (Standing::Current | Standing::Old, Reach::NotOffered) => Outcome::Offline,
    };
    let is_repeated = case.own.is_none() && ladder.is_last(case.rung);
    // One that was begun anew has more behind it than its rung says.
    let redelivery = case.made.max(ladder.attempts_to(case.rung, case.own)).saturating_add(1);
    match ladder.next(case.rung, case.own) {
        Some(next) if !is_repeated || case.standing != Standing::Old => Decision::Attempt { redelivery, next, outcome },
        _ => Decision::Undelivered { reason: outcome },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn ladder(rungs: usize) -> Ladder {
        let delays = (1..=rungs).map(|seconds| Delay(Duration::from_secs(seconds as u64))).collect();
        Ladder::new(Duration::from_secs(30), delays, 20)
    }

    fn sighting(device: &str, offset: i64, said: Said) -> Sighting {
        Sighting { device: device.parse().unwrap(), place: Place { epoch: Epoch(1), offset }, said }
    }

    fn case(rung: usize, reach: Reach) -> Case<'static> {
        Case { rung: Rung(rung), own: None, made: 0, reach, standing: Standing::Current }
    }

    #[test]
    fn one_device_that_acknowledged_is_enough() {
        let seen = [sighting("a", 5, Said::Offered), sighting("b", 5, Said::Offered), sighting("b", 5, Said::Acknowledged)];
        assert_eq!(reach(&seen), Reach::Delivered);
        assert_eq!(reach(&seen[..2]), Reach::Offered);
        assert_eq!(reach(&[]), Reach::NotOffered);
    }

    #[test]
    fn a_device_that_joined_behind_the_first_place_acknowledges_at_the_second() {
        let seen = [sighting("late", 9, Said::Offered), sighting("late", 9, Said::Acknowledged)];
        assert_eq!(reach(&seen), Reach::Delivered);
    }

    #[test]
    fn a_duplicate_that_was_passed_over_does_not_acknowledge_the_first() {
        let seen = [sighting("a", 9, Said::Acknowledged), sighting("a", 9, Said::Offered), sighting("a", 5, Said::Offered)];
        assert_eq!(reach(&seen), Reach::Offered);
    }

    #[test]
    fn what_a_device_was_offered_before_it_acknowledges_in_the_next_epoch() {
        let mut seen = [sighting("a", 5, Said::Offered), sighting("a", 2, Said::Offered), sighting("a", 2, Said::Acknowledged)];
        seen[1..].iter_mut().for_each(|later| later.place.epoch = Epoch(2));
        assert_eq!(reach(&seen), Reach::Delivered);
        assert_eq!(reach(&seen[..2]), Reach::Offered);
    }

    #[test]
    fn what_was_not_delivered_in_its_epoch_is_carried_over_from_whichever_rung() {
        let of = |rung, reach| decide(Case { standing: Standing::Past, ..case(rung, reach) }, &ladder(2));
        for rung in 0..3 {
            assert_eq!(of(rung, Reach::Offered), Decision::CarryOver);
            assert_eq!(of(rung, Reach::NotOffered), Decision::CarryOver);
            assert_eq!(of(rung, Reach::Delivered), Decision::Drop(Dropped::Delivered));
        }
    }

    #[test]
    fn a_due_delivery_climbs_and_the_last_rung_repeats_until_it_is_old() {
        let ladder = ladder(2);
        let climbed = |rung, redelivery| Decision::Attempt { redelivery, next: Rung(rung), outcome: Outcome::Offline };
        assert_eq!(decide(case(0, Reach::NotOffered), &ladder), climbed(1, 1));
        assert_eq!(decide(case(1, Reach::NotOffered), &ladder), climbed(2, 2));
        let last = |made| Case { made, ..case(2, Reach::NotOffered) };
        assert_eq!([0, 2, 7].map(|made| decide(last(made), &ladder)), [climbed(2, 3), climbed(2, 3), climbed(2, 8)]);
        assert_eq!(decide(last(u32::MAX), &ladder), climbed(2, u32::MAX));
        let old = |rung| decide(Case { standing: Standing::Old, ..case(rung, Reach::Offered) }, &ladder);
        assert_eq!(old(2), Decision::Undelivered { reason: Outcome::Unacknowledged });
        let first = Decision::Attempt { redelivery: 1, next: Rung(1), outcome: Outcome::Unacknowledged };
        assert_eq!(old(0), first, "whoever was held up by the brokers climbs all the same");
    }

    #[test]
    fn a_ladder_of_its_own_is_climbed_to_its_end() {
        let (ladder, own) = (ladder(3), [1, 3].map(|seconds| Delay(Duration::from_secs(seconds))));
        let own = |rung, made| decide(Case { own: Some(&own), made, ..case(rung, Reach::NotOffered) }, &ladder);
        let climbed = |rung, redelivery| Decision::Attempt { redelivery, next: Rung(rung), outcome: Outcome::Offline };
        assert_eq!([own(0, 0), own(1, 1)], [climbed(1, 1), climbed(3, 2)]);
        assert_eq!([own(0, 9), own(1, 10)], [climbed(1, 10), climbed(3, 11)], "begun anew, it is counted on");
        assert_eq!(own(3, 0), own(3, 900), "a count ends no ladder, and prolongs none");
        assert_eq!(own(3, 2), Decision::Undelivered { reason: Outcome::Offline });
        let none = Case { own: Some(&[]), ..case(0, Reach::Offered) };
        assert_eq!(decide(none, &ladder), Decision::Undelivered { reason: Outcome::Unacknowledged });
    }

    #[test]
    fn delivered_withdrawn_expired_and_duplicate_deliveries_end_in_silence() {
        let of = |standing, reach| decide(Case { standing, ..case(1, reach) }, &ladder(2));
        assert_eq!(of(Standing::Current, Reach::Delivered), Decision::Drop(Dropped::Delivered));
        assert_eq!(of(Standing::Expired, Reach::Offered), Decision::Drop(Dropped::Expired));
        assert_eq!(of(Standing::Expired, Reach::Delivered), Decision::Drop(Dropped::Delivered));
        assert_eq!(of(Standing::Withdrawn, Reach::Offered), Decision::Drop(Dropped::Withdrawn));
        assert_eq!(of(Standing::Withdrawn, Reach::Delivered), Decision::Drop(Dropped::Delivered));
        assert_eq!(of(Standing::Duplicate, Reach::NotOffered), Decision::Drop(Dropped::Duplicate));
    }

    proptest! {
        #[test]
        fn a_ladder_of_its_own_ends_after_as_many_attempts_as_it_has_rungs(
            rungs in 1..16_usize,
            acknowledged_after in 0..20_u32,
            named in prop::collection::btree_set(1..20_u64, 0..16),
        ) {
            let ladder = ladder(rungs);
            let own = named.iter().map(|seconds| Delay(Duration::from_secs(*seconds))).collect::<Vec<_>>();
            let rungs = named.iter().filter(|seconds| **seconds <= rungs as u64).count();
            let (mut rung, mut attempts) = (Rung::FIRST, 0_u32);
            let end = loop {
                let reach = if attempts >= acknowledged_after { Reach::Delivered } else { Reach::Offered };
                let case = Case { rung, own: Some(&own), made: attempts, reach, standing: Standing::Current };
                match decide(case, &ladder) {
                    Decision::Attempt { redelivery, next, .. } => {
                        prop_assert!(next > rung, "it climbs");
                        attempts += 1;
                        prop_assert_eq!(redelivery, attempts);
                        rung = next;
                    }
                    end => break end,
                }
                prop_assert!(attempts as usize <= rungs, "it ends");
            };
            if (acknowledged_after as usize) <= rungs {
                prop_assert_eq!(end, Decision::Drop(Dropped::Delivered));
                prop_assert_eq!(attempts, acknowledged_after);
            } else {
                prop_assert_eq!(end, Decision::Undelivered { reason: Outcome::Unacknowledged });
                prop_assert_eq!(attempts as usize, rungs);
            }
        }

        #[test]
        fn of_two_records_of_one_notification_only_the_first_has_a_ladder(rung in 0..3_usize, delivered: bool) {
            let reach = if delivered { Reach::Delivered } else { Reach::Offered };
            let second = decide(Case { standing: Standing::Duplicate, ..case(rung, reach) }, &ladder(2));
            prop_assert_eq!(second, Decision::Drop(Dropped::Duplicate));
        }

        #[test]
        fn the_order_of_the_evidence_does_not_matter(
            mut seen in prop::collection::vec((0..3_u8, 0..4_i64, any::<bool>()), 0..12),
            rotate in 0..12_usize,
        ) {
            let read = |seen: &[(u8, i64, bool)]| {
                let said = |acknowledged| if acknowledged { Said::Acknowledged } else { Said::Offered };
                reach(&seen.iter().map(|(device, offset, ack)| sighting(&device.to_string(), *offset, said(*ack))).collect::<Vec<_>>())
            };
            let before = read(&seen);
            let turn = rotate % seen.len().max(1);
            seen.rotate_left(turn);
            prop_assert_eq!(read(&seen), before);
        }
    }
}
