//! The client: what is asked of a registry over HTTP, by Confluent's API.
//!
//! Owns: whom it asks, as whom, and what an answer means. schema_registry_converter speaks the API; what it does not tell apart
//! (statuses, how much comes) is seen to on the way by `Guarded`. Refuses to keep anything, to follow references round in a circle, and to be
//! sent elsewhere. Neighbours: `desk` asks for what records need, commands for what people ask.

mod guarded;

use std::collections::{HashMap, HashSet, VecDeque};
use std::error::Error as _;
use std::ops::RangeInclusive;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::redirect::Policy;
use schema_registry_converter::async_impl::schema_registry as api;
use schema_registry_converter::async_impl::schema_registry::SrSettings;
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{
    RegisteredReference, RegisteredSchema, SchemaType, SuppliedReference, SuppliedSchema,
};
use tidings_core::schema::{Definition, Format, Reference, SchemaError, SchemaId};

use crate::config::RegistryConfig;

use self::guarded::{Guarded, Reply, trust};
use super::error::RegistryError;

/// The most schemas that one may refer to, directly or not.
const LIMIT_REFERENCES: usize = 256;
/// What a registry says that does not have a subject, a version or a schema. A path that it does not have is a plain 404 to it, also as a code.
const UNKNOWN: RangeInclusive<u32> = 40_401..=40_403;
/// What may stand in the name of a subject within a path.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Asks one registry.
pub struct Client {
    settings: SrSettings,
    limit_bytes: usize,
}

/// A version of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its version, from 1.
    pub version: u32,
    /// The number of its schema.
    pub id: u32,
    /// Its schema.
    pub definition: Definition,
}

/// Why there is no schema.
#[derive(Debug)]
pub(super) enum Missed {
    /// The registry does not have it, and says so.
    Unknown(String),
    /// Anything else.
    Failed(RegistryError),
}

/// By what a registry was asked for a schema: some are too old to know GUIDs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Number,
    Guid,
}

impl From<Missed> for RegistryError {
    fn from(missed: Missed) -> Self {
        match missed {
            Missed::Unknown(told) => Self::Refused { status: 404, told },
            Missed::Failed(error) => error,
        }
    }
}

impl Client {
    /// A client of the registry that is configured. It is not asked for anything yet.
    ///
    /// # Errors
    /// If no URL is configured, or a file cannot be used.
    pub fn new(config: &RegistryConfig) -> Result<Self, RegistryError> {
        let mut urls = config.urls.iter().map(|url| url.trim_end_matches('/').to_owned());
        let mut builder = SrSettings::new_builder(urls.next().ok_or(RegistryError::Absent)?);
        for url in urls {
            builder.add_url(url);
        }
        let password = secret("password_file", &config.password, &config.password_file)?;
        let token = secret("token_file", &config.token, &config.token_file)?;
        if !config.user.is_empty() {
            builder.set_basic_authorization(&config.user, password.as_deref());
        } else if let Some(token) = &token {
            builder.set_token_authorization(token);
        }
        builder.set_timeout(config.request_timeout.0).no_proxy();
        builder.with_middleware(Guarded::up_to(config.schema_bytes.get()));
        let http = reqwest::Client::builder().connect_timeout(config.connect_timeout.0).redirect(Policy::none());
        let http = http.tls_backend_preconfigured(trust(&config.ca, &config.urls)?);
        let settings = builder.build_with(http).map_err(|error| RegistryError::Client(told(&error)))?;
        Ok(Self { settings, limit_bytes: config.schema_bytes.get() })
    }

    /// The schema with this id, with all that it refers to.
    pub(super) async fn fetch(&self, id: SchemaId) -> Result<Definition, Missed> {
        let found = match id {
            SchemaId::Number(number) => api::get_schema_by_id(number, &self.settings).await,
            SchemaId::Guid(guid) => api::get_schema_by_guid(&guid.to_string(), &self.settings).await,
        };
        let asked = if matches!(id, SchemaId::Guid(_)) { Asked::Guid } else { Asked::Number };
        let registered = found.map_err(|error| self.missed(&error, asked))?;
        self.whole(registered).await
    }

    /// A version of a subject, or its latest.
    ///
    /// # Errors
    /// If there is none, or the registry does not give it.
    pub async fn subject(&self, subject: &str, version: Option<u32>) -> Result<Subject, RegistryError> {
        let name = encoded(subject);
        let found = api::get_schema_by_subject_and_version(&self.settings, &name, version).await;
        let registered = found.map_err(|error| self.missed(&error, Asked::Number))?;
        let (version, id) = (registered.version.unwrap_or_default(), registered.id);
        Ok(Subject { version, id, definition: self.whole(registered).await? })
    }

    /// The names of all subjects.
    ///
    /// # Errors
    /// If the registry does not give them.
    pub async fn subjects(&self) -> Result<Vec<String>, RegistryError> {
        api::get_all_subjects(&self.settings).await.map_err(|error| self.missed(&error, Asked::Number).into())
    }

