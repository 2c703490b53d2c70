//! Signatures of other implementations: OpenSSL 3 and python's cryptography for RSA, python's hmac for the other.

use http::HeaderValue;

use super::*;
use crate::config::Secret;

const PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAlMICmV0IK6U2IyBeL8O/
YGUDZtpQYUK2B+8EAPrxXMKEl5OGWQeIKREplgkAfHXWAEKurZi/AuWAQ373TVlZ
Rxy5e2r4Rx1P6VHKibGVlCgJs4OC3NfwWT6nKxvWEaOccbY+ts0Tu6O09UTtJmx8
Z/E5T7gGQ84zOGys9CXTIUzbwszVdoOMXQmnxYQ10zZh/KhwDUKq82Pmg67ZcezK
qjhQ71pJBpygYVyjYioeKl+4Oav2rQY8hF6ExGxTA5SDEuO4404tZvJDm4zVB9v/
LdC3m3jqtkRUthQzlJmTWB8uMjWGOmLSP5SM6PiVhZYtDqO1d1JFnTUjkyS2dTN/
CQIDAQAB
-----END PUBLIC KEY-----";

const NODE: &str = r#"{"code":"10000","msg":"Success","out_trade_no":"A1"}"#;

const NODE_SIGNED: &str = "\
YaSJxtlmntZZztFGHBE59Cng5AX6o+uD1BjCqHLPj04kmLwpRM0AoJ8zbOqdnajGTHocso+qnjCQc/RKzjDB/IPedrUzqUy7exHw\
QO7KW1EyPMRdwnWliiUhDwmdYD/tlLwTz7NRnt4NhtuS/REugwIb4WyMzrUsVFLwNM5sjr2JpOHk63c7b4KMXqchIVgRyVkK2Tsq\
hM4x7+r4NgVzMdthkOqOSZril7vIFPfYEoIK1WcEAN1Tljp2Jm6Q90UqhjX3wu0loxqPIKWfxHjrYcUKgBIyxhY4bBbu81etGaBt\
6rw2Z00h5QJnIImOGRv9nNhfPCzIsdkP1vudhsWZ2w==";

const WECHAT: &str = r#"{"code_url":"weixin://"}"#;

const WECHAT_SIGNED: &str = "\
WUi+glMG860WPgLGnjqxfanmDOrbmb0MMCk7FazBcHMhDZF4d0uGqgHDsZfopuxBqcCsKoyGdsCdCAJMzCXBdpDDD1lzf73hkFkU\
8CjZgL0KD4p17aevIx+1yOKmXb4DA+ZLmnhQklQp//c1xHS4VmvwZQmpB14CKrJVmTG5MaHVxkWcRWaMgLkVMCAfntaAtU25RwkS\
3IpFRYAYCsjo5eA5Z0+2hIEIA+Gv1FNtmfBDmGLclXoOy0BHJ5BB2FmXfXcqb/a7U6EvEDYFNhwMSjjF/4lLNIHS16hsqno+PjMm\
+w142bltJoS7ORH8ZhDnvJY3hncwYvwV2IBNmjsxTg==";

/// When the answers were signed, in milliseconds.
const THEN: i64 = 1_762_790_400_000;

fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
    of.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse::<HeaderValue>().unwrap())).collect()
}

