//! Tests of the waiting room.

mod crowd;
mod desk;
mod documents;
mod events;
mod gates;
mod health;
mod kills;
mod long_polls;
mod model;
mod proofs;
mod rooms;
mod support;
mod tokens;