    /// Registers a schema as the next version of a subject, unless it is there already; gives its id. What it refers to is registered
    /// first, each under its own name.
    ///
    /// # Errors
    /// If the registry does not take it, for instance as it is not compatible with the version before.
    pub async fn register(&self, subject: &str, definition: &Definition) -> Result<u32, RegistryError> {
        let kind = match definition.format {
            Format::Avro => SchemaType::Avro,
            Format::Protobuf => SchemaType::Protobuf,
            Format::JsonSchema => SchemaType::Json,
        };
        let references = definition
            .references
            .iter()
            .map(|Reference { name, text }| SuppliedReference::new(name.clone(), encoded(name), text.clone()));
        let supplied = SuppliedSchema::new(None, kind, definition.text.clone()).with_references(references.collect());
        let registered = api::post_schema(&self.settings, encoded(subject), supplied).await;
        registered.map(|registered| registered.id).map_err(|error| self.missed(&error, Asked::Number).into())
    }

    /// A schema with all that it refers to, each fetched once.
    async fn whole(&self, registered: RegisteredSchema) -> Result<Definition, Missed> {
        let format = match registered.schema_type {
            SchemaType::Avro => Format::Avro,
            SchemaType::Protobuf => Format::Protobuf,
            SchemaType::Json => Format::JsonSchema,
            SchemaType::Other(kind) => return Err(Missed::Failed(RegistryError::Foreign(kind))),
            other => return Err(Missed::Failed(RegistryError::Foreign(format!("{other:?}")))),
        };
        let (mut seen, mut references) = (HashSet::new(), HashMap::new());
        let mut bytes = registered.schema.len();
        let too_large = || Missed::Failed(RegistryError::TooLarge { limit: self.limit_bytes });
        if bytes > self.limit_bytes {
            return Err(too_large());
        }
        let mut open = VecDeque::from(registered.references);
        while let Some(reference) = open.pop_front() {
            // Those that refer to each other would lead on for ever.
            if !seen.insert((reference.name.clone(), reference.subject.clone(), reference.version)) {
                continue;
            }
            if seen.len() > LIMIT_REFERENCES {
                let error = SchemaError::unusable(format, format!("it refers to more than {LIMIT_REFERENCES} schemas"));
                return Err(Missed::Failed(RegistryError::Schema(error)));
            }
            let part = self.reference(&reference).await?;
            bytes += part.schema.len();
            if bytes > self.limit_bytes {
                return Err(too_large());
            }
            open.extend(part.references);
            references.entry(reference.name).or_insert(part.schema);
        }
        let references = references.into_iter().map(|(name, text)| Reference { name, text }).collect();
        Ok(Definition { format, text: registered.schema, references })
    }

    async fn reference(&self, reference: &RegisteredReference) -> Result<RegisteredSchema, Missed> {
        let (subject, version) = (encoded(&reference.subject), reference.version);
        let found = api::get_schema_by_subject_and_version(&self.settings, &subject, Some(version)).await;
        found.map_err(|error| self.missed(&error, Asked::Number))
    }

    /// What an answer means that is no schema.
    fn missed(&self, error: &SRCError, asked: Asked) -> Missed {
        let Some(failure) = error.source().and_then(|source| source.downcast_ref::<reqwest_middleware::Error>()) else {
            return Missed::Failed(RegistryError::away(format!("what answers is no registry: {}", told(error))));
        };
        let reply = match failure {
            reqwest_middleware::Error::Middleware(within) => within.downcast_ref::<Reply>(),
            reqwest_middleware::Error::Reqwest(_) => None,
        };
        match reply {
            None => Missed::Failed(RegistryError::away(in_full(failure))),
            Some(Reply::TooLarge) => Missed::Failed(RegistryError::TooLarge { limit: self.limit_bytes }),
            Some(Reply::Status { status: 404, code: Some(code), told, .. }) if UNKNOWN.contains(code) => {
                Missed::Unknown(told.clone())
            }
            Some(Reply::Status { status: 404, told, .. }) if asked == Asked::Guid => {
                Missed::Unknown(format!("{told} (or it is too old to know schemas by GUID)"))
            }
            Some(Reply::Status { status: status @ (401 | 403), told, .. }) => {
                Missed::Failed(RegistryError::Forbidden { status: *status, told: told.clone() })
            }
            Some(Reply::Status { status: status @ (409 | 422), told, .. }) => {
                Missed::Failed(RegistryError::Refused { status: *status, told: told.clone() })
            }
            Some(Reply::Status { status, told, again, .. }) => {
                Missed::Failed(RegistryError::Away { why: format!("{status}: {told}"), again: *again })
            }
        }
    }
}

fn encoded(subject: &str) -> String {
    utf8_percent_encode(subject, PLAIN).to_string()
}

/// The library's words, without its own flags.
fn told(error: &SRCError) -> String {
    error.cause.clone().map_or_else(|| error.error.clone(), |cause| format!("{}: {cause}", error.error))
}

/// The text with those of the sources: the outermost of a failed request does not say why.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}

/// The secret itself, or what stands in its file.
fn secret(key: &'static str, secret: &str, file: &str) -> Result<Option<String>, RegistryError> {
    if file.is_empty() {
        return Ok(Some(secret.to_owned()).filter(|secret| !secret.is_empty()));
    }
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| RegistryError::File { key, file: file.to_owned(), why: error.to_string() })?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// How long a registry that says so wants to be left alone.
fn seconds(text: &str) -> Option<Duration> {
    text.trim().parse().ok().map(Duration::from_secs)
}
