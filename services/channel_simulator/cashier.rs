//! The page a buyer sees: what is to be paid, and a button. It stands for the wallet on his telephone.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Redirect};
use axum::routing::get;

use super::channel::Channel;
use super::course::Course;
use super::http::{Answer, Shared};
use super::rows::{Payment, Status};

/// No script and nothing from elsewhere: what is in a subject stays text.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'";

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:24rem;margin:15vh auto;padding:0 1rem;\
text-align:center}h1{font-size:2.5rem;margin:.5rem 0}button{font:inherit;width:100%;padding:.75rem;border:0;\
border-radius:.5rem;background:#1677ff;color:#fff}small{color:#666}";

/// The page and its button.
pub(super) fn routes() -> Router<Arc<Channel>> {
    Router::new().route("/cashier/{payment_no}", get(page).post(pay))
}

async fn page(State(channel): Shared, Path(payment_no): Path<String>) -> Answer {
    let payment = channel.find(payment_no).await?;
    let policy = (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    Ok(([policy], Html(html(&channel.name, &payment))).into_response())
}

async fn pay(State(channel): Shared, Path(payment_no): Path<String>) -> Answer {
    channel.confirm(payment_no.clone(), &Course::default()).await?;
    // To the page again, so that reloading it does not send the form a second time.
    // A name and not a path: a proxy may have the page under another one.
    Ok(Redirect::to(&payment_no).into_response())
}

fn html(channel: &str, payment: &Payment) -> String {
    let (yuan, fen) = (payment.wanted.amount / 100, payment.wanted.amount % 100);
    let subject = escaped(&payment.wanted.subject);
    let below = match payment.status {
        Status::Pending if payment.due.is_some() => "<p>处理中 · Processing</p>",
        Status::Pending => r#"<form method="post"><button>确认支付 · Pay</button></form>"#,
        Status::Success => "<p>支付成功 · Paid</p>",
        Status::Declined => "<p>支付失败 · Declined</p>",
        Status::Closed => "<p>订单已关闭 · Closed</p>",
    };
    format!(
        "<!doctype html><html lang=\"zh\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
content=\"width=device-width\"><title>{channel}</title><style>{STYLE}</style></head><body><p>{channel} · {subject}</p>\
<h1>¥{yuan}.{fen:02}</h1>{below}<small>{}</small></body></html>\n",
        escaped(&payment.wanted.payment_no),
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_cannot_become_markup() {
        assert_eq!(escaped(r#"<b a="1">&"#), "&lt;b a=&quot;1&quot;&gt;&amp;");
    }
}
