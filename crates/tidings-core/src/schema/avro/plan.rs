//! What an Avro schema comes to: a list of nodes that name each other by their place, so that recursive types need no names.
//!
//! Owns: the parsing (specification 1.12, "Schema Declaration"), and which type a name means: one that is defined anywhere in the schema or in
//! what it refers to, in whatever order; one of no namespace also from within a namespace, where that has none of the name. A name is never
//! copied with its namespace, so that nodes take no more than their text does.
//! Refuses types that are not there or there twice, and sizes and scales that nobody means. Neighbours: `logical`; `avro` follows the nodes.

mod logical;

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use self::logical::logical;
use super::times::Unit;
use super::{Avro, Definition};

/// The place of a node.
pub(in crate::schema) type NodeId = usize;
/// The place of a namespace.
type Space = usize;

/// What stands in no namespace.
const NOWHERE: Space = 0;

/// How a UUID is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::schema) enum UuidForm {
    Text,
    Bytes,
    Fixed,
}

#[derive(Debug)]
pub(in crate::schema) enum Node {
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
    let parse = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| error.to_string());
    let references = definition.references.iter();
    let references = references.map(|of| parse(&of.text).map_err(|why| format!("`{}`: {why}", of.name)));
    let references = references.collect::<Result<Vec<_>, _>>()?;
    let main = parse(&definition.text)?;
    let mut builder = Builder::default();
    // The first namespace is none.
    builder.space("");
    for reference in &references {
        builder.node(reference, NOWHERE)?;
    }
    let root = builder.node(&main, NOWHERE)?;
    let name = builder.name_of(root).map(Into::into);
    let (nodes, meant) = builder.finished()?;
    Ok(Avro { nodes, root: meant[root], name })
}

/// A node that may not be built yet.
enum Slot {
    /// Something names it.
    Named,
    /// Its definition is being read.
    Met,
    Built(Node),
}

#[derive(Default)]
struct Builder<'a> {
    slots: Vec<Slot>,
    /// Namespaces by their text. One that thousands of names stand in is looked up once.
    spaces: HashMap<&'a str, Space>,
    /// Named types by their namespace and their own name.
    names: HashMap<(Space, &'a str), NodeId>,
    /// Those that somebody names with their namespace.
    in_full: HashSet<NodeId>,
}

type Fields = Map<String, Value>;

