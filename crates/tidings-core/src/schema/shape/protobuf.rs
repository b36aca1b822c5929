//! The shape of what messages are read as: fields that are read whatever was written are always there, the others may be absent.

use std::collections::HashMap;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value, json};

use super::decimal;
use super::forms::{Form, FormId, Part, Presence};
use crate::schema::protobuf::is_always_there;

/// The forms of a message and of all that is in it; the message is the first.
pub(super) fn forms(message: &MessageDescriptor) -> Vec<Form> {
    let mut forms = Forms::default();
    forms.message(message);
    while let Some((at, message)) = forms.open.pop() {
        let fields = message.fields().map(|field| forms.part(&field)).collect::<Vec<_>>();
        let extensions = message.extensions().map(|extension| {
            let one = forms.kind(&extension.kind());
            let form = if extension.is_list() { forms.push(Form::List(one)) } else { one };
            Part { name: extension.json_name().to_owned(), form, presence: Presence::Perhaps }
        });
        let extensions = extensions.collect::<Vec<_>>();
        forms.forms[at] = Form::Record(fields.into_iter().chain(extensions).collect());
    }
    forms.forms
}

#[derive(Default)]
struct Forms {
    forms: Vec<Form>,
    /// Of messages and enums, by their full names.
    named: HashMap<String, FormId>,
    /// Messages whose fields are still to be looked at. Their chain may be longer than a stack is deep.
    open: Vec<(FormId, MessageDescriptor)>,
}

impl Forms {
    fn push(&mut self, form: Form) -> FormId {
        self.forms.push(form);
        self.forms.len() - 1
    }

    fn part(&mut self, field: &FieldDescriptor) -> Part {
        let form = match (field.is_map(), field.kind()) {
            (true, Kind::Message(entry)) => {
                let values = self.kind(&entry.map_entry_value_field().kind());
                self.push(Form::Map(values))
            }
            (_, kind) => {
                let one = self.kind(&kind);
                if field.is_list() { self.push(Form::List(one)) } else { one }
            }
        };
        let presence = if is_always_there(field) { Presence::Always } else { Presence::Perhaps };
        Part { name: field.json_name().to_owned(), form, presence }
    }

    fn kind(&mut self, kind: &Kind) -> FormId {
        let plain = match kind {
            Kind::Message(message) => return self.message(message),
            Kind::Enum(of) => {
                if let Some(form) = self.named.get(of.full_name()) {
                    return *form;
                }
                let values = of.values().map(|value| value.name().to_owned()).collect::<Vec<_>>();
                let form = self.push(Form::Plain(known(of.full_name()).unwrap_or_else(|| json!({ "enum": values }))));
                self.named.insert(of.full_name().to_owned(), form);
                return form;
            }
            Kind::Bool => "boolean",
            Kind::Double | Kind::Float => "number",
            Kind::String | Kind::Bytes => "string",
            _ => "integer",
        };
        self.push(Form::Plain(json!({ "type": plain })))
    }

    fn message(&mut self, message: &MessageDescriptor) -> FormId {
        let name = message.full_name();
        if let Some(form) = self.named.get(name) {
            return *form;
        }
        let form = self.push(Form::Plain(known(name).unwrap_or_else(|| json!({}))));
        self.named.insert(name.to_owned(), form);
        if known(name).is_none() {
            self.open.push((form, message.clone()));
        }
        form
    }
}

/// Types that have a form of their own in JSON.
fn known(name: &str) -> Option<Value> {
    Some(match name {
        "confluent.type.Decimal" => decimal(),
        "google.protobuf.Timestamp" => json!({"type": "string", "format": "date-time"}),
        "google.protobuf.Duration"
        | "google.protobuf.FieldMask"
        | "google.protobuf.StringValue"
        | "google.protobuf.BytesValue" => {
            json!({"type": "string"})
        }
        "google.protobuf.DoubleValue" | "google.protobuf.FloatValue" => json!({"type": "number"}),
        "google.protobuf.BoolValue" => json!({"type": "boolean"}),
        "google.protobuf.Int32Value"
        | "google.protobuf.UInt32Value"
        | "google.protobuf.Int64Value"
        | "google.protobuf.UInt64Value" => {
            json!({"type": "integer"})
        }
        "google.protobuf.Struct" | "google.protobuf.Empty" => json!({"type": "object"}),
        "google.protobuf.ListValue" => json!({"type": "array"}),
        "google.protobuf.Value" | "google.protobuf.Any" => json!({}),
        "google.protobuf.NullValue" => json!({"type": "null"}),
        _ => return None,
    })
}
