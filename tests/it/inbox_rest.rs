//! The inbox over REST: what a user is shown, what is done with it, and that nobody sees or touches somebody else's. Long because all
//! of it is read and changed by the same few questions, which stand here once.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use reqwest::Method;
use serde_json::{Value, json};
use tidings::cli::Role;
use uuid::Uuid;

use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::postgres::Server;
use crate::harness::rest::{accepted, answered, ask, gateway, request, token};
use crate::harness::world::{Running, World, ms, payment};

const LIST: &str = "/v1/me/notifications";

/// Asks as a driver.
async fn driver(running: &Running, user: &str, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let request = request(running.address, method, path).bearer_auth(token(user, "driver"));
    answered(match body {
        Some(body) => request.header("content-type", "application/json").body(body.to_string()),
        None => request,
    })
    .await
}

async fn get(running: &Running, user: &str, path: &str) -> Value {
    let (status, body) = driver(running, user, Method::GET, path, None).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

async fn post(running: &Running, user: &str, path: &str, body: Value) -> (u16, Value) {
    driver(running, user, Method::POST, path, Some(body)).await
}

/// Has something told.
async fn told(running: &Running, to: Value, message: &str) {
    accepted(ask(running.address, None, &json!({"to": to, "message": message, "type": "note"}))).await;
}

fn messages(page: &Value) -> Vec<&str> {
    page["notifications"].as_array().unwrap().iter().map(|one| one["message"].as_str().unwrap()).collect()
}

fn ids(page: &Value) -> Vec<String> {
    page["notifications"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

/// Waits until a list of a user's has so many.
async fn until_of(running: &Running, user: &str, path: &str, count: usize) -> Value {
    eventually(&format!("{path} of {user} has {count}"), async || {
        let page = get(running, user, path).await;
        (page["notifications"].as_array().unwrap().len() == count).then_some(page)
    })
    .await
}

/// Waits until a list of Alice's has so many.
async fn until(running: &Running, path: &str, count: usize) -> Value {
    until_of(running, "alice", path, count).await
}

/// Five notifications for Alice, one after the other, each in its channel.
async fn five(running: &Running) -> Value {
    let all = [
        (json!({"user": "alice"}), "1"),
        (json!({"role": "driver"}), "2"),
        (json!({"everyone": true}), "3"),
        (json!({"user": "alice"}), "4"),
        (json!({"user": "alice"}), "5"),
    ];
    for (number, (to, message)) in all.into_iter().enumerate() {
        told(running, to, message).await;
        // Lists go by the time of appending, which has milliseconds.
        until(running, LIST, number + 1).await;
    }
    for elsewhere in [json!({"role": "clerk"}), json!({"channel": "booking-updates"}), json!({"user": "bob"})] {
        told(running, elsewhere, "not for alice").await;
    }
    until_of(running, "bob", LIST, 3).await;
    get(running, "alice", LIST).await
}

async fn an_inbox_is_listed(world: &World) {
    let running = world.start().await;
    let page = five(&running).await;
    assert_eq!(messages(&page), ["5", "4", "3", "2", "1"]);
    assert_eq!(page.get("nextPageToken"), None, "{page}");
    let newest = &page["notifications"][0];
    let state = ["seen", "read", "dismissed"].map(|name| newest[name].as_bool().unwrap());
    assert_eq!((state, &newest["channel"], newest.get("readAt")), ([false; 3], &json!("user-alice"), None), "{newest}");
    assert_eq!(page["upTo"]["user-alice"], newest["position"]);

    let mut paged = Vec::new();
    let mut path = format!("{LIST}?limit=2");
    loop {
        let page = get(&running, "alice", &path).await;
        paged.extend(messages(&page).into_iter().map(str::to_owned));
        let Some(token) = page["nextPageToken"].as_str() else { break };
        assert_eq!(messages(&page).len(), 2, "only the last page is short");
        // What comes in between moves nothing.
        told(&running, json!({"user": "alice"}), "later").await;
        path = format!("{LIST}?limit=2&pageToken={token}");
    }
    assert_eq!(paged, ["5", "4", "3", "2", "1"]);

    for (filter, expected) in [
        ("channel=role-driver", vec!["2"]),
        ("channel=system-announcements&type=note", vec!["3"]),
        ("type=nothing", vec![]),
        ("unread=true&channel=role-driver", vec!["2"]),
        ("since=2100-01-01T00:00:00Z", vec![]),
        ("since=2000-01-01T00:00:00Z&channel=role-driver", vec!["2"]),
    ] {
        assert_eq!(messages(&get(&running, "alice", &format!("{LIST}?{filter}")).await), expected, "{filter}");
    }
    // With the two that came while pages were read.
    until(&running, LIST, 7).await;
    filters_take_some_and_leave_the_others(&running).await;
    assert_eq!(messages(&get(&running, "bob", LIST).await), ["not for alice", "3", "2"]);
    running.stop().await;
}

/// Six of Alice's and more, of which each filter takes some, alone, with others and over pages.
async fn filters_take_some_and_leave_the_others(running: &Running) {
    let before = get(running, "alice", LIST).await["notifications"].as_array().unwrap().len();
    let mut since = String::new();
    for (number, (kind, user)) in
        [("a", "6"), ("b", "7"), ("a", "8"), ("b", "9"), ("a", "10"), ("a", "11")].into_iter().enumerate()
    {
        accepted(ask(running.address, None, &json!({"to": {"user": "alice"}, "message": user, "type": kind}))).await;
        let page = until(running, &format!("{LIST}?limit=100"), before + number + 1).await;
        let newest = &page["notifications"][0];
        if user == "8" {
            since = newest["createdAt"].as_str().unwrap().to_owned();
        }
        if ["6", "9", "10"].contains(&user) {
            let (status, _) = post(running, "alice", &format!("{LIST}/{}/read", newest["id"].as_str().unwrap()), json!({})).await;
            assert_eq!(status, 202);
        }
    }
    until(running, &format!("{LIST}?unread=true&type=a"), 2).await;
    until(running, &format!("{LIST}?unread=true&type=b"), 1).await;
    for (filter, expected) in [
        ("type=a".to_owned(), vec!["11", "10", "8", "6"]),
        ("type=b&channel=user-alice".to_owned(), vec!["9", "7"]),
        ("type=a&channel=role-driver".to_owned(), vec![]),
        ("unread=true&type=a".to_owned(), vec!["11", "8"]),
        (format!("since={since}&channel=user-alice"), vec!["11", "10", "9", "8"]),
        (format!("since={since}&unread=true&type=a"), vec!["11", "8"]),
    ] {
        assert_eq!(messages(&get(running, "alice", &format!("{LIST}?{filter}")).await), expected, "{filter}");
    }
    let (mut paged, mut more) = (Vec::new(), String::new());
    loop {
        let page = get(running, "alice", &format!("{LIST}?unread=true&since={since}&limit=1{more}")).await;
        paged.extend(messages(&page).into_iter().map(str::to_owned));
        let Some(token) = page["nextPageToken"].as_str() else { break };
        more = format!("&pageToken={token}");
    }
    assert_eq!(paged, ["11", "8"], "pages go on with the filters they began with");
}

#[tokio::test]
async fn an_inbox_is_listed_newest_first_by_pages_and_filters_and_has_nobody_elses() {
    an_inbox_is_listed(&World::new().await).await;
}

#[tokio::test]
async fn an_inbox_in_postgresql_is_listed_like_one_in_a_file() {
    let server = Server::start();
    an_inbox_is_listed(&World::with(|config| config.store.url = server.database()).await).await;
}

#[tokio::test]
async fn what_is_done_with_one_shows_in_lists_and_counts() {
    let world = World::new().await;
    let running = world.start().await;
    told(&running, json!({"user": "alice"}), "1").await;
    told(&running, json!({"user": "alice"}), "2").await;
    let page = until(&running, LIST, 2).await;
    let id = &ids(&page)[0];
    let counts = async |unread: u64, unseen: u64| {
        eventually(&format!("{unread} are unread and {unseen} unseen"), async || {
            let counts = get(&running, "alice", "/v1/me/counts").await;
            assert!(counts["asOf"].is_string(), "{counts}");
            ((counts["unread"].as_u64(), counts["unseen"].as_u64()) == (Some(unread), Some(unseen))).then_some(())
        })
        .await;
    };
    counts(2, 2).await;
    for (action, state, unread, unseen) in
        [("seen", "seen", 2, 1), ("read", "read", 1, 1), ("unread", "unread", 2, 1), ("dismiss", "dismissed", 1, 1)]
    {
        let (status, marked) = post(&running, "alice", &format!("{LIST}/{id}/{action}"), json!({})).await;
        assert_eq!((status, marked), (202, json!({"state": state, "notificationIds": [id], "notFound": []})), "{action}");
        counts(unread, unseen).await;
    }
    assert_eq!(ids(&get(&running, "alice", LIST).await), ids(&page)[1..]);
    let with_dismissed = get(&running, "alice", &format!("{LIST}?dismissed=true")).await;
    assert_eq!((ids(&with_dismissed), &with_dismissed["notifications"][0]["dismissed"]), (ids(&page), &json!(true)));
    running.stop().await;
}

#[tokio::test]
async fn several_are_marked_at_once_and_those_that_are_not_ones_own_are_not_found() {
    let world = World::new().await;
    let running = world.start().await;
    let page = five(&running).await;
    let of_bob = ids(&get(&running, "bob", &format!("{LIST}?channel=user-bob")).await).remove(0);
    let nobodys = Uuid::new_v4().to_string();
    let own = ids(&page);
    let named = own.iter().chain([&of_bob, &nobodys]).collect::<Vec<_>>();
    let (status, marked) = post(&running, "alice", &format!("{LIST}/read"), json!({"notificationIds": named})).await;
    let set = |list: &Value| list.as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect::<BTreeSet<_>>();
    assert_eq!((status, set(&marked["notificationIds"])), (202, own.iter().cloned().collect()), "{marked}");
    assert_eq!(set(&marked["notFound"]), [of_bob.clone(), nobodys.clone()].into(), "one cannot be told from the other");
    until(&running, &format!("{LIST}?unread=true"), 0).await;
    let read = get(&running, "alice", LIST).await;
    for one in read["notifications"].as_array().unwrap() {
        assert!(one["read"] == true && one["seen"] == true && one["readAt"].is_string(), "{one}");
    }
    for stranger in [&of_bob, &nobodys, &"no-id".to_owned()] {
        let (status, problem) = post(&running, "alice", &format!("{LIST}/{stranger}/read"), json!({})).await;
        assert_eq!((status, &problem["type"]), (404, &json!("about:blank")), "{problem}");
    }
    assert_eq!(world.own_records("receipts", 1).await.len(), 1, "what was not found left nothing on the log");
    assert_eq!(get(&running, "bob", &format!("{LIST}?unread=true")).await["notifications"].as_array().unwrap().len(), 3);
    running.stop().await;
}

#[tokio::test]
async fn read_all_means_what_the_list_showed_and_nothing_that_came_since() {
    let world = World::new().await;
    let running = world.start().await;
    let page = five(&running).await;
    told(&running, json!({"user": "alice"}), "since").await;
    until(&running, LIST, 6).await;
    let (status, marked) = post(&running, "alice", &format!("{LIST}/seen-all"), json!({"upTo": page["upTo"]})).await;
    assert_eq!((status, &marked["upTo"]), (202, &page["upTo"]), "{marked}");
    let (status, _) = post(&running, "alice", &format!("{LIST}/read-all"), json!({"upTo": page["upTo"]})).await;
    assert_eq!(status, 202);
    assert_eq!(messages(&until(&running, &format!("{LIST}?unread=true"), 1).await), ["since"]);
    let receipts = world.own_records("receipts", 6).await;
    assert!(receipts.iter().all(|receipt| receipt.key.as_deref() == Some(b"user-alice")), "a user's lie in one partition");
    running.stop().await;
}

#[tokio::test]
async fn places_that_the_log_has_not_reached_and_channels_of_others_are_refused_and_nothing_is_written() {
    let world = World::new().await;
    let running = world.start().await;
    told(&running, json!({"user": "alice"}), "1").await;
    let page = until(&running, LIST, 1).await;
    let position = page["upTo"]["user-alice"].as_str().unwrap();
    let epoch = position.split(':').next().unwrap().parse::<u64>().unwrap();
    let far = format!("{epoch}:{}", i64::MAX);
    let later = format!("{}:1", epoch + 1);
    for (path, body, status) in [
        ("/read-all", json!({"upTo": {"user-alice": far}}), 422),
        ("/read-all", json!({"upTo": {"user-alice": later}}), 422),
        ("/read-all", json!({"upTo": {"user-alice": "-1"}}), 422),
        ("/read-all", json!({"upTo": {}}), 422),
        ("/read-all", json!({"upTo": {"user-bob": position}}), 403),
        ("/read-all", json!({"upTo": {"role-clerk": position}}), 403),
        ("/seen-all", json!({"upTo": {"user-alice": far}}), 422),
        ("/read", json!({"notificationIds": []}), 422),
        ("/read", json!({"notificationIds": (0..101).map(|_| Uuid::new_v4()).collect::<Vec<_>>()}), 422),
        ("/read", json!({"notificationIds": ["x"]}), 422),
    ] {
        let (answered, problem) = post(&running, "alice", &format!("{LIST}{path}"), body.clone()).await;
        assert_eq!(answered, status, "{path} {body}: {problem}");
    }
    let ack = |channel: &str, position: &str| json!({"deviceId": "phone", "channel": channel, "position": position});
    for (body, status) in [
        (ack("user-alice", &far), 422),
        (ack("user-alice", &later), 422),
        (ack("user-bob", position), 403),
        (json!({"deviceId": "x".repeat(10_000), "channel": "user-alice", "position": position}), 422),
        (json!({"deviceId": "phone"}), 422),
        (json!({"deviceId": "phone", "notificationIds": [Uuid::new_v4()]}), 404),
        (json!({"deviceId": "phone", "channel": "user-alice", "position": position, "except": [Uuid::new_v4()]}), 404),
    ] {
        let (answered, problem) = post(&running, "alice", "/v1/me/acks", body.clone()).await;
        assert_eq!(answered, status, "{body}: {problem}");
    }
    assert_eq!(get(&running, "alice", &format!("{LIST}?unread=true")).await["notifications"].as_array().unwrap().len(), 1);
    assert!(world.log.records(&world.own("receipts")).await.is_empty());
    assert!(world.log.records(&world.own("cursors")).await.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn a_device_acknowledges_without_a_connection() {
    let world = World::with(|config| config.courier.ack_timeout = ms(3_600_000)).await;
    let running = world.start().await;
    for message in ["1", "2", "3", "4"] {
        told(&running, json!({"user": "alice"}), message).await;
        until(&running, LIST, message.parse().unwrap()).await;
    }
    let page = get(&running, "alice", LIST).await;
    let [fourth, third, second, first] = <[String; 4]>::try_from(ids(&page)).unwrap();
    let acknowledged = async |expected: &[&String]| {
        eventually("the acknowledgement is in SQL", async || {
            let known = world.acknowledged("alice").await;
            (known.iter().collect::<Vec<_>>() == expected).then_some(())
        })
        .await;
    };
    let (status, body) = post(&running, "alice", "/v1/me/acks", json!({"deviceId": "phone", "notificationIds": [second]})).await;
    assert_eq!((status, &body["notificationIds"]), (202, &json!([second])), "{body}");
    acknowledged(&[&second]).await;
    // A device that is new says: all there is up to here, but for one.
    let position = &page["notifications"][1]["position"];
    let below = |device: &str, except: Value| json!({"deviceId": device, "channel": "user-alice", "position": position, "except": except});
    assert_eq!(post(&running, "alice", "/v1/me/acks", below("watch", json!([first]))).await.0, 202);
    acknowledged(&[&second, &third]).await;
    assert_eq!(post(&running, "alice", "/v1/me/acks", below("tablet", json!([]))).await.0, 202);
    acknowledged(&[&first, &second, &third]).await;
    let devices = get(&running, "alice", "/v1/me/devices").await;
    let names = devices["devices"].as_array().unwrap().iter().map(|device| device["deviceId"].clone()).collect::<Vec<_>>();
    assert_eq!(names, ["tablet", "watch", "phone"], "{devices}");
    // It goes on where it stopped.
    let (mut tablet, greeting) =
        Client::greeted(running.address, &format!("token={}&deviceId=tablet&ack=client", World::token("alice"))).await;
    assert_eq!(&greeting["channels"]["user-alice"], position, "{greeting}");
    assert_eq!(tablet.frame("notification:new").await["notification"]["id"], json!(fourth));
    let devices = get(&running, "alice", "/v1/me/devices").await;
    assert_eq!(devices["devices"][0]["connections"], 1, "{devices}");
    running.stop().await;
}

#[tokio::test]
async fn what_is_meant_to_be_handled_once_is_withdrawn_by_an_acknowledgement_over_http() {
    let rules = tempfile::tempdir().unwrap();
    let rule = r#"
        [[rule]]
        name = "once"
        event = "payment:due"
        user = "{{ userId }}"
        type = "payment_due"
        title = "Payment Due"
        once = true
    "#;
    std::fs::write(rules.path().join("once.toml"), rule).unwrap();
    let world = World::with(|config| config.pipeline.rules = rules.path().display().to_string()).await;
    let running = world.start().await;
    world.emit(&payment("p-1", "alice")).await;
    let page = until(&running, LIST, 1).await;
    let ack = json!({"deviceId": "phone", "channel": "user-alice", "position": page["upTo"]["user-alice"]});
    assert_eq!(post(&running, "alice", "/v1/me/acks", ack).await.0, 202);
    until(&running, LIST, 0).await;
    let [receipt] = world.own_records("receipts", 1).await.try_into().unwrap();
    let receipt = receipt.json();
    assert_eq!((&receipt["cause"], &receipt["id"]), (&json!("once"), &page["notifications"][0]["id"]), "{receipt}");
    running.stop().await;
}

#[tokio::test]
async fn without_a_store_nobody_is_told_that_the_inbox_is_empty() {
    let world = World::new().await;
    // Neither has a database, and there is none.
    let running = gateway(&world).await;
    for path in [LIST, "/v1/me/counts", "/v1/me/devices"] {
        let answer = request(running.address, Method::GET, path).bearer_auth(World::token("alice")).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (503, &"5".parse().unwrap()), "{path}");
        let problem = serde_json::from_str::<Value>(&answer.text().await.unwrap()).unwrap();
        assert_eq!(problem["type"], "urn:tidings:problem:store-away", "{path}");
    }
    // What is done is a fact all the same; what marks it as read cannot be known.
    let id = Uuid::new_v4();
    assert_eq!(post(&running, "alice", &format!("{LIST}/{id}/read"), json!({})).await.0, 202);
    let receipt = world.own_records("receipts", 1).await.remove(0).json();
    assert_eq!((&receipt["state"], &receipt["items"]), (&json!("read"), &json!([{"id": id}])), "{receipt}");
    let (status, problem) = post(&running, "alice", &format!("{LIST}/{id}/unread"), json!({})).await;
    assert_eq!((status, &problem["type"]), (503, &json!("urn:tidings:problem:not-yet")), "{problem}");
    running.stop().await;
}

#[tokio::test]
async fn an_operator_sees_and_marks_a_users_inbox_and_nobody_else_does() {
    let world = World::new().await;
    let running = world.start().await;
    let page = five(&running).await;
    let operate = async |method: Method, path: &str| {
        answered(request(running.address, method, path).bearer_auth(token("ops", "admin"))).await
    };
    let (status, seen) = operate(Method::GET, "/v1/users/alice/notifications").await;
    assert_eq!((status, messages(&seen)), (200, vec!["5", "4", "3", "1"]), "nobody knows her roles");
    let (_, seen) = operate(Method::GET, "/v1/users/alice/notifications?role=driver&role=none").await;
    assert_eq!(seen, page);
    let (status, _) = operate(Method::POST, &format!("/v1/users/alice/notifications/{}/read", ids(&page)[0])).await;
    assert_eq!(status, 202);
    until(&running, &format!("{LIST}?unread=true"), 4).await;
    let (status, connections) = operate(Method::GET, "/v1/users/alice/connections").await;
    assert_eq!((status, &connections["connections"]), (200, &json!([])));
    for tail in ["notifications", "counts", "devices", "connections"] {
        let (status, _) = driver(&running, "alice", Method::GET, &format!("/v1/users/alice/{tail}"), None).await;
        assert_eq!(status, 403, "{tail}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_page_is_no_larger_than_allowed() {
    let world = World::with(|config| config.http.page_notifications = NonZeroUsize::new(2).unwrap()).await;
    let running = world.start_roles(&[Role::Pipeline, Role::Gateway, Role::Inbox]).await;
    five_of_mailbox(&running).await;
    let page = get(&running, "alice", LIST).await;
    assert_eq!((messages(&page).len(), page["nextPageToken"].is_string()), (2, true));
    let (status, problem) = driver(&running, "alice", Method::GET, &format!("{LIST}?limit=3"), None).await;
    assert_eq!(status, 400, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("`http.page_notifications`"), "{problem}");
    assert_eq!(running.metric("tidings_http_oversized_page_requests_total").await, 1.0);
    running.stop().await;
}

async fn five_of_mailbox(running: &Running) {
    for _ in 0..3 {
        told(running, json!({"user": "alice"}), "m").await;
    }
    eventually("more than a page is folded", async || {
        get(running, "alice", LIST).await["nextPageToken"].is_string().then_some(())
    })
    .await;
}

#[tokio::test]
async fn texts_are_told_in_the_language_that_is_asked_for() {
    let world = World::new().await;
    let running = world.start().await;
    let body = json!({"to": {"user": "alice"}, "message": "hello", "locales": {"fr": {"message": "bonjour"}}});
    accepted(ask(running.address, None, &body)).await;
    until(&running, LIST, 1).await;
    assert_eq!(messages(&get(&running, "alice", &format!("{LIST}?locale=fr-CA")).await), ["bonjour"]);
    let plain = get(&running, "alice", LIST).await;
    assert_eq!((messages(&plain), plain["notifications"][0].get("locales")), (vec!["hello"], None));
    running.stop().await;
}
