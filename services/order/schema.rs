//! The tables of the order service.
//!
//! What must never happen is made impossible here, whatever the program above does: two orders for one idempotency
//! key, two live payments for one order, one notification counted twice, a history that is rewritten.

/// All tables of a file.
pub(super) const SCHEMA: &str = "
CREATE TABLE orders (
    order_no TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    idem_key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    sku TEXT NOT NULL,
    qty INTEGER NOT NULL CHECK (qty > 0),
    amount INTEGER NOT NULL CHECK (amount >= 0), -- minor units
    currency TEXT NOT NULL CHECK (length(currency) = 3),
    status TEXT NOT NULL CHECK (status IN ('CREATING', 'PENDING_PAYMENT', 'CLOSING', 'PAID', 'DELIVERED', 'REFUNDING',
        'REFUNDED', 'FAILED', 'CANCELLED', 'EXPIRED')),
    fail_code TEXT,                              -- of FAILED
    closing_to TEXT CHECK (closing_to IN ('CANCELLED', 'EXPIRED')),
    paid_payment TEXT REFERENCES payments (payment_no),
    password BLOB,                               -- sealed, and only until the reservation has it
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    CHECK ((status = 'FAILED') = (fail_code IS NOT NULL)),
    CHECK (status <> 'CLOSING' OR closing_to IS NOT NULL),
    CHECK (status = 'CREATING' OR password IS NULL),
    UNIQUE (user_id, idem_key)
) STRICT;
CREATE INDEX orders_of_user ON orders (user_id, created_ms);
CREATE INDEX orders_by_status ON orders (status);
CREATE INDEX orders_due ON orders (expires_ms) WHERE status IN ('CREATING', 'PENDING_PAYMENT');

CREATE TABLE payments (
    payment_no TEXT PRIMARY KEY,
    order_no TEXT NOT NULL REFERENCES orders (order_no),
    attempt INTEGER NOT NULL,
    method TEXT NOT NULL CHECK (method IN ('any', 'alipay', 'wechat', 'union')), -- what the buyer chose
    channel TEXT CHECK (channel IN ('alipay', 'wechat', 'union')), -- where it is; absent: nobody knows
    amount INTEGER NOT NULL CHECK (amount >= 0),
    currency TEXT NOT NULL CHECK (length(currency) = 3),
    status TEXT NOT NULL CHECK (status IN ('CREATED', 'PENDING', 'UNKNOWN', 'SUCCESS', 'DECLINED', 'CLOSED', 'FAILED')),
    trade_no TEXT,                               -- the channel's number
    refund TEXT CHECK (refund IN ('WANTED', 'DONE')),
    close_wanted INTEGER NOT NULL DEFAULT 0 CHECK (close_wanted IN (0, 1)),
    tries INTEGER NOT NULL DEFAULT 0,            -- of the resolver
    not_found INTEGER NOT NULL DEFAULT 0,        -- in a row
    next_ms INTEGER NOT NULL,                    -- when the resolver looks at it, while it is live
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    CHECK (method = 'any' OR channel IS method),
    CHECK (channel IS NOT NULL OR status NOT IN ('PENDING', 'SUCCESS')),
    CHECK (refund IS NULL OR status = 'SUCCESS'),
    UNIQUE (order_no, attempt)
) STRICT;
CREATE UNIQUE INDEX payments_one_live ON payments (order_no) WHERE status IN ('CREATED', 'PENDING', 'UNKNOWN');
CREATE INDEX payments_due ON payments (next_ms) WHERE status IN ('CREATED', 'PENDING', 'UNKNOWN');
CREATE INDEX payments_by_status ON payments (status);

-- Notifications that were taken in, with what came of them.
CREATE TABLE inbox (
    channel TEXT NOT NULL,
    notify_id TEXT NOT NULL,
    payment_no TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('ACCEPTED', 'MISMATCH')),
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (channel, notify_id)
) STRICT, WITHOUT ROWID;

-- What is still to be done elsewhere. A row is written together with the reason for it and deleted when it is done.
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('RESERVE', 'RELEASE', 'DELIVER', 'REFUND')),
    subject TEXT NOT NULL,                       -- an order, for REFUND a payment
    tries INTEGER NOT NULL DEFAULT 0,
    next_ms INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    UNIQUE (kind, subject)
) STRICT;
CREATE INDEX tasks_due ON tasks (next_ms);

-- What buyers are told, in the order of seq.
CREATE TABLE notices (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id TEXT NOT NULL,
    order_no TEXT NOT NULL,
    status TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    UNIQUE (order_no, status)
) STRICT;
CREATE INDEX notices_of_user ON notices (user_id, seq);

-- Keys by what has become of them, counted from events.
CREATE TABLE sales (
    sku TEXT NOT NULL,
    what TEXT NOT NULL CHECK (what IN ('reserved', 'returned', 'issued')),
    keys INTEGER NOT NULL CHECK (keys > 0),
    PRIMARY KEY (sku, what)
) STRICT, WITHOUT ROWID;

CREATE TABLE order_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    order_no TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX order_events_of_order ON order_events (order_no);
CREATE TRIGGER order_events_are_not_changed BEFORE UPDATE ON order_events
BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END;
CREATE TRIGGER order_events_are_not_deleted BEFORE DELETE ON order_events
BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END;
";
