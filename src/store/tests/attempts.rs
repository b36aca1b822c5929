//! Tests of what was tried, and what waits.

use tidings_core::record::retry::{Attempt, Delivery, Outcome, Sink};

use super::inbox::{received, user, withdrawn};
use super::retention::{at, short, trim};
use super::*;

const HOUR_MS: i64 = 3_600_000;

/// A record of the ladder, of the notification of that number at that offset, after so many attempts.
pub(super) fn tried(id: u128, offset: i64, made: usize) -> Tried {
    let attempt = |number: usize| Attempt {
        at: Timestamp::from_millis(i64::try_from(number).unwrap()),
        node: "node-1".parse().unwrap(),
        sink: Sink::Websocket,
        outcome: if number == 1 { Outcome::Offline } else { Outcome::Unacknowledged },
        next_at: None,
        by: None,
    };
    let delivery = Delivery {
        channel: mailbox(),
        notification: notified(id, offset).record.notification,
        epoch: EPOCH,
        offset,
        appended_at: Some(Timestamp::from_millis(1_000 + offset)),
        ladder: None,
        attempts_forgotten: 0,
        attempts: (1..=made).map(attempt).collect(),
    };
    let next_at = Timestamp::from_millis(HOUR_MS);
    Tried { delivery, undelivered: None, next_at, home: 0, topic: "retry.30s".into(), partition: 0 }
}

fn ended(id: u128, offset: i64, made: usize) -> Tried {
    Tried { undelivered: Some(Outcome::Unacknowledged), ..tried(id, offset, made) }
}

/// The same in another mailbox.
fn of(mailbox: &str, mut tried: Tried) -> Tried {
    tried.delivery.channel = mailbox.parse().unwrap();
    tried
}

pub(super) fn ladder(attempts: Vec<Tried>) -> Fold {
    Fold { attempts, ..Fold::default() }
}

fn wanted(limit: usize) -> PendingWanted {
    let limit = NonZeroUsize::new(limit).unwrap();
    PendingWanted { outcome: None, after: None, limit, now: Timestamp::from_millis(10_000) }
}

/// Mailboxes and offsets of what waits on the rungs.
async fn waits(fixture: &Fixture, wanted: &PendingWanted) -> Vec<(String, i64)> {
    let page = fixture.store.pending(wanted).await.unwrap();
    page.items.iter().map(|item| (item.place.channel.to_string(), item.place.offset)).collect()
}

/// Offsets of what waits in the mailbox.
async fn waits_in_mailbox(fixture: &Fixture) -> Vec<i64> {
    let page = fixture.store.pending_of(&user(), &wanted(100)).await.unwrap();
    page.items.iter().map(|item| item.place.offset).collect()
}

/// Folds both, in one order and in the other, each with what it then holds.
async fn either_way(fixtures: [Fixture; 2], [one, other]: [Fold; 2], check: impl AsyncFn(&Fixture)) {
    let [first, second] = fixtures;
    for (fixture, folds) in [(first, [one.clone(), other.clone()]), (second, [other, one])] {
        fixture.fold(notifications(0, 10, vec![notified(1, 3), notified(2, 6)])).await;
        for fold in folds {
            fixture.fold(fold).await;
        }
        check(&fixture).await;
    }
}

/// Each test twice on SQLite, or on PostgreSQL, where two stand beside each other.
macro_rules! pairs_on_both {
    ($($name:ident),* $(,)?) => {
        mod pairs_on_sqlite {
            $(#[tokio::test] async fn $name() {
                super::$name([$crate::store::tests::Fixture::sqlite().await, $crate::store::tests::Fixture::sqlite().await]).await;
            })*
        }
        mod pairs_on_postgres {
            $(#[tokio::test] async fn $name() {
                if let (Some(one), Some(other)) =
                    ($crate::store::tests::Fixture::postgres().await, $crate::store::tests::Fixture::postgres().await)
                {
                    super::$name([one, other]).await;
                }
            })*
        }
    };
}

pairs_on_both! {
    the_record_with_the_most_attempts_is_told_whichever_was_folded_first,
    an_ended_ladder_waits_no_more_until_somebody_begins_it_anew,
    what_is_acknowledged_waits_no_more_whichever_was_folded_first,
    what_is_withdrawn_waits_no_more_whichever_was_folded_first,
}

