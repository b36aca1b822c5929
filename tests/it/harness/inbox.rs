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
        let channel = format!("user-{user}");
        let rows = match &self.config.store.url {
            Database::Sqlite(path) => {
                let options = SqliteConnectOptions::new().filename(path).read_only(true);
                let Ok(mut database) = SqliteConnection::connect_with(&options).await else { return Vec::new() };
                let rows = sqlx::query_scalar(sql).bind(channel).fetch_all(&mut database).await;
                let _ = database.close().await;
                rows
            }
            Database::Postgres(url) => {
                let Ok(mut database) = PgConnection::connect(url).await else { return Vec::new() };
                let rows = sqlx::query_scalar(sql).bind(channel).fetch_all(&mut database).await;
                let _ = database.close().await;
                rows
            }
        };
        rows.unwrap_or_default()
    }
}
