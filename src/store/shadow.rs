//! The shadow: tables beside those in use, which take their place in one transaction.
//!
//! Owns: a file beside SQLite's (`….rebuild`) or a schema beside PostgreSQL's (`…_rebuild`), begun empty each time, and that only one is
//! made at a time. Whoever reads sees the old tables until the new ones are there; a projector that runs meanwhile finds its
//! partitions moved, and goes on where the new tables stand. Neighbours: `inbox` folds into it, `heirlooms` knows what the log has lost.

mod heirlooms;

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::AssertSqlSafe;
use tidings_core::position::Epoch;
use tidings_core::time::Timestamp;

use super::backend::Site;
use super::connection::{Connection, Transaction, run};
use super::{Store, StoreError};
use crate::config::{Database, StoreConfig};

/// All tables, in the order in which folding and trimming lock their rows; those that others refer to come first.
const TABLES: [&str; 11] = [
    "projection",
    "notifications",
    "copies",
    "trims",
    "stretches",
    "interests",
    "devices",
    "states",
    "marks",
    "withdrawals",
    "attempts",
];

/// Any number that nobody else takes a lock by.
const ADVISORY_KEY: i64 = 0x7469_6469_6e67_7262;

/// Tables beside those in use.
pub struct Shadow {
    main: Store,
    store: Store,
    place: Place,
    /// The session that sees both, and has PostgreSQL's lock that no two are made at once.
    session: Connection,
}

/// Where the tables are.
#[derive(Debug)]
enum Place {
    File {
        path: PathBuf,
        /// Locked until it is closed.
        _lock: File,
    },
    Schema(String),
}

/// What the log still has of one topic in one epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// The generation.
    pub epoch: Epoch,
    /// The topic.
    pub topic: Arc<str>,
    /// Its partitions by their numbers.
    pub partitions: Vec<Beginning>,
}

/// Where a partition's log begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Beginning {
    /// The first offset that is not lost.
    pub offset: i64,
    /// When the first record there was appended; nothing, if there is none.
    pub appended: Option<Timestamp>,
}

/// What the log still has, by what it holds; of each the earliest epoch first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extents {
    /// Notifications.
    pub notifications: Vec<Extent>,
    /// Cursors.
    pub cursors: Vec<Extent>,
    /// Receipts.
    pub receipts: Vec<Extent>,
}

/// What a swap changed, in notifications that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swapped {
    /// So many there were.
    pub before: i64,
    /// So many there are.
    pub after: i64,
    /// Of those that there were, so many are no more.
    pub gone: i64,
}

impl Shadow {
    /// Empty tables beside those that `config` names. What an earlier try left is thrown away.
    ///
    /// # Errors
    /// If the database cannot be opened, or somebody else has a shadow of it.
    pub async fn begin(config: &StoreConfig) -> Result<Self, StoreError> {
        let main = Store::open(config).await?;
        main.answers().await?;
        let mut session = main.writer().await?;
        let (place, site) = match &config.url {
            Database::Sqlite(path) => {
                let shadow = beside(path, ".rebuild");
                let lock = lock(&beside(path, ".rebuild.lock"))?;
                remove(&shadow)?;
                (Place::File { path: shadow.clone(), _lock: lock }, Site::File(shadow))
            }
            Database::Postgres(url) => {
                let name = empty_schema(&mut session).await?;
                (Place::Schema(name.clone()), Site::Schema { url: url.clone(), name })
            }
        };
        let store = Store::open_beside(config, site).await?;
        let mut this = Self { main, store, place, session };
        this.expect_own_schema().await?;
        if let Place::File { path, .. } = &this.place {
            let path = path.to_string_lossy().into_owned();
            let sql = "ATTACH DATABASE $1 AS rebuilt";
            run!(&mut this.session, |it| sqlx::query(sql).bind(&path).execute(it).await.map(|_| ()))?;
        }
        Ok(this)
    }

    /// Another release's tables have other columns.
    async fn expect_own_schema(&mut self) -> Result<(), StoreError> {
        let sql = "SELECT MAX(version) FROM _sqlx_migrations";
        let found: i64 = run!(&mut self.session, |it| sqlx::query_scalar(sql).fetch_one(it).await)?;
        let known = self.main.schema_version();
        if found == known { Ok(()) } else { Err(StoreError::OthersTables { found, known }) }
    }

    /// The tables.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Takes over the notifications that the log has lost, and where partitions stood. To be done before anything is folded, behind the
    /// claims of all partitions.
    ///
    /// # Errors
    /// If the database does not take it.
    pub async fn inherit_notifications(&mut self, extents: &Extents) -> Result<u64, StoreError> {
        let name = self.name();
        heirlooms::notifications(&mut self.session, &name, extents).await
    }

    /// Takes over what users did and devices said as far as the log has lost it. To be done when what the log had is folded.
    ///
    /// # Errors
    /// If the database does not take it.
    pub async fn inherit_receipts(&mut self, extents: &Extents) -> Result<u64, StoreError> {
        let name = self.name();
        heirlooms::receipts(&mut self.session, &name, extents).await
    }

