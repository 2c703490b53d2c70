//! How the bundled set-up is changed for a storm. What is a minute there takes seconds here: nobody waits ten seconds for a
//! channel that says nothing, and doubts are looked at sooner.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Failure;
use crate::processes::{CHANNELS, Processes, Setup};

/// How much later callbacks of each channel come, in milliseconds. The last ones come when the order's time is over.
const CALLBACK_DELAYS: [u64; 3] = [0, 1_500, 12_000];

/// What goes wrong at every channel.
const FAULTS: &str = include_str!("faults.json");

/// Changes of the gateway's configuration.
const SOONER: [(&str, &str); 3] = [
    ("read_timeout: 10s", "read_timeout: 2s"),
    ("open_for: 30s", "open_for: 2s"),
    ("currency: {json: /currency}}", "currency: {json: /currency}, resolve: {unit: 200ms, not_found_min_age: 8s}}"),
];

/// Arguments of the order service: the same haste, and rows in four files.
const ORDER: &str = "--shards 4 --channel-timeout 6 --not-found-min-age 8 --retry-unit-ms 100 --pay-within";

/// Starts the gateway and the services, with faults from the first moment on.
///
/// # Errors
/// As [`Processes::start`].
pub(crate) fn start(folder: &Path, binaries: &Path, config: &Path, pay_within: Duration) -> Result<Processes, Failure> {
    let mut order: Vec<String> = ORDER.split(' ').map(str::to_owned).collect();
    order.push(pay_within.as_secs().to_string());
    let mut arguments = BTreeMap::from([("order", order)]);
    for (at, channel) in CHANNELS.into_iter().enumerate() {
        let mut plan: Value = serde_json::from_str(FAULTS)?;
        plan["seed"] = json!(at + 1);
        plan["callback"]["delay_ms"] = json!(CALLBACK_DELAYS[at]);
        let file = folder.join(format!("{channel}.json"));
        std::fs::write(&file, plan.to_string())?;
        // A second of the channels' schedules for callbacks takes fifty milliseconds.
        let own = ["--time-scale", "0.05", "--plan", &file.display().to_string()].map(str::to_owned);
        arguments.insert(channel, own.to_vec());
    }
    Processes::start(folder, Setup { binaries, config, edits: &SOONER, arguments })
}
