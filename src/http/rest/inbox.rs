//! `/v1/me/notifications`, `/v1/me/counts` and the same of a named user: what is in an inbox.
//!
//! Owns: how a list is asked for and told. What is in it is the store's to say; without the store there is no answer, never an empty
//! list. Neighbours: `marks` changes what this shows, `owner` says whose it is.

mod acks;
mod lines;
mod marks;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use hyper::{Method, StatusCode};
use serde::Serialize;
use tidings_core::channel::Channel;
use tidings_core::locale::Locale;
use tidings_core::notification::Notification;
use tidings_core::position::Position;
use utoipa::ToSchema;

use super::endpoint::{Answered, Asked, Endpoint};
use super::owner::{Owner, owned};
use super::state_told::StateTold;
use super::{Rest, json, query};
use crate::http::openapi::{Description, NotificationSchema, instant, text, truth, whole};
use crate::http::problem::Problem;
use crate::store::{Counts, Item, ListWanted, Page};

/// The notifications in a page, unless the query says how many.
const PAGE: usize = 50;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let list = owned!("/notifications").of_inbox(Method::GET, "What is in the inbox, newest first", list, |rest, asked| {
        Box::pin(async move { rest.inbox(asked).await })
    });
    let counts =
        owned!("/counts").endpoints(Method::GET, "How much of the mailbox is not read, and not seen", counts, |rest, asked| {
            Box::pin(async move { rest.counts(asked).await })
        });
    list.into_iter().chain(counts).chain(marks::endpoints()).chain(acks::endpoints()).chain(lines::endpoints()).collect()
}

fn list(described: Description) -> Description {
    described
        .telling(
            "The mailbox, the channels of the user's roles and everyone's, merged. What has expired or is withdrawn is in no list. \
             A list follows the log: what was marked a moment ago may not show yet.",
        )
        .query("unread", "Only those that are not read.", truth())
        .query("dismissed", "Also those that were dismissed.", truth())
        .query("type", "Only those of a type.", text())
        .query("channel", "Only those of one channel of the inbox.", text())
        .query("since", "Only those that were appended to the log then or later (RFC 3339).", instant())
        .query("limit", "At most so many; 50 unless said, and no more than `http.page_notifications`.", whole(1, 1_000))
        .query("pageToken", "Where to go on: `nextPageToken` of the page before, with the same filters.", text())
        .query("locale", "What the user reads, such as `fr-CA`.", text())
        .gives::<Listed<'_>>(StatusCode::OK, "A page.")
}

fn counts(described: Description) -> Description {
    described
        .telling("Of the mailbox. What was dismissed, is withdrawn or has expired does not count. Counts follow the log.")
        .gives::<Counted>(StatusCode::OK, "The counts.")
}

/// A page of an inbox.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = InboxPage)]
struct Listed<'a> {
    /// Newest first.
    notifications: Vec<Shown<'a>>,
    /// Where the next page begins, if there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_page_token: Option<String>,
    /// Behind the newest of each channel in this page: what `read-all` and `seen-all` take to mean this page and all that is older.
    #[schema(value_type = BTreeMap<String, String>)]
    up_to: BTreeMap<&'a Channel, Position>,
}

/// A notification with what it is to the user.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = InboxNotification)]
struct Shown<'a> {
    #[serde(flatten)]
    #[schema(value_type = NotificationSchema)]
    notification: Cow<'a, Notification>,
    /// The channel it is in.
    #[schema(value_type = String)]
    channel: &'a Channel,
    /// The position behind it in its channel.
    #[schema(value_type = String)]
    position: Position,
    #[serde(flatten)]
    state: StateTold,
}

/// What waits in a mailbox.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Counts)]
struct Counted {
    /// Not read.
    unread: u64,
    /// Not seen.
    unseen: u64,
    /// Notifications of the mailbox before this position are counted, none from there on.
    #[schema(value_type = String)]
    as_of: Position,
}

impl<'a> Listed<'a> {
    fn of(page: &'a Page, locale: Option<&Locale>) -> Self {
        let mut up_to = BTreeMap::new();
        for item in &page.items {
            let furthest = up_to.entry(&item.record.channel).or_insert(item.position);
            *furthest = item.position.max(*furthest);
        }
        let notifications = page.items.iter().map(|item| Shown::of(item, locale)).collect();
        Self { notifications, next_page_token: page.next.as_ref().map(ToString::to_string), up_to }
    }
}

impl<'a> Shown<'a> {
    fn of(item: &'a Item, locale: Option<&Locale>) -> Self {
        Self {
            notification: item.record.notification.in_locale(locale),
            channel: &item.record.channel,
            position: item.position,
            state: item.state.into(),
        }
    }
}

impl Rest {
    async fn inbox(&self, asked: Asked) -> Answered {
        let owner = Owner::of(&asked)?;
        let wanted = self.wanted(&asked.query, &owner)?;
        let locale = query::parameter::<Locale>(&asked.query, "locale", "is a language such as `fr` or `fr-CA`")?;
        let page = self.store()?.list(&owner.user, &owner.channels, &wanted).await?;
        json(StatusCode::OK, &Listed::of(&page, locale.as_ref()))
    }

    fn wanted(&self, query: &str, owner: &Owner) -> Result<ListWanted, Problem> {
        let truth =
            |name| query::parameter(query, name, "is `true` or `false`").map(|truth: Option<bool>| truth.unwrap_or(false));
        let channel = query::parameter::<Channel>(query, "channel", "is no name of a channel")?;
        channel.as_ref().map_or(Ok(()), |channel| owner.expect(channel))?;
        Ok(ListWanted {
            unread: truth("unread")?,
            dismissed: truth("dismissed")?,
            kind: query::text(query, "type")?,
            channel,
            since: query::parameter(query, "since", "is a time such as `2026-01-31T12:00:00Z`")?,
            before: query::parameter(query, "pageToken", "is `nextPageToken` of the page before, as it was given")?,
            limit: self.limit(query)?,
            now: self.clock.now(),
        })
    }

    pub(super) fn limit(&self, query: &str) -> Result<NonZeroUsize, Problem> {
        let most = self.page_notifications;
        let allowed = format!("is a number from 1 to {most}");
        let limit = query::parameter::<NonZeroUsize>(query, "limit", &allowed)?;
        match limit {
            Some(limit) if limit > most => {
                self.oversized_pages.inc();
                Err(Problem::new(StatusCode::BAD_REQUEST, format!("the parameter `limit` {allowed} (`http.page_notifications`)")))
            }
            Some(limit) => Ok(limit),
            None => Ok(NonZeroUsize::new(PAGE).map_or(most, |page| page.min(most))),
        }
    }

    async fn counts(&self, asked: Asked) -> Answered {
        let owner = Owner::of(&asked)?;
        let counted = self.store()?.counts(&self.courses, &[owner.user], self.clock.now()).await?;
        let Some((_, Counts { unread, unseen, as_of })) = counted.into_iter().next() else {
            tracing::error!("the store counted nobody's mailbox; this is a bug");
            return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the mailbox could not be counted"));
        };
        json(StatusCode::OK, &Counted { unread, unseen, as_of })
    }
}
