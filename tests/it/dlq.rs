//! Dead letters: what lies there, what it says, and trying it again, on the command line and over HTTP. Long because every kind of letter
//! and every way to ask wrongly is tried on a real log. `dead_letters` has what is written there.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rdkafka::message::{Header, OwnedHeaders};
use reqwest::Method;
use serde_json::{Value, json};
use tidings::cli::Role;

use crate::harness::command::{command, json as json_of, printed, run};
use crate::harness::log::Seen;
use crate::harness::rest::{answered, request, token};
use crate::harness::world::{Running, World, booking, ms, payment};

const KEY: &str = "one-partition";
/// Says what the shipped rule cannot without a `dueDate`.
const MENDED: &str = "[[rule]]\nname = \"payment-due\"\nevent = \"payment:due\"\nuser = \"{{ userId }}\"\ntype = \"payment_due\"\n\
                      message = \"You owe {{ amount }}.\"\n";

/// An event that the shipped rule cannot be rendered for.
pub(crate) fn undated(id: &str) -> Value {
    let mut event = payment(id, "alice");
    event["data"].as_object_mut().unwrap().remove("dueDate");
    event
}

async fn emit(world: &World, value: &[u8]) -> (i32, i64) {
    world.log.produce(&world.topic, Some(KEY), value).await
}

/// Has the pipeline bury these, in this order.
pub(crate) async fn bury(world: &World, values: &[&[u8]]) -> Vec<Seen> {
    let running = world.start_roles(&[Role::Pipeline]).await;
    for value in values {
        emit(world, value).await;
    }
    let dead = world.own_records("dlq", values.len()).await;
    running.stop().await;
    dead
}

fn id(dead: &Seen) -> String {
    format!("{}@{}", dead.partition, dead.offset)
}

/// A folder of rules that can be rendered for all that [`undated`] makes.
pub(crate) fn mended(world: &World) -> String {
    let folder = world.dir.path().join("mended");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("payment.toml"), MENDED).unwrap();
    folder.display().to_string()
}

/// The events of the notifications on the log, in the order of their partition.
async fn notified(world: &World) -> Vec<String> {
    let records = world.log.records(&world.own("notifications")).await;
    records.iter().map(|record| record.json()["notification"]["eventId"].as_str().unwrap().to_owned()).collect()
}

pub(crate) async fn acts(world: &World) -> Vec<Value> {
    world.log.records(&world.own("audit")).await.iter().map(Seen::json).collect()
}

