//! What becomes of a connection once both sides have agreed on another protocol: bytes pass both ways until both sides have
//! said all they had to say, one of them breaks, or neither says anything for an hour.

use bytes::BytesMut;
use tokio::io::{AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::door::Alarm;
use crate::door::conn::{ClientStream, Conn};
use crate::proxy::WEBSOCKET_SILENCE;

/// Room for each direction: a chat needs little, and there may be thousands.
const ROOM: usize = 8 * 1024;
/// So often within the longest silence it is looked whether anything has passed.
const LOOKS: u32 = 60;

/// Passes bytes until it is over; `rest` is what the upstream has said already. How many went to the client.
pub(super) async fn run(
    conn: &Conn,
    mut client: ClientStream,
    mut wire: TcpStream,
    rest: BytesMut,
    alarm: &mut Alarm,
) -> u64 {
    let before = conn.written();
    let pass = async {
        client.write_all(&rest).await?;
        client.flush().await?;
        copy_bidirectional_with_sizes(&mut client, &mut wire, ROOM, ROOM).await
    };
    tokio::select! {
        biased;
        // However it ends, it has ended.
        _ = pass => (),
        () = silence(conn, alarm) => (),
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
