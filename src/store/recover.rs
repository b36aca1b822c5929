//! What recovery asks: what a channel held from an offset on, how far that is the whole truth, and where a device stopped.
//!
//! Owns: the queries. Refuses to decide what a client is told: the core does. Neighbours: `notified` and `stretches` write what is
//! read here; the gateway asks.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Value, json};
use tidings_core::channel::Channel;
use tidings_core::delivery::decide::Said;
use tidings_core::delivery::stretch::{Stretch, Stretches};
use tidings_core::ids::{DeviceId, UserId};
use tidings_core::position::Epoch;
use tidings_core::record::cursor::CursorRecord;
use tidings_core::time::Timestamp;

use super::connection::{Connection, run};
use super::fold::sql_epoch;
use super::inbox::is_not_withdrawn;
use super::stretches::{BEGAN, kind};
use super::{Course, Notified, Store, StoreError};

/// A page of what a channel holds. All of it was true at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Gap {
    /// The records, in the order of the log, without those that are withdrawn.
    pub records: Vec<Notified>,
    /// Where the next page begins, if this one may not have been the last.
    pub next: Option<i64>,
    /// The offset below which records of the channel may be missing: they were trimmed, or never folded. See [`Store::trimmed`].
    pub trimmed: i64,
    /// The next offset to fold of the partition: nothing from there on is in the page. Nothing, if the partition was never folded.
    pub projected: Option<i64>,
}

/// How large a page may be. It holds one record at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize {
    /// At most so many records.
    pub records: usize,
    /// No further one, once they have so many bytes.
    pub bytes: usize,
}

/// A row of a page: what is known of the channel, how many records there were for the page, and the record, if there is one.
type Line = (Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<String>);

impl Store {
    /// What a channel holds at `offsets`, oldest first, at most a page of it.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn gap(&self, course: &Course, offsets: Range<i64>, size: PageSize) -> Result<Gap, StoreError> {
        self.answered(async {
            let lines: Vec<Line> = run!(&mut self.reader().await?, |it| {
                // One statement, so one state of the tables.
                sqlx::query_as(concat!(
                    "SELECT projected.next_offset, projected.first_offset, trims.epoch, trims.\"offset\",
                       page.counted, page.\"offset\", page.appended_at, page.body
                     FROM (SELECT 1) AS always
                     LEFT JOIN projection AS projected ON projected.epoch = $2 AND projected.topic = $3 AND projected.partition = $4
                     LEFT JOIN trims ON trims.channel = $1
                     LEFT JOIN (SELECT \"offset\", appended_at, body, counted FROM (
                       SELECT \"offset\", appended_at, body, COUNT(*) OVER () AS counted,
                         SUM(octet_length(body)) OVER (ORDER BY \"offset\") - octet_length(body) AS bytes_before
                       FROM (SELECT kept.\"offset\", kept.appended_at, kept.body FROM notifications AS kept
                         WHERE kept.channel = $1 AND kept.epoch = $2 AND kept.\"offset\" >= $5 AND kept.\"offset\" < $6
                           AND kept.body IS NOT NULL AND",
                    is_not_withdrawn!(),
                    "ORDER BY kept.\"offset\" LIMIT $7) AS first) AS sized
                       WHERE bytes_before < $8) AS page ON true
                     ORDER BY page.\"offset\"",
                ))
                .bind(course.channel.as_str())
                .bind(sql_epoch(course.epoch))
                .bind(&*course.topic)
                .bind(course.partition)
                .bind(offsets.start)
                .bind(offsets.end)
                .bind(i64::try_from(size.records).unwrap_or(i64::MAX))
                .bind(i64::try_from(size.bytes).unwrap_or(i64::MAX))
                .fetch_all(it)
                .await
            })?;
            gap(course, offsets.end, size, lines)
        })
        .await
    }

    /// The offset below which records of a channel may be missing: retention trimmed them, or the projection began behind them.
    /// Zero, if nothing is missing.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn trimmed(&self, course: &Course) -> Result<i64, StoreError> {
        Ok(self.gap(course, 0..0, PageSize { records: 0, bytes: 0 }).await?.trimmed)
    }

