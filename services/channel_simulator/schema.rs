//! The tables of a channel.
//!
//! `payments` says how things stand, `ledger` says what money did and is only ever added to. That a payment is charged
//! or declined at most once is a unique index and not only a rule of the program: the ledger is what others are
//! measured by.

/// All tables of a file.
pub(super) const SCHEMA: &str = "
CREATE TABLE payments (
    id INTEGER PRIMARY KEY,
    payment_no TEXT NOT NULL UNIQUE,
    idempotency_key TEXT NOT NULL UNIQUE,
    trade_no TEXT NOT NULL UNIQUE,
    amount INTEGER NOT NULL CHECK (amount > 0),
    currency TEXT NOT NULL,
    subject TEXT NOT NULL,
    notify_url TEXT NOT NULL,
    scene TEXT,
    auto INTEGER NOT NULL CHECK (auto IN (0, 1)), -- confirmed when it was created
    status TEXT NOT NULL CHECK (status IN ('PENDING', 'SUCCESS', 'DECLINED', 'CLOSED')),
    code TEXT, -- why it was declined
    refunded INTEGER NOT NULL DEFAULT 0 CHECK (refunded BETWEEN 0 AND amount),
    created_ms INTEGER NOT NULL,
    decided_ms INTEGER,
    expires_ms INTEGER, -- by the channel's own clock; closed from then on
    due_ms INTEGER, -- agreed to and not decided yet: when that will be
    due_code TEXT, -- why it will be declined then
    dialect TEXT NOT NULL,
    extra TEXT NOT NULL, -- what only the dialect knows
    CHECK ((status = 'PENDING') = (decided_ms IS NULL)),
    CHECK ((status = 'DECLINED') = (code IS NOT NULL)),
    CHECK (refunded = 0 OR status = 'SUCCESS')
) STRICT;
CREATE INDEX payments_due ON payments (due_ms) WHERE due_ms IS NOT NULL;

-- Numbers that were closed before a payment came with them: none will.
CREATE TABLE closed_numbers (payment_no TEXT NOT NULL PRIMARY KEY) STRICT, WITHOUT ROWID;

CREATE TABLE refunds (
    payment_no TEXT NOT NULL REFERENCES payments (payment_no),
    refund_no TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    refunded INTEGER NOT NULL, -- all refunds of the payment up to and with this one
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (payment_no, refund_no)
) STRICT;

CREATE TABLE ledger (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL CHECK (kind IN ('charge', 'decline', 'refund')),
    payment_no TEXT NOT NULL REFERENCES payments (payment_no),
    amount INTEGER NOT NULL CHECK (amount > 0),
    refund_no TEXT,
    code TEXT,
    at_ms INTEGER NOT NULL,
    received_key TEXT, -- the idempotency key of the call that moved the money
    connection INTEGER, -- its connection, counted since the start
    bytes_read INTEGER, -- from that connection until then
    CHECK ((kind = 'refund') = (refund_no IS NOT NULL))
) STRICT;
CREATE INDEX ledger_of_payment ON ledger (payment_no);
CREATE UNIQUE INDEX ledger_one_decision ON ledger (payment_no) WHERE kind IN ('charge', 'decline');

CREATE TABLE callbacks (
    notify_id TEXT PRIMARY KEY,
    payment_no TEXT NOT NULL UNIQUE REFERENCES payments (payment_no),
    state TEXT NOT NULL CHECK (state IN ('pending', 'acknowledged', 'dropped', 'given_up')),
    attempts INTEGER NOT NULL DEFAULT 0,
    due_ms INTEGER NOT NULL,
    copies INTEGER NOT NULL CHECK (copies >= 0), -- sent besides the real one, at once
    probe INTEGER NOT NULL CHECK (probe IN (0, 1)) -- preceded by one with a wrong signature
) STRICT;
CREATE INDEX callbacks_due ON callbacks (due_ms) WHERE state = 'pending';
";
