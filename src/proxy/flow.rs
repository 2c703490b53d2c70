//! One request on its way through the gateway, from the head's last byte to its line in the log.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use tidegate_filters::engine::{ChannelId, ChannelSet, Decision, Known, Nanos, Outcome, Permit, Reply, RequestContext};
use tidegate_filters::respond_async::Turn;

use super::capture::Capture;
use super::id::RequestId;
use super::shield::Client;
use crate::door::conn::{Conn, Cut};
use crate::gateway::Gateway;
use crate::snapshot::{Channel, Route, Snapshot};
use crate::telemetry::{AccessRecord, Place};

/// How a request came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// When its head was complete.
    pub at: Nanos,
    /// Number of the listener.
    pub listener: usize,
    /// `h1` or `h2`.
    pub protocol: &'static str,
    /// The connection's other end.
    pub peer: IpAddr,
    /// Whether the connection is encrypted.
    pub secure: bool,
}

/// A request's state on the gateway's side. Dropped with the request; the drop writes the log line if nobody did.
pub struct Flow {
    pub(crate) gateway: Arc<Gateway>,
    /// The configuration this request lives under.
    pub(crate) snapshot: Arc<Snapshot>,
    /// Its route; `None` when nothing matched.
    pub(crate) route: Option<Arc<Route>>,
    /// What its filters carry.
    pub(crate) cx: RequestContext,
    pub(crate) arrival: Arrival,
    /// A decision of the door's that the proxy has to carry out.
    pub(crate) pending: Mutex<Option<Decision>>,
    /// Method and target as sent, once the request left the door.
    pub(crate) method: Method,
    pub(crate) target: String,
    /// Whether the head was rewritten at the door already.
    pub(crate) rewritten: bool,
    /// Seconds the client's connection may idle behind this request; `None`: it closes. HTTP/1 only.
    pub(crate) keep_alive: Option<u64>,
    pub(crate) person: bool,
    pub(crate) websocket: bool,
    pub(crate) conn: Option<Conn>,
    /// The channel the request itself asked for.
    pub(crate) pinned: Option<ChannelId>,
    pub(crate) attempts: u8,
    pub(crate) candidates: ChannelSet,
    /// When the running try began.
    pub(crate) tried_at: Nanos,
    /// The endpoint in use, by its place in the channel.
    pub(crate) endpoint: usize,
    /// Endpoints of the current channel that refused a connection, as bits.
    pub(crate) refused: u64,
    /// Counts this request as one on its channel.
    pub(crate) in_use: Option<Permit>,
    /// Whether the method is safe: asking twice does nothing twice.
    pub(crate) safe: bool,
    pub(crate) reply: Option<Box<Reply>>,
    pub(crate) known: Option<Known>,
    pub(crate) code: Option<&'static str>,
    pub(crate) decision: &'static str,
    pub(crate) waited: Duration,
    pub(crate) body_seen: u64,
    /// Our number of the payment that this request makes.
    pub(crate) payment: Option<Arc<str>>,
    /// Number of the payment that this callback tells of.
    pub(crate) told_of: Option<String>,
    /// Its turn, if it was deferred and is being sent: which channels may be asked now.
    pub(crate) turn: Option<Turn>,
    /// The answer, where a filter wants to see it whole.
    pub(crate) capture: Option<Box<Capture>>,
    /// The client, if its leaving does not end the exchange.
    pub(crate) client: Option<Arc<Client>>,
    started: bool,
    finished: bool,
}

impl Flow {
    /// A request that has just arrived.
    // Written where its caller wants it, which is in a box: it is large to copy.
    #[inline(always)]
    pub(crate) fn new(gateway: &Arc<Gateway>, snapshot: Arc<Snapshot>, arrival: Arrival, client: IpAddr) -> Self {
        let wall = gateway.shared.clock.unix(arrival.at);
        let id = RequestId::new(wall);
        let mut cx = RequestContext::new(arrival.at, client);
        (cx.wall, cx.request_id) = (wall, id.digits());
        Self {
            gateway: gateway.clone(),
            snapshot,
            route: None,
            cx,
            arrival,
            pending: Mutex::new(None),
            method: Method::GET,
            target: String::new(),
            rewritten: false,
            keep_alive: None,
            person: false,
            websocket: false,
            conn: None,
            pinned: None,
            attempts: 0,
            candidates: ChannelSet(0),
            tried_at: arrival.at,
            endpoint: 0,
            refused: 0,
            in_use: None,
            safe: false,
            reply: None,
            known: None,
            code: None,
            decision: "proxied",
            waited: Duration::ZERO,
            body_seen: 0,
            payment: None,
            told_of: None,
            turn: None,
            capture: None,
            client: None,
            started: false,
            finished: false,
        }
    }

    /// No connection: nothing was sent, unless an earlier try got further. What may have happened once stays so, and who
    /// refused to act has seen it.
    pub(crate) fn not_sent(&mut self) {
        if !matches!(self.known, Some(Known::Unknown | Known::NotProcessed)) {
            self.known = Some(Known::NotSent);
        }
    }

    /// Its name.
    pub(crate) fn id(&self) -> RequestId {
        RequestId::of(self.cx.request_id)
    }

