//! `POST /v1/notifications`: a service asks for a notification, and gets its id once the brokers have the request.
//!
//! Owns: the request's id, which follows from the caller and its `Idempotency-Key`. What becomes of it is the pipeline's to decide.
//! Neighbours: core `record::request` reads the body, `keys` remembers what came under a key, `status` tells what became of it.

mod decided;
mod keys;
mod status;

use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use tidings_core::ids::UserId;
use tidings_core::record::encode;
use tidings_core::record::request::{self, Fault, RequestError, RequestRecord, request_id};
use tidings_core::record::trace::{PARENT_HEADER, STATE_HEADER, TraceContext};
use uuid::Uuid;

pub(super) use self::decided::Decided;
pub(super) use self::keys::Keys;
use self::keys::{Remembered, key_of};
use self::status::Status;
use super::endpoint::{Answered, Asked, Endpoint};
use super::writer::Unwritten;
use super::{Rest, json};
use crate::http::guard::Needed;
use crate::http::openapi::{Description, REQUEST_NAME, text};
use crate::http::problem::Problem;
use crate::kafka::producer::{Outgoing, version_header};
use crate::telemetry::Doing;

pub(super) fn endpoints() -> impl Iterator<Item = Endpoint> {
    let described = Description::guarded(Method::POST, "/v1/notifications", Needed::Service, "Asks for a notification")
        .telling("The same caller with the same `Idempotency-Key` gets the same id, and nobody is shown it twice.")
        .header("Idempotency-Key", "Of the caller's choice, for one request only; in quotes or bare.", text())
        .header("traceparent", "The caller's trace, which the notification goes on in (W3C).", text())
        .query("wait", "Answers once it is delivered or pending, and after this time in any case: `5s`.", text())
        .takes_named(REQUEST_NAME)
        .gives::<Status>(StatusCode::OK, "It was waited for: all is delivered, or pending and nobody is there to take it.")
        .gives::<Status>(StatusCode::ACCEPTED, "The brokers have the request; what else is known, if it was waited for.");
    let notify = Endpoint::new(described, |rest, asked| Box::pin(async move { rest.notify(asked).await }));
    [notify].into_iter().chain(status::endpoints())
}

impl Rest {
    async fn notify(&self, mut asked: Asked) -> Answered {
        let (key, wait) = (key_of(&asked.headers)?, self.wait(&asked.query)?);
        let request = readable(&asked.bytes().await?)?;
        let least = request.least();
        let id = self.accept((&asked.caller.user, key.as_deref()), request, self.trace_of(&asked.headers)).await?;
        match wait {
            Some(wait) => self.settled((id, least), wait).await,
            None => json(StatusCode::ACCEPTED, &Status::accepted(id)),
        }
    }

    /// Has the request written, unless it is already. Gives its id.
    async fn accept(
        &self,
        (caller, key): (&UserId, Option<&str>),
        mut request: RequestRecord,
        above: Option<TraceContext>,
    ) -> Result<Uuid, Problem> {
        let words = encode(&request).map_err(|_| unwritable())?;
        let id = key.map_or_else(Uuid::new_v4, |key| request_id(caller, key));
        if key.is_some() {
            match self.keys.remember(id, &words) {
                Remembered::New => {}
                Remembered::Written => return Ok(id),
                Remembered::Other => {
                    let detail = "this `Idempotency-Key` came with another request before: take a new key for a new request";
                    return Err(Problem::of("idempotency-key-reused", StatusCode::UNPROCESSABLE_ENTITY, detail));
                }
            }
        }
        // A UUID is always an id.
        request.id = Some(id.to_string().parse().map_err(|_| unwritable())?);
        let value = encode(&request).map_err(|_| unwritable())?;
        if let Err(unwritten) = self.write(&request, &value, above).await {
            if key.is_some() && unwritten.is_certain() {
                self.keys.forget(id);
            }
            return Err(unwritten.problem("send it again, with the same `Idempotency-Key` if it had one"));
        }
        if key.is_some() {
            self.keys.written(id);
        }
        Ok(id)
    }

    /// Returns once the brokers have it. The span ends then, too.
    async fn write(&self, request: &RequestRecord, value: &[u8], above: Option<TraceContext>) -> Result<(), Unwritten> {
        let (topic, key) = (self.names.requests(), request.key());
        let span = self.traces.begin(above.as_ref(), || Doing {
            name: "accept",
            kind: SpanKind::Producer,
            attributes: vec![KeyValue::new("messaging.destination.name", topic.clone())],
        });
        let traced = span.context(above).as_ref().map(TraceContext::headers).unwrap_or_default();
        let headers = [vec![version_header::<RequestRecord>()], traced].concat();
        let key = key.as_deref().map(str::as_bytes);
        self.writer.write(Outgoing { topic: &topic, partition: None, key, value: Some(value), headers: &headers }).await
    }

    /// The trace that the caller is in, by the headers that W3C has for it. A parent that stands twice is none; states are one list.
    fn trace_of(&self, headers: &HeaderMap) -> Option<TraceContext> {
        let joined = |name: &str| {
            let values = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
            (!values.is_empty()).then(|| values.join(&b','))
        };
        self.traces.context(joined(PARENT_HEADER).as_deref(), joined(STATE_HEADER).as_deref())
    }
}

/// The request in a body. Neither its id nor that of its event is the caller's to choose: another caller's could be taken.
fn readable(body: &[u8]) -> Result<RequestRecord, Problem> {
    let invalid =
        |faults| Problem::of("invalid-request", StatusCode::UNPROCESSABLE_ENTITY, "the body is no request").pointing(faults);
    match request::read(body) {
        Ok(request) => {
            let named = own_ids(&request);
            if named.is_empty() { Ok(request) } else { Err(invalid(named)) }
        }
        Err(error @ RequestError::NotJson(_)) => Err(Problem::new(StatusCode::BAD_REQUEST, error.to_string())),
        Err(RequestError::Invalid(faults)) => Err(invalid(faults)),
    }
}

fn own_ids(request: &RequestRecord) -> Vec<Fault> {
    let of_event = matches!(&request.asked, request::Asked::Event { event } if event.id.is_some());
    let stands = [("/id", request.id.is_some()), ("/event/id", of_event)].into_iter().filter(|(_, stands)| *stands);
    let detail = "must not stand here: the id follows from the header `Idempotency-Key`";
    stands.map(|(pointer, _)| Fault { pointer: pointer.to_owned(), detail: detail.to_owned() }).collect()
}

fn unwritable() -> Problem {
    tracing::error!("a request could not be written as JSON; this is a bug");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be written")
}
