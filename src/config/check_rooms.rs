//! `waiting_rooms` and `waiting_room_keys`: limits, events that fit into time, rules that compile, keys that sign.

use std::time::Duration;

use tidegate_filters::condition::Condition;
use tidegate_filters::engine::IdentityId;
use tidegate_filters::waiting_room::keys::{KeySpec, SECRET_LENGTH};
use tidegate_filters::waiting_room::rules::{Event, Limits, Method, Missed, Overflow, Overrides, Polling, Rules};
use tidegate_filters::waiting_room::settings::{CommandKind, SameSite, Secure};

use super::check::{Checker, DAY};
use super::check_identity::BUILT_IN;
use super::file_rooms::{
    CommandFile, CompatFile, EventFile, MethodFile, MissedFile, OverflowFile, RoomFile, RoomKeyFile, SameSiteFile,
    SecureFile,
};
use super::placed::At;
use super::session::SessionFile;
use super::tree::{Id, Tree};
use super::types::RoomSpec;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
/// Most people that any limit may speak of.
pub(super) const MOST: u64 = 100_000_000;
/// People are told of an event this long before it begins, or hardly anybody comes to the draw.
const EARLY: u64 = 300_000;
const STATUSES: [u64; 4] = [200, 202, 429, 503];

impl Checker<'_, '_> {
    pub(super) fn rooms(&mut self, rooms: &[At<RoomFile>]) -> Vec<RoomSpec> {
        for (at, room) in rooms.iter().enumerate() {
            let name = &room.value.name;
            self.name_value(name, "a waiting room");
            if rooms[..at].iter().any(|other| other.value.name.value == name.value) {
                self.wrong(name.at, format!("two waiting rooms are named `{}`", name.value));
            }
        }
        rooms.iter().map(|room| self.room(room)).collect()
    }

    fn room(&mut self, room: &At<RoomFile>) -> RoomSpec {
        let file = &room.value;
        let status = file.queueing_status_code.as_ref().and_then(|code| {
            if !STATUSES.contains(&code.value) {
                self.wrong(code.at, "the status is one of 200, 202, 429 and 503");
            }
            u16::try_from(code.value).ok()
        });
        if let Some(suffix) = &file.cookie_suffix {
            self.name_value(suffix, "a cookie");
        }
        let rules = (1..).zip(&file.rules).filter(|(_, rule)| rule.value.enabled);
        let bypass = rules.map(|(at, rule)| {
            let name = rule.value.description.clone().unwrap_or_else(|| format!("rule-{at}"));
            (name, self.condition(&rule.value.expression))
        });
        let bypass: Vec<(String, String)> = bypass.collect();
        RoomSpec {
            name: file.name.value.as_str().into(),
            rules: self.rules(room),
            status,
            cookie: file.cookie_suffix.as_ref().unwrap_or(&file.name).value.clone(),
            secure: match file.cookie_attributes.secure {
                SecureFile::Auto => Secure::Auto,
                SecureFile::Always => Secure::Always,
                SecureFile::Never => Secure::Never,
            },
            same_site: match file.cookie_attributes.samesite {
                SameSiteFile::Auto | SameSiteFile::Lax => SameSite::Lax,
                SameSiteFile::Strict => SameSite::Strict,
                SameSiteFile::None => SameSite::None,
            },
            identity: self.room_identity(room),
            bypass,
            eligible: file.eligibility.as_ref().map(|eligibility| self.condition(&eligibility.value.expression)),
            commands: file.enabled_origin_commands.iter().map(|command| kind(*command)).collect(),
            cloudflare: file.compat.contains(&CompatFile::Cloudflare),
            json: file.json_response_enabled,
            admission: file.admission_control.as_ref().map(|control| {
                let most = u32::try_from(file.new_users_per_minute.value).unwrap_or(u32::MAX);
                self.admission(control, most)
            }),
            probe: file
                .admission_cap
                .as_ref()
                .and_then(|cap| cap.value.probe.as_ref())
                .map(|probe| self.stock_probe(probe)),
            page: self.page(room),
        }
    }

