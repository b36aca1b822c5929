//! The ring: the newest records of `notifications` that this node has read, for devices that were away for a moment.
//!
//! Owns: the records by channel, the offset of each partition from which on it has them all, and its bounds. Full: the oldest go,
//! whatever their channel, and what reaches further back is read from the store. The lock is held for one record or one page,
//! never while anything is sent. Neighbours: `feed` fills it, the shards look.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use memchr::memmem;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tidings_core::channel::Channel;
use tidings_core::locale::Locale;

use super::fed::Fed;
use super::metrics::GatewayMetrics;
use crate::config::RecoveryConfig;

/// What a record takes beside its value and its frame, about.
const RECORD_BYTES: usize = 512;

/// The ring of a node.
pub(super) struct Ring {
    /// Shared: the feed pushes, the shards look.
    held: Mutex<Held>,
    limit_records: usize,
    limit_bytes: usize,
    metrics: GatewayMetrics,
}

#[derive(Default)]
struct Held {
    partitions: Vec<Partition>,
    /// Oldest first, with what each weighs.
    order: VecDeque<(Arc<Fed>, usize)>,
    bytes: usize,
}

#[derive(Default)]
struct Partition {
    /// Everything from here on is here.
    low: i64,
    /// Behind the last record.
    next: i64,
    channels: HashMap<Channel, VecDeque<Arc<Fed>>>,
}

/// A page of a channel.
pub(super) struct RingPage {
    pub(super) records: Vec<Arc<Fed>>,
    /// Whether there is nothing more up to where it was asked for.
    pub(super) whole: bool,
}

/// What a record may come to take: its value, its frame, and where it has texts in other locales the notification and a frame of
/// each. Frames are made when somebody listens, so this is the most.
fn weight(fed: &Fed) -> usize {
    let copies = match locales(&fed.value) {
        0 => 2,
        locales => 3 + locales,
    };
    RECORD_BYTES + copies.saturating_mul(fed.value.len())
}

/// In how many locales a notification has texts. Most have none, which is seen without reading them.
fn locales(value: &[u8]) -> usize {
    #[derive(Deserialize)]
    struct Record {
        notification: Worded,
    }
    #[derive(Deserialize)]
    struct Worded {
        #[serde(default)]
        locales: HashMap<Locale, IgnoredAny>,
    }
    if memmem::find(value, br#""locales""#).is_none() {
        return 0;
    }
    serde_json::from_slice::<Record>(value).map_or(0, |record| record.notification.locales.len())
}

impl Ring {
    pub(super) fn new(config: &RecoveryConfig, metrics: GatewayMetrics) -> Self {
        Self { held: Mutex::default(), limit_records: config.ring_records.get(), limit_bytes: config.ring_bytes.get(), metrics }
    }

    /// Begins empty, where each partition does.
    pub(super) fn begin(&self, starts: &[i64]) {
        let partitions = starts.iter().map(|start| Partition { low: *start, next: *start, ..Partition::default() });
        *self.held.lock() = Held { partitions: partitions.collect(), ..Held::default() };
    }

    /// Takes the next record of a partition, before any shard is given it.
    pub(super) fn push(&self, fed: &Arc<Fed>) {
        let weight = weight(fed);
        let mut held = self.held.lock();
        let Some(partition) = held.partition(fed.partition) else { return };
        partition.next = fed.offset.saturating_add(1);
        partition.channels.entry(fed.channel.clone()).or_default().push_back(fed.clone());
        held.order.push_back((fed.clone(), weight));
        held.bytes += weight;
        while held.order.len() > self.limit_records || held.bytes > self.limit_bytes {
            held.drop_oldest();
            self.metrics.ring_evicted.inc();
        }
        self.metrics.ring_records.set(i64::try_from(held.order.len()).unwrap_or(i64::MAX));
        self.metrics.ring_bytes.set(i64::try_from(held.bytes).unwrap_or(i64::MAX));
    }

    /// The first offset of a partition from which on everything is here.
    pub(super) fn low(&self, partition: i32) -> i64 {
        self.held.lock().partition(partition).map_or(0, |partition| partition.low)
    }

