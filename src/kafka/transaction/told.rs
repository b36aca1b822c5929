//! What librdkafka's threads tell of the records of one transaction.
//!
//! Owns: which topics are to blame for an abort, since nobody else says it: a broker that lets us write to one topic of a transaction and not
//! to another refuses all that it was asked about together, and librdkafka names the one only in a line of its log. Refuses to blame anybody
//! when no record was taken: then the brokers are away. Neighbours: `transaction`, which asks once it has aborted.

use std::collections::BTreeMap;

use rdkafka::Timestamp as RecordTime;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tidings_core::time::Timestamp;

use crate::kafka::producer::is_refusal;
use crate::kafka::refusals::Reason;

/// The facility of librdkafka's line about a partition that a transaction may not write to (`rdkafka_txnmgr.c`).
const ADDING: &str = "ADDPARTS";
/// Stands there before the name of the topic.
const ADDED: &str = "Failed to add partition \"";
/// Stands there before the reason.
const BECAUSE: &str = "to transaction: ";
/// The reason of those that were asked about together with the one that is to blame.
const BYSTANDER: &str = "Operation not attempted";
/// The facility of librdkafka's line about a transaction that can only be aborted.
const FAILED: &str = "TXNERR";
/// How that line begins if a new transaction may go better.
const PASSING: &str = "Current transaction failed";

/// How the records of a transaction stand.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The topics of those that no broker has answered yet, by their index.
    open: BTreeMap<usize, String>,
    /// How many the brokers have.
    written: usize,
    too_large: Vec<usize>,
    refusing: BTreeMap<String, Reason>,
    has_failed: bool,
    appended_ms: Option<i64>,
}

impl Told {
    /// Nothing was said yet of records for these topics.
    pub(super) fn of<'a>(topics: impl Iterator<Item = &'a str>) -> Self {
        Self { open: topics.map(str::to_owned).enumerate().collect(), ..Self::default() }
    }

    /// The brokers have a record.
    pub(super) fn written(&mut self, index: usize, at: RecordTime) {
        self.open.remove(&index);
        self.written += 1;
        if let RecordTime::LogAppendTime(millis) = at {
            self.appended_ms = self.appended_ms.max(Some(millis));
        }
    }

    /// The brokers do not have a record for `topic`, and will not.
    pub(super) fn unwritten(&mut self, index: usize, topic: &str, error: &KafkaError) {
        let code = error.rdkafka_error_code();
        self.open.remove(&index);
        if matches!(code, Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize)) {
            self.too_large.push(index);
        } else if let Some(code) = code.filter(|code| is_refusal(*code)) {
            self.refusing.insert(topic.to_owned(), Reason::of(code));
        }
    }

    /// Hears a line of librdkafka's log. Says whether it is about this transaction, so that nobody else need say it.
    pub(super) fn hear(&mut self, facility: &str, text: &str) -> bool {
        match facility {
            ADDING => {
                self.has_failed = true;
                let named = text.split_once(ADDED).and_then(|(_, rest)| rest.split_once('"'));
                let blamed = named.and_then(|(topic, rest)| Some((topic, rest.split_once(BECAUSE)?.1)));
                if let Some((topic, why)) = blamed.filter(|(_, why)| !why.contains(BYSTANDER)) {
                    self.refusing.insert(topic.to_owned(), Reason::read(why));
                }
                true
            }
            FAILED if text.contains(PASSING) => {
                self.has_failed = true;
                true
            }
            _ => false,
        }
    }

    /// What was not answered by now is not waited for. If others were, it is the topics' fault.
    pub(super) fn give_up(&mut self) {
        if self.written > 0 {
            let late = std::mem::take(&mut self.open).into_values();
            self.refusing.extend(late.map(|topic| (topic, Reason::Late)));
        }
    }

    /// Whether nothing can come of the transaction any more.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// What it was aborted for: indices of records that are too large, and topics with what they say.
    pub(super) fn blamed(&mut self) -> (Vec<usize>, BTreeMap<String, Reason>) {
        (std::mem::take(&mut self.too_large), std::mem::take(&mut self.refusing))
    }

    /// The latest time of appending that a broker gave.
    pub(super) fn appended(&self) -> Option<Timestamp> {
        self.appended_ms.map(Timestamp::from_millis)
    }

    /// Whether brokers have appended something.
    pub(super) fn has_written(&self) -> bool {
        self.written > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Told {
        Told::of(["signals", "retry.1s", "dlq"].into_iter())
    }

    fn failed(code: RDKafkaErrorCode) -> KafkaError {
        KafkaError::MessageProduction(code)
    }

    #[test]
    fn the_topic_that_librdkafka_names_is_to_blame_and_those_asked_about_with_it_are_not() {
        let mut told = told();
        let line = |topic: &str, why: &str| {
            format!("[thrd:main]: 127.0.0.1:9092/1: Failed to add partition \"{topic}\" [3] to transaction: Broker: {why}")
        };
        assert!(told.hear("ADDPARTS", &line("t.retry.1s", "Topic authorization failed")) && told.has_failed());
        assert!(told.hear("ADDPARTS", &line("t.signals", "Operation not attempted")));
        // What never left is taken out of the queue.
        told.unwritten(0, "t.signals", &failed(RDKafkaErrorCode::PurgeQueue));
        let refusing = BTreeMap::from([("t.retry.1s".to_owned(), Reason::Denied)]);
        assert_eq!(told.blamed(), (vec![], refusing));
    }

    #[test]
    fn a_fatal_line_is_left_to_others_and_one_of_another_kind_is_not_ours() {
        let mut told = told();
        assert!(!told.hear("TXNERR", "Fatal transaction error: fenced"));
        assert!(!told.hear("FAIL", "connect failed"));
        assert!(!told.has_failed());
        assert!(told.hear("TXNERR", "Current transaction failed in state InTransaction: x") && told.has_failed());
    }

    #[test]
    fn what_is_not_written_in_time_is_its_topics_fault_only_if_others_wrote() {
        let mut away = told();
        away.give_up();
        assert_eq!(away.blamed().1, BTreeMap::new());
        let mut one = told();
        [0, 1].into_iter().for_each(|index| one.written(index, RecordTime::CreateTime(9)));
        one.give_up();
        assert_eq!(one.blamed().1, BTreeMap::from([("dlq".to_owned(), Reason::Late)]));
        assert_eq!((one.appended(), one.has_written()), (None, true), "a producer's word");
    }

    #[test]
    fn a_record_of_too_many_bytes_is_told_by_its_index_and_a_topic_that_is_gone_by_its_name() {
        let mut told = told();
        told.unwritten(1, "retry.1s", &failed(RDKafkaErrorCode::UnknownTopic));
        told.unwritten(2, "dlq", &failed(RDKafkaErrorCode::MessageSizeTooLarge));
        told.written(0, RecordTime::LogAppendTime(70));
        let (too_large, refusing) = told.blamed();
        assert_eq!((too_large, refusing.into_keys().collect::<Vec<_>>()), (vec![2], vec!["retry.1s".to_owned()]));
        assert_eq!(told.appended(), Some(Timestamp::from_millis(70)));
    }
}
