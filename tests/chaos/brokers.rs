//! Brokers that go and come back: killed, silent, and one of three.

use nix::sys::signal::Signal;

use crate::crew::WHOLE;
use crate::harness::broker::OwnBroker;
use crate::harness::world::World;
use crate::load::{hurried, with_rules};
use crate::trial::{Trial, rounds};

/// Starting takes a while and blocks, which the load and the devices must not notice.
fn start_again(broker: &OwnBroker) {
    tokio::task::block_in_place(|| broker.start_again());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_and_comes_back_costs_no_event() {
    let broker = OwnBroker::start();
    let world = with_rules(World::on(&broker.brokers, hurried).await);
    let mut trial = Trial::begin("a broker killed and restarted", world, &[WHOLE]).await;
    for _ in 0..rounds() {
        trial.pause(500..2_000).await;
        broker.signal(Signal::SIGKILL);
        trial.tended_pause(500..4_000).await;
        start_again(&broker);
        trial.crew.until_all_ready().await;
        trial.until_said(60).await;
        trial.check().await;
    }
    trial.note(format!("killed the broker {} times", rounds()));
    trial.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "of the long form: make chaos"]
async fn a_broker_that_falls_silent_for_longer_than_a_session_costs_no_event() {
    let broker = OwnBroker::start();
    let world = with_rules(World::on(&broker.brokers, hurried).await);
    let mut trial = Trial::begin("a broker that is a stalled peer", world, &[WHOLE]).await;
    for _ in 0..rounds() {
        trial.pause(500..2_000).await;
        broker.signal(Signal::SIGSTOP);
        trial.tended_pause(7_000..12_000).await;
        broker.signal(Signal::SIGCONT);
        trial.crew.until_all_ready().await;
        trial.until_said(60).await;
        trial.check().await;
    }
    trial.note(format!("stopped the broker's process {} times for longer than a session", rounds()));
    trial.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "of the long form: make chaos"]
async fn each_of_three_brokers_is_killed_in_its_turn_and_costs_no_event() {
    let brokers = OwnBroker::three();
    let world = World::on(&brokers.brokers, |config| {
        hurried(config);
        config.kafka.topics.replication_factor = 3;
    });
    let mut trial = Trial::begin("one of three brokers killed", with_rules(world.await), &[WHOLE]).await;
    let first = trial.draw(3);
    for turn in 0..3 {
        let number = u8::try_from((first + turn) % 3 + 1).unwrap();
        trial.pause(500..2_000).await;
        brokers.kill(number);
        trial.note(format!("killed broker {number}"));
        // Nothing stops for it.
        trial.until_said(60).await;
        start_again(&brokers);
        trial.until_said(30).await;
        trial.crew.until_all_ready().await;
        trial.check().await;
    }
    trial.settle().await;
}