#[tokio::test]
async fn letters_are_counted_by_reason_rule_topic_and_time() {
    let world = World::new().await;
    bury(&world, &[b"not json", undated("1").to_string().as_bytes(), undated("2").to_string().as_bytes()]).await;
    let listing = json_of(&world, 0, &["dlq", "list"]).await;
    assert_eq!((&listing["letters"], &listing["redriven"]), (&json!(3), &json!(0)));
    let counts = |listing: &Value, by: &str| {
        let groups = listing["groups"].as_array().unwrap().clone();
        groups
            .iter()
            .map(|group| (group["of"][by].as_str().unwrap().to_owned(), group["letters"].as_u64().unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(counts(&listing, "reason"), [("template_undefined".into(), 2), ("not_json".into(), 1)]);
    let listing = json_of(&world, 0, &["dlq", "list", "--group-by", "rule,topic"]).await;
    assert_eq!(counts(&listing, "rule"), [("payment-due".into(), 2), ("-".into(), 1)]);
    assert_eq!(counts(&listing, "topic"), [(world.topic.clone(), 2), (world.topic.clone(), 1)]);
    assert!(listing["groups"][0]["line"].as_str().unwrap().starts_with("rules/payment.toml:"), "{listing}");
    let hours = json_of(&world, 0, &["dlq", "list", "--group-by", "time"]).await;
    assert!(counts(&hours, "time").iter().all(|(hour, _)| hour.ends_with(":00:00.000Z")), "{hours}");
    let some = json_of(&world, 0, &["dlq", "list", "--reason", "not_json", "--since", "1h", "--newest", "5"]).await;
    assert_eq!((&some["letters"], &some["newest"][0]["reason"]), (&json!(1), &json!("not_json")));
    let table = printed(&world, 0, &["dlq", "list"]).await;
    assert!(table.contains("template_undefined") && table.ends_with("3 letters, 0 redriven, 3 open\n"), "{table}");
    let refused = run(&world, &["dlq", "list", "--group-by", "colour"]).await;
    assert_eq!(refused.status.code(), Some(2));
}

#[tokio::test]
async fn a_letter_is_shown_with_its_bytes_its_place_its_headers_and_the_line_of_its_rule() {
    let world = World::new().await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    let headers = OwnedHeaders::new().insert(Header { key: "x-source", value: Some("billing\u{1b}[2J") });
    let value = undated("1").to_string();
    let (partition, offset) = world.log.produce_with(&world.topic, Some(KEY), value.as_bytes(), headers).await;
    let dead = world.own_records("dlq", 1).await.remove(0);
    running.stop().await;
    let text = printed(&world, 0, &["dlq", "show", &id(&dead), "--rules", &mended(&world)]).await;
    for expected in [
        &format!("original  {}[{partition}]@{offset}", world.topic),
        "error     template_undefined at render (poison): rule `payment-due`",
        "rule      payment-due, rules/payment.toml:",
        // As the log has it, and not as a terminal would obey it.
        "header    x-source: billing\\u{1b}[2J",
        "00000000  7b 22 64 61 74 61",
        "as text: {\"data\":{",
        "rule payment-due notifies user-alice: : You owe 120.50.",
    ] {
        assert!(text.contains(expected), "{expected} is not in:\n{text}");
    }
    let found = json_of(&world, 0, &["dlq", "show", &id(&dead)]).await;
    assert_eq!((&found["now"]["verdict"], &found["now"]["reason"]), (&json!("bury"), &json!("template_undefined")));
}

#[tokio::test]
async fn a_letter_that_is_gone_or_not_there_yet_is_an_error_that_says_so() {
    let world = World::new().await;
    let dead = bury(&world, &[b"not json", b"nor this"]).await;
    world.log.remove_below(&world.own("dlq"), dead[0].partition, dead[0].offset + 1).await;
    for (id, why) in
        [(id(&dead[0]), "retention has removed it"), ("0@999".into(), "ends before"), ("99@0".into(), "partitions 0 to 3")]
    {
        let output = run(&world, &["dlq", "show", &id]).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(said.contains(&id) && said.contains(why), "{said}");
    }
    let report = json_of(&world, 3, &["dlq", "redrive", "--id", &id(&dead[0])]).await;
    assert_eq!(report["skipped"]["gone"]["ids"], json!([id(&dead[0])]));
}

#[tokio::test]
async fn a_changed_rule_is_tried_without_a_word_written_anywhere() {
    let world = World::new().await;
    bury(&world, &[undated("1").to_string().as_bytes(), b"not json"]).await;
    let report = json_of(&world, 3, &["dlq", "redrive", "--rules", &mended(&world)]).await;
    assert_eq!(
        (&report["executed"], &report["notified"], &report["byRule"]["payment-due"]),
        (&json!(false), &json!(1), &json!(1))
    );
    assert_eq!(report["byAudience"], json!({"user": 1}));
    assert_eq!(report["buried"]["not_json"]["count"], 1);
    assert_eq!(report["first"]["notification"]["message"], "You owe 120.50.");
    // By the rules that buried it, it would be buried again.
    let report = json_of(&world, 3, &["dlq", "redrive", "--dry-run"]).await;
    assert_eq!((&report["notified"], &report["buried"]["template_undefined"]["count"]), (&json!(0), &json!(1)));
    assert!(notified(&world).await.is_empty() && acts(&world).await.is_empty());
    assert_eq!(world.log.records(&world.own("dlq")).await.len(), 2);
}

#[tokio::test]
async fn redriven_letters_become_notifications_in_the_order_of_their_events_and_each_once() {
    let world = World::new().await;
    let events = (0..30).map(|number| undated(&number.to_string()).to_string()).collect::<Vec<_>>();
    bury(&world, &events.iter().map(String::as_bytes).collect::<Vec<_>>()).await;
    let rules = mended(&world);
    let redrive = ["dlq", "redrive", "--reason", "template_undefined", "--rules", &rules, "--execute", "--as", "ops"];
    let report = json_of(&world, 0, &redrive).await;
    assert_eq!((&report["executed"], &report["notified"]), (&json!(true), &json!(30)));
    let expected = (0..30).map(|number| number.to_string()).collect::<Vec<_>>();
    assert_eq!(notified(&world).await, expected, "all are Alice's, so they lie in one partition");

    let again = json_of(&world, 0, &redrive).await;
    assert_eq!((&again["letters"], &again["redrivenBefore"]), (&json!(0), &json!(30)));
    assert_eq!(notified(&world).await.len(), 30);
    let listing = json_of(&world, 0, &["dlq", "list"]).await;
    assert_eq!(listing["redriven"], 30);
    assert_eq!(world.log.records(&world.topic).await.len(), 30, "nothing is written to the domain topic");
}

#[tokio::test]
async fn a_redrive_says_on_audit_who_did_it_what_was_meant_and_what_it_came_to() {
    let world = World::new().await;
    let dead = bury(&world, &[undated("1").to_string().as_bytes(), b"not json"]).await;
    json_of(&world, 3, &["dlq", "redrive", "--all", "--rules", &mended(&world), "--execute", "--as", "ops"]).await;
    let acts = acts(&world).await;
    let steps = acts.iter().map(|act| act["step"]["kind"].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(steps, ["begun", "progress", "ended"]);
    assert_eq!(acts.iter().map(|act| act["id"].as_str().unwrap()).collect::<BTreeSet<_>>().len(), 1);
    assert!(acts.iter().all(|act| act["act"] == "redrive" && act["who"] == "ops"));
    assert_eq!(acts[0]["step"]["selection"], "--all");
    let (partition, offset) = (dead[0].partition, dead[0].offset);
    assert_eq!(acts[1]["step"]["redriven"], json!([{"partition": partition, "offsets": [{"from": offset, "to": offset + 1}]}]));
    assert_eq!(acts[2]["step"]["outcome"], "done");
    assert_eq!(acts[2]["step"]["counts"]["buried"], 1);
    let records = world.log.records(&world.own("audit")).await;
    assert!(records.iter().all(|record| record.key.as_deref() == Some(b"ops") && record.header("tidings-version") == "1"));
}

#[tokio::test]
async fn a_redrive_has_the_ids_that_the_event_itself_would_have_so_nobody_sees_it_twice() {
    let world = World::with(|config| config.courier.ack_timeout = ms(60_000)).await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    // With an event that both rules make the same of, buried by hand as if a worker had been killed behind its burial.
    emit(&world, booking("1", "alice").to_string().as_bytes()).await;
    let shown = alice.frame("notification:new").await["notification"]["id"].clone();
    emit(&world, undated("2").to_string().as_bytes()).await;
    let dead = world.own_records("dlq", 1).await.remove(0);
    let original = world.log.records(&world.topic).await.into_iter().find(|seen| seen.json()["id"] == "1").unwrap();
    let forged = relabelled(&dead, &original);
    world.log.produce_with(&world.own("dlq"), Some(KEY), original.value.as_deref().unwrap(), forged).await;
    let report = json_of(&world, 3, &["dlq", "redrive", "--all", "--execute"]).await;
    assert_eq!((&report["notified"], &report["notifications"]), (&json!(1), &json!(2)));
    assert!([&report["first"], &report["last"]].iter().any(|sent| sent["notification"]["id"] == shown), "{report}");
    // What comes next is not that one again.
    emit(&world, payment("3", "alice").to_string().as_bytes()).await;
    assert_eq!(alice.frame("notification:new").await["notification"]["eventId"], "3");
    running.stop().await;
}

/// Our headers of one letter, telling of another record.
pub(crate) fn relabelled(dead: &Seen, original: &Seen) -> OwnedHeaders {
    let (partition, offset) = (original.partition.to_string(), original.offset.to_string());
    let mut headers = OwnedHeaders::new();
    let begin = ("tidings-context-version".to_owned(), b"1".to_vec());
    let others = dead.headers.iter().filter(|(name, _)| *name != "tidings-context-version");
    for (name, value) in [(&begin.0, &begin.1)].into_iter().chain(others) {
        let value = match name.as_str() {
            "tidings-original-partition" | "__connect.errors.partition" => partition.as_bytes(),
            "tidings-original-offset" | "__connect.errors.offset" => offset.as_bytes(),
            _ => value.as_slice(),
        };
        headers = headers.insert(Header { key: name, value: Some(value) });
    }
    headers
}

#[tokio::test]
async fn what_is_no_letter_a_stub_or_of_a_topic_that_is_not_read_is_skipped_with_its_place_and_the_rest_goes_on() {
    let world = World::new().await;
    let dead = bury(&world, &[undated("1").to_string().as_bytes()]).await.remove(0);
    let dlq = world.own("dlq");
    let with = |name: &str, value: &str| {
        let mut headers = dead.headers.clone();
        headers.insert(name.to_owned(), value.as_bytes().to_vec());
        let begin = headers.remove("tidings-context-version").unwrap();
        let all = [("tidings-context-version".to_owned(), begin)].into_iter().chain(headers);
        all.fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key: &key, value: Some(&value) }))
    };
    let mut put = Vec::new();
    for headers in [
        OwnedHeaders::new(),
        with("tidings-original-offset", "7"),
        with("tidings-context-version", "2"),
        with("tidings-truncated", "true"),
    ] {
        let (partition, offset) = world.log.produce_with(&dlq, Some(KEY), b"anything", headers).await;
        put.push(format!("{partition}@{offset}"));
    }
    let mut elsewhere = dead.clone();
    for name in ["tidings-original-topic", "__connect.errors.topic"] {
        elsewhere.headers.insert(name.to_owned(), world.own("notifications").into_bytes());
    }
    let headers = relabelled(&elsewhere, &dead);
    let (partition, offset) = world.log.produce_with(&dlq, Some(KEY), b"{}", headers).await;
    put.push(format!("{partition}@{offset}"));
    let report = json_of(&world, 3, &["dlq", "redrive", "--all", "--rules", &mended(&world), "--execute"]).await;
    let skipped = ["no_context", "contradicted", "newer_version", "stub", "no_source"];
    for (class, id) in skipped.iter().zip(&put) {
        assert_eq!(report["skipped"][class]["ids"], json!([id]), "{class}: {report}");
        assert!(!report["skipped"][class]["why"].as_str().unwrap().is_empty());
    }
    assert_eq!(report["notified"], 1, "the sound one is redriven: {report}");
    let listing = json_of(&world, 0, &["dlq", "list"]).await;
    assert_eq!(listing["broken"].as_object().unwrap().len(), 3, "{listing}");
    let shown = run(&world, &["dlq", "show", &put[1]]).await;
    assert!(String::from_utf8(shown.stderr).unwrap().contains("contradict each other"));
}

#[tokio::test]
async fn a_letter_that_was_forged_beside_a_true_one_is_not_sent_in_its_place() {
    let world = World::new().await;
    let dead = bury(&world, &[undated("1").to_string().as_bytes()]).await.remove(0);
    let mut place = dead.clone();
    (place.partition, place.offset) =
        (dead.header("tidings-original-partition").parse().unwrap(), dead.header("tidings-original-offset").parse().unwrap());
    world
        .log
        .produce_with(&world.own("dlq"), Some(KEY), undated("forged").to_string().as_bytes(), relabelled(&dead, &place))
        .await;
    let report = json_of(&world, 3, &["dlq", "redrive", "--all", "--rules", &mended(&world), "--execute"]).await;
    assert_eq!((&report["notified"], &report["skipped"]["contradicting"]["count"]), (&json!(0), &json!(2)));
    assert!(notified(&world).await.is_empty());
}

#[tokio::test]
async fn an_export_keeps_every_byte_and_header_as_lines_of_json() {
    let world = World::new().await;
    let value = b"\xff\x00{\"a\":\n";
    let dead = bury(&world, &[value, b"not json"]).await;
    let file = world.dir.path().join("letters.jsonl");
    printed(&world, 0, &["dlq", "export", "--output", file.to_str().unwrap()]).await;
    let text = std::fs::read_to_string(&file).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>();
    assert_eq!(lines.len(), 2);
    let line = lines.iter().find(|line| line["id"] == id(&dead[0])).unwrap();
    // As `printf '\xff\x00{"a":\n' | base64` has it.
    assert_eq!(
        (&line["record"]["valueBase64"], &line["record"]["keyBase64"]),
        (&json!("/wB7ImEiOgo="), &json!("b25lLXBhcnRpdGlvbg=="))
    );
    let some = printed(&world, 0, &["dlq", "export", "--reason", "not_json"]).await;
    assert_eq!(some.lines().count(), 1);
}

#[tokio::test]
async fn a_selection_that_means_nothing_or_everything_by_mistake_is_refused() {
    let world = World::new().await;
    let inverted = ["dlq", "list", "--since", "1h", "--until", "2h"];
    let said = |output: &std::process::Output| String::from_utf8(output.stderr.clone()).unwrap();
    let output = run(&world, &inverted).await;
    assert!(output.status.code() == Some(1) && said(&output).contains("swap the two times"), "{output:?}");
    // Nothing lies there yet, so no time can be looked up.
    assert_eq!(json_of(&world, 0, &["dlq", "list", "--since", "1h"]).await["letters"], 0);
    assert_eq!(json_of(&world, 0, &["undelivered", "list", "--since", "1h"]).await["undelivered"], 0);
    let output = run(&world, &["dlq", "redrive", "--execute"]).await;
    assert!(output.status.code() == Some(1) && said(&output).contains("--all"), "{output:?}");
    let output = run(&world, &["dlq", "show", "seventeen"]).await;
    assert!(output.status.code() == Some(2) && said(&output).contains("2@17"), "{output:?}");
    world.log.delete(&world.own("dlq")).await;
    let output = run(&world, &["dlq", "list"]).await;
    assert!(output.status.code() == Some(1) && said(&output).contains("tidings topics create"), "{output:?}");
}

const MANY: u64 = 5000;

/// So many letters that a redrive of them takes a while.
async fn many() -> World {
    // So much poison would have the topic read no more.
    let world = World::with(|config| config.pipeline.breaker.enabled = false).await;
    let events = (0..MANY).map(|number| undated(&number.to_string()).to_string()).collect::<Vec<_>>();
    let running = world.start_roles(&[Role::Pipeline]).await;
    for events in events.chunks(200) {
        futures_util::future::join_all(events.iter().map(|event| emit(&world, event.as_bytes()))).await;
    }
    world.own_records("dlq", events.len()).await;
    running.stop().await;
    world
}

/// Starts to redrive all, and sends a signal once a part of it is on the log. Gives how it ended.
async fn signalled(world: &World, rules: &str, signal: Signal) -> std::process::ExitStatus {
    let redrive = ["dlq", "redrive", "--all", "--rules", rules, "--execute", "--json"];
    let mut child = command(world, &redrive).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let ending = move || {
        // What a line counts is on the log. Nobody could ask the log as soon as that.
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.starts_with("redriving")), "it says how far it is");
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        drop(lines.collect::<Vec<_>>());
        child.wait().unwrap()
    };
    tokio::task::spawn_blocking(ending).await.unwrap()
}