    /// Reads the clock for the next stage.
    pub(crate) fn tick(&mut self) -> Nanos {
        self.cx.now = self.gateway.shared.clock.now();
        self.cx.wall = self.gateway.shared.clock.unix(self.cx.now);
        self.cx.now
    }

    /// The route was found: it counts as in flight from here on.
    pub(crate) fn enter(&mut self, route: Arc<Route>) {
        route.metrics.started();
        self.cx.priority = route.priority;
        self.cx.upstream = route.upstream.facts.id;
        self.candidates = ChannelSet::all(route.upstream.channels.len());
        self.route = Some(route);
        self.started = true;
    }

    /// The channel in use.
    pub(crate) fn channel(&self) -> Option<&Channel> {
        let ChannelId(at) = self.cx.channel?;
        self.route.as_ref()?.upstream.channels.get(usize::from(at))
    }

    /// The request's state for a task that may outlive it: all that its filters hold and remember goes along, and this
    /// keeps who asks. The lent one writes no line of its own.
    pub(crate) fn lend(&mut self) -> Box<Self> {
        let mut lent = Self::new(&self.gateway, self.snapshot.clone(), self.arrival, self.cx.client);
        let bare = self.cx.without_memory();
        lent.cx = std::mem::replace(&mut self.cx, bare);
        lent.route.clone_from(&self.route);
        lent.pinned = self.pinned;
        (lent.attempts, lent.candidates, lent.known) = (self.attempts, self.candidates, self.known);
        lent.finished = true;
        Box::new(lent)
    }

    /// The task is over and gives back what it was lent.
    pub(crate) fn take_back(&mut self, lent: Box<Self>) {
        let mut lent = lent;
        self.cx = std::mem::replace(&mut lent.cx, RequestContext::new(self.arrival.at, self.arrival.peer));
        (self.attempts, self.candidates, self.known) = (lent.attempts, lent.candidates, lent.known);
    }

    /// Notes that the gateway answers itself.
    pub(crate) fn answers(&mut self, reply: &Reply, decision: &'static str) {
        self.code = reply.code();
        self.decision = decision;
    }

    /// Step eight: filters count, the log gets its line, permits come back. Only the first call does anything.
    pub(crate) fn finish(&mut self, named: (&str, &str), status: u16, sent: u64, client_gone: bool) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let now = self.tick();
        let took = now.since(self.arrival.at);
        if let Some(route) = &self.route {
            let answered = http::StatusCode::from_u16(status).ok();
            let outcome = Outcome { status: answered, client_gone, took, known: self.known };
            route.chain.on_finish(&outcome, &mut self.cx);
            if self.started {
                route.metrics.finished(named.0, status, took);
            }
        }
        self.log(named, status, sent, took);
        self.cx.release_all();
        self.in_use = None;
    }

    /// As [`Flow::finish`], for a flow that knows its own method and target.
    pub(crate) fn end(&mut self, status: u16, sent: u64, client_gone: bool) {
        let (method, target) = (std::mem::take(&mut self.method), std::mem::take(&mut self.target));
        self.finish((method.as_str(), &target), status, sent, client_gone);
    }

    fn log(&self, (method, target): (&str, &str), status: u16, sent: u64, took: Duration) {
        let listeners = &self.snapshot.config.server.listeners;
        let decider = self.cx.decider.as_ref().map(|decider| (&*decider.filter, decider.part.as_deref()));
        let user = self.snapshot.identities.user_id().and_then(|id| self.cx.identity(id)?.text.as_deref());
        self.gateway.shared.telemetry.access().line(&AccessRecord {
            time_unix: self.cx.wall,
            request_id: &self.cx.request_id,
            route: match &self.route {
                Some(route) => Place::Known(&route.log_words),
                None => Place::NoRoute(listeners.get(self.arrival.listener).map_or("", |listener| &listener.name)),
            },
            method,
            target,
            status,
            decision: self.decision,
            decider,
            code: self.code,
            client: self.cx.client,
            user,
            channel: self.channel().map(|channel| &*channel.name),
            payment: self.payment.as_deref(),
            attempts: self.attempts,
            outcome: self.known.map(Known::as_str),
            duration: took,
            wait: self.waited,
            bytes_sent: sent,
            generation: self.snapshot.generation,
            protocol: self.arrival.protocol,
            notes: self.cx.notes(),
        });
    }
}

impl Drop for Flow {
    /// A request whose task was cut off (a deadline, a reset stream, a panic) still leaves its line.
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let sent = self.conn.as_ref().map_or(0, Conn::written);
        let cut = self.conn.as_ref().map_or(Cut::TooLong, Conn::cut);
        self.decision = "cut";
        let status = match cut {
            Cut::NoAnswer => {
                self.code = Some("gateway-timeout");
                self.not_sent();
                504
            }
            // nginx's figure for a client that got no proper end.
            Cut::No | Cut::TooLong => 499,
        };
        self.end(status, sent, cut == Cut::No);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_small_enough_for_a_cheap_allocation() {
        // The allocator's short way ends there, and what is larger is copied longer, too.
        assert!(size_of::<Flow>() <= 1024, "{}", size_of::<Flow>());
    }
}
