//! Notices to a buyer as they come: server-sent events and WebSocket.
//!
//! What is sent are rows with rising numbers. Who comes back says the last number he saw and gets everything behind it:
//! nothing is lost and nothing comes twice. A stream looks at the rows after it has subscribed to the bell, so what
//! happens in between is seen, too.
//!
//! A browser can set no header on either, so a ticket stands for the token: good once, for a minute, known to this
//! process only.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use moka::future::Cache;
use parking_lot::Mutex;
use rand::RngCore;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::desk::Desk;
use super::events::{self, Notice};
use super::http::User;
use crate::support::{Problem, hex, rfc3339};

/// How long a ticket is good, in seconds.
const TICKET_SECONDS: u64 = 60;

/// Tickets that are not used yet, at most.
const MOST_TICKETS: u64 = 100_000;

/// Streams at once.
const MOST_STREAMS: usize = 10_000;

/// Notices read at once.
const PAGE: u32 = 100;

/// A sign of life, so that nobody in between takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a client may take nothing of what is sent to it.
const STUCK: Duration = Duration::from_secs(30);

/// Pause after notices could not be read.
const PAUSE: Duration = Duration::from_secs(1);

/// A message of a client is never of any use here.
const MAX_MESSAGE: usize = 4 * 1024;

/// Tickets, places, and who listens.
pub(super) struct Streams {
    tickets: Cache<String, String>,
    places: Arc<Semaphore>,
    /// A bell for each user who listens.
    bells: Mutex<HashMap<String, watch::Sender<()>>>,
}

impl Streams {
    pub(super) fn new() -> Self {
        let ttl = Duration::from_secs(TICKET_SECONDS);
        let tickets = Cache::builder().max_capacity(MOST_TICKETS).time_to_live(ttl).build();
        Self { tickets, places: Arc::new(Semaphore::new(MOST_STREAMS)), bells: Mutex::default() }
    }

    /// There is something new for a user.
    pub(super) fn tell(&self, user: &str) {
        if let Some(bell) = self.bells.lock().get(user) {
            bell.send_replace(());
        }
    }

    fn subscribe(&self, user: &str) -> watch::Receiver<()> {
        self.bells.lock().entry(user.to_owned()).or_insert_with(|| watch::Sender::new(())).subscribe()
    }

    /// Somebody is about to listen no more.
    fn leave(&self, user: &str) {
        let mut bells = self.bells.lock();
        if bells.get(user).is_some_and(|bell| bell.receiver_count() <= 1) {
            bells.remove(user);
        }
    }
}

/// Whoever listens: by his token, or by a ticket for it.
pub(super) struct Listener(String);

#[derive(Deserialize)]
struct Ticket {
    ticket: Option<String>,
}

impl FromRequestParts<Arc<Desk>> for Listener {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, desk: &Arc<Desk>) -> Result<Self, Response> {
        let ticket = Query::<Ticket>::try_from_uri(&parts.uri).ok().and_then(|Query(query)| query.ticket);
        let Some(ticket) = ticket else {
            return User::from_request_parts(parts, desk).await.map(|User(user)| Self(user));
        };
        desk.streams.tickets.remove(&ticket).await.map(Self).ok_or_else(|| {
            let detail = "The ticket was used, or is too old: POST /api/events/ticket gives another one.";
            Problem::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", detail).into_response()
        })
    }
}

/// `POST /api/events/ticket`.
pub(super) async fn ticket(State(desk): State<Arc<Desk>>, User(user): User) -> Response {
    let mut bits = [0_u8; 16];
    rand::rng().fill_bytes(&mut bits);
    let ticket = hex(&bits);
    desk.streams.tickets.insert(ticket.clone(), user).await;
    let answer = json!({ "ticket": ticket, "expires_in": TICKET_SECONDS });
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(answer)).into_response()
}

/// Where a stream goes on; without it, it begins with what comes next.
#[derive(Deserialize)]
pub(super) struct From {
    after: Option<i64>,
}

