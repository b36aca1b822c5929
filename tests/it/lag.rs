//! How far each stage is behind, in records and in seconds, while it is held back.

use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tidings::cli::Role;
use tidings::clock::Clock;
use tidings::config::Scalar;

use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::world::{Running, World, ms, payment, sum, unix_now};

const HOUR_MS: i64 = 3_600_000;
const HOUR: f64 = 3_600.0;
/// How many records are held back.
const BEHIND: usize = 10;

/// Waits for a metric's value. One with labels has none until something happens.
async fn until(running: &Running, metric: &str, value: f64) {
    let told = async || sum(&running.get("/metrics").await.1, metric) == Some(value);
    eventually(&format!("{metric} is {value}"), async || told().await.then_some(())).await;
}

/// The offsets that a client has not read of a topic, as librdkafka says.
async fn unread(running: &Running, client: &str, topic: &str) -> f64 {
    let (_, text) = running.get("/metrics").await;
    let start = format!("tidings_kafka_lag_records{{client=\"{client}\",topic=\"{topic}\"");
    text.lines().filter(|line| line.starts_with(&start)).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test]
async fn inbox_and_courier_tell_how_many_records_wait_for_the_database_and_for_how_long() {
    let world = World::with(|config| {
        config.store.busy_timeout = ms(50);
        config.courier.ack_timeout = ms(50);
    })
    .await;
    let (clock, step) = Clock::stepped();
    let running = world.start_by(clock, &[Role::Pipeline, Role::Inbox, Role::Courier]).await;
    running.await_ready().await;
    let file = SqliteConnectOptions::new().filename(world.dir.path().join("tidings.db"));
    let mut other = SqliteConnection::connect_with(&file).await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
    for number in 0..BEHIND {
        world.emit(&payment(&number.to_string(), "absent")).await;
    }
    until(&running, "tidings_inbox_lag_offsets", BEHIND as f64).await;
    until(&running, "tidings_courier_due_records", BEHIND as f64).await;
    for stage in ["inbox", "courier"] {
        let metric = format!("tidings_{stage}_lag_seconds");
        eventually(&format!("{metric} has begun to grow"), async || (running.metric(&metric).await > 0.0).then_some(())).await;
        assert!(running.metric(&metric).await < HOUR);
        step.to(HOUR_MS);
        let later = running.metric(&metric).await;
        assert!(later >= HOUR, "{metric} an hour later: {later}");
        step.to(0);
    }
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    for metric in ["inbox_lag_offsets", "inbox_lag_seconds", "courier_due_records", "courier_lag_seconds"] {
        until(&running, &format!("tidings_{metric}"), 0.0).await;
    }
    running.stop().await;
}

#[tokio::test]
async fn the_pipeline_tells_how_many_records_of_a_halted_topic_wait() {
    let world = World::with(|config| {
        config.kafka.properties.insert("statistics.interval.ms".into(), Scalar::Number(100));
        config.pipeline.breaker.buried_in_a_row = 5.try_into().unwrap();
        config.pipeline.breaker.pause = ms(3_600_000);
    })
    .await;
    let running = world.start_roles(&[Role::Pipeline]).await;
    for _ in 0..5 {
        world.log.produce(&world.topic, Some("k"), b"no event").await;
    }
    until(&running, "tidings_pipeline_halted_topics", 1.0).await;
    for number in 0..BEHIND {
        world.log.produce(&world.topic, Some("k"), payment(&number.to_string(), "alice").to_string().as_bytes()).await;
    }
    eventually("all that wait are told", async || {
        (unread(&running, "pipeline", &world.topic).await == BEHIND as f64).then_some(())
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn the_time_from_event_to_socket_is_what_the_clock_says() {
    let world = World::new().await;
    let (clock, step) = Clock::stepped();
    step.to(HOUR_MS);
    let running = world.start_by(clock, &[Role::Pipeline, Role::Gateway]).await;
    running.await_ready().await;
    let token = World::token_of(&serde_json::json!({"sub": "alice", "exp": unix_now() + 7200}));
    let (mut alice, _) = Client::greeted(running.address, &format!("token={token}")).await;
    world.emit(&payment("1", "alice")).await;
    alice.frame("notification:new").await;
    until(&running, "tidings_gateway_event_to_socket_seconds_count", 1.0).await;
    let took = running.metric("tidings_gateway_event_to_socket_seconds_sum").await;
    assert!(took >= HOUR, "{took} s");
    assert_eq!(running.labelled("tidings_gateway_event_to_socket_seconds_bucket", r#"le="1800.0""#).await, 0);
    assert_eq!(running.labelled("tidings_gateway_event_to_socket_seconds_bucket", r#"le="+Inf""#).await, 1);
    running.stop().await;
}
