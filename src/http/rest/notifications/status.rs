//! `GET` and `DELETE /v1/notifications/{id}`, and `?wait=`: what became of what a service asked for, and taking it back.
//!
//! Owns: what an id means here: that of a request, with all notifications that follow from it, or of a single notification. Refuses to say
//! who listens to a channel. Any service may ask about any id it knows. Neighbours: the store tells, `receipts` holds what is withdrawn.

use std::time::Duration;

use futures_util::future::try_join_all;
use hyper::{Method, StatusCode};
use serde::Serialize;
use tidings_core::channel::Channel;
use tidings_core::delivery::history::Came;
use tidings_core::ids::{DeviceId, NotificationId, UserId};
use tidings_core::position::Position;
use tidings_core::record::receipt::{ReceiptRecord, WithdrawalCause};
use tidings_core::time::{Delay, Timestamp};
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::attempts_told::{AttemptTold, told};
use super::super::endpoint::{Answered, Asked, Endpoint};
use super::super::state_told::StateTold;
use super::super::{Rest, json, query};
use crate::http::guard::Needed;
use crate::http::openapi::{Description, id};
use crate::http::problem::Problem;
use crate::store::{About, Place};

/// The name in a path where the id stands.
const ID: &str = "id";
/// The most notifications that an answer tells of.
const TOLD: usize = 100;
/// The most records that are on their way to the brokers at a time for one caller.
const AT_A_TIME: usize = 100;
/// Of how many users it is asked whether they are connected.
const ASKED_ABOUT: usize = 10;
/// How often who waits looks, at first and at most.
const LOOK: Duration = Duration::from_millis(50);
const LOOK_SELDOM: Duration = Duration::from_millis(400);

pub(super) fn endpoints() -> [Endpoint; 2] {
    let described = |method, summary| {
        Description::guarded(method, "/v1/notifications/{id}", Needed::Service, summary)
            .segment(ID, "The id of a request, or of one notification.", id())
            .refuses(StatusCode::NOT_FOUND, "Nothing is known of it: yet, any more, or ever.")
    };
    let show = described(Method::GET, "What became of what was asked for").gives::<Status>(StatusCode::OK, "What is known.");
    let withdraw = described(Method::DELETE, "Withdraws what was asked for")
        .telling(
            "From then on nobody is shown it: not by lists, not by recovery, not by another attempt. Open connections are told. A request \
             is withdrawn with all that follows from it, or not at all: while not all of that is known, it is answered with 503.",
        )
        .gives::<Taken>(StatusCode::ACCEPTED, "It is on the log that it is withdrawn.");
    [
        Endpoint::new(show, |rest, asked| Box::pin(async move { rest.show(asked).await })),
        Endpoint::new(withdraw, |rest, asked| Box::pin(async move { rest.withdraw(asked).await })),
    ]
}

/// What is known of a request.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    /// The id: the notifications that follow from a request have it as `eventId`.
    id: Uuid,
    /// Of all together.
    state: State,
    /// Those that follow from it, at most 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    notifications: Vec<One>,
    /// How many are not told of.
    #[serde(skip_serializing_if = "is_none_left")]
    #[schema(required = false)]
    notifications_left_out: usize,
}

/// How far it has come. Of several the first that stands here is told of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
enum State {
    /// The brokers have the request; nothing else is known yet.
    Accepted,
    /// In a mailbox, and no device has acknowledged it yet.
    Pending,
    /// A device has acknowledged it.
    Delivered,
    /// In a mailbox, and its ladder has ended: nobody tries to deliver it any more.
    Undelivered,
    /// In a channel that is no mailbox. Nobody waits for acknowledgements there.
    Published,
    /// It was not delivered, and is no longer worth showing.
    Expired,
    /// Nobody is shown it any more.
    Withdrawn,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NotificationStatus)]