    /// Waits until nobody writes the tables in use, and keeps them so.
    ///
    /// # Errors
    /// If somebody writes for too long, or the database does not answer.
    pub async fn lock(self) -> Result<Locked, StoreError> {
        let name = self.name();
        let Self { main, store, place, session } = self;
        let mut transaction = session.begin_holding().await?;
        let hold = match transaction.connection() {
            // From the first statement that could write on nobody else writes this file; others that are attached are left alone.
            Connection::Sqlite(_) => "DELETE FROM projection WHERE false".to_owned(),
            Connection::Postgres(_) => format!(
                "SET LOCAL idle_in_transaction_session_timeout = 0; LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE",
                TABLES.join(", ")
            ),
        };
        execute(transaction.connection(), hold).await?;
        Ok(Locked { main, store, place, transaction, name })
    }

    /// Throws it away.
    pub async fn discard(self) {
        let Self { main, store, place, session } = self;
        drop(session);
        clean(&main, &store, place).await;
    }

    /// How statements of the session call it.
    fn name(&self) -> String {
        match &self.place {
            Place::File { .. } => "rebuilt".to_owned(),
            Place::Schema(schema) => quoted(schema),
        }
    }
}

/// A shadow of tables that nobody else writes. Dropped, it changes nothing.
pub struct Locked {
    main: Store,
    store: Store,
    place: Place,
    transaction: Transaction,
    name: String,
}

impl Locked {
    /// Puts the tables in the place of those in use, and removes what is left.
    ///
    /// # Errors
    /// If the database does not take it; then those in use are as they were.
    pub async fn swap(mut self) -> Result<Swapped, StoreError> {
        let swapped = fill(self.transaction.connection(), &self.name).await?;
        self.transaction.commit().await?;
        clean(&self.main, &self.store, self.place).await;
        Ok(swapped)
    }

    /// Throws it away.
    pub async fn discard(self) {
        drop(self.transaction);
        clean(&self.main, &self.store, self.place).await;
    }
}

async fn fill(connection: &mut Connection, source: &str) -> Result<Swapped, StoreError> {
    let before = count(connection, "SELECT COUNT(*) FROM notifications WHERE body IS NOT NULL".to_owned()).await?;
    let gone = format!(
        "SELECT COUNT(*) FROM notifications AS kept WHERE kept.body IS NOT NULL AND NOT EXISTS (
           SELECT 1 FROM {source}.notifications AS new WHERE new.id = kept.id AND new.channel = kept.channel AND new.body IS NOT NULL)"
    );
    let gone = count(connection, gone).await?;
    for table in TABLES.iter().rev() {
        execute(connection, format!("DELETE FROM {table}")).await?;
    }
    for table in TABLES {
        execute(connection, format!("INSERT INTO {table} SELECT * FROM {source}.{table}")).await?;
    }
    let after = count(connection, "SELECT COUNT(*) FROM notifications WHERE body IS NOT NULL".to_owned()).await?;
    Ok(Swapped { before, after, gone })
}

async fn count(connection: &mut Connection, sql: String) -> Result<i64, StoreError> {
    Ok(run!(connection, |it| sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(it).await)?)
}

/// Nothing in it comes from outside but the name of a schema, which is quoted.
async fn execute(connection: &mut Connection, sql: String) -> Result<(), StoreError> {
    run!(connection, |it| sqlx::raw_sql(AssertSqlSafe(sql)).execute(it).await.map(|_| ()))?;
    Ok(())
}

/// Removes the tables beside. What is left of them is in nobody's way, and the next try removes it.
async fn clean(main: &Store, store: &Store, place: Place) {
    store.close().await;
    let removed = match &place {
        Place::File { path, .. } => {
            main.close().await;
            remove(path)
        }
        Place::Schema(schema) => drop_schema(main, schema).await,
    };
    if let Err(error) = removed {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        tracing::warn!(?place, %error, source, "the tables beside those in use are left there; the next rebuild removes them");
    }
    main.close().await;
}

async fn drop_schema(main: &Store, schema: &str) -> Result<(), StoreError> {
    execute(&mut main.writer().await?, format!("DROP SCHEMA {} CASCADE", quoted(schema))).await
}

/// An empty schema beside the one in use, which nobody else may have.
async fn empty_schema(session: &mut Connection) -> Result<String, StoreError> {
    let sql = "SELECT pg_try_advisory_lock($1)";
    let is_ours: bool = run!(&mut *session, |it| sqlx::query_scalar(sql).bind(ADVISORY_KEY).fetch_one(it).await)?;
    if !is_ours {
        return Err(StoreError::Contested);
    }
    let sql = "SELECT current_schema()::text || '_rebuild'";
    let schema: String = run!(&mut *session, |it| sqlx::query_scalar(sql).fetch_one(it).await)?;
    let name = quoted(&schema);
    let made = execute(session, format!("DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}")).await;
    made.map_err(|error| match error {
        StoreError::Broken(source) => StoreError::NoSchema { schema: schema.clone(), source },
        other => other,
    })?;
    Ok(schema)
}

/// An identifier as PostgreSQL takes any.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(sqlx::Error::Io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::Contested),
        Err(std::fs::TryLockError::Error(error)) => Err(sqlx::Error::Io(error).into()),
    }
}

/// Removes a file of SQLite's and those that go with it.
fn remove(path: &Path) -> Result<(), StoreError> {
    for end in ["", "-wal", "-shm"] {
        match std::fs::remove_file(beside(path, end)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(sqlx::Error::Io(error).into()),
            _ => {}
        }
    }
    Ok(())
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}
