//! Avro: binary values, read with the schema of whoever wrote them, as JSON.
//!
//! Owns: the reading of bytes (specification 1.12, "Binary encoding") with each step bounded, and what logical types mean: decimals and
//! times are texts, exact, as people write them. The library's own reader is not used: it takes truncated values for nulls and follows
//! recursive ones until the stack ends. Neighbour: `plan`, what a schema comes to.

mod plan;
mod times;

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Number, Value};

pub(super) use self::plan::{Node, NodeId};

use self::plan::UuidForm;
use super::budget::Budget;
use super::{Definition, Format, Read, SchemaError, decimal};

/// An allocator takes more than what is asked for: one of 2,000 fields was measured with 1.3 times the size of its nodes.
const KEPT_TIMES: usize = 2;

#[derive(Debug)]
pub(super) struct Avro {
    pub(super) nodes: Vec<Node>,
    pub(super) root: NodeId,
    pub(super) name: Option<Arc<str>>,
}

impl Avro {
    pub(super) fn compile(definition: &Definition) -> Result<Self, SchemaError> {
        plan::compile(definition).map_err(|why| SchemaError::unusable(Format::Avro, why))
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.nodes.iter().map(Node::bytes).sum::<usize>() * KEPT_TIMES
    }

    pub(super) fn read(&self, body: &[u8]) -> Result<Read, SchemaError> {
        let mut reader = Reader { nodes: &self.nodes, rest: body, budget: Budget::default() };
        let value = reader.value(self.root, 0);
        let at = body.len() - reader.rest.len();
        let value = value.map_err(|why| SchemaError::misfit(Format::Avro, format!("{why}, at byte {at} of {}", body.len())))?;
        if reader.rest.is_empty() {
            return Ok(Read { value, name: self.name.clone() });
        }
        let why = format!("it ends after {at} bytes, and there are {}", body.len());
        Err(SchemaError::misfit(Format::Avro, why))
    }
}

/// What is wrong with the bytes.
type Why = String;

struct Reader<'a> {
    nodes: &'a [Node],
    rest: &'a [u8],
    budget: Budget,
}

impl<'a> Reader<'a> {
    fn value(&mut self, node: NodeId, depth: usize) -> Result<Value, Why> {
        self.budget.values(1, depth)?;
        let nodes = self.nodes;
        match nodes.get(node).unwrap_or(&Node::Null) {
            Node::Null => Ok(Value::Null),
            Node::Boolean => match self.take(1)? {
                [0] => Ok(Value::Bool(false)),
                [1] => Ok(Value::Bool(true)),
                other => Err(format!("a boolean is 0 or 1, and not {}", other[0])),
            },
            Node::Int => self.int().map(Value::from),
            Node::Long => self.long().map(Value::from),
            Node::Float => self.float(),
            Node::Double => Ok(real(f64::from_le_bytes(self.chunk()?))),
            Node::Text => self.text().map(|text| Value::String(text.to_owned())),
            Node::Bytes => Ok(encoded(self.bytes()?)),
            Node::Fixed(size) => Ok(encoded(self.take(*size)?)),
            Node::Enum(symbols) => self.symbol(symbols),
            Node::Array(items) => self.array(*items, depth),
            Node::Map(values) => self.map(*values, depth),
            Node::Union(variants) => {
                let index = self.long()?;
                let variant = usize::try_from(index).ok().and_then(|index| variants.get(index));
                let variant = variant.ok_or_else(|| format!("a union of {} has no branch {index}", variants.len()))?;
                self.value(*variant, depth)
            }
            Node::Record(fields) => {
                let mut record = Map::new();
                for (name, field) in fields {
                    self.budget.brings(name.len())?;
                    record.insert(name.clone(), self.value(*field, depth + 1)?);
                }
                Ok(Value::Object(record))
            }
            logical => self.logical(logical),
        }
    }

    fn logical(&mut self, node: &Node) -> Result<Value, Why> {
        let text = match node {
            Node::Decimal { size, scale } => {
                let unscaled = match size {
                    Some(size) => self.take(*size)?,
                    None => self.bytes()?,
                };
                decimal::text(unscaled, *scale).ok_or_else(|| too_long(unscaled))
            }
            Node::BigDecimal => self.big_decimal(),
            Node::Uuid(UuidForm::Text) => Ok(self.text()?.to_owned()),
            Node::Uuid(UuidForm::Bytes) => uuid(self.bytes()?),
            Node::Uuid(UuidForm::Fixed) => uuid(self.take(16)?),
            Node::Date => times::date(self.int()?),
            Node::TimeMillis => times::of_day(i64::from(self.int()?), times::Unit::Millis),
            Node::TimeMicros => times::of_day(self.long()?, times::Unit::Micros),
            Node::Instant(unit) => times::instant(self.long()?, *unit),
            Node::Local(unit) => times::local(self.long()?, *unit),
            Node::Duration => Ok(times::duration(self.chunk()?)),
            other => Err(format!("{other:?} is not read")),
        };
        text.map(Value::String)
    }