/// Redrives the rest, and asserts that all are sent and something was left to be.
async fn finished(world: &World, rules: &str) {
    let report = json_of(world, 0, &["dlq", "redrive", "--all", "--rules", rules, "--execute"]).await;
    let [before, now] = ["redrivenBefore", "notified"].map(|count| report[count].as_u64().unwrap());
    assert!(before > 0 && now > 0, "it was stopped in the middle: {report}");
    assert_eq!(before + now, MANY);
    assert_eq!(notified(world).await.iter().collect::<BTreeSet<_>>().len() as u64, MANY);
}

#[tokio::test]
async fn a_redrive_that_is_killed_goes_on_where_it_was_and_loses_no_letter() {
    let world = many().await;
    let rules = mended(&world);
    assert_eq!(signalled(&world, &rules, Signal::SIGKILL).await.signal(), Some(9));
    assert!(acts(&world).await.iter().all(|act| act["step"]["kind"] != "ended"), "nobody said that it had ended");
    finished(&world, &rules).await;
}

#[tokio::test]
async fn a_redrive_that_is_stopped_by_ctrl_c_says_so_on_audit_and_the_next_one_sends_the_rest_and_nothing_twice() {
    stopped_by(Signal::SIGINT).await;
}

#[tokio::test]
async fn a_redrive_whose_container_is_ended_says_so_on_audit_and_the_next_one_sends_the_rest_and_nothing_twice() {
    stopped_by(Signal::SIGTERM).await;
}

