//! Schemas that a registry has, or a file in any language, for `tidings check`.
//!
//! Owns: which of two versions is the new one: that of the file, else the latest of the subject; what it is compared with is the one before.
//! Neighbours: core `schema` says what their values look like, core `rules::check` what that means for rules.

use std::path::Path;

use anyhow::Context as _;
use tidings_core::rules::Problem;
use tidings_core::rules::check::Described;
use tidings_core::schema::{Definition, Format, Reference, SchemaError, Shape};

use super::Args;
use crate::cli::schemas::Asked;
use crate::config::RegistryConfig;
use crate::registry::Subject;

/// What a schema may need to be read, however it nests.
const STACK_BYTES: usize = 16 << 20;

/// The new version and the one before it.
#[derive(Default)]
pub(super) struct Versions {
    pub(super) now: Option<Described>,
    pub(super) before: Option<Described>,
    /// What is wrong with the new one, if it cannot be read.
    pub(super) problems: Vec<Problem>,
}

impl Versions {
    fn new(now: Result<Described, Problem>, before: Option<Described>) -> Self {
        match now {
            Ok(now) => Self { now: Some(now), before, problems: Vec::new() },
            Err(problem) => Self { problems: vec![problem], ..Self::default() },
        }
    }
}

/// The versions that the arguments name; none if they name none.
pub(super) async fn versions(args: &Args, config: &RegistryConfig) -> anyhow::Result<Versions> {
    let limit = config.schema_bytes.get();
    let Some(subject) = &args.subject else {
        let Some(file) = &args.schema else { return Ok(Versions::default()) };
        return Ok(Versions::new(of_file(args, (file, limit), &[])?, None));
    };
    let registry = Asked::new(args.registry.as_deref(), config)?;
    let Some(latest) = registry.subject(subject, None).await? else { return Err(registry.missing(subject).await) };
    // What is wrong with a version that is replaced is nobody's concern any more.
    let replaced = |found: Subject| anyhow::Ok(of_subject(args, subject, found)?.ok());
    if let Some(file) = &args.schema {
        // A new version refers to what the one before does, else to nothing that is known here.
        let now = of_file(args, (file, limit), &latest.definition.references)?;
        return Ok(Versions::new(now, replaced(latest)?));
    }
    let before = match latest.version.checked_sub(1).filter(|version| *version > 0) {
        None => None,
        // Versions may be deleted one by one.
        Some(version) => registry.subject(subject, Some(version)).await?.map(replaced).transpose()?.flatten(),
    };
    Ok(Versions::new(of_subject(args, subject, latest)?, before))
}

fn of_subject(args: &Args, subject: &str, found: Subject) -> anyhow::Result<Result<Described, Problem>> {
    described(args, format!("{subject} version {}", found.version), found.definition)
}

fn of_file(args: &Args, (file, limit): (&Path, usize), references: &[Reference]) -> anyhow::Result<Result<Described, Problem>> {
    let format = format(file)?;
    let text = read(file)?;
    let mut all = Vec::with_capacity(args.references.len() + references.len());
    for (name, file) in &args.references {
        all.push(Reference { name: name.clone(), text: read(file)? });
    }
    // What is given by hand counts before what the version before refers to.
    all.extend(references.iter().filter(|other| args.references.iter().all(|(name, _)| *name != other.name)).cloned());
    let name = file.display().to_string();
    // As the pipeline counts a schema that it fetches.
    let bytes = all.iter().fold(text.len(), |bytes, reference| bytes + reference.text.len());
    anyhow::ensure!(
        bytes <= limit,
        "{name} has {bytes} bytes with all that it refers to, and schemas of at most {limit} are read (`registry.schema_bytes`): a pipeline would \
         bury what is written by it"
    );
    described(args, name, Definition { format, text, references: all })
}

fn format(file: &Path) -> anyhow::Result<Format> {
    Ok(match file.extension().and_then(|extension| extension.to_str()) {
        Some("avsc") => Format::Avro,
        Some("proto") => Format::Protobuf,
        Some("json") => Format::JsonSchema,
        _ => anyhow::bail!("{} is no schema by its name: it ends in .avsc, .proto or .json", file.display()),
    })
}

/// The text of a schema.
fn read(file: &Path) -> anyhow::Result<String> {
    let name = file.display();
    let bytes = std::fs::read(file).with_context(|| format!("could not read {name}"))?;
    String::from_utf8(bytes).map_err(|_| anyhow::anyhow!("{name} is no text in UTF-8, so it is no schema"))
}

fn described(args: &Args, name: String, definition: Definition) -> anyhow::Result<Result<Described, Problem>> {
    let shape = shape(&definition)?;
    Ok(Described::of(name, definition, (args.kind.clone(), shape)))
}

/// On a stack of its own: schemas of strangers may nest.
fn shape(definition: &Definition) -> anyhow::Result<Result<Shape, SchemaError>> {
    let definition = definition.clone();
    let reading = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || definition.shape())?;
    reading.join().map_err(|_| anyhow::anyhow!("the schema could not be read; this is a bug"))
}
