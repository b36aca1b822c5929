//! What a team does before production: `tidings check` in its CI, and `tidings render` on what lies on its topic.

use std::fs;
use std::path::Path;

use rdkafka::message::{Header, OwnedHeaders};
use serde_json::{Value, json};

use crate::harness::command::{json as told, printed, run};
use crate::harness::eventually;
use crate::harness::log::Seen;
use crate::harness::world::{World, payment};

fn shipped(folder: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).display().to_string()
}

/// A folder with the shipped schema of payments, changed.
fn changed(world: &World, name: &str, change: impl Fn(&mut Value)) -> String {
    let text = fs::read_to_string(shipped("schemas/events/payment.due.json")).unwrap();
    let mut schema = serde_json::from_str::<Value>(&text).unwrap();
    change(&mut schema);
    let folder = world.dir.path().join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("payment.due.json"), serde_json::to_string_pretty(&schema).unwrap()).unwrap();
    folder.display().to_string()
}

/// The class of each problem, where it lies and what it reads.
fn problems(report: &Value) -> Vec<String> {
    let of_payments = |problem: &&Value| problem["file"].as_str().unwrap().ends_with("payment.toml");
    let problems = report["problems"].as_array().unwrap().iter().filter(of_payments);
    let line = |problem: &Value| {
        for part in ["message", "help", "text"] {
            assert!(problem[part].as_str().is_some_and(|text| !text.is_empty()), "{problem} has no {part}");
        }
        format!("{} {}", problem["class"].as_str().unwrap(), problem["line"])
    };
    problems.map(line).collect()
}

#[tokio::test]
async fn a_team_learns_in_its_own_ci_which_rules_a_change_of_its_events_breaks() {
    let world = World::new().await;
    let (rules, before) = (shipped("rules"), shipped("schemas/events"));
    let check = async |code: i32, schemas: &str| {
        let args = ["check", "--rules", &rules, "--schemas", schemas, "--before", &before];
        told(&world, code, &args).await
    };
    assert_eq!(check(0, &before).await["problems"], json!([]));

    let removed = changed(&world, "removed", |schema| {
        schema["properties"].as_object_mut().unwrap().remove("dueDate");
        schema["required"] = json!(["userId", "paymentId", "amount"]);
    });
    assert_eq!(problems(&check(1, &removed).await), ["field_removed 9"]);
    let optional = changed(&world, "optional", |schema| schema["required"] = json!(["paymentId", "amount", "dueDate"]));
    assert_eq!(problems(&check(1, &optional).await), ["field_made_optional 6"]);
    let retyped = changed(&world, "retyped", |schema| schema["properties"]["amount"]["type"] = json!(["number", "object"]));
    assert_eq!(problems(&check(1, &retyped).await), ["field_type_changed 9"]);

    let output = run(&world, &["check", "--rules", &rules, "--schemas", &removed, "--before", &before]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("rules/payment.toml:9: error: `message` reads `dueDate`, which "), "{text}");
    let empty = changed(&world, "empty", |schema| schema["properties"]["userId"] = json!({"type": "string"}));
    let only = world.dir.path().join("rules");
    fs::create_dir_all(&only).unwrap();
    fs::copy(shipped("rules/payment.toml"), only.join("payment.toml")).unwrap();
    let args = ["check", "--rules", only.to_str().unwrap(), "--schemas", &empty];
    assert_eq!(problems(&told(&world, 0, &args).await), ["audience_empty 6"], "a warning fails nothing");
    let strict = args.iter().copied().chain(["--strict"]).collect::<Vec<_>>();
    told(&world, 1, &strict).await;
}

#[tokio::test]
async fn a_record_on_the_brokers_is_rendered_as_the_pipeline_would() {
    let world = World::new().await;
    let topic = &world.topic;
    let (partition, offset) = world.emit(&payment("1", "alice")).await;
    let place = format!("{topic}:{partition}:{offset}");
    let shown = told(&world, 0, &["render", "payment-due", "--from", &place]).await;
    assert_eq!(shown["verdict"], "notify");
    let one = &shown["notifications"][0];
    assert_eq!((&one["channel"], &one["rule"]), (&json!("user-alice"), &json!("payment-due")));

    // What a server makes of such a record is the same, word for word.
    let running = world.start().await;
    let (partition, offset) = world.emit(&payment("2", "alice")).await;
    let sent = eventually("it is notified", async || {
        let records = world.log.records(&world.own("notifications")).await;
        records.iter().map(Seen::json).find(|record| record["notification"]["eventId"] == "2")
    });
    let sent = sent.await;
    running.stop().await;
    let place = format!("{topic}:{partition}:{offset}");
    let rendered = told(&world, 0, &["render", "--from", &place]).await;
    assert_eq!(rendered["notifications"][0]["notification"], sent["notification"]);

    let other = told(&world, 0, &["render", "user-logged-in", "--from", &place]).await;
    assert!(other["silent"].as_str().unwrap().contains("no_rule"), "{other}");
}

#[tokio::test]
async fn what_is_ignored_buried_or_not_there_says_why() {
    let world = World::new().await;
    let topic = &world.topic;
    let headers = OwnedHeaders::new().insert(Header { key: "event-type", value: Some("payment:due") });
    let (partition, offset) = world.log.produce_with(topic, None, br#"{"userId":"alice"}"#, headers).await;
    let buried = told(&world, 1, &["render", "payment-due", "--from", &format!("{topic}:{partition}:{offset}")]).await;
    assert_eq!((&buried["verdict"], &buried["class"]), (&json!("bury"), &json!("template_undefined")));
    assert!(buried["line"].as_str().unwrap().contains("rules/payment.toml:"), "{buried}");
    let (partition, offset) = world.log.produce(topic, None, br#"{"type":"payment:lost","data":{}}"#).await;
    let text = printed(&world, 0, &["render", "--from", &format!("{topic}:{partition}:{offset}")]).await;
    assert_eq!(text, "ignored: no_rule: no rule is for events of this type\n");
    for (place, why) in [
        (format!("{topic}:{partition}:999"), "nothing lies at offset 999"),
        (format!("{topic}:99:0"), "has the partitions 0 to"),
        (format!("{topic}-lost:0:0"), "there is no topic"),
    ] {
        let output = run(&world, &["render", "--from", &place]).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(why), "{place}: {error}");
    }
}
