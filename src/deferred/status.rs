//! `/.tidegate/async/{id}`: where a deferred request stands, for who has sent it.
//!
//! | Request | Answer |
//! | --- | --- |
//! | `GET …/{id}` | 200 and the state; with `Prefer: wait=n` when it is over, or differs from `If-None-Match` |
//! | `GET …/{id}` as `text/event-stream`, `GET …/{id}/events` | its changes as they come, from `Last-Event-ID` on |
//! | `GET …/{id}/result` | the upstream's answer; 409 before there is one, 410 when there will be none |
//! | `DELETE …/{id}` | 200 when it is withdrawn, 409 when it is too late |
//!
//! Another's request does not exist: 404, as for a name that nobody has. Who asks more often than the file allows gets 429
//! with the time to wait, whatever it asks for, so who tries names out is slow and learns nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use smallvec::SmallVec;
use tidegate_filters::engine::{
    Acquired, Decision, IdentityId, Nanos, Reply, ReplyBody, RequestHead, Resume, Verdict, Wait,
};
use tidegate_filters::respond_async::core::{Entry, Id, State};
use tidegate_filters::respond_async::{Deferred, Prefer, Terms, View, orphans, reply};
use tidegate_filters::store::StoreError;
use tokio::time::Instant;

use super::events::Events;
use crate::config::Config;
use crate::gateway::{Clock, Shared};
use crate::proxy::flow::Flow;
use crate::snapshot::BuiltFilter;

/// Longest time for a look into the file.
const LONGEST_LOOK: Duration = Duration::from_secs(5);
/// A wait ends so much before the request would.
const MARGIN: Duration = Duration::from_secs(2);

/// The books whose requests can be asked for.
#[derive(Default)]
pub(crate) struct AsyncPaths {
    /// By listener.
    books: Box<[(usize, Arc<Deferred>)]>,
    /// Those that the configuration does not have, at every listener.
    orphans: Box<[Weak<Deferred>]>,
}

/// A book, its terms, and by which identity its owners are known here.
type Owing = (Arc<Deferred>, Arc<Terms>, IdentityId);

impl AsyncPaths {
    /// Of a configuration: a request is asked for where it may have been sent. May block on files.
    pub(crate) fn new(config: &Config, filters: &[BuiltFilter], shared: &Shared) -> Self {
        let mut paths: Vec<(usize, Arc<Deferred>)> = Vec::new();
        let book = |acquired: &Acquired| shared.states.find::<Deferred>(&acquired.key);
        for route in &config.routes {
            let listener = config.server.listeners.iter().position(|listener| listener.name == route.listener);
            let listed = filters.iter().filter(|filter| route.filters.contains(&filter.name));
            for deferred in listed.flat_map(|filter| filter.acquired.iter().filter_map(book)) {
                if let Some(at) = listener
                    && !paths.iter().any(|(known, other)| *known == at && Arc::ptr_eq(other, &deferred))
                {
                    paths.push((at, deferred));
                }
            }
        }
        let used = filters.iter().flat_map(|filter| filter.acquired.iter().map(|acquired| acquired.key.clone()));
        let orphans = orphans(&shared.states, &used.collect()).iter().map(Arc::downgrade).collect();
        Self { books: paths.into(), orphans }
    }

    /// Tells the books that the configuration does not have, once it is the running one.
    pub(crate) fn activate(&self) {
        for book in self.orphans.iter().filter_map(Weak::upgrade) {
            book.orphan();
            let (filter, owed) = (&*book.name, book.owed());
            if owed > 0 {
                tracing::warn!(target: "tidegate::deferred", filter, owed,
                    "the configuration does not have this filter; what it has promised is carried out as it was set");
            }
        }
    }

