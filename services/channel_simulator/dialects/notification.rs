//! A callback as it goes over the wire, in the dialect in which its payment was made.

use axum::http::{HeaderName, Method, StatusCode};
use serde_json::json;

use super::super::channel::Channel;
use super::super::outbox::Due;
use super::{alipay, epay, json as plain, keys::Keys, wechat};
use crate::support::dialect::{self, Dialect, beijing};
use crate::support::{signature, unix_ms};

/// What a probe is signed with: anything but the secret.
const WRONG_SECRET: &[u8] = b"not the secret of this channel";

/// A request to be sent.
pub(in crate::channel_simulator) struct Message {
    pub(in crate::channel_simulator) method: Method,
    pub(in crate::channel_simulator) url: String,
    pub(in crate::channel_simulator) headers: Vec<(HeaderName, String)>,
    pub(in crate::channel_simulator) body: String,
}

/// The message for a callback; `probe` asks for one with a wrong signature.
pub(in crate::channel_simulator) fn message(channel: &Channel, keys: Option<&Keys>, due: &Due, probe: bool) -> Message {
    let url = due.payment.wanted.notify_url.clone();
    let content_type = |text: &str| (axum::http::header::CONTENT_TYPE, text.to_owned());
    match (due.payment.wanted.dialect, keys) {
        (Dialect::Alipay, Some(keys)) => {
            let params = alipay::notification(due, keys, probe);
            let form = "application/x-www-form-urlencoded; charset=utf-8";
            Message { method: Method::POST, url, headers: vec![content_type(form)], body: params.to_form() }
        }
        (Dialect::Wechat, Some(keys)) => {
            let body = wechat::notification(channel, due);
            let mut headers = wechat::signed(keys, &body, probe);
            headers.push(content_type("application/json"));
            Message { method: Method::POST, url, headers, body }
        }
        (Dialect::Epay, _) => {
            let params = epay::notification(channel, due, probe);
            let joint = if url.contains('?') { '&' } else { '?' };
            let url = format!("{url}{joint}{}", params.to_form());
            Message { method: Method::GET, url, headers: Vec::new(), body: String::new() }
        }
        _ => {
            let body = plain::notification(due).to_string();
            let secret = if probe { WRONG_SECRET } else { channel.secret.bytes() };
            let now = u64::try_from(unix_ms() / 1_000).unwrap_or(0);
            let tag = signature::sign(secret, now, body.as_bytes());
            let headers = vec![content_type("application/json"), (signature::HEADER, tag)];
            Message { method: Method::POST, url, headers, body }
        }
    }
}

/// Whether an answer says that the callback need not come again. Nothing less than what the dialect asks for: a proxy's
/// page is no acknowledgement.
pub(in crate::channel_simulator) fn acknowledges(dialect: Dialect, status: StatusCode, body: &[u8]) -> bool {
    match dialect {
        Dialect::Json => {
            let code = serde_json::from_slice::<serde_json::Value>(body).map(|body| body["code"] == json!("SUCCESS"));
            status == StatusCode::OK && code.unwrap_or(false)
        }
        // Any other byte, a newline or a byte-order mark, makes it something else.
        Dialect::Alipay => status == StatusCode::OK && body == dialect::alipay::ACKNOWLEDGED.as_bytes(),
        Dialect::Epay => status == StatusCode::OK && body == dialect::epay::ACKNOWLEDGED.as_bytes(),
        // The status wins over whatever the body says.
        Dialect::Wechat => status.is_success(),
    }
}

/// Now, as the channel writes it.
pub(super) fn now_plain() -> String {
    beijing::plain(unix_ms())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_is_what_the_dialect_says_and_nothing_like_it() {
        let ok = StatusCode::OK;
        for dialect in [Dialect::Alipay, Dialect::Epay] {
            assert!(acknowledges(dialect, ok, b"success"));
            for body in ["success\n", "\u{feff}success", "SUCCESS", "fail", "<p>success</p>", ""] {
                assert!(!acknowledges(dialect, ok, body.as_bytes()), "{body:?}");
            }
            assert!(!acknowledges(dialect, StatusCode::CREATED, b"success"));
        }
        assert!(acknowledges(Dialect::Wechat, StatusCode::NO_CONTENT, b""));
        assert!(acknowledges(Dialect::Wechat, ok, br#"{"code":"FAIL"}"#));
        assert!(!acknowledges(Dialect::Wechat, StatusCode::FOUND, b"success"));
        assert!(acknowledges(Dialect::Json, ok, br#"{"code":"SUCCESS"}"#));
        assert!(!acknowledges(Dialect::Json, ok, b"success"));
    }
}