/// The notices of one user, from some number on.
struct Feed {
    desk: Arc<Desk>,
    user: String,
    after: i64,
    bell: watch::Receiver<()>,
    ready: VecDeque<Notice>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.desk.streams.leave(&self.user);
    }
}

impl Feed {
    async fn open(desk: Arc<Desk>, user: String, after: Option<i64>) -> Result<Self, Problem> {
        let place = Arc::clone(&desk.streams.places).try_acquire_owned().map_err(|_| {
            let detail = "Too many streams are open.";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "BUSY", detail).retry_after(5)
        })?;
        let bell = desk.streams.subscribe(&user);
        let mut feed = Self { after: 0, bell, ready: VecDeque::new(), _place: place, desk, user };
        feed.after = match after {
            Some(after) => after,
            None => {
                let user = feed.user.clone();
                let file = feed.desk.files.of_user(&user);
                file.read(move |connection| Ok(events::last_notice(connection, &user)?)).await?
            }
        };
        Ok(feed)
    }

    /// The next notice; absent when the service stops. Nothing is lost when this is dropped half-way.
    async fn next(&mut self) -> Option<Notice> {
        loop {
            if let Some(notice) = self.ready.pop_front() {
                self.after = notice.seq;
                return Some(notice);
            }
            // What comes from here on rings; what came before is read.
            self.bell.borrow_and_update();
            let (user, after) = (self.user.clone(), self.after);
            let file = self.desk.files.of_user(&user);
            let page = file.read(move |connection| Ok(events::notices(connection, &user, after, PAGE)?)).await;
            let pause = match page {
                Ok(page) if page.is_empty() => None,
                Ok(page) => {
                    self.ready.extend(page);
                    continue;
                }
                Err(_) => Some(PAUSE),
            };
            tokio::select! {
                () = self.desk.stop.requested() => return None,
                _ = self.bell.changed(), if pause.is_none() => {}
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
    }
}

/// `GET /api/events`: server-sent events named `order`.
pub(super) async fn events(
    State(desk): State<Arc<Desk>>,
    Listener(user): Listener,
    Query(from): Query<From>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let feed = Feed::open(desk, user, last.or(from.after)).await?;
    // Something at once, so that everybody on the way passes the head on.
    let hello = stream::once(async { Ok::<_, Infallible>(Event::default().comment("listening")) });
    let notices = stream::unfold(feed, async |mut feed| {
        let notice = feed.next().await?;
        let data = json!({ "order_no": notice.order_no, "status": notice.status, "at": rfc3339(notice.at_ms) });
        let event = Event::default().id(notice.seq.to_string()).event("order").data(data.to_string());
        Some((Ok::<_, Infallible>(event), feed))
    });
    let events = Sse::new(futures_util::StreamExt::chain(hello, notices));
    let events = events.keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(([(header::CACHE_CONTROL, "no-store"), (header::HeaderName::from_static("x-accel-buffering"), "no")], events)
        .into_response())
}

/// `GET /api/ws`: the same as text messages over WebSocket.
pub(super) async fn websocket(
    State(desk): State<Arc<Desk>>,
    Listener(user): Listener,
    Query(from): Query<From>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Problem> {
    let feed = Feed::open(desk, user, from.after).await?;
    let upgrade = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE);
    Ok(upgrade.on_upgrade(async move |socket| serve(socket, feed).await))
}

async fn serve(mut socket: WebSocket, mut feed: Feed) {
    let mut beat = tokio::time::interval(KEEP_ALIVE);
    loop {
        let message = tokio::select! {
            notice = feed.next() => match notice {
                Some(Notice { seq, order_no, status, at_ms }) => {
                    let text = json!({ "id": seq, "order_no": order_no, "status": status, "at": rfc3339(at_ms) });
                    Message::Text(text.to_string().into())
                }
                None => Message::Close(Some(CloseFrame { code: close_code::AWAY, reason: "stopping".into() })),
            },
            heard = socket.recv() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
            _ = beat.tick() => Message::Ping(Vec::new().into()),
        };
        let last = matches!(message, Message::Close(_));
        let sent = tokio::time::timeout(STUCK, socket.send(message)).await;
        if last || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}
