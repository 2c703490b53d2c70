//! A browser that is driven as a person would.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;

use super::{eventually, free_port};

/// A driver of browsers. Ends with all of them when dropped.
pub(crate) struct Driver {
    process: Child,
    port: u16,
}

impl Driver {
    /// Starts it.
    pub(crate) fn start() -> Self {
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
    pub(crate) async fn phone(&self, language: &str) -> Client {
        self.device(language, 360, true).await
    }

    /// The browser inside WeChat, as it names itself.
    pub(crate) async fn wechat(&self) -> Client {
        let agent = "Mozilla/5.0 (Linux; Android 13; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 \
                     Chrome/116.0.0.0 Mobile Safari/537.36 XWEB/1160065 MMWEBSDK/20231202 MicroMessenger/8.0.47.2560 \
                     WeChat/arm64 Weixin NetType/4G Language/zh_CN ABI/arm64";
        self.connect("zh-CN", 360, true, Some(agent)).await
    }

    /// A browser so many points wide, with or without scripts.
    pub(crate) async fn device(&self, language: &str, width: u32, scripts: bool) -> Client {
        self.connect(language, width, scripts, None).await
    }

    async fn connect(&self, language: &str, width: u32, scripts: bool, agent: Option<&str>) -> Client {
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
        let mut phone = json!({ "deviceMetrics": { "width": width, "height": 780, "pixelRatio": 2.0 } });
        if let Some(agent) = agent {
            phone["userAgent"] = agent.into();
        }
        let allowed = if scripts { 1 } else { 2 };
        let languages = json!({
            "intl.accept_languages": language,
            "profile.managed_default_content_settings.javascript": allowed,
        });
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
pub(crate) async fn find(page: &Client, css: &str) -> fantoccini::elements::Element {
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
pub(crate) async fn click(page: &Client, css: &str) {
    for _ in 0..50 {
        if find(page, css).await.click().await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{css} cannot be clicked");
}

/// What a script returns.
pub(crate) async fn number(page: &Client, script: &str) -> f64 {
    page.execute(script, Vec::new()).await.expect("a script").as_f64().expect("a number")
}
