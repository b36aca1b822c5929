//! `POST /v1/me/acks`: a device acknowledges without a connection, in the words of the frame `ack`.
//!
//! Owns: what such an acknowledgement covers. A connection knows what it was sent; here the store says what there is, and where the device
//! stopped. Refuses what the log has not reached. What several processes say of one device is united, so nothing is taken back.

use std::collections::{BTreeMap, BTreeSet};

use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use tidings_core::channel::Channel;
use tidings_core::ids::{DeviceId, NotificationId, UserId};
use tidings_core::position::{Epoch, Position};
use tidings_core::record::cursor::CursorRecord;
use tidings_core::record::receipt::LIMIT_ITEMS;
use tidings_core::stretch::Stretches;
use utoipa::ToSchema;

use super::super::endpoint::{Answered, Asked, Endpoint};
use super::super::owner::{Owner, owned};
use super::super::{Rest, json};
use super::marks::fault;
use crate::gateway::Located;
use crate::http::openapi::Description;
use crate::http::problem::Problem;
use crate::store::Place;

pub(super) fn endpoints() -> [Endpoint; 2] {
    let describe = |described: Description| {
        described
            .telling(
                "As the frame `ack` does for a connection: `channel` and `position` for all before it but for `except`, or `notificationIds`. \
                 All before a position means what the device was sent, and what follows behind that; for a device that is new, all that is kept. \
                 A device that was never connected and acknowledges by ids is still sent all else that is pending when it comes.",
            )
            .takes::<Ack>()
            .gives::<Acknowledged>(StatusCode::ACCEPTED, "The device's cursor is on the log.")
            .refuses(StatusCode::NOT_FOUND, "An exception, or each of the notifications, is not in this inbox.")
    };
    owned!("/acks").of_inbox(Method::POST, "Acknowledges for a device", describe, |rest, asked| {
        Box::pin(async move { rest.acknowledge(asked).await })
    })
}

/// What a device has handled: `channel` and `position`, or `notificationIds`.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Ack {
    /// The device.
    #[schema(value_type = String)]
    device_id: DeviceId,
    /// The channel that the position is of, or the only one that the notifications are looked for in.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    channel: Option<Channel>,
    /// Everything before it is handled.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    position: Option<Position>,
    /// But not these.
    #[serde(default)]
    #[schema(value_type = Vec<Uuid>, max_items = 100)]
    except: Vec<NotificationId>,
    /// These are handled.
    #[serde(default)]
    #[schema(value_type = Vec<Uuid>, max_items = 100)]
    notification_ids: Vec<NotificationId>,
}

/// What was acknowledged.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Acknowledged {
    /// The device.
    #[schema(value_type = String)]
    device_id: DeviceId,
    /// Those of the notifications that are acknowledged now.
    #[schema(value_type = Vec<Uuid>)]
    notification_ids: Vec<NotificationId>,
    /// Those that are not in this inbox.
    #[schema(value_type = Vec<Uuid>)]
    not_found: Vec<NotificationId>,
}

impl Rest {
    async fn acknowledge(&self, mut asked: Asked) -> Answered {
        let mut owner = Owner::of(&asked)?;
        let ack = asked.body::<Ack>().await?;
        for (pointer, ids) in [("/except", &ack.except), ("/notificationIds", &ack.notification_ids)] {
            if ids.len() > LIMIT_ITEMS {
                return Err(fault(pointer, format!("must name at most {LIMIT_ITEMS} notifications")));
            }
        }
        if let Some(channel) = &ack.channel {
            self.expect_open(&asked, &owner, channel)?;
            owner.channels = vec![channel.clone()];
        }
        let Ack { device_id, channel, position, except, notification_ids } = ack;
        match (channel, position) {
            (Some(channel), Some(position)) if notification_ids.is_empty() => {
                self.acknowledge_below((&owner, &device_id), &channel, position, &except).await?;
                accepted(device_id, Vec::new(), Vec::new())
            }
            (_, None) if !notification_ids.is_empty() && except.is_empty() => {
                self.acknowledge_ids(&owner, device_id, &notification_ids).await
            }
            _ => Err(fault("", "must name either `channel` and `position`, or `notificationIds`".to_owned())),
        }
    }

    /// Refuses a channel that is neither in the inbox nor open to the caller.
    fn expect_open(&self, asked: &Asked, owner: &Owner, channel: &Channel) -> Result<(), Problem> {
        if owner.user == asked.caller.user && self.desk.is_open(&asked.caller, channel) {
            return Ok(());
        }
        owner.expect(channel)
    }