    /// The bytes of a decimal that carries its scale: a length, the number, and the scale (specification, "Big decimal").
    fn big_decimal(&mut self) -> Result<String, Why> {
        let mut inner = Reader { nodes: &[], rest: self.bytes()?, budget: Budget::default() };
        let (unscaled, scale) = (inner.bytes()?, inner.int()?);
        if !inner.rest.is_empty() {
            return Err("a decimal holds more than its number and its scale".to_owned());
        }
        decimal::text(unscaled, i64::from(scale)).ok_or_else(|| too_long(unscaled))
    }

    fn symbol(&mut self, symbols: &[String]) -> Result<Value, Why> {
        let index = self.int()?;
        let symbol = usize::try_from(index).ok().and_then(|index| symbols.get(index));
        let symbol = symbol.ok_or_else(|| format!("an enum of {} has no {index}", symbols.len()))?;
        self.budget.brings(symbol.len())?;
        Ok(Value::String(symbol.clone()))
    }

    fn array(&mut self, items: NodeId, depth: usize) -> Result<Value, Why> {
        let mut array = Vec::new();
        while let Some(count) = self.block()? {
            for _ in 0..count {
                array.push(self.value(items, depth + 1)?);
            }
        }
        Ok(Value::Array(array))
    }

    fn map(&mut self, values: NodeId, depth: usize) -> Result<Value, Why> {
        let mut map = Map::new();
        while let Some(count) = self.block()? {
            for _ in 0..count {
                let key = self.text()?.to_owned();
                map.insert(key, self.value(values, depth + 1)?);
            }
        }
        Ok(Value::Object(map))
    }

    /// How many items the next block has; none behind the last one.
    fn block(&mut self) -> Result<Option<u64>, Why> {
        let count = self.long()?;
        if count < 0 {
            // Followed by the block's length in bytes, for who wants to skip it.
            self.long()?;
        }
        Ok((count != 0).then(|| count.unsigned_abs()))
    }

    fn float(&mut self) -> Result<Value, Why> {
        let float = f32::from_le_bytes(self.chunk()?);
        // The shortest text that means this float, and not the digits that it has as a double.
        Ok(real(float.to_string().parse().unwrap_or(f64::NAN)))
    }

    fn text(&mut self) -> Result<&'a str, Why> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|error| format!("a string is not UTF-8 after {} bytes of it", error.valid_up_to()))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Why> {
        let length = self.long()?;
        let length = usize::try_from(length).map_err(|_| format!("a length is {length}"))?;
        self.take(length)
    }

    fn int(&mut self) -> Result<i32, Why> {
        let long = self.long()?;
        i32::try_from(long).map_err(|_| format!("an int is {long}, which takes more than 32 bits"))
    }

    fn long(&mut self) -> Result<i64, Why> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err("a number takes more than 64 bits".to_owned())
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Why> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| "a number is cut off".to_owned())
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Why> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(format!("{count} bytes are to follow, and there are {}", self.rest.len()));
        };
        self.rest = rest;
        Ok(taken)
    }
}

fn encoded(bytes: &[u8]) -> Value {
    Value::String(BASE64_STANDARD.encode(bytes))
}

/// A number, or what JSON has no number for as the text that Protobuf's JSON uses too.
pub(super) fn real(number: f64) -> Value {
    Number::from_f64(number).map_or_else(
        || {
            let text = if number.is_nan() {
                "NaN"
            } else if number > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            };
            Value::String(text.to_owned())
        },
        Value::Number,
    )
}

fn uuid(bytes: &[u8]) -> Result<String, Why> {
    let uuid = uuid::Uuid::from_slice(bytes).map_err(|_| format!("a UUID has 16 bytes, and not {}", bytes.len()))?;
    Ok(uuid.to_string())
}

fn too_long(unscaled: &[u8]) -> Why {
    let (bytes, most) = (unscaled.len(), decimal::LIMIT_BYTES);
    format!(
        "a decimal has {bytes} bytes or a scale that nobody means; at most {most} bytes and {} places are read",
        decimal::LIMIT_SCALE
    )
}
