//! Tests of what becomes of receipts: in whatever order two topics are folded, and when they grow old.

use tidings_core::record::receipt::{MarkState, ReadState, ReceiptRecord};

use super::inbox::{all, state, up_to, withdrawn};
use super::retention::{HOUR_MS, at, short, trim};
use super::tables::dump;
use super::*;

/// What lies on two topics, each in its order.
#[derive(Debug, Clone, Default)]
struct Log {
    notifications: Vec<Notified>,
    receipts: Vec<Received>,
}

/// A step of time in hours, and what is appended then: a notification, or a receipt about one of those that are there.
type Step = (i64, u8, i64);

fn log(steps: &[Step]) -> Log {
    let (mut log, mut hour) = (Log::default(), 0);
    for (hours, what, id) in steps {
        hour += hours;
        let count = log.notifications.len() as i64;
        if *what <= 3 || count == 0 {
            log.notifications.push(at(count as u128, count, hour));
            continue;
        }
        let id = id % count;
        let record = match what {
            4 => state(ReadState::Read, &[id, (id + 1) % count]),
            5 => state(ReadState::Unread, &[id]),
            6 => state(ReadState::Seen, &[id]),
            7 => state(ReadState::Dismissed, &[id]),
            8 => up_to(MarkState::Read, id + 1),
            9 => up_to(MarkState::Seen, id + 1),
            _ => withdrawn(mailbox(), id),
        };
        log.receipts.push(receipt_at(record, hour));
    }
    log
}

/// All that a user can see of it. What was said of notifications that are gone is forgotten at leisure.
async fn shown(fixture: &Fixture) -> Vec<String> {
    let mut lines = dump(&fixture.store).await;
    lines.retain(|line| !["state ", "mark ", "withdrawn "].iter().any(|table| line.starts_with(table)));
    let wanted = ListWanted { dismissed: true, ..all(100) };
    let page = fixture.store.list(&super::inbox::user(), &[mailbox()], &wanted).await.unwrap();
    lines.extend(page.items.iter().map(|item| format!("{:?} {:?}", item.position, item.state)));
    lines
}

fn receipt_at(record: ReceiptRecord, hour: i64) -> Received {
    Received { record, partition: 0, appended: Timestamp::from_millis(hour * HOUR_MS) }
}

fn few() -> Retention {
    Retention { mailbox_rows: NonZeroUsize::new(6).unwrap(), ..short() }
}

/// Folds the next so many of each topic.
async fn fold_next(fixture: &Fixture, log: &Log, done: &mut (usize, usize), (notified, received): (usize, usize)) {
    let notifications = log.notifications.iter().skip(done.0).take(notified).cloned().collect::<Vec<_>>();
    let receipts = log.receipts.iter().skip(done.1).take(received).cloned().collect::<Vec<_>>();
    let clocks = [notifications.last().map(|one| one.appended), receipts.last().map(|one| one.appended)];
    let steps = [("notifications", done.0, notifications.len()), ("receipts", done.1, receipts.len())];
    let moves = steps
        .iter()
        .zip(clocks)
        .filter(|((_, _, count), _)| *count > 0)
        .map(|((topic, from, count), clock)| Move { clock, ..step(topic, *from as i64, (from + count) as i64) });
    let fold = Fold { moves: moves.collect(), notifications, receipts, ..Fold::default() };
    *done = (done.0 + fold.notifications.len(), done.1 + fold.receipts.len());
    assert!(matches!(fixture.store.fold(EPOCH, &few(), &fold).await.unwrap(), Folded::Committed { .. }));
}

/// What is left when all is folded, the parts in this order, and trimmed.
async fn folded(fixture: &Fixture, log: &Log, parts: &[(usize, usize)]) -> Vec<String> {
    let mut done = (0, 0);
    for part in parts.iter().chain([&(usize::MAX, usize::MAX)]) {
        fold_next(fixture, log, &mut done, *part).await;
    }
    trim(fixture, &few()).await;
    shown(fixture).await
}

/// The same as time goes by, trimmed after every batch.
async fn lived(fixture: &Fixture, log: &Log, batch: usize) -> Vec<String> {
    let mut times = log.notifications.iter().map(|one| (one.appended, 0)).collect::<Vec<_>>();
    times.extend(log.receipts.iter().map(|one| (one.appended, 1)));
    times.sort();
    let mut done = (0, 0);
    for some in times.chunks(batch) {
        let received = some.iter().map(|(_, topic)| topic).sum::<usize>();
        fold_next(fixture, log, &mut done, (some.len() - received, received)).await;
        trim(fixture, &few()).await;
    }
    shown(fixture).await
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]
    #[test]
    fn whichever_of_two_topics_is_folded_first_and_whenever_is_trimmed_the_same_is_left(
        steps in prop::collection::vec((0..6_i64, 0..11_u8, 0..12_i64), 1..60),
        parts in prop::collection::vec((0..7_usize, 0..7_usize), 0..20),
        batch in 1..9_usize,
    ) {
        let log = log(&steps);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dumps = runtime.block_on(async {
            let mut dumps = Vec::new();
            let orders = [parts, vec![(usize::MAX, 0)], vec![(0, usize::MAX)]];
            for parts in orders {
                for fixture in Fixture::each().await {
                    dumps.push(folded(&fixture, &log, &parts).await);
                }
            }
            for fixture in Fixture::each().await {
                dumps.push(lived(&fixture, &log, batch).await);
            }
            dumps
        });
        for dump in &dumps {
            prop_assert_eq!(dump, &dumps[0]);
        }
    }
}

