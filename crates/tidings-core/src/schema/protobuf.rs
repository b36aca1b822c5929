//! Protobuf: messages, found by Confluent's message indexes, as JSON.
//!
//! Owns: compiling schemas with their imports, and the mapping. It is proto3's own ("ProtoJSON") but for whole numbers of 64 bits, which are
//! numbers here, since nothing is lost, and `confluent.type.Decimal`, which is exact text. Fields without presence and those with a default are
//! always there; a message without one that is required is none.
//! Refuses to open a file: an import is a reference, or one that everybody has (`known`). Neighbours: `places`, `names`, `syntax`.

mod known;
mod names;
mod places;
mod syntax;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, SerializeOptions};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use serde_json::{Map, Value};

use self::places::{Counting, Places};
use super::avro::real;
use super::budget::Budget;
use super::{Definition, Format, Read, SchemaError, decimal};

/// What the schema itself is called among the files it imports; nobody imports it.
const ROOT: &str = "tidings-root.proto";
/// How many numbers a message index may have: messages within messages.
const LIMIT_INDEX: usize = 64;
/// What a compiled schema takes: itself, each thing that has a name, and how often its full name is kept. One of 2,000 fields was measured
/// with 3.1 MB, and counts as 4.4.
const KEPT_BYTES: usize = 16 << 10;
const KEPT_BYTES_EACH: usize = 1 << 10;
const KEPT_NAMES: usize = 2;
const DECIMAL: &str = "confluent.type.Decimal";
const ANY: &str = "google.protobuf.Any";
/// What ProtoJSON has a form of its own for, beside `Any`.
const WELL_KNOWN: [&str; 16] = [
    "BoolValue",
    "BytesValue",
    "DoubleValue",
    "Duration",
    "Empty",
    "FieldMask",
    "FloatValue",
    "Int32Value",
    "Int64Value",
    "ListValue",
    "StringValue",
    "Struct",
    "Timestamp",
    "UInt32Value",
    "UInt64Value",
    "Value",
];

#[derive(Debug)]
pub(super) struct Protobuf {
    places: Places,
    bytes: usize,
}

impl Protobuf {
    pub(super) fn compile(definition: &Definition) -> Result<Self, SchemaError> {
        let unusable = |why: &dyn ToString| SchemaError::unusable(Format::Protobuf, why.to_string());
        let texts = definition.references.iter().map(|reference| (reference.name.as_str(), reference.text.as_str()));
        let texts = texts.chain([(ROOT, definition.text.as_str())]).collect::<BTreeMap<_, _>>();
        let parsed = texts.into_iter().map(|(name, text)| Ok((name.to_owned(), Parsed::read(name, text)?)));
        let files = parsed.collect::<Result<BTreeMap<_, _>, String>>().map_err(|why| unusable(&why))?;
        names::check(files.values().map(|file| &file.descriptor)).map_err(|why| unusable(&why))?;
        let counting = files.get(ROOT).map_or(Counting::Declared, |file| file.counting);
        let mut resolver = ChainFileResolver::new();
        resolver.add(Files(files));
        resolver.add(GoogleFileResolver::new());
        resolver.add(known::Known);
        let mut compiler = protox::Compiler::with_file_resolver(resolver);
        compiler.include_imports(true);
        compiler.open_file(ROOT).map_err(|error| unusable(&error))?;
        let pool = compiler.descriptor_pool();
        syntax::check_extended(&pool).map_err(|why| unusable(&why))?;
        let file = pool.get_file_by_name(ROOT).ok_or_else(|| unusable(&"it compiles to nothing"))?;
        // With all that it imports: each schema has its own.
        let names = names::of(pool.file_descriptor_protos());
        let bytes = KEPT_BYTES + names.bytes * KEPT_NAMES + names.count * KEPT_BYTES_EACH;
        Ok(Self { places: Places::of(&file, counting), bytes })
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The message that is meant where none is named.
    pub(super) fn first(&self) -> Option<&MessageDescriptor> {
        self.places.get(&[0]).map(|(message, _)| message)
    }

    pub(super) fn read(&self, index: Option<&[u8]>, body: &[u8]) -> Result<Read, SchemaError> {
        let misfit = |why: String| SchemaError::misfit(Format::Protobuf, why);
        let (index, body) = match index {
            // What a header says of it ends with it; one that says nothing means the first message.
            Some([]) => (vec![0], body),
            Some(bytes) => (split(bytes).map_err(misfit)?.0, body),
            None => split(body).map_err(misfit)?,
        };
        let Some((message, name)) = self.places.get(&index) else {
            return Err(misfit(format!("it says that it is message {index:?}, and the schema has no such message")));
        };
        let message = DynamicMessage::decode(message.clone(), body).map_err(|error| misfit(format!("as {name}: {error}")))?;
        let value = Mapping::default().message(&message, 0).map_err(misfit)?;
        Ok(Read { value, name: Some(Arc::clone(name)) })
    }
}

/// A schema whose imports are still to be looked for.
struct Parsed {
    descriptor: FileDescriptorProto,
    counting: Counting,
}

impl Parsed {
    fn read(name: &str, text: &str) -> Result<Self, String> {
        let (descriptor, counting) = match compiled(text) {
            Some(file) => (file, Counting::All),
            None => {
                syntax::check_text(text)?;
                let file = File::from_source(name, text).map_err(|error| error.to_string())?;
                let file = FileDescriptorProto::from(file);
                let counting = Counting::of_text(&file);
                (file, counting)
            }
        };
        syntax::check(&descriptor)?;
        // Where in the text each thing stands is several times the text, and would be kept with it.
        Ok(Self {
            descriptor: FileDescriptorProto { name: Some(name.to_owned()), source_code_info: None, ..descriptor },
            counting,
        })
    }
}

/// The schemas that the root refers to, and the root.
struct Files(BTreeMap<String, Parsed>);

impl FileResolver for Files {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let file = self.0.get(name).ok_or_else(|| protox::Error::file_not_found(name))?;
        Ok(File::from_file_descriptor_proto(file.descriptor.clone()))
    }
}

