//! JSON Schema: JSON that its schema has to allow.
//!
//! Owns: the compiling with what is referred to, and the validation. Refuses to fetch a `$ref`: it leads to a reference or nowhere. Regular
//! expressions that backtrack give up early, and the work of a validation is known before it begins (`work`), as is the room that a schema takes
//! (`paths`). Neighbour: `event` parses JSON without a schema.

mod expression;
mod paths;
mod work;

use std::sync::Arc;

use jsonschema::{Draft, PatternOptions, Registry, Resource, Validator};
use serde_json::Value;

use self::work::Work;
use super::{Definition, Format, Read, SchemaError};

/// Steps back that an expression may take in one text.
const LIMIT_STEPS_BACK: usize = 2_000;
/// What a compiled expression may take, in bytes, and all of a schema together, which share it evenly.
const LIMIT_PATTERN_BYTES: usize = 1 << 20;
const LIMIT_PATTERNS_BYTES: usize = 64 << 20;
/// What a compiled schema is taken to need beside its text and paths: for each place of it, and for each expression.
const KEPT_BYTES_EACH: usize = 512;
const KEPT_PATTERN_BYTES: usize = 16 << 10;
/// Where a schema is taken to lie that does not say it, so that what it refers to by a relative name is found beside it.
const BASE: &str = "tidings://registry/schema.json";

#[derive(Debug)]
pub(super) struct JsonSchema {
    validator: Validator,
    work: Work,
    name: Option<Arc<str>>,
    bytes: usize,
}

impl JsonSchema {
    pub(super) fn compile(definition: &Definition) -> Result<Self, SchemaError> {
        let unusable = |why: &dyn ToString| SchemaError::unusable(Format::JsonSchema, why.to_string());
        let root = parse(&definition.text).map_err(|error| unusable(&error))?;
        let mut documents = Vec::new();
        for reference in &definition.references {
            let document = parse(&reference.text).map_err(|error| unusable(&format!("{}: {error}", reference.name)))?;
            documents.push((reference.name.as_str(), document));
        }
        for document in documents.iter().map(|(_, document)| document).chain([&root]) {
            // The library panics at one that it does not know.
            if draft(document) == Draft::Unknown {
                return Err(unusable(&format!("`$schema` is {}, which is no draft from 4 to 2020-12", document["$schema"])));
            }
        }
        let base = root.get("$id").and_then(Value::as_str).filter(|id| is_absolute(id)).unwrap_or(BASE);
        let all = documents.iter().map(|(name, document)| (base.len() + name.len(), document)).chain([(base.len(), &root)]);
        let paths = paths::check(all).map_err(|why| unusable(&why))?;
        let work = Work::of(&root, &documents).map_err(|why| unusable(&why))?;
        let resources = documents.iter().flat_map(|(name, document)| {
            let resource = |uri: String| (uri, draft(document).create_resource(document.clone()));
            [join(base, name), join(BASE, name)].map(resource)
        });
        let resources = resources.collect::<std::collections::BTreeMap<String, Resource>>();
        let registry = Registry::new().extend(resources).and_then(|registry| registry.prepare());
        let registry = registry.map_err(|error| unusable(&error))?;
        let expressions = documents.iter().map(|(_, document)| document).chain([&root]).map(expression::compiled).sum::<usize>();
        let bytes = LIMIT_PATTERN_BYTES.min(LIMIT_PATTERNS_BYTES / expressions.max(1));
        let patterns = PatternOptions::fancy_regex().backtrack_limit(LIMIT_STEPS_BACK).size_limit(bytes).dfa_size_limit(bytes);
        let options = jsonschema::options().with_draft(draft(&root)).with_base_uri(base).with_pattern_options(patterns);
        let validator = options.with_registry(&registry).offline().build(&root).map_err(|error| unusable(&error.masked()))?;
        let name = root.get("title").and_then(Value::as_str).filter(|title| !title.is_empty()).map(Arc::from);
        let texts = definition.references.iter().map(|reference| reference.text.len()).sum::<usize>() + definition.text.len();
        let places = documents.iter().map(|(_, document)| document).chain([&root]).map(paths::places).sum::<usize>();
        let bytes = texts + paths + places * KEPT_BYTES_EACH + expressions * KEPT_PATTERN_BYTES;
        Ok(Self { validator, work, name, bytes })
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn read(&self, body: &[u8]) -> Result<Read, SchemaError> {
        let misfit = |why: &dyn ToString| SchemaError::misfit(Format::JsonSchema, why.to_string());
        let value: Value = serde_json::from_slice(body).map_err(|error| misfit(&error))?;
        self.work.allows(&value, body.len()).map_err(|why| misfit(&why))?;
        if self.validator.is_valid(&value) {
            return Ok(Read { value, name: self.name.clone() });
        }
        // Values may be personal; what a schema says is not.
        let error = self
            .validator
            .iter_errors(&value)
            .next()
            .map(|error| (error.instance_path().to_string(), error.masked().to_string()));
        let (at, why) = error.unwrap_or_else(|| (String::new(), "a regular expression took too long".to_owned()));
        Err(SchemaError::invalid(at, why))
    }
}

fn parse(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text)
}

/// One that does not say its draft is taken for draft 7, as Confluent's readers do.
fn draft(schema: &Value) -> Draft {
    Draft::Draft7.detect(schema)
}

fn is_absolute(uri: &str) -> bool {
    uri.contains("://") || uri.starts_with("urn:")
}

/// Where a name leads from a schema at `base`.
fn join(base: &str, name: &str) -> String {
    if is_absolute(name) {
        return name.to_owned();
    }
    let folder = base.rfind('/').map_or("", |slash| &base[..=slash]);
    format!("{folder}{}", name.trim_start_matches("./").trim_start_matches('/'))
}
