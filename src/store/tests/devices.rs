//! Tests of which devices are kept, and of what is left of those that go.

use super::inbox::user;
use super::retention::HOUR_MS;
use super::tables::dump;
use super::*;
use crate::store::interests::Interests;

fn few() -> Retention {
    let (devices_per_user, channels_per_device) = (NonZeroUsize::new(3).unwrap(), NonZeroUsize::new(2).unwrap());
    Retention { devices: Duration::from_hours(30), devices_per_user, channels_per_device, ..retention() }
}

fn heard(device: &str, hour: i64, offset: i64) -> Heard {
    let stretch = [(offset, offset + 1)];
    let appended = Timestamp::from_millis(hour * HOUR_MS);
    Heard { record: cursor(device, &stretch, &stretch), partition: 0, appended }
}

async fn fold(fixture: &Fixture, cursors: Vec<Heard>) {
    let fold = Fold { cursors, ..Fold::default() };
    assert!(matches!(fixture.store.fold(EPOCH, &few(), &fold).await.unwrap(), Folded::Committed { .. }));
}

async fn kept(fixture: &Fixture) -> Vec<String> {
    fixture.store.devices_of(&user()).await.unwrap().into_iter().map(|device| device.id.to_string()).collect()
}

on_both! {
    of_too_many_devices_the_one_that_was_silent_for_longest_goes_and_what_it_acknowledged_stays,
    where_a_device_began_is_the_lowest_that_was_said_and_stays_for_as_long_as_the_device,
    devices_that_nobody_named_take_the_place_of_none_and_what_they_acknowledged_is_delivered,
    a_device_that_is_in_use_is_not_forgotten_although_it_says_nothing,
    of_too_many_channels_of_its_choice_a_device_is_forgotten_in_the_one_it_was_silent_of_for_longest,
    that_a_device_was_forgotten_somewhere_is_known_for_as_long_as_the_device,
    a_batch_reads_the_interests_that_it_names_and_of_others_the_oldest_that_have_to_go,
    of_what_a_device_said_of_a_channel_so_much_is_kept_as_the_channel_has_notifications,
}

async fn a_device_that_is_in_use_is_not_forgotten_although_it_says_nothing(fixture: Fixture) {
    let used = |hour: i64| Heard { record: cursor("a", &[], &[]), ..heard("a", hour, 0) };
    fold(&fixture, vec![heard("a", 0, 1), heard("b", 1, 2)]).await;
    for hour in [20, 40] {
        let clock = Some(Timestamp::from_millis(hour * HOUR_MS));
        let moves = vec![Move { clock, ..step("cursors", hour / 20 - 1, hour / 20) }];
        let cursors = vec![used(hour)];
        let fold = Fold { moves, cursors, ..Fold::default() };
        assert!(matches!(fixture.store.fold(EPOCH, &few(), &fold).await.unwrap(), Folded::Committed { .. }));
        super::retention::trim(&fixture, &few()).await;
    }
    assert_eq!(kept(&fixture).await, ["a"]);
    let known = fixture.store.cursors((&user(), &"a".parse().unwrap()), &[mailbox()]).await.unwrap();
    assert_eq!(known, [cursor("a", &[(1, 2)], &[(1, 2)])], "and its stretches are what they were");
}

/// A device speaks of a channel at an hour.
fn spoken(device: &str, channel: &str, hour: i64) -> Heard {
    let mut heard = heard(device, hour, hour);
    heard.record.channel = channel.parse().unwrap();
    heard
}

async fn of_too_many_channels_of_its_choice_a_device_is_forgotten_in_the_one_it_was_silent_of_for_longest(fixture: Fixture) {
    let channels = ["a", "b", "c", "role-driver", "system-announcements"].map(|name| name.parse::<Channel>().unwrap());
    let known = async || {
        let cursors = fixture.store.cursors((&user(), &"phone".parse().unwrap()), &channels).await.unwrap();
        cursors.into_iter().map(|cursor| cursor.channel.to_string()).collect::<Vec<_>>()
    };
    let lapsed = async |cursors: Vec<Heard>| {
        let fold = Fold { cursors, ..Fold::default() };
        let Folded::Committed { lapsed, .. } = fixture.store.fold(EPOCH, &few(), &fold).await.unwrap() else {
            panic!("somebody else folds");
        };
        lapsed
    };
    // Nobody's choice, however long ago.
    fold(&fixture, vec![heard("phone", 0, 9), spoken("phone", "role-driver", 0), spoken("phone", "system-announcements", 0)])
        .await;
    assert_eq!(lapsed(vec![spoken("phone", "a", 1), spoken("phone", "b", 2), spoken("phone", "a", 3)]).await, 0);
    // Another device has room of its own.
    assert_eq!(lapsed(vec![spoken("laptop", "c", 4), spoken("phone", "c", 5)]).await, 1);
    assert_eq!(known().await, ["a", "c", "role-driver", "system-announcements"]);
    // Back within one batch: only what was said since is known.
    assert_eq!(lapsed(vec![spoken("phone", "b", 6), spoken("phone", "a", 7)]).await, 2);
    assert_eq!(known().await, ["a", "b", "role-driver", "system-announcements"]);
    let of_a = fixture.store.cursors((&user(), &"phone".parse().unwrap()), &channels[..1]).await.unwrap();
    assert_eq!(of_a, [spoken("phone", "a", 7).record]);
    let mailbox = fixture.store.cursors((&user(), &"phone".parse().unwrap()), &[mailbox()]).await.unwrap();
    assert_eq!(mailbox, [heard("phone", 0, 9).record]);
}

