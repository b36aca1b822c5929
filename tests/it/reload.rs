//! Rules that change while the services run.

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use tidings::cli::Role;

use crate::harness::eventually;
use crate::harness::process::Process;
use crate::harness::world::{Running, World, get};

/// A rule for the world's only event, with one title.
fn rule(title: &str) -> String {
    format!("[[rule]]\nname = \"r\"\nevent = \"a\"\nuser = \"alice\"\ntype = \"t\"\ntitle = \"{title}\"\n")
}

/// A world whose rules lie in a folder of its own, with one file in it.
async fn world() -> (World, PathBuf) {
    let mut world = World::new().await;
    let folder = world.dir.path().join("rules");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("a.toml"), rule("first")).unwrap();
    world.config.pipeline.rules = folder.display().to_string();
    (world, folder.join("a.toml"))
}

async fn emit(world: &World) {
    world.emit(&serde_json::json!({"type": "a", "data": {}})).await;
}

/// The title of the last of `count` notifications.
async fn title(world: &World, count: usize) -> String {
    let records = world.own_records("notifications", count).await;
    let last = records.iter().max_by_key(|record| record.offset).unwrap();
    last.json()["notification"]["title"].as_str().unwrap().to_owned()
}

/// Waits until this many reloads had this outcome.
async fn reloaded(running: &Running, outcome: &str, times: u32) {
    let line = format!("tidings_pipeline_rules_reloads_total{{outcome=\"{outcome}\"}} {times}");
    eventually(&line, async || running.get("/metrics").await.1.contains(&line).then_some(())).await;
}

fn version(metrics: &str) -> String {
    let lines = metrics.lines().filter(|line| line.starts_with("tidings_pipeline_rules_info{"));
    let [line] = lines.collect::<Vec<_>>().try_into().expect("one version is in force");
    line.split('"').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn a_change_of_the_folder_is_in_force_without_a_restart() {
    let (world, file) = world().await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    emit(&world).await;
    assert_eq!(title(&world, 1).await, "first");
    let before = version(&running.get("/metrics").await.1);
    std::fs::write(&file, rule("second")).unwrap();
    reloaded(&running, "loaded", 1).await;
    emit(&world).await;
    assert_eq!(title(&world, 2).await, "second");
    assert_ne!(version(&running.get("/metrics").await.1), before);
    running.stop().await;
}

#[tokio::test]
async fn a_wrong_rule_changes_nothing_and_is_shown_until_it_is_mended() {
    let (world, file) = world().await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    let before = version(&running.get("/metrics").await.1);
    std::fs::write(&file, rule("{{ second")).unwrap();
    reloaded(&running, "refused", 1).await;
    let (status, health) = running.get("/ready").await;
    let place = format!("{}:6", file.display());
    assert!(status == 200 && health.contains(&place) && health.contains(&before), "{status} {health}");
    assert_eq!(version(&running.get("/metrics").await.1), before);
    emit(&world).await;
    assert_eq!(title(&world, 1).await, "first");
    std::fs::write(&file, rule("third")).unwrap();
    reloaded(&running, "loaded", 1).await;
    let (_, health) = running.get("/ready").await;
    assert!(!health.contains("notes"), "{health}");
    running.stop().await;
}

/// Moves the folder away and puts another one in its place, which no watch on the old one hears of.
fn replace(file: &Path, text: &str) {
    let folder = file.parent().unwrap();
    std::fs::rename(folder, folder.with_extension("old")).unwrap();
    std::fs::create_dir(folder).unwrap();
    std::fs::write(file, text).unwrap();
}

#[tokio::test]
async fn sighup_reads_the_rules_again_and_says_in_the_log_what_is_wrong_with_them() {
    let (world, file) = world().await;
    let process = Process::spawn(&world);
    process.await_ready().await;
    replace(&file, &rule("{{ second"));
    process.signal(Signal::SIGHUP);
    let place = format!("{}:6", file.display());
    eventually("the log names file and line", async || process.logged().contains(&place).then_some(())).await;
    std::fs::write(&file, rule("third")).unwrap();
    process.signal(Signal::SIGHUP);
    let loaded = "tidings_pipeline_rules_reloads_total{outcome=\"loaded\"}";
    eventually(loaded, async || get(process.address, "/metrics").await.1.contains(loaded).then_some(())).await;
    emit(&world).await;
    assert_eq!(title(&world, 1).await, "third");
}
