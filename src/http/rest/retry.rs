//! `/v1/retry/{user}` and `/v1/retry-all`: what is pending is sent again now, to the devices that are connected.
//!
//! Owns: how much of it at a time, how fast, and whose turn it is: what is pending is looked up by one caller after the other, and not before his
//! turn, since the one before may have had it acknowledged; who waits too long for his is told to come back. Ladders stay as they are: a record of `signals` is all that is written, and a
//! delivery is looked at when it is due. Refuses to write for users who have no device: they are sent what they missed when they come. Neighbours:
//! `pending` lists the same, gateways write the frames.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use futures_util::future::try_join_all;
use hyper::{Method, StatusCode};
use parking_lot::Mutex;
use serde::Serialize;
use tidings_core::ids::UserId;
use tidings_core::record::audit::{AuditRecord, Retry};
use tidings_core::record::signal::SignalRecord;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use utoipa::ToSchema;

use super::endpoint::{Answered, Asked, Endpoint};
use super::pending::{OUTCOME, TOLD_OUTCOME, USER, outcome};
use super::reading::crowded;
use super::{Rest, json, query};
use crate::clock::Clock;
use crate::clock::rate::{Allowance, Rate};
use crate::http::guard::Needed;
use crate::http::openapi::{Description, text};
use crate::http::problem::Problem;
use crate::store::{Pending, PendingPage, PendingWanted};

const ONE: &str = "/v1/retry/{user}";
const ALL: &str = "/v1/retry-all";
/// The most signals that are on their way to the brokers at a time for one caller.
const AT_A_TIME: usize = 100;
const SECOND: Duration = Duration::from_secs(1);

/// How fast pending notifications are sent again when somebody asks.
pub(super) struct RetryRate {
    per_second: NonZeroUsize,
    /// So long a caller waits for his turn.
    patience: Duration,
    /// Held by the one who looks up, until what he sends is on the log.
    turn: Semaphore,
    /// Shared by all callers. What was sent counts also if its caller did not wait for the end.
    rate: Mutex<Rate>,
}

/// What was sent again.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Retried)]
struct Retried {
    /// How many notifications were sent again.
    sent: usize,
    /// To how many users.
    users: usize,
    /// How many are pending of users who have no device connected. They are sent what they missed when they come.
    offline: usize,
    /// How many are pending in an earlier epoch. Couriers carry them over to this one, and are what sends them.
    earlier: usize,
    /// There if more is pending: the `pageToken` of the next call.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    next_page_token: Option<String>,
}

pub(super) fn endpoints() -> [Endpoint; 2] {
    let told = "At most `http.retries_per_second` notifications with one call, which waits for its turn; `nextPageToken` says that \
                there are more. The ladder of each stays as it is. The topic `audit` tells who asked.";
    let of_page = |described: Description| {
        described
            .telling(told)
            .query(OUTCOME, TOLD_OUTCOME, text())
            .query("pageToken", "Where to go on: `nextPageToken` of the call before.", text())
            .gives::<Retried>(StatusCode::OK, "It is on its way to the devices.")
    };
    let one = Description::guarded(Method::POST, ONE, Needed::Admin, "Sends a user what is pending again, now").segment(
        USER,
        "The user.",
        text(),
    );
    let all = Description::guarded(Method::POST, ALL, Needed::Admin, "Sends all who are connected what is pending again, now");
    [
        Endpoint::new(of_page(one), |rest, asked| Box::pin(async move { rest.retry(asked).await })),
        Endpoint::new(of_page(all), |rest, asked| Box::pin(async move { rest.retry_all(asked).await })),
    ]
}

impl RetryRate {
    /// For callers who are given up by the listener after `request_timeout`.
    pub(super) fn new(per_second: NonZeroUsize, request_timeout: Duration) -> Self {
        Self { per_second, patience: request_timeout / 3, turn: Semaphore::new(1), rate: Mutex::default() }
    }

    /// The most notifications a second.
    pub(super) fn per_second(&self) -> NonZeroU32 {
        NonZeroU32::try_from(self.per_second).unwrap_or(NonZeroU32::MAX)
    }

