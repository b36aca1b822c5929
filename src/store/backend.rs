//! The backend: which database the store stands on.
//!
//! Owns: opening it by its URL, now or once the server answers, and what an error of any driver weighs. An enum, for there are two; the
//! statements are the same for both. Neighbours: `sqlite` and `postgres` know their own, `schema` what their tables must be,
//! `connection` runs statements.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;
use sqlx::{Database as Driver, Pool, Postgres, Sqlite};
use tidings_core::fate::Fate;
use tokio::sync::Mutex;

use super::connection::{Connection, run};
use super::schema::{self, Schema};
use super::{StoreError, Weight, postgres, sqlite};
use crate::config::{Database, StoreConfig};

/// An open database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    backend: Backend,
    /// How long a server may take for an answer. A file's own waits have a bound.
    answer_limit: Option<Duration>,
    /// Shared by all clones: whoever asks first once the database answers sees to the schema.
    opening: Arc<Opening>,
}

/// Whether the schema is as it must be.
#[derive(Debug)]
struct Opening {
    schema: Schema,
    is_done: AtomicBool,
    turn: Mutex<()>,
}

/// Where tables are that stand beside those in use.
#[derive(Debug, Clone)]
pub(super) enum Site {
    /// In a file.
    File(PathBuf),
    /// In another schema of the server with this URL.
    Schema { url: String, name: String },
}

#[derive(Debug, Clone)]
enum Backend {
    Sqlite(Pools<Sqlite>, Arc<sqlite::Opened>),
    Postgres(Pools<Postgres>),
}

/// One connection that writes, some that read.
#[derive(Debug)]
pub(super) struct Pools<D: Driver> {
    pub(super) writer: Pool<D>,
    pub(super) readers: Pool<D>,
}

// Derived, it would ask the driver to be cloned.
impl<D: Driver> Clone for Pools<D> {
    fn clone(&self) -> Self {
        Self { writer: self.writer.clone(), readers: self.readers.clone() }
    }
}

