//! Tests of the waiting room.

mod crowd;
mod documents;
mod gates;
mod health;
mod kills;
mod model;
mod rooms;
mod support;
mod tokens;
