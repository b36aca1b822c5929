//! Gates: each worker's breakers, one a topic.
//!
//! Owns: whether a record is decided or left. Each worker judges by the records it decides itself, so none waits for another; the
//! first to find too much buried halts the topic for all. Neighbours: core `breaker`, `kafka::dispatch` halts.

use tidings_core::breaker::{Breaker, Limits, Outcome, Phase, Trip};

use crate::kafka::dispatch::Lease;

/// A topic's breaker.
struct Gate {
    breaker: Breaker,
    /// The round of the topic in which it opened.
    round: u32,
}

/// One worker's breakers, by the number of their topic.
pub(super) struct Gates {
    /// None: nothing is ever too much.
    limits: Option<Limits>,
    gates: Vec<Option<Gate>>,
}

impl Gates {
    pub(super) fn new(limits: Option<Limits>) -> Self {
        Self { limits, gates: Vec::new() }
    }

    /// Whether a record of this stay is to be decided. One of a topic that was begun with anew begins the trial.
    pub(super) fn admits(&mut self, lease: &Lease) -> bool {
        if lease.is_halted() {
            return false;
        }
        match self.gates.get_mut(lease.topic()) {
            Some(Some(gate)) if gate.breaker.phase() == Phase::Open => {
                let anew = lease.round() > gate.round;
                if anew {
                    gate.breaker.try_again();
                }
                anew
            }
            _ => true,
        }
    }

    /// Notes what becomes of a record. Some if its topic is to be halted.
    pub(super) fn note(&mut self, lease: &Lease, outcome: Outcome) -> Option<Trip> {
        let limits = self.limits?;
        let number = lease.topic();
        if self.gates.len() <= number {
            self.gates.resize_with(number + 1, || None);
        }
        let gate = self.gates.get_mut(number)?.get_or_insert_with(|| Gate { breaker: Breaker::new(limits), round: 0 });
        let before = gate.breaker.phase();
        let trip = gate.breaker.note(outcome);
        if trip.is_some() {
            gate.round = lease.round();
        } else if before == Phase::Trial && gate.breaker.phase() == Phase::Closed {
            tracing::info!(topic = %lease.partition().topic, "the trial went well: the breaker is closed again");
        }
        trip
    }
}
