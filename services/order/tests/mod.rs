//! Proofs of the pieces that need no network: tokens, numbers, sealing, and the decisions on the rows at
//! times of the test's choosing.

mod cost;
mod near;

use reqwest::StatusCode;
use rusqlite::Connection;
use serde_json::Value;
use tidegate_durable::Options;

use super::channel::Reply;
use super::files::{OrderFile, OrderFiles};
use super::model::{Channel, Method, OrderStatus, PaymentStatus, Refusal, TaskKind};
use super::rows::NewOrder;
use super::secret::Secret;
use super::settle::{self, Report, Told};
use super::sounding::{self, Found};
use super::{backoff_ms, inspect, number, payments, rows, schema, token};
use crate::support::Files;

const SECRET: &[u8] = b"secret";

#[test]
fn a_token_names_its_user_until_its_time_is_over_and_no_byte_of_it_can_be_changed() {
    let token = token::issue(SECRET, "u_1", 1_000);
    let last = 1_000 + token::LIFETIME_SECONDS - 1;
    assert_eq!(token::verify(SECRET, &token, 1_000).as_deref(), Some("u_1"));
    assert_eq!(token::verify(SECRET, &token, last).as_deref(), Some("u_1"));
    assert_eq!(token::verify(SECRET, &token, last + 1), None);
    assert_eq!(token::verify(b"other", &token, 1_000), None);
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).expect("still ASCII");
        assert_eq!(token::verify(SECRET, &changed, 1_000), None, "byte {at}");
    }
}

#[test]
fn a_token_cannot_choose_its_algorithm() {
    use base64::Engine;
    use hmac::{Hmac, KeyInit, Mac};
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS512"}"#, r#"{"alg":"HS256","crit":["b64"]}"#] {
        let message = format!("{}.{}", part(header), part(r#"{"sub":"u_1","exp":9999999999}"#));
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET).expect("any key will do");
        mac.update(message.as_bytes());
        let tag = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        assert_eq!(token::verify(SECRET, &format!("{message}.{tag}"), 1_000), None, "{header}");
        assert_eq!(token::verify(SECRET, &format!("{message}."), 1_000), None, "{header}");
    }
}

#[test]
fn order_numbers_rise_with_time_and_end_with_the_users_shard() {
    let early = number::order("u_1", 1_800_000_000_000, u32::MAX);
    let late = number::order("u_1", 1_800_000_000_001, 0);
    assert_eq!((early.len(), late.len()), (13, 13));
    assert!(early < late);
    let shard = |number: &str| {
        let last = number.chars().last().expect("13 letters");
        "0123456789ABCDEFGHJKMNPQRSTVWXYZ".find(last).expect("a letter of base 32") & 0xF
    };
    assert_eq!(shard(&early), shard(&late));
    assert!((0..100).any(|n| shard(&number::order(&format!("u_{n}"), 0, 0)) != shard(&early)));
}

#[test]
fn a_sealed_password_opens_for_its_order_only() {
    let secret = Secret::random();
    let sealed = secret.seal("A", "secret-99").expect("short enough");
    assert!(!sealed.windows(6).any(|bytes| bytes == b"secret"));
    assert_eq!(secret.open_sealed("A", &sealed).as_deref(), Some("secret-99"));
    assert_eq!(secret.open_sealed("B", &sealed), None);
    assert_eq!(Secret::random().open_sealed("A", &sealed), None);
    assert_eq!(secret.open_sealed("A", &sealed[..5]), None);
    assert_eq!(secret.fingerprint(&[b"ab", b"c"]), secret.fingerprint(&[b"ab", b"c"]));
    assert_ne!(secret.fingerprint(&[b"ab", b"c"]), secret.fingerprint(&[b"a", b"bc"]));
}

#[test]
fn waiting_grows_to_a_minute() {
    let unit = std::time::Duration::from_secs(1);
    assert_eq!([0, 1, 5, 6, 1_000].map(|tries| backoff_ms(unit, tries)), [1_000, 2_000, 30_000, 60_000, 60_000]);
}

