//! `all`: everything announces itself and answers.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::Caller;

/// Killed when dropped, so that a failed assertion leaves no process behind.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Fails when it has ended already, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn all_services_run_in_one_process() {
    let folder = TempDir::new().expect("a folder");
    let names = ["card-key", "order", "channel-alipay", "channel-wechat", "channel-union"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-services"));
    command.args(["all", "--seed-demo", "--data-dir"]).arg(folder.path()).env("RUST_LOG", "error");
    let plan = folder.path().join("plan.json");
    std::fs::write(&plan, r#"{"faults":[{"kind":"503"}]}"#).expect("a file");
    let wechat = format!("wechat={}", plan.display());
    let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let control = probe.local_addr().expect("an address");
    drop(probe);
    command.args(["--plan", &wechat, "--control", &format!("wechat={control}")]);
    for option in ["--card-key", "--order", "--alipay", "--wechat", "--union"] {
        command.args([option, "127.0.0.1:0"]);
    }
    let mut process = Guard(command.stdout(Stdio::piped()).spawn().expect("the binary starts"));
    let output = BufReader::new(process.0.stdout.take().expect("a pipe"));
    let bases: HashMap<String, String> = output
        .lines()
        .take(names.len())
        .map(|line| {
            let line = line.expect("text");
            let (name, base) = line.split_once(" listening on ").expect("name and address");
            (name.to_owned(), base.to_owned())
        })
        .collect();
    for name in names {
        let caller = Caller::new(bases[name].clone());
        assert_eq!(caller.get("/readyz").await.0, 200, "{name}");
        if let Some(channel) = name.strip_prefix("channel-") {
            assert_eq!(caller.get("/sim/truth").await.1["channel"], channel);
            assert!(folder.path().join(format!("channel-{channel}.sqlite")).exists());
        }
    }
    for (base, fails) in [(&bases["channel-alipay"], false), (&bases["channel-wechat"], true)] {
        let status = Caller::new(base.clone()).get("/pay/v1/payments/none").await.0;
        assert_eq!(status == 503, fails, "{base}: {status}");
    }
    assert_eq!(Caller::new(format!("http://{control}")).get("/sim/truth").await.1["channel"], "wechat");
    let flash: Value = Caller::new(bases["card-key"].clone()).get("/v1/products/flash-100").await.1;
    assert_eq!(flash["stock"], 100);
}
