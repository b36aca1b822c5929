//! The schema registry: the schemas that records are written with, fetched once, kept, and never waited for by a thread that has other work.
//!
//! Owns: asking the registry, what is kept of its answers and for how long, and reading a record's parts with them. Refuses to decide
//! what becomes of a record. Neighbours: core `schema` reads bytes, `pipeline` and `replay` decide on what is read, `kafka::dispatch` leaves
//! partitions alone that wait for a schema.

mod client;
mod desk;
mod error;
mod meters;
mod shelf;

use std::sync::Arc;
use std::time::Duration;

use tidings_core::event::{Explained, Reading, SourceRecord, Written};
use tidings_core::rules::Burial;
use tidings_core::schema::{Framed, Read, Schema, SchemaError};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::RegistryConfig;
use crate::kafka::dispatch::Awaited;
use crate::telemetry::Metrics;

use self::desk::Desk;
use self::meters::Meters;
use self::shelf::Found;

pub use client::{Client, Subject};
pub use error::RegistryError;

const ROOM: &str = "registry";
/// How often who waits for a schema looks whether it is there.
const NAP: Duration = Duration::from_millis(10);

/// A registry's schemas. Clones share them; without a registry there are none.
#[derive(Clone, Default)]
pub struct Registry(Option<Arc<Desk>>);

/// What became of a record's parts.
pub enum Explanation {
    /// They are read, or have no schema.
    Ready(Explained),
    /// Their schema is on its way.
    Wait(Awaited),
    /// They cannot be read, whenever it is tried.
    Bury(Burial),
    /// The registry does not let us in.
    Forbidden(Arc<RegistryError>),
}

impl Registry {
    /// The registry that is configured, if one is. Its thread runs until [`Registry::served`] is stopped or the last clone is dropped. It
    /// is not asked for anything yet.
    ///
    /// # Errors
    /// If a file that the configuration names cannot be used, or the system gives no thread.
    pub fn start(config: &RegistryConfig, clock: Clock, metrics: &Metrics) -> Result<Self, RegistryError> {
        let meters = Meters::default();
        metrics.register(ROOM, |shelf| meters.register(shelf));
        if config.urls.is_empty() {
            return Ok(Self::default());
        }
        Desk::start(config, clock, meters).map(|desk| Self(Some(Arc::new(desk))))
    }

    /// Runs until it is stopped, and then until the thread has ended.
    ///
    /// # Errors
    /// If the thread ends otherwise.
    pub async fn served(self, stop: CancellationToken) -> Result<(), RegistryError> {
        match &self.0 {
            Some(desk) => desk.served(stop).await,
            None => {
                stop.cancelled().await;
                Ok(())
            }
        }
    }

    /// Reads the parts of a record that have a schema.
    #[must_use]
    pub fn explain(&self, record: &SourceRecord<'_>, reading: &Reading) -> Explanation {
        let value = match reading.frame(record).map(|framed| self.known(framed, reading.format)) {
            Ok(Part::None) => None,
            Ok(Part::Read(read)) => Some(read),
            Ok(Part::Not(explanation)) => return explanation,
            Err(error) => return bury(&RegistryError::Schema(error)),
        };
        let key = match reading.frame_of_key(record).map(|framed| self.known(framed, reading.key_format)) {
            Ok(Part::None) => None,
            Ok(Part::Read(read)) => Some(read.value),
            Ok(Part::Not(explanation)) => return explanation,
            Err(error) => return bury(&RegistryError::Schema(error)),
        };
        Explanation::Ready(Explained { value, key })
    }

    /// The same, waiting for schemas for a while: an unknown one as long as the pipeline would, unless the caller stops it.
    ///
    /// # Errors
    /// If the registry does not answer for so long, or does not let us in; or the caller stopped it.
    pub fn explained(
        &self,
        record: &SourceRecord<'_>,
        reading: &Reading,
        stop: &CancellationToken,
    ) -> Result<Result<Explained, Burial>, Arc<RegistryError>> {
        let waiting = self.0.as_ref().map(|desk| desk.waiting());
        loop {
            let awaited = match self.explain(record, reading) {
                Explanation::Ready(explained) => return Ok(Ok(explained)),
                Explanation::Bury(burial) => return Ok(Err(burial)),
                Explanation::Forbidden(error) => return Err(error),
                Explanation::Wait(awaited) => awaited,
            };
            // Also if there was no room to ask for it: then it is over at once.
            loop {
                if stop.is_cancelled() {
                    return Err(Arc::new(RegistryError::Stopped));
                }
                if waiting.as_ref().is_some_and(|waiting| waiting.is_over()) {
                    let why = awaited.trouble().unwrap_or_else(|| "no answer yet".to_owned());
                    return Err(Arc::new(RegistryError::away(why)));
                }
                std::thread::sleep(NAP);
                if awaited.is_over() {
                    break;
                }
            }
        }
    }

    fn known(&self, framed: Option<Framed<'_>>, written: Written) -> Part {
        let Some(framed) = framed else { return Part::None };
        let Some(desk) = &self.0 else {
            // A value whose schema stands in a header may be read without it.
            let needs_it = framed.is_prefixed() || !matches!(written, Written::Auto | Written::None);
            return if needs_it { Part::Not(bury(&RegistryError::Absent)) } else { Part::None };
        };
        match desk.find(framed.id) {
            Found::Schema(schema) => read(&schema, &framed, written),
            Found::Failed(error) if error.is_forbidden() => Part::Not(Explanation::Forbidden(error)),
            Found::Failed(error) => Part::Not(bury(&error)),
            Found::Awaited(awaited) => Part::Not(Explanation::Wait(awaited)),
        }
    }
}

enum Part {
    /// It has no schema.
    None,
    Read(Read),
    Not(Explanation),
}

fn read(schema: &Schema, framed: &Framed<'_>, written: Written) -> Part {
    let read = written.expect(schema.format()).and_then(|()| schema.read(framed));
    let named = |error: SchemaError| RegistryError::Misread { id: framed.id, source: error };
    read.map_or_else(|error| Part::Not(bury(&named(error))), Part::Read)
}

fn bury(error: &RegistryError) -> Explanation {
    Explanation::Bury(Burial::new("decode", error.cause(), error.class(), error.in_full()))
}
