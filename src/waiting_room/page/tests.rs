//! The page as visitors get it.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use tidegate_filters::engine::{Nanos, RequestHead};
use tidegate_filters::waiting_room::document::{Standing, status};
use tidegate_filters::waiting_room::keys::Keyring;
use tidegate_filters::waiting_room::rules::Rules;
use tidegate_filters::waiting_room::settings::{Page as _, Rendered, Settings};
use tidegate_filters::waiting_room::{Forgetful, History, Level, Notice, Opening, Reason, Room};

use super::words::{grouped, is_word};
use super::{Language, RoomPage, TEMPLATE, read};

fn room() -> Room {
    Room::open(Opening {
        name: "drop".into(),
        seed: [7; 32],
        settings: Arc::new(Settings::new("drop", Rules::new(1, 60, 300_000), Arc::new(Keyring::new(&[])))),
        journal: Box::new(Forgetful),
        history: History::default(),
        epoch: Duration::from_millis(1_800_000_000_000),
        now: Nanos(0),
    })
}

fn render(page: &RoomPage, target: &str, headers: &[(&str, &str)], standing: Standing, room: &Room) -> Rendered {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let head = RequestHead { method: "GET", target, path: "/", host: "shop", secure: false, headers: &headers };
    page.render(&head, &status(room, standing, 0.0))
}

fn text(target: &str, headers: &[(&str, &str)], standing: Standing) -> String {
    let page = RoomPage::new(None, Language::En);
    String::from_utf8(render(&page, target, headers, standing, &room()).bytes.to_vec()).unwrap()
}

#[test]
fn the_words_are_there_in_all_languages() {
    let words: serde_json::Value = serde_json::from_str(super::words::JSON).unwrap();
    assert_eq!(words.as_object().unwrap().len(), Language::ALL.len());
    for (tag, words) in words.as_object().unwrap() {
        assert_eq!(Language::of(tag).unwrap().tag(), tag);
        for name in words.as_object().unwrap().keys().filter(|name| !name.ends_with('1')) {
            assert!(is_word(name), "{name} is not there in all languages");
        }
    }
}

#[test]
fn a_page_is_complete_small_and_the_same_when_it_is_compressed() {
    let (page, room) = (RoomPage::new(None, Language::En), room());
    let plain = render(&page, "/drop", &[], Standing::Waiting(1), &room);
    let packed = render(&page, "/drop", &[("Accept-Encoding", "br, gzip;q=0.8")], Standing::Waiting(1), &room);
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed.bytes[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.bytes);
    assert!(packed.bytes.len() < 20_000, "{} bytes", packed.bytes.len());
    let html = String::from_utf8(unpacked).unwrap();
    assert!(!html.contains("{{") && !html.contains("http://") && !html.contains("https://"), "nothing from elsewhere");
    for refused in ["gzip;q=0", "br", ""] {
        let page = render(&page, "/drop", &[("Accept-Encoding", refused)], Standing::Waiting(1), &room);
        assert!(!page.headers.iter().any(|(name, _)| name == "content-encoding"), "{refused}");
    }
}

#[test]
fn a_visitor_reads_their_language_or_the_rooms() {
    let lang = |target: &str, accept: &str, default| {
        let page = RoomPage::new(None, default);
        let told = render(&page, target, &[("Accept-Language", accept)], Standing::Waiting(1), &room());
        let (_, language) = told.headers.iter().find(|(name, _)| name == "content-language").unwrap();
        assert!(
            std::str::from_utf8(&told.bytes)
                .unwrap()
                .contains(&format!("<html lang=\"{}\">", language.to_str().unwrap()))
        );
        language.to_str().unwrap().to_owned()
    };
    assert_eq!(lang("/", "zh-HK,zh;q=0.9", Language::En), "zh-TW");
    assert_eq!(lang("/", "fr, en;q=0.3, ja;q=0.7", Language::En), "ja");
    assert_eq!(lang("/", "fr", Language::Ko), "ko");
    assert_eq!(lang("/?a=1&lang=zh-CN", "ja", Language::En), "zh-CN");
    assert_eq!(lang("/?lang=xx", "ja", Language::En), "ja");
}