async fn stopped_by(signal: Signal) {
    let world = many().await;
    let rules = mended(&world);
    assert_eq!(signalled(&world, &rules, signal).await.code(), Some(1));
    let end = acts(&world).await.into_iter().find(|act| act["step"]["kind"] == "ended").unwrap();
    assert_eq!(end["step"]["outcome"], "interrupted");
    finished(&world, &rules).await;
    assert_eq!(notified(&world).await.len() as u64, MANY);
}

/// Asks as an operator.
pub(crate) async fn ops(running: &Running, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let mut asked = request(running.address, method, path).bearer_auth(token("ops", "admin"));
    if let Some(body) = body {
        asked = asked.header("content-type", "application/json").body(body.to_string());
    }
    answered(asked).await
}

#[tokio::test]
async fn operators_list_look_at_and_redrive_letters_over_http() {
    let mut world = World::new().await;
    let dead = bury(&world, &[undated("1").to_string().as_bytes(), b"not json"]).await;
    world.config.pipeline.rules = mended(&world);
    let running = world.start_roles(&[Role::Gateway]).await;
    let (status, listing) = ops(&running, Method::GET, "/v1/dlq?groupBy=reason,topic&newest=1", None).await;
    assert_eq!((status, &listing["letters"], listing["groups"].as_array().unwrap().len()), (200, &json!(2), 2), "{listing}");
    assert_eq!(listing["newest"].as_array().unwrap().len(), 1);
    let (status, found) = ops(&running, Method::GET, &format!("/v1/dlq/{}", id(&dead[0])), None).await;
    assert_eq!((status, &found["now"]["verdict"]), (200, &json!("notify")), "{found}");
    let selection = json!({"reasons": ["template_undefined"]});
    let (status, report) = ops(&running, Method::POST, "/v1/dlq/redrive", Some(json!({"selection": selection}))).await;
    assert_eq!((status, &report["executed"], &report["notified"]), (200, &json!(false), &json!(1)), "{report}");
    assert!(notified(&world).await.is_empty(), "a dry run is what happens unless something else is said");
    let execute = json!({"selection": selection, "execute": true});
    let (status, report) = ops(&running, Method::POST, "/v1/dlq/redrive", Some(execute)).await;
    assert_eq!((status, &report["executed"], &report["notified"]), (200, &json!(true), &json!(1)), "{report}");
    assert_eq!(notified(&world).await, ["1"]);
    assert!(acts(&world).await.iter().all(|act| act["who"] == "ops"));
    running.stop().await;
}

