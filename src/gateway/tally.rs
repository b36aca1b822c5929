//! The tally: how much of a user's mailbox is new, for greetings and whenever it may have changed.
//!
//! Owns: whose counts are wanted, from when on the store can say them, and the one question to the store at a time, which is asked for all
//! who wait together. Nothing is kept of a user who does nothing. A store that does not answer, or is behind, gives no counts rather
//! than wrong ones. Neighbours: shards and connections want, `shard::receipts` tells. Long because the pure half, with its tests, stands beside who asks.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::time::Duration;

use parking_lot::Mutex;
use tidings_core::channel::Channel;
use tidings_core::ids::UserId;
use tidings_core::protocol::server::Counts;
use tidings_core::recovery::Archive;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::Shared;
use super::inlet::Control;
use super::metrics::{GatewayMetrics, Limit};
use super::moment::millis;
use crate::config::CountsConfig;
use crate::store::{self, Courses, Standing};

/// What was written a moment ago is folded about so much later.
const FOLDED_MS: u64 = 100;
/// How long what a user was told last is remembered, so that it is not told twice.
const KEPT_MS: u64 = 60_000;

/// Whose counts are wanted.
pub(super) struct Tally {
    /// Shared: shards and connections want, one task asks. The lock is held for one user, or for taking one batch.
    held: Mutex<Held>,
    wake: Notify,
    /// Without a store nobody is ever told anything.
    archive: Archive,
    interval_ms: u64,
    wait: Duration,
    batch: usize,
    /// The most users who are remembered. Beyond, who is new is told with a later change.
    users: usize,
    metrics: GatewayMetrics,
}

/// How far the store must have folded the partition of a user's mailbox: the next offset of each topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) notifications: i64,
    pub(super) receipts: i64,
}

#[derive(Default)]
struct Held {
    /// Who waits for a greeting. No more than there are connections.
    askers: Vec<(UserId, oneshot::Sender<Counts>)>,
    users: HashMap<UserId, Entry>,
    /// The users in the order in which something is to be done about them.
    due: BTreeSet<(u64, UserId)>,
}

/// A user who did something, or to whom something came, a moment ago.
#[derive(Debug, Default)]
struct Entry {
    at_ms: u64,
    wanted: Option<Reach>,
    /// Unread and unseen, if the connections were told since something happened.
    told: Option<(u64, u64)>,
    told_ms: Option<u64>,
}

/// Who is to be asked about.
#[derive(Default)]
struct Batch {
    askers: Vec<(UserId, oneshot::Sender<Counts>)>,
    due: Vec<(UserId, Reach)>,
    /// If nobody is: in how long somebody may be.
    wait_ms: Option<u64>,
}

impl Reach {
    fn with(self, other: Self) -> Self {
        let notifications = self.notifications.max(other.notifications);
        Self { notifications, receipts: self.receipts.max(other.receipts) }
    }
}

impl Tally {
    pub(super) fn new(config: &CountsConfig, archive: Archive, metrics: GatewayMetrics) -> Self {
        let interval_ms = u64::try_from(config.interval.0.as_millis()).unwrap_or(u64::MAX);
        let (wait, batch, users) = (config.wait.0, config.batch_users.get(), config.users.get());
        Self { held: Mutex::default(), wake: Notify::new(), archive, interval_ms, wait, batch, users, metrics }
    }