    async fn acknowledge_below(
        &self,
        (owner, device): (&Owner, &DeviceId),
        channel: &Channel,
        position: Position,
        except: &[NotificationId],
    ) -> Result<(), Problem> {
        let epoch = self.courses.epoch;
        if position.epoch != epoch {
            return Err(fault("/position", format!("{position} is a position of another epoch than {epoch}")));
        }
        self.expect_reached(channel, position, "/position").await?;
        let store = self.store()?;
        // What is not folded may be an exception, or be meant to be handled once.
        if !self.desk.has_folded(channel, position.offset).await {
            return Err(Problem::not_yet("not all before the position is known yet: send it again in a moment"));
        }
        let Located { found: excepted, awaited, absent } = self.desk.locate(owner.scope(), except).await;
        if let Some(unknown) = absent.first() {
            return Err(Problem::new(StatusCode::NOT_FOUND, format!("{unknown} is not in this channel")));
        }
        if let Some(unknown) = awaited.first() {
            return Err(Problem::not_yet(format!("{unknown} is not known yet: send it again in a moment")));
        }
        let mut handled = Stretches::new();
        let cursors = store.cursors((&owner.user, device), &owner.channels).await?;
        match cursors
            .iter()
            .find(|cursor| cursor.channel == *channel && cursor.epoch == epoch)
            .and_then(|known| Some((known, known.offered.end()?)))
        {
            Some((known, end)) => {
                for sent in known.offered.as_slice() {
                    handled.insert(sent.from, sent.to.min(position.offset));
                }
                // What follows behind that it was shown elsewhere, in a list for instance.
                handled.insert(end, position.offset);
            }
            // It was never sent anything.
            None => {
                handled.insert(store.trimmed(&self.courses.of(channel)).await?, position.offset);
            }
        }
        let shown = handled.clone();
        for excepted in &excepted {
            handled.remove(excepted.position.offset - 1);
        }
        self.write_acknowledged((&owner.user, device), (channel, epoch), (shown, handled)).await
    }

    async fn acknowledge_ids(&self, owner: &Owner, device: DeviceId, ids: &[NotificationId]) -> Answered {
        self.store()?;
        let located = self.desk.locate(owner.scope(), ids).await;
        let mut handled = BTreeMap::<(Channel, Epoch), Stretches>::new();
        for Place { channel, position, .. } in &located.found {
            let stretches = handled.entry((channel.clone(), position.epoch)).or_default();
            stretches.insert(position.offset - 1, position.offset);
        }
        for ((channel, epoch), stretches) in handled {
            // Where the user saw them is not said, so the device was not sent them: one that is new still begins at what is pending.
            self.write_acknowledged((&owner.user, &device), (&channel, epoch), (Stretches::new(), stretches)).await?;
        }
        if !located.awaited.is_empty() {
            let detail = "not every notification is known yet; those that are have been acknowledged: send it again in a moment";
            return Err(Problem::not_yet(detail));
        }
        if located.found.is_empty() {
            return Err(Problem::new(StatusCode::NOT_FOUND, "there is no such notification in this inbox"));
        }
        let known = located.found.iter().map(|found| found.id).collect::<BTreeSet<_>>();
        accepted(device, known.into_iter().collect(), located.absent)
    }

    async fn write_acknowledged(
        &self,
        (user, device): (&UserId, &DeviceId),
        (channel, epoch): (&Channel, Epoch),
        (shown, handled): (Stretches, Stretches),
    ) -> Result<(), Problem> {
        if handled.is_empty() {
            return Ok(());
        }
        // Before the cursor: if only this is written, the device says the rest again.
        if channel.is_mailbox() && epoch == self.courses.epoch {
            self.desk.withdraw_once(channel, &handled).await?;
        }
        let (user_id, device_id, channel) = (user.clone(), device.clone(), channel.clone());
        let record =
            CursorRecord { user_id, device_id, drawn: false, channel, epoch, began: None, offered: shown, acknowledged: handled };
        let (topic, key, partition) = (self.names.cursors(), record.key(), record.partition(self.courses.partitions));
        self.write_fact((&topic, Some(partition)), &key, &record).await
    }
}

fn accepted(device_id: DeviceId, notification_ids: Vec<NotificationId>, not_found: Vec<NotificationId>) -> Answered {
    json(StatusCode::ACCEPTED, &Acknowledged { device_id, notification_ids, not_found })
}