    /// The next offset to fold of a channel's partition; nothing, if it was never folded.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn projected(&self, course: &Course) -> Result<Option<i64>, StoreError> {
        Ok(self.gap(course, 0..0, PageSize { records: 0, bytes: 0 }).await?.projected)
    }

    /// The newest records of a channel that are not withdrawn, oldest of them first, at most `limit`.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn newest(&self, course: &Course, limit: usize) -> Result<Vec<Notified>, StoreError> {
        self.answered(async {
            let rows: Vec<(i64, i64, String)> = run!(&mut self.reader().await?, |it| {
                sqlx::query_as(concat!(
                    "SELECT kept.\"offset\", kept.appended_at, kept.body FROM notifications AS kept
                     WHERE kept.channel = $1 AND kept.epoch = $2 AND kept.body IS NOT NULL AND",
                    is_not_withdrawn!(),
                    "ORDER BY kept.\"offset\" DESC LIMIT $3",
                ))
                .bind(course.channel.as_str())
                .bind(sql_epoch(course.epoch))
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(it)
                .await
            })?;
            rows.into_iter().rev().map(|(offset, appended_at, body)| notified(course, offset, appended_at, &body)).collect()
        })
        .await
    }

    /// Where a device began in some channels, what it was offered of them and has acknowledged: a cursor for each channel and epoch that it wrote one in.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn cursors(
        &self,
        (user, device): (&UserId, &DeviceId),
        channels: &[Channel],
    ) -> Result<Vec<CursorRecord>, StoreError> {
        self.answered(async {
            let wanted = Value::from_iter(channels.iter().map(|channel| json!([channel.as_str()]))).to_string();
            let rows: Vec<(i64, i64, String, i64, i64)> = run!(&mut self.reader().await?, |it| {
                sqlx::query_as(
                    "SELECT wanted.key, said.epoch, said.kind, said.from_offset, said.to_offset FROM json_each($3) AS wanted
                     JOIN stretches AS said ON said.user_id = $1 AND said.channel = wanted.value ->> 0 AND said.device_id = $2",
                )
                .bind(user.as_str())
                .bind(device.as_str())
                .bind(&wanted)
                .fetch_all(it)
                .await
            })?;
            let mut cursors = BTreeMap::<_, CursorRecord>::new();
            for (wanted, epoch, said, from, to) in rows {
                let channel = usize::try_from(wanted).ok().and_then(|wanted| channels.get(wanted));
                let (Some(channel), Ok(number)) = (channel, u64::try_from(epoch)) else { continue };
                let cursor = cursors.entry((wanted, epoch)).or_insert_with(|| CursorRecord {
                    user_id: user.clone(),
                    device_id: device.clone(),
                    drawn: false,
                    channel: channel.clone(),
                    epoch: Epoch(number),
                    began: None,
                    offered: Stretches::new(),
                    acknowledged: Stretches::new(),
                });
                if said == BEGAN {
                    cursor.began = Some(from);
                    continue;
                }
                let is_acknowledged = said == kind(Said::Acknowledged);
                let set = if is_acknowledged { &mut cursor.acknowledged } else { &mut cursor.offered };
                set.insert(from, to);
            }
            Ok(cursors.into_values().collect())
        })
        .await
    }

    /// Where the first notification of a channel lies within `ranges` that is not withdrawn and has not expired at `now`.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn first_within(&self, course: &Course, ranges: &[Stretch], now: Timestamp) -> Result<Option<i64>, StoreError> {
        let ranges = ranges.iter().map(|range| range.from..range.to).collect::<Vec<_>>();
        self.answered(async { first_kept(&mut self.reader().await?, (&course.channel, course.epoch), &ranges, now).await }).await
    }

    /// Where the oldest notification of a mailbox lies that no device has acknowledged, is not withdrawn and has not expired at `now`. One that was
    /// acknowledged only at a further place of its own on the log may be told as well.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn oldest_pending(&self, epoch: Epoch, user: &UserId, now: Timestamp) -> Result<Option<i64>, StoreError> {
        self.answered(async {
            let mut reader = self.reader().await?;
            let mailbox = Channel::mailbox(user);
            let acknowledged: Vec<(i64, i64)> = run!(&mut reader, |it| {
                sqlx::query_as(
                    "SELECT from_offset, to_offset FROM stretches
                     WHERE user_id = $1 AND channel = $2 AND epoch = $3 AND kind = 'acknowledged'",
                )
                .bind(user.as_str())
                .bind(mailbox.as_str())
                .bind(sql_epoch(epoch))
                .fetch_all(it)
                .await
            })?;
            first_kept(&mut reader, (&mailbox, epoch), &between(acknowledged), now).await
        })
        .await
    }
}