    /// The offset behind the last record that was read of a partition.
    pub(super) fn next(&self, partition: i32) -> i64 {
        self.held.lock().partition(partition).map_or(0, |partition| partition.next)
    }

    /// At most `limit` records of a channel at offsets `from..below`, or nothing if the ring does not reach back to `from`.
    pub(super) fn page(
        &self,
        (channel, partition): (&Channel, i32),
        (from, below): (i64, i64),
        limit: usize,
    ) -> Option<RingPage> {
        let mut held = self.held.lock();
        let partition = held.partition(partition).filter(|partition| partition.low <= from)?;
        let Some(all) = partition.channels.get(channel) else { return Some(RingPage { records: Vec::new(), whole: true }) };
        let (first, behind) = (all.partition_point(|fed| fed.offset < from), all.partition_point(|fed| fed.offset < below));
        let records = all.range(first..behind.max(first)).take(limit).cloned().collect();
        Some(RingPage { records, whole: behind.saturating_sub(first) <= limit })
    }

    /// At most `limit` of the newest records of a channel, the newest first.
    pub(super) fn latest(&self, (channel, partition): (&Channel, i32), limit: usize) -> Vec<Arc<Fed>> {
        let mut held = self.held.lock();
        let all = held.partition(partition).and_then(|partition| partition.channels.get(channel));
        all.map(|all| all.iter().rev().take(limit).cloned().collect()).unwrap_or_default()
    }

    /// Hands out a record no more: it is withdrawn. It is counted until its turn to go.
    pub(super) fn forget(&self, (channel, partition): (&Channel, i32), offset: i64) {
        let mut held = self.held.lock();
        let Some(partition) = held.partition(partition) else { return };
        if let Some(all) = partition.channels.get_mut(channel)
            && let Ok(at) = all.binary_search_by_key(&offset, |fed| fed.offset)
        {
            all.remove(at);
            if all.is_empty() {
                partition.channels.remove(channel);
            }
        }
    }

    /// Where the newest `count` records of a channel below `below` begin, as far as they are here.
    pub(super) fn newest(&self, (channel, partition): (&Channel, i32), below: i64, count: usize) -> Option<i64> {
        let mut held = self.held.lock();
        let all = held.partition(partition)?.channels.get(channel)?;
        let behind = all.partition_point(|fed| fed.offset < below);
        all.range(behind.saturating_sub(count)..behind).next().map(|fed| fed.offset)
    }
}

impl Held {
    fn partition(&mut self, number: i32) -> Option<&mut Partition> {
        usize::try_from(number).ok().and_then(|number| self.partitions.get_mut(number))
    }

