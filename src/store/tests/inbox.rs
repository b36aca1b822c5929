//! Tests of what users are shown.

use tidings_core::ids::UserId;
use tidings_core::record::receipt::{MarkState, ReadState, ReceiptItem, ReceiptRecord, WithdrawalCause};

use super::*;

fn now() -> Timestamp {
    Timestamp::from_millis(1_000_000)
}

pub(super) fn user() -> UserId {
    "1".parse().unwrap()
}

fn role() -> Channel {
    "role-driver".parse().unwrap()
}

fn position(offset: i64) -> tidings_core::position::Position {
    tidings_core::position::Position { epoch: EPOCH, offset }
}

/// The notification of that number lies at the offset of its number.
pub(super) fn item(id: i64) -> ReceiptItem {
    ReceiptItem { id: id_of(id as u128), channel: Some(mailbox()), position: Some(position(id + 1)) }
}

pub(super) fn received(record: ReceiptRecord, at: i64) -> Received {
    Received { record, partition: 0, appended: Timestamp::from_millis(at) }
}

pub(super) fn state(state: ReadState, ids: &[i64]) -> ReceiptRecord {
    let items = ids.iter().copied().map(item).collect();
    ReceiptRecord::State { user_id: user(), state, items, source: None }
}

pub(super) fn up_to(state: MarkState, offset: i64) -> ReceiptRecord {
    ReceiptRecord::UpTo { user_id: user(), state, channel: mailbox(), position: position(offset), source: None }
}

pub(super) fn withdrawn(channel: Channel, id: i64) -> ReceiptRecord {
    let (id, cause) = (id_of(id as u128), WithdrawalCause::Service);
    ReceiptRecord::Withdrawn { channel, id, position: None, cause, source: None }
}

/// Each receipt is appended a second after the one before it.
async fn receive(fixture: &Fixture, receipts: &[ReceiptRecord]) {
    let receipts = receipts.iter().cloned().zip(2..).map(|(record, second)| received(record, 1_000 * second));
    fixture.fold(Fold { receipts: receipts.collect(), ..Fold::default() }).await;
}

/// Folds notifications of the mailbox at these offsets.
async fn notify(fixture: &Fixture, offsets: std::ops::Range<i64>) {
    let records = offsets.clone().map(|offset| notified(offset as u128, offset)).collect();
    fixture.fold(notifications(offsets.start, offsets.end, records)).await;
}

/// The same in another channel, one step later on the log each.
fn elsewhere(channel: &Channel, id: u128, offset: i64) -> Notified {
    let mut one = notified(id, offset);
    one.record.channel = channel.clone();
    one
}

pub(super) fn all(limit: usize) -> ListWanted {
    ListWanted {
        unread: false,
        dismissed: false,
        kind: None,
        channel: None,
        since: None,
        before: None,
        limit: NonZeroUsize::new(limit).unwrap(),
        now: now(),
    }
}

/// The offsets in a list of the mailbox.
async fn listed(fixture: &Fixture, wanted: &ListWanted) -> Vec<i64> {
    let page = fixture.store.list(&user(), &[mailbox()], wanted).await.unwrap();
    page.items.iter().map(|item| item.position.offset - 1).collect()
}

fn courses() -> Courses {
    Courses { epoch: EPOCH, notifications: "notifications".into(), partitions: 1 }
}

async fn counted(fixture: &Fixture) -> (u64, u64) {
    let [(of, counts)] = fixture.store.counts(&courses(), &[user()], now()).await.unwrap().try_into().unwrap();
    assert_eq!(of, user());
    (counts.unread, counts.unseen)
}

async fn told(fixture: &Fixture, id: i64) -> ItemState {
    let found = fixture.store.find(&user(), &[mailbox()], &[id_of(id as u128)]).await.unwrap();
    found.first().map(|found| found.state).unwrap_or_else(|| panic!("{id} is not there"))
}