on_both! {
    pages_hold_each_that_waits_once_in_the_order_of_mailboxes,
    of_one_user_all_waits_that_nobody_has_acknowledged,
    what_has_expired_waits_no_more_and_attempts_go_with_the_ids,
    of_what_ended_only_another_ladder_is_tried_again,
    what_ended_without_success_is_told_for_as_long_as_the_log_has_it_although_its_id_is_forgotten,
    what_was_carried_over_waits_where_it_lies_now_and_is_closed_by_what_is_said_of_it_there,
    what_was_acknowledged_where_it_was_carried_to_does_not_wait_when_its_attempts_are_folded_late,
}

async fn the_record_with_the_most_attempts_is_told_whichever_was_folded_first(fixtures: [Fixture; 2]) {
    // The third record of a ladder lies on another topic than the first two.
    let folds = [ladder(vec![tried(1, 3, 1), tried(1, 3, 2)]), ladder(vec![tried(1, 3, 3)])];
    either_way(fixtures, folds, async |fixture: &Fixture| {
        let page = fixture.store.pending(&wanted(10)).await.unwrap();
        let told = page.items[0].tried.clone().unwrap();
        assert_eq!((told.made, told.attempts.len(), told.outcome), (3, 3, Outcome::Unacknowledged));
        let about = fixture.store.state_of(id_of(1)).await.unwrap().unwrap();
        assert_eq!(about.tried, Some(told));
        assert_eq!(fixture.store.state_of(id_of(2)).await.unwrap().unwrap().tried, None);
    })
    .await;
}

async fn an_ended_ladder_waits_no_more_until_somebody_begins_it_anew(fixtures: [Fixture; 2]) {
    let folds = [ladder(vec![tried(1, 3, 2)]), ladder(vec![ended(1, 3, 2)])];
    either_way(fixtures, folds, async |fixture: &Fixture| {
        assert_eq!(waits(fixture, &wanted(10)).await, []);
        assert_eq!(waits_in_mailbox(fixture).await, [6], "nothing was tried of this one");
        assert!(fixture.store.state_of(id_of(1)).await.unwrap().unwrap().tried.unwrap().is_undelivered);
        fixture.fold(ladder(vec![tried(1, 3, 3)])).await;
        assert_eq!(waits(fixture, &wanted(10)).await, [("user-1".to_owned(), 3)]);
        assert_eq!(waits_in_mailbox(fixture).await, [3, 6]);
    })
    .await;
}

async fn what_is_acknowledged_waits_no_more_whichever_was_folded_first(fixtures: [Fixture; 2]) {
    let folds = [ladder(vec![tried(1, 3, 1), tried(2, 6, 1)]), cursors(vec![cursor("a", &[(0, 10)], &[(0, 4)])])];
    either_way(fixtures, folds, async |fixture: &Fixture| {
        assert_eq!(waits(fixture, &wanted(10)).await, [("user-1".to_owned(), 6)]);
        let counts = fixture.store.pending_counts(Timestamp::from_millis(0)).await.unwrap();
        assert_eq!(counts, PendingCounts { offline: 1, unacknowledged: 0 });
    })
    .await;
}

async fn what_is_withdrawn_waits_no_more_whichever_was_folded_first(fixtures: [Fixture; 2]) {
    let receipts = vec![received(withdrawn(mailbox(), 1), 2_000)];
    let folds = [ladder(vec![tried(1, 3, 1), tried(2, 6, 2)]), Fold { receipts, ..Fold::default() }];
    either_way(fixtures, folds, async |fixture: &Fixture| {
        assert_eq!(waits(fixture, &wanted(10)).await, [("user-1".to_owned(), 6)]);
        assert_eq!(waits_in_mailbox(fixture).await, [6]);
        let counts = fixture.store.pending_counts(Timestamp::from_millis(0)).await.unwrap();
        assert_eq!(counts, PendingCounts { offline: 0, unacknowledged: 1 });
    })
    .await;
}

