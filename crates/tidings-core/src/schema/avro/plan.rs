//! What an Avro schema comes to: a list of nodes that name each other by their place, so that recursive types need no names.
//!
//! Owns: resolving names, also of references. Refuses sizes and scales that nobody means. Neighbour: `avro` follows it.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, Name, NamespaceRef, UuidSchema};

use super::times::Unit;
use super::{Avro, Definition};
use crate::schema::decimal;

/// The place of a node.
pub(super) type NodeId = usize;

/// How a UUID is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UuidForm {
    Text,
    Bytes,
    Fixed,
}

#[derive(Debug)]
pub(super) enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Enum(Vec<String>),
    Array(NodeId),
    Map(NodeId),
    Union(Vec<NodeId>),
    Record(Vec<(String, NodeId)>),
    Decimal { size: Option<usize>, scale: i64 },
    BigDecimal,
    Uuid(UuidForm),
    Date,
    TimeMillis,
    TimeMicros,
    Instant(Unit),
    Local(Unit),
    Duration,
}

pub(super) fn compile(definition: &Definition) -> Result<Avro, String> {
    let references = definition.references.iter().map(|reference| reference.text.as_str());
    let (main, references) = Schema::parse_str_with_list(&definition.text, references).map_err(|error| error.to_string())?;
    let named = references.iter().filter_map(|schema| Some((schema.name()?.fullname(None), schema)));
    let mut builder = Builder { nodes: Vec::new(), names: HashMap::new(), references: named.collect() };
    for schema in &references {
        let known = schema.name().is_some_and(|name| builder.names.contains_key(&name.fullname(None)));
        if !known {
            builder.node(schema, None)?;
        }
    }
    let root = builder.node(&main, None)?;
    let name = main.name().map(|name| name.fullname(None).into());
    Ok(Avro { nodes: builder.nodes, root, name })
}

struct Builder<'a> {
    nodes: Vec<Node>,
    /// By full name.
    names: HashMap<String, NodeId>,
    /// Schemas that are referred to, by full name.
    references: HashMap<String, &'a Schema>,
}

impl<'a> Builder<'a> {
    fn node(&mut self, schema: &'a Schema, namespace: NamespaceRef<'_>) -> Result<NodeId, String> {
        let id = self.nodes.len();
        if let Schema::Ref { name } = schema {
            return self.named(name, namespace);
        }
        // Types within may name this one.
        if let Some(name) = schema.name() {
            self.names.insert(name.fullname(namespace), id);
        }
        self.nodes.push(Node::Null);
        let node = match schema {
            Schema::Array(array) => Node::Array(self.node(&array.items, namespace)?),
            Schema::Map(map) => Node::Map(self.node(&map.types, namespace)?),
            Schema::Union(union) => {
                let variants = union.variants().iter().map(|variant| self.node(variant, namespace));
                Node::Union(variants.collect::<Result<_, _>>()?)
            }
            Schema::Record(record) => {
                let name = record.name.fully_qualified_name(namespace);
                let fields = record.fields.iter();
                let fields = fields.map(|field| Ok((field.name.clone(), self.node(&field.schema, name.namespace())?)));
                Node::Record(fields.collect::<Result<_, String>>()?)
            }
            leaf => self::leaf(leaf)?,
        };
        self.nodes[id] = node;
        Ok(id)
    }

    fn named(&mut self, name: &Name, namespace: NamespaceRef<'_>) -> Result<NodeId, String> {
        let name = name.fullname(namespace);
        if let Some(id) = self.names.get(&name) {
            return Ok(*id);
        }
        match self.references.get(&name).copied() {
            Some(schema) => self.node(schema, None),
            None => Err(format!("the type `{name}` is not there")),
        }
    }
}

fn leaf(schema: &Schema) -> Result<Node, String> {
    Ok(match schema {
        Schema::Null => Node::Null,
        Schema::Boolean => Node::Boolean,
        Schema::Int => Node::Int,
        Schema::Long => Node::Long,
        Schema::Float => Node::Float,
        Schema::Double => Node::Double,
        Schema::Bytes => Node::Bytes,
        Schema::String => Node::Text,
        Schema::Enum(schema) => Node::Enum(schema.symbols.clone()),
        Schema::Fixed(fixed) => Node::Fixed(fixed.size),
        Schema::Decimal(decimal) => {
            let scale = i64::try_from(decimal.scale).ok().filter(|scale| *scale <= decimal::LIMIT_SCALE);
            let scale = scale.ok_or_else(|| format!("a decimal has {} places", decimal.scale))?;
            let size = match &decimal.inner {
                InnerDecimalSchema::Bytes => None,
                InnerDecimalSchema::Fixed(fixed) => Some(fixed.size),
            };
            Node::Decimal { size, scale }
        }
        Schema::BigDecimal => Node::BigDecimal,
        Schema::Uuid(UuidSchema::String) => Node::Uuid(UuidForm::Text),
        Schema::Uuid(UuidSchema::Bytes) => Node::Uuid(UuidForm::Bytes),
        Schema::Uuid(UuidSchema::Fixed(_)) => Node::Uuid(UuidForm::Fixed),
        Schema::Date => Node::Date,
        Schema::TimeMillis => Node::TimeMillis,
        Schema::TimeMicros => Node::TimeMicros,
        Schema::TimestampMillis => Node::Instant(Unit::Millis),
        Schema::TimestampMicros => Node::Instant(Unit::Micros),
        Schema::TimestampNanos => Node::Instant(Unit::Nanos),
        Schema::LocalTimestampMillis => Node::Local(Unit::Millis),
        Schema::LocalTimestampMicros => Node::Local(Unit::Micros),
        Schema::LocalTimestampNanos => Node::Local(Unit::Nanos),
        Schema::Duration(_) => Node::Duration,
        other => return Err(format!("a type {other} is not read")),
    })
}
