//! A person with a phone buys a key.

use fantoccini::Client;

use super::set_up::Shop;
use crate::support::browser::{Driver, click, find, number};

/// A line that lets one through in eight seconds, and somebody who was there first.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_to_wait_sees_that_it_is_being_processed_and_then_the_order() {
    let shop = Shop::start_edited(|yaml| {
        assert!(yaml.contains("rate: 500/s, max_in_flight: 500"), "the line is gone from the shipped file");
        yaml.replace("rate: 500/s, max_in_flight: 500", "rate: 1/8s, max_in_flight: 500")
    });
    let driver = Driver::start();
    let page = driver.phone("zh-CN").await;
    page.goto(&shop.url("gateway")).await.expect("the shop");
    find(&page, "#query-password").await.send_keys("my password").await.expect("typing");
    let (client, base) = (super::buyer::client(), shop.url("gateway"));
    let first = super::buyer::Buyer::new(&client, &base, "first");
    super::deferred::order(&client, &base, &first, true).await;
    click(&page, "#buy-steam-50").await;
    let title = find(&page, "#pending h1").await.text().await.expect("text");
    assert_eq!(title, "支付处理中");
    let wider = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
    assert!(number(&page, wider).await < 1.0, "the page is wider than a phone");
    click(&page, "#pay-alipay").await;
    page.close().await.expect("closed");
}

/// From the shop's first page to a key on the screen.
pub(super) async fn buys_a_key(base: &str, page: &Client) -> String {
    page.goto(base).await.expect("the shop");
    buys_here(page).await
}

/// From the shop's first page, which is open, to a key on the screen.
pub(super) async fn buys_here(page: &Client) -> String {
    // What is in the sale is bought on a page of its own.
    click(page, "#buy-flash-100").await;
    find(page, "[data-sku='flash-100']:only-child").await;
    let wider = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
    assert!(number(page, wider).await < 1.0, "the page is wider than a phone");
    find(page, "#query-password").await.send_keys("my password").await.expect("typing");
    click(page, "#buy-flash-100").await;
    click(page, "#pay-alipay").await;
    click(page, "#wallet-confirm").await;
    let key = find(page, ".card-key").await.text().await.expect("text");
    assert!(number(page, wider).await < 1.0, "the order's page is wider than a phone");
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_buys_a_key_through_the_gateway() {
    let shop = Shop::start();
    let driver = Driver::start();
    let base = shop.url("gateway");
    let chinese = driver.phone("zh-CN").await;
    let first = buys_a_key(&base, &chinese).await;
    let language = chinese.execute("return document.documentElement.lang", Vec::new()).await.expect("a script");
    assert!(language.as_str().is_some_and(|language| language.starts_with("zh")), "{language}");
    click(&chinese, "#lang-toggle").await;
    let language = chinese.execute("return document.documentElement.lang", Vec::new()).await.expect("a script");
    assert!(language.as_str().is_some_and(|language| language.starts_with("en")), "{language}");
    chinese.close().await.expect("closed");
    let english = driver.phone("en-US").await;
    let second = buys_a_key(&base, &english).await;
    english.close().await.expect("closed");
    assert!(first.len() > 10 && second.len() > 10, "{first} {second}");
    assert_ne!(first, second);
}
