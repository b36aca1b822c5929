//! Scanning: what lies on a topic between places that were looked up at the start, read once by assignment.
//!
//! Owns: where partitions begin and end, and when a scan is through: when its position has passed the ends, since markers of
//! transactions take offsets too. Commits nothing and is in no group, so nobody who reads the topic notices. Neighbours: `reader`
//! beside goes on for ever, `replay` says what the records mean.

mod written;

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use tidings_core::fate::Cause;
use tidings_core::stretch::Stretch;
use tidings_core::time::Timestamp;

use super::cluster::Cluster;
use super::consumer::Partition;
use super::lists;
use super::said::Quiet;
use crate::clock::Clock;

pub use written::written;

/// How long brokers may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one step of a reading waits.
const WAIT: Duration = Duration::from_millis(200);
/// Without a record for so long, nobody answers any more.
const SILENCE: Duration = Duration::from_secs(30);

/// Why a topic is not read to the end.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// It is not there.
    #[error(
        "there is no topic `{topic}` at {brokers}: mend its name, or make it (`tidings topics create` makes those of tidings)"
    )]
    NoTopic {
        /// Its name.
        topic: String,
        /// Where it was looked for.
        brokers: String,
    },
    /// The brokers do not answer, or say no.
    #[error("the brokers at {brokers} do not tell where {topic} begins and ends; are they there, and may this client read it?")]
    Brokers {
        /// Its name.
        topic: String,
        /// Who was asked.
        brokers: String,
        /// What librdkafka says.
        #[source]
        source: Box<KafkaError>,
    },
    /// Nothing comes any more.
    #[error("nothing came of {topic} for {seconds} s, {left} offsets before its end: are the brokers there? Ask again later")]
    Silent {
        /// Its name.
        topic: String,
        /// For how long.
        seconds: u64,
        /// What is missing.
        left: u64,
    },
    /// librdkafka gave up.
    #[error("{topic} cannot be read")]
    Client {
        /// Its name.
        topic: String,
        /// What librdkafka says.
        #[source]
        source: Box<KafkaError>,
    },
}

impl ScanError {
    /// Whose fault it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::NoTopic { .. } => Cause::Refused,
            Self::Brokers { .. } | Self::Silent { .. } | Self::Client { .. } => Cause::Dependency,
        }
    }
}

/// What one step brought.
#[derive(Debug)]
pub enum Scanned<'a> {
    /// The next record of some partition; in order within each.
    Record(BorrowedMessage<'a>),
    /// Nothing within the wait.
    Nothing,
    /// All that was meant has been read.
    End,
}

/// One reading of one topic.
pub struct Scan {
    inner: BaseConsumer<Quiet>,
    topic: String,
    brokers: String,
    bounds: BTreeMap<i32, Stretch>,
    /// What is not read yet of each partition that is not through.
    left: BTreeMap<i32, Stretch>,
    clock: Clock,
    /// For how long it was waited in vain since something came. What the caller does between two steps is not in it.
    waited: Duration,
}

impl Scan {
    /// Looks up where a topic begins and ends now. Nothing is read before [`Scan::begin`].
    ///
    /// # Errors
    /// If there is no such topic, or the brokers do not answer.
    pub fn open(cluster: &Cluster, topic: &str, clock: Clock) -> Result<Self, ScanError> {
        let brokers = || ScanError::brokers(cluster, topic);
        let mut config = cluster.consumer("replay");
        config.set("enable.partition.eof", "true");
        // What retention takes meanwhile is gone, and the rest is read.
        config.set("auto.offset.reset", "earliest");
        let inner: BaseConsumer<Quiet> = config.create_with_context(Quiet).map_err(brokers())?;
        let all = lists::partitions_of(&inner, topic, PATIENCE).map_err(ScanError::untold(cluster, topic))?;
        let look = |at| lists::listed(&inner, &all, at, PATIENCE).map_err(brokers());
        let (begins, ends) = (look(Offset::Beginning)?, look(Offset::End)?);
        let ends = ends.into_iter().filter_map(|(partition, end)| Some((partition.number, end?))).collect::<BTreeMap<_, _>>();
        let span = |(partition, begin): (Partition, Option<i64>)| {
            let (from, to) = (begin?, *ends.get(&partition.number)?);
            Some((partition.number, Stretch { from, to }))
        };
        let bounds = begins.into_iter().filter_map(span).collect();
        let (topic, brokers, left) = (topic.to_owned(), cluster.brokers().to_owned(), BTreeMap::new());
        Ok(Self { inner, topic, brokers, bounds, left, clock, waited: Duration::ZERO })
    }

