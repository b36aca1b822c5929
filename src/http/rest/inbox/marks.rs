//! What a user does with notifications: read, unread, seen, dismiss; with one, with several, or with all up to where a list was.
//!
//! Owns: that each is a fact on `receipts` before it is answered. Lists and counts, and the user's connections, follow the log.
//! Neighbours: the gateway's desk knows what is the user's and writes, the inbox's projector folds, every gateway tells its connections.

use std::collections::{BTreeMap, BTreeSet};

use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use tidings_core::channel::Channel;
use tidings_core::ids::NotificationId;
use tidings_core::position::Position;
use tidings_core::record::receipt::{LIMIT_ITEMS, MarkState, ReadState, ReceiptRecord};
use tidings_core::record::request::Fault;
use utoipa::ToSchema;

use super::super::endpoint::{Answered, Asked, Endpoint, Handler, invalid};
use super::super::owner::{Owner, Paths, owned};
use super::super::{Rest, json};
use crate::gateway::{Marked, Misplaced};
use crate::http::openapi::{Description, id};
use crate::http::problem::Problem;

/// The name in a path where the notification stands.
const NOTIFICATION: &str = "notification";
/// The most channels that are marked at a time.
const LIMIT_CHANNELS: usize = 128;

/// What can be done with one and with several.
struct Action {
    summary: [&'static str; 2],
    one: (Paths, Handler),
    several: (Paths, Handler),
}

macro_rules! action {
    ($word:literal, $state:expr, $one:literal, $several:literal) => {
        Action {
            summary: [$one, $several],
            one: (owned!("/notifications/{notification}/", $word), |rest, asked| {
                Box::pin(async move { rest.mark_one(asked, $state).await })
            }),
            several: (owned!("/notifications/", $word), |rest, asked| {
                Box::pin(async move { rest.mark_several(asked, $state).await })
            }),
        }
    };
}

fn actions() -> [Action; 4] {
    [
        action!("read", ReadState::Read, "Marks a notification as read", "Marks notifications as read"),
        action!("unread", ReadState::Unread, "Marks a notification as not read", "Marks notifications as not read"),
        action!("seen", ReadState::Seen, "Marks a notification as seen", "Marks notifications as seen"),
        action!("dismiss", ReadState::Dismissed, "Puts a notification away", "Puts notifications away"),
    ]
}

pub(super) fn endpoints() -> impl Iterator<Item = Endpoint> {
    let told = "The fact is on the log. Lists, counts and the user's connections follow it.";
    let one = move |described: Description| {
        described
            .segment(NOTIFICATION, "The notification's id.", id())
            .gives::<Told>(StatusCode::ACCEPTED, told)
            .refuses(StatusCode::NOT_FOUND, "There is no such notification in this inbox.")
    };
    let several = move |described: Description| described.takes::<Several>().gives::<Told>(StatusCode::ACCEPTED, told);
    let all = move |described: Description| described.takes::<UpTo>().gives::<MarkedUpTo>(StatusCode::ACCEPTED, told);
    let singly =
        actions().into_iter().flat_map(move |Action { summary, one: (one_at, one_by), several: (several_at, several_by) }| {
            let [of_one, of_several] = summary;
            let one = one_at.of_inbox(Method::POST, of_one, one, one_by);
            one.into_iter().chain(several_at.of_inbox(Method::POST, of_several, several, several_by))
        });
    let read_all =
        owned!("/notifications/read-all").of_inbox(Method::POST, "Marks all up to a place as read", all, |rest, asked| {
            Box::pin(async move { rest.mark_up_to(asked, MarkState::Read).await })
        });
    let seen_all =
        owned!("/notifications/seen-all").of_inbox(Method::POST, "Marks all up to a place as seen", all, |rest, asked| {
            Box::pin(async move { rest.mark_up_to(asked, MarkState::Seen).await })
        });
    singly.chain(read_all).chain(seen_all)
}

/// Notifications by their ids.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Notifications)]
struct Several {
    /// At least one.
    #[schema(value_type = Vec<Uuid>, min_items = 1, max_items = 100)]
    notification_ids: Vec<NotificationId>,
}

/// Everything up to a place in each channel.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UpTo {
    /// By channel the position behind the last that is meant: `upTo` of a list, or those of frames.
    #[schema(value_type = BTreeMap<String, String>)]
    up_to: BTreeMap<Channel, Position>,
}