    fn drop_oldest(&mut self) {
        let Some((oldest, weight)) = self.order.pop_front() else { return };
        self.bytes -= weight;
        let Some(partition) = self.partition(oldest.partition) else { return };
        partition.low = oldest.offset.saturating_add(1);
        // It may be withdrawn, and gone from its channel already.
        if let Some(all) = partition.channels.get_mut(&oldest.channel) {
            all.pop_front_if(|first| first.offset == oldest.offset);
            if all.is_empty() {
                partition.channels.remove(&oldest.channel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;
    use crate::telemetry::Metrics;

    fn ring(records: usize, bytes: usize) -> Ring {
        let mut config = crate::config::load(None, &[("TIDINGS_AUTH__SECRET".into(), "s".repeat(32))]).unwrap().gateway.recovery;
        config.ring_records = records.try_into().unwrap();
        config.ring_bytes = bytes.try_into().unwrap();
        let ring = Ring::new(&config, GatewayMetrics::register(&Metrics::new()));
        ring.begin(&[10, 100]);
        ring
    }

    fn fed(partition: i32, offset: i64, channel: &str) -> Arc<Fed> {
        let (version, trace, frame) = (None, None, OnceLock::new());
        Arc::new(Fed { channel: channel.parse().unwrap(), partition, offset, version, value: vec![b'x'; 100], trace, frame })
    }

    #[test]
    fn a_record_weighs_as_much_as_all_the_frames_that_may_be_made_of_it() {
        let locales = serde_json::json!({"fr": {"title": "Salut"}, "de": {"title": "Hallo"}});
        let value = |locales: &serde_json::Value| {
            let notification = serde_json::json!({"title": "Hi", "locales": locales});
            serde_json::json!({"channel": "a", "notification": notification}).to_string().into_bytes()
        };
        let weight = |value: Vec<u8>| {
            let bytes = value.len();
            let fed = Fed { value, ..Arc::into_inner(fed(0, 1, "a")).unwrap() };
            (weight(&fed) - RECORD_BYTES) / bytes
        };
        assert_eq!(weight(value(&locales)), 5);
        assert_eq!(weight(value(&serde_json::json!({}))), 2);
        assert_eq!(weight(b"no JSON at all".to_vec()), 2);
        assert_eq!(weight(br#"{"notification": {"message": "the "locales" of a text"}}"#.to_vec()), 2);
    }

    fn offsets(page: Option<RingPage>) -> Option<(Vec<i64>, bool)> {
        page.map(|page| (page.records.iter().map(|fed| fed.offset).collect(), page.whole))
    }

    #[test]
    fn a_page_holds_the_channels_records_of_a_range_and_says_whether_there_are_more() {
        let ring = ring(100, 1 << 20);
        let a = "a".parse().unwrap();
        for offset in 10..20 {
            ring.push(&fed(0, offset, if offset % 2 == 0 { "a" } else { "b" }));
        }
        ring.push(&fed(1, 100, "a"));
        assert_eq!(offsets(ring.page((&a, 0), (11, 18), 2)), Some((vec![12, 14], false)));
        assert_eq!(offsets(ring.page((&a, 0), (11, 18), 3)), Some((vec![12, 14, 16], true)));
        assert_eq!(offsets(ring.page((&a, 0), (19, 20), 3)), Some((vec![], true)));
        assert_eq!(offsets(ring.page((&a, 0), (9, 20), 3)), None, "it began behind");
        assert_eq!((ring.low(0), ring.next(0), ring.next(1)), (10, 20, 101));
        assert_eq!(ring.newest((&a, 0), 20, 2), Some(16));
        assert_eq!(ring.newest((&a, 0), 13, 2), Some(10));
        assert_eq!(ring.newest((&"c".parse().unwrap(), 0), 20, 2), None);
    }

    #[test]
    fn what_is_withdrawn_is_handed_out_no_more_and_leaves_the_others_in_place() {
        let ring = ring(3, 1 << 20);
        let a = "a".parse().unwrap();
        for offset in 10..13 {
            ring.push(&fed(0, offset, "a"));
        }
        ring.forget((&a, 0), 10);
        ring.forget((&a, 0), 99);
        assert_eq!(offsets(ring.page((&a, 0), (10, 13), 9)), Some((vec![11, 12], true)));
        assert_eq!(ring.latest((&a, 0), 1).iter().map(|fed| fed.offset).collect::<Vec<_>>(), [12]);
        ring.push(&fed(0, 13, "b"));
        assert_eq!(offsets(ring.page((&a, 0), (11, 14), 9)), Some((vec![11, 12], true)), "only the withdrawn one had to go");
        ring.push(&fed(0, 14, "b"));
        assert_eq!(offsets(ring.page((&a, 0), (12, 15), 9)), Some((vec![12], true)));
    }

    #[test]
    fn beyond_its_bounds_the_oldest_go_and_it_knows_from_where_on_it_is_complete() {
        let in_bytes = ring(100, 3 * (RECORD_BYTES + 200));
        let in_count = ring(3, 1 << 20);
        for ring in [in_bytes, in_count] {
            ring.push(&fed(1, 100, "a"));
            for offset in 10..14 {
                ring.push(&fed(0, offset, "a"));
            }
            assert_eq!((ring.low(0), ring.low(1)), (11, 101));
            let a = "a".parse().unwrap();
            assert_eq!(offsets(ring.page((&a, 0), (10, 14), 9)), None);
            assert_eq!(offsets(ring.page((&a, 0), (11, 14), 9)), Some((vec![11, 12, 13], true)));
            assert_eq!(ring.metrics.ring_evicted.get(), 2);
        }
    }
}
