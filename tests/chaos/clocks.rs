//! Wall time that is stepped, back and ahead. The clock is injected, so this process is the one that runs.

use std::sync::Arc;

use tidings::cli::Role;
use tidings::clock::Clock;

use crate::crew::Crew;
use crate::devices::Nodes;
use crate::harness::world::World;
use crate::load::{Weight, hurried, with_rules};
use crate::trial::{Trial, rounds};

const MINUTE_MS: i64 = 60_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_stepped_both_ways_costs_no_event() {
    let world = Arc::new(with_rules(World::with(hurried).await));
    let (clock, step) = Clock::stepped();
    let running = world.start_by(clock, &[Role::Pipeline, Role::Gateway, Role::Inbox, Role::Courier]).await;
    running.await_ready().await;
    let nodes = Nodes::default();
    nodes.enter(running.address);
    let mut trial = Trial::with("clock stepped", world.clone(), Crew::new(world, nodes), Weight::LIGHT).await;
    for _ in 0..rounds() {
        // Short of an hour, at which tokens expire and the last rung is due.
        let minutes = i64::try_from(trial.draw(40)).unwrap() + 10;
        for off_ms in [-minutes * MINUTE_MS, minutes * MINUTE_MS, 0] {
            step.to(off_ms);
            trial.until_said(40).await;
            trial.pause(500..1_500).await;
            trial.check().await;
        }
        trial.note(format!("{minutes} minutes back and ahead"));
    }
    trial.settle().await;
    running.stop().await;
}
