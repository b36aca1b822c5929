//! The writer: the transactional producer, from its making to its first transaction, and its replacement when the brokers take its id away.
//!
//! Owns: the order in which it comes to write: it is announced, what an earlier one committed is taken note of, and a broker has said what time
//! it is. Refuses to write before. Neighbours: `member` has the loop, `hour` the time.

use super::{BROKER_WAIT, Member};
use crate::config::CourierConfig;
use crate::courier::CourierError;
use crate::kafka::cluster::{Cluster, Flavour};
use crate::kafka::consumer::{Consumer, Partition};
use crate::kafka::producer::Outgoing;
use crate::kafka::refusals::Reason;
use crate::kafka::transaction::{End, TransactionError, Transactions};

/// How far the transactional producer is on its way to its first transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// The brokers do not know it yet.
    New,
    /// The brokers know it, so whatever an earlier one left open has ended; which offsets that committed is to be asked.
    Announced,
    /// What that committed is known; what time it is, is not.
    CaughtUp,
    /// It may begin transactions.
    Ready,
}

impl Member {
    /// Brings the producer as far as its first transaction.
    pub(super) fn can_write(&mut self, consumer: &Consumer) -> Result<bool, CourierError> {
        if self.writer == Writer::Ready && self.in_flight.is_none() && self.hour.is_doubtful() {
            self.writer = Writer::CaughtUp;
        }
        if self.writer == Writer::Ready {
            return Ok(true);
        }
        if !self.broker_backoff.is_over() {
            return Ok(false);
        }
        if self.writer == Writer::New {
            match self.transactions.begin_service(BROKER_WAIT) {
                Ok(None) => self.writer = Writer::Announced,
                Ok(Some(error)) => self.brokers_failed("the brokers do not take transactions yet", &error),
                Err(error) => self.replace_writer(error)?,
            }
        }
        if self.writer == Writer::Announced {
            match consumer.committed(&self.lines.keys().cloned().collect::<Vec<_>>(), BROKER_WAIT) {
                Ok(committed) => self.catch_up(committed),
                Err(error) => self.brokers_failed("the brokers do not say what is committed", &error),
            }
        }
        if self.writer == Writer::CaughtUp {
            self.learn_the_hour()?;
        }
        Ok(self.writer == Writer::Ready)
    }

    /// Has a broker say what time it is, by a record that is taken back. Nothing is judged due before by a clock that nobody has vouched for.
    fn learn_the_hour(&mut self) -> Result<(), CourierError> {
        // Embedded brokers live by this machine's clock, and show readers what was taken back.
        if self.cluster.flavour() == Flavour::Embedded {
            self.hour.told(None);
        }
        if !self.hour.is_doubtful() {
            self.writer = Writer::Ready;
            return Ok(());
        }
        let record = Outgoing { topic: &self.hand.signals, partition: None, key: Some(b"hour"), value: None, headers: &[] };
        match self.transactions.try_out(record, BROKER_WAIT) {
            Ok(End::Aborted { error, refusing, .. }) => {
                let appended = self.transactions.appended();
                if appended.is_none() && !self.transactions.has_written() && refusing.is_empty() {
                    self.brokers_failed("no broker has appended what was tried out", &error);
                    return Ok(());
                }
                let doubt = appended.is_none().then(|| self.undated(refusing.get(&self.hand.signals)));
                if let Some(doubt) = &doubt {
                    tracing::warn!("{doubt}");
                }
                self.role.note("hour", doubt);
                self.hour.told(appended);
                self.brokers_answer();
                self.writer = Writer::Ready;
            }
            Ok(End::Unknown | End::Committed) => {}
            Err(error) => self.replace_writer(error)?,
        }
        Ok(())
    }

    /// That no broker says what time it is, and why, in words for an operator.
    fn undated(&self, refused: Option<&Reason>) -> String {
        let topic = &self.hand.signals;
        let why = refused.map_or_else(
            || {
                format!(
                    "it does not date what it appends, `message.timestamp.type` must be LogAppendTime: `kafka-configs.sh --alter --entity-type \
                     topics --entity-name {topic} --add-config message.timestamp.type=LogAppendTime`"
                )
            },
            |refused| refused.in_full(topic),
        );
        format!("no broker says what time it is, so this machine's clock is believed: see that it is right. {topic}: {why}")
    }

    /// What an earlier producer's last transaction committed is done.
    fn catch_up(&mut self, committed: Vec<(Partition, Option<i64>)>) {
        for (partition, next) in committed {
            let line = self.lines.get_mut(&partition).filter(|line| line.outdated != next);
            if let (Some(line), Some(next)) = (line, next) {
                line.done_below(next);
                line.pass(next - 1);
            }
        }
        self.writer = Writer::CaughtUp;
        self.brokers_answer();
    }

    /// The brokers no longer take transactions of this producer. A transaction that ran out of time while they were away does
    /// that, and a new producer goes on; if it happens again sooner than a transaction can run out, somebody else does it.
    pub(in crate::courier) fn replace_writer(&mut self, error: TransactionError) -> Result<(), CourierError> {
        let now = self.clock.elapsed();
        if self.fenced_at.is_some_and(|at| now - at < self.config.transaction_timeout.0) {
            return Err(CourierError::Contested(error));
        }
        tracing::warn!(%error, source = std::error::Error::source(&error), "going on with a new transactional producer");
        self.fenced_at = Some(now);
        self.in_flight = None;
        self.transactions = transactions(&self.cluster, &self.config, &self.hand.node)?;
        self.writer = Writer::New;
        Ok(())
    }
}

pub(super) fn transactions(
    cluster: &Cluster,
    config: &CourierConfig,
    node: &tidings_core::ids::NodeId,
) -> Result<Transactions, TransactionError> {
    Transactions::new(cluster, &format!("{}-{node}", cluster.group("courier")), config.transaction_timeout.0)
}
