//! What clients and other coordinators are answered.

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Teller, code, start};

#[tokio::test]
async fn a_transfer_moves_money_once_per_key_and_both_are_told() {
    let folder = TempDir::new().expect("a folder");
    let process = start(folder.path(), "16");
    let teller = Teller::new(&process);
    let (from, to) = (teller.account("u_1", 1_000).await, teller.account("u_2", 0).await);
    let (status, made) = teller.transfer("k", &from, &to, 300).await;
    assert_eq!((status, &made["status"]), (201, &json!("CONFIRMED")), "{made}");
    let again = teller.transfer("k", &from, &to, 300).await;
    assert_eq!(again, (201, made.clone()));
    assert_eq!(code(&teller.transfer("k", &from, &to, 301).await), (422, "IDEMPOTENCY_KEY_REUSED"));
    assert_eq!((teller.balance(&from).await, teller.balance(&to).await), ([700, 0, 0], [300, 0, 0]));
    let gid = made["gid"].as_str().expect("a number");
    assert_eq!(teller.get(&format!("/v1/transfers/{gid}")).await.1, made);
    let (_, ledger) = teller.get(&format!("/v1/ledger?account={from}")).await;
    let kinds: Vec<_> = ledger["entries"].as_array().expect("a list").iter().map(|entry| &entry["kind"]).collect();
    assert_eq!(kinds, ["DEPOSIT", "DEBIT"]);
    let cursor = ledger["entries"][0]["seq"].as_i64().expect("a number");
    let (_, rest) = teller.get(&format!("/v1/ledger?account={from}&cursor={cursor}")).await;
    assert_eq!(rest["entries"].as_array().map(Vec::len), Some(1));
    for (account, text) in [(&from, "300 CNY sent"), (&to, "300 CNY received")] {
        assert_eq!(notices(&teller, account, 1).await, json!([{ "transfer": gid, "text": text }]));
    }
    teller.assert_sound().await;
}

/// The notices of an account, when there are as many.
async fn notices(teller: &Teller, account: &str, many: usize) -> Value {
    let mut notices = Value::Null;
    for _ in 0..200 {
        notices = teller.get(&format!("/v1/accounts/{account}/notices")).await.1["notices"].clone();
        if notices.as_array().is_some_and(|list| list.len() >= many) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    notices
}

#[tokio::test]
async fn a_transfer_that_cannot_be_made_says_why_and_moves_nothing() {
    for shards in ["1", "16"] {
        let folder = TempDir::new().expect("a folder");
        let process = start(folder.path(), shards);
        let teller = Teller::new(&process);
        let (from, to) = (teller.account("u_1", 1_000).await, teller.account("u_2", 0).await);
        let poor = teller.transfer("poor", &from, &to, 1_001).await;
        assert_eq!(code(&poor), (402, "INSUFFICIENT_FUNDS"));
        assert_eq!(teller.transfer("poor", &from, &to, 1_001).await, poor, "the same key, the same answer");
        assert_eq!(code(&teller.transfer("a", &from, "0000000000000", 1).await), (404, "UNKNOWN_ACCOUNT"));
        assert_eq!(code(&teller.transfer("b", &from, "nobody", 1).await), (404, "UNKNOWN_ACCOUNT"));
        assert_eq!(code(&teller.transfer("c", "nobody", &to, 1).await), (404, "UNKNOWN_ACCOUNT"));
        assert_eq!(code(&teller.transfer("d", &from, &from, 1).await), (400, "INVALID_REQUEST"));
        assert_eq!(code(&teller.transfer("e", &from, &to, 0).await), (400, "INVALID_REQUEST"));
        assert_eq!(code(&teller.transfer("", &from, &to, 1).await), (400, "IDEMPOTENCY_KEY_REQUIRED"));
        assert_eq!(teller.post(&format!("/v1/accounts/{to}/close"), "", Value::Null).await.1["status"], "CLOSED");
        assert_eq!(code(&teller.transfer("f", &from, &to, 1).await), (409, "ACCOUNT_CLOSED"));
        assert_eq!(code(&teller.post(&format!("/v1/accounts/{from}/close"), "", Value::Null).await).0, 409);
        assert_eq!((teller.balance(&from).await, teller.balance(&to).await), ([1_000, 0, 0], [0, 0, 0]));
        let listed = notices(&teller, &from, 4).await;
        let told = listed.as_array().expect("a list").iter();
        assert!(told.clone().any(|one| one["text"] == "1001 CNY not sent: INSUFFICIENT_FUNDS"), "{listed}");
        teller.assert_sound().await;
    }
}

#[tokio::test]
async fn another_coordinator_finds_late_empty_and_repeated_calls_handled() {
    let folder = TempDir::new().expect("a folder");
    let process = start(folder.path(), "4");
    let teller = Teller::new(&process);
    let (payer, payee) = (teller.account("u_1", 1_000).await, teller.account("u_2", 0).await);
    let call = async |half: &str, act: &str, gid: &str| {
        let account = if half == "payer" { &payer } else { &payee };
        let body = json!({ "gid": gid, "account": account, "amount": 400, "currency": "CNY" });
        teller.send(Method::POST, &format!("/tcc/{half}/{act}"), "", body).await
    };
    // Cancelled before it was tried, then tried late.
    assert_eq!(call("payer", "cancel", "late").await.0, 200);
    assert_eq!(code(&call("payer", "try", "late").await), (409, "ALREADY_CANCELLED"));
    assert_eq!(code(&call("payer", "confirm", "late").await), (409, "ALREADY_CANCELLED"));
    assert_eq!(teller.balance(&payer).await, [1_000, 0, 0]);
    // Everything twice.
    for act in ["try", "try", "confirm", "confirm"] {
        for half in ["payer", "payee"] {
            let answer = call(half, act, "twice").await;
            assert_eq!(answer.0, 200, "{half} {act}: {}", answer.1);
        }
        teller.assert_sound().await;
    }
    assert_eq!((teller.balance(&payer).await, teller.balance(&payee).await), ([600, 0, 0], [400, 0, 0]));
    assert_eq!(code(&call("payer", "cancel", "twice").await), (409, "ALREADY_CONFIRMED"));
    // Tried, then cancelled.
    assert_eq!(call("payer", "try", "undone").await.0, 200);
    assert_eq!(teller.balance(&payer).await, [200, 400, 0]);
    assert_eq!((call("payer", "cancel", "undone").await.0, call("payer", "cancel", "undone").await.0), (200, 200));
    assert_eq!(teller.balance(&payer).await, [600, 0, 0]);
    assert_eq!(code(&call("payer", "confirm", "never").await), (409, "NOT_TRIED"));
    assert_eq!(call("bystander", "try", "never").await.0, 404);
    teller.assert_sound().await;
}
