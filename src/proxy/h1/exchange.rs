//! One try on one connection: both directions at once, under one timer.
//!
//! The directions are two small machines that are asked in turn what they can move. Only when neither can is a deadline
//! worked out, from what each of them waits for; so a request that is answered at once never touches a timer.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pingora::server::ShutdownWatch;
use tidegate_filters::engine::Known;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::download::{self, Download, Terms};
use super::upload;
use super::{HEAD_PATIENCE, Request};
use crate::door::Alarm;
use crate::door::conn::Conn;
use crate::proxy::attempt;
use crate::proxy::fault::Fault;
use crate::proxy::flow::Flow;

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client has the whole answer, or would have if it had stayed.
    Whole,
    /// The answer was begun and will not be completed.
    Cut { by_client: bool },
    /// Nothing was begun, and this is why.
    Fault(Fault),
    /// Dead before the first byte: nobody has seen anything of the request.
    NothingTaken,
    /// A connection that was kept died with the request on it, before the first byte of an answer.
    DiedIdle,
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    /// The request as a whole, or the upstream's head.
    All,
    /// The upstream is silent, or does not take what it is sent.
    Upstream,
    /// The client does not send its body.
    Sender,
    /// The client does not read its answer.
    Reader,
}

/// Longest waits.
#[derive(Clone, Copy)]
struct Patience {
    read: Duration,
    write: Duration,
    client: Duration,
    /// End of the whole request.
    until: Instant,
}

