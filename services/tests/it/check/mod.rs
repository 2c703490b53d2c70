//! The offline checker: books that services really wrote agree, and every promise that is broken in them is found.

mod storm;

use std::path::Path;
use std::process::Output;

use reqwest::Client;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::order::abroad::Abroad;
use crate::process::Process;

/// Orders that were paid, one that was given up, money that moved between files; then everything stops. Answers the
/// files of all services in one folder, and the orders that were told of.
async fn books() -> (TempDir, Vec<String>) {
    let abroad = Abroad::open("alipay", 6, json!({})).await;
    let caller = &abroad.street.caller;
    let mut told = Vec::new();
    for n in 0..3 {
        let (order_no, payment_no) = abroad.paying(&format!("paid-{n}")).await;
        abroad.charge(&payment_no).await;
        caller.until(&order_no, "DELIVERED").await;
        told.push(order_no);
    }
    let given_up = caller.ordered("given-up").await;
    caller.post(&format!("/api/orders/{given_up}/cancel"), Value::Null).await;
    caller.until(&given_up, "CANCELLED").await;
    told.push(given_up);
    let accounts = [account(&caller.base, "u_1").await, account(&caller.base, "u_2").await];
    let transfer = json!({ "from": accounts[0], "to": accounts[1], "amount": 300 });
    post(&caller.base, "/v1/transfers", transfer).await;
    // Events have been taken in, and all files agree while they are in use.
    for _ in 0..200 {
        if caller.check().await["events"] == json!([0, 0, 0]) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let (status, _, answer) = caller.get("/admin/invariants").await;
    assert_eq!((status, &answer["violations"]), (200, &json!([])), "{answer}");
    let folder = TempDir::new().expect("a folder");
    for from in [abroad.street.folder.path(), abroad.folder.path()] {
        copy(from, folder.path());
    }
    abroad.close().await;
    journal(folder.path());
    (folder, told)
}

/// The journal of a gateway that sent all of these payments, one of them first to a channel that did nothing.
fn journal(folder: &Path) {
    let file = Connection::open(folder.join("payments.db")).expect("a file");
    file.execute_batch(include_str!("../../../../src/payments/journal/schema.sql")).expect("the tables");
    let channel = folder.join("channel-alipay.sqlite").display().to_string();
    file.execute("ATTACH ?1 AS channel", [channel]).expect("attached");
    file.execute_batch(
        "INSERT INTO payments SELECT payment_no, 'pay', amount, 'CNY', NULL, '', 'SUCCEEDED', at_ms, at_ms
         FROM channel.ledger WHERE kind = 'charge';
         INSERT INTO attempts (payment_id, n, channel, number, state, created_ms, sent_ms, updated_ms, next_ms)
         SELECT id, 2, 'alipay', id, 'SUCCEEDED', created_ms, created_ms, created_ms, 0 FROM payments;
         INSERT INTO attempts (payment_id, n, channel, number, state, created_ms, sent_ms, updated_ms, next_ms)
         SELECT id, 1, 'wechat', id, 'NOT_SENT', created_ms, created_ms, created_ms, 0 FROM payments LIMIT 1;
         DETACH channel",
    )
    .expect("rows");
}

async fn post(base: &str, path: &str, body: Value) -> Value {
    let sent = Client::new().post(format!("{base}{path}")).header("idempotency-key", "k").json(&body).send().await;
    let answer = sent.expect("an answer");
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    answer.json().await.expect("JSON")
}

/// An account with ten yuan in it.
async fn account(base: &str, user: &str) -> String {
    let opened = post(base, "/v1/accounts", json!({ "user_id": user, "currency": "CNY" })).await;
    let id = opened["id"].as_str().expect("an id").to_owned();
    post(base, &format!("/v1/accounts/{id}/deposits"), json!({ "amount": 1_000 })).await;
    id
}

/// Copies all SQLite files, each as one moment of it.
fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|ending| ending == "sqlite" || ending == "db") {
            let file = Connection::open(&path).expect("a file");
            let target = to.join(path.file_name().expect("a name"));
            file.execute("VACUUM INTO ?1", [target.display().to_string()]).expect("copied");
        }
    }
}

/// Runs the command; answers its exit code and what it says.
fn check(folder: &Path, more: &[&str]) -> (i32, String) {
    let mut arguments = vec!["check", folder.to_str().expect("text")];
    arguments.extend(more);
    let Output { status, stdout, stderr } = Process::run(&arguments);
    (status.code().expect("a code"), String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr))
}

