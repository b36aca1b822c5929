//! What can go wrong with the store, whose fault it is, and what to do.
//!
//! Owns: the messages. Which errors of a driver pass, `sqlite` and `postgres` know.

use std::time::Duration;

use tidings_core::fate::Cause;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The password's file.
    #[error("`store.password_file`: {file} could not be read")]
    PasswordFile {
        /// Which.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An older schema, which may not be changed.
    #[error(
        "the database's schema has version {found} and this release needs {needed}: run `tidings store migrate`, or set `store.migrate = true`"
    )]
    Outdated {
        /// The database's.
        found: i64,
        /// Ours.
        needed: i64,
    },
    /// A newer schema, which a release of ours must not touch.
    #[error(
        "the database's schema has version {found}, on which no release older than that of version {oldest} may work; this one's is {known}: \
         run the newer release"
    )]
    TooNew {
        /// The database's.
        found: i64,
        /// The least that it takes.
        oldest: i64,
        /// Ours.
        known: i64,
    },
    /// Somebody else makes tables beside those in use.
    #[error("`tidings inbox rebuild` of this database runs already: wait for its end")]
    Contested,
    /// Tables cannot be copied into those of another release.
    #[error(
        "the database's schema has version {found} and this release's is {known}: run `tidings inbox rebuild` of the release that made it"
    )]
    OthersTables {
        /// The database's.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The server gives us no schema.
    #[error(
        "the schema {schema}, in which tables are made anew beside those in use, was not made: tidings' user needs CREATE on the database \
         (`GRANT CREATE ON DATABASE … TO …`)"
    )]
    NoSchema {
        /// Its name.
        schema: String,
        /// What the server says.
        #[source]
        source: sqlx::Error,
    },
    /// There is no such file and none can be made, or it is not ours to read.
    #[error(
        "the database's file {file} cannot be opened: its folder must be there, and tidings' user must be able to read and write both"
    )]
    Unopened {
        /// Which.
        file: String,
        /// What SQLite says.
        #[source]
        source: sqlx::Error,
    },
    /// Not the file that was opened: what is written to it is lost.
    #[error(
        "the database's file {file} was removed or replaced while it was in use: start again, and what is missing is folded again from Kafka"
    )]
    Gone {
        /// Which.
        file: String,
    },
    /// No answer in time.
    #[error("the database did not answer within {0:?}")]
    Silent(Duration),
    /// Locked, full, away: later it may work.
    #[error("the database does not answer or has no room")]
    Unavailable(#[source] sqlx::Error),
    /// The server does not let us in, or proves to be somebody else.
    #[error("the database's server refuses `store.url` or the password, or its certificate is not what `store.url` asks for")]
    Denied(#[source] sqlx::Error),
    /// The database says no for good.
    #[error(
        "the database is damaged or not the one this release made: delete it, and run `tidings inbox rebuild`, which makes it anew from Kafka"
    )]
    Broken(#[source] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error(
        "the database's schema is not one that this release can bring up to date: delete the database (`store.url`; on PostgreSQL its schema), and run `tidings inbox rebuild`, which makes it anew from Kafka"
    )]
    Migration(#[source] sqlx::migrate::MigrateError),
    /// A row does not read as what was written.
    #[error(
        "a row of `{table}` does not read as what this release writes: run `tidings inbox rebuild`, which makes the tables anew from Kafka"
    )]
    Unreadable {
        /// The table.
        table: &'static str,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A value cannot be written as SQL takes it.
    #[error("a row for `{table}` could not be written as JSON")]
    Unwritable {
        /// The table.
        table: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl StoreError {
    /// Whose fault it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Unavailable(_) | Self::Silent(_) => Cause::Dependency,
            Self::Contested | Self::NoSchema { .. } => Cause::Refused,
            Self::PasswordFile { .. }
            | Self::Unopened { .. }
            | Self::Gone { .. }
            | Self::OthersTables { .. }
            | Self::Outdated { .. }
            | Self::TooNew { .. }
            | Self::Denied(_)
            | Self::Broken(_)
            | Self::Migration(_)
            | Self::Unreadable { .. }
            | Self::Unwritable { .. } => Cause::Bug,
        }
    }

    /// A short name that does not change between releases, for metrics.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "store_unavailable",
            Self::Denied(_) => "store_denied",
            Self::Broken(_) | Self::Migration(_) => "store_broken",
            Self::Unreadable { .. } => "row_unreadable",
            Self::Unwritable { .. } => "row_unwritable",
            Self::PasswordFile { .. } => "store_password_file",
            Self::Outdated { .. } => "store_outdated",
            Self::TooNew { .. } => "store_too_new",
            Self::Silent(_) => "store_silent",
            Self::Contested => "store_contested",
            Self::Unopened { .. } => "store_unopened",
            Self::Gone { .. } => "store_gone",
            Self::OthersTables { .. } => "store_others_tables",
            Self::NoSchema { .. } => "store_no_schema",
        }
    }

    pub(super) fn unreadable(table: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Unreadable { table, source: Box::new(source) }
    }
}