/// A store in memory with one order of `u`, to be paid until 1000.
fn shop() -> Connection {
    let connection = Connection::open_in_memory().expect("a database in memory");
    connection.execute_batch("PRAGMA foreign_keys = ON").expect("foreign keys");
    connection.execute_batch(schema::SCHEMA).expect("the schema is sound");
    connection.execute_batch(crate::outbox::SCHEMA).expect("the schema is sound");
    let new = NewOrder {
        order_no: "A".to_owned(),
        user: "u".to_owned(),
        idem_key: "k".to_owned(),
        fingerprint: [1; 32],
        sku: "card".to_owned(),
        qty: 1,
        amount: 4_900,
        currency: "CNY".to_owned(),
        password: Some(vec![1]),
        expires_ms: 1_000,
        most_each: None,
    };
    assert!(rows::create(&connection, &new, 0, 5).expect("a new order").0);
    assert!(!rows::create(&connection, &new, 1, 5).expect("the same order").0);
    let more = NewOrder { idem_key: "k2".to_owned(), order_no: "B".to_owned(), most_each: Some(1), ..new.clone() };
    assert!(matches!(rows::create(&connection, &more, 1, 5), Err(Refusal::Enough(1))));
    assert!(!rows::create(&connection, &NewOrder { most_each: Some(1), ..new.clone() }, 1, 5).expect("a repeat").0);
    let other = NewOrder { fingerprint: [2; 32], ..new };
    assert!(matches!(rows::create(&connection, &other, 1, 5), Err(Refusal::KeyReused)));
    connection
}

fn payable() -> Connection {
    let connection = shop();
    rows::reserved(&connection, "A", 2).expect("reserved");
    assert_eq!(rows::password(&connection, "A").expect("readable"), None, "the password is forgotten");
    connection
}

fn pay(connection: &Connection, method: Method, now_ms: i64) -> Result<String, Refusal> {
    payments::begin(connection, "A", "u", method, now_ms, now_ms + 10).map(|(_, payment)| payment.payment_no)
}

fn tell(connection: &Connection, payment_no: &str, state: Told, now_ms: i64) {
    let at = payments::get(connection, payment_no).expect("the payment").channel;
    let report =
        Report { state, trade_no: Some("T".to_owned()), amount: Some(4_900), currency: Some("CNY".to_owned()) };
    assert!(settle::apply(connection, payment_no, at, &report, "test", now_ms).expect("applied"));
}

fn status(connection: &Connection) -> OrderStatus {
    rows::get(connection, "A").expect("the order").status
}

fn tasks(connection: &Connection) -> Vec<(TaskKind, String)> {
    let both = [false, true].map(|refunds| rows::claim_tasks(connection, refunds, i64::MAX, 0, 100).expect("tasks"));
    both.into_iter().flatten().map(|(kind, subject, _)| (kind, subject)).collect()
}

fn assert_sound(connection: &Connection) {
    assert_eq!(inspect::violations(connection, 0).expect("readable"), Vec::<String>::new());
}

#[test]
fn an_order_left_creating_fails_when_its_time_is_over_and_gives_back_what_it_may_hold() {
    let connection = shop();
    assert_eq!(settle::expire(&connection, 999, 10).expect("the sweep works"), 0);
    assert_eq!(settle::expire(&connection, 1_000, 10).expect("the sweep works"), 1);
    assert_eq!(status(&connection), OrderStatus::Failed);
    assert_eq!(tasks(&connection), [(TaskKind::Release, "A".to_owned())]);
    // The reservation that answers too late changes nothing.
    rows::reserved(&connection, "A", 1_001).expect("no harm");
    assert_eq!(status(&connection), OrderStatus::Failed);
    assert_sound(&connection);
}