fn named(signature: &str) -> [(&'static str, &str); 3] {
    [("wechatpay-timestamp", "1762790400"), ("wechatpay-nonce", "nonce2"), ("wechatpay-signature", signature)]
}

#[test]
fn an_answer_of_wechat_is_believed_within_five_minutes() {
    let verifier = Verifier::new(&Signature::WechatPay(PUBLIC.as_bytes().to_vec()));
    let check = |signature: &str, body: &str, now| {
        verifier.check(&headers(&named(signature)), body.as_bytes(), now).map(|signed| signed.to_vec())
    };
    assert_eq!(check(WECHAT_SIGNED, WECHAT, THEN), Ok(WECHAT.as_bytes().to_vec()));
    assert_eq!(check(WECHAT_SIGNED, WECHAT, THEN + 300_000), Ok(WECHAT.as_bytes().to_vec()));
    assert_eq!(check(WECHAT_SIGNED, WECHAT, THEN + 301_000), Err(Doubt::Stale));
    assert_eq!(check(WECHAT_SIGNED, WECHAT, THEN - 301_000), Err(Doubt::Stale));
    assert_eq!(check(WECHAT_SIGNED, r#"{"code_url":"weixin:///"}"#, THEN), Err(Doubt::Wrong));
    assert_eq!(check(NODE_SIGNED, WECHAT, THEN), Err(Doubt::Wrong));
    // What WeChat Pay sends from time to time to see whether anybody looks.
    assert_eq!(check(&format!("WECHATPAY/SIGNTEST/{WECHAT_SIGNED}"), WECHAT, THEN), Err(Doubt::Malformed));
    assert_eq!(check("!", WECHAT, THEN), Err(Doubt::Malformed));
    assert_eq!(verifier.check(&HeaderMap::new(), WECHAT.as_bytes(), THEN), Err(Doubt::Unsigned));
    let mut twice = headers(&named(WECHAT_SIGNED));
    twice.append("wechatpay-signature", HeaderValue::from_static("another"));
    assert_eq!(verifier.check(&twice, WECHAT.as_bytes(), THEN), Err(Doubt::Malformed));
}

#[test]
fn of_an_answer_of_alipay_only_the_signed_node_counts() {
    let verifier = Verifier::new(&Signature::Alipay(PUBLIC.as_bytes().to_vec()));
    let check = |body: &str| verifier.check(&HeaderMap::new(), body.as_bytes(), THEN).map(|signed| signed.to_vec());
    let whole = format!(r#"{{"alipay_trade_precreate_response":{NODE},"sign":"{NODE_SIGNED}","status":"SUCCESS"}}"#);
    assert_eq!(check(&whole), Ok(NODE.as_bytes().to_vec()));
    assert_eq!(check(&whole.replace(r#""code":"#, r#""code": "#)), Err(Doubt::Wrong), "byte by byte");
    let two = whole.replacen('{', r#"{"other_response":{},"#, 1);
    assert_eq!(check(&two), Err(Doubt::Malformed), "which of the two?");
    assert_eq!(check(&whole.replace("\"sign\"", "\"sing\"")), Err(Doubt::Unsigned));
    assert_eq!(check("<html>"), Err(Doubt::Unsigned));
    assert_eq!(check(r#"{"sign":1}"#), Err(Doubt::Malformed));
}

#[test]
fn a_shared_secret_signs_the_time_with_the_body() {
    let header = HeaderName::from_static("x-signature");
    let verifier = Verifier::new(&Signature::Hmac { header, secret: Secret::new("secret") });
    let check = |value: &str, body: &str, now| {
        verifier.check(&headers(&[("x-signature", value)]), body.as_bytes(), now).map(|signed| signed.to_vec())
    };
    let good = "t=1000,v1=026360fb6284f077f1148b1ae7c62679730497810a6a0321574de01e8b009e7a";
    assert_eq!(check(good, "{}", 1_000_000), Ok(b"{}".to_vec()));
    assert_eq!(check(good, "{ }", 1_000_000), Err(Doubt::Wrong));
    assert_eq!(check(&good.replace("1000", "1001"), "{}", 1_001_000), Err(Doubt::Wrong));
    assert_eq!(check(good, "{}", 1_301_000), Err(Doubt::Stale));
    for odd in ["", "t=1", "v1=00,t=1", "t=1,v1=zz", "t=1,v1=0"] {
        assert_eq!(check(odd, "{}", 1_000), Err(Doubt::Malformed), "{odd}");
    }
    // Readable, but a tag of another length is none of the channel's.
    assert_eq!(check("t=1,v1=00", "{}", 1_000), Err(Doubt::Wrong));
}
