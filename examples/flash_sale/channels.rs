//! The payment channels behind the sale: told to misbehave for its length, and believed about money when it is over.
//!
//! A channel's own ledger is the only witness who knows what was charged; what shop and gateway wrote down is what is
//! being examined.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value, json};

use crate::Failure;

/// One answer of a simulator or of the admin side takes less than this, faults included: those spare the interface for
/// tests.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often payments are looked at that are still open.
const LOOK: Duration = Duration::from_millis(500);

/// The simulators, misbehaving until they are told to stop.
pub(crate) struct Channels {
    client: Client,
    simulators: Vec<String>,
    admin: String,
}

/// What their ledgers and the gateway's journal tell at the end.
#[derive(Debug, Default)]
pub(crate) struct Money {
    /// Payments that were charged and not paid back.
    pub(crate) charged: u64,
    /// Payments that were charged more than once, net of what was paid back.
    pub(crate) charged_twice: u64,
    /// Faults that really happened.
    pub(crate) faults: u64,
    /// Payments in the gateway's journal of which nobody knows what became.
    pub(crate) open: u64,
    /// Payments that wait for a payer who has not agreed so far.
    pub(crate) waiting: u64,
    /// Payments for which a person was called.
    pub(crate) manual: u64,
}

impl Channels {
    /// Puts the plan of a file into every simulator.
    pub(crate) async fn misbehave(plan: &Path, simulators: &[String], admin: &str) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(plan).map_err(|error| format!("{}: {error}", plan.display()))?;
        let plan: Value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", plan.display()))?;
        let client = Client::builder().no_proxy().timeout(PATIENCE).build()?;
        let clean = |url: &str| url.trim_end_matches('/').to_owned();
        let simulators = simulators.iter().map(|url| clean(url)).collect();
        let channels = Self { client, simulators, admin: clean(admin) };
        channels.put(&plan).await?;
        Ok(channels)
    }

    async fn put(&self, plan: &Value) -> Result<(), Failure> {
        for simulator in &self.simulators {
            let answer = self.client.put(format!("{simulator}/sim/plan")).json(plan).send().await?;
            if !answer.status().is_success() {
                return Err(format!("{simulator} refused the plan: {}", answer.text().await?).into());
            }
        }
        Ok(())
    }

    /// Ends the misbehaviour, waits at most `patience` until every payment has ended, and reads the ledgers.
    pub(crate) async fn settle(self, patience: Duration) -> Result<Money, Failure> {
        let mut money = Money::default();
        for simulator in &self.simulators {
            let stats = self.json(&format!("{simulator}/sim/stats")).await?;
            let kinds = stats["faults"].as_object().into_iter().flatten();
            money.faults += kinds.filter_map(|(_, count)| count.as_u64()).sum::<u64>();
        }
        self.put(&json!({ "faults": [] })).await?;
        let begun = Instant::now();
        loop {
            (money.open, money.waiting) = self.unfinished().await?;
            if money.open == 0 || begun.elapsed() >= patience {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        money.manual = self.in_state("manual").await?.len() as u64;
        let mut net: BTreeMap<String, i64> = BTreeMap::new();
        for simulator in &self.simulators {
            let ledger = self.client.get(format!("{simulator}/sim/ledger.ndjson")).send().await?.text().await?;
            for line in ledger.lines() {
                let line: Value = serde_json::from_str(line)?;
                let step = match line["kind"].as_str() {
                    Some("charge") => 1,
                    Some("refund") => -1,
                    _ => continue,
                };
                *net.entry(line["payment_no"].as_str().unwrap_or_default().to_owned()).or_default() += step;
            }
        }
        money.charged = net.values().filter(|charges| **charges > 0).count() as u64;
        money.charged_twice = net.values().filter(|charges| **charges > 1).count() as u64;
        Ok(money)
    }

    /// Payments that have not ended: those in doubt, and those whose channel says that it waits for the payer.
    async fn unfinished(&self) -> Result<(u64, u64), Failure> {
        let (mut open, mut waiting) = (0, 0);
        for number in self.in_state("processing").await? {
            let tries = self.json(&format!("{}/-/payments/{number}/attempts", self.admin)).await?;
            let last = tries["attempts"].as_array().and_then(|tries| tries.last());
            let pending = last.is_some_and(|last| last["state"] == "PENDING");
            *(if pending { &mut waiting } else { &mut open }) += 1;
        }
        Ok((open, waiting))
    }

    /// Numbers of the payments in the gateway's journal that are in this state.
    async fn in_state(&self, state: &str) -> Result<Vec<String>, Failure> {
        let list = self.json(&format!("{}/-/payments?state={state}&limit=1000", self.admin)).await?;
        let payments = list["payments"].as_array().into_iter().flatten();
        Ok(payments.filter_map(|payment| payment["payment_id"].as_str().map(str::to_owned)).collect())
    }

    async fn json(&self, url: &str) -> Result<Value, Failure> {
        Ok(self.client.get(url).send().await?.error_for_status()?.json().await?)
    }
}

/// Where the plan is and who gets it.
#[derive(Debug, clap::Args)]
pub(crate) struct Faults {
    /// Fault plan for the payment channels while the sale runs (JSON, as `PUT /sim/plan` takes it). At the end their
    /// ledgers are read: nobody may have paid twice.
    #[arg(long, value_name = "FILE")]
    pub(crate) faults: Option<PathBuf>,
    /// The channels' simulators.
    #[arg(
        long,
        value_name = "URLS",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7101,http://127.0.0.1:7102,http://127.0.0.1:7103"
    )]
    pub(crate) simulators: Vec<String>,
}
