//! What the tests stand on: a real broker, real processes, real sockets, and waiting for conditions instead of time.
//!
//! A [`World`](world::World) has topics and a database of its own, so tests run side by side on one broker.

pub(crate) mod balancer;
pub(crate) mod bare;
pub(crate) mod broker;
pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod command;
pub(crate) mod denial;
pub(crate) mod frames;
pub(crate) mod front;
pub(crate) mod gate;
pub(crate) mod inbox;
pub(crate) mod keys;
pub(crate) mod leavings;
pub(crate) mod log;
pub(crate) mod missed;
pub(crate) mod postgres;
pub(crate) mod present;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod reading;
pub(crate) mod registry;
pub(crate) mod rest;
pub(crate) mod seed;
pub(crate) mod world;

use std::time::Duration;

/// A test that waits longer than this hangs.
pub(crate) const HANG: Duration = Duration::from_secs(150);

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(HANG, asking).await.unwrap_or_else(|_| panic!("still not so after {HANG:?}: {what}"))
}