impl<'a> Builder<'a> {
    fn node(&mut self, schema: &'a Value, around: Space) -> Result<NodeId, String> {
        match schema {
            Value::String(name) => match primitive(name) {
                Some(plain) => Ok(self.push(plain)),
                None => Ok(self.named(name, None, around)),
            },
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.node(branch, around)).collect::<Result<Vec<_>, _>>()?;
                // Avro 1.12, "Unions". Who reads values goes no deeper by one than by what it is within.
                if branches.iter().any(|branch| matches!(self.slots.get(*branch), Some(Slot::Built(Node::Union(_))))) {
                    return Err("a union lies directly within a union".to_owned());
                }
                Ok(self.push(Node::Union(branches)))
            }
            Value::Object(fields) => self.object(fields, around),
            other => Err(format!("a type is a name, a list or an object, and not `{other}`")),
        }
    }

    fn object(&mut self, fields: &'a Fields, around: Space) -> Result<NodeId, String> {
        let kind = part(fields, "type", "a type")?;
        let plain = match kind.as_str() {
            Some("record" | "error") => return self.record(fields, around),
            Some("enum") => return self.symbols(fields, around),
            Some("fixed") => return self.fixed(fields, around),
            Some("array") => Node::Array(self.node(part(fields, "items", "an array")?, around)?),
            Some("map") => Node::Map(self.node(part(fields, "values", "a map")?, around)?),
            Some(name) => match primitive(name) {
                Some(plain) => plain,
                None => return Ok(self.named(name, None, around)),
            },
            // One type around another adds nothing but what it means.
            None => {
                let id = self.node(kind, around)?;
                let Some(Slot::Built(plain)) = self.slots.get(id) else { return Ok(id) };
                return Ok(logical(plain, fields)?.map_or(id, |node| self.push(node)));
            }
        };
        let node = logical(&plain, fields)?.unwrap_or(plain);
        Ok(self.push(node))
    }

    fn record(&mut self, fields: &'a Fields, around: Space) -> Result<NodeId, String> {
        let (id, within) = self.defined(fields, around)?;
        let of_record = part(fields, "fields", "a record")?.as_array().ok_or("the `fields` of a record are no list")?;
        let (mut record, mut seen) = (Vec::new(), HashSet::new());
        for field in of_record {
            let field = field.as_object().ok_or("a field of a record is no object")?;
            let name = text(field, "name", "a field")?;
            if !seen.insert(name) {
                return Err(format!("a record has two fields `{name}`"));
            }
            record.push((name.to_owned(), self.node(part(field, "type", "a field")?, within)?));
        }
        Ok(self.build(id, Node::Record(record)))
    }

    fn symbols(&mut self, fields: &'a Fields, around: Space) -> Result<NodeId, String> {
        let (id, _) = self.defined(fields, around)?;
        let symbols = part(fields, "symbols", "an enum")?.as_array().ok_or("the `symbols` of an enum are no list")?;
        let symbols = symbols.iter().map(|symbol| symbol.as_str().map(str::to_owned)).collect::<Option<_>>();
        Ok(self.build(id, Node::Enum(symbols.ok_or("a symbol of an enum is no text")?)))
    }

    fn fixed(&mut self, fields: &'a Fields, around: Space) -> Result<NodeId, String> {
        let (id, _) = self.defined(fields, around)?;
        let size = part(fields, "size", "a fixed")?.as_u64().and_then(|size| usize::try_from(size).ok());
        let plain = Node::Fixed(size.ok_or("the `size` of a fixed is no number of bytes")?);
        let node = logical(&plain, fields)?.unwrap_or(plain);
        Ok(self.build(id, node))
    }

    /// The place of a type that is defined here, and the namespace of the names within it.
    fn defined(&mut self, fields: &'a Fields, around: Space) -> Result<(NodeId, Space), String> {
        let name = text(fields, "name", "a named type")?;
        let namespace = fields.get("namespace").and_then(Value::as_str);
        let (space, _) = self.split(name, namespace, around);
        let id = self.named(name, namespace, around);
        match self.slots.get_mut(id) {
            Some(slot @ Slot::Named) => *slot = Slot::Met,
            _ => return Err(format!("the type `{}` is there twice", self.name_of(id).unwrap_or_default())),
        }
        Ok((id, space))
    }

    /// The place of a type that is called so, wherever it is defined.
    fn named(&mut self, name: &'a str, namespace: Option<&'a str>, around: Space) -> NodeId {
        let key = self.split(name, namespace, around);
        let id = *self.names.entry(key).or_insert_with(|| {
            self.slots.push(Slot::Named);
            self.slots.len() - 1
        });
        if name.contains('.') {
            self.in_full.insert(id);
        }
        id
    }

    /// A name that has points says its namespace itself.
    fn split(&mut self, name: &'a str, namespace: Option<&'a str>, around: Space) -> (Space, &'a str) {
        match name.rsplit_once('.') {
            Some((space, name)) => (self.space(space), name),
            None => (namespace.map_or(around, |namespace| self.space(namespace)), name),
        }
    }

    fn space(&mut self, namespace: &'a str) -> Space {
        let next = self.spaces.len();
        *self.spaces.entry(namespace).or_insert(next)
    }

    fn push(&mut self, node: Node) -> NodeId {
        self.slots.push(Slot::Built(node));
        self.slots.len() - 1
    }

    fn build(&mut self, id: NodeId, node: Node) -> NodeId {
        self.slots[id] = Slot::Built(node);
        id
    }

    /// What a named type is called in full.
    fn name_of(&self, id: NodeId) -> Option<String> {
        let ((space, name), _) = self.names.iter().find(|(_, named)| **named == id)?;
        let (space, _) = self.spaces.iter().find(|(_, place)| *place == space)?;
        Some(if space.is_empty() { (*name).to_owned() } else { format!("{space}.{name}") })
    }

    /// The nodes, and which of them is meant by each.
    fn finished(mut self) -> Result<(Vec<Node>, Vec<NodeId>), String> {
        let mut meant = (0..self.slots.len()).collect::<Vec<_>>();
        // The specification has no way to name a type of no namespace from within one; writers, Java's among them, leave its name as it is.
        for ((_, name), id) in self.names.iter().filter(|(_, id)| !self.in_full.contains(*id)) {
            if let (Slot::Named, Some(elsewhere)) = (&self.slots[*id], self.names.get(&(NOWHERE, *name))) {
                meant[*id] = *elsewhere;
            }
        }
        let mut nodes = Vec::with_capacity(self.slots.len());
        for (id, slot) in std::mem::take(&mut self.slots).into_iter().enumerate() {
            nodes.push(match slot {
                Slot::Built(node) => node.meaning(&meant),
                // Nothing names it any more.
                Slot::Named if meant[id] != id => Node::Null,
                Slot::Named | Slot::Met => {
                    return Err(format!("the type `{}` is not there", self.name_of(id).unwrap_or_default()));
                }
            });
        }
        Ok((nodes, meant))
    }
}

impl Node {
    /// About how much memory it takes.
    pub(in crate::schema) fn bytes(&self) -> usize {
        let within = match self {
            Self::Union(branches) => size_of_val(branches.as_slice()),
            Self::Enum(symbols) => symbols.iter().map(|symbol| size_of::<String>() + symbol.len()).sum(),
            Self::Record(fields) => fields.iter().map(|field| size_of_val(field) + field.0.len()).sum(),
            _ => 0,
        };
        size_of::<Self>() + within
    }

    /// The same with the nodes that are meant by those it names.
    fn meaning(mut self, meant: &[NodeId]) -> Self {
        match &mut self {
            Self::Array(of) | Self::Map(of) => *of = meant[*of],
            Self::Union(branches) => branches.iter_mut().for_each(|branch| *branch = meant[*branch]),
            Self::Record(fields) => fields.iter_mut().for_each(|(_, field)| *field = meant[*field]),
            _ => {}
        }
        self
    }
}

fn part<'a>(fields: &'a Fields, key: &str, of: &str) -> Result<&'a Value, String> {
    fields.get(key).ok_or_else(|| format!("{of} has no `{key}`"))
}

fn text<'a>(fields: &'a Fields, key: &str, of: &str) -> Result<&'a str, String> {
    part(fields, key, of)?.as_str().ok_or_else(|| format!("the `{key}` of {of} is no text"))
}

fn primitive(name: &str) -> Option<Node> {
    Some(match name {
        "null" => Node::Null,
        "boolean" => Node::Boolean,
        "int" => Node::Int,
        "long" => Node::Long,
        "float" => Node::Float,
        "double" => Node::Double,
        "bytes" => Node::Bytes,
        "string" => Node::Text,
        _ => return None,
    })
}
