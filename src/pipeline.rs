//! The pipeline: events and requests become notifications, or are ignored, or are buried in `dlq`. One record, one verdict.
//!
//! Owns: its threads, from their start to their joining. Refuses to mark a record done before the brokers have all that follows
//! from it. Neighbours: core `rules` decides, `kafka::dispatch` reads and commits; gateway, inbox and courier read what is written.

#[cfg(test)]
mod documented;
mod ear;
mod flight;
mod meters;
mod publish;
pub mod rulebook;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use rdkafka::error::KafkaError;
use tidings_core::fate::Cause;
use tidings_core::ids::NodeId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{PipelineConfig, Start, TopicPattern, Topics};
use crate::kafka::cluster::Cluster;
use crate::kafka::consumer::Consumer;
use crate::kafka::dispatch::{self, Answers, Dispatch, DispatchError, Plan, Tell};
use crate::kafka::producer::Producer;
use crate::registry::Registry;
use crate::telemetry::health::Role;
use crate::telemetry::{Complaints, Metrics, Traces};
use crate::worker::{self as thread, WorkerError};

use flight::Way;
use meters::Meters;
use publish::Publisher;
use rulebook::Rulebook;
use worker::{Context, Worker};

const SERVICE: &str = "pipeline";

/// What the pipeline needs.
pub struct Parts {
    /// Where records come from and go to.
    pub cluster: Cluster,
    /// Its section.
    pub config: PipelineConfig,
    /// What was read is finished within this time when partitions go, and at the end.
    pub drain_timeout: Duration,
    /// Where the schemas of records lie.
    pub registry: Registry,
    /// The rules.
    pub rules: Rulebook,
    /// Changes when the rules are to be read again.
    pub reloads: watch::Receiver<u64>,
    /// This process, for dead letters.
    pub node: NodeId,
    /// Monotonic time.
    pub clock: Clock,
    /// Where its numbers are shown.
    pub metrics: Metrics,
    /// What is done is shown in.
    pub traces: Traces,
    /// Where it tells how it stands.
    pub role: Role,
}

/// Why the pipeline ended though nobody asked for it.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// A client could not be made: a property is wrong.
    #[error("the pipeline's Kafka client could not be made")]
    Client(#[source] KafkaError),
    /// One of its threads.
    #[error("the pipeline cannot go on")]
    Thread(#[from] WorkerError),
    /// Reading or writing failed for good.
    #[error("the pipeline cannot go on")]
    Dispatch(#[from] DispatchError),
}

impl PipelineError {
    /// Whose fault it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Client(_) => Cause::Refused,
            Self::Thread(error) => error.cause(),
            Self::Dispatch(DispatchError::Consumer(_)) => Cause::Dependency,
            Self::Dispatch(DispatchError::Produce(error)) => error.cause(),
            Self::Dispatch(DispatchError::Forbidden(_)) => Cause::Forbidden,
            Self::Dispatch(DispatchError::WorkerGone) => Cause::Bug,
        }
    }
}

/// Runs until `stop`, then finishes what was read, commits it and leaves the group.
///
/// # Errors
/// If it has to end before that. What was not written is not committed, and read again at the next start.
pub async fn run(parts: Parts, stop: CancellationToken) -> Result<(), PipelineError> {
    let stop = stop.child_token();
    // Whoever drops this future stops the threads.
    let _guard = stop.clone().drop_guard();
    let meters = Meters::default();
    parts.metrics.register(SERVICE, |shelf| meters.register(shelf));
    let tell = rulebook::Tell { clock: parts.clock, meters: meters.clone(), role: parts.role.clone() };
    let following = parts.rules.clone().follow(parts.reloads.clone(), tell);
    let (reset, resets) = crossbeam_channel::bounded(ear::WORDS);
    let (cluster, clock, listening) = (parts.cluster.clone(), parts.clock, stop.clone());
    let has_breaker = parts.config.breaker.enabled;
    let hear = move || {
        if has_breaker {
            ear::listen(&cluster, &reset, (clock, &listening));
        }
        Ok(())
    };
    let mut ear = thread::Worker::<PipelineError>::start(format!("{SERVICE}-ear"), hear)?;
    let mut thread = thread::Worker::start(SERVICE.to_owned(), move || serve(parts, (&meters, resets), &stop))?;
    tokio::select! {
        outcome = thread.ended() => outcome,
        Err(broken) = ear.ended() => Err(broken),
        never = following => match never {},
    }
}

