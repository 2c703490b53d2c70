//! What happens to a page that is open while the room changes: an event begins, nobody is let in, the gateway is killed.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use super::browser::{text, until};
use super::desk::{Guest, full};
use super::file_with;
use crate::support::browser::{Driver, click};
use crate::support::{Gateway, Origin};

/// A moment so many seconds from now, as the file has it.
fn moment(seconds: u64) -> String {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() + seconds;
    let said = Command::new("date").args(["-u", "-d", &format!("@{at}"), "+%Y-%m-%dT%H:%M:%SZ"]).output();
    String::from_utf8(said.expect("date").stdout).expect("text").trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn people_who_came_early_see_a_countdown_and_have_a_place_when_it_begins() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let (open, start, end) = (moment(0), moment(10), moment(600));
    let settings = format!(
        "total_active_users: 1, new_users_per_minute: 600, polling: {{min: 500ms}}, events: [{{name: sale, \
         prequeue_start_time: {open}, event_start_time: {start}, event_end_time: {end}, shuffle_at_event_start: true}}]"
    );
    let gateway = Gateway::start(&file_with(origin.address, &settings, folder.path()));
    let to = gateway.public();
    let mut early: Vec<Guest> = (0..5).map(|_| Guest::default()).collect();
    for guest in &mut early {
        guest.asks(to, "POST", "/.tidegate/wr/drop/join");
        let told = guest.asks(to, "POST", "/.tidegate/wr/drop/join").json();
        assert_eq!(told["waitingRoom"]["state"], "PREQUEUED", "{told}");
        assert!(told["waitingRoom"]["startsAt"].as_u64() > told["waitingRoom"]["serverTime"].as_u64());
    }
    let driver = Driver::start();
    let page = driver.phone("en-US").await;
    page.goto(&format!("http://{to}/drop")).await.expect("the room");
    until(&page, "#headline", |text| text.starts_with("Starts in 0:0")).await;
    assert!(text(&page, "#detail").await.contains("random order"));
    // Six in an order drawn by chance, one of whom is let in.
    let seen = until(&page, "#headline", |text| text.contains("line") || text.contains("turn")).await;
    if seen.contains("line") {
        assert!(text(&page, "#ticket").await.parse::<u64>().expect("a number") > 6, "a number that was drawn");
    }
    page.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_says_that_nobody_is_let_in_and_an_operators_word() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let settings = "total_active_users: 1, new_users_per_minute: 600, polling: {min: 500ms, max: 1s}";
    let gateway = Gateway::start(&file_with(origin.address, settings, folder.path()));
    Guest::default().walks_in(gateway.public());
    let driver = Driver::start();
    let page = driver.phone("en-US").await;
    page.goto(&format!("http://{}/drop", gateway.public())).await.expect("the room");
    until(&page, "#ticket", |number| number == "2").await;
    gateway.reload(&file_with(origin.address, &format!("{settings}, queue_all: true"), folder.path()));
    until(&page, "#headline", |text| text == "Paused. Your place is kept").await;
    let body = "{\"message\": \"Back at <noon>\"}";
    let head = "PUT /-/waiting_rooms/drop/message HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
    crate::support::exchange(
        gateway.address("admin"),
        &format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
    );
    until(&page, "#notice", |text| text == "Back at <noon>").await;
    gateway.reload(&file_with(origin.address, settings, folder.path()));
    until(&page, "#headline", |text| text.starts_with("You are in line")).await;
    page.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_loses_its_gateway_says_so_and_finds_its_place_again() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let (mut gateway, _holder) = full(&origin, folder.path());
    let driver = Driver::start();
    let page = driver.phone("en-US").await;
    page.goto(&format!("http://{}/drop", gateway.public())).await.expect("the room");
    let number = until(&page, "#ticket", |number| number == "2").await;
    gateway.signal("KILL");
    let look = "window.dispatchEvent(new Event('online')); return 1";
    page.execute(look, Vec::new()).await.expect("a script");
    until(&page, "#notice", |text| text.starts_with("The connection is unsteady")).await;
    assert_eq!(text(&page, "#ticket").await, number, "what is known stays on the screen");
    gateway.kill_and_start();
    page.execute(look, Vec::new()).await.expect("a script");
    until(&page, "#notice", str::is_empty).await;
    assert_eq!(text(&page, "#ticket").await, number, "the place is kept");
    page.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lets_their_turn_pass_is_told_so_and_can_line_up_again() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let settings = "total_active_users: 1, new_users_per_minute: 600, claim_window: 2s, polling: {min: 500ms, max: 1s}";
    let gateway = Gateway::start(&file_with(origin.address, settings, folder.path()));
    let mut holder = Guest::default();
    holder.walks_in(gateway.public());
    let driver = Driver::start();
    let page = driver.phone("en-US").await;
    page.goto(&format!("http://{}/drop", gateway.public())).await.expect("the room");
    until(&page, "#ticket", |number| number == "2").await;
    let left = holder.asks(gateway.public(), "POST", "/.tidegate/wr/drop/leave");
    assert_eq!(left.json()["waitingRoom"]["state"], "LEFT", "{left:?}");
    until(&page, "#headline", |text| text == "It is your turn").await;
    // A missed turn comes once more, then it is over.
    until(&page, "#headline", |text| text == "Your turn has passed").await;
    click(&page, "#again a").await;
    until(&page, "body", |body| body == "ok").await;
    page.close().await.expect("closed");
}
