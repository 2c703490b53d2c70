//! Deferred requests for operators: how many wait, which are stuck, and a person's word on those.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tidegate_filters::engine::{State as _, StateKey};
use tidegate_filters::respond_async::core::{Depth, Drain, Entry, Id, State as Stand};
use tidegate_filters::respond_async::{Deferred, Known, resolved};
use tidegate_filters::store::{StoreError, Stored};

use super::AdminState;
use super::extract::Asked;
use super::problem::Problem;

/// Requests of a list when nobody says how many.
const USUAL_LIST: usize = 100;
/// And at most.
const LONGEST_LIST: usize = 1_000;
/// Longest reason a person may give.
const LONGEST_REASON: usize = 500;
/// How long a request may wait again before any settings have said so.
const USUAL_TTL: Duration = Duration::from_secs(900);

type Answer = Result<Response, Problem>;

/// The books of the running configuration, and those that it does not have and that still owe something.
fn books(state: &AdminState) -> Vec<Arc<Deferred>> {
    let snapshot = state.gateway.snapshot();
    let used = |key: &StateKey| {
        let mut acquired = snapshot.filters.iter().flat_map(|filter| &filter.acquired);
        acquired.any(|acquired| acquired.key == *key)
    };
    let all = state.gateway.shared.states.all::<Deferred>();
    all.into_iter().filter(|(key, book)| used(key) || book.must_stay()).map(|(_, book)| book).collect()
}

fn now(state: &AdminState) -> Duration {
    let clock = state.gateway.shared.clock;
    clock.unix(clock.now())
}

/// How many wait, by filter, state and upstream.
pub(super) async fn show(State(state): State<AdminState>) -> Response {
    let now = now(&state);
    let one = |book: &Arc<Deferred>| {
        let figures = book.figures(now);
        let states: Map<String, Value> = figures
            .states
            .iter()
            .filter(|(stand, _)| !stand.is_over())
            .map(|(stand, count)| (stand.as_str().to_owned(), json!(count)))
            .collect();
        json!({
            "filter": &*book.name,
            "configured": !book.is_orphaned(),
            "records": figures.records,
            "bytes": figures.bytes,
            "states": states,
            "oldest_ms": u64::try_from(figures.oldest.as_millis()).unwrap_or(u64::MAX),
            "upstreams": figures.lanes.iter().map(lane).collect::<Vec<_>>(),
        })
    };
    Json(json!({ "filters": books(&state).iter().map(one).collect::<Vec<_>>() })).into_response()
}

fn lane(lane: &Depth) -> Value {
    let waiting: Map<String, Value> =
        lane.waiting.iter().map(|(class, waiting)| (class.as_str().to_owned(), json!(waiting))).collect();
    json!({
        "upstream": &*lane.upstream,
        "waiting": waiting,
        "channels": lane.channels.iter().map(channel).collect::<Vec<_>>(),
    })
}

