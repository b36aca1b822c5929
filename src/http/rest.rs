//! REST: the addresses under `/v1`, one file each.
//!
//! Owns: what all of them share: how brokers are written to, how an answer is counted. Neighbours: `guard` lets
//! callers in, `problem` words refusals, the gateway's desk knows its connections.

mod attempts_told;
mod channels;
mod dlq;
mod endpoint;
mod inbox;
mod notifications;
mod owner;
mod pending;
mod query;
mod rates;
mod reading;
mod retry;
mod state_told;
mod stats;
mod undelivered;
mod users;
mod writer;

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use rdkafka::error::KafkaError;
use serde::Serialize;
use tidings_core::record::meta::EpochRecord;
use tidings_core::record::{Record, encode};
use tokio::sync::Semaphore;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use self::dlq::Dlq;
use self::endpoint::{Answered, Endpoint};
use self::notifications::{Decided, Keys};
use self::rates::Rates;
use self::retry::RetryRate;
use self::undelivered::Ends;
use self::writer::Writer;
use super::guard::Guard;
use super::openapi::Description;
use super::problem::Problem;
use crate::clock::Clock;
use crate::config::{CourierConfig, HttpConfig, PipelineConfig, RulesSource};
use crate::gateway::Desk;
use crate::kafka::cluster::Cluster;
use crate::kafka::producer::{Outgoing, version_header};
use crate::kafka::topic::TopicNames;
use crate::registry::Registry;
use crate::replay::{Anew, DeadLetters};
use crate::store::{Courses, Store};
use crate::telemetry::{Labels, Metrics, Traces};

/// What the routes need.
pub struct RestParts {
    /// Where requests and signals are written.
    pub cluster: Cluster,
    /// Roles and limits.
    pub config: HttpConfig,
    /// How what was buried is decided on.
    pub pipeline: PipelineConfig,
    /// With which schemas.
    pub registry: Registry,
    /// The rungs on which ladders begin anew.
    pub courier: CourierConfig,
    /// For how long what was notified is known by its id.
    pub ids_kept: Duration,
    /// By which rules.
    pub rules: RulesSource,
    /// Lets callers in.
    pub guard: Guard,
    /// Where this node's connections are asked for.
    pub desk: Desk,
    /// Where inboxes are read, if there is a store.
    pub store: Option<Store>,
    /// The epoch and its partition count.
    pub epoch: EpochRecord,
    /// The clocks.
    pub clock: Clock,
    /// What callers' traces go on in.
    pub traces: Traces,
    /// Where their metrics are registered.
    pub metrics: Metrics,
}

/// What all routes share.
struct Rest {
    guard: Guard,
    desk: Desk,
    store: Option<Store>,
    courses: Courses,
    page_notifications: NonZeroUsize,
    oversized_pages: Counter,
    wait_limit: Duration,
    /// Each permit is one caller who waits.
    waiting: Semaphore,
    unwaited: Counter,
    clock: Clock,
    names: TopicNames,
    writer: Writer,
    keys: Keys,
    rates: Rates,
    retries: RetryRate,
    dlq: Dlq,
    ends: Ends,
    decided: Decided,
    traces: Traces,
    answers: Family<OfRoute, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRoute {
    route: &'static str,
    code: u16,
}

impl Labels for OfRoute {
    const NAMES: &'static [&'static str] = &["route", "code"];
}

