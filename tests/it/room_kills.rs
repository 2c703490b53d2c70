//! A waiting room whose gateway is killed again and again while people come: what visitors were told is the oracle.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Gateway, Origin, one_route};

const VISITORS: usize = 120;
const PLACES: usize = 15;
/// Longer than a gateway takes to be back: who was let in and not told so before a kill comes back in time.
const VISIT: Duration = Duration::from_secs(2);
const KILLS: u32 = 6;

fn file(origin: SocketAddr, key: &std::path::Path) -> String {
    std::fs::write(key, "0f".repeat(32)).unwrap();
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let rooms = format!(
        "waiting_rooms:
  - name: drop
    total_active_users: {PLACES}
    new_users_per_minute: 6000
    session_duration: 2s
    disable_session_renewal: true
    claim_window: 3s
waiting_room_keys: [{{kid: 1, secret_file: \"{}\"}}]",
        key.display()
    );
    one_route(origin, "", "    filters: [{waiting_room: drop}]", &rooms)
}

/// What one visitor was told.
#[derive(Default)]
struct Told {
    numbers: Vec<u64>,
    entered: Option<Instant>,
}

/// Asks until it is let in, with whatever token it was given last.
async fn visits(client: reqwest::Client, url: String, begun: Instant) -> Told {
    let (mut told, mut token) = (Told::default(), None::<String>);
    while begun.elapsed() < Duration::from_secs(60) {
        let mut request = client.get(&url).timeout(Duration::from_secs(3));
        if let Some(token) = &token {
            request = request.header("x-tidegate-ticket", token);
        }
        if let Ok(answer) = request.send().await {
            if let Some(given) = answer.headers().get("x-tidegate-ticket") {
                token = Some(given.to_str().unwrap().to_owned());
            }
            if answer.status() == 200 {
                told.entered = Some(Instant::now());
                return told;
            }
            let document: Value = answer.json().await.unwrap_or_default();
            told.numbers.extend(document["waitingRoom"]["ticketNumber"].as_u64());
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_under_a_crowd_lose_no_place_give_no_number_twice_and_let_nobody_in_too_many() {
    let arrived = Arc::new(AtomicU32::new(0));
    let count = arrived.clone();
    let origin = Origin::with(move |_, stream| {
        count.fetch_add(1, SeqCst);
        std::io::Write::write_all(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok()
    });
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(&file(origin.address, &folder.path().join("room.key")));
    let (url, begun) = (format!("http://{}/drop", gateway.public()), Instant::now());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let visitors: Vec<_> = (0..VISITORS)
        .map(|at| {
            let (client, url) = (client.clone(), url.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(20) * at as u32).await;
                visits(client, url, begun).await
            })
        })
        .collect();
    let gateway = tokio::task::spawn_blocking(move || {
        for _ in 0..KILLS {
            std::thread::sleep(Duration::from_millis(350));
            gateway.kill_and_start();
        }
        gateway
    });
    let gateway = gateway.await.unwrap();
    let mut all = Vec::new();
    for visitor in visitors {
        all.push(visitor.await.unwrap());
    }
    let mut numbers = Vec::new();
    for told in &all {
        let mut own = told.numbers.clone();
        own.dedup();
        assert!(own.len() <= 1, "a place was lost: {own:?}");
        numbers.extend(own);
    }
    let waited = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), waited, "no number was given twice");
    assert!(waited > VISITORS / 2, "only {waited} had to wait: that proves little");
    let mut entered: Vec<Instant> = all.iter().filter_map(|told| told.entered).collect();
    assert_eq!(entered.len(), VISITORS, "everybody came in, {} requests", arrived.load(SeqCst));
    entered.sort_unstable();
    // An answer may be read late, never early: those whose visits surely overlapped are counted.
    let surely = VISIT - Duration::from_millis(300);
    let most = entered.iter().map(|at| entered.iter().filter(|other| **other <= *at && **other + surely > *at).count());
    assert!(most.max() <= Some(PLACES), "too many inside");
    let room = gateway.admin("GET", "/-/waiting_rooms/drop").json();
    assert!(room["frontier"].as_u64() >= numbers.last().copied(), "{room}");
}
