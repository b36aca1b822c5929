//! Topics that refuse: `dlq` and a rung that may only be read, or that are not there. What would go there waits, and so do the offsets; no process
//! ends for it.

use crate::crew::WHOLE;
use crate::evidence::{buried, climbed};
use crate::harness::broker::OwnBroker;
use crate::harness::certificates::Authority;
use crate::harness::denial::{deny_writes, take_denial_back};
use crate::harness::eventually;
use crate::harness::world::World;
use crate::load::{hurried, with_rules};
use crate::trial::{Trial, rounds};

/// What nothing may be added to while the fault lasts.
async fn written(world: &World) -> (usize, usize) {
    (buried(world).await.len(), climbed(world).await)
}

/// The first rung and `dlq`.
fn refusing(world: &World) -> [String; 2] {
    [world.own("dlq"), world.own(&format!("retry.{}", world.config.courier.ladder[0]))]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dlq_and_a_rung_that_may_only_be_read_cost_no_event() {
    let authority = Authority::new();
    let (broker, files) = (OwnBroker::start_secure(&authority.issue((0, 30))), tempfile::tempdir().unwrap());
    let world = World::on(&broker.brokers, |config| {
        hurried(config);
        broker.secured(config, files.path(), (&authority, "password"));
    });
    let mut trial = Trial::begin("dlq and a rung read-only", with_rules(world.await), &[WHOLE]).await;
    let topics = refusing(&trial.world);
    for _ in 0..rounds() {
        trial.pause(500..1_500).await;
        deny_writes(&broker, &topics);
        // A broker lives by a rule some time after it has taken it.
        let before = eventually("nothing is written there any more", async || {
            let before = written(&trial.world).await;
            trial.tended_pause(500..600).await;
            (written(&trial.world).await == before).then_some(before)
        })
        .await;
        trial.until_said(60).await;
        trial.tended_pause(1_500..3_000).await;
        assert_eq!(written(&trial.world).await, before, "nothing could be written there");
        trial.check().await;
        take_denial_back(&broker, &topics);
        trial.crew.until_all_ready().await;
    }
    trial.note(format!("denied writing {} times", rounds()));
    trial.settle().await;
}

/// Deletes a topic, and makes it again while the load goes on.
async fn take_away_for_a_while(trial: &mut Trial, topic: &str) {
    trial.world.log.delete(&trial.world.own(topic)).await;
    trial.go_on();
    trial.until_said(60).await;
    trial.tended_pause(1_500..3_000).await;
    trial.world.create_topics().await;
    trial.crew.until_all_ready().await;
    trial.until_said(30).await;
    trial.note(format!("deleted {topic}, and made it anew"));
    assert_eq!(trial.crew.restarts, 0, "no process ended by itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "of the long form: make chaos"]
async fn a_dlq_that_is_gone_costs_no_event_that_was_not_in_it() {
    let mut trial = Trial::begin("dlq missing", with_rules(World::with(hurried).await), &[WHOLE]).await;
    // What lies in a topic goes with it.
    trial.rest().await;
    trial.keep_letters().await;
    take_away_for_a_while(&mut trial, "dlq").await;
    trial.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "of the long form: make chaos"]
async fn a_retry_topic_that_is_gone_costs_no_event_that_was_not_in_it() {
    let mut trial = Trial::begin("retry topic missing", with_rules(World::with(hurried).await), &[WHOLE]).await;
    // All that was said by now has passed the first rung.
    trial.rest().await;
    let first = format!("retry.{}", trial.world.config.courier.ladder[0]);
    take_away_for_a_while(&mut trial, &first).await;
    trial.settle().await;
}
