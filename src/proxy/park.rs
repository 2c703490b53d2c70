//! The one place where a request waits: for a filter's future, against its deadline and the client's leaving; and where
//! a body is read for a filter that asked.

use bytes::BytesMut;
use http::StatusCode;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};
use tidegate_filters::engine::{Decision, Reply, Resume, Verdict, Wait};

use super::flow::Flow;
use super::reply::decision;
use super::{stage, view, write};
use crate::door::conn::Conn;

/// pingora's replay buffer: a body read before the upstream is chosen is sent from there.
const LARGEST_BODY: usize = 64 * 1024;
/// A body is read up to here while its request waits; more is left with the client.
const READ_WAITING: usize = 8 * 1024;

enum Parked {
    Resumed(Resume),
    Late,
    ClientGone,
}

/// Carries out decisions until the request is answered (true) or may go upstream (false).
pub(super) async fn request_stage(session: &mut Session, flow: &mut Flow) -> Result<bool> {
    let mut decision = flow.pending.get_mut().take().unwrap_or(Decision::Continue);
    loop {
        decision = match decision {
            Decision::Continue => return Ok(false),
            Decision::Respond(reply) => return answer(session, flow, *reply).await,
            Decision::Wait(wait) => match wait_for(session, flow, *wait).await? {
                Some(reply) => return answer(session, flow, reply).await,
                None => again(session, flow),
            },
            Decision::NeedBody { max } => match read_body(session, flow, max).await? {
                Some(reply) => return answer(session, flow, reply).await,
                None => again(session, flow),
            },
        };
    }
}

pub(super) async fn answer(session: &mut Session, flow: &mut Flow, reply: Reply) -> Result<bool> {
    flow.answers(&reply, decision(&reply));
    write::reply(session, flow, reply, true).await?;
    Ok(true)
}

fn again(session: &Session, flow: &mut Flow) -> Decision {
    flow.tick();
    view::with_head(session.req_header(), flow.arrival.secure, |head| stage::go_on(flow, head))
}

/// Waits; the reply to give, if the wait came to one.
async fn wait_for(session: &mut Session, flow: &mut Flow, wait: Wait) -> Result<Option<Reply>> {
    let Wait { reason, max, late, until, shadow } = wait;
    let from = flow.tick();
    tracing::debug!(target: "tidegate::proxy", request_id = flow.id().as_str(), reason, "parked");
    let parked = {
        let conn = flow.conn.clone();
        let gone = client_gone(session, conn.as_ref());
        tokio::select! {
            biased;
            resume = until => Parked::Resumed(resume),
            () = gone => Parked::ClientGone,
            () = tokio::time::sleep(max) => Parked::Late,
        }
    };
    session.set_abort_on_close(false);
    let now = flow.tick();
    flow.waited += now.since(from);
    match parked {
        Parked::Resumed(_) | Parked::Late if shadow => Ok(None),
        Parked::Resumed(Resume { verdict, permit }) => {
            if let Some(permit) = permit {
                flow.cx.hold(permit);
            }
            match verdict {
                Verdict::Continue => {
                    flow.cx.decider = None;
                    Ok(None)
                }
                Verdict::Respond(reply) => Ok(Some(*reply)),
            }
        }
        Parked::Late => Ok(Some(*late)),
        Parked::ClientGone => {
            Err(Error::explain(ErrorType::ConnectionClosed, "the client left while it waited").into_down())
        }
    }
}

/// Resolves when the client is known to have left. A small body of HTTP/1 is read meanwhile, so that its end shows; of a
/// large one that is left with the client, the socket tells.
async fn client_gone(session: &mut Session, conn: Option<&Conn>) {
    session.set_abort_on_close(true);
    let http = session.as_downstream_mut();
    if http.is_http2() {
        if let Some(closed) = http.watch_h2_stream_close() {
            let _ = closed.await;
            return;
        }
        return std::future::pending().await;
    }
    // What is read here is sent from the buffer, as any body that was read before.
    http.enable_retry_buffering();
    let announced = http.get_header("content-length").and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    while !http.is_body_done() && !http.is_body_empty() {
        let read = http.get_retry_buffer().map_or(0, |body| body.len());
        if announced.unwrap_or(read) > READ_WAITING || read > READ_WAITING {
            return match conn {
                Some(conn) => conn.hung_up().await,
                None => std::future::pending().await,
            };
        }
        if http.read_request_body().await.is_err() {
            return;
        }
    }
    let _ = http.read_body_or_idle(true).await;
}

/// Reads the whole body into the context; the reply to give when it is too large.
pub(super) async fn read_body(session: &mut Session, flow: &mut Flow, max: usize) -> Result<Option<Reply>> {
    let max = max.min(LARGEST_BODY);
    let http = session.as_downstream_mut();
    http.enable_retry_buffering();
    let announced = http.get_header("content-length").and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|announced| announced > max) {
        return Ok(Some(stage::too_large()));
    }
    if http.get_header("expect").is_some() {
        http.write_continue_response().await?;
    }
    // What came while the request waited.
    let mut body = BytesMut::from(&http.get_retry_buffer().unwrap_or_default()[..]);
    while let Some(piece) = http.read_request_body().await? {
        if body.len() + piece.len() > max {
            return Ok(Some(stage::too_large()));
        }
        body.extend_from_slice(&piece);
    }
    if announced.is_some_and(|announced| announced != body.len()) {
        let status = StatusCode::BAD_REQUEST;
        return Ok(Some(Reply::problem(status, "bad-request", "The request body is shorter than announced")));
    }
    crate::door::Progress::note(body.len(), true);
    flow.cx.body = Some(body.freeze());
    Ok(None)
}
