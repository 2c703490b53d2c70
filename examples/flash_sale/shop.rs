//! The shop as its buyers see it, and what an answer means to them.

use std::time::Duration;

use reqwest::{Client, Method, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{Args, Failure};

/// Longest time to get a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How soon an answer without advice is asked for again.
const USUAL_WAIT: Duration = Duration::from_millis(500);
/// Longest time in line.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
/// Carries the waiting room's tokens.
const TICKET: &str = "x-tidegate-ticket";
/// Bytes of a problem document worth reading.
const LONGEST_PROBLEM: u64 = 64 << 10;

/// What an answer means.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It was done.
    Done(Value),
    /// The gateway refused: by which policy, and when the same request will pass.
    Limited { policy: String, after: Duration },
    /// The gateway's waiting room: how the visitor stands, and the token to come back with.
    Line { document: Value, ticket: Option<String>, after: Duration },
    /// The service said no and will say it again.
    Refused { code: String },
    /// An error of the gateway, of a service or on the way; what was done is not known.
    Failed { kind: String },
}

/// The shop behind one gateway. Never has more requests under way than it was made with.
pub(crate) struct Shop {
    base: String,
    client: Client,
    seats: Semaphore,
    /// What is sold behind the waiting room; `None` when nothing is.
    sale: Option<String>,
}

/// A request of a buyer.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) token: &'a str,
    pub(crate) address: &'a str,
    pub(crate) key: Option<&'a str>,
    /// From the waiting room.
    pub(crate) ticket: Option<&'a str>,
    pub(crate) body: Value,
}

impl Shop {
    pub(crate) async fn new(args: &Args) -> Result<Self, Failure> {
        let connections = usize::try_from(args.connections)?;
        // HTTP/1.1 like most of what stands in front of a gateway; a proxy of the environment is not what is measured.
        let client = Client::builder()
            .http1_only()
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(args.timeout.0)
            .pool_max_idle_per_host(connections)
            .build()?;
        let base = args.target.trim_end_matches('/').to_owned();
        let sale = async {
            let answer = client.get(format!("{base}/api/sale")).send().await.ok()?.error_for_status().ok()?;
            answer.json::<Value>().await.ok()?["sku"].as_str().map(str::to_owned)
        };
        let sale = sale.await;
        Ok(Self { base, client, seats: Semaphore::new(connections), sale })
    }

    /// Whether people wait for it.
    pub(crate) fn is_behind_a_room(&self, sku: &str) -> bool {
        self.sale.as_deref() == Some(sku)
    }

    /// Where the product is ordered.
    pub(crate) fn orders(&self, sku: &str) -> &'static str {
        if self.is_behind_a_room(sku) { "/api/sale/orders" } else { "/api/orders" }
    }

    /// The events of the waiting room for whoever holds the ticket; `None`: not now. Takes no seat: it stays open.
    pub(crate) async fn events(&self, url: &str, ticket: &str) -> Option<Response> {
        let asked = self.client.get(format!("{}{url}", self.base)).timeout(LONGEST_WAIT);
        let answer = asked.header(TICKET, ticket).send().await.ok()?;
        answer.error_for_status().ok()
    }

    /// How whoever holds the ticket stands in the waiting room, and the ticket to look with next.
    pub(crate) async fn look(&self, url: &str, ticket: &str) -> Option<(Value, Option<String>)> {
        let _seat = self.seats.acquire().await.ok()?;
        let answer = self.client.get(format!("{}{url}", self.base)).header(TICKET, ticket).send().await.ok()?;
        let next = ticket_of(&answer);
        let mut body: Value = answer.json().await.ok()?;
        Some((body["waitingRoom"].take(), next))
    }

    /// How many of the product are on sale.
    pub(crate) async fn stock(&self, sku: &str) -> Result<u64, Failure> {
        let url = format!("{}/api/products", self.base);
        let hint = "start the shop with ./dev run, or name another with --target";
        let answer = self.client.get(&url).send().await;
        let answer = answer.map_err(|_| format!("nothing answers at {url}; {hint}"))?;
        if !answer.status().is_success() {
            return Err(format!("{url} answered {}; {hint}", answer.status()).into());
        }
        let catalogue: Value = answer.json().await.map_err(|_| format!("{url} is no catalogue; {hint}"))?;
        let products = catalogue["products"].as_array().or(catalogue.as_array());
        let product = products.and_then(|all| all.iter().find(|product| product["sku"] == sku));
        let product = product.ok_or_else(|| format!("the shop sells no `{sku}`"))?;
        product["stock"].as_u64().ok_or_else(|| format!("the shop does not say how many `{sku}` there are").into())
    }

    /// Sends a request when there is a seat for it and says what the answer means.
    pub(crate) async fn ask(&self, request: Request<'_>) -> Answer {
        let Ok(_seat) = self.seats.acquire().await else { return failed("the driver is ending") };
        let Request { method, path, token, address, key, ticket, body } = request;
        let mut asked = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(token);
        // Counts only where the gateway trusts this machine as a proxy; elsewhere all of them are one client.
        asked = asked.header("x-forwarded-for", address);
        if let Some(key) = key {
            asked = asked.header("idempotency-key", key);
        }
        if let Some(ticket) = ticket {
            asked = asked.header(TICKET, ticket);
        }
        if !body.is_null() {
            asked = asked.json(&body);
        }
        match asked.send().await {
            Ok(answer) => meaning(answer).await,
            Err(error) => failed(transport(&error)),
        }
    }
}

