//! The programs of docs/events.md, run as they stand: what each writes is an event that becomes Alice's notification. A language that is not installed
//! is named and left out.

use std::process::Command;

use crate::harness::command::json;
use crate::harness::world::World;

mod emit;

const DOCUMENT: &str = include_str!("../../docs/events.md");
/// The exit code of `dev/emit` where a language is not installed.
const UNAVAILABLE: i32 = 3;

/// The program in a language.
fn program(language: &str) -> &'static str {
    let (_, rest) = DOCUMENT.split_once(&format!("\n```{language}\n")).unwrap_or_else(|| panic!("no program in {language}"));
    rest.split_once("```").unwrap().0
}

/// What lies on the topic is what the document promises.
async fn is_notified(world: &World, language: &str) {
    let records = world.log.records(&world.topic).await;
    let [record] = records.as_slice() else { panic!("{language}: {} records", records.len()) };
    assert_eq!(record.key.as_deref(), Some(&b"alice"[..]), "{language}");
    let place = format!("{}:{}:{}", world.topic, record.partition, record.offset);
    let shown = json(world, 0, &["render", "payment-due", "--from", &place]).await;
    let one = &shown["notifications"][0];
    assert_eq!(one["channel"], "user-alice", "{language}: {shown}");
    assert_eq!(one["notification"]["message"], "You have a payment of $120.50 due on 2026-02-01.", "{language}");
}

async fn run(language: &'static str, (block, file): (&str, &str)) {
    let world = World::new().await;
    let path = world.dir.path().join(file);
    std::fs::write(&path, program(block)).unwrap();
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/dev/emit"));
    command.arg(language).arg(&path).env("BROKERS", &world.log.brokers).env("TOPIC", &world.topic);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(UNAVAILABLE) {
        println!("SKIPPED: {language}: {said}");
        return;
    }
    assert!(output.status.success(), "{language}: {said}");
    is_notified(&world, language).await;
}

#[tokio::test]
async fn the_program_in_python_emits_an_event() {
    run("python", ("python", "emit.py")).await;
}

#[tokio::test]
async fn the_program_in_node_emits_an_event() {
    run("node", ("js", "emit.js")).await;
}

#[tokio::test]
async fn the_program_in_go_emits_an_event() {
    run("go", ("go", "emit.go")).await;
}

#[tokio::test]
async fn the_program_in_java_emits_an_event() {
    run("java", ("java", "Emit.java")).await;
}

#[tokio::test]
async fn the_program_in_rust_emits_an_event() {
    // Behind the comment of its module.
    assert!(
        include_str!("emitting/emit.rs").ends_with(program("rust")),
        "the document and tests/it/emitting/emit.rs are the same"
    );
    let world = World::new().await;
    emit::emit(&world.log.brokers, &world.topic).await.unwrap();
    is_notified(&world, "rust").await;
}
