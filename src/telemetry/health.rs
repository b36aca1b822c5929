//! Health: what each role of the process is doing, for `/health` and `/ready`.
//!
//! Owns: one state a role, told by the role itself. Refuses to judge: the process is ready when every role says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// What a role is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It has not caught up yet, or waits for something; why, in words for an operator.
    Waiting(String),
    /// It does its work.
    Ready,
}

/// The states of all roles. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// Shared: each role writes its own entry, `http` reads all.
    states: Arc<Mutex<BTreeMap<&'static str, State>>>,
    /// Shared likewise: by role and subject.
    notes: Arc<Mutex<BTreeMap<(&'static str, &'static str), String>>>,
}

/// The entry of one role.
#[derive(Debug, Clone)]
pub struct Role {
    name: &'static str,
    health: Health,
}

impl Health {
    /// Adds a role, which is starting.
    #[must_use]
    pub fn role(&self, name: &'static str) -> Role {
        let role = Role { name, health: self.clone() };
        role.waiting("starting");
        role
    }

    /// Every role's state, by name.
    #[must_use]
    pub fn states(&self) -> BTreeMap<&'static str, State> {
        self.states.lock().clone()
    }

    /// What an operator should know of a role though it does its work, by subject.
    #[must_use]
    pub fn notes(&self, role: &str) -> BTreeMap<&'static str, String> {
        let notes = self.notes.lock();
        notes.iter().filter(|((of, _), _)| *of == role).map(|((_, subject), note)| (*subject, note.clone())).collect()
    }

    /// Whether every role does its work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.states.lock().values().all(|state| *state == State::Ready)
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

    /// What an operator should know about a subject though the role does its work; nothing, once there is nothing to know.
    pub fn note(&self, subject: &'static str, note: Option<String>) {
        let mut notes = self.health.notes.lock();
        match note {
            Some(note) => notes.insert((self.name, subject), note),
            None => notes.remove(&(self.name, subject)),
        };
    }

    fn set(&self, state: State) {
        let before = self.health.states.lock().insert(self.name, state.clone());
        if before.as_ref() != Some(&state) {
            tracing::debug!(role = self.name, ?state, "state");
        }
    }
}
