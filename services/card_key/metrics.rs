//! Counters, and their text form for a scraper.

use std::fmt::Write;

use super::shop::Shop;
use crate::support::Counter;

/// What happened since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) reserved: Counter,
    pub(super) released: Counter,
    pub(super) expired: Counter,
    pub(super) issued_keys: Counter,
    pub(super) out_of_stock: Counter,
    pub(super) imported: Counter,
    pub(super) wrong_passwords: Counter,
}

/// All figures in the text exposition format.
pub(super) fn text(shop: &Shop) -> String {
    let counters = &shop.counters;
    let stats = shop.store.stats();
    let mut out = String::new();
    let totals = [
        ("card_key_reservations_total", "Reservations made.", counters.reserved.get()),
        ("card_key_releases_total", "Reservations given back by the order service.", counters.released.get()),
        ("card_key_expiries_total", "Reservations given back because their time was over.", counters.expired.get()),
        ("card_key_issued_keys_total", "Keys issued to buyers.", counters.issued_keys.get()),
        ("card_key_out_of_stock_total", "Refusals for want of stock.", counters.out_of_stock.get()),
        ("card_key_imported_keys_total", "Keys imported.", counters.imported.get()),
        ("card_key_wrong_passwords_total", "Queries with a wrong password.", counters.wrong_passwords.get()),
        ("card_key_store_commits_total", "Transactions committed, one fsync each.", stats.commits),
        ("card_key_store_operations_total", "Operations in those transactions.", stats.operations),
    ];
    for (name, help, value) in totals {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}");
    }
    let _ = writeln!(out, "# HELP card_key_free_keys Keys that can be sold.\n# TYPE card_key_free_keys gauge");
    for product in shop.products() {
        let free = shop.stock.of(&product.sku).len();
        let _ = writeln!(out, "card_key_free_keys{{sku=\"{}\"}} {free}", product.sku);
    }
    out
}
