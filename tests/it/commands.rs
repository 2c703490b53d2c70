//! What a backend says about a visit, in the headers of its answers, over HTTP/1 and HTTP/2.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;

use crate::support::{Gateway, Origin, Seen, eventually, one_route};

/// Says what the request asks it to say: `/pay?say=hold=60;order=o1`.
fn talkative() -> Origin {
    Origin::with(|request: &Seen, stream| {
        let say =
            request.target.split_once("say=").map(|(_, words)| words.replace('_', " ").replace("sold out", "sold_out"));
        let say = say.map(|words| format!("X-Tidegate-Waiting-Room: {words}\r\n")).unwrap_or_default();
        let head = format!("HTTP/1.1 200 OK\r\n{say}X-Other: 1\r\nContent-Length: 2\r\n\r\nok");
        stream.write_all(head.as_bytes()).is_ok()
    })
}

fn file(origin: SocketAddr, commands: &str, folder: &Path) -> String {
    let key = folder.join("room.key");
    std::fs::write(&key, "0f".repeat(32)).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let rooms = format!(
        "waiting_rooms:
  - name: drop
    total_active_users: 1
    new_users_per_minute: 600
    session_duration: 2s
    claim_window: 2s
    enabled_origin_commands: [{commands}]
    rules:
      - {{description: payment callbacks, action: bypass_waiting_room, expression: 'request.path.startsWith(\"/notify\")'}}
waiting_room_keys: [{{kid: 1, secret_file: \"{}\"}}]",
        key.display()
    );
    let route = "    filters: [{waiting_room: drop}]\n  - {name: open, match: {path: \"/open\"}, upstream: origin}";
    one_route(origin, "", route, &rooms)
}

const ALL: &str = "revoke, extend, hold, complete, sold_out";

/// A client that keeps its token, over one protocol.
struct Visitor {
    client: reqwest::Client,
    base: String,
    token: Option<String>,
}

impl Visitor {
    fn new(gateway: &Gateway, h2: bool) -> Self {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
        let client = if h2 { client.http2_prior_knowledge() } else { client.http1_only() };
        Self { client: client.build().unwrap(), base: format!("http://{}", gateway.public()), token: None }
    }

    async fn asks(&mut self, target: &str) -> reqwest::Response {
        let mut request = self.client.get(format!("{}{target}", self.base));
        if let Some(token) = &self.token {
            request = request.header("x-tidegate-ticket", token);
        }
        let answer = request.send().await.unwrap();
        if let Some(token) = answer.headers().get("x-tidegate-ticket") {
            self.token = Some(token.to_str().unwrap().to_owned());
        }
        answer
    }

    /// Asks until it is let in.
    async fn enters(&mut self) {
        for _ in 0..200 {
            if self.asks("/shop").await.status() == StatusCode::OK {
                // Brought back once, the pass is good for a whole visit.
                assert_eq!(self.asks("/shop").await.status(), StatusCode::OK);
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not let in");
    }

    /// Has the backend say something; the command itself never comes through.
    async fn has_it_say(&mut self, words: &str) -> reqwest::Response {
        let answer = self.asks(&format!("/shop?say={words}")).await;
        assert_eq!(answer.status(), StatusCode::OK, "{words}");
        assert!(answer.headers().contains_key("x-other") && !answer.headers().contains_key("x-tidegate-waiting-room"));
        answer
    }
}

async fn state(gateway: &Gateway) -> Value {
    gateway.admin("GET", "/-/waiting_rooms/drop").json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_holds_a_visit_for_a_payment_and_ends_it() {
    let origin = talkative();
    for h2 in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let gateway = Gateway::start(&file(origin.address, ALL, folder.path()));
        let mut buyer = Visitor::new(&gateway, h2);
        buyer.enters().await;
        let held = buyer.has_it_say("hold=60;_order=o-1").await;
        let reentry = held.headers()["x-tidegate-reentry"].to_str().unwrap().to_owned();
        // Longer than a visit, with nothing asked of the room; the place is the buyer's all the same.
        let mut next = Visitor::new(&gateway, h2);
        for _ in 0..15 {
            assert_eq!(next.asks("/shop").await.status(), StatusCode::SERVICE_UNAVAILABLE, "h2 {h2}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_eq!(next.asks("/notify/alipay").await.status(), StatusCode::OK, "callbacks never wait");

        // Another browser: no cookie, only the address that the wallet leads back to.
        let mut elsewhere = Visitor::new(&gateway, h2);
        assert_eq!(elsewhere.asks(&format!("/paid/o-2?tgwr={reentry}")).await.status(), 503, "not its order");
        elsewhere.token = None;
        let back = elsewhere.asks(&format!("/paid/o-1?tgwr={reentry}&a=b")).await;
        assert_eq!(
            (back.status(), back.headers()["location"].to_str().unwrap()),
            (StatusCode::SEE_OTHER, "/paid/o-1?a=b")
        );
        assert_eq!(elsewhere.asks("/paid/o-1?a=b").await.status(), StatusCode::OK);
        let done = elsewhere.has_it_say("complete").await;
        assert!(done.headers()["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
        next.enters().await;
        assert_eq!(Visitor::new(&gateway, h2).asks(&format!("/paid/o-1?tgwr={reentry}")).await.status(), 503);
        next.has_it_say("extend=30").await;
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert_eq!(state(&gateway).await["active"], 1, "it lasts longer than two seconds");
        next.has_it_say("revoke").await;
        eventually("the place is free", Duration::from_secs(2), || {
            gateway.admin("GET", "/-/waiting_rooms/drop").json()["active"] == 0
        });
        assert!(origin.seen().iter().all(|seen| !seen.target.contains("tgwr")), "the token stays with the gateway");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_hears_within_a_second_that_nothing_is_left_and_that_something_is() {
    let origin = talkative();
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&file(origin.address, ALL, folder.path()));
    let mut buyer = Visitor::new(&gateway, false);
    buyer.enters().await;
    let mut waiting = Visitor::new(&gateway, true);
    waiting.asks("/shop").await;
    waiting.asks("/shop").await;
    let told = |wanted: bool| {
        let gateway = &gateway;
        move || (gateway.admin("GET", "/-/waiting_rooms/drop").json()["state"] == "sold_out") == wanted
    };
    // Said on a request that no pass came with.
    let answer = Visitor::new(&gateway, true).asks("/notify/stock?say=sold_out").await;
    assert!(!answer.headers().contains_key("x-tidegate-waiting-room"));
    eventually("the room knows", Duration::from_secs(1), told(true));
    let document: Value = waiting.asks("/shop").await.json().await.unwrap();
    assert_eq!((document["waitingRoom"]["soldOut"].as_bool(), document["title"].is_string()), (Some(true), true));
    Visitor::new(&gateway, false).asks("/notify/stock?say=available").await;
    eventually("the room knows", Duration::from_secs(1), told(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_backend_commands_and_only_what_it_may() {
    let origin = talkative();
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&file(origin.address, "extend", folder.path()));
    for h2 in [false, true] {
        let mut buyer = Visitor::new(&gateway, h2);
        buyer.enters().await;
        let answer = buyer.has_it_say("hold=60").await;
        assert!(!answer.headers().contains_key("x-tidegate-reentry"));
        buyer.has_it_say("sold_out").await;
        buyer.has_it_say("revoke").await;
        assert_eq!(buyer.asks("/shop").await.status(), StatusCode::OK, "still inside");
        let forged = buyer.client.get(format!("{}/shop", buyer.base)).header("x-tidegate-waiting-room", "sold_out");
        forged.send().await.unwrap();
        assert_ne!(state(&gateway).await["state"], "sold_out");
        // On a route without a room nobody listens, and the client hears nothing of it either.
        let open = buyer.asks("/open?say=sold_out").await;
        assert!(open.status().is_success() && !open.headers().contains_key("x-tidegate-waiting-room"));
    }
    assert!(origin.seen().iter().all(|seen| seen.header("x-tidegate-waiting-room").is_none()));
}
