//! Tests of the store against a real file and a real server.
//!
//! Long because what all of them stand on is here, beside folding.

mod attempts;
mod contest;
mod devices;
mod epochs;
mod inbox;
mod receipts;
mod recover;
mod retention;
mod schema;
mod tables;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use sqlx::{Connection as _, PgConnection, Row as _};
use tidings_core::channel::Channel;
use tidings_core::delivery::decide::Reach;
use tidings_core::delivery::stretch::{Stretch, Stretches};
use tidings_core::fate::Cause;
use tidings_core::ids::NotificationId;
use tidings_core::position::Epoch;
use tidings_core::record::cursor::CursorRecord;
use tidings_core::time::{Delay, Timestamp};

use super::connection::{Connection, run};
use super::*;
use crate::config::{Database, StoreConfig};

const EPOCH: Epoch = Epoch(3);
const DAY: Duration = Duration::from_hours(24);

/// Nothing goes by age.
fn whole() -> Retention {
    let (years, many) = (10_000 * DAY, NonZeroUsize::new(1_000_000).unwrap());
    Retention {
        rows: years,
        ids: years,
        undelivered: years,
        mailbox_rows: many,
        channel_rows: many,
        devices: 30 * DAY,
        devices_per_user: NonZeroUsize::new(50).unwrap(),
        channels_per_device: NonZeroUsize::new(256).unwrap(),
        receipts: 30 * DAY,
        states_per_user: many,
    }
}

fn retention() -> Retention {
    let rows = NonZeroUsize::new(1000).unwrap();
    Retention { rows: 7 * DAY, ids: 7 * DAY, mailbox_rows: rows, channel_rows: rows, ..whole() }
}

/// An open store that has seen nothing.
struct Fixture {
    store: Store,
    config: StoreConfig,
    /// Holds the file, if it is one.
    _folder: tempfile::TempDir,
}

/// Makes each test twice, once for each database. PostgreSQL is the server in TIDINGS_TEST_POSTGRES, which `dev/test` starts; each
/// test has a schema of its own there.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test] async fn $name() { super::$name($crate::store::tests::Fixture::sqlite().await).await; })*
        }
        mod on_postgres {
            $(#[tokio::test] async fn $name() {
                if let Some(fixture) = $crate::store::tests::Fixture::postgres().await {
                    super::$name(fixture).await;
                }
            })*
        }
    };
}
use on_both;

impl Fixture {
    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = config(Database::Sqlite(folder.path().join("test.db")));
        Self::with(folder, config).await
    }

    async fn postgres() -> Option<Self> {
        let Ok(server) = std::env::var("TIDINGS_TEST_POSTGRES") else {
            assert_ne!(
                std::env::var("CI").as_deref(),
                Ok("true"),
                "CI tries both databases, and TIDINGS_TEST_POSTGRES names none"
            );
            println!("TIDINGS_TEST_POSTGRES names no server (`dev/postgres start DIR`): nothing is tested on PostgreSQL");
            return None;
        };
        let schema = format!("t_{}", uuid::Uuid::new_v4().simple());
        let mut session = PgConnection::connect(&server).await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).execute(&mut session).await.unwrap();
        let url = format!("{server}?options[search_path]={schema}").parse().unwrap();
        let config = config(url);
        // Schemas of one database are made in turn, and other tests make theirs.
        let patient = StoreConfig { busy_timeout: Delay(Duration::from_secs(60)), ..config.clone() };
        Store::migrate(&patient).await.unwrap().close().await;
        Some(Self::with(tempfile::tempdir().unwrap(), config).await)
    }

    /// One on each database that there is.
    async fn each() -> Vec<Self> {
        let mut all = vec![Self::sqlite().await];
        all.extend(Self::postgres().await);
        all
    }

    async fn with(folder: tempfile::TempDir, config: StoreConfig) -> Self {
        let fixture = Self { store: Store::open(&config).await.unwrap(), config, _folder: folder };
        fixture.store.claim(EPOCH, &["notifications", "cursors", "receipts"].map(|topic| standing(topic, 0))).await.unwrap();
        fixture
    }

    async fn fold(&self, fold: Fold) {
        assert!(matches!(self.store.fold(EPOCH, &retention(), &fold).await.unwrap(), Folded::Committed { .. }));
    }

    async fn evidence(&self, id: u128, offset: i64) -> Evidence {
        let asked = Asked { channel: mailbox(), id: id_of(id), epoch: EPOCH, offset };
        self.store.evidence(&[asked]).await.unwrap().remove(0)
    }
}

fn config(url: Database) -> StoreConfig {
    let mut config = crate::config::load(None, &[]).unwrap().store;
    config.url = url;
    config.busy_timeout = Delay(Duration::from_millis(500));
    config
}

