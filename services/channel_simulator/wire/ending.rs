//! The ways in which an exchange ends without a proper answer, and bodies that do not end well.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

/// Time for the first part of a body to be on its way before the connection breaks.
const FLUSH: Duration = Duration::from_millis(30);

/// Parts of a slow body.
const PARTS: u32 = 10;

/// How an exchange ends when it is not answered. It travels as an extension of an answer that nobody gets to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::channel_simulator) enum Ending {
    /// No answer, for as long as the caller waits.
    Hang,
    /// RST.
    Reset,
    /// FIN.
    Close,
    /// HTTP/2: GOAWAY with this error code, and the stream is not among those that were looked at.
    Goaway(u32),
    /// HTTP/2: RST_STREAM with REFUSED_STREAM.
    RefusedStream,
    /// HTTP/2: a frame that no peer may send.
    ProtocolError,
}

impl IntoResponse for Ending {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(self);
        response
    }
}

/// The answer with its full length announced, and the connection broken after `bytes` of it, or after half.
pub(in crate::channel_simulator) async fn truncated(response: Response, bytes: Option<u64>) -> Response {
    let (mut parts, body) = taken_apart(response).await;
    let half = body.len() / 2;
    let at = bytes.map_or(half, |bytes| usize::try_from(bytes).unwrap_or(half)).min(body.len().saturating_sub(1));
    let first = body.slice(..at);
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    let body = futures_util::stream::unfold(Some(first), async |first| match first {
        Some(first) if !first.is_empty() => Some((Ok(first), Some(Bytes::new()))),
        Some(_) => {
            tokio::time::sleep(FLUSH).await;
            Some((Err(io::Error::other("cut off as planned")), None))
        }
        None => None,
    });
    Response::from_parts(parts, Body::from_stream(body))
}

/// The answer with its head at once, and its body in parts over so long a time.
pub(in crate::channel_simulator) async fn slow(response: Response, time: Duration) -> Response {
    let (mut parts, body) = taken_apart(response).await;
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    let size = body.len().div_ceil(PARTS as usize).max(1);
    let body = futures_util::stream::unfold(body, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(time / PARTS).await;
        let part = rest.split_to(size.min(rest.len()));
        Some((Ok::<_, io::Error>(part), rest))
    });
    Response::from_parts(parts, Body::from_stream(body))
}

async fn taken_apart(response: Response) -> (axum::http::response::Parts, Bytes) {
    let (parts, body) = response.into_parts();
    // It is whole and in memory, so this neither fails nor waits.
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    (parts, body)
}