/// A schema that is no text but a compiled file in Base64: Confluent's Python serializers register such, and some registries give them
/// back as they came.
fn compiled(text: &str) -> Option<FileDescriptorProto> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    FileDescriptorProto::decode(bytes.as_slice()).ok().filter(|file| file.name.is_some())
}

/// The message index at the beginning of some bytes, and what follows: a count, then that many numbers, all zigzag; a count of 0
/// means the first message.
fn split(bytes: &[u8]) -> Result<(Vec<u32>, &[u8]), String> {
    let mut rest = bytes;
    let count = number(&mut rest)?;
    if count == 0 {
        return Ok((vec![0], rest));
    }
    if !usize::try_from(count).is_ok_and(|count| count <= LIMIT_INDEX) {
        return Err(format!("its message index has {count} numbers; at most {LIMIT_INDEX} are read"));
    }
    let mut index = Vec::new();
    for _ in 0..count {
        let number = number(&mut rest)?;
        index.push(u32::try_from(number).map_err(|_| format!("its message index holds {number}"))?);
    }
    Ok((index, rest))
}

fn number(rest: &mut &[u8]) -> Result<i64, String> {
    let mut value = 0_u64;
    for shift in (0..35).step_by(7) {
        let (byte, behind) = rest.split_first().ok_or_else(|| "it ends within its message index".to_owned())?;
        *rest = behind;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    Err("a number of its message index takes more than 32 bits".to_owned())
}

/// From messages to JSON.
#[derive(Default)]
struct Mapping {
    budget: Budget,
}

impl Mapping {
    fn message(&mut self, message: &DynamicMessage, depth: usize) -> Result<Value, String> {
        let descriptor = message.descriptor();
        let name = descriptor.full_name();
        self.budget.values(1, depth)?;
        if name == DECIMAL {
            return exact(message);
        }
        if name == ANY {
            return self.any(message, depth);
        }
        if is_well_known(name) {
            return well_known(message);
        }
        self.budget.values(descriptor.fields().len(), depth)?;
        let mut fields = Map::new();
        for field in descriptor.fields() {
            let is_said = message.has_field(&field);
            if field.is_required() && !is_said {
                return Err(format!("a {name} has no `{}`, which is required", field.name()));
            }
            if is_said || is_always_there(&field) {
                self.budget.brings(field.json_name().len() + default_of(&field).filter(|_| !is_said).map_or(0, str::len))?;
                let value = self.value(&message.get_field(&field), &field.kind(), depth + 1)?;
                fields.insert(field.json_name().to_owned(), value);
            }
        }
        for (extension, value) in message.extensions() {
            self.budget.values(1, depth)?;
            self.budget.brings(extension.json_name().len())?;
            fields.insert(extension.json_name().to_owned(), self.value(value, &extension.kind(), depth + 1)?);
        }
        Ok(Value::Object(fields))
    }

    /// A message of any type, with the name of that. The library would follow one within another until the stack ends, and count nothing.
    fn any(&mut self, message: &DynamicMessage, depth: usize) -> Result<Value, String> {
        let field = |name: &str| message.get_field_by_name(name);
        let url = field("type_url").and_then(|url| url.as_str().map(str::to_owned)).unwrap_or_default();
        let bytes = field("value").and_then(|value| value.as_bytes().cloned()).unwrap_or_default();
        let name = url.rsplit('/').next().unwrap_or_default();
        let kind = message.descriptor().parent_pool().get_message_by_name(name);
        let kind = kind.ok_or_else(|| format!("a {ANY} holds a `{name}`, which the schema does not have"))?;
        // Each one within another is a copy of all that is in it.
        self.budget.brings(bytes.len())?;
        let within = DynamicMessage::decode(kind, bytes).map_err(|error| format!("a {ANY} as {name}: {error}"))?;
        let mut fields = match self.message(&within, depth + 1)? {
            Value::Object(fields) if !is_well_known(name) && name != ANY => fields,
            value => Map::from_iter([("value".to_owned(), value)]),
        };
        fields.insert("@type".to_owned(), Value::String(url));
        Ok(Value::Object(fields))
    }

    fn value(&mut self, value: &prost_reflect::Value, kind: &Kind, depth: usize) -> Result<Value, String> {
        use prost_reflect::Value as Read;
        Ok(match value {
            Read::Bool(flag) => Value::Bool(*flag),
            Read::I32(number) => Value::from(*number),
            Read::I64(number) => Value::from(*number),
            Read::U32(number) => Value::from(*number),
            Read::U64(number) => Value::from(*number),
            // The shortest text that means this float, and not the digits that it has as a double.
            Read::F32(number) => real(number.to_string().parse().unwrap_or(f64::NAN)),
            Read::F64(number) => real(*number),
            Read::String(text) => Value::String(text.clone()),
            Read::Bytes(bytes) => Value::String(BASE64_STANDARD.encode(bytes)),
            Read::EnumNumber(number) => {
                let name = name_of(*number, kind);
                self.budget.brings(name.as_str().map_or(0, str::len))?;
                name
            }
            Read::Message(message) => self.message(message, depth)?,
            Read::List(items) => {
                self.budget.values(items.len(), depth)?;
                let items = items.iter().map(|item| self.value(item, kind, depth + 1));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            Read::Map(entries) => {
                self.budget.values(entries.len(), depth)?;
                let values = kind.as_message().map(|entry| entry.map_entry_value_field().kind());
                let values = values.unwrap_or_else(|| kind.clone());
                let entries = entries.iter().map(|(key, value)| Ok((shown(key), self.value(value, &values, depth + 1)?)));
                Value::Object(entries.collect::<Result<_, String>>()?)
            }
        })
    }
}

/// Whether a message that is read has the field, whatever was written: it has no presence, it is required, or its schema has a default for it.
pub(super) fn is_always_there(field: &FieldDescriptor) -> bool {
    let has_default = field.kind().as_message().is_none() && default_of(field).is_some();
    !field.supports_presence() || field.is_required() || has_default
}

fn default_of(field: &FieldDescriptor) -> Option<&str> {
    field.field_descriptor_proto().default_value.as_deref()
}

/// An enum's value by its name; one that the schema does not have by its number.
fn name_of(number: i32, kind: &Kind) -> Value {
    let Kind::Enum(kind) = kind else { return Value::from(number) };
    if kind.full_name() == "google.protobuf.NullValue" {
        return Value::Null;
    }
    kind.get_value(number).map_or_else(|| Value::from(number), |value| Value::String(value.name().to_owned()))
}

fn shown(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

fn is_well_known(name: &str) -> bool {
    name.strip_prefix("google.protobuf.").is_some_and(|name| WELL_KNOWN.contains(&name))
}

fn well_known(message: &DynamicMessage) -> Result<Value, String> {
    let options = SerializeOptions::new().stringify_64_bit_integers(false).skip_default_fields(false);
    let name = message.descriptor().full_name().to_owned();
    message.serialize_with_options(serde_json::value::Serializer, &options).map_err(|error| format!("a {name}: {error}"))
}

/// Confluent's decimal: the number in two's complement, its digits, and how many of them stand behind the point.
fn exact(message: &DynamicMessage) -> Result<Value, String> {
    let field = |name: &str| message.get_field_by_name(name);
    let unscaled = field("value").and_then(|value| value.as_bytes().cloned()).unwrap_or_default();
    let scale = field("scale").and_then(|scale| scale.as_i32()).unwrap_or_default();
    let text = decimal::text(&unscaled, i64::from(scale));
    text.map(Value::String).ok_or_else(|| format!("a decimal has {} bytes or a scale that nobody means", unscaled.len()))
}
