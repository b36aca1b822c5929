//! The shape of what Avro's values are read as: exact numbers and times are texts, bytes are Base64. It is made of what values are read by,
//! so that a logical type means the same here.

use serde_json::{Value, json};

use super::decimal;
use super::forms::{Form, Part, Presence};
use crate::schema::avro::Node;

/// One form for each node.
pub(super) fn forms(nodes: &[Node]) -> Vec<Form> {
    nodes.iter().map(form).collect()
}

fn form(node: &Node) -> Form {
    match node {
        Node::Array(items) => Form::List(*items),
        Node::Map(values) => Form::Map(*values),
        Node::Union(branches) => Form::Either(branches.clone()),
        Node::Record(fields) => {
            let part = |(name, form): &(String, usize)| Part { name: name.clone(), form: *form, presence: Presence::Always };
            Form::Record(fields.iter().map(part).collect())
        }
        other => Form::Plain(plain(other)),
    }
}

fn plain(node: &Node) -> Value {
    match node {
        Node::Null => json!({"type": "null"}),
        Node::Boolean => json!({"type": "boolean"}),
        Node::Int | Node::Long => json!({"type": "integer"}),
        Node::Float | Node::Double => json!({"type": "number"}),
        Node::Enum(symbols) => json!({"enum": symbols}),
        Node::Decimal { .. } | Node::BigDecimal => decimal(),
        Node::Uuid(_) => json!({"type": "string", "format": "uuid"}),
        Node::Date => json!({"type": "string", "format": "date"}),
        Node::Instant(_) => json!({"type": "string", "format": "date-time"}),
        Node::Bytes | Node::Text | Node::Fixed(_) | Node::TimeMillis | Node::TimeMicros | Node::Local(_) | Node::Duration => {
            json!({"type": "string"})
        }
        Node::Array(_) | Node::Map(_) | Node::Union(_) | Node::Record(_) => json!({}),
    }
}
