//! What all visitors of a room are told at one moment, made once for all who look meanwhile.
//!
//! Most of a visitor's document is the same for everybody between two ticks. It is written as JSON once, and each answer
//! carries a copy of that beside the few members of its own.

use std::sync::Arc;

use serde::Serialize;

use super::line::{Outlook, State};
use super::public::{News, Notice};
use super::room::Room;
use super::settings::Settings;

/// The members of a document that are the same for everybody.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Common {
    /// The room's name.
    pub room: String,
    /// What the room does.
    pub room_state: &'static str,
    /// Counts up when the room is reset.
    pub epoch: u32,
    /// Turns have come up to this number.
    pub serving_number: u64,
    /// People present in line.
    pub queue_length: u64,
    /// People let in a minute, measured.
    pub rate_per_minute: Option<f64>,
    /// What a look that waits for news sends as `If-None-Match`.
    pub tag: String,
    /// So long a look may wait for news (`Prefer: wait`), in seconds.
    pub long_poll_seconds: Option<u64>,
    /// Who looks at the public document this often (milliseconds) hears within a second that nothing is left. More where so
    /// many look that it would be too much; then less often.
    pub frontier_after_ms: u64,
    /// Whether nobody is let in at the moment; places are kept.
    pub paused: bool,
    /// Whether nothing is left.
    pub sold_out: bool,
    /// Whether the gateway cannot write down what it decides: nobody new is let in.
    pub degraded: bool,
    /// Start of the event that people are collected for.
    pub starts_at: Option<u64>,
    /// The operator's word to all who wait.
    pub message: Option<String>,
    /// `info` or `warning`.
    pub message_level: Option<&'static str>,
    /// How places are given, and how that can be checked.
    pub fairness: Fairness,
    /// The gateway's clock.
    pub server_time: u64,
    status_url: String,
    frontier_url: String,
    join_url: String,
    claim_url: String,
    leave_url: String,
    /// Seconds after which a page without scripts looks again.
    #[serde(skip)]
    pub refresh: u64,
    #[serde(skip)]
    json: Vec<u8>,
}

/// How places are given. Where a draw decides, `commit` is told before it and `draw` after it: whoever took part can work
/// out their number from these, and see that the secret is the one that was committed to.
#[derive(Clone, Debug, Serialize)]
pub struct Fairness {
    /// `fifo`, `random`, `reject`, `passthrough`; `shuffle` while people are collected for a draw, and for those it drew.
    pub method: &'static str,
    /// Hexadecimal; see [`crate::waiting_room::draw::commitment`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// What was drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draw: Option<Drawn>,
}

/// A draw, opened.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Drawn {
    /// What had been committed to, hexadecimal.
    pub secret: String,
    /// The first number that took part.
    pub first_registered: u64,
    /// How many took part.
    pub registered: u32,
    /// The first number that was drawn.
    pub first_drawn: u64,
}

impl Fairness {
    fn new(outlook: &Outlook) -> Self {
        let hex = |bytes: [u8; 32]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let lottery = outlook.lottery;
        let drawn = lottery.and_then(|lottery| lottery.opened);
        Self {
            method: if lottery.is_some() { "shuffle" } else { outlook.limits.method.as_str() },
            commit: lottery.map(|lottery| hex(lottery.commit)),
            draw: drawn.map(|(secret, first_registered, registered, first_drawn)| Drawn {
                secret: hex(secret),
                first_registered,
                registered,
                first_drawn,
            }),
        }
    }
}

/// What it is made of.
struct Basis {
    outlook: Arc<Outlook>,
    settings: Arc<Settings>,
    notice: Option<Arc<Notice>>,
    degraded: bool,
    mark: u64,
}

/// The last one that was made.
pub(super) struct Made {
    common: Arc<Common>,
    of: Basis,
}

impl Common {
    /// Its members as a JSON object.
    pub(super) fn json(&self) -> &[u8] {
        &self.json
    }

    fn new(room: &Room, of: &Basis) -> Self {
        let Basis { outlook, settings, notice, degraded, mark } = of;
        let url = |word: &str| format!("{}/{word}", settings.base);
        let mut common = Self {
            room: room.name().to_string(),
            room_state: outlook.state.as_str(),
            epoch: outlook.epoch,
            serving_number: outlook.frontier,
            queue_length: outlook.waiting,
            rate_per_minute: outlook.rate.map(|rate| (rate * 60.0).round()),
            tag: News { mark: *mark, ..room.news() }.tag(outlook.at),
            long_poll_seconds: settings.long_polls.map(|polls| polls.wait.as_secs()),
            frontier_after_ms: room.peek_after(outlook.waiting),
            paused: matches!(outlook.state, State::QueueAll | State::Draining) || *degraded,
            sold_out: outlook.state == State::SoldOut,
            degraded: *degraded,
            starts_at: outlook.event.map(|(start, _)| start).filter(|start| *start > outlook.at),
            message: notice.as_ref().map(|notice| notice.text.clone()),
            message_level: notice.as_ref().map(|notice| notice.level.as_str()),
            fairness: Fairness::new(outlook),
            server_time: outlook.at,
            status_url: url("status"),
            frontier_url: url("frontier"),
            join_url: url("join"),
            claim_url: url("claim"),
            leave_url: url("leave"),
            refresh: outlook.refresh / 1_000,
            json: Vec::new(),
        };
        common.json = serde_json::to_vec(&common).expect("invariant: numbers and text are always JSON");
        common
    }
}

/// How often the public document is worth a look (milliseconds): what is in it is a tenth of a second old at most.
const PEEK: u64 = 800;
/// So many may look that often at one gateway. With a cache in front it answers one of them a second.
const PEEKING: u64 = 10_000;

impl Room {
    /// After how many milliseconds those should look at the public document whom nobody tells: neither a stream nor a look
    /// that waits. Beyond ten thousand of them, as much more rarely as there are more.
    pub(super) fn peek_after(&self, waiting: u64) -> u64 {
        let told = (self.listeners() + self.long_polls()) as u64;
        PEEK * waiting.saturating_sub(told).div_ceil(PEEKING).max(1)
    }

    /// What everybody is told now.
    pub(super) fn common(&self) -> Arc<Common> {
        // The mark first: what is told may be newer than it, never older, or its reader would sleep over the difference.
        let mark = self.news().mark;
        let (outlook, settings, notice) = (self.outlook_now(), self.settings(), self.notice());
        let degraded = self.is_degraded();
        if let Some(Made { common, of }) = self.public.common.load().as_deref() {
            let same_notice = match (&of.notice, &notice) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                (one, other) => one.is_none() && other.is_none(),
            };
            let same = Arc::ptr_eq(&of.outlook, &outlook) && Arc::ptr_eq(&of.settings, &settings);
            if same && same_notice && of.degraded == degraded && of.mark == mark {
                return common.clone();
            }
        }
        let of = Basis { outlook: outlook.clone(), settings: settings.clone(), notice, degraded, mark };
        let common = Arc::new(Common::new(self, &of));
        self.public.common.store(Some(Arc::new(Made { common: common.clone(), of })));
        common
    }
}
