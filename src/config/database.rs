//! The database, as the configuration names it.
//!
//! Owns: which kind of database a URL means. Refuses a password in it: URLs end up in logs and in lists of processes. Neighbours: `store`
//! opens it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `sqlite://` and a path, or `postgres://user@host:port/name` with libpq's parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// A server, by the whole URL.
    Postgres(String),
}

/// A URL that does not read. It is not repeated: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadDatabase {
    /// Something else.
    #[error(
        "must be `sqlite://` and a path (`sqlite:///var/lib/tidings.db`), or `postgres://user@host:5432/name?sslmode=verify-full`"
    )]
    Unknown,
    /// A secret where it does not belong.
    #[error("must hold no password: use `store.password_file`, or `store.password` by environment (TIDINGS_STORE__PASSWORD)")]
    Password,
}

impl FromStr for Database {
    type Err = BadDatabase;

    fn from_str(text: &str) -> Result<Self, BadDatabase> {
        if let Some(path) = text.strip_prefix("sqlite://") {
            return if path.is_empty() { Err(BadDatabase::Unknown) } else { Ok(Self::Sqlite(path.into())) };
        }
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")).ok_or(BadDatabase::Unknown)?;
        let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let user = place.rsplit_once('@').map_or("", |(user, _)| user);
        let is_secret = |(name, _): (std::borrow::Cow<'_, str>, _)| name == "password";
        if user.contains(':') || form_urlencoded::parse(parameters.as_bytes()).any(is_secret) {
            return Err(BadDatabase::Password);
        }
        Ok(Self::Postgres(text.to_owned()))
    }
}

impl TryFrom<String> for Database {
    type Error = BadDatabase;

    fn try_from(text: String) -> Result<Self, BadDatabase> {
        text.parse()
    }
}

impl From<Database> for String {
    fn from(database: Database) -> Self {
        database.to_string()
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(url) => f.write_str(url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_which_database_is_meant() {
        assert_eq!("sqlite://tidings.db".parse(), Ok(Database::Sqlite("tidings.db".into())));
        assert_eq!("sqlite:///var/a b.db".parse(), Ok(Database::Sqlite("/var/a b.db".into())));
        for url in ["postgres://u@h:5432/name?sslmode=verify-full", "postgresql:///name?host=/run/postgresql"] {
            assert_eq!(url.parse::<Database>().unwrap().to_string(), url);
        }
        for text in ["", "tidings.db", "sqlite://", "sqlite:tidings.db", "mysql://u@h/name", "postgres:name"] {
            assert_eq!(text.parse::<Database>(), Err(BadDatabase::Unknown), "{text}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        for url in ["postgres://u:s3cret@h/name", "postgres://u:@h/name", "postgres://u@h/name?a=b&pass%77ord=s3cret"] {
            let refused = url.parse::<Database>().unwrap_err();
            assert_eq!(refused, BadDatabase::Password, "{url}");
            assert!(!refused.to_string().contains("s3cret"));
        }
    }
}
