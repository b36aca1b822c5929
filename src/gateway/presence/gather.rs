//! What only all nodes together know: questions to them, and their answers.
//!
//! Owns: the wait for answers, how many questions a second are asked, and answers that are kept for a moment. Who does not answer in time
//! is left out, which is said. Refuses to know who lives: that is the roster's.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidings_core::channel::Channel;
use tidings_core::ids::{Incarnation, NodeId, UserId};
use tidings_core::presence::{Audience, Extent, Gathered, Local};
use tidings_core::record::signal::SignalRecord;
use tidings_core::record::signal::nodes::{About, Answer, Found, OpenConnection, Question};
use tokio::sync::oneshot;
use tokio::time::timeout;
use uuid::Uuid;

use super::Roster;
use super::fresh::Fresh;
use super::writer::{Kind, Writer};
use crate::clock::Clock;
use crate::clock::rate::{Allowance, Rate};
use crate::config::PresenceConfig;
use crate::gateway::Shared;
use crate::gateway::desk::{Absent, Desk};
use crate::gateway::metrics::Limit;
use crate::gateway::moment::millis;

/// A page of the users who listen to a channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::gateway) struct Wanted {
    pub(in crate::gateway) channel: Channel,
    pub(in crate::gateway) after: Option<UserId>,
    pub(in crate::gateway) limit: usize,
}

/// A question on its way.
struct Pending {
    /// Who has not answered.
    waiting: BTreeSet<Incarnation>,
    answers: Vec<(NodeId, Found)>,
    /// Told when nobody is waited for any more.
    all: Option<oneshot::Sender<()>>,
}

/// What others answered.
struct Collected {
    answers: Vec<(NodeId, Found)>,
    extent: Extent,
}

/// Asks and answers.
pub(super) struct Gather {
    incarnation: Incarnation,
    clock: Clock,
    wait: Duration,
    page: usize,
    allowance: Allowance,
    rate: Mutex<Rate>,
    /// Shared: those who wait put them in, the feed brings answers.
    pending: Mutex<HashMap<Uuid, Pending>>,
    locals: Fresh<Channel, Arc<Local>>,
    audiences: Fresh<Wanted, Arc<Audience>>,
}

/// Takes a question off when nobody waits for it any more, for whatever reason.
struct Asked<'a> {
    gather: &'a Gather,
    id: Uuid,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.gather.pending.lock().remove(&self.id);
    }
}

impl Gather {
    pub(super) fn new(config: &PresenceConfig, incarnation: Incarnation, clock: Clock) -> Self {
        let keep_ms = u64::try_from(config.keep.0.as_millis()).unwrap_or(u64::MAX);
        let a_second = config.questions_per_second.get();
        let every = Duration::from_secs(1) / u32::try_from(a_second).unwrap_or(u32::MAX);
        Self {
            incarnation,
            clock,
            wait: config.wait.0,
            page: config.page_users.get(),
            allowance: Allowance::new(every, a_second),
            rate: Mutex::default(),
            pending: Mutex::default(),
            locals: Fresh::new(keep_ms, clock),
            audiences: Fresh::new(keep_ms, clock),
        }
    }

    /// Lets go of answers that are no longer fresh.
    pub(super) fn forget(&self, now_ms: u64) {
        self.locals.forget(now_ms);
        self.audiences.forget(now_ms);
    }

    /// Whether this node is to answer.
    pub(super) fn is_asked(&self, question: &Question) -> bool {
        question.by != self.incarnation && question.to.contains(&self.incarnation)
    }

