//! Tests of the waiting room.

mod model;
mod rooms;
mod support;
mod tokens;
