//! Where devices begin: new ones, those that were never sent anything, those that nobody named or that had to go for others, and tabs.
//! Long because each kind of newcomer is met on sockets, and most of them twice.

use std::num::NonZeroUsize;

use reqwest::Method;
use serde_json::{Value, json};
use tidings::cli::Role;

use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::missed::{MAILBOX, back_as, id, outcomes, pay, position, query, returned, told, witness};
use crate::harness::rest::{answered, request};
use crate::harness::world::{Running, World, ms, unix_now};

const EVERYONE: &str = "system-announcements";

/// Something for everyone, or for a role, by a name of its own.
async fn announce(world: &World, to: Value, name: &str) {
    world.ask(&json!({"to": to, "type": name, "message": "m"})).await;
}

/// One of Alice's devices is here for a moment, and sent nothing.
async fn visits(world: &World, running: &Running, device: &str) {
    returned(running.address, device).await.close().await;
    until_begun(world, &[(EVERYONE, device), (MAILBOX, device)]).await;
}

async fn until_begun(world: &World, places: &[(&str, &str)]) {
    for (channel, device) in places {
        eventually(&format!("the store knows where {device} began in {channel}"), async || {
            world.begun(channel).await.iter().any(|known| known == device).then_some(())
        })
        .await;
    }
}

/// A device is told of these in a channel, and that they are all.
async fn expect_told(device: &mut Client, channel: &str, sent: &[String]) {
    let told = told(device, channel).await;
    assert_eq!((told.sent.as_slice(), &told.recovered["recovered"]), (sent, &json!(true)));
}

/// A device has handled all of the mailbox before a position.
async fn acknowledge(device: &mut Client, position: &str) {
    device.send(json!({"type": "ack", "channel": MAILBOX, "position": position})).await;
}

#[tokio::test]
async fn a_device_that_was_sent_nothing_yet_comes_back_to_the_first_announcement_that_it_missed() {
    let world = World::new().await;
    let running = world.start().await;
    let mut witness = witness(&running).await;
    announce(&world, json!({"everyone": true}), "before").await;
    assert_eq!(witness.frame("notification:new").await["notification"]["type"], "before");
    visits(&world, &running, "phone").await;
    announce(&world, json!({"everyone": true}), "missed").await;
    let missed = witness.frame("notification:new").await;
    // Again and again, until it acknowledges.
    for _ in 0..2 {
        let mut phone = returned(running.address, "phone").await;
        expect_told(&mut phone, EVERYONE, &[position(&missed)]).await;
    }
    let mut phone = returned(running.address, "phone").await;
    assert_eq!(told(&mut phone, EVERYONE).await.sent, [position(&missed)]);
    phone.ack(&missed).await;
    phone.close().await;
    // One that was never here begins with what comes next, as does one that has everything.
    announce(&world, json!({"everyone": true}), "next").await;
    let next = witness.frame("notification:new").await;
    eventually("it comes back behind what it acknowledged", async || {
        let mut phone = returned(running.address, "phone").await;
        (told(&mut phone, EVERYONE).await.sent == [position(&next)]).then_some(())
    })
    .await;
    let mut tablet = returned(running.address, "tablet").await;
    announce(&world, json!({"everyone": true}), "last").await;
    assert_eq!(tablet.frame("notification:new").await["notification"]["type"], "last");
    running.stop().await;
}

#[tokio::test]
async fn a_laptop_that_was_opened_once_is_sent_what_came_since_although_the_phone_acknowledged_it() {
    let world = World::new().await;
    let running = world.start().await;
    visits(&world, &running, "laptop").await;
    let mut phone = returned(running.address, "phone").await;
    let sent = pay(&world, &mut phone, 0..2).await;
    acknowledge(&mut phone, &sent[1]).await;
    world.until_folded(2).await;
    let mut laptop = returned(running.address, "laptop").await;
    expect_told(&mut laptop, MAILBOX, &sent).await;
    running.stop().await;
}

