//! A shop that is told about payments: it checks what it is told by itself and answers as the test wants.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use serde_json::Value;
use sha2::Sha256;

/// A callback as it arrived.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) body: Value,
    /// The signature was right, by this file's own reckoning.
    pub(super) genuine: bool,
}

/// How a receiver answers a genuine callback.
#[derive(Debug, Clone, Copy)]
pub(super) enum Manner {
    /// As a channel wants it.
    Acknowledge,
    /// 500 so many times for each payment, then as a channel wants it.
    FailFirst(usize),
    /// A redirect to the path where everything is acknowledged.
    Redirect,
    /// Status 200, and a text that is no acknowledgement.
    Chatter,
}

#[derive(Clone)]
pub(super) struct Receiver {
    /// Where callbacks are to go.
    pub(super) url: String,
    inner: Arc<Inner>,
}

struct Inner {
    secret: &'static str,
    manner: Mutex<Manner>,
    told: Mutex<Vec<Told>>,
    failures: Mutex<HashMap<String, usize>>,
}

impl Receiver {
    /// Listens until the test is over.
    pub(super) async fn start(secret: &'static str, manner: Manner) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/notify", listener.local_addr().expect("an address"));
        let inner =
            Arc::new(Inner { secret, manner: Mutex::new(manner), told: Mutex::default(), failures: Mutex::default() });
        let router = Router::new()
            .route("/notify", post(receive))
            .route("/elsewhere", post(async || r#"{"code":"SUCCESS"}"#))
            .with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, inner }
    }

    pub(super) fn behave(&self, manner: Manner) {
        *self.inner.manner.lock() = manner;
    }

    /// Everything that arrived, in order.
    pub(super) fn told(&self) -> Vec<Told> {
        self.inner.told.lock().clone()
    }

    /// Waits until so many callbacks have arrived.
    pub(super) async fn wait_for(&self, count: usize) -> Vec<Told> {
        for _ in 0..500 {
            let told = self.told();
            if told.len() >= count {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let told = self.told();
        assert!(told.len() >= count, "{} callbacks instead of {count} within 10 s", told.len());
        told
    }
}

async fn receive(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> Response {
    let header = headers.get("x-channel-signature").and_then(|value| value.to_str().ok()).unwrap_or("");
    let genuine = is_genuine(inner.secret, header, &body);
    let told: Value = serde_json::from_slice(&body).expect("a callback is JSON");
    let number = told["payment_no"].as_str().expect("a number").to_owned();
    inner.told.lock().push(Told { body: told, genuine });
    if !genuine {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let yes = r#"{"code":"SUCCESS"}"#.into_response();
    match *inner.manner.lock() {
        Manner::Acknowledge => yes,
        Manner::FailFirst(most) => {
            let mut failures = inner.failures.lock();
            let count = failures.entry(number).or_default();
            *count += 1;
            if *count <= most { StatusCode::INTERNAL_SERVER_ERROR.into_response() } else { yes }
        }
        Manner::Redirect => (StatusCode::TEMPORARY_REDIRECT, [("location", "/elsewhere")]).into_response(),
        Manner::Chatter => "<html>SUCCESS</html>".into_response(),
    }
}

/// Written down again from the description, so that a mistake in the service's own file is seen here.
fn is_genuine(secret: &str, header: &str, body: &[u8]) -> bool {
    let Some((time, tag)) = header.strip_prefix("t=").and_then(|rest| rest.split_once(",v1=")) else {
        return false;
    };
    let signed: u64 = time.parse().expect("seconds");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs();
    assert!(now.abs_diff(signed) <= 5, "signed at {signed}, now it is {now}");
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key");
    mac.update(format!("{time}.").as_bytes());
    mac.update(body);
    let right: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    right == tag
}
