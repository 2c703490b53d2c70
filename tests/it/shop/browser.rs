//! A person with a phone buys a key.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;

use super::set_up::Shop;
use crate::support::{eventually, free_port};

struct Driver {
    process: Child,
    port: u16,
}

impl Driver {
    fn start() -> Self {
        let port = free_port();
        let process = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("chromedriver (Debian: chromium-driver) is installed; ./dev test does that");
        let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        eventually("chromedriver listens", Duration::from_secs(20), listens);
        Self { process, port }
    }

    /// A phone of 360 by 780 points with this language.
    async fn phone(&self, language: &str) -> Client {
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=360,780",
        ];
        let mut arguments: Vec<String> = arguments.map(str::to_owned).to_vec();
        arguments.push(format!("--lang={language}"));
        let phone = json!({ "deviceMetrics": { "width": 360, "height": 780, "pixelRatio": 2.0 } });
        let languages = json!({ "intl.accept_languages": language });
        let options = json!({ "args": arguments, "mobileEmulation": phone, "prefs": languages });
        let mut wanted = serde_json::Map::new();
        wanted.insert("goog:chromeOptions".to_owned(), options);
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(wanted);
        builder.connect(&format!("http://127.0.0.1:{}", self.port)).await.expect("a browser")
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Its browsers, too: after a failed test nobody has closed them.
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.process.id())]).status();
        let _ = self.process.wait();
    }
}

/// Looks until it is there. Between two pages the driver answers all sorts of things; none of them is final.
async fn find(page: &Client, css: &str) -> fantoccini::elements::Element {
    let begun = Instant::now();
    loop {
        match page.find(Locator::Css(css)).await {
            Ok(found) => return found,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(15), "no {css}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Clicks once the element can be clicked; a page may still be moving.
async fn click(page: &Client, css: &str) {
    for _ in 0..50 {
        if find(page, css).await.click().await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{css} cannot be clicked");
}

async fn number(page: &Client, script: &str) -> f64 {
    page.execute(script, Vec::new()).await.expect("a script").as_f64().expect("a number")
}

/// From the shop's first page to a key on the screen.
async fn buys_a_key(base: &str, page: &Client) -> String {
    page.goto(base).await.expect("the shop");
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
