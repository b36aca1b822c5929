//! `/openapi.json`: what it says is what a real server does. Every answer of every address that it documents is provoked, and held
//! against its schema, strictly: a field that is not documented is a fault too.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::rc::Rc;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tidings::cli::Role;
use uuid::Uuid;

use crate::harness::eventually;
use crate::harness::rest::{accepted, ask, gateway, request, to_alice, token};
use crate::harness::world::{Running, World};

const BODY_BYTES: usize = 4_000;

/// An answer that is documented.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Answer {
    method: String,
    path: String,
    status: u16,
}

/// The document, as a client of it reads it.
struct Contract {
    document: Value,
    /// By the text of the schema: most answers share one, and to make one takes longer than the answer.
    validators: RefCell<BTreeMap<String, Rc<jsonschema::Validator>>>,
}

impl Contract {
    async fn of(running: &Running) -> Self {
        let (status, text) = running.get("/openapi.json").await;
        assert_eq!(status, 200, "{text}");
        Self { document: serde_json::from_str(&text).unwrap(), validators: RefCell::default() }
    }

    /// Every method of every address, with what is said of it.
    fn operations(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        let paths = self.document["paths"].as_object().unwrap().iter();
        paths.flat_map(|(path, methods)| {
            methods.as_object().unwrap().iter().map(move |(method, operation)| (method.as_str(), path.as_str(), operation))
        })
    }

    fn answers(&self) -> BTreeSet<Answer> {
        let of = |(method, path, operation): (&str, &str, &Value)| {
            let statuses = operation["responses"].as_object().unwrap().keys().map(|status| status.parse().unwrap());
            let answer = |status| Answer { method: method.to_uppercase(), path: path.to_owned(), status };
            statuses.map(answer).collect::<Vec<_>>()
        };
        self.operations().flat_map(of).collect()
    }

    /// Holds what a server answered against what is documented of it.
    fn hold(&self, answer: &Answer, headers: &reqwest::header::HeaderMap, body: &str) {
        let Answer { method, path, status } = answer;
        let said = &self.document["paths"][path][method.to_lowercase()]["responses"][status.to_string()];
        for name in said["headers"].as_object().into_iter().flat_map(|headers| headers.keys()) {
            assert!(headers.contains_key(name), "{answer:?} has no `{name}`");
        }
        let media = headers["content-type"].to_str().unwrap().split(';').next().unwrap();
        let Some(content) = said["content"].get(media) else { panic!("{answer:?} is {media}, which is not documented: {said}") };
        if media.ends_with("json") {
            let body = serde_json::from_str::<Value>(body).unwrap();
            let faults = self.validator(&content["schema"]).iter_errors(&body).map(|fault| fault.to_string()).collect::<Vec<_>>();
            assert!(faults.is_empty(), "{answer:?} is not as documented: {faults:?}\n{body}");
        }
    }

    fn validator(&self, schema: &Value) -> Rc<jsonschema::Validator> {
        let mut made = self.validators.borrow_mut();
        made.entry(schema.to_string()).or_insert_with(|| Rc::new(self.make_validator(schema))).clone()
    }

    fn make_validator(&self, schema: &Value) -> jsonschema::Validator {
        let mut whole = schema.clone();
        whole["components"] = self.document["components"].clone();
        let schemas = whole["components"]["schemas"].as_object_mut().unwrap();
        // What is a part of something larger does not know the rest.
        let parts = schemas.values().flat_map(|schema| schema["allOf"].as_array().cloned().unwrap_or_default());
        let parts = parts.filter_map(|part| part["$ref"].as_str().map(str::to_owned)).collect::<BTreeSet<_>>();
        for (name, schema) in schemas.iter_mut() {
            let is_object = schema["type"] == "object" && schema.get("properties").is_some();
            if (is_object || schema.get("allOf").is_some()) && !parts.contains(&format!("#/components/schemas/{name}")) {
                schema["unevaluatedProperties"] = false.into();
            }
        }
        let options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012).should_validate_formats(true);
        options.build(&whole).unwrap()
    }
}

/// What there is to ask about.
struct Known {
    at: SocketAddr,
    /// A notification of Alice's, and the position behind it.
    notification: String,
    position: String,
    /// The request that it follows from, and one that may be withdrawn.
    request: String,
    other_request: String,
    /// A dead letter.
    letter: String,
}

impl Known {
    /// Nothing at all.
    fn nothing(at: SocketAddr) -> Self {
        let id = || Uuid::new_v4().to_string();
        Self { at, notification: id(), position: "1:1".into(), request: id(), other_request: id(), letter: "0@999".into() }
    }

