//! What a request asks for: the payment's number, and everything that must not change between two requests with it.

use http::{HeaderMap, StatusCode, header};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tidegate_filters::engine::Reply;

use super::journal::Frozen;
use super::outcome::Money;
use crate::config::{Locator, PaymentSpec};

/// Longest number; channels take 32 to 64 characters.
const LONGEST_ID: usize = 64;

/// Reads a request. The path belongs to what must not change: a number of a charge is none of a refund.
pub(crate) fn read(
    upstream: &str,
    spec: &PaymentSpec,
    path: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Frozen, Malformed> {
    // What the gateway cannot read, it cannot write down.
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(bad("payment-encoded", "The body of a payment is not packed"));
    }
    if let Locator::Header(name) = &spec.id
        && headers.get_all(name).iter().count() > 1
    {
        return Err(bad("payment-id-malformed", "The payment has two numbers"));
    }
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let part = |locator: &Locator| find(locator, headers, json.as_ref());
    let id = part(&spec.id).ok_or_else(|| bad("payment-id-missing", "The payment has no number"))?;
    // Structured headers quote their texts.
    let id = id.strip_prefix('"').and_then(|id| id.strip_suffix('"')).unwrap_or(&id).to_owned();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    // Dots alone would be a way out of a path.
    let dots = id.chars().all(|c| c == '.');
    if id.len() > LONGEST_ID || dots || !id.chars().all(plain) {
        return Err(bad("payment-id-malformed", "A payment's number is 1 to 64 letters, digits, `-`, `_` and `.`"));
    }
    let amount = match &spec.amount {
        None => None,
        Some(locator) => {
            let amount = part(locator).and_then(|amount| amount.parse::<i64>().ok()).filter(|amount| *amount > 0);
            Some(amount.ok_or_else(|| bad("payment-malformed", "The amount is no number of minor units above zero"))?)
        }
    };
    let text = |locator: &Option<Locator>| match locator.as_ref().map(part) {
        None => Ok(None),
        Some(Some(text)) if text.chars().any(char::is_control) => {
            Err(bad("payment-malformed", "The payment's currency or type has control characters"))
        }
        Some(Some(text)) => Ok(Some(text)),
        Some(None) => Err(bad("payment-malformed", "The payment lacks its currency or its type")),
    };
    let (currency, kind) = (text(&spec.currency)?, text(&spec.kind)?);
    let mut hash = Sha256::new();
    let frozen = spec.frozen.iter().map(|locator| part(locator).unwrap_or_default());
    let amount_text = amount.map(|amount: i64| amount.to_string());
    let parts = [Some(path.to_owned()), amount_text, currency.clone(), kind.clone()];
    for text in parts.into_iter().map(Option::unwrap_or_default).chain(frozen) {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    let fingerprint = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Frozen { id, upstream: upstream.to_owned(), money: Money { amount, currency }, kind, fingerprint })
}

/// A part as text; `None` when it is not there, empty, or nothing that can be compared.
pub(crate) fn find(locator: &Locator, headers: &HeaderMap, json: Option<&Value>) -> Option<String> {
    let text = match locator {
        Locator::Header(name) => headers.get(name)?.to_str().ok()?.trim().to_owned(),
        Locator::Json(pointer) => match json?.pointer(pointer)? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        },
    };
    Some(text).filter(|text| !text.is_empty())
}

/// Why a request cannot be a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    code: &'static str,
    title: &'static str,
}

impl Malformed {
    /// The answer to it.
    pub(crate) fn reply(self) -> Reply {
        Reply::problem(StatusCode::BAD_REQUEST, self.code, self.title)
    }
}

fn bad(code: &'static str, title: &'static str) -> Malformed {
    Malformed { code, title }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ResolveSpec, RetrySpec};
    use std::time::Duration;

    fn spec() -> PaymentSpec {
        let json = |pointer: &str| Some(Locator::Json(pointer.to_owned()));
        let second = Duration::from_secs(1);
        PaymentSpec {
            paths: Vec::new(),
            id: Locator::Header(http::HeaderName::from_static("idempotency-key")),
            amount: json("/amount"),
            currency: json("/currency"),
            kind: None,
            frozen: vec![Locator::Json("/payee".to_owned())],
            deadline: second,
            retry: RetrySpec { attempts: 3, initial: second, factor: 2.0 },
            location: "/.tidegate/payments/".to_owned(),
            resolve: ResolveSpec { unit: second, deadline: second, hold: second, not_found_min_age: second },
        }
    }

    fn ask(id: &str, path: &str, body: &str) -> Result<Frozen, &'static str> {
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", id.parse().unwrap());
        read("pay", &spec(), path, &headers, body.as_bytes()).map_err(|malformed| malformed.code)
    }

    #[test]
    fn every_part_that_money_depends_on_changes_the_fingerprint_and_nothing_else_does() {
        let body = r#"{"amount":100,"currency":"CNY","payee":"m1","time":1}"#;
        let first = ask("p1", "/pay", body).unwrap();
        assert_eq!(first.money, Money { amount: Some(100), currency: Some("CNY".to_owned()) });
        assert_eq!(ask("\"p1\"", "/pay", &body.replace("\"time\":1", "\"time\":2")).unwrap(), first);
        for (from, to) in [("100", "101"), ("CNY", "USD"), ("m1", "m2")] {
            assert_ne!(ask("p1", "/pay", &body.replace(from, to)).unwrap().fingerprint, first.fingerprint, "{to}");
        }
        assert_ne!(ask("p1", "/refund", body).unwrap().fingerprint, first.fingerprint);
    }

    #[test]
    fn what_cannot_be_read_or_has_two_numbers_is_no_payment() {
        let read = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("idempotency-key", "p1".parse().unwrap());
            headers.append(name, value.parse().unwrap());
            read("pay", &spec(), "/", &headers, br#"{"amount":1,"currency":"CNY"}"#).map_err(|malformed| malformed.code)
        };
        assert_eq!(read("content-encoding", "gzip"), Err("payment-encoded"));
        assert_eq!(read("idempotency-key", "p2"), Err("payment-id-malformed"));
        assert!(read("accept", "*/*").is_ok());
    }

    #[test]
    fn a_number_is_short_and_plain() {
        let body = r#"{"amount":1,"currency":"CNY"}"#;
        for id in ["a b", "a/b", "..", ".", "a?b", "a%2f", "\"a", &"a".repeat(65)] {
            assert_eq!(ask(id, "/", body), Err("payment-id-malformed"), "{id}");
        }
        assert_eq!(ask("", "/", body), Err("payment-id-missing"));
        assert!(ask(&"a".repeat(64), "/", body).is_ok());
    }

    #[test]
    fn an_amount_is_a_whole_number_above_zero() {
        for amount in ["0", "-1", "1.5", "\"ten\"", "null", "9223372036854775808"] {
            let body = format!(r#"{{"amount":{amount},"currency":"CNY"}}"#);
            assert_eq!(ask("p", "/", &body), Err("payment-malformed"), "{amount}");
        }
        assert_eq!(ask("p", "/", r#"{"amount":1}"#), Err("payment-malformed"), "no currency");
        assert_eq!(ask("p", "/", "no json"), Err("payment-malformed"));
    }
}
