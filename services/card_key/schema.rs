//! The tables of the card-key service.
//!
//! | State of a key | Number | Belongs to an order |
//! | --- | --- | --- |
//! | free: can be sold | 0 | no |
//! | reserved: promised to an order that is not paid yet | 1 | yes |
//! | sold | 2 | yes |
//! | shared: of a `shared` product, for as many buyers as want it | 3 | no |
//! | paused: the seller keeps it back | 4 | no |
//! | recycled: in the bin, and can be brought back | 5 | no |
//!
//! The checks make any other combination impossible. The primary key of `allocations` is the last guard against one
//! key for two orders, whatever the program above it does; shared keys go to their buyers through a table of their
//! own, so that this guard needs no exception. `counts` is kept by triggers in the transaction that changes a key, and
//! its CHECK refuses a commit after which there would be more keys sold than there were.

/// Scripts in order; the file remembers how many it has had.
pub(super) const MIGRATIONS: &[&str] = &["
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

CREATE TABLE products (
    sku TEXT PRIMARY KEY,
    name_zh TEXT NOT NULL,
    name_en TEXT NOT NULL,
    description_zh TEXT NOT NULL,
    description_en TEXT NOT NULL,
    price INTEGER NOT NULL CHECK (price >= 0),
    currency TEXT NOT NULL CHECK (length(currency) = 3),
    tiers TEXT NOT NULL CHECK (json_valid(tiers)),
    policy TEXT NOT NULL CHECK (json_valid(policy))
) STRICT;

CREATE TABLE coupons (
    code TEXT PRIMARY KEY,
    terms TEXT NOT NULL CHECK (json_valid(terms)),
    max_uses INTEGER CHECK (max_uses > 0),
    used INTEGER NOT NULL DEFAULT 0 CHECK (used >= 0)
) STRICT;

CREATE TABLE orders (
    order_no TEXT PRIMARY KEY,
    sku TEXT NOT NULL REFERENCES products (sku),
    qty INTEGER NOT NULL CHECK (qty > 0),
    status TEXT NOT NULL CHECK (status IN
        ('reserved', 'released', 'expired', 'short', 'awaiting', 'refund_due', 'issued', 'refunded')),
    held INTEGER NOT NULL CHECK (held IN (0, 1)), -- whether keys are set aside while it is reserved
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    paid_ms INTEGER,
    issued_ms INTEGER,
    password BLOB,
    lookup BLOB, -- of contact and password
    principal TEXT,
    ip TEXT,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    coupon TEXT REFERENCES coupons (code),
    product TEXT NOT NULL CHECK (json_valid(product)), -- as it was when it was ordered
    CHECK ((paid_ms IS NULL) = (status IN ('reserved', 'released', 'expired'))),
    CHECK (issued_ms IS NULL OR status IN ('issued', 'refunded')),
    CHECK (status <> 'issued' OR issued_ms IS NOT NULL)
) STRICT;
CREATE INDEX orders_due ON orders (expires_ms) WHERE status = 'reserved';
CREATE INDEX orders_waiting ON orders (status, paid_ms) WHERE paid_ms IS NOT NULL AND issued_ms IS NULL;
CREATE INDEX orders_of_principal ON orders (principal, sku) WHERE principal IS NOT NULL;
CREATE INDEX orders_open ON orders (principal) WHERE principal IS NOT NULL AND status = 'reserved' AND held = 1;
CREATE INDEX orders_of_ip ON orders (ip, sku, created_ms) WHERE ip IS NOT NULL;
CREATE INDEX orders_looked_up ON orders (lookup) WHERE lookup IS NOT NULL;
CREATE INDEX orders_with_coupon ON orders (coupon) WHERE coupon IS NOT NULL;

CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    sku TEXT NOT NULL REFERENCES products (sku),
    name TEXT NOT NULL,
    source TEXT NOT NULL CHECK (source IN ('import', 'generate', 'move', 'by_hand')),
    created_ms INTEGER NOT NULL,
    made INTEGER NOT NULL DEFAULT 0 CHECK (made >= 0), -- keys put in, whatever became of them
    UNIQUE (sku, name, source)
) STRICT;

CREATE TABLE keys (
    id INTEGER PRIMARY KEY,
    sku TEXT NOT NULL REFERENCES products (sku),
    batch_id INTEGER NOT NULL REFERENCES batches (id),
    state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 5),
    order_no TEXT REFERENCES orders (order_no),
    fp BLOB NOT NULL UNIQUE, -- of the whole shop: a key in two products would be sold twice
    sealed BLOB NOT NULL,
    preview TEXT,
    CHECK ((state IN (1, 2)) = (order_no IS NOT NULL))
) STRICT;
CREATE INDEX keys_of_order ON keys (order_no) WHERE order_no IS NOT NULL;
CREATE INDEX keys_of_batch ON keys (batch_id);
CREATE INDEX keys_to_choose ON keys (sku, id) WHERE preview IS NOT NULL AND state = 0;

CREATE TABLE counts (
    sku TEXT NOT NULL,
    state INTEGER NOT NULL,
    batch_id INTEGER NOT NULL,
    n INTEGER NOT NULL CHECK (n >= 0),
    PRIMARY KEY (sku, state, batch_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX counts_of_batch ON counts (batch_id, state);
CREATE TRIGGER keys_made AFTER INSERT ON keys BEGIN
    INSERT INTO counts VALUES (new.sku, new.state, new.batch_id, 1)
        ON CONFLICT (sku, state, batch_id) DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER keys_changed AFTER UPDATE OF sku, state, batch_id ON keys BEGIN
    UPDATE counts SET n = n - 1 WHERE sku = old.sku AND state = old.state AND batch_id = old.batch_id;
    INSERT INTO counts VALUES (new.sku, new.state, new.batch_id, 1)
        ON CONFLICT (sku, state, batch_id) DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER keys_stay BEFORE DELETE ON keys BEGIN SELECT raise(ABORT, 'keys are never deleted'); END;

CREATE TABLE allocations (
    key_id INTEGER PRIMARY KEY REFERENCES keys (id),
    order_no TEXT NOT NULL REFERENCES orders (order_no),
    at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE shared_allocations (
    order_no TEXT PRIMARY KEY REFERENCES orders (order_no),
    key_id INTEGER NOT NULL REFERENCES keys (id),
    at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX shared_allocations_of_key ON shared_allocations (key_id);

CREATE TABLE generators (
    space TEXT PRIMARY KEY, -- format, letters and whether there is a check letter
    next INTEGER NOT NULL CHECK (next >= 0)
) STRICT;

CREATE TABLE inbox (
    event_id TEXT PRIMARY KEY,
    digest BLOB NOT NULL,
    order_no TEXT NOT NULL REFERENCES orders (order_no),
    outcome TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    order_no TEXT NOT NULL REFERENCES orders (order_no),
    at_ms INTEGER NOT NULL,
    UNIQUE (order_no, topic) -- each effect of an order is announced once
) STRICT;

CREATE TABLE operations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    operator TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL CHECK (json_valid(detail))
) STRICT;
CREATE TRIGGER operations_stay BEFORE DELETE ON operations BEGIN SELECT raise(ABORT, 'the log only grows'); END;
CREATE TRIGGER operations_stand BEFORE UPDATE ON operations BEGIN SELECT raise(ABORT, 'the log only grows'); END;
"];