impl Store {
    /// Opens the database. Its schema is brought up to date if the configuration allows that; a file is made if it is absent. A server
    /// that does not answer is no error: whoever needs it waits for it, and the schema is seen to when it answers.
    ///
    /// # Errors
    /// If it cannot be opened, is not ours, or its schema is none that this release may work on.
    pub async fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        let store = Self::new(config, if config.migrate { Schema::Migrated } else { Schema::AsItIs })?;
        match store.opened().await {
            Err(error) if store.is_served() && error.cause().fate() == Fate::RetryInPlace => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, source, "what needs the database waits for it");
                Ok(store)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(store),
        }
    }

    /// Opens the database and brings its schema up to date.
    ///
    /// # Errors
    /// If it cannot be opened or is not ours.
    pub async fn migrate(config: &StoreConfig) -> Result<Self, StoreError> {
        let store = Self::new(config, Schema::Migrated)?;
        store.opened().await?;
        Ok(store)
    }

    /// Makes tables in another place.
    pub(super) async fn open_beside(config: &StoreConfig, site: Site) -> Result<Self, StoreError> {
        let (backend, answer_limit) = match site {
            Site::File(path) => (Backend::on_file(&path, config), None),
            Site::Schema { url, name } => {
                (Backend::Postgres(postgres::open((&url, Some(&name)), config)?), Some(config.answer_timeout.0))
            }
        };
        let store = Self::on(backend, answer_limit, Schema::Migrated);
        store.opened().await?;
        Ok(store)
    }

    fn new(config: &StoreConfig, schema: Schema) -> Result<Self, StoreError> {
        let (backend, answer_limit) = match &config.url {
            Database::Sqlite(path) => (Backend::on_file(path, config), None),
            Database::Postgres(url) => (Backend::Postgres(postgres::open((url, None), config)?), Some(config.answer_timeout.0)),
        };
        Ok(Self::on(backend, answer_limit, schema))
    }

    fn on(backend: Backend, answer_limit: Option<Duration>, schema: Schema) -> Self {
        let opening = Opening { schema, is_done: AtomicBool::new(false), turn: Mutex::new(()) };
        Self { backend, answer_limit, opening: Arc::new(opening) }
    }

    /// Sees to the schema, if nobody has yet.
    async fn opened(&self) -> Result<(), StoreError> {
        if self.opening.is_done.load(Ordering::Acquire) {
            return Ok(());
        }
        let _turn = self.opening.turn.lock().await;
        if self.opening.is_done.load(Ordering::Acquire) {
            return Ok(());
        }
        let schema = self.opening.schema;
        match &self.backend {
            Backend::Sqlite(pools, opened) => {
                sqlite::ready(&pools.writer, schema).await.map_err(|error| opened.refused(error))?;
                opened.remember();
            }
            Backend::Postgres(pools) => schema::ready(&pools.writer, &postgres::MIGRATIONS, schema).await?,
        }
        self.opening.is_done.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether a server has it, which may be away.
    #[must_use]
    pub fn is_served(&self) -> bool {
        matches!(self.backend, Backend::Postgres(_))
    }

    /// Whether it answers, and its tables are as they must be.
    ///
    /// # Errors
    /// If not.
    pub async fn answers(&self) -> Result<(), StoreError> {
        self.answered(async { Ok(run!(&mut self.reader().await?, |it| sqlx::query("SELECT 1").execute(it).await.map(|_| ()))?) })
            .await
    }

    /// How many migrations this release knows of this database.
    #[must_use]
    pub fn schema_version(&self) -> i64 {
        match &self.backend {
            Backend::Sqlite(..) => schema::version(&sqlite::MIGRATIONS),
            Backend::Postgres(_) => schema::version(&postgres::MIGRATIONS),
        }
    }

    pub(super) async fn writer(&self) -> Result<Connection, StoreError> {
        self.opened().await?;
        Ok(match &self.backend {
            Backend::Sqlite(pools, opened) => {
                opened.expect_there()?;
                Connection::Sqlite(pools.writer.acquire().await?)
            }
            Backend::Postgres(pools) => Connection::Postgres(pools.writer.acquire().await?),
        })
    }

    pub(super) async fn reader(&self) -> Result<Connection, StoreError> {
        self.opened().await?;
        Ok(match &self.backend {
            Backend::Sqlite(pools, opened) => {
                opened.expect_there()?;
                Connection::Sqlite(pools.readers.acquire().await?)
            }
            Backend::Postgres(pools) => Connection::Postgres(pools.readers.acquire().await?),
        })
    }

    /// Waits for an answer, but not for ever: a server may hang, and the network may swallow what it says.
    pub(super) fn answered<T>(
        &self,
        asking: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> impl Future<Output = Result<T, StoreError>> + Send {
        // A statement is a future of ten kibibytes. Boxed here, it weighs nothing in those who may never ask.
        let (limit, asking) = (self.answer_limit, Box::pin(asking));
        async move {
            match limit {
                None => asking.await,
                Some(limit) => tokio::time::timeout(limit, asking).await.unwrap_or(Err(StoreError::Silent(limit))),
            }
        }
    }

    /// Closes all connections once their work is done.
    pub async fn close(&self) {
        match &self.backend {
            Backend::Sqlite(pools, _) => pools.close().await,
            Backend::Postgres(pools) => pools.close().await,
        }
    }
}

impl Backend {
    fn on_file(path: &Path, config: &StoreConfig) -> Self {
        Self::Sqlite(sqlite::open(path, config), Arc::new(sqlite::Opened::new(path)))
    }
}

impl<D: Driver> Pools<D> {
    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let weight = match &error {
            sqlx::Error::Database(of_database) => weigh(&**of_database),
            // What a stranger's certificate comes as.
            sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => Weight::Denied,
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => Weight::Passing,
            sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => Weight::Denied,
            _ => Weight::Final,
        };
        match weight {
            Weight::Passing => Self::Unavailable(error),
            Weight::Denied => Self::Denied(error),
            Weight::Final => Self::Broken(error),
        }
    }
}

fn weigh(error: &dyn DatabaseError) -> Weight {
    if let Some(error) = error.try_downcast_ref::<SqliteError>() {
        return sqlite::weigh(error);
    }
    error.try_downcast_ref::<PgDatabaseError>().map_or(Weight::Passing, postgres::weigh)
}
