//! The page in a browser: without scripts, on a narrow screen, in a tab that nobody sees.

use std::time::{Duration, Instant};

use fantoccini::Client;

use super::desk::{Guest, full};
use super::file_with;
use crate::support::browser::{Driver, click, find, number};
use crate::support::{Gateway, Origin};

/// An element's text. Between two pages it may be gone before it is read.
pub(super) async fn text(page: &Client, css: &str) -> String {
    loop {
        if let Ok(text) = find(page, css).await.text().await {
            return text;
        }
    }
}

/// Waits until an element's text is as wanted.
pub(super) async fn until(page: &Client, css: &str, wanted: impl Fn(&str) -> bool) -> String {
    let mut last = String::new();
    for _ in 0..300 {
        last = text(page, css).await;
        if wanted(&last) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let html = page.source().await.unwrap_or_default();
    panic!(
        "{css} says {last} in {}",
        html.split("<main>").nth(1).unwrap_or(&html).split("</main>").next().unwrap_or("")
    );
}

fn looks(gateway: &Gateway) -> usize {
    let log = gateway.access_log(1);
    log.iter()
        .filter(|line| line["path"].as_str().or(line["target"].as_str()) == Some("/.tidegate/wr/drop/status"))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_scripts_a_place_is_taken_shown_and_left_for_the_shop() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let settings = "total_active_users: 1, new_users_per_minute: 600, refresh_interval: 5s";
    let gateway = Gateway::start(&file_with(origin.address, settings, folder.path()));
    let mut holder = Guest::default();
    holder.walks_in(gateway.public());
    let driver = Driver::start();
    let page = driver.device("ja", 360, false).await;
    page.goto(&format!("http://{}/drop?sku=1", gateway.public())).await.expect("the room");
    assert!(text(&page, "#headline").await.starts_with("順番待ち"));
    // The page loads itself again with its token, and has a number.
    until(&page, "#ticket", |number| number == "2").await;
    assert!(text(&page, "noscript .aside").await.contains("5秒ごとに自動更新します"));
    assert!(!find(&page, "#offers").await.is_displayed().await.expect("known"), "what needs scripts is not shown");
    holder.asks(gateway.public(), "POST", "/.tidegate/wr/drop/leave");
    until(&page, "body", |body| body == "ok").await;
    assert!(origin.seen().iter().any(|seen| seen.target == "/drop?sku=1"), "the address is as it was");
    page.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_browser_of_wechat_a_shared_link_leads_through_the_line_to_the_shop() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let settings = "total_active_users: 1, new_users_per_minute: 600";
    let gateway = Gateway::start(&file_with(origin.address, settings, folder.path()));
    let mut holder = Guest::default();
    holder.walks_in(gateway.public());
    let driver = Driver::start();
    let page = driver.wechat().await;
    // What WeChat adds to a link that is shared in a chat.
    let shared = "/drop?sku=1&from=singlemessage&isappinstalled=0";
    page.goto(&format!("http://{}{shared}#wechat_redirect", gateway.public())).await.expect("the room");
    until(&page, "#ticket", |number| number == "2").await;
    assert_eq!(page.execute("return document.documentElement.lang", Vec::new()).await.expect("a script"), "zh-CN");
    // It throws pages away to save memory, and loads them anew when somebody comes back.
    page.refresh().await.expect("the room");
    until(&page, "#ticket", |number| number == "2").await;
    holder.asks(gateway.public(), "POST", "/.tidegate/wr/drop/leave");
    until(&page, "#enter", |button| !button.is_empty()).await;
    click(&page, "#enter").await;
    until(&page, "body", |body| body == "ok").await;
    let seen = origin.seen();
    assert!(seen.iter().any(|seen| seen.target == shared), "the address is as it was");
    page.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_narrowest_screen_nothing_is_cut_in_any_language_or_state() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let (gateway, _holder) = full(&origin, folder.path());
    let driver = Driver::start();
    let page = driver.device("en-US", 320, true).await;
    let wider = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
    for language in ["zh-CN", "zh-TW", "en", "ja", "ko"] {
        page.goto(&format!("http://{}/drop?lang={language}", gateway.public())).await.expect("the room");
        until(&page, "#ticket", |number| number == "2").await;
        assert_eq!(page.execute("return document.documentElement.lang", Vec::new()).await.expect("a script"), language);
        assert!(number(&page, wider).await < 1.0, "{language} is wider than the screen");
        // Buttons are large enough for a thumb.
        let least = "return Math.min(...[...document.querySelectorAll('button, input + span')].filter(b => b.offsetParent).map(b => b.closest('label, button').offsetHeight))";
        assert!(number(&page, least).await >= 44.0);
    }
    click(&page, "#languages a[lang='en']").await;
    assert_eq!(
        until(&page, "#headline", |text| text.starts_with("You are in line")).await,
        "You are in line. Please keep this page"
    );
    assert!(page.current_url().await.expect("an address").query().is_some_and(|query| query == "lang=en"));
    gateway.admin("POST", "/-/waiting_rooms/drop/sold_out");
    until(&page, "#headline", |text| text == "Sold out").await;
    assert!(number(&page, wider).await < 1.0);
    page.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_without_a_stream_or_a_look_that_waits_shows_at_once_that_nothing_is_left() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let settings = "total_active_users: 1, new_users_per_minute: 600, refresh_interval: 60s, \
                    polling: {min: 40s, max: 60s, max_wait: 0s}, sse: {enabled: false}";
    let gateway = Gateway::start(&file_with(origin.address, settings, folder.path()));
    Guest::default().walks_in(gateway.public());
    let driver = Driver::start();
    let page = driver.phone("en-US").await;
    page.goto(&format!("http://{}/drop", gateway.public())).await.expect("the room");
    until(&page, "#ticket", |number| number == "2").await;
    let (shown, begun) = (looks(&gateway), Instant::now());
    gateway.admin("POST", "/-/waiting_rooms/drop/sold_out");
    until(&page, "#headline", |text| text == "Sold out").await;
    // A second, and what the browser and its driver take.
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(looks(&gateway), shown, "nobody had to look for it");
    page.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_tab_looks_rarely_and_catches_up_when_it_is_seen() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let settings = "total_active_users: 1, new_users_per_minute: 600, polling: {min: 500ms, max: 1s, max_wait: 0s}, sse: {enabled: false}";
    let gateway = Gateway::start(&file_with(origin.address, settings, folder.path()));
    let to = gateway.public();
    Guest::default().walks_in(to);
    let mut before = Guest::default();
    before.joins(to);
    let driver = Driver::start();
    let page = driver.phone("en-US").await;
    page.goto(&format!("http://{to}/drop")).await.expect("the room");
    until(&page, "#count", |count| count == "1").await;
    let shown = looks(&gateway);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let seen = looks(&gateway) - shown;
    assert!(seen >= 2, "a tab that is seen looks every second: {seen}");
    let hide = |hidden: bool| {
        format!(
            "Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }}); \
             document.dispatchEvent(new Event('visibilitychange')); return 1"
        )
    };
    number(&page, &hide(true)).await;
    // One look may have been on its way.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let shown = looks(&gateway);
    let left = before.asks(to, "POST", "/.tidegate/wr/drop/leave");
    assert_eq!(left.status, 200, "{left:?}");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(looks(&gateway) - shown <= 1, "a hidden tab looks every fifteen seconds");
    number(&page, &hide(false)).await;
    until(&page, "#unit", |unit| unit == "You are next").await;
    page.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_is_out_of_the_line_and_can_come_back() {
    let (origin, folder) = (Origin::ok(), tempfile::tempdir().unwrap());
    let (gateway, _holder) = full(&origin, folder.path());
    let driver = Driver::start();
    let page = driver.phone("zh-TW").await;
    page.goto(&format!("http://{}/drop", gateway.public())).await.expect("the room");
    until(&page, "#ticket", |number| number == "2").await;
    click(&page, "#leave").await;
    until(&page, "#headline", |text| text == "您已離開隊伍").await;
    click(&page, "#again a").await;
    until(&page, "#ticket", |number| number == "3").await;
    page.close().await.expect("closed");
}
