//! What is in SQL, read as an operator would: from the database, beside the process that writes it.

use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use tidings::config::Database;

use super::client::Client;
use super::eventually;
use super::world::{World, payment};

/// Offsets that some device has acknowledged hold the notification, or a copy of it.
const ACKNOWLEDGED: &str = r#"
    SELECT n.id FROM notifications n WHERE n.channel = $1 AND EXISTS (
        SELECT 1 FROM stretches s
        WHERE s.channel = n.channel AND s.epoch = n.epoch AND s.kind = 'acknowledged'
          AND (n."offset" >= s.from_offset AND n."offset" < s.to_offset OR EXISTS (
              SELECT 1 FROM copies c WHERE c.channel = n.channel AND c.id = n.id
                AND c."offset" >= s.from_offset AND c."offset" < s.to_offset)))
    ORDER BY n."offset""#;

impl World {
    /// The notifications in a user's mailbox, in the order of the log.
    pub(crate) async fn inbox(&self, user: &str) -> Vec<Value> {
        let rows =
            self.query(r#"SELECT body FROM notifications WHERE channel = $1 AND body IS NOT NULL ORDER BY "offset""#, user).await;
        let notification = |body: &String| serde_json::from_str::<Value>(body).unwrap()["notification"].take();
        rows.iter().map(notification).collect()
    }

    /// The ids in a user's mailbox that some device has acknowledged.
    pub(crate) async fn acknowledged(&self, user: &str) -> Vec<String> {
        self.query(ACKNOWLEDGED, user).await
    }

    /// The devices of which the store knows where they began in a channel.
    pub(crate) async fn begun(&self, channel: &str) -> Vec<String> {
        let Ok(mut session) = Session::open(&self.config.store.url).await else { return Vec::new() };
        let sql = "SELECT device_id FROM stretches WHERE channel = $1 AND kind = 'began'";
        session.texts(sql, Some(channel.to_owned())).await.unwrap_or_default()
    }

    /// Waits until a notification of Alice's is acknowledged.
    pub(crate) async fn until_acknowledged(&self, id: &str) {
        eventually(&format!("{id} is acknowledged in SQL"), async || {
            self.acknowledged("alice").await.iter().any(|known| known == id).then_some(())
        })
        .await;
    }

    /// Emits events of Alice's, waits for each at her connection and acknowledges it.
    pub(crate) async fn live(&self, alice: &mut Client, names: &[&str]) {
        for name in names {
            self.emit(&payment(name, "alice")).await;
            let frame = alice.frame("notification:new").await;
            assert_eq!(frame["notification"]["eventId"], **name);
            alice.ack(&frame).await;
        }
    }

    /// Waits until so many notifications are in Alice's mailbox.
    pub(crate) async fn until_inbox(&self, count: usize) {
        eventually(&format!("{count} notifications are in SQL"), async || {
            (self.inbox("alice").await.len() == count).then_some(())
        })
        .await;
    }

    /// Waits until so many notifications are in Alice's mailbox, each once and acknowledged.
    pub(crate) async fn until_folded(&self, count: usize) {
        eventually(&format!("{count} notifications are in SQL and acknowledged"), async || {
            let (folded, acknowledged) = (self.inbox("alice").await.len(), self.acknowledged("alice").await.len());
            assert!(folded <= count, "one stands twice");
            (folded == count && acknowledged == count).then_some(())
        })
        .await;
    }

    /// The one text of each row, or nothing if there is no answer: the process that makes the tables may not have come so far.
    async fn query(&self, sql: &'static str, user: &str) -> Vec<String> {
        let Ok(mut session) = Session::open(&self.config.store.url).await else { return Vec::new() };
        session.texts(sql, Some(format!("user-{user}"))).await.unwrap_or_default()
    }

    /// All that the inbox keeps.
    pub(crate) async fn tables(&self) -> Vec<String> {
        let (mut session, mut all) = (Session::open(&self.config.store.url).await.unwrap(), Vec::new());
        for sql in include_str!("../../tables.sql").split(';') {
            all.extend(session.texts(sql, None).await.unwrap());
        }
        all
    }

    /// Changes the tables behind the back of whoever owns them.
    pub(crate) async fn alter(&self, statements: &[&'static str]) {
        let mut session = Session::open(&self.config.store.url).await.unwrap();
        for sql in statements {
            session.run(sql).await;
        }
    }

    /// Waits until all that lies on the log is in the tables and nothing more comes, and gives them.
    pub(crate) async fn until_still(&self) -> Vec<String> {
        eventually("all of the log is in the tables", async || {
            let before = self.tables().await;
            for topic in ["notifications", "cursors", "receipts"].map(|topic| self.own(topic)) {
                for record in self.log.records(&topic).await {
                    let line = format!("projection 1 {topic} {} ", record.partition);
                    let next = before.iter().find_map(|known| known.strip_prefix(&line)?.split(' ').next()?.parse::<i64>().ok());
                    next.filter(|next| *next > record.offset)?;
                }
            }
            (self.tables().await == before).then_some(before)
        })
        .await
    }
}

/// A session of an operator's on whichever database it is.
enum Session {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

macro_rules! on {
    ($session:expr, |$it:ident| $body:expr) => {
        match $session {
            Session::Sqlite($it) => $body,
            Session::Postgres($it) => $body,
        }
    };
}

impl Session {
    async fn open(database: &Database) -> sqlx::Result<Self> {
        Ok(match database {
            Database::Sqlite(path) => {
                let options = SqliteConnectOptions::new().filename(path).busy_timeout(std::time::Duration::from_secs(30));
                Self::Sqlite(SqliteConnection::connect_with(&options).await?)
            }
            Database::Postgres(url) => Self::Postgres(PgConnection::connect(url).await?),
        })
    }

    async fn texts(&mut self, sql: &'static str, bound: Option<String>) -> sqlx::Result<Vec<String>> {
        on!(self, |it| match bound {
            Some(bound) => sqlx::query_scalar(sql).bind(bound).fetch_all(it).await,
            None => sqlx::query_scalar(sql).fetch_all(it).await,
        })
    }

    async fn run(&mut self, sql: &'static str) {
        on!(self, |it| sqlx::raw_sql(sql).execute(it).await.map(|_| ())).unwrap();
    }
}

/// Tables that nobody else can write.
pub(crate) struct Held(Session);

impl Held {
    pub(crate) async fn of(database: &Database) -> Self {
        let mut session = Session::open(database).await.unwrap();
        session
            .run(if matches!(session, Session::Sqlite(_)) {
                "BEGIN IMMEDIATE"
            } else {
                "BEGIN; LOCK TABLE projection IN EXCLUSIVE MODE"
            })
            .await;
        Self(session)
    }

    pub(crate) async fn release(mut self) {
        self.0.run("ROLLBACK").await;
    }
}