async fn that_a_device_was_forgotten_somewhere_is_known_for_as_long_as_the_device(fixture: Fixture) {
    let has_lapsed = async |device: &str| fixture.store.has_lapsed((&user(), &device.parse().unwrap())).await.unwrap();
    fold(&fixture, vec![spoken("phone", "a", 0), spoken("phone", "b", 1), spoken("laptop", "a", 1), heard("phone", 2, 9)]).await;
    assert!(!has_lapsed("phone").await, "it has two, as it may");
    fold(&fixture, vec![spoken("phone", "c", 3)]).await;
    fold(&fixture, vec![heard("phone", 4, 9), heard("laptop", 4, 9)]).await;
    assert!(has_lapsed("phone").await, "it was here since, and said nothing of channels");
    assert!(!has_lapsed("laptop").await && !has_lapsed("tablet").await, "that was another device");
    fold(&fixture, vec![spoken("phone", "c", 40)]).await;
    assert!(!has_lapsed("phone").await, "it was silent for so long that it is a new one");
}

async fn a_batch_reads_the_interests_that_it_names_and_of_others_the_oldest_that_have_to_go(fixture: Fixture) {
    let names = (0..40).map(|number| format!("c-{number:02}")).collect::<Vec<_>>();
    let all = names.iter().zip(0..).map(|(name, hour)| spoken("phone", name, hour)).collect();
    let room = Retention { channels_per_device: NonZeroUsize::new(40).unwrap(), ..retention() };
    let fold = Fold { cursors: all, ..Fold::default() };
    assert!(matches!(fixture.store.fold(EPOCH, &room, &fold).await.unwrap(), Folded::Committed { .. }));
    let read = async |batch: &[&str], most| {
        let batch = batch.iter().map(|channel| spoken("phone", channel, 50)).collect::<Vec<_>>();
        let mut reader = fixture.store.reader().await.unwrap();
        Interests::stored(&mut reader, &batch, most).await.unwrap().count_read()
    };
    assert_eq!(read(&["c-07"], 40).await, 1, "one that is known");
    assert_eq!(read(&["new"], 41).await, 0, "there is room for it");
    assert_eq!(read(&["new"], 40).await, 1, "the one that goes for it");
    assert_eq!(read(&["c-00", "new", "c-01"], 40).await, 5, "those that are named, and as many others as might go for them");
}

async fn of_what_a_device_said_of_a_channel_so_much_is_kept_as_the_channel_has_notifications(fixture: Fixture) {
    let rows = Retention { channel_rows: NonZeroUsize::new(3).unwrap(), ..retention() };
    let single = (0..5).map(|number| (2 * number, 2 * number + 1)).collect::<Vec<_>>();
    let channel: Channel = "booking-updates".parse().unwrap();
    let said = |channel: &Channel| CursorRecord { channel: channel.clone(), began: Some(0), ..cursor("a", &[(0, 9)], &single) };
    for channel in [&channel, &mailbox()] {
        assert!(matches!(
            fixture.store.fold(EPOCH, &rows, &cursors(vec![said(channel)])).await.unwrap(),
            Folded::Committed { .. }
        ));
    }
    let known = fixture.store.cursors((&user(), &"a".parse().unwrap()), &[channel.clone(), mailbox()]).await.unwrap();
    let mut newest = said(&channel);
    newest.acknowledged.keep_newest(3);
    assert_eq!(known, [newest, said(&mailbox())], "a mailbox is trimmed with its notifications");
}

