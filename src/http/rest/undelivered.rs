//! `/v1/undelivered`: what ended without success, and beginning its ladder anew, for operators.
//!
//! Owns: the words of the query and of the body. One reading at a time: callers wait for each other, and who leaves ends his. Neighbours:
//! `replay` reads and writes, `pending` has what still waits.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use tidings_core::ids::{NotificationId, UserId};
use tidings_core::record::request::Fault;
use tidings_core::record::retry::Outcome;
use tidings_core::selection::UndeliveredFilter;
use tidings_core::time::Timestamp;
use utoipa::ToSchema;

use super::endpoint::{Answered, Asked, Endpoint, invalid};
use super::reading::{Reading, unread};
use super::{Rest, json, query};
use crate::http::guard::Needed;
use crate::http::openapi::{Description, id, instant, text, whole};
use crate::http::problem::Problem;
use crate::replay::{
    Anew, Mode, Part, PartEnd, PartEndError, RedriveUndelivered, UndeliveredListing, UndeliveredReport, UndeliveredWanted, Watch,
};

const LIST: &str = "/v1/undelivered";
const REDRIVE: &str = "/v1/undelivered/redrive";
/// The most that are named beside the groups.
const MOST_NEWEST: u32 = 1_000;

/// What ended without success, and who looks at it.
pub(super) type Ends = Reading<Anew>;

/// What is to be begun anew.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = UndeliveredRedrive)]
struct Body {
    /// Which.
    selection: Selection,
    /// Whether it is done. If not, what would become of them is counted.
    #[serde(default)]
    execute: bool,
    /// The most a second; `http.retries_per_second`, unless said, and no more than that.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1)]
    rate: Option<NonZeroU32>,
    /// Where to go on: `nextPageToken` of the call before, with the same selection.
    #[serde(default)]
    page_token: Option<String>,
}

/// Which: every condition must hold, of several values of one any. Without a condition: all.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = UndeliveredSelection)]
struct Selection {
    /// Those that ended for this reason: `offline` or `unacknowledged`.
    #[schema(value_type = Option<String>)]
    reason: Option<Outcome>,
    /// Those of these users.
    #[schema(value_type = Vec<String>)]
    users: BTreeSet<UserId>,
    /// Those of these types.
    types: BTreeSet<String>,
    /// These notifications.
    #[schema(value_type = Vec<uuid::Uuid>)]
    ids: BTreeSet<NotificationId>,
    /// Those that ended at this time or later.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Those that ended before this time.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
}

pub(super) fn endpoints() -> [Endpoint; 2] {
    let list = Description::guarded(Method::GET, LIST, Needed::Admin, "Counts what ended without success, by reason and type")
        .query("reason", "`offline` or `unacknowledged`.", text())
        .query("user", "A user; may stand more than once.", text())
        .query("type", "A type of notifications; may stand more than once.", text())
        .query("id", "A notification; may stand more than once.", id())
        .query("since", "Ended at this time or later.", instant())
        .query("until", "Ended before this time.", instant())
        .query("newest", "How many of the newest are named; 20, unless said.", whole(0, MOST_NEWEST))
        .query("pageToken", "Where to go on: `nextPageToken` of the call before, with the same filters.", text())
        .telling(
            "What has been read in two thirds of `http.request_timeout` is answered, with a `nextPageToken` if there is more.",
        )
        .gives::<UndeliveredListing>(StatusCode::OK, "What lies in undelivered.");
    let redrive = Description::guarded(Method::POST, REDRIVE, Needed::Admin, "Begins ladders anew that ended without success")
        .telling(
            "Each once, with the notification's id and one attempt more in its history, which names who asked. What was delivered meanwhile, \
             is withdrawn or has expired is left alone. Without `execute` nothing is written. What was done in two thirds of \
             `http.request_timeout` is answered, with a `nextPageToken` if there is more. The topic `audit` tells who did it, and which.",
        )
        .takes::<Body>()
        .gives::<UndeliveredReport>(StatusCode::OK, "What became of them, or would.");
    [
        Endpoint::new(list, |rest, asked| Box::pin(async move { rest.undelivered(&asked.query).await })),
        Endpoint::new(redrive, |rest, asked| Box::pin(async move { rest.redrive_undelivered(asked).await })),
    ]
}

