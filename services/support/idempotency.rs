//! The key by which a repeated request is recognised.

use axum::http::{HeaderMap, StatusCode};

use super::Problem;

/// Longest idempotency key in bytes.
const MAX_KEY: usize = 255;

/// The one idempotency key of a request; with and without quotes it is the same.
///
/// # Errors
/// 400 when there is none, more than one, or one that is empty, too long or not visible ASCII.
pub fn idempotency_key(headers: &HeaderMap) -> Result<String, Problem> {
    let invalid = || {
        let detail = format!("one Idempotency-Key header of 1 to {MAX_KEY} visible ASCII characters is needed");
        Problem::new(StatusCode::BAD_REQUEST, "IDEMPOTENCY_KEY_REQUIRED", detail)
    };
    let mut values = headers.get_all("idempotency-key").iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(invalid());
    };
    let value = value.to_str().map_err(|_| invalid())?.trim();
    let key = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    let visible = !key.is_empty() && key.len() <= MAX_KEY && key.bytes().all(|byte| byte.is_ascii_graphic());
    visible.then(|| key.to_owned()).ok_or_else(invalid)
}
