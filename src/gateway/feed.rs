//! The feed: every record of `notifications`, `receipts` and `signals`, from the end, handed to the shards it concerns.
//!
//! Owns: the reader's thread. A full shard queue slows it down and loses nothing. Refuses to go on behind a lost position (the
//! process restarts and its clients resume), and pauses a partition whose records a later release wrote.

mod before;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rdkafka::Message;
use rdkafka::message::BorrowedMessage;
use tidings_core::channel::Channel;
use tidings_core::ids::NotificationId;
use tidings_core::record::notified::NotificationRecord;
use tidings_core::record::receipt::ReceiptRecord;
use tidings_core::record::signal::SignalRecord;
use tidings_core::record::trace::{PARENT_HEADER, STATE_HEADER, TraceContext};
use tidings_core::record::{self, Record, RecordError, VERSION_HEADER};
use tidings_core::time::Timestamp;
use tokio_util::sync::CancellationToken;

use super::fed::Fed;
use super::inlet::{Broadcast, Control, Inlet, Mail, Withdrawn};
use super::receipts::forget;
use super::wording::Again;
use super::{GatewayError, Shared};
use crate::kafka::cluster::Cluster;
use crate::kafka::consumer::{Partition, header};
use crate::kafka::reader::{Read, Reader};
use crate::telemetry::Place;
use crate::telemetry::health::Role;

const POLL: Duration = Duration::from_millis(100);
const ANSWER: Duration = Duration::from_secs(5);
const PROBE: Duration = Duration::from_secs(1);
const CLIENT_ID: &str = "gateway";

/// What the feed's thread owns.
pub(super) struct Feed {
    shared: Arc<Shared>,
    cluster: Cluster,
    role: Role,
    stop: CancellationToken,
    /// Partitions that are not read on, and why.
    paused: BTreeMap<Partition, String>,
    trouble: Option<&'static str>,
}

impl Feed {
    pub(super) fn new(shared: Arc<Shared>, cluster: Cluster, role: Role, stop: CancellationToken) -> Self {
        Self { shared, cluster, role, stop, paused: BTreeMap::new(), trouble: None }
    }

    /// Reads until it is told to stop.
    pub(super) fn run(mut self) -> Result<(), GatewayError> {
        let reader = Reader::new(&self.cluster, CLIENT_ID)?;
        let Some(starts) = self.wait_for_starts(&reader)? else { return Ok(()) };
        let withdrawn = self.withdrawn_before(&reader, &starts)?;
        reader.start(&starts)?;
        self.begin(&starts, withdrawn.into());
        while !self.stop.is_cancelled() {
            match reader.poll(POLL)? {
                Read::Nothing => {
                    self.shared.metrics.lag.set(None);
                    // librdkafka says when the last broker goes, not when one comes back.
                    if self.trouble.is_some() {
                        self.outage(&reader, &starts, "still no answer");
                    }
                }
                Read::Record(message) => {
                    self.settled();
                    self.dispatch(&reader, &message)?;
                }
                Read::OutOfRange => return Err(GatewayError::PositionLost),
                Read::Trouble(code) => self.outage(&reader, &starts, &format!("{code:?}")),
            }
        }
        Ok(())
    }