/// What is broken, in which files, and how it is found. Guards of the tables are taken away first: the checker is for
/// what should be impossible.
const BROKEN: &[(&str, &str, &str)] = &[
    ("I1", "card-key", "UPDATE counts SET n = n + 1 WHERE state = 0"),
    ("I1", "card-key", "UPDATE batches SET made = made - 1"),
    ("I2", "card-key", "UPDATE orders SET issued_ms = NULL, status = 'short' WHERE issued_ms IS NOT NULL"),
    ("I2", "order", "UPDATE payments SET status = 'CLOSED' WHERE status = 'SUCCESS'"),
    ("I2", "order", "UPDATE orders SET status = 'PAID', updated_ms = 0 WHERE status = 'DELIVERED'"),
    (
        "I3",
        "card-key",
        "INSERT INTO allocations SELECT (SELECT min(id) FROM keys WHERE state = 0), order_no, 0 FROM allocations LIMIT 1",
    ),
    ("I3", "card-key", "UPDATE orders SET qty = 2 WHERE issued_ms IS NOT NULL"),
    ("I4", "accounts", "UPDATE accounts SET available = available + 1"),
    ("I4", "accounts", "DELETE FROM ledger WHERE kind = 'CREDIT'"),
    ("I5", "channel", "UPDATE ledger SET amount = amount - 1 WHERE kind = 'charge'"),
    (
        "I5",
        "channel",
        "INSERT INTO ledger (kind, payment_no, amount, at_ms) SELECT 'charge', replace(payment_no, '-1', '-2'), amount,
         at_ms FROM ledger WHERE kind = 'charge'",
    ),
    ("I6", "order", "DELETE FROM orders WHERE status = 'CANCELLED'"),
    ("I6", "order", "DELETE FROM order_events WHERE kind = 'DELIVERED'"),
    ("I7", "order", "UPDATE sales SET keys = keys + 1"),
    ("I7", "order", "DELETE FROM notices"),
    ("I7", "card-key", "INSERT INTO coupons VALUES ('C', '{}', NULL, 1)"),
    (
        "I8",
        "order",
        "INSERT INTO payments SELECT order_no || '-2', order_no, 2, 'wechat', 'wechat', amount, currency, 'FAILED', NULL,
         NULL, 0, 0, 0, 0, 0, 0 FROM payments",
    ),
    ("I5", "payments", "UPDATE payments SET state = 'FAILED'"),
    ("I5", "payments", "UPDATE attempts SET state = 'CLOSED'; UPDATE payments SET state = 'FAILED'"),
    ("I5", "channel", "DELETE FROM ledger WHERE kind = 'charge'"),
    (
        "I8",
        "payments",
        "DROP INDEX one_live_attempt; UPDATE attempts SET state = 'UNKNOWN'; UPDATE payments SET state = 'PROCESSING'",
    ),
    ("I8", "payments", "UPDATE attempts SET channel = 'wechat' WHERE n = 2"),
    ("I8", "payments", "UPDATE attempts SET state = 'CHARGED_LATE' WHERE n = 1"),
    (
        "I10",
        "payments",
        "UPDATE attempts SET state = 'UNKNOWN', created_ms = 0 WHERE n = 2; UPDATE payments SET state = 'PROCESSING'",
    ),
    ("I10", "payments", "UPDATE attempts SET state = 'SENT' WHERE n = 2"),
    ("I10", "payments", "UPDATE attempts SET state = 'MANUAL' WHERE n = 2; UPDATE payments SET state = 'MANUAL'"),
    ("I9", "accounts", "DELETE FROM barrier WHERE branch = 'payee' AND op = 'CONFIRM'"),
    ("I9", "accounts", "UPDATE tcc SET state = 'TRYING', created_ms = 0"),
    ("I10", "order", "UPDATE orders SET status = 'PENDING_PAYMENT', expires_ms = 0 WHERE status = 'CANCELLED'"),
    (
        "I10",
        "order",
        "INSERT INTO outbox (id, topic, key, payload, state, next_ms, created_ms) VALUES ('e', 'notification', 'u', '{}',
         'PARKED', 0, 0)",
    ),
];

/// Carries a change out in all files of a service, whatever the tables say.
fn damage(folder: &Path, service: &str, change: &str) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("text");
        if !name.starts_with(&format!("{service}-")) && !name.starts_with(&format!("{service}.")) {
            continue;
        }
        let file = Connection::open(&path).expect("a file");
        file.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON").expect("pragmas");
        let guards: Vec<String> = file
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
            .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
            .expect("triggers");
        for guard in guards {
            file.execute_batch(&format!("DROP TRIGGER {guard}")).expect("dropped");
        }
        file.execute_batch(change).expect(change);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sound_books_have_no_violations_and_every_broken_promise_is_found() {
    let (folder, told) = books().await;
    let list = folder.path().join("told.txt");
    std::fs::write(&list, told.join("\n")).expect("written");
    let acknowledged = ["--acknowledged", list.to_str().expect("text")];
    let (code, text) = check(folder.path(), &acknowledged);
    assert_eq!(code, 0, "{text}");
    for file in ["accounts", "order-3-of-4.sqlite", "card-key.sqlite", "channel-alipay.sqlite", "payments.db"] {
        assert!(text.contains(file), "{file} was not looked at: {text}");
    }
    for (invariant, service, change) in BROKEN {
        let broken = TempDir::new().expect("a folder");
        copy(folder.path(), broken.path());
        damage(broken.path(), service, change);
        let (code, text) = check(broken.path(), &acknowledged);
        assert_eq!(code, 2, "{invariant}: {change}: {text}");
        assert!(text.lines().any(|line| line.starts_with(&format!("{invariant}: "))), "{invariant}: {change}: {text}");
    }
    std::fs::write(&list, "0000000000000\n").expect("written");
    let (code, text) = check(folder.path(), &acknowledged);
    assert!(code == 2 && text.starts_with("I6: an order that a client was told of is not there"), "{text}");
    let empty = TempDir::new().expect("a folder");
    assert_eq!(check(empty.path(), &[]).0, 1, "nothing is not sound");
}