async fn where_a_device_began_is_the_lowest_that_was_said_and_stays_for_as_long_as_the_device(fixture: Fixture) {
    let began = |device: &str, hour: i64, at: i64| {
        let record = CursorRecord { began: Some(at), ..cursor(device, &[], &[]) };
        Heard { record, ..heard(device, hour, 0) }
    };
    let known = async |device: &str| {
        let cursors = fixture.store.cursors((&user(), &device.parse().unwrap()), &[mailbox()]).await.unwrap();
        cursors.first().and_then(|cursor| cursor.began)
    };
    // Neighbours too, in one batch and in several.
    fold(&fixture, vec![began("a", 0, 8), began("a", 0, 7)]).await;
    fold(&fixture, vec![began("a", 0, 6)]).await;
    fold(&fixture, vec![began("a", 0, 7), heard("a", 0, 4)]).await;
    assert_eq!(known("a").await, Some(6));
    fixture.fold(notifications(0, 9, vec![notified(1, 6)])).await;
    assert_eq!(fixture.evidence(1, 6).await.reach(), Reach::NotOffered, "to begin is not to be offered anything");
    fold(&fixture, vec![began("b", 1, 3), began("c", 1, 3), began("d", 1, 3)]).await;
    assert_eq!((known("a").await, known("b").await), (None, Some(3)), "it had to go");
    let left = dump(&fixture.store).await.into_iter().filter(|row| row.contains(" began ")).count();
    assert_eq!(left, 3, "and nobody comes back as the one without a name");
}

async fn of_too_many_devices_the_one_that_was_silent_for_longest_goes_and_what_it_acknowledged_stays(fixture: Fixture) {
    fixture.fold(notifications(0, 9, vec![notified(1, 1), notified(2, 2)])).await;
    fold(&fixture, vec![heard("a", 0, 1), heard("b", 1, 2), heard("c", 2, 3), heard("a", 3, 4)]).await;
    assert_eq!(kept(&fixture).await, ["a", "c", "b"]);
    fold(&fixture, vec![heard("d", 4, 5)]).await;
    assert_eq!(kept(&fixture).await, ["d", "a", "c"], "b goes");
    let b = "b".parse().unwrap();
    assert_eq!(fixture.store.cursors((&user(), &b), &[mailbox()]).await.unwrap(), [], "it begins anew");
    assert_eq!(fixture.evidence(2, 2).await.reach(), Reach::Delivered, "what it acknowledged is delivered");
    fold(&fixture, vec![heard("b", 5, 6)]).await;
    assert_eq!(kept(&fixture).await, ["b", "d", "a"]);
    let cursors_of_b = fixture.store.cursors((&user(), &b), &[mailbox()]).await.unwrap();
    assert_eq!(cursors_of_b, [cursor("b", &[(6, 7)], &[(6, 7)])]);
}

async fn devices_that_nobody_named_take_the_place_of_none_and_what_they_acknowledged_is_delivered(fixture: Fixture) {
    fixture.fold(notifications(0, 9, vec![notified(1, 4)])).await;
    fold(&fixture, vec![heard("phone", 0, 1)]).await;
    let mut anonymous = (0..5).map(|number| heard(&format!("drawn-{number}"), 1, number)).collect::<Vec<_>>();
    anonymous.iter_mut().for_each(|heard| heard.record.drawn = true);
    fold(&fixture, anonymous).await;
    assert_eq!(kept(&fixture).await, ["phone"]);
    assert_eq!(fixture.evidence(1, 4).await.reach(), Reach::Delivered);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn however_cursors_are_cut_into_batches_the_same_devices_and_stretches_are_left(
        steps in prop::collection::vec((0..9_i64, 0..7_u8, 0..20_i64, 0..6_usize), 1..40),
        size in 1..9_usize,
    ) {
        let mut hour = 0;
        let cursors = steps.iter().map(|(hours, device, offset, channel)| {
            hour += hours;
            let mut heard = heard(&device.to_string(), hour, *offset);
            heard.record.drawn = *device == 0;
            if let Some(channel) = ["a", "b", "c", "role-driver"].get(*channel) {
                heard.record.channel = channel.parse().unwrap();
            }
            if offset % 3 == 0 {
                heard.record.began = Some(offset / 2);
            }
            heard
        });
        let cursors = cursors.collect::<Vec<_>>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dumps = runtime.block_on(async {
            let mut dumps = Vec::new();
            for size in [size, cursors.len()] {
                for fixture in Fixture::each().await {
                    for some in cursors.chunks(size) {
                        fold(&fixture, some.to_vec()).await;
                    }
                    assert!(kept(&fixture).await.len() <= 3);
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
