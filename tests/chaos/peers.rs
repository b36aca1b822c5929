//! A device that takes nothing from its line, as one in a tunnel does: it is let go, and comes back for the rest.

use std::sync::Arc;
use std::time::Duration;

use crate::crew::{Crew, WHOLE};
use crate::devices::Nodes;
use crate::harness::eventually;
use crate::harness::missed::some;
use crate::harness::world::{World, get, sum};
use crate::load::{Weight, hurried, with_rules};
use crate::trial::{Trial, rounds};

/// Fills the outbox and the buffers of the kernel within seconds.
const HEAVY: Weight = Weight { pause: Duration::from_millis(15), text_bytes: 12_000 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_takes_nothing_from_its_line_holds_nobody_up_and_misses_nothing() {
    let world = World::with(|config| {
        hurried(config);
        config.gateway.outbox_bytes = some(131_072);
        config.gateway.send_buffer_bytes = some(8_192);
    });
    let world = Arc::new(with_rules(world.await));
    let mut crew = Crew::new(world.clone(), Nodes::default());
    crew.join(WHOLE);
    let mut trial = Trial::with("a stalled TCP peer", world, crew, HEAVY).await;
    let address = trial.crew.process(0).address;
    let closed = async || {
        let (_, metrics) = get(address, "/metrics").await;
        let slow = metrics.lines().filter(|line| line.contains("code=\"4008\"")).collect::<Vec<_>>().join("\n");
        sum(&slow, "tidings_gateway_closed_connections_total").unwrap_or(0.0)
    };
    for round in 1..=u32::try_from(rounds()).unwrap() {
        trial.devices.stall();
        eventually("the stalled line is let go", async || (closed().await >= f64::from(round)).then_some(())).await;
        trial.devices.read_on();
        trial.until_said(60).await;
        trial.check().await;
    }
    trial.note(format!("stalled a device {} times", rounds()));
    trial.settle().await;
}
