//! A shop whose channel speaks a dialect: an order service that is a merchant there, and a channel simulator.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_services::channel_simulator::{self, dialects};
use tidegate_services::order::Settings;
use tidegate_services::support::signature::DEVELOPMENT_SECRET;
use tidegate_services::support::{Running, Secret};

use super::{Street, answer, ask};

/// A shop and a channel that speaks a dialect to it.
pub(crate) struct Abroad {
    pub(crate) street: Street,
    pub(crate) channel: &'static str,
    simulator: Running,
    pub(crate) base: String,
    pub(crate) folder: TempDir,
}

impl Abroad {
    pub(crate) async fn open(channel: &'static str, stock: usize, plan: Value) -> Self {
        Self::open_with(channel, stock, plan, |_| {}).await
    }

    pub(crate) async fn open_with(
        channel: &'static str,
        stock: usize,
        plan: Value,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = folder.path().join("keys");
        std::fs::create_dir(&keys).expect("a folder");
        for name in ["platform-private.pem", "merchant-private.pem"] {
            std::fs::copy(key_file(name), keys.join(name)).expect("a copy");
        }
        let simulator = channel_simulator::start(simulator(folder.path(), channel)).await.expect("the channel starts");
        let base = format!("http://{}", simulator.address);
        put_plan(&base, &plan).await;
        // Asking for the keys makes their public halves.
        ask(&Client::new(), Method::GET, &format!("{base}/sim/keys")).await;
        let file = merchants(folder.path());
        std::fs::write(&file, merchant(channel, &base).to_string()).expect("written");
        let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let listen = probe.local_addr().expect("an address");
        drop(probe);
        let egress = base.clone();
        let street = Street::open(stock, |settings| {
            settings.egress = egress;
            settings.listen = listen;
            settings.public_url = format!("http://{listen}");
            settings.merchants = Some(file);
            settings.channel_timeout = Duration::from_secs(3);
            settings.answer_within = Duration::from_secs(3);
            settings.not_found_min_age = Duration::from_secs(3);
            change(settings);
        });
        Self { street: street.await, channel, simulator, base, folder }
    }

    /// An order whose payment waits for the payer; answers both numbers.
    pub(crate) async fn paying(&self, key: &str) -> (String, String) {
        let order_no = self.street.caller.ordered(key).await;
        let started = self.street.caller.pay(&order_no, self.channel).await;
        assert_eq!((started.0, &started.2["status"]), (201, &json!("PENDING")), "{}", started.2);
        (order_no, started.2["payment_no"].as_str().expect("a number").to_owned())
    }

    /// The payer pays.
    pub(crate) async fn charge(&self, payment_no: &str) {
        let paid = ask(&Client::new(), Method::POST, &format!("{}/sim/pay/{payment_no}", self.base)).await;
        assert_eq!((paid.0, &paid.2["status"]), (200, &json!("SUCCESS")), "{}", paid.2);
    }

    /// What the channel holds of a payment's money.
    pub(crate) async fn net(&self, payment_no: &str) -> Value {
        ask(&Client::new(), Method::GET, &format!("{}/sim/truth?payment_no={payment_no}", self.base)).await.2["net"]
            .clone()
    }

    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let metrics = Client::new().get(format!("{}/metrics", self.street.caller.base)).send().await;
        let metrics = metrics.expect("an answer").text().await.expect("text");
        let line = metrics.lines().find(|line| line.split(' ').next() == Some(name)).expect("a figure");
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
    }

    /// The file that says who the shop is.
    pub(crate) fn merchants(&self) -> PathBuf {
        merchants(self.folder.path())
    }

    /// Has the channel follow another plan.
    pub(crate) async fn plan(&self, plan: Value) {
        put_plan(&self.base, &plan).await;
    }

    pub(crate) async fn close(self) {
        self.simulator.stop();
        self.street.close().await;
        self.simulator.wait().await;
    }
}

async fn put_plan(base: &str, plan: &Value) {
    let put = answer(Client::new().put(format!("{base}/sim/plan")).json(plan)).await.expect("an answer");
    assert_eq!(put.0, 200, "{}", put.2);
}

fn merchants(folder: &Path) -> PathBuf {
    folder.join("merchants.json")
}

pub(crate) fn key_file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name)
}

fn simulator(folder: &Path, channel: &str) -> channel_simulator::Settings {
    channel_simulator::Settings {
        service: "channel-simulator",
        name: channel.to_owned(),
        listen: "127.0.0.1:0".parse().expect("an address"),
        data_dir: folder.to_owned(),
        secret: Secret::new(DEVELOPMENT_SECRET),
        auto_confirm: false,
        time_scale: 0.001,
        public_url: None,
        plan: None,
        control: None,
        keys: Some(folder.join("keys")),
        api_v3_key: Secret::new(dialects::DEVELOPMENT_API_V3_KEY),
        epay_key: Secret::new(dialects::DEVELOPMENT_EPAY_KEY),
    }
}

/// Who the shop is at the simulator.
fn merchant(channel: &str, base: &str) -> Value {
    let entry = match channel {
        "alipay" => json!({ "dialect": "alipay", "app_id": "2021000000000001", "seller_id": "2088000000000001",
            "keys": "keys", "url": base }),
        "wechat" => json!({ "dialect": "wechat", "appid": "wx0000000000000001", "mchid": "1900000001", "keys": "keys",
            "api_v3_key": dialects::DEVELOPMENT_API_V3_KEY, "url": base }),
        _ => json!({ "dialect": "epay", "pid": "1001", "key": dialects::DEVELOPMENT_EPAY_KEY, "url": base }),
    };
    json!({ channel: entry })
}
