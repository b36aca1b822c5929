-- Everything here is a projection of the log: it can be deleted and is folded again from Kafka. The tables are those of SQLite; so is
-- `json_each` below, and so both databases understand the same statements.
-- Times are milliseconds since 1970. Every offset belongs to an epoch; rows of different epochs never mix. Texts are compared byte by
-- byte: no update of the system's locales can put an index out of order.

-- The elements of a list in JSON with their numbers, from 0. PostgreSQL's own function of this name takes `json`, not `text`.
CREATE FUNCTION json_each(list text) RETURNS TABLE (key bigint, value jsonb)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 500
    AS $$ SELECT ordinality - 1, element FROM jsonb_array_elements(list::jsonb) WITH ORDINALITY AS each (element, ordinality) $$;

-- Releases N and N-1 run together, so a release works on a schema that is newer than it knows, as long as its own version is not
-- below this one. A migration after which older releases would do harm raises it; it never raises it above the release before.
CREATE TABLE compatibility (oldest bigint NOT NULL);
INSERT INTO compatibility (oldest) VALUES (1);

-- How far each partition is folded: the next offset to read. Moved by compare-and-set, in the transaction of the rows.
CREATE TABLE projection (
    epoch        bigint NOT NULL,
    topic        text COLLATE "C" NOT NULL,
    partition    integer NOT NULL,
    next_offset  bigint NOT NULL,
    first_offset bigint NOT NULL, -- what lies below was never folded: the log had lost it
    clock        bigint NOT NULL, -- the latest append time that was folded; retention goes by it
    PRIMARY KEY (epoch, topic, partition)
);

