//! A registry as commands ask it.
//!
//! Owns: which one it is, and how a failure is told to somebody who waits for it: nobody asks again by itself here. Neighbours: `registry` has the
//! client, `check` and `schemas` ask.

use anyhow::Context as _;
use tidings_core::schema::Definition;

use crate::config::RegistryConfig;
use crate::registry::{Client, RegistryError, Subject};

/// The most names of subjects that are shown.
const LIMIT_SHOWN: usize = 20;

/// One registry.
pub(in crate::cli) struct Asked {
    client: Client,
    /// Where it is, for people.
    place: String,
}

impl Asked {
    /// The registry that is named, else the one that is configured.
    pub(in crate::cli) fn new(url: Option<&str>, config: &RegistryConfig) -> anyhow::Result<Self> {
        let mut config = config.clone();
        if let Some(url) = url {
            config.urls = vec![url.to_owned()];
        }
        anyhow::ensure!(!config.urls.is_empty(), "there is no registry: name one (--registry URL), or configure `registry.urls`");
        let place = config.urls.join(", ");
        let client = Client::new(&config).with_context(|| format!("the registry {place} cannot be asked"))?;
        Ok(Self { client, place })
    }

    /// A version of a subject, or its latest; nothing if it has none.
    pub(in crate::cli) async fn subject(&self, name: &str, version: Option<u32>) -> anyhow::Result<Option<Subject>> {
        match self.client.subject(name, version).await {
            Ok(subject) => Ok(Some(subject)),
            Err(RegistryError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(self.failed(name, &error)),
        }
    }

    /// The id that a schema has there now, or why the registry does not take it.
    pub(super) async fn register(&self, name: &str, definition: &Definition) -> anyhow::Result<Result<u32, String>> {
        match self.client.register(name, definition).await {
            Ok(id) => Ok(Ok(id)),
            Err(RegistryError::Refused { told, .. }) => Ok(Err(told)),
            Err(error) => Err(self.failed(name, &error)),
        }
    }

    /// That a subject is not there, with those that are.
    pub(in crate::cli) async fn missing(&self, name: &str) -> anyhow::Error {
        let there = match self.client.subjects().await {
            Err(error) => return self.failed(name, &error),
            Ok(there) if there.is_empty() => "it has none at all".to_owned(),
            Ok(there) => {
                let shown = there.iter().take(LIMIT_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
                let more = there.len().saturating_sub(LIMIT_SHOWN);
                if more == 0 { format!("it has {shown}") } else { format!("it has {shown}, and {more} more") }
            }
        };
        anyhow::anyhow!("the registry {} has no subject {name}: {there}", self.place)
    }

    fn failed(&self, name: &str, error: &RegistryError) -> anyhow::Error {
        let why = match error {
            RegistryError::Away { why, .. } => {
                format!("it does not answer as a registry: {why}; see that it runs, and what --registry or `registry.urls` names")
            }
            error => error.in_full(),
        };
        anyhow::anyhow!("the subject {name} of the registry {}: {why}", self.place)
    }
}
