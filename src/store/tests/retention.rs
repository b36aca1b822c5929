//! Tests of what goes, and of what is remembered of it.

use super::recover::{course, offsets, page};
use super::tables::dump;
use super::*;

pub(super) const HOUR_MS: i64 = 3_600_000;

fn ours() -> Ours {
    Ours {
        notifications: vec![("notifications".into(), 0)],
        cursors: vec![("cursors".into(), 0)],
        receipts: vec![("receipts".into(), 0)],
    }
}

/// What is kept of the mailbox, by its offsets.
async fn left(fixture: &Fixture) -> Vec<i64> {
    offsets(&fixture.store.gap(&course(), 0..i64::MAX, page(10_000)).await.unwrap().records)
}

/// Folds records of the mailbox that were appended at these hours, one offset after the other.
async fn fold_at(fixture: &Fixture, retention: &Retention, from: i64, hours: &[i64]) {
    let records = hours.iter().zip(from..).map(|(hour, offset)| at(offset as u128, offset, *hour));
    fold_records(fixture, retention, records.collect()).await;
}

pub(super) fn at(id: u128, offset: i64, hour: i64) -> Notified {
    Notified { appended: Timestamp::from_millis(hour * HOUR_MS), ..notified(id, offset) }
}

async fn fold_records(fixture: &Fixture, retention: &Retention, records: Vec<Notified>) {
    let (first, last) = (records[0].offset, records.last().unwrap());
    let moves = vec![Move { clock: Some(last.appended), ..step("notifications", first, last.offset + 1) }];
    let fold = Fold { moves, notifications: records, ..Fold::default() };
    assert!(matches!(fixture.store.fold(EPOCH, retention, &fold).await.unwrap(), Folded::Committed { .. }));
}

pub(super) fn short() -> Retention {
    let hours = |hours: u64| Duration::from_hours(hours);
    Retention { rows: hours(10), ids: hours(20), undelivered: hours(40), devices: hours(30), receipts: hours(30), ..retention() }
}

/// Trims until nothing is left to do, and says what was done.
pub(super) async fn trim(fixture: &Fixture, retention: &Retention) -> Trimmed {
    let mut done = Trimmed::default();
    loop {
        let step = fixture.store.trim(EPOCH, retention, &ours()).await.unwrap();
        done.notifications += step.notifications;
        done.ids += step.ids;
        done.devices += step.devices;
        done.receipts += step.receipts;
        if !step.is_full() {
            return done;
        }
    }
}

on_both! {
    an_id_that_comes_again_with_another_content_is_a_conflict_and_what_was_said_first_stays,
    an_id_that_comes_again_for_others_is_a_conflict_and_one_that_does_not_read_is_none,
    what_is_older_than_its_retention_by_the_logs_clock_goes_and_that_is_told,
    trimming_takes_small_steps,
    a_partition_that_stands_still_keeps_what_it_has,
    a_mailbox_and_any_other_channel_keep_their_newest,
    an_id_outlives_its_row_and_a_replay_cannot_bring_it_back_before_the_log_has_forgotten_it,
    a_device_that_was_silent_for_too_long_is_forgotten_and_comes_back_as_a_new_one,
    what_devices_said_goes_with_the_ids_it_was_said_of_but_for_the_last,
}

async fn what_is_older_than_its_retention_by_the_logs_clock_goes_and_that_is_told(fixture: Fixture) {
    fold_at(&fixture, &short(), 0, &[0, 3, 5, 9, 9, 13]).await;
    assert_eq!(trim(&fixture, &short()).await.notifications, 2, "those of the hours 0 and 3");
    assert_eq!(left(&fixture).await, [2, 3, 4, 5]);
    assert_eq!(fixture.store.trimmed(&course()).await.unwrap(), 2);
    assert_eq!(fixture.store.gap(&course(), 1..6, page(9)).await.unwrap().trimmed, 2);
    assert_eq!(trim(&fixture, &short()).await, Trimmed::default(), "no time has passed on the log");
}

async fn trimming_takes_small_steps(fixture: Fixture) {
    let mut hours = vec![0; 1200];
    hours.push(100);
    let wide = Retention { mailbox_rows: NonZeroUsize::new(5000).unwrap(), ..short() };
    fold_at(&fixture, &wide, 0, &hours).await;
    let step = fixture.store.trim(EPOCH, &wide, &ours()).await.unwrap();
    assert_eq!((step.notifications, step.is_full()), (500, true));
    assert_eq!(left(&fixture).await.len(), 701);
    let rest = trim(&fixture, &wide).await;
    assert_eq!((step.notifications + rest.notifications, step.ids + rest.ids), (1200, 1200));
    assert_eq!(left(&fixture).await, [1200]);
}

