//! Topics that refuse: `dlq` and a rung that may only be read, or a `dlq` that is not there. What would go there waits, and so do the offsets.

use std::process::{Command, Stdio};

use crate::crew::WHOLE;
use crate::evidence::{buried, climbed};
use crate::harness::broker::OwnBroker;
use crate::harness::certificates::Authority;
use crate::harness::eventually;
use crate::harness::world::World;
use crate::load::{hurried, with_rules};
use crate::trial::{Trial, rounds};

/// The user of tidings on a broker with passwords.
const USER: &str = "User:tidings";

/// Has the broker's authorizer refuse what it writes to these topics; everything else it may still do.
fn deny_writes(broker: &OwnBroker, topics: &[String]) {
    // Where anything is denied, only what is allowed may be done.
    acl(broker, &["--add", "--allow-principal", USER, "--operation", "All"], topics);
    acl(broker, &["--add", "--deny-principal", USER, "--operation", "Write"], topics);
}

/// It may write there again.
fn take_denial_back(broker: &OwnBroker, topics: &[String]) {
    acl(broker, &["--remove", "--force", "--deny-principal", USER, "--operation", "Write"], topics);
}

fn acl(broker: &OwnBroker, options: &[&str], topics: &[String]) {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/dev/kafka"));
    command.args(["tool", "org.apache.kafka.tools.AclCommand", "--bootstrap-server", &broker.brokers]).args(options);
    command.args(topics.iter().flat_map(|topic| ["--topic", topic]));
    let output = tokio::task::block_in_place(|| command.stdin(Stdio::null()).output().unwrap());
    assert!(output.status.success(), "{output:?}");
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "of the long form: make chaos"]
async fn a_dlq_that_is_gone_costs_no_event_that_was_not_in_it() {
    let mut trial = Trial::begin("dlq missing", with_rules(World::with(hurried).await), &[WHOLE]).await;
    // What lies in a topic goes with it. A rung is not taken away: it belongs to its epoch, and is not made anew within it.
    trial.rest().await;
    trial.keep_letters().await;
    trial.world.log.delete(&trial.world.own("dlq")).await;
    trial.go_on();
    trial.until_said(60).await;
    trial.tended_pause(1_500..3_000).await;
    trial.world.create_topics().await;
    trial.crew.until_all_ready().await;
    trial.until_said(30).await;
    trial.note("deleted it, and made it anew".into());
    trial.settle().await;
}