    /// The clock that it waits by.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Where each partition began and ended when it was asked.
    #[must_use]
    pub fn bounds(&self) -> &BTreeMap<i32, Stretch> {
        &self.bounds
    }

    /// Begins to read `spans`, as far as they lie within the bounds, and nothing else. What was begun before is given up.
    ///
    /// # Errors
    /// If librdkafka refuses them.
    pub fn begin(&mut self, spans: &BTreeMap<i32, Stretch>) -> Result<(), ScanError> {
        let within = |(number, span): (&i32, &Stretch)| {
            let bounds = self.bounds.get(number)?;
            let span = Stretch { from: span.from.max(bounds.from), to: span.to.min(bounds.to) };
            (!span.is_empty()).then_some((*number, span))
        };
        self.left = spans.iter().filter_map(within).collect();
        let starts = self.left.iter().map(|(number, span)| (self.partition(*number), span.from)).collect::<Vec<_>>();
        self.waited = Duration::ZERO;
        let begun = lists::offsets(&starts).and_then(|list| {
            self.inner.assign(&list)?;
            // One that was through before is paused.
            self.inner.resume(&list)
        });
        begun.map_err(|error| ScanError::client(&self.topic, error))
    }

    /// How many offsets are still to be read.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left.values().map(|span| span.len()).sum()
    }

    /// The first offset of a partition that was not read yet; none once the partition is through.
    #[must_use]
    pub fn next_of(&self, number: i32) -> Option<i64> {
        self.left.get(&number).map(|span| span.from)
    }

    /// The first offset of each partition whose record is of `at` or later; the end where none is. None at all if these brokers do not
    /// keep the times of records, as the embedded ones.
    ///
    /// # Errors
    /// If the brokers do not answer.
    pub fn since(&self, at: Timestamp) -> Result<Option<BTreeMap<i32, i64>>, ScanError> {
        let filled = self.bounds.iter().filter(|(_, span)| !span.is_empty());
        let filled = filled.map(|(number, _)| self.partition(*number)).collect::<Vec<_>>();
        let ask = |millis: i64| {
            let told = lists::listed(&self.inner, &filled, Offset::Offset(millis.max(0)), PATIENCE);
            told.map_err(|source| ScanError::Brokers {
                topic: self.topic.clone(),
                brokers: self.brokers.clone(),
                source: source.into(),
            })
        };
        let found = ask(at.as_millis())?;
        // Nothing so late, or no idea: who keeps times knows the first of all.
        if found.iter().any(|(_, offset)| offset.is_none()) && ask(0)?.iter().any(|(_, offset)| offset.is_none()) {
            return Ok(None);
        }
        let found =
            found.into_iter().filter_map(|(partition, offset)| Some((partition.number, offset?))).collect::<BTreeMap<_, _>>();
        let first = |(number, span): (&i32, &Stretch)| (*number, found.get(number).copied().unwrap_or(span.to));
        Ok(Some(self.bounds.iter().map(first).collect()))
    }

    /// Nothing more of a partition is wanted.
    pub fn pass(&mut self, number: i32) {
        if self.left.remove(&number).is_some() {
            pause(&self.inner, &self.partition(number));
        }
    }

    /// The bounds, as far as they are of `since` or later where the brokers know times; where they do not, all of them.
    ///
    /// # Errors
    /// If the brokers do not answer.
    pub fn spans_since(&self, since: Option<Timestamp>) -> Result<BTreeMap<i32, Stretch>, ScanError> {
        let mut spans = self.bounds.clone();
        let firsts = since.map(|since| self.since(since)).transpose()?.flatten();
        for (number, first) in firsts.into_iter().flatten() {
            spans.entry(number).and_modify(|span| span.from = span.from.max(first));
        }
        Ok(spans)
    }

    /// Hands each record of what was begun to `each`, with how many offsets were left before it, as long as `go_on` says so. Says whether all
    /// was read.
    ///
    /// # Errors
    /// As [`Scan::step`], and those of `each` and `go_on`.
    pub fn read<E: From<ScanError>>(
        &mut self,
        mut go_on: impl FnMut() -> Result<bool, E>,
        mut each: impl FnMut(&BorrowedMessage<'_>, u64) -> Result<(), E>,
    ) -> Result<bool, E> {
        while go_on()? {
            let left = self.left();
            match self.step(WAIT)? {
                Scanned::Record(record) => each(&record, left)?,
                Scanned::Nothing => {}
                Scanned::End => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Waits up to `wait` for the next record.
    ///
    /// # Errors
    /// If the client cannot go on, or nothing came for long.
    pub fn step(&mut self, wait: Duration) -> Result<Scanned<'_>, ScanError> {
        while !self.left.is_empty() {
            // Time is only looked at where nothing is there yet: it costs as much as a record.
            let (polled, waited) = match self.inner.poll(Duration::ZERO) {
                None => {
                    let begun = self.clock.elapsed();
                    (self.inner.poll(wait), self.clock.elapsed().saturating_sub(begun))
                }
                there => (there, Duration::ZERO),
            };
            match polled {
                None => {
                    self.waited += waited;
                    return self.silent().map_or(Ok(Scanned::Nothing), Err);
                }
                Some(Ok(record)) => {
                    self.waited = Duration::ZERO;
                    let (number, offset) = (record.partition(), record.offset());
                    // What was fetched before the scan began anew is no part of it.
                    let Some(span) = self.left.get_mut(&number).filter(|span| span.from <= offset) else { continue };
                    let to = span.to;
                    span.from = offset.saturating_add(1);
                    if span.is_empty() {
                        self.left.remove(&number);
                        let done = Partition { topic: self.topic.as_str().into(), number };
                        pause(&self.inner, &done);
                    }
                    if offset < to {
                        return Ok(Scanned::Record(record));
                    }
                }
                // Behind its last record there may be more offsets, of markers and of what was aborted.
                Some(Err(KafkaError::PartitionEOF(number))) => {
                    self.waited = Duration::ZERO;
                    self.left.remove(&number);
                }
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(ScanError::client(&self.topic, error)),
                // librdkafka goes on trying by itself.
                Some(Err(_)) => {
                    self.waited += waited;
                    return self.silent().map_or(Ok(Scanned::Nothing), Err);
                }
            }
        }
        Ok(Scanned::End)
    }

    fn silent(&self) -> Option<ScanError> {
        let told = || ScanError::Silent { topic: self.topic.clone(), seconds: self.waited.as_secs(), left: self.left() };
        (self.waited > SILENCE).then(told)
    }

    fn partition(&self, number: i32) -> Partition {
        Partition { topic: self.topic.as_str().into(), number }
    }
}

impl ScanError {
    fn brokers<'a>(cluster: &'a Cluster, topic: &'a str) -> impl Fn(KafkaError) -> Self + use<'a> {
        move |source| Self::Brokers { topic: topic.to_owned(), brokers: cluster.brokers().to_owned(), source: source.into() }
    }

    /// The same, of a topic that may not be there.
    fn untold<'a>(cluster: &'a Cluster, topic: &'a str) -> impl Fn(KafkaError) -> Self + use<'a> {
        move |source| match source.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                Self::NoTopic { topic: topic.to_owned(), brokers: cluster.brokers().to_owned() }
            }
            _ => Self::brokers(cluster, topic)(source),
        }
    }

    fn client(topic: &str, source: KafkaError) -> Self {
        Self::Client { topic: topic.to_owned(), source: source.into() }
    }
}

/// A partition that is through is fetched no more.
fn pause(consumer: &BaseConsumer<Quiet>, done: &Partition) {
    if let Err(error) = consumer.pause(&lists::list(std::slice::from_ref(done))) {
        tracing::debug!(%error, partition = %done, "a partition that is through is still fetched");
    }
}