fn channel(drain: &Drain) -> Value {
    json!({
        "channel": &*drain.channel,
        "in_flight": drain.in_flight,
        "rate": drain.rate,
        "sent": drain.sent,
        "paused": drain.paused,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    filter: Option<String>,
    state: Option<String>,
    limit: Option<usize>,
}

/// Requests, the latest first.
pub(super) async fn list(State(state): State<AdminState>, Asked(wanted): Asked<Wanted>) -> Answer {
    let stand = wanted
        .state
        .map(|word| Stand::parse(&word.to_uppercase()).ok_or_else(|| bad("`state` is no state of a deferred request")));
    let stand = stand.transpose()?;
    let limit = wanted.limit.unwrap_or(USUAL_LIST).min(LONGEST_LIST);
    let mut requests = Vec::new();
    for book in books(&state) {
        if wanted.filter.as_deref().is_none_or(|name| name == &*book.name) {
            let known = book.list(stand, limit).await.map_err(unreadable)?;
            requests.extend(known.iter().map(|known| request(&book, known)));
        }
    }
    Ok(Json(json!({ "requests": requests })).into_response())
}

fn request(book: &Deferred, known: &Known) -> Value {
    let entry = &known.entry;
    json!({
        "id": entry.id.to_string(),
        "filter": &*book.name,
        "route": known.route,
        "upstream": known.upstream,
        "state": entry.state.as_str(),
        "class": entry.class.as_str(),
        "tries": entry.tries,
        "in_doubt": entry.doubt,
        "answered": known.status,
        "why": known.why,
        "bytes": entry.size,
        "created_ms": entry.created,
        "due_ms": (entry.due > 0 && entry.state.is_waiting()).then_some(entry.due),
        "expires_ms": entry.expires,
    })
}

/// One request.
pub(super) async fn one(State(state): State<AdminState>, Path(id): Path<String>) -> Answer {
    let (book, known) = find(&state, &id).await?;
    Ok(Json(request(&book, &known)).into_response())
}

async fn find(state: &AdminState, id: &str) -> Result<(Arc<Deferred>, Known), Problem> {
    let unknown = || Problem::new(StatusCode::NOT_FOUND, "not-found", "No deferred request has this name");
    let id: Id = id.parse().map_err(|()| unknown())?;
    let mut none = unknown();
    for book in books(state) {
        match book.known(id).await {
            Ok(Some(known)) => return Ok((book, known)),
            Ok(None) => (),
            // Another file may have it.
            Err(error) => none = unreadable(error),
        }
    }
    Err(none)
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Word {
    reason: Option<String>,
    status: Option<u16>,
    body: Option<Value>,
}

fn word(body: &Bytes) -> Result<Word, Problem> {
    let word = if body.is_empty() { Word::default() } else { serde_json::from_slice(body).map_err(|_| shape())? };
    if word.reason.as_ref().is_some_and(|reason| reason.is_empty() || reason.len() > LONGEST_REASON) {
        return Err(bad("`reason` has 1 to 500 bytes"));
    }
    Ok(word)
}

fn shape() -> Problem {
    bad("The body is `{\"reason\": …}`, to resolve also `\"status\"` and `\"body\"`")
}

/// Lets a request that is stuck be sent again. One that may have been carried out needs a reason: it may be carried out
/// twice.
pub(super) async fn requeue(State(state): State<AdminState>, Path(id): Path<String>, body: Bytes) -> Answer {
    let word = word(&body)?;
    let (book, known) = find(&state, &id).await?;
    if known.entry.doubt && word.reason.is_none() {
        let title = "It may have been carried out; to send it again needs a `reason`";
        return Err(Problem::new(StatusCode::CONFLICT, "in-doubt", title));
    }
    let ttl = book.terms().map_or(USUAL_TTL, |terms| terms.ttl);
    let until = u64::try_from((now(&state) + ttl).as_millis()).unwrap_or(u64::MAX);
    let why = format!("sent again by a person: {}", word.reason.unwrap_or_default());
    act(&state, &book, &known, |entry| entry.requeue(until), None, why).await
}

/// Says how a request ended, for its client to read. It is not sent again.
pub(super) async fn resolve(State(state): State<AdminState>, Path(id): Path<String>, body: Bytes) -> Answer {
    let Word { reason: Some(reason), status: Some(status), body } = word(&body)? else { return Err(shape()) };
    let status = StatusCode::from_u16(status).ok().filter(|status| status.as_u16() >= 200);
    let status = status.ok_or_else(|| bad("`status` is the status its client gets: 200 to 599"))?;
    let (book, known) = find(&state, &id).await?;
    let answer = resolved(status, body.map_or_else(String::new, |body| format!("{body}\n")));
    act(&state, &book, &known, Entry::resolve, Some(answer), format!("resolved by a person: {reason}")).await
}

/// Withdraws a request that was not carried out.
pub(super) async fn cancel(State(state): State<AdminState>, Path(id): Path<String>, body: Bytes) -> Answer {
    let word = word(&body)?;
    let (book, known) = find(&state, &id).await?;
    let why = format!("withdrawn by a person: {}", word.reason.unwrap_or_default());
    act(&state, &book, &known, Entry::cancel, None, why).await
}

async fn act(
    state: &AdminState,
    book: &Arc<Deferred>,
    known: &Known,
    wish: impl FnOnce(&mut Entry) -> bool + Send,
    answer: Option<Stored>,
    why: String,
) -> Answer {
    let id = known.entry.id;
    let said = why.clone();
    if !book.act(id, wish, answer, why, now(state)).await.map_err(unreadable)? {
        let title = format!("It is {} or changing just now: this cannot be done to it", known.entry.state.as_str());
        return Err(Problem::new(StatusCode::CONFLICT, "wrong-state", title));
    }
    tracing::info!(target: "tidegate::admin", %id, from = known.entry.state.as_str(), "a deferred request was {said}");
    let after = book.known(id).await.map_err(unreadable)?;
    Ok(Json(request(book, after.as_ref().unwrap_or(known))).into_response())
}

fn bad(title: &'static str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-request", title)
}

fn unreadable(error: StoreError) -> Problem {
    tracing::error!(target: "tidegate::admin", %error, "the file of deferred requests");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable", "The file of deferred requests does not answer")
}