#[test]
fn without_scripts_a_visitor_sees_the_same_and_can_stop_the_reloading() {
    let waiting = text("/drop?sku=1&refresh=no", &[], Standing::Waiting(1));
    assert!(waiting.contains("<noscript><meta http-equiv=\"refresh\" content=\"20\"></noscript>"));
    assert!(waiting.contains("You are next") && waiting.contains("<dd id=\"ticket\">1</dd>"));
    assert!(waiting.contains("href=\"?sku=1&amp;refresh=off\""));
    let stopped = text("/drop?sku=1&refresh=off", &[], Standing::Waiting(1));
    assert!(!stopped.contains("http-equiv=\"refresh\"") && stopped.contains("Look now"));
    assert!(stopped.contains("href=\"?sku=1&amp;refresh=off&amp;lang=ja\""));
    let refused = text("/", &[], Standing::Rejected(Reason::SoldOut));
    assert!(refused.contains("Sold out") && !refused.contains("http-equiv=\"refresh\""));
    let stranger = text("/", &[], Standing::Pre);
    assert!(stranger.contains("<meta http-equiv=\"refresh\" content=\"2\">"));
}

#[test]
fn what_others_wrote_is_text() {
    let (page, room) = (RoomPage::new(None, Language::En), room());
    room.set_notice(Some(Notice { text: "</script><b>\"now\"".to_owned(), level: Level::Info }));
    room.settle(|| room.began());
    let told = render(&page, "/?\"><i>&lang=\"", &[], Standing::Waiting(1), &room);
    let html = String::from_utf8(told.bytes.to_vec()).unwrap();
    assert!(
        html.contains("&lt;/script&gt;&lt;b&gt;&quot;now&quot;") && html.contains("\\u003c/script>\\u003cb>"),
        "{html}"
    );
    assert!(!html.contains("<b>") && !html.contains("<i>"));
}

#[test]
fn a_template_of_ones_own_runs_its_scripts_and_no_others() {
    let template = read("<p>{{ahead}} {{t.leave}}</p><script>go()</script><STYLE>p{}</STYLE>").unwrap();
    let page = RoomPage::new(Some(&template), Language::Ja);
    let told = render(&page, "/", &[], Standing::Waiting(1), &room());
    assert!(String::from_utf8(told.bytes.to_vec()).unwrap().starts_with("<p> 列を離れる</p><script>go()"));
    let (_, policy) = told.headers.iter().find(|(name, _)| name == "content-security-policy").unwrap();
    let policy = policy.to_str().unwrap();
    // printf 'go()' | openssl dgst -sha256 -binary | base64
    assert!(policy.contains("script-src 'sha256-5KYv+PUboo5h+0+YAtGRPbwv5d/QxzHslP4YGnUaxRw='"), "{policy}");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let bare = read("<p>{{title}}</p>").unwrap();
    assert!(bare.policy.contains("script-src 'none'; style-src 'none'"), "{}", bare.policy);
}

#[test]
fn a_template_that_is_wrong_is_refused_with_the_line() {
    let why = |text: &str| read(text).unwrap_err();
    assert_eq!(why("a\nb {{tilte}}"), "line 2: `{{tilte}}` stands for nothing; did you mean `{{title}}`?");
    assert_eq!(why("{{t.nothing}}"), "line 1: `{{t.nothing}}` stands for nothing");
    assert_eq!(why("{{ title"), "line 1: `{{` without `}}`");
    assert!(why("<script>").contains("does not end"));
    assert!(why("<style>p{width:{{ahead}}px}</style>").contains("cannot be let run"));
    assert!(read("<script type=\"application/json\">{{document}}</script>").is_ok());
    assert!(read(TEMPLATE).is_ok());
}

#[test]
fn spans_and_numbers_are_said_as_people_say_them() {
    let said = |seconds| Language::En.span(seconds);
    assert_eq!(
        [said(0), said(12), said(60), said(61), said(5_340)].join(", "),
        "5 seconds, 15 seconds, 1 minute, 2 minutes, 89 minutes"
    );
    assert_eq!(said(5_400), "1 hour 30 minutes");
    assert_eq!(Language::ZhCn.span(7_200), "2 小时");
    assert_eq!([grouped(7), grouped(1_000), grouped(1_234_567)].join(" "), "7 1,000 1,234,567");
}
