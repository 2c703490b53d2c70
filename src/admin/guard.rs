//! Who may use the admin side.
//!
//! With a token: whoever has it. Without one the listener is on loopback (the file is refused otherwise), and what is
//! left to keep out is a web page in the operator's own browser: a page of another site that sends requests here, and a
//! name of another site that resolves to this machine (DNS rebinding).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Peer;
use super::problem::Problem;
use crate::gateway::Gateway;

/// Paths that tell nobody anything, for load balancers.
const OPEN: [&str; 2] = ["/-/health", "/-/ready"];
/// The page itself holds no figure; it asks for the token and fetches them.
const SHELL: [&str; 3] = ["/", "/-/dashboard.js", "/-/dashboard.css"];

#[derive(Clone)]
pub(super) struct Guard {
    gateway: Arc<Gateway>,
    loopback: bool,
}

impl Guard {
    pub(super) fn new(gateway: Arc<Gateway>, loopback: bool) -> Self {
        Self { gateway, loopback }
    }

    fn refusal(&self, request: &Request) -> Option<Problem> {
        let headers = request.headers();
        let path = request.uri().path();
        if OPEN.contains(&path) {
            return None;
        }
        let config = self.gateway.snapshot().config.clone();
        if let Some(token) = &config.admin.token {
            let shown = bearer(headers).unwrap_or_default();
            let allowed = SHELL.contains(&path) || token.matches(shown.as_bytes());
            return (!allowed)
                .then(|| Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "The admin token is required"));
        }
        let forbidden = |why: &str| Some(Problem::new(StatusCode::FORBIDDEN, "forbidden", why));
        if !self.loopback {
            return forbidden("Without a token, the admin side answers on loopback only");
        }
        if !headers.get(header::HOST).is_some_and(|host| host.to_str().is_ok_and(is_local)) {
            return forbidden("Host must be localhost or a loopback address");
        }
        if request.method() != Method::GET && request.method() != Method::HEAD && from_elsewhere(headers) {
            return forbidden("Pages of other sites change nothing here");
        }
        None
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether an authority names this machine: `localhost`, 127.0.0.0/8 or `[::1]`, with any port.
fn is_local(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|host| host.is_loopback())
}

fn from_elsewhere(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let site = text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let origin = text("origin").is_some_and(|origin| {
        let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
        !text("host").is_some_and(|host| host.eq_ignore_ascii_case(authority))
    });
    site || origin
}

/// Lets a request in or answers it; notes who changed what.
pub(super) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    let peer = peer.map_or_else(String::new, |peer| peer.to_string());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    if let Some(problem) = guard.refusal(&request) {
        tracing::warn!(target: "tidegate::admin", peer, %method, path, "refused");
        return problem.into_response();
    }
    let response = next.run(request).await;
    if method != Method::GET && method != Method::HEAD {
        let status = response.status().as_u16();
        tracing::info!(target: "tidegate::admin", peer, %method, path, status, "changed by an operator");
    }
    response
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn only_this_machine_is_local() {
        for local in ["localhost", "LOCALHOST:9901", "127.0.0.1:9901", "127.8.0.1", "[::1]:9901", "[::1]"] {
            assert!(is_local(local), "{local}");
        }
        for other in ["", "evil.test", "localhost.evil.test", "10.0.0.1", "[::2]:1", "127.0.0.1.evil.test:9901"] {
            assert!(!is_local(other), "{other}");
        }
    }
}
