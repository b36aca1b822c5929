-- Everything here is a projection of the log: it can be deleted and is folded again from Kafka.
-- Times are milliseconds since 1970. Every offset belongs to an epoch; rows of different epochs never mix.

-- How far each partition is folded: the next offset to read. Moved by compare-and-set, in the transaction of the rows.
CREATE TABLE projection (
    epoch       INTEGER NOT NULL,
    topic       TEXT    NOT NULL,
    partition   INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    PRIMARY KEY (epoch, topic, partition)
) WITHOUT ROWID;

-- One row for each notification of a channel, with the first place where it lies on the log.
CREATE TABLE notifications (
    channel    TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    epoch      INTEGER NOT NULL,
    partition  INTEGER NOT NULL,
    "offset"   INTEGER NOT NULL,
    rule       TEXT    NOT NULL,
    body       TEXT    NOT NULL,
    created_at INTEGER NOT NULL, -- appended to the log
    expires_at INTEGER,
    PRIMARY KEY (channel, id)
);
CREATE INDEX notifications_in_order ON notifications (channel, epoch, "offset");

-- Further places of a notification that was written more than once. Rare.
CREATE TABLE copies (
    channel  TEXT    NOT NULL,
    id       TEXT    NOT NULL,
    epoch    INTEGER NOT NULL,
    "offset" INTEGER NOT NULL,
    PRIMARY KEY (channel, id, epoch, "offset"),
    FOREIGN KEY (channel, id) REFERENCES notifications (channel, id) ON DELETE CASCADE
) WITHOUT ROWID;

-- What each device was offered of a channel and has acknowledged: half-open ranges of offsets, disjoint, none touching the next.
CREATE TABLE stretches (
    user_id     TEXT    NOT NULL,
    channel     TEXT    NOT NULL,
    epoch       INTEGER NOT NULL,
    device_id   TEXT    NOT NULL,
    kind        TEXT    NOT NULL CHECK (kind IN ('offered', 'acknowledged')),
    from_offset INTEGER NOT NULL,
    to_offset   INTEGER NOT NULL CHECK (to_offset > from_offset),
    PRIMARY KEY (user_id, channel, epoch, device_id, kind, from_offset)
) WITHOUT ROWID;
