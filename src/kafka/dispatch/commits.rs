//! Commits: when, and what has become of the last one.
//!
//! Owns: the one commit that is under way. Refuses a second beside it, so that an answer always belongs to what was sent. One
//! that fails is sent again at the next interval, with the news of the meantime. Neighbour: `dispatch`.

use std::time::Duration;

use rdkafka::consumer::CommitMode;

use super::holdings::{Held, Holdings};
use crate::kafka::consumer::{Consumer, Partition};

/// How the last commit ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// None has since the last time of asking.
    Nothing,
    /// The brokers took it.
    Taken,
    /// They did not.
    Failed,
}

/// The commit under way, and when the next is due.
pub(super) struct Commits {
    interval: Duration,
    due: Duration,
    under_way: Option<Vec<(Partition, i64)>>,
    failing: bool,
}

impl Commits {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, due: interval, under_way: None, failing: false }
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        now >= self.due && self.under_way.is_none()
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Sends the news of the holdings, if there is any and no other commit is under way.
    pub(super) fn send(&mut self, consumer: &Consumer, holdings: &Holdings, now: Duration) {
        self.due = now + self.interval;
        let news = holdings.iter().filter_map(Held::news).collect::<Vec<_>>();
        if news.is_empty() || self.under_way.is_some() {
            return;
        }
        match consumer.commit(&news, CommitMode::Async) {
            Ok(()) => self.under_way = Some(news),
            Err(error) => tracing::debug!(%error, "a commit was not sent; it is at the next interval"),
        }
    }

    /// Takes the brokers' answer, if it has come.
    pub(super) fn take_answer(&mut self, consumer: &Consumer, holdings: &mut Holdings) -> Ended {
        let Some(answer) = consumer.commit_answer() else { return Ended::Nothing };
        let sent = self.under_way.take().unwrap_or_default();
        match answer {
            Ok(()) => {
                for (partition, offset) in sent {
                    if let Some(held) = holdings.find(&partition.topic, partition.number) {
                        held.committed = Some(offset);
                    }
                }
                self.failing = false;
                Ended::Taken
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, "a commit failed; it is tried again until the brokers take it");
                }
                Ended::Failed
            }
        }
    }
}
