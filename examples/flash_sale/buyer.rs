//! One purchase, from the wish to the keys in hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::line::{self, End};
use crate::shop::{self, Answer, Request, Shop};
use crate::tally::{Ordered, Tally};

/// First and longest pause between two looks at an order.
const LOOKS: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(2)];
/// Pause before something is asked for again whose outcome is not known.
const REPEAT: Duration = Duration::from_millis(500);

/// Who somebody is.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) token: Arc<str>,
    /// His network address, as a gateway is told that trusts this machine.
    pub(crate) address: Arc<str>,
}

/// What one buyer wants.
pub(crate) struct Wish {
    pub(crate) sku: Arc<str>,
    pub(crate) channel: Arc<str>,
    pub(crate) person: Person,
    /// The one who floods.
    pub(crate) floods: bool,
    pub(crate) pays: bool,
    /// The moment he meant to arrive.
    pub(crate) due: Instant,
    /// Refused at the order, he comes back until then.
    pub(crate) patient_until: Instant,
    /// How long paying and delivery may take.
    pub(crate) settle: Duration,
}

/// A buyer at the shop.
pub(crate) struct Buyer {
    pub(crate) wish: Wish,
    pub(crate) shop: Arc<Shop>,
    pub(crate) tally: Arc<Tally>,
}

impl Buyer {
    /// Buys, and writes down how it went.
    pub(crate) async fn visit(self) {
        let wish = &self.wish;
        self.tally.arrived(wish.floods, wish.due.elapsed());
        let (password, key) = (random(), random());
        let Some(order_no) = self.order(&password, &key).await else { return };
        if !wish.pays {
            return self.tally.unpaid();
        }
        let deadline = Instant::now() + wish.settle;
        // One who floods has no quota left and is not waited for.
        let patience = if wish.floods { Instant::now() } else { deadline };
        let payment_no = match self.pay(&order_no, patience).await {
            Ok(payment_no) => payment_no,
            Err(_) if wish.floods => return self.tally.unpaid(),
            Err(why) => return self.tally.failed(format!("not paid: {why}")),
        };
        self.tally.paid();
        match self.delivery(&order_no, &payment_no, deadline).await {
            Ok(true) => self.tally.delivered(),
            Ok(false) => return self.tally.declined(),
            Err(why) => return self.tally.failed(format!("not delivered: {why}")),
        }
        match self.keys(&order_no, &password, patience).await {
            Ok(keys) => self.tally.bought(keys, wish.due.elapsed()),
            // He can read them when he has calmed down.
            Err(_) if wish.floods => {}
            Err(why) => self.tally.failed(format!("keys not read: {why}")),
        }
    }

    async fn order(&self, password: &str, key: &str) -> Option<String> {
        let (mut ticket, mut in_line) = (None::<String>, None::<Instant>);
        loop {
            let body = shop::order(&self.wish.sku, password);
            let path = self.shop.orders(&self.wish.sku);
            let answer = self.send(Method::POST, path, Some(key), ticket.as_deref(), body).await;
            if !matches!(answer, Answer::Line { .. } | Answer::Limited { .. } | Answer::Failed { .. }) {
                self.tally.let_in(&self.wish.person.token, in_line.take());
            }
            let outcome = match answer {
                Answer::Line { document, ticket: given, after } => {
                    ticket = given.or(ticket);
                    if self.wish.floods {
                        Ordered::Limited("waiting room".to_owned())
                    } else {
                        match self.wait_in_line(document, &mut ticket, &mut in_line, after).await {
                            Some(outcome) => outcome,
                            None => continue,
                        }
                    }
                }
                Answer::Done(body) => match body["order_no"].as_str() {
                    Some(order_no) => {
                        self.tally.ordered(Ordered::Placed, self.wish.floods, self.wish.due.elapsed());
                        return Some(order_no.to_owned());
                    }
                    None => Ordered::Failed("order without a number".to_owned()),
                },
                Answer::Limited { after, .. } if Instant::now() + after < self.wish.patient_until => {
                    sleep(after + jitter()).await;
                    continue;
                }
                Answer::Limited { policy, .. } => Ordered::Limited(policy),
                Answer::Refused { code } if code == "SOLD_OUT" => {
                    self.tally.sold_out(false);
                    Ordered::SoldOut
                }
                Answer::Refused { code } if code == "ENOUGH" => Ordered::Limited("pieces a person".to_owned()),
                Answer::Refused { code } => Ordered::Failed(format!("order refused: {code}")),
                Answer::Failed { kind } => Ordered::Failed(format!("order: {kind}")),
            };
            self.tally.ordered(outcome, self.wish.floods, self.wish.due.elapsed());
            return None;
        }
    }

    /// Waits for the turn; `None` when it has come, or when the token has to be brought back first.
    async fn wait_in_line(
        &self,
        document: Value,
        ticket: &mut Option<String>,
        in_line: &mut Option<Instant>,
        after: Duration,
    ) -> Option<Ordered> {
        if document["soldOut"] == true {
            self.tally.sold_out(in_line.is_some());
            return Some(Ordered::SoldOut);
        }
        let Some(held) = ticket.as_mut().filter(|_| document["state"] != "PRE") else {
            sleep(after).await;
            return None;
        };
        in_line.get_or_insert_with(Instant::now);
        match line::wait(&self.shop, document, held, Instant::now() + self.wish.settle).await {
            End::Turn => None,
            End::SoldOut => {
                self.tally.sold_out(true);
                Some(Ordered::SoldOut)
            }
            End::Lost(why) => Some(Ordered::Failed(format!("in line: {why}"))),
        }
    }