fn standing(topic: &str, next: i64) -> Standing {
    Standing { topic: topic.into(), partition: 0, next }
}

fn mailbox() -> Channel {
    "user-1".parse().unwrap()
}

fn id_of(id: u128) -> NotificationId {
    NotificationId(uuid::Uuid::from_u128(id))
}

fn notified(id: u128, offset: i64) -> Notified {
    let value = serde_json::json!({
        "channel": "user-1", "rule": "r", "origin": {"topic": "bookings", "partition": 0, "offset": 0},
        "notification": {"id": id_of(id), "eventId": "e", "type": "t", "createdAt": "2026-01-31T12:00:00.000Z",
                         "message": "\u{0}\"\\ ü", "data": {"offset": offset}},
    });
    Notified {
        record: serde_json::from_value(value).unwrap(),
        partition: 0,
        offset,
        appended: Timestamp::from_millis(1_000 + offset),
    }
}

fn cursor(device: &str, offered: &[(i64, i64)], acknowledged: &[(i64, i64)]) -> CursorRecord {
    let set = |ranges: &[(i64, i64)]| ranges.iter().map(|(from, to)| Stretch { from: *from, to: *to }).collect::<Stretches>();
    CursorRecord {
        user_id: "1".parse().unwrap(),
        device_id: device.parse().unwrap(),
        drawn: false,
        channel: mailbox(),
        epoch: EPOCH,
        began: None,
        offered: set(offered),
        acknowledged: set(acknowledged),
    }
}

/// The notifications in the mailbox: offset, time of appending in ms, the record.
async fn kept(store: &Store) -> Vec<(i64, i64, String)> {
    run!(&mut store.reader().await.unwrap(), |it| {
        sqlx::query_as(
            "SELECT \"offset\", appended_at, body FROM notifications WHERE channel = $1 AND body IS NOT NULL ORDER BY \"offset\"",
        )
        .bind(mailbox().as_str())
        .fetch_all(it)
        .await
        .unwrap()
    })
}

fn step(topic: &str, from: i64, to: i64) -> Move {
    Move { topic: topic.into(), partition: 0, from, to, clock: None, is_loss: false }
}

fn notifications(from: i64, to: i64, notified: Vec<Notified>) -> Fold {
    let requests = "tidings.requests".into();
    Fold { moves: vec![step("notifications", from, to)], notifications: notified, requests, ..Fold::default() }
}

fn cursors(cursors: Vec<CursorRecord>) -> Fold {
    let heard = |record| Heard { record, partition: 0, appended: Timestamp::from_millis(1_000) };
    Fold { cursors: cursors.into_iter().map(heard).collect(), ..Fold::default() }
}

on_both! {
    a_reader_cannot_write,
    what_was_folded_survives_the_process_as_it_was,
    a_fold_that_does_not_begin_where_the_partition_stands_changes_nothing,
    a_claim_keeps_where_a_partition_stands_and_epochs_stand_apart,
    a_notification_that_lies_on_the_log_twice_is_in_the_inbox_once_and_its_first_place_is_known,
    a_device_that_met_only_the_second_place_delivers_there,
    an_exception_at_the_first_place_is_not_healed_by_the_second,
    only_devices_of_the_owner_and_offsets_of_the_epoch_count,
    many_questions_are_answered_in_their_order,
}

async fn what_was_folded_survives_the_process_as_it_was(fixture: Fixture) {
    fixture.fold(notifications(0, 7, vec![notified(1, 3), notified(2, 6)])).await;
    fixture.store.close().await;
    let store = Store::open(&fixture.config).await.unwrap();
    let kept = kept(&store).await;
    assert_eq!(kept.iter().map(|(offset, ..)| *offset).collect::<Vec<_>>(), [3, 6]);
    let (_, appended_at, body) = &kept[0];
    assert_eq!(serde_json::from_str::<NotificationRecord>(body).unwrap(), notified(1, 3).record);
    assert_eq!(*appended_at, 1_003);
    assert_eq!(
        store.positions(EPOCH).await.unwrap(),
        [standing("cursors", 0), standing("notifications", 7), standing("receipts", 0)]
    );
}