async fn pages_hold_each_that_waits_once_in_the_order_of_mailboxes(fixture: Fixture) {
    let mailboxes = ["user-1", "user-2", "user-3"];
    let (mut records, mut attempts) = (Vec::new(), Vec::new());
    for offset in 0..30 {
        let mailbox = mailboxes[offset as usize % 3];
        let mut one = notified(offset as u128, offset);
        one.record.channel = mailbox.parse().unwrap();
        records.push(one);
        attempts.push(of(mailbox, tried(offset as u128, offset, 1 + offset as usize % 2)));
    }
    fixture.fold(notifications(0, 30, records)).await;
    fixture.fold(ladder(attempts)).await;
    let expected =
        mailboxes.iter().zip(0..).flat_map(|(mailbox, first)| (0..10).map(move |row| (mailbox.to_string(), first + 3 * row)));
    let expected = expected.collect::<Vec<_>>();
    for limit in [1, 7, 29, 30, 31] {
        let (mut wanted, mut paged) = (wanted(limit), Vec::new());
        loop {
            let page = fixture.store.pending(&wanted).await.unwrap();
            assert!(page.items.len() == limit || page.next.is_none());
            paged.extend(page.items.iter().map(|item| (item.place.channel.to_string(), item.place.offset)));
            let Some(next) = page.next else { break };
            wanted.after = Some(next.to_string().parse().unwrap());
        }
        assert_eq!(paged, expected, "in pages of {limit}");
    }
    let offline = PendingWanted { outcome: Some(Outcome::Offline), ..wanted(100) };
    let offline = waits(&fixture, &offline).await;
    assert!(offline.len() == 15 && offline.iter().all(|(_, offset)| offset % 2 == 0), "{offline:?}");
}

async fn of_one_user_all_waits_that_nobody_has_acknowledged(fixture: Fixture) {
    let mut expired = notified(9, 9);
    expired.record.notification.expires_at = Some(Timestamp::from_millis(10_000));
    let records = vec![notified(1, 1), notified(2, 3), notified(3, 5), notified(4, 7), expired];
    fixture.fold(notifications(0, 10, records)).await;
    fixture.fold(cursors(vec![cursor("a", &[(0, 6)], &[(0, 2)]), cursor("b", &[(5, 10)], &[(5, 6)])])).await;
    fixture.fold(ladder(vec![tried(2, 3, 1)])).await;
    let page = fixture.store.pending_of(&user(), &wanted(1)).await.unwrap();
    assert_eq!((page.items[0].place.offset, page.items[0].tried.as_ref().map(|tried| tried.made)), (3, Some(1)));
    let delivery = page.items[0].delivery();
    assert_eq!((delivery.made(), delivery.offset, &delivery.notification), (1, 3, &notified(2, 3).record.notification));
    let rest = fixture.store.pending_of(&user(), &PendingWanted { after: page.next, ..wanted(10) }).await.unwrap();
    let rest = rest.items.iter().map(|item| (item.place.offset, item.tried.is_some())).collect::<Vec<_>>();
    assert_eq!(rest, [(7, false)]);
}

async fn what_has_expired_waits_no_more_and_attempts_go_with_the_ids(fixture: Fixture) {
    let expires = |mut one: Tried| {
        one.delivery.notification.expires_at = Some(Timestamp::from_millis(2 * HOUR_MS));
        one
    };
    let attempts = vec![expires(tried(1, 0, 1)), tried(2, 1, 1)];
    let fold_at = async |id: u128, offset: i64, hour: i64| {
        let moves =
            vec![Move { clock: Some(Timestamp::from_millis(hour * HOUR_MS)), ..step("notifications", offset, offset + 1) }];
        fixture.fold(Fold { moves, notifications: vec![at(id, offset, hour)], ..Fold::default() }).await;
    };
    fold_at(1, 0, 0).await;
    fold_at(2, 1, 0).await;
    fixture.fold(ladder(attempts)).await;
    let counted = async |now: i64| fixture.store.pending_counts(Timestamp::from_millis(now)).await.unwrap().offline;
    assert_eq!([counted(0).await, counted(2 * HOUR_MS).await], [2, 1]);
    fold_at(3, 2, 3).await;
    trim(&fixture, &short()).await;
    assert_eq!(counted(0).await, 1, "closed by the log's clock");
    fold_at(4, 3, 22).await;
    trim(&fixture, &short()).await;
    assert_eq!(counted(0).await, 0);
    assert!(super::tables::dump(&fixture.store).await.iter().all(|line| !line.starts_with("attempts")), "forgotten");
}

