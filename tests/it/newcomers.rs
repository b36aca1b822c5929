//! Where devices begin that were never sent anything, and that nothing which was theirs from then on is lost to them.

use serde_json::{Value, json};
use tidings::cli::Role;

use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::missed::{MAILBOX, id, pay, position, returned, told, witness};
use crate::harness::world::{Running, World, unix_now};

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
        let told = told(&mut phone, EVERYONE).await;
        assert_eq!((told.sent, &told.recovered["recovered"]), (vec![position(&missed)], &json!(true)));
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
    phone.send(json!({"type": "ack", "channel": MAILBOX, "position": sent[1]})).await;
    world.until_folded(2).await;
    let mut laptop = returned(running.address, "laptop").await;
    let told = told(&mut laptop, MAILBOX).await;
    assert_eq!((told.sent, &told.recovered["recovered"]), (sent, &json!(true)));
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