async fn a_fold_that_does_not_begin_where_the_partition_stands_changes_nothing(fixture: Fixture) {
    fixture.fold(notifications(0, 5, vec![notified(1, 4)])).await;
    let late = notifications(0, 6, vec![notified(2, 5)]);
    assert_eq!(fixture.store.fold(EPOCH, &retention(), &late).await.unwrap(), Folded::Moved);
    let mut half = notifications(5, 6, vec![notified(2, 5)]);
    half.moves.push(step("cursors", 1, 2));
    assert_eq!(fixture.store.fold(EPOCH, &retention(), &half).await.unwrap(), Folded::Moved);
    assert_eq!(
        fixture.store.positions(EPOCH).await.unwrap(),
        [standing("cursors", 0), standing("notifications", 5), standing("receipts", 0)]
    );
    assert_eq!(kept(&fixture.store).await.len(), 1);
}

async fn a_claim_keeps_where_a_partition_stands_and_epochs_stand_apart(fixture: Fixture) {
    fixture.fold(notifications(0, 5, Vec::new())).await;
    let again = fixture.store.claim(EPOCH, &[standing("notifications", 2)]).await.unwrap();
    assert_eq!(again, [standing("notifications", 5)]);
    let next = fixture.store.claim(Epoch(4), &[standing("notifications", 0)]).await.unwrap();
    assert_eq!(next, [standing("notifications", 0)]);
    assert_eq!(fixture.store.positions(Epoch(4)).await.unwrap(), [standing("notifications", 0)]);
}

async fn a_notification_that_lies_on_the_log_twice_is_in_the_inbox_once_and_its_first_place_is_known(fixture: Fixture) {
    fixture.fold(notifications(0, 10, vec![notified(1, 5), notified(1, 9)])).await;
    fixture.fold(notifications(10, 12, vec![notified(1, 11)])).await;
    assert_eq!(kept(&fixture.store).await.iter().map(|(offset, ..)| *offset).collect::<Vec<_>>(), [5]);
    for offset in [5, 9, 11] {
        assert_eq!(fixture.evidence(1, offset).await.first_offset, Some(5));
    }
    assert_eq!(fixture.evidence(2, 7).await.first_offset, None);
}

async fn a_device_that_met_only_the_second_place_delivers_there(fixture: Fixture) {
    fixture.fold(notifications(0, 10, vec![notified(1, 5), notified(1, 9)])).await;
    fixture.fold(cursors(vec![cursor("late", &[(6, 10)], &[(6, 10)])])).await;
    assert_eq!(fixture.evidence(1, 5).await.reach(), Reach::Delivered);
    assert_eq!(fixture.evidence(1, 9).await.reach(), Reach::Delivered);
}

async fn an_exception_at_the_first_place_is_not_healed_by_the_second(fixture: Fixture) {
    fixture.fold(notifications(0, 10, vec![notified(1, 5), notified(1, 9)])).await;
    fixture.fold(cursors(vec![cursor("a", &[(0, 10)], &[(0, 5), (6, 10)])])).await;
    assert_eq!(fixture.evidence(1, 5).await.reach(), Reach::Offered);
}

async fn only_devices_of_the_owner_and_offsets_of_the_epoch_count(fixture: Fixture) {
    fixture.fold(notifications(0, 10, vec![notified(1, 5)])).await;
    let mut stranger = cursor("d", &[(0, 10)], &[(0, 10)]);
    stranger.user_id = "2".parse().unwrap();
    let mut earlier = cursor("d", &[(0, 10)], &[(0, 10)]);
    earlier.epoch = Epoch(2);
    fixture.fold(cursors(vec![stranger, earlier])).await;
    assert_eq!(fixture.evidence(1, 5).await.reach(), Reach::NotOffered);
}

async fn many_questions_are_answered_in_their_order(fixture: Fixture) {
    fixture.fold(notifications(0, 100, (0..100).map(|offset| notified(offset as u128, offset)).collect())).await;
    fixture.fold(cursors(vec![cursor("a", &[(0, 100)], &[(0, 50)])])).await;
    let ask = |offset: i64| Asked { channel: mailbox(), id: id_of(offset as u128), epoch: EPOCH, offset };
    let asked = [70, 10, 99, 49, 50].map(ask);
    let answers = fixture.store.evidence(&asked).await.unwrap();
    let reached = answers.iter().map(Evidence::reach).collect::<Vec<_>>();
    assert_eq!(reached, [Reach::Offered, Reach::Delivered, Reach::Offered, Reach::Delivered, Reach::Offered]);
    assert_eq!(answers.iter().map(|answer| answer.first_offset).collect::<Vec<_>>(), [70, 10, 99, 49, 50].map(Some));
}

