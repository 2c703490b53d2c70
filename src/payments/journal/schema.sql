CREATE TABLE payments (
    id          TEXT    NOT NULL PRIMARY KEY,
    upstream    TEXT    NOT NULL,
    -- Minor units; absent when the configuration does not say where it stands.
    amount      INTEGER,
    currency    TEXT,
    kind        TEXT,
    -- SHA-256 in hex of everything that must not change between two requests with this number.
    fingerprint TEXT    NOT NULL,
    state       TEXT    NOT NULL
                CHECK (state IN ('CREATED', 'PROCESSING', 'SUCCEEDED', 'FAILED', 'CANCELLED', 'MANUAL')),
    created_ms  INTEGER NOT NULL,
    updated_ms  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX payments_by_state ON payments (state, updated_ms);

CREATE TABLE attempts (
    payment_id  TEXT    NOT NULL REFERENCES payments (id),
    n           INTEGER NOT NULL,
    channel     TEXT    NOT NULL,
    -- What the channel knows it by.
    number      TEXT    NOT NULL,
    state       TEXT    NOT NULL
                CHECK (state IN ('PLANNED', 'DISPATCHING', 'SENT', 'SUCCEEDED', 'DECLINED_HARD', 'DECLINED_SOFT',
                                 'REJECTED', 'PENDING', 'UNKNOWN', 'NOT_SENT', 'NOT_PROCESSED', 'CLOSED', 'MANUAL',
                                 'CHARGED_LATE')),
    -- What was observed, for people.
    evidence    TEXT    NOT NULL DEFAULT '',
    http        INTEGER,
    code        TEXT,
    -- The channels that were looked at, with reasons, as JSON.
    considered  TEXT    NOT NULL DEFAULT '[]',
    -- How often the number was sent to this channel.
    sends       INTEGER NOT NULL DEFAULT 1,
    created_ms  INTEGER NOT NULL,
    sent_ms     INTEGER NOT NULL,
    updated_ms  INTEGER NOT NULL,
    -- Queries made, and in how many of the last ones the channel did not know the number.
    tries       INTEGER NOT NULL DEFAULT 0,
    not_found   INTEGER NOT NULL DEFAULT 0,
    next_ms     INTEGER NOT NULL,
    PRIMARY KEY (payment_id, n)
) STRICT, WITHOUT ROWID;

-- The guard: a payment cannot be live on two channels, whatever the code above thinks.
CREATE UNIQUE INDEX one_live_attempt ON attempts (payment_id)
    WHERE state IN ('PLANNED', 'DISPATCHING', 'SENT', 'PENDING', 'UNKNOWN', 'SUCCEEDED');

CREATE INDEX attempts_due ON attempts (next_ms) WHERE state IN ('DISPATCHING', 'SENT', 'PENDING', 'UNKNOWN');

CREATE TABLE events (
    number     INTEGER PRIMARY KEY,
    payment_id TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    detail     TEXT    NOT NULL,
    at_ms      INTEGER NOT NULL
) STRICT;

CREATE INDEX events_by_payment ON events (payment_id);
