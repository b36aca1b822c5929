//! Transactions: records out and offsets committed, together or not at all.
//!
//! Owns: one transactional producer and the state its last transaction is in. Refuses to begin anew before the last one's end
//! is known: what timed out is asked about again. Neighbours: courier, which keeps what it read until the end is known; `told`
//! beside has what librdkafka's threads say of a transaction.

mod told;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Statistics};
use tidings_core::fate::Cause;
use tidings_core::time::Timestamp;

use self::told::Told;
use super::cluster::Cluster;
use super::consumer::Partition;
use super::lists;
use super::producer::{Outgoing, headers};
use super::refusals::Reason;
use super::said;
use super::statistics::Gauges;

/// How often it is looked how the records of a transaction stand.
const REPORT_PAUSE: Duration = Duration::from_millis(1);

/// Why no transaction is possible any more with this producer.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// A property is wrong.
    #[error("the transactional producer was not made")]
    Config(#[source] KafkaError),
    /// The brokers have taken the transactional id away: because a transaction ran out of time, or because another process
    /// uses the id.
    #[error("the brokers no longer take transactions of `{id}`")]
    Fenced {
        /// The transactional id.
        id: String,
        /// What librdkafka says.
        #[source]
        source: KafkaError,
    },
}

impl TransactionError {
    /// Whose fault it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Config(_) => Cause::Bug,
            Self::Fenced { .. } => Cause::Dependency,
        }
    }
}

/// How a transaction stands.
#[derive(Debug)]
#[must_use]
pub enum End {
    /// Records and offsets are on the log.
    Committed,
    /// Nothing is on the log. Without `too_large`, trying again later may help: without the topics that are `refusing` it helps now.
    Aborted {
        /// What went wrong.
        error: KafkaError,
        /// Indices of records that were too large for their topic, or travelled with one that was, in no order.
        too_large: Vec<usize>,
        /// Topics because of which it was aborted, and why, as far as that is known: they took nothing, and others did or may.
        refusing: BTreeMap<String, Reason>,
    },
    /// The brokers have not said yet: call [`Transactions::settle`].
    Unknown,
}

#[derive(Default)]
struct Context {
    /// Shared with librdkafka's threads, which bring the brokers' answers.
    told: Arc<Mutex<Told>>,
    gauges: Gauges,
}

impl ClientContext for Context {
    fn stats(&self, said: Statistics) {
        self.gauges.note(&said);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        let is_noted = self.told.lock().hear(facility, text);
        // Whoever is told how the transaction ended says it once.
        said::line(if is_noted { RDKafkaLogLevel::Debug } else { level }, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        said::error(&error, reason);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let mut told = self.told.lock();
        match result {
            Ok(record) => told.written(index, record.timestamp()),
            Err((error, record)) => told.unwritten(index, record.topic(), error),
        }
    }
}

#[derive(Debug)]
enum Stage {
    Idle,
    /// Its records are on their way, for so long already.
    Flushing(Duration),
    Committing,
    Aborting(KafkaError),
}

/// A transactional producer. One thread uses it.
pub struct Transactions {
    inner: ThreadedProducer<Context>,
    id: String,
    told: Arc<Mutex<Told>>,
    stage: Stage,
    /// For how long records of a transaction may be on their way: well within what the brokers give it.
    patience: Duration,
}

impl Transactions {
    /// A producer with the transactional id `id`, whose transactions the brokers give up after `timeout`. The brokers need not
    /// be there yet; [`Transactions::begin_service`] must succeed first.
    ///
    /// # Errors
    /// If a property is wrong.
    pub fn new(cluster: &Cluster, id: &str, timeout: Duration) -> Result<Self, TransactionError> {
        let context = Context { gauges: cluster.statistics(), ..Context::default() };
        let told = context.told.clone();
        let timeout_ms = timeout.as_millis().to_string();
        // A broker that is not through with the transaction before says so, and is asked again so soon, then ever later.
        let mut config = cluster.clone().preferring("retry.backoff.ms", "10").producer("courier");
        config.set("transactional.id", id);
        config.set("transaction.timeout.ms", &timeout_ms);
        // A record that is not written within its transaction's time never is.
        config.set("message.timeout.ms", &timeout_ms);
        // Everything of a transaction is handed over at once and flushed.
        config.set("linger.ms", "0");
        let inner = config.create_with_context(context).map_err(TransactionError::Config)?;
        Ok(Self { inner, id: id.to_owned(), told, stage: Stage::Idle, patience: timeout / 2 })
    }

    /// Announces the producer to the brokers, which ends whatever an earlier one of the same id left open. Gives back why it
    /// has to be tried again, if the brokers did not answer within `wait`.
    ///
    /// # Errors
    /// If the brokers refuse the id for good.
    pub fn begin_service(&self, wait: Duration) -> Result<Option<KafkaError>, TransactionError> {
        match self.inner.init_transactions(wait) {
            Ok(()) => Ok(None),
            Err(error) if is_fatal(&error) => Err(self.fenced(error)),
            Err(error) => Ok(Some(error)),
        }
    }

