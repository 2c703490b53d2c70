//! A deferred request's changes as server-sent events.
//!
//! The id of an event is the record's version, which only grows and outlives the process. A client that comes back with
//! `Last-Event-ID` is told what it has not seen: the state of the moment, never one twice. States that it has missed in
//! between are not repeated, since each says all there is to say.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_filters::engine::ReplyStream;
use tidegate_filters::respond_async::core::Id;
use tidegate_filters::respond_async::{Deferred, reply};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::gateway::Clock;

/// A sign of life for proxies in between.
const HEARTBEAT: Duration = Duration::from_secs(15);

pub(super) struct Events {
    pub(super) deferred: Arc<Deferred>,
    pub(super) id: Id,
    pub(super) news: watch::Receiver<u32>,
    /// The latest version that the client has seen.
    pub(super) seen: u32,
    /// When the stream ends so that the client comes back, rather than being cut.
    pub(super) end: Instant,
    pub(super) clock: Clock,
    pub(super) over: bool,
}

impl Events {
    async fn piece(&mut self) -> Option<Bytes> {
        while !self.over {
            // Marked as seen first, read then: what changes in between is read again.
            self.news.mark_unchanged();
            let view = self.deferred.view(self.id, self.clock.unix(self.clock.now())).await.ok().flatten()?;
            self.over = view.entry.state.is_over();
            if view.entry.version > self.seen {
                self.seen = view.entry.version;
                let name = if self.over { "end" } else { "state" };
                let document = reply::document(&view);
                return Some(format!("id: {}\nevent: {name}\ndata: {document}\n\n", self.seen).into());
            }
            if self.over || Instant::now() >= self.end {
                return None;
            }
            let patience = self.end.min(Instant::now() + HEARTBEAT);
            match timeout_at(patience, self.news.changed()).await {
                Ok(Ok(())) => (),
                Ok(Err(_)) => return None,
                Err(_) => return Some(Bytes::from_static(b":\n\n")),
            }
        }
        None
    }
}

impl ReplyStream for Events {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Option<Bytes>> + Send + '_>> {
        Box::pin(self.piece())
    }
}
