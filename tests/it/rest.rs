//! REST under `/v1`: what operators see and close, and how requests are refused. `notifications` has those that are not.

use std::net::SocketAddr;

use reqwest::Method;
use serde_json::{Value, json};
use tidings::cli::Role;

use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::rest::{NOTIFICATIONS, accepted, answered, ask, gateway, request, to_alice, token};
use crate::harness::world::{Running, World};

async fn operate(running: &Running, method: Method, path: &str) -> (u16, Value) {
    answered(request(running.address, method, path).bearer_auth(token("ops", "admin"))).await
}

/// Requests that are refused, each for one reason. The key `taken` has come with another request.
fn refused(at: SocketAddr) -> Vec<(&'static str, reqwest::RequestBuilder)> {
    let post = |body: &str| {
        let request = request(at, Method::POST, NOTIFICATIONS).bearer_auth(token("billing", "service"));
        request.header("content-type", "application/json").body(body.to_owned())
    };
    let operator = |method: Method, path: &str| request(at, method, path).bearer_auth(token("ops", "admin"));
    let fine = to_alice("m");
    vec![
        ("no credentials", request(at, Method::POST, NOTIFICATIONS)),
        ("a forged token", request(at, Method::POST, NOTIFICATIONS).bearer_auth("forged")),
        ("a user asks for a notification", request(at, Method::POST, NOTIFICATIONS).bearer_auth(World::token("alice"))),
        ("a service asks for stats", request(at, Method::GET, "/v1/stats").bearer_auth(token("billing", "service"))),
        ("a page of another site", ask(at, None, &fine).header("origin", "https://evil.example")),
        ("another method", request(at, Method::GET, NOTIFICATIONS)),
        ("another method of stats", operator(Method::POST, "/v1/stats")),
        ("another method of a user's connections", operator(Method::PUT, "/v1/users/alice/connections")),
        ("another method of health", operator(Method::POST, "/health")),
        ("nothing there", operator(Method::GET, "/v1/nothing")),
        ("no type", request(at, Method::POST, NOTIFICATIONS).bearer_auth(token("billing", "service")).body("{}")),
        (
            "another type",
            request(at, Method::POST, NOTIFICATIONS)
                .bearer_auth(token("billing", "service"))
                .header("content-type", "text/plain"),
        ),
        ("no JSON", post("{\"to\":")),
        ("no request", post("{\"to\":{\"user\":\"\"},\"title\":7}")),
        ("an id of its own", post("{\"id\":\"mine\",\"to\":{\"user\":\"a\"},\"message\":\"m\"}")),
        ("an event's own id", post("{\"event\":{\"type\":\"a\",\"data\":{},\"id\":\"taken\"}}")),
        ("too large", post(&to_alice(&"x".repeat(2_000)).to_string())),
        ("an empty key", ask(at, Some("\"\""), &fine)),
        ("a key with another request", ask(at, Some("taken"), &fine)),
        ("a user that is none", operator(Method::GET, "/v1/users/%00/connections")),
        ("a parameter that does not read", operator(Method::GET, "/v1/stats?channels=many")),
        ("a parameter that is none", operator(Method::GET, "/v1/stats?channel=7")),
        (
            "a parameter that the lists of connections do not have",
            operator(Method::DELETE, "/v1/users/a/connections?dryRun=true"),
        ),
        (
            "to wait for too long",
            request(at, Method::POST, "/v1/notifications?wait=1h")
                .bearer_auth(token("billing", "service"))
                .header("content-type", "application/json")
                .body(fine.to_string()),
        ),
    ]
}

#[tokio::test]
async fn every_refusal_is_a_problem_that_says_what_and_where() {
    let world = World::with(|config| config.http.body_bytes = std::num::NonZeroUsize::new(2_000).unwrap()).await;
    let running = gateway(&world).await;
    let at = running.address;
    accepted(ask(at, Some("taken"), &to_alice("first"))).await;
    let mut lines = Vec::new();
    for (name, request) in refused(at) {
        let answer = request.send().await.unwrap();
        let header = |name: &str| answer.headers().get(name).map(|value| format!(" {name}: {}", value.to_str().unwrap()));
        assert_eq!(header("content-type").unwrap(), " content-type: application/problem+json", "{name}");
        let headers = ["allow", "www-authenticate"].iter().filter_map(|name| header(name)).collect::<String>();
        let status = answer.status().as_u16();
        let body = serde_json::from_str::<Value>(&answer.text().await.unwrap()).unwrap();
        assert_eq!(body["status"], status, "{name}");
        lines.push(format!("{name}: {status}{headers}\n  {body}"));
    }
    insta::assert_snapshot!(lines.join("\n"));
    assert_eq!(world.own_records("requests", 1).await.len(), 1, "only the first was accepted");
    assert!(running.metric("tidings_http_conflicting_requests_total").await >= 1.0);
    running.stop().await;
}