    /// Waits until who came before is done, and everything that was sent is within the rate.
    async fn turn(&self, clock: Clock) -> Result<SemaphorePermit<'_>, Problem> {
        let waiting = async {
            let turn = self.turn.acquire().await.ok()?;
            loop {
                let wait = self.rate.lock().take_and_wait(0, self.allowance(), clock.elapsed());
                match wait {
                    Duration::ZERO => return Some(turn),
                    wait => tokio::time::sleep(wait).await,
                }
            }
        };
        timeout(self.patience, waiting).await.ok().flatten().ok_or_else(|| crowded("what is pending to be sent again"))
    }

    /// Takes so many. Who comes next waits until that is within the rate.
    fn take(&self, count: usize, clock: Clock) {
        self.rate.lock().take(count as u64, self.allowance(), clock.elapsed());
    }

    fn allowance(&self) -> Allowance {
        Allowance::new(SECOND.div_f64(self.per_second.get() as f64), 0)
    }
}

/// A page of what is pending, by what becomes of it.
#[derive(Default)]
struct Sorted {
    /// Those of users who are connected, in the order of each mailbox.
    connected: Vec<Pending>,
    users: usize,
    offline: usize,
    earlier: usize,
}

impl Rest {
    async fn retry(&self, asked: Asked) -> Answered {
        let user = query::user(asked.segment(USER))?;
        let wanted = self.retry_wanted(&asked.query)?;
        let store = self.store()?;
        let _turn = self.retries.turn(self.clock).await?;
        let page = store.pending_of(&user, &PendingWanted { now: self.clock.now(), ..wanted.clone() }).await?;
        self.again((&asked.caller.user, words(user.as_str(), &wanted)), page).await
    }

    async fn retry_all(&self, asked: Asked) -> Answered {
        let wanted = self.retry_wanted(&asked.query)?;
        let store = self.store()?;
        let _turn = self.retries.turn(self.clock).await?;
        let page = store.pending(&PendingWanted { now: self.clock.now(), ..wanted.clone() }).await?;
        self.again((&asked.caller.user, words("--all", &wanted)), page).await
    }

    fn retry_wanted(&self, query: &str) -> Result<PendingWanted, Problem> {
        Ok(PendingWanted {
            outcome: outcome(query, OUTCOME)?,
            after: query::parameter(query, "pageToken", "is `nextPageToken` of the call before, as it was given")?,
            limit: self.retries.per_second,
            now: self.clock.now(),
        })
    }

    /// Sends a page of what is pending again, in the order of each mailbox.
    async fn again(&self, (who, selection): (&UserId, String), page: PendingPage) -> Answered {
        let next_page_token = page.next.as_ref().map(ToString::to_string);
        let Sorted { connected, users, offline, earlier } = self.sorted(page.items).await?;
        let sent = connected.len();
        self.retries.take(sent, self.clock);
        tracing::info!(%who, sent, users, offline, earlier, "an operator had pending notifications sent again");
        let node = self.desk.node().clone();
        let (id, who) = (uuid::Uuid::new_v4(), who.clone());
        let act = AuditRecord::Retry(Retry { id, who: who.clone(), node, selection, sent: sent as u64, users: users as u64 });
        // Before anything is sent: whoever asked may not be there for the rest.
        self.write_fact((&self.names.audit(), None), who.as_str(), &act).await?;
        for some in connected.chunks(AT_A_TIME) {
            try_join_all(some.iter().map(|item| self.send_again(item))).await?;
        }
        json(StatusCode::OK, &Retried { sent, users, offline, earlier, next_page_token })
    }

    async fn sorted(&self, items: Vec<Pending>) -> Result<Sorted, Problem> {
        let (mut by_user, mut sorted) = (BTreeMap::<UserId, Vec<Pending>>::new(), Sorted::default());
        for item in items {
            if item.place.epoch != self.courses.epoch {
                sorted.earlier += 1;
            } else if let Some(user) = item.place.channel.mailbox_user() {
                by_user.entry(user).or_default().push(item);
            }
        }
        for (user, items) in by_user {
            if self.desk.is_connected(&user).await? {
                sorted.users += 1;
                sorted.connected.extend(items);
            } else {
                sorted.offline += items.len();
            }
        }
        Ok(sorted)
    }

    async fn send_again(&self, item: &Pending) -> Result<(), Problem> {
        let delivery = Box::new(item.delivery());
        let redelivery = delivery.made().saturating_add(1);
        let signal = SignalRecord::Redeliver { delivery, redelivery };
        self.write_fact((&self.names.signals(), None), item.place.channel.as_str(), &signal).await
    }
}

/// What is asked for, in the words of the command line.
fn words(whose: &str, wanted: &PendingWanted) -> String {
    wanted.outcome.map_or_else(|| whose.to_owned(), |outcome| format!("{whose} --outcome {}", outcome.name()))
}
