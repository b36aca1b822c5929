//! A page of an inbox: 50 out of 1,000, of which some were read, beside the bare statement that reads as many rows.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection, SqliteConnection};
use tidings::config::StoreConfig;
use tidings::store::{Fold, Folded, ListWanted, Move, Notified, Received, Retention, Standing, Store};
use tidings_core::channel::Channel;
use tidings_core::position::Epoch;
use tidings_core::time::Timestamp;

use crate::Size;
use crate::machine::part;
use crate::projector::{Place, notification};
use crate::report::{Budget, Pair, Report, say};

const ROWS: i64 = 1_000;
const PAGE: usize = 50;
/// Pages that are asked for in a run.
const PAGES: usize = 2_000;
const EPOCH: Epoch = Epoch(1);
const BARE: &str = "SELECT body FROM notifications WHERE channel = $1 AND body IS NOT NULL ORDER BY appended_at DESC LIMIT 50";

pub(crate) async fn run(size: &Size, report: &mut Report) -> anyhow::Result<()> {
    for place in [Place::sqlite()?, Place::postgres().await?] {
        let store = filled(&place).await?;
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for run in 1..=size.runs {
            ours.push(listed(&store).await?);
            bare.push(selected(&place).await?);
            say(&format!("list from {} {run}: p99 tidings {:?} ms, bare {:?} ms", place.name(), ours.last(), bare.last()));
        }
        store.close().await;
        let what = format!("list of {PAGE} out of {ROWS} from {}: p99", place.name());
        report.add(&what, "ms", Pair { ours, bare }, Budget::AtMost(5.0));
    }
    Ok(())
}

fn mailbox() -> anyhow::Result<Channel> {
    Ok("user-u0".parse()?)
}

/// A store with a full mailbox: a mark in the middle, and single ones read above it.
async fn filled(place: &Place) -> anyhow::Result<Store> {
    let config = tidings::config::load(None, &[])?.store;
    let store = Store::open(&StoreConfig { url: place.url().parse()?, ..config }).await?;
    let standing = |topic: &str| Standing { topic: topic.into(), partition: 0, next: 0 };
    store.claim(EPOCH, &[standing("notifications"), standing("receipts")]).await?;
    let mut fold = Fold {
        moves: vec![Move { topic: "notifications".into(), partition: 0, from: 0, to: ROWS, clock: None, is_loss: false }],
        ..Fold::default()
    };
    for offset in 0..ROWS {
        let mut value = notification(u64::try_from(offset)?);
        value["channel"] = "user-u0".into();
        let record = serde_json::from_value(value)?;
        fold.notifications.push(Notified { record, partition: 0, offset, appended: Timestamp::from_millis(offset) });
    }
    let receipts = fold.notifications.iter().skip(600).step_by(3).map(|one| {
        serde_json::json!({"receipt": "state", "userId": "u0", "state": "read", "items": [{"id": one.record.notification.id}]})
    });
    let mark = serde_json::json!({"receipt": "upTo", "userId": "u0", "state": "read", "channel": "user-u0", "position": "1:500"});
    for receipt in receipts.chain([mark]).collect::<Vec<_>>() {
        let record = serde_json::from_value(receipt)?;
        fold.receipts.push(Received { record, partition: 0, appended: Timestamp::from_millis(ROWS) });
    }
    anyhow::ensure!(store.fold(EPOCH, &retention(), &fold).await? != Folded::Moved, "somebody else folds");
    Ok(store)
}

fn retention() -> Retention {
    let (day, rows) = (Duration::from_hours(24), NonZeroUsize::MAX);
    Retention {
        rows: day,
        ids: day,
        undelivered: day,
        mailbox_rows: rows,
        channel_rows: rows,
        devices: day,
        devices_per_user: rows,
        channels_per_device: rows,
        receipts: day,
        states_per_user: rows,
    }
}

/// The p99 of pages from anywhere in the inbox, in milliseconds.
async fn listed(store: &Store) -> anyhow::Result<f64> {
    let (user, channels) = ("u0".parse()?, [mailbox()?, Channel::everyone(), Channel::role("driver")?]);
    let first = ListWanted {
        unread: false,
        dismissed: false,
        kind: None,
        channel: None,
        since: None,
        before: None,
        limit: NonZeroUsize::new(PAGE).unwrap_or(NonZeroUsize::MIN),
        now: Timestamp::from_millis(ROWS),
    };
    let (mut wanted, mut took) = (first.clone(), Vec::with_capacity(PAGES));
    for _ in 0..PAGES {
        let begun = Instant::now();
        let page = store.list(&user, &channels, &wanted).await?;
        took.push(begun.elapsed().as_secs_f64() * 1_000.0);
        anyhow::ensure!(page.items.len() == PAGE, "a page of {}", page.items.len());
        wanted = ListWanted { before: page.next, ..first.clone() };
    }
    Ok(part(took, 0.99))
}

/// The p99 of a bare statement for the newest page.
async fn selected(place: &Place) -> anyhow::Result<f64> {
    let channel = mailbox()?;
    macro_rules! select {
        ($session:expr) => {{
            let (mut session, mut took) = ($session, Vec::with_capacity(PAGES));
            for _ in 0..PAGES {
                let begun = Instant::now();
                let rows: Vec<String> = sqlx::query_scalar(BARE).bind(channel.as_str()).fetch_all(&mut session).await?;
                took.push(begun.elapsed().as_secs_f64() * 1_000.0);
                anyhow::ensure!(rows.len() == PAGE, "{} rows", rows.len());
            }
            took
        }};
    }
    let took = match place {
        Place::Sqlite(_) => select!(SqliteConnection::connect(&place.url()).await?),
        Place::Postgres { .. } => select!(PgConnection::connect(&place.url()).await?),
    };
    Ok(part(took, 0.99))
}
