//! Debezium's outbox: the headers `id` and `eventType`, and the event's data as value.
//!
//! Owns: how the value may be written: an object, an object as text inside a JSON string (a `jsonb` column without expansion),
//! or either of them in the Connect wrapper. Header values may be JSON strings, as Connect's JSON converter writes them.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Content, EventError, Part, Reading, Said, SourceRecord, json, plain};

const ID: &str = "id";
const TYPE: &str = "eventType";
const ENVELOPE: &str = "an outbox record (headers `id` and `eventType`)";
/// The longest header value that is looked into, in bytes; a longer one is no name in any case.
const LIMIT_QUOTED_BYTES: usize = 4096;

/// Whether a record has what an outbox writes.
pub(super) fn is_one(record: &SourceRecord<'_>) -> bool {
    record.header(ID).is_some() && record.header(TYPE).is_some()
}

pub(super) fn read(record: &SourceRecord<'_>, reading: &Reading, content: Content<'_>) -> Result<Said, EventError> {
    let inside = || {
        let data = json::inner_object(content.parse()?)?;
        let name = reading.type_header.as_deref().unwrap_or(TYPE);
        let kind = plain::checked(&text(record, name)?, || Part::Header(name.to_owned().into()))?;
        let id = match reading.id_of(record, &data)? {
            Some(id) => id,
            None => text(record, ID)?.parse().map_err(|source| EventError::Name { part: Part::header(ID), source })?,
        };
        Ok(Said { kind, data: Arc::new(data), time: None, source: None, id: Some(id) })
    };
    inside().map_err(|error: EventError| error.within(ENVELOPE))
}

/// The text of a header, which must be there.
fn text<'a>(record: &SourceRecord<'a>, name: &str) -> Result<Cow<'a, str>, EventError> {
    let part = || Part::Header(name.to_owned().into());
    let text = record.text(name, part)?.ok_or_else(|| EventError::Missing { part: part() })?;
    let quoted = text.starts_with('"') && text.len() <= LIMIT_QUOTED_BYTES;
    Ok(quoted.then(|| serde_json::from_str(text).ok()).flatten().map_or(Cow::Borrowed(text), Cow::Owned))
}
