//! Accounts over HTTP, in the real process of the order service.

mod crash;
mod protocol;
mod rings;

use std::path::Path;

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::process::Process;

/// An answer: status, and the body.
type Answer = (u16, Value);

/// The order process over `shards` files; nothing else of the shop is needed.
fn start(folder: &Path, shards: &str) -> Process {
    let nowhere = "http://127.0.0.1:1";
    let more = ["--shards", shards, "--sweep-every-ms", "20", "--card-key", nowhere, "--egress", nowhere];
    Process::start("order", folder, &more)
}

#[derive(Clone)]
struct Teller {
    base: String,
    client: Client,
}

impl Teller {
    fn new(process: &Process) -> Self {
        Self { base: process.base.clone(), client: Client::new() }
    }

    async fn try_send(&self, method: Method, path: &str, key: &str, body: &Value) -> reqwest::Result<Answer> {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if !key.is_empty() {
            request = request.header("idempotency-key", key);
        }
        let answer = request.json(body).send().await?;
        let status = answer.status().as_u16();
        Ok((status, serde_json::from_slice(&answer.bytes().await?).unwrap_or(Value::Null)))
    }

    async fn send(&self, method: Method, path: &str, key: &str, body: Value) -> Answer {
        self.try_send(method, path, key, &body).await.expect("the service answers")
    }

    async fn post(&self, path: &str, key: &str, body: Value) -> Answer {
        self.send(Method::POST, path, key, body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, "", Value::Null).await
    }

    /// Opens the account of a user with some money in it; answers its id.
    async fn account(&self, user: &str, amount: i64) -> String {
        let (status, account) = self.post("/v1/accounts", "", json!({ "user_id": user, "currency": "CNY" })).await;
        assert_eq!(status, 201, "{account}");
        let id = account["id"].as_str().expect("an id").to_owned();
        if amount > 0 {
            let (status, _) =
                self.post(&format!("/v1/accounts/{id}/deposits"), "first", json!({ "amount": amount })).await;
            assert_eq!(status, 201);
        }
        id
    }

    async fn transfer(&self, key: &str, from: &str, to: &str, amount: i64) -> Answer {
        self.post("/v1/transfers", key, json!({ "from": from, "to": to, "amount": amount })).await
    }

    /// What can be spent, what is frozen, what is promised.
    async fn balance(&self, id: &str) -> [i64; 3] {
        let (_, account) = self.get(&format!("/v1/accounts/{id}")).await;
        ["available", "frozen", "incoming"].map(|part| account[part].as_i64().expect("a number"))
    }

    async fn assert_sound(&self) {
        assert_eq!(self.get("/admin/accounts").await.1["violations"], json!([]));
    }
}

fn code(answer: &Answer) -> (u16, &str) {
    (answer.0, answer.1["code"].as_str().unwrap_or(""))
}