async fn a_partition_that_stands_still_keeps_what_it_has(fixture: Fixture) {
    fold_at(&fixture, &short(), 0, &[0, 1]).await;
    let elsewhere = Move { clock: Some(Timestamp::from_millis(99 * HOUR_MS)), ..step("cursors", 0, 1) };
    fixture.fold(Fold { moves: vec![elsewhere], ..Fold::default() }).await;
    assert_eq!(trim(&fixture, &short()).await, Trimmed::default());
    assert_eq!(left(&fixture).await, [0, 1]);
}

async fn a_mailbox_and_any_other_channel_keep_their_newest(fixture: Fixture) {
    let rows = |rows: usize| NonZeroUsize::new(rows).unwrap();
    let few = Retention { mailbox_rows: rows(5), channel_rows: rows(2), ..retention() };
    let elsewhere = |offset: i64| {
        let mut one = notified(offset as u128, offset);
        one.record.channel = "booking-updates".parse().unwrap();
        one
    };
    let records = (0..16).map(|offset| if offset % 2 == 0 { notified(offset as u128, offset) } else { elsewhere(offset) });
    for some in records.collect::<Vec<_>>().chunks(3) {
        fold_records(&fixture, &few, some.to_vec()).await;
    }
    assert_eq!(left(&fixture).await, [6, 8, 10, 12, 14]);
    assert_eq!(fixture.store.trimmed(&course()).await.unwrap(), 5);
    let other = Course { channel: "booking-updates".parse().unwrap(), ..course() };
    let gap = fixture.store.gap(&other, 0..16, page(9)).await.unwrap();
    assert_eq!((offsets(&gap.records), gap.trimmed), (vec![13, 15], 12));
}

async fn an_id_outlives_its_row_and_a_replay_cannot_bring_it_back_before_the_log_has_forgotten_it(fixture: Fixture) {
    fold_records(&fixture, &short(), vec![at(1, 0, 0), at(2, 1, 12)]).await;
    trim(&fixture, &short()).await;
    assert_eq!(left(&fixture).await, [1]);
    fold_records(&fixture, &short(), vec![at(1, 2, 19)]).await;
    assert_eq!(left(&fixture).await, [1], "its id is remembered");
    assert_eq!(fixture.evidence(1, 2).await.first_offset, Some(0));
    // Remembered no more, whether or not it was trimmed by now.
    fold_records(&fixture, &short(), vec![at(1, 3, 20), at(2, 4, 21)]).await;
    assert_eq!(left(&fixture).await, [1, 3]);
    assert_eq!(fixture.evidence(1, 3).await.first_offset, Some(3));
    fold_records(&fixture, &short(), vec![at(2, 5, 33)]).await;
    assert_eq!(left(&fixture).await, [3, 5], "the row was too old, though nobody had trimmed it yet");
    assert_eq!(fixture.store.trimmed(&course()).await.unwrap(), 2);
}

async fn a_device_that_was_silent_for_too_long_is_forgotten_and_comes_back_as_a_new_one(fixture: Fixture) {
    let (user, device) = ("1".parse().unwrap(), "a".parse().unwrap());
    let known = async || fixture.store.cursors((&user, &device), &[mailbox()]).await.unwrap().pop();
    let heard = |name: &str, hour: i64, from: i64| Heard {
        record: cursor(name, &[(from, from + 1)], &[]),
        partition: 0,
        appended: Timestamp::from_millis(hour * HOUR_MS),
    };
    let fold = async |from: i64, cursors: Vec<Heard>| {
        let to = from + cursors.len() as i64;
        let moves = vec![Move { clock: Some(cursors.last().unwrap().appended), ..step("cursors", from, to) }];
        let fold = Fold { moves, cursors, ..Fold::default() };
        assert!(matches!(fixture.store.fold(EPOCH, &short(), &fold).await.unwrap(), Folded::Committed { .. }));
    };
    fold(0, vec![heard("a", 0, 0), heard("b", 29, 0)]).await;
    assert_eq!(trim(&fixture, &short()).await.devices, 0);
    fold(2, vec![heard("b", 30, 2)]).await;
    assert_eq!(trim(&fixture, &short()).await.devices, 1);
    assert_eq!(known().await, None);
    // Silent for too long between two records: also if nobody came to forget it, and within one batch.
    fold(3, vec![heard("a", 31, 5)]).await;
    fold(4, vec![heard("a", 61, 7)]).await;
    assert_eq!(known().await, Some(cursor("a", &[(7, 8)], &[])));
    fold(5, vec![heard("a", 62, 9), heard("a", 92, 11)]).await;
    assert_eq!(known().await, Some(cursor("a", &[(11, 12)], &[])));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    /// Else a rebuild would not give the same tables; nor would the other database.
    #[test]
    fn however_the_log_is_cut_into_batches_and_trimmed_between_the_same_is_left(
        steps in prop::collection::vec((0..12_u128, 0..8_i64), 1..40),
        size in 1..9_usize,
    ) {
        let few = Retention { mailbox_rows: NonZeroUsize::new(6).unwrap(), ..short() };
        let mut hour = 0;
        let records = steps.iter().zip(0..).map(|((id, hours), offset)| {
            hour += hours;
            at(*id, offset, hour)
        });
        let records = records.collect::<Vec<_>>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dumps = runtime.block_on(async {
            let mut dumps = Vec::new();
            for size in [size, records.len()] {
                for fixture in Fixture::each().await {
                    for some in records.chunks(size) {
                        fold_records(&fixture, &few, some.to_vec()).await;
                        trim(&fixture, &few).await;
                    }
                    dumps.push(dump(&fixture.store).await);
                }
            }
            dumps
        });
        for dump in &dumps {
            prop_assert_eq!(dump, &dumps[0]);
        }
    }
}

