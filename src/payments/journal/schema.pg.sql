CREATE TABLE IF NOT EXISTS tidegate_payment (
    id          TEXT   NOT NULL PRIMARY KEY,
    upstream    TEXT   NOT NULL,
    -- Minor units; absent when the configuration does not say where it stands.
    amount      BIGINT,
    currency    TEXT,
    kind        TEXT,
    -- SHA-256 in hex of everything that must not change between two requests with this number.
    fingerprint TEXT   NOT NULL,
    state       TEXT   NOT NULL
                CHECK (state IN ('CREATED', 'PROCESSING', 'SUCCEEDED', 'FAILED', 'CANCELLED', 'MANUAL')),
    -- The gateway that made its last try.
    owner       TEXT   NOT NULL,
    created_ms  BIGINT NOT NULL,
    updated_ms  BIGINT NOT NULL
);

CREATE INDEX IF NOT EXISTS tidegate_payment_by_state ON tidegate_payment (state, updated_ms);

CREATE TABLE IF NOT EXISTS tidegate_attempt (
    payment_id  TEXT   NOT NULL REFERENCES tidegate_payment (id),
    n           BIGINT NOT NULL,
    channel     TEXT   NOT NULL,
    -- What the channel knows it by.
    number      TEXT   NOT NULL,
    state       TEXT   NOT NULL
                CHECK (state IN ('PLANNED', 'DISPATCHING', 'SENT', 'SUCCEEDED', 'DECLINED_HARD', 'DECLINED_SOFT',
                                 'REJECTED', 'PENDING', 'UNKNOWN', 'NOT_SENT', 'NOT_PROCESSED', 'CLOSED', 'MANUAL',
                                 'CHARGED_LATE')),
    -- What was observed, for people.
    evidence    TEXT   NOT NULL,
    http        INTEGER,
    code        TEXT,
    -- The channels that were looked at, with reasons, as JSON.
    considered  TEXT   NOT NULL,
    -- How often the number was sent to this channel.
    sends       BIGINT NOT NULL,
    created_ms  BIGINT NOT NULL,
    sent_ms     BIGINT NOT NULL,
    updated_ms  BIGINT NOT NULL,
    -- Queries made, and in how many of the last ones the channel did not know the number.
    tries       BIGINT NOT NULL,
    not_found   BIGINT NOT NULL,
    next_ms     BIGINT NOT NULL,
    PRIMARY KEY (payment_id, n)
);

-- The guard: a payment cannot be live on two channels, whatever any gateway thinks.
CREATE UNIQUE INDEX IF NOT EXISTS tidegate_one_live_attempt ON tidegate_attempt (payment_id)
    WHERE state IN ('PLANNED', 'DISPATCHING', 'SENT', 'PENDING', 'UNKNOWN', 'SUCCEEDED');

CREATE INDEX IF NOT EXISTS tidegate_attempt_due ON tidegate_attempt (next_ms)
    WHERE state IN ('DISPATCHING', 'SENT', 'PENDING', 'UNKNOWN');

CREATE TABLE IF NOT EXISTS tidegate_payment_event (
    number     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payment_id TEXT   NOT NULL,
    kind       TEXT   NOT NULL,
    detail     TEXT   NOT NULL,
    at_ms      BIGINT NOT NULL
);

CREATE INDEX IF NOT EXISTS tidegate_payment_event_by_payment ON tidegate_payment_event (payment_id);

-- Gateways, and when each was last heard of by this clock.
CREATE TABLE IF NOT EXISTS tidegate_gateway (
    name TEXT        NOT NULL PRIMARY KEY,
    seen TIMESTAMPTZ NOT NULL
);