async fn meaning(answer: Response) -> Answer {
    let status = answer.status();
    let after = retry_after(&answer);
    let (policy, ticket) = (policy(&answer), ticket_of(&answer));
    if !status.is_success() && answer.content_length().is_some_and(|length| length > LONGEST_PROBLEM) {
        return failed(&format!("{} with a long body", status.as_u16()));
    }
    let mut body: Value = match answer.bytes().await {
        Ok(body) => serde_json::from_slice(&body).unwrap_or(Value::Null),
        Err(error) => return failed(transport(&error)),
    };
    if status.is_success() {
        return Answer::Done(body);
    }
    let code = body["code"].as_str().unwrap_or("without a code").to_owned();
    if code == "waiting-room" {
        return Answer::Line { document: body["waitingRoom"].take(), ticket, after: after.unwrap_or(USUAL_WAIT) };
    }
    match status {
        StatusCode::TOO_MANY_REQUESTS => {
            Answer::Limited { policy: policy.unwrap_or(code), after: after.unwrap_or(USUAL_WAIT) }
        }
        // The gateway does not tell clients which of the limits that everybody shares was used up.
        StatusCode::SERVICE_UNAVAILABLE if code == "temporary-reduced-capacity" => {
            Answer::Limited { policy: "shared capacity".to_owned(), after: after.unwrap_or(USUAL_WAIT) }
        }
        status if status.is_client_error() => Answer::Refused { code },
        status => failed(&format!("{} {code}", status.as_u16())),
    }
}

/// The name in `RateLimit: "user";r=0;t=6`: the policy that refused.
fn policy(answer: &Response) -> Option<String> {
    let value = answer.headers().get("ratelimit")?.to_str().ok()?;
    value.split('"').nth(1).filter(|name| !name.is_empty()).map(str::to_owned)
}

fn ticket_of(answer: &Response) -> Option<String> {
    answer.headers().get(TICKET)?.to_str().ok().map(str::to_owned)
}

fn retry_after(answer: &Response) -> Option<Duration> {
    let value = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

fn transport(error: &reqwest::Error) -> &'static str {
    match () {
        () if error.is_timeout() => "no answer in time",
        () if error.is_connect() => "no connection",
        () if error.is_body() || error.is_decode() => "answer broken off",
        () => "connection broken off",
    }
}

fn failed(kind: &str) -> Answer {
    Answer::Failed { kind: kind.to_owned() }
}

/// What every order of a sale says.
pub(crate) fn order(sku: &str, password: &str) -> Value {
    json!({ "sku": sku, "qty": 1, "query_password": password })
}