on_both! {
    a_list_is_paged_newest_first_over_all_channels_and_each_is_shown_once,
    a_list_leaves_out_what_is_not_wanted_has_expired_or_was_not_meant_for_the_user,
    a_state_says_what_it_implies_and_nothing_more,
    a_mark_covers_what_lies_before_it_and_what_is_said_later_wins,
    the_furthest_mark_counts_whichever_came_last,
    counts_of_many_users_are_told_at_once_and_say_up_to_where,
    what_is_withdrawn_vanishes_from_every_answer_whether_it_was_folded_before_or_after,
    what_a_user_did_before_the_notification_was_folded_is_kept_for_it,
    what_is_found_is_only_what_the_user_is_shown_and_others_states_are_not_told,
    a_service_is_told_all_that_is_known_of_a_notification,
    what_follows_from_a_request_is_found_by_its_id_and_an_event_is_not,
    devices_are_told_the_latest_used_first,
}

async fn what_follows_from_a_request_is_found_by_its_id_and_an_event_is_not(fixture: Fixture) {
    let (request, event) = (uuid::Uuid::from_u128(7), uuid::Uuid::from_u128(8));
    let from = |topic: &str, id: uuid::Uuid, mut one: Notified| {
        topic.clone_into(&mut one.record.origin.topic);
        one.record.notification.event_id = id.to_string().parse().unwrap();
        one
    };
    let records = vec![
        from("tidings.requests", request, notified(1, 0)),
        from("tidings.requests", request, elsewhere(&role(), 2, 1)),
        from("bookings", event, notified(3, 2)),
        from("others.requests", event, notified(4, 3)),
    ];
    fixture.fold(notifications(0, 4, records)).await;
    let found = fixture.store.asked_for(request).await.unwrap();
    let place = |id: i64, channel: Channel| Place { id: id_of(id as u128), channel, position: position(id) };
    assert_eq!(found, [place(2, role()), place(1, mailbox())]);
    assert_eq!(fixture.store.asked_for(event).await.unwrap(), []);
}

async fn a_list_is_paged_newest_first_over_all_channels_and_each_is_shown_once(fixture: Fixture) {
    let channels = [mailbox(), role(), Channel::everyone()];
    // All at the same moment: then channel and offset decide.
    let records = (0..30).map(|offset| Notified {
        appended: Timestamp::from_millis(5_000 + offset / 12),
        ..elsewhere(&channels[offset as usize % 3], offset as u128, offset)
    });
    fixture.fold(notifications(0, 30, records.collect())).await;
    let whole = fixture.store.list(&user(), &channels, &all(100)).await.unwrap();
    assert_eq!((whole.items.len(), whole.next), (30, None));
    let key = |item: &Item| (item.appended_at, item.record.channel.clone(), item.position);
    assert!(whole.items.is_sorted_by(|one, other| key(one) > key(other)), "newest first");
    for limit in [1, 7, 15, 29, 30] {
        let (mut wanted, mut paged) = (all(limit), Vec::new());
        loop {
            let page = fixture.store.list(&user(), &channels, &wanted).await.unwrap();
            assert!(page.items.len() == limit || page.next.is_none());
            paged.extend(page.items);
            let Some(next) = page.next else { break };
            wanted.before = Some(next.to_string().parse().unwrap());
        }
        assert_eq!(paged, whole.items, "in pages of {limit}");
    }
}

