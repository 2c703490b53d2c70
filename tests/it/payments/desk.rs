//! A gateway that pays through scripted channels, and the questions that tests ask it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::support::{Answer, Gateway, Origin, Seen, eventually, exchange};

/// What tests say about a channel beside its address.
pub(crate) const PLAIN: &str = "";
/// The same number again is the same payment.
pub(crate) const IDEMPOTENT: &str = "        idempotent: true\n";
/// How channels are asked and told.
const CALLS: &str = "        query: {path: \"/pay/v1/payments/{id}\"}
        close: {path: \"/pay/v1/payments/{id}/close\"}
";
/// What a channel says about a number that it does not know.
pub(crate) const NOT_FOUND: &str = r#"{"code":"PAYMENT_NOT_FOUND"}"#;
/// The words of the default, and a soft decline.
pub(crate) const SOFT: &str = "        codes:
          map:
            - {code: SUCCESS, class: succeeded}
            - {code: PENDING, class: pending}
            - {code: DECLINED, subcode: CHANNEL_MAINTENANCE, class: soft_declined, failover: true}
            - {code: DECLINED, class: declined}
            - {code: CLOSED, class: closed}
            - {code: SYSTEM_ERROR, class: unknown}
            - {http: 503, code: MAINTENANCE, class: not_processed}
";

/// Settings of a desk.
pub(crate) struct Desk<'a> {
    /// How long a channel may be silent.
    pub(crate) read_timeout: &'a str,
    /// Further keys of the upstream, indented by four.
    pub(crate) upstream: &'a str,
    /// Further keys of `payment`, indented by six.
    pub(crate) payment: &'a str,
    /// Whether there is a journal.
    pub(crate) journal: bool,
    /// Further keys of the route.
    pub(crate) route: &'a str,
}

impl Default for Desk<'_> {
    fn default() -> Self {
        Self { read_timeout: "700ms", upstream: "", payment: "", journal: true, route: "" }
    }
}

impl Desk<'_> {
    /// The file for these channels in order, which take turns beginning with the first.
    pub(crate) fn yaml(&self, channels: &[(&str, SocketAddr, &str)]) -> String {
        let Self { read_timeout, upstream, payment, journal, route } = self;
        let mut list = String::new();
        for (name, address, more) in channels {
            write!(list, "      - name: {name}\n        endpoints: [\"{address}\"]\n{CALLS}{more}").expect("text");
        }
        let journal = if *journal { "    journal: disk\n" } else { "" };
        format!(
            "version: 1
server:
  data_dir: DATA_DIR
  listeners:
    - {{name: public, address: \"127.0.0.1:0\", protocols: [h1, h2c]}}
    - {{name: other, address: \"127.0.0.1:0\", protocols: [h1]}}
admin:
  address: \"127.0.0.1:0\"
stores:
  disk: {{type: sqlite}}
upstreams:
  pay:
    class: payment
{journal}    connect_timeout: 300ms
    read_timeout: {read_timeout}
{upstream}    payment:
      id: {{header: idempotency-key}}
      amount: {{json: /amount}}
      currency: {{json: /currency}}
      retry: {{attempts: 3, initial: 100ms, factor: 2.0}}
      resolve: {{unit: 100ms, not_found_min_age: 300ms}}
{payment}    channels:
{list}  shop:
    channels: [{{name: shop, endpoints: [\"127.0.0.1:9\"]}}]
routes:
  - name: pay
    match: {{path: \"/pay/**\"}}
    upstream: pay
{route}
  - {{name: shop, listener: other, upstream: shop}}
"
        )
    }

    /// A gateway with these channels.
    pub(crate) fn open(&self, channels: &[(&str, SocketAddr, &str)]) -> Gateway {
        Gateway::start(&self.yaml(channels))
    }
}

/// The body of a payment of 1.00.
pub(crate) const BODY: &str = r#"{"amount":100,"currency":"CNY","payee":"m1"}"#;

/// The head and body of a payment with this number.
pub(crate) fn request(id: &str, body: &str) -> String {
    format!(
        "POST /pay/v1/payments HTTP/1.1\r\nHost: pay.test\r\nIdempotency-Key: {id}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Pays 1.00 with this number.
pub(crate) fn pay(gateway: &Gateway, id: &str) -> Answer {
    exchange(gateway.public(), &request(id, BODY))
}

/// A payment as the admin side sees it.
pub(crate) fn payment(gateway: &Gateway, id: &str) -> Value {
    let answer = gateway.admin("GET", &format!("/-/payments/{id}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// The state of a payment, and channel and state of its tries.
pub(crate) fn states(gateway: &Gateway, id: &str) -> (String, Vec<(String, String)>) {
    let payment = payment(gateway, id);
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let tries = payment["attempts"].as_array().expect("a list");
    (text(&payment["state"]), tries.iter().map(|one| (text(&one["channel"]), text(&one["state"]))).collect())
}

/// Asserts how a payment stands: `PROCESSING a:UNKNOWN`.
#[track_caller]
pub(crate) fn stands(gateway: &Gateway, id: &str, expected: &str) {
    assert_eq!(standing(gateway, id), expected, "{}", payment(gateway, id));
}

fn standing(gateway: &Gateway, id: &str) -> String {
    let (state, tries) = states(gateway, id);
    tries.iter().fold(state, |all, (channel, state)| format!("{all} {channel}:{state}"))
}

/// Waits until a payment stands so.
pub(crate) fn becomes(gateway: &Gateway, id: &str, expected: &str) {
    eventually(&format!("{id} is {expected}"), Duration::from_secs(15), || standing(gateway, id) == expected);
}

/// Requests that charge, among what a channel has received.
pub(crate) fn charges(channel: &Origin) -> usize {
    channel.seen().iter().filter(|seen| seen.method == "POST" && seen.target == "/pay/v1/payments").count()
}

/// Writes an answer of a channel.
pub(crate) fn answer(stream: &mut TcpStream, status: u16, body: &str) -> bool {
    let length = body.len();
    let text =
        format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).is_ok()
}

/// A channel that charges everything, and says so when asked.
pub(crate) fn good() -> Origin {
    Origin::with(|_, stream| answer(stream, 200, r#"{"status":"SUCCESS","amount":100,"trade_no":"t1"}"#))
}

/// A channel that does with payments what it is told, and says `asked` to queries.
pub(crate) fn with(
    charge: impl Fn(&Seen, &mut TcpStream) -> bool + Send + Sync + 'static,
    asked: (u16, &'static str),
) -> Origin {
    Origin::with(move |seen, stream| match seen.target.as_str() {
        "/pay/v1/payments" => charge(seen, stream),
        target if target.ends_with("/close") => answer(stream, 200, r#"{"status":"CLOSED"}"#),
        _ => answer(stream, asked.0, asked.1),
    })
}

/// A channel that answers payments like this.
pub(crate) fn answering(status: u16, body: &'static str) -> Origin {
    with(move |_, stream| answer(stream, status, body), (200, r#"{"status":"PENDING"}"#))
}
