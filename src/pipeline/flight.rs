//! A flight: a record whose notifications or dead letter are on their way to the brokers.
//!
//! Owns: the count of what is not acknowledged yet, shared by the tickets of all that follows from one record. The last one
//! settled tells the polling thread: done, or what was refused, for its size or by its topic; in the second case nothing of the partition is read
//! on until it is written. Neighbours: `publish` sends, `kafka::dispatch` is told.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::Sender;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tidings_core::record::dead_letter::Extent;
use tidings_core::rules::Burial;

use crate::clock::Clock;
use crate::kafka::cluster::Cluster;
use crate::kafka::dispatch::{Answer, Awaited, Source};
use crate::kafka::producer::{ProduceError, Ticket, Written};
use crate::kafka::refusals::{Reason, Refusals};
use crate::telemetry::{Durations, Span, Traces};

use super::meters::Meters;

/// The way back to the polling thread.
pub(super) struct Way {
    answers: Sender<Answer<Again>>,
    /// The topics that are written to: `notifications` and `dlq`.
    goals: [String; 2],
    notifications: Counter,
    write: Durations,
    clock: Clock,
    pub(super) traces: Traces,
    /// Topics that refuse. Shared: the producer's thread hears of it, workers look when to try again.
    refusals: Mutex<Refusals>,
    /// Whether there are any, so that who is not concerned takes no lock.
    any_refuses: AtomicBool,
}

impl Way {
    pub(super) fn new(
        answers: Sender<Answer<Again>>,
        meters: &Meters,
        cluster: &Cluster,
        (clock, traces): (Clock, Traces),
    ) -> Self {
        let refusals = Mutex::new(Refusals::new(cluster.refusal_pause(), clock, meters.refusals.clone()));
        let (notifications, write, any_refuses) = (meters.notifications.clone(), meters.write.clone(), AtomicBool::new(false));
        let goals = [cluster.names().notifications(), cluster.names().dlq()];
        Self { answers, goals, notifications, write, clock, traces, refusals, any_refuses }
    }

    /// Where something is written.
    pub(super) fn goal(&self, what: What) -> &str {
        let [notifications, dlq] = &self.goals;
        if what == What::Notification { notifications } else { dlq }
    }

    /// Whether something may be written where it was refused, which is a try unless nothing is refused there any more.
    pub(super) fn admits(&self, what: What) -> bool {
        !self.any_refuses.load(Ordering::Acquire) || self.refusals.lock().admits(self.goal(what))
    }

    /// A topic takes nothing, in words for an operator.
    fn refused(&self, topic: &str, why: Reason) -> String {
        let mut refusals = self.refusals.lock();
        refusals.refused(topic, why);
        self.any_refuses.store(true, Ordering::Release);
        refusals.told_of(topic).unwrap_or_default()
    }

    fn taken(&self, topic: &str) {
        if self.any_refuses.load(Ordering::Acquire) {
            let mut refusals = self.refusals.lock();
            refusals.over(topic);
            self.any_refuses.store(!refusals.is_empty(), Ordering::Release);
        }
    }

    /// Tells the polling thread; waits if its queue is full. Once it has ended, nobody needs to know.
    pub(super) fn tell(&self, answer: Answer<Again>) {
        let _ = self.answers.send(answer);
    }
}

/// What is written for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Notification,
    /// The record itself, for `dlq`.
    DeadLetter(Extent),
}

/// A record of which something was refused, on its way back to its worker.
pub(super) struct Again {
    pub(super) flight: Arc<Flight>,
    pub(super) refused: What,
    pub(super) by: By,
}

/// Who refused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// The topic's limit of sizes: the same is refused again.
    Size,
    /// The topic, which may take the same later.
    Topic,
}

/// What was refused, as a number that threads share; 0 for nothing. Each bit pattern stands for one pair.
fn code(refused: What, by: By) -> u8 {
    let what = match refused {
        What::Notification => 1,
        What::DeadLetter(Extent::Whole) => 2,
        What::DeadLetter(Extent::Stub) => 3,
        What::DeadLetter(Extent::Bare) => 4,
    };
    if by == By::Topic { what | BY_TOPIC } else { what }
}

const BY_TOPIC: u8 = 0x10;

fn decoded(code: u8) -> Option<(What, By)> {
    let by = if code & BY_TOPIC == 0 { By::Size } else { By::Topic };
    let refused = match code & !BY_TOPIC {
        0 => return None,
        1 => What::Notification,
        2 => What::DeadLetter(Extent::Whole),
        3 => What::DeadLetter(Extent::Stub),
        _ => What::DeadLetter(Extent::Bare),
    };
    Some((refused, by))
}