/// One try.
pub(super) struct Exchange<'a> {
    conn: &'a Conn,
    flow: &'a mut Flow,
    request: &'a mut Request,
    stopping: &'a ShutdownWatch,
    wire: TcpStream,
    /// The connection served a request before.
    reused: bool,
    download: Download,
    patience: Patience,
    /// When the upstream moved last, and what it had moved by then.
    upstream_at: (Instant, u64),
    client_at: (Instant, u64),
    /// When the upstream had the whole request.
    whole_at: Option<Instant>,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        (conn, stopping): (&'a Conn, &'a ShutdownWatch),
        flow: &'a mut Flow,
        request: &'a mut Request,
        (wire, reused): (TcpStream, bool),
    ) -> Self {
        let now = request.now;
        let (mut read, mut write) = (Duration::ZERO, Duration::ZERO);
        if let Some(route) = &flow.route {
            (read, write) = (route.upstream.read_timeout, route.upstream.write_timeout);
        }
        let client = flow.snapshot.config.server.limits.body_timeout;
        let patience = Patience { read, write, client, until: request.until };
        let (download, upstream_at, client_at) = (Download::new(), (now, 0), (now, 0));
        Self { conn, flow, request, stopping, wire, reused, download, patience, upstream_at, client_at, whole_at: None }
    }

    /// Runs to its end.
    pub(super) async fn run(&mut self, alarm: &mut Alarm) -> End {
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(end) = self.advance(cx) {
                    return Poll::Ready(end);
                }
                let (deadline, late) = self.deadline();
                if alarm.poll(cx, deadline).is_pending() {
                    return Poll::Pending;
                }
                if let Some(end) = self.give_up(late) {
                    return Poll::Ready(end);
                }
            }
        })
        .await
    }

    /// The answer as far as it came, and the connection if it may serve another request, or another protocol.
    pub(super) fn into_parts(self, end: End) -> (Download, Option<TcpStream>) {
        let reusable = self.request.upload.is_done() && self.download.leaves_reusable() || self.download.switched();
        (self.download, Some(self.wire).filter(|_| reusable && end == End::Whole))
    }

    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let Request { upload, client, .. } = &mut *self.request;
        let sent = upload.poll(cx, (client, self.conn), &mut self.wire, self.flow);
        if upload.put > 0 && self.flow.known != Some(Known::Final) {
            self.flow.known = Some(Known::Unknown);
        }
        match sent {
            Ok(()) => (),
            Err(upload::Halt::NothingTaken) => return Poll::Ready(End::NothingTaken),
            // The answer is on its way: what the client still says does not matter any more.
            Err(upload::Halt::Client(_)) if self.download.status.is_some() => upload.give_up(),
            Err(upload::Halt::Client(fault)) => {
                if upload.put == 0 {
                    self.flow.not_sent();
                }
                return Poll::Ready(End::Fault(fault));
            }
        }
        let (conn, request) = (self.conn, &mut *self.request);
        let (to_head, old, keep_alive, stopping) = (request.to_head, request.old, request.keep_alive, self.stopping);
        let websocket = self.flow.websocket;
        // Behind a body that nobody reads to its end there is no next request.
        let keep = || keep_alive && conn.at_request_boundary() && !*stopping.borrow();
        let terms = || Terms { to_head, old, keep: keep(), websocket };
        let moved = self.download.poll(cx, &mut request.client, &mut self.wire, self.flow, terms);
        match ready!(moved) {
            Ok(()) => Poll::Ready(End::Whole),
            Err(download::Halt::Client) => match self.unheard() {
                Some(end) => Poll::Ready(end),
                // Once deaf it does not write, so it does not fail at that again.
                None => self.advance(cx),
            },
            Err(download::Halt::Silence) if self.reused && self.request.may_be_repeated(self.flow) => {
                Poll::Ready(End::DiedIdle)
            }
            Err(download::Halt::Silence | download::Halt::Upstream) => Poll::Ready(self.broke(false)),
        }
    }

    /// The earliest deadline of all that is waited for.
    fn deadline(&mut self) -> (Instant, Late) {
        let (now, patience, upload) = (Instant::now(), self.patience, &self.request.upload);
        let upstream_is_awaited = self.download.waits_for_upstream || upload.is_stuck();
        let moved = (upload.put + self.download.got, upload.taken);
        if self.upstream_at.1 != moved.0 || !upstream_is_awaited {
            self.upstream_at = (now, moved.0);
        }
        if self.client_at.1 != moved.1 || !upload.waits_for_client {
            self.client_at = (now, moved.1);
        }
        let mut next = (patience.until, Late::All);
        let mut sooner = |at: Instant, late| {
            if at < next.0 {
                next = (at, late);
            }
        };
        let begun = self.download.status.is_some();
        if !begun && upload.is_done() {
            let whole_at = *self.whole_at.get_or_insert(now);
            sooner(whole_at + patience.read * HEAD_PATIENCE, Late::All);
        }
        if upload.is_stuck() && !begun {
            sooner(self.upstream_at.0 + patience.write, Late::Upstream);
        }
        if self.download.waits_for_upstream {
            sooner(self.upstream_at.0 + patience.read, Late::Upstream);
        } else if let Some(deadline) = self.conn.reader_deadline() {
            sooner(Instant::from_std(deadline), Late::Reader);
        }
        if upload.waits_for_client && !begun {
            sooner(self.client_at.0 + patience.client, Late::Sender);
        }
        next
    }

    /// Somebody has had their time. `None`: it goes on without them.
    fn give_up(&mut self, late: Late) -> Option<End> {
        let begun = self.download.status.is_some();
        match late {
            Late::All if begun => Some(End::Cut { by_client: false }),
            Late::All if self.request.upload.is_done() => Some(self.broke(true)),
            Late::All => Some(End::Fault(Fault::TimedOut)),
            Late::Upstream => Some(self.broke(true)),
            Late::Sender => Some(End::Fault(Fault::TooSlow)),
            Late::Reader => self.unheard(),
        }
    }

    fn broke(&mut self, timed_out: bool) -> End {
        attempt::failed(self.flow, timed_out);
        match self.download.status {
            Some(_) => End::Cut { by_client: false },
            None => End::Fault(if timed_out { Fault::TimedOut } else { Fault::Broken }),
        }
    }

    /// The client does not hear its answer. `None`: a request that may change something is seen to its end all the same,
    /// so that an upstream is not cut off in the middle of a payment.
    fn unheard(&mut self) -> Option<End> {
        if !self.request.safe && self.request.upload.is_done() {
            self.download.turn_deaf();
            return None;
        }
        let begun = self.download.status.is_some();
        Some(if begun { End::Cut { by_client: true } } else { End::Fault(Fault::Gone) })
    }
}
