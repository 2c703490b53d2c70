//! The tables of the card-key service.
//!
//! A key is `free`, `reserved` or `sold`; the checks below make any other combination impossible, and the primary key
//! of `allocations` is the last guard against one key for two orders, whatever the program above it does.

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
    currency TEXT NOT NULL CHECK (length(currency) = 3)
) STRICT;

CREATE TABLE reservations (
    order_no TEXT PRIMARY KEY,
    sku TEXT NOT NULL REFERENCES products (sku),
    qty INTEGER NOT NULL CHECK (qty > 0),
    status TEXT NOT NULL CHECK (status IN ('reserved', 'released', 'expired', 'issued')),
    expires_ms INTEGER NOT NULL,
    password BLOB
) STRICT;
CREATE INDEX reservations_due ON reservations (expires_ms) WHERE status = 'reserved';

CREATE TABLE keys (
    id INTEGER PRIMARY KEY,
    sku TEXT NOT NULL REFERENCES products (sku),
    state INTEGER NOT NULL DEFAULT 0 CHECK (state IN (0, 1, 2)), -- free, reserved, sold
    order_no TEXT REFERENCES reservations (order_no),
    batch TEXT NOT NULL,
    fp BLOB NOT NULL UNIQUE, -- of the whole shop: a key in two products would be sold twice
    sealed BLOB NOT NULL,
    CHECK ((state = 0) = (order_no IS NULL))
) STRICT;
CREATE INDEX keys_of_order ON keys (order_no) WHERE order_no IS NOT NULL;

CREATE TABLE allocations (
    key_id INTEGER PRIMARY KEY REFERENCES keys (id),
    order_no TEXT NOT NULL REFERENCES reservations (order_no),
    at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX allocations_of_order ON allocations (order_no);
"];
