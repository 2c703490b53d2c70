//! Admissions follow a real backend: one that slows down gets fewer people, and all of them again when it has recovered.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use serde_json::Value;

use crate::support::{Gateway, Origin, eventually, get, one_route};

fn file(origin: SocketAddr, folder: &Path, filters: &str) -> String {
    let key = folder.join("room.key");
    std::fs::write(&key, "0f".repeat(32)).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let rooms = format!(
        "waiting_rooms:
  - name: drop
    total_active_users: 10000
    new_users_per_minute: 1200
    admission_control: {{p95_target: 100ms, min_per_minute: 60, increase: 0.2, decrease: 0.5}}
waiting_room_keys: [{{kid: 1, secret_file: \"{}\"}}]",
        key.display()
    );
    one_route(origin, "", &format!("    filters: [{filters}]"), &rooms)
}

fn room(gateway: &Gateway) -> Value {
    gateway.admin("GET", "/-/waiting_rooms/drop").json()
}

fn rate(gateway: &Gateway) -> u64 {
    room(gateway)["admission_control"]["rate_per_minute"].as_u64().expect("a rate")
}

/// How far the frontier moves in two seconds.
fn pace(gateway: &Gateway) -> u64 {
    let frontier = || room(gateway)["frontier"].as_u64().unwrap();
    let before = frontier();
    std::thread::sleep(Duration::from_secs(2));
    frontier() - before
}

/// Asks once more with the token that it was given; the token it has then.
fn ask(address: SocketAddr, ticket: Option<&str>) -> (u16, Option<String>) {
    let header = ticket.map(|ticket| format!("X-Tidegate-Ticket: {ticket}\r\n")).unwrap_or_default();
    let answer = get(address, "/drop", &header);
    (answer.status, answer.header("x-tidegate-ticket").or(ticket).map(str::to_owned))
}

#[test]
fn a_slow_backend_gets_fewer_people_and_all_of_them_when_it_has_recovered() {
    let delay = Arc::new(AtomicU64::new(5));
    let pause = delay.clone();
    let origin = Origin::with(move |_, stream| {
        std::thread::sleep(Duration::from_millis(pause.load(SeqCst)));
        std::io::Write::write_all(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok()
    });
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&file(origin.address, folder.path(), "{waiting_room: drop}"));
    let public = gateway.public();
    let mut pass = None;
    eventually("somebody walks in", Duration::from_secs(5), || {
        let (status, token) = ask(public, pass.as_deref());
        pass = token;
        status == 200
    });
    let over = Arc::new(AtomicBool::new(false));
    let inside: Vec<_> = (0..8)
        .map(|_| {
            let (pass, over) = (pass.clone(), over.clone());
            std::thread::spawn(move || {
                while !over.load(SeqCst) {
                    ask(public, pass.as_deref());
                    std::thread::sleep(Duration::from_millis(20));
                }
            })
        })
        .collect();
    // The first walk in as a burst; the others get numbers and wait.
    for _ in 0..500 {
        let (status, token) = ask(public, None);
        if status == 503 {
            ask(public, token.as_deref());
        }
    }
    assert!(room(&gateway)["queued"].as_u64() > Some(200), "{}", room(&gateway));
    assert_eq!(rate(&gateway), 1_200);

    delay.store(400, SeqCst);
    eventually("the rate falls", Duration::from_secs(15), || rate(&gateway) <= 240);
    let slow = pace(&gateway);
    assert!(slow <= 12, "{slow} in two seconds, at {}", room(&gateway));
    assert!(gateway.metric("tidegate_waiting_room_backend_rate_per_minute") < 300.0);

    delay.store(5, SeqCst);
    eventually("the rate is back", Duration::from_secs(30), || rate(&gateway) == 1_200);
    let fast = pace(&gateway);
    assert!((25..=45).contains(&fast), "{fast} in two seconds, at {}", room(&gateway));
    over.store(true, SeqCst);
    inside.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn an_open_breaker_brings_the_least_rate_at_once() {
    let origin = Origin::with(|_, stream| {
        std::io::Write::write_all(stream, b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno").is_ok()
    });
    let folder = tempfile::tempdir().unwrap();
    let filters = "{waiting_room: drop}, {circuit_breaker: {consecutive_failures: 3, open_for: 1m}}";
    let gateway = Gateway::start(&file(origin.address, folder.path(), filters));
    let told = |rate: u64| room(&gateway)["admission_control"]["rate_per_minute"] == rate;
    eventually("all may come", Duration::from_secs(5), || told(1_200));
    for _ in 0..4 {
        ask(gateway.public(), None);
    }
    eventually("the room knows", Duration::from_secs(5), || {
        room(&gateway)["admission_control"]["breaker_open"] == true
    });
    assert_eq!(rate(&gateway), 60);
}