/// The polling thread, from its first line to its last. Workers end when their queues do.
fn serve(
    parts: Parts,
    (meters, resets): (&Meters, Receiver<Option<String>>),
    stop: &CancellationToken,
) -> Result<(), PipelineError> {
    let numbers = dispatch::Meters::default();
    parts.metrics.register(SERVICE, |shelf| numbers.register(shelf));
    let producer = Arc::new(Producer::new(&parts.cluster, SERVICE).map_err(PipelineError::Client)?);
    let requests = TopicPattern::named(parts.cluster.names().requests());
    let topics = parts.config.topics.iter().chain([&requests]).cloned().collect::<Vec<_>>();
    let subscriptions = topics.iter().map(TopicPattern::subscription).collect::<Vec<_>>();
    let subscriptions = subscriptions.iter().map(String::as_str).collect::<Vec<_>>();
    let consumer = Consumer::join(&parts.cluster, SERVICE, &subscriptions).map_err(PipelineError::Client)?;

    let Answers { sender, receiver } = dispatch::answers();
    let way = Arc::new(Way::new(sender, meters, &parts.cluster, (parts.clock, parts.traces.clone())));
    let breaker = parts.config.breaker;
    let settings = Topics::new(&parts.config, &parts.cluster.names().requests());
    let complaints = Complaints::new(SERVICE, parts.clock);
    let (mut queues, mut workers) = (Vec::new(), Vec::new());
    for number in 0..parts.config.workers.get() {
        let (sender, receiver) = crossbeam_channel::bounded(parts.config.queue_records.get());
        let publisher = Publisher::new(Arc::clone(&producer), Arc::clone(&way), parts.cluster.names(), parts.node.clone());
        let context = Context {
            rules: parts.rules.reader(),
            topics: settings.clone(),
            registry: parts.registry.clone(),
            clock: parts.clock,
            traces: parts.traces.clone(),
            complaints: complaints.clone(),
        };
        let worker = Worker::new(context, publisher, meters.clone());
        queues.push(sender);
        let work = move || {
            worker.run(&receiver);
            Ok(())
        };
        workers.push(thread::Worker::<PipelineError>::start(format!("{SERVICE}-{number}"), work)?);
    }
    drop(way);

    let plan = Plan {
        topics,
        own_prefix: parts.cluster.names().prefix().to_owned(),
        start: parts.config.start,
        starts: starts(&parts.config, requests),
        lost_records: parts.config.lost_records,
        breaker: breaker.enabled.then(|| breaker.limits()),
        breaker_pause: breaker.pause.0,
        commit_interval: parts.config.commit_interval.0,
        drain_timeout: parts.drain_timeout,
    };
    let tell = Tell { clock: parts.clock, meters: numbers, role: parts.role, resets };
    let outcome = Dispatch::new(plan, queues, receiver, tell).run(consumer, stop);

    // A worker that panicked is the reason for whatever else went wrong.
    let workers = workers.into_iter().map(thread::Worker::join).fold(Ok(()), Result::and);
    workers.and(outcome.map_err(PipelineError::Dispatch))
}

/// Where single topics begin; names before expressions.
fn starts(config: &PipelineConfig, requests: TopicPattern) -> Vec<(TopicPattern, Start)> {
    let set = config.per_topic.iter().filter_map(|(pattern, topic)| Some((pattern.clone(), topic.start?)));
    let (named, meant): (Vec<_>, Vec<_>) = set.partition(|(pattern, _)| pattern.name().is_some());
    // Nothing that was asked for may be skipped.
    [(requests, Start::Beginning)].into_iter().chain(named).chain(meant).collect()
}
