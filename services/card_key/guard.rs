//! Who may use the side for sellers.
//!
//! It can hand out every unsold key, so it asks for a token where one is set. Without one it answers only when the
//! service listens on loopback, and only to requests that name this machine as their host: a page in the seller's
//! browser could otherwise reach it through a name of its own that resolves to this machine.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use crate::support::{Problem, Secret};

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) enum Guard {
    /// `Authorization: Bearer` with this token.
    Token(Secret),
    /// A request from this machine to this machine.
    Local,
    /// Nobody may.
    Closed,
}

impl Guard {
    /// The guard for a service that listens on `listen`.
    pub(super) fn new(token: Option<Secret>, listen: SocketAddr) -> Self {
        match token {
            Some(token) => Self::Token(token),
            None if listen.ip().is_loopback() => Self::Local,
            None => Self::Closed,
        }
    }

    fn refusal(&self, headers: &HeaderMap) -> Option<Problem> {
        match self {
            Self::Token(token) => {
                let shown = bearer(headers).unwrap_or("");
                let right: bool = shown.as_bytes().ct_eq(token.bytes()).into();
                let detail = "The admin token is required.";
                (!right).then(|| Problem::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", detail))
            }
            Self::Local if is_local(headers) => None,
            Self::Local | Self::Closed => {
                let detail = "Without an admin token this side answers on loopback only.";
                Some(Problem::new(StatusCode::FORBIDDEN, "FORBIDDEN", detail))
            }
        }
    }
}

/// Lets a request through or answers it.
pub(super) async fn watch(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.refusal(request.headers()) {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether a request names this machine, and comes from no other site's page.
fn is_local(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or("");
    let named = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let address = named.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    let local = named.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback());
    let own = text(header::ORIGIN).is_none_or(|origin| origin.eq_ignore_ascii_case(&format!("http://{host}")));
    local && own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let value = |text: &'static str| axum::http::HeaderValue::from_static(text);
        pairs.iter().map(|(name, text)| (axum::http::HeaderName::from_static(name), value(text))).collect()
    }

    #[test]
    fn without_a_token_only_this_machine_is_let_in() {
        let local = Guard::new(None, "127.0.0.1:7002".parse().expect("an address"));
        for host in ["127.0.0.1:7002", "localhost:7002", "LOCALHOST", "[::1]:7002"] {
            assert!(local.refusal(&headers(&[("host", host)])).is_none(), "{host}");
        }
        for host in ["", "evil.test", "127.0.0.1.evil.test:7002", "10.0.0.1:7002"] {
            assert!(local.refusal(&headers(&[("host", host)])).is_some(), "{host}");
        }
        let foreign = headers(&[("host", "localhost:7002"), ("origin", "http://evil.test")]);
        assert!(local.refusal(&foreign).is_some());
        let open = Guard::new(None, "0.0.0.0:7002".parse().expect("an address"));
        assert!(open.refusal(&headers(&[("host", "localhost:7002")])).is_some());
    }

    #[test]
    fn with_a_token_only_its_owner_is_let_in() {
        let token = Some(Secret::new("a-token"));
        let guard = Guard::new(token, "0.0.0.0:7002".parse().expect("an address"));
        assert!(guard.refusal(&headers(&[("authorization", "Bearer a-token")])).is_none());
        for value in ["Bearer a-toke", "Basic a-token", "Bearer "] {
            assert!(guard.refusal(&headers(&[("authorization", value)])).is_some(), "{value}");
        }
        assert!(guard.refusal(&headers(&[("host", "localhost")])).is_some());
    }
}
