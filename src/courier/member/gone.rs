//! Topics that are not there: their lines rest, and go on once the topic is back.
//!
//! Owns: what is said of them, and how often it is looked. A retry topic that comes back is read as `start` says, and so is `notifications`, if what
//! was read of it fits what is there. Neighbours: `ends` and `start` find out that one is gone.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::error::KafkaError;
use tidings_core::delivery::ladder::Rung;

use super::{BROKER_WAIT, Member, start};
use crate::courier::line::Absence;
use crate::kafka::consumer::{Consumer, Partition};

/// How often it is looked whether topics are there again.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The same once the brokers did not say: one that is silent holds up what others send for as long as it is asked.
const LOOK_PAUSE: Duration = Duration::from_secs(20);

/// That a partition's topic is not there, with what to do.
pub(super) fn told(partition: &Partition, rung: Rung) -> String {
    if rung == Rung::FIRST { partition.told_missing_with_positions() } else { partition.told_missing() }
}

impl Member {
    /// The brokers do not have a topic: nothing is read of it or committed until it is back.
    pub(in crate::courier) fn topic_is_gone(&mut self, topic: &str) {
        for (partition, line) in self.lines.iter_mut().filter(|(partition, _)| *partition.topic == *topic) {
            if line.absence.is_none() {
                line.miss(told(partition, line.rung));
                tracing::error!(
                    topic,
                    partition = partition.number,
                    "a partition is not read any further: its topic is not there"
                );
            }
        }
    }

    /// Looks whether topics that were gone are there again.
    pub(super) fn look_for_gone(&mut self, consumer: &Consumer) {
        if self.clock.elapsed() < self.looked_at || !self.may_ask() {
            return;
        }
        let gone = self.lines.iter().filter(|(_, line)| line.absence == Some(Absence::Missing));
        let gone = gone.map(|(partition, _)| partition.clone()).collect::<Vec<_>>();
        if gone.is_empty() {
            return;
        }
        let asked = self.find_gone(consumer, gone);
        let asked = asked.inspect_err(|error| tracing::debug!(%error, "topics that were gone are not read yet; trying again"));
        self.looked_at = self.clock.elapsed() + asked.map_or(LOOK_PAUSE, |()| LOOK_INTERVAL);
    }

    fn find_gone(&mut self, consumer: &Consumer, gone: Vec<Partition>) -> Result<(), KafkaError> {
        let topics = gone.iter().map(|partition| partition.topic.to_string()).collect::<BTreeSet<_>>();
        let topics = Vec::from_iter(topics);
        let missing = consumer.missing(&topics, BROKER_WAIT)?;
        let back = gone.into_iter().filter(|partition| !missing.contains(&&*partition.topic)).collect::<Vec<_>>();
        if back.is_empty() {
            return Ok(());
        }
        let logs = consumer.logs_by_topic(&back, BROKER_WAIT)?;
        // One that has just been made has no leader yet, and none can begin while the group is about to give and take: it is asked again soon.
        for (partition, found) in start::found(consumer, logs.known)? {
            let begun = self.set_going(consumer, &partition, found);
            begun.unwrap_or_else(
                |error| tracing::debug!(%error, %partition, "a partition whose topic is back does not begin yet"),
            );
        }
        Ok(())
    }
}