async fn a_list_leaves_out_what_is_not_wanted_has_expired_or_was_not_meant_for_the_user(fixture: Fixture) {
    let mut records = (0..4).map(|offset| notified(offset as u128, offset)).collect::<Vec<_>>();
    records[1].record.notification.kind = "other\0".into();
    records[2].record.notification.expires_at = Some(now());
    let mut excluded = (4..7).map(|offset| elsewhere(&role(), offset as u128, offset)).collect::<Vec<_>>();
    excluded[1].record.exclude = vec![user()];
    records.extend(excluded);
    fixture.fold(notifications(0, 7, records)).await;
    receive(&fixture, &[state(ReadState::Read, &[0]), state(ReadState::Dismissed, &[3])]).await;
    assert_eq!(listed(&fixture, &all(9)).await, [1, 0]);
    assert_eq!(listed(&fixture, &ListWanted { unread: true, ..all(9) }).await, [1]);
    assert_eq!(listed(&fixture, &ListWanted { dismissed: true, ..all(9) }).await, [3, 1, 0]);
    assert_eq!(listed(&fixture, &ListWanted { kind: Some("t".into()), ..all(9) }).await, [0]);
    assert_eq!(listed(&fixture, &ListWanted { since: Some(Timestamp::from_millis(1_001)), ..all(9) }).await, [1]);
    let both = [mailbox(), role()];
    let of_role = ListWanted { channel: Some(role()), ..all(9) };
    let page = fixture.store.list(&user(), &both, &of_role).await.unwrap();
    assert_eq!(page.items.iter().map(|item| item.position.offset).collect::<Vec<_>>(), [7, 5], "not the excluded one");
    let one = fixture.store.list(&user(), &both, &ListWanted { limit: NonZeroUsize::MIN, ..of_role }).await.unwrap();
    let rest = ListWanted { channel: Some(role()), before: one.next, ..all(1) };
    let page = fixture.store.list(&user(), &both, &rest).await.unwrap();
    assert_eq!((page.items[0].position.offset, page.next), (5, None), "the page goes on behind the excluded one");
}

async fn a_state_says_what_it_implies_and_nothing_more(fixture: Fixture) {
    notify(&fixture, 0..5).await;
    let receipts = [
        state(ReadState::Read, &[0, 3]),
        state(ReadState::Seen, &[1]),
        state(ReadState::Dismissed, &[2]),
        state(ReadState::Unread, &[3]),
        state(ReadState::Read, &[0]),
    ];
    receive(&fixture, &receipts).await;
    let read_at = Some(Timestamp::from_millis(2_000));
    let nothing = ItemState::default();
    assert_eq!(told(&fixture, 0).await, ItemState { seen: true, read: true, read_at, ..nothing }, "read when it was first");
    assert_eq!(told(&fixture, 1).await, ItemState { seen: true, ..nothing });
    assert_eq!(told(&fixture, 2).await, ItemState { seen: true, dismissed: true, ..nothing });
    assert_eq!(told(&fixture, 3).await, ItemState { seen: true, ..nothing });
    assert_eq!(told(&fixture, 4).await, nothing);
    assert_eq!(counted(&fixture).await, (3, 1));
}

async fn a_mark_covers_what_lies_before_it_and_what_is_said_later_wins(fixture: Fixture) {
    notify(&fixture, 0..6).await;
    receive(&fixture, &[state(ReadState::Unread, &[0, 4]), up_to(MarkState::Read, 3), state(ReadState::Unread, &[1])]).await;
    let read = async || {
        let mut read = Vec::new();
        for id in 0..6 {
            read.extend(told(&fixture, id).await.read.then_some(id));
        }
        read
    };
    assert_eq!(read().await, [0, 2], "1 was said to be unread later than the mark came, 0 earlier");
    assert_eq!(counted(&fixture).await, (4, 3), "what was unread again stays seen");
    receive(&fixture, &[up_to(MarkState::Read, 2)]).await;
    assert_eq!(read().await, [0, 1, 2], "a mark covers what is unread below it, even one that is not the furthest");
    receive(&fixture, &[up_to(MarkState::Seen, 6)]).await;
    assert_eq!((read().await, counted(&fixture).await), (vec![0, 1, 2], (3, 0)));
}

async fn the_furthest_mark_counts_whichever_came_last(fixture: Fixture) {
    notify(&fixture, 0..6).await;
    receive(&fixture, &[up_to(MarkState::Read, 4), up_to(MarkState::Read, 2), up_to(MarkState::Seen, 1)]).await;
    assert_eq!(counted(&fixture).await, (2, 2));
    assert_eq!(told(&fixture, 1).await.read_at, Some(Timestamp::from_millis(2_000)));
}