    fn rules(&mut self, room: &At<RoomFile>) -> Rules {
        let (file, at) = (&room.value, room.at);
        let total = self.people(&file.total_active_users, at);
        let rate = self.people(&file.new_users_per_minute, at);
        if rate > total {
            let help = Some("the room is full within a minute".to_owned());
            self.warn(file.new_users_per_minute.at, "more people a minute than may be inside at once", help);
        }
        let limits = Limits {
            method: method(file.queueing_method),
            total_active_users: total,
            new_users_per_minute: rate,
            session: self.session(&file.session_duration, at),
            renewal: !file.disable_session_renewal,
            queue_all: file.queue_all,
            suspended: file.suspended,
        };
        let cap = file.admission_cap.as_ref().map(|cap| self.cap(cap, &file.enabled_origin_commands));
        let polling = &file.polling.value;
        let holder = file.polling.or(at);
        let (half, ten) = (Duration::from_millis(500), 10 * MINUTE);
        let min = self.span(&polling.min, holder, half, ten);
        let max = self.span(&polling.max, holder, min.min(ten), ten);
        Rules {
            limits,
            events: self.events(&file.events),
            queue_grace: millis(self.span(&file.queue_grace, at, 10 * SECOND, HOUR)),
            claim_window: millis(self.span(&file.claim_window, at, SECOND, HOUR)),
            missed: match file.missed_policy {
                MissedFile::Front => Missed::Front,
                MissedFile::Back => Missed::Back,
                MissedFile::Expire => Missed::Expire,
            },
            max_queue_length: self.count(&file.max_queue_length, at, 1, MOST) as u64,
            overflow: match file.overflow {
                OverflowFile::Reject => Overflow::Reject,
                OverflowFile::RandomDrop => Overflow::RandomDrop,
            },
            admission_cap: cap.and_then(|(all, _)| all),
            per_piece: cap.map(|(_, each)| each),
            polling: Polling {
                min: millis(min),
                max: millis(max),
                divisor: u32::try_from(self.count(&polling.divisor, holder, 1, 100)).unwrap_or(1),
            },
            refresh: millis(self.span(&file.refresh_interval, at, 5 * SECOND, 5 * MINUTE)),
        }
    }

    fn people(&self, count: &At<u64>, holder: Id) -> u32 {
        u32::try_from(self.count(count, holder, 1, MOST)).unwrap_or(u32::MAX)
    }

    fn session(&self, session: &At<SessionFile>, holder: Id) -> u64 {
        let SessionFile(span) = session.value;
        if span < SECOND || span > DAY {
            self.wrong(session.or(holder), "must be between 1s and 1d");
        }
        millis(span)
    }

    fn events(&mut self, events: &[At<EventFile>]) -> Vec<Event> {
        let mut made: Vec<(Id, Event)> = Vec::new();
        for event in events {
            let file = &event.value;
            let (start, end) = (file.event_start_time.value.0, file.event_end_time.value.0);
            self.name_value(&file.name, "an event");
            if end < start.saturating_add(60_000) {
                self.wrong(file.event_end_time.or(event.at), "an event lasts at least a minute");
            }
            let prequeue = file.prequeue_start_time.map(|moment| moment.value.0);
            if let Some(before) = &file.prequeue_start_time {
                if before.value.0 >= start {
                    self.wrong(before.at, "people are collected before the event starts, not after");
                } else if start - before.value.0 < EARLY {
                    let help = Some("give people at least 5m".to_owned());
                    self.warn(before.at, "there is little time to come before the event starts", help);
                }
            } else if file.shuffle_at_event_start && !self.decoder.is_tainted(event.at) {
                let help = Some("add `prequeue_start_time`".to_owned());
                self.wrong_with_help(event.at, "nobody can be shuffled who was not collected before", help);
            }
            let limits = match (&file.total_active_users, &file.new_users_per_minute) {
                (Some(total), Some(rate)) => Some((self.people(total, event.at), self.people(rate, event.at))),
                (None, None) => None,
                (Some(one), None) | (None, Some(one)) => {
                    let message = "an event overrides `total_active_users` and `new_users_per_minute` together";
                    self.wrong_key(one.at, message, None);
                    None
                }
            };
            let overrides = Overrides {
                method: file.queueing_method.map(method),
                limits,
                session: file.session_duration.as_ref().map(|session| self.session(session, event.at)),
                renewal: file.disable_session_renewal.map(|disabled| !disabled),
                queue_all: file.queue_all,
                suspended: file.suspended,
            };
            let shuffle = file.shuffle_at_event_start;
            let event_made = Event { name: file.name.value.clone(), prequeue, start, end, shuffle, overrides };
            let begins = |event: &Event| event.prequeue.unwrap_or(event.start);
            for (_, other) in &made {
                if other.name == event_made.name {
                    self.wrong(file.name.at, format!("two events are named `{}`", other.name));
                }
                if begins(&event_made) < other.end && begins(other) < end {
                    self.wrong(event.at, format!("it overlaps with the event `{}`", other.name));
                }
            }
            made.push((event.at, event_made));
        }
        let mut events: Vec<Event> = made.into_iter().map(|(_, event)| event).collect();
        events.sort_by_key(|event| event.start);
        events
    }

    fn room_identity(&self, room: &At<RoomFile>) -> Vec<String> {
        let Some(identity) = &room.value.identity else { return Vec::new() };
        let known: Vec<&str> = self.names("identity").into_iter().chain(["client"]).collect();
        for name in &identity.value.from.value {
            if !known.contains(&name.value.as_str()) {
                self.unresolved(name.at, "identity", &name.value, &known);
            }
        }
        identity.value.from.value.iter().map(|name| name.value.clone()).collect()
    }