/// A record and what is on its way because of it.
pub(super) struct Flight {
    pub(super) source: Source,
    /// Why it is buried, once it is.
    pub(super) burial: OnceLock<Burial>,
    /// Over once all is written, if its partition waits for that.
    awaited: OnceLock<Awaited>,
    way: Arc<Way>,
    /// When it began, if it is timed.
    began: Option<Duration>,
    /// Shared by the tickets, which the producer's thread settles, and the worker, which holds one until it has sent all.
    outstanding: AtomicU32,
    /// What was refused, as `code` says it. Shared likewise.
    refused: AtomicU8,
}

impl Flight {
    /// A record for which its worker is about to send something. [`Flight::settle`] ends that.
    pub(super) fn new(source: Source, way: &Arc<Way>) -> Arc<Self> {
        let (outstanding, refused) = (AtomicU32::new(1), AtomicU8::new(0));
        let began = source.is_timed().then(|| way.clock.elapsed());
        let (burial, awaited, way) = (OnceLock::new(), OnceLock::new(), Arc::clone(way));
        Arc::new(Self { source, began, burial, awaited, way, outstanding, refused })
    }

    /// The same for a record whose first flight has ended with something refused.
    pub(super) fn renew(&self) {
        self.refused.store(0, Ordering::Relaxed);
        self.outstanding.store(1, Ordering::Release);
    }

    /// A ticket for something that is about to be sent.
    pub(super) fn ticket(self: &Arc<Self>, what: What, span: Span) -> Box<Passage> {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        Box::new(Passage { flight: Arc::clone(self), what, _span: span })
    }

    /// One thing less is outstanding. The last one tells the polling thread.
    pub(super) fn settle(self: &Arc<Self>) {
        if self.outstanding.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let Some((refused, by)) = decoded(self.refused.load(Ordering::Relaxed)) else { return self.done() };
        let task = Again { flight: Arc::clone(self), refused, by };
        let lane = self.source.lease.lane();
        match by {
            By::Size => self.way.tell(Answer::Again { lane, task }),
            By::Topic if self.source.lease.is_over() => self.done(),
            By::Topic => {
                let awaited = self.awaited.get_or_init(Awaited::default).clone();
                // What workers have behind it is read again once this is written.
                self.source.lease.halt();
                self.source.lease.stall();
                self.way.tell(Answer::Refused { lease: Arc::clone(&self.source.lease), awaited, task });
            }
        }
    }

    /// What is written of it now is refused by its topic, which may take it later.
    pub(super) fn refused_at(&self, what: What, why: Reason) {
        let told = self.way.refused(self.way.goal(what), why);
        self.awaited.get_or_init(Awaited::default).troubled(told);
        self.refused.store(code(what, By::Topic), Ordering::Relaxed);
    }

    /// Its partition has gone to somebody else, who reads the record again.
    pub(super) fn give_up(&self) {
        self.done();
    }

    /// What is refused of it is left: its partition was halted meanwhile, and it is read again.
    pub(super) fn leave(&self) {
        self.way.tell(Answer::Left(self.source.done()));
        if let Some(awaited) = self.awaited.get() {
            awaited.settle();
        }
    }

    fn done(&self) {
        let lease = &self.source.lease;
        if self.burial.get().is_none() && !lease.is_over() && !lease.is_halted() {
            lease.gate().written();
        }
        if let Some(began) = self.began {
            self.way.write.observe(self.way.clock.elapsed() - began);
        }
        self.way.tell(Answer::Done(self.source.done()));
        if let Some(awaited) = self.awaited.get() {
            awaited.settle();
        }
    }
}

/// The ticket of one written record.
pub(super) struct Passage {
    flight: Arc<Flight>,
    what: What,
    /// Over when the brokers have answered.
    _span: Span,
}

impl Ticket for Passage {
    fn settled(self: Box<Self>, outcome: Result<Written, ProduceError>) {
        let Self { flight, what, .. } = *self;
        match outcome {
            Ok(_) => {
                if what == What::Notification {
                    flight.way.notifications.inc();
                }
                flight.way.taken(flight.way.goal(what));
            }
            Err(ProduceError::TooLarge { .. }) => flight.refused.store(code(what, By::Size), Ordering::Relaxed),
            Err(ProduceError::Refused { source, .. }) => flight.refused_at(what, Reason::of_error(&source)),
            // Never settled, so never committed.
            Err(error) => return flight.way.tell(Answer::Failed(error)),
        }
        flight.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_and_by_whom_is_told_by_one_number() {
        let all =
            [What::Notification, What::DeadLetter(Extent::Whole), What::DeadLetter(Extent::Stub), What::DeadLetter(Extent::Bare)];
        for refused in all {
            for by in [By::Size, By::Topic] {
                assert_eq!(decoded(code(refused, by)), Some((refused, by)));
            }
        }
        assert_eq!(decoded(0), None);
    }
}
