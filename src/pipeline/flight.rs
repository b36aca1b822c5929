//! A flight: a record whose notifications or dead letter are on their way to the brokers.
//!
//! Owns: the count of what is not acknowledged yet, shared by the tickets of all that follows from one record. The last one
//! settled tells the polling thread: done, or what was refused. Neighbours: `publish` sends, `kafka::dispatch` is told.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::Sender;
use prometheus_client::metrics::counter::Counter;
use tidings_core::record::dead_letter::Extent;
use tidings_core::rules::Burial;

use crate::clock::Clock;
use crate::kafka::dispatch::{Answer, Source};
use crate::kafka::producer::{ProduceError, Ticket, Written};
use crate::telemetry::{Durations, Span, Traces};

use super::meters::Meters;

/// The way back to the polling thread.
pub(super) struct Way {
    answers: Sender<Answer<Again>>,
    notifications: Counter,
    write: Durations,
    clock: Clock,
    pub(super) traces: Traces,
}

impl Way {
    pub(super) fn new(answers: Sender<Answer<Again>>, meters: &Meters, clock: Clock, traces: Traces) -> Self {
        Self { answers, notifications: meters.notifications.clone(), write: meters.write.clone(), clock, traces }
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

/// A record of which something was too large for its topic, on its way back to its worker.
pub(super) struct Again {
    pub(super) flight: Arc<Flight>,
    pub(super) refused: What,
}

/// A record and what is on its way because of it.
pub(super) struct Flight {
    pub(super) source: Source,
    /// Why it is buried, once it is.
    pub(super) burial: OnceLock<Burial>,
    way: Arc<Way>,
    /// When it began, if it is timed.
    began: Option<Duration>,
    /// Shared by the tickets, which the producer's thread settles, and the worker, which holds one until it has sent all.
    outstanding: AtomicU32,
    /// What was too large, as `What`; 0 for nothing. Shared likewise.
    refused: AtomicU8,
}

impl Flight {
    /// A record for which its worker is about to send something. [`Flight::settle`] ends that.
    pub(super) fn new(source: Source, way: &Arc<Way>) -> Arc<Self> {
        let (outstanding, refused) = (AtomicU32::new(1), AtomicU8::new(0));
        let began = source.is_timed().then(|| way.clock.elapsed());
        Arc::new(Self { source, began, burial: OnceLock::new(), way: Arc::clone(way), outstanding, refused })
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
        let refused = match self.refused.load(Ordering::Relaxed) {
            0 => {
                let lease = &self.source.lease;
                if self.burial.get().is_none() && !lease.is_over() && !lease.is_halted() {
                    lease.gate().written();
                }
                if let Some(began) = self.began {
                    self.way.write.observe(self.way.clock.elapsed() - began);
                }
                return self.way.tell(Answer::Done(self.source.done()));
            }
            1 => What::Notification,
            2 => What::DeadLetter(Extent::Whole),
            3 => What::DeadLetter(Extent::Stub),
            _ => What::DeadLetter(Extent::Bare),
        };
        let task = Again { flight: Arc::clone(self), refused };
        self.way.tell(Answer::Again { lane: self.source.lease.lane(), task });
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
        match outcome {
            Ok(_) if self.what == What::Notification => {
                self.flight.way.notifications.inc();
            }
            Ok(_) => {}
            Err(ProduceError::TooLarge { .. }) => {
                let code = match self.what {
                    What::Notification => 1,
                    What::DeadLetter(Extent::Whole) => 2,
                    What::DeadLetter(Extent::Stub) => 3,
                    What::DeadLetter(Extent::Bare) => 4,
                };
                self.flight.refused.store(code, Ordering::Relaxed);
            }
            // Never settled, so never committed.
            Err(error) => return self.flight.way.tell(Answer::Failed(error)),
        }
        self.flight.settle();
    }
}
