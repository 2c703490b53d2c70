//! The task of one connection.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Version};
use axum::response::Response;
use h2::Reason;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tower_service::Service;

use super::ending::Ending;
use super::line::{Line, Link, Order};

/// A connection that was told to go away has this long to end by itself.
const LEAVE: Duration = Duration::from_secs(5);

/// HTTP/2 frame types.
const DATA: u8 = 0;
const GOAWAY: u8 = 7;

/// How a call came. It is an extension of every request.
#[derive(Debug, Clone)]
pub(in crate::channel_simulator) struct Arrival {
    link: Arc<Link>,
    /// Over HTTP/2.
    pub(in crate::channel_simulator) http2: bool,
}

impl Arrival {
    /// Number of the connection since the start.
    pub(in crate::channel_simulator) fn connection(&self) -> u64 {
        self.link.id
    }

    /// Bytes read from the connection so far.
    pub(in crate::channel_simulator) fn bytes_read(&self) -> u64 {
        self.link.read.load(Ordering::Relaxed)
    }
}

/// Serves one connection to its end. With `reset_after` that end comes after so many bytes. A change of `leave` asks
/// it to finish what is under way and go.
pub(super) async fn serve(
    stream: TcpStream,
    id: u64,
    reset_after: Option<u64>,
    router: Router,
    mut leave: watch::Receiver<u64>,
) {
    // An answer is written at once, so there is nothing to wait for.
    let _ = stream.set_nodelay(true);
    let stream = Arc::new(stream);
    let link = Link::new(id);
    let line = Line::new(Arc::clone(&stream), Arc::clone(&link), reset_after);
    let calls = Arc::clone(&link);
    let service = service_fn(move |request| answer(router.clone(), request, Arc::clone(&calls)));
    let builder = Builder::new(TokioExecutor::new());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(line), service));
    let mut leaving = pin!(tokio::time::sleep(Duration::MAX));
    loop {
        tokio::select! {
            // What goes wrong here is the peer's affair, or was wanted.
            _ = connection.as_mut() => return,
            order = link.ordered() => match order {
                Order::Reset => return reset(&stream),
                Order::Close => return,
                Order::Send(bytes) => {
                    send(&stream, &bytes).await;
                    leaving.as_mut().reset(tokio::time::Instant::now() + LEAVE);
                }
            },
            changed = leave.changed() => {
                if changed.is_err() {
                    return;
                }
                connection.as_mut().graceful_shutdown();
            }
            () = leaving.as_mut() => return,
        }
    }
}

/// Makes the socket end with RST as soon as it is dropped.
pub(super) fn reset(stream: &TcpStream) {
    // Fails when the peer was faster, and then there is nothing to reset.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

async fn send(stream: &TcpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() && stream.writable().await.is_ok() {
        match stream.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

async fn answer(mut router: Router, request: Request<Incoming>, link: Arc<Link>) -> Result<Response, h2::Error> {
    let call = link.calls.fetch_add(1, Ordering::Relaxed);
    let mut request = request.map(Body::new);
    let http2 = request.version() == Version::HTTP_2;
    request.extensions_mut().insert(Arrival { link: Arc::clone(&link), http2 });
    let mut response = router.call(request).await.unwrap_or_else(|never: Infallible| match never {});
    let Some(ending) = response.extensions_mut().remove::<Ending>() else {
        return Ok(response);
    };
    match ending {
        Ending::Hang => {}
        Ending::Reset => link.order(Order::Reset),
        Ending::Close => link.order(Order::Close),
        // Streams of clients have odd numbers, in order: the one before the nth is 2n - 3, and 0 means none.
        Ending::Goaway(code) => link.order(Order::Send(goaway((2 * call).saturating_sub(1), code))),
        // DATA for stream 0, which is no stream.
        Ending::ProtocolError => link.order(Order::Send(frame(DATA, &[0]))),
        Ending::RefusedStream => return Err(h2::Error::from(Reason::REFUSED_STREAM)),
    }
    // Dropped with the connection.
    std::future::pending().await
}

fn goaway(last_stream: u64, code: u32) -> Vec<u8> {
    let last = u32::try_from(last_stream).unwrap_or(u32::MAX) & 0x7fff_ffff;
    frame(GOAWAY, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// A frame for the connection as a whole.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, 0, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}
