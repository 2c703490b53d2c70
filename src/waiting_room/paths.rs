//! The public side of the rooms: `<path>/<room>/<what is asked>`, answered before any route is looked for.
//!
//! Only on listeners that have a room on some route: elsewhere the path is nobody's. No filter runs, since whoever asks is
//! in line already or wants to be; what it costs is bounded by the room itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tidegate_filters::condition::Condition;
use tidegate_filters::engine::{Decision, IdentityId, Reply, RequestContext, RequestHead};
use tidegate_filters::waiting_room::Room;
use tidegate_filters::waiting_room::desk::{self, Ask};

use super::ConfiguredRoom;
use crate::config::Config;

/// The rooms by their paths.
pub(crate) struct RoomPaths {
    /// With a slash at its end.
    prefix: Box<str>,
    rooms: HashMap<Arc<str>, RoomPath, ahash::RandomState>,
    listeners: Box<[bool]>,
    /// How long a stream may last: less than a request may, so that it ends by itself.
    life: Duration,
}

struct RoomPath {
    room: Arc<Room>,
    /// Identities that the room asks for, as bits by their number.
    needs: u64,
}

/// A request for the public side of a room.
pub(crate) struct Asked<'a> {
    room: &'a Arc<Room>,
    ask: Ask,
    life: Duration,
    /// Identities to be learned first, as bits by their number.
    pub(crate) needs: u64,
}

/// What a path under the prefix is.
pub(crate) enum Found<'a> {
    Asked(Asked<'a>),
    /// Nothing has that path.
    Nothing(Box<Reply>),
}

impl RoomPaths {
    /// Of a configuration and its rooms.
    pub(crate) fn new(config: &Config, rooms: &[ConfiguredRoom], id: impl Fn(&str) -> Option<IdentityId>) -> Self {
        let gates: Vec<_> = config.filters.iter().filter(|filter| filter.kind == "waiting_room").collect();
        let gated = |route: &&crate::config::Route| gates.iter().any(|gate| route.filters.contains(&gate.name));
        let listeners = config
            .server
            .listeners
            .iter()
            .map(|listener| config.routes.iter().filter(gated).any(|route| route.listener == listener.name));
        let path = |(spec, room): (&crate::config::RoomSpec, &ConfiguredRoom)| {
            let judged = spec.eligible.iter().flat_map(|text| Condition::identities(text));
            let names = spec.identity.iter().cloned().chain(judged);
            let bits = names.filter_map(|name| id(&name)).map(|id| 1u64 << id.0);
            (spec.name.clone(), RoomPath { room: room.room.clone(), needs: bits.fold(0, |all, bit| all | bit) })
        };
        Self {
            prefix: format!("{}/", config.room_path).into(),
            listeners: listeners.collect(),
            rooms: config.rooms.iter().zip(rooms).map(path).collect(),
            life: config.server.limits.request_timeout * 3 / 4,
        }
    }

    /// Whether a path may be a room's.
    pub(crate) fn covers(&self, path: &str) -> bool {
        path.starts_with(&*self.prefix)
    }

    /// What is asked, if it is asked of a room.
    pub(crate) fn find(&self, listener: usize, path: &str) -> Option<Found<'_>> {
        let rest = path.strip_prefix(&*self.prefix)?;
        if !self.listeners.get(listener).copied().unwrap_or(false) {
            return None;
        }
        let (name, word) = rest.split_once('/').unwrap_or((rest, ""));
        let Some(room) = self.rooms.get(name) else {
            return Some(nothing("unknown-waiting-room", "No waiting room is named so"));
        };
        let Some(ask) = Ask::of(word) else {
            return Some(nothing("no-route", "A waiting room is not asked that"));
        };
        let needs = if ask.wants_identity() { room.needs } else { 0 };
        Some(Found::Asked(Asked { room: &room.room, ask, life: self.life, needs }))
    }
}

impl Asked<'_> {
    /// The answer, or the wait for it.
    pub(crate) fn answer(&self, head: &RequestHead<'_>, cx: &RequestContext) -> Decision {
        desk::answer(self.room, self.ask, head, cx, self.life)
    }
}

fn nothing<'a>(code: &'static str, title: &'static str) -> Found<'a> {
    Found::Nothing(Box::new(Reply::problem(StatusCode::NOT_FOUND, code, title)))
}
