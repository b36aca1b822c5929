//! Devices that come back as themselves: with what they acknowledged, in their own mode, locale and rights, after long silences.
//! Long because the core's property is asked for over sockets too.

use std::ops::Range;

use rand::RngExt as _;
use serde_json::{Value, json};
use tidings::cli::Role;
use tidings_core::time::Timestamp;

use crate::harness::client::{Client, Heard};
use crate::harness::eventually;
use crate::harness::missed::{
    Found, MAILBOX, back, forget, forgetful, id, offset, outcomes, paid, pay, position, positions, query, returned, some, told,
    witness,
};
use crate::harness::seed;
use crate::harness::world::{Running, World, ms, payment, unix_now};

async fn until_count_acknowledged(world: &World, count: usize) {
    eventually(&format!("{count} are acknowledged in SQL"), async || {
        (world.acknowledged("alice").await.len() == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_device_that_acknowledged_single_ones_comes_back_to_the_first_it_never_did() {
    let world = World::new().await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    let frames = paid(&world, &mut alice, 0..4).await;
    alice.send(json!({"type": "ack", "notificationIds": [id(&frames[0]), id(&frames[2])]})).await;
    until_count_acknowledged(&world, 2).await;
    alice.close().await;
    let mut alice = returned(running.address, "d1").await;
    let told = told(&mut alice, MAILBOX).await;
    assert_eq!(told.sent, frames[1..].iter().map(position).collect::<Vec<_>>());
    running.stop().await;
}

#[tokio::test]
async fn what_a_device_missed_counts_in_the_default_mode_once_it_answers_a_ping_behind_it() {
    let world = World::with(|config| config.gateway.heartbeat_interval = ms(300)).await;
    let running = world.start().await;
    let mut witness = witness(&running).await;
    let frames = paid(&world, &mut witness, 0..3).await;
    let query =
        format!("token={}&deviceId=d2&since={}", World::token("alice"), positions(&json!({MAILBOX: position(&frames[0])})));
    let mut alice = Client::greeted(running.address, &query).await.0;
    assert_eq!(told(&mut alice, MAILBOX).await.sent.len(), 2);
    alice.reads_until(until_count_acknowledged(&world, 2)).await;
    alice.close().await;
    let live = pay(&world, &mut witness, 3..4).await;
    let mut alice = Client::greeted(running.address, &format!("token={}&deviceId=d2", World::token("alice"))).await.0;
    assert_eq!(told(&mut alice, MAILBOX).await.sent, live, "it stopped behind what it was sent");
    running.stop().await;
}

#[tokio::test]
async fn what_was_missed_comes_in_the_readers_words_and_without_what_excludes_them_from_ring_and_store() {
    for found in Found::EITHER {
        let world = found.world().await;
        let running = world.start().await;
        let channel = "booking-updates";
        let mut bob = running.connect("bob").await;
        bob.subscribe(channel).await;
        let mut sent = Vec::new();
        for number in 0..5 {
            let exclude = if number == 2 { json!(["alice"]) } else { json!([]) };
            let locales = json!({"fr": {"title": format!("Salut {number}")}});
            let title = format!("Hello {number}");
            world.ask(&json!({"to": {"channel": channel}, "exclude": exclude, "title": title, "locales": locales})).await;
            sent.push(position(&bob.frame("notification:new").await));
        }
        let mut alice = Client::greeted(running.address, &format!("{}&locale=fr-CA", query("d1"))).await.0;
        alice.send(json!({"type": "subscribe", "channel": channel, "since": sent[0]})).await;
        let told = told(&mut alice, channel).await;
        let titles = told.frames.iter().map(|frame| frame["notification"]["title"].clone()).collect::<Vec<_>>();
        assert_eq!(titles, ["Salut 1", "Salut 3", "Salut 4"], "{found:?}");
        assert!(told.frames.iter().all(|frame| frame["notification"].get("locales").is_none()));
        assert_eq!(told.recovered["recovered"], true);
        // Who was left out acknowledges what came behind it.
        alice.send(json!({"type": "ack", "channel": channel, "position": sent[4]})).await;
        alice.send(json!({"type": "ping", "messageId": "p"})).await;
        assert_eq!(alice.frame("pong").await["replyTo"], "p");
        running.stop().await;
    }
}

#[tokio::test]
async fn what_has_expired_meanwhile_is_not_sent_any_more() {
    for found in Found::EITHER {
        let world = found.world().await;
        let running = world.start().await;
        let mut witness = witness(&running).await;
        let first = pay(&world, &mut witness, 0..1).await.remove(0);
        let expires_at = Timestamp::from_millis((unix_now() + 3) * 1000);
        world.ask(&json!({"to": {"user": "alice"}, "title": "soon", "expiresAt": expires_at})).await;
        let soon = witness.frame("notification:new").await;
        assert_eq!(soon["notification"]["title"], "soon");
        let sent = pay(&world, &mut witness, 1..5).await;
        eventually("it has expired", async || (unix_now() * 1000 > expires_at.as_millis()).then_some(())).await;
        let mut alice = back(running.address, &json!({MAILBOX: first})).await;
        let told = told(&mut alice, MAILBOX).await;
        assert_eq!((told.sent, &told.recovered["recovered"]), (sent, &json!(true)), "{found:?}");
        running.stop().await;
    }
}

#[tokio::test]
async fn what_stands_twice_on_the_log_is_sent_once_to_who_missed_both() {
    let world = World::new().await;
    let running = world.start().await;
    let greeting = Client::greeted(running.address, &query("d1")).await;
    let since = json!({MAILBOX: greeting.1["channels"][MAILBOX]});
    greeting.0.close().await;
    for event in ["twice", "twice", "last"] {
        world.emit(&payment(event, "alice")).await;
    }
    world.own_records("notifications", 3).await;
    // Live delivery has come to the last one.
    let mut witness = witness(&running).await;
    pay(&world, &mut witness, 0..1).await;
    let mut alice = back(running.address, &since).await;
    let told = told(&mut alice, MAILBOX).await;
    let mut events = told.frames.iter().map(|frame| frame["notification"]["eventId"].clone()).collect::<Vec<_>>();
    if events.len() < 3 {
        // It was live for the witness, and is for her only now.
        events.push(alice.frame("notification:new").await["notification"]["eventId"].clone());
    }
    assert_eq!(events, ["twice", "last", "0"]);
    running.stop().await;
}

#[tokio::test]
async fn who_came_before_the_first_message_ever_lacks_nothing_on_any_node() {
    let world = World::new().await;
    let first = world.start().await;
    let (alice, greeting) = Client::greeted(first.address, &query("d1")).await;
    let since = json!({MAILBOX: greeting["channels"][MAILBOX]});
    alice.close().await;
    let mut witness = witness(&first).await;
    let sent = pay(&world, &mut witness, 0..3).await;
    let second = world.start_roles(&[Role::Gateway]).await;
    for node in [&first, &second] {
        let mut alice = back(node.address, &since).await;
        let told = told(&mut alice, MAILBOX).await;
        assert_eq!((&told.sent, &told.recovered["recovered"]), (&sent, &json!(true)));
        assert!(told.recovered.get("truncated").is_none());
    }
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn a_channel_that_was_quiet_for_longer_than_it_is_kept_has_no_hole() {
    let mut world = World::with(|config| {
        forget(config);
        config.inbox.retention = ms(1_500);
        config.kafka.topics.partitions = 1;
    })
    .await;
    world.config.inbox.batch_interval = ms(20);
    let running = world.start().await;
    let mut witness = witness(&running).await;
    let seen = pay(&world, &mut witness, 0..1).await.remove(0);
    // The clock of retention is the log's: others go on for as long as it takes.
    eventually("retention has taken what she saw", async || {
        world.emit(&payment("x", "bob")).await;
        world.inbox("alice").await.is_empty().then_some(())
    })
    .await;
    let mut alice = back(running.address, &json!({MAILBOX: seen})).await;
    let nothing = told(&mut alice, MAILBOX).await;
    assert_eq!((nothing.sent.len(), nothing.truncated.len()), (0, 0), "{nothing:?}");
    assert_eq!(nothing.recovered["recovered"], true);
    assert!(nothing.recovered.get("truncated").is_none());
    running.stop().await;
}

#[tokio::test]
async fn a_connection_that_idled_for_long_leaves_a_position_that_misses_nothing() {
    let world = forgetful().await;
    let running = world.start().await;
    let (idle, greeting) = Client::greeted(running.address, &query("d1")).await;
    let mut bob = running.connect("bob").await;
    for number in 0..8 {
        world.emit(&payment(&format!("b{number}"), "bob")).await;
        bob.frame("notification:new").await;
    }
    idle.close().await;
    let mut witness = witness(&running).await;
    let sent = pay(&world, &mut witness, 0..4).await;
    let mut alice = back(running.address, &json!({MAILBOX: greeting["channels"][MAILBOX]})).await;
    let told = told(&mut alice, MAILBOX).await;
    assert_eq!((told.sent, &told.recovered["recovered"]), (sent, &json!(true)));
    running.stop().await;
}

#[tokio::test]
async fn a_device_that_is_known_from_an_epoch_before_is_told_so_and_sent_the_newest() {
    let world = forgetful().await;
    let running = world.start().await;
    let mut witness = witness(&running).await;
    let sent = pay(&world, &mut witness, 0..4).await;
    world.until_inbox(4).await;
    world.alter(&["INSERT INTO stretches VALUES ('alice', 'user-alice', 0, 'd1', 'acknowledged', 3, 9)"]).await;
    let mut alice = returned(running.address, "d1").await;
    let lost = told(&mut alice, MAILBOX).await;
    assert_eq!((lost.sent.len(), &lost.recovered["recovered"]), (0, &json!(false)));
    for newest in &sent[2..] {
        assert_eq!(position(&alice.frame("notification:new").await), *newest);
    }
    assert_eq!(outcomes(&running, "epoch").await, 1);
    running.stop().await;
}

#[tokio::test]
async fn who_is_sent_the_newest_again_can_acknowledge_them() {
    let world = forgetful().await;
    let running = world.start().await;
    let mut witness = witness(&running).await;
    let frames = paid(&world, &mut witness, 0..4).await;
    world.until_inbox(4).await;
    let mut alice = back(running.address, &json!({MAILBOX: "999:3"})).await;
    let lost = told(&mut alice, MAILBOX).await;
    assert_eq!(lost.recovered["recovered"], false);
    for newest in &frames[2..] {
        assert_eq!(position(&alice.frame("notification:new").await), position(newest));
    }
    alice.send(json!({"type": "ack", "channel": MAILBOX, "position": position(&frames[3])})).await;
    world.until_acknowledged(&id(&frames[2])).await;
    world.until_acknowledged(&id(&frames[3])).await;
    assert_eq!(world.acknowledged("alice").await.len(), 2, "what lies before was never sent to it");
    running.stop().await;
}

#[tokio::test]
async fn a_subscription_that_goes_back_is_sent_everything_from_there_on_again_and_once() {
    let world = forgetful().await;
    let running = world.start().await;
    let mut witness = witness(&running).await;
    let sent = pay(&world, &mut witness, 0..6).await;
    let mut alice = back(running.address, &json!({MAILBOX: sent[3]})).await;
    assert_eq!(told(&mut alice, MAILBOX).await.sent, sent[4..]);
    alice.send(json!({"type": "subscribe", "channel": MAILBOX, "since": sent[0]})).await;
    assert_eq!(told(&mut alice, MAILBOX).await.sent, sent[1..]);
    let live = pay(&world, &mut witness, 6..7).await;
    assert_eq!(position(&alice.frame("notification:new").await), live[0]);
    running.stop().await;
}

#[tokio::test]
async fn what_is_tried_again_while_a_device_catches_up_comes_in_its_turn() {
    let world = World::with(|config| {
        forget(config);
        config.courier.ack_timeout = ms(300);
        config.courier.ladder = vec![ms(300)];
    })
    .await;
    let running = world.start().await;
    let mut witness = witness(&running).await;
    let sent = pay(&world, &mut witness, 0..8).await;
    witness.close().await;
    for _ in 0..5 {
        let mut alice = back(running.address, &json!({MAILBOX: sent[0]})).await;
        let mut in_order = Vec::new();
        loop {
            let Heard::Frame(frame) = alice.hear().await else { panic!("the connection ended") };
            match frame["type"].as_str().unwrap() {
                "notification:new" if frame.get("redelivery").is_some() => {
                    let came_before = in_order.iter().any(|known: &Value| id(known) == id(&frame));
                    let is_older = frame["notification"]["eventId"] == "0";
                    assert!(came_before || is_older, "sent again before it was sent: {frame}");
                }
                "notification:new" => in_order.push(frame),
                "recovered" => break,
                _ => {}
            }
        }
        assert_eq!(in_order.iter().map(position).collect::<Vec<_>>(), sent[1..]);
    }
    running.stop().await;
}

/// What a device may rely on: everything behind its position in order and once, but for holes that it was told of, and for what lies
/// before a position that it was given instead of an answer.
struct Promise {
    /// The next offset that it may be sent.
    next: i64,
    sent: Vec<i64>,
    holes: Vec<Range<i64>>,
    /// What it is not told, for nobody could say.
    lost: Option<Range<i64>>,
    is_level: bool,
}

impl Promise {
    fn from(next: i64) -> Self {
        Self { next, sent: Vec::new(), holes: Vec::new(), lost: None, is_level: false }
    }

    fn take(&mut self, frame: &Value) {
        let at = |field: &str| offset(frame[field].as_str().unwrap());
        match frame["type"].as_str().unwrap() {
            "notification:new" => {
                let sent = at("position") - 1;
                assert!(sent >= self.next, "{sent} came again or out of order, behind {}", self.next);
                self.next = sent + 1;
                self.sent.push(sent);
            }
            "truncated" => {
                let hole = self.skip(at("from"), at("to"));
                self.holes.push(hole);
            }
            "recovered" => {
                self.is_level = true;
                if frame["recovered"] == false {
                    self.lost = Some(self.skip(self.next, at("position")));
                }
            }
            _ => {}
        }
    }

    fn skip(&mut self, from: i64, to: i64) -> Range<i64> {
        assert!(from >= self.next && to >= from, "a hole from {from} to {to}, told behind {}", self.next);
        self.next = to;
        from..to
    }

    /// Whatever was published behind `stopped`, as positions, was sent or told to be missing.
    fn leaves_nothing_out(&self, all: &[String], stopped: i64) {
        let behind = all.iter().map(|position| offset(position) - 1).filter(|offset| *offset >= stopped);
        let is_told = |offset: &i64| self.holes.iter().chain(&self.lost).any(|hole| hole.contains(offset));
        let missing = behind.filter(|offset| !self.sent.contains(offset) && !is_told(offset));
        assert_eq!(missing.collect::<Vec<_>>(), [0_i64; 0], "back from {stopped}");
        if let Some(lost) = &self.lost {
            assert!(lost.end < offset(&all[all.len() - NEWEST]), "the newest are sent whatever is lost: {lost:?}");
        }
    }
}

/// As many of the newest are shown to who has lost its place.
const NEWEST: usize = 2;

/// Alice's mailbox, two nodes that she comes back to, and a projection that may stand still.
struct Site {
    world: World,
    inbox: Option<Running>,
    nodes: [Running; 2],
    witness: Client,
    /// The positions of all that was published.
    all: Vec<String>,
}

impl Site {
    async fn begin() -> Self {
        let world = World::with(|config| {
            forget(config);
            config.inbox.mailbox_rows = some(6);
            // Answers come in time on a machine that pauses now and then.
            config.gateway.recovery.wait = ms(2_500);
        })
        .await;
        // Makes the store, for nodes that only read it.
        let inbox = Some(world.start_roles(&[Role::Inbox]).await);
        let nodes = [world.start_roles(&[Role::Pipeline, Role::Gateway]).await, world.start_roles(&[Role::Gateway]).await];
        let mut witness = witness(&nodes[0]).await;
        let all = pay(&world, &mut witness, 0..3).await;
        Self { world, inbox, nodes, witness, all }
    }

    async fn emit(&self, name: &str, count: usize) {
        for number in 0..count {
            self.world.emit(&payment(&format!("{name}-{number}"), "alice")).await;
        }
    }

    /// Waits until so many more are live.
    async fn until_live(&mut self, count: usize) {
        for _ in 0..count {
            self.all.push(position(&self.witness.frame("notification:new").await));
        }
    }

    /// The projection stands still, or goes on.
    async fn turn_inbox(&mut self) {
        match self.inbox.take() {
            Some(running) => running.stop().await,
            None => self.inbox = Some(self.world.start_roles(&[Role::Inbox]).await),
        }
    }

    /// Below which offset the mailbox is trimmed.
    async fn trimmed(&self) -> i64 {
        let prefix = format!("trim {MAILBOX} 1 ");
        self.world.tables().await.iter().find_map(|row| row.strip_prefix(&prefix)?.parse().ok()).unwrap_or(0)
    }

    /// She comes back from `stopped`, while so many more are on their way, and hears until she lacks nothing.
    async fn come_back(&mut self, node: usize, stopped: i64, (name, meanwhile): (&str, usize)) -> Promise {
        self.emit(name, meanwhile).await;
        let mut alice = back(self.nodes[node].address, &json!({MAILBOX: format!("1:{stopped}")})).await;
        self.until_live(meanwhile).await;
        let mut promise = Promise::from(stopped);
        let end = offset(self.all.last().unwrap());
        while !promise.is_level || promise.next < end {
            let Heard::Frame(frame) = alice.hear().await else { panic!("the connection ended: {name}") };
            if frame["channel"] == MAILBOX {
                promise.take(&frame);
            }
        }
        promise
    }
}

/// Whatever the order of publishing, coming back to whichever node, eviction from the ring, retention, and a projection that stands
/// still now and then: the core's property, with real sockets, Kafka and SQL.
#[tokio::test]
async fn whatever_happens_between_each_is_sent_once_and_in_order_or_told_to_be_missing() {
    let mut random = seed::random("resuming");
    let mut site = Site::begin().await;
    for round in 0..24 {
        if round % 6 == 5 {
            site.turn_inbox().await;
        }
        // Whatever is drawn, some come back from the very beginning: before anything was trimmed, to a projection that stands still, and
        // behind what was trimmed.
        let is_first = [0, 6, 12].contains(&round);
        let before = random.random_range(if is_first { 3..4 } else { 0..4 });
        site.emit(&format!("before-{round}"), before).await;
        site.until_live(before).await;
        let is_folded = site.inbox.is_some() && (is_first || random.random_bool(0.5));
        if is_folded {
            site.world.until_still().await;
        }
        let trimmed_before = site.trimmed().await;
        let stopped = offset(&site.all[if is_first { 0 } else { random.random_range(0..site.all.len()) }]);
        let meanwhile = (&*format!("meanwhile-{round}"), random.random_range(0..4));
        let promise = site.come_back(random.random_range(0..2), stopped, meanwhile).await;
        println!("round {round}: back from {stopped}, folded: {is_folded}, holes {:?}, lost {:?}", promise.holes, promise.lost);
        promise.leaves_nothing_out(&site.all, stopped);
        let trimmed = site.trimmed().await;
        assert!(promise.holes.iter().all(|hole| hole.end <= trimmed), "{:?} with {trimmed}", promise.holes);
        assert!(stopped < trimmed || promise.holes.is_empty(), "nothing of it is trimmed: {:?}", promise.holes);
        if is_folded {
            assert_eq!(promise.lost, None, "all that it needs is there");
            assert!(stopped >= trimmed_before || !promise.holes.is_empty(), "it was not told of what is trimmed");
        }
    }
    let Site { inbox, nodes, .. } = site;
    for outcome in ["complete", "truncated", "behind"] {
        let ended = [outcomes(&nodes[0], outcome).await, outcomes(&nodes[1], outcome).await];
        assert_ne!(ended, [0, 0], "no recovery ended as {outcome}");
    }
    for running in inbox.into_iter().chain(nodes) {
        running.stop().await;
    }
}
