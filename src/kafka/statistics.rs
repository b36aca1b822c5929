//! What librdkafka measures of each client, as metrics under `tidings_kafka_`.
//!
//! Owns: which of its many numbers are told, every `statistics.interval.ms` (5 s, unless the configuration says otherwise). A series
//! of a partition that is no longer read is taken back. Neighbours: every client's context hands its statistics here.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use rdkafka::{Statistics, statistics};

use super::consumer::Partition;
use crate::telemetry::{Labels, Metrics};

/// For how long a client's answer counts, in microseconds of librdkafka's own clock: whoever wants to know asks every 2 s.
const ANSWER_COUNTS_MICROS: i64 = 10_000_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfClient {
    client: String,
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPartition {
    client: String,
    topic: String,
    partition: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBroker {
    client: String,
    kind: String,
    broker: i32,
    quantile: &'static str,
}

impl Labels for OfClient {
    const NAMES: &'static [&'static str] = &["client", "kind"];
}

impl Labels for OfPartition {
    const NAMES: &'static [&'static str] = &["client", "topic", "partition"];
}

impl Labels for OfBroker {
    const NAMES: &'static [&'static str] = &["client", "kind", "broker", "quantile"];
}

/// The numbers of all Kafka clients of the process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Gauges {
    lag: Family<OfPartition, Gauge>,
    waiting: Family<OfClient, Gauge>,
    waiting_bytes: Family<OfClient, Gauge>,
    fetched: Family<OfClient, Gauge>,
    round_trip: Family<OfBroker, Gauge<f64, AtomicU64>>,
    connected: Family<OfClient, Gauge>,
    rebalances: Family<OfClient, Counter>,
    /// Rebalances that this client has counted by itself and that are told; what comes on top is news.
    told_rebalances: Arc<AtomicI64>,
    /// Where partitions end, by what this client asked the brokers: of those that are paused librdkafka learns nothing itself. Shared by
    /// who asks and the callback that tells.
    ends: Arc<Mutex<HashMap<Partition, Asked>>>,
}

/// An answer of the brokers.
#[derive(Debug, Clone, Copy)]
struct Asked {
    end: i64,
    /// How old the client was when it first told of it.
    told_at: Option<i64>,
}

impl Gauges {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register("kafka", |shelf| {
            shelf.register("lag_records", "Offsets between what a client has read and the partition's end", own.lag.clone());
            shelf.register("queued_messages", "Messages a producer holds that no broker has taken", own.waiting.clone());
            shelf.register("queued_bytes", "The same in bytes", own.waiting_bytes.clone());
            shelf.register("fetched_messages", "Messages a consumer has fetched and not handed on", own.fetched.clone());
            shelf.register(
                "round_trip_seconds",
                "How long a broker takes to answer, over the last interval",
                own.round_trip.clone(),
            );
            shelf.register("connected_brokers", "Brokers that a client is connected to", own.connected.clone());
            shelf.register("seen_rebalances", "Rebalances of its group that a client has seen", own.rebalances.clone());
        });
        own
    }

    /// The same numbers for one more client.
    pub(super) fn for_one_more(&self) -> Self {
        Self { told_rebalances: Arc::default(), ends: Arc::default(), ..self.clone() }
    }

    /// Takes over where partitions end now.
    pub(super) fn learn(&self, ends: &[(Partition, i64)]) {
        let asked = |(partition, end): &(Partition, i64)| (partition.clone(), Asked { end: *end, told_at: None });
        self.ends.lock().extend(ends.iter().map(asked));
    }

    /// Takes over what a client says of itself.
    pub(super) fn note(&self, said: &Statistics) {
        let client = said.client_id.strip_prefix("tidings-").unwrap_or(&said.client_id);
        let of = OfClient { client: client.to_owned(), kind: said.client_type.clone() };
        let brokers = said.brokers.values().filter(|broker| broker.nodeid >= 0).collect::<Vec<_>>();
        let up = brokers.iter().filter(|broker| broker.state == "UP").count();
        self.connected.get_or_create(&of).set(i64::try_from(up).unwrap_or(i64::MAX));
        for (broker, times) in brokers.iter().filter_map(|broker| Some((broker, broker.rtt.as_ref()?))) {
            for (quantile, micros) in [("0.5", times.p50), ("0.99", times.p99)] {
                let of = OfBroker { client: of.client.clone(), kind: of.kind.clone(), broker: broker.nodeid, quantile };
                self.round_trip.get_or_create(&of).set(micros as f64 / 1e6);
            }
        }
        if of.kind == "producer" {
            self.waiting.get_or_create(&of).set(i64::try_from(said.msg_cnt).unwrap_or(i64::MAX));
            self.waiting_bytes.get_or_create(&of).set(i64::try_from(said.msg_size).unwrap_or(i64::MAX));
        } else {
            self.note_reading(said, &of);
        }
    }

    fn note_reading(&self, said: &Statistics, of: &OfClient) {
        let mut fetched = 0;
        let mut known = self.ends.lock();
        // Nobody asks any more about what is read again, and a topic may be made anew: an old answer would be a lie.
        known.retain(|_, asked| said.age - *asked.told_at.get_or_insert(said.age) <= ANSWER_COUNTS_MICROS);
        for topic in said.topics.values() {
            let name = Arc::<str>::from(topic.topic.as_str());
            for (number, partition) in &topic.partitions {
                let of = OfPartition { client: of.client.clone(), topic: topic.topic.clone(), partition: *number };
                fetched += partition.fetchq_cnt;
                let place = Partition { topic: name.clone(), number: *number };
                match lag(partition, known.get(&place).map(|asked| asked.end)) {
                    Some(lag) => {
                        self.lag.get_or_create(&of).set(lag);
                    }
                    None => {
                        self.lag.remove(&of);
                    }
                }
            }
        }
        self.fetched.get_or_create(of).set(fetched);
        if let Some(group) = &said.cgrp {
            let told = self.told_rebalances.swap(group.rebalance_cnt, Ordering::Relaxed);
            self.rebalances.get_or_create(of).inc_by(u64::try_from(group.rebalance_cnt - told).unwrap_or(0));
        }
    }
}