#[test]
fn nothing_else_is_paid_while_an_outcome_is_unknown() {
    let connection = payable();
    let first = pay(&connection, Method::Alipay, 10).expect("a payment");
    settle::unknown(&connection, &first, None, "a timeout", 20).expect("unknown");
    assert!(matches!(pay(&connection, Method::Wechat, 30), Err(Refusal::PaymentLive(no)) if no == first));
    // A refusal that comes after the doubt proves nothing about the call before.
    settle::not_sent(&connection, &first, "no connection", 40).expect("no harm");
    assert_eq!(payments::get(&connection, &first).expect("known").status, PaymentStatus::Unknown);
    // The table itself would not have it either.
    let forced =
        "INSERT INTO payments (payment_no, order_no, attempt, method, channel, amount, currency, status, next_ms,
        created_ms, updated_ms) SELECT 'X', order_no, 9, 'wechat', 'wechat', amount, currency, ?1, 0, 0, 0 FROM payments";
    assert!(connection.execute(forced, ["CREATED"]).is_err());
    assert_eq!(connection.execute(forced, ["FAILED"]).expect("one that is over does not count"), 1);
    assert_eq!(connection.execute("DELETE FROM payments WHERE payment_no = 'X'", []).expect("deleted"), 1);
    tell(&connection, &first, Told::Declined, 50);
    assert!(pay(&connection, Method::Wechat, 60).is_ok());
    assert!(pay(&connection, Method::Wechat, 1_000).is_ok(), "the same payment, found again");
    assert_sound(&connection);
}

#[test]
fn a_success_in_the_last_moment_wins_over_the_end_of_the_order() {
    let connection = payable();
    let payment_no = pay(&connection, Method::Union, 10).expect("a payment");
    tell(&connection, &payment_no, Told::Pending, 11);
    assert_eq!(settle::expire(&connection, 1_000, 10).expect("the sweep works"), 1);
    assert_eq!(status(&connection), OrderStatus::Closing);
    tell(&connection, &payment_no, Told::Success, 1_001);
    assert_eq!(status(&connection), OrderStatus::Paid);
    // The channel's late word that it is closed is not believed any more.
    tell(&connection, &payment_no, Told::Closed, 1_002);
    assert_eq!(payments::get(&connection, &payment_no).expect("known").status, PaymentStatus::Success);
    assert_eq!(tasks(&connection), [(TaskKind::Deliver, "A".to_owned())]);
    assert_sound(&connection);
    settle::delivered(&connection, "A", 1_003).expect("delivered");
    settle::undeliverable(&connection, "A", "OUT_OF_STOCK", 1_004).expect("no harm");
    assert_eq!(status(&connection), OrderStatus::Delivered);
    assert_sound(&connection);
}

#[test]
fn a_payment_for_a_cancelled_order_goes_back() {
    let connection = payable();
    let payment_no = pay(&connection, Method::Union, 10).expect("a payment");
    settle::close_order(&connection, "A", OrderStatus::Cancelled, 20, 20).expect("closing");
    tell(&connection, &payment_no, Told::Closed, 30);
    assert_eq!(status(&connection), OrderStatus::Cancelled);
    tell(&connection, &payment_no, Told::Success, 40);
    let expected = [(TaskKind::Release, "A".to_owned()), (TaskKind::Refund, payment_no.clone())];
    assert_eq!(tasks(&connection), expected);
    settle::refunded(&connection, &payment_no, 50).expect("paid back");
    settle::refunded(&connection, &payment_no, 60).expect("no harm");
    assert_eq!(status(&connection), OrderStatus::Cancelled);
    assert_sound(&connection);
}

#[test]
fn a_clock_that_is_set_back_keeps_no_paid_order_waiting() {
    let hour = 3_600_000;
    assert!(super::work::was_set_back(hour, 0) && !super::work::was_set_back(0, hour));
    assert!(!super::work::was_set_back(999, 0), "a small correction");
    let connection = payable();
    let payment_no = pay(&connection, Method::Union, hour).expect_err("too late for this order");
    assert!(matches!(payment_no, Refusal::TooLate));
    let payment_no = pay(&connection, Method::Union, 10).expect("a payment");
    tell(&connection, &payment_no, Told::Success, hour);
    let due = |now_ms: i64| rows::claim_tasks(&connection, false, now_ms, now_ms + 70_000, 9).expect("tasks").len();
    assert_eq!(due(1_000), 0, "its time is an hour away");
    payments::look_at_all(&connection, 1_000).expect("looked at");
    assert_eq!(due(1_000), 1);
}

