//! Health: what each role of the process is doing, for `/health` and `/ready`.
//!
//! Owns: one state a role, told by the role itself, and since when. Refuses to judge: the process is ready when every role says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidings_core::time::Timestamp;

use crate::clock::Clock;

/// What a role is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It has not caught up yet, or waits for something; why, in words for an operator.
    Waiting(String),
    /// It does its work.
    Ready,
}

/// The most partitions that are shown of those a role holds.
const HELD: usize = 100;

/// A topic that is not read because too much of it was buried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halted {
    /// Why, and what to do.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// A role's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is doing.
    pub state: State,
    /// Since when it has been ready, or has waited for whatever reason.
    pub since: Timestamp,
    /// Partitions that it does not read on, the first 100, with the place and the reason of each.
    pub held: BTreeMap<String, String>,
    /// Topics that it does not read because their breaker is open, the first 100, by name.
    pub halts: BTreeMap<String, Halted>,
    /// What an operator should know though it does its work, by subject.
    pub notes: BTreeMap<&'static str, String>,
}

/// The entries of all roles. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Health {
    clock: Clock,
    /// Shared: each role writes its own entry, `http` reads all.
    entries: Arc<Mutex<BTreeMap<&'static str, Entry>>>,
}

/// The entry of one role.
#[derive(Debug, Clone)]
pub struct Role {
    name: &'static str,
    health: Health,
}

impl Health {
    /// Without any role.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, entries: Arc::default() }
    }

    /// Adds a role, which is starting.
    #[must_use]
    pub fn role(&self, name: &'static str) -> Role {
        let role = Role { name, health: self.clone() };
        role.waiting("starting");
        role
    }

    /// Every role's entry, by name.
    #[must_use]
    pub fn entries(&self) -> BTreeMap<&'static str, Entry> {
        self.entries.lock().clone()
    }

    /// Whether every role does its work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.entries.lock().values().all(|entry| entry.state == State::Ready)
    }
}

impl Role {
    /// The role does its work.
    pub fn ready(&self) {
        self.set(State::Ready);
    }

    /// The role waits, and why.
    pub fn waiting(&self, why: impl Into<String>) {
        self.set(State::Waiting(why.into()));
    }

    /// Partitions that are not read on, with the place and the reason of each: some wait for brokers, others for an operator, and the
    /// reason says for whom. The first 100 are shown.
    pub fn holds(&self, held: impl IntoIterator<Item = (String, String)>) {
        let held = held.into_iter().take(HELD).collect();
        self.change(|entry| entry.held = held);
    }

    /// Topics that are not read because their breaker is open. The first 100 are shown.
    pub fn halts(&self, halts: impl IntoIterator<Item = (String, Halted)>) {
        let halts = halts.into_iter().take(HELD).collect();
        self.change(|entry| entry.halts = halts);
    }

    /// What an operator should know about a subject though the role does its work; nothing, once there is nothing to know.
    pub fn note(&self, subject: &'static str, note: Option<String>) {
        self.change(|entry| match note {
            Some(note) => drop(entry.notes.insert(subject, note)),
            None => drop(entry.notes.remove(subject)),
        });
    }

    /// Another reason for waiting is no other state: what counts is for how long the work has not been done.
    fn set(&self, state: State) {
        let now = self.health.clock.now();
        self.change(|entry| {
            if entry.state != state {
                tracing::debug!(role = self.name, ?state, "state");
            }
            if (entry.state == State::Ready) != (state == State::Ready) {
                entry.since = now;
            }
            entry.state = state;
        });
    }

    fn change(&self, change: impl FnOnce(&mut Entry)) {
        let mut entries = self.health.entries.lock();
        change(entries.entry(self.name).or_insert_with(|| Entry {
            state: State::Waiting(String::new()),
            since: self.health.clock.now(),
            held: BTreeMap::new(),
            halts: BTreeMap::new(),
            notes: BTreeMap::new(),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_since_when_it_began_to_be_ready_or_to_wait_whatever_for() {
        let (clock, step) = Clock::stepped();
        let health = Health::new(clock);
        let role = health.role("inbox");
        let since = || health.entries()["inbox"].since;
        let start = since();
        step.to(60_000);
        role.waiting("catching up, 3 offsets behind");
        assert_eq!((since(), health.is_ready()), (start, false), "it waits all the same");
        role.ready();
        let ready = since();
        assert!(ready > start && health.is_ready());
        step.to(120_000);
        role.ready();
        role.note("keys", Some("old".into()));
        assert_eq!(since(), ready);
        role.waiting("again");
        assert!(since() > ready);
    }

    #[test]
    fn what_is_held_is_told_whole_each_time() {
        let health = Health::new(Clock::start());
        let role = health.role("inbox");
        role.holds([("a[0]".to_owned(), "newer".to_owned()), ("a[1]".to_owned(), "gone".to_owned())]);
        assert_eq!(health.entries()["inbox"].held.len(), 2);
        role.holds([]);
        assert!(health.entries()["inbox"].held.is_empty());
    }
}
