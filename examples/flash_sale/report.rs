//! The result: what became of everybody, how long it took, and whether anybody was cheated.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use crate::Args;
use crate::channels::Money;
use crate::histogram::Latency;
use crate::tally::{Counts, Flooder, Tally, total};

/// A driver that is later than this by itself measures its own machine.
const LATE_DRIVER_MS: f64 = 50.0;

/// Everything there is to say about a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    sku: String,
    users: u32,
    rate: String,
    seconds: f64,
    stock_before: u64,
    arrived: u64,
    limited: BTreeMap<String, u64>,
    waited_in_line: u64,
    sold_out: u64,
    ordered: u64,
    left_unpaid: u64,
    paid: u64,
    delivered: u64,
    failed: BTreeMap<String, u64>,
    /// As the gateway counted, in every step of a purchase.
    refused_by_limit: BTreeMap<String, u64>,
    told_to_wait_after_ordering: BTreeMap<String, u64>,
    errors_mended_by_repeating: BTreeMap<String, u64>,
    flooder: Flooder,
    /// From the moment a buyer meant to ask.
    latency: Latencies,
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Latencies {
    line: Latency,
    order: Latency,
    refusal: Latency,
    purchase: Latency,
    driver_late: Latency,
}

/// Something that must hold, whatever the load.
#[derive(Debug, Serialize)]
struct Check {
    what: String,
    passed: bool,
}

impl Report {
    /// `stock` and the waiting room's `pace`, people a minute, are those before the run.
    pub(crate) fn new(
        args: &Args,
        (stock, pace): (u64, Option<u64>),
        ran: Duration,
        tally: &Tally,
        refused: BTreeMap<String, u64>,
        money: Option<&Money>,
    ) -> Self {
        let counts = tally.counts();
        let mut checks = checks(&counts, stock);
        checks.extend(pace.into_iter().flat_map(|pace| room_checks(&counts, pace)));
        checks.extend(money.into_iter().flat_map(checks_of_money));
        Self {
            sku: args.sku.clone(),
            users: args.users,
            rate: args.rate.to_string(),
            seconds: (ran.as_secs_f64() * 10.0).round() / 10.0,
            stock_before: stock,
            arrived: counts.arrived,
            waited_in_line: counts.line.latency().count + counts.told.len() as u64,
            sold_out: counts.sold_out,
            ordered: counts.ordered,
            left_unpaid: counts.unpaid,
            paid: counts.paid,
            delivered: counts.delivered,
            flooder: counts.flooder,
            latency: Latencies {
                line: counts.line.latency(),
                order: counts.answered.latency(),
                refusal: counts.refused.latency(),
                purchase: counts.bought.latency(),
                driver_late: counts.driver_late.latency(),
            },
            limited: counts.limited,
            failed: counts.failed,
            told_to_wait_after_ordering: counts.waited,
            errors_mended_by_repeating: counts.repeated,
            refused_by_limit: refused,
            checks,
        }
    }

    /// Whether every check passed.
    pub(crate) fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }

    /// The same for people.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let (sku, rate, seconds) = (&self.sku, &self.rate, self.seconds);
        let (users, stock) = (grouped(self.users.into()), grouped(self.stock_before));
        writeln!(out, "{users} people wanted {sku} ({stock} on sale): {rate} for {seconds} s\n")?;
        self.print_funnel(out)?;
        self.print_latency(out)?;
        for check in &self.checks {
            writeln!(out, "  {}  {}", if check.passed { "ok    " } else { "FAILED" }, check.what)?;
        }
        if self.stock_before == 0 {
            writeln!(out, "\nNothing was on sale. `./dev run --fresh` restocks; `--sku steam-50` has more.")?;
        }
        Ok(())
    }

    fn print_funnel(&self, out: &mut impl Write) -> io::Result<()> {
        let rows = [
            ("arrived", self.arrived, String::new()),
            ("limited", total(&self.limited), kinds("by ", &self.limited)),
            ("in line", self.waited_in_line, String::new()),
            ("sold out", self.sold_out, String::new()),
            ("ordered", self.ordered, String::new()),
            (
                "paid",
                self.paid,
                if self.left_unpaid > 0 { format!("{} did not pay", grouped(self.left_unpaid)) } else { String::new() },
            ),
            ("delivered", self.delivered, String::new()),
            ("failed", total(&self.failed), kinds("", &self.failed)),
        ];
        for (name, count, remark) in rows {
            writeln!(out, "{}", format!("  {name:<12}{:>10}   {remark}", grouped(count)).trim_end())?;
        }
        let Flooder { arrived, limited, ordered } = self.flooder;
        if arrived > 0 {
            let [arrived, limited, ordered] = [arrived, limited, ordered].map(grouped);
            writeln!(out, "\n  one of them came {arrived} times: {limited} limited, {ordered} ordered")?;
        }
        let remarks = [
            ("refusals by limit, as the gateway counted", &self.refused_by_limit),
            ("told to wait after ordering, and came back", &self.told_to_wait_after_ordering),
            ("errors after ordering, mended by repeating", &self.errors_mended_by_repeating),
        ];
        for (what, counts) in remarks.into_iter().filter(|(_, counts)| !counts.is_empty()) {
            writeln!(out, "  {what}: {}", kinds("", counts))?;
        }
        writeln!(out)
    }

    fn print_latency(&self, out: &mut impl Write) -> io::Result<()> {
        let Latencies { line, order, refusal, purchase, driver_late } = &self.latency;
        writeln!(out, "  {:<12}{:>12}{:>12}{:>12}   from the intended start", "latency", "p50", "p99", "max")?;
        let rows = [("in line", line), ("order", order), ("refusal", refusal), ("purchase", purchase)];
        for (name, Latency { p50_ms, p99_ms, max_ms, .. }) in rows.into_iter().filter(|(_, row)| row.count > 0) {
            writeln!(out, "  {name:<12}{p50_ms:>9.1} ms{p99_ms:>9.1} ms{max_ms:>9.1} ms")?;
        }
        if driver_late.p99_ms > LATE_DRIVER_MS {
            let late = driver_late.p99_ms;
            writeln!(
                out,
                "  (the driver itself was up to {late:.0} ms late for 99 % of them: too much for this machine)"
            )?;
        }
        writeln!(out)
    }
}

