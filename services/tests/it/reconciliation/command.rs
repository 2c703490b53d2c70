//! `tidegate-services reconcile` on real files.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_services::reconciliation::seeded::{FEE_BASIS_POINTS, Seeded};
use tidegate_services::reconciliation::{Category, Channel};

use super::{day, write_bill, write_books};
use crate::process::Process;

/// A data folder with the empty file of an order service that is gone.
fn books() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let nowhere = "http://127.0.0.1:1";
    Process::start("order", folder.path(), &["--card-key", nowhere, "--egress", nowhere]).kill();
    folder
}

/// The command, started; its report comes on stdout.
fn reconcile(folder: &Path, channel: Channel, bill: &Path, more: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tidegate-services"))
        .args(["reconcile", "--channel", channel.as_str(), "--date", &day().to_string(), "--bill"])
        .arg(bill)
        .arg("--data-dir")
        .arg(folder)
        .args(more)
        .env("RUST_LOG", "error")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts")
}

/// Waits for its end; answers the exit code, stdout and stderr.
fn ended(child: Child) -> (Option<i32>, String, String) {
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The most memory the process has held at a time, in KiB, seen while it ran.
fn peak_kib(child: &mut Child) -> u64 {
    let path = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().expect("it can be asked").is_none() {
        let mut text = String::new();
        // It may end between the question and the look.
        if std::fs::File::open(&path).and_then(|mut file| file.read_to_string(&mut text)).is_ok() {
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let held = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
            peak = peak.max(held.unwrap_or(0));
        }
        std::thread::sleep(std::time::Duration::from_millis(3));
    }
    peak
}

#[test]
fn a_hundred_thousand_payments_are_compared_exactly_twice_the_same_and_in_flat_memory() {
    let mut peaks = Vec::new();
    for payments in [10_000, 100_000] {
        let folder = books();
        let seeded = Seeded { day: day(), payments };
        write_books(folder.path(), Channel::Wechat, seeded.ours());
        let bill = write_bill(folder.path(), Channel::Wechat, day(), seeded.bill());
        let out = folder.path().join("out");
        let fee = FEE_BASIS_POINTS.to_string();
        let more = ["--fee-basis-points", &fee, "--out", out.to_str().expect("UTF-8")];
        let mut first = reconcile(folder.path(), Channel::Wechat, &bill, &more);
        peaks.push(peak_kib(&mut first));
        let (code, stdout, stderr) = ended(first);
        assert_eq!(code, Some(2), "{stderr}");
        let report: Value = serde_json::from_str(&stdout).expect("JSON");
        for category in Category::ALL {
            let expected = seeded.expected().get(&category).copied().unwrap_or(0);
            assert_eq!(report["categories"][category.as_str()]["count"], expected, "{category:?}");
        }
        let id = report["id"].as_str().expect("an id");
        let csv = std::fs::read(out.join(format!("{id}.csv"))).expect("items");
        let lines = csv.iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!(report["items"], lines - 1);
        let (code, again, _) = ended(reconcile(folder.path(), Channel::Wechat, &bill, &more));
        assert_eq!((code, again), (Some(2), stdout));
        assert!(std::fs::read(out.join(format!("{id}.csv"))).expect("items") == csv);
    }
    // Ten times the payments would be 25 MiB more if the lines were kept.
    assert!(peaks[1] < peaks[0] + 14 * 1_024, "{peaks:?} KiB");
}

#[test]
fn the_exit_code_tells_agreement_differences_and_failure_apart() {
    let folder = books();
    let seeded = Seeded { day: day(), payments: 10 };
    write_books(folder.path(), Channel::Alipay, seeded.ours());
    let bill = write_bill(folder.path(), Channel::Alipay, day(), seeded.bill());
    let (code, stdout, stderr) = ended(reconcile(folder.path(), Channel::Alipay, &bill, &[]));
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let short = write_bill(folder.path(), Channel::Alipay, day(), seeded.bill().skip(1));
    let (code, stdout, _) = ended(reconcile(folder.path(), Channel::Alipay, &short, &[]));
    let report: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((code, &report["categories"]["SYSTEM_ONLY"]["count"]), (Some(2), &json!(1)));
    std::fs::write(&bill, "支付宝").expect("written");
    let (code, stdout, stderr) = ended(reconcile(folder.path(), Channel::Alipay, &bill, &[]));
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("line 1: not"), "{stderr}");
    let absent = folder.path().join("absent");
    let (code, _, stderr) = ended(reconcile(folder.path(), Channel::Alipay, &absent, &[]));
    assert_eq!(code, Some(1), "{stderr}");
}
