//! The tables of one file of accounts.
//!
//! What must never happen is made impossible here: a negative balance, a try that is counted twice, two entries for the
//! same thing, a ledger that is rewritten.

use crate::outbox;

/// Scripts in order; the file remembers how many it has had.
pub(super) const MIGRATIONS: &[&str] = &[TABLES, outbox::SCHEMA, outbox::SEEN_BY_TIME];

const TABLES: &str = "
-- All amounts in minor units.
CREATE TABLE accounts (
    id TEXT PRIMARY KEY,                            -- ends with the shard of its user
    user_id TEXT NOT NULL,
    currency TEXT NOT NULL CHECK (length(currency) = 3),
    status TEXT NOT NULL DEFAULT 'OPEN' CHECK (status IN ('OPEN', 'CLOSED')),
    available INTEGER NOT NULL DEFAULT 0 CHECK (available >= 0),
    frozen INTEGER NOT NULL DEFAULT 0 CHECK (frozen >= 0),      -- promised to others
    incoming INTEGER NOT NULL DEFAULT 0 CHECK (incoming >= 0),  -- promised by others
    version INTEGER NOT NULL DEFAULT 0,             -- changes so far
    created_ms INTEGER NOT NULL,
    CHECK (status = 'OPEN' OR available + frozen + incoming = 0),
    UNIQUE (user_id, currency)
) STRICT;

CREATE TABLE deposits (
    account TEXT NOT NULL REFERENCES accounts (id),
    idem_key TEXT NOT NULL,
    deposit TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (account, idem_key)
) STRICT, WITHOUT ROWID;

-- What has happened to a branch here. A TRY row with the reason CANCEL keeps a late try out.
CREATE TABLE barrier (
    gid TEXT NOT NULL,
    branch TEXT NOT NULL CHECK (branch IN ('payer', 'payee')),
    op TEXT NOT NULL CHECK (op IN ('TRY', 'CONFIRM', 'CANCEL')),
    reason TEXT NOT NULL CHECK (reason IN ('TRY', 'CONFIRM', 'CANCEL')),
    account TEXT NOT NULL,
    amount INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (gid, branch, op)
) STRICT, WITHOUT ROWID;

CREATE TABLE ledger (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    gid TEXT NOT NULL,                              -- of a transfer or a deposit
    account TEXT NOT NULL REFERENCES accounts (id),
    kind TEXT NOT NULL CHECK (kind IN ('DEPOSIT', 'CREDIT', 'DEBIT')),
    amount INTEGER NOT NULL CHECK (amount > 0),
    at_ms INTEGER NOT NULL,
    UNIQUE (gid, account, kind)
) STRICT;
CREATE INDEX ledger_of_account ON ledger (account, seq);
CREATE TRIGGER ledger_is_not_changed BEFORE UPDATE ON ledger
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER ledger_is_not_deleted BEFORE DELETE ON ledger
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;

-- Transfers whose payer lives here.
CREATE TABLE tcc (
    gid TEXT PRIMARY KEY,                           -- ends with the shard of the payer
    payer TEXT NOT NULL REFERENCES accounts (id),
    payee TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    currency TEXT NOT NULL,
    idem_key TEXT NOT NULL,                         -- belongs to the account the money is taken from
    state TEXT NOT NULL CHECK (state IN ('TRYING', 'CONFIRMING', 'CANCELLING', 'CONFIRMED', 'CANCELLED')),
    reason TEXT,                                    -- of CANCELLING and CANCELLED
    next_ms INTEGER NOT NULL,                       -- while open: when recovery takes it over; of TRYING the deadline
    tries INTEGER NOT NULL DEFAULT 0,               -- of recovery
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    CHECK ((state IN ('CANCELLING', 'CANCELLED')) = (reason IS NOT NULL)),
    UNIQUE (payer, idem_key)
) STRICT;
CREATE INDEX tcc_due ON tcc (next_ms) WHERE state IN ('TRYING', 'CONFIRMING', 'CANCELLING');

-- What account holders were told; written by the consumer of events.
CREATE TABLE notices (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    gid TEXT NOT NULL,
    text TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX notices_of_account ON notices (account, seq);
";