    async fn of(world: &World, running: &Running) -> Self {
        world.log.produce(&world.topic, None, b"not json").await;
        let dead = world.own_records("dlq", 1).await;
        let letter = format!("{}@{}", dead[0].partition, dead[0].offset);
        let request = accepted(ask(running.address, None, &to_alice("m"))).await;
        let other_request = accepted(ask(running.address, None, &to_alice("other"))).await;
        let one = eventually("both are in the inbox", async || {
            let list = request_of("GET", "/v1/me/notifications", running.address, "").send().await.unwrap().text().await.unwrap();
            let list = serde_json::from_str::<Value>(&list).unwrap()["notifications"].as_array()?.clone();
            let one = list.iter().find(|one| one["eventId"] == *request)?.clone();
            (list.len() == 2).then_some(one)
        })
        .await;
        let text = |name: &str| one[name].as_str().unwrap().to_owned();
        Self { at: running.address, notification: text("id"), position: text("position"), request, other_request, letter }
    }

    /// The address of something that is there.
    fn address(&self, method: &str, path: &str) -> String {
        let request = if method == "DELETE" { &self.other_request } else { &self.request };
        let id = match path.split('/').nth(2) {
            Some("users") => "alice",
            Some("dlq") => &self.letter,
            _ => request,
        };
        path.replace("{c}", "user-alice")
            .replace("{user}", "alice")
            .replace("{id}", id)
            .replace("{notification}", &self.notification)
    }

    /// A body that the address takes.
    fn body(&self, path: &str) -> Option<Value> {
        Some(match path.rsplit('/').next()? {
            _ if path.contains("{notification}") => return None,
            "notifications" => to_alice("m"),
            "read" | "unread" | "seen" | "dismiss" => json!({"notificationIds": [self.notification]}),
            "read-all" | "seen-all" => json!({"upTo": {"user-alice": self.position}}),
            "redrive" => json!({"selection": {}}),
            "acks" => json!({"deviceId": "phone", "notificationIds": [self.notification]}),
            _ => return None,
        })
    }
}

/// A request by somebody who may.
fn request_of(method: &str, path: &str, at: SocketAddr, query: &str) -> RequestBuilder {
    let (user, role) = match path.split('/').nth(2) {
        Some("notifications") => ("billing", "service"),
        Some("me") => ("alice", "driver"),
        _ => ("ops", "admin"),
    };
    request(at, method.parse().unwrap(), &format!("{path}{query}")).bearer_auth(token(user, role))
}

/// A request that gets a documented answer.
fn provoking(known: &Known, answer: &Answer) -> RequestBuilder {
    let Answer { method, path, status } = answer;
    let plain = |query: &str| request_of(method, &known.address(method, path), known.at, query);
    let typed = |request: RequestBuilder, body: String| request.header("content-type", "application/json").body(body);
    let fine = |query: &str| match known.body(path).filter(|_| method == "POST") {
        Some(body) => typed(plain(query), body.to_string()),
        None => plain(query),
    };
    match (status, path.as_str()) {
        // She is not there to acknowledge it.
        (200, "/v1/notifications") => fine("?wait=10s"),
        (200..300 | 429 | 503, _) => fine(""),
        (400, _) => fine("?no-such-parameter=1"),
        (401, _) => request(known.at, method.parse().unwrap(), &known.address(method, path)),
        (403, _) => fine("").header("origin", "https://evil.example"),
        (404, _) if path.ends_with("/acks") => {
            typed(plain(""), json!({"deviceId": "phone", "notificationIds": [Uuid::new_v4()]}).to_string())
        }
        (404, _) => request_of(method, &Known::nothing(known.at).address(method, path), known.at, ""),
        (413, _) => typed(plain(""), json!({"padding": "x".repeat(BODY_BYTES)}).to_string()),
        (415, _) => plain("").header("content-type", "text/plain").body("{}"),
        (422, _) => typed(plain(""), "{}".to_owned()),
        _ => panic!("nobody knows how to provoke {answer:?}"),
    }
}

/// Asks again while it is told to, as who comes right behind a write may be.
async fn drive(contract: &Contract, answer: &Answer, request: RequestBuilder) {
    let answered = eventually("what was written is known", async || {
        let answered = request.try_clone().unwrap().send().await.unwrap();
        let is_in_time = answer.status == 503 || answered.status() != 503;
        let is_too_much = answer.status != 429 || answered.status() == 429;
        (is_in_time && is_too_much).then_some(answered)
    })
    .await;
    assert_eq!(answered.status().as_u16(), answer.status, "{answer:?}: {}", answered.text().await.unwrap());
    let headers = answered.headers().clone();
    contract.hold(answer, &headers, &answered.text().await.unwrap());
}

