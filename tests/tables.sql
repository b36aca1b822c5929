-- All that the inbox keeps, as text, to be compared. The numbers by which rows are counted go on over what was trimmed: only their order
-- counts.
SELECT 'projection ' || epoch || ' ' || topic || ' ' || partition || ' ' || next_offset || ' ' || first_offset || ' ' || clock AS line
FROM projection ORDER BY epoch, topic, partition;
SELECT 'notification ' || channel || ' ' || id || ' ' || epoch || ' ' || partition || ' ' || "offset" || ' ' || first_epoch || ' '
  || first_offset || ' ' || appended_at || ' ' || placed_at || ' ' || COALESCE(expires_at, 0) || ' ' || kind || ' ' || COALESCE(request_id, '-') || ' '
  || COALESCE(body, '-') FROM notifications ORDER BY channel, id;
SELECT 'copy ' || channel || ' ' || id || ' ' || epoch || ' ' || "offset" FROM copies ORDER BY channel, id, epoch, "offset";
SELECT 'trim ' || channel || ' ' || epoch || ' ' || "offset" FROM trims ORDER BY channel;
SELECT 'stretch ' || user_id || ' ' || channel || ' ' || epoch || ' ' || device_id || ' ' || kind || ' ' || from_offset || ' ' || to_offset
FROM stretches ORDER BY user_id, channel, epoch, device_id, kind, from_offset;
SELECT 'interest ' || user_id || ' ' || device_id || ' ' || channel || ' ' || spoken_at FROM interests ORDER BY user_id, device_id, channel;
SELECT 'device ' || user_id || ' ' || device_id || ' ' || partition || ' ' || used_at || ' ' || has_lapsed FROM devices ORDER BY user_id, device_id;
SELECT 'state ' || user_id || ' ' || id || ' ' || COALESCE(is_read, -1) || ' ' || COALESCE(read_at, -1) || ' ' || is_seen || ' '
  || is_dismissed || ' ' || COALESCE(channel, '-') || ' ' || COALESCE(marked_epoch, -1) || ' ' || COALESCE(marked_offset, -1) || ' '
  || partition || ' ' || changed_at FROM states ORDER BY user_id, id;
SELECT 'mark ' || user_id || ' ' || channel || ' ' || COALESCE(read_epoch, -1) || ' ' || COALESCE(read_offset, -1) || ' '
  || COALESCE(read_at, -1) || ' ' || seen_epoch || ' ' || seen_offset || ' ' || partition || ' ' || set_at
FROM marks ORDER BY user_id, channel;
SELECT 'withdrawn ' || channel || ' ' || id || ' ' || cause || ' ' || partition || ' ' || withdrawn_at FROM withdrawals ORDER BY channel, id;
SELECT 'attempts ' || channel || ' ' || id || ' ' || epoch || ' ' || "offset" || ' ' || partition || ' ' || COALESCE(appended_at, 0) || ' '
  || COALESCE(expires_at, 0) || ' ' || made || ' ' || history || ' ' || outcome || ' ' || is_undelivered || ' ' || next_at || ' ' || is_open
FROM attempts ORDER BY channel, id