#[test]
fn history_can_be_added_to_and_nothing_else() {
    let connection = payable();
    assert!(connection.execute("UPDATE order_events SET kind = 'PAID'", []).is_err());
    assert!(connection.execute("DELETE FROM order_events", []).is_err());
    let kinds: Vec<_> = rows::events(&connection, "A").expect("readable").into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, ["CREATING", "PENDING_PAYMENT"]);
}

#[test]
fn an_inconsistency_is_found() {
    let connection = payable();
    connection.execute("UPDATE orders SET status = 'DELIVERED'", []).expect("a wrong row");
    let found = inspect::violations(&connection, 0).expect("readable");
    assert!(found.iter().any(|text| text.starts_with("I2: order paid or delivered without a payment")), "{found:?}");
    assert!(found.iter().any(|text| text.starts_with("I6: history does not end with the state")), "{found:?}");
}

#[test]
fn only_a_status_that_refuses_says_that_nothing_was_charged() {
    let refuses = |code: u16| super::channel::is_refusal(StatusCode::from_u16(code).expect("a status"));
    assert!([400, 401, 403, 405, 413, 415, 422, 425, 429].into_iter().all(refuses));
    // Payment required, a conflict, a client that is said to have hung up, redirects, failures: nobody knows.
    assert!(![200, 302, 307, 402, 408, 409, 423, 451, 499, 500, 502, 503, 504].into_iter().any(refuses));
}

