//! A connection of whichever database it is, and transactions on it.
//!
//! Owns: how a statement that both databases understand is run on either ([`run!`]), and that a transaction which did not end in
//! order takes its connection with it. Neighbours: `sqlite` gives connections; everything that has SQL in it runs on them.

use serde_json::Value;
use sqlx::pool::PoolConnection;
use sqlx::{Postgres, Sqlite};

use super::StoreError;

/// A connection out of a pool.
pub(super) enum Connection {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

/// Runs the statement `$body` on `$connection`, which is called `$it` in it: compiled once for each database, so that what is bound and
/// read has a type that it takes and gives.
macro_rules! run {
    ($connection:expr, |$it:ident| $body:expr) => {
        match $connection {
            $crate::store::connection::Connection::Sqlite(connection) => {
                let $it = &mut **connection;
                $body
            }
            $crate::store::connection::Connection::Postgres(connection) => {
                let $it = &mut **connection;
                $body
            }
        }
    };
}
pub(super) use run;

impl Connection {
    async fn execute(&mut self, sql: &'static str) -> Result<(), StoreError> {
        run!(self, |it| sqlx::raw_sql(sql).execute(it).await.map(|_| ()))?;
        Ok(())
    }

    /// Runs a statement once for all `rows`: `$1` in it is a JSON array of them, each an array of its columns. Nothing is asked if
    /// there are none.
    pub(super) async fn write(&mut self, sql: &'static str, rows: impl IntoIterator<Item = Value>) -> Result<(), StoreError> {
        let rows = rows.into_iter().collect::<Vec<_>>();
        if !rows.is_empty() {
            let rows = Value::Array(rows).to_string();
            run!(self, |it| sqlx::query(sql).bind(&rows).execute(it).await.map(|_| ()))?;
        }
        Ok(())
    }

    /// Begins what writes.
    pub(super) async fn begin_writing(self) -> Result<Transaction, StoreError> {
        let begin = match self {
            // Else a reader that becomes a writer may find that it is too late.
            Self::Sqlite(_) => "BEGIN IMMEDIATE",
            // Positions are moved by an update that waits for whoever moves them, and then looks again.
            Self::Postgres(_) => "BEGIN ISOLATION LEVEL READ COMMITTED",
        };
        self.begin(begin).await
    }

    /// Begins what takes its locks by itself.
    pub(super) async fn begin_holding(self) -> Result<Transaction, StoreError> {
        self.begin("BEGIN").await
    }

    /// Begins what reads several times and must see one state.
    pub(super) async fn begin_reading(self) -> Result<Transaction, StoreError> {
        let begin = match self {
            Self::Sqlite(_) => "BEGIN",
            Self::Postgres(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        self.begin(begin).await
    }

    async fn begin(self, sql: &'static str) -> Result<Transaction, StoreError> {
        let mut transaction = Transaction { connection: self, ended: false };
        transaction.connection.execute(sql).await?;
        Ok(transaction)
    }
}

/// A transaction. Dropped before its end it closes its connection, and the database rolls it back: after an error nobody knows in
/// what state it is. On a full disk SQLite may have ended it by itself
/// (<https://sqlite.org/lang_transaction.html#response_to_errors_within_a_transaction>).
pub(super) struct Transaction {
    connection: Connection,
    ended: bool,
}

impl Transaction {
    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    pub(super) async fn commit(self) -> Result<(), StoreError> {
        self.end("COMMIT").await
    }

    pub(super) async fn rollback(self) -> Result<(), StoreError> {
        self.end("ROLLBACK").await
    }

    async fn end(mut self, sql: &'static str) -> Result<(), StoreError> {
        self.connection.execute(sql).await?;
        self.ended = true;
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.ended {
            match &mut self.connection {
                Connection::Sqlite(connection) => connection.close_on_drop(),
                Connection::Postgres(connection) => connection.close_on_drop(),
            }
        }
    }
}
