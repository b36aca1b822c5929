//! SQLite: the file, its connections and its schema.
//!
//! Owns: one connection that writes and a few that read, that the file is still there, and which of its errors waiting may mend. Neighbours: `backend`.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteError, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool};

use super::backend::Pools;
use super::schema::{self, Schema};
use super::{StoreError, Weight};
use crate::config::StoreConfig;

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// SQLite's primary result codes (<https://sqlite.org/rescode.html>) that waiting does not mend: ERROR, INTERNAL, CORRUPT, SCHEMA,
/// TOOBIG, CONSTRAINT, MISMATCH, MISUSE, FORMAT, RANGE, NOTADB.
const FINAL_CODES: [i32; 11] = [1, 2, 11, 17, 18, 19, 20, 21, 24, 25, 26];

/// SQLite's primary result code for a file that it cannot open.
const CANTOPEN: i32 = 14;

/// How often a database is tried to be opened, and the pause between two tries.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(50);

/// How many pages of 4 KiB are written to the WAL before they go into the file: ids are random, so a page that is written often meanwhile
/// goes there once.
const CHECKPOINT_PAGES: usize = 4_096;

/// The file that was opened. SQLite goes on with it when it has no name any more.
#[derive(Debug)]
pub(super) struct Opened {
    path: PathBuf,
    /// Its device and number, once it is there. Shared: all clones of a store see to one file.
    file: OnceLock<Option<(u64, u64)>>,
}

impl Opened {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), file: OnceLock::new() }
    }

    /// Why it could not be opened, with its name if that is what is wrong.
    pub(super) fn refused(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Unavailable(source) if code(&source) == Some(CANTOPEN) => {
                StoreError::Unopened { file: self.path.display().to_string(), source }
            }
            other => other,
        }
    }

    /// It was opened just now.
    pub(super) fn remember(&self) {
        self.file.get_or_init(|| file(&self.path));
    }

    /// Whether it is still where it was.
    pub(super) fn expect_there(&self) -> Result<(), StoreError> {
        let is_there = self.file.get().is_none_or(|opened| file(&self.path) == *opened);
        if is_there { Ok(()) } else { Err(StoreError::Gone { file: self.path.display().to_string() }) }
    }
}

fn file(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Opens no file yet: [`ready`] does.
pub(super) fn open(path: &Path, config: &StoreConfig) -> Pools<Sqlite> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // A power cut may take the last transactions, but rows and positions of each together: what was lost is folded again.
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(config.busy_timeout.0)
        .foreign_keys(true)
        // What undoes a statement that fails halfway: of some thousand rows at most.
        .pragma("temp_store", "MEMORY")
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string());
    let writer = pool(1, config).connect_lazy_with(options.clone().pragma("cache_size", cache_size(config)));
    // Readers are kept from writing by SQLite itself; a connection opened read-only could not make the WAL's index.
    let readers = pool(config.readers.get(), config).connect_lazy_with(options.pragma("query_only", "ON"));
    Pools { writer, readers }
}

/// Sees to the schema. Two processes may meet a new database at the same moment. No lock spans all migrations, and SQLite does not wait for
/// the one that WAL is begun with: whoever comes second fails, and finds it done when it looks again.
pub(super) async fn ready(writer: &SqlitePool, schema: Schema) -> Result<(), StoreError> {
    let mut tries = 1;
    loop {
        match schema::ready(writer, &MIGRATIONS, schema).await {
            Err(error @ (StoreError::Outdated { .. } | StoreError::TooNew { .. })) => return Err(error),
            Err(_) if tries < TRIES => tries += 1,
            outcome => return outcome,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What the writer keeps, as the pragma wants it: negative, in KiB (<https://sqlite.org/pragma.html#pragma_cache_size>). What a reader keeps
/// is void with each transaction of the writer, so more than SQLite's own default costs more than it brings.
fn cache_size(config: &StoreConfig) -> String {
    format!("-{}", (config.cache_bytes.get() / 1024).max(1))
}

fn pool(connections: u32, config: &StoreConfig) -> SqlitePoolOptions {
    SqlitePoolOptions::new().max_connections(connections).acquire_timeout(config.busy_timeout.0).test_before_acquire(false)
}

/// What an error of SQLite's weighs.
pub(super) fn weigh(error: &SqliteError) -> Weight {
    if primary_code(error).is_some_and(|code| FINAL_CODES.contains(&code)) { Weight::Final } else { Weight::Passing }
}

fn code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error().and_then(primary_code)
}

fn primary_code(error: &dyn DatabaseError) -> Option<i32> {
    error.code()?.parse::<i32>().ok().map(|code| code & 0xff)
}
