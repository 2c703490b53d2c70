//! Kills under load: no acknowledged transfer is lost, none is half done, no money is made.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use super::{Teller, start};

/// Kills.
const ROUNDS: u64 = 20;

/// Clients at once.
const CLIENTS: usize = 8;

/// Accounts, spread over all files.
const USERS: usize = 10;

/// What a client knows about a transfer it asked for.
#[derive(Debug, Clone)]
struct Told {
    key: String,
    from: String,
    to: String,
    amount: i64,
    /// Status of the answer; absent when there was none.
    status: Option<u16>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_kills_makes_no_money_and_loses_none() {
    let folder = TempDir::new().expect("a folder");
    let mut process = start(folder.path(), "4");
    let teller = Teller::new(&process);
    let mut ids = Vec::new();
    for n in 0..USERS {
        ids.push(teller.account(&format!("u_{n}"), 10_000).await);
    }
    let mut told = Vec::new();
    for round in 0..ROUNDS {
        let teller = Teller::new(&process);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| tokio::spawn(pay_until_it_dies(teller.clone(), ids.clone(), round, client)))
            .collect();
        tokio::time::sleep(Duration::from_millis(60 + round * 17)).await;
        process.kill();
        for client in clients {
            told.extend(client.await.expect("no client panics"));
        }
        process = start(folder.path(), "4");
    }
    let teller = Teller::new(&process);
    until_settled(&teller, &ids).await;
    teller.assert_sound().await;
    let mut sum = 0;
    for id in &ids {
        sum += teller.balance(id).await.into_iter().sum::<i64>();
    }
    assert_eq!(sum, i64::try_from(USERS).expect("small") * 10_000);
    check_answers(&teller, &told).await;
}

/// Every answer that was given is given again; whatever got none has one by now.
async fn check_answers(teller: &Teller, told: &[Told]) {
    let acknowledged = told.iter().filter(|one| one.status == Some(201)).count();
    assert!(acknowledged > 100, "only {acknowledged} transfers were acknowledged");
    assert!(told.iter().any(|one| one.status.is_none()), "no kill hit a transfer");
    for one in told {
        let again = teller.transfer(&one.key, &one.from, &one.to, one.amount).await;
        match one.status {
            Some(status) => assert_eq!(again.0, status, "{one:?} is now {}", again.1),
            // Decided, by the old process or by recovery, or made now.
            None => assert!([201, 402, 409].contains(&again.0), "{one:?} is now {}", again.1),
        }
    }
    teller.assert_sound().await;
}

/// Waits until recovery has brought everything to its end.
async fn until_settled(teller: &Teller, ids: &[String]) {
    let mut open = 1;
    for _ in 0..300 {
        open = 0;
        for id in ids {
            let [_, frozen, incoming] = teller.balance(id).await;
            open += frozen + incoming;
        }
        if open == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(open, 0, "money stays frozen");
}

async fn pay_until_it_dies(teller: Teller, ids: Vec<String>, round: u64, client: usize) -> Vec<Told> {
    let mut told = Vec::new();
    for n in 0.. {
        let (from, to) = ((client + n) % USERS, (client + n * 3 + 1) % USERS);
        if from == to {
            continue;
        }
        let amount = i64::try_from((n * 31 + client) % 400 + 1).expect("small");
        let mut one = Told {
            key: format!("{round}-{client}-{n}"),
            from: ids[from].clone(),
            to: ids[to].clone(),
            amount,
            status: None,
        };
        let body = json!({ "from": one.from, "to": one.to, "amount": amount });
        let Ok((status, _)) = teller.try_send(Method::POST, "/v1/transfers", &one.key, &body).await else {
            told.push(one);
            break;
        };
        one.status = Some(status);
        told.push(one);
    }
    told
}
