//! The thread that sends what is due.
//!
//! One task for each book. It sleeps until the book says that something is due or something comes, so a pace of 5,000 a
//! second is some hundred wake-ups that take several each, and an empty book costs nothing.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use parking_lot::Mutex;
use tidegate_filters::channels::PaymentFacts;
use tidegate_filters::respond_async::core::{Entry, Leave, State, Verdict};
use tidegate_filters::respond_async::{Deferred, Letter, Turn};
use tidegate_filters::store::Stored;

use super::{keep, pay, send};
use crate::gateway::Gateway;
use crate::payments::wire::{LARGEST_ANSWER, Request, Wire};
use crate::proxy::flow::{Arrival, Flow};
use crate::proxy::id::RequestId;
use crate::snapshot::{Route, Snapshot};

/// Tells an upstream that a request was deferred, and its name.
const DEFERRED: HeaderName = HeaderName::from_static("tidegate-deferred");
/// How often new books are looked for and idle connections closed.
const LOOK: Duration = Duration::from_millis(200);
/// The longest sleep of a book's task.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// Pause where nothing can be sent: no route, no disk.
pub(super) const HOLD: Duration = Duration::from_secs(1);

/// What came of one try.
pub(super) struct Ending {
    pub(super) verdict: Verdict,
    /// The answer, of one that was answered.
    pub(super) answer: Option<Stored>,
    /// For people.
    pub(super) why: String,
    /// Status for the access log.
    pub(super) status: u16,
}

impl Ending {
    pub(super) fn of(verdict: Verdict, why: impl Into<String>) -> Self {
        Self { verdict, answer: None, why: why.into(), status: StatusCode::BAD_GATEWAY.as_u16() }
    }

    pub(super) fn postponed(wait: Duration, why: impl Into<String>) -> Self {
        Self { status: 503, ..Self::of(Verdict::Postponed { wait, all: false }, why) }
    }

    /// Nothing can be sent to that upstream now.
    pub(super) fn stopped(why: impl Into<String>) -> Self {
        Self { status: 503, ..Self::of(Verdict::Postponed { wait: HOLD, all: true }, why) }
    }
}

/// Sends deferred requests; does nothing until it is attached.
#[derive(Default)]
pub struct Worker {
    running: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
    started: Mutex<bool>,
}

/// What the tasks share.
struct Post {
    gateway: Weak<Gateway>,
    wire: Wire,
    running: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
}

