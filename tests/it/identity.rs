//! The same id with another content: nobody is told of it, and operators are.

use serde_json::json;
use tidings::config::LogFormat;

use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::process::Process;
use crate::harness::world::{World, metric};

#[tokio::test]
async fn an_event_that_says_something_else_under_a_known_id_is_counted_said_once_and_not_shown() {
    let world = World::with(|config| config.log.format = LogFormat::Json).await;
    let process = Process::spawn(&world);
    process.await_ready().await;
    let (mut alice, _) = Client::greeted(process.address, &format!("token={}", World::token("alice"))).await;
    for (id, amount) in [("1", 10), ("1", 10), ("1", 20), ("1", 30), ("2", 40)] {
        let data = json!({"userId": "alice", "paymentId": "p", "amount": amount, "dueDate": "2026-02-01"});
        world
            .log
            .produce(&world.topic, Some("k"), json!({"type": "payment:due", "id": id, "data": data}).to_string().as_bytes())
            .await;
    }
    let shown = [alice.frame("notification:new").await, alice.frame("notification:new").await];
    let ids = shown.map(|frame| frame["notification"]["eventId"].clone());
    assert_eq!(ids, [json!("1"), json!("2")]);
    eventually("both contradictions are counted", async || {
        (metric(process.address, "tidings_inbox_identity_conflicts_total").await == 2.0).then_some(())
    })
    .await;
    let logged = process.logged();
    let lines = logged.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let told = lines.filter(|line| line["class"] == "identity_conflict" && line["level"] == "WARN").collect::<Vec<_>>();
    let [told] = told.as_slice() else { panic!("{logged}") };
    assert_eq!(told["topic"], world.own("notifications"));
    assert!(told["offset"].is_i64() && told["partition"].is_i64(), "{told}");
}
