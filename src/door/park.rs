//! A wait that no upstream is needed for, held at the door: who looks at a status and waits for news costs little more
//! than an idle connection, so that thousands can.
//!
//! What only pingora can answer (a stream) is handed over when the wait has come to it.

use http::StatusCode;
use tidegate_filters::engine::{Reply, Resume, Verdict, Wait};
use tokio::time::Instant;

use super::alarm::Alarm;
use super::conn::Conn;
use crate::proxy::flow::Flow;

/// Bytes of further requests that a waiting client may send; beyond, nobody reads until the answer is out.
const MOST_AHEAD: usize = 64 * 1024;

/// Waits; `None`: the client has left.
pub(super) async fn wait(conn: &Conn, flow: &mut Flow, wait: Wait, alarm: &mut Alarm) -> Option<Box<Reply>> {
    let Wait { reason, max, late, until, .. } = wait;
    let from = flow.tick();
    tracing::debug!(target: "tidegate::door", request_id = flow.id().as_str(), reason, "parked");
    let deadline = Instant::now() + max;
    let reply = tokio::select! {
        biased;
        Resume { verdict, .. } = until => Some(match verdict {
            Verdict::Respond(reply) => reply,
            Verdict::Continue => nowhere(),
        }),
        () = gone(conn) => None,
        () = alarm.until(deadline) => Some(late),
    };
    let now = flow.tick();
    flow.waited += now.since(from);
    reply
}

/// Without a route there is nothing to go on to.
fn nowhere() -> Box<Reply> {
    Box::new(Reply::problem(StatusCode::INTERNAL_SERVER_ERROR, "internal-error", "The wait came to nothing"))
}

/// Resolves when the client has left. What it sends meanwhile is kept.
async fn gone(conn: &Conn) {
    while conn.buffered() < MOST_AHEAD {
        if conn.read_more().await.ok().filter(|read| *read > 0).is_none() {
            return;
        }
    }
    conn.hung_up().await;
}