/// Where the first notification of a channel lies within `ranges` that is not withdrawn and has not expired at `now`.
async fn first_kept(
    reader: &mut Connection,
    (channel, epoch): (&Channel, Epoch),
    ranges: &[Range<i64>],
    now: Timestamp,
) -> Result<Option<i64>, StoreError> {
    let ranges = Value::from_iter(ranges.iter().map(|range| json!([range.start, range.end]))).to_string();
    let first: Vec<(Option<i64>,)> = run!(reader, |it| {
        sqlx::query_as(concat!(
            "SELECT (SELECT kept.\"offset\" FROM notifications AS kept
               WHERE kept.channel = $2 AND kept.epoch = $3 AND kept.body IS NOT NULL
                 AND kept.\"offset\" >= CAST(hole.value ->> 0 AS bigint) AND kept.\"offset\" < CAST(hole.value ->> 1 AS bigint)
                 AND (kept.expires_at IS NULL OR kept.expires_at > $4) AND",
            is_not_withdrawn!(),
            "ORDER BY kept.\"offset\" LIMIT 1) FROM json_each($1) AS hole ORDER BY hole.key",
        ))
        .bind(&ranges)
        .bind(channel.as_str())
        .bind(sql_epoch(epoch))
        .bind(now.as_millis())
        .fetch_all(it)
        .await
    })?;
    Ok(first.into_iter().find_map(|(offset,)| offset))
}

fn gap(course: &Course, until: i64, size: PageSize, lines: Vec<Line>) -> Result<Gap, StoreError> {
    let known = lines.first().map(|(projected, first, epoch, offset, ..)| (*projected, *first, epoch.zip(*offset)));
    let (projected, first, trim) = known.unwrap_or_default();
    let of_channel = match trim {
        Some((epoch, offset)) if epoch == sql_epoch(course.epoch) => offset,
        // Of a later epoch: nothing of this one is left.
        Some((epoch, _)) if epoch > sql_epoch(course.epoch) => i64::MAX,
        _ => 0,
    };
    let counted = lines.first().and_then(|(.., counted, _, _, _)| usize::try_from((*counted)?).ok()).unwrap_or(0);
    let rows = lines.into_iter().filter_map(|(.., offset, appended_at, body)| Some((offset?, appended_at?, body?)));
    let records = rows.map(|(offset, appended_at, body)| notified(course, offset, appended_at, &body));
    let records = records.collect::<Result<Vec<_>, _>>()?;
    let is_cut = records.len() >= size.records || records.len() < counted;
    let next = records.last().filter(|_| is_cut).map(|last| last.offset + 1).filter(|next| *next < until);
    Ok(Gap { records, next, trimmed: of_channel.max(first.unwrap_or(0)), projected })
}

fn notified(course: &Course, offset: i64, appended_at: i64, body: &str) -> Result<Notified, StoreError> {
    let record = serde_json::from_str(body).map_err(|source| StoreError::unreadable("notifications", source))?;
    Ok(Notified { record, partition: course.partition, offset, appended: Timestamp::from_millis(appended_at) })
}

/// The offsets that no range holds.
fn between(ranges: Vec<(i64, i64)>) -> Vec<Range<i64>> {
    let mut held = Stretches::new();
    for (from, to) in ranges {
        held.insert(from, to);
    }
    let starts = std::iter::once(0).chain(held.as_slice().iter().map(|stretch| stretch.to));
    let ends = held.as_slice().iter().map(|stretch| stretch.from).chain(std::iter::once(i64::MAX));
    starts.zip(ends).map(|(from, to)| from..to).filter(|range| range.start < range.end).collect()
}
