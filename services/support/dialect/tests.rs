//! The dialects against what other implementations made of the same input.

use super::params::Params;
use super::rsa::{SigningKey, VerifyingKey};
use super::wechat::Authorization;
use super::{Forged, alipay, beijing, epay, money, vectors, wechat};

const NODE: &str = r#"{"code":"10000","msg":"Success","out_trade_no":"A1"}"#;
const API_V3_KEY: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

fn key() -> SigningKey {
    SigningKey::from_pem(vectors::PRIVATE).expect("a key")
}

fn public() -> VerifyingKey {
    VerifyingKey::from_pem(vectors::PUBLIC).expect("a key")
}

fn alipay_call() -> Params {
    [
        ("app_id", "2021000000000001"),
        ("biz_content", r#"{"out_trade_no":"A1","total_amount":"49.00","subject":"卡密 & more"}"#),
        ("charset", "utf-8"),
        ("method", "alipay.trade.precreate"),
        ("notify_url", ""),
        ("timestamp", "2025-11-11 00:00:00"),
        ("version", "1.0"),
    ]
    .into_iter()
    .collect()
}

#[test]
fn an_alipay_call_is_signed_as_by_others_and_survives_the_form() {
    let mut call = alipay_call();
    alipay::sign_call(&mut call, &key());
    assert_eq!(call.text("sign"), vectors::ALIPAY_CALL);
    let back = Params::parse(call.to_form().as_bytes());
    assert_eq!(alipay::verify_call(&back, &public()), Ok(()));
    let mut changed = back.clone();
    changed.set("timestamp", "2025-11-11 00:00:01");
    assert_eq!(alipay::verify_call(&changed, &public()), Err(Forged::Mismatch));
    let mut weaker = back.clone();
    weaker.set("sign_type", "RSA");
    assert_eq!(alipay::verify_call(&weaker, &public()), Err(Forged::Malformed));
    assert_eq!(alipay::verify_call(&alipay_call(), &public()), Err(Forged::Malformed));
}

#[test]
fn in_a_notification_of_alipay_the_sign_type_is_not_signed() {
    let mut told: Params = [
        ("app_id", "2021000000000001"),
        ("notify_id", "n1"),
        ("out_trade_no", "A1"),
        ("total_amount", "49.00"),
        ("trade_status", "TRADE_SUCCESS"),
    ]
    .into_iter()
    .collect();
    alipay::sign_notification(&mut told, &key());
    assert_eq!(told.text("sign"), vectors::ALIPAY_NOTIFICATION);
    assert_eq!(alipay::verify_notification(&told, &public()), Ok(()));
    assert_eq!(alipay::verify_call(&told, &public()), Err(Forged::Mismatch));
    told.set("total_amount", "0.01");
    assert_eq!(alipay::verify_notification(&told, &public()), Err(Forged::Mismatch));
}

#[test]
fn an_answer_of_alipay_is_signed_byte_by_byte() {
    let node = alipay::node("alipay.trade.precreate");
    let body = alipay::answer(&node, NODE, &key().sign(NODE.as_bytes()));
    assert!(body.contains(vectors::ALIPAY_NODE));
    assert_eq!(alipay::verify_answer(&body, &node, &public()), Ok(NODE));
    let spaced = body.replace(r#""code":"#, r#""code": "#);
    assert_eq!(alipay::verify_answer(&spaced, &node, &public()), Err(Forged::Mismatch));
    assert_eq!(alipay::verify_answer(&body, "another_response", &public()), Err(Forged::Malformed));
    assert_eq!(alipay::verify_answer("<html>", &node, &public()), Err(Forged::Malformed));
}

#[test]
fn a_wechat_call_is_signed_as_by_others_and_its_header_read_back() {
    let unsigned = Authorization {
        mchid: "1900000001".to_owned(),
        serial_no: "AB12".to_owned(),
        nonce_str: "nonce1".to_owned(),
        timestamp: 1_762_790_400,
        signature: String::new(),
    };
    let (target, body) = ("/v3/pay/transactions/native?x=%E4%B8%AD", r#"{"a":"中"}"#);
    let signed = unsigned.sign("POST", target, body, &key());
    assert_eq!(signed.signature, vectors::WECHAT_CALL);
    let header = signed.to_header();
    let back = Authorization::parse(&header).expect("readable");
    assert_eq!(back, signed);
    let verify = |target: &str, now| back.verify("POST", target, body, &public(), now);
    assert_eq!(verify(target, 1_762_790_400 + 300), Ok(()));
    assert_eq!(verify(target, 1_762_790_400 + 301), Err(Forged::OutsideWindow));
    assert_eq!(verify("/v3/other", 1_762_790_400), Err(Forged::Mismatch));
    for bad in [
        header.replace("WECHATPAY2", "WECHATPAY3"),
        header.replace("mchid=", "mch="),
        header.replace("timestamp=\"1762790400\"", "timestamp=\"soon\""),
        format!("{header},mchid=\"1\""),
        String::new(),
    ] {
        assert_eq!(Authorization::parse(&bad), Err(Forged::Malformed), "{bad}");
    }
}

#[test]
fn an_answer_of_wechat_is_believed_within_its_window_and_a_probe_never() {
    let body = r#"{"code_url":"weixin://"}"#;
    let verify = |signature: &str, now| wechat::verify_answer("1762790400", "nonce2", signature, body, &public(), now);
    assert_eq!(verify(vectors::WECHAT_ANSWER, 1_762_790_300), Ok(()));
    assert_eq!(verify(vectors::WECHAT_ANSWER, 1_762_791_000), Err(Forged::OutsideWindow));
    let probe = format!("{}{}", wechat::SIGNTEST, vectors::WECHAT_ANSWER);
    assert_eq!(verify(&probe, 1_762_790_400), Err(Forged::Mismatch));
}

#[test]
fn a_resource_of_wechat_opens_with_its_key_nonce_and_name_only() {
    let plain = r#"{"out_trade_no":"中1"}"#;
    let sealed = wechat::seal(API_V3_KEY, b"abcdefghijkl", "transaction", plain);
    assert_eq!(sealed, vectors::WECHAT_RESOURCE);
    let open = |nonce, associated| wechat::open(API_V3_KEY, nonce, associated, &sealed);
    assert_eq!(open("abcdefghijkl", "transaction").as_deref(), Ok(plain));
    assert_eq!(open("abcdefghijkm", "transaction"), Err(Forged::Mismatch));
    assert_eq!(open("abcdefghijkl", "refund"), Err(Forged::Mismatch));
    assert_eq!(open("short", "transaction"), Err(Forged::Malformed));
}

#[test]
fn epay_signs_what_is_not_empty_and_the_key() {
    let mut params: Params = [
        ("pid", "1001"),
        ("type", "alipay"),
        ("out_trade_no", "E1"),
        ("notify_url", "http://127.0.0.1/n"),
        ("name", "卡密"),
        ("money", "49.00"),
        ("param", ""),
    ]
    .into_iter()
    .collect();
    epay::sign(&mut params, "a key");
    assert_eq!(params.text("sign"), vectors::EPAY);
    let back = Params::parse(params.to_form().as_bytes());
    assert_eq!(epay::verify(&back, "a key"), Ok(()));
    assert_eq!(epay::verify(&back, "another key"), Err(Forged::Mismatch));
    params.set("money", "0.01");
    assert_eq!(epay::verify(&params, "a key"), Err(Forged::Mismatch));
    params.set("sign", "");
    assert_eq!(epay::verify(&params, "a key"), Err(Forged::Malformed));
}

#[test]
fn a_key_that_is_none_is_refused() {
    assert!(SigningKey::from_pem("-----BEGIN PRIVATE KEY-----").is_err());
    assert!(VerifyingKey::from_pem(vectors::PRIVATE).is_err());
    assert_eq!(key().public().to_pem().trim(), vectors::PUBLIC);
    assert_eq!(key().public().serial().len(), 40);
    assert_eq!(public().verify(b"text", "no base64!"), Err(Forged::Malformed));
}

#[test]
fn amounts_are_exact_and_nothing_else_is_an_amount() {
    for (fen, yuan) in [(0, "0.00"), (1, "0.01"), (4_900, "49.00"), (123_456_789, "1234567.89")] {
        assert_eq!(money::yuan(fen), yuan);
        assert_eq!(money::fen(yuan), Some(fen));
    }
    assert_eq!((money::fen("49"), money::fen("49.5")), (Some(4_900), Some(4_950)));
    for text in ["", ".5", "5.", "-1", "+1", "1.005", "1e2", "1,00", "99999999999999999999"] {
        assert_eq!(money::fen(text), None, "{text}");
    }
}

#[test]
fn times_are_beijings() {
    // date -u -d @1762790399; leap day of 2024; before 1970.
    for (ms, text) in [
        (1_762_790_399_000, "2025-11-10 23:59:59"),
        (1_709_136_000_000, "2024-02-29 00:00:00"),
        (951_753_600_000, "2000-02-29 00:00:00"),
        (-28_800_000, "1970-01-01 00:00:00"),
        (-28_801_000, "1969-12-31 23:59:59"),
    ] {
        assert_eq!(beijing::plain(ms), text);
        assert_eq!(beijing::parse(text), Some(ms));
        assert_eq!(beijing::parse(&beijing::rfc3339(ms)), Some(ms));
    }
    assert_eq!(beijing::parse("2025-11-10T15:59:59Z"), Some(1_762_790_399_000));
    assert_eq!(beijing::parse("2025-11-10T15:59:59-00:30"), Some(1_762_792_199_000));
    for text in ["", "2025-11-10", "2025-13-10 00:00:00", "2025-11-10 24:00:00", "2025-11-10T00:00:00+8", "中国"] {
        assert_eq!(beijing::parse(text), None, "{text}");
    }
}
