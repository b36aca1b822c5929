//! `/openapi.json`: what it says is what a real server does. Every answer of every address that it documents is provoked, and held
//! against its schema, strictly: a field that is not documented is a fault too.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tidings::cli::Role;

use crate::harness::rest::{gateway, request, to_alice, token};
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
}

impl Contract {
    async fn of(running: &Running) -> Self {
        let (status, text) = running.get("/openapi.json").await;
        assert_eq!(status, 200, "{text}");
        Self { document: serde_json::from_str(&text).unwrap() }
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

    fn validator(&self, schema: &Value) -> jsonschema::Validator {
        let mut whole = schema.clone();
        whole["components"] = self.document["components"].clone();
        for schema in whole["components"]["schemas"].as_object_mut().unwrap().values_mut() {
            if schema["type"] == "object" && schema.get("properties").is_some() {
                schema["additionalProperties"] = false.into();
            }
        }
        let options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012).should_validate_formats(true);
        options.build(&whole).unwrap()
    }
}

/// A request to an address, by somebody who may.
fn asked(at: SocketAddr, method: &str, path: &str) -> RequestBuilder {
    let path = path.replace("{id}", "alice");
    let (user, role) = match path.split('?').next() {
        Some("/v1/notifications") => ("billing", "service"),
        _ => ("ops", "admin"),
    };
    request(at, method.parse().unwrap(), &path).bearer_auth(token(user, role))
}

/// The same with a body, if the address takes one.
fn fine(at: SocketAddr, method: &str, (path, target): (&str, &str)) -> RequestBuilder {
    let asked = asked(at, method, target);
    let body = match (method, path) {
        ("POST", "/v1/notifications") => to_alice("m"),
        _ => return asked,
    };
    asked.header("content-type", "application/json").body(body.to_string())
}

/// A request that gets a documented answer.
fn provoking(at: SocketAddr, answer: &Answer) -> RequestBuilder {
    let Answer { method, path, status } = answer;
    let fine_at = |target: &str| fine(at, method, (path, target));
    let fine = || fine_at(path);
    let typed = |body: String| asked(at, method, path).header("content-type", "application/json").body(body);
    match status {
        200..300 => fine(),
        400 => fine_at(&format!("{path}?no-such-parameter=1")),
        401 => request(at, method.parse().unwrap(), &path.replace("{id}", "alice")),
        403 => fine().header("origin", "https://evil.example"),
        413 => typed(json!({"padding": "x".repeat(BODY_BYTES)}).to_string()),
        415 => asked(at, method, path).header("content-type", "text/plain").body("{}"),
        422 => typed("{}".to_owned()),
        _ => panic!("nobody knows how to provoke {answer:?}"),
    }
}

async fn drive(contract: &Contract, answer: &Answer, request: RequestBuilder) {
    let answered = request.send().await.unwrap();
    assert_eq!(answered.status().as_u16(), answer.status, "{answer:?}: {}", answered.text().await.unwrap());
    let headers = answered.headers().clone();
    contract.hold(answer, &headers, &answered.text().await.unwrap());
}

#[tokio::test]
async fn every_documented_answer_of_every_address_is_given_and_is_as_documented() {
    let world = World::with(|config| config.http.body_bytes = NonZeroUsize::new(BODY_BYTES).unwrap()).await;
    let running = gateway(&world).await;
    let _alice = running.connect("alice").await;
    let contract = Contract::of(&running).await;
    let answers = contract.answers();
    for answer in answers.iter().filter(|answer| answer.status != 503) {
        drive(&contract, answer, provoking(running.address, answer)).await;
    }
    running.stop().await;

    let mut world = World::new().await;
    // Nobody listens there.
    world.config.kafka.brokers = "127.0.0.1:9".into();
    let waiting = world.start_unready(&[Role::Gateway]).await;
    for answer in answers.iter().filter(|answer| answer.status == 503) {
        drive(&contract, answer, fine(waiting.address, &answer.method, (&answer.path, &answer.path))).await;
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
            let answered = asked(running.address, method.as_str(), path).send().await.unwrap();
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
