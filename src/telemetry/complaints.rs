//! Complaints: log lines about single records or connections, so that a flood of bad ones is no flood of lines.
//!
//! Owns: which of them are said aloud: the first of a class on a topic, and once in a while how many more there were. Refuses to
//! quote a record, and to count for `/metrics`: the reason lies in `dlq`, the counter in the service. Neighbours: every service.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;

/// How often a class that goes on and on is told of again.
const INTERVAL: Duration = Duration::from_secs(60);

/// Where a record lies.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

/// What a service has to say about single records. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Complaints {
    service: &'static str,
    clock: Clock,
    /// Shared by the threads of a service, so that it says a thing once.
    told: Arc<Mutex<Told>>,
}

/// What was told, by class and topic.
type Told = HashMap<&'static str, HashMap<String, Last>>;

#[derive(Debug)]
struct Last {
    /// When the last line was written.
    at: Duration,
    /// How many have come since.
    since: u64,
}

/// How a complaint is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Aloud, as the first of its class.
    First,
    /// Aloud, together with so many before it.
    Again(u64),
    /// For whoever debugs.
    Softly,
}

impl Complaints {
    /// Those of a service that has none yet.
    #[must_use]
    pub fn new(service: &'static str, clock: Clock) -> Self {
        Self { service, clock, told: Arc::default() }
    }

    /// Says `what` became of the record at `place`, because of an error of `class`.
    pub fn say(&self, place: Place<'_>, class: &'static str, what: &str) {
        let (Place { topic, partition, offset }, service) = (place, self.service);
        match self.how(class, topic) {
            Said::First => {
                tracing::warn!(
                    service,
                    topic,
                    partition,
                    offset,
                    class,
                    "{what}; more of this class on this topic are counted, and told of once a minute"
                );
            }
            Said::Again(more) => tracing::warn!(service, topic, partition, offset, class, more, "{what}, and `more` before it"),
            Said::Softly => tracing::debug!(service, topic, partition, offset, class, "{what}"),
        }
    }

    /// How the next of a class is said, for whoever has other words for it. There are few classes and subjects.
    #[must_use]
    pub fn how(&self, class: &'static str, subject: &str) -> Said {
        how(&mut self.told.lock(), self.clock.elapsed(), class, subject)
    }
}

fn how(told: &mut Told, now: Duration, class: &'static str, topic: &str) -> Said {
    let topics = told.entry(class).or_default();
    let Some(last) = topics.get_mut(topic) else {
        topics.insert(topic.to_owned(), Last { at: now, since: 0 });
        return Said::First;
    };
    if now < last.at + INTERVAL {
        last.since += 1;
        return Said::Softly;
    }
    let more = last.since;
    *last = Last { at: now, since: 0 };
    Said::Again(more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_class_and_topic_the_first_is_said_and_then_how_many_more_there_were() {
        let mut told = Told::default();
        let mut say = |seconds: u64, class, topic| how(&mut told, Duration::from_secs(seconds), class, topic);
        assert_eq!(say(0, "not_json", "a"), Said::First);
        assert_eq!(say(0, "not_json", "a"), Said::Softly);
        assert_eq!(say(0, "not_json", "b"), Said::First);
        assert_eq!(say(0, "too_large", "a"), Said::First);
        assert_eq!(say(59, "not_json", "a"), Said::Softly);
        assert_eq!(say(60, "not_json", "a"), Said::Again(2));
        assert_eq!(say(61, "not_json", "a"), Said::Softly);
        assert_eq!(say(600, "not_json", "a"), Said::Again(1));
        assert_eq!(say(1200, "not_json", "a"), Said::Again(0));
    }
}
