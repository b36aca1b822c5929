//! `/v1/pending` and `/v1/pending/{user}`: what nobody has acknowledged yet, for operators.
//!
//! Owns: how it is asked for and told. A list follows the log; what was acknowledged a moment ago may still show. Neighbours: the store says
//! what waits, `retry` sends it again, `undelivered` has what waits no more.

use hyper::{Method, StatusCode};
use serde::Serialize;
use tidings_core::channel::Channel;
use tidings_core::delivery::history::Came;
use tidings_core::ids::{NotificationId, UserId};
use tidings_core::position::Position;
use tidings_core::record::retry::Outcome;
use tidings_core::time::Timestamp;
use utoipa::ToSchema;

use super::attempts_told::{AttemptTold, told};
use super::endpoint::{Answered, Asked, Endpoint};
use super::{Rest, json, query};
use crate::http::guard::Needed;
use crate::http::openapi::{Description, text, whole};
use crate::http::problem::Problem;
use crate::store::{Pending, PendingCounts, PendingPage, PendingWanted};

const ALL: &str = "/v1/pending";
const OF_USER: &str = "/v1/pending/{user}";
pub(super) const USER: &str = "user";
pub(super) const OUTCOME: &str = "outcome";
pub(super) const TOLD_OUTCOME: &str =
    "Only what last came to this: `offline`, as no device had been written to, or `unacknowledged`, as one was.";

/// What waits.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PendingPage)]
struct Listed<'a> {
    /// In the order of mailboxes, and in each the oldest first.
    pending: Vec<ShownPending<'a>>,
    /// Where the next page begins, if there may be more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    next_page_token: Option<String>,
    /// How much waits in all, of all users on the rungs; there in the first page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, required = false)]
    counts: Option<Counted>,
}

/// How much waits on the rungs.
#[derive(Serialize, ToSchema)]
#[schema(as = PendingCounts)]
struct Counted {
    /// So many had been written to no device when they were looked at last.
    offline: u64,
    /// So many had been written to one, and were not acknowledged.
    unacknowledged: u64,
}

/// A notification that waits.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PendingNotification)]
struct ShownPending<'a> {
    /// The notification's id.
    #[schema(value_type = uuid::Uuid)]
    id: NotificationId,
    /// Whose it is.
    #[schema(value_type = String)]
    user_id: UserId,
    /// The mailbox.
    #[schema(value_type = String)]
    channel: &'a Channel,
    /// The position behind it.
    #[schema(value_type = String)]
    position: Position,
    /// Its type.
    #[serde(rename = "type")]
    kind: &'a str,
    /// When it came to the log.
    #[schema(value_type = String, format = DateTime)]
    appended_at: Timestamp,
    /// When it is worth showing no longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, required = false)]
    expires_at: Option<Timestamp>,
    /// When it is looked at next. Not there until it was tried once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, required = false)]
    next_at: Option<Timestamp>,
    /// What was tried, oldest first.
    attempts: Vec<AttemptTold>,
}

pub(super) fn endpoints() -> [Endpoint; 2] {
    let of_page = |described: Description| {
        described
            .query(OUTCOME, TOLD_OUTCOME, text())
            .query("limit", "At most so many; 50 unless said, and no more than `http.page_notifications`.", whole(1, 1_000))
            .query("pageToken", "Where to go on: `nextPageToken` of the page before, with the same filters.", text())
            .gives::<Listed<'_>>(StatusCode::OK, "A page.")
    };
    let all = Description::guarded(Method::GET, ALL, Needed::Admin, "What waits on the rungs, of all users")
        .telling("What was tried at least once and is neither acknowledged nor withdrawn, expired or ended.");
    let of_user = Description::guarded(Method::GET, OF_USER, Needed::Admin, "What a user has not acknowledged")
        .segment(USER, "The user.", text())
        .telling("Also what was sent just now, and waits for its first acknowledgement.");
    [
        Endpoint::new(of_page(all), |rest, asked| Box::pin(async move { rest.pending(asked).await })),
        Endpoint::new(of_page(of_user), |rest, asked| Box::pin(async move { rest.pending_of(asked).await })),
    ]
}

impl<'a> Listed<'a> {
    fn of(page: &'a PendingPage, counts: Option<PendingCounts>) -> Self {
        let counts = counts.map(|PendingCounts { offline, unacknowledged }| Counted { offline, unacknowledged });
        let next_page_token = page.next.as_ref().map(ToString::to_string);
        Self { pending: page.items.iter().filter_map(ShownPending::of).collect(), next_page_token, counts }
    }
}

impl<'a> ShownPending<'a> {
    /// There is none of what is in no mailbox, and that is never pending.
    fn of(item: &'a Pending) -> Option<Self> {
        let notification = &item.record.notification;
        Some(Self {
            id: item.place.id,
            user_id: item.place.channel.mailbox_user()?,
            channel: &item.place.channel,
            position: item.position(),
            kind: &notification.kind,
            appended_at: item.appended_at,
            expires_at: notification.expires_at,
            next_at: item.tried.as_ref().map(|tried| tried.next_at),
            attempts: told(item.appended_at, item.tried.as_ref(), Came::Waiting),
        })
    }
}

impl Rest {
    async fn pending(&self, asked: Asked) -> Answered {
        let (wanted, store) = (self.pending_wanted(&asked.query)?, self.store()?);
        let page = store.pending(&wanted).await?;
        let counts = if wanted.after.is_none() { Some(store.pending_counts(wanted.now).await?) } else { None };
        json(StatusCode::OK, &Listed::of(&page, counts))
    }

    async fn pending_of(&self, asked: Asked) -> Answered {
        let user = query::user(asked.segment(USER))?;
        let wanted = self.pending_wanted(&asked.query)?;
        let page = self.store()?.pending_of(&user, &wanted).await?;
        json(StatusCode::OK, &Listed::of(&page, None))
    }

    fn pending_wanted(&self, query: &str) -> Result<PendingWanted, Problem> {
        Ok(PendingWanted {
            outcome: outcome(query, OUTCOME)?,
            after: query::parameter(query, "pageToken", "is `nextPageToken` of the page before, as it was given")?,
            limit: self.limit(query)?,
            now: self.clock.now(),
        })
    }
}

/// The outcome that a parameter names.
pub(super) fn outcome(query: &str, parameter: &str) -> Result<Option<Outcome>, Problem> {
    query::parameter(query, parameter, "is `offline` or `unacknowledged`")
}
