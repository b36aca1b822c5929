//! What operators say to every node: that a breaker is to be reset.
//!
//! Owns: reading `signals` from its end on, as a member of no group, on a thread of its own. Refuses to hold anything up: a word that is
//! not heard, because brokers were away, can be said again. Neighbours: `dispatch` has the breakers, `replay` writes the word.

use std::time::Duration;

use crossbeam_channel::Sender;
use rdkafka::Message as _;
use rdkafka::error::KafkaError;
use tidings_core::record::signal::SignalRecord;
use tidings_core::record::{self, VERSION_HEADER};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::clock::backoff::Backoff;
use crate::kafka::cluster::Cluster;
use crate::kafka::consumer::header;
use crate::kafka::reader::{Read, Reader};

/// How long the brokers may take for an answer.
const WAIT: Duration = Duration::from_secs(3);
/// Who stops it waits so long at most.
const POLL: Duration = Duration::from_millis(200);
/// Words that wait for the polling thread, which looks after each record. More are left out.
pub(super) const WORDS: usize = 64;

/// Listens until `stop`. Blocks.
pub(super) fn listen(cluster: &Cluster, resets: &Sender<Option<String>>, (clock, stop): (Clock, &CancellationToken)) {
    let mut backoff = Backoff::new(clock);
    while !stop.is_cancelled() {
        if !backoff.is_over() {
            std::thread::sleep(POLL);
        } else if let Err(error) = hear(cluster, resets, (&mut backoff, stop))
            && backoff.failed()
        {
            tracing::warn!(%error, "signals are not heard: a breaker is not reset by `tidings breaker reset` until they are; trying again");
        }
    }
}

fn hear(
    cluster: &Cluster,
    resets: &Sender<Option<String>>,
    (backoff, stop): (&mut Backoff, &CancellationToken),
) -> Result<(), KafkaError> {
    let reader = Reader::new(cluster, "pipeline-signals")?;
    let partitions = reader.partitions(&cluster.names().signals(), WAIT)?;
    reader.start(&reader.ends(&partitions, WAIT)?)?;
    if backoff.succeeded() {
        tracing::info!("signals are heard again");
    }
    while !stop.is_cancelled() {
        match reader.poll(POLL)? {
            Read::Record(message) => {
                let word = record::decode(header(&message, VERSION_HEADER), message.payload().unwrap_or_default());
                if let Ok(SignalRecord::ResetBreaker(reset)) = word {
                    tracing::info!(who = %reset.who, topic = reset.topic, "an operator resets breakers");
                    if resets.try_send(reset.topic).is_err() {
                        tracing::warn!("too many resets at once: this one is passed over, and can be asked for again");
                    }
                }
            }
            Read::OutOfRange => return Ok(()),
            Read::Nothing | Read::Trouble(_) => {}
        }
    }
    Ok(())
}