    /// Chooses a channel and confirms in its wallet; answers the number of the payment.
    async fn pay(&self, order_no: &str, deadline: Instant) -> Result<String, String> {
        let path = format!("/api/orders/{order_no}/payments");
        let body = json!({ "channel": &*self.wish.channel });
        loop {
            // The shop answers with the payment under way when there is one: asking again never pays twice.
            let payment = self.insist(Method::POST, &path, body.clone(), deadline).await?;
            let payment_no = payment["payment_no"].as_str().ok_or("payment without a number")?.to_owned();
            match payment["status"].as_str().unwrap_or("without a status") {
                "SUCCESS" => return Ok(payment_no),
                "PENDING" => {
                    self.confirm(order_no, &payment_no, deadline).await?;
                    return Ok(payment_no);
                }
                // The channel has not answered yet.
                "CREATED" | "UNKNOWN" if Instant::now() + REPEAT < deadline => sleep(REPEAT).await,
                status => return Err(format!("the payment is {status}")),
            }
        }
    }

    async fn confirm(&self, order_no: &str, payment_no: &str, deadline: Instant) -> Result<(), String> {
        let path = format!("/api/orders/{order_no}/payments/{payment_no}/confirm");
        match self.insist(Method::POST, &path, json!({}), deadline).await {
            Ok(_) => Ok(()),
            Err(why) => {
                // A second confirmation is refused when the first one arrived and only its answer was lost.
                let order = self.insist(Method::GET, &format!("/api/orders/{order_no}"), Value::Null, deadline).await?;
                if matches!(order["status"].as_str(), Some("PAID" | "DELIVERED")) { Ok(()) } else { Err(why) }
            }
        }
    }

    /// Looks until the order is delivered; `false` when the payment was declined after all.
    async fn delivery(&self, order_no: &str, payment_no: &str, deadline: Instant) -> Result<bool, String> {
        let path = format!("/api/orders/{order_no}");
        let [mut pause, longest] = LOOKS;
        loop {
            let order = self.insist(Method::GET, &path, Value::Null, deadline).await?;
            let status = order["status"].as_str().unwrap_or("without a status");
            match status {
                "DELIVERED" => return Ok(true),
                "PENDING_PAYMENT" if declined(&order, payment_no) => return Ok(false),
                "PENDING_PAYMENT" | "PAID" if Instant::now() + pause < deadline => sleep(pause).await,
                // Which one it is says a lot: the callback is missing, or the keys are.
                status => return Err(format!("the order is {status}")),
            }
            pause = (pause * 3 / 2).min(longest);
        }
    }

    async fn keys(&self, order_no: &str, password: &str, deadline: Instant) -> Result<Vec<String>, String> {
        let path = format!("/api/orders/{order_no}/keys");
        let shown = self.insist(Method::POST, &path, json!({ "query_password": password }), deadline).await?;
        let keys = shown["keys"].as_array().ok_or("an answer without keys")?;
        let keys: Vec<_> = keys.iter().filter_map(|key| key.as_str().map(str::to_owned)).collect();
        if keys.len() == 1 { Ok(keys) } else { Err(format!("{} keys instead of 1", keys.len())) }
    }

    /// Asks until there is an answer: whoever has an order does not give up because it is busy.
    async fn insist(&self, method: Method, path: &str, body: Value, deadline: Instant) -> Result<Value, String> {
        loop {
            let (wait, why) = match self.ask(method.clone(), path, None, body.clone()).await {
                Answer::Done(body) => return Ok(body),
                Answer::Refused { code } => return Err(code),
                Answer::Line { after, .. } => (after, "told to wait in line".to_owned()),
                Answer::Limited { policy, after } => {
                    self.tally.waited(policy.clone());
                    (after, format!("limited by {policy}"))
                }
                Answer::Failed { kind } => {
                    self.tally.repeated(kind.clone());
                    (REPEAT, kind)
                }
            };
            if Instant::now() + wait >= deadline {
                return Err(why);
            }
            sleep(wait + jitter()).await;
        }
    }

    async fn ask(&self, method: Method, path: &str, key: Option<&str>, body: Value) -> Answer {
        self.send(method, path, key, None, body).await
    }

    async fn send(&self, method: Method, path: &str, key: Option<&str>, ticket: Option<&str>, body: Value) -> Answer {
        let Person { token, address } = &self.wish.person;
        self.shop.ask(Request { method, path, token, address, key, ticket, body }).await
    }
}

/// Whether the payment ended without a charge.
fn declined(order: &Value, payment_no: &str) -> bool {
    let payments = order["payments"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ours = payments.iter().find(|payment| payment["payment_no"] == payment_no);
    ours.is_some_and(|payment| matches!(payment["status"].as_str(), Some("DECLINED" | "CLOSED" | "FAILED")))
}

/// A moment of spread, so that those who were refused together do not come back together.
fn jitter() -> Duration {
    Duration::from_millis(rand::rng().random_range(0..500))
}

/// 128 random bits, as an idempotency key or a password.
fn random() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}
