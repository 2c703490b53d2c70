//! A gateway that chooses channels, made to order, in front of three real channel simulators. What it knows about a
//! payment's way it says in its answer, as the real one does; that it may know nothing is the point.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_services::channel_simulator::{self, Settings, dialects};
use tidegate_services::support::signature::DEVELOPMENT_SECRET;
use tidegate_services::support::{Running, Secret};

/// The channels, as everybody names them.
pub(super) const NAMES: [&str; 3] = ["alipay", "wechat", "union"];

/// What the gateway does with a new payment that is not bound to a channel.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    /// To this channel, and its answer back with its name.
    Through(&'static str),
    /// To this channel, and the answer is lost; it is known where the payment went.
    LostAt(&'static str),
    /// To this channel, and the answer is lost, and where it went as well.
    LostSomewhere(&'static str),
    /// Nowhere, but the gateway does not know that.
    Vanished,
    /// Nowhere, and the gateway knows.
    NotSent,
}

pub(super) struct Engine {
    pub(super) base: String,
    pub(super) channels: Vec<Running>,
    state: Arc<Inner>,
    _folder: TempDir,
}

struct Inner {
    client: Client,
    bases: Vec<String>,
    way: Mutex<Way>,
}

impl Engine {
    pub(super) async fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let mut channels = Vec::new();
        for name in NAMES {
            channels.push(channel_simulator::start(settings(&folder, name)).await.expect("the channel starts"));
        }
        let bases = channels.iter().map(|channel| format!("http://{}", channel.address)).collect();
        let client = Client::builder().no_proxy().build().expect("a client");
        let state = Arc::new(Inner { client, bases, way: Mutex::new(Way::NotSent) });
        let router = Router::new().fallback(carry).with_state(Arc::clone(&state));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { base, channels, state, _folder: folder }
    }

    pub(super) fn goes(&self, way: Way) {
        *self.state.way.lock().expect("nobody panicked with it") = way;
    }

    /// Something of a channel's interface for tests.
    pub(super) async fn sim(&self, name: &str, path: &str, body: Option<Value>) -> Value {
        let url = format!("{}{path}", self.state.base(name));
        let request = match body {
            None => self.state.client.get(url),
            Some(body) if path == "/sim/plan" => self.state.client.put(url).json(&body),
            Some(body) => self.state.client.post(url).json(&body),
        };
        request.send().await.expect("an answer").json().await.expect("JSON")
    }

    /// What a channel has left of a payment's money; absent when it does not know the payment.
    pub(super) async fn net(&self, name: &str, payment_no: &str) -> Option<i64> {
        self.sim(name, &format!("/sim/truth?payment_no={payment_no}"), None).await["net"].as_i64()
    }

    pub(super) async fn stop(self) {
        drop(self.state);
        self.channels.iter().for_each(Running::stop);
        for channel in self.channels {
            channel.wait().await;
        }
    }
}

impl Inner {
    fn base(&self, name: &str) -> &str {
        let at = NAMES.iter().position(|one| *one == name).expect("a channel");
        &self.bases[at]
    }

    async fn forward(&self, name: &str, request: &Call) -> Response {
        let url = format!("{}{}", self.base(name), request.path);
        let mut forwarded = self.client.request(request.method.clone(), url).body(request.body.clone());
        if let Some(key) = &request.key {
            forwarded = forwarded.header("idempotency-key", key);
        }
        let Ok(answer) = forwarded.header("content-type", "application/json").send().await else {
            return (StatusCode::BAD_GATEWAY, [("tidegate-outcome", "unknown")]).into_response();
        };
        let (status, signature) = (answer.status(), answer.headers().get("x-channel-signature").cloned());
        let body = answer.bytes().await.unwrap_or_default();
        let mut answer = (status, [("tidegate-channel", name.to_owned())], body).into_response();
        answer.headers_mut().extend(signature.map(|value| (HeaderName::from_static("x-channel-signature"), value)));
        answer
    }
}

struct Call {
    method: reqwest::Method,
    path: String,
    key: Option<String>,
    body: Bytes,
}

async fn carry(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let header = |name: &str| parts.headers.get(name).map(|value| value.to_str().expect("text").to_owned());
    let (pinned, key) = (header("tidegate-channel"), header("idempotency-key"));
    let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let call = Call { method, path, key, body };
    if let Some(channel) = pinned {
        return inner.forward(&channel, &call).await;
    }
    assert_eq!(call.path, "/pay/v1/payments", "only a new payment may go anywhere");
    let way = *inner.way.lock().expect("nobody panicked with it");
    let unknown = |channel: &str| {
        let body = axum::Json(json!({ "status": "PROCESSING" }));
        let mut answer =
            (StatusCode::ACCEPTED, [("tidegate-outcome", "unknown"), ("location", "/x")], body).into_response();
        if !channel.is_empty() {
            answer.headers_mut().insert("tidegate-channel", channel.parse().expect("a value"));
        }
        answer
    };
    match way {
        Way::Through(channel) => inner.forward(channel, &call).await,
        Way::LostAt(channel) => {
            inner.forward(channel, &call).await;
            unknown(channel)
        }
        Way::LostSomewhere(channel) => {
            inner.forward(channel, &call).await;
            unknown("")
        }
        Way::Vanished => unknown(""),
        Way::NotSent => (StatusCode::SERVICE_UNAVAILABLE, [("tidegate-outcome", "not-sent")]).into_response(),
    }
}

fn settings(folder: &TempDir, name: &str) -> Settings {
    Settings {
        service: "channel-simulator",
        name: name.to_owned(),
        listen: "127.0.0.1:0".parse().expect("an address"),
        data_dir: folder.path().to_owned(),
        secret: Secret::new(DEVELOPMENT_SECRET),
        auto_confirm: false,
        time_scale: 0.05,
        public_url: None,
        plan: None,
        control: None,
        keys: None,
        api_v3_key: Secret::new(dialects::DEVELOPMENT_API_V3_KEY),
        epay_key: Secret::new(dialects::DEVELOPMENT_EPAY_KEY),
    }
}
