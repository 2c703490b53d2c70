//! A person with a phone waits for their turn and buys, in the shipped set-up with a room before it.

use std::net::SocketAddr;
use std::time::Duration;

use fantoccini::Client;

use super::browser::buys_here;
use super::set_up::Shop;
use crate::support::browser::{Driver, click, find};
use crate::waiting_room::desk::Guest;

/// A room of one place before the shop's pages and before ordering, beside those that the file has.
fn with_room(yaml: String) -> String {
    let room = "  - {name: drop, total_active_users: 1, new_users_per_minute: 600, polling: {min: 500ms}}\n";
    let yaml = if yaml.contains("\nwaiting_rooms:\n") {
        yaml.replace("\nwaiting_rooms:\n", &format!("\nwaiting_rooms:\n{room}"))
    } else {
        let key = "{kid: 1, secret: \"${TIDEGATE_ROOM_KEY:-0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f}\"}";
        yaml.replace("\nfilters:\n", &format!("\nwaiting_rooms:\n{room}waiting_room_keys: [{key}]\n\nfilters:\n"))
    };
    let yaml = yaml.replace("\nfilters:\n", "\nfilters:\n  room: {waiting_room: drop}\n");
    let page = "    match: {path: /, methods: [GET, HEAD]}\n    filters: [reads";
    yaml.replace("filters: [limits, once]", "filters: [limits, room, once]").replace(page, &format!("{page}, room"))
}

async fn text(page: &Client, css: &str) -> String {
    find(page, css).await.text().await.expect("text")
}

/// Waits until an element says something.
async fn says(page: &Client, css: &str, wanted: &str) {
    let mut last = String::new();
    for _ in 0..300 {
        last = text(page, css).await;
        if last == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{css} says {last}, not {wanted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_waits_sees_the_place_move_has_a_turn_and_buys() {
    let shop = Shop::start_edited(with_room);
    let to: SocketAddr = shop.url("gateway").trim_start_matches("http://").parse().expect("an address");
    let mut holder = Guest::default();
    holder.walks_in(to);
    let mut before: Vec<Guest> = (0..3).map(|_| Guest::default()).collect();
    for guest in &mut before {
        guest.joins(to);
    }
    let driver = Driver::start();
    let page = driver.phone("zh-CN").await;
    page.goto(&shop.url("gateway")).await.expect("the room");
    assert_eq!(text(&page, "#headline").await, "您已在队伍中，请保留此页");
    says(&page, "#count", "3").await;
    assert_eq!(text(&page, "#unit").await, "人在您前面");
    assert!(page.title().await.expect("a title").starts_with("3 · "));
    let number = text(&page, "#ticket").await;
    for left in ["2", "1"] {
        before.pop().expect("somebody").asks(to, "POST", "/.tidegate/wr/drop/leave");
        says(&page, "#count", left).await;
    }
    page.refresh().await.expect("loaded again");
    says(&page, "#count", "1").await;
    assert_eq!(text(&page, "#ticket").await, number, "the place is kept");
    before.pop().expect("somebody").asks(to, "POST", "/.tidegate/wr/drop/leave");
    says(&page, "#unit", "马上轮到您").await;
    holder.asks(to, "POST", "/.tidegate/wr/drop/leave");
    says(&page, "#headline", "轮到您了").await;
    assert!(page.title().await.expect("a title").starts_with("● "));
    assert!(text(&page, "#left").await.contains(":"), "the time that is left");
    assert_eq!(text(&page, "#alert").await, "轮到您了", "told to those who cannot see");
    click(&page, "#enter").await;
    let key = buys_here(&page).await;
    assert!(key.len() > 10, "{key}");
    page.close().await.expect("closed");
}