    /// The counts for a greeting, if they come in time.
    pub(super) async fn greet(&self, user: &UserId) -> Option<Counts> {
        if self.archive == Archive::None {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        self.held.lock().askers.push((user.clone(), answer));
        self.wake.notify_one();
        timeout(self.wait, answered).await.ok()?.ok()
    }

    /// Something has come that changes a user's counts once the store has folded it.
    pub(super) fn want(&self, user: &UserId, reach: Reach, now_ms: u64) {
        if self.archive == Archive::Store && self.note(&mut self.held.lock(), (user, reach), now_ms) {
            self.wake.notify_one();
        }
    }

    /// Notes that a user's counts are wanted. Says whether they were not before.
    fn note(&self, held: &mut Held, (user, reach): (&UserId, Reach), now_ms: u64) -> bool {
        if held.users.len() >= self.users && !held.users.contains_key(user) {
            self.metrics.crossed(Limit::CountsUsers);
            return false;
        }
        held.want(user, reach, (now_ms, self.interval_ms))
    }

    /// A connection has been greeted and hears what is told from now on. What was told a moment before has passed it by.
    pub(super) fn joined(&self, user: &UserId, greeting: Option<Counts>, now_ms: u64) {
        if self.archive == Archive::None {
            return;
        }
        let mut held = self.held.lock();
        if greeting.is_some() && !held.users.contains_key(user) {
            return;
        }
        let is_new = self.note(&mut held, (user, Reach::default()), now_ms);
        if let Some(entry) = held.users.get_mut(user) {
            entry.told = None;
        }
        if is_new {
            self.wake.notify_one();
        }
    }

    /// Asks the store and lets the shards tell, for as long as it is polled.
    pub(super) async fn run(&self, shared: &Shared) -> Infallible {
        loop {
            let batch = self.held.lock().take(millis(shared.clock), self.batch);
            if batch.askers.is_empty() && batch.due.is_empty() {
                let pause = Duration::from_millis(batch.wait_ms.unwrap_or(KEPT_MS));
                // Either may be first, and nobody is asked about twice for it.
                let _ = timeout(pause, self.wake.notified()).await;
                continue;
            }
            self.ask(shared, batch).await;
        }
    }

    async fn ask(&self, shared: &Shared, batch: Batch) {
        let standings = if batch.due.is_empty() {
            Some(Vec::new())
        } else {
            shared.reads.ask_for_all(shared, async |store| store.positions(shared.epoch).await).await
        };
        let has_folded =
            |user: &UserId, reach: &Reach| standings.as_ref().is_some_and(|standings| shared.has_folded(standings, user, reach));
        let (folded, behind): (Vec<_>, Vec<_>) = batch.due.into_iter().partition(|(user, reach)| has_folded(user, reach));
        let askers = batch.askers.iter().map(|(user, _)| user);
        let users = askers.chain(folded.iter().map(|(user, _)| user)).cloned().collect::<BTreeSet<_>>();
        let users = users.into_iter().collect::<Vec<_>>();
        let counted = match users.is_empty() {
            true => Some(Vec::new()),
            false => {
                shared
                    .reads
                    .ask_for_all(shared, async |store| store.counts(&shared.courses(), &users, shared.clock.now()).await)
                    .await
            }
        };
        let now_ms = millis(shared.clock);
        let again_ms = now_ms + if standings.is_some() && counted.is_some() { FOLDED_MS } else { self.interval_ms };
        let counted = counted.unwrap_or_default().into_iter().map(|(user, counts)| (user, told(counts)));
        let counted = counted.collect::<HashMap<_, _>>();
        for (user, asker) in batch.askers {
            // Who is told too late has been greeted without.
            let _ = counted.get(&user).map(|counts| asker.send(*counts));
        }
        let mut news = Vec::new();
        {
            let mut held = self.held.lock();
            behind.iter().for_each(|(user, _)| held.postpone(user, again_ms));
            for (user, reach) in folded {
                match counted.get(&user) {
                    Some(counts) if held.told(&user, reach, counts, (now_ms, self.interval_ms)) => news.push((user, *counts)),
                    Some(_) => {}
                    None => held.postpone(&user, again_ms),
                }
            }
        }
        for (user, counts) in news {
            // Without its shard nobody listens.
            let _ = shared.inlet(&user).say(Control::Counted(user.clone(), counts)).await;
        }
    }
}

fn told(counts: store::Counts) -> Counts {
    Counts { unread: counts.unread, unseen: counts.unseen, as_of: counts.as_of }
}

impl Shared {
    fn courses(&self) -> Courses {
        Courses { epoch: self.epoch, notifications: self.notifications.clone(), partitions: self.partitions }
    }

    fn has_folded(&self, standings: &[Standing], user: &UserId, reach: &Reach) -> bool {
        let partition = Channel::mailbox(user).partition(self.partitions);
        let next = |topic: &str| {
            let standing = standings.iter().find(|standing| standing.partition == partition && &*standing.topic == topic);
            standing.map_or(0, |standing| standing.next)
        };
        next(&self.notifications) >= reach.notifications && next(self.receipts.topic()) >= reach.receipts
    }
}

impl Held {
    /// Notes that a user's counts are wanted. Says whether they were not before.
    fn want(&mut self, user: &UserId, reach: Reach, (now_ms, interval_ms): (u64, u64)) -> bool {
        let entry = self.users.entry(user.clone()).or_default();
        let is_new = entry.wanted.is_none();
        entry.wanted = Some(entry.wanted.unwrap_or_default().with(reach));
        if is_new {
            let allowed_ms = entry.told_ms.map_or(0, |told_ms| told_ms.saturating_add(interval_ms));
            self.postpone(user, allowed_ms.max(now_ms + FOLDED_MS));
        }
        is_new
    }

    fn postpone(&mut self, user: &UserId, at_ms: u64) {
        let Some(entry) = self.users.get_mut(user) else { return };
        self.due.remove(&(entry.at_ms, user.clone()));
        entry.at_ms = at_ms;
        self.due.insert((at_ms, user.clone()));
    }

