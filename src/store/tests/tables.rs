//! All that a store holds, to be compared.

use super::*;

/// All that is kept, as text.
pub(super) async fn dump(store: &Store) -> Vec<String> {
    let mut reader = store.reader().await.unwrap();
    let mut all = Vec::new();
    for sql in include_str!("../../../tests/tables.sql").split(';') {
        let rows: Vec<String> = run!(&mut reader, |it| sqlx::query_scalar(sql).fetch_all(it).await.unwrap());
        all.extend(rows);
    }
    all
}
