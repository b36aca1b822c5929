//! A notification that is written again in a later epoch: its row moves, and what was said of it before still counts.

use tidings_core::position::Position;
use tidings_core::record::receipt::{MarkState, ReadState, ReceiptRecord};

use super::inbox::{state, up_to, user};
use super::recover::{course, offsets, page};
use super::retention::short;
use super::*;

pub(super) const LATER: Epoch = Epoch(4);

on_both! {
    a_row_moves_to_its_place_in_a_later_epoch_and_old_acknowledgements_still_count,
    what_an_earlier_epoch_says_late_moves_nothing,
    what_was_trimmed_is_not_brought_back_by_a_later_epoch_and_is_told,
    what_was_read_before_an_epoch_began_stays_read_where_it_is_carried_to,
    a_mark_of_a_later_epoch_reads_what_was_kept_unread_before_it_wherever_that_was_carried_to,
    the_first_place_is_known_whichever_epoch_is_folded_first,
    what_was_carried_over_ages_with_those_around_it_and_hides_none_that_is_kept,
    what_was_carried_over_is_found_by_its_request_whichever_epoch_is_folded_first,
}

fn later() -> Course {
    Course { epoch: LATER, topic: "notifications.e4".into(), ..course() }
}

/// What the later epoch's log holds, from its beginning.
pub(super) async fn fold_later(fixture: &Fixture, to: i64, notified: Vec<Notified>) {
    fixture.store.claim(LATER, &[standing("notifications.e4", 0)]).await.unwrap();
    let fold = Fold { moves: vec![step("notifications.e4", 0, to)], notifications: notified, ..Fold::default() };
    assert_eq!(
        fixture.store.fold(LATER, &retention(), &fold).await.unwrap(),
        Folded::Committed { conflicts: Vec::new(), crowded_out: 0, lapsed: 0 }
    );
}

/// The record of `id` and offset 5, carried over to another offset.
fn carried(id: u128, offset: i64) -> Notified {
    Notified { offset, appended: Timestamp::from_millis(90_000), ..notified(id, 5) }
}

async fn a_row_moves_to_its_place_in_a_later_epoch_and_old_acknowledgements_still_count(fixture: Fixture) {
    fixture.fold(notifications(0, 10, vec![notified(1, 5), notified(2, 6)])).await;
    fixture.fold(cursors(vec![cursor("a", &[(0, 7)], &[(0, 6)])])).await;
    fold_later(&fixture, 3, vec![carried(1, 2)]).await;
    let gap = fixture.store.gap(&later(), 0..10, page(5)).await.unwrap();
    assert_eq!((offsets(&gap.records), gap.trimmed), (vec![2], 0), "positions of its epoch lead to it");
    assert_eq!(gap.records[0].appended, Timestamp::from_millis(1_005), "it is as old as it was");
    assert_eq!(offsets(&fixture.store.newest(&later(), 5).await.unwrap()), [2]);
    assert_eq!(kept(&fixture.store).await.len(), 2, "and the other one stays where it was");
    let asked = Asked { channel: mailbox(), id: id_of(1), epoch: LATER, offset: 2 };
    let known = fixture.store.evidence(&[asked]).await.unwrap().remove(0);
    assert_eq!((known.first_offset, known.reach()), (Some(2), Reach::Delivered));
    assert_eq!(fixture.evidence(1, 5).await.first_offset, Some(5));
}

async fn what_an_earlier_epoch_says_late_moves_nothing(fixture: Fixture) {
    fold_later(&fixture, 3, vec![carried(1, 2)]).await;
    fixture.fold(notifications(0, 10, vec![notified(1, 5)])).await;
    assert_eq!(offsets(&fixture.store.newest(&later(), 5).await.unwrap()), [2]);
    assert_eq!(fixture.store.newest(&course(), 5).await.unwrap(), []);
    assert_eq!(fixture.evidence(1, 5).await.first_offset, Some(5), "its place there is known");
}

async fn what_was_trimmed_is_not_brought_back_by_a_later_epoch_and_is_told(fixture: Fixture) {
    let short = Retention { mailbox_rows: NonZeroUsize::new(1).unwrap(), ..retention() };
    let fold = notifications(0, 10, vec![notified(1, 5), notified(2, 6)]);
    assert!(matches!(fixture.store.fold(EPOCH, &short, &fold).await.unwrap(), Folded::Committed { .. }));
    fold_later(&fixture, 3, vec![carried(1, 2)]).await;
    let gap = fixture.store.gap(&later(), 0..10, page(5)).await.unwrap();
    assert_eq!((gap.records.len(), gap.trimmed), (0, 3));
    assert_eq!(kept(&fixture.store).await.len(), 1);
}

/// A mark, or what was said of single ones, in the epoch's receipts.
async fn receive(fixture: &Fixture, at: i64, record: ReceiptRecord) {
    let receipts = vec![super::inbox::received(record, at)];
    fixture.fold(Fold { receipts, ..Fold::default() }).await;
}

async fn told(fixture: &Fixture, id: u128) -> ItemState {
    let found = fixture.store.find(&user(), &[mailbox()], &[id_of(id)]).await.unwrap();
    found.first().expect("it is there").state
}

