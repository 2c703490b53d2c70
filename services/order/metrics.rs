//! Counters and figures from the rows, in text form for a scraper.

use std::fmt::Write;

use super::desk::Desk;
use super::inspect::{self, Figures};
use crate::support::{Counter, Problem, unix_ms};

/// What happened since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) notified: Counter,
    pub(super) notified_again: Counter,
    pub(super) bad_signatures: Counter,
    pub(super) mismatches: Counter,
    pub(super) wrong_amounts: Counter,
}

/// All figures in the text exposition format.
pub(super) async fn text(desk: &Desk) -> Result<String, Problem> {
    let now_ms = unix_ms();
    let figures = inspect::of_all(&desk.files, now_ms).await?;
    let stats = desk.files.stats();
    let counters = &desk.counters;
    let mut out = String::new();
    let totals = [
        ("order_notifications_total", "Notifications taken in.", counters.notified.get()),
        ("order_notifications_repeated_total", "Notifications known already.", counters.notified_again.get()),
        (
            "order_notifications_unsigned_total",
            "Notifications without a good signature.",
            counters.bad_signatures.get(),
        ),
        ("order_notifications_mismatched_total", "Notifications of a wrong amount.", counters.mismatches.get()),
        ("order_answers_mismatched_total", "Answers that speak of a wrong amount.", counters.wrong_amounts.get()),
        ("order_products_near_total", "Products found near at hand.", desk.stock.products.hits.get()),
        ("order_products_asked_total", "Products asked for at the card-key service.", desk.stock.products.asked.get()),
        ("order_store_commits_total", "Transactions committed, one fsync each.", stats.commits),
        ("order_store_operations_total", "Operations in those transactions.", stats.operations),
    ];
    for (name, help, value) in totals {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}");
    }
    write_figures(&mut out, &figures);
    Ok(out)
}

fn write_figures(out: &mut String, figures: &Figures) {
    let Figures { orders, payments, outbox, events: [waiting, dead, parked], oldest_open_payment_ms } = figures;
    for (name, help, states) in
        [("order_orders", "Orders by state.", orders), ("order_payments", "Payments by state.", payments)]
    {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (state, count) in states {
            let _ = writeln!(out, "{name}{{status=\"{state}\"}} {count}");
        }
    }
    let seconds = oldest_open_payment_ms / 1_000;
    let gauges = [
        ("order_outbox_depth", "Tasks not done yet.", *outbox),
        ("order_open_payment_age_seconds", "Age of the oldest payment without an outcome.", seconds),
    ];
    for (name, help, value) in gauges {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
    }
    let _ = writeln!(out, "# HELP order_events Events not taken in yet.\n# TYPE order_events gauge");
    for (state, count) in [("waiting", waiting), ("dead", dead), ("parked", parked)] {
        let _ = writeln!(out, "order_events{{state=\"{state}\"}} {count}");
    }
}
