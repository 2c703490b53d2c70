//! What is found when it is over: everything has ended, the buyers' keys, the files, the bills.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::Failure;
use crate::buyer::{Buyer, Ending};
use crate::processes::{CHANNELS, Processes};
use crate::sale::Moved;

/// Longest until nothing is open any more. Nobody's patience is that long, but an order must not be stuck for ever.
const PATIENCE: Duration = Duration::from_secs(240);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Buyers who look at their orders at the same time.
const AT_ONCE: usize = 8;
/// Channels whose bills are compared. The third one's money is compared with the orders by `check`.
const BILLED: [&str; 2] = ["alipay", "wechat"];
const DAY: Duration = Duration::from_secs(86_400);

/// Ends the faults and waits until nothing is under way any more; answers what is left.
///
/// # Errors
/// When a channel refuses to behave.
pub(crate) async fn quiet(processes: &Processes, client: &Client) -> Result<Vec<String>, Failure> {
    for channel in CHANNELS {
        let url = format!("{}/sim/plan", processes.url(channel));
        client.put(url).json(&json!({ "faults": [] })).send().await?.error_for_status()?;
    }
    let begun = Instant::now();
    loop {
        let open = open(processes, client).await?;
        if open.is_empty() || begun.elapsed() > PATIENCE {
            return Ok(open);
        }
        sleep(LOOK).await;
    }
}

/// Everything that has not ended, by the services' own words.
async fn open(processes: &Processes, client: &Client) -> Result<Vec<String>, Failure> {
    let mut open = Vec::new();
    // 500 with violations is an answer; what it lists is judged from the files.
    let stands: Value = client.get(format!("{}/admin/check", processes.url("order"))).send().await?.json().await?;
    let states = [
        ("orders", &["CREATING", "PENDING_PAYMENT", "CLOSING", "PAID", "REFUNDING"][..]),
        ("payments", &["CREATED", "PENDING", "UNKNOWN"][..]),
    ];
    for (what, states) in states {
        for state in states {
            let count = stands[what][state].as_i64().unwrap_or(-1);
            if count != 0 {
                open.push(format!("{count} {what} {state}"));
            }
        }
    }
    for what in ["outbox", "events"] {
        if stands[what] != 0 && stands[what] != json!([0, 0, 0]) {
            open.push(format!("{what}: {}", stands[what]));
        }
    }
    let url = format!("{}/-/payments?state=processing&limit=1000", processes.url("admin"));
    let journal: Value = client.get(url).send().await?.json().await?;
    let count = journal["payments"].as_array().map_or(usize::MAX, Vec::len);
    if count > 0 {
        open.push(format!("{count} payments in the gateway's journal"));
    }
    Ok(open)
}

/// What the buyers have in the end, by asking for every order that was acknowledged.
#[derive(Default)]
pub(crate) struct Bought {
    pub(crate) endings: BTreeMap<String, u64>,
    pub(crate) keys: BTreeSet<String>,
    pub(crate) wrong: Vec<String>,
}

pub(crate) async fn bought(orders: &[(String, Arc<Buyer>)]) -> Bought {
    let mut bought = Bought::default();
    for some in orders.chunks(AT_ONCE) {
        let looks = some.iter().map(|(order, buyer)| {
            let (order, buyer) = (order.clone(), Arc::clone(buyer));
            tokio::spawn(async move {
                let ending = buyer.follow(&order).await;
                let delivered = ending == Ending::Order("DELIVERED".to_owned());
                let keys = if delivered { buyer.keys(&order).await.unwrap_or_default() } else { Vec::new() };
                (order, ending, delivered, keys)
            })
        });
        for look in looks.collect::<Vec<_>>() {
            match look.await {
                Ok((order, ending, delivered, keys)) => bought.add(&order, &ending, delivered, keys),
                Err(error) => bought.wrong.push(error.to_string()),
            }
        }
    }
    bought
}

