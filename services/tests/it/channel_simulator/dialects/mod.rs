//! The dialects of real channels. The merchant in these tests signs and checks with the functions that an order service
//! has; that those agree with other implementations is shown where they are.

mod alipay;
mod epay;
mod shop;
mod wechat;

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_services::channel_simulator::{self, Settings};
use tidegate_services::support::Running;
use tidegate_services::support::dialect::rsa::{SigningKey, VerifyingKey};

use super::{Caller, settings};

/// A channel with the keys of these tests, and its merchant.
struct Demo {
    running: Running,
    caller: Caller,
    /// Signs the merchant's calls.
    merchant: SigningKey,
    /// Checks what the platform says.
    platform: VerifyingKey,
    keys: Value,
    folder: TempDir,
}

impl Demo {
    async fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let keys = folder.path().join("keys");
        std::fs::create_dir(&keys).expect("a folder");
        for name in ["platform-private.pem", "merchant-private.pem"] {
            let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name);
            std::fs::copy(ours, keys.join(name)).expect("a copy");
        }
        let settings = Settings { keys: Some(keys), time_scale: 0.0005, ..settings(folder.path()) };
        let running = channel_simulator::start(settings).await.expect("the service starts");
        let caller = Caller::new(format!("http://{}", running.address));
        let keys = caller.get("/sim/keys").await.1;
        let file = keys["merchant"]["private_key_file"].as_str().expect("a path");
        let merchant = SigningKey::from_pem(&std::fs::read_to_string(file).expect("a file")).expect("a key");
        let platform = keys["platform"]["public_key"].as_str().expect("a key");
        let platform = VerifyingKey::from_pem(platform).expect("a key");
        Self { running, caller, merchant, platform, keys, folder }
    }

    async fn plan(&self, plan: Value) {
        let answer = self.caller.send(reqwest::Method::PUT, "/sim/plan", plan).await;
        assert_eq!(answer.0, 200, "{}", answer.1);
    }

    async fn pay(&self, number: &str) {
        let paid = self.caller.send(reqwest::Method::POST, &format!("/sim/pay/{number}"), Value::Null).await;
        assert_eq!((paid.0.as_u16(), paid.1["status"].as_str()), (200, Some("SUCCESS")));
    }

    async fn stop(self) {
        drop(self.caller);
        self.running.stop();
        self.running.wait().await;
    }
}

#[tokio::test]
async fn keys_are_made_once_and_the_private_ones_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().expect("a folder");
    let mut seen = Vec::new();
    for _ in 0..2 {
        let running = channel_simulator::start(settings(folder.path())).await.expect("the service starts");
        let caller = Caller::new(format!("http://{}", running.address));
        seen.push(caller.get("/sim/keys").await);
        drop(caller);
        running.stop();
        running.wait().await;
    }
    assert_eq!(seen[0].0, 200);
    assert_eq!(seen[0], seen[1], "a restart keeps the keys");
    let keys = folder.path().join("channel-alipay-keys");
    for name in ["platform", "merchant"] {
        let mode = std::fs::metadata(keys.join(format!("{name}-private.pem"))).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
        let public = std::fs::read_to_string(keys.join(format!("{name}-public.pem"))).expect("a file");
        assert_eq!(seen[0].1[name]["public_key"], json!(public));
    }
    assert!(!seen[0].1.to_string().contains("PRIVATE"));
}

/// Runs OpenSSL; absent when this machine has none.
fn openssl(arguments: &[&str]) -> Option<String> {
    let output = Command::new("openssl").args(arguments).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}