    /// Writes `records`, some with headers of another record in front of their own, and commits `done` (next offsets to read) for
    /// `group`, in one transaction. Takes up to a few times `wait`. Does nothing but settle if the last transaction's end is not
    /// known yet, and then says how that one ended.
    ///
    /// # Errors
    /// If the brokers no longer take transactions of this producer.
    pub fn run(
        &mut self,
        records: &[(Outgoing<'_>, Option<&OwnedHeaders>)],
        done: &[(Partition, i64)],
        group: &ConsumerGroupMetadata,
        wait: Duration,
    ) -> Result<End, TransactionError> {
        self.run_with(records, |inner| inner.send_offsets_to_transaction(&lists::offsets(done)?, group, wait), wait)
    }

    /// The same without offsets.
    ///
    /// # Errors
    /// If the brokers no longer take transactions of this producer.
    pub fn write(&mut self, records: &[(Outgoing<'_>, Option<&OwnedHeaders>)], wait: Duration) -> Result<End, TransactionError> {
        self.run_with(records, |_| Ok(()), wait)
    }

    /// Writes `record` and takes it back, so that nobody reads it. [`Transactions::appended`] says then when a broker appended it.
    ///
    /// # Errors
    /// If the brokers no longer take transactions of this producer.
    pub fn try_out(&mut self, record: Outgoing<'_>, wait: Duration) -> Result<End, TransactionError> {
        self.run_with(&[(record, None)], |inner| inner.flush(wait).and(Err(KafkaError::Canceled)), wait)
    }

    /// The latest time at which a broker said that it appended a record of the last transaction.
    #[must_use]
    pub fn appended(&self) -> Option<Timestamp> {
        self.told.lock().appended()
    }

    /// Whether brokers have appended a record of the last transaction, be it without saying when.
    #[must_use]
    pub fn has_written(&self) -> bool {
        self.told.lock().has_written()
    }

    fn run_with(
        &mut self,
        records: &[(Outgoing<'_>, Option<&OwnedHeaders>)],
        last: impl FnOnce(&ThreadedProducer<Context>) -> Result<(), KafkaError>,
        wait: Duration,
    ) -> Result<End, TransactionError> {
        if !matches!(self.stage, Stage::Idle) {
            return self.settle(wait);
        }
        *self.told.lock() = Told::of(records.iter().map(|(record, _)| record.topic));
        self.inner.begin_transaction().map_err(|error| self.fenced(error))?;
        self.stage = match self.fill(records).and_then(|()| last(&self.inner)) {
            Ok(()) => Stage::Flushing(Duration::ZERO),
            Err(error) if is_fatal(&error) => return Err(self.fenced(error)),
            Err(error) => Stage::Aborting(error),
        };
        self.settle(wait)
    }

    fn fill(&self, records: &[(Outgoing<'_>, Option<&OwnedHeaders>)]) -> Result<(), KafkaError> {
        for (index, (record, carried)) in records.iter().enumerate() {
            let mut base = BaseRecord::<[u8], [u8], usize>::with_opaque_to(record.topic, index);
            base.partition = record.partition;
            base.key = record.key;
            base.payload = record.value;
            base.headers = headers(*carried, record.headers);
            self.inner.send(base).map_err(|(error, _)| {
                self.told.lock().unwritten(index, record.topic, &error);
                error
            })?;
        }
        Ok(())
    }

    /// Asks once more for the end of the last transaction, for up to about `wait`.
    ///
    /// # Errors
    /// If the brokers no longer take transactions of this producer.
    pub fn settle(&mut self, wait: Duration) -> Result<End, TransactionError> {
        if let Stage::Flushing(waited) = self.stage {
            let waited = waited.saturating_add(wait);
            self.stage = match self.flush(wait) {
                Ok(()) => Stage::Committing,
                Err(_) if waited < self.patience => Stage::Flushing(waited),
                Err(error) => {
                    self.told.lock().give_up();
                    Stage::Aborting(error)
                }
            };
        }
        if matches!(self.stage, Stage::Flushing(_)) {
            return Ok(End::Unknown);
        }
        if matches!(self.stage, Stage::Committing) {
            match self.inner.commit_transaction(wait) {
                Ok(()) => {
                    self.stage = Stage::Idle;
                    return Ok(End::Committed);
                }
                Err(error) if is_fatal(&error) => return Err(self.fenced(error)),
                Err(error) if is_retriable(&error) => return Ok(End::Unknown),
                Err(error) => self.stage = Stage::Aborting(error),
            }
        }
        match self.inner.abort_transaction(wait) {
            Ok(()) => {}
            Err(error) if is_retriable(&error) => return Ok(End::Unknown),
            Err(error) => return Err(self.fenced(error)),
        }
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Aborting(error) => {
                let (too_large, refusing) = self.told.lock().blamed();
                Ok(End::Aborted { error, too_large, refusing })
            }
            Stage::Idle | Stage::Flushing(_) | Stage::Committing => Ok(End::Unknown),
        }
    }

    /// Waits until the brokers have answered for every record, or it is known that nothing comes of them: the commit says why then. The binding's own
    /// flush sleeps for 100 ms whenever the thread that brings the answers is faster than it.
    fn flush(&self, wait: Duration) -> Result<(), KafkaError> {
        let mut waited = Duration::ZERO;
        while self.inner.in_flight_count() > 0 && !self.told.lock().has_failed() {
            if waited >= wait {
                return Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut));
            }
            std::thread::sleep(REPORT_PAUSE);
            waited += REPORT_PAUSE;
        }
        Ok(())
    }

    fn fenced(&self, source: KafkaError) -> TransactionError {
        TransactionError::Fenced { id: self.id.clone(), source }
    }
}

fn is_fatal(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(error) if error.is_fatal())
}

fn is_retriable(error: &KafkaError) -> bool {
    match error {
        // The flush before a commit ran out of time.
        KafkaError::Flush(_) => true,
        KafkaError::Transaction(error) => error.is_retriable() && !error.txn_requires_abort(),
        _ => false,
    }
}