impl Bought {
    fn add(&mut self, order: &str, ending: &Ending, delivered: bool, keys: Vec<String>) {
        let word = match ending {
            Ending::Order(state) => state.clone(),
            other => format!("{other:?}"),
        };
        if !matches!(word.as_str(), "DELIVERED" | "CANCELLED" | "EXPIRED" | "FAILED" | "REFUNDED") {
            self.wrong.push(format!("order {order} ended as {word}"));
        }
        *self.endings.entry(word).or_default() += 1;
        if delivered && keys.len() != 1 {
            self.wrong.push(format!("order {order} has {} keys", keys.len()));
        }
        for key in keys {
            if !self.keys.insert(key) {
                self.wrong.push(format!("order {order} has a key that another one has, too"));
            }
        }
    }
}

/// The money in all accounts together.
pub(crate) async fn balances(bank: &str, client: &Client, moved: &Moved) -> Result<i64, Failure> {
    let mut sum = 0;
    for account in &moved.accounts {
        let seen: Value = client.get(format!("{bank}/v1/accounts/{account}")).send().await?.json().await?;
        sum += seen["available"].as_i64().unwrap_or(0) + seen["frozen"].as_i64().unwrap_or(0);
    }
    Ok(sum)
}

/// Fetches the bills of these days: a day later by the channels' clocks they are there.
///
/// # Errors
/// When there is no bill.
pub(crate) async fn bills(
    processes: &Processes,
    client: &Client,
    days: &[String],
    folder: &Path,
) -> Result<(), Failure> {
    for channel in BILLED {
        let base = processes.url(channel);
        let later = json!({ "offset_ms": i64::try_from(DAY.as_millis())? });
        client.post(format!("{base}/sim/clock")).json(&later).send().await?.error_for_status()?;
        for day in days {
            let url = format!("{base}/sim/bill?format={channel}&day={day}");
            let bill = client.get(url).send().await?.error_for_status()?.bytes().await?;
            std::fs::write(folder.join(format!("{channel}-{day}.bill")), bill)?;
        }
    }
    Ok(())
}

/// The verdict of the offline checker: violations, and the last line that it prints.
///
/// # Errors
/// When it cannot read the files.
pub(crate) fn check(processes: &Processes, orders: &[String], folder: &Path) -> Result<(bool, String), Failure> {
    let list = folder.join("acknowledged.txt");
    std::fs::write(&list, orders.join("\n"))?;
    let mut command = processes.program("tidegate-services");
    let output = command.arg("check").arg(processes.data()).arg("--acknowledged").arg(list).output()?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), text.trim_end().to_owned()))
}

/// Compares the bills with the books; answers payments that agree, and what does not.
///
/// # Errors
/// When a bill is not to be believed.
pub(crate) fn reconcile(processes: &Processes, days: &[String], folder: &Path) -> Result<(u64, Vec<String>), Failure> {
    let (mut matched, mut open) = (0, Vec::new());
    for channel in BILLED {
        for (at, day) in days.iter().enumerate() {
            let mut command = processes.program("tidegate-services");
            command.args(["reconcile", "--channel", channel, "--date", day, "--bill"]);
            command.arg(folder.join(format!("{channel}-{day}.bill"))).arg("--data-dir").arg(processes.data());
            let output = command.arg("--out").arg(folder.join("reports")).output()?;
            let report: Value = serde_json::from_slice(&output.stdout)
                .map_err(|_| format!("reconcile {channel}: {}", String::from_utf8_lossy(&output.stderr)))?;
            matched += report["matched"]["payments"].as_u64().unwrap_or(0);
            let (differences, carried) = (&report["differences"], &report["carried"]["out"]);
            // What one day carries over is explained by the next; nothing explains it after the last.
            if *differences != 0 || (at + 1 == days.len() && *carried != 0) {
                open.push(format!("{channel} {day}: {differences} differences, {carried} carried over"));
            }
        }
    }
    Ok((matched, open))
}