/// Offsets from what was handed on to the end, which somebody may have asked for; nothing for a partition that is not read.
fn lag(partition: &statistics::Partition, asked: Option<i64>) -> Option<i64> {
    let heard = if partition.ls_offset >= 0 { partition.ls_offset } else { partition.hi_offset };
    let end = asked.map_or(heard, |asked| asked.max(heard));
    // Markers of transactions are fetched and never handed on.
    let all_handed_on = partition.fetchq_cnt == 0;
    let read = if all_handed_on { partition.app_offset.max(partition.next_offset) } else { partition.app_offset };
    (partition.fetch_state == "active" && end >= 0 && read >= 0).then(|| (end - read).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(change: impl FnOnce(&mut statistics::Partition)) -> statistics::Partition {
        let mut partition = statistics::Partition { fetch_state: "active".into(), ..statistics::Partition::default() };
        (partition.hi_offset, partition.ls_offset, partition.app_offset, partition.next_offset) = (100, 90, 80, 90);
        change(&mut partition);
        partition
    }

    #[test]
    fn lag_is_what_committed_records_were_not_handed_on() {
        assert_eq!(lag(&partition(|partition| partition.fetchq_cnt = 7), None), Some(10));
        assert_eq!(lag(&partition(|_| {}), None), Some(0), "what lies between is a marker");
        assert_eq!(lag(&partition(|partition| partition.next_offset = 95), None), Some(0), "never less than nothing");
        assert_eq!(lag(&partition(|_| {}), Some(93)), Some(3), "it is paused, and somebody has asked");
        assert_eq!(lag(&partition(|_| {}), Some(85)), Some(0), "somebody asked long ago");
    }

    #[test]
    fn an_answer_of_long_ago_is_taken_back() {
        let all = Gauges::default();
        let place = Partition { topic: "t".into(), number: 0 };
        let told = |client: &Gauges, age| {
            // The topic was made anew: it ends before what was asked.
            let read = partition(|partition| {
                (partition.hi_offset, partition.ls_offset, partition.app_offset, partition.next_offset) = (3, 3, 3, 3);
            });
            let topic =
                statistics::Topic { topic: "t".into(), partitions: HashMap::from([(0, read)]), ..statistics::Topic::default() };
            client.note(&Statistics {
                client_id: "tidings-inbox".into(),
                client_type: "consumer".into(),
                age,
                topics: HashMap::from([("t".into(), topic)]),
                ..Default::default()
            });
            let of = OfPartition { client: "inbox".into(), topic: "t".into(), partition: 0 };
            client.lag.get_or_create(&of).get()
        };
        let client = all.for_one_more();
        client.learn(&[(place.clone(), 100)]);
        assert_eq!([told(&client, 50), told(&client, 50 + ANSWER_COUNTS_MICROS)], [97, 97]);
        assert_eq!(told(&client, 51 + ANSWER_COUNTS_MICROS), 0);
        client.learn(&[(place, 5)]);
        assert_eq!(told(&client, 52 + ANSWER_COUNTS_MICROS), 2, "and asked again it counts again");
    }

    #[test]
    fn rebalances_of_one_client_after_the_other_add_up() {
        let all = Gauges::default();
        let says = |client: &Gauges, rebalance_cnt| {
            let group = rdkafka::statistics::ConsumerGroup { rebalance_cnt, ..Default::default() };
            client.note(&Statistics {
                client_id: "tidings-inbox".into(),
                client_type: "consumer".into(),
                cgrp: Some(group),
                ..Default::default()
            });
        };
        let first = all.for_one_more();
        for count in [0, 2, 2, 3] {
            says(&first, count);
        }
        says(&all.for_one_more(), 1);
        let of = OfClient { client: "inbox".into(), kind: "consumer".into() };
        assert_eq!(all.rebalances.get_or_create(&of).get(), 4);
    }

    #[test]
    fn a_partition_that_is_not_read_has_no_lag() {
        assert_eq!(lag(&partition(|partition| partition.fetch_state = "none".into()), Some(93)), None);
        assert_eq!(lag(&partition(|partition| (partition.app_offset, partition.next_offset) = (-1001, -1001)), None), None);
    }
}