fn checks(counts: &Counts, stock: u64) -> Vec<Check> {
    let check = |what: String, passed| Check { what, passed };
    let Counts { keys, keys_seen_twice, paid, delivered, not_started, ordered, .. } = counts;
    vec![
        check(format!("no key was sold twice ({keys} keys, {keys_seen_twice} seen before)"), *keys_seen_twice == 0),
        check(format!("no more delivered than were there ({delivered} of {stock})"), *delivered <= stock),
        check(format!("every paid order was delivered ({delivered} of {paid})"), delivered == paid),
        check(format!("something was sold ({ordered} orders)"), *ordered > 0 || stock == 0),
        check(format!("everybody on the schedule came ({not_started} had no room in the driver)"), *not_started == 0),
    ]
}

/// Longest time in which those who wait hear that nothing is left.
const TOLD_WITHIN: Duration = Duration::from_secs(1);
/// Shorter than this, a line says nothing about a pace.
const SHORTEST_LINE: Duration = Duration::from_secs(2);

/// What the waiting room promised, as the visitors saw it.
fn room_checks(counts: &Counts, pace: u64) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut let_in = counts.let_in.clone();
    let_in.sort_unstable();
    let minute = |at: usize| {
        let_in[at..].iter().take_while(|later| **later < let_in[at] + Duration::from_secs(60)).count() as u64
    };
    let most = (0..let_in.len()).map(minute).max().unwrap_or(0);
    let what = format!("never more than {pace} were let in within 60 s (at most {most})");
    checks.push(Check { what, passed: most <= pace });
    // What a quiet time has saved up is spent on the first who come.
    let begin = counts.first_wait.map(|first| first + Duration::from_secs(1));
    if let (Some(first), Some(last)) = (begin, let_in.last())
        && *last >= first + SHORTEST_LINE
    {
        let span = (*last - first).as_secs_f64();
        let seen = let_in.iter().filter(|at| **at > first).count() as f64 / span;
        let wanted = pace as f64 / 60.0;
        let what = format!("while people waited, {seen:.1} a second were let in ({wanted:.1} configured)");
        checks.push(Check { what, passed: seen <= wanted * 1.3 && seen >= wanted * 0.7 });
    }
    if let (Some(gone), Some(last)) = (counts.gone, counts.told.iter().max()) {
        let after = last.saturating_sub(gone);
        let (people, seconds) = (counts.told.len(), after.as_secs_f64());
        let what = format!("all {people} who still waited heard within a second that nothing is left ({seconds:.2} s)");
        checks.push(Check { what, passed: after <= TOLD_WITHIN });
    }
    checks
}

fn checks_of_money(money: &Money) -> Vec<Check> {
    let check = |what: String, passed| Check { what, passed };
    let Money { charged, charged_twice, faults, open, waiting, manual } = money;
    vec![
        check(format!("the channels misbehaved ({faults} times)"), *faults > 0),
        check(
            format!("by the channels' ledgers nobody paid twice ({charged} charged, {charged_twice} twice)"),
            *charged_twice == 0,
        ),
        check(
            format!(
                "of no payment it is unknown what became ({open}; {waiting} wait for their payer, {manual} for us)"
            ),
            *open == 0,
        ),
    ]
}

fn kinds(prefix: &str, counts: &BTreeMap<String, u64>) -> String {
    let parts: Vec<_> = counts.iter().map(|(kind, count)| format!("{prefix}{kind} {}", grouped(*count))).collect();
    parts.join(", ")
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        let shown = [0, 12, 999, 1_000, 123_456, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "12", "999", "1,000", "123,456", "1,234,567"]);
    }
}