-- One row for each notification of a channel, with the first place where it lies on the log in its latest epoch. One that was trimmed has no body
-- any more: its row remembers the id, so that a replay cannot bring it back.
CREATE TABLE notifications (
    channel      text COLLATE "C" NOT NULL,
    id           text COLLATE "C" NOT NULL,
    epoch        bigint NOT NULL,
    partition    integer NOT NULL,
    "offset"     bigint NOT NULL,
    first_epoch  bigint NOT NULL, -- the first place that it ever had, in whichever epoch: marks are judged by it
    first_offset bigint NOT NULL,
    seq          bigint NOT NULL, -- counts the channel's rows as they come; only differences mean something
    appended_at  bigint NOT NULL,
    placed_at    bigint NOT NULL, -- when it was appended where it lies now: it ages by that, for positions lead there
    expires_at   bigint,
    kind         text COLLATE "C" NOT NULL, -- the notification's type
    request_id   text,             -- the id of the request that it follows from, if it does from one
    body         text,             -- the record's value
    PRIMARY KEY (id, channel)
);
CREATE INDEX notifications_in_order ON notifications (channel, epoch, "offset") WHERE body IS NOT NULL;
CREATE INDEX notifications_in_time ON notifications (channel, appended_at, epoch, "offset") WHERE body IS NOT NULL;
CREATE INDEX notifications_by_count ON notifications (channel, seq) WHERE body IS NOT NULL;
CREATE INDEX notifications_by_first_place ON notifications (channel, first_epoch, first_offset);
CREATE INDEX notifications_by_request ON notifications (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX notifications_by_age ON notifications (partition, placed_at) WHERE body IS NOT NULL;
CREATE INDEX notifications_trimmed ON notifications (partition, placed_at) WHERE body IS NULL;

-- Further places of a notification that was written more than once. Rare.
CREATE TABLE copies (
    channel  text COLLATE "C" NOT NULL,
    id       text COLLATE "C" NOT NULL,
    epoch    bigint NOT NULL,
    "offset" bigint NOT NULL,
    PRIMARY KEY (id, channel, epoch, "offset"),
    FOREIGN KEY (id, channel) REFERENCES notifications (id, channel) ON DELETE CASCADE
);

-- The offset of each channel below which something was trimmed.
CREATE TABLE trims (
    channel  text COLLATE "C" NOT NULL PRIMARY KEY,
    epoch    bigint NOT NULL,
    "offset" bigint NOT NULL
);

-- What each device was offered of a channel and has acknowledged: half-open ranges of offsets, disjoint, none touching the next. Where
-- it began is one range of one offset.
CREATE TABLE stretches (
    user_id     text COLLATE "C" NOT NULL,
    channel     text COLLATE "C" NOT NULL,
    epoch       bigint NOT NULL,
    device_id   text COLLATE "C" NOT NULL,
    kind        text COLLATE "C" NOT NULL CHECK (kind IN ('offered', 'acknowledged', 'began')),
    from_offset bigint NOT NULL,
    to_offset   bigint NOT NULL CHECK (to_offset > from_offset),
    PRIMARY KEY (user_id, channel, epoch, device_id, kind, from_offset)
);

-- The channels of its own choice that each device has spoken of, and when it last did. Beyond so many the oldest goes, with its stretches.
CREATE TABLE interests (
    user_id   text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    channel   text COLLATE "C" NOT NULL,
    spoken_at bigint NOT NULL,
    PRIMARY KEY (user_id, device_id, channel)
);

-- When each device last wrote a cursor, and whether an interest of it ever had to go; one that is unused for long is forgotten, with its
-- stretches.
CREATE TABLE devices (
    user_id    text COLLATE "C" NOT NULL,
    device_id  text COLLATE "C" NOT NULL,
    partition  integer NOT NULL, -- of `cursors`
    used_at    bigint NOT NULL,
    has_lapsed integer NOT NULL CHECK (has_lapsed IN (0, 1)),
    PRIMARY KEY (user_id, device_id)
);
CREATE INDEX devices_by_use ON devices (partition, used_at);

-- What users did with single notifications, whether or not those were folded yet: kept beside their rows, so that it does not matter
-- which of the two topics is folded first.
CREATE TABLE states (
    user_id       text COLLATE "C" NOT NULL,
    id            text COLLATE "C" NOT NULL,
    is_read       bigint, -- 1 or 0; nothing while the user said neither, and marks decide
    read_at       bigint, -- of one that is unread: when that mark came
    is_seen       integer NOT NULL,
    is_dismissed  integer NOT NULL,
    channel       text COLLATE "C",
    marked_epoch  bigint, -- of one that is unread: the furthest mark that came after that was said
    marked_offset bigint,
    partition     integer NOT NULL, -- of `receipts`
    changed_at    bigint NOT NULL,
    PRIMARY KEY (id, user_id)
);
CREATE INDEX states_unread ON states (user_id, channel) WHERE is_read = 0;
CREATE INDEX states_by_user ON states (user_id, changed_at);
CREATE INDEX states_by_age ON states (partition, changed_at);

-- Up to where a user has read a channel, and has seen it. The furthest of each counts.
CREATE TABLE marks (
    user_id     text COLLATE "C" NOT NULL,
    channel     text COLLATE "C" NOT NULL,
    read_epoch  bigint,
    read_offset bigint, -- the first offset that is not meant
    read_at     bigint,
    seen_epoch  bigint,
    seen_offset bigint,
    partition   integer NOT NULL, -- of `receipts`
    set_at      bigint NOT NULL,
    PRIMARY KEY (channel, user_id)
);
CREATE INDEX marks_by_age ON marks (partition, set_at);

-- Notifications that nobody is to see any more.
CREATE TABLE withdrawals (
    channel      text COLLATE "C" NOT NULL,
    id           text COLLATE "C" NOT NULL,
    cause        text COLLATE "C" NOT NULL CHECK (cause IN ('once', 'service')),
    partition    integer NOT NULL, -- of `receipts`
    withdrawn_at bigint NOT NULL,
    PRIMARY KEY (id, channel)
);
CREATE INDEX withdrawals_by_age ON withdrawals (partition, withdrawn_at);

-- What was tried of each delivery that nobody acknowledged in time, as the latest record of the ladder says. It is open as long as it waits
-- on a rung and nothing is known that ends it.
CREATE TABLE attempts (
    channel     text COLLATE "C" NOT NULL, -- a mailbox
    id          text COLLATE "C" NOT NULL,
    epoch       bigint NOT NULL, -- where its notification lies
    "offset"    bigint NOT NULL,
    partition   integer NOT NULL, -- of the mailbox
    appended_at bigint, -- its notification
    expires_at  bigint,
    made        bigint NOT NULL, -- how many there were
    history     text NOT NULL, -- the latest of them, as a list
    outcome     text COLLATE "C" NOT NULL, -- why the last one was needed, or why there are no more
    is_undelivered     integer NOT NULL, -- whether it ended without success
    next_at    bigint NOT NULL, -- when the next one is due, or the last rung ended
    is_open     integer NOT NULL,
    PRIMARY KEY (id, channel)
);
CREATE INDEX attempts_open ON attempts (channel, epoch, "offset", expires_at) WHERE is_open = 1;
CREATE INDEX attempts_open_by_outcome ON attempts (outcome, channel, epoch, "offset", expires_at) WHERE is_open = 1;
CREATE INDEX attempts_by_age ON attempts (partition, is_undelivered, next_at);
CREATE INDEX attempts_by_expiry ON attempts (partition, expires_at) WHERE is_open = 1 AND expires_at IS NOT NULL;
