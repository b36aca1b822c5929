//! Replaying domain topics on the command line: what is selected, what a dry run says, what is sent, and going on after a kill. Long because
//! each condition and each way to ask wrongly is tried on a real log. `dlq` does the same to what was buried.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use serde_json::{Value, json};
use tidings::cli::Role;

use crate::harness::command::{command, printed, run};
use crate::harness::eventually;
use crate::harness::log::{Seen, Transaction};
use crate::harness::world::{PARTITIONS, World, booking, payment, unix_now};

/// What `tidings replay` says in its last line of JSON, if it ends with `code`.
async fn replayed(world: &World, code: i32, args: &[&str]) -> Value {
    let args = ["replay"].iter().chain(args).chain(&["--json"]).copied().collect::<Vec<_>>();
    last(&printed(world, code, &args).await)
}

fn last(lines: &str) -> Value {
    serde_json::from_str(lines.lines().last().expect("lines of JSON")).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What it says when it refuses.
async fn refused(world: &World, args: &[&str]) -> String {
    let args = ["replay"].iter().chain(args).copied().collect::<Vec<_>>();
    let output = run(world, &args).await;
    assert!(matches!(output.status.code(), Some(1 | 2)), "{args:?}: {output:?}");
    said(&output)
}

/// Events in this partition, of Alice.
async fn put(world: &World, partition: i32, value: &Value) -> i64 {
    let headers = OwnedHeaders::new().insert(Header { key: "tenant", value: Some(if partition == 0 { "a" } else { "b" }) });
    world.log.produce_to((&world.topic, partition), &format!("key-{partition}"), value.to_string().as_bytes(), headers).await
}

/// The events of the notifications on a topic.
async fn events_on(world: &World, topic: &str) -> Vec<String> {
    let records = world.log.records(topic).await;
    records.iter().map(|record| record.json()["notification"]["eventId"].as_str().unwrap().to_owned()).collect()
}

async fn notified(world: &World) -> Vec<String> {
    events_on(world, &world.own("notifications")).await
}

async fn acts(world: &World) -> Vec<Value> {
    world.log.records(&world.own("audit")).await.iter().map(Seen::json).collect()
}

fn step(act: &Value) -> &str {
    act["step"]["kind"].as_str().unwrap()
}

#[tokio::test]
async fn a_dry_run_counts_by_type_rule_and_audience_shows_first_and_last_and_writes_nothing() {
    let world = World::new().await;
    put(&world, 0, &booking("1", "alice")).await;
    put(&world, 0, &payment("2", "bob")).await;
    put(&world, 0, &json!({"type": "nobody:cares", "data": {}})).await;
    world.log.produce_to((&world.topic, 0), "k", b"not json", OwnedHeaders::new()).await;
    let ended = replayed(&world, 3, &["--topic", &world.topic]).await;
    let report = &ended["report"];
    assert_eq!((&report["executed"], &report["read"], &report["selected"]), (&json!(false), &json!(4), &json!(4)));
    assert_eq!(report["byType"], json!({"booking_confirmation": 1, "booking_update": 1, "payment_due": 1}));
    assert_eq!(report["byAudience"], json!({"user": 2, "channel": 1}));
    assert_eq!(report["byRule"]["payment-due"], 1);
    assert_eq!(report["ignored"], json!({"no_rule": 1}));
    assert_eq!((&report["buried"]["not_json"]["count"], &report["buried"]["not_json"]["ids"]), (&json!(1), &json!(["0@3"])));
    assert_eq!(
        (&report["first"]["notification"]["eventId"], &report["last"]["notification"]["eventId"]),
        (&json!("1"), &json!("2"))
    );
    let text = printed(&world, 3, &["replay", "--topic", &world.topic, "--dry-run"]).await;
    assert!(text.contains("would send (nothing was written: this is a dry run): 3 notifications of 2 events"), "{text}");
    for own in ["notifications", "audit", "dlq"] {
        assert!(world.log.records(&world.own(own)).await.is_empty(), "{own}");
    }
}

#[tokio::test]
async fn records_are_chosen_by_partition_offset_key_header_type_and_expression() {
    let world = World::new().await;
    for number in 0..10 {
        put(&world, number % 2, &payment(&number.to_string(), "alice")).await;
    }
    put(&world, 2, &booking("b", "alice")).await;
    for (args, read, selected) in [
        (&["--partition", "0"][..], 5, 5),
        (&["--partition", "0", "--partition", "2"], 6, 6),
        (&["--offsets", "1@1..3"], 2, 2),
        (&["--offsets", "1@3..", "--offsets", "0@..1"], 3, 3),
        (&["--key", "key-1"], 11, 5),
        (&["--key", "key-1", "--key", "key-2"], 11, 6),
        (&["--header", "tenant=b"], 11, 6),
        (&["--header", "tenant"], 11, 11),
        (&["--header", "tenant=b", "--key", "key-0"], 11, 0),
        (&["--type", "booking:*"], 11, 1),
        (&["--type", "booking:*", "--type", "payment:due"], 11, 11),
        (&["--type", "payment:due", "--where", "paymentId == 'p-4' or paymentId == 'p-7'"], 11, 2),
        (&["--where", "event.type == 'booking:confirmed'"], 11, 1),
    ] {
        let args = ["--topic", &world.topic].iter().chain(args).copied().collect::<Vec<_>>();
        let report = replayed(&world, 0, &args).await["report"].clone();
        assert_eq!((&report["read"], &report["selected"]), (&json!(read), &json!(selected)), "{args:?}: {report}");
    }
    // What has no such field is not taken for either.
    let report = replayed(&world, 3, &["--topic", &world.topic, "--where", "paymentId == 'p-4'"]).await["report"].clone();
    assert_eq!((&report["notified"], &report["skipped"]["expression_failed"]["ids"]), (&json!(1), &json!(["2@0"])));
}

#[tokio::test]
async fn records_are_chosen_by_time_and_by_the_brokers_index_where_they_have_one() {
    let world = World::new().await;
    let topic = format!("{}-logged", world.topic);
    world.log.create(&topic, 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let mut times = Vec::new();
    for number in 0..4 {
        let value = payment(&number.to_string(), "alice").to_string();
        world.log.produce(&topic, None, value.as_bytes()).await;
        let records = world.log.records(&topic).await;
        times.push(records.last().unwrap().timestamp_ms);
        // So that each has a time of its own.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let mut world = world;
    world.config.pipeline.topics.push(topic.parse().unwrap());
    let at = |millis: i64| tidings_core::time::Timestamp::from_millis(millis).to_string();
    let (since, until) = (at(times[1]), at(times[3]));
    let report = replayed(&world, 0, &["--topic", &topic, "--since", &since, "--until", &until]).await["report"].clone();
    assert_eq!((&report["selected"], &report["read"]), (&json!(2), &json!(3)), "what lies in front is not read: {report}");
    assert_eq!(report["first"]["notification"]["eventId"], "1");
    let report = replayed(&world, 0, &["--topic", &topic, "--since", "1h"]).await["report"].clone();
    assert_eq!(report["selected"], 4);
    let none = refused(&world, &["--topic", &topic, "--since", &at(times[3] + 3_600_000)]).await;
    assert!(none.contains("nothing of") && none.contains("0@0..4"), "{none}");
}

#[tokio::test]
async fn brokers_without_an_index_of_times_are_named_and_offsets_are_offered() {
    let brokers = MockCluster::new(1).unwrap();
    brokers.create_topic("events", 2, 1).unwrap();
    let producer: ThreadedProducer<rdkafka::producer::DefaultProducerContext> =
        ClientConfig::new().set("bootstrap.servers", brokers.bootstrap_servers()).create().unwrap();
    for number in 0..3 {
        let value = payment(&number.to_string(), "alice").to_string();
        producer.send(BaseRecord::<str, str>::to("events").partition(1).payload(&value)).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(std::time::Duration::from_secs(30)).unwrap();
    let mut world = World::new().await;
    world.config.kafka.brokers = brokers.bootstrap_servers();
    world.config.pipeline.topics = vec!["events".parse().unwrap()];
    let said = refused(&world, &["--topic", "events", "--since", "1h"]).await;
    assert!(said.contains("no index of times") && said.contains("1@0..3") && said.contains("--since"), "{said}");
    let report = replayed(&world, 0, &["--topic", "events", "--offsets", "1@1.."]).await["report"].clone();
    assert_eq!(report["notified"], 2, "{report}");
}

#[tokio::test]
async fn what_is_asked_for_wrongly_is_refused_with_what_to_do() {
    let world = World::new().await;
    put(&world, 0, &payment("1", "alice")).await;
    let topic = world.topic.clone();
    let own = world.own("notifications");
    let requests = world.own("requests");
    for (args, expected) in [
        (&["--topic", &topic, "--offsets", "0@5..2"][..], "holds no offset"),
        (&["--topic", &topic, "--offsets", "0@5..9"], "it has the offsets 0 to before 1"),
        (&["--topic", &topic, "--offsets", "7@0.."], "the topic has the partitions 0 to 2"),
        (&["--topic", &topic, "--offsets", "0"], "write `2@17..90`"),
        (&["--topic", &topic, "--partition", "2"], "nothing of"),
        (&["--topic", &topic, "--since", "1h", "--until", "2h"], "swap the two times"),
        (&["--topic", &topic, "--type", "a[b"], "pattern of types"),
        (&["--topic", &topic, "--where", "amount >> 3"], "  amount >> 3\n          ^"),
        (&["--topic", "typo"], "none of `pipeline.topics`"),
        (&["--topic", &own], "none of `pipeline.topics`"),
        (&["--topic", &requests, "--type", "a"], "not by --type"),
        (&["--topic", &topic, "--to-topic", &own], "one of tidings' own"),
        (&["--topic", &topic, "--to-topic", &topic], "the pipeline reads it"),
        (&["--topic", &topic, "--to-topic", "not-there"], "there is no topic `not-there`"),
        (&["--topic", &topic, "--execute"], "--all"),
        (&["--topic", &topic, "--rate", "0"], "--rate"),
        (&[], "--topic"),
        (&["--resume", "00000000-0000-0000-0000-000000000000"], "audit knows no replay"),
        (&["--resume", "00000000-0000-0000-0000-000000000000", "--key", "a"], "cannot be used with"),
    ] {
        let said = refused(&world, args).await;
        // What is wrong with the words themselves is said with the usage below it.
        let is_said_once = said.matches(expected).count() == 1 || (said.contains(expected) && said.contains("--help"));
        assert!(is_said_once, "{args:?}: {said}");
    }
    world.log.delete(&world.topic).await;
    assert!(refused(&world, &["--topic", &topic]).await.contains("there is no topic"));
    assert!(acts(&world).await.is_empty(), "nothing was begun");
}

#[tokio::test]
async fn what_was_notified_before_is_not_shown_again_unless_it_is_forced_and_the_live_group_is_not_moved() {
    let world = World::new().await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    put(&world, 0, &payment("1", "alice")).await;
    let shown = alice.frame("notification:new").await["notification"]["id"].clone();
    let committed = async || world.log.committed(&world.group("pipeline"), &world.topic, PARTITIONS).await;
    eventually("the pipeline has committed it", async || (committed().await.get(&0) == Some(&1)).then_some(())).await;
    let before = committed().await;

    let ended = replayed(&world, 0, &["--topic", &world.topic, "--all", "--execute", "--as", "ops"]).await;
    assert_eq!((&ended["outcome"], &ended["report"]["notifications"]), (&json!("done"), &json!(1)));
    assert_eq!(ended["report"]["first"]["notification"]["id"], shown);
    world.own_records("notifications", 2).await;
    let forced = replayed(&world, 0, &["--topic", &world.topic, "--all", "--execute", "--force"]).await;
    let id = &forced["report"]["first"]["notification"]["id"];
    assert_ne!(*id, shown);
    // The next one is the forced one, so the one before was not shown.
    assert_eq!(alice.frame("notification:new").await["notification"]["id"], *id);
    assert_eq!(committed().await, before);
    assert_eq!(world.log.records(&world.topic).await.len(), 1, "nothing is written to the domain topic");
    running.stop().await;
}

#[tokio::test]
async fn all_goes_to_one_user_or_to_another_topic_if_that_is_wanted() {
    let world = World::new().await;
    for number in 0..3 {
        put(&world, 0, &booking(&number.to_string(), &format!("user-{number}"))).await;
    }
    let report =
        replayed(&world, 0, &["--topic", &world.topic, "--all", "--execute", "--to-user", "tester"]).await["report"].clone();
    assert_eq!(report["byAudience"], json!({"user": 6}));
    let records = world.log.records(&world.own("notifications")).await;
    assert!(records.iter().all(|record| record.json()["channel"] == "user-tester"));
    let ids = records.iter().map(|record| record.json()["notification"]["id"].to_string()).collect::<BTreeSet<_>>();
    assert_eq!(ids.len(), 6, "none hides another one");

    let target = format!("{}-looked-at", world.topic);
    world.log.create(&target, 1, &[]).await;
    replayed(&world, 0, &["--topic", &world.topic, "--all", "--execute", "--to-topic", &target]).await;
    assert_eq!(events_on(&world, &target).await.len(), 6);
    assert_eq!(world.log.records(&world.own("notifications")).await.len(), 6, "nothing more is sent");
}

#[tokio::test]
async fn what_is_older_than_ids_are_kept_needs_force_and_nothing_of_it_is_sent() {
    let mut world = World::new().await;
    world.topic = format!("{}-kept", world.topic);
    world.config.pipeline.topics = vec![world.topic.parse().unwrap()];
    world.log.create(&world.topic, 1, &[("retention.ms", "-1")]).await;
    let value = payment("1", "alice").to_string();
    world.log.produce_at(&world.topic, 0, (unix_now() - 8 * 86_400) * 1000, value.as_bytes()).await;
    // Its id will be forgotten within the hour.
    let value = payment("3", "alice").to_string();
    world.log.produce_at(&world.topic, 0, (unix_now() - 167 * 3_600) * 1000, value.as_bytes()).await;
    put(&world, 0, &payment("2", "alice")).await;
    let report = replayed(&world, 0, &["--topic", &world.topic]).await["report"].clone();
    assert_eq!((&report["notified"], &report["tooOld"]), (&json!(3), &json!(2)), "{report}");
    let said = refused(&world, &["--topic", &world.topic, "--all", "--execute"]).await;
    assert!(said.contains("--force") && said.contains("--since '6days20h'") && said.contains("[0]@0"), "{said}");
    assert!(notified(&world).await.is_empty() && acts(&world).await.is_empty());
    let report = replayed(&world, 0, &["--topic", &world.topic, "--since", "6days20h", "--execute"]).await["report"].clone();
    assert_eq!(report["notified"], 1);
    let report = replayed(&world, 0, &["--topic", &world.topic, "--all", "--execute", "--force"]).await["report"].clone();
    assert_eq!(report["notified"], 3);
}

#[tokio::test]
async fn canaries_go_first_and_what_follows_goes_on_behind_them() {
    let world = World::new().await;
    for number in 0..10 {
        put(&world, 0, &payment(&number.to_string(), "alice")).await;
    }
    let text = printed(&world, 0, &["replay", "--topic", &world.topic, "--all", "--execute", "--canary", "3"]).await;
    assert_eq!(notified(&world).await, ["0", "1", "2"]);
    let id = text.rsplit("tidings replay --resume ").next().unwrap().trim().to_owned();
    assert!(text.contains("stopped behind the canaries"), "{text}");
    let more = replayed(&world, 0, &["--resume", &id, "--canary", "2"]).await;
    assert_eq!((&more["outcome"], &more["resume"]), (&json!("paused"), &json!(format!("tidings replay --resume {id}"))));
    let rest = replayed(&world, 0, &["--resume", &id]).await;
    assert_eq!((&rest["outcome"], &rest["report"]["notifications"]), (&json!("done"), &json!(5)));
    let all = (0..10).map(|number| number.to_string()).collect::<Vec<_>>();
    assert_eq!(notified(&world).await, all, "each once, in the order of their events");
    assert!(refused(&world, &["--resume", &id]).await.contains("is done"));
}

#[tokio::test]
async fn a_replay_says_on_audit_who_did_it_what_was_meant_how_far_it_came_and_what_it_came_to() {
    let world = World::new().await;
    for number in 0..3 {
        put(&world, 1, &payment(&number.to_string(), "alice")).await;
    }
    let args = ["--topic", &world.topic, "--key", "key-1", "--execute", "--as", "ops"];
    let ended = replayed(&world, 0, &args).await;
    let acts = acts(&world).await;
    // How far it is, is said once a second: on a machine that pauses also before the last event.
    let steps = acts.iter().map(step).collect::<Vec<_>>();
    let ["begun", progress @ .., "ended"] = steps.as_slice() else { panic!("{steps:?}") };
    assert!(!progress.is_empty() && progress.iter().all(|step| *step == "progress"), "{steps:?}");
    assert!(acts.iter().all(|act| act["act"] == "replay" && act["who"] == "ops" && act["id"] == ended["report"]["id"]));
    let plan = &acts[0]["step"]["plan"];
    assert_eq!((&plan["topic"], &plan["events"]), (&json!(world.topic), &json!({"keys": ["key-1"]})));
    assert_eq!(plan["spans"], json!([{"partition": 1, "from": 0, "to": 3}]));
    let [.., reached, end] = acts.as_slice() else { unreachable!() };
    assert_eq!(reached["step"]["reached"], json!([{"partition": 1, "next": 3}]));
    let counts = &end["step"]["counts"];
    assert_eq!((&end["step"]["outcome"], &counts["notified"]), (&json!("done"), &json!(3)));
}

#[tokio::test]
async fn what_retention_took_meanwhile_is_counted_and_a_topic_that_was_made_anew_is_not_gone_on_with() {
    let world = World::new().await;
    for number in 0..10 {
        put(&world, 0, &payment(&number.to_string(), "alice")).await;
    }
    let canary = ["--topic", &world.topic, "--all", "--execute", "--canary", "2"];
    let id = replayed(&world, 0, &canary).await["report"]["id"].as_str().unwrap().to_owned();
    world.log.remove_below(&world.topic, 0, 5).await;
    let more = replayed(&world, 0, &["--resume", &id, "--canary", "1"]).await["report"].clone();
    assert_eq!((&more["gone"], &more["first"]["notification"]["eventId"]), (&json!(3), &json!("5")), "{more}");
    world.log.delete(&world.topic).await;
    world.log.create(&world.topic, PARTITIONS, &[]).await;
    let said = refused(&world, &["--resume", &id]).await;
    assert!(said.contains("made anew"), "{said}");
}

#[tokio::test]
async fn requests_are_replayed_like_events_and_have_their_ids() {
    let world = World::new().await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    world.ask(&json!({"id": "r-1", "to": {"user": "alice"}, "message": "Hello."})).await;
    let sent = world.own_records("notifications", 1).await.remove(0).json();
    running.stop().await;
    let report = replayed(&world, 0, &["--topic", &world.own("requests")]).await["report"].clone();
    assert_eq!(report["first"]["notification"]["id"], sent["notification"]["id"], "{report}");
}

#[tokio::test]
async fn other_rules_than_those_it_was_begun_by_are_not_taken_by_mistake() {
    let world = World::new().await;
    for number in 0..4 {
        put(&world, 0, &payment(&number.to_string(), "alice")).await;
    }
    let first = replayed(&world, 0, &["--topic", &world.topic, "--all", "--execute", "--canary", "1"]).await;
    let id = first["report"]["id"].as_str().unwrap().to_owned();
    let folder = world.dir.path().join("mended");
    std::fs::create_dir_all(&folder).unwrap();
    let rule = "[[rule]]\nname = \"payment-due\"\nevent = \"payment:due\"\nuser = \"{{ userId }}\"\ntype = \"payment_due\"\nmessage = \"Pay.\"\n";
    std::fs::write(folder.join("payment.toml"), rule).unwrap();
    let mut other = world;
    other.config.pipeline.rules = folder.display().to_string();
    std::fs::remove_file(other.dir.path().join("command.toml")).unwrap();
    let said = refused(&other, &["--resume", &id]).await;
    assert!(said.contains("--rules") && said.contains("half of it"), "{said}");
    let rest = replayed(&other, 0, &["--resume", &id, "--rules", folder.to_str().unwrap()]).await;
    assert_eq!((&rest["report"]["notified"], &rest["report"]["last"]["notification"]["message"]), (&json!(3), &json!("Pay.")));
}

#[tokio::test]
async fn ends_are_those_of_the_beginning_and_reached_although_markers_of_transactions_lie_there() {
    let world = World::new().await;
    world.log.in_transaction((&world.topic, 0), &[payment("1", "alice").to_string()], Transaction::Committed).await;
    world.log.in_transaction((&world.topic, 0), &[payment("gone", "alice").to_string()], Transaction::Aborted).await;
    let ended = replayed(&world, 0, &["--topic", &world.topic, "--all", "--execute"]).await;
    assert_eq!((&ended["outcome"], notified(&world).await), (&json!("done"), vec!["1".to_owned()]));
    let acts = acts(&world).await;
    // A machine that pauses has it marked before the end as well.
    let last = acts.iter().rfind(|act| step(act) == "progress").unwrap();
    assert_eq!(last["step"]["reached"], json!([{"partition": 0, "next": 4}]), "behind both markers");
}

const MANY: u64 = 3000;
/// So slow that it is in the midst of it when it is stopped.
const RATE: &str = "500";

/// A backlog in all partitions, of which some are for nobody.
async fn many() -> World {
    let world = World::new().await;
    let numbers = (0..MANY).collect::<Vec<_>>();
    for numbers in numbers.chunks(300) {
        let put = numbers.iter().map(async |number| {
            let event = payment(&number.to_string(), "alice");
            put(&world, i32::try_from(*number % 3).unwrap(), &event).await;
        });
        futures_util::future::join_all(put).await;
    }
    world
}

/// Starts to replay all, and gives it once a part is on the log, with its id.
async fn begun(world: &World, more: &[&str]) -> (Child, String) {
    let args = ["replay", "--topic", &world.topic, "--all", "--execute", "--json", "--rate", RATE];
    let args = args.iter().chain(more).copied().collect::<Vec<_>>();
    let mut child = command(world, &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let id = eventually("a part is replayed and marked", async || {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was stopped");
        let acts = acts(world).await;
        let marked = acts.iter().find(|act| step(act) == "progress")?;
        (!notified(world).await.is_empty()).then(|| marked["id"].as_str().unwrap().to_owned())
    })
    .await;
    (child, id)
}

async fn stop(mut child: Child, signal: Signal) -> std::process::ExitStatus {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
    tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_replay_that_is_killed_goes_on_where_it_was_and_every_event_is_in_the_inbox_once() {
    let world = many().await;
    let running = world.start_roles(&[Role::Gateway, Role::Inbox]).await;
    // New ids, which must be the same again for what is sent twice.
    let (child, id) = begun(&world, &["--force"]).await;
    // The end was looked up before.
    put(&world, 0, &payment("later", "alice")).await;
    assert_eq!(stop(child, Signal::SIGKILL).await.signal(), Some(9));
    assert!(acts(&world).await.iter().all(|act| step(act) != "ended"), "nobody said that it had ended");
    let before = notified(&world).await.len() as u64;
    assert!(before > 0 && before < MANY, "it was killed in the midst of it: {before}");
    let rest = replayed(&world, 0, &["--resume", &id, "--rate", "100000"]).await;
    assert!(rest["report"]["notified"].as_u64().unwrap() < MANY, "not from the beginning: {rest}");
    eventually("every event is in the inbox", async || (world.inbox("alice").await.len() as u64 >= MANY).then_some(())).await;
    let inbox = world.inbox("alice").await;
    let events = inbox.iter().map(|shown| shown["eventId"].as_str().unwrap()).collect::<BTreeSet<_>>();
    assert_eq!((inbox.len() as u64, events.len() as u64), (MANY, MANY));
    running.stop().await;
}

#[tokio::test]
async fn a_replay_that_is_stopped_says_how_far_it_came_and_goes_on_there_and_sends_nothing_twice() {
    let world = many().await;
    let (child, id) = begun(&world, &[]).await;
    assert_eq!(stop(child, Signal::SIGINT).await.code(), Some(1));
    let end = acts(&world).await.into_iter().find(|act| step(act) == "ended").unwrap();
    assert_eq!(end["step"]["outcome"], "interrupted");
    let sent = notified(&world).await.len() as u64;
    assert_eq!(end["step"]["counts"]["notifications"], sent);
    let rest = replayed(&world, 0, &["--resume", &id, "--rate", "100000"]).await;
    assert_eq!(rest["report"]["notified"], MANY - sent);
    let all = notified(&world).await;
    assert_eq!((all.len() as u64, all.iter().collect::<BTreeSet<_>>().len() as u64), (MANY, MANY));
}

#[tokio::test]
async fn a_replay_is_no_faster_than_it_is_told() {
    let world = World::new().await;
    for number in 0..30 {
        put(&world, 0, &payment(&number.to_string(), "alice")).await;
    }
    let lines = printed(&world, 0, &["replay", "--topic", &world.topic, "--all", "--execute", "--rate", "10", "--json"]).await;
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>();
    let kinds = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect::<Vec<_>>();
    assert!(matches!(kinds.as_slice(), ["begun", "progress", .., "ended"]), "{kinds:?}");
    assert_eq!((&lines[0]["offsets"], &lines[1]["all"]), (&json!(30), &json!(30)));
    assert!(lines[1]["perSecond"].is_number() && lines[1]["done"].as_u64().unwrap() < 30, "{}", lines[1]);
    let newest = async |name: &str| {
        let records = world.log.records(&world.own(name)).await;
        records.iter().map(|record| record.timestamp_ms).max().unwrap()
    };
    let records = world.log.records(&world.own("audit")).await;
    let begun = records.iter().find(|record| step(&record.json()) == "begun").unwrap().timestamp_ms;
    // Two at once, the others a tenth of a second apart: the last of thirty is never there earlier, however slow the machine is.
    let took_ms = newest("notifications").await - begun;
    assert!(took_ms >= 2_800, "thirty within {took_ms} ms");
}
