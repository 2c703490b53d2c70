//! Answers that a filter wants to see whole, and to have done something about, before the client sees their end.
//!
//! A piece of an answer goes out as it comes; only its last piece is held back. So a client that has read to the end knows
//! that what had to be durable is, and one that has not asks again and is told.

use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderMap, StatusCode, header};
use tidegate_filters::engine::{Captured, HeldBack};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::flow::Flow;

/// An end is held back no longer than this: by then the truth is that it is not durable, and the client waits for nothing.
const LONGEST_HOLD: Duration = Duration::from_secs(5);

/// An answer on its way.
pub(crate) struct Capture {
    status: StatusCode,
    headers: HeaderMap,
    /// `None` once it was too much.
    body: Option<BytesMut>,
    room: usize,
}

/// The head has come. Interim answers are none.
pub(crate) fn begin(flow: &mut Flow, status: StatusCode, headers: &HeaderMap) {
    if status.is_informational() {
        return;
    }
    if let Some(room) = flow.cx.capture {
        let body = Some(BytesMut::new());
        flow.capture = Some(Box::new(Capture { status, headers: headers.clone(), body, room }));
    }
}

/// Whether this answer ends with its head.
pub(crate) fn ends_with_head(status: StatusCode, headers: &HeaderMap) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0")
}

/// A piece of the body has come.
pub(crate) fn add(flow: &mut Flow, piece: &[u8]) {
    let Some(capture) = &mut flow.capture else { return };
    match &mut capture.body {
        Some(body) if body.len() + piece.len() <= capture.room => body.extend_from_slice(piece),
        body => *body = None,
    }
}

/// The end has come; it goes out when what is returned is done, see [`hold`]. Only the first call does anything.
pub(crate) fn end(flow: &mut Flow) -> Option<HeldBack> {
    let Capture { status, headers, body, .. } = *flow.capture.take()?;
    let route = flow.route.clone()?;
    flow.tick();
    let answer = Captured { status, headers, body: body.map(BytesMut::freeze) };
    route.chain.on_captured(&answer, &mut flow.cx)
}

/// Waits until the end may go out.
pub(crate) async fn hold(held: HeldBack) {
    if tokio::time::timeout(LONGEST_HOLD, held).await.is_err() {
        tracing::error!(target: "tidegate::proxy", "an answer goes out before it is stored: the store takes too long");
    }
}

/// The same from within a hook of pingora's that cannot wait: the worker's other tasks move to another thread meanwhile.
pub(super) fn hold_here(held: HeldBack) {
    let handle = Handle::current();
    if handle.runtime_flavor() == RuntimeFlavor::CurrentThread {
        // There is no other thread to move to, and to block this one would block the wait itself.
        handle.spawn(hold(held));
    } else {
        tokio::task::block_in_place(|| handle.block_on(hold(held)));
    }
}
