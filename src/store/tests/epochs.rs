//! A notification that is written again in a later epoch: its row moves, and what was said of it before still counts.

use super::recover::{course, offsets, page};
use super::*;

const LATER: Epoch = Epoch(4);

on_both! {
    a_row_moves_to_its_place_in_a_later_epoch_and_old_acknowledgements_still_count,
    what_an_earlier_epoch_says_late_moves_nothing,
    what_was_trimmed_is_not_brought_back_by_a_later_epoch_and_is_told,
}

fn later() -> Course {
    Course { epoch: LATER, topic: "notifications.e4".into(), ..course() }
}

/// What the later epoch's log holds, from its beginning.
async fn fold_later(fixture: &Fixture, to: i64, notified: Vec<Notified>) {
    fixture.store.claim(LATER, &[standing("notifications.e4", 0)]).await.unwrap();
    let fold = Fold { moves: vec![step("notifications.e4", 0, to)], notifications: notified, ..Fold::default() };
    assert_eq!(fixture.store.fold(LATER, &retention(), &fold).await.unwrap(), Folded::Committed { conflicts: Vec::new() });
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