struct One {
    /// The notification's own id.
    #[schema(value_type = Uuid)]
    id: NotificationId,
    /// Its channel.
    #[schema(value_type = String)]
    channel: Channel,
    /// The position behind it.
    #[schema(value_type = String)]
    position: Position,
    /// When it came to the log.
    #[schema(value_type = String, format = DateTime)]
    appended_at: Timestamp,
    /// How far it has come.
    state: State,
    /// Devices that have acknowledged it, of a mailbox.
    #[schema(value_type = Vec<String>)]
    acknowledged_by: Vec<DeviceId>,
    /// Users who have seen it, at most 100.
    users: Vec<Reader>,
    /// What was tried to deliver it, oldest first, of a mailbox.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    attempts: Vec<AttemptTold>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Reader {
    /// Who.
    #[schema(value_type = String)]
    user_id: UserId,
    #[serde(flatten)]
    state: StateTold,
}

/// What was withdrawn.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Withdrawn)]
struct Taken {
    /// The id.
    id: Uuid,
    /// How many notifications are withdrawn.
    withdrawn: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none_left(count: &usize) -> bool {
    *count == 0
}

impl Status {
    /// The brokers have it, and nothing else is known.
    pub(super) fn accepted(id: Uuid) -> Self {
        Self { id, state: State::Accepted, notifications: Vec::new(), notifications_left_out: 0 }
    }
}

impl One {
    fn of(id: NotificationId, about: About, now: Timestamp) -> Self {
        let state = state(&about, now);
        let attempts = attempts(&about, state);
        let About { channel, position, appended_at, acknowledged, users, .. } = about;
        let users = users.into_iter().map(|(user_id, state)| Reader { user_id, state: state.into() }).collect();
        Self { id, channel, position, appended_at, state, acknowledged_by: acknowledged, users, attempts }
    }
}

fn attempts(about: &About, state: State) -> Vec<AttemptTold> {
    let tried = about.tried.as_ref();
    let last = match state {
        State::Accepted | State::Published => return Vec::new(),
        State::Pending => Came::Waiting,
        State::Delivered => Came::Acknowledged,
        State::Undelivered => tried.map_or(Came::Waiting, |tried| tried.outcome.into()),
        State::Expired | State::Withdrawn => Came::Dropped,
    };
    told(about.appended_at, tried, last)
}

fn state(about: &About, now: Timestamp) -> State {
    let is_expired = about.record.as_ref().is_some_and(|record| record.notification.is_expired(now));
    if about.withdrawn.is_some() {
        State::Withdrawn
    } else if !about.channel.is_mailbox() {
        State::Published
    } else if !about.acknowledged.is_empty() {
        State::Delivered
    } else if about.tried.as_ref().is_some_and(|tried| tried.is_undelivered) {
        State::Undelivered
    } else if is_expired {
        State::Expired
    } else {
        State::Pending
    }
}

impl Rest {
    async fn show(&self, asked: Asked) -> Answered {
        let id = named(&asked)?;
        let status = self.status(id).await?;
        if status.state == State::Accepted { Err(unknown()) } else { json(StatusCode::OK, &status) }
    }

    async fn withdraw(&self, asked: Asked) -> Answered {
        let id = named(&asked)?;
        let places = self.all_places_of(id).await?;
        if places.is_empty() {
            return Err(unknown());
        }
        let withdrawn = places.len();
        let receipts = places.into_iter().map(|Place { id, channel, position }| {
            let cause = WithdrawalCause::Service;
            ReceiptRecord::Withdrawn { channel, id, position: Some(position), cause, source: None }
        });
        let receipts = receipts.collect::<Vec<_>>();
        for some in receipts.chunks(AT_A_TIME) {
            try_join_all(some.iter().map(|receipt| self.desk.write(receipt))).await?;
        }
        tracing::info!(%id, service = %asked.caller.user, withdrawn, "a service has withdrawn notifications");
        json(StatusCode::ACCEPTED, &Taken { id, withdrawn })
    }

    /// Where all lie that an id means, when nothing more can follow from what was asked for by now.
    async fn all_places_of(&self, id: Uuid) -> Result<Vec<Place>, Problem> {
        let store = self.store()?;
        let itself = async || {
            let known = store.state_of(NotificationId(id)).await?;
            Ok::<_, Problem>(known.map(|About { channel, position, .. }| Place { id: NotificationId(id), channel, position }))
        };
        if let Some(place) = itself().await? {
            return Ok(vec![place]);
        }
        let until = self.clock.elapsed() + self.decided.limit;
        let is_all = self.decided.all(until).await && self.desk.has_folded_all(until.saturating_sub(self.clock.elapsed())).await;
        if !is_all {
            let detail = "not all that may follow from it is known yet, so nothing was withdrawn: send it again in a moment";
            return Err(Problem::not_yet(detail));
        }
        // Whichever it is, it may have been folded meanwhile.
        let mut places = store.asked_for(id).await?;
        places.extend(itself().await?);
        Ok(places)
    }

