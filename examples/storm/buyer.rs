//! A buyer who does not give up: every step is repeated, with the same key, until it has an answer that is final. Not
//! everybody pays: some give up before or after they began to pay, some never pay, some pay when it is too late.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::sleep;

/// What is sold behind the waiting room.
pub(crate) const SALE: &str = "flash-100";
/// Carries the waiting room's token, and where a visitor says goodbye.
const TICKET: &str = "x-tidegate-ticket";
const LEAVE: &str = "/.tidegate/wr/sale/leave";
/// The password for the keys; nobody here is anybody's enemy.
const PASSWORD: &str = "a-password";
/// Pauses between two tries of the same, in milliseconds.
const PAUSES: [u64; 2] = [50, 1_000];
/// Pause between two looks at an order.
const LOOK: Duration = Duration::from_millis(250);

/// What somebody does with an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Pays at this channel, or where the gateway chooses.
    Pays(&'static str),
    /// Gives it up, at once or when the payment has begun.
    GivesUp { paying: bool },
    /// Forgets it.
    Forgets,
    /// Begins to pay, and agrees in the wallet at about the time when the order is not to be paid any more.
    PaysLate(&'static str),
}

impl Habit {
    /// Of the nth buyer: four in five pay.
    pub(crate) fn of(number: u64) -> Self {
        let channel = ["any", "alipay", "any", "wechat", "any", "union"][(number / 20 % 6) as usize];
        match number % 20 {
            3 => Self::GivesUp { paying: false },
            8 => Self::GivesUp { paying: true },
            13 => Self::Forgets,
            18 => Self::PaysLate(channel),
            other => Self::Pays(["any", "alipay", "any", "wechat", "any", "union"][(other % 6) as usize]),
        }
    }
}

/// Where a visit ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    /// Nothing was left.
    SoldOut,
    /// The last state of the order.
    Order(String),
    /// Nobody ever answered. That must not be.
    NoAnswer(&'static str),
}

/// A buyer.
pub(crate) struct Buyer {
    pub(crate) client: Client,
    /// The gateway.
    pub(crate) base: String,
    /// The channels themselves, where wallets are.
    pub(crate) wallets: Vec<String>,
    pub(crate) token: String,
    pub(crate) key: String,
    /// What the waiting room has given.
    pub(crate) ticket: Mutex<Option<String>>,
    pub(crate) habit: Habit,
    /// Who pays late agrees this long after ordering, or when the order is seen to be closed.
    pub(crate) agrees_after: Duration,
    /// When patience ends.
    pub(crate) until: Instant,
}

impl Buyer {
    /// Orders one key. `Err` says why there is no order.
    pub(crate) async fn order(&self) -> Result<String, Ending> {
        let wanted = json!({ "sku": SALE, "qty": 1, "query_password": PASSWORD });
        let gone = || Ending::NoAnswer("ordering");
        let answer = self.until_answered(Method::POST, "/api/sale/orders", Some(wanted)).await;
        let (status, order, first) = answer.ok_or_else(gone)?;
        if order["waitingRoom"]["soldOut"] == true {
            // The room speaks to newcomers. Whether an earlier try was carried out, whose answer was lost, the shop knows.
            let placed = if first { None } else { self.placed().await.ok_or_else(gone)? };
            return placed.ok_or(Ending::SoldOut);
        }
        match (status, order["order_no"].as_str()) {
            (StatusCode::CREATED | StatusCode::OK, Some(number)) => Ok(number.to_owned()),
            (StatusCode::CONFLICT, _) => Err(Ending::SoldOut),
            _ => Err(Ending::Order(format!("refused: {status} {order}"))),
        }
    }

    /// The order of this buyer, if there is one that found keys.
    async fn placed(&self) -> Option<Option<String>> {
        let (_, seen, _) = self.until_answered(Method::GET, "/api/orders", None).await?;
        let mut orders = seen["orders"].as_array()?.iter();
        let ours = orders.find(|order| order["sku"] == SALE && order["status"] != "FAILED");
        Some(ours.and_then(|order| order["order_no"].as_str()).map(str::to_owned))
    }

    /// Does with the order what this buyer does, and waits for its end.
    pub(crate) async fn follow(&self, order: &str) -> Ending {
        let path = format!("/api/orders/{order}");
        let (begun, mut agreed) = (Instant::now(), false);
        loop {
            let Some((status, seen, _)) = self.until_answered(Method::GET, &path, None).await else {
                return Ending::NoAnswer("looking at an order");
            };
            if status == StatusCode::NOT_FOUND {
                return Ending::Order("GONE".to_owned());
            }
            let state = seen["status"].as_str().unwrap_or_default();
            let open = matches!(state, "CREATING" | "PENDING_PAYMENT" | "CLOSING" | "PAID" | "REFUNDING");
            let late = state != "PENDING_PAYMENT" || begun.elapsed() >= self.agrees_after;
            if matches!(self.habit, Habit::PaysLate(_)) && late && !agreed {
                agreed = true;
                self.agree_late(&seen).await;
                continue;
            }
            if !open {
                return Ending::Order(state.to_owned());
            }
            if state == "PENDING_PAYMENT" {
                self.act(&path, &seen).await;
            }
            if Instant::now() > self.until {
                return Ending::NoAnswer("an order's end");
            }
            sleep(LOOK).await;
        }
    }

    async fn act(&self, path: &str, seen: &Value) {
        let payments = seen["payments"].as_array().map(Vec::as_slice).unwrap_or_default();
        let live = |payment: &&Value| {
            matches!(payment["status"].as_str(), Some("CREATED" | "PENDING" | "UNKNOWN" | "SUCCESS"))
        };
        let begun = payments.iter().rev().find(live);
        let step = match (self.habit, begun) {
            (Habit::Forgets, _) | (Habit::PaysLate(_), Some(_)) => return,
            (Habit::GivesUp { paying: false }, _) | (Habit::GivesUp { .. }, Some(_)) => {
                (format!("{path}/cancel"), None)
            }
            (Habit::GivesUp { .. }, None) => (format!("{path}/payments"), Some(json!({ "channel": "any" }))),
            (Habit::Pays(channel) | Habit::PaysLate(channel), None) => {
                (format!("{path}/payments"), Some(json!({ "channel": channel })))
            }
            (Habit::Pays(_), Some(payment)) if payment["status"] == "PENDING" => {
                let number = payment["payment_no"].as_str().unwrap_or_default();
                (format!("{path}/payments/{number}/confirm"), None)
            }
            (Habit::Pays(_), Some(_)) => return,
        };
        // What came of it is seen at the order.
        let _ = self.once(Method::POST, &step.0, step.1).await;
    }

    /// Agrees in the wallet, of whichever channel has the payment.
    async fn agree_late(&self, seen: &Value) {
        let payments = seen["payments"].as_array().map(Vec::as_slice).unwrap_or_default();
        let Some(number) = payments.last().and_then(|payment| payment["payment_no"].as_str()) else { return };
        for wallet in &self.wallets {
            let _ = self.client.post(format!("{wallet}/sim/pay/{number}")).send().await;
        }
    }

    /// The keys of a delivered order.
    pub(crate) async fn keys(&self, order: &str) -> Option<Vec<String>> {
        let asked = Some(json!({ "query_password": PASSWORD }));
        let (status, shown, _) = self.until_answered(Method::POST, &format!("/api/orders/{order}/keys"), asked).await?;
        let keys = shown["keys"].as_array().filter(|_| status == StatusCode::OK)?;
        Some(keys.iter().filter_map(|key| key.as_str().map(str::to_owned)).collect())
    }

    /// Goes away, so that nobody waits for this one to take a turn.
    pub(crate) async fn leave(&self) {
        let ticket = self.ticket.lock().clone();
        if let Some(ticket) = ticket {
            // Whoever is not heard loses the place later.
            let _ = self.client.post(format!("{}{LEAVE}", self.base)).header(TICKET, ticket).send().await;
        }
    }

    /// The answer, and whether it is that to the first try.
    async fn until_answered(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Option<(StatusCode, Value, bool)> {
        let [mut pause, longest] = PAUSES;
        for tries in 1.. {
            if let Some((status, answer)) = self.once(method.clone(), path, body.clone()).await {
                return Some((status, answer, tries == 1));
            }
            if Instant::now() > self.until {
                return None;
            }
            sleep(Duration::from_millis(pause)).await;
            pause = (pause * 2).min(longest);
        }
        None
    }

    /// One request; `None` when it may have had an effect or was asked to come back: try the same again.
    async fn once(&self, method: Method, path: &str, body: Option<Value>) -> Option<(StatusCode, Value)> {
        let mut request = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        request = request.header("idempotency-key", &self.key);
        if let Some(ticket) = self.ticket.lock().as_deref() {
            request = request.header(TICKET, ticket);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.ok()?;
        let status = answer.status();
        if let Some(given) = answer.headers().get(TICKET).and_then(|given| given.to_str().ok()) {
            *self.ticket.lock() = Some(given.to_owned());
        }
        let body: Value = answer.json().await.ok()?;
        let told = body["waitingRoom"]["soldOut"] == true;
        let again = !told && (status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS);
        (!again).then_some((status, body))
    }
}