    /// Where each partition begins, or nothing if it is to stop before the brokers answered.
    fn wait_for_starts(&mut self, reader: &Reader) -> Result<Option<Vec<(Partition, i64)>>, GatewayError> {
        while !self.stop.is_cancelled() {
            match self.sample(reader) {
                Ok(starts) => return Ok(Some(starts)),
                Err(GatewayError::Kafka(error)) => {
                    self.troubled(&error.to_string());
                    // Answers come late or at once; either way the next question waits.
                    std::thread::sleep(PROBE);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn sample(&self, reader: &Reader) -> Result<Vec<(Partition, i64)>, GatewayError> {
        let names = self.cluster.names();
        let mut partitions = reader.partitions(&names.notifications(), ANSWER)?;
        if partitions.len() != usize::try_from(self.shared.partitions).unwrap_or(0) {
            return Err(GatewayError::Partitions {
                topic: names.notifications(),
                expected: self.shared.partitions,
                found: partitions.len(),
            });
        }
        for topic in [names.receipts(), names.signals()] {
            partitions.extend(reader.partitions(&topic, ANSWER)?);
        }
        Ok(reader.ends(&partitions, ANSWER)?)
    }

    fn begin(&mut self, starts: &[(Partition, i64)], withdrawn: Arc<[NotificationId]>) {
        let topic = self.cluster.names().notifications();
        let mut offsets = vec![0; usize::try_from(self.shared.partitions).unwrap_or(0)];
        for (partition, offset) in starts.iter().filter(|(partition, _)| *partition.topic == *topic) {
            if let Some(slot) = usize::try_from(partition.number).ok().and_then(|number| offsets.get_mut(number)) {
                *slot = *offset;
            }
        }
        self.trouble = None;
        self.shared.ring.begin(&offsets);
        tracing::info!(partitions = starts.len(), withdrawn = withdrawn.len(), "the feed has started");
        self.shared.begin(offsets.into(), withdrawn);
        self.role.ready();
    }

    fn dispatch(&mut self, reader: &Reader, message: &BorrowedMessage<'_>) -> Result<(), GatewayError> {
        let metrics = &self.shared.metrics;
        metrics.feed_records.inc();
        metrics.lag.set(message.timestamp().to_millis().map(Timestamp::from_millis));
        // Retention by key may leave tombstones; they say nothing.
        if message.payload().is_none() {
            return Ok(());
        }
        let names = self.cluster.names();
        let outcome = match message.topic() {
            topic if topic == &*self.shared.notifications => self.notification(message),
            topic if topic == names.receipts() => self.receipt(message),
            _ => self.signal(message),
        };
        match outcome {
            Ok(()) => Ok(()),
            Err(RecordError::Newer { name, found, known }) => {
                self.pause(reader, message, &RecordError::Newer { name, found, known })
            }
            Err(error) => {
                let place = Place { topic: message.topic(), partition: message.partition(), offset: message.offset() };
                self.shared.unreadable(place, &error.into());
                Ok(())
            }
        }
    }

    fn notification(&self, message: &BorrowedMessage<'_>) -> Result<(), RecordError> {
        let version = header(message, VERSION_HEADER);
        refuse_newer::<NotificationRecord>(version)?;
        let channel = channel_of(message.key(), message.partition(), self.shared.partitions)?;
        let owner = channel.mailbox_user();
        let fed = Arc::new(Fed {
            channel,
            partition: message.partition(),
            offset: message.offset(),
            version: version.map(<[u8]>::to_vec),
            value: message.payload().unwrap_or_default().to_vec(),
            trace: self.trace(message),
            frame: OnceLock::new(),
        });
        // Whatever a shard has begun with is in the ring.
        self.shared.ring.push(&fed);
        match owner {
            Some(user) => self.shared.inlet(&user).mail(Mail::New(fed)),
            None => self.shared.inlets.iter().for_each(|inlet| inlet.broadcast(Broadcast::New(fed.clone()))),
        }
        Ok(())
    }

    fn receipt(&self, message: &BorrowedMessage<'_>) -> Result<(), RecordError> {
        let receipt: ReceiptRecord = record::decode(header(message, VERSION_HEADER), message.payload().unwrap_or_default())?;
        let home = receipt.home();
        let (found, expected) = (message.partition(), home.partition(self.shared.partitions));
        if found != expected {
            return Err(RecordError::Misplaced { name: ReceiptRecord::NAME, found, expected });
        }
        if let ReceiptRecord::Withdrawn { channel, id, position, .. } = &receipt {
            let position = position.filter(|position| position.epoch == self.shared.epoch);
            forget(&self.shared, channel, *id, position.map(|position| position.offset.saturating_sub(1)));
        }
        match (home.mailbox_user(), receipt) {
            (Some(user), receipt) => self.shared.inlet(&user).mail(Mail::Receipt(Box::new(receipt), message.offset())),
            (None, ReceiptRecord::Withdrawn { channel, id, source, .. }) => {
                let withdrawn = Arc::new(Withdrawn { channel, id, by: source.map(|source| source.connection_id) });
                let tell = |inlet: &Arc<Inlet>| inlet.broadcast(Broadcast::Withdrawn(withdrawn.clone()));
                self.shared.inlets.iter().for_each(tell);
            }
            // Those of users lie with their mailboxes.
            (None, ReceiptRecord::State { .. } | ReceiptRecord::UpTo { .. }) => {}
        }
        Ok(())
    }

    fn signal(&self, message: &BorrowedMessage<'_>) -> Result<(), RecordError> {
        match record::decode(header(message, VERSION_HEADER), message.payload().unwrap_or_default())? {
            SignalRecord::Redeliver { delivery, redelivery } => {
                if let Some(user) = delivery.channel.mailbox_user()
                    && delivery.epoch == self.shared.epoch
                {
                    let again = Again { redelivery, word: message.offset() };
                    self.shared.inlet(&user).mail(Mail::Again { delivery, again, trace: self.trace(message) });
                }
            }
            SignalRecord::Disconnect { user_id, by } => {
                if by != self.shared.node {
                    self.shared.inlet(&user_id).say_blocking(Control::Disconnect { user: user_id, closed: None });
                }
            }
            // The pipeline's to hear.
            SignalRecord::ResetBreaker(_) => {}
            SignalRecord::Unknown => {
                self.shared.metrics.unknown_signals.inc();
            }
            of_nodes => self.shared.roster.hear(&self.shared, of_nodes),
        }
        Ok(())
    }

    /// The trace that a record belongs to. Not even looked for while nobody records traces.
    fn trace(&self, message: &BorrowedMessage<'_>) -> Option<TraceContext> {
        let traces = &self.shared.traces;
        let parent = traces.are_on().then(|| header(message, PARENT_HEADER)).flatten()?;
        traces.context(Some(parent), header(message, STATE_HEADER))
    }

    fn pause(&mut self, reader: &Reader, message: &BorrowedMessage<'_>, error: &RecordError) -> Result<(), GatewayError> {
        let partition = Partition { topic: message.topic().into(), number: message.partition() };
        reader.pause(&partition)?;
        self.shared.metrics.fates.count(error.cause(), error.class(), 1);
        let reason = format!("{partition} at offset {}: {error}", message.offset());
        tracing::error!(topic = %partition.topic, partition = partition.number, offset = message.offset(), %error, "the partition is paused until this process is upgraded");
        self.paused.insert(partition, reason);
        self.shared.metrics.held.set(i64::try_from(self.paused.len()).unwrap_or(i64::MAX));
        self.tell();
        Ok(())
    }

    /// Looks whether the brokers are really away, and says so once.
    fn outage(&mut self, reader: &Reader, starts: &[(Partition, i64)], why: &str) {
        let one = starts.first().map(|(partition, _)| partition.clone()).into_iter().collect::<Vec<_>>();
        if reader.ends(&one, PROBE).is_ok() {
            self.settled();
        } else {
            self.troubled(why);
        }
    }

    fn troubled(&mut self, why: &str) {
        if self.trouble.replace("the brokers do not answer").is_none() {
            tracing::warn!(why, "the feed waits for the brokers; connections stay");
        }
        self.tell();
    }

    fn settled(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!("the feed has the brokers back");
            self.tell();
        }
    }

    fn tell(&self) {
        self.role.holds(self.paused.iter().map(|(partition, why)| (partition.to_string(), why.clone())));
        let paused = self.paused.values().cloned();
        let why = self.trouble.map(str::to_owned).into_iter().chain(paused).collect::<Vec<_>>();
        if why.is_empty() { self.role.ready() } else { self.role.waiting(why.join("; ")) }
    }
}

/// The channel that a record's key names. Offsets of another partition than the channel's mean nothing to its listeners: their
/// positions would jump, and acknowledgements cover what was never sent.
fn channel_of(key: Option<&[u8]>, found: i32, partitions: i32) -> Result<Channel, RecordError> {
    let name = NotificationRecord::NAME;
    let text = key.and_then(|key| std::str::from_utf8(key).ok());
    let channel = text.and_then(|text| text.parse::<Channel>().ok()).ok_or(RecordError::Unkeyed { name })?;
    let expected = channel.partition(partitions);
    if found == expected { Ok(channel) } else { Err(RecordError::Misplaced { name, found, expected }) }
}

/// Refuses what a later release wrote, without reading it.
fn refuse_newer<R: Record>(version: Option<&[u8]>) -> Result<(), RecordError> {
    let found = version.and_then(|version| std::str::from_utf8(version).ok()).and_then(|version| version.parse::<u32>().ok());
    match found {
        Some(found) if found > R::VERSION => Err(RecordError::Newer { name: R::NAME, found, known: R::VERSION }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_of_a_channel_only_in_the_channels_partition() {
        let channel = "user-alice".parse::<Channel>().unwrap();
        let own = channel.partition(12);
        assert_eq!(channel_of(Some(b"user-alice"), own, 12).unwrap(), channel);
        let other = channel_of(Some(b"user-alice"), (own + 1) % 12, 12).unwrap_err();
        assert!(matches!(other, RecordError::Misplaced { expected, .. } if expected == own), "{other}");
        for key in [None, Some(&b""[..]), Some(b"\xff")] {
            assert!(matches!(channel_of(key, own, 12), Err(RecordError::Unkeyed { .. })));
        }
    }
}