    fn condition(&self, text: &At<String>) -> String {
        let known: Vec<&str> = self.names("identity").into_iter().chain(BUILT_IN).collect();
        let id = |name: &str| known.contains(&name).then_some(IdentityId::CLIENT);
        if let Err(message) = Condition::compile(&text.value, id) {
            self.wrong(text.at, message);
        }
        text.value.clone()
    }

    /// Where paths are in lower case, a rule with a capital in one never holds: a callback that was to go by the room would
    /// wait in it.
    pub(super) fn room_capitals(&mut self, rooms: &[At<RoomFile>]) {
        let rules = rooms.iter().flat_map(|room| &room.value.rules).map(|rule| &rule.value.expression);
        let eligible = rooms.iter().filter_map(|room| room.value.eligibility.as_ref());
        for text in rules.chain(eligible.map(|eligible| &eligible.value.expression)) {
            let mut literals = text.value.split(['"', '\'']).skip(1).step_by(2);
            if literals.any(|text| text.starts_with('/') && text.chars().any(char::is_uppercase)) {
                let help = Some("`request.path` is in lower case with `path_case: insensitive`".to_owned());
                self.wrong_with_help(text.at, "a path with capitals never matches", help);
            }
        }
    }

    pub(super) fn room_keys(&mut self, keys: &[At<RoomKeyFile>], rooms: &[At<RoomFile>]) -> Vec<KeySpec> {
        if let (Some(room), true) = (rooms.first(), keys.is_empty()) {
            let help = "add `waiting_room_keys: [{kid: 1, secret: \"${NAME}\"}]` with 64 hexadecimal digits";
            self.wrong_with_help(
                room.value.name.or(room.at),
                "a waiting room needs a key to sign with",
                Some(help.to_owned()),
            );
        }
        for (at, key) in keys.iter().enumerate() {
            self.count(&key.value.kid, key.at, 0, 255);
            if keys[..at].iter().any(|other| other.value.kid.value == key.value.kid.value) {
                self.wrong(key.value.kid.at, format!("two keys have the number {}", key.value.kid.value));
            }
        }
        keys.iter().filter_map(|key| self.room_key(key)).collect()
    }

    fn room_key(&mut self, key: &At<RoomKeyFile>) -> Option<KeySpec> {
        let file = &key.value;
        let (at, secret) = match (&file.secret, &file.secret_file) {
            (Some(text), None) => (text.at, self.secret(text)?),
            (None, Some(path)) => (path.at, self.secret_file(path)?),
            _ => {
                if !self.decoder.is_tainted(key.at) {
                    self.wrong(key.at, "exactly one of `secret` and `secret_file` is needed");
                }
                return None;
            }
        };
        let not_before = file.not_before.map_or(0, |moment| moment.value.0 / 1_000);
        let not_after = file.not_after.map_or(u64::MAX, |moment| moment.value.0 / 1_000);
        if not_after <= not_before {
            self.wrong(file.not_after.map_or(key.at, |moment| moment.at), "the key ends before it begins");
        }
        let Some(secret) = from_hex(secret.expose()) else {
            let help = Some("make one with `openssl rand -hex 32`".to_owned());
            self.wrong_with_help(at, "a key is 32 bytes, written as 64 hexadecimal digits", help);
            return None;
        };
        Some(KeySpec { kid: u8::try_from(file.kid.value).ok()?, secret, not_before, not_after })
    }

    /// Checks that the settings of a `waiting_room` filter name a room.
    pub(super) fn room_use(&self, settings: Id) {
        let list = self.tree.child(Tree::ROOT, "waiting_rooms");
        let rooms = list.map_or(&[][..], |list| self.tree.items(list));
        let name = |room: &Id| Some(self.tree.scalar(self.tree.child(*room, "name")?)?.text.as_str());
        let known: Vec<&str> = rooms.iter().filter_map(name).collect();
        if let Some(used) = self.tree.scalar(settings).filter(|used| !known.contains(&used.text.as_str())) {
            self.unresolved(settings, "waiting room", &used.text, &known);
        }
    }
}

fn method(file: MethodFile) -> Method {
    match file {
        MethodFile::Fifo => Method::Fifo,
        MethodFile::Random => Method::Random,
        MethodFile::Passthrough => Method::Passthrough,
        MethodFile::Reject => Method::Reject,
    }
}

fn kind(file: CommandFile) -> CommandKind {
    match file {
        CommandFile::Revoke => CommandKind::Revoke,
        CommandFile::Extend => CommandKind::Extend,
        CommandFile::Hold => CommandKind::Hold,
        CommandFile::Complete => CommandKind::Complete,
        CommandFile::SoldOut => CommandKind::SoldOut,
    }
}

/// The bytes of a key that is written in hexadecimal digits.
pub(super) fn from_hex(text: &[u8]) -> Option<[u8; SECRET_LENGTH]> {
    let mut bytes = [0; SECRET_LENGTH];
    if text.len() != 2 * SECRET_LENGTH {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks(2)) {
        let digit = |at: usize| (pair[at] as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(0)? << 4 | digit(1)?;
    }
    Some(bytes)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