async fn of_what_ended_only_another_ladder_is_tried_again(fixture: Fixture) {
    fixture.fold(notifications(0, 10, vec![notified(1, 3), notified(2, 6)])).await;
    fixture.fold(ladder(vec![ended(1, 3, 2), of("user-2", ended(1, 3, 5)), ended(2, 6, 4)])).await;
    let asked =
        |id: u128, offset: i64, epoch: Epoch, made: u32| (Asked { channel: mailbox(), id: id_of(id), epoch, offset }, made);
    let again = async |asked: &[(Asked, u32)]| fixture.store.are_tried_again(asked).await.unwrap();
    let ends = [asked(1, 3, EPOCH, 2), asked(2, 6, EPOCH, 4), asked(9, 9, EPOCH, 0)];
    assert_eq!(again(&ends).await, [false, false, false]);
    fixture.fold(ladder(vec![tried(1, 3, 3)])).await;
    assert_eq!(again(&ends).await, [true, false, false]);
    // It has ended again: that end is another one.
    fixture.fold(ladder(vec![ended(1, 3, 4)])).await;
    assert_eq!(
        again(&[ends[0].clone(), asked(1, 3, EPOCH, 4), asked(1, 3, super::epochs::LATER, 0)]).await,
        [true, false, false]
    );
    assert_eq!(again(&[]).await, [] as [bool; 0]);
}

async fn what_ended_without_success_is_told_for_as_long_as_the_log_has_it_although_its_id_is_forgotten(fixture: Fixture) {
    let fold_at = async |id: u128, offset: i64, hour: i64, attempts: Vec<Tried>| {
        let clock = Some(Timestamp::from_millis(hour * HOUR_MS));
        let moves = vec![Move { clock, ..step("notifications", offset, offset + 1) }];
        fixture.fold(Fold { moves, notifications: vec![at(id, offset, hour)], attempts, ..Fold::default() }).await;
    };
    fold_at(1, 0, 0, vec![ended(1, 0, 2)]).await;
    fold_at(2, 1, 0, vec![tried(2, 1, 2)]).await;
    let known = async |id: u128| fixture.store.state_of(id_of(id)).await.unwrap();
    // Rows are kept for 10 hours, ids for 20, and undelivered for 40.
    fold_at(3, 2, 22, Vec::new()).await;
    trim(&fixture, &short()).await;
    let about = known(1).await.expect("it is on undelivered");
    assert_eq!((about.record, about.tried.map(|tried| (tried.made, tried.is_undelivered))), (None, Some((2, true))));
    assert_eq!(known(2).await, None);
    fold_at(4, 3, 42, Vec::new()).await;
    trim(&fixture, &short()).await;
    assert_eq!(known(1).await, None);
}

/// The notification 1 was tried in its epoch, and is carried over to the next.
async fn carry_over(fixture: &Fixture) {
    fixture.fold(notifications(0, 10, vec![notified(1, 3)])).await;
    super::epochs::fold_later(fixture, 3, vec![Notified { offset: 2, ..notified(1, 3) }]).await;
}

/// That a device has acknowledged it there.
fn said_there() -> Fold {
    let mut heard = cursor("a", &[(0, 5)], &[(0, 5)]);
    heard.epoch = super::epochs::LATER;
    cursors(vec![heard])
}

async fn open(fixture: &Fixture) -> u64 {
    let counts = fixture.store.pending_counts(Timestamp::from_millis(0)).await.unwrap();
    counts.offline + counts.unacknowledged
}

async fn what_was_carried_over_waits_where_it_lies_now_and_is_closed_by_what_is_said_of_it_there(fixture: Fixture) {
    carry_over(&fixture).await;
    let mut other = notified(2, 6);
    other.record.channel = "user-2".parse().unwrap();
    fixture.fold(notifications(10, 20, vec![other])).await;
    fixture.fold(ladder(vec![tried(1, 3, 2), of("user-2", tried(2, 6, 1))])).await;
    let page = fixture.store.pending(&wanted(1)).await.unwrap();
    let item = &page.items[0];
    assert_eq!((item.place.epoch, item.place.offset), (super::epochs::LATER, 2));
    assert_eq!((item.delivery().epoch, item.delivery().offset, item.delivery().made()), (super::epochs::LATER, 2, 2));
    let rest = fixture.store.pending(&PendingWanted { after: page.next, ..wanted(1) }).await.unwrap();
    assert_eq!(rest.items.iter().map(|item| item.place.channel.as_str()).collect::<Vec<_>>(), ["user-2"]);
    assert_eq!(open(&fixture).await, 2);
    fixture.fold(said_there()).await;
    assert_eq!(open(&fixture).await, 1);
}

async fn what_was_acknowledged_where_it_was_carried_to_does_not_wait_when_its_attempts_are_folded_late(fixture: Fixture) {
    carry_over(&fixture).await;
    fixture.fold(said_there()).await;
    fixture.fold(ladder(vec![tried(1, 3, 2)])).await;
    assert_eq!(open(&fixture).await, 0);
}
