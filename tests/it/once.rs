//! What is meant for one device of each person: withdrawn from the others once one has acknowledged it.

use serde_json::{Value, json};
use tidings::cli::Role;
use tidings::config::Config;

use crate::harness::client::{Client, Heard};
use crate::harness::log::Seen;
use crate::harness::missed::{MAILBOX, back, returned, some, told};
use crate::harness::process::Process;
use crate::harness::reading::{device, heard, id};
use crate::harness::world::{World, ms};

/// A world whose only rule is for one device of each person.
async fn once(change: impl FnOnce(&mut Config)) -> World {
    let mut world = World::with(change).await;
    let folder = world.dir.path().join("rules");
    std::fs::create_dir(&folder).unwrap();
    let rule = "[[rule]]\nname = \"code\"\nevent = \"a\"\nuser = \"alice\"\ntype = \"t\"\nonce = true\n";
    std::fs::write(folder.join("a.toml"), rule).unwrap();
    world.config.pipeline.rules = folder.display().to_string();
    world
}

#[tokio::test]
async fn what_is_for_one_device_is_withdrawn_from_the_others_on_every_node_once_one_has_acknowledged_it() {
    let world = once(|_| {}).await;
    let first = world.start().await;
    let second = world.start_roles(&[Role::Gateway]).await;
    let (mut phone, connection) = device(first.address, "alice", "phone").await;
    let (mut tablet, _) = device(first.address, "alice", "tablet").await;
    let (mut laptop, _) = device(second.address, "alice", "laptop").await;
    for by_id in [false, true] {
        world.emit(&json!({"type": "a", "id": by_id.to_string(), "data": {}})).await;
        let frame = phone.frame("notification:new").await;
        assert_eq!(frame["notification"]["once"], true);
        for other in [&mut tablet, &mut laptop] {
            assert_eq!(id(&other.frame("notification:new").await), id(&frame));
        }
        if by_id {
            phone.send(json!({"type": "ack", "notificationIds": [id(&frame)]})).await;
        } else {
            phone.ack(&frame).await;
        }
        for other in [&mut tablet, &mut laptop] {
            let withdrawn = other.frame("notification:withdrawn").await;
            assert_eq!((&withdrawn["channel"], &withdrawn["notificationId"]), (&json!(MAILBOX), &id(&frame)));
        }
        // The others may acknowledge it too: it is withdrawn once.
        tablet.ack(&frame).await;
        world.until_acknowledged(id(&frame).as_str().unwrap()).await;
        assert!(heard(&mut phone).await.is_empty(), "who acknowledged it knows");
    }
    let records = world.own_records("receipts", 2).await;
    assert_eq!(records.len(), 2);
    let record = records[0].json();
    assert_eq!((&record["receipt"], &record["cause"]), (&json!("withdrawn"), &json!("once")));
    assert_eq!((&record["source"]["deviceId"], &record["source"]["connectionId"]), (&json!("phone"), &connection));

    // Who comes back from before it is not sent it, from the ring of either node.
    for node in [&first, &second] {
        let query = format!("token={}&deviceId=late&ack=client&since=%7B%22{MAILBOX}%22:%221:0%22%7D", World::token("alice"));
        let (mut late, _) = Client::greeted(node.address, &query).await;
        loop {
            let Heard::Frame(frame) = late.hear().await else { panic!("the connection ended") };
            assert_ne!(frame["type"], "notification:new", "{frame}");
            if frame["type"] == "recovered" {
                break;
            }
        }
    }
    second.stop().await;
    first.stop().await;
}

/// The events of notifications that a device was sent.
fn events(frames: &[Value]) -> Vec<&str> {
    frames.iter().map(|frame| frame["notification"]["eventId"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn what_is_withdrawn_stays_so_when_its_node_is_killed_before_it_has_written_the_devices_cursor() {
    let world = once(|config| {
        // A cursor is due long after the kill.
        config.gateway.mailbox_cursor_interval = ms(3_600_000);
        config.courier.ack_timeout = ms(1_000);
        config.courier.ladder = vec![ms(1_000)];
    })
    .await;
    let stays = world.start().await;
    let killed = Process::spawn_roles(&world, &["gateway"]);
    killed.await_ready().await;
    let (mut laptop, _) = device(stays.address, "alice", "laptop").await;
    let (mut phone, _) = device(killed.address, "alice", "phone").await;
    world.emit(&json!({"type": "a", "id": "1", "data": {}})).await;
    let frame = phone.frame("notification:new").await;
    phone.ack(&frame).await;
    assert_eq!(laptop.frame("notification:withdrawn").await["notificationId"], id(&frame));
    killed.kill();
    // Where devices began may be there.
    let cursors = world.log.records(&world.own("cursors")).await;
    let acknowledged = |record: &Seen| record.json()["acknowledged"].as_array().is_some_and(|stretches| !stretches.is_empty());
    assert!(!cursors.iter().any(acknowledged), "its cursor was written before it was killed");

    // One behind it that nobody acknowledges: once that has ended, the courier has decided about both.
    world.emit(&json!({"type": "a", "id": "2", "data": {}})).await;
    let [ended] = world.own_records("undelivered", 1).await.try_into().unwrap();
    assert_eq!(ended.json()["delivery"]["notification"]["eventId"], "2");
    assert_eq!(stays.labelled("tidings_courier_dropped_deliveries_total", "why=\"withdrawn\"").await, 1);
    let rung = world.own_records("retry.1s", 1).await;
    assert_eq!(rung.iter().map(|record| record.json()["notification"]["eventId"].clone()).collect::<Vec<_>>(), ["2"]);

    // Without its cursor the device is like a new one; neither is shown it, nor who asks for everything there is.
    for mut alice in [
        returned(stays.address, "phone").await,
        returned(stays.address, "tablet").await,
        back(stays.address, &json!({MAILBOX: "1:0"})).await,
    ] {
        assert_eq!(events(&told(&mut alice, MAILBOX).await.frames), ["2"]);
    }
    stays.stop().await;
}

#[tokio::test]
async fn of_more_than_a_node_remembers_for_a_user_each_device_handles_the_oldest_for_itself_and_that_is_counted() {
    let world = once(|config| config.gateway.once_per_user = some(2)).await;
    let running = world.start().await;
    let (mut phone, _) = device(running.address, "alice", "phone").await;
    let (mut tablet, _) = device(running.address, "alice", "tablet").await;
    let mut frames = Vec::new();
    for number in 0..3 {
        world.emit(&json!({"type": "a", "id": number.to_string(), "data": {}})).await;
        frames.push(phone.frame("notification:new").await);
        tablet.frame("notification:new").await;
    }
    phone.ack(&frames[2]).await;
    let withdrawn = [tablet.frame("notification:withdrawn").await, tablet.frame("notification:withdrawn").await];
    assert_eq!(withdrawn.map(|frame| frame["notificationId"].clone()), [id(&frames[1]), id(&frames[2])]);
    world.until_acknowledged(id(&frames[0]).as_str().unwrap()).await;
    assert_eq!(running.labelled("tidings_gateway_crossed_limits_total", "limit=\"once_per_user\"").await, 1);
    assert_eq!(world.own_records("receipts", 2).await.len(), 2, "nobody withdrew the first");
    running.stop().await;
}
