//! Tests of what recovery asks.

use super::*;

pub(super) fn course() -> Course {
    Course { channel: mailbox(), epoch: EPOCH, topic: "notifications".into(), partition: 0 }
}

pub(super) fn offsets(records: &[Notified]) -> Vec<i64> {
    records.iter().map(|record| record.offset).collect()
}

/// As large as it may be, with so many records.
pub(super) fn page(records: usize) -> PageSize {
    PageSize { records, bytes: usize::MAX }
}

fn every_third(until: i64) -> Vec<Notified> {
    (0..until).step_by(3).map(|offset| notified(offset as u128, offset)).collect()
}

on_both! {
    a_gap_comes_page_by_page_as_it_was_written_and_ends_where_it_was_asked_to,
    a_page_ends_behind_the_record_that_fills_it_and_the_next_one_begins_there,
    a_gap_holds_nothing_of_other_channels_or_epochs,
    what_lies_below_the_projections_beginning_may_be_missing_and_is_told,
    the_newest_come_oldest_first,
    a_devices_cursors_are_what_all_its_records_said,
    the_first_within_ranges_is_told_if_it_has_not_expired,
    the_oldest_pending_is_the_first_that_no_device_acknowledged_and_that_has_not_expired,
    nothing_that_recovery_asks_reads_a_whole_table,
}

async fn a_gap_comes_page_by_page_as_it_was_written_and_ends_where_it_was_asked_to(fixture: Fixture) {
    fixture.fold(notifications(0, 40, every_third(40))).await;
    let first = fixture.store.gap(&course(), 4..37, page(5)).await.unwrap();
    assert_eq!((offsets(&first.records), first.next), (vec![6, 9, 12, 15, 18], Some(19)));
    assert_eq!(first.records[0], notified(6, 6));
    assert_eq!((first.trimmed, first.projected), (0, Some(40)));
    let second = fixture.store.gap(&course(), 19..37, page(5)).await.unwrap();
    assert_eq!((offsets(&second.records), second.next), (vec![21, 24, 27, 30, 33], Some(34)));
    let last = fixture.store.gap(&course(), 34..37, page(5)).await.unwrap();
    assert_eq!((offsets(&last.records), last.next), (vec![36], None));
    let full = fixture.store.gap(&course(), 34..37, page(1)).await.unwrap();
    assert_eq!((offsets(&full.records), full.next), (vec![36], None), "nothing is left of what was asked");
}

async fn a_page_ends_behind_the_record_that_fills_it_and_the_next_one_begins_there(fixture: Fixture) {
    let mut all = every_third(30);
    all[2].record.notification.message = Some("x".repeat(1_000));
    fixture.fold(notifications(0, 30, all)).await;
    let gap = async |from, bytes| {
        let gap = fixture.store.gap(&course(), from..30, PageSize { records: 5, bytes }).await.unwrap();
        (offsets(&gap.records), gap.next)
    };
    assert_eq!(gap(0, 1).await, (vec![0], Some(1)), "never less than one");
    assert_eq!(gap(0, 1_200).await, (vec![0, 3, 6], Some(7)));
    assert_eq!(gap(6, 1).await, (vec![6], Some(7)));
    assert_eq!(gap(7, 100_000).await, (vec![9, 12, 15, 18, 21], Some(22)));
    assert_eq!(gap(27, 1).await, (vec![27], None), "it was the last");
    assert_eq!(gap(28, 1).await, (vec![], None));
}

async fn a_gap_holds_nothing_of_other_channels_or_epochs(fixture: Fixture) {
    fixture.fold(notifications(0, 10, every_third(10))).await;
    let elsewhere = Course { channel: "user-2".parse().unwrap(), ..course() };
    let gap = fixture.store.gap(&elsewhere, 0..10, page(5)).await.unwrap();
    assert_eq!(gap, Gap { records: Vec::new(), next: None, trimmed: 0, projected: Some(10) });
    let later = Course { epoch: Epoch(4), ..course() };
    let gap = fixture.store.gap(&later, 0..10, page(5)).await.unwrap();
    assert_eq!(gap, Gap { records: Vec::new(), next: None, trimmed: 0, projected: None });
}

async fn what_lies_below_the_projections_beginning_may_be_missing_and_is_told(fixture: Fixture) {
    fixture.store.claim(Epoch(4), &[standing("notifications", 30)]).await.unwrap();
    let later = Course { epoch: Epoch(4), ..course() };
    assert_eq!(fixture.store.trimmed(&later).await.unwrap(), 30);
    assert_eq!(fixture.store.trimmed(&course()).await.unwrap(), 0);
    let lost = Move { is_loss: true, ..step("notifications", 0, 25) };
    fixture.fold(Fold { moves: vec![lost], ..Fold::default() }).await;
    assert_eq!(fixture.store.trimmed(&course()).await.unwrap(), 25);
    assert_eq!(fixture.store.projected(&course()).await.unwrap(), Some(25));
}

