//! All that a store holds, to be compared.

use super::*;

/// All that is kept, as text. The numbers by which rows are counted go on over what was trimmed, so only their order counts.
pub(super) async fn dump(store: &Store) -> Vec<String> {
    const TABLES: [&str; 9] = [
        "SELECT epoch || ' ' || topic || ' ' || partition || ' ' || next_offset || ' ' || first_offset || ' ' || clock
         FROM projection ORDER BY epoch, topic, partition",
        "SELECT channel || ' ' || id || ' ' || epoch || ' ' || partition || ' ' || \"offset\" || ' ' || appended_at || ' '
           || COALESCE(expires_at, 0) || ' ' || kind || ' ' || COALESCE(body, '-') FROM notifications ORDER BY channel, id",
        "SELECT channel || ' ' || id || ' ' || epoch || ' ' || \"offset\" FROM copies ORDER BY channel, id, epoch, \"offset\"",
        "SELECT channel || ' ' || epoch || ' ' || \"offset\" FROM trims ORDER BY channel",
        "SELECT user_id || ' ' || channel || ' ' || epoch || ' ' || device_id || ' ' || kind || ' ' || from_offset || ' ' || to_offset
         FROM stretches ORDER BY user_id, channel, epoch, device_id, kind, from_offset",
        "SELECT user_id || ' ' || device_id || ' ' || partition || ' ' || used_at FROM devices ORDER BY user_id, device_id",
        "SELECT 'state ' || user_id || ' ' || id || ' ' || COALESCE(is_read, -1) || ' ' || COALESCE(read_at, -1) || ' ' || is_seen || ' '
           || is_dismissed || ' ' || COALESCE(channel, '-') || ' ' || COALESCE(epoch, -1) || ' ' || COALESCE(\"offset\", -1) || ' '
           || partition || ' ' || changed_at FROM states ORDER BY user_id, id",
        "SELECT 'mark ' || user_id || ' ' || channel || ' ' || COALESCE(read_epoch, -1) || ' ' || COALESCE(read_offset, -1) || ' '
           || COALESCE(read_at, -1) || ' ' || seen_epoch || ' ' || seen_offset || ' ' || partition || ' ' || set_at
         FROM marks ORDER BY user_id, channel",
        "SELECT 'withdrawn ' || channel || ' ' || id || ' ' || cause || ' ' || partition || ' ' || withdrawn_at
         FROM withdrawals ORDER BY channel, id",
    ];
    let mut reader = store.reader().await.unwrap();
    let mut all = Vec::new();
    for sql in TABLES {
        let rows: Vec<String> = run!(&mut reader, |it| sqlx::query_scalar(sql).fetch_all(it).await.unwrap());
        all.extend(rows);
    }
    all
}
