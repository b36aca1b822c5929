//! PostgreSQL: the server, our sessions on it and its schema.
//!
//! Owns: one connection that writes and a few that read, how sessions are set, and which of the server's errors waiting may mend.
//! Neighbours: `backend`.

use std::str::FromStr;

use sqlx::Postgres;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgPoolOptions};

use super::backend::Pools;
use super::shadow::quoted;
use super::{StoreError, Weight};
use crate::config::StoreConfig;

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// Classes of SQLSTATE (<https://www.postgresql.org/docs/current/errcodes-appendix.html>) that waiting does not mend: a feature that is not
/// there, data that does not fit, a constraint, a statement that is wrong or not allowed, an internal error such as damaged data.
const FINAL_CLASSES: [&str; 5] = ["0A", "22", "23", "42", "XX"];
/// The same: a name or password that is wrong, a database that is not there.
const DENYING_CLASSES: [&str; 2] = ["28", "3D"];

/// Connects to nothing yet: the server may be away. The tables are in `schema`, or where the URL leads to.
pub(super) fn open((url, schema): (&str, Option<&str>), config: &StoreConfig) -> Result<Pools<Postgres>, StoreError> {
    let mut options = options(url, config)?;
    if let Some(name) = schema {
        options = options.options([("search_path", quoted(name))]);
    }
    let writer = pool(1, config).connect_lazy_with(options.clone());
    let readers =
        pool(config.readers.get(), config).connect_lazy_with(options.options([("default_transaction_read_only", "on")]));
    Ok(Pools { writer, readers })
}

fn options(url: &str, config: &StoreConfig) -> Result<PgConnectOptions, StoreError> {
    let mut options = PgConnectOptions::from_str(url)?.application_name("tidings");
    if let Some(password) = password(config)? {
        options = options.password(&password);
    }
    let wait = format!("{}ms", config.busy_timeout.0.as_millis());
    let answer = format!("{}ms", config.answer_timeout.0.as_millis());
    Ok(options.options([
        // The same as SQLite's NORMAL: a crash of the server may take the last transactions, rows and positions of each together.
        ("synchronous_commit", "off"),
        // Every question is a short list against an index. Plans are made once, on tables that may still be empty or not yet counted.
        ("enable_seqscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("jit", "off"),
        ("lock_timeout", wait.as_str()),
        // A process that stalls in a transaction holds locks on its partitions: the server ends it, and they pass to others.
        ("idle_in_transaction_session_timeout", answer.as_str()),
    ]))
}

fn password(config: &StoreConfig) -> Result<Option<String>, StoreError> {
    if config.password_file.is_empty() {
        return Ok(Some(config.password.clone()).filter(|password| !password.is_empty()));
    }
    let file = config.password_file.clone();
    let text = std::fs::read_to_string(&file).map_err(|source| StoreError::PasswordFile { file, source })?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn pool(connections: u32, config: &StoreConfig) -> PgPoolOptions {
    PgPoolOptions::new().max_connections(connections).acquire_timeout(config.busy_timeout.0)
}

/// What an error of the server's weighs.
pub(super) fn weigh(error: &PgDatabaseError) -> Weight {
    let is_of = |classes: &[&str]| error.code().get(..2).is_some_and(|class| classes.contains(&class));
    if is_of(&DENYING_CLASSES) {
        Weight::Denied
    } else if is_of(&FINAL_CLASSES) {
        Weight::Final
    } else {
        Weight::Passing
    }
}
