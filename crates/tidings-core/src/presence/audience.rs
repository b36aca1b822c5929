//! Who listens to a channel: what each node knows of it, and what follows for all of them.
//!
//! Owns: counting users once who have devices on several nodes, and pages in the order of users. A node names those whom it knows
//! elsewhere too by a number, and only counts the others: an answer is small, however many listen.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use crate::ids::UserId;
use crate::record::signal::nodes::Members;

/// The most users that a node says to have elsewhere too; the others are counted as if they were not.
const LIMIT_SHARED: usize = 10_000;
/// Numbers of users have so many bits, so that every reader of JSON keeps them.
const NUMBER_BITS: u32 = 53;

/// Who listens on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// In order, each once.
    users: Vec<UserId>,
    alone: u64,
    shared: Vec<u64>,
    clipped: bool,
}

/// What several nodes have answered.
#[derive(Debug)]
pub struct Gathered {
    limit: usize,
    alone: u64,
    shared: BTreeSet<u64>,
    users: BTreeSet<UserId>,
    /// The last user that a node named which has more: who follows may be left out.
    until: Option<UserId>,
    more: bool,
    clipped: bool,
}

/// Who listens on all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience {
    /// How many users.
    pub count: u64,
    /// A page of them, in order.
    pub users: Vec<UserId>,
    /// Whether more follow the last of them.
    pub more: bool,
    /// Whether this is of all nodes.
    pub extent: Extent,
}

/// Whether an answer that takes all nodes has what all of them know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// It does.
    Whole,
    /// A node did not answer, or not in full: somebody may be left out, or counted twice.
    Partial,
}

impl Extent {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Whole, Self::Partial];

    /// Whether something may be missing.
    #[must_use]
    pub fn is_partial(self) -> bool {
        self == Self::Partial
    }

    /// The word for it in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Partial => "partial",
        }
    }
}

/// The same for a user on every node and in every release.
fn number(user: &UserId) -> u64 {
    let hash = Sha256::digest(user.as_str().as_bytes());
    let first = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    first >> (u64::BITS - NUMBER_BITS)
}

impl Local {
    /// From the users of all connections in any order, and what tells those that have devices elsewhere too.
    #[must_use]
    pub fn new(mut users: Vec<UserId>, mut is_elsewhere: impl FnMut(&UserId) -> bool) -> Self {
        users.sort_unstable();
        users.dedup();
        let elsewhere = users.iter().filter(|user| is_elsewhere(user)).take(LIMIT_SHARED + 1);
        let mut shared = elsewhere.map(number).collect::<Vec<_>>();
        let clipped = shared.len() > LIMIT_SHARED;
        shared.truncate(LIMIT_SHARED);
        Self { alone: (users.len() - shared.len()) as u64, users, shared, clipped }
    }

    /// What there is to say of it: the first users that follow one.
    #[must_use]
    pub fn members(&self, after: Option<&UserId>, limit: usize) -> Members {
        let from = after.map_or(0, |after| self.users.partition_point(|user| user <= after));
        let rest = self.users.get(from..).unwrap_or_default();
        Members {
            alone: self.alone,
            shared: self.shared.clone(),
            clipped: self.clipped,
            users: rest.iter().take(limit).cloned().collect(),
            more: rest.len() > limit,
        }
    }
}

impl Gathered {
    /// Nothing yet, for a page of at most `limit` users.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, alone: 0, shared: BTreeSet::new(), users: BTreeSet::new(), until: None, more: false, clipped: false }
    }

    /// One more node's answer.
    pub fn add(&mut self, members: Members) {
        let Members { alone, shared, clipped, users, more } = members;
        self.alone = self.alone.saturating_add(alone);
        self.shared.extend(shared);
        self.clipped |= clipped;
        self.more |= more;
        if let Some(last) = users.last().filter(|_| more)
            && self.until.as_ref().is_none_or(|until| last < until)
        {
            self.until = Some(last.clone());
        }
        self.users.extend(users);
        while self.users.len() > self.limit {
            self.users.pop_last();
            self.more = true;
        }
    }

    /// What all answers come to, with whether these are all.
    #[must_use]
    pub fn audience(self, answers: Extent) -> Audience {
        let Self { until, users, clipped, .. } = self;
        let is_sure = |user: &UserId| until.as_ref().is_none_or(|until| user <= until);
        Audience {
            count: self.alone.saturating_add(self.shared.len() as u64),
            users: users.into_iter().filter(is_sure).collect(),
            more: self.more,
            extent: if clipped { Extent::Partial } else { answers },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn users(names: &[u16]) -> Vec<UserId> {
        names.iter().map(|name| format!("u{name}").parse().unwrap()).collect()
    }

    #[test]
    fn the_number_of_a_user_never_changes() {
        assert_eq!(number(&"alice".parse().unwrap()), 0x2bd8_06c9_7f0e_00af >> 11);
    }

    #[test]
    fn more_shared_users_than_a_record_holds_are_counted_and_said_to_be_so() {
        let many = (0..=LIMIT_SHARED).map(|number| format!("u{number}").parse().unwrap()).collect();
        let local = Local::new(many, |_| true);
        let members = local.members(None, 0);
        assert_eq!((members.shared.len(), members.alone, members.clipped), (LIMIT_SHARED, 1, true));
        let mut gathered = Gathered::new(0);
        gathered.add(members);
        let audience = gathered.audience(Extent::Whole);
        assert_eq!((audience.count, audience.extent, audience.more), (LIMIT_SHARED as u64 + 1, Extent::Partial, true));
    }

    proptest! {
        #[test]
        fn pages_of_several_nodes_name_every_user_once_in_order_and_the_count_is_theirs(
            nodes in prop::collection::vec(prop::collection::vec(0..40_u16, 0..60), 1..4),
            limits in prop::collection::vec(1..10_usize, 4),
        ) {
            // Each node may name fewer than it is asked for.
            let limit = limits[3];
            let has = |node: &Vec<u16>, user: &UserId| users(node).contains(user);
            let locals = nodes.iter().enumerate().map(|(index, own)| {
                let others = nodes.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, node)| node).collect::<Vec<_>>();
                Local::new(users(own), |user| others.iter().any(|node| has(node, user)))
            });
            let locals = locals.collect::<Vec<_>>();
            let all = nodes.iter().flat_map(|node| users(node)).collect::<BTreeSet<_>>();
            let mut told = Vec::new();
            loop {
                let mut gathered = Gathered::new(limit);
                let asked = locals.iter().zip(&limits);
                asked.for_each(|(local, most)| gathered.add(local.members(told.last(), limit.min(*most))));
                let audience = gathered.audience(Extent::Whole);
                prop_assert_eq!(audience.count, all.len() as u64);
                prop_assert!(audience.users.len() <= limit);
                told.extend(audience.users);
                if !audience.more {
                    break;
                }
            }
            prop_assert_eq!(told, all.into_iter().collect::<Vec<_>>());
        }
    }
}
