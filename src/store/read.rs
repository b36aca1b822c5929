//! Reading: how far the projection has come, and what is known of deliveries.
//!
//! Owns: the queries. Refuses to decide what evidence means: `core::delivery` does. Neighbours: the courier asks.

use serde_json::{Value, json};
use tidings_core::delivery::decide::{Place, Reach, Said, Sighting, reach};
use tidings_core::ids::DeviceId;
use tidings_core::position::Epoch;

use super::connection::{Connection, run};
use super::fold::sql_epoch;
use super::stretches::kind;
use super::{Asked, Standing, Store, StoreError};

/// What is known of one notification's delivery.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Where the notification lies first within the epoch that was asked about, if it was folded.
    pub first_offset: Option<i64>,
    /// What devices of the mailbox's owner said of any place where it lies.
    pub sightings: Vec<Sighting>,
    /// Whether nobody is to see it any more.
    pub is_withdrawn: bool,
}

impl Evidence {
    /// How far the notification got.
    #[must_use]
    pub fn reach(&self) -> Reach {
        reach(&self.sightings)
    }
}

impl Store {
    /// How far each partition of an epoch is folded.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn positions(&self, epoch: Epoch) -> Result<Vec<Standing>, StoreError> {
        self.answered(async {
            let rows: Vec<(String, i32, i64)> = run!(&mut self.reader().await?, |it| {
                sqlx::query_as("SELECT topic, partition, next_offset FROM projection WHERE epoch = $1 ORDER BY topic, partition")
                    .bind(sql_epoch(epoch))
                    .fetch_all(it)
                    .await
            })?;
            Ok(rows.into_iter().map(|(topic, partition, next)| Standing { topic: topic.into(), partition, next }).collect())
        })
        .await
    }

    /// What is known of each notification asked about, in the order asked. Says something about delivery only where the
    /// projection has passed the record and the cursors.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn evidence(&self, asked: &[Asked]) -> Result<Vec<Evidence>, StoreError> {
        self.answered(async {
            // One snapshot for both queries.
            let mut snapshot = self.reader().await?.begin_reading().await?;
            let mut all = asked.iter().map(|_| Evidence::default()).collect::<Vec<_>>();
            let mut places = places(snapshot.connection(), asked).await?;
            for (index, place) in &places {
                if let (Some(known), Some(one)) = (all.get_mut(*index), asked.get(*index))
                    && place.epoch == one.epoch
                {
                    known.first_offset = Some(known.first_offset.map_or(place.offset, |first| first.min(place.offset)));
                }
            }
            // A notification whose row is gone is still judged by the place it was asked about.
            places.extend(asked.iter().enumerate().map(|(index, one)| (index, Place { epoch: one.epoch, offset: one.offset })));
            places.sort_unstable();
            places.dedup();
            for (index, sighting) in sightings(snapshot.connection(), asked, &places).await? {
                if let Some(known) = all.get_mut(index) {
                    known.sightings.push(sighting);
                }
            }
            for index in withdrawn(snapshot.connection(), asked).await? {
                if let Some(known) = all.get_mut(index) {
                    known.is_withdrawn = true;
                }
            }
            snapshot.commit().await?;
            Ok(all)
        })
        .await
    }
}

/// The index of each question about something that is withdrawn.
async fn withdrawn(snapshot: &mut Connection, asked: &[Asked]) -> Result<Vec<usize>, StoreError> {
    let questions = questions(asked);
    let rows: Vec<(i64,)> = run!(snapshot, |it| {
        sqlx::query_as(
            "SELECT CAST(asked.key AS bigint) FROM json_each($1) AS asked CROSS JOIN withdrawals AS gone
             WHERE gone.channel = asked.value ->> 0 AND gone.id = asked.value ->> 1",
        )
        .bind(&questions)
        .fetch_all(it)
        .await
    })?;
    Ok(rows.into_iter().map(|(index,)| read_index(index)).collect())
}

/// Channels and ids, as statements take them.
fn questions(asked: &[Asked]) -> String {
    Value::from_iter(asked.iter().map(|one| json!([one.channel, one.id]))).to_string()
}

/// Everywhere that what was asked about lies, with the index of the question.
async fn places(snapshot: &mut Connection, asked: &[Asked]) -> Result<Vec<(usize, Place)>, StoreError> {
    let questions = questions(asked);
    let rows: Vec<(i64, i64, i64)> = run!(snapshot, |it| {
        sqlx::query_as(
            "SELECT CAST(asked.key AS bigint), kept.epoch, kept.\"offset\" FROM json_each($1) AS asked CROSS JOIN notifications AS kept
             WHERE kept.channel = asked.value ->> 0 AND kept.id = asked.value ->> 1
             UNION ALL
             SELECT CAST(asked.key AS bigint), kept.epoch, kept.\"offset\" FROM json_each($1) AS asked CROSS JOIN copies AS kept
             WHERE kept.channel = asked.value ->> 0 AND kept.id = asked.value ->> 1",
        )
        .bind(&questions)
        .fetch_all(it)
        .await
    })?;
    let place = |(index, epoch, offset)| (read_index(index), Place { epoch: read_epoch(epoch), offset });
    Ok(rows.into_iter().map(place).collect())
}

/// Every stretch of a device of the mailbox's owner that covers one of `places`.
async fn sightings(
    snapshot: &mut Connection,
    asked: &[Asked],
    places: &[(usize, Place)],
) -> Result<Vec<(usize, Sighting)>, StoreError> {
    let owned = places.iter().filter_map(|(index, place)| {
        let one = asked.get(*index)?;
        Some(json!([one.channel.mailbox_user()?, one.channel, sql_epoch(place.epoch), place.offset, index]))
    });
    let owned = Value::from_iter(owned).to_string();
    let rows: Vec<(i64, i64, i64, String, String)> = run!(snapshot, |it| {
        sqlx::query_as(
            "SELECT CAST(place.value ->> 4 AS bigint), kept.epoch, CAST(place.value ->> 3 AS bigint), kept.device_id, kept.kind
             FROM json_each($1) AS place CROSS JOIN stretches AS kept
             WHERE kept.user_id = place.value ->> 0 AND kept.channel = place.value ->> 1
               AND kept.epoch = CAST(place.value ->> 2 AS bigint)
               AND kept.kind <> 'began' AND kept.from_offset <= CAST(place.value ->> 3 AS bigint) AND kept.to_offset > CAST(place.value ->> 3 AS bigint)",
        )
        .bind(&owned)
        .fetch_all(it)
        .await
    })?;
    let sighting = |(index, epoch, offset, device, said): (i64, i64, i64, String, String)| {
        // Devices that had to go for others have no name any more.
        let device = if device.is_empty() { Ok(DeviceId::drawn(uuid::Uuid::nil())) } else { device.parse() };
        let device = device.map_err(|source| StoreError::unreadable("stretches", source))?;
        let said = if said == kind(Said::Acknowledged) { Said::Acknowledged } else { Said::Offered };
        Ok((read_index(index), Sighting { device, place: Place { epoch: read_epoch(epoch), offset }, said }))
    };
    rows.into_iter().map(sighting).collect()
}

pub(super) fn read_epoch(epoch: i64) -> Epoch {
    Epoch(u64::try_from(epoch).unwrap_or(0))
}

fn read_index(index: i64) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}
