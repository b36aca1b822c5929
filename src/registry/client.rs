//! The client: what is asked of a registry over HTTP, by Confluent's API.
//!
//! Owns: whom it asks, as whom, and what an answer means. schema_registry_converter speaks the API; what it does not tell apart
//! (statuses, how much comes) is seen to on the way by `Guarded`. Refuses to keep anything, to follow references round in a circle, and to be
//! sent elsewhere. Neighbours: `desk` asks for what records need, commands for what people ask.

mod guarded;
mod sites;

use std::collections::HashSet;
use std::error::Error;
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
use self::sites::{Site, Sites};
use super::error::{RegistryError, in_full};

/// The most schemas that one may refer to, directly or not.
const LIMIT_REFERENCES: usize = 256;
/// What a registry says that does not have a subject, a version or a schema. A path that it does not have is a plain 404 to it, also as a code.
const UNKNOWN: RangeInclusive<u32> = 40_401..=40_403;
/// What may stand in the name of a subject within a path.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Asks one registry.
pub struct Client {
    sites: Sites,
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

/// What is to be done for a schema that is referred to.
enum Step {
    Ask(RegisteredReference),
    /// It is there, and all that it refers to has been kept.
    Keep(Reference),
}

/// The steps for what a schema refers to. The last one is taken first.
fn steps(references: Vec<RegisteredReference>) -> impl Iterator<Item = Step> {
    references.into_iter().rev().map(Step::Ask)
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
        if config.urls.is_empty() {
            return Err(RegistryError::Absent);
        }
        let password = secret("password_file", &config.password, &config.password_file)?;
        let token = secret("token_file", &config.token, &config.token_file)?;
        let trusted = trust(&config.ca, &config.urls)?;
        let site = |url: &String| {
            let url = url.trim_end_matches('/').to_owned();
            let mut builder = SrSettings::new_builder(url.clone());
            if !config.user.is_empty() {
                builder.set_basic_authorization(&config.user, password.as_deref());
            } else if let Some(token) = &token {
                builder.set_token_authorization(token);
            }
            builder.set_timeout(config.request_timeout.0).no_proxy();
            builder.with_middleware(Guarded::up_to(config.schema_bytes.get()));
            let http = reqwest::Client::builder().connect_timeout(config.connect_timeout.0).redirect(Policy::none());
            let settings = builder.build_with(http.tls_backend_preconfigured(trusted.clone()));
            settings.map(|settings| Site { url, settings }).map_err(|error| RegistryError::Client(told(&error)))
        };
        let sites = config.urls.iter().map(site).collect::<Result<_, _>>()?;
        Ok(Self { sites: Sites::new(sites), limit_bytes: config.schema_bytes.get() })
    }

    /// The schema with this id, with all that it refers to.
    pub(super) async fn fetch(&self, id: SchemaId) -> Result<Definition, Missed> {
        let registered = match id {
            SchemaId::Number(number) => self.asked(async |site| api::get_schema_by_id(number, site).await, Asked::Number).await?,
            SchemaId::Guid(guid) => {
                let guid = guid.to_string();
                self.asked(async |site| api::get_schema_by_guid(&guid, site).await, Asked::Guid).await?
            }
        };
        self.whole(registered).await
    }

    /// A version of a subject, or its latest.
    ///
    /// # Errors
    /// If there is none, or the registry does not give it.
    pub async fn subject(&self, subject: &str, version: Option<u32>) -> Result<Subject, RegistryError> {
        let registered = self.version(subject, version).await?;
        let (version, id) = (registered.version.unwrap_or_default(), registered.id);
        Ok(Subject { version, id, definition: self.whole(registered).await? })
    }

    /// The names of all subjects.
    ///
    /// # Errors
    /// If the registry does not give them.
    pub async fn subjects(&self) -> Result<Vec<String>, RegistryError> {
        Ok(self.asked(async |site| api::get_all_subjects(site).await, Asked::Number).await?)
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
        let post = async |site: &SrSettings| api::post_schema(site, encoded(subject), supplied.clone()).await;
        Ok(self.asked(post, Asked::Number).await?.id)
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
        let (mut seen, mut references) = (HashSet::new(), Vec::new());
        let mut bytes = registered.schema.len();
        let mut open = steps(registered.references).collect::<Vec<_>>();
        while let Some(step) = open.pop() {
            if bytes > self.limit_bytes {
                break;
            }
            let reference = match step {
                Step::Ask(reference) => reference,
                Step::Keep(reference) => {
                    references.push(reference);
                    continue;
                }
            };
            // Those that refer to each other would lead on for ever. As the registry has it, a name means one schema: the first.
            if !seen.insert(reference.name.clone()) {
                continue;
            }
            if seen.len() > LIMIT_REFERENCES {
                let error = SchemaError::unusable(format, format!("it refers to more than {LIMIT_REFERENCES} schemas"));
                return Err(Missed::Failed(RegistryError::Schema(error)));
            }
            let part = self.version(&reference.subject, Some(reference.version)).await?;
            bytes += part.schema.len();
            open.push(Step::Keep(Reference { name: reference.name, text: part.schema }));
            open.extend(steps(part.references));
        }
        if bytes > self.limit_bytes {
            return Err(Missed::Failed(RegistryError::TooLarge { limit: self.limit_bytes }));
        }
        Ok(Definition { format, text: registered.schema, references })
    }

    async fn version(&self, subject: &str, version: Option<u32>) -> Result<RegisteredSchema, Missed> {
        let name = encoded(subject);
        let get = async |site: &SrSettings| api::get_schema_by_subject_and_version(site, &name, version).await;
        self.asked(get, Asked::Number).await
    }

    async fn asked<T>(&self, call: impl AsyncFn(&SrSettings) -> Result<T, SRCError>, asked: Asked) -> Result<T, Missed> {
        self.sites.ask(call, |error| self.missed(error, asked)).await
    }

    /// What an answer means that is no schema.
    fn missed(&self, error: &SRCError, asked: Asked) -> Missed {
        // What a registry says of a schema that another one refers to lies deeper.
        let mut sources = std::iter::successors(error.source(), |error| (*error).source());
        let Some(failure) = sources.find_map(|source| source.downcast_ref::<reqwest_middleware::Error>()) else {
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
