//! Alipay: RSA2 over sorted parameters for calls and notifications, over the raw answer node for answers.

use super::Forged;
use super::params::Params;
use super::rsa::{SigningKey, VerifyingKey};

/// The one kind of signature that is spoken here.
pub const SIGN_TYPE: &str = "RSA2";

/// A notification is acknowledged by exactly this body.
pub const ACKNOWLEDGED: &str = "success";

/// Signs a call: all parameters, `sign_type` included.
pub fn sign_call(params: &mut Params, key: &SigningKey) {
    params.set("sign_type", SIGN_TYPE);
    params.set("sign", key.sign(params.signed_text(&["sign"]).as_bytes()));
}

/// Checks a call.
///
/// # Errors
/// See [`Forged`].
pub fn verify_call(params: &Params, key: &VerifyingKey) -> Result<(), Forged> {
    verify(params, key, &["sign"])
}

/// Signs a notification: unlike in a call, `sign_type` is not part of it.
pub fn sign_notification(params: &mut Params, key: &SigningKey) {
    params.set("sign_type", SIGN_TYPE);
    params.set("sign", key.sign(params.signed_text(&["sign", "sign_type"]).as_bytes()));
}

/// Checks a notification.
///
/// # Errors
/// See [`Forged`].
pub fn verify_notification(params: &Params, key: &VerifyingKey) -> Result<(), Forged> {
    verify(params, key, &["sign", "sign_type"])
}

fn verify(params: &Params, key: &VerifyingKey, but: &[&str]) -> Result<(), Forged> {
    if params.get("sign_type") != Some(SIGN_TYPE) {
        return Err(Forged::Malformed);
    }
    let sign = params.get("sign").ok_or(Forged::Malformed)?;
    key.verify(params.signed_text(but).as_bytes(), sign)
}

/// The member of an answer that holds what is answered: `alipay.trade.pay` becomes `alipay_trade_pay_response`.
pub fn node(method: &str) -> String {
    format!("{}_response", method.replace('.', "_"))
}

/// An answer: the node as it is, and the signature of exactly these bytes.
pub fn answer(node: &str, content: &str, sign: &str) -> String {
    format!(r#"{{"{node}":{content},"sign":"{sign}"}}"#)
}

/// Takes an answer apart and checks it; answers the node's raw text.
///
/// # Errors
/// See [`Forged`]; malformed is also an answer without that node.
pub fn verify_answer<'a>(body: &'a str, node: &str, key: &VerifyingKey) -> Result<&'a str, Forged> {
    let nodes: std::collections::BTreeMap<&str, &serde_json::value::RawValue> =
        serde_json::from_str(body).map_err(|_| Forged::Malformed)?;
    let content = nodes.get(node).ok_or(Forged::Malformed)?.get();
    let sign = nodes.get("sign").and_then(|sign| serde_json::from_str::<String>(sign.get()).ok());
    key.verify(content.as_bytes(), &sign.ok_or(Forged::Malformed)?)?;
    Ok(content)
}
