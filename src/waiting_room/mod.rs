//! Waiting rooms of the running gateway: their files, their settings, and the thread that lets time pass for them.

mod journal;
pub mod page;
pub(crate) mod paths;
pub(crate) mod probe;
pub(crate) mod simulate;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tidegate_filters::channels::UpstreamFacts;
use tidegate_filters::circuit_breaker::{Guarded, Phase};
use tidegate_filters::condition::Condition;
use tidegate_filters::engine::{IdentityId, Nanos};
use tidegate_filters::waiting_room::keys::Keyring;
use tidegate_filters::waiting_room::settings::Settings;
use tidegate_filters::waiting_room::{Bypass, Forgetful, History, Journal, Opening, Room, WaitingRoom};

use crate::config::{Config, RoomSpec};
use crate::gateway::{Gateway, Shared};
use journal::FileJournal;
use page::RoomPage;

const TICK: Duration = Duration::from_millis(100);

/// A room with the settings that a snapshot has for it.
pub struct ConfiguredRoom {
    /// The room.
    pub room: Arc<Room>,
    settings: Arc<Settings>,
}

impl ConfiguredRoom {
    /// Lets the room follow this snapshot's settings from now on.
    pub(crate) fn activate(&self) {
        self.room.apply(&self.settings);
    }
}

/// The rooms of a configuration, found among the states or opened from their files. Changes none that runs. Where stores
/// are stand-ins, files are looked at and left as they are.
pub(crate) fn rooms(
    config: &Config,
    identities: &BTreeMap<String, IdentityId>,
    shared: &Shared,
) -> Result<Vec<ConfiguredRoom>, String> {
    let keys = Arc::new(Keyring::new(&config.room_keys));
    let one = |spec: &RoomSpec| {
        let settings = Settings {
            fold_paths: config.server.path_case_insensitive,
            ..settings(spec, &config.room_path, &keys, identities)?
        };
        let settings = Arc::new(settings);
        let key = WaitingRoom::key(&spec.name);
        let room = match shared.states.find(&key) {
            Some(room) => room,
            None => {
                let room = open(spec, &settings, &config.server.data_dir, shared).map_err(|error| error.to_string())?;
                shared.states.acquire(&key, || room).0
            }
        };
        Ok(ConfiguredRoom { room, settings })
    };
    let named = |spec: &RoomSpec| one(spec).map_err(|error: String| format!("waiting room `{}`: {error}", spec.name));
    config.rooms.iter().map(named).collect()
}

fn open(spec: &RoomSpec, settings: &Arc<Settings>, data_dir: &Path, shared: &Shared) -> io::Result<Room> {
    let folder = data_dir.join("waiting_rooms");
    let (secret, lines) = (folder.join(format!("{}.secret", spec.name)), folder.join(format!("{}.journal", spec.name)));
    // A second room on the files of one that runs would take them away from it.
    let (seed, journal, history): (_, Box<dyn Journal>, _) = if shared.states.stores().are_stand_ins() {
        (journal::rehearse(&secret, &lines)?, Box::new(Forgetful), History::default())
    } else {
        std::fs::create_dir_all(&folder)?;
        let seed = journal::kept_secret(&secret)?;
        let (journal, history) = FileJournal::open(lines)?;
        (seed, Box::new(journal), history)
    };
    Ok(Room::open(Opening {
        name: spec.name.clone(),
        seed,
        settings: settings.clone(),
        journal,
        history,
        epoch: shared.clock.unix(Nanos(0)),
        now: shared.clock.now(),
    }))
}

fn settings(
    spec: &RoomSpec,
    path: &str,
    keys: &Arc<Keyring>,
    identities: &BTreeMap<String, IdentityId>,
) -> Result<Settings, String> {
    let id = |name: &str| identities.get(name).copied();
    let rule = |(name, text): &(String, String)| {
        Condition::compile(text, id).map(|condition| Bypass { name: name.as_str().into(), condition })
    };
    let bypass: Result<Vec<_>, _> = spec.bypass.iter().map(rule).collect();
    Ok(Settings {
        status: spec.status.and_then(|code| StatusCode::from_u16(code).ok()),
        cookie: spec.cookie.clone(),
        secure: spec.secure,
        same_site: spec.same_site,
        identity: spec.identity.iter().filter_map(|name| id(name)).collect(),
        bypass: bypass?,
        commands: spec.commands.clone(),
        cloudflare: spec.cloudflare,
        json: spec.json,
        admission: spec.admission,
        base: format!("{path}/{}", spec.name).into(),
        events: spec.page.events,
        long_polls: spec.page.long_polls,
        eligible: spec.eligible.as_deref().map(|text| Condition::compile(text, id)).transpose()?,
        page: Some(Arc::new(RoomPage::new(spec.page.template.as_ref(), spec.page.language))),
        ..Settings::new(&spec.name, spec.rules.clone(), keys.clone())
    })
}

/// Identities that the rooms of a configuration ask for. A chain with any room learns them all: which room it is, only
/// the filter knows, and there are few.
pub(crate) fn identities(config: &Config) -> Vec<String> {
    let conditions = |room: &RoomSpec| {
        let texts = room.bypass.iter().map(|(_, text)| text).chain(&room.eligible);
        texts.flat_map(|text| Condition::identities(text)).collect::<Vec<_>>()
    };
    config.rooms.iter().flat_map(|room| room.identity.iter().cloned().chain(conditions(room))).collect()
}

/// Ends the streams of those who listen in the rooms; they come back to the next process.
pub(crate) fn dismiss(gateway: &Gateway) {
    for (_, room) in gateway.shared.states.all::<Room>() {
        room.dismiss();
    }
}

/// Lets time pass for all rooms, ten times a second, on a thread that may wait for the disk.
pub(crate) fn spawn_ticks(gateway: Arc<Gateway>) -> io::Result<()> {
    let run = move || {
        loop {
            std::thread::sleep(TICK);
            let shared = &gateway.shared;
            let breakers = shared.states.all::<Guarded>();
            let rests = |upstream: &UpstreamFacts| {
                let open = |channel: &str| {
                    let theirs = |guarded: &Guarded| guarded.names()[1..] == [&*upstream.name, channel];
                    let closed = Phase::Closed;
                    breakers.iter().any(|(_, guarded)| theirs(guarded) && guarded.breaker().phase() != closed)
                };
                upstream.channels.iter().all(|channel| open(&channel.name))
            };
            for (_, room) in shared.states.all::<Room>() {
                let healthy = !room.is_degraded();
                let now = room.time(shared.clock.now());
                room.follow_backends(now, &rests);
                room.maintain(|| room.time(shared.clock.now()));
                match (healthy, room.is_degraded()) {
                    (true, true) => tracing::error!(
                        target: "tidegate::waiting_room", room = %room.name(), "the journal cannot be written: nobody is admitted"
                    ),
                    (false, false) => tracing::info!(
                        target: "tidegate::waiting_room", room = %room.name(), "the journal can be written again"
                    ),
                    _ => (),
                }
            }
        }
    };
    std::thread::Builder::new().name("waiting rooms".into()).spawn(run).map(drop)
}
