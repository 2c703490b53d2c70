//! What buyers were told is true after a kill: no order lost, none unfinished, as many keys as payments.

use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_services::support::{Running, unix_ms};

use super::channel::{Bank, notice};
use super::{Caller, sell_keys};
use crate::process::Process;

/// Rounds of [`kill_and_count`].
const ROUNDS: u64 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_acknowledged_is_lost_by_a_kill() {
    kill_and_count("1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_acknowledged_is_lost_by_a_kill_when_orders_lie_in_four_files() {
    kill_and_count("4").await;
}

async fn kill_and_count(shards: &str) {
    let (stock_folder, folder) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    let (card_key, keys) = sell_keys(stock_folder.path(), 5_000).await;
    let (bank, egress) = Bank::start().await;
    let arguments = ["--card-key", &keys, "--egress", &egress, "--sweep-every-ms", "50", "--shards", shards];
    let mut acknowledged: Vec<(String, String)> = Vec::new();
    for round in 0..ROUNDS {
        let process = Process::start("order", folder.path(), &arguments);
        let buyers: Vec<_> = (0..12)
            .map(|n| tokio::spawn(buy_until_it_dies(process.base.clone(), bank.clone(), round * 100 + n)))
            .collect();
        tokio::time::sleep(Duration::from_millis(350 + round * 61)).await;
        process.kill();
        for buyer in buyers {
            acknowledged.extend(buyer.await.expect("no buyer panics"));
        }
    }
    let process = Process::start("order", folder.path(), &arguments);
    let mut caller = Caller::new(&process.base).await;
    let check = until_settled(&caller, bank.charged()).await;
    assert_eq!(check["violations"], json!([]));
    assert_eq!([&check["orders"]["CREATING"], &check["orders"]["PAID"], &check["outbox"]], [0, 0, 0], "{check}");
    assert!(acknowledged.len() > 50, "only {} orders were acknowledged", acknowledged.len());
    for (order_no, token) in &acknowledged {
        caller.token.clone_from(token);
        let (status, _, order) = caller.get(&format!("/api/orders/{order_no}")).await;
        assert_eq!(status, 200, "{order_no} was lost");
        let paid = order["payments"].as_array().expect("a list").iter().any(|one| one["status"] == "SUCCESS");
        assert_eq!(paid, order["status"] == "DELIVERED", "{order}");
    }
    // As many keys have left as the channel has charged, and the card-key service agrees.
    assert_eq!(check["orders"]["DELIVERED"], bank.charged());
    let url = format!("{keys}/admin/stock/card");
    let (_, _, stock) = super::ask(&Client::new(), Method::GET, &url).await;
    assert_eq!(stock["sold"], bank.charged());
    assert_eq!(stock["reserved"], check["orders"]["PENDING_PAYMENT"]);
    process.kill();
    Running::stop(&card_key);
}

/// Waits until nothing is left to be done but what waits for payers.
async fn until_settled(caller: &Caller, charged: usize) -> Value {
    for _ in 0..300 {
        let check = caller.check().await;
        let open = [&check["orders"]["CREATING"], &check["orders"]["PAID"], &check["outbox"]];
        if open.iter().all(|count| **count == 0) && check["payments"]["SUCCESS"] == charged {
            return check;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    caller.check().await
}

/// Buys and pays until there is no answer. Orders that were acknowledged are answered, with the token they belong to.
async fn buy_until_it_dies(base: String, bank: Bank, buyer: u64) -> Vec<(String, String)> {
    let mut acknowledged = Vec::new();
    let Ok(session) = super::answer(Client::new().post(format!("{base}/api/session"))).await else {
        return acknowledged;
    };
    let token = session.2["token"].as_str().expect("a token").to_owned();
    let caller = Caller { base, client: Client::new(), token: token.clone() };
    for n in 0.. {
        let body = json!({ "sku": "card", "query_password": "secret-99" });
        let placed = caller.try_send(Method::POST, "/api/orders", &format!("{buyer}-{n}"), body).await;
        let Ok((201, _, order)) = placed else { break };
        let order_no = order["order_no"].as_str().expect("a number").to_owned();
        acknowledged.push((order_no.clone(), token.clone()));
        let path = format!("/api/orders/{order_no}/payments");
        let paying = caller.try_send(Method::POST, &path, "", json!({ "channel": "alipay" })).await;
        let Ok((201, _, payment)) = paying else { break };
        let payment_no = payment["payment_no"].as_str().expect("a number");
        // Every third payer never pays; every other one's notification is lost, and the query has to find out.
        if n % 3 == 2 {
            continue;
        }
        bank.charge(payment_no);
        if n % 2 == 0 {
            let truth = bank.truth().payments[payment_no].clone();
            let (body, signature) = notice(payment_no, &truth, unix_ms() / 1_000);
            let request = caller.client.post(format!("{}/notify/alipay", caller.base)).body(body);
            let told = super::answer(request.header("x-channel-signature", signature)).await;
            if !matches!(told, Ok((200, _, _))) {
                break;
            }
        }
    }
    acknowledged
}