/// What ended without success, for one caller at a time.
pub(super) fn ends(anew: Anew, request_timeout: Duration) -> Ends {
    Reading::new(anew, "what was not delivered", request_timeout)
}

impl Rest {
    async fn undelivered(&self, query: &str) -> Answered {
        let filter = of_query(query)?;
        let allowed = "is a number from 0 to 1000";
        let newest = query::parameter::<u32>(query, "newest", allowed)?.unwrap_or(20);
        if newest > MOST_NEWEST {
            return Err(Problem::new(StatusCode::BAD_REQUEST, format!("the parameter `newest` {allowed}")));
        }
        let behind = query::parameter::<PartEnd>(query, "pageToken", "is `nextPageToken` of the answer before, as it was given")?;
        let part = Part { behind, until: Some(self.ends.until(self.clock)) };
        let wanted = UndeliveredWanted { filter, part, newest: newest as usize };
        let listing =
            self.ends.run(move |anew, stop| anew.undelivered().list(&wanted, &mut Watch { stop, progress: &mut |_| {} }));
        json(StatusCode::OK, &listing.await?.map_err(unread)?)
    }

    async fn redrive_undelivered(&self, mut asked: Asked) -> Answered {
        let Body { selection, execute, rate, page_token } = asked.body().await?;
        let (filter, store) = (UndeliveredFilter::from(selection), self.store()?.clone());
        if let Err(error) = filter.check() {
            return Err(invalid(Fault { pointer: "/selection".to_owned(), detail: error.to_string() }));
        }
        let wrong = |error: PartEndError| invalid(Fault { pointer: "/pageToken".to_owned(), detail: error.to_string() });
        let behind = page_token.map(|token| token.parse().map_err(wrong)).transpose()?;
        let until = self.ends.until(self.clock);
        let (part, store_until) = (Part { behind, until: Some(until) }, Some(self.ends.beyond(until)));
        let who: UserId = asked.caller.user;
        if execute {
            tracing::info!(%who, %filter, "an operator begins ladders anew that ended without success");
        }
        let mode = if execute { Mode::Execute { who } } else { Mode::Try };
        let most = self.retries.per_second();
        let rate = rate.map_or(most, |rate| rate.min(most));
        let wanted = RedriveUndelivered { filter, part, mode, rate, store_until };
        let report = self.ends.run(move |anew, stop| anew.redrive(&wanted, &store, &mut Watch { stop, progress: &mut |_| {} }));
        json(StatusCode::OK, &report.await?.map_err(unread)?)
    }
}

impl From<Selection> for UndeliveredFilter {
    fn from(selection: Selection) -> Self {
        let Selection { reason, users, types, ids, since, until } = selection;
        Self { reason, users, kinds: types, ids, since, until }
    }
}

fn of_query(query: &str) -> Result<UndeliveredFilter, Problem> {
    let wrong = |name: &str, why: String| Problem::new(StatusCode::BAD_REQUEST, format!("the parameter `{name}`: {why}"));
    let time = |name: &str| query::parameter::<Timestamp>(query, name, "is a time as `2026-01-31T12:00:00Z`");
    let users = query::all(query, "user")
        .map(|user| user.parse().map_err(|error: tidings_core::ids::IdError| wrong("user", error.to_string())));
    let ids = query::all(query, "id").map(|id| id.parse().map_err(|error: uuid::Error| wrong("id", error.to_string())));
    let filter = UndeliveredFilter {
        reason: super::pending::outcome(query, "reason")?,
        users: users.collect::<Result<_, _>>()?,
        kinds: query::all(query, "type").map(std::borrow::Cow::into_owned).collect(),
        ids: ids.collect::<Result<_, _>>()?,
        since: time("since")?,
        until: time("until")?,
    };
    filter.check().map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok(filter)
}
