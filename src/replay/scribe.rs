//! Writing what follows from records, and what is said of it on `audit`.
//!
//! Owns: one producer that keeps order, and the wait for the brokers' answers. Refuses to go on behind a record that was not written.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use tidings_core::ids::NodeId;
use tidings_core::record::audit::AuditRecord;
use tidings_core::record::notified::NotificationRecord;
use tidings_core::record::signal::SignalRecord;
use tidings_core::record::{Header, Record, encode};
use tokio_util::sync::CancellationToken;

use super::ReplayError;
use crate::kafka::cluster::Cluster;
use crate::kafka::producer::{Outgoing, ProduceError, Producer, Ticket, Written, version_header};

const WAIT: Duration = Duration::from_millis(200);
/// How long a queue without room is left alone.
const NO_ROOM: Duration = Duration::from_millis(5);
/// Who stops a call waits so long for answers that are on their way.
const LAST_WAITS: u32 = 25;

/// What was said of a notification of one record, by the record's number in its batch.
type Answer = (usize, Result<Written, ProduceError>);

struct Slip {
    number: usize,
    tell: Sender<Answer>,
}

impl Ticket for Slip {
    fn settled(self: Box<Self>, outcome: Result<Written, ProduceError>) {
        // Who was stopped listens no more.
        let _ = self.tell.send((self.number, outcome));
    }
}

/// Writes for one redrive, or one replay.
pub(super) struct Scribe {
    producer: Producer<Slip>,
    notifications: String,
    audit: String,
    signals: String,
    version: [Header; 1],
    answers: (Sender<Answer>, Receiver<Answer>),
    open: usize,
    stop: CancellationToken,
}

impl Scribe {
    pub(super) fn new(cluster: &Cluster, stop: &CancellationToken) -> Result<Self, ReplayError> {
        Ok(Self {
            producer: Producer::new(cluster, "replay").map_err(ReplayError::Client)?,
            notifications: cluster.names().notifications(),
            audit: cluster.names().audit(),
            signals: cluster.names().signals(),
            version: [version_header::<NotificationRecord>()],
            // As many answers as records are open.
            answers: unbounded(),
            open: 0,
            stop: stop.clone(),
        })
    }

    /// The same, whose notifications go to another topic.
    pub(super) fn to(self, topic: Option<String>) -> Self {
        Self { notifications: topic.unwrap_or(self.notifications), ..self }
    }

    /// Hands over the notifications of a record, which has a number in its batch.
    pub(super) fn notify(&mut self, number: usize, notifications: &[NotificationRecord]) -> Result<(), ReplayError> {
        for notification in notifications {
            let value = encode(notification).map_err(ReplayError::Encode)?;
            let key = Some(notification.channel.as_str().as_bytes());
            let topic = &self.notifications;
            let record = Outgoing { topic, partition: None, key, value: Some(&value), headers: &self.version };
            send(&self.producer, record, Slip { number, tell: self.answers.0.clone() }, &self.stop)?;
            self.open += 1;
        }
        Ok(())
    }

    /// Waits until the brokers have answered for everything. Gives the records of which something was too large, by their numbers.
    pub(super) fn settle(&mut self) -> Result<Vec<usize>, ReplayError> {
        let (mut too_large, mut waits) = (Vec::new(), 0);
        while self.open > 0 {
            match self.answers.1.recv_timeout(WAIT) {
                Ok((number, outcome)) => {
                    self.open -= 1;
                    match outcome {
                        Ok(_) => {}
                        Err(ProduceError::TooLarge { .. }) => too_large.push(number),
                        Err(error) => return Err(ReplayError::Unwritten(error)),
                    }
                }
                Err(RecvTimeoutError::Timeout) if self.stop.is_cancelled() => {
                    waits += 1;
                    if waits > LAST_WAITS {
                        return Err(ReplayError::Stopped);
                    }
                }
                Err(_) => {}
            }
        }
        Ok(too_large)
    }

    /// Writes a record of `audit`, and waits for it.
    pub(super) fn tell(&mut self, act: &AuditRecord) -> Result<(), ReplayError> {
        let topic = self.audit.clone();
        self.write(&topic, act.who().map(|who| who.as_str().as_bytes()), act)
    }

    /// Says a word to every node, in the name of `node`, and waits until the brokers have it.
    pub(super) fn signal(&mut self, node: &NodeId, word: &SignalRecord) -> Result<(), ReplayError> {
        let topic = self.signals.clone();
        self.write(&topic, Some(node.as_str().as_bytes()), word)
    }

    fn write<R: Record>(&mut self, topic: &str, key: Option<&[u8]>, fact: &R) -> Result<(), ReplayError> {
        let value = encode(fact).map_err(ReplayError::Encode)?;
        let headers = [version_header::<R>()];
        let record = Outgoing { topic, partition: None, key, value: Some(&value), headers: &headers };
        send(&self.producer, record, Slip { number: 0, tell: self.answers.0.clone() }, &self.stop)?;
        self.open += 1;
        match self.settle()?.as_slice() {
            [] => Ok(()),
            _ => Err(ReplayError::Unwritten(ProduceError::TooLarge { topic: topic.to_owned() })),
        }
    }
}

/// Hands a record over; waits while there is no room.
fn send(producer: &Producer<Slip>, record: Outgoing<'_>, slip: Slip, stop: &CancellationToken) -> Result<(), ReplayError> {
    let mut slip = Box::new(slip);
    loop {
        match producer.send(record, slip) {
            Ok(()) => return Ok(()),
            Err((ProduceError::QueueFull, returned)) if !stop.is_cancelled() => slip = returned,
            Err((ProduceError::QueueFull, _)) => return Err(ReplayError::Stopped),
            Err((error, returned)) => {
                returned.settled(Err(error));
                return Ok(());
            }
        }
        std::thread::sleep(NO_ROOM);
    }
}
