//! A PostgreSQL server of a test's own, from what the system has installed.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use sqlx::Connection as _;
use tidings::config::Database;

use super::certificates::Pair;

/// What `TIDINGS_TEST_STORE` may say: tests that do not choose a database use PostgreSQL.
const POSTGRES: &str = "postgres";

/// A schema of its own on the server in `TIDINGS_TEST_POSTGRES`, if tests that do not choose a database are to use that.
pub(crate) async fn schema_of_its_own() -> Option<Database> {
    let store = std::env::var("TIDINGS_TEST_STORE").ok()?;
    assert_eq!(store, POSTGRES, "TIDINGS_TEST_STORE knows no other word");
    let server = std::env::var("TIDINGS_TEST_POSTGRES").expect("TIDINGS_TEST_POSTGRES names the server");
    let schema = format!("it_{}", uuid::Uuid::new_v4().simple());
    let mut session = sqlx::PgConnection::connect(&server).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).execute(&mut session).await.unwrap();
    Some(format!("{server}?options[search_path]={schema}").parse().unwrap())
}

/// A server that runs. Stopped, with its data removed, when dropped.
pub(crate) struct Server {
    dir: tempfile::TempDir,
    url: String,
}

impl Server {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Root starts it as another user, who must get through to the data.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let url = dev_postgres("start", &dir.path().join("server"), &[]);
        Self { dir, url }
    }

    /// One that lets the user `tidings` in as well, with TLS and the password `secret`.
    pub(crate) fn start_secure(pair: &Pair) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let pem = dir.path().join("server.pem");
        std::fs::write(&pem, [&pair.key[..], &pair.certificate].concat()).unwrap();
        let url = dev_postgres("start", &dir.path().join("server"), &["--secure".as_ref(), pem.as_os_str()]);
        Self { dir, url }
    }

    /// The database of `tidings`, whose server must prove to be who `authority` says.
    pub(crate) fn secure_database(&self, authority: &Path) -> Database {
        let place = self.url.split_once('@').unwrap().1.replace("127.0.0.1", "localhost").replace("/postgres", "/tidings");
        format!("postgres://tidings@{place}?sslmode=verify-full&sslrootcert={}", authority.display()).parse().unwrap()
    }

    /// Its database, by the superuser.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Its database.
    pub(crate) fn database(&self) -> Database {
        self.url.parse().unwrap()
    }

    /// Stops it and keeps its data.
    pub(crate) fn stop(&self) {
        dev_postgres("stop", &self.dir.path().join("server"), &[]);
    }

    /// Starts it again, at the same address.
    pub(crate) fn start_again(&self) {
        assert_eq!(dev_postgres("start", &self.dir.path().join("server"), &[]), self.url);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn dev_postgres(verb: &str, dir: &Path, options: &[&OsStr]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("dev/postgres");
    let output =
        Command::new(script).arg(verb).arg(dir).args(options).stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "dev/postgres {verb} failed");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
