//! Missed notifications on their way to one member, from a page of the ring or of the store.
//!
//! Owns: when a page ends. Refuses to send what has expired: it is of no use to anybody any more, and passed over like a record of
//! another channel. Neighbours: `recover` says when, `deliver` hands over each.

use tidings_core::channel::Channel;
use tidings_core::recovery::{Answer, Page};

use super::Shard;
use super::deliver::{Handed, Item};
use super::turns::Turned;
use crate::gateway::fed::{Encoded, Fed, FedError};
use crate::gateway::reads::{GapPage, page_size};
use crate::gateway::ring::RingPage;

/// A page on its way.
struct Sending {
    page: Page,
    frames: usize,
    left_bytes: usize,
}

impl Sending {
    fn new(bytes: usize, whole_to: Option<i64>) -> Self {
        Self { page: Page { last: None, whole_to }, frames: 0, left_bytes: bytes }
    }

    /// Notes what became of the record at `offset`. Says whether the page ends there: it is full, or nobody takes it.
    fn ends_at(&mut self, offset: i64, handed: Handed) -> bool {
        match handed {
            Handed::Refused => {
                self.page.whole_to = None;
                return true;
            }
            Handed::Passed => {}
            Handed::Sent(bytes) => {
                self.frames += 1;
                self.left_bytes = self.left_bytes.saturating_sub(bytes);
            }
        }
        self.page.last = Some(offset);
        if self.left_bytes == 0 {
            self.page.whole_to = None;
        }
        self.left_bytes == 0
    }
}

impl Shard {
    pub(super) fn send_from_ring(&mut self, member: u32, channel: &Channel, (from, live): (i64, i64)) -> Turned {
        let shared = self.shared.clone();
        let size = page_size(&shared.config);
        let place = (channel, channel.partition(shared.partitions));
        // The feed goes on meanwhile: what was there a moment ago may be gone.
        let Some(RingPage { records, whole }) = shared.ring.page(place, (from, live), size.records) else { return Turned::On(0) };
        let failed = |fed: &Fed, error: &FedError| shared.without_frame(fed.partition, fed.offset, error);
        let mut sending = Sending::new(size.bytes, whole.then_some(live));
        for fed in &records {
            let handed = match fed.encoded(shared.epoch, self.now.wall, failed) {
                Some(encoded) => self.hand_missed(member, channel, fed.offset, encoded),
                None => Handed::Passed,
            };
            if sending.ends_at(fed.offset, handed) {
                break;
            }
        }
        shared.metrics.records_from_ring.inc_by(sending.frames as u64);
        let Some(catch_up) = self.catch_up(member, channel) else { return Turned::Later };
        catch_up.sent(sending.page);
        let is_level = catch_up.next() >= live;
        // At once: before the next turn live delivery goes on.
        let told = if is_level { self.level(member, channel) } else { Turned::On(0) };
        if let Turned::On(more) = told { Turned::On(sending.frames + more) } else { told }
    }

    pub(super) fn send_from_store(&mut self, member: u32, channel: &Channel, page: GapPage) -> Turned {
        let Some(catch_up) = self.catch_up(member, channel) else { return Turned::Later };
        let hole = catch_up.cut(page.trimmed);
        let from = catch_up.next();
        if let Some(hole) = hole {
            self.truncate(member, channel, hole);
        }
        let mut sending = Sending::new(page_size(&self.shared.config).bytes, page.whole_to);
        for (offset, encoded) in page.records.iter().filter(|(offset, _)| *offset >= from) {
            let handed = match encoded {
                Some(encoded) => self.hand_missed(member, channel, *offset, encoded),
                None => Handed::Passed,
            };
            if sending.ends_at(*offset, handed) {
                break;
            }
        }
        self.shared.metrics.records_from_store.inc_by(sending.frames as u64);
        let now_ms = self.now.ms;
        if let Some(catch_up) = self.catch_up(member, channel) {
            catch_up.answered(Answer::Page(sending.page), now_ms);
        }
        Turned::On(sending.frames + usize::from(hole.is_some()))
    }

    fn hand_missed(&mut self, member: u32, channel: &Channel, offset: i64, encoded: &Encoded) -> Handed {
        let Some(slot) = self.members.slot(channel) else { return Handed::Refused };
        let first = self.recent.note_missed(encoded.id, offset);
        if encoded.has_expired(self.now.wall) {
            return Handed::Passed;
        }
        let handed = self.hand(slot, member, &Item { encoded, offset, first });
        if let Handed::Sent(bytes) = handed {
            self.shared.metrics.frames_sent.inc();
            self.shared.metrics.bytes_sent.inc_by(bytes as u64);
        }
        handed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_when_it_is_full_and_what_is_passed_over_takes_no_room() {
        let mut sending = Sending::new(100, Some(20));
        assert!(!sending.ends_at(3, Handed::Sent(60)));
        assert!(!sending.ends_at(4, Handed::Passed));
        assert!(sending.ends_at(7, Handed::Sent(60)));
        assert_eq!((sending.page, sending.frames), (Page { last: Some(7), whole_to: None }, 2));
    }

    #[test]
    fn what_a_connection_does_not_take_does_not_count_as_sent() {
        let mut sending = Sending::new(100, Some(20));
        sending.ends_at(3, Handed::Sent(60));
        assert!(sending.ends_at(4, Handed::Refused));
        assert_eq!((sending.page, sending.frames), (Page { last: Some(3), whole_to: None }, 1));
    }
}
