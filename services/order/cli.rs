//! The command line of the order service.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Settings;
use crate::accounts;
use crate::support::signature::{DEVELOPMENT_SECRET, SECRET_VARIABLE};
use crate::support::{Files, Secret};

/// Longest a buyer waits for a channel; after that he is told to look again.
const ANSWER_WITHIN: Duration = Duration::from_millis(2_500);

/// Arguments of `order`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:7001")]
    listen: SocketAddr,
    /// Folder for the data files and order.key.
    #[arg(long, default_value = "data")]
    data_dir: PathBuf,
    /// Where the card-key service listens.
    #[arg(long, default_value = "http://127.0.0.1:7002")]
    card_key: String,
    /// Where the gateway's egress listener is: payment channels are reached through it.
    #[arg(long, default_value = "http://127.0.0.1:8081")]
    egress: String,
    /// Where payment channels reach this service: the gateway's public address.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    public_url: String,
    /// Secret that signs the tokens of buyers. Better given as the environment variable TIDEGATE_JWT_SECRET: every user of the machine can read arguments.
    #[arg(long)]
    jwt_secret: Option<String>,
    /// Secret that signs the notifications of channels, or the environment variable TIDEGATE_CHANNEL_SECRET.
    #[arg(long)]
    channel_secret: Option<String>,
    /// Product of the sale: the gateway's waiting room is told when it is gone.
    #[arg(long, default_value = "flash-100")]
    sale: String,
    /// JSON file with the channels that speak a dialect of their own, for example {"alipay": {"dialect": "alipay", "url": "http://127.0.0.1:7101", "app_id": "…", "seller_id": "…", "keys": "FOLDER"}}; also wechat (appid, mchid, keys, api_v3_key) and epay (pid, key).
    #[arg(long)]
    merchants: Option<PathBuf>,
    /// Seconds to pay within.
    #[arg(long, default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=3_000))]
    pay_within: u64,
    /// Seconds a call to a channel may take. Longer than the gateway's own limit, which knows more about the outcome.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=300))]
    channel_timeout: u64,
    /// Seconds after which a channel that does not know a payment is believed; not less than a call may take.
    #[arg(long, default_value_t = 60)]
    not_found_min_age: u64,
    /// Milliseconds to wait before something is tried again that failed: one of these, then 2, 4, 8, 15, 30, and 60 of them for as long as it takes. Less makes tests of patience shorter.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    retry_unit_ms: u64,
    /// Milliseconds between two looks for work that is due.
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    sweep_every_ms: u64,
    /// SKUs that are asked for at the start, before a sale begins; separated by commas.
    #[arg(long, value_delimiter = ',')]
    preheat: Vec<String>,
    /// Over how many files the orders and the accounts are spread, by user: 1, 4 or 16. Fixed at the first start.
    #[arg(long, default_value = "1")]
    shards: Files,
    /// Most operations that share a commit, and so an fsync. 1 is for comparison: each then waits for the disk alone.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    max_batch: u16,
}

impl Args {
    /// The settings these arguments stand for.
    pub fn into_settings(self) -> Settings {
        let secret = |given: Option<String>, variable: &str, default: &str| {
            // A variable that is set to nothing is not set, as with the gateway.
            let set = || std::env::var(variable).ok().filter(|value| !value.is_empty());
            Secret::new(given.or_else(set).unwrap_or_else(|| default.to_owned()))
        };
        let sweep_every = Duration::from_millis(self.sweep_every_ms);
        Settings {
            listen: self.listen,
            data_dir: self.data_dir,
            card_key: self.card_key,
            egress: self.egress,
            public_url: self.public_url,
            jwt_secret: secret(self.jwt_secret, "TIDEGATE_JWT_SECRET", super::DEFAULT_JWT_SECRET),
            channel_secret: secret(self.channel_secret, SECRET_VARIABLE, DEVELOPMENT_SECRET),
            sale: self.sale,
            merchants: self.merchants,
            pay_within: Duration::from_secs(self.pay_within),
            channel_timeout: Duration::from_secs(self.channel_timeout),
            answer_within: ANSWER_WITHIN,
            not_found_min_age: Duration::from_secs(self.not_found_min_age),
            retry_unit: Duration::from_millis(self.retry_unit_ms),
            preheat: self.preheat,
            sweep_every,
            shards: self.shards,
            max_batch: self.max_batch.into(),
            accounts: accounts::Settings { sweep_every, ..accounts::Settings::new(self.shards) },
        }
    }
}