/// The routes under `/v1`.
///
/// # Errors
/// If a Kafka property is wrong.
pub fn rest(parts: RestParts) -> Result<BoxedFilter<(Response,)>, KafkaError> {
    let RestParts { cluster, config, pipeline, registry, courier, ids_kept, rules, guard, .. } = parts;
    let RestParts { desk, store, epoch, clock, traces, metrics, .. } = parts;
    let (answers, oversized_pages, unwaited) = (Family::default(), Counter::default(), Counter::default());
    let (keys, rates) = (Keys::new(config.idempotency_keys), Rates::new(&config));
    let letters = DeadLetters::new(cluster.clone(), &pipeline, desk.node().clone(), clock).with_schemas(registry);
    let dlq = Dlq::new(letters, rules, (&config, &metrics));
    metrics.register("http", |registry| {
        registry.register("answered_requests", "Requests that routes of REST answered, by route and status", answers.clone());
    });
    let limits: [(_, _, &Counter); 4] = [
        ("conflicting_requests", "Requests whose idempotency key came with another request before", &keys.conflicts()),
        (
            "oversized_page_requests",
            "Requests for a larger page of an inbox than `http.page_notifications` allows",
            &oversized_pages,
        ),
        ("unwaited_requests", "Requests that were to be waited for and were not, because `http.waiting_requests` did", &unwaited),
        (
            "rate_limited_requests",
            "Requests of users who wrote more than `http.writes_per_second` and `http.writes_burst` allow",
            &rates.refused(),
        ),
    ];
    register(&metrics, &limits);
    let (names, writer) = (cluster.names().clone(), Writer::new(&cluster, config.broker_timeout.0)?);
    let (decided, ended) = (Decided::new(&cluster, config.broker_timeout.0, clock), (epoch.clone(), desk.node().clone()));
    let ends = undelivered::ends(Anew::new(cluster, (&courier, ids_kept), ended, clock), config.request_timeout.0);
    let rest = Rest {
        guard,
        desk,
        store,
        courses: Courses { epoch: epoch.epoch, notifications: names.notifications().into(), partitions: epoch.partitions },
        page_notifications: config.page_notifications,
        oversized_pages,
        wait_limit: config.wait_limit.0,
        waiting: Semaphore::new(config.waiting_requests.get()),
        unwaited,
        clock,
        names,
        writer,
        keys,
        rates,
        retries: RetryRate::new(config.retries_per_second, config.request_timeout.0),
        dlq,
        ends,
        decided,
        traces,
        answers,
    };
    Ok(endpoint::mount(Arc::new(rest), endpoints()))
}

fn register(metrics: &Metrics, counters: &[(&'static str, &'static str, &Counter)]) {
    metrics.register("http", |registry| {
        for (name, help, counter) in counters {
            registry.register(name, help, (*counter).clone());
        }
    });
}

/// What the routes say of themselves.
pub(super) fn described() -> impl Iterator<Item = Description> {
    endpoints().into_iter().map(|endpoint| endpoint.description)
}

fn endpoints() -> Vec<Endpoint> {
    let of_users = inbox::endpoints().into_iter().chain(users::endpoints());
    notifications::endpoints()
        .chain(of_users)
        .chain(channels::endpoints())
        .chain(stats::endpoints())
        .chain(dlq::endpoints())
        .chain(pending::endpoints())
        .chain(retry::endpoints())
        .chain(undelivered::endpoints())
        .collect()
}

impl Rest {
    /// The store, or why nobody can be told what is in it.
    fn store(&self) -> Result<&Store, Problem> {
        self.store.as_ref().ok_or_else(Problem::store_away)
    }

    /// Writes a fact that does no harm when it is written twice. Returns once the brokers have it.
    async fn write_fact<R: Record>(&self, (topic, partition): (&str, Option<i32>), key: &str, fact: &R) -> Result<(), Problem> {
        let value = encode(fact).map_err(|error| {
            tracing::error!(%error, topic, "a record could not be written as JSON; this is a bug");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the record could not be written")
        })?;
        let (key, headers) = (Some(key.as_bytes()), [version_header::<R>()]);
        let written = self.writer.write(Outgoing { topic, partition, key, value: Some(&value), headers: &headers }).await;
        written.map_err(|unwritten| unwritten.problem("ask again: twice does no harm"))
    }

    /// Words what a route came to, and counts it.
    fn answer(&self, route: &'static str, outcome: Answered) -> Response {
        let response = outcome.unwrap_or_else(Problem::answer);
        self.answers.get_or_create(&OfRoute { route, code: response.status().as_u16() }).inc();
        response
    }
}

/// The query, or nothing. warp's own filter writes what it cannot read into its log.
fn query_text() -> impl Filter<Extract = (String,), Error = Infallible> + Clone {
    warp::query::raw().or(warp::any().map(String::new)).unify()
}

pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Result<Response, Problem> {
    let body = serde_json::to_vec(body).map_err(|error| {
        tracing::error!(%error, "an answer could not be written as JSON; this is a bug");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written")
    })?;
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
