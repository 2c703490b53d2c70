//! What becomes of a connection once both sides have agreed on another protocol: bytes pass both ways until one side has said
//! all it had to say, one of them breaks, or neither says anything for an hour.
//!
//! Behind the end of one side the other has a moment for what is still on its way; a protocol in which one side may be silent
//! for ever would keep a place that the other has given up. A stopping gateway waits half of its patience and then ends it,
//! so that its line still gets into the log.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncWriteExt, copy, split};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::door::Alarm;
use crate::door::conn::{ClientStream, Conn};
use crate::proxy::WEBSOCKET_SILENCE;

/// So often within the longest silence it is looked whether anything has passed.
const LOOKS: u32 = 60;
/// What is on its way behind the end of the other side.
const LINGER: Duration = Duration::from_secs(5);

/// Passes bytes until it is over; `rest` is what the upstream has said already. How many went to the client.
pub(super) async fn run(
    conn: &Conn,
    (client, wire): (ClientStream, TcpStream),
    rest: BytesMut,
    alarm: &mut Alarm,
    (stopping, drain): (&ShutdownWatch, Duration),
) -> u64 {
    let before = conn.written();
    let ((mut from_client, mut to_client), (mut from_wire, mut to_wire)) = (split(client), wire.into_split());
    let mut up = pin!(async {
        copy(&mut from_client, &mut to_wire).await?;
        to_wire.shutdown().await
    });
    let mut down = pin!(async {
        to_client.write_all(&rest).await?;
        to_client.flush().await?;
        copy(&mut from_wire, &mut to_client).await?;
        to_client.shutdown().await
    });
    // However a side ends, it has ended; one that broke has nobody to listen to it.
    let lingers = |ended: io::Result<()>| if ended.is_ok() { LINGER } else { Duration::ZERO };
    tokio::select! {
        biased;
        ended = &mut up => drop(timeout(lingers(ended), down).await),
        ended = &mut down => drop(timeout(lingers(ended), up).await),
        () = silence(conn, alarm) => (),
        () = stopped(stopping, drain / 2) => (),
    }
    conn.written() - before
}

/// Resolves when nothing has passed for too long.
async fn silence(conn: &Conn, alarm: &mut Alarm) {
    let passed = || (conn.read(), conn.written());
    let (mut seen, mut since) = (passed(), Instant::now());
    while since.elapsed() < WEBSOCKET_SILENCE {
        alarm.until(Instant::now() + WEBSOCKET_SILENCE / LOOKS).await;
        if passed() != seen {
            (seen, since) = (passed(), Instant::now());
        }
    }
}

/// Resolves so long after the gateway has begun to stop.
async fn stopped(stopping: &ShutdownWatch, patience: Duration) {
    let mut stopping = stopping.clone();
    if stopping.wait_for(|stops| *stops).await.is_err() {
        // Nobody is left who could say so.
        std::future::pending::<()>().await;
    }
    sleep(patience).await;
}