    /// Answers another node's question, if this node has an answer.
    pub(super) async fn answer(&self, shared: &Arc<Shared>, writer: &Writer, question: Question) {
        let Question { id, by, about, .. } = question;
        let found = match about {
            About::Members { channel, after, limit } => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(self.page);
                let local = self.local(shared, &channel).await;
                local.map(|local| Found::Members(local.members(after.as_ref(), limit)))
            }
            About::Connections { user_id } => {
                let connections = Desk::new(shared.clone()).connections(&user_id).await;
                connections.map(|connections| Found::Connections { connections })
            }
            About::Unknown => return,
        };
        // Who has no answer is missed by who asked.
        if let Ok(found) = found {
            let (to, by, node) = (by, self.incarnation, shared.node.clone());
            writer.write(Kind::Answer, &SignalRecord::Answer(Box::new(Answer { id, to, by, node, found })));
        }
    }

    /// Another node has answered.
    pub(super) fn answered(&self, answer: Answer) {
        let Answer { id, to, by, node, found } = answer;
        if to != self.incarnation {
            return;
        }
        let mut pending = self.pending.lock();
        let Some(question) = pending.get_mut(&id) else { return };
        if question.waiting.remove(&by) {
            question.answers.push((node, found));
        }
        if question.waiting.is_empty()
            && let Some(all) = question.all.take()
        {
            // Who has given up is gone already.
            let _ = all.send(());
        }
    }

    /// Who listens on this node.
    async fn local(&self, shared: &Arc<Shared>, channel: &Channel) -> Result<Arc<Local>, Absent> {
        let make = async {
            let users = Desk::new(shared.clone()).listeners(channel).await?;
            let shared = shared.clone();
            // With thousands of users this takes a while.
            let made = tokio::task::spawn_blocking(move || Local::new(users, |user| shared.roster.is_elsewhere(user))).await;
            made.map(Arc::new).map_err(|_| Absent::ENDS)
        };
        self.locals.get(channel.clone(), make).await
    }

    async fn collect(&self, shared: &Shared, writer: &Writer, (to, about): (Vec<Incarnation>, About)) -> Collected {
        if to.is_empty() {
            return Collected { answers: Vec::new(), extent: Extent::Whole };
        }
        if !self.rate.lock().take_if_allowed(self.allowance, self.clock.elapsed()) {
            shared.metrics.crossed(Limit::PresenceQuestions);
            return Collected { answers: Vec::new(), extent: Extent::Partial };
        }
        let (all, answered) = oneshot::channel();
        let id = Uuid::new_v4();
        let waiting = to.iter().copied().collect();
        self.pending.lock().insert(id, Pending { waiting, answers: Vec::new(), all: Some(all) });
        let asked = Asked { gather: self, id };
        if writer.write(Kind::Question, &SignalRecord::Question(Question { id, by: self.incarnation, to, about })) {
            // Those who have answered by then count.
            let _ = timeout(self.wait, answered).await;
        }
        let pending = self.pending.lock().remove(&id);
        drop(asked);
        let Some(Pending { waiting, answers, .. }) = pending else {
            return Collected { answers: Vec::new(), extent: Extent::Partial };
        };
        Collected { answers, extent: if waiting.is_empty() { Extent::Whole } else { Extent::Partial } }
    }
}

impl Roster {
    /// Who listens to a channel, on all nodes.
    pub(in crate::gateway) async fn audience(&self, shared: &Arc<Shared>, wanted: Wanted) -> Result<Arc<Audience>, Absent> {
        let make = async {
            let Wanted { channel, after, limit } = wanted.clone();
            let to = match channel.mailbox_user() {
                Some(owner) => self.state.lock().who_may_have(&owner),
                None => self.state.lock().askable(),
            };
            let about = About::Members { channel: channel.clone(), after: after.clone(), limit: limit as u64 };
            let asking = self.gather.collect(shared, &self.writer, (to, about));
            let (local, collected) = tokio::join!(self.gather.local(shared, &channel), asking);
            let Collected { answers, extent } = collected;
            let mut gathered = Gathered::new(limit);
            gathered.add(local?.members(after.as_ref(), limit));
            for (_, found) in answers {
                // Who answers something else has counted as an answer, and is no node of ours.
                if let Found::Members(members) = found {
                    gathered.add(members);
                }
            }
            let audience = gathered.audience(self.of_known(extent));
            self.metrics.gathered(audience.extent);
            Ok(Arc::new(audience))
        };
        self.gather.audiences.get(wanted.clone(), make).await
    }

    /// A user's connections to the other nodes, and whether some may be missing.
    pub(in crate::gateway) async fn connections(
        &self,
        shared: &Shared,
        user: &UserId,
    ) -> (Vec<(NodeId, OpenConnection)>, Extent) {
        let (to, about) = (self.state.lock().who_may_have(user), About::Connections { user_id: user.clone() });
        let Collected { answers, extent } = self.gather.collect(shared, &self.writer, (to, about)).await;
        let mut all = Vec::new();
        for (node, found) in answers {
            if let Found::Connections { connections } = found {
                all.extend(connections.into_iter().map(|connection| (node.clone(), connection)));
            }
        }
        let extent = self.of_known(extent);
        self.metrics.gathered(extent);
        (all, extent)
    }

    /// What is whole of the nodes that are known is only whole once all are.
    fn of_known(&self, extent: Extent) -> Extent {
        if self.state.lock().is_settled(millis(self.clock)) { extent } else { Extent::Partial }
    }
}
