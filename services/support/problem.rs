//! Error answers: `application/problem+json` (RFC 9457) with a stable `code` for programs.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tidegate_durable::StoreError;

/// Media type of every error answer.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// An error as the client sees it: it names neither secrets nor the inside of the service.
#[derive(Debug, Clone)]
pub struct Problem {
    /// HTTP status of the answer.
    pub status: StatusCode,
    /// Stable name of the case in capitals, for example `OUT_OF_STOCK`.
    pub code: &'static str,
    /// One sentence for a person.
    pub detail: String,
    /// Seconds after which a retry makes sense; absent when waiting does not help.
    pub retry_after: Option<u64>,
}

impl Problem {
    /// A problem without advice on when to retry.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after: None }
    }

    /// The same with `Retry-After: seconds`.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// 400 for a request that cannot be meant seriously; `detail` says which member and why.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_REQUEST", detail)
    }

    /// 500 for what should not happen; the story is told to the log, not to the client.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "The request could not be completed.")
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        // Nothing of the operation was kept in either case, so repeating it is safe.
        if matches!(error, StoreError::Full) {
            let detail = "Too many operations are waiting.";
            return Self::new(StatusCode::SERVICE_UNAVAILABLE, "BUSY", detail).retry_after(1);
        }
        tracing::error!(%error, "the store refused an operation");
        let detail = "The data could not be read or written.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "STORE_UNAVAILABLE", detail).retry_after(1)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let kind = self.code.to_ascii_lowercase().replace('_', "-");
        let body = serde_json::json!({
            "type": format!("urn:tidegate:problem:{kind}"),
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