    /// Where all lie that an id means.
    async fn places_of(&self, id: Uuid) -> Result<Vec<Place>, Problem> {
        let store = self.store()?;
        let places = store.asked_for(id).await?;
        if !places.is_empty() {
            return Ok(places);
        }
        let id = NotificationId(id);
        let about = store.state_of(id).await?;
        Ok(about.map(|About { channel, position, .. }| Place { id, channel, position }).into_iter().collect())
    }

    async fn status(&self, id: Uuid) -> Result<Status, Problem> {
        let (store, places) = (self.store()?, self.places_of(id).await?);
        let now = self.clock.now();
        let ids = places.iter().take(TOLD).map(|place| place.id).collect::<Vec<_>>();
        let abouts = store.states_of(&ids).await?.into_iter();
        let notifications = abouts.map(|(id, about)| One::of(id, about, now)).collect::<Vec<_>>();
        let state = notifications.iter().map(|one| one.state).min().unwrap_or(State::Accepted);
        Ok(Status { id, state, notifications, notifications_left_out: places.len().saturating_sub(TOLD) })
    }

    /// How long a request is to be waited for, if its caller says so.
    pub(super) fn wait(&self, query: &str) -> Result<Option<Duration>, Problem> {
        let allowed = format!("is a length of time up to {} (`http.wait_limit`)", Delay(self.wait_limit));
        let wait = query::parameter::<Delay>(query, "wait", &allowed)?;
        if wait.is_some_and(|wait| wait.0 > self.wait_limit) {
            return Err(Problem::new(StatusCode::BAD_REQUEST, format!("the parameter `wait` {allowed}")));
        }
        Ok(wait.map(|wait| wait.0))
    }

    /// The answer once everything is delivered, or pending as nobody is there to take it; what is known once the time is over. Where too many
    /// wait already, at once. Not everything is folded at once: at least `least` notifications follow from the request.
    pub(super) async fn settled(&self, (id, least): (Uuid, usize), wait: Duration) -> Answered {
        let Ok(_place) = self.waiting.try_acquire() else {
            self.unwaited.inc();
            return json(StatusCode::ACCEPTED, &Status::accepted(id));
        };
        let until = self.clock.elapsed() + wait;
        let (mut pause, mut is_awaited) = (LOOK, None);
        loop {
            // A store that is away may come back in time.
            let status = self.status(id).await.unwrap_or_else(|_| Status::accepted(id));
            let is_settled = match status.state {
                State::Accepted => false,
                _ if status.notifications.len() + status.notifications_left_out < least => false,
                State::Pending => {
                    // Asked once: it is a question to all nodes.
                    if is_awaited.is_none() {
                        is_awaited = Some(self.is_awaited(&status).await);
                    }
                    is_awaited == Some(false)
                }
                _ => true,
            };
            if is_settled {
                return json(StatusCode::OK, &status);
            }
            let left = until.saturating_sub(self.clock.elapsed());
            if left.is_zero() {
                return json(StatusCode::ACCEPTED, &status);
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(LOOK_SELDOM);
        }
    }

    /// Whether somebody is connected who may acknowledge in a moment what is pending. Of many users nobody is asked about.
    async fn is_awaited(&self, status: &Status) -> bool {
        let pending = status.notifications.iter().filter(|one| one.state == State::Pending);
        let users = pending.filter_map(|one| one.channel.mailbox_user()).collect::<Vec<_>>();
        if users.len() > ASKED_ABOUT {
            return true;
        }
        for user in &users {
            let is_connected = self.desk.everywhere(user).await.is_ok_and(|everywhere| !everywhere.connections.is_empty());
            if is_connected {
                return true;
            }
        }
        false
    }
}

fn named(asked: &Asked) -> Result<Uuid, Problem> {
    // What is no id names nothing.
    asked.segment(ID).parse().map_err(|_| unknown())
}

fn unknown() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "nothing is known of this id: yet, any more, or ever")
}
