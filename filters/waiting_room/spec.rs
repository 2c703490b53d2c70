//! `{waiting_room: drop}`: the use of a room in a chain, by its name.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::gate::Gate;
use super::room::Room;
use crate::engine::{BuildContext, BuildError, CheckContext, Filter, FilterSpec, Problems, StateKey, Step};

/// The name of a room in `waiting_rooms`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct WaitingRoom(String);

impl WaitingRoom {
    /// A use of the room of that name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// Where the room of that name is found among the states.
    #[must_use]
    pub fn key(name: &str) -> StateKey {
        StateKey { kind: "waiting_room", name: name.into(), shape: 0 }
    }
}

impl FilterSpec for WaitingRoom {
    fn step(&self) -> Step {
        Step::Wait
    }

    fn check(&self, _: &CheckContext<'_>, _: &mut Problems) {
        // The rooms of a file are known to whoever reads the whole of it.
    }

    fn build(&self, cx: &mut BuildContext<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        let room: Option<Arc<Room>> = cx.states.find(&Self::key(&self.0));
        let room = room.ok_or_else(|| BuildError(format!("no waiting room is named `{}`", self.0)))?;
        Ok(Arc::new(Gate { room, upstreams: cx.upstreams.into() }))
    }
}
