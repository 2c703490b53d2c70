//! A room follows what the shop has left, also when nobody is let in who could ask the shop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::desk::Guest;
use super::file_with;
use crate::support::{Gateway, Origin, eventually};

/// A shop that says how many pieces are left to who asks for them, and to nobody else.
fn shop(left: &Arc<AtomicU64>) -> Origin {
    let left = left.clone();
    Origin::with(move |seen, stream| {
        let word = match left.load(SeqCst) {
            _ if !seen.target.ends_with("/stock") => String::new(),
            0 => "X-Tidegate-Waiting-Room: sold_out\r\n".to_owned(),
            left => format!("X-Tidegate-Waiting-Room: available={left}\r\n"),
        };
        let answer = format!("HTTP/1.1 200 OK\r\n{word}Content-Length: 2\r\n\r\nok");
        std::io::Write::write_all(stream, answer.as_bytes()).is_ok()
    })
}

#[test]
fn a_shop_that_sells_out_closes_the_room_within_a_second_and_opens_it_when_it_has_more() {
    let left = Arc::new(AtomicU64::new(1));
    let (origin, folder) = (shop(&left), tempfile::tempdir().unwrap());
    let settings = "total_active_users: 50, new_users_per_minute: 6000, polling: {min: 500ms, max: 1s}, admission_cap: \
                    {multiplier: 2, probe: {upstream: origin, path: /stock, interval: 200ms}}";
    let gateway = Gateway::start(&file_with(origin.address, settings, folder.path()));
    let to = gateway.public();
    let reads = || gateway.admin("GET", "/-/waiting_rooms/drop").json();
    eventually("the room knows what is left", Duration::from_secs(5), || reads()["stock"] == 1);
    let mut inside: Vec<Guest> = (0..2).map(|_| Guest::default()).collect();
    inside.iter_mut().for_each(|guest| guest.walks_in(to));
    let mut waiting = Guest::default();
    waiting.joins(to);
    eventually("two have a chance at one, however many places there are", Duration::from_secs(5), || {
        reads()["state"] == "queueing"
    });

    left.store(0, SeqCst);
    let begun = Instant::now();
    eventually("nothing is left", Duration::from_secs(5), || reads()["state"] == "sold_out");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(waiting.asks(to, "GET", "/drop").json()["waitingRoom"]["soldOut"], true);

    left.store(2, SeqCst);
    eventually("who kept the place gets in", Duration::from_secs(5), || waiting.asks(to, "GET", "/drop").status == 200);
    eventually("both are told apart", Duration::from_secs(5), || reads()["active"] == 3);
}
