//! Databases that are away, locked, full or gone.

use std::sync::Arc;
use std::time::Duration;

use tidings::config::Database;

use crate::crew::{Crew, WHOLE};
use crate::devices::Nodes;
use crate::harness::eventually;
use crate::harness::inbox::Held;
use crate::harness::postgres::Server;
use crate::harness::process::Process;
use crate::harness::world::{World, get};
use crate::load::{Weight, hurried, with_rules};
use crate::trial::{Trial, rounds};

/// Until this file limit a fresh database has room for a few seconds of load.
const FULL_BYTES: u64 = 600_000;
/// Fills a database soon.
const HEAVY: Weight = Weight { pause: Duration::from_millis(15), text_bytes: 4_000 };

/// Waits until the inbox says that it cannot go on.
async fn until_unready(trial: &Trial) {
    let address = trial.crew.process(0).address;
    eventually("/ready names the inbox", async || {
        let (status, body) = get(address, "/ready").await;
        (status == 503 && body.contains("inbox")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_that_is_stopped_and_comes_back_costs_no_event() {
    let server = Server::start();
    let world = World::with(|config| {
        hurried(config);
        config.store.url = server.database();
    });
    let mut trial = Trial::begin("PostgreSQL away", with_rules(world.await), &[WHOLE]).await;
    for _ in 0..rounds() {
        trial.pause(500..2_000).await;
        tokio::task::block_in_place(|| server.stop());
        until_unready(&trial).await;
        trial.tended_pause(500..3_000).await;
        tokio::task::block_in_place(|| server.start_again());
        trial.crew.until_all_ready().await;
        trial.until_said(30).await;
    }
    trial.note(format!("stopped the server {} times", rounds()));
    trial.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_under_sqlite_costs_no_event() {
    let world = Arc::new(with_rules(World::with(hurried).await));
    let mut crew = Crew::new(world.clone(), Nodes::default());
    crew.take_in(WHOLE, Process::spawn_with_files_of(&world, FULL_BYTES));
    let mut trial = Trial::with("disk full under SQLite", world, crew, HEAVY).await;
    until_unready(&trial).await;
    trial.pause(500..2_000).await;
    trial.crew.process(0).lift_file_limit();
    trial.crew.until_all_ready().await;
    trial.until_said(30).await;
    trial.note(format!("no file could grow beyond {FULL_BYTES} bytes until it was lifted"));
    trial.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "of the long form: make chaos"]
async fn an_sqlite_file_that_somebody_holds_locked_costs_no_event() {
    let mut trial = Trial::begin("SQLite file locked", with_rules(World::with(hurried).await), &[WHOLE]).await;
    for _ in 0..rounds() {
        trial.pause(500..2_000).await;
        let held = Held::of(&trial.world.config.store.url).await;
        until_unready(&trial).await;
        trial.tended_pause(500..3_000).await;
        held.release().await;
        trial.crew.until_all_ready().await;
        trial.until_said(30).await;
    }
    trial.note(format!("locked it {} times", rounds()));
    trial.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "of the long form: make chaos"]
async fn an_sqlite_file_that_is_taken_away_is_folded_anew_and_costs_no_event() {
    let mut world = World::with(hurried).await;
    let folder = world.dir.path().join("data");
    world.config.store.url = Database::Sqlite(folder.join("tidings.db"));
    std::fs::create_dir(&folder).unwrap();
    let mut trial = Trial::begin("SQLite file gone", with_rules(world), &[WHOLE]).await;
    for round in 1..=rounds() {
        trial.pause(500..2_000).await;
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
        eventually("the process has ended, and another has its place", async || {
            trial.crew.tend();
            (trial.crew.restarts >= round).then_some(())
        })
        .await;
        trial.crew.until_all_ready().await;
        trial.until_said(30).await;
    }
    trial.note(format!("removed it {} times", rounds()));
    trial.settle().await;
}
