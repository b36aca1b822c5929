//! The schema: whether a database's tables are those that this release may work on.
//!
//! Owns: migrations, and what is done with a schema that is older or newer than they are. Releases N and N-1 run together, so a newer one is
//! no fault by itself: the database says from which version on a release may work on it. Neighbours: `backend` asks before the first
//! statement.

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::{ColumnIndex, Database, Decode, Executor, IntoArguments, Pool, Row, Type};

use super::StoreError;

/// What opening does about an older schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Schema {
    /// Brings it up to this release's.
    Migrated,
    /// Refuses it.
    AsItIs,
}

/// Sees to the schema of a database.
pub(super) async fn ready<D: Database>(pool: &Pool<D>, migrations: &Migrator, schema: Schema) -> Result<(), StoreError>
where
    D::Connection: Migrate,
    for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
    for<'q> D::Arguments: IntoArguments<D>,
    for<'r> i64: Decode<'r, D> + Type<D>,
    usize: ColumnIndex<D::Row>,
{
    let mut connection = pool.acquire().await?;
    let known = version(migrations);
    let mut found = applied(&mut *connection, migrations).await?;
    if found < known && schema == Schema::AsItIs {
        return Err(StoreError::Outdated { found, needed: known });
    }
    if found <= known {
        match migrations.run_direct(None, &mut *connection, false).await {
            Ok(()) => return Ok(()),
            // A later release was quicker.
            Err(MigrateError::VersionMissing(_)) => found = applied(&mut *connection, migrations).await?,
            Err(error) => return Err(error.into()),
        }
    }
    let row = sqlx::query("SELECT oldest FROM compatibility").fetch_one(&mut *connection).await?;
    let oldest: i64 = row.try_get(0)?;
    if oldest <= known { Ok(()) } else { Err(StoreError::TooNew { found, oldest, known }) }
}

/// The version of the schema that is there.
async fn applied<C: Migrate>(connection: &mut C, migrations: &Migrator) -> Result<i64, StoreError> {
    match connection.list_applied_migrations(&migrations.table_name).await {
        Ok(applied) => Ok(applied.iter().map(|migration| migration.version).max().unwrap_or(0)),
        // There is not even the table that lists them.
        Err(MigrateError::Execute(sqlx::Error::Database(_))) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// The version that migrations lead to.
pub(super) fn version(migrations: &Migrator) -> i64 {
    migrations.iter().map(|migration| migration.version).max().unwrap_or(0)
}

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) => error.into(),
            other => Self::Migration(other),
        }
    }
}
