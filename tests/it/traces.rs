//! One trace from the event to the frame, as a collector sees it.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use rdkafka::message::{Header, OwnedHeaders};
use serde_json::json;
use tidings::cli::Role;
use warp::Filter as _;

use crate::harness::eventually;
use crate::harness::world::{Running, World, ms, payment, unix_now};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    /// Listens, and gives the endpoint.
    async fn start(&self) -> String {
        let spans = self.spans.clone();
        let take = warp::path!("v1" / "traces").and(warp::post()).and(warp::body::bytes()).map(move |body: Bytes| {
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
            spans.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
            warp::reply()
        });
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/v1/traces", socket.local_addr().unwrap());
        tokio::spawn(warp::serve(take).incoming(socket).run());
        endpoint
    }

    /// The only span of this name in the trace.
    fn span(&self, name: &str) -> Option<Span> {
        let spans = self.spans.lock().unwrap();
        let mut found = spans.iter().filter(|span| span.name == name && hex(&span.trace_id) == TRACE);
        let span = found.next().cloned();
        assert!(found.next().is_none(), "{name} is there twice");
        span
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn world(endpoint: &str, ratio: f64) -> World {
    World::with(|config| {
        endpoint.clone_into(&mut config.telemetry.otlp.endpoint);
        config.telemetry.otlp.ratio = ratio;
        config.telemetry.otlp.interval = ms(50);
    })
    .await
}

async fn emit(world: &World, id: &str, parent: &str) {
    let headers = OwnedHeaders::new().insert(Header { key: "traceparent", value: Some(parent) });
    world.log.produce_with(&world.topic, Some("k"), payment(id, "alice").to_string().as_bytes(), headers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_leads_from_the_event_to_the_frame_that_was_written() {
    let collector = Collector::default();
    let world = world(&collector.start().await, 0.0).await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    emit(&world, "1", &format!("00-{TRACE}-{PARENT}-01")).await;
    alice.frame("notification:new").await;

    let mut above = PARENT.to_owned();
    let mut ids = Vec::new();
    for name in ["decide", "produce", "fan out", "write frames"] {
        let span = eventually(name, async || collector.span(name)).await;
        assert_eq!(hex(&span.parent_span_id), above, "the parent of {name}");
        above = hex(&span.span_id);
        ids.push(above.clone());
    }
    let fold = eventually("fold", async || collector.span("fold")).await;
    assert_eq!(hex(&fold.parent_span_id), ids[1], "the inbox reads what `produce` wrote");
    let [record] = world.own_records("notifications", 1).await.try_into().unwrap();
    assert_eq!(record.header("traceparent"), format!("00-{TRACE}-{}-01", ids[1]), "the log has the span that wrote it");
    running.stop().await;
}

/// Asks for a notification over HTTP within the caller's trace. Gives the status.
async fn ask(running: &Running, parents: &[&str], state: &str) -> u16 {
    let token = World::token_of(&json!({"sub": "billing", "roles": ["service"], "exp": unix_now() + 3600}));
    let request = reqwest::Client::new().post(format!("http://{}/v1/notifications", running.address)).bearer_auth(token);
    let body = json!({"to": {"user": "alice"}, "message": "m"}).to_string();
    let request = request.header("content-type", "application/json").header("tracestate", state).body(body);
    let request = parents.iter().fold(request, |request, parent| request.header("traceparent", *parent));
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_leads_from_who_asks_over_http_to_the_frame_that_was_written() {
    let collector = Collector::default();
    let world = world(&collector.start().await, 0.0).await;
    let running = world.start_roles(&[Role::Pipeline, Role::Gateway]).await;
    let mut alice = running.connect("alice").await;
    assert_eq!(ask(&running, &[&format!("00-{TRACE}-{PARENT}-01")], "congo=t61rcWkgMzE").await, 202);
    alice.frame("notification:new").await;

    let mut above = PARENT.to_owned();
    for name in ["accept", "decide", "produce", "fan out", "write frames"] {
        let span = eventually(name, async || collector.span(name)).await;
        assert_eq!(hex(&span.parent_span_id), above, "the parent of {name}");
        above = hex(&span.span_id);
    }
    let accept = collector.span("accept").unwrap();
    for topic in ["requests", "notifications"] {
        let [record] = world.own_records(topic, 1).await.try_into().unwrap();
        assert_eq!(record.header("tracestate"), "congo=t61rcWkgMzE", "{topic}");
        assert!(record.header("traceparent").starts_with(&format!("00-{TRACE}-")), "{topic}");
    }
    let [request] = world.own_records("requests", 1).await.try_into().unwrap();
    assert_eq!(request.header("traceparent"), format!("00-{TRACE}-{}-01", hex(&accept.span_id)));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_trace_goes_on_where_none_is_exported_and_one_that_is_hostile_is_ignored() {
    let world = World::new().await;
    let running = world.start_roles(&[Role::Pipeline, Role::Gateway]).await;
    let fine = format!("00-{TRACE}-{PARENT}-01");
    assert_eq!(ask(&running, &[&fine], "a=1").await, 202);
    let hostile = ["garbage".to_owned(), fine.to_uppercase(), format!("00-{TRACE}-{}-01", "0".repeat(16))];
    for parent in &hostile {
        assert_eq!(ask(&running, &[parent], "a=1").await, 202, "{parent}");
    }
    assert_eq!(ask(&running, &[&fine, &fine], "a=1").await, 202, "two parents are none");
    for topic in ["requests", "notifications"] {
        let records = world.own_records(topic, 5).await;
        let mut traced = records.iter().filter(|record| record.headers.contains_key("traceparent"));
        assert_eq!(traced.next().map(|record| record.header("traceparent")), Some(fine.as_str()), "{topic}");
        assert!(traced.next().is_none(), "{topic}");
    }
    assert_eq!(running.metric("tidings_telemetry_ignored_contexts_total").await, 4.0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_sampled_makes_no_span_and_is_passed_on_and_what_is_hostile_is_counted() {
    let collector = Collector::default();
    let world = world(&collector.start().await, 0.0).await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    let unsampled = format!("00-{TRACE}-{PARENT}-00");
    emit(&world, "1", &unsampled).await;
    emit(&world, "2", "00-00000000000000000000000000000000-00f067aa0ba902b7-01").await;
    let records = world.own_records("notifications", 2).await;
    assert_eq!(records[0].header("traceparent"), unsampled);
    assert!(records.iter().filter(|record| record.headers.contains_key("traceparent")).count() == 1);
    assert_eq!(running.metric("tidings_telemetry_ignored_contexts_total").await, 1.0);
    // What there is would be exported at the end.
    running.stop().await;
    assert_eq!(collector.spans.lock().unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_holds_nobody_up() {
    let world = world("http://127.0.0.1:9/v1/traces", 1.0).await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    for number in 0..20 {
        world.emit(&payment(&number.to_string(), "alice")).await;
    }
    for _ in 0..20 {
        alice.frame("notification:new").await;
    }
    eventually("spans were given up", async || {
        (running.metric("tidings_telemetry_failed_spans_total").await > 0.0).then_some(())
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_a_silent_collector_leaves_no_room_for_are_counted_and_nothing_waits_for_them() {
    // It takes connections and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/v1/traces", silent.local_addr().unwrap());
    let world = World::with(|config| {
        let otlp = &mut config.telemetry.otlp;
        (otlp.endpoint, otlp.ratio, otlp.interval) = (endpoint, 1.0, ms(50));
        (otlp.queue_spans, otlp.timeout) = (4.try_into().unwrap(), ms(60_000));
    })
    .await;
    let running = world.start().await;
    let mut alice = running.connect("alice").await;
    for number in 0..20 {
        world.emit(&payment(&number.to_string(), "alice")).await;
    }
    for _ in 0..20 {
        alice.frame("notification:new").await;
    }
    // Each event has five spans. Four at most are with the collector, and the queue has room for four.
    eventually("the others were dropped", async || {
        (running.metric("tidings_telemetry_dropped_spans_total").await >= 92.0).then_some(())
    })
    .await;
    assert_eq!(running.metric("tidings_telemetry_exported_spans_total").await, 0.0);
    running.stop().await;
}