#[tokio::test]
async fn every_documented_answer_of_every_address_is_given_and_is_as_documented() {
    let world = World::with(|config| config.http.body_bytes = NonZeroUsize::new(BODY_BYTES).unwrap()).await;
    let running = world.start().await;
    let known = Known::of(&world, &running).await;
    let contract = Contract::of(&running).await;
    let answers = contract.answers();
    for answer in answers.iter().filter(|answer| ![429, 503].contains(&answer.status)) {
        drive(&contract, answer, provoking(&known, answer)).await;
    }
    // With something in every list.
    let _alice = running.connect("alice").await;
    for answer in answers.iter().filter(|answer| answer.method == "GET" && answer.status == 200) {
        drive(&contract, answer, provoking(&known, answer)).await;
    }
    running.stop().await;

    let world = World::with(|config| {
        config.http.writes_burst = NonZeroUsize::MIN;
        config.http.writes_per_second = NonZeroUsize::MIN;
    })
    .await;
    let strict = world.start_roles(&[Role::Gateway]).await;
    for answer in answers.iter().filter(|answer| answer.status == 429) {
        drive(&contract, answer, provoking(&Known::nothing(strict.address), answer)).await;
    }
    strict.stop().await;

    let mut world = World::new().await;
    // Nobody listens there.
    world.config.kafka.brokers = "127.0.0.1:9".into();
    let waiting = world.start_unready(&[Role::Gateway]).await;
    for answer in answers.iter().filter(|answer| answer.status == 503) {
        drive(&contract, answer, provoking(&Known::nothing(waiting.address), answer)).await;
    }
    waiting.stop().await;
}

#[tokio::test]
async fn an_address_takes_the_methods_that_are_documented_and_no_other() {
    let world = World::new().await;
    let running = gateway(&world).await;
    let contract = Contract::of(&running).await;
    let documented = contract.operations().map(|(method, path, _)| (method.to_uppercase(), path)).collect::<BTreeSet<_>>();
    for path in documented.iter().map(|(_, path)| path).collect::<BTreeSet<_>>() {
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let known = Known::nothing(running.address);
            let address = known.address(method.as_str(), path);
            let answered = request_of(method.as_str(), &address, running.address, "").send().await.unwrap();
            let is_taken = documented.contains(&(method.to_string(), path));
            assert_eq!(answered.status() != 405, is_taken, "{method} {path}");
            if !is_taken {
                let allowed = answered.headers()["allow"].to_str().unwrap();
                let allowed = allowed.split(", ").filter(|method| *method != "HEAD").collect::<BTreeSet<_>>();
                let of_path = documented.iter().filter(|(_, of)| of == path).map(|(method, _)| method.as_str());
                assert_eq!(allowed, of_path.collect(), "{path}");
            }
        }
    }
    running.stop().await;
}

#[tokio::test]
async fn the_document_is_whole_and_names_every_answer() {
    let world = World::new().await;
    let running = world.start_unready(&[Role::Gateway]).await;
    let contract = Contract::of(&running).await;
    let mut names = BTreeSet::new();
    for (method, path, operation) in contract.operations() {
        assert!(names.insert(operation["operationId"].as_str().unwrap()), "{method} {path} shares its name");
        let of_path = operation["parameters"].as_array().into_iter().flatten().filter(|parameter| parameter["in"] == "path");
        let said = of_path.map(|parameter| format!("{{{}}}", parameter["name"].as_str().unwrap())).collect::<BTreeSet<_>>();
        let stand = path.split('/').filter(|segment| segment.starts_with('{')).map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(said, stand, "{method} {path}");
        // A reference to nothing makes no validator.
        for response in operation["responses"].as_object().unwrap().values() {
            for content in response["content"].as_object().unwrap().values() {
                contract.validator(&content["schema"]);
            }
        }
    }
    let request = contract.validator(&json!({"$ref": "#/components/schemas/Request"}));
    assert!(request.is_valid(&json!({"to": {"users": ["a", 7]}, "title": "t", "locales": {"fr": {"title": "t"}}})));
    assert!(!request.is_valid(&json!({"to": {"users": []}, "title": "t"})));
    let told = contract.answers();
    let mut lines = told.iter().map(|answer| format!("{} {}", answer.method, answer.path)).collect::<Vec<_>>();
    lines.dedup();
    let statuses = |line: &String| {
        let of_line = told.iter().filter(|answer| *line == format!("{} {}", answer.method, answer.path));
        of_line.map(|answer| format!(" {}", answer.status)).collect::<String>()
    };
    insta::assert_snapshot!(lines.iter().map(|line| format!("{line}:{}", statuses(line))).collect::<Vec<_>>().join("\n"));
    running.stop().await;
}
