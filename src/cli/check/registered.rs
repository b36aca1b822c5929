//! Schemas that a registry has, or a file in any language, for `tidings check`.
//!
//! Owns: which of two versions is the new one: that of the file, else the latest of the subject; what it is compared with is the one before.
//! Neighbours: core `schema` says what their values look like, core `rules::check` what that means for rules.

use std::path::Path;

use anyhow::Context as _;
use tidings_core::rules::check::Described;
use tidings_core::schema::{Definition, Format, Reference, SchemaError, Shape};

use super::Args;
use crate::cli::schemas::Asked;
use crate::config::RegistryConfig;
use crate::registry::Subject;

/// What a schema may need to be read, however it nests.
const STACK_BYTES: usize = 16 << 20;

/// The new version and the one before it.
pub(super) struct Versions {
    pub(super) now: Option<Described>,
    pub(super) before: Option<Described>,
}

/// The versions that the arguments name; none if they name none.
pub(super) async fn versions(args: &Args, config: &RegistryConfig) -> anyhow::Result<Versions> {
    let Some(subject) = &args.subject else {
        let now = args.schema.as_deref().map(|file| of_file(args, file, &[])).transpose()?;
        return Ok(Versions { now, before: None });
    };
    let registry = Asked::new(args.registry.as_deref(), config)?;
    let named = |found: Subject| of_subject(args, subject, found);
    let Some(latest) = registry.subject(subject, None).await? else { return Err(registry.missing(subject).await) };
    if let Some(file) = &args.schema {
        // A new version refers to what the one before does, else to nothing that is known here.
        let now = of_file(args, file, &latest.definition.references)?;
        return Ok(Versions { now: Some(now), before: Some(named(latest)?) });
    }
    let before = match latest.version.checked_sub(1).filter(|version| *version > 0) {
        None => None,
        // Versions may be deleted one by one.
        Some(version) => registry.subject(subject, Some(version)).await?.map(named).transpose()?,
    };
    Ok(Versions { now: Some(named(latest)?), before })
}

fn of_subject(args: &Args, subject: &str, found: Subject) -> anyhow::Result<Described> {
    described(args, format!("{subject} version {}", found.version), found.definition)
}

fn of_file(args: &Args, file: &Path, references: &[Reference]) -> anyhow::Result<Described> {
    let format = match file.extension().and_then(|extension| extension.to_str()) {
        Some("avsc") => Format::Avro,
        Some("proto") => Format::Protobuf,
        Some("json") => Format::JsonSchema,
        _ => anyhow::bail!("{} is no schema by its name: it ends in .avsc, .proto or .json", file.display()),
    };
    let text = std::fs::read_to_string(file).with_context(|| format!("could not read {}", file.display()))?;
    described(args, file.display().to_string(), Definition { format, text, references: references.to_vec() })
}

fn described(args: &Args, name: String, definition: Definition) -> anyhow::Result<Described> {
    let shape = shape(&definition)?.with_context(|| name.clone())?;
    let kind = args.kind.clone().or(shape.name);
    let kind = kind.with_context(|| format!("{name} does not say the type of its events: name it (--type payment:due)"))?;
    Ok(Described { name, text: definition.text, kind, shape: shape.schema })
}

/// On a stack of its own: schemas of strangers may nest.
fn shape(definition: &Definition) -> anyhow::Result<Result<Shape, SchemaError>> {
    let definition = definition.clone();
    let reading = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || definition.shape())?;
    reading.join().map_err(|_| anyhow::anyhow!("the schema could not be read; this is a bug"))
}
