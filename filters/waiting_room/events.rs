//! `text/event-stream` for those who are not far from the front: their turn reaches them within a tick.
//!
//! A frame is made once for all who listen; each adds what concerns itself. Who listens counts as present. The stream ends
//! by itself after a while, since nothing may run for ever: the browser comes back with `Last-Event-ID` and is told what
//! it does not know yet.
//!
//! | event | data | when |
//! | --- | --- | --- |
//! | `frontier` | the public document | it has changed, once a second at most |
//! | `turn` | `{ticketNumber, readyUntil, claimUrl}` | it is this visitor's turn |
//! | `state` | `{state}` | the room does something else; `reset` ends the stream |
//! | `message` | `{message, messageLevel}` | the operator says something, or takes it back (`null`) |

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::line::{Look, Outlook, State};
use super::public::{Frame, Notice};
use super::room::Room;
use super::seats::Seat;
use crate::engine::ReplyStream;

/// How often a stream speaks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rhythm {
    /// A word so often keeps proxies from cutting a quiet stream.
    pub(super) ping: Duration,
    /// The document goes out this often at most.
    pub(super) pace: Duration,
    /// The stream ends after this.
    pub(super) life: Duration,
}

impl Rhythm {
    /// The usual one.
    pub(super) fn lasting(life: Duration) -> Self {
        Self { ping: Duration::from_secs(15), pace: Duration::from_secs(1), life }
    }
}

/// How long a browser waits before it comes back (milliseconds).
const COME_BACK: u64 = 2_000;

/// One visitor's stream.
pub(super) struct Events {
    room: Arc<Room>,
    frames: watch::Receiver<Option<Arc<Frame>>>,
    number: u64,
    subject: u64,
    epoch: u32,
    rhythm: Rhythm,
    ends: Instant,
    /// When something was last sent, and when the document was.
    spoke: Instant,
    sent: Option<Instant>,
    told: Told,
    over: bool,
    _seat: Seat,
}

/// What the visitor knows.
#[derive(Default)]
struct Told {
    frontier: Option<(u64, u64, u64)>,
    state: Option<State>,
    notice: Option<Arc<Notice>>,
    turn: bool,
}

impl Events {
    /// A stream for the holder of `number`. `last` is the `Last-Event-ID`.
    pub(super) fn new(
        room: &Arc<Room>,
        (seat, frames): (Seat, watch::Receiver<Option<Arc<Frame>>>),
        (number, subject): (u64, u64),
        rhythm: Rhythm,
        last: Option<&str>,
    ) -> Self {
        let now = Instant::now();
        let outlook = room.outlook();
        let known = last.is_some_and(|last| last == id(&outlook));
        let told = Told { frontier: known.then(|| content(&outlook)), ..Told::default() };
        Self {
            room: room.clone(),
            frames,
            number,
            subject,
            epoch: outlook.epoch,
            rhythm,
            ends: now + rhythm.life,
            spoke: now,
            sent: None,
            told,
            over: false,
            _seat: seat,
        }
    }

    /// What this frame is worth saying; empty when nothing.
    fn say(&mut self, frame: &Frame, now: Instant) -> Bytes {
        let mut out = BytesMut::new();
        let outlook = &frame.outlook;
        if frame.over || outlook.epoch != self.epoch {
            self.over = true;
            if !frame.over {
                event(&mut out, "state", outlook, &json!({ "state": "reset" }).to_string());
            }
            return out.freeze();
        }
        if self.told.state.replace(outlook.state) != Some(outlook.state) {
            event(&mut out, "state", outlook, &json!({ "state": outlook.state.as_str() }).to_string());
        }
        self.message(frame, &mut out);
        if self.sent.is_none_or(|sent| now >= sent + self.rhythm.pace) && self.told.frontier != Some(content(outlook)) {
            self.told.frontier = Some(content(outlook));
            self.sent = Some(now);
            event(&mut out, "frontier", outlook, std::str::from_utf8(&frame.document).unwrap_or("null"));
        }
        self.turn(outlook, &mut out);
        out.freeze()
    }

    fn message(&mut self, frame: &Frame, out: &mut BytesMut) {
        let known = self.told.notice.as_ref().map(Arc::as_ptr);
        if known != frame.notice.as_ref().map(Arc::as_ptr) {
            self.told.notice.clone_from(&frame.notice);
            let notice = frame.notice.as_deref();
            let (text, level) = (notice.map(|notice| &notice.text), notice.map(|notice| notice.level.as_str()));
            event(out, "message", &frame.outlook, &json!({ "message": text, "messageLevel": level }).to_string());
        }
    }

    fn turn(&mut self, outlook: &Outlook, out: &mut BytesMut) {
        let look = self.room.look(outlook.at, self.number, self.subject);
        let data: Option<Value> = match look {
            Look::Turn(number, until) => Some(json!({ "ticketNumber": number, "readyUntil": until })),
            // Their pass, or a new number, is handed out where a cookie can be set.
            Look::Inside(_) | Look::Moved(_) | Look::Gone => Some(json!({ "ticketNumber": self.number })),
            Look::Wait(_) => None,
        };
        let was = std::mem::replace(&mut self.told.turn, data.is_some());
        if let Some(mut data) = data.filter(|_| !was) {
            data["claimUrl"] = json!(format!("{}/claim", self.room.settings().base));
            event(out, "turn", outlook, &data.to_string());
        }
    }
}

impl ReplyStream for Events {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Option<Bytes>> + Send + '_>> {
        Box::pin(async move {
            if self.told.state.is_none() && !self.over {
                let mut first = BytesMut::from(format!("retry: {COME_BACK}\n\n").as_bytes());
                let frame = self.room.frame(false);
                first.extend_from_slice(&self.say(&frame, Instant::now()));
                return Some(first.freeze());
            }
            while !self.over {
                let ping = self.spoke + self.rhythm.ping;
                tokio::select! {
                    biased;
                    () = sleep_until(self.ends) => return None,
                    changed = self.frames.changed() => if changed.is_err() { return None },
                    () = sleep_until(ping) => {
                        self.spoke = Instant::now();
                        return Some(Bytes::from_static(b": ping\n\n"));
                    }
                }
                let frame = self.frames.borrow_and_update().clone();
                let Some(frame) = frame else { continue };
                let now = Instant::now();
                let said = self.say(&frame, now);
                if !said.is_empty() {
                    self.spoke = now;
                    return Some(said);
                }
            }
            None
        })
    }
}

fn content(outlook: &Outlook) -> (u64, u64, u64) {
    (outlook.frontier, outlook.tail, outlook.waiting)
}

fn id(outlook: &Outlook) -> String {
    format!("{}:{}", outlook.epoch, outlook.frontier)
}

/// One event; its data has no line breaks, since JSON escapes them.
fn event(out: &mut BytesMut, name: &str, outlook: &Outlook, data: &str) {
    let text = format!("event: {name}\nid: {}\ndata: {data}\n\n", id(outlook));
    out.extend_from_slice(text.as_bytes());
}