/// What was done.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Marked)]
struct Told {
    /// What the notifications are from here on: `read`, `unread`, `seen` or `dismissed`.
    #[schema(value_type = String)]
    state: ReadState,
    /// Those that were marked. One that is not folded yet is among them: it is marked when it comes, if it is the user's.
    #[schema(value_type = Vec<Uuid>)]
    notification_ids: Vec<NotificationId>,
    /// Those that are not in this inbox.
    #[schema(value_type = Vec<Uuid>)]
    not_found: Vec<NotificationId>,
}

/// What was done with all up to a place.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MarkedUpTo {
    /// What the notifications are from here on: `read` or `seen`.
    #[schema(value_type = String)]
    state: MarkState,
    /// Up to where, by channel.
    #[schema(value_type = BTreeMap<String, String>)]
    up_to: BTreeMap<Channel, Position>,
}

impl Rest {
    async fn mark_one(&self, asked: Asked, state: ReadState) -> Answered {
        let owner = Owner::of(&asked)?;
        // What is no id names no notification.
        let id = asked.segment(NOTIFICATION).parse::<NotificationId>().map_err(|_| unknown())?;
        let told = self.mark(owner, state, &[id]).await?;
        if told.notification_ids.is_empty() { Err(unknown()) } else { json(StatusCode::ACCEPTED, &told) }
    }

    async fn mark_several(&self, mut asked: Asked, state: ReadState) -> Answered {
        let owner = Owner::of(&asked)?;
        let Several { notification_ids } = asked.body().await?;
        let ids = notification_ids.into_iter().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>();
        if !(1..=LIMIT_ITEMS).contains(&ids.len()) {
            return Err(fault("/notificationIds", format!("must name 1 to {LIMIT_ITEMS} notifications")));
        }
        let marked = self.mark(owner, state, &ids).await?;
        json(StatusCode::ACCEPTED, &marked)
    }

    async fn mark(&self, owner: Owner, state: ReadState, ids: &[NotificationId]) -> Result<Told, Problem> {
        let Marked { written, awaited, absent } = self.desk.mark(owner.scope(), ids, state).await?;
        if !awaited.is_empty() {
            // Where it lies decides whether a mark covers it.
            let detail = "not every notification is known yet, so that it is not known what marks it as read; those that are have been marked: \
                          send it again in a moment";
            return Err(Problem::not_yet(detail));
        }
        let notification_ids = written.iter().map(|item| item.id).collect::<BTreeSet<_>>().into_iter().collect();
        Ok(Told { state, notification_ids, not_found: absent })
    }

    async fn mark_up_to(&self, mut asked: Asked, state: MarkState) -> Answered {
        let owner = Owner::of(&asked)?;
        let UpTo { up_to } = asked.body().await?;
        if !(1..=LIMIT_CHANNELS).contains(&up_to.len()) {
            return Err(fault("/upTo", format!("must name 1 to {LIMIT_CHANNELS} channels")));
        }
        for (channel, position) in &up_to {
            owner.expect(channel)?;
            self.expect_reached(channel, *position, &format!("/upTo/{}", channel.as_str().replace('~', "~0").replace('/', "~1")))
                .await?;
        }
        for (channel, position) in &up_to {
            let (user_id, channel) = (owner.user.clone(), channel.clone());
            let receipt = ReceiptRecord::UpTo { user_id, state, channel, position: *position, source: None };
            self.desk.write(&receipt).await?;
        }
        json(StatusCode::ACCEPTED, &MarkedUpTo { state, up_to })
    }

    /// Refuses a position that nobody can have been shown: it would mean what is yet to come.
    pub(super) async fn expect_reached(&self, channel: &Channel, position: Position, pointer: &str) -> Result<(), Problem> {
        self.desk.judge(channel, position).await.map_err(|misplaced| match misplaced {
            Misplaced::Later { .. } | Misplaced::Beyond { .. } => fault(pointer, misplaced.to_string()),
            Misplaced::Unanswered { .. } => Problem::brokers_away(misplaced.to_string()),
        })
    }
}

fn unknown() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such notification in this inbox")
}

pub(super) fn fault(pointer: &str, detail: String) -> Problem {
    invalid(Fault { pointer: pointer.to_owned(), detail })
}