    /// Those that a request at this listener may ask.
    fn at(&self, listener: usize, identities: &BTreeMap<String, IdentityId>) -> Vec<Owing> {
        let own = self.books.iter().filter(|(at, _)| *at == listener);
        let own = own.filter_map(|(_, book)| book.terms().map(|terms| (book.clone(), terms.clone(), terms.scope)));
        let orphans = self.orphans.iter().filter_map(Weak::upgrade).filter_map(|book| {
            let terms = book.terms()?;
            // Numbers of identities are those of a configuration.
            let scope = *identities.get(&*terms.scope_name)?;
            Some((book, terms, scope))
        });
        own.chain(orphans).collect()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    State,
    Events,
    Result,
    Cancel,
}

/// What is asked for.
struct Asked {
    id: Id,
    wish: Wish,
    /// How long the client waits for news.
    wait: Option<Duration>,
    /// The version it knows.
    known: Option<u32>,
    clock: Clock,
    longest: Duration,
}

/// The answer to a request for a deferred one; `None` for any other request.
pub(crate) fn decide(flow: &mut Flow, head: &RequestHead<'_>) -> Option<Decision> {
    let rest = head.path.strip_prefix(reply::PREFIX)?;
    let snapshot = flow.snapshot.clone();
    let books = snapshot.deferred.at(flow.arrival.listener, snapshot.identities.ids());
    if books.is_empty() {
        return None;
    }
    let asked = match asked(flow, head, rest) {
        Ok(asked) => asked,
        Err(reply) => return Some(Decision::Respond(reply)),
    };
    let needs = books.iter().fold(0, |needs, (.., scope)| needs | 1 << scope.0);
    let unix = flow.gateway.shared.clock.unix(flow.arrival.at);
    snapshot.identities.resolve(needs, flow.arrival.peer, head, unix, &mut flow.cx);
    let most = books.iter().map(|(_, terms, _)| terms.max_wait).max().unwrap_or_default();
    let wait = asked.wait.map(|wait| wait.min(most).min(asked.longest));
    let asked = Asked { wait, ..asked };
    let owned: Vec<_> = books.into_iter().map(|(book, terms, scope)| (book, terms.owner(scope, &flow.cx))).collect();
    if let Some(wait) = too_often(&owned, flow.arrival.at) {
        return Some(Decision::Respond(Box::new(reply::asked_too_often(wait))));
    }
    let max = LONGEST_LOOK + wait.unwrap_or_default();
    let until = Box::pin(async move {
        let reply = answer(&owned, asked).await.unwrap_or_else(|_| reply::store_unavailable());
        Resume { verdict: Verdict::Respond(Box::new(reply)), permit: None }
    });
    let late = Box::new(reply::store_unavailable());
    Some(Decision::Wait(Box::new(Wait { reason: "deferred", max, late, until, shadow: false })))
}

/// How long a client has to wait that has asked too often; every book counts for itself, and one that allows it is enough.
fn too_often(books: &[(Arc<Deferred>, u128)], now: Nanos) -> Option<Duration> {
    let mut shortest: Option<Duration> = None;
    let mut allowed = books.is_empty();
    for (book, owner) in books {
        match book.may_ask(*owner, now) {
            Ok(()) => allowed = true,
            Err(wait) => shortest = Some(shortest.map_or(wait, |shortest| shortest.min(wait))),
        }
    }
    shortest.filter(|_| !allowed)
}

fn asked(flow: &Flow, head: &RequestHead<'_>, rest: &str) -> Result<Asked, Box<Reply>> {
    let (id, what) = rest.split_once('/').unwrap_or((rest, ""));
    let id: Id = id.parse().map_err(|()| Box::new(reply::unknown()))?;
    let reads = matches!(head.method, "GET" | "HEAD");
    let wish = match what {
        "" if head.method == "DELETE" => Wish::Cancel,
        "" if reads && wants_events(head) => Wish::Events,
        "" if reads => Wish::State,
        "events" if head.method == "GET" => Wish::Events,
        "result" if reads => Wish::Result,
        "" | "events" | "result" => {
            return Err(Box::new(not_allowed(if what.is_empty() { "GET, HEAD, DELETE" } else { "GET" })));
        }
        _ => return Err(Box::new(reply::unknown())),
    };
    let known = if wish == Wish::Events { head.header_str("last-event-id") } else { head.header_str("if-none-match") };
    let known = known.and_then(|tag| tag.trim().trim_matches('"').parse().ok());
    let total = flow.snapshot.config.server.limits.request_timeout;
    let longest = total.saturating_sub(MARGIN);
    Ok(Asked { id, wish, wait: Prefer::of(head).wait, known, clock: flow.gateway.shared.clock, longest })
}

fn wants_events(head: &RequestHead<'_>) -> bool {
    head.header_str("accept").is_some_and(|accept| accept.contains("text/event-stream"))
}

fn not_allowed(allowed: &'static str) -> Reply {
    let title = "This path does not take that method";
    let reply = Reply::problem(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", title);
    reply.header(header::ALLOW, HeaderValue::from_static(allowed))
}

async fn answer(books: &[(Arc<Deferred>, u128)], asked: Asked) -> Result<Reply, StoreError> {
    for (book, owner) in books {
        // News first, then the look: nothing is missed in between.
        let news = book.subscribe(asked.id);
        let found = book.view(asked.id, asked.now()).await?;
        if let Some(view) = found.filter(|view| view.entry.owner == *owner) {
            return match asked.wish {
                Wish::Events => Ok(events(book, view, news, &asked)),
                Wish::State => state(book, view, &asked).await,
                Wish::Result => result(book, view, &asked).await,
                Wish::Cancel => cancel(book, view, &asked).await,
            };
        }
    }
    Ok(reply::unknown())
}

impl Asked {
    fn now(&self) -> Duration {
        self.clock.unix(self.clock.now())
    }

    /// Waits for what the client waits for.
    async fn wait(
        &self,
        book: &Deferred,
        view: View,
        until: impl Fn(&Entry) -> bool + Send,
    ) -> Result<View, StoreError> {
        let Some(patience) = self.wait.filter(|_| !until(&view.entry)) else { return Ok(view) };
        Ok(book.wait(self.id, until, patience, || self.now()).await?.unwrap_or(view))
    }
}

async fn state(book: &Deferred, view: View, asked: &Asked) -> Result<Reply, StoreError> {
    let view = match asked.known {
        Some(known) => asked.wait(book, view, |entry| entry.version != known).await?,
        None => asked.wait(book, view, |entry| entry.state.is_over()).await?,
    };
    let tag = HeaderValue::try_from(format!("\"{}\"", view.entry.version));
    let mut reply = if asked.known == Some(view.entry.version) {
        let body = ReplyBody::Whole(bytes::Bytes::new());
        Reply { status: StatusCode::NOT_MODIFIED, retry_after: None, headers: SmallVec::new(), body }
    } else {
        reply::standing(&view)
    };
    if let Ok(tag) = tag {
        reply = reply.header(header::ETAG, tag);
    }
    Ok(applied(reply, asked))
}

async fn result(book: &Deferred, view: View, asked: &Asked) -> Result<Reply, StoreError> {
    let view = asked.wait(book, view, |entry| entry.state.is_over()).await?;
    let stored = if view.entry.state == State::Done { book.answer(asked.id).await? } else { None };
    let reply = stored.map_or_else(|| reply::no_answer(&view), |stored| reply::answer(stored, false));
    Ok(applied(reply, asked))
}

fn applied(reply: Reply, asked: &Asked) -> Reply {
    match Prefer::applied(false, asked.wait) {
        Some(value) => reply.header(reply::APPLIED, value),
        None => reply,
    }
}

async fn cancel(book: &Arc<Deferred>, view: View, asked: &Asked) -> Result<Reply, StoreError> {
    let withdrawn = view.entry.state == State::Cancelled
        || book.act(asked.id, Entry::cancel, None, "withdrawn by its client".to_owned(), asked.now()).await?;
    if !withdrawn {
        return Ok(reply::too_late());
    }
    let view = book.view(asked.id, asked.now()).await?.unwrap_or(view);
    Ok(reply::standing(&view))
}

fn events(book: &Arc<Deferred>, view: View, news: tokio::sync::watch::Receiver<u32>, asked: &Asked) -> Reply {
    let seen = asked.known.unwrap_or(0);
    let empty = ReplyBody::Whole(bytes::Bytes::new());
    if view.entry.state.is_over() && seen >= view.entry.version {
        // All is told: 204 ends an EventSource for good.
        return Reply { status: StatusCode::NO_CONTENT, retry_after: None, headers: SmallVec::new(), body: empty };
    }
    let (deferred, id, clock) = (book.clone(), asked.id, asked.clock);
    let pieces = Events { deferred, id, news, seen, end: Instant::now() + asked.longest, clock, over: false };
    Reply {
        status: StatusCode::OK,
        retry_after: None,
        headers: smallvec::smallvec![(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))],
        body: ReplyBody::Stream {
            content_type: HeaderValue::from_static("text/event-stream"),
            pieces: Box::new(pieces),
        },
    }
}