async fn an_id_that_comes_again_for_others_is_a_conflict_and_one_that_does_not_read_is_none(fixture: Fixture) {
    let everyone = |id: u128, offset: i64, exclude: &str| {
        let mut one = notified(id, offset);
        one.record.channel = Channel::everyone();
        one.record.notification = notified(id, 0).record.notification;
        one.record.exclude = vec![exclude.parse().unwrap()];
        one
    };
    fixture.fold(notifications(0, 2, vec![everyone(1, 0, "7"), everyone(2, 1, "7")])).await;
    let damage = format!("UPDATE notifications SET body = '{{' WHERE id = '{}'", id_of(2));
    let mut writer = fixture.store.writer().await.unwrap();
    run!(&mut writer, |it| sqlx::raw_sql(sqlx::AssertSqlSafe(damage)).execute(it).await.map(|_| ())).unwrap();
    drop(writer);
    let again = notifications(2, 5, vec![everyone(1, 2, "7"), everyone(1, 3, "8"), everyone(2, 4, "7")]);
    let folded = fixture.store.fold(EPOCH, &retention(), &again).await.unwrap();
    assert_eq!(folded, Folded::Committed { conflicts: vec![Conflict { partition: 0, offset: 3 }], crowded_out: 0, lapsed: 0 });
}

async fn an_id_that_comes_again_with_another_content_is_a_conflict_and_what_was_said_first_stays(fixture: Fixture) {
    let mut later = Notified { offset: 1, ..notified(1, 0) };
    later.record.notification.created_at = Timestamp::from_millis(5);
    let folds = [vec![notified(1, 0), later, notified(1, 2)], vec![notified(1, 3), notified(2, 4)]];
    let mut found = Vec::new();
    for records in folds {
        let (first, last) = (records[0].offset, records.last().unwrap().offset);
        let fold = Fold { moves: vec![step("notifications", first, last + 1)], notifications: records, ..Fold::default() };
        let Folded::Committed { conflicts, .. } = fixture.store.fold(EPOCH, &retention(), &fold).await.unwrap() else {
            panic!("nobody else folds");
        };
        found.push(conflicts.iter().map(|conflict| (conflict.partition, conflict.offset)).collect::<Vec<_>>());
    }
    assert_eq!(found, [vec![(0, 2)], vec![(0, 3)]], "the same at another time is none");
    assert_eq!(left(&fixture).await, [0, 4]);
}

async fn what_devices_said_goes_with_the_ids_it_was_said_of_but_for_the_last(fixture: Fixture) {
    let known = async |device: &str| {
        let (user, device) = ("1".parse().unwrap(), device.parse().unwrap());
        fixture.store.cursors((&user, &device), &[mailbox()]).await.unwrap().pop().unwrap()
    };
    fold_records(&fixture, &short(), vec![at(1, 0, 0), at(2, 4, 1), at(3, 8, 15)]).await;
    let ends = cursor("ended", &[(0, 1)], &[(0, 1)]);
    let holes = cursor("holes", &[(0, 9)], &[(0, 1), (2, 3), (4, 5), (8, 9)]);
    fixture.fold(cursors(vec![ends.clone(), holes.clone()])).await;
    trim(&fixture, &short()).await;
    assert_eq!([known("ended").await, known("holes").await], [ends.clone(), holes], "all ids are remembered");
    fold_records(&fixture, &short(), vec![at(4, 9, 20)]).await;
    assert_eq!(trim(&fixture, &short()).await.ids, 1);
    let left = cursor("holes", &[(0, 9)], &[(2, 3), (4, 5), (8, 9)]);
    assert_eq!([known("ended").await, known("holes").await], [ends.clone(), left], "of the first nobody asks any more");
    fold_records(&fixture, &short(), vec![at(5, 10, 60)]).await;
    trim(&fixture, &short()).await;
    let last = cursor("holes", &[(0, 9)], &[(8, 9)]);
    assert_eq!([known("ended").await, known("holes").await], [ends, last], "a device goes on from its last");
}
