//! The limits of requests that a route reads, on real sockets. `tests/it/edge.rs` has those that are met before any route.

use std::num::NonZeroUsize;

use tidings_core::time::Delay;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use warp::Filter as _;
use warp::reply::Reply as _;

use super::*;

/// What is said to a request when bodies have 100 bytes and 300 ms; the metrics afterwards.
async fn answer(request: &str) -> (String, String) {
    let mut config = crate::config::load(None, &[]).unwrap();
    (config.gateway.host, config.gateway.port) = ("127.0.0.1".into(), 0);
    config.http.body_bytes = NonZeroUsize::new(100).unwrap();
    config.http.request_timeout = Delay(Duration::from_millis(300));
    let metrics = Metrics::new();
    let parts = ListenerParts { gateway: &config.gateway, http: &config.http, clock: Clock::start(), metrics: &metrics };
    let listener = Listener::bind(&parts).unwrap();
    let (address, stop) = (listener.address(), CancellationToken::new());
    let reads = warp::path!("reads").and(warp::body::bytes()).map(|_| "read".into_response());
    let hangs = warp::path!("hangs").and_then(std::future::pending::<Result<Response, warp::Rejection>>);
    let (_routes, routes) = watch::channel(reads.or(hangs).unify().boxed());
    let (_reloads, reloads) = watch::channel(0);
    let serving = listener.serve(routes, reloads, stop.clone());
    let asking = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        stop.cancel();
        answer
    };
    let both = async { tokio::join!(serving, asking).1 };
    let answer = tokio::time::timeout(Duration::from_secs(60), both).await.expect("the connection ends");
    (answer, metrics.encode(Clock::start().now()).unwrap())
}

fn counts(metrics: &str, reason: &str) -> bool {
    metrics.contains(&format!("tidings_http_refused_requests_total{{reason=\"{reason}\"}} 1"))
}

#[tokio::test]
async fn a_body_that_is_whole_is_read() {
    let (answer, _) = answer("POST /reads HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("read"), "{answer}");
}

#[tokio::test]
async fn a_body_that_grows_beyond_its_size_without_announcing_it_is_refused() {
    let chunks = "20\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n".repeat(4);
    let request = format!("POST /reads HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
    let (answer, metrics) = answer(&request).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(counts(&metrics, "body_bytes"), "{metrics}");
}

#[tokio::test]
async fn a_body_that_does_not_come_whole_is_refused_in_its_time() {
    let (answer, metrics) = answer("POST /reads HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(counts(&metrics, "body_timeout"), "{metrics}");
}

#[tokio::test]
async fn a_route_that_does_not_answer_in_time_is_answered_for() {
    let (answer, metrics) = answer("GET /hangs HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(counts(&metrics, "answer_timeout"), "{metrics}");
}
