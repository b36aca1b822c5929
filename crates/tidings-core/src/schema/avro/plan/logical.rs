//! Logical types: what plain ones mean. One that does not go with its type is left as it is, as the specification has it.

use serde_json::{Map, Value};

use super::{Node, Unit, UuidForm};
use crate::schema::decimal;

/// What a type with such fields means, if it means more than it is.
pub(super) fn logical(plain: &Node, fields: &Map<String, Value>) -> Result<Option<Node>, String> {
    let Some(means) = fields.get("logicalType").and_then(Value::as_str) else { return Ok(None) };
    Ok(Some(match (means, plain) {
        ("decimal", Node::Bytes) => return exact(fields, None),
        ("decimal", Node::Fixed(size)) => return exact(fields, Some(*size)),
        ("big-decimal", Node::Bytes) => Node::BigDecimal,
        ("uuid", Node::Text) => Node::Uuid(UuidForm::Text),
        ("uuid", Node::Bytes) => Node::Uuid(UuidForm::Bytes),
        ("uuid", Node::Fixed(16)) => Node::Uuid(UuidForm::Fixed),
        ("date", Node::Int) => Node::Date,
        ("time-millis", Node::Int) => Node::TimeMillis,
        ("time-micros", Node::Long) => Node::TimeMicros,
        ("timestamp-millis", Node::Long) => Node::Instant(Unit::Millis),
        ("timestamp-micros", Node::Long) => Node::Instant(Unit::Micros),
        ("timestamp-nanos", Node::Long) => Node::Instant(Unit::Nanos),
        ("local-timestamp-millis", Node::Long) => Node::Local(Unit::Millis),
        ("local-timestamp-micros", Node::Long) => Node::Local(Unit::Micros),
        ("local-timestamp-nanos", Node::Long) => Node::Local(Unit::Nanos),
        ("duration", Node::Fixed(12)) => Node::Duration,
        _ => return Ok(None),
    }))
}

fn exact(fields: &Map<String, Value>, size: Option<usize>) -> Result<Option<Node>, String> {
    let number = |key: &str| fields.get(key).map_or(Some(0), Value::as_i64);
    let (Some(precision), Some(scale)) = (number("precision"), number("scale")) else { return Ok(None) };
    if precision < 1 || scale < 0 || precision < scale {
        return Ok(None);
    }
    if scale > decimal::LIMIT_SCALE {
        return Err(format!("a decimal has {scale} places; at most {} are read", decimal::LIMIT_SCALE));
    }
    Ok(Some(Node::Decimal { size, scale }))
}
