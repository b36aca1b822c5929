//! The embedded cluster: librdkafka's mock cluster in this process, with a real listener on the loopback.
//!
//! Owns: its life, on a thread of its own, and the making of topics, which the mock cannot do by protocol. It is for one
//! machine and for trying things: everything is in memory, the log keeps 5 MiB a partition, aborted transactions are not
//! filtered and record times are the producers'.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;

/// The mock cluster could not be started.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// librdkafka refused.
    #[error("the embedded cluster did not start")]
    Kafka(#[from] KafkaError),
    /// Its thread could not be started or ended at once.
    #[error("the embedded cluster's thread did not start")]
    Thread,
}

/// A running embedded cluster. Dropping it stops it; what it held is gone.
#[derive(Debug)]
pub struct Embedded {
    brokers: String,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Starts a cluster of one broker with `topics`, each with its number of partitions.
    ///
    /// # Errors
    /// If librdkafka or the system refuses.
    pub fn start(topics: Vec<(String, i32)>) -> Result<Self, EmbeddedError> {
        let (stop, stopped) = channel();
        let (started, answer) = channel();
        let thread = std::thread::Builder::new()
            .name("embedded-kafka".into())
            .spawn(move || hold(&topics, &started, &stopped))
            .map_err(|_| EmbeddedError::Thread)?;
        let brokers = answer.recv().map_err(|_| EmbeddedError::Thread)??;
        Ok(Self { brokers, stop: Some(stop), thread: Some(thread) })
    }

    /// Where clients reach it: `host:port`.
    #[must_use]
    pub fn brokers(&self) -> &str {
        &self.brokers
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the embedded cluster's thread panicked");
        }
    }
}

/// The cluster's handle must stay on one thread, so this one keeps it until the other end of `stopped` is dropped.
fn hold(topics: &[(String, i32)], started: &Sender<Result<String, KafkaError>>, stopped: &Receiver<()>) {
    let cluster = MockCluster::new(1).and_then(|cluster| {
        topics.iter().try_for_each(|(topic, partitions)| cluster.create_topic(topic, *partitions, 1))?;
        Ok(cluster)
    });
    match cluster {
        Ok(cluster) => {
            // Nobody listens any more only if the starter has given up, and then `stopped` ends at once.
            let _ = started.send(Ok(cluster.bootstrap_servers()));
            let _ = stopped.recv();
        }
        Err(error) => {
            let _ = started.send(Err(error));
        }
    }
}
