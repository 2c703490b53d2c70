//! The visitors over HTTP: they keep the token they are given, look when they are told to, and enter when it is their turn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::Rng;
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;
use tokio::time::sleep;

use super::{BOTS, Fairness, LEAVERS};

const TICKET: &str = "x-tidegate-ticket";
/// A bot asks this often, once a second.
const BOT_TRIES: u32 = 10;
/// Mean patience of those who leave.
const PATIENCE: Duration = Duration::from_secs(10);
/// A visitor gives up after this.
const LONGEST: Duration = Duration::from_secs(900);

#[derive(Default)]
struct Seen {
    fairness: Fairness,
    entered: Vec<Instant>,
    waits: Vec<Duration>,
    errors: Vec<f64>,
    /// By number: until when the turn lasts, so the order in which turns began.
    turns: Vec<(u64, u64)>,
}

struct Visitor {
    client: Client,
    base: String,
    path: String,
    token: Option<String>,
    seen: Arc<Mutex<Seen>>,
}

/// Lets `count` visitors come to a page within a span, who stay for a while.
pub(crate) async fn visit(target: &str, count: u64, within: Duration, stay: Duration) -> Fairness {
    let origin = target.find("://").and_then(|at| target[at + 3..].find('/').map(|slash| at + 3 + slash));
    let (base, path) = target.split_at(origin.unwrap_or(target.len()));
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap_or_default();
    let all: Vec<_> = (0..count)
        .map(|at| {
            let path = if path.is_empty() { "/" } else { path }.to_owned();
            let visitor =
                Visitor { client: client.clone(), base: base.to_owned(), path, token: None, seen: seen.clone() };
            let pause = within.mul_f64(at as f64 / count as f64);
            tokio::spawn(async move {
                sleep(pause).await;
                if at.is_multiple_of(BOTS) { visitor.presses().await } else { visitor.comes(stay).await }
            })
        })
        .collect();
    for one in all {
        // A visitor that panicked would be a mistake here; it counts as one who failed.
        if one.await.is_err() {
            seen.lock().fairness.failures += 1;
        }
    }
    let seen = std::mem::take(&mut *seen.lock());
    seen.judge()
}

impl Visitor {
    /// A bot: asks and asks, and brings nothing back.
    async fn presses(self) {
        for _ in 0..BOT_TRIES {
            let answer = self.client.get(format!("{}{}", self.base, self.path)).send().await;
            let document = match answer {
                Ok(answer) if !answer.status().is_success() => answer.json::<Value>().await.unwrap_or_default(),
                _ => Value::Null,
            };
            self.seen.lock().fairness.numbers_of_bots += u64::from(document["waitingRoom"]["ticketNumber"].is_u64());
            sleep(Duration::from_secs(1)).await;
        }
    }

    async fn comes(mut self, stay: Duration) {
        let came = Instant::now();
        let patience = {
            let mut rng = rand::rng();
            let leaves = rng.random_range(0..LEAVERS) == 0;
            leaves.then(|| PATIENCE.mul_f64(-(1.0 - rng.random::<f64>()).ln()))
        };
        let mut told: Option<(Instant, f64)> = None;
        let mut url = self.path.clone();
        loop {
            let Some((status, document)) = self.ask(Method::GET, &url).await else { return };
            if url == self.path && status.is_success() {
                return self.enters(came, told, stay).await;
            }
            let room = &document["waitingRoom"];
            if room["state"] == "READY" {
                let turn = room["ticketNumber"].as_u64().zip(room["readyUntil"].as_u64());
                self.seen.lock().turns.extend(turn);
                let claim = room["claimUrl"].as_str().unwrap_or_default().to_owned();
                self.ask(Method::POST, &claim).await;
                url.clone_from(&self.path);
                continue;
            }
            if patience.is_some_and(|patience| came.elapsed() > patience) {
                self.seen.lock().fairness.left += 1;
                return;
            }
            if came.elapsed() > LONGEST || room["state"] == "REJECTED" {
                self.seen.lock().fairness.failures += 1;
                return;
            }
            if told.is_none() {
                told = room["waitTimeSeconds"].as_f64().map(|wait| (Instant::now(), wait));
            }
            // The token is brought back to the page; afterwards the status says how it stands.
            if let Some(status) = room["statusUrl"].as_str().filter(|_| room["state"] != "PRE") {
                status.clone_into(&mut url);
            }
            sleep(Duration::from_millis(room["pollAfterMs"].as_u64().unwrap_or(1_000))).await;
        }
    }

    async fn enters(mut self, came: Instant, told: Option<(Instant, f64)>, stay: Duration) {
        {
            let mut seen = self.seen.lock();
            seen.entered.push(Instant::now());
            seen.waits.push(came.elapsed());
            seen.errors.extend(told.map(|(at, wait)| {
                let real = at.elapsed().as_secs_f64();
                (real - wait).abs() / real.max(10.0)
            }));
        }
        // Brought back once, the pass is good for a whole visit.
        let path = self.path.clone();
        self.ask(Method::GET, &path).await;
        sleep(stay).await;
    }

    async fn ask(&mut self, method: Method, path: &str) -> Option<(StatusCode, Value)> {
        self.seen.lock().fairness.polls += 1;
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header(TICKET, token);
        }
        match request.send().await {
            Ok(answer) => Some(self.read(answer).await),
            Err(_) => {
                self.seen.lock().fairness.failures += 1;
                None
            }
        }
    }

    async fn read(&mut self, answer: Response) -> (StatusCode, Value) {
        let given = answer.headers().get(TICKET).and_then(|token| token.to_str().ok());
        self.token = given.map(str::to_owned).or(self.token.take());
        (answer.status(), answer.json().await.unwrap_or_default())
    }
}

impl Seen {
    fn judge(mut self) -> Fairness {
        let mut fairness = std::mem::take(&mut self.fairness);
        fairness.admitted = self.entered.len() as u64;
        self.entered.sort_unstable();
        let minute = |at: &Instant| {
            self.entered.iter().filter(|other| *other >= at && **other < *at + Duration::from_secs(60)).count()
        };
        fairness.most_in_a_minute = self.entered.iter().map(minute).max().unwrap_or(0) as u64;
        // In the order of numbers, no turn may have begun before the one in front of it.
        self.turns.sort_unstable();
        fairness.inversions = self.turns.windows(2).filter(|pair| pair[1].1 < pair[0].1).count() as u64;
        self.waits.sort_unstable();
        let wait = |share: f64| self.waits.get((self.waits.len() as f64 * share) as usize).copied().unwrap_or_default();
        (fairness.wait_p50, fairness.wait_p99) = (wait(0.5), wait(0.99));
        self.errors.sort_by(f64::total_cmp);
        fairness.eta_error = self.errors.get(self.errors.len() / 2).copied();
        fairness
    }
}