    /// Takes those who wait for a greeting, and the users whose time has come. Both stay wanted until something is told.
    fn take(&mut self, now_ms: u64, limit: usize) -> Batch {
        // Who has given up asks for nothing any more.
        self.askers.retain(|(_, answer)| !answer.is_closed());
        let asking = self.askers.len().min(limit);
        let mut batch = Batch { askers: self.askers.drain(..asking).collect(), ..Batch::default() };
        while batch.due.len() < limit {
            let Some((at_ms, user)) = self.due.pop_first() else { break };
            if at_ms > now_ms {
                batch.wait_ms = Some(at_ms - now_ms);
                self.due.insert((at_ms, user));
                break;
            }
            match self.users.get(&user).and_then(|entry| entry.wanted) {
                Some(reach) => batch.due.push((user, reach)),
                None => drop(self.users.remove(&user)),
            }
        }
        batch
    }

    /// Notes what the store said of a user when it had folded `reach`. Says whether that is news.
    fn told(&mut self, user: &UserId, reach: Reach, counts: &Counts, (now_ms, interval_ms): (u64, u64)) -> bool {
        let Some(entry) = self.users.get_mut(user) else { return false };
        let news = Some((counts.unread, counts.unseen));
        let is_news = entry.told != news;
        entry.told = news;
        if is_news {
            entry.told_ms = Some(now_ms);
        }
        // More may have come meanwhile.
        let is_all = entry.wanted == Some(reach);
        if is_all {
            entry.wanted = None;
        }
        self.postpone(user, now_ms.saturating_add(if is_all { KEPT_MS } else { interval_ms }));
        is_news
    }
}

#[cfg(test)]
mod tests {
    use tidings_core::position::{Epoch, Position};

    use super::*;

    const INTERVAL_MS: u64 = 1_000;

    fn user(name: &str) -> UserId {
        name.parse().unwrap()
    }

    fn reach(notifications: i64, receipts: i64) -> Reach {
        Reach { notifications, receipts }
    }

    fn counts(unread: u64) -> Counts {
        Counts { unread, unseen: unread, as_of: Position { epoch: Epoch(1), offset: 1 } }
    }

    impl Held {
        fn due_at(&mut self, now_ms: u64) -> Vec<(UserId, Reach)> {
            self.take(now_ms, 10).due
        }
    }

    #[test]
    fn a_user_is_asked_about_once_for_all_that_came_and_at_most_once_in_an_interval() {
        let (mut held, alice) = (Held::default(), user("alice"));
        assert!(held.want(&alice, reach(5, 0), (0, INTERVAL_MS)));
        assert!(!held.want(&alice, reach(4, 7), (50, INTERVAL_MS)));
        assert!(held.due_at(FOLDED_MS - 1).is_empty());
        assert_eq!(held.due_at(FOLDED_MS), [(alice.clone(), reach(5, 7))]);
        assert!(held.told(&alice, reach(5, 7), &counts(1), (150, INTERVAL_MS)));
        held.want(&alice, reach(6, 0), (200, INTERVAL_MS));
        assert!(held.due_at(150 + INTERVAL_MS - 1).is_empty());
        assert_eq!(held.due_at(150 + INTERVAL_MS), [(alice, reach(6, 0))]);
    }

    #[test]
    fn what_is_no_news_is_not_told_and_what_came_meanwhile_is_asked_about_again() {
        let (mut held, alice) = (Held::default(), user("alice"));
        held.want(&alice, reach(5, 0), (0, INTERVAL_MS));
        let [(_, asked)] = held.due_at(100).try_into().unwrap();
        held.want(&alice, reach(6, 0), (110, INTERVAL_MS));
        assert!(held.told(&alice, asked, &counts(1), (120, INTERVAL_MS)));
        let [(_, asked)] = held.due_at(120 + INTERVAL_MS).try_into().unwrap();
        assert_eq!(asked, reach(6, 0));
        assert!(!held.told(&alice, asked, &counts(1), (1_200, INTERVAL_MS)));
        assert!(held.due_at(1_200 + INTERVAL_MS).is_empty());
    }

    #[test]
    fn of_a_user_who_does_nothing_nothing_is_kept() {
        let (mut held, alice) = (Held::default(), user("alice"));
        held.want(&alice, reach(5, 0), (0, INTERVAL_MS));
        let [(_, asked)] = held.due_at(100).try_into().unwrap();
        held.told(&alice, asked, &counts(1), (100, INTERVAL_MS));
        assert!(held.due_at(100 + KEPT_MS).is_empty());
        assert!(held.users.is_empty() && held.due.is_empty());
    }

    #[test]
    fn a_batch_is_bounded_and_says_when_the_next_user_is_due() {
        let mut held = Held::default();
        for number in 0..12 {
            held.want(&user(&format!("u-{number}")), reach(1, 0), (number, INTERVAL_MS));
        }
        let batch = held.take(FOLDED_MS + 10, 10);
        assert_eq!((batch.due.len(), batch.wait_ms), (10, None));
        let batch = held.take(FOLDED_MS + 10, 10);
        assert_eq!((batch.due.len(), batch.wait_ms), (1, Some(1)));
    }
}