async fn counts_of_many_users_are_told_at_once_and_say_up_to_where(fixture: Fixture) {
    let mut records = (0..7).map(|offset| notified(offset as u128, offset)).collect::<Vec<_>>();
    records[6].record.channel = "user-2".parse().unwrap();
    records[5].record.notification.expires_at = Some(now());
    fixture.fold(notifications(0, 9, records)).await;
    receive(&fixture, &[state(ReadState::Dismissed, &[0, 1]), state(ReadState::Read, &[2])]).await;
    let users = ["2", "nobody", "1"].map(|user| user.parse::<UserId>().unwrap());
    let counts = fixture.store.counts(&courses(), &users, now()).await.unwrap();
    let expected = [(1, 1), (0, 0), (2, 2)].map(|(unread, unseen)| Counts { unread, unseen, as_of: position(9) });
    assert_eq!(counts, users.into_iter().zip(expected).collect::<Vec<_>>());
    assert!(fixture.store.counts(&courses(), &[], now()).await.unwrap().is_empty());
    let epoch = Courses { epoch: Epoch(9), ..courses() };
    let [(_, counts)] = fixture.store.counts(&epoch, &[user()], now()).await.unwrap().try_into().unwrap();
    assert_eq!(counts.as_of, tidings_core::position::Position { epoch: Epoch(9), offset: 0 }, "nothing of it is folded yet");
}

async fn what_is_withdrawn_vanishes_from_every_answer_whether_it_was_folded_before_or_after(fixture: Fixture) {
    notify(&fixture, 0..3).await;
    receive(&fixture, &[withdrawn(mailbox(), 1), withdrawn(mailbox(), 3), withdrawn(mailbox(), 0), withdrawn(role(), 2)]).await;
    notify(&fixture, 3..5).await;
    assert_eq!(listed(&fixture, &all(9)).await, [4, 2], "2 is withdrawn from another channel only");
    let course = super::recover::course();
    let gap = fixture.store.gap(&course, 0..9, super::recover::page(9)).await.unwrap();
    assert_eq!((super::recover::offsets(&gap.records), gap.trimmed), (vec![2, 4], 0));
    assert_eq!(super::recover::offsets(&fixture.store.gap(&course, 0..9, super::recover::page(1)).await.unwrap().records), [2]);
    assert_eq!(super::recover::offsets(&fixture.store.newest(&course, 2).await.unwrap()), [2, 4]);
    assert_eq!(fixture.store.oldest_pending(EPOCH, &user(), now()).await.unwrap(), Some(2));
    assert_eq!(counted(&fixture).await, (2, 2));
    let ids = [0, 1, 2, 3, 4].map(id_of);
    let found = fixture.store.find(&user(), &[mailbox()], &ids).await.unwrap();
    assert_eq!(found.iter().map(|found| found.id).collect::<Vec<_>>(), [2, 4].map(id_of));
    assert!(fixture.evidence(3, 3).await.is_withdrawn && !fixture.evidence(2, 2).await.is_withdrawn);
}

async fn what_a_user_did_before_the_notification_was_folded_is_kept_for_it(fixture: Fixture) {
    let unplaced = ReceiptItem { channel: None, position: None, ..item(1) };
    let early = ReceiptRecord::State { user_id: user(), state: ReadState::Read, items: vec![unplaced], source: None };
    receive(&fixture, &[early, up_to(MarkState::Read, 1)]).await;
    assert_eq!(counted(&fixture).await, (0, 0), "of what is not there nothing counts");
    notify(&fixture, 0..3).await;
    assert_eq!(counted(&fixture).await, (1, 1));
    assert!(told(&fixture, 0).await.read && told(&fixture, 1).await.read && !told(&fixture, 2).await.read);
}

