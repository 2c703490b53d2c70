//! A page for the operator who has no dashboard yet. It fetches what the other paths tell, every two seconds.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

const POLICY: (HeaderName, HeaderValue) = (
    header::CONTENT_SECURITY_POLICY,
    HeaderValue::from_static(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-ancestors 'none'",
    ),
);
const NO_SNIFFING: (HeaderName, HeaderValue) = (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

/// The page.
pub(super) async fn page() -> Response {
    asset("text/html; charset=utf-8", include_str!("dashboard.html"))
}

/// Its script.
pub(super) async fn script() -> Response {
    asset("text/javascript; charset=utf-8", include_str!("dashboard.js"))
}

/// Its style.
pub(super) async fn style() -> Response {
    asset("text/css; charset=utf-8", include_str!("dashboard.css"))
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static(kind));
    ([kind, POLICY, NO_SNIFFING], text).into_response()
}