#[tokio::test]
async fn a_locked_database_is_unavailable_and_not_broken() {
    let fixture = Fixture::sqlite().await;
    let other = Store::open(&fixture.config).await.unwrap();
    let held = other.writer().await.unwrap().begin_writing().await.unwrap();
    let error = fixture.store.fold(EPOCH, &retention(), &notifications(0, 1, Vec::new())).await.unwrap_err();
    assert_eq!(error.cause(), Cause::Dependency, "{error:?}");
    assert_eq!(fixture.store.positions(EPOCH).await.unwrap().len(), 3, "readers go on");
    drop(held);
    other.close().await;
    fixture.fold(notifications(0, 1, Vec::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_meet_a_new_database_at_the_same_moment_all_open_it() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new.db");
        let mut opening = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let mut config = config(Database::Sqlite(path.clone()));
            config.busy_timeout = Delay(Duration::from_secs(30));
            opening.spawn(async move { Store::open(&config).await.map(|_| ()) });
        }
        while let Some(opened) = opening.join_next().await {
            opened.unwrap().unwrap();
        }
    }
}

async fn a_reader_cannot_write(fixture: Fixture) {
    let mut reader = fixture.store.reader().await.unwrap();
    assert!(run!(&mut reader, |it| sqlx::query("DELETE FROM projection").execute(it).await.map(|_| ())).is_err());
}

#[tokio::test]
async fn a_file_that_is_removed_while_it_is_in_use_is_neither_read_nor_written_any_more() {
    let fixture = Fixture::sqlite().await;
    let Database::Sqlite(path) = &fixture.config.url else { panic!("it is a file") };
    std::fs::rename(path, path.with_extension("moved")).unwrap();
    let written = fixture.store.fold(EPOCH, &retention(), &notifications(0, 1, Vec::new())).await.unwrap_err();
    let read = fixture.store.positions(EPOCH).await.unwrap_err();
    for error in [written, read] {
        assert!(matches!(error, StoreError::Gone { .. }) && error.to_string().contains("test.db"), "{error}");
    }
}

#[tokio::test]
async fn a_foreign_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("foreign.db");
    std::fs::write(&path, "this is no database, but it is long enough to have a header".repeat(20)).unwrap();
    assert_eq!(Store::open(&config(Database::Sqlite(path))).await.unwrap_err().cause(), Cause::Bug);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn stretches_folded_in_any_batches_give_the_union(
        records in prop::collection::vec((0..3_u8, prop::collection::vec((0..40_i64, 1..9_i64), 0..5), any::<bool>()), 1..12),
        batch in 1..5_usize,
    ) {
        let mut expected = BTreeMap::<(u8, bool), BTreeSet<i64>>::new();
        for (device, ranges, acknowledged) in &records {
            let offsets = ranges.iter().flat_map(|(from, length)| *from..from + length);
            expected.entry((*device, *acknowledged)).or_default().extend(offsets);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        expected.retain(|_, offsets| !offsets.is_empty());
        for (found, touching) in runtime.block_on(folded_on_each(&records, batch)) {
            prop_assert_eq!(&found, &expected);
            prop_assert!(!touching);
        }
    }
}

/// A device, ranges with their lengths, and whether they are acknowledged.
type Said = (u8, Vec<(i64, i64)>, bool);

async fn folded_on_each(records: &[Said], batch: usize) -> Vec<(BTreeMap<(u8, bool), BTreeSet<i64>>, bool)> {
    let mut all = Vec::new();
    for fixture in Fixture::each().await {
        for some in records.chunks(batch) {
            let some = some.iter().map(|(device, ranges, acknowledged)| {
                let ranges = ranges.iter().map(|(from, length)| (*from, from + length)).collect::<Vec<_>>();
                let (offered, acked) = if *acknowledged { (&[][..], &ranges[..]) } else { (&ranges[..], &[][..]) };
                cursor(&device.to_string(), offered, acked)
            });
            fixture.fold(cursors(some.collect())).await;
        }
        all.push(stored(&fixture.store).await);
    }
    all
}

/// The offsets in all rows by device and whether they are acknowledged, and whether any row touches the next.
async fn stored(store: &Store) -> (BTreeMap<(u8, bool), BTreeSet<i64>>, bool) {
    let rows: Vec<(String, String, i64, i64)> = run!(&mut store.reader().await.unwrap(), |it| {
        sqlx::query_as("SELECT device_id, kind, from_offset, to_offset FROM stretches ORDER BY device_id, kind, from_offset")
            .fetch_all(it)
            .await
            .unwrap()
    });
    let touching = rows.windows(2).any(|pair| (&pair[0].0, &pair[0].1) == (&pair[1].0, &pair[1].1) && pair[0].3 >= pair[1].2);
    let mut found = BTreeMap::<(u8, bool), BTreeSet<i64>>::new();
    for (device, kind, from, to) in rows {
        found.entry((device.parse().unwrap(), kind == "acknowledged")).or_default().extend(from..to);
    }
    (found, touching)
}