#[tokio::test]
async fn in_a_role_and_in_a_channel_of_its_choice_a_device_comes_back_to_where_it_began_on_any_node() {
    let world = World::new().await;
    let first = world.start().await;
    let second = world.start_roles(&[Role::Gateway]).await;
    let token = World::token_of(&json!({"sub": "alice", "roles": ["driver"], "exp": unix_now() + 3600}));
    let query = |device: &str| format!("token={token}&deviceId={device}&ack=client");
    let mut phone = Client::greeted(first.address, &query("phone")).await.0;
    phone.subscribe("booking-updates").await;
    phone.close().await;
    let channels = ["role-driver", "booking-updates"];
    until_begun(&world, &channels.map(|channel| (channel, "phone"))).await;
    let mut witness = Client::greeted(first.address, &query("witness")).await.0;
    witness.subscribe("booking-updates").await;
    let mut missed = Vec::new();
    for to in [json!({"role": "driver"}), json!({"channel": "booking-updates"})] {
        announce(&world, to, "missed").await;
        missed.push(witness.frame("notification:new").await);
    }
    let mut phone = Client::greeted(second.address, &query("phone")).await.0;
    assert_eq!(told(&mut phone, "role-driver").await.frames.iter().map(id).collect::<Vec<_>>(), [id(&missed[0])]);
    let begun = phone.subscribe("booking-updates").await;
    assert_eq!(begun["recovering"], true);
    assert_eq!(told(&mut phone, "booking-updates").await.frames.iter().map(id).collect::<Vec<_>>(), [id(&missed[1])]);
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn where_a_device_began_is_written_once_and_not_when_it_comes_back() {
    let world = World::new().await;
    let running = world.start().await;
    visits(&world, &running, "phone").await;
    let written = world.own_records("cursors", 2).await.len();
    assert_eq!(written, 2, "its mailbox, and what is for everyone");
    for _ in 0..3 {
        returned(running.address, "phone").await.close().await;
    }
    // What another one writes comes behind what it would have.
    visits(&world, &running, "tablet").await;
    let devices =
        world.own_records("cursors", 4).await.iter().map(|record| record.json()["deviceId"].clone()).collect::<Vec<_>>();
    assert_eq!(devices.iter().filter(|device| **device == "phone").count(), 2, "{devices:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_device_that_was_forgotten_in_a_quiet_channel_is_told_that_it_may_have_missed_something_however_often_it_was_there() {
    let world = World::with(|config| config.inbox.channels_per_device = NonZeroUsize::new(2).unwrap()).await;
    let running = world.start().await;
    let (quiet, others) = ("waitlist-notifications", ["booking-updates", "notifications"]);
    visits(&world, &running, "phone").await;
    for other in [&others[..0], &others[..1], &others[1..]] {
        let mut phone = returned(running.address, "phone").await;
        assert_eq!(phone.subscribe(quiet).await["recovering"], false, "nothing was sent there");
        for channel in other {
            assert_eq!(phone.subscribe(channel).await["recovering"], false, "it is new there, for all that anybody knows");
        }
        phone.close().await;
        until_begun(&world, &[(other.first().copied().unwrap_or(quiet), "phone")]).await;
    }
    eventually("one was too many", async || (running.metric("tidings_inbox_lapsed_interests_total").await == 1.0).then_some(()))
        .await;
    let mut witness = witness(&running).await;
    announce(&world, json!({"everyone": true}), "missed").await;
    let announced = witness.frame("notification:new").await;
    for channel in [quiet, others[0], others[1]] {
        witness.subscribe(channel).await;
        announce(&world, json!({"channel": channel}), "missed").await;
        witness.frame("notification:new").await;
    }
    let mut phone = returned(running.address, "phone").await;
    assert_eq!(told(&mut phone, EVERYONE).await.sent, [position(&announced)], "that was nobody's choice");
    for channel in others {
        assert_eq!(phone.subscribe(channel).await["recovering"], true);
        assert_eq!(told(&mut phone, channel).await.sent.len(), 1);
    }
    // It speaks of this one anew, so another one has to go.
    assert_eq!(phone.subscribe(quiet).await["recovering"], true);
    assert_eq!(told(&mut phone, quiet).await.recovered["recovered"], false, "nobody can say that it missed nothing");
    phone.close().await;
    // From there on nothing is missing.
    until_begun(&world, &[(quiet, "phone")]).await;
    announce(&world, json!({"channel": quiet}), "next").await;
    let next = witness.frame("notification:new").await;
    let mut phone = returned(running.address, "phone").await;
    phone.subscribe(quiet).await;
    expect_told(&mut phone, quiet, &[position(&next)]).await;
    assert_eq!(outcomes(&running, "lapsed").await, 1);
    // A device that was forgotten nowhere is new where nothing is known of it.
    let mut tablet = returned(running.address, "tablet").await;
    assert_eq!(tablet.subscribe(quiet).await["recovering"], false);
    running.stop().await;
}

/// Alice's devices, as she is told.
async fn devices(running: &Running) -> Vec<(String, u64)> {
    let (status, body) =
        answered(request(running.address, Method::GET, "/v1/me/devices").bearer_auth(World::token("alice"))).await;
    assert_eq!(status, 200, "{body}");
    let known = |device: &Value| (device["deviceId"].as_str().unwrap().to_owned(), device["connections"].as_u64().unwrap());
    body["devices"].as_array().unwrap().iter().map(known).collect()
}

#[tokio::test]
async fn connections_that_name_no_device_push_none_out_and_what_they_acknowledge_is_delivered() {
    let world = World::with(|config| config.inbox.devices_per_user = NonZeroUsize::new(2).unwrap()).await;
    let running = world.start().await;
    let mut phone = returned(running.address, "phone").await;
    let seen = pay(&world, &mut phone, 0..1).await;
    acknowledge(&mut phone, &seen[0]).await;
    phone.close().await;
    world.until_folded(1).await;
    let mut missed = Vec::new();
    let anonymous = format!("token={}&ack=client", World::token("alice"));
    for number in 1..5 {
        let mut nobody = Client::greeted(running.address, &anonymous).await.0;
        let sent = pay(&world, &mut nobody, number..number + 1).await;
        acknowledge(&mut nobody, &sent[0]).await;
        nobody.close().await;
        missed.extend(sent);
        // Else it is pending for the next one, too.
        world.until_folded(number + 1).await;
    }
    let _nobody = Client::greeted(running.address, &anonymous).await.0;
    assert_eq!(devices(&running).await, [("phone".to_owned(), 0)]);
    // It goes on where it stopped.
    expect_told(&mut returned(running.address, "phone").await, MAILBOX, &missed).await;
    running.stop().await;
}

#[tokio::test]
async fn a_device_that_is_connected_is_listed_before_it_has_written_anything() {
    let world = World::with(|config| config.gateway.mailbox_cursor_interval = ms(3_600_000)).await;
    let running = world.start().await;
    let _phone = returned(running.address, "phone").await;
    let _tabs = (returned(running.address, "laptop").await, returned(running.address, "laptop").await);
    assert_eq!(devices(&running).await, [("laptop".to_owned(), 2), ("phone".to_owned(), 1)]);
    running.stop().await;
}

#[tokio::test]
async fn a_device_that_had_to_go_for_others_comes_back_as_a_new_one() {
    let world = World::with(|config| config.inbox.devices_per_user = NonZeroUsize::new(2).unwrap()).await;
    let running = world.start().await;
    let mut sent = Vec::new();
    for (number, device) in ["phone", "watch", "tablet"].iter().enumerate() {
        let mut client = returned(running.address, device).await;
        sent.extend(pay(&world, &mut client, number..number + 1).await);
        acknowledge(&mut client, &sent[number]).await;
        world.until_folded(number + 1).await;
        client.close().await;
    }
    assert_eq!(devices(&running).await, [("tablet".to_owned(), 0), ("watch".to_owned(), 0)]);
    let mut witness = witness(&running).await;
    let pending = pay(&world, &mut witness, 3..4).await;
    world.until_inbox(4).await;
    let mut phone = returned(running.address, "phone").await;
    assert_eq!(told(&mut phone, MAILBOX).await.sent, pending, "what was acknowledged meanwhile is not for a new one");
    running.stop().await;
}

#[tokio::test]
async fn a_new_device_is_sent_what_is_not_folded_yet_as_if_it_were_pending() {
    let world = World::new().await;
    // Makes the store, and leaves it.
    world.start().await.stop().await;
    let running = world.start_roles(&[Role::Pipeline, Role::Gateway]).await;
    let mut witness = witness(&running).await;
    let sent = pay(&world, &mut witness, 0..3).await;
    let mut fresh = returned(running.address, "fresh").await;
    expect_told(&mut fresh, MAILBOX, &sent).await;
    running.stop().await;
}

#[tokio::test]
async fn of_two_tabs_on_two_nodes_the_furthest_says_where_their_device_stopped() {
    let world = World::new().await;
    let first = world.start().await;
    let second = world.start_roles(&[Role::Gateway]).await;
    let mut ahead = returned(first.address, "phone").await;
    let mut behind = returned(second.address, "phone").await;
    let sent = pay(&world, &mut ahead, 0..4).await;
    for position in &sent {
        assert_eq!(behind.frame("notification:new").await["position"], **position);
    }
    acknowledge(&mut ahead, &sent[2]).await;
    acknowledge(&mut behind, &sent[0]).await;
    ahead.close().await;
    behind.close().await;
    eventually("three are acknowledged in SQL", async || (world.acknowledged("alice").await.len() == 3).then_some(())).await;
    for node in [&first, &second] {
        let mut phone = returned(node.address, "phone").await;
        assert_eq!(told(&mut phone, MAILBOX).await.sent, sent[3..]);
    }
    second.stop().await;
    first.stop().await;
}

/// Cursors of Alice's phone that say no more than that it is used.
async fn uses(world: &World) -> usize {
    let cursors =
        world.log.records(&world.own("cursors")).await.into_iter().filter(|record| record.json()["deviceId"] == "phone");
    let says_nothing = |cursor: &Value| {
        cursor.get("began").is_none() && ["offered", "acknowledged"].iter().all(|said| cursor[*said] == json!([]))
    };
    let uses = cursors.filter(|record| says_nothing(&record.json())).collect::<Vec<_>>();
    assert!(uses.iter().all(|record| record.key.as_deref() == Some(b"alice|phone|")), "they take the place of nothing it said");
    uses.len()
}

#[tokio::test]
async fn a_device_that_is_used_and_sent_nothing_is_not_forgotten_and_one_that_is_not_used_is() {
    let world = World::with(|config| {
        config.gateway.device_interval = ms(300);
        config.inbox.device_retention = ms(2_500);
        config.kafka.topics.partitions = 1;
    })
    .await;
    let running = world.start().await;
    visits(&world, &running, "laptop").await;
    let _phone = returned(running.address, "phone").await;
    until_begun(&world, &[(EVERYONE, "phone")]).await;
    // Retention goes by the log, which the phone alone moves on.
    eventually("the laptop is forgotten", async || (!world.begun(EVERYONE).await.contains(&"laptop".to_owned())).then_some(()))
        .await;
    assert_eq!(devices(&running).await, [("phone".to_owned(), 1)]);
    assert!(uses(&world).await >= 2);
    // It began before the laptop was forgotten, and comes back to that; the laptop is a new one.
    let mut witness = witness(&running).await;
    announce(&world, json!({"everyone": true}), "missed").await;
    let missed = witness.frame("notification:new").await;
    let mut phone = returned(running.address, "phone").await;
    assert_eq!(told(&mut phone, EVERYONE).await.sent, [position(&missed)]);
    let mut laptop = returned(running.address, "laptop").await;
    announce(&world, json!({"everyone": true}), "next").await;
    assert_eq!(laptop.frame("notification:new").await["notification"]["type"], "next");
    running.stop().await;
}

#[tokio::test]
async fn a_device_that_comes_and_goes_is_told_to_be_in_use_once_an_interval_however_it_comes() {
    let world = World::new().await;
    let running = world.start().await;
    visits(&world, &running, "phone").await;
    running.stop().await;
    assert_eq!(uses(&world).await, 0, "its beginning says it");
    // Another process does not know of it.
    let running = world.start().await;
    let (phone, greeting) = Client::greeted(running.address, &query("phone")).await;
    phone.close().await;
    eventually("it is told to be in use", async || (uses(&world).await == 1).then_some(())).await;
    for _ in 0..3 {
        returned(running.address, "phone").await.close().await;
        back_as("phone", running.address, &greeting["channels"]).await.close().await;
    }
    // What another one writes comes behind what it would have.
    visits(&world, &running, "tablet").await;
    running.stop().await;
    assert_eq!(uses(&world).await, 1);
}

#[tokio::test]
async fn a_device_whose_beginning_is_not_folded_yet_is_not_taken_for_a_new_one() {
    let mut world = World::new().await;
    world.start().await.stop().await;
    world.config.gateway.recovery.device_wait = ms(500);
    let running = world.start_roles(&[Role::Pipeline, Role::Gateway]).await;
    // The very first: nothing waits to be folded.
    let mut phone = returned(running.address, "phone").await;
    phone.subscribe("booking-updates").await;
    phone.close().await;
    world.own_records("cursors", 3).await;
    announce(&world, json!({"everyone": true}), "missed").await;
    announce(&world, json!({"channel": "booking-updates"}), "missed").await;
    world.own_records("notifications", 2).await;
    // Nobody folds: nobody can say whether it was here.
    let mut phone = returned(running.address, "phone").await;
    let lost = told(&mut phone, EVERYONE).await;
    assert_eq!((lost.sent.len(), &lost.recovered["recovered"]), (0, &json!(false)));
    assert_eq!(phone.subscribe("booking-updates").await["recovering"], true);
    assert_eq!(told(&mut phone, "booking-updates").await.recovered["recovered"], false);
    phone.close().await;
    // Who was drawn an id was never here.
    let anonymous = format!("token={}&ack=client", World::token("alice"));
    let mut nobody = Client::greeted(running.address, &anonymous).await.0;
    let begun = nobody.subscribe("booking-updates").await;
    assert_eq!((&begun["channel"], &begun["recovering"]), (&json!("booking-updates"), &json!(false)));
    running.stop().await;
    // Folded in time it comes back to where it began.
    (world.config.gateway.recovery.device_wait, world.config.gateway.recovery.wait) = (ms(120_000), ms(120_000));
    let running = world.start_roles(&[Role::Gateway]).await;
    let coming = returned(running.address, "phone");
    let folding = world.start_roles(&[Role::Inbox]);
    let (mut phone, inbox) = tokio::join!(coming, folding);
    let told = told(&mut phone, EVERYONE).await;
    let types = told.frames.iter().map(|frame| frame["notification"]["type"].clone()).collect::<Vec<_>>();
    assert_eq!((types, &told.recovered["recovered"]), (vec![json!("missed")], &json!(true)));
    inbox.stop().await;
    running.stop().await;
}

#[tokio::test]
async fn of_two_tabs_that_acknowledge_by_answering_pings_the_furthest_says_where_their_device_stopped() {
    let world = World::with(|config| config.gateway.heartbeat_interval = ms(300)).await;
    let running = world.start().await;
    let written = format!("token={}&deviceId=phone", World::token("alice"));
    let mut answers = Client::greeted(running.address, &written).await.0;
    // It answers nothing, and is closed for it.
    let silent = Client::greeted(running.address, &format!("{written}&ack=client")).await.0;
    let mut witness = witness(&running).await;
    let sent = pay(&world, &mut witness, 0..3).await;
    for position in &sent {
        assert_eq!(answers.frame("notification:new").await["position"], **position);
    }
    let folded = async {
        eventually("what it was sent is acknowledged", async || (world.acknowledged("alice").await.len() == 3).then_some(()))
            .await;
    };
    answers.reads_until(folded).await;
    drop((silent, witness));
    answers.close().await;
    let mut other = returned(running.address, "other").await;
    let missed = pay(&world, &mut other, 3..4).await;
    let mut phone = returned(running.address, "phone").await;
    assert_eq!(told(&mut phone, MAILBOX).await.sent, missed);
    running.stop().await;
}