on_both! {
    what_was_said_of_a_notification_stays_with_it_and_goes_when_both_are_old,
    what_is_withdrawn_does_not_come_back_by_age,
    what_is_said_of_a_notification_that_is_there_adds_to_what_was_said_however_long_ago,
    states_of_notifications_that_nobody_knows_are_bounded_and_others_stay,
}

/// The tables of receipts, without the others.
async fn said(fixture: &Fixture) -> usize {
    let rows = dump(&fixture.store).await;
    rows.iter().filter(|row| ["state ", "mark ", "withdrawn "].iter().any(|table| row.starts_with(table))).count()
}

async fn what_was_said_of_a_notification_stays_with_it_and_goes_when_both_are_old(fixture: Fixture) {
    let mut done = (0, 0);
    let log = Log {
        notifications: vec![at(0, 0, 0), at(1, 1, 50)],
        receipts: vec![
            receipt_at(state(ReadState::Read, &[0, 7]), 1),
            receipt_at(up_to(MarkState::Seen, 1), 1),
            receipt_at(state(ReadState::Seen, &[9]), 40),
        ],
    };
    fold_next(&fixture, &log, &mut done, (1, 3)).await;
    assert_eq!(trim(&fixture, &few()).await.receipts, 1, "of what is not there only that which is old");
    assert_eq!(said(&fixture).await, 3);
    fold_next(&fixture, &log, &mut done, (1, 0)).await;
    assert_eq!(trim(&fixture, &few()).await.receipts, 2);
    assert_eq!(said(&fixture).await, 1);
}

async fn what_is_withdrawn_does_not_come_back_by_age(fixture: Fixture) {
    let mut done = (0, 0);
    let receipts = vec![receipt_at(withdrawn(mailbox(), 0), 1), receipt_at(state(ReadState::Seen, &[9]), 99)];
    fold_next(&fixture, &Log { notifications: vec![at(0, 0, 0)], receipts }, &mut done, (1, 2)).await;
    trim(&fixture, &few()).await;
    assert!(fixture.evidence(0, 0).await.is_withdrawn);
    assert!(fixture.store.newest(&super::recover::course(), 9).await.unwrap().is_empty());
}

async fn what_is_said_of_a_notification_that_is_there_adds_to_what_was_said_however_long_ago(fixture: Fixture) {
    let mut done = (0, 0);
    let receipts = vec![
        receipt_at(state(ReadState::Dismissed, &[3]), 0),
        receipt_at(up_to(MarkState::Read, 1), 0),
        receipt_at(state(ReadState::Seen, &[3]), 99),
        receipt_at(up_to(MarkState::Seen, 1), 99),
    ];
    let log = Log { notifications: vec![at(0, 0, 0), at(3, 1, 0)], receipts };
    fold_next(&fixture, &log, &mut done, (2, 2)).await;
    fold_next(&fixture, &log, &mut done, (0, 2)).await;
    trim(&fixture, &few()).await;
    let found = fixture.store.find(&super::inbox::user(), &[mailbox()], &[id_of(0), id_of(3)]).await.unwrap();
    let read_at = Some(Timestamp::from_millis(0));
    assert_eq!(found[0].state, ItemState { seen: true, read: true, read_at, dismissed: false });
    assert_eq!(found[1].state, ItemState { seen: true, dismissed: true, ..ItemState::default() });
}

async fn states_of_notifications_that_nobody_knows_are_bounded_and_others_stay(fixture: Fixture) {
    fixture.fold(notifications(0, 4, (0..4).map(|offset| notified(offset as u128, offset)).collect())).await;
    let tight = Retention { states_per_user: NonZeroUsize::new(6).unwrap(), ..retention() };
    let say = async |ids: &[i64], hour: i64| {
        let fold = Fold { receipts: vec![receipt_at(state(ReadState::Seen, ids), hour)], ..Fold::default() };
        let Folded::Committed { crowded_out, .. } = fixture.store.fold(EPOCH, &tight, &fold).await.unwrap() else {
            panic!("nobody else folds")
        };
        crowded_out
    };
    assert_eq!(say(&[0, 1, 2, 3, 90, 91], 1).await, 0);
    assert_eq!(say(&[92], 2).await, 1, "the oldest that nobody knows");
    assert_eq!(say(&[93, 94, 95], 3).await, 3, "there is room for two of them");
    let states = dump(&fixture.store).await.into_iter().filter(|line| line.starts_with("state ")).collect::<Vec<_>>();
    let of = |id: i64| states.iter().any(|line| line.contains(&id_of(id as u128).to_string()));
    assert_eq!((states.len(), (0..4).all(of), (90..93).any(of)), (6, true, false), "{states:#?}");
    assert_eq!(say(&[0, 1], 4).await, 0, "what is known has its room already");
}
