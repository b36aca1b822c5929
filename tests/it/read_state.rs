//! What a user has read, seen or dismissed, on every device and node, and what is unread. Long because every answer and every refusal
//! is asked for over a socket. `once` has what is withdrawn.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tidings::cli::Role;

use crate::harness::broker::OwnBroker;
use crate::harness::client::{Client, Heard};
use crate::harness::eventually;
use crate::harness::missed::some;
use crate::harness::process::Process;
use crate::harness::reading::{asked, counts, device, heard, id};
use crate::harness::rest::ask;
use crate::harness::world::{World, metric, ms, payment, unix_now};

const MAILBOX: &str = "user-alice";
const REFUSED: &str = "tidings_gateway_refused_frames_total";

/// Lets a payment of Alice's come to a device. Gives its frame.
async fn pay(world: &World, device: &mut Client, name: &str) -> Value {
    world.emit(&payment(name, "alice")).await;
    device.frame("notification:new").await
}

fn refusal(answer: &Value) -> (&str, &str, bool) {
    let text = |name: &str| answer[name].as_str().unwrap();
    (text("type"), text("code"), answer["retryable"].as_bool().unwrap())
}

#[tokio::test]
async fn what_is_marked_as_read_is_answered_and_told_to_all_of_the_users_connections_on_every_node() {
    let world = World::new().await;
    let first = world.start().await;
    let second = world.start_roles(&[Role::Gateway]).await;
    let (mut phone, connection) = device(first.address, "alice", "phone").await;
    let (mut laptop, _) = device(second.address, "alice", "laptop").await;
    let (mut tablet, _) = device(first.address, "alice", "tablet").await;
    let (mut bob, _) = device(first.address, "bob", "phone").await;
    let one = id(&pay(&world, &mut phone, "1").await);
    let answer = asked(&mut phone, json!({"type": "mark_read", "notificationId": one})).await;
    assert_eq!((&answer["type"], &answer["channel"]), (&json!("notification:read"), &json!(MAILBOX)));
    assert_eq!(answer["notificationIds"], json!([one]));
    for other in [&mut laptop, &mut tablet] {
        let read = other.frame("notification:read").await;
        assert_eq!((&read["notificationIds"], read.get("replyTo")), (&json!([one]), None));
        let sync = other.frame("notification:sync").await;
        assert_eq!((&sync["notificationId"], &sync["isRead"], &sync["isSeen"]), (&one, &json!(true), &json!(true)));
        assert_eq!((&sync["sourceDevice"], &sync["sourceConnection"]), (&json!("phone"), &connection));
    }
    assert!(heard(&mut phone).await.is_empty(), "who asked was answered");
    assert!(heard(&mut bob).await.is_empty());

    let two = id(&pay(&world, &mut phone, "2").await);
    let both = json!({"type": "mark_read", "notificationIds": [two, one]});
    for _ in 0..2 {
        assert_eq!(asked(&mut laptop, both.clone()).await["notificationIds"], json!([two, one]), "twice is as good as once");
        assert_eq!(phone.frame("notification:read").await["notificationIds"], json!([two, one]));
    }
    let records = world.own_records("receipts", 3).await;
    assert!(records.iter().all(|record| record.key.as_deref() == Some(MAILBOX.as_bytes())));
    let first_record = records[0].json();
    assert_eq!((&first_record["receipt"], &first_record["state"]), (&json!("state"), &json!("read")));
    assert_eq!(first_record["items"][0]["channel"], MAILBOX);
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn each_action_is_told_to_every_other_connection_and_answered_to_who_waits() {
    let world = World::new().await;
    let running = world.start().await;
    let (mut phone, connection) = device(running.address, "alice", "phone").await;
    let (mut tab, _) = device(running.address, "alice", "phone").await;
    let one = id(&pay(&world, &mut phone, "1").await);
    let cases = [
        ("seen", json!({"isSeen": true})),
        ("read", json!({"isSeen": true, "isRead": true})),
        ("unread", json!({"isRead": false})),
        ("dismiss", json!({"isSeen": true, "isDismissed": true})),
    ];
    for (action, change) in cases {
        let frame = json!({"type": "notification_action", "notificationId": one, "action": action});
        phone.send(frame.clone()).await;
        let sync = tab.frame("notification:sync").await;
        for name in ["isSeen", "isRead", "isDismissed"] {
            assert_eq!(sync.get(name), change.get(name), "{action}: {sync}");
        }
        assert_eq!((&sync["notificationId"], &sync["sourceConnection"]), (&one, &connection));
        assert!(heard(&mut phone).await.is_empty(), "{action}: who gives no `messageId` waits for no answer");
        let answer = asked(&mut phone, frame).await;
        assert_eq!((&answer["type"], &answer["notificationId"]), (&json!("notification:sync"), &one), "{action}");
        tab.frame("notification:sync").await;
    }
    running.stop().await;
}

#[tokio::test]
async fn everything_before_a_position_is_marked_at_once_and_no_position_of_elsewhere_is() {
    let world = World::new().await;
    let running = world.start().await;
    let (mut phone, _) = device(running.address, "alice", "phone").await;
    let (mut laptop, _) = device(running.address, "alice", "laptop").await;
    let last = pay(&world, &mut phone, "1").await;
    let answer = asked(&mut phone, json!({"type": "mark_read", "upTo": last["position"]})).await;
    for frame in [answer, laptop.frame("notification:read").await] {
        assert_eq!((&frame["channel"], &frame["upTo"]), (&json!(MAILBOX), &last["position"]), "{frame}");
    }
    let everyone = asked(&mut phone, json!({"type": "mark_read", "upTo": "1:0", "channel": "system-announcements"})).await;
    assert_eq!(everyone["channel"], "system-announcements", "{everyone}");
    laptop.frame("notification:read").await;

    let before = world.own_records("receipts", 2).await.len();
    phone.subscribe("booking-updates").await;
    let refused = [
        json!({"upTo": "7:1"}),
        json!({"upTo": "1:9223372036854775807"}),
        json!({"upTo": last["position"], "channel": "user-bob"}),
        json!({"upTo": last["position"], "channel": "role-admin"}),
        json!({"upTo": "1:0", "channel": "booking-updates"}),
    ];
    for mut frame in refused.clone() {
        frame["type"] = json!("mark_read");
        let answer = asked(&mut phone, frame.clone()).await;
        assert_eq!(refusal(&answer), ("error", "forbidden", false), "{frame}: {answer}");
    }
    assert_eq!(running.labelled(REFUSED, "code=\"forbidden\"").await, refused.len() as u64);
    assert_eq!(world.own_records("receipts", before).await.len(), before, "nothing was written");
    assert!(heard(&mut laptop).await.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn notifications_of_others_unknown_ones_and_frames_out_of_bounds_change_nothing_and_are_counted() {
    let world = World::new().await;
    let running = world.start().await;
    let (mut alice, _) = device(running.address, "alice", "phone").await;
    let (mut bob, _) = device(running.address, "bob", "phone").await;
    world.emit(&payment("1", "bob")).await;
    let of_bob = id(&bob.frame("notification:new").await);
    eventually("it is folded", async || (world.inbox("bob").await.len() == 1).then_some(())).await;
    let own = id(&pay(&world, &mut alice, "2").await);
    // Nothing is said to be nowhere before the store has folded all.
    world.until_inbox(1).await;
    let unknown = json!("438e828e-0a38-5599-8fb1-76b0e4574c75");
    let many = vec![unknown.clone(); 101];
    let cases = [
        (json!({"type": "mark_read", "notificationId": of_bob}), "not_found"),
        (json!({"type": "notification_action", "notificationId": of_bob, "action": "dismiss"}), "not_found"),
        (json!({"type": "notification_action", "notificationId": unknown, "action": "unread"}), "not_found"),
        (json!({"type": "mark_read", "notificationIds": [unknown]}), "not_found"),
        (json!({"type": "mark_read", "notificationIds": many}), "limit"),
        (json!({"type": "mark_read", "notificationIds": []}), "bad_frame"),
        (json!({"type": "mark_read"}), "bad_frame"),
        (json!({"type": "notification_action", "notificationId": own, "action": "burn"}), "bad_frame"),
        (json!({"type": "notification_action", "notificationId": "x", "action": "read"}), "bad_frame"),
    ];
    for (frame, code) in cases {
        let answer = asked(&mut alice, frame.clone()).await;
        assert_eq!(refusal(&answer), ("error", code, false), "{frame}: {answer}");
        assert!(!answer.to_string().contains("bob"), "{answer}");
    }
    for (code, times) in [("not_found", 4), ("limit", 1), ("bad_frame", 4)] {
        assert_eq!(running.labelled(REFUSED, &format!("code=\"{code}\"")).await, times, "{code}");
    }
    assert_eq!(running.labelled("tidings_gateway_crossed_limits_total", "limit=\"frame_names\"").await, 1);
    assert!(world.log.records(&world.own("receipts")).await.is_empty(), "nothing was written");

    // Of several, those that are the user's are marked, and the first that is not is named.
    alice.send(json!({"type": "mark_read", "notificationIds": [own, of_bob], "messageId": "m"})).await;
    assert_eq!(alice.frame("notification:read").await["notificationIds"], json!([own]));
    let named = alice.frame("error").await;
    assert_eq!((&named["code"], &named["replyTo"]), (&json!("not_found"), &json!("m")));
    assert!(named["message"].as_str().unwrap().contains(of_bob.as_str().unwrap()));
    assert!(heard(&mut bob).await.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn roles_and_everyone_can_be_marked_by_who_is_shown_them() {
    let world = World::new().await;
    let running = world.start().await;
    let token = World::token_of(&json!({"sub": "alice", "roles": ["driver"], "exp": unix_now() + 3600}));
    let (mut driver, _) = Client::greeted(running.address, &format!("token={token}&deviceId=d1&ack=client")).await;
    let (mut bob, _) = device(running.address, "bob", "phone").await;
    let to = |to: Value| ask(running.address, None, &json!({"to": to, "message": "m", "exclude": ["bob"]})).send();
    to(json!({"role": "driver"})).await.unwrap();
    let of_role = driver.frame("notification:new").await;
    to(json!({"everyone": true})).await.unwrap();
    let of_all = driver.frame("notification:new").await;
    for frame in [&of_role, &of_all] {
        let answer = asked(&mut driver, json!({"type": "mark_read", "notificationId": id(frame)})).await;
        assert_eq!((&answer["type"], &answer["channel"]), (&json!("notification:read"), &frame["channel"]), "{answer}");
        let answer = asked(&mut bob, json!({"type": "mark_read", "notificationId": id(frame)})).await;
        assert_eq!(refusal(&answer), ("error", "not_found", false), "without the role, or left out: {answer}");
    }
    running.stop().await;
}

#[tokio::test]
async fn what_a_node_cannot_know_yet_is_kept_but_for_what_depends_on_its_place() {
    let world = World::new().await;
    let first = world.start_roles(&[Role::Pipeline, Role::Gateway]).await;
    let (mut phone, _) = device(first.address, "alice", "phone").await;
    let one = id(&pay(&world, &mut phone, "1").await);
    // It has neither read it nor a store.
    let second = world.start_roles(&[Role::Gateway]).await;
    let (mut laptop, _) = device(second.address, "alice", "laptop").await;
    let answer = asked(&mut laptop, json!({"type": "notification_action", "notificationId": one, "action": "unread"})).await;
    assert_eq!(refusal(&answer), ("error", "not_yet", true), "{answer}");
    let answer = asked(&mut laptop, json!({"type": "mark_read", "notificationId": one})).await;
    assert_eq!((&answer["notificationIds"], answer.get("channel")), (&json!([one]), None), "{answer}");
    assert_eq!(phone.frame("notification:read").await["notificationIds"], json!([one]));
    let [record] = world.own_records("receipts", 1).await.try_into().unwrap();
    assert_eq!(record.json()["items"], json!([{"id": one}]));
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn with_the_brokers_away_nothing_is_answered_as_done_and_the_client_may_ask_again() {
    let broker = OwnBroker::start();
    let world = World::on(&broker.brokers, |config| {
        config.gateway.receipt_timeout = ms(1_000);
        // Nothing answers pings while the test waits for a broker to start.
        config.gateway.heartbeat_interval = ms(3_600_000);
    })
    .await;
    let running = world.start_roles(&[Role::Pipeline, Role::Gateway]).await;
    let (mut phone, _) = device(running.address, "alice", "phone").await;
    let one = id(&pay(&world, &mut phone, "1").await);
    broker.stop();
    let frame = json!({"type": "mark_read", "notificationId": one});
    let answer = asked(&mut phone, frame.clone()).await;
    assert_eq!(refusal(&answer), ("error", "not_yet", true), "{answer}");
    assert_eq!(running.failed("gateway", ("dependency", "retry_in_place", "receipt_unwritten")).await, 1);
    broker.start_again();
    running.await_ready().await;
    eventually("what is sent again is taken", async || {
        (asked(&mut phone, frame.clone()).await["type"] == "notification:read").then_some(())
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn what_is_unread_is_told_in_the_greeting_and_when_it_changes_on_every_node() {
    let world = World::with(|config| config.gateway.counts.interval = ms(100)).await;
    let first = world.start().await;
    let second = world.start_roles(&[Role::Gateway]).await;
    let query = format!("token={}&deviceId=d1&ack=client", World::token("alice"));
    let (mut phone, greeting) = Client::greeted(first.address, &query).await;
    assert_eq!((&greeting["counts"]["unread"], &greeting["counts"]["unseen"]), (&json!(0), &json!(0)), "{greeting}");
    let (mut laptop, _) = device(second.address, "alice", "laptop").await;
    let one = pay(&world, &mut phone, "1").await;
    let two = pay(&world, &mut phone, "2").await;
    for client in [&mut phone, &mut laptop] {
        let told = counts(client, 2, 2).await;
        assert_eq!(told["asOf"], two["position"], "{told}");
    }
    phone.send(json!({"type": "notification_action", "notificationId": id(&one), "action": "seen"})).await;
    phone.send(json!({"type": "mark_read", "notificationId": id(&two)})).await;
    for client in [&mut phone, &mut laptop] {
        counts(client, 1, 0).await;
    }
    let (_, greeting) = Client::greeted(second.address, &query).await;
    assert_eq!((&greeting["counts"]["unread"], &greeting["counts"]["unseen"]), (&json!(1), &json!(0)), "{greeting}");
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn beyond_the_users_whose_counts_are_remembered_a_change_is_not_told_and_counted_and_a_greeting_still_says_them() {
    let world = World::with(|config| {
        config.gateway.counts.interval = ms(100);
        config.gateway.counts.users = some(1);
    })
    .await;
    let running = world.start().await;
    let (mut alice, _) = device(running.address, "alice", "phone").await;
    world.emit(&payment("1", "alice")).await;
    counts(&mut alice, 1, 1).await;
    let (mut bob, _) = device(running.address, "bob", "phone").await;
    world.emit(&payment("2", "bob")).await;
    bob.frame("notification:new").await;
    let limit = "limit=\"counts.users\"";
    eventually("the limit is crossed", async || {
        (running.labelled("tidings_gateway_crossed_limits_total", limit).await > 0).then_some(())
    })
    .await;
    bob.send(json!({"type": "ping"})).await;
    bob.frame("pong").await;
    assert_eq!(bob.passed_over("counts"), None);
    world.emit(&payment("3", "alice")).await;
    counts(&mut alice, 2, 2).await;
    eventually("a greeting says what is unread", async || {
        let query = format!("token={}&deviceId=laptop&ack=client", World::token("bob"));
        let (_, greeting) = Client::greeted(running.address, &query).await;
        (greeting["counts"]["unread"] == 1).then_some(())
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn a_node_without_a_store_tells_no_counts_while_one_with_a_store_does() {
    let mut world = World::with(|config| config.gateway.counts.interval = ms(100)).await;
    let first = world.start().await;
    world.config.store.url = format!("sqlite://{}", world.dir.path().join("never-made.db").display()).parse().unwrap();
    let without = world.start_roles(&[Role::Gateway]).await;
    let (mut laptop, _) = device(first.address, "alice", "laptop").await;
    let query = format!("token={}&deviceId=phone", World::token("alice"));
    let (mut phone, greeting) = Client::greeted(without.address, &query).await;
    assert!(greeting.get("counts").is_none(), "{greeting}");
    // Each of these is told behind an interval, which passes on both nodes.
    for number in 1..=3 {
        let paid = id(&pay(&world, &mut laptop, &number.to_string()).await);
        assert_eq!(id(&phone.frame("notification:new").await), paid);
        counts(&mut laptop, number, number).await;
    }
    phone.send(json!({"type": "ping"})).await;
    loop {
        let Heard::Frame(frame) = phone.hear().await else { panic!("the connection ended") };
        assert_ne!(frame["type"], "counts", "none rather than wrong ones");
        if frame["type"] == "pong" {
            break;
        }
    }
    assert!(phone.passed_over("counts").is_none(), "none rather than wrong ones");
    without.stop().await;
    first.stop().await;
}

/// Two processes, one of which is killed while the brokers hold a receipt back: what it answered is on the log, and the other tells it.
#[tokio::test]
async fn what_a_killed_node_has_answered_is_known_to_the_other() {
    let broker = OwnBroker::start();
    let world = World::on(&broker.brokers, |config| {
        config.gateway.counts.interval = ms(100);
        // Nothing answers pings while the broker stands still.
        config.gateway.heartbeat_interval = ms(3_600_000);
    })
    .await;
    let stays = Process::spawn(&world);
    stays.await_ready().await;
    let killed = Process::spawn_roles(&world, &["gateway"]);
    killed.await_ready().await;
    let (mut laptop, _) = device(stays.address, "alice", "laptop").await;
    let (mut phone, _) = device(killed.address, "alice", "phone").await;
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(id(&pay(&world, &mut phone, &number.to_string()).await));
    }
    let mut answered = Vec::new();
    for one in &ids[..10] {
        asked(&mut phone, json!({"type": "mark_read", "notificationId": one})).await;
        answered.push(one.clone());
    }
    // These are on their way when it dies: the brokers take nothing, so it can answer none.
    broker.signal(Signal::SIGSTOP);
    let frames = async || metric(killed.address, "tidings_gateway_received_frames_total").await;
    let before = frames().await;
    for one in &ids[10..] {
        phone.send(json!({"type": "mark_read", "notificationId": one, "messageId": "late"})).await;
    }
    // Those behind it are not read before it is answered.
    eventually("the first of them is in flight", async || (frames().await == before + 1.0).then_some(())).await;
    killed.kill();
    broker.signal(Signal::SIGCONT);
    while let Heard::Frame(frame) = phone.hear().await {
        assert_ne!(frame["replyTo"], "late", "answered, and not written: {frame}");
    }
    let mut told = Vec::new();
    while told.len() < answered.len() {
        told.extend(laptop.frame("notification:read").await["notificationIds"].as_array().unwrap().clone());
    }
    assert_eq!(told, answered, "in the order they were said");
    // What it had not answered may have come to the brokers all the same, and is true then.
    eventually("the counts say what is on the log", async || {
        let left = (ids.len() - world.log.records(&world.own("receipts")).await.len()) as u64;
        let told = laptop.frame("counts").await;
        ((&told["unread"], &told["unseen"]) == (&json!(left), &json!(left))).then_some(())
    })
    .await;
}
