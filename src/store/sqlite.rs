//! SQLite: the file, its connections and its schema.
//!
//! Owns: one connection that writes and a few that read. Neighbours: `fold` writes, `read` reads.

use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::StoreError;
use super::connection::Connection;
use crate::config::StoreConfig;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

const READERS: u32 = 4;

/// SQLite's primary result codes (<https://sqlite.org/rescode.html>) that waiting does not mend: ERROR, INTERNAL, CORRUPT, SCHEMA,
/// TOOBIG, CONSTRAINT, MISMATCH, MISUSE, FORMAT, RANGE, NOTADB.
const FINAL_CODES: [i32; 11] = [1, 2, 11, 17, 18, 19, 20, 21, 24, 25, 26];

/// How often a database is tried to be opened, and the pause between two tries.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(50);

/// Two processes may meet a new database at the same moment. No lock spans all migrations, and SQLite does not wait for the one
/// that WAL is begun with: whoever comes second fails, and finds it done when it looks again.
async fn writer(options: &SqliteConnectOptions, config: &StoreConfig) -> Result<SqlitePool, StoreError> {
    let mut tries = 1;
    loop {
        match migrated(options.clone(), config).await {
            Err(_) if tries < TRIES => tries += 1,
            outcome => return outcome,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn migrated(options: SqliteConnectOptions, config: &StoreConfig) -> Result<SqlitePool, StoreError> {
    let writer = pool(1, config).connect_with(options).await?;
    MIGRATIONS.run(&writer).await?;
    Ok(writer)
}

/// An open database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Store {
    /// Opens the database, makes it if it is absent, and brings its schema up to date.
    ///
    /// # Errors
    /// If the file cannot be opened or is not ours.
    pub async fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(&config.path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A power cut may take the last transactions, but rows and positions of each together: what was lost is folded again.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(config.busy_timeout.0)
            .foreign_keys(true);
        let writer = writer(&options, config).await?;
        // Readers are kept from writing by SQLite itself; a connection opened read-only could not make the WAL's index.
        let readers = pool(READERS, config).connect_lazy_with(options.pragma("query_only", "ON"));
        Ok(Self { writer, readers })
    }

    /// How many migrations this release knows.
    #[must_use]
    pub fn schema_version() -> i64 {
        MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
    }

    pub(super) async fn writer(&self) -> Result<Connection, StoreError> {
        Ok(Connection::Sqlite(self.writer.acquire().await?))
    }

    pub(super) async fn reader(&self) -> Result<Connection, StoreError> {
        Ok(Connection::Sqlite(self.readers.acquire().await?))
    }

    /// Closes all connections once their work is done.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

fn pool(connections: u32, config: &StoreConfig) -> SqlitePoolOptions {
    SqlitePoolOptions::new().max_connections(connections).acquire_timeout(config.busy_timeout.0).test_before_acquire(false)
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<i32>().ok());
        match (&error, code) {
            (_, Some(code)) if FINAL_CODES.contains(&(code & 0xff)) => Self::Broken(error),
            (sqlx::Error::Database(_) | sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed, _) => {
                Self::Unavailable(error)
            }
            _ => Self::Broken(error),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        match error {
            sqlx::migrate::MigrateError::Execute(error) => error.into(),
            other => Self::Migration(other),
        }
    }
}
