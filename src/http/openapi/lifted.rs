//! Schemas of the document that are those of records: what may be asked for over HTTP is what may be written to `requests`, and a
//! notification is what it is on the log.
//!
//! Owns: taking them out of `schemas/records`, where they are held against the types, and pointing their references into the
//! document. Refuses what a caller of HTTP may not choose: ids.

use std::borrow::Cow;

use serde_json::{Map, Value};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

const REQUEST: &str = include_str!("../../../schemas/records/request.v1.json");
const NOTIFICATION: &str = include_str!("../../../schemas/records/notification.v1.json");
/// The name that a request has in the document.
pub(in crate::http) const REQUEST_NAME: &str = "Request";
/// The name that a notification has in the document.
const NOTIFICATION_NAME: &str = "Notification";
/// What is lifted: the file, the name there, and in the document.
const DEFINITIONS: [(&str, &str, &str); 5] = [
    (NOTIFICATION, "notification", NOTIFICATION_NAME),
    (REQUEST, "user", "RequestUser"),
    (REQUEST, "audience", "RequestAudience"),
    (NOTIFICATION, "texts", "Texts"),
    (NOTIFICATION, "channel", "Channel"),
];

/// Stands for a notification as it is shown: what its record says, without the texts in other languages.
pub(in crate::http) struct NotificationSchema;

impl PartialSchema for NotificationSchema {
    fn schema() -> RefOr<Schema> {
        Ref::from_schema_name(NOTIFICATION_NAME).into()
    }
}

impl ToSchema for NotificationSchema {
    fn name() -> Cow<'static, str> {
        NOTIFICATION_NAME.into()
    }
}

/// Puts the schemas of a request and of a notification into those of the document.
pub(super) fn lift(schemas: &mut Map<String, Value>) -> Result<(), serde_json::Error> {
    let mut request = serde_json::from_str::<Value>(REQUEST)?;
    for way in request["oneOf"].as_array_mut().into_iter().flatten() {
        without_id(way);
        if let Some(event) = way.pointer_mut("/properties/event") {
            without_id(event);
        }
    }
    if let Some(fields) = request.as_object_mut() {
        for name in ["$schema", "$defs", "title", "description"] {
            fields.remove(name);
        }
    }
    schemas.insert(REQUEST_NAME.to_owned(), pointed(request));
    for (file, name, lifted) in DEFINITIONS {
        let mut file = serde_json::from_str::<Value>(file)?;
        if let Some(properties) = file["$defs"]["notification"]["properties"].as_object_mut() {
            properties.remove("locales");
        }
        schemas.insert(lifted.to_owned(), pointed(file["$defs"][name].take()));
    }
    Ok(())
}

fn without_id(schema: &mut Value) {
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.remove("id");
    }
}

/// The schema with its references pointing into the document.
fn pointed(schema: Value) -> Value {
    match schema {
        Value::Object(fields) => fields.into_iter().map(|(name, value)| pointed_field(name, value)).collect(),
        Value::Array(items) => items.into_iter().map(pointed).collect(),
        other => other,
    }
}

fn pointed_field(name: String, value: Value) -> (String, Value) {
    let target = value.as_str().filter(|_| name == "$ref").and_then(|target| target.split("#/$defs/").last());
    let lifted = target.and_then(|target| DEFINITIONS.iter().find(|(_, known, _)| *known == target));
    match lifted {
        Some((.., lifted)) => (name, format!("#/components/schemas/{lifted}").into()),
        None => (name, pointed(value)),
    }
}
