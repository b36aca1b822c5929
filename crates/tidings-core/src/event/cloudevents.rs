//! CloudEvents 1.0, by its Kafka protocol binding and its JSON format.
//!
//! Owns: telling the two modes apart, the attributes that an event must have, and the refusal of what is not read: batches,
//! other formats, data that is no JSON object. Identity is source and id, which the specification makes unique.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Content, EventError, Part, Reading, Said, SourceRecord, json, plain};
use crate::ids::{self, EventId};

/// The longest source, in bytes.
const LIMIT_SOURCE_BYTES: usize = 1024;
const VERSION: &str = "1.0";
const BINARY: &str = "CloudEvents in binary mode (headers `ce_…`)";
const STRUCTURED: &str = "CloudEvents in structured mode (`specversion` in the value)";
const MEDIA_TYPE: &str = "application/cloudevents";

/// How an event lies in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Attributes in headers, data as value (Kafka protocol binding, section 3.2).
    Binary,
    /// Everything in the value (section 3.3).
    Structured,
}

/// The mode of a record, if its headers say that it is a CloudEvent. A content type that is no text says nothing.
pub(super) fn mode(record: &SourceRecord<'_>) -> Result<Option<Mode>, EventError> {
    let content_type = content_type(record).unwrap_or_default();
    if let Some(format) = strip_prefix(content_type, MEDIA_TYPE) {
        return structured_format(content_type, format)
            .map(|()| Some(Mode::Structured))
            .map_err(|error| error.within(STRUCTURED));
    }
    let binary = ["ce_specversion", "ce_type"].iter().any(|name| record.header(name).is_some());
    Ok(binary.then_some(Mode::Binary))
}

pub(super) fn read(record: &SourceRecord<'_>, reading: &Reading, content: Content<'_>) -> Result<Said, EventError> {
    match mode(record)? {
        Some(Mode::Binary) => binary(record, reading, content).map_err(|error| error.within(BINARY)),
        Some(Mode::Structured) | None => structured(record, reading, json::object(content.parse()?)?),
    }
}

/// An event whose value holds everything.
pub(super) fn structured(
    record: &SourceRecord<'_>,
    reading: &Reading,
    mut fields: Map<String, Value>,
) -> Result<Said, EventError> {
    let mut inside = || {
        let configured = reading.id_of(record, &fields)?;
        version(&json::take_text(&mut fields, "specversion")?, Part::field("specversion"))?;
        let kind = plain::checked(&json::take_text(&mut fields, "type")?, || Part::field("type"))?;
        let source = source(&json::take_text(&mut fields, "source")?, Part::field("source"))?;
        let own = id(&json::take_text(&mut fields, "id")?, Part::field("id"))?;
        if fields.contains_key("data_base64") {
            let found = "bytes in Base64".to_owned();
            let instead = "only JSON is read; write an object into `data`";
            return Err(EventError::Unsupported { part: Part::field("data_base64"), found, instead });
        }
        let data = json::take_object(&mut fields, "data")?.unwrap_or_default();
        let time = json::take_time(&mut fields)?;
        Ok(Said { kind, data: Arc::new(data), time, source: Some(source), id: Some(configured.unwrap_or(own)) })
    };
    inside().map_err(|error: EventError| error.within(STRUCTURED))
}

fn binary(record: &SourceRecord<'_>, reading: &Reading, content: Content<'_>) -> Result<Said, EventError> {
    let required = |name: &'static str| {
        record.text(name, || Part::header(name))?.ok_or_else(|| EventError::Missing { part: Part::header(name) })
    };
    version(required("ce_specversion")?, Part::header("ce_specversion"))?;
    let kind = plain::checked(required("ce_type")?, || Part::header("ce_type"))?;
    let source = source(required("ce_source")?, Part::header("ce_source"))?;
    let own = id(required("ce_id")?, Part::header("ce_id"))?;
    let time = record.text("ce_time", || Part::header("ce_time"))?.map(str::parse).transpose();
    let time = time.map_err(|source| EventError::Time { part: Part::header("ce_time"), source })?;
    let content_type = content_type(record).unwrap_or_default();
    // What a schema was found for is JSON by now, whatever it was.
    if matches!(content, Content::Bytes(_)) && !content_type.is_empty() && !is_json(content_type) {
        let instead = "the data is read as a JSON object, `application/json`";
        return Err(unsupported(content_type, instead));
    }
    let data = json::object(content.parse()?)?;
    let configured = reading.id_of(record, &data)?;
    Ok(Said { kind, data: Arc::new(data), time, source: Some(source), id: Some(configured.unwrap_or(own)) })
}

/// The content type; the header's name is written in either form.
fn content_type<'a>(record: &SourceRecord<'a>) -> Option<&'a str> {
    let named = record.headers.iter().rev().find(|header| header.name.eq_ignore_ascii_case("content-type"))?;
    std::str::from_utf8(named.value?).ok().map(str::trim)
}

/// Whether a format of structured mode, behind `application/cloudevents`, is read.
fn structured_format(content_type: &str, format: &str) -> Result<(), EventError> {
    if strip_prefix(format, "-batch").is_some() {
        return Err(unsupported(content_type, "a batch is not read; write each event as a record of its own"));
    }
    let (format, parameters) = format.split_once(';').unwrap_or((format, ""));
    if !format.trim_end().eq_ignore_ascii_case("+json") {
        return Err(unsupported(content_type, "structured mode is read as `application/cloudevents+json`"));
    }
    let charset = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
    let charset = charset.filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    let utf8 = |text: &str| ["utf-8", "utf8", "us-ascii"].iter().any(|known| text.eq_ignore_ascii_case(known));
    let fine = charset.map(|(_, value)| value.trim().trim_matches('"')).all(utf8);
    if fine { Ok(()) } else { Err(unsupported(content_type, "JSON is read as UTF-8")) }
}

fn is_json(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media == "application/json" || media == "text/json" || media.ends_with("+json")
}

fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (front, rest) = text.split_at_checked(prefix.len())?;
    front.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn unsupported(content_type: &str, instead: &'static str) -> EventError {
    let found = content_type.chars().take(100).collect();
    EventError::Unsupported { part: Part::header("content-type"), found, instead }
}

fn version(found: &str, part: Part) -> Result<(), EventError> {
    if found == VERSION {
        return Ok(());
    }
    let found = found.chars().take(20).collect();
    Err(EventError::Unsupported { part, found, instead: "version `1.0` of CloudEvents is read" })
}

fn source(text: &str, part: Part) -> Result<String, EventError> {
    match ids::check("source", text, LIMIT_SOURCE_BYTES) {
        Ok(()) => Ok(text.to_owned()),
        Err(source) => Err(EventError::Name { part, source }),
    }
}

fn id(text: &str, part: Part) -> Result<EventId, EventError> {
    text.parse().map_err(|source| EventError::Name { part, source })
}