#[test]
fn a_channels_answer_is_read_or_is_no_answer() {
    let read = |text: &str| super::channel::report(&serde_json::from_str::<Value>(text).expect("JSON"), "P1");
    let known =
        read(r#"{"payment_no":"P1","status":"SUCCESS","trade_no":"T","amount":4900,"currency":"CNY"}"#).expect("known");
    assert_eq!((known.state, known.amount), (Told::Success, Some(4_900)));
    assert!(read(r#"{"payment_id":"P1","status":"SUCCEEDED"}"#).is_some(), "the gateway's record");
    assert_eq!(read(r#"{"payment_no":"P1","status":"SYSTEM_ERROR"}"#), None);
    assert_eq!(read(r#"{"payment_no":"P2","status":"SUCCESS"}"#), None, "another payment");
    assert_eq!(read(r#"{"status":"SUCCESS"}"#), None);
    assert_eq!(read("{}"), None);
}

fn said(state: Told) -> Reply {
    Reply::Told(Report { state, trade_no: None, amount: None, currency: None })
}

#[test]
fn where_a_payment_is_follows_from_what_all_channels_say() {
    use Channel::{Alipay, Union, Wechat};
    let found =
        |replies: [Reply; 3]| sounding::found(&[Alipay, Wechat, Union].into_iter().zip(replies).collect::<Vec<_>>());
    let places = |found: Found| match found {
        Found::At(places) => places.into_iter().map(|(channel, _)| channel).collect(),
        Found::Open | Found::Nowhere(_) => Vec::new(),
    };
    let silent = || Reply::Unknown("no answer".to_owned());
    assert_eq!(places(found([silent(), said(Told::Success), said(Told::Success)])), [Wechat, Union]);
    assert_eq!(places(found([said(Told::Pending), said(Told::Success), silent()])), [Wechat]);
    assert_eq!(places(found([silent(), Reply::NotFound, said(Told::Pending)])), [Union]);
    assert_eq!(found([Reply::NotFound, said(Told::Declined), silent()]), Found::Open);
    assert_eq!(found([Reply::NotFound, Reply::NotFound, Reply::NotSent(String::new())]), Found::Open);
    assert_eq!(found([Reply::NotFound, said(Told::Declined), said(Told::Closed)]), Found::Nowhere(Some(Wechat)));
    assert_eq!(found([Reply::NotFound, Reply::NotFound, Reply::NotFound]), Found::Nowhere(None));
}

#[test]
fn a_payment_that_nobody_has_is_looked_for_again_as_soon_as_that_is_believed() {
    assert_eq!(sounding::no_later(100, 160, 130), 130);
    assert_eq!(sounding::no_later(100, 120, 130), 120, "it is time before");
    assert_eq!(sounding::no_later(100, 160, 100), 160, "it is old enough, and somebody has not answered");
}

#[test]
fn a_payment_stays_where_it_is_and_another_charge_of_it_is_paid_back_there() {
    let connection = payable();
    let number = pay(&connection, Method::Any, 10).expect("a payment");
    let report = Report { state: Told::Success, trade_no: None, amount: Some(4_900), currency: None };
    let apply = |from: Option<Channel>, now_ms| settle::apply(&connection, &number, from, &report, "test", now_ms);
    // Money that is nobody knows where pays for nothing yet.
    assert!(apply(None, 20).expect("applied"));
    let payment = payments::get(&connection, &number).expect("known");
    assert_eq!((payment.status, payment.channel), (PaymentStatus::Unknown, None));
    assert!(apply(Some(Channel::Wechat), 30).expect("applied"));
    for now_ms in [40, 50] {
        assert!(apply(Some(Channel::Union), now_ms).expect("applied"));
    }
    let payment = payments::get(&connection, &number).expect("known");
    assert_eq!(
        (payment.status, payment.channel, payment.refund),
        (PaymentStatus::Success, Some(Channel::Wechat), None)
    );
    assert_eq!(status(&connection), OrderStatus::Paid);
    let subject = format!("{number}@union");
    assert!(tasks(&connection).contains(&(TaskKind::Refund, subject.clone())));
    assert_eq!(settle::refund_of(&subject), (number.as_str(), Some(Channel::Union)));
    assert_eq!(settle::refund_of(&number), (number.as_str(), None));
    settle::refunded_elsewhere(&connection, &subject, 60).expect("done");
    let kinds: Vec<String> =
        rows::events(&connection, "A").expect("the history").into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "DUPLICATE_CHARGE").count(), 1);
    assert!(kinds.contains(&"PAYMENT_PLACED".to_owned()) && kinds.contains(&"REFUND_DONE".to_owned()));
    assert_eq!(payments::get(&connection, &number).expect("known").refund, None, "its own charge is kept");
    assert_sound(&connection);
}

#[tokio::test]
async fn a_user_his_orders_and_their_payments_lie_in_one_file_however_many_there_are() {
    for count in [1, 4, 16] {
        let folder = tempfile::tempdir().expect("a folder");
        let layout = Files::new(count).expect("allowed");
        let files = OrderFiles::open(folder.path(), layout, &Options::default()).await.expect("opened");
        let at = |file: Option<&OrderFile>| {
            let file: *const OrderFile = file.expect("a file");
            files.all().iter().position(|one| std::ptr::eq(one, file)).expect("one of them")
        };
        let mut seen = vec![false; layout.count()];
        for n in 0..400 {
            let user = format!("u_{n}");
            let order_no = number::order(&user, 1_800_000_000_000, n);
            let home = at(Some(files.of_user(&user)));
            assert_eq!(at(files.of_number(&order_no)), home);
            assert_eq!(at(files.of_number(&format!("{order_no}-1"))), home);
            assert_eq!(at(files.of_number(&format!("{order_no}-1@wechat"))), home);
            seen[home] = true;
        }
        assert!(seen.iter().all(|&one| one), "files without an order: {seen:?}");
        assert!(files.of_number("nothing").is_none() && files.of_number("").is_none());
        drop(files);
        let other = Files::new(if count == 4 { 1 } else { 4 }).expect("allowed");
        assert!(
            OrderFiles::open(folder.path(), other, &Options::default()).await.is_err(),
            "rows would be looked for elsewhere"
        );
    }
}
