//! Reading: how far the projection has come, and what is known of deliveries.
//!
//! Owns: the queries. Refuses to decide what evidence means: `core::delivery` does. Neighbours: the courier asks.

use std::sync::Arc;

use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use tidings_core::delivery::decide::{Place, Reach, Said, Sighting, reach};
use tidings_core::position::Epoch;

use super::fold::sql_epoch;
use super::{Asked, Standing, Store, StoreError};

/// What is known of one notification's delivery.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Where the notification lies first within the epoch that was asked about, if it was folded.
    pub first_offset: Option<i64>,
    /// What devices of the mailbox's owner said of any place where it lies.
    pub sightings: Vec<Sighting>,
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
        let rows = sqlx::query("SELECT topic, partition, next_offset FROM projection WHERE epoch = ?1")
            .bind(sql_epoch(epoch))
            .fetch_all(&self.readers)
            .await?;
        let standing = |row: SqliteRow| {
            let topic: Arc<str> = row.try_get::<String, _>(0)?.into();
            Ok(Standing { topic, partition: row.try_get(1)?, next: row.try_get(2)? })
        };
        rows.into_iter().map(standing).collect()
    }

    /// What is known of each notification asked about, in the order asked. Says something about delivery only where the
    /// projection has passed the record and the cursors.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn evidence(&self, asked: &[Asked]) -> Result<Vec<Evidence>, StoreError> {
        // One snapshot for both queries.
        let mut snapshot = self.readers.begin().await?;
        let mut all = asked.iter().map(|_| Evidence::default()).collect::<Vec<_>>();
        let mut places = places(&mut snapshot, asked).await?;
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
        for (index, sighting) in sightings(&mut snapshot, asked, &places).await? {
            if let Some(known) = all.get_mut(index) {
                known.sightings.push(sighting);
            }
        }
        snapshot.commit().await?;
        Ok(all)
    }
}

/// Everywhere that what was asked about lies, with the index of the question.
async fn places(snapshot: &mut SqliteConnection, asked: &[Asked]) -> Result<Vec<(usize, Place)>, StoreError> {
    let questions = asked.iter().map(|one| json!([one.channel, one.id]));
    let rows = sqlx::query(
        "SELECT asked.key, kept.epoch, kept.\"offset\" FROM json_each(?1) AS asked CROSS JOIN notifications AS kept
         WHERE kept.channel = asked.value ->> 0 AND kept.id = asked.value ->> 1
         UNION ALL
         SELECT asked.key, kept.epoch, kept.\"offset\" FROM json_each(?1) AS asked CROSS JOIN copies AS kept
         WHERE kept.channel = asked.value ->> 0 AND kept.id = asked.value ->> 1",
    )
    .bind(Value::from_iter(questions).to_string())
    .fetch_all(snapshot)
    .await?;
    let place = |row: SqliteRow| {
        let place = Place { epoch: read_epoch(row.try_get(1)?), offset: row.try_get(2)? };
        Ok((read_index(row.try_get(0)?), place))
    };
    rows.into_iter().map(place).collect()
}

/// Every stretch of a device of the mailbox's owner that covers one of `places`.
async fn sightings(
    snapshot: &mut SqliteConnection,
    asked: &[Asked],
    places: &[(usize, Place)],
) -> Result<Vec<(usize, Sighting)>, StoreError> {
    let owned = places.iter().filter_map(|(index, place)| {
        let one = asked.get(*index)?;
        Some(json!([one.channel.mailbox_user()?, one.channel, sql_epoch(place.epoch), place.offset, index]))
    });
    let rows = sqlx::query(
        "SELECT place.value ->> 4, epoch, place.value ->> 3, device_id, kind FROM json_each(?1) AS place CROSS JOIN stretches
         WHERE user_id = place.value ->> 0 AND channel = place.value ->> 1 AND epoch = place.value ->> 2
           AND from_offset <= place.value ->> 3 AND to_offset > place.value ->> 3",
    )
    .bind(Value::from_iter(owned).to_string())
    .fetch_all(snapshot)
    .await?;
    rows.iter().map(|row| Ok((read_index(row.try_get(0)?), sighting(row)?))).collect()
}

fn sighting(row: &SqliteRow) -> Result<Sighting, StoreError> {
    let device = row.try_get::<&str, _>(3)?.parse().map_err(|source| StoreError::unreadable("stretches", source))?;
    let said = if row.try_get::<&str, _>(4)? == "acknowledged" { Said::Acknowledged } else { Said::Offered };
    Ok(Sighting { device, place: Place { epoch: read_epoch(row.try_get(1)?), offset: row.try_get(2)? }, said })
}

fn read_epoch(epoch: i64) -> Epoch {
    Epoch(u64::try_from(epoch).unwrap_or(0))
}

fn read_index(index: i64) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}