/// One more try is under way until this is dropped.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(post: &Post) -> Self {
        post.running.fetch_add(1, SeqCst);
        Self(post.running.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Worker {
    /// Starts sending, for as long as `gateway` lives.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn attach(&self, gateway: &Arc<Gateway>) -> std::io::Result<()> {
        let mut started = self.started.lock();
        if std::mem::replace(&mut *started, true) {
            return Ok(());
        }
        let post = Arc::new(Post {
            gateway: Arc::downgrade(gateway),
            wire: Wire::default(),
            running: self.running.clone(),
            stopping: self.stopping.clone(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("deferred".into()).spawn(move || runtime.block_on(serve(post)))?;
        Ok(())
    }

    /// No further try begins.
    pub fn stop(&self) {
        self.stopping.store(true, SeqCst);
    }

    /// Tries under way; a stopping gateway waits for them.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.load(SeqCst)
    }
}

/// Starts a task for each book there is.
async fn serve(post: Arc<Post>) {
    let mut known: Vec<Weak<Deferred>> = Vec::new();
    loop {
        {
            let Some(gateway) = post.gateway.upgrade() else { return };
            known.retain(|book| book.strong_count() > 0);
            for (_, deferred) in gateway.shared.states.all::<Deferred>() {
                let weak = Arc::downgrade(&deferred);
                if !known.iter().any(|other| other.ptr_eq(&weak)) {
                    tokio::spawn(drain(post.clone(), weak.clone()));
                    known.push(weak);
                }
            }
        }
        post.wire.sweep();
        tokio::time::sleep(LOOK).await;
    }
}

/// Works one book off, until it is gone.
async fn drain(post: Arc<Post>, deferred: Weak<Deferred>) {
    let mut known = None;
    loop {
        let (Some(gateway), Some(book)) = (post.gateway.upgrade(), deferred.upgrade()) else { return };
        if post.stopping.load(SeqCst) {
            return;
        }
        let snapshot = gateway.snapshot();
        let newest = Some((snapshot.generation, book.lanes()));
        if std::mem::replace(&mut known, newest) != newest {
            book.set_channels(|upstream| channels(&snapshot, upstream));
        }
        drop(snapshot);
        let now = unix(&gateway);
        let due = book.due(now);
        for entry in due.expired {
            let book = book.clone();
            tokio::spawn(async move {
                if let Err(error) = book.settle(entry, None, "its time was over", now).await {
                    tracing::error!(target: "tidegate::deferred", %error, "an end could not be written down");
                }
            });
        }
        for entry in due.look {
            tokio::spawn(pay::look(gateway.clone(), book.clone(), entry));
        }
        if !due.send.is_empty() {
            tokio::spawn(batch(post.clone(), book.clone(), due.send, Running::new(&post)));
        }
        let sleep = due.wake.map_or(LONGEST_SLEEP, |wake| wake.saturating_sub(unix(&gateway))).min(LONGEST_SLEEP);
        let wake = book.wake();
        // Who sleeps holds nothing: a book that owes nothing is dropped when nobody has it.
        drop((gateway, book));
        tokio::select! {
            () = wake.notified() => (),
            () = tokio::time::sleep(sleep) => (),
        }
    }
}

/// The channels of an upstream that take new requests; none when the file has no such upstream.
fn channels(snapshot: &Snapshot, upstream: &str) -> Vec<Arc<str>> {
    let found = snapshot.upstreams.iter().find(|known| *known.name == *upstream);
    let channels = found.map_or(&[][..], |upstream| &upstream.facts.channels);
    channels
        .iter()
        .filter(|channel| channel.enabled && channel.weight > 0)
        .map(|channel| channel.name.clone())
        .collect()
}

pub(super) fn unix(gateway: &Gateway) -> Duration {
    gateway.shared.clock.unix(gateway.shared.clock.now())
}

/// Writes down that these are being sent, then sends each.
async fn batch(post: Arc<Post>, deferred: Arc<Deferred>, entries: Vec<Entry>, _running: Running) {
    let mut letters = match deferred.running(&entries).await {
        Ok(letters) => letters,
        Err(error) => {
            tracing::error!(target: "tidegate::deferred", filter = &*deferred.name, %error, "nothing can be sent");
            for entry in entries {
                let ending = Ending::stopped("it could not be written down that it is sent");
                tokio::spawn(finish(post.clone(), deferred.clone(), entry, ending));
            }
            return;
        }
    };
    let Some(gateway) = post.gateway.upgrade() else { return };
    let now = unix(&gateway);
    let leave_at = deferred.leave_at(&entries, now);
    drop(gateway);
    let began = tokio::time::Instant::now();
    for (entry, at) in entries.into_iter().zip(leave_at) {
        let Some(at) = at else {
            let (post, deferred, running) = (post.clone(), deferred.clone(), Running::new(&post));
            tokio::spawn(async move {
                finish(post, deferred, entry, slower()).await;
                drop(running);
            });
            continue;
        };
        let at = began + at.saturating_sub(now);
        let letter = letters.iter().position(|(seq, _)| *seq == entry.seq).map(|at| letters.swap_remove(at).1);
        tokio::spawn(one(post.clone(), deferred.clone(), (entry, letter, at), Running::new(&post)));
    }
}

/// Of one that was called at a pace that is slower since.
fn slower() -> Ending {
    Ending::postponed(Duration::ZERO, "the pace has become slower")
}

/// One try, at its moment.
async fn one(
    post: Arc<Post>,
    deferred: Arc<Deferred>,
    (entry, letter, mut at): (Entry, Option<Letter>, tokio::time::Instant),
    running: Running,
) {
    loop {
        tokio::time::sleep_until(at).await;
        let Some(gateway) = post.gateway.upgrade() else { return };
        let now = unix(&gateway);
        match deferred.leave(entry.seq, now) {
            Leave::Now => break,
            Leave::At(later) => at = tokio::time::Instant::now() + later.saturating_sub(now),
            Leave::Back => return finish(post, deferred, entry, slower()).await,
        }
    }
    let ending = match letter {
        Some(letter) => carry_out(&post, &deferred, &entry, letter).await,
        // Its key is gone: nothing that could be sent, and nothing that was.
        None => {
            let title = r#"{"code":"deferred-unreadable","title":"The request could not be read again"}"#;
            let answer = tidegate_filters::respond_async::resolved(StatusCode::INTERNAL_SERVER_ERROR, title.to_owned());
            Ending { answer: Some(answer), ..Ending::of(Verdict::Answered, "its body cannot be read") }
        }
    };
    finish(post, deferred, entry, ending).await;
    drop(running);
}

async fn finish(post: Arc<Post>, deferred: Arc<Deferred>, entry: Entry, ending: Ending) {
    let Some(gateway) = post.gateway.upgrade() else { return };
    let clock = gateway.shared.clock;
    let Ending { verdict, answer, why, .. } = ending;
    let told = why.clone();
    let state = deferred.ended(entry.seq, verdict, (answer, why), move || clock.unix(clock.now())).await;
    let (filter, id, why) = (&*deferred.name, entry.id, told);
    match state {
        Some(State::Parked) => tracing::error!(target: "tidegate::deferred", filter, %id, why,
            "PARKED: every try is used up, a person must decide"),
        Some(State::Unknown) => tracing::error!(target: "tidegate::deferred", filter, %id, why,
            "UNKNOWN: it may have been carried out"),
        Some(State::DeadLetter) => tracing::warn!(target: "tidegate::deferred", filter, %id, why, "a dead letter"),
        _ => (),
    }
}

async fn carry_out(post: &Post, deferred: &Arc<Deferred>, entry: &Entry, letter: Letter) -> Ending {
    let Some(gateway) = post.gateway.upgrade() else { return Ending::stopped("the gateway is stopping") };
    let snapshot = gateway.snapshot();
    let Some(at) = snapshot.routes.iter().position(|route| *route.name == *letter.route) else {
        return Ending::postponed(HOLD, format!("no route is named `{}`", letter.route));
    };
    let route = snapshot.routes[at].clone();
    let pinned = letter.channel.as_deref().map(|name| (name, route.upstream.channel_named(name)));
    if let Some((name, None)) = pinned {
        return Ending::postponed(HOLD, format!("no channel is named `{name}`"));
    }
    let listener = &snapshot.config.routes[at].listener;
    let listener = snapshot.config.server.listeners.iter().position(|known| known.name == *listener).unwrap_or(0);
    let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let at = gateway.shared.clock.now();
    let arrival = Arrival { at, listener, protocol: "deferred", peer: nobody, secure: false };
    let mut flow = Box::new(Flow::new(&gateway, snapshot.clone(), arrival, nobody));
    if let Some(id) = letter.headers.get("x-request-id").and_then(|id| RequestId::parse(id.as_bytes())) {
        flow.cx.request_id = id.digits();
    }
    flow.pinned = pinned.and_then(|(_, id)| id);
    flow.turn = Some(Turn::new(deferred.clone(), entry.seq));
    flow.enter(route.clone());
    route.chain.recollect(&letter.afterwards.kept, &mut flow.cx);
    flow.cx.payment = PaymentFacts { kind: letter.kind.as_deref().map(Into::into), amount: letter.amount };
    let (method, target) = (letter.method.as_str().to_owned(), letter.target.clone());
    let request = Request { method: letter.method, target: letter.target, headers: letter.headers, body: letter.body };
    let most = deferred.terms().map_or(LARGEST_ANSWER, |terms| terms.max_answer);
    let Ok(id) = HeaderValue::try_from(entry.id.to_string()) else { return Ending::postponed(HOLD, "no name") };
    let (mut flow, mut ending) = try_it(post, &gateway, flow, &route, (request, id, most)).await;
    ending.answer = ending.answer.map(|answer| keep::edited(answer, &letter.afterwards));
    flow.decision = "deferred";
    flow.finish((&method, &target), ending.status, 0, false);
    ending
}

async fn try_it(
    post: &Post,
    gateway: &Arc<Gateway>,
    mut flow: Box<Flow>,
    route: &Arc<Route>,
    (request, id, most): (Request, HeaderValue, usize),
) -> (Box<Flow>, Ending) {
    if let Some(plan) = &route.upstream.plan {
        return pay::pay(gateway, flow, plan.clone(), request).await;
    }
    // Whose client is not there for the answer: an upstream may tell it in another way.
    let mut request = request;
    request.headers.insert(DEFERRED, id);
    let ending = send::send(&post.wire, &mut flow, route, &request, most).await;
    (flow, ending)
}
