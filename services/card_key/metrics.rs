//! Counters, and their text form for a scraper.

use std::fmt::Write;

use super::rows::Status;
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
    pub(super) limited: Counter,
    pub(super) imported: Counter,
    pub(super) wrong_passwords: Counter,
}

impl Counters {
    /// What buyers have done, granted or not: it only grows while somebody is there.
    pub(super) fn by_buyers(&self) -> u64 {
        let all = [&self.reserved, &self.released, &self.issued_keys, &self.out_of_stock, &self.limited];
        all.into_iter().map(Counter::get).sum()
    }
}

/// All figures in the text exposition format; `waiting` are the paid orders without keys.
pub(super) fn text(shop: &Shop, waiting: &[(Status, i64)]) -> String {
    let counters = &shop.counters;
    let stats = shop.store.stats();
    let mut out = String::new();
    let totals = [
        ("card_key_reservations_total", "Reservations made.", counters.reserved.get()),
        ("card_key_releases_total", "Reservations given back by the order service.", counters.released.get()),
        ("card_key_expiries_total", "Reservations given back because their time was over.", counters.expired.get()),
        ("card_key_issued_keys_total", "Keys issued to buyers.", counters.issued_keys.get()),
        ("card_key_out_of_stock_total", "Refusals for want of stock.", counters.out_of_stock.get()),
        ("card_key_limited_total", "Refusals because somebody held or bought enough.", counters.limited.get()),
        ("card_key_imported_keys_total", "Keys imported.", counters.imported.get()),
        ("card_key_wrong_passwords_total", "Queries with a wrong password.", counters.wrong_passwords.get()),
        ("card_key_store_commits_total", "Transactions committed, one fsync each.", stats.commits),
        ("card_key_store_operations_total", "Operations in those transactions.", stats.operations),
    ];
    for (name, help, value) in totals {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}");
    }
    let name = "card_key_waiting_orders";
    let _ = writeln!(out, "# HELP {name} Paid orders that need somebody to look after them.\n# TYPE {name} gauge");
    for status in [Status::Short, Status::Awaiting, Status::RefundDue] {
        let n = waiting.iter().find(|(one, _)| *one == status).map_or(0, |(_, n)| *n);
        let _ = writeln!(out, "{name}{{status=\"{}\"}} {n}", status.as_str());
    }
    let _ = writeln!(out, "# HELP card_key_free_keys Keys that can be sold.\n# TYPE card_key_free_keys gauge");
    for product in shop.products() {
        let free = shop.stock.of(&product.sku).len();
        let _ = writeln!(out, "card_key_free_keys{{sku=\"{}\"}} {free}", product.sku);
    }
    out
}
