//! Room: how many states of single notifications a user may have.
//!
//! Owns: the bound. Whoever speaks of notifications that nobody knows is believed while the projection may be behind, so such states can be
//! made at will. Beyond the bound those go of which there is no notification, the oldest first. Refuses to touch others: they are bounded by
//! what channels keep.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::ledger::StateKey;
use crate::store::connection::{Connection, run};
use crate::store::{Retention, StoreError};

/// Makes room where states have come of which there is no notification. Says how many went.
pub(super) async fn make(connection: &mut Connection, retention: &Retention, fresh: &[StateKey]) -> Result<u64, StoreError> {
    let users = strangers(connection, fresh).await?;
    let most = i64::try_from(retention.states_per_user.get()).unwrap_or(i64::MAX);
    let mut gone = 0;
    for (user, over) in crowded(connection, users, most).await? {
        let sql = "DELETE FROM states WHERE (id, user_id) IN (
             SELECT kept.id, kept.user_id FROM states AS kept
             WHERE kept.user_id = $1 AND NOT EXISTS (SELECT 1 FROM notifications AS held WHERE held.id = kept.id)
             ORDER BY kept.changed_at, kept.id LIMIT $2)";
        gone += run!(&mut *connection, |it| {
            sqlx::query(sql).bind(&user).bind(over).execute(it).await.map(|done| done.rows_affected())
        })?;
    }
    Ok(gone)
}

/// The users of states of which there is no notification.
async fn strangers(connection: &mut Connection, fresh: &[StateKey]) -> Result<BTreeSet<String>, StoreError> {
    if fresh.is_empty() {
        return Ok(BTreeSet::new());
    }
    let asked = Value::from_iter(fresh.iter().map(|(user, id)| json!([user, id]))).to_string();
    let users: Vec<String> = run!(connection, |it| {
        sqlx::query_scalar(
            "SELECT asked.value ->> 0 FROM json_each($1) AS asked
             WHERE NOT EXISTS (SELECT 1 FROM notifications AS held WHERE held.id = asked.value ->> 1)",
        )
        .bind(&asked)
        .fetch_all(it)
        .await
    })?;
    Ok(users.into_iter().collect())
}

/// Those of `users` who have more states than they may, and how many more.
async fn crowded(connection: &mut Connection, users: BTreeSet<String>, most: i64) -> Result<Vec<(String, i64)>, StoreError> {
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let asked = Value::from_iter(users.into_iter().map(|user| json!([user]))).to_string();
    Ok(run!(connection, |it| {
        sqlx::query_as(
            "SELECT owner, states - $2 FROM (
               SELECT asked.value ->> 0 AS owner, (SELECT COUNT(*) FROM states AS kept WHERE kept.user_id = asked.value ->> 0) AS states
               FROM json_each($1) AS asked) AS counted WHERE states > $2",
        )
        .bind(&asked)
        .bind(most)
        .fetch_all(it)
        .await
    })?)
}