async fn what_is_found_is_only_what_the_user_is_shown_and_others_states_are_not_told(fixture: Fixture) {
    let mut excluded = elsewhere(&role(), 2, 2);
    excluded.record.exclude = vec![user()];
    let foreign = elsewhere(&"user-2".parse().unwrap(), 3, 3);
    fixture.fold(notifications(0, 4, vec![notified(0, 0), elsewhere(&role(), 1, 1), excluded, foreign])).await;
    let items = vec![item(0), item(1)];
    let other = ReceiptRecord::State { user_id: "2".parse().unwrap(), state: ReadState::Read, items, source: None };
    let theirs = ReceiptRecord::State { user_id: user(), state: ReadState::Read, items: vec![item(3)], source: None };
    receive(&fixture, &[other, theirs]).await;
    let ids = [3, 2, 1, 0, 77].map(id_of);
    let found = fixture.store.find(&user(), &[mailbox(), role()], &ids).await.unwrap();
    let places = found.iter().map(|found| (found.id, found.channel.clone(), found.position)).collect::<Vec<_>>();
    assert_eq!(places, [(id_of(1), role(), position(2)), (id_of(0), mailbox(), position(1))]);
    assert!(found.iter().all(|found| found.state == ItemState::default()));
    let [(_, counts)] = fixture.store.counts(&courses(), &["2".parse().unwrap()], now()).await.unwrap().try_into().unwrap();
    assert_eq!((counts.unread, counts.unseen), (1, 1), "who marks somebody else's marks nothing");
    assert!(fixture.store.find(&user(), &[], &ids).await.unwrap().is_empty());
}

async fn a_service_is_told_all_that_is_known_of_a_notification(fixture: Fixture) {
    fixture.fold(notifications(0, 3, vec![notified(0, 0), elsewhere(&role(), 1, 1), notified(2, 2)])).await;
    fixture.fold(cursors(vec![cursor("a", &[(0, 1)], &[(0, 1)]), cursor("b", &[(0, 3)], &[])])).await;
    let stranger = ReceiptRecord::State {
        user_id: "2".parse().unwrap(),
        state: ReadState::Read,
        items: vec![item(0), ReceiptItem { channel: Some(role()), ..item(1) }],
        source: None,
    };
    // Believed while the projection was behind, for nobody could say whether it was his to see.
    let guessed = ReceiptRecord::State {
        user_id: "3".parse().unwrap(),
        state: ReadState::Read,
        items: vec![ReceiptItem { channel: None, position: None, ..item(1) }],
        source: None,
    };
    let of_role =
        ReceiptRecord::UpTo { user_id: user(), state: MarkState::Seen, channel: role(), position: position(2), source: None };
    receive(&fixture, &[state(ReadState::Read, &[0]), stranger, of_role, withdrawn(mailbox(), 2), guessed]).await;
    let about = async |id: u128| fixture.store.state_of(id_of(id)).await.unwrap();
    let seen = ItemState { seen: true, ..ItemState::default() };
    let read = |second: i64| ItemState { read: true, read_at: Some(Timestamp::from_millis(1_000 * second)), ..seen };
    let mail = about(0).await.unwrap();
    assert_eq!((mail.channel, mail.position, mail.appended_at), (mailbox(), position(1), Timestamp::from_millis(1_000)));
    assert_eq!(mail.record, Some(notified(0, 0).record));
    assert_eq!((mail.acknowledged, mail.users), (vec!["a".parse().unwrap()], vec![(user(), read(2))]), "the owner alone counts");
    assert_eq!(about(1).await.unwrap().users, [(user(), seen), ("2".parse().unwrap(), read(3))]);
    let gone = about(2).await.unwrap().withdrawn;
    assert_eq!(gone, Some(Withdrawn { cause: WithdrawalCause::Service, at: Timestamp::from_millis(5_000) }));
    assert_eq!(about(3).await, None);
}

async fn devices_are_told_the_latest_used_first(fixture: Fixture) {
    let heard = |device: &str, at: i64| Heard {
        record: cursor(device, &[(0, 1)], &[]),
        partition: 0,
        appended: Timestamp::from_millis(at),
    };
    let cursors = vec![heard("b", 1), heard("a", 2), heard("c", 3), heard("a", 4)];
    fixture.fold(Fold { cursors, ..Fold::default() }).await;
    let devices = fixture.store.devices_of(&user()).await.unwrap();
    let told = devices.iter().map(|device| (device.id.as_str(), device.used_at.as_millis())).collect::<Vec<_>>();
    assert_eq!(told, [("a", 4), ("c", 3), ("b", 1)]);
}
