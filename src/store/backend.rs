//! The backend: which database the store stands on.
//!
//! Owns: opening it by its URL, with the schema it must have, and what an error of any driver weighs. An enum, for there are two; the
//! statements are the same for both. Neighbours: `sqlite` and `postgres` know their own, `connection` runs statements.

use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;
use sqlx::{Database as Driver, Pool, Postgres, Sqlite};

use super::connection::Connection;
use super::{StoreError, Weight, postgres, sqlite};
use crate::config::{Database, StoreConfig};

/// An open database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    backend: Backend,
    /// How long a server may take for an answer. A file's own waits have a bound.
    answer_limit: Option<Duration>,
}

#[derive(Debug, Clone)]
enum Backend {
    Sqlite(Pools<Sqlite>),
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

/// What opening does about the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Schema {
    /// Brings it up to this release's.
    Migrated,
    /// Refuses one that is older.
    AsItIs,
}

impl Store {
    /// Opens the database. Its schema is brought up to date if the configuration allows that; a file is made if it is absent.
    ///
    /// # Errors
    /// If it cannot be opened, is not ours, or is older than this release and must stay so.
    pub async fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        Self::open_with(config, if config.migrate { Schema::Migrated } else { Schema::AsItIs }).await
    }

    /// Opens the database and brings its schema up to date.
    ///
    /// # Errors
    /// If it cannot be opened or is not ours.
    pub async fn migrate(config: &StoreConfig) -> Result<Self, StoreError> {
        Self::open_with(config, Schema::Migrated).await
    }

    async fn open_with(config: &StoreConfig, schema: Schema) -> Result<Self, StoreError> {
        Ok(match &config.url {
            Database::Sqlite(path) => {
                Self { backend: Backend::Sqlite(sqlite::open(path, config, schema).await?), answer_limit: None }
            }
            Database::Postgres(url) => Self {
                backend: Backend::Postgres(postgres::open(url, config, schema).await?),
                answer_limit: Some(config.answer_timeout.0),
            },
        })
    }

    /// How many migrations this release knows of this database.
    #[must_use]
    pub fn schema_version(&self) -> i64 {
        match &self.backend {
            Backend::Sqlite(_) => version(&sqlite::MIGRATIONS),
            Backend::Postgres(_) => version(&postgres::MIGRATIONS),
        }
    }

    pub(super) async fn writer(&self) -> Result<Connection, StoreError> {
        Ok(match &self.backend {
            Backend::Sqlite(pools) => Connection::Sqlite(pools.writer.acquire().await?),
            Backend::Postgres(pools) => Connection::Postgres(pools.writer.acquire().await?),
        })
    }

    pub(super) async fn reader(&self) -> Result<Connection, StoreError> {
        Ok(match &self.backend {
            Backend::Sqlite(pools) => Connection::Sqlite(pools.readers.acquire().await?),
            Backend::Postgres(pools) => Connection::Postgres(pools.readers.acquire().await?),
        })
    }

    /// Waits for an answer, but not for ever: a server may hang, and the network may swallow what it says.
    pub(super) async fn answered<T>(&self, asking: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        match self.answer_limit {
            None => asking.await,
            Some(limit) => tokio::time::timeout(limit, asking).await.unwrap_or(Err(StoreError::Silent(limit))),
        }
    }

    /// Closes all connections once their work is done.
    pub async fn close(&self) {
        match &self.backend {
            Backend::Sqlite(pools) => pools.close().await,
            Backend::Postgres(pools) => pools.close().await,
        }
    }
}

impl<D: Driver> Pools<D> {
    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Sees to the schema of a database that was opened.
pub(super) async fn ready<D: Driver>(pool: &Pool<D>, migrations: &Migrator, schema: Schema) -> Result<(), StoreError>
where
    D::Connection: Migrate,
{
    let mut connection = pool.acquire().await?;
    match schema {
        Schema::Migrated => migrations.run_direct(None, &mut *connection, false).await?,
        Schema::AsItIs => {
            let found = match connection.list_applied_migrations(&migrations.table_name).await {
                Ok(applied) => applied.iter().map(|migration| migration.version).max().unwrap_or(0),
                // There is not even the table that lists them, and it is not ours to make here.
                Err(MigrateError::Execute(sqlx::Error::Database(_))) => 0,
                Err(error) => return Err(error.into()),
            };
            let needed = version(migrations);
            if found < needed {
                return Err(StoreError::Outdated { found, needed });
            }
        }
    }
    Ok(())
}

fn version(migrations: &Migrator) -> i64 {
    migrations.iter().map(|migration| migration.version).max().unwrap_or(0)
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let weight = match &error {
            sqlx::Error::Database(of_database) => weigh(&**of_database),
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => Weight::Passing,
            _ => Weight::Final,
        };
        match weight {
            Weight::Passing => Self::Unavailable(error),
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

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) => error.into(),
            other => Self::Migration(other),
        }
    }
}