#[tokio::test]
async fn what_operators_ask_wrongly_of_dead_letters_is_refused_and_others_may_not_ask() {
    let world = World::new().await;
    let running = world.start_roles(&[Role::Gateway]).await;
    for (path, status) in [
        ("/v1/dlq?groupBy=colour", 400),
        ("/v1/dlq?newest=1001", 400),
        ("/v1/dlq?id=seventeen", 400),
        ("/v1/dlq?since=2026-01-31T12:00:00Z&until=2026-01-31T11:00:00Z", 400),
        ("/v1/dlq/seventeen", 400),
        ("/v1/dlq/0@17", 404),
    ] {
        let (answered, problem) = ops(&running, Method::GET, path, None).await;
        assert_eq!(answered, status, "{path}: {problem}");
        assert!(!problem["detail"].as_str().unwrap().is_empty());
    }
    // A condition that nobody knows would mean more letters than were meant.
    for body in [json!({}), json!({"selection": {"reason": ["a"]}}), json!({"selection": {}, "exceute": true})] {
        let (status, problem) = ops(&running, Method::POST, "/v1/dlq/redrive", Some(body)).await;
        assert_eq!(status, 422, "{problem}");
    }
    let (status, _) = answered(request(running.address, Method::GET, "/v1/dlq").bearer_auth(token("billing", "service"))).await;
    assert_eq!(status, 403);
    running.stop().await;
}