fn up_to_later(offset: i64) -> ReceiptRecord {
    let position = Position { epoch: LATER, offset };
    ReceiptRecord::UpTo { user_id: user(), state: MarkState::Read, channel: mailbox(), position, source: None }
}

async fn what_was_read_before_an_epoch_began_stays_read_where_it_is_carried_to(fixture: Fixture) {
    fixture.fold(notifications(0, 10, vec![notified(1, 5), notified(2, 6)])).await;
    receive(&fixture, 2_000, up_to(MarkState::Read, 6)).await;
    fold_later(&fixture, 3, vec![carried(1, 2)]).await;
    let read = ItemState { seen: true, read: true, read_at: Some(Timestamp::from_millis(2_000)), dismissed: false };
    assert_eq!(told(&fixture, 1).await, read);
    assert_eq!(told(&fixture, 2).await, ItemState::default(), "it lay behind the mark");
}

async fn a_mark_of_a_later_epoch_reads_what_was_kept_unread_before_it_wherever_that_was_carried_to(fixture: Fixture) {
    fixture.fold(notifications(0, 10, vec![notified(5, 5), notified(6, 6)])).await;
    receive(&fixture, 2_000, state(ReadState::Unread, &[5])).await;
    fold_later(&fixture, 9, vec![Notified { offset: 7, ..notified(5, 5) }]).await;
    receive(&fixture, 2_500, up_to(MarkState::Read, 5)).await;
    assert!(!told(&fixture, 5).await.read, "a mark before its first place");
    receive(&fixture, 3_000, up_to_later(4)).await;
    let read = ItemState { seen: true, read: true, read_at: Some(Timestamp::from_millis(3_000)), dismissed: false };
    assert_eq!(
        [told(&fixture, 5).await, told(&fixture, 6).await],
        [read, read],
        "all that is older than the mark, wherever it lies"
    );
    receive(&fixture, 4_000, state(ReadState::Unread, &[5])).await;
    assert!(!told(&fixture, 5).await.read, "what is said last counts");
}

async fn the_first_place_is_known_whichever_epoch_is_folded_first(fixture: Fixture) {
    fold_later(&fixture, 3, vec![carried(1, 2)]).await;
    receive(&fixture, 2_000, up_to(MarkState::Read, 6)).await;
    assert!(!told(&fixture, 1).await.read);
    fixture.fold(notifications(0, 10, vec![notified(1, 5)])).await;
    assert!(told(&fixture, 1).await.read);
}

async fn what_was_carried_over_ages_with_those_around_it_and_hides_none_that_is_kept(fixture: Fixture) {
    let hour = |id: u128, offset: i64, hour: i64| super::retention::at(id, offset, hour);
    fixture.fold(notifications(0, 6, vec![hour(1, 5, 0)])).await;
    let (first, moved, last) = (hour(2, 3, 8), hour(1, 7, 9), hour(3, 8, 12));
    fixture.store.claim(LATER, &[standing("notifications.e4", 0)]).await.unwrap();
    let fold = async |from: i64, record: Notified| {
        let to = record.offset + 1;
        let moves = vec![Move { clock: Some(record.appended), ..step("notifications.e4", from, to) }];
        let fold = Fold { moves, notifications: vec![record], ..Fold::default() };
        assert!(matches!(fixture.store.fold(LATER, &short(), &fold).await.unwrap(), Folded::Committed { .. }));
    };
    let ours = Ours { notifications: vec![("notifications.e4".into(), 0)], ..Ours::default() };
    let left = async || {
        fixture.store.trim(LATER, &short(), &ours).await.unwrap();
        let gap = fixture.store.gap(&later(), 0..99, page(9)).await.unwrap();
        (offsets(&gap.records), gap.trimmed)
    };
    fold(0, first).await;
    fold(4, moved).await;
    fold(8, last).await;
    assert_eq!(left().await, (vec![3, 7, 8], 0), "it was written twelve hours ago, and carried over three hours ago");
    fold(9, hour(4, 9, 18)).await;
    assert_eq!(left().await, (vec![7, 8, 9], 4), "the oldest goes first");
    fold(10, hour(5, 10, 20)).await;
    assert_eq!(left().await, (vec![8, 9, 10], 8));
}

async fn what_was_carried_over_is_found_by_its_request_whichever_epoch_is_folded_first(fixture: Fixture) {
    let request = uuid::Uuid::from_u128(7);
    let mut asked = notified(1, 5);
    asked.record.origin.topic = "tidings.requests".into();
    asked.record.notification.event_id = request.to_string().parse().unwrap();
    // A rung does not say where its notification came from.
    let mut onward = Notified { offset: 2, ..asked.clone() };
    onward.record.origin.topic = "tidings.retry.30s".into();
    fold_later(&fixture, 3, vec![onward]).await;
    let ids = async || {
        let places = fixture.store.asked_for(request).await.unwrap();
        places.into_iter().map(|place| (place.id, place.position)).collect::<Vec<_>>()
    };
    assert_eq!(ids().await, []);
    fixture.fold(notifications(0, 10, vec![asked])).await;
    assert_eq!(ids().await, [(id_of(1), Position { epoch: LATER, offset: 3 })]);
}