async fn the_newest_come_oldest_first(fixture: Fixture) {
    fixture.fold(notifications(0, 40, every_third(40))).await;
    assert_eq!(offsets(&fixture.store.newest(&course(), 3).await.unwrap()), [33, 36, 39]);
    assert_eq!(fixture.store.newest(&course(), 100).await.unwrap().len(), 14);
}

async fn a_devices_cursors_are_what_all_its_records_said(fixture: Fixture) {
    fixture.fold(cursors(vec![cursor("a", &[(0, 10)], &[(0, 5)]), cursor("b", &[(0, 3)], &[(1, 3)])])).await;
    fixture.fold(cursors(vec![cursor("a", &[(10, 20)], &[(6, 8)])])).await;
    let user = "1".parse().unwrap();
    let known = async |device: &str, channels: &[&str]| {
        let channels = channels.iter().map(|name| name.parse().unwrap()).collect::<Vec<Channel>>();
        fixture.store.cursors((&user, &device.parse().unwrap()), &channels).await.unwrap()
    };
    assert_eq!(known("a", &["booking-updates", "user-1"]).await, [cursor("a", &[(0, 20)], &[(0, 5), (6, 8)])]);
    assert_eq!(known("c", &["user-1"]).await, []);
    assert_eq!(known("a", &["booking-updates"]).await, []);
    assert_eq!(known("a", &[]).await, []);
}

async fn the_first_within_ranges_is_told_if_it_has_not_expired(fixture: Fixture) {
    let now = Timestamp::from_millis(5_000);
    let mut all = every_third(31);
    all[2].record.notification.expires_at = Some(now);
    fixture.fold(notifications(0, 31, all)).await;
    let first = async |ranges: &[(i64, i64)]| {
        let ranges = ranges.iter().map(|(from, to)| Stretch { from: *from, to: *to }).collect::<Vec<_>>();
        fixture.store.first_within(&course(), &ranges, now).await.unwrap()
    };
    assert_eq!(first(&[(1, 3), (4, 8), (13, 40)]).await, Some(15), "the one at 6 has expired");
    assert_eq!(first(&[(1, 3)]).await, None);
    assert_eq!(first(&[]).await, None);
}

async fn the_oldest_pending_is_the_first_that_no_device_acknowledged_and_that_has_not_expired(fixture: Fixture) {
    let user = "1".parse().unwrap();
    let now = Timestamp::from_millis(5_000);
    let pending = async || fixture.store.oldest_pending(EPOCH, &user, now).await.unwrap();
    assert_eq!(pending().await, None);
    let mut all = every_third(31);
    all[4].record.notification.expires_at = Some(now);
    fixture.fold(notifications(0, 31, all)).await;
    assert_eq!(pending().await, Some(0));
    // What is offered is not acknowledged; what any device acknowledged is.
    fixture.fold(cursors(vec![cursor("a", &[(0, 31)], &[(0, 3), (4, 8)]), cursor("b", &[], &[(3, 4)])])).await;
    assert_eq!(pending().await, Some(9));
    fixture.fold(cursors(vec![cursor("a", &[], &[(9, 10), (20, 31)])])).await;
    assert_eq!(pending().await, Some(15), "the one at 12 has expired");
    fixture.fold(cursors(vec![cursor("a", &[], &[(15, 19)])])).await;
    assert_eq!(pending().await, None);
}

/// Whatever is asked while devices come back by the thousand is found by an index.
async fn nothing_that_recovery_asks_reads_a_whole_table(fixture: Fixture) {
    fixture.fold(notifications(0, 40, every_third(40))).await;
    let asked = [
        "SELECT \"offset\" FROM notifications WHERE channel = 'c' AND epoch = 1 AND \"offset\" >= 1 AND \"offset\" < 9
         AND body IS NOT NULL ORDER BY \"offset\" LIMIT 5",
        "SELECT \"offset\" FROM notifications WHERE channel = 'c' AND epoch = 1 AND body IS NOT NULL ORDER BY \"offset\" DESC LIMIT 3",
        "SELECT seq FROM notifications WHERE channel = 'c' AND body IS NOT NULL ORDER BY seq DESC LIMIT 1",
        "SELECT kind FROM stretches WHERE user_id = 'u' AND channel = 'c' AND device_id = 'd'",
    ];
    for sql in asked {
        let plan = explained(&fixture.store, sql).await;
        assert!(!plan.contains("SCAN") && !plan.contains("Seq Scan"), "{sql}\n{plan}");
        assert!(!plan.contains("TEMP B-TREE") && !plan.contains("Sort"), "{sql}\n{plan}");
    }
}

/// How the database would find what is asked.
async fn explained(store: &Store, sql: &str) -> String {
    let mut reader = store.reader().await.unwrap();
    let explain = match reader {
        Connection::Sqlite(_) => format!("EXPLAIN QUERY PLAN {sql}"),
        Connection::Postgres(_) => format!("EXPLAIN {sql}"),
    };
    let rows = run!(&mut reader, |it| {
        let rows = sqlx::query(sqlx::AssertSqlSafe(explain)).fetch_all(it).await.unwrap();
        rows.iter().map(|row| row.get::<String, _>(row.len() - 1)).collect::<Vec<_>>()
    });
    rows.join("\n")
}