#[tokio::test]
async fn services_and_operators_are_told_by_the_roles_that_are_configured_and_by_no_others() {
    let world = World::with(|config| {
        config.http.service_role = "sender".into();
        config.http.admin_role = "operator".into();
    })
    .await;
    let running = gateway(&world).await;
    for (role, sent, shown) in [("sender", 202, 403), ("operator", 403, 200), ("service", 403, 403), ("admin", 403, 403)] {
        let post = request(running.address, Method::POST, NOTIFICATIONS).header("content-type", "application/json");
        let post = post.bearer_auth(token("caller", role)).body(to_alice("m").to_string());
        let get = request(running.address, Method::GET, "/v1/stats").bearer_auth(token("caller", role));
        assert_eq!((answered(post).await.0, answered(get).await.0), (sent, shown), "{role}");
    }
    running.stop().await;
}

#[tokio::test]
async fn stats_count_connections_devices_users_and_subscriptions() {
    let world = World::new().await;
    let running = gateway(&world).await;
    let open = async |user: &str, device: &str| {
        Client::greeted(running.address, &format!("token={}&deviceId={device}&ack=client", World::token(user))).await.0
    };
    let mut lines = [open("alice", "phone").await, open("alice", "phone").await, open("bob", "laptop").await];
    lines[0].subscribe("booking-updates").await;
    let (status, stats) = operate(&running, Method::GET, "/v1/stats").await;
    assert_eq!(status, 200, "{stats}");
    assert!(stats["timestamp"].is_string());
    let node = &stats["node"];
    assert_eq!((&node["connections"], &node["devices"], &node["users"]), (&json!(3), &json!(2), &json!(2)));
    // Each hears its mailbox and the announcements.
    assert_eq!(node["subscriptions"], 7);
    let expected =
        json!([{"channel": "system-announcements", "subscriptions": 3}, {"channel": "booking-updates", "subscriptions": 1}]);
    assert_eq!(node["channels"], expected);
    let (_, stats) = operate(&running, Method::GET, "/v1/stats?channels=1").await;
    assert_eq!((&stats["node"]["channels"].as_array().unwrap().len(), &stats["node"]["channelsLeftOut"]), (&1, &json!(1)));
    running.stop().await;
}

#[tokio::test]
async fn an_operator_lists_a_users_connections_and_closes_them_on_every_node() {
    let world = World::new().await;
    let (first, second) = (gateway(&world).await, world.start_roles(&[Role::Gateway]).await);
    let french = format!("token={}&deviceId=d1&locale=fr-ca", World::token("alice"));
    let mut here = [Client::greeted(first.address, &french).await.0, first.connect("alice").await];
    let (mut there, mut bob) = (second.connect("alice").await, first.connect("bob").await);
    here[0].subscribe("booking-updates").await;
    let path = "/v1/users/alice/connections";
    let listed = eventually("those of both nodes are listed", async || {
        let (status, listed) = operate(&first, Method::GET, path).await;
        assert_eq!(status, 200, "{listed}");
        (listed["connections"].as_array().unwrap().len() == 3).then_some(listed)
    })
    .await;
    let connections = listed["connections"].as_array().unwrap().iter();
    let connections = connections.filter(|line| line["node"] == listed["node"]).collect::<Vec<_>>();
    assert_eq!(connections.len(), 2, "{listed}");
    let channels = json!(["user-alice", "system-announcements", "booking-updates"]);
    let (subscribed, plain) = (connections[0], connections[1]);
    assert_eq!((&subscribed["channels"], &subscribed["locale"]), (&channels, &json!("fr-CA")), "{listed}");
    assert_eq!(plain.get("locale"), None, "it named none");
    for line in &connections {
        assert_eq!((&line["deviceId"], &line["address"]), (&json!("d1"), &json!("127.0.0.1")));
        assert!(line["connectionId"].is_string() && line["since"].is_string());
    }
    let (status, closed) = operate(&first, Method::DELETE, path).await;
    assert_eq!((status, &closed["closed"]), (200, &json!(3)), "on both nodes: {closed}");
    for line in &mut here {
        assert_eq!(line.close_code().await, 4500);
    }
    assert_eq!(there.close_code().await, 4500);
    bob.send(json!({"type": "ping"})).await;
    bob.frame("pong").await;
    eventually("none is listed any more", async || {
        let (_, listed) = operate(&second, Method::GET, path).await;
        (listed["connections"] == json!([])).then_some(())
    })
    .await;
    first.stop().await;
    second.stop().await;
}
